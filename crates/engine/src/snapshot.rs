//! The state of a torrent at one moment, for whoever shows it.

use crate::event::{Direction, DiskError, PeerAddr};
use crate::explain::{Stall, StallCounts};

#[derive(Clone, Debug)]
pub struct TorrentSnapshot {
    pub state: TorrentState,
    /// Verified and written bytes of wanted pieces.
    pub have_bytes: u64,
    pub wanted_bytes: u64,
    pub pieces_have: u32,
    pub pieces: u32,
    /// Payload of this session.
    pub downloaded: u64,
    pub uploaded: u64,
    pub duplicate: u64,
    pub failed_hash: u64,
    /// Bytes per second, mean of the last 20 s.
    pub down_rate: u64,
    pub up_rate: u64,
    pub peers: Vec<PeerSnapshot>,
    /// Addresses that we know and are not connected to.
    pub known_peers: usize,
    /// Why nothing came in the last second, if nothing did and something is lacking.
    pub stall: Option<Stall>,
    /// Stalled seconds in a row until now.
    pub stalled_s: u64,
    /// Stalled seconds of this session by cause.
    pub stalls: StallCounts,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TorrentState {
    /// A magnet: its info dictionary is not here yet. Bytes of it, and how many there will be, if
    /// a peer has said so.
    FetchingMetadata {
        have: u32,
        size: Option<u32>,
    },
    Downloading,
    /// Every wanted piece is here.
    Seeding,
    Failed(DiskError),
    Stopping,
}

#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    pub addr: PeerAddr,
    pub direction: Direction,
    /// As it names itself, or as its peer id does.
    pub client: String,
    pub pieces_have: u32,
    pub is_seed: bool,
    pub am_choking: bool,
    pub am_interested: bool,
    pub peer_choking: bool,
    pub peer_interested: bool,
    pub preferred: bool,
    pub optimistic: bool,
    pub snubbed: bool,
    /// Payload of this connection.
    pub downloaded: u64,
    pub uploaded: u64,
    pub down_rate: u64,
    pub up_rate: u64,
}
