//! The open files of one worker, and reads and writes of blocks over them.
//!
//! At most a fixed number is open, the one that was used longest ago is closed first. Whether the
//! name still stands for the open file is asked again every ten seconds.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::time::{Duration, Instant};

use dunlin_engine::event::{DiskError, TorrentKey};
use dunlin_metainfo::{BLOCK_LEN, PieceIndex, Slice};
use rustix::io::{Errno, preadv, pwritev};
use rustix::process::{Resource, getrlimit};

use crate::storage::Storage;
use crate::storage::error::{changed, disk_error, write_error};

#[derive(Debug)]
pub(super) struct Files {
    open: Vec<OpenFile>,
    max: usize,
    /// Counts uses, to find the oldest.
    uses: u64,
}

#[derive(Debug)]
struct OpenFile {
    torrent: TorrentKey,
    file: usize,
    handle: File,
    is_writable: bool,
    used: u64,
    looked_at: Instant,
}

/// How many files one of `workers` may hold open: together far below what the process may.
pub(super) fn share(workers: usize) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = usize::try_from(allowed / 4).unwrap_or(usize::MAX);
    (allowed.min(OPEN_FILES_MAX) / workers).max(1)
}

impl Files {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: Vec::new(),
            max,
            uses: 0,
        }
    }

    pub(super) fn close_all_of(&mut self, torrent: TorrentKey) {
        self.open.retain(|open| open.torrent != torrent);
    }

    /// Writes consecutive blocks of a piece. Padding is not written.
    pub(super) fn write(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        piece: PieceIndex,
        blocks: &Range<u16>,
        bytes: &[&[u8]],
    ) -> Result<(), DiskError> {
        let offset = u32::from(blocks.start) * BLOCK_LEN;
        let len = bytes.iter().map(|part| part.len() as u32).sum();
        let mut rest = bytes.iter().copied();
        let mut current: &[u8] = &[];
        for slice in storage.content().layout.slices(piece, offset, len) {
            let (Slice::File { len, .. } | Slice::Pad { len }) = slice;
            let mut parts = Vec::new();
            let mut left = len as usize;
            while left > 0 {
                if current.is_empty() {
                    current = rest.next().expect("the slices are as long as the blocks");
                }
                let (part, after) = current.split_at(left.min(current.len()));
                left -= part.len();
                current = after;
                parts.push(IoSlice::new(part));
            }
            if let Slice::File { file, offset, len } = slice {
                self.write_file(torrent, storage, file, offset, u64::from(len), &mut parts)?;
            }
        }
        Ok(())
    }

    fn write_file(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        file: usize,
        mut offset: u64,
        len: u64,
        mut parts: &mut [IoSlice<'_>],
    ) -> Result<(), DiskError> {
        let handle = self.handle(torrent, storage, file, Use::Write)?;
        let end = offset + len;
        let told = |errno: Errno| write_error(&storage.current_path(file), &errno.into(), len);
        while offset < end {
            let batch = parts.len().min(VECTORS_MAX);
            match pwritev(handle, &parts[..batch], offset) {
                Ok(0) => return Err(told(Errno::IO)),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(told(errno)),
            }
        }
        storage.on_written(file, end);
        Ok(())
    }

    /// Reads consecutive blocks of a piece, from `offset` in it. Padding reads as zeros.
    pub(super) fn read(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        piece: PieceIndex,
        offset: u32,
        bufs: Vec<&mut [u8]>,
    ) -> Result<(), DiskError> {
        let len = bufs.iter().map(|buf| buf.len() as u32).sum();
        let mut rest = bufs.into_iter();
        let mut current: &mut [u8] = &mut [];
        for slice in storage.content().layout.slices(piece, offset, len) {
            let (Slice::File { len, .. } | Slice::Pad { len }) = slice;
            let mut parts = Vec::new();
            let mut left = len as usize;
            while left > 0 {
                if current.is_empty() {
                    current = rest.next().expect("the slices are as long as the buffers");
                }
                let here = left.min(current.len());
                let (part, after) = std::mem::take(&mut current).split_at_mut(here);
                left -= part.len();
                current = after;
                parts.push(IoSliceMut::new(part));
            }
            match slice {
                Slice::File { file, offset, len } => {
                    self.read_file(torrent, storage, file, offset, len, &mut parts)?;
                }
                Slice::Pad { .. } => parts.iter_mut().for_each(|part| part.fill(0)),
            }
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        file: usize,
        mut offset: u64,
        len: u32,
        mut parts: &mut [IoSliceMut<'_>],
    ) -> Result<(), DiskError> {
        let handle = self.handle(torrent, storage, file, Use::Read)?;
        let end = offset + u64::from(len);
        while offset < end {
            let batch = parts.len().min(VECTORS_MAX);
            match preadv(handle, &mut parts[..batch], offset) {
                Ok(0) => {
                    let message =
                        format!("ends at {offset}, where {} bytes should be", end - offset);
                    return Err(changed(&storage.current_path(file), message));
                }
                Ok(read) => {
                    offset += read as u64;
                    IoSliceMut::advance_slices(&mut parts, read);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(disk_error(&storage.current_path(file), &errno.into())),
            }
        }
        Ok(())
    }

    fn handle(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        file: usize,
        wanted: Use,
    ) -> Result<&File, DiskError> {
        self.uses += 1;
        let known = self.open.iter().position(|open| {
            open.torrent == torrent
                && open.file == file
                && (open.is_writable || wanted == Use::Read)
        });
        let at = match known {
            Some(at) => {
                if self.open[at].looked_at.elapsed() >= LOOK_INTERVAL {
                    if let Err(error) = storage.revisit(file) {
                        self.open.swap_remove(at);
                        return Err(error);
                    }
                    self.open[at].looked_at = Instant::now();
                }
                at
            }
            None => self.open_file(torrent, storage, file, wanted)?,
        };
        let open = &mut self.open[at];
        open.used = self.uses;
        Ok(&open.handle)
    }

    fn open_file(
        &mut self,
        torrent: TorrentKey,
        storage: &Storage,
        file: usize,
        wanted: Use,
    ) -> Result<usize, DiskError> {
        // A handle that can only read gives way to one that can also write.
        self.open
            .retain(|open| open.torrent != torrent || open.file != file);
        while self.open.len() >= self.max {
            let oldest = (0..self.open.len()).min_by_key(|&at| self.open[at].used);
            if let Some(oldest) = oldest {
                self.open.swap_remove(oldest);
            }
        }
        let open = || match wanted {
            Use::Read => storage.open_read(file),
            Use::Write => storage.open_write(file),
        };
        let handle = match open() {
            // Perhaps the process has no descriptor left: give back ours and try once more.
            Err(_) if !self.open.is_empty() => {
                self.open.clear();
                open()?
            }
            opened => opened?,
        };
        self.open.push(OpenFile {
            torrent,
            file,
            handle,
            is_writable: wanted == Use::Write,
            used: self.uses,
            looked_at: Instant::now(),
        });
        Ok(self.open.len() - 1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Read,
    Write,
}

/// Files open over all workers.
const OPEN_FILES_MAX: usize = 64;
/// Buffers of one system call: Linux takes 1,024.
const VECTORS_MAX: usize = 512;
/// Time after which an open file is compared with its name again.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
