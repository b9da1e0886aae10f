//! The border of the engine: what happened ([`Event`]) and what to do ([`Action`]).
//!
//! - The host allocates every key. A key names one thing for ever: it is never used again.
//! - After [`Action::Close`] the host still sends exactly one [`Event::PeerClosed`]. Events for
//!   keys that the session no longer knows are dropped and counted.
//! - Every [`DiskJob`] has exactly one [`Event::DiskDone`].
//! - Payload crosses as owned [`BlockBuf`]s that the engine passes on and never reads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dunlin_metainfo::{InfoHash, PieceIndex, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::peer::{Handshake, Message};
use dunlin_proto::tracker::{AnnounceRequest, AnnounceResponse};

use crate::alert::Alert;
use crate::command::Command;
use crate::reason::{CloseReason, RefuseReason};
use crate::resume::Resume;

/// An accepted socket that has not shown its handshake yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnKey(pub u64);

/// A connection whose handshakes are done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerKey(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TorrentKey(pub u32);

/// Allocated by the engine, unique in a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// A tracker of a torrent: its tier (BEP 12) and its place in it as the torrent listed them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrackerKey {
    pub tier: u16,
    pub index: u16,
}

/// How to reach a peer. Not every peer will have a socket address (proxies, web seeds).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerAddr {
    Tcp(SocketAddr),
}

impl PeerAddr {
    pub fn socket_addr(self) -> SocketAddr {
        match self {
            Self::Tcp(addr) => addr,
        }
    }
}

impl std::fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket_addr().fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    Incoming,
    Outgoing,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerSource {
    /// Named by the user.
    User,
    Tracker,
    /// It dialled us.
    Incoming,
    /// This peer told us that it is connected with it (BEP 11).
    Pex(PeerAddr),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody dialled us. Answered by [`Action::Accept`] or [`Action::Refuse`] before our
    /// handshake is shown.
    Incoming {
        conn: ConnKey,
        remote: PeerAddr,
        handshake: Handshake,
    },
    /// Both handshakes are done. `torrent` is the one whose info hash both named.
    PeerConnected {
        peer: PeerKey,
        torrent: TorrentKey,
        /// For an outgoing connection, the address that was dialled.
        remote: PeerAddr,
        direction: Direction,
        handshake: Handshake,
    },
    /// An [`Action::Dial`] came to nothing.
    DialFailed {
        torrent: TorrentKey,
        remote: PeerAddr,
        reason: CloseReason,
    },
    PeerMessage {
        peer: PeerKey,
        message: Message,
    },
    /// Blocks that we asked this peer for, one buffer a block of the run, in order.
    Received {
        peer: PeerKey,
        run: Run,
        bufs: Vec<BlockBuf>,
    },
    /// `len` payload bytes that we never asked for: the stream threw them away.
    Unrequested {
        peer: PeerKey,
        len: u32,
    },
    /// The run of an [`Action::Serve`] is in the socket's hands. `bytes` counts payload.
    Served {
        peer: PeerKey,
        run: Run,
        bytes: u32,
    },
    /// The run of an [`Action::Serve`] could not be read.
    ServeFailed {
        peer: PeerKey,
        run: Run,
        error: DiskError,
    },
    /// The piece of an [`Action::ServeMetadata`] is in the socket's hands.
    MetadataServed {
        peer: PeerKey,
    },
    /// The connection is gone, whoever ended it.
    PeerClosed {
        peer: PeerKey,
        reason: CloseReason,
    },
    DiskDone {
        job: JobId,
        torrent: TorrentKey,
        result: DiskResult,
    },
    TrackerReplied {
        torrent: TorrentKey,
        tracker: TrackerKey,
        result: Result<AnnounceResponse, TrackerFailure>,
    },
    PeersFound {
        torrent: TorrentKey,
        source: PeerSource,
        peers: Vec<PeerAddr>,
    },
    Command(Command),
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Connect, exchange handshakes, answer with [`Event::PeerConnected`] or
    /// [`Event::DialFailed`].
    Dial {
        torrent: TorrentKey,
        info_hash: InfoHash,
        remote: PeerAddr,
    },
    /// Show our handshake, then send [`Event::PeerConnected`] (or nothing if it closed).
    Accept {
        conn: ConnKey,
        torrent: TorrentKey,
    },
    Refuse {
        conn: ConnKey,
        reason: RefuseReason,
    },
    Send {
        peer: PeerKey,
        message: Message,
    },
    /// Ask the peer for each block of the run, and be ready to receive them.
    Request {
        peer: PeerKey,
        run: Run,
    },
    /// Take requests back. Blocks that are under way may still arrive as [`Event::Received`].
    Cancel {
        peer: PeerKey,
        run: Run,
    },
    /// Read the run and send it, then send [`Event::Served`] or [`Event::ServeFailed`].
    Serve {
        peer: PeerKey,
        run: Run,
    },
    /// Forget a run that was to be served, if it is not in the socket's hands yet. A run that was
    /// dropped is answered by [`Event::Served`] with `bytes` 0.
    Unserve {
        peer: PeerKey,
        run: Run,
    },
    /// Send a piece of the torrent's info dictionary (BEP 9), then send
    /// [`Event::MetadataServed`].
    ServeMetadata {
        peer: PeerKey,
        /// The id that the peer wants to see on the message (BEP 10).
        id: u8,
        piece: u32,
    },
    /// Send `have` to every connected peer of the torrent.
    BroadcastHave {
        torrent: TorrentKey,
        piece: PieceIndex,
    },
    Close {
        peer: PeerKey,
        reason: CloseReason,
    },
    Disk(DiskJob),
    /// Buffers of blocks that nobody needs any more: they go home to the pool.
    Discard {
        bufs: Vec<BlockBuf>,
    },
    /// Announce, and answer with [`Event::TrackerReplied`].
    Announce {
        torrent: TorrentKey,
        tracker: TrackerKey,
        url: String,
        request: AnnounceRequest,
    },
    /// The info dictionary of a magnet is here, and it is the one that the info hash names.
    /// Whether it describes a torrent is the host's to find out; it answers with
    /// [`Command::Add`] or [`Command::Remove`].
    Metadata {
        torrent: TorrentKey,
        info: Arc<[u8]>,
    },
    /// The torrent is removed: no key of it will be named again.
    TorrentGone {
        torrent: TorrentKey,
    },
    Alert(Alert),
}

/// Something for the disk. Jobs of one piece are done in the order in which they were given.
#[derive(Debug)]
pub struct DiskJob {
    pub id: JobId,
    pub torrent: TorrentKey,
    pub op: DiskOp,
}

#[derive(Debug)]
pub enum DiskOp {
    /// Take these blocks, hash them, write them: at once or when the piece is finished, but done
    /// only when the bytes are handed to the file system, or dropped by `Finish` or `Forget`.
    Write { run: Run, bufs: Vec<BlockBuf> },
    /// All blocks of the piece were given. Is its digest right? [`DiskResult::Good`] also means
    /// that every byte of it is handed to the file system. `block_digests` asks for the digest of
    /// each block in any case; a bad piece always has them.
    Finish {
        piece: PieceIndex,
        expect: Sha1Digest,
        block_digests: bool,
    },
    /// Forget what was given for this piece and is not written.
    Forget { piece: PieceIndex },
    /// Every byte of this file is verified and written: give it its final name. Nothing to do if
    /// it has it already.
    CompleteFile { file: usize },
    /// Make everything written so far survive a power cut. Syncs are done in the order given.
    Sync,
    /// Replace the torrent's resume data atomically.
    SaveResume(Box<Resume>),
    /// Remove the torrent's resume data: everything is complete.
    RemoveResume,
}

#[derive(Debug)]
pub enum DiskResult {
    /// A [`DiskOp::Write`] is done. `bytes` is what it held.
    Written {
        bytes: u32,
    },
    Good {
        piece: PieceIndex,
        block_digests: Vec<Sha1Digest>,
    },
    Bad {
        piece: PieceIndex,
        block_digests: Vec<Sha1Digest>,
    },
    Forgotten {
        piece: PieceIndex,
    },
    FileCompleted {
        file: usize,
    },
    Synced,
    ResumeSaved,
    ResumeRemoved,
    /// Whatever it was, it did not happen. `bytes` is what a failed write held.
    Failed {
        error: DiskError,
        bytes: u32,
    },
}

/// A disk's fault. It stops the torrent, never the program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct DiskError {
    pub kind: DiskErrorKind,
    pub path: PathBuf,
    /// Lower case, what the system said.
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskErrorKind {
    Full,
    Permission,
    NotFound,
    /// Somebody else's file has the name that ours needs.
    Exists,
    /// The file is not what it was when we opened it.
    Changed,
    Other,
}

/// Why a tracker gave no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TrackerFailure {
    /// Lower case, without the URL.
    pub message: String,
    /// The tracker itself said no (`failure reason`), rather than the network.
    pub refused: bool,
}
