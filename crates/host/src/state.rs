//! Resume data on disk: one hidden file beside the data, `DIR/.NAME.HASH8.dunlin`, where HASH8 is
//! the start of the info hash.
//!
//! The file says which pieces are there, and what the files looked like when that was true. It is
//! replaced by rename, so that a crash leaves the old one or the new one. It also carries the lock
//! of the download: whoever wants to write the same data must hold it. What cannot be read is set
//! aside as `.bad`, and what a newer version wrote is left alone.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dunlin_engine::event::DiskError;
use dunlin_engine::resume::Resume;
use dunlin_hash::sha1;
use dunlin_metainfo::{Bitfield, InfoHash, Sha1Digest};

use crate::storage::error::{disk_error, other, write_error};
use crate::storage::folder::{Existing, FILE_MODE, Folder, Stamp, lock, stamp};

/// Everything that the file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Saved {
    pub(crate) info_hash: InfoHash,
    /// Which run of the machine wrote it; empty if the system does not say.
    pub(crate) boot_id: String,
    pub(crate) resume: Resume,
    /// One a file of the torrent; `None` for what was not on the disk.
    pub(crate) files: Vec<Option<SavedFile>>,
}

/// What a file looked like when the pieces in it were claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SavedFile {
    /// While a download goes on, the size is a lower bound and the time means nothing.
    pub(crate) stamp: Stamp,
    /// Everything in it was verified and nothing wrote to it any more.
    pub(crate) complete: bool,
}

/// Why bytes are not resume data of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DecodeError {
    /// Damaged, or never ours.
    Unreadable,
    /// A later version of this program knows what to do with it.
    Newer(u32),
}

impl Saved {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, VERSION);
        out.extend_from_slice(self.info_hash.as_bytes());
        put_u32(&mut out, self.boot_id.len() as u32);
        out.extend_from_slice(self.boot_id.as_bytes());
        put_u64(&mut out, self.resume.downloaded);
        put_u64(&mut out, self.resume.uploaded);
        put_u32(&mut out, self.resume.written.len());
        out.extend_from_slice(&self.resume.written.to_wire());
        out.extend_from_slice(&self.resume.synced.to_wire());
        put_u32(&mut out, self.files.len() as u32);
        for file in &self.files {
            let Some(SavedFile { stamp, complete }) = file else {
                out.push(ABSENT);
                continue;
            };
            out.push(if *complete { COMPLETE } else { PARTIAL });
            put_u64(&mut out, stamp.dev);
            put_u64(&mut out, stamp.ino);
            put_u64(&mut out, stamp.size);
            put_u64(&mut out, stamp.mtime_ns.cast_unsigned());
        }
        let checksum = sha1(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields(bytes);
        if fields.take(MAGIC.len()) != Some(MAGIC) {
            return Err(DecodeError::Unreadable);
        }
        let version = fields.u32().ok_or(DecodeError::Unreadable)?;
        if version > VERSION {
            return Err(DecodeError::Newer(version));
        }
        let body = bytes.len().saturating_sub(Sha1Digest::LEN);
        let (body, checksum) = bytes.split_at(body);
        if sha1(body).as_bytes() != checksum {
            return Err(DecodeError::Unreadable);
        }
        let mut fields = Fields(body.get(MAGIC.len() + 4..).unwrap_or_default());
        read_fields(&mut fields)
            .filter(|_| fields.0.is_empty())
            .ok_or(DecodeError::Unreadable)
    }
}

/// The run of the machine: differs after every boot.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().chars().take(BOOT_ID_MAX).collect())
        .unwrap_or_default()
}

/// The name of the resume file of a torrent whose content is called `name`.
pub(crate) fn file_name(name: &str, info_hash: &InfoHash) -> PathBuf {
    let hash = info_hash.to_string();
    let short = name.floor_char_boundary(NAME_MAX);
    format!(".{}.{}.dunlin", &name[..short], &hash[..8]).into()
}

#[derive(Debug)]
pub(crate) enum Loaded {
    /// Nothing was saved yet.
    Nothing,
    Saved(Box<Saved>),
    /// There was something, now or in an earlier run, that we could not read.
    Quarantined,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("locked")]
    Locked,
    #[error("{}: version {version}", path.display())]
    Newer { path: PathBuf, version: u32 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The resume file of a download, locked for as long as this value lives.
#[derive(Debug)]
pub(crate) struct StateFile {
    name: PathBuf,
    file: File,
    /// The synced pieces that it would still claim after a power cut.
    synced: Bitfield,
    /// Whether the name stands for saved data.
    holds_data: bool,
}

impl StateFile {
    /// Takes the lock and reads what was saved for `info_hash`, which has `pieces` pieces and
    /// `files` files.
    pub(crate) fn open(
        folder: &Folder,
        name: PathBuf,
        info_hash: &InfoHash,
        pieces: u32,
        files: usize,
    ) -> Result<(Self, Loaded), OpenError> {
        let path = folder.full_path(&name);
        let file = open_locked(folder, &name)?;
        let bytes = read_all(&file).map_err(|error| disk_error(&path, &error))?;
        let mut state = Self {
            name,
            file,
            synced: Bitfield::new(pieces),
            holds_data: !bytes.is_empty(),
        };
        if bytes.is_empty() {
            let earlier = folder.look(&suffixed(&state.name, BAD, 0))?;
            let loaded = earlier.map_or(Loaded::Nothing, |_| Loaded::Quarantined);
            return Ok((state, loaded));
        }
        match Saved::decode(&bytes) {
            Ok(saved)
                if saved.info_hash == *info_hash
                    && saved.resume.written.len() == pieces
                    && saved.files.len() == files =>
            {
                state.synced = saved.resume.synced.clone();
                Ok((state, Loaded::Saved(Box::new(saved))))
            }
            Ok(_) | Err(DecodeError::Unreadable) => {
                state.quarantine(folder)?;
                Ok((state, Loaded::Quarantined))
            }
            Err(DecodeError::Newer(version)) => Err(OpenError::Newer { path, version }),
        }
    }

    /// Replaces the saved data in one step. It is made to survive a power cut when it claims more
    /// than the last version that was.
    pub(crate) fn save(&mut self, folder: &Folder, saved: &Saved) -> Result<(), DiskError> {
        let temporary = suffixed(&self.name, TEMPORARY, 0);
        folder.remove_file(&temporary)?;
        let durable = self.synced != saved.resume.synced;
        let replaced =
            write_temporary(folder, &temporary, &saved.encode(), durable).and_then(|file| {
                folder.rename(&temporary, &self.name, Existing::Replace)?;
                Ok(file)
            });
        match replaced {
            Ok(file) => self.file = file,
            Err(error) => {
                // What was saved before stays; the half-written one is in nobody's way.
                let _ = folder.remove_file(&temporary);
                return Err(error);
            }
        }
        self.holds_data = true;
        if durable {
            folder.sync_parent(&self.name)?;
            self.synced = saved.resume.synced.clone();
        }
        Ok(())
    }

    /// Removes the saved data: everything is complete. What was set aside has been made up for. The
    /// lock stays.
    pub(crate) fn remove(&mut self, folder: &Folder) -> Result<(), DiskError> {
        folder.remove_file(&suffixed(&self.name, TEMPORARY, 0))?;
        for attempt in 0..BAD_MAX {
            folder.remove_file(&suffixed(&self.name, BAD, attempt))?;
        }
        folder.remove_file(&self.name)?;
        self.holds_data = false;
        self.synced = Bitfield::new(self.synced.len());
        Ok(())
    }

    /// Leaves no file behind if nothing was saved. To be called before the value goes.
    pub(crate) fn close(&mut self, folder: &Folder) {
        let is_ours = || {
            let named = folder.look(&self.name).ok()??.stamp;
            let held = stamp(&self.file).ok()?;
            Some(named.ino == held.ino && named.dev == held.dev && held.size == 0)
        };
        if !self.holds_data && is_ours() == Some(true) {
            // An empty file that stays behind does no harm: it is read as "nothing saved".
            let _ = folder.remove_file(&self.name);
        }
    }

    /// Renames what cannot be read, and starts again with an empty file.
    fn quarantine(&mut self, folder: &Folder) -> Result<(), OpenError> {
        for attempt in 0..BAD_MAX {
            let aside = suffixed(&self.name, BAD, attempt);
            if folder.look(&aside)?.is_some() {
                continue;
            }
            folder.rename(&self.name, &aside, Existing::Keep)?;
            self.file = open_locked(folder, &self.name)?;
            self.holds_data = false;
            return Ok(());
        }
        let path = folder.full_path(&self.name);
        let message = format!("unreadable, and {BAD_MAX} unreadable ones stand beside it");
        Err(other(&path, message).into())
    }
}

/// Writes a new file that carries the lock before it has the name, so that the lock has no gap.
fn write_temporary(
    folder: &Folder,
    name: &Path,
    bytes: &[u8],
    durable: bool,
) -> Result<File, DiskError> {
    let mut file = folder.create_file(name, FILE_MODE)?;
    let path = folder.full_path(name);
    let told = |error: std::io::Error| write_error(&path, &error, bytes.len() as u64);
    lock(&file).map_err(told)?;
    file.write_all(bytes).map_err(told)?;
    if durable {
        file.sync_all().map_err(told)?;
    }
    Ok(file)
}

/// Opens the file of this name and locks it, whichever file has the name when we hold the lock.
fn open_locked(folder: &Folder, name: &Path) -> Result<File, OpenError> {
    let path = folder.full_path(name);
    let told = |error: std::io::Error| disk_error(&path, &error);
    for _ in 0..LOCK_ATTEMPTS {
        let file = folder.open_or_create(name)?;
        if !lock(&file).map_err(told)? {
            return Err(OpenError::Locked);
        }
        let held = stamp(&file).map_err(told)?;
        let named = folder.look(name)?;
        if named.is_some_and(|found| {
            found.is_file && found.stamp.ino == held.ino && found.stamp.dev == held.dev
        }) {
            return Ok(file);
        }
    }
    Err(OpenError::Locked)
}

fn read_all(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed: too long is unreadable, not cut off.
    let mut reader = file.take(FILE_LEN_MAX + 1);
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn suffixed(name: &Path, suffix: &str, attempt: u32) -> PathBuf {
    let mut name = name.as_os_str().to_os_string();
    name.push(suffix);
    if attempt > 0 {
        name.push(attempt.to_string());
    }
    name.into()
}

fn read_fields(fields: &mut Fields<'_>) -> Option<Saved> {
    let info_hash = InfoHash::from_slice(fields.take(InfoHash::LEN)?)?;
    let boot_len = fields.u32()? as usize;
    let boot_id = std::str::from_utf8(fields.take(boot_len)?).ok()?.to_owned();
    let downloaded = fields.u64()?;
    let uploaded = fields.u64()?;
    let pieces = fields.u32()?;
    let bits = pieces.div_ceil(8) as usize;
    let resume = Resume {
        written: Bitfield::from_wire(fields.take(bits)?, pieces)?,
        synced: Bitfield::from_wire(fields.take(bits)?, pieces)?,
        downloaded,
        uploaded,
    };
    let count = fields.u32()? as usize;
    let mut files = Vec::new();
    for _ in 0..count {
        let kind = fields.u8()?;
        if kind == ABSENT {
            files.push(None);
            continue;
        }
        if kind != PARTIAL && kind != COMPLETE {
            return None;
        }
        files.push(Some(SavedFile {
            stamp: Stamp {
                dev: fields.u64()?,
                ino: fields.u64()?,
                size: fields.u64()?,
                mtime_ns: fields.u64()?.cast_signed(),
            },
            complete: kind == COMPLETE,
        }));
    }
    Some(Saved {
        info_hash,
        boot_id,
        resume,
        files,
    })
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// First bytes of every version.
const MAGIC: &[u8] = b"dunlin resume\n";
const VERSION: u32 = 1;
const ABSENT: u8 = 0;
const PARTIAL: u8 = 1;
const COMPLETE: u8 = 2;
/// Longest resume file that is read, in bytes: a million files and as many pieces as a torrent may
/// have fit twice.
const FILE_LEN_MAX: u64 = 128 * 1024 * 1024;
/// Characters of a boot id that are kept: it is a UUID.
const BOOT_ID_MAX: usize = 64;
/// Bytes of the torrent's name in the file name: with everything else it stays below the 255 that
/// file systems take.
const NAME_MAX: usize = 200;
const TEMPORARY: &str = ".tmp";
const BAD: &str = ".bad";
/// Unreadable files that are set aside before we ask the user to look.
const BAD_MAX: u32 = 10;
/// The name may be given to another file between open and lock: it is tried again this often.
const LOCK_ATTEMPTS: u32 = 10;

#[cfg(test)]
mod tests;
