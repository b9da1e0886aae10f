//! `cargo xtask record OUT.svg COMMAND...`: a terminal of 80 columns as a moving picture.
//!
//! Runs the command on a pseudo-terminal, keeps what the screen showed at each moment of change,
//! and writes the frames as one film strip that CSS moves. The picture needs no script and no font
//! of its own; readers who asked for less motion see the last frame.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// What the screen showed from `at` on.
struct Frame {
    at: Duration,
    lines: Vec<Vec<Span>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Span {
    text: String,
    colour: &'static str,
}

pub(crate) fn run(out: &Path, command: &[&str]) -> Result<()> {
    let frames = film(command)?;
    let lines = frames.iter().map(|frame| frame.lines.len()).max();
    let svg = picture(&frames, lines.unwrap_or(1), command);
    std::fs::write(out, &svg).with_context(|| format!("cannot write {}", out.display()))?;
    println!(
        "{}: {} frames, {} bytes",
        out.display(),
        frames.len(),
        svg.len()
    );
    Ok(())
}

/// Runs the command and looks at the screen whenever it was quiet for a moment.
fn film(command: &[&str]) -> Result<Vec<Frame>> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let terminal = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    let size = Winsize {
        ws_row: ROWS,
        ws_col: COLUMNS,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size)?;
    let terminal = File::from(terminal);
    let (program, words) = command.split_first().context("no command to record")?;
    let mut child = Command::new(program)
        .args(words)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(terminal.try_clone()?)
        .stderr(terminal)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let (sender, output) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        let mut controller = File::from(controller);
        let mut bytes = [0; 4096];
        // The last terminal that closes ends the reading with an error.
        while let Ok(n @ 1..) = controller.read(&mut bytes) {
            if sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
    let mut frames: Vec<Frame> = Vec::new();
    let start = Instant::now();
    loop {
        match output.recv_timeout(QUIET) {
            Ok(bytes) => {
                screen.process(&bytes);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => look(&screen, start.elapsed(), &mut frames),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    look(&screen, start.elapsed() + FRAME_MIN, &mut frames);
    let status = child.wait()?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(frames)
}

fn look(screen: &vt100::Parser, at: Duration, frames: &mut Vec<Frame>) {
    let lines = lines(screen.screen());
    match frames.last() {
        Some(last) if last.lines == lines || at < last.at + FRAME_MIN => {}
        _ if lines.is_empty() => {}
        _ => frames.push(Frame { at, lines }),
    }
}

fn lines(screen: &vt100::Screen) -> Vec<Vec<Span>> {
    let mut lines: Vec<Vec<Span>> = (0..ROWS).map(|row| line(screen, row)).collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn line(screen: &vt100::Screen, row: u16) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for column in 0..COLUMNS {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        let text = if cell.has_contents() {
            cell.contents()
        } else {
            " "
        };
        let colour = colour(cell.fgcolor());
        match spans.last_mut() {
            Some(last) if last.colour == colour => last.text.push_str(text),
            _ => spans.push(Span {
                text: text.to_owned(),
                colour,
            }),
        }
    }
    while let Some(last) = spans.last_mut() {
        last.text.truncate(last.text.trim_end().len());
        if !last.text.is_empty() {
            break;
        }
        spans.pop();
    }
    spans
}

/// Readable on a dark ground.
fn colour(of: vt100::Color) -> &'static str {
    match of {
        vt100::Color::Idx(1 | 9) => "#ff7b72",
        vt100::Color::Idx(2 | 10) => "#7ee787",
        vt100::Color::Idx(3 | 11) => "#e3b341",
        vt100::Color::Idx(4 | 12) => "#79c0ff",
        vt100::Color::Idx(_) | vt100::Color::Default | vt100::Color::Rgb(..) => "#e6edf3",
    }
}

fn picture(frames: &[Frame], lines: usize, command: &[&str]) -> String {
    let (width, height) = (
        f64::from(COLUMNS) * CHAR_WIDTH + 2.0 * MARGIN,
        lines as f64 * LINE_HEIGHT + 2.0 * MARGIN,
    );
    let length = frames.last().map_or(Duration::ZERO, |last| last.at) + LAST_FRAME;
    let mut steps = String::new();
    for (index, frame) in frames.iter().enumerate() {
        let percent = 100.0 * frame.at.as_secs_f64() / length.as_secs_f64();
        let percent = if index == 0 { 0.0 } else { percent };
        let shift = index as f64 * height;
        let _ = write!(
            steps,
            "{percent:.2}%{{transform:translateY(-{shift:.0}px)}}"
        );
    }
    let last = frames.len().saturating_sub(1) as f64 * height;
    let label = escape(&format!("A terminal that runs {}", command.join(" ")));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{label}\">\n\
         <style>\n\
         text{{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;\
         fill:#e6edf3;white-space:pre}}\n\
         .film{{animation:film {seconds:.1}s step-end infinite}}\n\
         @keyframes film{{{steps}}}\n\
         @media (prefers-reduced-motion:reduce){{.film{{animation:none;\
         transform:translateY(-{last:.0}px)}}}}\n\
         </style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#0d1117\"/>\n<g class=\"film\">\n",
        seconds = length.as_secs_f64(),
    );
    for (index, frame) in frames.iter().enumerate() {
        for (row, spans) in frame.lines.iter().enumerate() {
            let y = index as f64 * height + MARGIN + (row as f64 + 0.75) * LINE_HEIGHT;
            text(&mut svg, y, spans);
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Every span says how wide it is, so that columns stand under each other in any font.
fn text(svg: &mut String, y: f64, spans: &[Span]) {
    let mut column = 0;
    for span in spans {
        let chars = span.text.chars().count();
        let x = MARGIN + column as f64 * CHAR_WIDTH;
        column += chars;
        if span.text.trim().is_empty() {
            continue;
        }
        let fill = match span.colour {
            "#e6edf3" => String::new(),
            other => format!(" fill=\"{other}\" style=\"fill:{other}\""),
        };
        let width = chars as f64 * CHAR_WIDTH;
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" xml:space=\"preserve\" textLength=\"{width:.1}\"\
             {fill}>{}</text>",
            escape(&span.text)
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// Pixels.
const CHAR_WIDTH: f64 = 7.8;
const LINE_HEIGHT: f64 = 17.0;
const MARGIN: f64 = 14.0;

/// Silence after which the screen is as the program wants it.
const QUIET: Duration = Duration::from_millis(40);

/// Time between two frames at least: a picture of some 20 frames stays small.
const FRAME_MIN: Duration = Duration::from_millis(900);

/// How long the end stays.
const LAST_FRAME: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_on_the_screen_stands_in_the_picture() {
        let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        screen.process(b"old\r\n\x1b[32m##\x1b[39m--  5 % <&>\x1b[1A\rnew");
        let mut frames = Vec::new();
        look(&screen, Duration::ZERO, &mut frames);
        look(&screen, Duration::from_secs(5), &mut frames);
        assert_eq!(frames.len(), 1, "nothing changed, so there is one frame");
        screen.process(b"\r\n\n\nend");
        look(&screen, Duration::from_secs(6), &mut frames);
        let svg = picture(&frames, 4, &["dunlin", "demo"]);
        for text in [
            ">new<",
            ">##<",
            ">--  5 % &lt;&amp;&gt;<",
            ">end<",
            "50.00%{transform:translateY(-96px)}",
        ] {
            assert!(svg.contains(text), "no {text} in\n{svg}");
        }
        assert!(!svg.contains("old"));
    }
}
