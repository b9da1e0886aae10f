//! Hashing what lies on the disk: is it what the torrent says, or what shall a torrent say?
//!
//! Several threads take piece after piece; each reads 1 MiB at a time, so that memory does not
//! grow with the torrent. Nothing is ever written here. Missing and short files make their pieces
//! bad; only what the system refuses to read is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use dunlin_engine::event::DiskError;
use dunlin_hash::Sha1;
use dunlin_metainfo::{Bitfield, FileSpan, Layout, LayoutError, PieceIndex, Sha1Digest, Slice};

use crate::storage::error::{changed, disk_error, other};

/// How far a check is, in payload bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckProgress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    #[error("interrupted")]
    Cancelled,
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What of a torrent is right, file by file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckReport {
    pub ok_pieces: u32,
    pub bad_pieces: u32,
    /// In the torrent's order, without what is never on the disk.
    pub files: Vec<FileReport>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileReport {
    /// Below the download folder.
    pub path: PathBuf,
    pub bytes: u64,
    /// Bytes in pieces that verified.
    pub ok_bytes: u64,
}

/// Where the bytes of a torrent's files are.
pub(crate) trait Source: Sync {
    /// Opens the file for reading; `None` if it is not there.
    fn open(&self, file: usize) -> Result<Option<File>, DiskError>;
    /// For messages.
    fn path(&self, file: usize) -> PathBuf;
}

/// How to go about it: how many threads, whom to tell, when to stop.
pub(crate) struct Checking<'a> {
    pub(crate) threads: usize,
    pub(crate) progress: &'a mut dyn FnMut(CheckProgress),
    pub(crate) cancel: &'a AtomicBool,
}

/// Which of `pieces` are right.
pub(crate) fn check(
    layout: &Layout,
    digests: &[Sha1Digest],
    source: &dyn Source,
    pieces: &Bitfield,
    checking: &mut Checking<'_>,
) -> Result<Bitfield, CheckError> {
    let pieces: Vec<PieceIndex> = pieces
        .iter_ones()
        .filter_map(|piece| layout.piece(piece))
        .collect();
    let hashed = hash_pieces(layout, source, &pieces, checking)?;
    let mut right = Bitfield::new(layout.pieces());
    for (piece, digest) in hashed {
        if digest.is_some() && digest.as_ref() == digests.get(piece.index()) {
            right.set(piece.get());
        }
    }
    Ok(right)
}

/// The digests of all pieces of a torrent that is to be: `paths` and `lens` are its files, without
/// padding. A file that changes size meanwhile is an error.
pub fn hash_files(
    paths: &[PathBuf],
    lens: &[u64],
    piece_len: u32,
    threads: usize,
    progress: &mut dyn FnMut(CheckProgress),
    cancel: &AtomicBool,
) -> Result<Vec<Sha1Digest>, CheckError> {
    debug_assert_eq!(paths.len(), lens.len());
    let spans = lens.iter().map(|&len| FileSpan { len, pad: false });
    let layout = Layout::new(u64::from(piece_len), spans)?;
    let source = Paths { paths, lens };
    let pieces: Vec<PieceIndex> = layout.all_pieces().collect();
    let mut checking = Checking {
        threads,
        progress,
        cancel,
    };
    let mut hashed = hash_pieces(&layout, &source, &pieces, &mut checking)?;
    for (path, &len) in paths.iter().zip(lens) {
        let meta = std::fs::metadata(path).map_err(|error| disk_error(path, &error))?;
        same_size(path, len, meta.len())?;
    }
    hashed.sort_unstable_by_key(|&(piece, _)| piece);
    hashed
        .into_iter()
        .map(|(piece, digest)| digest.ok_or_else(|| shrunk(&layout, paths, piece).into()))
        .collect()
}

/// Sums up which files a set of right pieces makes right. `path` is `None` for files that are
/// never on the disk.
pub(crate) fn report<'a>(
    layout: &Layout,
    right: &Bitfield,
    path: impl Fn(usize) -> Option<&'a Path>,
) -> CheckReport {
    let mut ok_bytes = vec![0; layout.files()];
    for piece in right.iter_ones().filter_map(|piece| layout.piece(piece)) {
        for slice in layout.slices(piece, 0, layout.piece_len(piece)) {
            match slice {
                Slice::File { file, len, .. } => ok_bytes[file] += u64::from(len),
                Slice::Pad { .. } => {}
            }
        }
    }
    let files = ok_bytes
        .into_iter()
        .enumerate()
        .filter_map(|(file, ok_bytes)| {
            Some(FileReport {
                path: path(file)?.to_path_buf(),
                bytes: layout.file_len(file),
                ok_bytes,
            })
        })
        .collect();
    CheckReport {
        ok_pieces: right.count_ones(),
        bad_pieces: right.len() - right.count_ones(),
        files,
    }
}

struct Paths<'a> {
    paths: &'a [PathBuf],
    lens: &'a [u64],
}

impl Source for Paths<'_> {
    fn open(&self, file: usize) -> Result<Option<File>, DiskError> {
        let (path, len) = (&self.paths[file], self.lens[file]);
        let told = |error: io::Error| disk_error(path, &error);
        let opened = File::open(path).map_err(told)?;
        same_size(path, len, opened.metadata().map_err(told)?.len())?;
        Ok(Some(opened))
    }

    fn path(&self, file: usize) -> PathBuf {
        self.paths[file].clone()
    }
}

fn same_size(path: &Path, expected: u64, found: u64) -> Result<(), DiskError> {
    if found == expected {
        return Ok(());
    }
    let message = format!("changed while it was read: {expected} bytes before, {found} now");
    Err(changed(path, message))
}

/// A piece could not be read to its end although its files had the right sizes.
fn shrunk(layout: &Layout, paths: &[PathBuf], piece: PieceIndex) -> DiskError {
    match layout.piece_files(piece).next() {
        Some(file) => changed(&paths[file], "changed while it was read"),
        None => other(Path::new("."), format!("piece {piece} has no bytes")),
    }
}

type Hashed = Vec<(PieceIndex, Option<Sha1Digest>)>;

/// Hashes the pieces, in no order. `None` for one that is not there in full.
fn hash_pieces(
    layout: &Layout,
    source: &dyn Source,
    pieces: &[PieceIndex],
    checking: &mut Checking<'_>,
) -> Result<Hashed, CheckError> {
    let total_bytes = pieces
        .iter()
        .map(|&piece| u64::from(layout.piece_len(piece)))
        .sum();
    let work = Work {
        layout,
        source,
        pieces,
        next: AtomicUsize::new(0),
        done_bytes: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let threads = checking.threads.clamp(1, THREADS_MAX).min(pieces.len());
    let mut hashed = Vec::with_capacity(pieces.len());
    std::thread::scope(|scope| {
        let (done, results) = mpsc::channel();
        for _ in 0..threads {
            let (work, done) = (&work, done.clone());
            scope.spawn(move || done.send(work.run()));
        }
        drop(done);
        loop {
            match results.recv_timeout(PROGRESS_INTERVAL) {
                Ok(result) => hashed.extend(result),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if checking.cancel.load(Ordering::Relaxed) {
                work.stopped.store(true, Ordering::Relaxed);
            }
            (checking.progress)(CheckProgress {
                done_bytes: work.done_bytes.load(Ordering::Relaxed),
                total_bytes,
            });
        }
    });
    if let Some(error) = work.failure.into_inner().unwrap_or_default() {
        return Err(error.into());
    }
    if checking.cancel.load(Ordering::Relaxed) {
        return Err(CheckError::Cancelled);
    }
    Ok(hashed)
}

/// What the threads share.
struct Work<'a> {
    layout: &'a Layout,
    source: &'a dyn Source,
    pieces: &'a [PieceIndex],
    next: AtomicUsize,
    done_bytes: AtomicU64,
    stopped: AtomicBool,
    failure: Mutex<Option<DiskError>>,
}

impl Work<'_> {
    fn run(&self) -> Hashed {
        let mut reader = PieceReader {
            work: self,
            open: None,
            buf: vec![0; READ_LEN],
        };
        let mut hashed = Vec::new();
        while let Some(&piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match reader.hash(piece) {
                _ if self.stopped.load(Ordering::Relaxed) => break,
                Ok(digest) => hashed.push((piece, digest)),
                Err(error) => {
                    self.stopped.store(true, Ordering::Relaxed);
                    if let Ok(mut failure) = self.failure.lock() {
                        failure.get_or_insert(error);
                    }
                    break;
                }
            }
        }
        hashed
    }
}

struct PieceReader<'a> {
    work: &'a Work<'a>,
    /// The file of the last read: pieces come in order, so the next is mostly the same.
    open: Option<(usize, Option<File>)>,
    buf: Vec<u8>,
}

impl PieceReader<'_> {
    /// `None` if the piece is not there in full, or the work was stopped.
    fn hash(&mut self, piece: PieceIndex) -> Result<Option<Sha1Digest>, DiskError> {
        let layout = self.work.layout;
        let piece_len = layout.piece_len(piece);
        let mut hash = Sha1::new();
        let mut hashed = 0;
        for slice in layout.slices(piece, 0, piece_len) {
            let (len, whole) = match slice {
                Slice::Pad { len } => {
                    zeros(&mut hash, len);
                    (len, true)
                }
                Slice::File { file, offset, len } => {
                    (len, self.hash_slice(&mut hash, file, offset, len)?)
                }
            };
            if !whole {
                self.count(piece_len - hashed);
                return Ok(None);
            }
            self.count(len);
            hashed += len;
        }
        Ok(Some(hash.finish()))
    }

    /// False if the file ends before the slice does.
    fn hash_slice(
        &mut self,
        hash: &mut Sha1,
        file: usize,
        mut offset: u64,
        len: u32,
    ) -> Result<bool, DiskError> {
        if self.open.as_ref().is_none_or(|&(open, _)| open != file) {
            self.open = Some((file, self.work.source.open(file)?));
        }
        let Some((_, Some(opened))) = &self.open else {
            return Ok(false);
        };
        let mut left = len as usize;
        while left > 0 {
            if self.work.stopped.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let want = left.min(self.buf.len());
            match opened.read_at(&mut self.buf[..want], offset) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    hash.update(&self.buf[..read]);
                    left -= read;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(disk_error(&self.work.source.path(file), &error)),
            }
        }
        Ok(true)
    }

    fn count(&self, bytes: u32) {
        self.work
            .done_bytes
            .fetch_add(u64::from(bytes), Ordering::Relaxed);
    }
}

/// Hashes `len` zeros, which no file holds (BEP 47).
pub(crate) fn zeros(hash: &mut Sha1, len: u32) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut left = len as usize;
    while left > 0 {
        let part = left.min(ZEROS.len());
        hash.update(&ZEROS[..part]);
        left -= part;
    }
}

/// Bytes that a thread reads at a time: more wins nothing (datapath.md, 2).
const READ_LEN: usize = 1024 * 1024;
/// More threads than this only make the disk seek.
const THREADS_MAX: usize = 64;
/// Time between two calls of the progress function.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
