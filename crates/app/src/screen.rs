//! The terminal: data on stdout, a live area of a few lines at the bottom of stderr.
//!
//! Everything that this program prints goes through here, so that a log line never tears a bar:
//! the live area is taken away, the line printed, the area drawn again. Without a terminal there is
//! no live area.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::{Code, Failure, system_words};

/// What the terminal is told to look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Lines may be drawn over.
    pub live: bool,
    pub colour: bool,
    pub width: usize,
    /// Lines of the terminal.
    pub height: usize,
}

/// The layout is made for this many columns; wider terminals get no more.
pub const COLUMNS: usize = 80;

impl Look {
    /// `NO_COLOR` (no-color.org) and `CLICOLOR_FORCE` (bixense.com/clicolors) count when they are
    /// not empty; `TERM=dumb` can neither colour nor move the cursor.
    pub fn new(
        terminal: bool,
        size: Option<(usize, usize)>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let forced =
            variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        Self {
            live: terminal && !dumb,
            colour: !set("NO_COLOR") && (forced || terminal && !dumb),
            width: size
                .map_or(COLUMNS, |(columns, _)| columns)
                .clamp(20, COLUMNS),
            height: size.map_or(24, |(_, rows)| rows).max(2),
        }
    }

    fn detect() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stderr())
            .ok()
            .map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)))
            .filter(|&(columns, rows)| columns > 0 && rows > 0);
        Self::new(io::stderr().is_terminal(), size, |name| {
            std::env::var(name).ok()
        })
    }
}

#[derive(Debug)]
struct State {
    look: Option<Look>,
    /// The live area as it stands on the screen.
    drawn: Vec<String>,
    /// Whoever read our stdout has gone.
    stdout_gone: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    look: None,
    drawn: Vec::new(),
    stdout_gone: false,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn look() -> Look {
    *state().look.get_or_insert_with(Look::detect)
}

/// Replaces the live area. Does nothing without a terminal.
pub fn draw(lines: &[String]) {
    let look = look();
    if !look.live {
        return;
    }
    let mut state = state();
    let mut text = erase(&state.drawn);
    state.drawn = lines.iter().map(|line| fit(line, look.width - 1)).collect();
    text.push_str(&state.drawn.join("\n"));
    put(&text);
}

/// Takes the live area away.
pub fn clear() {
    draw(&[]);
}

/// One line on stderr, above the live area.
pub fn note(line: &str) {
    write_above(format!("{line}\n").as_bytes());
}

/// Whole lines on stderr, above the live area.
pub fn write_above(bytes: &[u8]) {
    let state = state();
    put(&erase(&state.drawn));
    // A closed stderr must not stop a download.
    let _ = io::stderr().write_all(bytes);
    put(&state.drawn.join("\n"));
}

/// One line of data on stdout. A reader that went away ends the output, not the work.
pub fn out(line: &str) -> Result<(), Failure> {
    let mut state = state();
    if state.stdout_gone {
        return Ok(());
    }
    put(&erase(&state.drawn));
    let mut stdout = io::stdout().lock();
    let result = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"));
    let result = result.and_then(|()| stdout.flush());
    put(&state.drawn.join("\n"));
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            state.stdout_gone = true;
            Ok(())
        }
        Err(error) => Err(Failure::new(
            Code::Disk,
            format!("stdout: {}", system_words(&error)),
        )),
    }
}

fn put(text: &str) {
    if !text.is_empty() {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// What removes these lines when the cursor stands at the end of the last one.
fn erase(drawn: &[String]) -> String {
    match drawn.len() {
        0 => String::new(),
        1 => "\r\x1b[J".to_owned(),
        lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
    }
}

/// Broken at blanks, so that no word is cut where a terminal of `width` columns ends.
pub fn wrap(line: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut columns = 0;
    for word in line.split(' ') {
        let len = word.chars().count();
        if columns > 0 && columns + 1 + len > width {
            wrapped.push('\n');
            columns = 0;
        } else if columns > 0 {
            wrapped.push(' ');
            columns += 1;
        }
        wrapped.push_str(word);
        columns += len;
    }
    wrapped
}

/// At most `width` columns, counting a character as one and colours as none.
pub fn fit(line: &str, width: usize) -> String {
    let mut shown = String::new();
    let mut columns = 0;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            shown.push(c);
            for c in chars.by_ref() {
                shown.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if columns < width {
            shown.push(if c.is_control() { ' ' } else { c });
            columns += 1;
        }
    }
    shown
}

/// `[#####-----]`, `width` columns in all.
pub fn bar(part: u64, of: u64, width: usize, colour: bool) -> String {
    let inner = width.saturating_sub(2);
    let filled = if of == 0 {
        inner
    } else {
        (part as f64 / of as f64 * inner as f64) as usize
    };
    let filled = filled.min(inner);
    let (on, off) = if colour {
        ("\x1b[32m", "\x1b[0m")
    } else {
        ("", "")
    };
    format!(
        "[{on}{}{off}{}]",
        "#".repeat(filled),
        "-".repeat(inner - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(terminal: bool, variables: &[(&str, &str)]) -> (bool, bool) {
        let look = Look::new(terminal, None, |name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (look.live, look.colour)
    }

    #[test]
    fn lines_are_broken_at_blanks_only() {
        assert_eq!(wrap("one two  three", 80), "one two  three");
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("incomprehensible one", 5), "incomprehensible\none");
    }

    #[test]
    fn bars_need_a_terminal_and_colours_can_be_forced_or_forbidden() {
        assert_eq!(look(true, &[]), (true, true));
        assert_eq!(look(false, &[]), (false, false));
        assert_eq!(look(true, &[("NO_COLOR", "1")]), (true, false));
        assert_eq!(look(true, &[("NO_COLOR", "")]), (true, true));
        assert_eq!(look(true, &[("TERM", "dumb")]), (false, false));
        assert_eq!(look(false, &[("CLICOLOR_FORCE", "1")]), (false, true));
        assert_eq!(look(false, &[("CLICOLOR_FORCE", "0")]), (false, false));
        assert_eq!(
            look(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]),
            (false, false)
        );
    }

    #[test]
    fn a_line_is_cut_at_the_width_without_counting_colours() {
        assert_eq!(fit("abcdef", 3), "abc");
        assert_eq!(fit("\x1b[32mab\x1b[0mcdef", 3), "\x1b[32mab\x1b[0mc");
        assert_eq!(fit("a\nb", 9), "a b");
    }

    #[test]
    fn a_bar_is_as_long_as_asked_and_full_only_at_the_end() {
        assert_eq!(bar(0, 10, 12, false), "[----------]");
        assert_eq!(bar(5, 10, 12, false), "[#####-----]");
        assert_eq!(bar(999, 1000, 12, false), "[#########-]");
        assert_eq!(bar(10, 10, 12, false), "[##########]");
        assert_eq!(bar(0, 0, 12, false), "[##########]");
    }

    #[test]
    fn the_cursor_goes_back_to_the_first_line_of_the_area() {
        let lines = |n: usize| vec![String::new(); n];
        assert_eq!(erase(&lines(0)), "");
        assert_eq!(erase(&lines(1)), "\r\x1b[J");
        assert_eq!(erase(&lines(3)), "\r\x1b[2A\x1b[J");
    }
}
