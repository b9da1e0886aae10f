//! An announce and its answer as values, whatever carries them (BEP 3, 7, 15, 23).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_metainfo::{InfoHash, PeerId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnnounceEvent {
    /// A regular announce.
    None,
    Started,
    Stopped,
    Completed,
    /// A partial seed: incomplete, and wants nothing more (BEP 21). Sent in place of a regular
    /// announce.
    Paused,
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

/// An announce as a tracker understands it. An address that the client claims (`ip=`) is ignored:
/// it would let anybody aim a swarm at a stranger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnounceQuery {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Where the peer listens; 0 only in an announce of `stopped`.
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    /// Bytes that the peer still wants; not said counts as not finished.
    pub left: u64,
    pub event: AnnounceEvent,
    pub num_want: Option<u32>,
}

/// A tracker's answer to an announce.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnnounceReply {
    pub interval_s: u32,
    pub min_interval_s: Option<u32>,
    pub complete: u32,
    pub incomplete: u32,
    /// How often the torrent was downloaded in full.
    pub downloaded: u32,
    pub peers: Vec<(PeerId, SocketAddr)>,
    /// The client's address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// What a tracker knows about one torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrapeEntry {
    pub complete: u32,
    /// Everybody who lacks something, partial seeds too.
    pub incomplete: u32,
    pub downloaded: u32,
    /// Those of the incomplete that want more (BEP 21); HTTP only.
    pub downloaders: Option<u32>,
}

/// Whether the address could be dialled at all.
pub fn is_dialable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    addr.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The interval that we keep when a tracker names this one: none at all and less is as good as
/// not said.
pub(super) fn interval_kept_s(named_s: Option<u32>) -> u32 {
    let named_s = named_s.filter(|&seconds| seconds > 0);
    named_s.unwrap_or(INTERVAL_DEFAULT_S).min(INTERVAL_MAX_S)
}

/// Words of a tracker, as far as they are kept.
pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT_LEN_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// Peers of one answer that are kept.
pub const PEERS_MAX: usize = 1000;

/// Seconds between announces when the tracker names none.
const INTERVAL_DEFAULT_S: u32 = 30 * 60;

/// A tracker that wants to hear from us less often than once a day is mistaken.
pub(super) const INTERVAL_MAX_S: u32 = 24 * 60 * 60;

/// Bytes of a failure reason or warning that are kept.
const TEXT_LEN_MAX: usize = 500;
