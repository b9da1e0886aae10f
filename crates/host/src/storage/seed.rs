//! Data that is there already and is only read: found, compared with the torrent, verified.

use std::path::Path;
use std::sync::Mutex;

use dunlin_engine::resume::Resume;
use dunlin_metainfo::Bitfield;

use crate::check::{self, CheckReport, Checking};

use super::content::Content;
use super::files::{NamedFiles, StoredFile};
use super::folder::Folder;
use super::{ConflictReason, Name, PrepareMode, Prepared, Storage, StorageError};

pub(super) fn prepare(
    content: Content,
    dir: &Path,
    verify: bool,
    mut checking: Checking<'_>,
) -> Result<Prepared, StorageError> {
    let folder = Folder::open_to_read(dir)?;
    let mut files = Vec::with_capacity(content.files.len());
    for file in 0..content.files.len() {
        files.push(Mutex::new(find(&content, &folder, file)?));
    }
    let all = Bitfield::full(content.layout.pieces());
    if verify {
        let source = NamedFiles {
            content: &content,
            folder: &folder,
            names: vec![Name::Final; content.files.len()],
        };
        let (layout, digests) = (&content.layout, &content.digests);
        let right = check::check(layout, digests, &source, &all, &mut checking)?;
        if !right.is_full() {
            let report = check::report(layout, &right, |file| content.stored_path(file));
            return Err(StorageError::Incomplete(Box::new(report)));
        }
    }
    let mut resume = Resume::empty(all.len());
    // It was there before us: whether it survives a power cut is not our promise to make or break.
    resume.synced = all.clone();
    resume.written = all;
    Ok(Prepared {
        storage: Storage {
            content,
            folder,
            mode: PrepareMode::Seed { check: verify },
            files,
            state: None,
            locks: Vec::new(),
        },
        resume,
        adopted: false,
    })
}

/// Compares what lies in `dir` with the torrent. Missing files make their pieces bad; unfinished
/// ones are looked at too.
pub(super) fn verify(
    content: &Content,
    dir: &Path,
    mut checking: Checking<'_>,
) -> Result<CheckReport, StorageError> {
    let folder = Folder::open_to_read(dir)?;
    let mut names = Vec::with_capacity(content.files.len());
    for spec in &content.files {
        let is_there = |path: &Path| -> Result<bool, StorageError> {
            Ok(folder.look(path)?.is_some_and(|found| found.is_file))
        };
        names.push(match spec {
            _ if !spec.stored => Name::None,
            _ if is_there(&spec.path)? => Name::Final,
            _ if is_there(&spec.part)? => Name::Part,
            _ => Name::None,
        });
    }
    let source = NamedFiles {
        content,
        folder: &folder,
        names,
    };
    let (layout, digests) = (&content.layout, &content.digests);
    let all = Bitfield::full(layout.pieces());
    let right = check::check(layout, digests, &source, &all, &mut checking)?;
    Ok(check::report(layout, &right, |file| {
        content.stored_path(file)
    }))
}

fn find(content: &Content, folder: &Folder, file: usize) -> Result<StoredFile, StorageError> {
    let spec = &content.files[file];
    if !spec.stored {
        return Ok(StoredFile::ABSENT);
    }
    let path = || folder.full_path(&spec.path);
    match folder.look(&spec.path)? {
        None => Err(StorageError::Missing {
            path: path(),
            bytes: spec.len,
        }),
        Some(found) if !found.is_file => Err(StorageError::Conflict {
            path: path(),
            reason: ConflictReason::NotAFile,
        }),
        Some(found) if found.stamp.size != spec.len => Err(StorageError::Size {
            path: path(),
            found: found.stamp.size,
            expected: spec.len,
        }),
        Some(found) => Ok(StoredFile {
            name: Name::Final,
            stamp: found.stamp,
            complete: true,
            dirty: false,
        }),
    }
}
