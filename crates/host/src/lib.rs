//! A real computer for the engine: sockets, files, threads, the clock.
//!
//! One loop thread owns the session and all sockets; disk workers and tracker helpers have theirs.
//! [`handle::start`] starts it all, and the [`Handle`] talks to it.

pub mod check;
pub mod disk;
mod dns;
pub mod fetch;
pub mod handle;
mod http;
mod net;
mod notices;
mod poller;
mod run;
mod state;
pub mod storage;
mod tcp;
mod trackers;

pub use handle::{AddRequest, Handle, HostConfig, HostError, MagnetRequest, start};
pub use http::{UrlError, check_tracker, shown as shown_url};
pub use net::{Families, Interface, Network, NetworkError};
pub use notices::Notice;
pub use tcp::{Listen, ListenError, ListenErrorKind};

#[cfg(test)]
mod tests;

/// What the system said, lower case and without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|char| char.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
