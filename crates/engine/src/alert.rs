//! What is worth telling: the story of a transfer as typed events.
//!
//! Alerts flow out only. Nothing in the engine depends on whether anybody listens.

mod sentence;

use std::time::Duration;

use dunlin_metainfo::{PeerId, PieceIndex};

use crate::event::{Direction, DiskError, PeerAddr, TorrentKey};
use crate::explain::Stall;
use crate::reason::{ChokeReason, CloseReason, DialReason, RefuseReason};

#[derive(Clone, Debug)]
pub enum Alert {
    Connected {
        torrent: TorrentKey,
        peer: PeerAddr,
        direction: Direction,
        peer_id: PeerId,
        client: String,
    },
    Disconnected {
        torrent: TorrentKey,
        peer: PeerAddr,
        reason: CloseReason,
    },
    /// A connection is tried.
    Dialling {
        torrent: TorrentKey,
        peer: PeerAddr,
        reason: DialReason,
    },
    DialFailed {
        torrent: TorrentKey,
        peer: PeerAddr,
        reason: CloseReason,
    },
    /// The torrent was not added: the other one has the same info hash.
    AlreadyAdded {
        torrent: TorrentKey,
        first: TorrentKey,
    },
    /// Somebody dialled us and was not let in.
    Refused {
        torrent: TorrentKey,
        peer: PeerAddr,
        reason: RefuseReason,
    },
    /// A piece is verified and written.
    PieceDone {
        torrent: TorrentKey,
        piece: PieceIndex,
        have: u32,
        total: u32,
        from: Vec<PeerAddr>,
    },
    PieceFailed {
        torrent: TorrentKey,
        piece: PieceIndex,
        from: Vec<PeerAddr>,
    },
    /// Proven: the blocks of this peer differ from those of the verified piece.
    PeerBanned {
        torrent: TorrentKey,
        peer: PeerAddr,
        piece: PieceIndex,
    },
    /// The info dictionary of a magnet is here and its hash is right.
    MetadataDone {
        torrent: TorrentKey,
        bytes: u32,
        from: Vec<PeerAddr>,
    },
    /// A whole info dictionary came, and it is another one than the info hash names.
    MetadataFailed {
        torrent: TorrentKey,
        from: Vec<PeerAddr>,
        /// It came from one peer alone, which is banned for it.
        banned: bool,
    },
    /// The choice of an unchoking interval, fastest first. Rates in bytes per second: what the
    /// peer gives us while we leech, what we give it while we seed.
    Preferred {
        torrent: TorrentKey,
        peers: Vec<(PeerAddr, u64)>,
        optimistic: Option<PeerAddr>,
        interested: u32,
    },
    /// We choked or unchoked the peer, or it us.
    Choke {
        torrent: TorrentKey,
        peer: PeerAddr,
        by: Side,
        choked: bool,
        reason: ChokeReason,
    },
    /// We want something that the peer has, or it of us; or no longer.
    Interest {
        torrent: TorrentKey,
        peer: PeerAddr,
        by: Side,
        interested: bool,
    },
    /// A peer that dialled us said where it can be dialled.
    Listens {
        torrent: TorrentKey,
        peer: PeerAddr,
        at: PeerAddr,
    },
    /// A peer has everything now, which it had not when it came.
    PeerCompleted {
        torrent: TorrentKey,
        peer: PeerAddr,
    },
    FileCompleted {
        torrent: TorrentKey,
        file: usize,
    },
    /// Every wanted piece is verified and written.
    Complete {
        torrent: TorrentKey,
        summary: Box<Summary>,
    },
    /// We reveal our pieces one after another (BEP 16), or no longer.
    SuperSeeding {
        torrent: TorrentKey,
        on: bool,
    },
    Announced {
        torrent: TorrentKey,
        url: String,
        peers: usize,
        next: Duration,
    },
    AnnounceFailed {
        torrent: TorrentKey,
        url: String,
        message: String,
        next: Duration,
    },
    TrackerWarning {
        torrent: TorrentKey,
        url: String,
        message: String,
    },
    DiskFailed {
        torrent: TorrentKey,
        error: DiskError,
    },
    /// Nothing has come for a while, or for another reason than the one that was told last.
    Stalled {
        torrent: TorrentKey,
        stall: Stall,
        /// Seconds without payload so far.
        seconds: u64,
    },
    /// A stall that was told is over.
    Flowing {
        torrent: TorrentKey,
        /// How long it lasted.
        seconds: u64,
    },
}

impl Alert {
    /// Whose story this is.
    pub fn torrent(&self) -> TorrentKey {
        match self {
            Self::Connected { torrent, .. }
            | Self::Disconnected { torrent, .. }
            | Self::Dialling { torrent, .. }
            | Self::DialFailed { torrent, .. }
            | Self::AlreadyAdded { torrent, .. }
            | Self::Refused { torrent, .. }
            | Self::PieceDone { torrent, .. }
            | Self::PieceFailed { torrent, .. }
            | Self::PeerBanned { torrent, .. }
            | Self::MetadataDone { torrent, .. }
            | Self::MetadataFailed { torrent, .. }
            | Self::Preferred { torrent, .. }
            | Self::Choke { torrent, .. }
            | Self::Interest { torrent, .. }
            | Self::Listens { torrent, .. }
            | Self::PeerCompleted { torrent, .. }
            | Self::FileCompleted { torrent, .. }
            | Self::Complete { torrent, .. }
            | Self::SuperSeeding { torrent, .. }
            | Self::Announced { torrent, .. }
            | Self::AnnounceFailed { torrent, .. }
            | Self::TrackerWarning { torrent, .. }
            | Self::DiskFailed { torrent, .. }
            | Self::Stalled { torrent, .. }
            | Self::Flowing { torrent, .. } => *torrent,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Us,
    Peer,
}

/// How a transfer went. All bytes are payload.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Of the pieces that are here: everything, unless files were deselected.
    pub bytes: u64,
    pub elapsed: Duration,
    pub downloaded: u64,
    pub uploaded: u64,
    /// Blocks that we had already.
    pub duplicate: u64,
    /// Bytes of pieces that failed their hash.
    pub failed_hash: u64,
    /// Bytes per second.
    pub mean_rate: u64,
    pub peak_rate: u64,
    /// The five that gave most: bytes, and bytes per second while connected.
    pub best_peers: Vec<(PeerAddr, u64, u64)>,
}
