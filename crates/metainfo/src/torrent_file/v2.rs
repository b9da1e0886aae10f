//! The v2 half of a torrent (BEP 52): the tree of files, and the piece layers beside `info`.
//!
//! Names must be in order and occur once, so that there is one meaning of a tree. A hybrid's two
//! halves must describe the same files at the same places, or two peers would write different
//! things under one name.

use std::collections::BTreeMap;
use std::ops::Range;

use super::info::{Content, Gathered, attributes, expect, flags, path, required, unsigned};
use super::{MetainfoError, TorrentFile};
use crate::bencode::{Dict, Kind, Value};
use crate::ids::Sha256Digest;
use crate::layout::{BLOCK_LEN, PIECE_LEN_MAX, v2_pieces};
use crate::merkle;
use crate::safe_path::SafePath;

/// What the tree says.
#[derive(Debug)]
pub(super) struct Tree {
    /// No pads among them: v2 implies them.
    pub(super) files: Vec<TorrentFile>,
    pub(super) piece_length: u32,
    /// Which pieces hold each file.
    pub(super) pieces: Vec<Range<u32>>,
    pub(super) single_file: bool,
}

/// Reads the tree of a torrent that has no v1 half.
pub(super) fn read(info: Value<'_>, name: &SafePath) -> Result<Tree, MetainfoError> {
    let tree = required(info, "file tree", Kind::Dict)?;
    let mut entries = tree.as_dict().into_iter().flatten();
    let first = entries.next().and_then(|(_, value)| leaf(value));
    let single_file = first.is_some() && entries.next().is_none();
    tree_of(info, tree, (!single_file).then_some(name))
}

/// Reads the tree of a hybrid, and compares it with the v1 half.
pub(super) fn read_hybrid(
    info: Value<'_>,
    name: &SafePath,
    v1: &Content,
) -> Result<Tree, MetainfoError> {
    let tree = required(info, "file tree", Kind::Dict)?;
    let tree = tree_of(info, tree, (!v1.single_file).then_some(name))?;
    let mut pairs = tree.files.iter().zip(&tree.pieces);
    for (at, v1_file) in v1.files.iter().enumerate() {
        if v1_file.attributes.pad {
            continue;
        }
        let Some((file, pieces)) = pairs.next() else {
            return Err(differ(v1_file));
        };
        let same_place =
            file.len == 0 || (v1.layout.begins_piece(at) && v1.layout.file_pieces(at) == *pieces);
        let same_file = (&file.path, file.len, &file.attributes.symlink)
            == (&v1_file.path, v1_file.len, &v1_file.attributes.symlink);
        if !same_place || !same_file {
            return Err(differ(v1_file));
        }
    }
    match pairs.next() {
        Some((file, _)) => Err(differ(file)),
        // Padding at the end must not make pieces that v2 does not have.
        None if v1.layout.pieces() != tree.count() => Err(MetainfoError::HybridPieces {
            v1: v1.layout.pieces(),
            v2: tree.count(),
        }),
        None => Ok(tree),
    }
}

fn differ(file: &TorrentFile) -> MetainfoError {
    MetainfoError::Hybrid(file.path.to_string())
}

impl Tree {
    /// The number of pieces.
    pub(super) fn count(&self) -> u32 {
        self.pieces.last().map_or(0, |pieces| pieces.end)
    }

    /// Checks the layers that `root`, the dictionary around `info`, lists. BEP 52 calls a torrent
    /// without them invalid, but many are in use: clients that had only a magnet link write them.
    /// As libtorrent does, we take any that are missing for not known yet.
    pub(super) fn check_layers(&self, root: Value<'_>) -> Result<(), MetainfoError> {
        let Some(layers) = root.get("piece layers") else {
            return Ok(());
        };
        let mut wanted = BTreeMap::new();
        for (file, pieces) in self.files.iter().zip(&self.pieces) {
            let Some(root) = file.pieces_root.filter(|_| pieces.len() > 1) else {
                continue;
            };
            // Files with one root are equal, or one of them lies.
            let (count, _) = *wanted.entry(root).or_insert((pieces.len(), file));
            if count != pieces.len() {
                return Err(MetainfoError::PieceLayer(file.path.to_string()));
            }
        }
        let height = (self.piece_length / BLOCK_LEN).trailing_zeros();
        let layers = expect(layers, "piece layers", Kind::Dict)?;
        for (key, value) in layers.as_dict().into_iter().flatten() {
            let root = Sha256Digest::from_slice(key);
            let found = root.and_then(|root| wanted.get(&root));
            let Some((count, file)) = found else {
                return Err(MetainfoError::UnknownLayer);
            };
            let bad = || MetainfoError::PieceLayer(file.path.to_string());
            let (digests, rest) = value.as_bytes().ok_or_else(bad)?.as_chunks();
            let layer: Vec<Sha256Digest> = digests.iter().copied().map(Sha256Digest::new).collect();
            let fits = layer.len() == *count && rest.is_empty();
            if !fits || merkle::root(&layer, height) != root {
                return Err(bad());
            }
        }
        Ok(())
    }
}

fn tree_of(
    info: Value<'_>,
    tree: Value<'_>,
    folder: Option<&SafePath>,
) -> Result<Tree, MetainfoError> {
    let piece_length = piece_length(info)?;
    let files = files(tree, folder)?;
    let pieces = v2_pieces(piece_length, files.iter().map(|file| file.len))?;
    Ok(Tree {
        files,
        piece_length,
        pieces,
        single_file: folder.is_none(),
    })
}

fn piece_length(info: Value<'_>) -> Result<u32, MetainfoError> {
    let len = unsigned(
        "piece length",
        required(info, "piece length", Kind::Integer)?,
    )?;
    u32::try_from(len)
        .ok()
        .filter(|len| len.is_power_of_two() && (BLOCK_LEN..=PIECE_LEN_MAX).contains(len))
        .ok_or(MetainfoError::PieceLengthV2(len))
}

/// A folder under way.
struct Level<'d> {
    entries: Dict<'d>,
    last: Option<&'d [u8]>,
    /// Checked once, not once for each file in it. `None` if the torrent is one file.
    path: Option<SafePath>,
}

impl<'d> Level<'d> {
    fn new(folder: Value<'d>, path: Option<SafePath>) -> Option<Self> {
        let entries = folder.as_dict()?;
        Some(Self {
            entries,
            last: None,
            path,
        })
    }
}

/// The files in their order, below `folder` if there is one.
fn files(tree: Value<'_>, folder: Option<&SafePath>) -> Result<Vec<TorrentFile>, MetainfoError> {
    let mut files = Gathered::default();
    let mut open: Vec<Level<'_>> = Level::new(tree, folder.cloned()).into_iter().collect();
    while let Some(inner) = open.last_mut() {
        let Some((name, value)) = inner.entries.next() else {
            open.pop();
            continue;
        };
        if inner.last.is_some_and(|last| last >= name) {
            return Err(MetainfoError::Tree("has names out of order"));
        }
        inner.last = Some(name);
        if name.is_empty() {
            return Err(MetainfoError::Tree("has a file with other files below it"));
        }
        expect(value, "file tree", Kind::Dict)?;
        let path = path([name], inner.path.as_ref())?;
        if let Some(properties) = leaf(value) {
            if value.as_dict().is_some_and(|entries| entries.count() > 1) {
                return Err(MetainfoError::Tree("has a file with other files below it"));
            }
            files.push(file(properties, path, folder)?)?;
        } else {
            open.extend(Level::new(value, Some(path)));
        }
    }
    files.finish()
}

/// The properties of a file, if this is not a folder: they stand under the empty name.
fn leaf(value: Value<'_>) -> Option<Value<'_>> {
    let (name, properties) = value.as_dict()?.next()?;
    name.is_empty().then_some(properties)
}

fn file(
    properties: Value<'_>,
    path: SafePath,
    folder: Option<&SafePath>,
) -> Result<TorrentFile, MetainfoError> {
    expect(properties, "file tree", Kind::Dict)?;
    let flags = flags(properties);
    if flags.contains(&b'p') {
        return Err(MetainfoError::Tree("lists a padding file"));
    }
    let attributes = attributes(properties, flags, folder)?;
    // A link has no bytes, whatever it says.
    let len = match attributes.symlink {
        Some(_) => 0,
        None => unsigned("length", required(properties, "length", Kind::Integer)?)?,
    };
    let root = properties.get("pieces root").and_then(Value::as_bytes);
    let root = root.and_then(Sha256Digest::from_slice);
    let root = root.filter(|root| len > 0 && root.as_bytes() != &[0; Sha256Digest::LEN]);
    if len > 0 && root.is_none() {
        return Err(MetainfoError::PiecesRoot(path.to_string()));
    }
    Ok(TorrentFile {
        path,
        len,
        attributes,
        pieces_root: root,
    })
}

#[cfg(test)]
mod tests;
