//! What a shard cannot do itself.

use std::sync::Arc;

use dunlin_metainfo::{InfoHash, Run};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::tracker::AnnounceRequest;

use crate::alert::Alert;
use crate::event::{ConnKey, DiskJob, PeerAddr, PeerKey, TorrentKey, TrackerKey};
use crate::reason::{CloseReason, RefuseReason};

/// Something that only the host can do.
#[derive(Debug)]
pub enum Task {
    Dial {
        torrent: TorrentKey,
        info_hash: InfoHash,
        remote: PeerAddr,
    },
    Accept {
        conn: ConnKey,
        torrent: TorrentKey,
    },
    Refuse {
        conn: ConnKey,
        reason: RefuseReason,
    },
    /// Close the socket. The session knows already.
    Close {
        peer: PeerKey,
        reason: CloseReason,
    },
    Disk(DiskJob),
    /// Tell whoever knows what a torrent is; see [`Action::Metadata`].
    Metadata {
        torrent: TorrentKey,
        info: Arc<[u8]>,
    },
    /// Fill the buffers from the files, then call [`Shard::read_done`](super::Shard::read_done).
    Read(Read),
    Announce {
        torrent: TorrentKey,
        tracker: TrackerKey,
        url: String,
        request: AnnounceRequest,
    },
    TorrentGone {
        torrent: TorrentKey,
    },
    Alert(Alert),
}

/// Blocks to be read for a peer.
#[derive(Debug)]
pub struct Read {
    pub peer: PeerKey,
    pub torrent: TorrentKey,
    pub run: Run,
    /// One a block, of its length.
    pub bufs: Vec<BlockBuf>,
}
