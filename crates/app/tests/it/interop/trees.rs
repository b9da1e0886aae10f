//! Data to share: made from a seed, compared by SHA-256.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dunlin_proto::rng::Rng;
use sha2::{Digest, Sha256};

/// Bytes of random data that are repeated in a file, each time with a new stamp.
const PATTERN_BYTES: usize = 1 << 20;

/// Distance between two stamps: no two blocks of a file are the same.
const STAMP_INTERVAL: usize = 4 << 10;

/// Random bytes that are cheap to make: no two blocks are the same.
#[derive(Debug)]
pub struct Data {
    pattern: Vec<u8>,
    stamp: u64,
}

impl Data {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let words = PATTERN_BYTES / 8;
        let pattern = (0..words)
            .flat_map(|_| rng.next_u64().to_le_bytes())
            .collect();
        Self {
            pattern,
            stamp: seed << 32,
        }
    }

    /// Writes a file, and the folders above it.
    pub fn file(&mut self, path: &Path, len: u64) {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).unwrap();
        let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut left = len;
        while left > 0 {
            let some = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(PATTERN_BYTES);
            file.write_all(self.next(some)).unwrap();
            left -= some as u64;
        }
    }

    /// Writes `len` bytes into a file, at `offset`.
    pub fn patch(&mut self, file: &File, offset: u64, len: usize) {
        file.write_all_at(self.next(len), offset).unwrap();
    }

    fn next(&mut self, len: usize) -> &[u8] {
        let some = &mut self.pattern[..len];
        for block in some.chunks_mut(STAMP_INTERVAL) {
            self.stamp += 1;
            let stamp = self.stamp.to_le_bytes();
            let count = stamp.len().min(block.len());
            block[..count].copy_from_slice(&stamp[..count]);
        }
        some
    }
}

/// A thousand files: every tenth is empty, sizes straddle blocks and pieces, names are of many
/// scripts, folders are up to four deep.
pub fn thousand_files(root: &Path, seed: u64) {
    const FOLDERS: [&str; 6] = [
        "",
        "b",
        "sub folder",
        "sub folder/ünïcödé",
        "日本語/中文/한국어",
        "deep/er/still/дно",
    ];
    const STEMS: [&str; 5] = [
        "plain",
        "with space",
        "e\u{301}te\u{301}",
        "птица",
        "dunlin-🐦",
    ];
    let mut rng = Rng::new(seed);
    let mut data = Data::new(seed);
    for index in 0..1_000 {
        let folder = FOLDERS[index % FOLDERS.len()];
        let stem = STEMS[index % STEMS.len()];
        let len = match index % 10 {
            0 => 0,
            1 => 16_384,
            2 => 1 + rng.below(200_000),
            _ => rng.below(30_000),
        };
        data.file(
            &root.join(folder).join(format!("{stem} {index:04}.bin")),
            len,
        );
    }
}

/// SHA-256 of every file below `root`, by its path from there. Folders do not count.
pub fn digests(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut digests = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path
                    .strip_prefix(root)
                    .expect("it is below its root")
                    .to_owned();
                digests.insert(below, sha256(&path));
            }
        }
    }
    digests
}

/// Every file of `original` is in `copy`, with the same bytes, and nothing else is.
pub fn assert_same(original: &Path, copy: &Path) {
    let (original, copy) = (digests_of(original), digests_of(copy));
    let missing: Vec<_> = original
        .keys()
        .filter(|path| !copy.contains_key(*path))
        .collect();
    let added: Vec<_> = copy
        .keys()
        .filter(|path| !original.contains_key(*path))
        .collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "missing {missing:?}, added {added:?}"
    );
    let differ: Vec<_> = original
        .keys()
        .filter(|path| original[*path] != copy[*path])
        .collect();
    assert!(differ.is_empty(), "different: {differ:?}");
}

fn digests_of(path: &Path) -> BTreeMap<PathBuf, String> {
    if path.is_dir() {
        digests(path)
    } else {
        BTreeMap::from([(PathBuf::new(), sha256(path))])
    }
}

pub fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = Sha256::new();
    let mut some = vec![0; PATTERN_BYTES];
    loop {
        match file.read(&mut some) {
            Ok(0) => break,
            Ok(count) => hasher.update(&some[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    hex(hasher)
}

/// SHA-256 of a file that is nearly all zeros: of its length, and of every stretch that is not
/// zero, with its offset. Holes are not read.
pub fn sparse_sha256(path: &Path) -> String {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let len = file.metadata().unwrap().len();
    let mut hasher = Sha256::new();
    hasher.update(len.to_le_bytes());
    let zeros = vec![0; PATTERN_BYTES];
    let mut some = zeros.clone();
    let step = PATTERN_BYTES as u64;
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        let start = data / step * step;
        let count = usize::try_from((len - start).min(step)).unwrap();
        file.read_exact_at(&mut some[..count], start).unwrap();
        if some[..count] != zeros[..count] {
            hasher.update(start.to_le_bytes());
            hasher.update(&some[..count]);
        }
        at = start + step;
    }
    hex(hasher)
}

fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A file of `len` bytes that are all zero, without space on the disk.
pub fn sparse(path: &Path, len: u64) -> File {
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    file.set_len(len).unwrap();
    file
}
