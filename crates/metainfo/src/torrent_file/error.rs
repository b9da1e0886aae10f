//! What can be wrong with a .torrent file, each in one line for the user.

use super::{FILES_MAX, PATHS_LEN_MAX, TORRENT_FILE_LEN_MAX};
use crate::bencode::DecodeError;
use crate::layout::LayoutError;
use crate::safe_path::PathError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    #[error("this is {0}, no torrent")]
    NotATorrent(&'static str),
    #[error("{0} bytes, more than the {TORRENT_FILE_LEN_MAX} that a .torrent file may have")]
    TooLarge(usize),
    #[error("damaged or truncated torrent: {0}")]
    Bencode(#[from] DecodeError),
    #[error("torrent without {0:?}")]
    Missing(&'static str),
    #[error("{key:?} is not {expected}")]
    Type {
        key: &'static str,
        expected: &'static str,
    },
    #[error("{key:?} is {value}, out of range")]
    Range { key: &'static str, value: i64 },
    #[error(
        "this torrent is BitTorrent v2 only, which cannot be transferred yet; ask for a v1 or hybrid one"
    )]
    V2Only,
    #[error(
        "this torrent is of BitTorrent version {0}, which is newer than this program; ask for a v1 one"
    )]
    MetaVersion(i64),
    #[error("piece length {0} is not a power of two from 16 KiB to 512 MiB, as v2 torrents need")]
    PieceLengthV2(u64),
    #[error("the file tree {0}")]
    Tree(&'static str),
    #[error("file {0:?} has no \"pieces root\" of 32 bytes")]
    PiecesRoot(String),
    #[error("the v1 and the v2 half of this torrent disagree about {0:?}")]
    Hybrid(String),
    #[error("the v1 half of this torrent has {v1} pieces, the v2 half {v2}")]
    HybridPieces { v1: u32, v2: u32 },
    #[error("a piece layer belongs to no file of more than one piece")]
    UnknownLayer,
    #[error("the piece layer of {0:?} does not lead to its root")]
    PieceLayer(String),
    #[error("torrent without files")]
    NoFiles,
    #[error("more than {FILES_MAX} files")]
    TooManyFiles,
    #[error("paths of more than {PATHS_LEN_MAX} bytes together")]
    PathsTooLong,
    #[error("unsafe torrent: {0}")]
    Path(#[from] PathError),
    #[error("{0}")]
    Layout(#[from] LayoutError),
    #[error("\"pieces\" has {0} bytes, which is no multiple of 20")]
    DigestsLength(usize),
    #[error("{found} piece digests for {bytes} bytes, which make {expected} pieces")]
    DigestCount {
        found: usize,
        expected: u32,
        bytes: u64,
    },
}
