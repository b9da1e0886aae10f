//! What a client says to a tracker and hears from it.

pub mod announce;
pub mod http;
pub mod udp;

pub use announce::{
    AnnounceEvent, AnnounceQuery, AnnounceReply, AnnounceRequest, AnnounceResponse, ScrapeEntry,
};
