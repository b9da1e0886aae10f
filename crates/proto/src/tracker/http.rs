//! The words of an HTTP tracker (BEP 3, 7, 23, 24, 48), from either side.
//!
//! A question is the query of a URL, an answer a bencoded body. What carries them, HTTP itself,
//! is somebody else's work.

pub mod client;
pub mod query;
pub mod server;
