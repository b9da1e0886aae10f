//! What the host says about data on the disk, in words and exit codes.

use std::thread::available_parallelism;

use dunlin_engine::event::{DiskError, DiskErrorKind};
use dunlin_host::check::{CheckError, CheckReport};
use dunlin_host::storage::StorageError;
use dunlin_metainfo::Torrent;

use crate::clean::clean;
use crate::failure::{Code, Failure, disk_failure};
use crate::screen;

/// Files that a report names; more are counted.
const BAD_FILES_NAMED: usize = 20;

/// Threads that hash, unless the user names a number.
pub fn cores() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}

pub fn check_failure(error: CheckError) -> Failure {
    match error {
        CheckError::Cancelled => Failure::new(Code::Unfinished, "interrupted; nothing was written"),
        CheckError::Disk(error) => disk_failure(&error),
        CheckError::Layout(error) => Failure::new(Code::BadInput, error),
    }
}

/// Why a torrent cannot be put where it should be, or is not there.
pub fn storage_failure(torrent: &Torrent, error: &StorageError) -> Failure {
    match error {
        StorageError::Conflict { .. }
        | StorageError::Locked { .. }
        | StorageError::NewerState { .. } => Failure::new(Code::Conflict, error),
        StorageError::Missing { .. } => Failure::new(
            Code::NotFound,
            format!("{error}; name the folder that holds it"),
        ),
        StorageError::Size { .. } => Failure::new(
            Code::VerifyFailed,
            format!("{error}; `dunlin get` fetches what is missing"),
        ),
        StorageError::Incomplete(report) => incomplete(torrent, report),
        StorageError::Cancelled => Failure::new(Code::Unfinished, "interrupted"),
        StorageError::Disk(error) => place_failure(error),
    }
}

/// A folder or file that cannot be made or read: nothing was lost, another place will do.
fn place_failure(error: &DiskError) -> Failure {
    match error.kind {
        DiskErrorKind::Full | DiskErrorKind::Permission => disk_failure(error),
        DiskErrorKind::Exists => {
            Failure::new(Code::Conflict, format!("{error}; choose another folder"))
        }
        DiskErrorKind::NotFound | DiskErrorKind::Changed | DiskErrorKind::Other => {
            Failure::new(Code::Disk, format!("{error}; choose another folder"))
        }
    }
}

/// Names the files on stderr and gives the line that ends the command.
pub fn incomplete(torrent: &Torrent, report: &CheckReport) -> Failure {
    let bad: Vec<_> = report
        .files
        .iter()
        .filter(|file| file.ok_bytes < file.bytes)
        .collect();
    for file in bad.iter().take(BAD_FILES_NAMED) {
        screen::note(&format!(
            "  {}: {} of {} bytes verified",
            clean(&file.path.to_string_lossy()),
            file.ok_bytes,
            file.bytes
        ));
    }
    if let Some(more) = bad
        .len()
        .checked_sub(BAD_FILES_NAMED)
        .filter(|&more| more > 0)
    {
        screen::note(&format!("  and {more} more files"));
    }
    let pieces = report.bad_pieces + report.ok_pieces;
    Failure::new(
        Code::VerifyFailed,
        format!(
            "{}: {} of {pieces} pieces are missing or wrong, in {} of {} files; \
             `dunlin get` fetches what is missing",
            torrent.name,
            report.bad_pieces,
            bad.len(),
            report.files.len()
        ),
    )
}
