//! The .torrent file: BEP 3, 5 (nodes), 12 (tiers), 19 (web seeds), 27 (private), 47 (attributes),
//! 52 (v2).
//!
//! [`Metainfo::parse`] takes bytes from anywhere and either gives a torrent that every other part
//! may rely on (paths safe and distinct, piece count right, sums without overflow, the halves of a
//! hybrid in agreement) or one line that says what is wrong. Info hashes are over the bytes as they
//! stand. A [`Torrent`] has a v1 half and can be transferred; a [`TorrentV2`] has none and is a
//! type of its own, so that nobody tries.

mod error;
mod info;
mod v2;

use std::sync::Arc;

use sha2::Digest;

use crate::bencode::{Value, decode};
use crate::ids::{InfoHash, InfoHashV2, Sha1Digest, Sha256Digest};
use crate::layout::Layout;
use crate::magnet::Magnet;
use crate::safe_path::SafePath;

use info::{Content, Info};
use v2::Tree;

pub use error::MetainfoError;

/// Length of a .torrent file in bytes (libtorrent's limit too).
pub const TORRENT_FILE_LEN_MAX: usize = 10_000_000;

/// Files of a torrent.
pub const FILES_MAX: usize = 200_000;

/// All paths of a torrent together, in bytes: a long name on top of many files must not multiply
/// the memory that a .torrent file costs.
pub const PATHS_LEN_MAX: usize = 16 << 20;

/// Trackers, web seeds and nodes that are kept, each; more are ignored.
pub const ADDRESSES_MAX: usize = 200;

/// A .torrent file of either kind.
#[derive(Clone, Debug)]
pub enum Metainfo {
    /// With a v1 half.
    Torrent(Box<Torrent>),
    V2Only(Box<TorrentV2>),
}

/// What a .torrent file with a v1 half says: v1, or a hybrid of v1 and v2.
#[derive(Clone, Debug)]
pub struct Torrent {
    pub info_hash: InfoHash,
    /// The other name of a hybrid torrent (BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// The info dictionary exactly as it stood: what both hashes are over and what peers are sent
    /// who have no more than a magnet link (BEP 9).
    pub info: Arc<[u8]>,
    /// Name of the file or of the folder: the first component of every path.
    pub name: String,
    pub layout: Arc<Layout>,
    /// In the order of the layout's files.
    pub files: Vec<TorrentFile>,
    /// One a piece.
    pub piece_digests: Arc<[Sha1Digest]>,
    /// Peers come from trackers alone (BEP 27).
    pub private: bool,
    /// Tiers of URLs (BEP 12): the first tier that answers is used.
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    /// DHT nodes to start from: host and port.
    pub nodes: Vec<(String, u16)>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970, as the file claims.
    pub created: Option<i64>,
    /// Tells otherwise equal torrents of different trackers apart.
    pub source: Option<String>,
    /// Character set that old creators wrote names in. We read UTF-8 whatever it says.
    pub encoding: Option<String>,
    /// Whether the torrent is one file, not a folder (of perhaps one file).
    pub single_file: bool,
}

/// What a .torrent file without a v1 half says (BEP 52). It can be shown, not transferred.
#[derive(Clone, Debug)]
pub struct TorrentV2 {
    pub info_hash: InfoHashV2,
    /// Name of the file or of the folder: the first component of every path.
    pub name: String,
    /// In bytes: a power of two.
    pub piece_length: u32,
    /// Every file that is not empty begins one.
    pub pieces: u32,
    /// All files together.
    pub bytes: u64,
    pub files: Vec<TorrentFile>,
    /// The fields from here on are those of [`Torrent`].
    pub private: bool,
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    pub nodes: Vec<(String, u16)>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    pub created: Option<i64>,
    pub source: Option<String>,
    pub single_file: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentFile {
    /// Relative to the download folder: NAME, or NAME/sub/file.
    pub path: SafePath,
    /// In bytes.
    pub len: u64,
    pub attributes: Attributes,
    /// The top of the file's hash tree, where there is a v2 half and the file is not empty.
    pub pieces_root: Option<Sha256Digest>,
}

/// BEP 47.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Zeros that align the next file. Never stored; its path may be that of another pad.
    pub pad: bool,
    pub executable: bool,
    pub hidden: bool,
    /// The file is a link to this path, which like all others is relative to the download folder
    /// and need not exist. It has no bytes.
    pub symlink: Option<SafePath>,
}

impl Metainfo {
    /// Reads a .torrent file.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > TORRENT_FILE_LEN_MAX {
            return Err(MetainfoError::TooLarge(bytes.len()));
        }
        if let Some(what) = looks_like(bytes) {
            return Err(MetainfoError::NotATorrent(what));
        }
        let document = decode(bytes)?;
        let root = document.root();
        let info = root.get("info").ok_or(MetainfoError::Missing("info"))?;
        read(info, Some(root))
    }

    /// What can be transferred, or an error that says why it cannot.
    fn transferable(self) -> Result<Torrent, MetainfoError> {
        match self {
            Self::Torrent(torrent) => Ok(*torrent),
            Self::V2Only(_) => Err(MetainfoError::V2Only),
        }
    }
}

impl Torrent {
    /// Reads a .torrent file, which must have a v1 half.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        Metainfo::parse(bytes)?.transferable()
    }

    /// Reads a bare info dictionary, as peers send it to whoever has a magnet link (BEP 9). The
    /// torrent has no trackers.
    pub fn from_info(info: &[u8]) -> Result<Self, MetainfoError> {
        if info.len() > TORRENT_FILE_LEN_MAX {
            return Err(MetainfoError::TooLarge(info.len()));
        }
        let document = decode(info)?;
        read(document.root(), None)?.transferable()
    }

    /// The link that names this torrent and says where to ask.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash: Some(self.info_hash),
            info_hash_v2: self.info_hash_v2,
            name: Some(self.name.clone()),
            trackers: self.trackers.concat(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::default()
        }
    }
}

impl TorrentV2 {
    /// The link that names this torrent and says where to ask.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash_v2: Some(self.info_hash),
            name: Some(self.name.clone()),
            trackers: self.trackers.concat(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::default()
        }
    }
}

/// `root` is the dictionary around `info`, if there is one.
fn read(info: Value<'_>, root: Option<Value<'_>>) -> Result<Metainfo, MetainfoError> {
    let halves = info::read(info)?;
    let tree = match &halves {
        Info::V1(_, tree) => tree.as_ref(),
        Info::V2(_, tree) => Some(tree),
    };
    if let (Some(tree), Some(root)) = (tree, root) {
        tree.check_layers(root)?;
    }
    let hash_v2 = InfoHashV2::new(sha2::Sha256::digest(info.raw()).into());
    let around = Around::read(info, root);
    Ok(match halves {
        Info::V1(content, tree) => {
            let hash_v2 = tree.map(|_| hash_v2);
            Metainfo::Torrent(Box::new(torrent(info, content, hash_v2, around)))
        }
        Info::V2(name, tree) => Metainfo::V2Only(Box::new(torrent_v2(name, tree, hash_v2, around))),
    })
}

fn torrent(
    info: Value<'_>,
    content: Content,
    info_hash_v2: Option<InfoHashV2>,
    around: Around,
) -> Torrent {
    Torrent {
        info_hash: InfoHash::new(sha1::Sha1::digest(info.raw()).into()),
        info_hash_v2,
        info: info.raw().into(),
        name: content.name,
        layout: Arc::new(content.layout),
        files: content.files,
        piece_digests: content.piece_digests,
        private: around.private,
        trackers: around.trackers,
        web_seeds: around.web_seeds,
        nodes: around.nodes,
        comment: around.comment,
        created_by: around.created_by,
        created: around.created,
        source: around.source,
        encoding: around.encoding,
        single_file: content.single_file,
    }
}

fn torrent_v2(name: String, tree: Tree, info_hash: InfoHashV2, around: Around) -> TorrentV2 {
    TorrentV2 {
        info_hash,
        name,
        piece_length: tree.piece_length,
        pieces: tree.count(),
        bytes: tree.files.iter().map(|file| file.len).sum(),
        files: tree.files,
        private: around.private,
        trackers: around.trackers,
        web_seeds: around.web_seeds,
        nodes: around.nodes,
        comment: around.comment,
        created_by: around.created_by,
        created: around.created,
        source: around.source,
        single_file: tree.single_file,
    }
}

/// What does not concern the content. Most of it stands around the info dictionary.
struct Around {
    private: bool,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    created: Option<i64>,
    source: Option<String>,
    encoding: Option<String>,
}

impl Around {
    fn read(info: Value<'_>, root: Option<Value<'_>>) -> Self {
        let text_of = |key| root.and_then(|root| text(root, key));
        Self {
            private: info.get("private").and_then(Value::as_int) == Some(1),
            trackers: root.map_or_else(Vec::new, trackers),
            web_seeds: root.map_or_else(Vec::new, web_seeds),
            nodes: root.map_or_else(Vec::new, nodes),
            comment: text_of("comment"),
            created_by: text_of("created by"),
            created: root.and_then(|root| root.get("creation date")?.as_int()),
            source: text(info, "source").or_else(|| text_of("source")),
            encoding: text_of("encoding"),
        }
    }
}

/// `announce-list` hides `announce` (BEP 12), unless it lists nothing.
fn trackers(root: Value<'_>) -> Vec<Vec<String>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut tiers = Vec::new();
    let listed = root.get("announce-list").and_then(Value::as_list);
    for tier in listed.into_iter().flatten() {
        let urls: Vec<String> = strings(tier)
            .filter(|url| seen.len() < ADDRESSES_MAX && seen.insert(url.clone()))
            .collect();
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if tiers.is_empty() {
        let announce = root.get("announce").into_iter().flat_map(strings).take(1);
        tiers.extend(announce.map(|url| vec![url]));
    }
    tiers
}

/// BEP 19: one URL or a list of them.
fn web_seeds(root: Value<'_>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let urls = root.get("url-list").into_iter().flat_map(strings);
    urls.filter(|url| seen.insert(url.clone()))
        .take(ADDRESSES_MAX)
        .collect()
}

/// BEP 5: pairs of host and port.
fn nodes(root: Value<'_>) -> Vec<(String, u16)> {
    let listed = root.get("nodes").and_then(Value::as_list);
    let node = |pair: Value<'_>| {
        let mut pair = pair.as_list()?;
        let host = pair.next()?.as_str().filter(|host| !host.is_empty())?;
        let port = u16::try_from(pair.next()?.as_int()?).ok()?;
        (port != 0).then(|| (host.to_owned(), port))
    };
    listed
        .into_iter()
        .flatten()
        .filter_map(node)
        .take(ADDRESSES_MAX)
        .collect()
}

/// The texts of a list, or the one text that stands in its place. Creators leave empty ones, and
/// blanks around them.
fn strings(value: Value<'_>) -> impl Iterator<Item = String> {
    let one = value.as_str();
    let many = value.as_list().into_iter().flatten();
    one.into_iter()
        .chain(many.filter_map(Value::as_str))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// A text for people: `KEY.utf-8` where an old creator added it.
fn text(dict: Value<'_>, key: &str) -> Option<String> {
    let utf8 = dict.get(format!("{key}.utf-8")).and_then(Value::as_str);
    let bytes = utf8.map(str::as_bytes);
    let bytes = bytes.or_else(|| dict.get(key).and_then(Value::as_bytes))?;
    Some(String::from_utf8_lossy(bytes).into_owned()).filter(|text| !text.is_empty())
}

/// Recognises what people save under the name of a torrent by mistake.
fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    match start {
        [] => Some("an empty file"),
        [0x1f, 0x8b, ..] => Some("gzip data (unpack it first)"),
        [b'P', b'K', 3, 4, ..] => Some("a ZIP archive (unpack it first)"),
        [b'<', b'?', ..] => Some("XML"),
        [b'<', ..] => Some("HTML"),
        [b'{', ..] => Some("JSON"),
        _ if start.starts_with(b"magnet:") => Some("a magnet link"),
        _ if !bytes.starts_with(b"d") => Some("another kind of file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
