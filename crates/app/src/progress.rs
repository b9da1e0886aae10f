//! Progress of something long: a live area on a terminal, else one line every ten seconds.

use std::time::{Duration, Instant};

use crate::quantity::{percent, show_bytes};
use crate::screen::{self, bar};

/// Time between two drawings on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two lines without one.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    last: Instant,
    drawn: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            last: Instant::now(),
            drawn: false,
        }
    }

    /// The same, and the first line comes at once.
    pub fn eager(quiet: bool) -> Self {
        let long_ago = Instant::now().checked_sub(LINE_INTERVAL);
        Self {
            last: long_ago.unwrap_or_else(Instant::now),
            ..Self::new(quiet)
        }
    }

    /// Draws `live()`, or prints `line()`, if it is time to.
    pub fn update(
        &mut self,
        live: impl FnOnce() -> Vec<String>,
        line: impl FnOnce() -> Vec<String>,
    ) {
        if self.quiet {
            return;
        }
        let on_terminal = screen::look().live;
        let interval = if on_terminal {
            DRAW_INTERVAL
        } else {
            LINE_INTERVAL
        };
        if self.last.elapsed() < interval {
            return;
        }
        self.last = Instant::now();
        if on_terminal {
            self.drawn = true;
            screen::draw(&live());
        } else {
            for line in line() {
                screen::note(&line);
            }
        }
    }

    /// For work whose size is known: what it is called, and how far it is.
    pub fn bytes(&mut self, verb: &str, done: u64, total: u64) {
        let text = || {
            format!(
                "{verb} {:>3} %  {} of {}",
                percent(done, total),
                show_bytes(done),
                show_bytes(total)
            )
        };
        self.update(
            || {
                vec![format!(
                    "{} {}",
                    bar(done, total, 30, screen::look().colour),
                    text()
                )]
            },
            || vec![text()],
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            screen::clear();
        }
    }
}
