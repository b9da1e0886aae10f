//! The files of one torrent: where they are, what they are called at the moment, and what may be
//! done to them.
//!
//! [`prepare`] looks at what lies in the download folder and decides, before it touches anything,
//! whether the torrent may be put there. Nobody's file is ever destroyed: a file that we did not
//! make is written to only if at least one of its pieces verifies. An unfinished file has the
//! suffix `.part`. Payload goes through the workers of [`crate::disk`]; resume data is in
//! [`crate::state`].

pub(crate) mod content;
pub(crate) mod error;
pub(crate) mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod folder;
mod prepare;
mod seed;
mod survey;
mod unsaved;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

use dunlin_engine::event::DiskError;
use dunlin_engine::resume::Resume;

use crate::check::{CheckError, CheckReport};
use crate::state::StateFile;

use content::Content;
use files::StoredFile;
use folder::Folder;

pub use prepare::{prepare, verify};

/// What the storage of a torrent is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrepareMode {
    Download {
        /// Files in the way may be replaced. Those with a final name are, when the new one is
        /// complete.
        overwrite: bool,
    },
    /// Everything is there: nothing is made, locked or written.
    Seed {
        /// Verify every piece first.
        check: bool,
    },
}

#[derive(Clone, Debug)]
pub struct PrepareOptions {
    pub mode: PrepareMode,
    /// One a file; missing ones are wanted.
    pub wanted: Vec<bool>,
    /// Threads that verify.
    pub threads: usize,
}

impl PrepareOptions {
    /// Everything is wanted, and no other file is touched.
    pub fn download() -> Self {
        Self {
            mode: PrepareMode::Download { overwrite: false },
            wanted: Vec::new(),
            threads: 2,
        }
    }
}

/// A torrent that may start.
#[derive(Debug)]
pub struct Prepared {
    pub storage: Storage,
    /// What is there already, as far as it may be trusted.
    pub resume: Resume,
    /// Some of it was there before we knew of it, and verified.
    pub adopted: bool,
}

/// Why a torrent cannot be put here, or is not here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{}: {reason}", path.display())]
    Conflict {
        path: PathBuf,
        reason: ConflictReason,
    },
    #[error("{}: another process is downloading it; wait for it or choose another folder", path.display())]
    Locked { path: PathBuf },
    #[error(
        "{}: resume data of a newer version ({version}); update dunlin, or remove the file to check everything again",
        path.display()
    )]
    NewerState { path: PathBuf, version: u32 },
    #[error("{}: not there; a file of {bytes} bytes is expected", path.display())]
    Missing { path: PathBuf, bytes: u64 },
    #[error("{}: {found} bytes, {expected} expected", path.display())]
    Size {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error("{} of {} pieces are not right", .0.bad_pieces, .0.bad_pieces + .0.ok_pieces)]
    Incomplete(Box<CheckReport>),
    #[error("interrupted")]
    Cancelled,
    #[error(transparent)]
    Disk(#[from] DiskError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConflictReason {
    #[error(
        "exists and holds nothing of this torrent; move it away, choose another folder, or replace it with --overwrite"
    )]
    Foreign,
    #[error(
        "longer than the torrent's {expected} bytes; move it away, choose another folder, or use --overwrite"
    )]
    TooLong { expected: u64 },
    #[error("stands beside the other name of the same file; move one away, or use --overwrite")]
    BothNames,
    #[error("not a regular file, and never replaced; move it away or choose another folder")]
    NotAFile,
    #[error("this file system takes it for another file of the torrent; choose another folder")]
    SameFile,
}

impl From<CheckError> for StorageError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Cancelled => Self::Cancelled,
            CheckError::Disk(error) => Self::Disk(error),
            CheckError::Layout(_) => unreachable!("the layout of a torrent is made already"),
        }
    }
}

/// The files of one torrent. The download's locks are held for as long as it lives.
#[derive(Debug)]
pub struct Storage {
    content: Content,
    folder: Folder,
    mode: PrepareMode,
    files: Vec<Mutex<StoredFile>>,
    /// `None` when seeding.
    state: Option<Mutex<StateFile>>,
    /// Lock the data itself, so that another torrent with the same name keeps off.
    locks: Vec<File>,
}

impl Storage {
    /// Where the content is, or will be when it is complete: a file or a folder.
    pub fn root_path(&self) -> PathBuf {
        self.folder.full_path(&self.content.root())
    }

    /// Where this file is, or will be when it is complete.
    pub fn file_path(&self, file: usize) -> Option<PathBuf> {
        let file = self.content.files.get(file)?;
        Some(self.folder.full_path(&file.path))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(state) = &mut self.state {
            let state = state.get_mut().unwrap_or_else(|broken| broken.into_inner());
            state.close(&self.folder);
        }
    }
}

/// Which of its two names a file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    /// Not on the disk.
    None,
    Part,
    Final,
}

#[cfg(test)]
mod tests;
