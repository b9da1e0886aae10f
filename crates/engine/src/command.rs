//! What a user asks of a session.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_metainfo::{InfoHash, Layout, Sha1Digest};

use crate::config::{PieceOrder, RateLimits};
use crate::event::{PeerAddr, TorrentKey};
use crate::resume::Resume;

#[derive(Debug)]
pub enum Command {
    Add {
        torrent: TorrentKey,
        params: Box<AddTorrent>,
    },
    /// A torrent of which only the info hash is known. Its info dictionary is fetched from peers
    /// (BEP 9) and told by [`Action::Metadata`](crate::event::Action::Metadata); a
    /// [`Command::Add`] with the same key then makes it a torrent like any other, with the peers
    /// that it has.
    AddMagnet {
        torrent: TorrentKey,
        params: Box<AddMagnet>,
    },
    /// Announce `stopped`, save, close every peer. Ends with
    /// [`Action::TorrentGone`](crate::event::Action::TorrentGone).
    Remove {
        torrent: TorrentKey,
    },
    AddPeers {
        torrent: TorrentKey,
        peers: Vec<PeerAddr>,
    },
    SetOrder {
        torrent: TorrentKey,
        order: PieceOrder,
    },
    /// One priority a file.
    SetPriorities {
        torrent: TorrentKey,
        files: Vec<Priority>,
    },
    SetTorrentLimits {
        torrent: TorrentKey,
        limits: RateLimits,
    },
    SetSessionLimits {
        limits: RateLimits,
    },
    /// Try again after a disk error.
    Resume {
        torrent: TorrentKey,
    },
}

/// A torrent as the engine sees it: no names, no paths.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    pub info_hash: InfoHash,
    pub layout: Arc<Layout>,
    /// One digest a piece, in order.
    pub piece_digests: Arc<[Sha1Digest]>,
    pub private: bool,
    /// The info dictionary as it stands, handed on to peers that ask (BEP 9). Empty: not served.
    pub info: Arc<[u8]>,
    /// Announce URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// What is on the disk already, as far as it may be trusted.
    pub resume: Resume,
    /// One priority a file; missing ones are normal.
    pub priorities: Vec<Priority>,
    pub peers: BTreeSet<PeerAddr>,
    pub order: PieceOrder,
    pub limits: RateLimits,
    /// Go on uploading when everything wanted is here.
    pub seed_when_complete: bool,
}

/// What is known of a torrent before its info dictionary is.
#[derive(Clone, Debug)]
pub struct AddMagnet {
    pub info_hash: InfoHash,
    /// Announce URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    pub peers: BTreeSet<PeerAddr>,
    pub limits: RateLimits,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Not wanted. Pieces that it shares with a wanted file are downloaded all the same.
    Skip,
    Low,
    #[default]
    Normal,
    High,
}
