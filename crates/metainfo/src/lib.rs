//! What a torrent is: values, no I/O.
//!
//! Everything here is plain data and arithmetic. Nothing opens a file, a socket or a clock.

pub mod bencode;
pub mod bitfield;
pub mod create;
pub mod ids;
pub mod layout;
pub mod magnet;
pub mod merkle;
pub mod safe_path;
pub mod torrent_file;

pub use bitfield::Bitfield;
pub use ids::{InfoHash, InfoHashV2, PeerId, Sha1Digest, Sha256Digest};
pub use layout::{BLOCK_LEN, Block, FileSpan, Layout, LayoutError, PieceIndex, Run, Slice};
pub use magnet::{Magnet, MagnetError};
pub use safe_path::{PathError, SafePath};
pub use torrent_file::{Attributes, Metainfo, MetainfoError, Torrent, TorrentFile, TorrentV2};
