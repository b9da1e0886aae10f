//! What a client says to a tracker and hears from it.

pub mod announce;

pub use announce::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
