//! What is known about a torrent, whatever it is known from.

use dunlin_metainfo::{Magnet, Torrent, TorrentFile, TorrentV2};

/// `None` where only the metadata, which a link lacks, would tell.
#[derive(Debug)]
pub(super) struct Facts {
    /// The link to the torrent; its own fields (name, hashes, web seeds, peers) are not repeated.
    pub(super) magnet: Magnet,
    /// All files together, the pads that are listed among them.
    pub(super) bytes: Option<u64>,
    pub(super) piece_length: Option<u32>,
    pub(super) pieces: Option<u32>,
    pub(super) private: Option<bool>,
    pub(super) trackers: Vec<Vec<String>>,
    pub(super) nodes: Vec<(String, u16)>,
    pub(super) created: Option<i64>,
    pub(super) created_by: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) source: Option<String>,
    pub(super) files: Option<Vec<TorrentFile>>,
}

impl From<Torrent> for Facts {
    fn from(torrent: Torrent) -> Self {
        Self {
            magnet: torrent.magnet(),
            bytes: Some(torrent.layout.bytes()),
            piece_length: Some(torrent.layout.piece_length()),
            pieces: Some(torrent.layout.pieces()),
            private: Some(torrent.private),
            trackers: torrent.trackers,
            nodes: torrent.nodes,
            created: torrent.created,
            created_by: torrent.created_by,
            comment: torrent.comment,
            source: torrent.source,
            files: Some(torrent.files),
        }
    }
}

impl From<TorrentV2> for Facts {
    fn from(torrent: TorrentV2) -> Self {
        Self {
            magnet: torrent.magnet(),
            bytes: Some(torrent.bytes),
            piece_length: Some(torrent.piece_length),
            pieces: Some(torrent.pieces),
            private: Some(torrent.private),
            trackers: torrent.trackers,
            nodes: torrent.nodes,
            created: torrent.created,
            created_by: torrent.created_by,
            comment: torrent.comment,
            source: torrent.source,
            files: Some(torrent.files),
        }
    }
}

impl From<Magnet> for Facts {
    fn from(magnet: Magnet) -> Self {
        Self {
            bytes: magnet.length,
            piece_length: None,
            pieces: None,
            private: None,
            // A link has no tiers: its trackers are all to be asked.
            trackers: magnet
                .trackers
                .iter()
                .map(|url| vec![url.clone()])
                .collect(),
            nodes: Vec::new(),
            created: None,
            created_by: None,
            comment: None,
            source: None,
            files: None,
            magnet,
        }
    }
}
