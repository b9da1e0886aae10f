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
    #[error("unknown meta version {0}")]
    MetaVersion(i64),
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
