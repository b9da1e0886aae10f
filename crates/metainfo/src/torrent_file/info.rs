//! The `info` dictionary: what the torrent's content is called, how long it is, its digests.

use std::sync::Arc;

use sha1::Digest;

use super::{Attributes, FILES_MAX, MetainfoError, PATHS_LEN_MAX, TorrentFile};
use crate::bencode::{Kind, Value};
use crate::ids::{InfoHash, InfoHashV2, Sha1Digest};
use crate::layout::{FileSpan, Layout};
use crate::safe_path::{PathError, SafePath, resolve_collisions};

/// The names that the raw bytes of `info` give a torrent.
pub(super) struct Hashes {
    pub(super) v1: InfoHash,
    pub(super) v2: Option<InfoHashV2>,
}

pub(super) struct Content {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) files: Vec<TorrentFile>,
    pub(super) piece_digests: Arc<[Sha1Digest]>,
    pub(super) single_file: bool,
}

pub(super) fn read(info: Value<'_>) -> Result<(Hashes, Content), MetainfoError> {
    expect(info, "info", Kind::Dict)?;
    let is_v2 = is_v2(info)?;
    let name = SafePath::new([name(info)?])?;
    let (files, single_file) = match info.get("files") {
        Some(files) => (
            many_files(expect(files, "files", Kind::List)?, &name)?,
            false,
        ),
        None => (vec![single_file(info, &name)?], true),
    };
    let piece_len = required(info, "piece length", Kind::Integer)?;
    let spans = files.iter().map(|file| FileSpan {
        len: file.len,
        pad: file.attributes.pad,
    });
    let layout = Layout::new(unsigned("piece length", piece_len)?, spans)?;
    let content = Content {
        name: name.to_string(),
        piece_digests: piece_digests(info, &layout)?,
        layout,
        files,
        single_file,
    };
    let hashes = Hashes {
        v1: InfoHash::new(sha1::Sha1::digest(info.raw()).into()),
        v2: is_v2.then(|| InfoHashV2::new(sha2::Sha256::digest(info.raw()).into())),
    };
    Ok((hashes, content))
}

/// Whether there is a v2 half. A torrent without a v1 half is refused here (BEP 52).
fn is_v2(info: Value<'_>) -> Result<bool, MetainfoError> {
    let version = info.get("meta version").and_then(Value::as_int);
    let has_v1 = info.get("pieces").is_some();
    match version {
        None | Some(1) if has_v1 || info.get("file tree").is_none() => Ok(false),
        Some(2) if has_v1 => Ok(true),
        None | Some(1 | 2) => Err(MetainfoError::V2Only),
        Some(_) if has_v1 => Ok(false),
        Some(version) => Err(MetainfoError::MetaVersion(version)),
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
    let flags = flags(info);
    Ok(TorrentFile {
        path: name.clone(),
        len: unsigned("length", len)?,
        attributes: Attributes {
            executable: flags.contains(&b'x'),
            hidden: flags.contains(&b'h'),
            pad: false,
            symlink: None,
        },
    })
}

fn many_files(list: Value<'_>, name: &SafePath) -> Result<Vec<TorrentFile>, MetainfoError> {
    let mut files = Vec::new();
    let mut paths_len = 0;
    for entry in list.as_list().into_iter().flatten() {
        if files.len() >= FILES_MAX {
            return Err(MetainfoError::TooManyFiles);
        }
        let file = file(entry, name)?;
        paths_len += file.path.as_str().len();
        let link = file.attributes.symlink.as_ref();
        paths_len += link.map_or(0, |link| link.as_str().len());
        if paths_len > PATHS_LEN_MAX {
            return Err(MetainfoError::PathsTooLong);
        }
        files.push(file);
    }
    if files.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    let stored = files.iter_mut().filter(|file| !file.attributes.pad);
    let mut paths: Vec<&mut SafePath> = stored.map(|file| &mut file.path).collect();
    resolve_collisions(&mut paths);
    Ok(files)
}

fn file(entry: Value<'_>, name: &SafePath) -> Result<TorrentFile, MetainfoError> {
    expect(entry, "files", Kind::Dict)?;
    let flags = flags(entry);
    let symlink = if flags.contains(&b'l') {
        let target = required(entry, "symlink path", Kind::List)?;
        Some(path(target, "symlink path", name)?)
    } else {
        None
    };
    // A link has no bytes, whatever it says.
    let len = match symlink {
        Some(_) => 0,
        None => unsigned("length", required(entry, "length", Kind::Integer)?)?,
    };
    let pad = flags.contains(&b'p') && symlink.is_none();
    let utf8 = entry.get("path.utf-8").filter(|list| is_utf8_list(*list));
    let list = match utf8.or_else(|| entry.get("path")) {
        Some(list) => path(list, "path", name),
        None => Err(MetainfoError::Missing("path")),
    };
    let path = match list {
        // A pad needs no path: it is not stored.
        Err(_) if pad => SafePath::new([name.as_str().as_bytes(), b".pad"])?,
        path => path?,
    };
    let attributes = Attributes {
        pad,
        executable: flags.contains(&b'x'),
        hidden: flags.contains(&b'h'),
        symlink,
    };
    Ok(TorrentFile {
        path,
        len,
        attributes,
    })
}

/// A list of components below the folder of the torrent.
fn path(list: Value<'_>, key: &'static str, name: &SafePath) -> Result<SafePath, MetainfoError> {
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
    let folder = std::iter::once(name.as_str().as_bytes());
    let path = SafePath::new(folder.chain(components.filter_map(Value::as_bytes)))?;
    // Empty, or nothing but empty components.
    if path == *name {
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
fn flags(dict: Value<'_>) -> &[u8] {
    dict.get("attr")
        .and_then(Value::as_bytes)
        .unwrap_or_default()
}

fn unsigned(key: &'static str, value: Value<'_>) -> Result<u64, MetainfoError> {
    let value = value.as_int().unwrap_or_default();
    u64::try_from(value).map_err(|_| MetainfoError::Range { key, value })
}

fn required<'d>(
    dict: Value<'d>,
    key: &'static str,
    kind: Kind,
) -> Result<Value<'d>, MetainfoError> {
    let value = dict.get(key).ok_or(MetainfoError::Missing(key))?;
    expect(value, key, kind)
}

fn expect<'d>(value: Value<'d>, key: &'static str, kind: Kind) -> Result<Value<'d>, MetainfoError> {
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
