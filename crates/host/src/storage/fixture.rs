//! A small torrent with known bytes in a temporary folder, for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dunlin_hash::sha1;
use dunlin_metainfo::{FileSpan, InfoHash, Layout, Sha1Digest};

use crate::check::Checking;

use super::content::{Content, FileSpec};
use super::prepare::prepare_content;
use super::{PrepareMode, PrepareOptions, Prepared, StorageError};

pub(crate) struct Fixture {
    /// Removed with the fixture; `None` if the folder is somebody else's.
    _temp: Option<tempfile::TempDir>,
    top: PathBuf,
    pub(crate) content: Content,
    /// Everything, pads included.
    pub(crate) bytes: Vec<u8>,
    piece_len: usize,
}

/// A path that holds this is padding.
const PAD: &str = ".pad/";

impl Fixture {
    pub(crate) fn new(piece_len: u32, files: &[(&str, usize)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let fixture = Self::at(temp.path(), piece_len, files);
        Self {
            _temp: Some(temp),
            ..fixture
        }
    }

    /// The same in a folder that exists and stays.
    pub(crate) fn at(top: &Path, piece_len: u32, files: &[(&str, usize)]) -> Self {
        let is_pad = |path: &str| path.contains(PAD);
        let mut bytes = Vec::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for &(path, len) in files {
            bytes.extend((0..len).map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                if is_pad(path) { 0 } else { seed as u8 }
            }));
        }
        let spans = files.iter().map(|&(path, len)| FileSpan {
            len: len as u64,
            pad: is_pad(path),
        });
        let layout = Layout::new(u64::from(piece_len), spans).unwrap();
        let digests: Arc<[Sha1Digest]> = bytes.chunks(piece_len as usize).map(sha1).collect();
        let specs = files
            .iter()
            .map(|&(path, _)| FileSpec {
                path: path.into(),
                stored: !is_pad(path),
                executable: path.ends_with(".sh"),
            })
            .collect();
        Self {
            _temp: None,
            top: top.to_path_buf(),
            content: Content::new(InfoHash::new([7; 20]), Arc::new(layout), digests, specs),
            bytes,
            piece_len: piece_len as usize,
        }
    }

    /// The download folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.top.join("in")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.top.join("outside")
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir().join(relative)
    }

    pub(crate) fn piece(&self, piece: u32) -> &[u8] {
        let start = piece as usize * self.piece_len;
        &self.bytes[start..self.bytes.len().min(start + self.piece_len)]
    }

    pub(crate) fn file(&self, file: usize) -> &[u8] {
        let layout = &self.content.layout;
        let start: u64 = (0..file).map(|before| layout.file_len(before)).sum();
        &self.bytes[start as usize..(start + layout.file_len(file)) as usize]
    }

    /// Puts bytes where a file of the torrent belongs.
    pub(crate) fn put(&self, relative: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts every file there, complete and with its final name.
    pub(crate) fn put_all(&self) {
        for (file, spec) in self.content.files.iter().enumerate() {
            if spec.stored {
                self.put(spec.path.to_str().unwrap(), self.file(file));
            }
        }
    }

    pub(crate) fn prepare(
        &self,
        mode: PrepareMode,
        wanted: &[bool],
    ) -> Result<Prepared, StorageError> {
        let options = PrepareOptions {
            mode,
            wanted: wanted.to_vec(),
            threads: 2,
        };
        patiently(&mut || {
            let checking = Checking {
                threads: 2,
                progress: &mut |_| {},
                cancel: &AtomicBool::new(false),
            };
            prepare_content(self.content.clone(), &self.dir(), &options, checking)
        })
    }

    pub(crate) fn download(&self) -> Result<Prepared, StorageError> {
        self.prepare(PrepareMode::Download { overwrite: false }, &[])
    }

    pub(crate) fn overwrite(&self) -> Result<Prepared, StorageError> {
        self.prepare(PrepareMode::Download { overwrite: true }, &[])
    }

    /// Names of everything in the download folder, files with their sizes.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(&self.dir(), Path::new(""), &mut names);
        names.sort();
        names
    }

    /// The same without our hidden files.
    pub(crate) fn visible(&self) -> Vec<String> {
        let mut names = self.listing();
        names.retain(|name| !name.starts_with('.'));
        names
    }
}

fn list(top: &Path, relative: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(top.join(relative)).unwrap() {
        let entry = entry.unwrap();
        let name = relative.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            list(top, &name, names);
        } else {
            let len = entry.metadata().unwrap().len();
            names.push(format!("{} {len}", name.display()));
        }
    }
}

/// A test beside this one may start a process, which holds all our descriptors, and the locks on
/// them, from its fork until its exec.
pub(crate) fn patiently(
    prepare: &mut dyn FnMut() -> Result<Prepared, StorageError>,
) -> Result<Prepared, StorageError> {
    for _ in 0..50 {
        match prepare() {
            Err(StorageError::Locked { .. }) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            result => return result,
        }
    }
    prepare()
}
