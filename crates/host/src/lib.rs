//! A real computer for the engine: sockets, files, threads, the clock.
//!
//! One loop thread owns the session and all sockets; disk workers and tracker helpers have theirs.
//! [`handle::start`] starts it all, and the [`Handle`](handle::Handle) talks to it.

pub mod check;
pub mod disk;
#[allow(dead_code)]
mod dns;
#[allow(dead_code)]
mod http;
mod state;
pub mod storage;
#[expect(dead_code, reason = "the loop that uses it comes next")]
mod trackers;

/// What the system said, lower case and without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|char| char.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
