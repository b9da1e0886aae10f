//! Gets a torrent's place on the disk ready: look, decide, and only then act.
//!
//! Up to the last decision nothing in the download folder changes but our own hidden resume file.
//! So a conflict leaves every byte, time and name as it was.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use dunlin_engine::resume::Resume;
use dunlin_metainfo::{Bitfield, Torrent};

use crate::check::{CheckProgress, CheckReport, Checking, check};
use crate::state::{OpenError, StateFile, boot_id, file_name};

use super::content::{Content, FileSpec};
use super::error::{changed, disk_error};
use super::files::{NamedFiles, StoredFile};
use super::folder::{Access, Existing, Folder, lock};
use super::survey::{Past, Seen, Standing, sort_pieces, survey};
use super::unsaved::unsaved_pieces;
use super::{
    ConflictReason, Name, PrepareMode, PrepareOptions, Prepared, Storage, StorageError, seed,
};

/// Gets the place of `torrent` in the folder `dir` ready.
pub fn prepare(
    torrent: &Arc<Torrent>,
    dir: &Path,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(CheckProgress),
    cancel: &AtomicBool,
) -> Result<Prepared, StorageError> {
    let checking = Checking {
        threads: options.threads,
        progress,
        cancel,
    };
    prepare_content(content_of(torrent), dir, options, checking)
}

/// Compares what lies in the folder `dir` with the torrent, touching nothing. Missing files make
/// their pieces bad.
pub fn verify(
    torrent: &Torrent,
    dir: &Path,
    threads: usize,
    progress: &mut dyn FnMut(CheckProgress),
    cancel: &AtomicBool,
) -> Result<CheckReport, StorageError> {
    let checking = Checking {
        threads,
        progress,
        cancel,
    };
    seed::verify(&content_of(torrent), dir, checking)
}

fn content_of(torrent: &Torrent) -> Content {
    let files = torrent
        .files
        .iter()
        .map(|file| FileSpec {
            path: file.path.as_path().to_path_buf(),
            stored: !file.attributes.pad && file.attributes.symlink.is_none(),
            executable: file.attributes.executable,
        })
        .collect();
    Content::new(
        torrent.info_hash,
        Arc::clone(&torrent.layout),
        Arc::clone(&torrent.piece_digests),
        files,
    )
}

pub(crate) fn prepare_content(
    content: Content,
    dir: &Path,
    options: &PrepareOptions,
    checking: Checking<'_>,
) -> Result<Prepared, StorageError> {
    match options.mode {
        PrepareMode::Download { overwrite } => download(content, dir, options, overwrite, checking),
        PrepareMode::Seed { check } => seed::prepare(content, dir, check, checking),
    }
}

fn download(
    content: Content,
    dir: &Path,
    options: &PrepareOptions,
    overwrite: bool,
    checking: Checking<'_>,
) -> Result<Prepared, StorageError> {
    let folder = Folder::create(dir)?;
    let name = file_name(&content.root().to_string_lossy(), &content.info_hash);
    let (pieces, files) = (content.layout.pieces(), content.files.len());
    let opened = StateFile::open(&folder, name, &content.info_hash, pieces, files);
    let (mut state, loaded) = opened.map_err(|error| match error {
        OpenError::Locked => StorageError::Locked {
            path: folder.full_path(&content.root()),
        },
        OpenError::Newer { path, version } => StorageError::NewerState { path, version },
        OpenError::Disk(error) => StorageError::Disk(error),
    })?;
    let past = Past::new(&loaded, &boot_id());
    let wanted: Vec<bool> = (0..files)
        .map(|file| options.wanted.get(file).copied().unwrap_or(true))
        .collect();
    let decided = lock_data(&content, &folder).and_then(|locks| {
        let deciding = Deciding {
            content: &content,
            folder: &folder,
            past: &past,
            wanted: &wanted,
            overwrite,
        };
        Ok((locks, deciding.decide(checking)?))
    });
    let (locks, plan) = match decided {
        Ok(decided) => decided,
        Err(error) => {
            state.close(&folder);
            return Err(error);
        }
    };
    let storage = Storage {
        files: (0..files).map(|_| Mutex::new(StoredFile::ABSENT)).collect(),
        content,
        folder,
        mode: options.mode,
        state: Some(Mutex::new(state)),
        locks,
    };
    act(storage, plan, &wanted)
}

/// What is to be done about one file.
#[derive(Clone, Copy, Debug)]
struct FilePlan {
    /// The file that we go on with.
    seen: Seen,
    /// Everything in it is right.
    complete: bool,
    /// Cut it to this length first: only ever with `overwrite`.
    cut: Option<u64>,
    /// Something else has the unfinished name: only ever with `overwrite`.
    remove_part: bool,
}

struct Plan {
    files: Vec<FilePlan>,
    resume: Resume,
    adopted: bool,
}

struct Deciding<'a> {
    content: &'a Content,
    folder: &'a Folder,
    past: &'a Past<'a>,
    wanted: &'a [bool],
    overwrite: bool,
}

impl Deciding<'_> {
    fn decide(&self, mut checking: Checking<'_>) -> Result<Plan, StorageError> {
        let seen = survey(self.content, self.folder, self.past, self.wanted)?;
        let mut files = Vec::with_capacity(seen.len());
        for (file, seen) in seen.into_iter().enumerate() {
            files.push(self.meet_conflict(file, seen)?);
        }
        let (trusted, right) = self.verify(&files, &mut checking)?;
        let mut adopted = false;
        for (file, plan) in files.iter_mut().enumerate() {
            if plan.seen.standing == Standing::Foreign && self.content.files[file].len > 0 {
                if self.content.holds_any(&right, file) {
                    adopted = true;
                } else {
                    self.reject(file, plan)?;
                }
            }
            self.settle_name(file, plan, &right)?;
        }
        Ok(Plan {
            files,
            resume: resume(self.past, &trusted, right),
            adopted,
        })
    }

    /// Something stands where the file belongs that cannot become the file.
    fn meet_conflict(&self, file: usize, seen: Seen) -> Result<FilePlan, StorageError> {
        let mut plan = FilePlan {
            seen,
            complete: false,
            cut: None,
            remove_part: false,
        };
        let Some(reason) = seen.conflict else {
            return Ok(plan);
        };
        if !self.wanted[file] {
            // Neither touched nor needed; our own unfinished one is still good for shared pieces.
            if reason != ConflictReason::BothNames {
                plan.seen = Seen::ABSENT;
            }
        } else if !self.overwrite {
            let name = match reason {
                // The unfinished one is ours, the other is in its way.
                ConflictReason::BothNames => Name::Final,
                ConflictReason::TooLong { .. }
                | ConflictReason::Foreign
                | ConflictReason::NotAFile
                | ConflictReason::SameFile => seen.name,
            };
            return Err(self.conflict(file, name, reason));
        } else if let ConflictReason::TooLong { expected } = reason {
            self.give_way(&mut plan, expected);
        }
        Ok(plan)
    }

    /// A foreign file turned out to hold nothing of the torrent.
    fn reject(&self, file: usize, plan: &mut FilePlan) -> Result<(), StorageError> {
        if !self.wanted[file] {
            plan.seen = Seen::ABSENT;
        } else if self.overwrite {
            self.give_way(plan, 0);
        } else {
            return Err(self.conflict(file, plan.seen.name, ConflictReason::Foreign));
        }
        Ok(())
    }

    /// The user lets us overwrite: an unfinished file is cut to `keep` bytes, and one with a final
    /// name stays until the new one is complete.
    fn give_way(&self, plan: &mut FilePlan, keep: u64) {
        debug_assert!(self.overwrite);
        if plan.seen.name == Name::Part {
            plan.cut = Some(keep);
        } else {
            plan.remove_part = plan.seen.both;
            plan.seen = Seen::ABSENT;
        }
    }

    /// The pieces that are trusted, and all that are right.
    fn verify(
        &self,
        files: &[FilePlan],
        checking: &mut Checking<'_>,
    ) -> Result<(Bitfield, Bitfield), StorageError> {
        let seen: Vec<Seen> = files.iter().map(|plan| plan.seen).collect();
        let mut sorted = sort_pieces(self.content, self.past, &seen);
        for piece in unsaved_pieces(self.content, self.folder, &seen, &sorted.trusted) {
            sorted.to_check.set(piece.get());
        }
        let source = NamedFiles {
            content: self.content,
            folder: self.folder,
            names: seen.iter().map(|seen| seen.name).collect(),
        };
        let (layout, digests) = (&self.content.layout, &self.content.digests);
        let mut right = check(layout, digests, &source, &sorted.to_check, checking)?;
        for piece in sorted.trusted.iter_ones() {
            right.set(piece);
        }
        Ok((sorted.trusted, right))
    }

    /// An adopted file that is not complete loses its final name: is the other one free?
    fn settle_name(
        &self,
        file: usize,
        plan: &mut FilePlan,
        right: &Bitfield,
    ) -> Result<(), StorageError> {
        plan.complete = plan.seen.name != Name::None && self.content.holds_all(right, file);
        if self.wanted[file] && !plan.complete && plan.seen.name == Name::Final && plan.seen.both {
            if !self.overwrite {
                return Err(self.conflict(file, Name::Part, ConflictReason::BothNames));
            }
            plan.remove_part = true;
        }
        Ok(())
    }

    fn conflict(&self, file: usize, name: Name, reason: ConflictReason) -> StorageError {
        let spec = &self.content.files[file];
        let relative = match name {
            Name::Final | Name::None => &spec.path,
            Name::Part => &spec.part,
        };
        StorageError::Conflict {
            path: self.folder.full_path(relative),
            reason,
        }
    }
}

fn resume(past: &Past<'_>, trusted: &Bitfield, written: Bitfield) -> Resume {
    let mut resume = Resume::empty(written.len());
    resume.written = written;
    if let Some(earlier) = past.resume() {
        for piece in earlier
            .synced
            .iter_ones()
            .filter(|&piece| trusted.get(piece))
        {
            resume.synced.set(piece);
        }
        resume.downloaded = earlier.downloaded;
        resume.uploaded = earlier.uploaded;
    }
    resume
}

fn act(mut storage: Storage, plan: Plan, wanted: &[bool]) -> Result<Prepared, StorageError> {
    let Plan {
        files,
        resume,
        adopted,
    } = plan;
    for (file, plan) in files.iter().enumerate() {
        storage.files[file] = Mutex::new(found(&storage.content, &resume, file, plan));
    }
    let is_full = resume.written.is_full();
    if !is_full {
        // From here on unfinished files are known as ours, even if we die while we make them.
        storage.save(&resume)?;
    }
    for (file, plan) in files.iter().enumerate() {
        if storage.content.files[file].stored {
            settle(&storage, file, plan, wanted[file])?;
        }
    }
    if !storage.content.is_single_file() {
        storage.folder.make_folder(&storage.content.root())?;
    } else if wanted[0] {
        // Made now, so that there is something to lock.
        storage.open_write(0)?;
    }
    if storage.locks.is_empty() {
        storage.locks = lock_data(&storage.content, &storage.folder)?;
    }
    if !is_full {
        storage.save(&resume)?;
    }
    Ok(Prepared {
        storage,
        resume,
        adopted,
    })
}

/// What we know of a file before anything is done about it.
fn found(content: &Content, resume: &Resume, file: usize, plan: &FilePlan) -> StoredFile {
    // What an earlier run left unsynced is still to be synced.
    let mut pieces = content.layout.file_pieces(file);
    let dirty = pieces.any(|piece| resume.written.get(piece) && !resume.synced.get(piece));
    match plan.seen.stamp {
        Some(stamp) => StoredFile {
            name: plan.seen.name,
            stamp,
            complete: plan.complete,
            dirty,
        },
        None => StoredFile::ABSENT,
    }
}

/// Does what was decided about a file.
fn settle(
    storage: &Storage,
    file: usize,
    plan: &FilePlan,
    wanted: bool,
) -> Result<(), StorageError> {
    let (spec, folder) = (&storage.content.files[file], &storage.folder);
    if plan.remove_part {
        folder.remove_file(&spec.part)?;
    }
    let mut stored = storage.stored(file);
    let relative = match stored.name {
        Name::None if wanted && spec.len == 0 => {
            storage.make(file, &mut stored, Name::Part)?;
            folder.rename(&spec.part, &spec.path, storage.existing())?;
            stored.name = Name::Final;
            return Ok(());
        }
        Name::None => return Ok(()),
        Name::Part => &spec.part,
        Name::Final => &spec.path,
    };
    // Checking takes long enough for somebody to change what was checked.
    if folder.look(relative)?.map(|found| found.stamp) != plan.seen.stamp {
        let path = folder.full_path(relative);
        return Err(changed(&path, "changed while it was checked; try again").into());
    }
    if let Some(len) = plan.cut {
        let path = folder.full_path(relative);
        let opened = folder.open_file(relative, Access::ReadWrite)?;
        let told = |error: std::io::Error| disk_error(&path, &error);
        opened.set_len(len).map_err(told)?;
        stored.stamp = super::folder::stamp(&opened).map_err(told)?;
    }
    match (plan.complete, stored.name) {
        (true, Name::Part) => {
            folder.rename(&spec.part, &spec.path, storage.existing())?;
            stored.name = Name::Final;
            stored.dirty = true;
        }
        (false, Name::Final) if wanted => {
            folder.rename(&spec.path, &spec.part, Existing::Keep)?;
            stored.name = Name::Part;
            stored.dirty = true;
        }
        (_, Name::None | Name::Part | Name::Final) => {}
    }
    Ok(())
}

/// Locks what is there of the content: a second torrent with the same name keeps off.
fn lock_data(content: &Content, folder: &Folder) -> Result<Vec<File>, StorageError> {
    let names = if content.is_single_file() {
        vec![content.files[0].path.clone(), content.files[0].part.clone()]
    } else {
        vec![content.root()]
    };
    let mut locks = Vec::new();
    for name in names {
        // What cannot be opened is no file of ours: the survey says what it is.
        let Ok(opened) = folder.open_any(&name) else {
            continue;
        };
        let path = folder.full_path(&name);
        if !lock(&opened).map_err(|error| disk_error(&path, &error))? {
            return Err(StorageError::Locked { path });
        }
        locks.push(opened);
    }
    Ok(locks)
}
