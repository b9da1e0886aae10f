//! What storage needs to know of a torrent: its layout, its digests and the name of every file
//! while it is unfinished and when it is complete.
//!
//! All names differ from each other and from every folder of the torrent, whatever its files are
//! called: a torrent may hold both `a` and `a.part`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_metainfo::{Bitfield, InfoHash, Layout, Sha1Digest};

#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) info_hash: InfoHash,
    pub(crate) layout: Arc<Layout>,
    pub(crate) digests: Arc<[Sha1Digest]>,
    pub(crate) files: Vec<ContentFile>,
}

#[derive(Clone, Debug)]
pub(crate) struct ContentFile {
    /// Below the download folder.
    pub(crate) path: PathBuf,
    /// The same while the file is unfinished.
    pub(crate) part: PathBuf,
    pub(crate) len: u64,
    /// Pads and symbolic links are part of a torrent but never on the disk.
    pub(crate) stored: bool,
    pub(crate) executable: bool,
}

/// A file as the torrent describes it.
#[derive(Clone, Debug)]
pub(crate) struct FileSpec {
    pub(crate) path: PathBuf,
    pub(crate) stored: bool,
    pub(crate) executable: bool,
}

impl Content {
    /// `files` are those of the layout, in its order.
    pub(crate) fn new(
        info_hash: InfoHash,
        layout: Arc<Layout>,
        digests: Arc<[Sha1Digest]>,
        files: Vec<FileSpec>,
    ) -> Self {
        debug_assert_eq!(files.len(), layout.files());
        debug_assert_eq!(digests.len(), layout.pieces() as usize);
        let parts = part_names(&files);
        let files = files
            .into_iter()
            .zip(parts)
            .enumerate()
            .map(|(index, (file, part))| ContentFile {
                path: file.path,
                part,
                len: layout.file_len(index),
                stored: file.stored && !layout.is_pad_file(index),
                executable: file.executable,
            })
            .collect();
        Self {
            info_hash,
            layout,
            digests,
            files,
        }
    }

    /// The one file or the folder that everything is in.
    pub(crate) fn root(&self) -> PathBuf {
        let first = self.files.first().map(|file| file.path.as_path());
        first
            .and_then(|path| path.components().next())
            .map(|name| PathBuf::from(name.as_os_str()))
            .unwrap_or_default()
    }

    /// The final path below the download folder; `None` for what is never on the disk.
    pub(crate) fn stored_path(&self, file: usize) -> Option<&Path> {
        let spec = self.files.get(file)?;
        spec.stored.then_some(spec.path.as_path())
    }

    /// Whether any of the pieces that the file needs is in the set.
    pub(crate) fn holds_any(&self, pieces: &Bitfield, file: usize) -> bool {
        let mut needed = self.layout.file_pieces(file);
        needed.any(|piece| pieces.get(piece))
    }

    /// Whether all of them are: true for an empty file.
    pub(crate) fn holds_all(&self, pieces: &Bitfield, file: usize) -> bool {
        let mut needed = self.layout.file_pieces(file);
        needed.all(|piece| pieces.get(piece))
    }

    /// Whether the torrent is one file rather than a folder.
    pub(crate) fn is_single_file(&self) -> bool {
        self.files.len() == 1 && self.files[0].path.components().count() == 1
    }
}

/// The unfinished names. A suffix is taken that makes no name meet another.
fn part_names(files: &[FileSpec]) -> Vec<PathBuf> {
    let taken: BTreeSet<&Path> = files
        .iter()
        .flat_map(|file| file.path.ancestors())
        .collect();
    let free = |suffix: &str| {
        let mut seen = BTreeSet::new();
        let parts: Vec<PathBuf> = files
            .iter()
            .enumerate()
            .map(|(index, file)| part_name(&file.path, suffix, index))
            .collect();
        let all_differ = parts
            .iter()
            .all(|part| !taken.contains(part.as_path()) && seen.insert(part.clone()));
        all_differ.then_some(parts)
    };
    // Each suffix that meets a name uses up a different name, so this ends.
    let numbered = (2u32..).map(|number| format!(".part{number}"));
    std::iter::once(String::from(".part"))
        .chain(numbered)
        .find_map(|suffix| free(&suffix))
        .expect("there are more suffixes than files")
}

fn part_name(path: &Path, suffix: &str, index: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut part = name.as_bytes().to_vec();
    if part.len() + suffix.len() > NAME_LEN_MAX {
        let mark = format!("~{index}");
        part = match name.to_str() {
            Some(name) => {
                let keep = NAME_LEN_MAX - suffix.len() - mark.len();
                name.as_bytes()[..name.floor_char_boundary(keep)].to_vec()
            }
            None => Vec::new(),
        };
        part.extend_from_slice(mark.as_bytes());
    }
    part.extend_from_slice(suffix.as_bytes());
    path.with_file_name(OsString::from_vec(part))
}

/// Longest name in a folder, in bytes, on every usual file system.
const NAME_LEN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(paths: &[&str]) -> Vec<String> {
        let files: Vec<FileSpec> = paths
            .iter()
            .map(|path| FileSpec {
                path: path.into(),
                stored: true,
                executable: false,
            })
            .collect();
        let parts = part_names(&files);
        let mut all: BTreeSet<PathBuf> = paths.iter().map(PathBuf::from).collect();
        all.extend(parts.iter().cloned());
        assert_eq!(all.len(), 2 * paths.len(), "names meet: {parts:?}");
        parts
            .into_iter()
            .map(|part| part.into_os_string().into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_unfinished_file_carries_the_suffix() {
        assert_eq!(
            parts(&["t/a", "t/sub/b.iso"]),
            ["t/a.part", "t/sub/b.iso.part"]
        );
    }

    #[test]
    fn a_torrent_that_holds_part_names_itself_gets_another_suffix() {
        assert_eq!(parts(&["t/a", "t/a.part"]), ["t/a.part2", "t/a.part.part2"]);
        assert_eq!(
            parts(&["t/a", "t/a.part/b"]),
            ["t/a.part2", "t/a.part/b.part2"]
        );
        parts(&["t/a", "t/a.part", "t/a.part2", "t/a.part.part3"]);
    }

    #[test]
    fn a_name_of_full_length_is_shortened_at_a_character() {
        let (one, two) = ("é".repeat(127), format!("{}x", "é".repeat(127)));
        let parts = parts(&[&format!("t/{one}"), &format!("t/{two}")]);
        for part in parts {
            assert!(part.ends_with(".part"));
            assert!(part.len() <= 2 + NAME_LEN_MAX);
        }
    }
}
