//! What a client says to a tracker and hears from it.

pub mod announce;
pub mod http;

pub use announce::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
