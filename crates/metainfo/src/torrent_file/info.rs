//! The `info` dictionary: what the torrent's content is called, how long it is, its digests.

use std::sync::Arc;

use super::v2::{self, Tree};
use super::{Attributes, FILES_MAX, MetainfoError, PATHS_LEN_MAX, TorrentFile};
use crate::bencode::{Kind, Value};
use crate::ids::Sha1Digest;
use crate::layout::{FileSpan, Layout};
use crate::safe_path::{PathError, SafePath, resolve_collisions};

/// What an info dictionary describes.
pub(super) enum Info {
    /// The v1 half, and of a hybrid the v2 half that agrees with it.
    V1(Content, Option<Tree>),
    V2(String, Tree),
}

/// The v1 half.
pub(super) struct Content {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) files: Vec<TorrentFile>,
    pub(super) piece_digests: Arc<[Sha1Digest]>,
    pub(super) single_file: bool,
}

pub(super) fn read(info: Value<'_>) -> Result<Info, MetainfoError> {
    expect(info, "info", Kind::Dict)?;
    let halves = halves(info)?;
    let name = SafePath::new([name(info)?])?;
    match halves {
        Halves::V1 => Ok(Info::V1(content(info, &name)?, None)),
        Halves::Both => {
            let mut content = content(info, &name)?;
            let tree = v2::read_hybrid(info, &name, &content)?;
            let stored = content.files.iter_mut().filter(|f| !f.attributes.pad);
            for (file, v2) in stored.zip(&tree.files) {
                file.pieces_root = v2.pieces_root;
            }
            Ok(Info::V1(content, Some(tree)))
        }
        Halves::V2 => {
            let tree = v2::read(info, &name)?;
            // The name of the only file counts; that of the torrent is for display (BEP 52).
            let file = tree.files.first().filter(|_| tree.single_file);
            let name = file.map_or(name.as_str(), |file| file.path.as_str());
            Ok(Info::V2(name.to_owned(), tree))
        }
    }
}

fn content(info: Value<'_>, name: &SafePath) -> Result<Content, MetainfoError> {
    let (files, single_file) = match info.get("files") {
        Some(files) => (
            many_files(expect(files, "files", Kind::List)?, name)?,
            false,
        ),
        None => (vec![single_file(info, name)?], true),
    };
    let piece_len = required(info, "piece length", Kind::Integer)?;
    let spans = files.iter().map(|file| FileSpan {
        len: file.len,
        pad: file.attributes.pad,
    });
    let layout = Layout::new(unsigned("piece length", piece_len)?, spans)?;
    Ok(Content {
        name: name.to_string(),
        piece_digests: piece_digests(info, &layout)?,
        layout,
        files,
        single_file,
    })
}

enum Halves {
    V1,
    Both,
    V2,
}

/// Which halves there are (BEP 52). The v1 half of a version to come is as good as any.
fn halves(info: Value<'_>) -> Result<Halves, MetainfoError> {
    let version = info.get("meta version").and_then(Value::as_int);
    let has_v1 = info.get("pieces").is_some();
    match version {
        Some(2) if has_v1 => Ok(Halves::Both),
        Some(2) => Ok(Halves::V2),
        Some(_) | None if has_v1 => Ok(Halves::V1),
        Some(version) if version > 2 => Err(MetainfoError::MetaVersion(version)),
        Some(_) | None if info.get("file tree").is_some() => {
            Err(MetainfoError::Missing("meta version"))
        }
        Some(_) | None => Ok(Halves::V1),
    }
}

fn name(info: Value<'_>) -> Result<&[u8], MetainfoError> {
    if let Some(name) = info.get("name.utf-8").and_then(Value::as_str) {
        return Ok(name.as_bytes());
    }
    let name = required(info, "name", Kind::Bytes)?;
    Ok(name.as_bytes().unwrap_or_default())
}

fn single_file(info: Value<'_>, name: &SafePath) -> Result<TorrentFile, MetainfoError> {
    let len = required(info, "length", Kind::Integer)?;
    Ok(TorrentFile {
        path: name.clone(),
        len: unsigned("length", len)?,
        attributes: attributes(info, flags(info), None)?,
        pieces_root: None,
    })
}

fn many_files(list: Value<'_>, name: &SafePath) -> Result<Vec<TorrentFile>, MetainfoError> {
    let mut files = Gathered::default();
    for entry in list.as_list().into_iter().flatten() {
        files.push(file(entry, name)?)?;
    }
    files.finish()
}

/// The files read so far, within the limits.
#[derive(Default)]
pub(super) struct Gathered {
    files: Vec<TorrentFile>,
    paths_len: usize,
}

impl Gathered {
    pub(super) fn push(&mut self, file: TorrentFile) -> Result<(), MetainfoError> {
        if self.files.len() >= FILES_MAX {
            return Err(MetainfoError::TooManyFiles);
        }
        self.paths_len += file.path.as_str().len();
        let link = file.attributes.symlink.as_ref();
        self.paths_len += link.map_or(0, |link| link.as_str().len());
        if self.paths_len > PATHS_LEN_MAX {
            return Err(MetainfoError::PathsTooLong);
        }
        self.files.push(file);
        Ok(())
    }

    /// The files, with names that can all exist together.
    pub(super) fn finish(mut self) -> Result<Vec<TorrentFile>, MetainfoError> {
        if self.files.is_empty() {
            return Err(MetainfoError::NoFiles);
        }
        let stored = self.files.iter_mut().filter(|file| !file.attributes.pad);
        let mut paths: Vec<&mut SafePath> = stored.map(|file| &mut file.path).collect();
        resolve_collisions(&mut paths);
        Ok(self.files)
    }
}

fn file(entry: Value<'_>, name: &SafePath) -> Result<TorrentFile, MetainfoError> {
    expect(entry, "files", Kind::Dict)?;
    let flags = flags(entry);
    let mut attributes = attributes(entry, flags, Some(name))?;
    attributes.pad = flags.contains(&b'p') && attributes.symlink.is_none();
    // A link has no bytes, whatever it says.
    let len = match attributes.symlink {
        Some(_) => 0,
        None => unsigned("length", required(entry, "length", Kind::Integer)?)?,
    };
    let utf8 = entry.get("path.utf-8").filter(|list| is_utf8_list(*list));
    let list = match utf8.or_else(|| entry.get("path")) {
        Some(list) => path_of(list, "path", name),
        None => Err(MetainfoError::Missing("path")),
    };
    let path = match list {
        // A pad needs no path: it is not stored.
        Err(_) if attributes.pad => SafePath::new([name.as_str().as_bytes(), b".pad"])?,
        path => path?,
    };
    Ok(TorrentFile {
        path,
        len,
        attributes,
        pieces_root: None,
    })
}

/// What the letters of BEP 47 say, but for pads. A link needs a folder that it stays in.
pub(super) fn attributes(
    properties: Value<'_>,
    flags: &[u8],
    folder: Option<&SafePath>,
) -> Result<Attributes, MetainfoError> {
    let symlink = match folder.filter(|_| flags.contains(&b'l')) {
        Some(folder) => {
            let target = required(properties, "symlink path", Kind::List)?;
            Some(path_of(target, "symlink path", folder)?)
        }
        None => None,
    };
    Ok(Attributes {
        pad: false,
        executable: flags.contains(&b'x'),
        hidden: flags.contains(&b'h'),
        symlink,
    })
}

/// A list of components below the folder of the torrent.
fn path_of(
    list: Value<'_>,
    key: &'static str,
    folder: &SafePath,
) -> Result<SafePath, MetainfoError> {
    let components = expect(list, key, Kind::List)?
        .as_list()
        .into_iter()
        .flatten();
    if components
        .clone()
        .any(|component| component.kind() != Kind::Bytes)
    {
        return Err(wrong_type(key, Kind::Bytes));
    }
    path(components.filter_map(Value::as_bytes), Some(folder))
}

/// Components below the folder of the torrent, if it has one.
pub(super) fn path<'a>(
    components: impl IntoIterator<Item = &'a [u8]>,
    folder: Option<&'a SafePath>,
) -> Result<SafePath, MetainfoError> {
    let start = folder.into_iter().flat_map(SafePath::components);
    let path = SafePath::new(start.map(str::as_bytes).chain(components))?;
    // Empty, or nothing but empty components.
    if folder == Some(&path) {
        return Err(PathError::Empty.into());
    }
    Ok(path)
}

fn is_utf8_list(list: Value<'_>) -> bool {
    let mut items = list.as_list().into_iter().flatten().peekable();
    items.peek().is_some() && items.all(|item| item.as_str().is_some())
}

fn piece_digests(info: Value<'_>, layout: &Layout) -> Result<Arc<[Sha1Digest]>, MetainfoError> {
    let pieces = required(info, "pieces", Kind::Bytes)?;
    let digests = pieces.as_bytes().unwrap_or_default();
    if !digests.len().is_multiple_of(Sha1Digest::LEN) {
        return Err(MetainfoError::DigestsLength(digests.len()));
    }
    let found = digests.len() / Sha1Digest::LEN;
    if found != layout.pieces() as usize {
        return Err(MetainfoError::DigestCount {
            found,
            expected: layout.pieces(),
            bytes: layout.bytes(),
        });
    }
    let digests = digests.chunks_exact(Sha1Digest::LEN);
    Ok(digests.filter_map(Sha1Digest::from_slice).collect())
}

/// The letters of BEP 47; unknown ones are ignored.
pub(super) fn flags(dict: Value<'_>) -> &[u8] {
    dict.get("attr")
        .and_then(Value::as_bytes)
        .unwrap_or_default()
}

pub(super) fn unsigned(key: &'static str, value: Value<'_>) -> Result<u64, MetainfoError> {
    let value = value.as_int().unwrap_or_default();
    u64::try_from(value).map_err(|_| MetainfoError::Range { key, value })
}

pub(super) fn required<'d>(
    dict: Value<'d>,
    key: &'static str,
    kind: Kind,
) -> Result<Value<'d>, MetainfoError> {
    let value = dict.get(key).ok_or(MetainfoError::Missing(key))?;
    expect(value, key, kind)
}

pub(super) fn expect<'d>(
    value: Value<'d>,
    key: &'static str,
    kind: Kind,
) -> Result<Value<'d>, MetainfoError> {
    if value.kind() == kind {
        Ok(value)
    } else {
        Err(wrong_type(key, kind))
    }
}

fn wrong_type(key: &'static str, kind: Kind) -> MetainfoError {
    let expected = match kind {
        Kind::Integer => "an integer",
        Kind::Bytes => "a string",
        Kind::List => "a list",
        Kind::Dict => "a dictionary",
    };
    MetainfoError::Type { key, expected }
}
