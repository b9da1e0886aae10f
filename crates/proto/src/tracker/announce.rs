//! An announce and its answer as values, whatever carries them (BEP 3, 7, 15, 23).

use std::net::{IpAddr, SocketAddr};

use dunlin_metainfo::{InfoHash, PeerId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnnounceEvent {
    /// A regular announce.
    None,
    Started,
    Stopped,
    Completed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnounceRequest {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Payload bytes since the `started` announce.
    pub uploaded: u64,
    pub downloaded: u64,
    /// Bytes that are still wanted.
    pub left: u64,
    pub event: AnnounceEvent,
    /// How many peers we would like.
    pub num_want: u32,
    /// Proves to a tracker that we are who we were when our address changes (BEP 7).
    pub key: u32,
    /// What the tracker told us to repeat, if anything.
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnnounceResponse {
    /// Seconds until the next regular announce.
    pub interval_s: u32,
    /// Seconds that must pass before any announce.
    pub min_interval_s: Option<u32>,
    /// Seeds, as far as the tracker tells.
    pub complete: Option<u32>,
    /// Leeches, as far as the tracker tells.
    pub incomplete: Option<u32>,
    pub peers: Vec<SocketAddr>,
    /// Shown to the user.
    pub warning: Option<String>,
    pub tracker_id: Option<Vec<u8>>,
    /// Our address as the tracker saw it (BEP 24).
    pub external_ip: Option<IpAddr>,
}
