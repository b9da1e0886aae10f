//! One file of a torrent from its first byte to its final name, and the torrent's resume data.
//!
//! Every file has a lock that is held while its name may change, so that whoever opens it finds it
//! under the name that it has. What a file should look like is remembered; a file that looks
//! otherwise when it is opened was changed by somebody else.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use dunlin_engine::event::{DiskError, DiskErrorKind};
use dunlin_engine::resume::Resume;

use crate::check::Source;
use crate::state::{Saved, SavedFile, boot_id};

use super::content::{Content, ContentFile};
use super::error::{changed, disk_error, other};
use super::folder::{Access, EXECUTABLE_MODE, Existing, FILE_MODE, Folder, Stamp, stamp};
use super::{Name, PrepareMode, Storage};

/// What we know of a file on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredFile {
    pub(super) name: Name,
    /// Device and inode from the file's making, `size` as far as we wrote; the time counts only
    /// when `complete`.
    pub(super) stamp: Stamp,
    /// Every byte is verified; nothing writes to it any more.
    pub(super) complete: bool,
    /// Something of it would not survive a power cut.
    pub(super) dirty: bool,
}

impl StoredFile {
    pub(super) const ABSENT: Self = Self {
        name: Name::None,
        stamp: Stamp {
            dev: 0,
            ino: 0,
            size: 0,
            mtime_ns: 0,
        },
        complete: false,
        dirty: false,
    };
}

impl Storage {
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Opens a file for reading.
    pub(crate) fn open_read(&self, file: usize) -> Result<File, DiskError> {
        let known = self.stored(file);
        self.open_known(file, &known, Access::Read)
    }

    /// Opens a file for writing, made if it is not there yet.
    pub(crate) fn open_write(&self, file: usize) -> Result<File, DiskError> {
        let mut known = self.stored(file);
        if self.mode_is_seed() {
            let path = self.path_of(file, known.name);
            return Err(other(&path, "opened for seeding: nothing is written"));
        }
        match known.name {
            Name::None => self.make(file, &mut known, Name::Part),
            Name::Part | Name::Final => self.open_known(file, &known, Access::ReadWrite),
        }
    }

    /// Takes note of a write that the file system took.
    pub(crate) fn on_written(&self, file: usize, end: u64) {
        let mut known = self.stored(file);
        known.stamp.size = known.stamp.size.max(end);
        known.dirty = true;
    }

    /// Whether the name still stands for the file that we know, unchanged if it is complete.
    pub(crate) fn revisit(&self, file: usize) -> Result<(), DiskError> {
        let known = self.stored(file);
        let relative = self.relative(file, known.name);
        let path = self.folder.full_path(relative);
        match self.folder.look(relative)? {
            None => Err(DiskError {
                kind: DiskErrorKind::NotFound,
                path,
                message: String::from("removed while we used it"),
            }),
            Some(found) => known.fits(&found.stamp, &path),
        }
    }

    /// The current path of a file, for messages.
    pub(crate) fn current_path(&self, file: usize) -> PathBuf {
        let name = self.stored(file).name;
        self.path_of(file, name)
    }

    /// Gives a file, of which every byte is verified and written, its final name.
    pub(crate) fn complete_file(&self, file: usize) -> Result<(), DiskError> {
        let spec = self.spec(file);
        if self.mode_is_seed() || !spec.stored {
            return Ok(());
        }
        let mut known = self.stored(file);
        match known.name {
            Name::None if spec.len == 0 => {
                self.make(file, &mut known, Name::Final)?;
            }
            Name::None => {
                let path = self.path_of(file, Name::Part);
                return Err(other(&path, "complete, but never written"));
            }
            Name::Part => {
                self.folder
                    .rename(&spec.part, &spec.path, self.existing())?;
                known.name = Name::Final;
            }
            Name::Final => {}
        }
        let path = self.folder.full_path(&spec.path);
        let Some(found) = self.folder.look(&spec.path)? else {
            return Err(changed(&path, "removed while it was completed"));
        };
        known.fits(&found.stamp, &path)?;
        if found.stamp.size != spec.len {
            let message = format!(
                "{} bytes, not the {} of the torrent",
                found.stamp.size, spec.len
            );
            return Err(changed(&path, message));
        }
        known.stamp = found.stamp;
        known.complete = true;
        known.dirty = true;
        Ok(())
    }

    /// Makes everything written before this call survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        let mut cleared = Vec::new();
        let dirty = (0..self.files.len()).filter(|&file| self.stored(file).dirty);
        let synced = if dirty.count() > SYNC_FILES_MAX && cfg!(target_os = "linux") {
            self.sync_all_at_once(&mut cleared)
        } else {
            self.sync_one_by_one(&mut cleared)
        };
        if synced.is_err() {
            for file in cleared {
                self.stored(file).dirty = true;
            }
        }
        synced
    }

    /// One wait for the disk, where thousands of files would wait one by one.
    fn sync_all_at_once(&self, cleared: &mut Vec<usize>) -> Result<(), DiskError> {
        for file in 0..self.files.len() {
            // Cleared first: a write that comes meanwhile sets it again.
            if std::mem::take(&mut self.stored(file).dirty) {
                cleared.push(file);
            }
        }
        self.folder.sync_file_system()
    }

    fn sync_one_by_one(&self, cleared: &mut Vec<usize>) -> Result<(), DiskError> {
        let mut folders = BTreeSet::new();
        for file in 0..self.files.len() {
            let (opened, name) = {
                let mut known = self.stored(file);
                if !known.dirty {
                    continue;
                }
                let opened = self.open_known(file, &known, Access::Read)?;
                // Cleared first: a write that comes meanwhile sets it again.
                known.dirty = false;
                cleared.push(file);
                (opened, known.name)
            };
            opened
                .sync_all()
                .map_err(|error| disk_error(&self.path_of(file, name), &error))?;
            folders.extend(self.relative(file, name).ancestors().skip(1));
        }
        for folder in folders {
            // The entry of anything in a folder stands for the folder itself.
            self.folder.sync_parent(&folder.join("x"))?;
        }
        Ok(())
    }

    /// Replaces the resume data.
    pub(crate) fn save(&self, resume: &Resume) -> Result<(), DiskError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let files = (0..self.files.len())
            .map(|file| {
                let known = self.stored(file);
                (known.name != Name::None).then_some(SavedFile {
                    stamp: known.stamp,
                    complete: known.complete,
                })
            })
            .collect();
        let saved = Saved {
            info_hash: self.content.info_hash,
            boot_id: boot_id(),
            resume: resume.clone(),
            files,
        };
        guard(state).save(&self.folder, &saved)
    }

    pub(crate) fn remove_resume(&self) -> Result<(), DiskError> {
        match &self.state {
            Some(state) => guard(state).remove(&self.folder),
            None => Ok(()),
        }
    }

    pub(super) fn make(
        &self,
        file: usize,
        known: &mut StoredFile,
        name: Name,
    ) -> Result<File, DiskError> {
        let mode = if self.spec(file).executable {
            EXECUTABLE_MODE
        } else {
            FILE_MODE
        };
        let relative = self.relative(file, name);
        let made = self.folder.create_file(relative, mode)?;
        let told = |error: std::io::Error| disk_error(&self.folder.full_path(relative), &error);
        known.stamp = stamp(&made).map_err(told)?;
        known.name = name;
        known.dirty = true;
        known.complete = self.spec(file).len == 0;
        Ok(made)
    }

    pub(super) fn stored(&self, file: usize) -> MutexGuard<'_, StoredFile> {
        guard(&self.files[file])
    }

    pub(super) fn existing(&self) -> Existing {
        match self.mode {
            PrepareMode::Download { overwrite: true } => Existing::Replace,
            PrepareMode::Download { overwrite: false } | PrepareMode::Seed { .. } => Existing::Keep,
        }
    }

    fn open_known(
        &self,
        file: usize,
        known: &StoredFile,
        access: Access,
    ) -> Result<File, DiskError> {
        let relative = self.relative(file, known.name);
        let path = self.folder.full_path(relative);
        let opened = self.folder.open_file(relative, access)?;
        let found = stamp(&opened).map_err(|error| disk_error(&path, &error))?;
        known.fits(&found, &path)?;
        Ok(opened)
    }

    fn mode_is_seed(&self) -> bool {
        matches!(self.mode, PrepareMode::Seed { .. })
    }

    fn spec(&self, file: usize) -> &ContentFile {
        &self.content.files[file]
    }

    fn relative(&self, file: usize, name: Name) -> &Path {
        match name {
            Name::Final => &self.spec(file).path,
            Name::Part | Name::None => &self.spec(file).part,
        }
    }

    fn path_of(&self, file: usize, name: Name) -> PathBuf {
        self.folder.full_path(self.relative(file, name))
    }
}

impl StoredFile {
    /// Whether a file that was found is the one we know. One that we still write to is known by
    /// its inode and its least size, for its time changes all the time.
    fn fits(&self, found: &Stamp, path: &Path) -> Result<(), DiskError> {
        if found.ino != self.stamp.ino || found.dev != self.stamp.dev {
            return Err(changed(path, "replaced by another file while we used it"));
        }
        if found.size < self.stamp.size || self.complete && found.size != self.stamp.size {
            let message = format!(
                "changed while we used it: {} bytes, {} expected",
                found.size, self.stamp.size
            );
            return Err(changed(path, message));
        }
        if self.complete && found.mtime_ns != self.stamp.mtime_ns {
            return Err(changed(
                path,
                "changed by somebody else since it was verified",
            ));
        }
        Ok(())
    }
}

/// The files of a torrent as they are named while it is prepared.
pub(super) struct NamedFiles<'a> {
    pub(super) content: &'a Content,
    pub(super) folder: &'a Folder,
    pub(super) names: Vec<Name>,
}

impl NamedFiles<'_> {
    fn relative(&self, file: usize) -> Option<&Path> {
        let spec = self.content.files.get(file)?;
        match self.names.get(file)? {
            Name::None => None,
            Name::Part => Some(&spec.part),
            Name::Final => Some(&spec.path),
        }
    }
}

impl Source for NamedFiles<'_> {
    fn open(&self, file: usize) -> Result<Option<File>, DiskError> {
        let Some(relative) = self.relative(file) else {
            return Ok(None);
        };
        match self.folder.open_file(relative, Access::Read) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        self.folder
            .full_path(self.relative(file).unwrap_or(Path::new("")))
    }
}

/// A worker that panicked does not take the others with it: the values behind these locks are
/// right after every statement.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// More files than this are made durable with their whole file system.
const SYNC_FILES_MAX: usize = 16;
