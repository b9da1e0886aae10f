//! What a torrent has on disk, as a value that outlives the process.
//!
//! It claims only what is true: a piece is in `written` after the file system took its verified
//! bytes, and in `synced` after an fsync that came later. Where it is stored is the host's business.

use dunlin_metainfo::Bitfield;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Verified pieces whose bytes were handed to the file system: true while the machine runs.
    pub written: Bitfield,
    /// Those of them that survive a power cut.
    pub synced: Bitfield,
    /// Payload bytes over the torrent's whole life.
    pub downloaded: u64,
    pub uploaded: u64,
}

impl Resume {
    /// Nothing yet.
    pub fn empty(pieces: u32) -> Self {
        Self {
            written: Bitfield::new(pieces),
            synced: Bitfield::new(pieces),
            downloaded: 0,
            uploaded: 0,
        }
    }
}
