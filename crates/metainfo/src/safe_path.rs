//! Paths out of a torrent that are safe to open under a download folder.
//!
//! A [`SafePath`] is relative and has 1 to [`DEPTH_MAX`] components; none is empty, `.` or `..`,
//! none holds a NUL or a separator, none is longer than [`COMPONENT_LEN_MAX`] bytes. What means
//! harm is refused, what is merely odd is made harmless, so that names that a user really has on
//! Linux stay as they are. Symbolic links that already lie in the folder, and file systems that
//! fold names by rules of their own, are up to whoever opens the file.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// Components of a path (libtorrent's limit too).
pub const DEPTH_MAX: usize = 100;

/// Length of a component in bytes. File systems take 255; the rest is for suffixes such as `.part`.
pub const COMPONENT_LEN_MAX: usize = 240;

/// Length of a path in bytes. `PATH_MAX` is 4096 on Linux, the download folder included.
pub const PATH_LEN_MAX: usize = 3_500;

/// Characters that Windows does not take in a name, beside the control characters.
const WINDOWS_RESERVED: &str = "\\:*?\"<>|";

/// Longer ones are part of the name: nobody recognises a file by them.
const EXTENSION_LEN_MAX: usize = 16;

/// Room for the number that tells colliding names apart, in bytes.
const NUMBER_LEN_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("path {0:?} leaves the download folder")]
    Escapes(String),
    #[error("path {0:?} holds a NUL byte")]
    Nul(String),
    #[error("path is empty")]
    Empty,
    #[error("path {0:?} has more than {DEPTH_MAX} levels")]
    TooDeep(String),
    #[error("path {0:?} is longer than {PATH_LEN_MAX} bytes")]
    TooLong(String),
}

/// A relative path whose components were checked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(Box<str>);

impl SafePath {
    /// Checks the components of a path as they stand in a torrent.
    ///
    /// Refused: `..`, a component that starts with a separator, NUL, too many levels, too many
    /// bytes. Empty components and `.` are dropped, separators become `_`, what is not UTF-8 the
    /// replacement character, and a long name is cut before its extension.
    pub fn new<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, PathError> {
        let mut path = String::new();
        let mut depth = 0;
        for raw in components {
            let name = String::from_utf8_lossy(raw);
            if name.is_empty() || name == "." {
                continue;
            }
            if name == ".." || name.starts_with('/') || (cfg!(windows) && name.starts_with('\\')) {
                return Err(PathError::Escapes(excerpt(&format!("{path}/{name}"))));
            }
            if name.contains('\0') {
                return Err(PathError::Nul(excerpt(&format!("{path}/{name}"))));
            }
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(PathError::TooDeep(excerpt(&path)));
            }
            if depth > 1 {
                path.push('/');
            }
            path.push_str(&cut(&harmless(&name)));
            if path.len() > PATH_LEN_MAX {
                return Err(PathError::TooLong(excerpt(&path)));
            }
        }
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        Ok(Self(path.into()))
    }

    /// Relative to the download folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// The components with `/` between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.split().1
    }

    /// The folders with the `/` after them, and the last component.
    fn split(&self) -> (&str, &str) {
        let name = self.0.rfind('/').map_or(0, |slash| slash + 1);
        self.0.split_at(name)
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Renames files until no two paths are the same and no file is where another needs a folder.
///
/// The first file of a name keeps it, unless it is a folder of others; the rest get a number before
/// the extension: `a.txt`, `a.1.txt`. The result depends on nothing but the paths and their order,
/// and the work is in proportion to their number, save for the sorting.
pub fn resolve_collisions(paths: &mut [&mut SafePath]) {
    for (at, path) in renames(paths) {
        *paths[at] = path;
    }
}

/// New paths for those that must yield, by their place.
fn renames(paths: &[&mut SafePath]) -> Vec<(usize, SafePath)> {
    let keys: Vec<Cow<'_, str>> = paths.iter().map(|path| folded(&path.0)).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| compare(&keys[a], &keys[b]).then(a.cmp(&b)));
    let mut renamer = Renamer {
        keys: &keys,
        order: &order,
        given: BTreeSet::new(),
        next: BTreeMap::new(),
    };
    let mut renamed = Vec::new();
    let mut rest = &order[..];
    while let [first, ..] = *rest {
        let same = rest.partition_point(|&at| keys[at] == keys[first]);
        let (group, after) = rest.split_at(same);
        let is_folder = after
            .first()
            .is_some_and(|&at| is_inside(&keys[at], &keys[first]));
        let keeps = usize::from(!is_folder);
        let yielding = group[keeps..].iter();
        renamed.extend(yielding.map(|&at| (at, renamer.rename(paths[at]))));
        rest = after;
    }
    renamed
}

struct Renamer<'a> {
    keys: &'a [Cow<'a, str>],
    /// The places of `keys`, sorted.
    order: &'a [usize],
    given: BTreeSet<String>,
    /// The number to try next for what is left and right of it. One counter serves all names that
    /// are cut to the same text, or many such names would try each other's numbers again and again.
    next: BTreeMap<(String, String), u32>,
}

impl Renamer<'_> {
    fn rename(&mut self, path: &SafePath) -> SafePath {
        let (folders, name) = path.split();
        let (stem, extension) = stem_and_extension(name);
        let room = COMPONENT_LEN_MAX - NUMBER_LEN_MAX - extension.len();
        let left = format!("{folders}{}", &stem[..floor_char_boundary(stem, room)]);
        let pattern = (folded(&left).into_owned(), folded(extension).into_owned());
        let mut number = self.next.get(&pattern).copied().unwrap_or(1);
        let candidate = loop {
            let candidate = format!("{left}.{number}{extension}");
            number += 1;
            if self.is_free(&folded(&candidate)) {
                break candidate;
            }
        };
        self.next.insert(pattern, number);
        self.given.insert(folded(&candidate).into_owned());
        SafePath(candidate.into())
    }

    fn is_free(&self, key: &str) -> bool {
        let at = self
            .order
            .partition_point(|&at| compare(&self.keys[at], key) == Ordering::Less);
        let neighbour = self.order.get(at).map(|&at| &*self.keys[at]);
        let in_the_way = neighbour.is_some_and(|found| found == key || is_inside(found, key));
        !in_the_way && !self.given.contains(key)
    }
}

/// By components, so that what a folder contains follows it directly.
fn compare(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// What the file system of this platform takes for the same name.
fn folded(path: &str) -> Cow<'_, str> {
    if cfg!(any(windows, target_os = "macos")) {
        Cow::Owned(path.to_lowercase())
    } else {
        Cow::Borrowed(path)
    }
}

fn harmless(name: &str) -> Cow<'_, str> {
    if cfg!(windows) {
        Cow::Owned(harmless_on_windows(name))
    } else if name.contains('/') {
        Cow::Owned(name.replace('/', "_"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Windows has reserved characters, drops dots and spaces at the end, and opens devices by name.
fn harmless_on_windows(name: &str) -> String {
    let reserved = |c: char| c == '/' || c.is_control() || WINDOWS_RESERVED.contains(c);
    let mut name = name.replace(reserved, "_");
    if name.ends_with(['.', ' ']) {
        name.push('_');
    }
    let stem = name.split('.').next().unwrap_or_default().to_uppercase();
    let numbered = |prefix| {
        stem.strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.len() == 1 && rest != "0")
    };
    let is_device = matches!(stem.trim_end(), "CON" | "PRN" | "AUX" | "NUL");
    if is_device || numbered("COM") || numbered("LPT") {
        name.insert(0, '_');
    }
    name
}

/// At most [`COMPONENT_LEN_MAX`] bytes of the name, its extension among them.
fn cut(name: &str) -> Cow<'_, str> {
    if name.len() <= COMPONENT_LEN_MAX {
        return Cow::Borrowed(name);
    }
    let (stem, extension) = stem_and_extension(name);
    let end = floor_char_boundary(stem, COMPONENT_LEN_MAX - extension.len());
    Cow::Owned(format!("{}{extension}", &stem[..end]))
}

/// The extension with its dot, or nothing.
fn stem_and_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_LEN_MAX => name.split_at(dot),
        Some(_) | None => (name, ""),
    }
}

fn floor_char_boundary(text: &str, at_most: usize) -> usize {
    let end = at_most.min(text.len());
    (0..=end)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// The beginning of a path, short enough for an error message.
fn excerpt(path: &str) -> String {
    path.trim_start_matches('/').chars().take(100).collect()
}

#[cfg(test)]
mod tests;
