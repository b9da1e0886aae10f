//! What lies in the download folder, and whose it is. Only looks.
//!
//! A file is *trusted* when it is the one that our resume data describes, *owned* when it is ours
//! but must be checked again, and *foreign* when nobody told us about it. Under a final name only
//! the inode tells that a file is ours; a `.part` beside our own resume data is ours anyway.

use std::collections::BTreeMap;

use dunlin_engine::resume::Resume;
use dunlin_metainfo::{Bitfield, PieceIndex};

use crate::state::{Loaded, Saved, SavedFile};

use super::content::{Content, ContentFile};
use super::folder::{Folder, Found, Stamp};
use super::{ConflictReason, Name, StorageError};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Absent,
    /// What the resume data says of its pieces is true.
    Trusted,
    /// Ours, but not as we left it.
    Owned,
    Foreign,
}

/// What was found of one file of the torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) name: Name,
    pub(super) standing: Standing,
    pub(super) stamp: Option<Stamp>,
    /// The other name is taken too.
    pub(super) both: bool,
    /// The torrent is not downloaded over it: with `overwrite` it is replaced.
    pub(super) conflict: Option<ConflictReason>,
}

impl Seen {
    pub(super) const ABSENT: Self = Self {
        name: Name::None,
        standing: Standing::Absent,
        stamp: None,
        both: false,
        conflict: None,
    };
}

/// What an earlier run left, and what of it counts in this run of the machine.
pub(super) struct Past<'a> {
    saved: Option<&'a Saved>,
    /// There was resume data, readable or not: `.part` files are ours.
    had_state: bool,
    same_boot: bool,
}

impl<'a> Past<'a> {
    pub(super) fn new(loaded: &'a Loaded, boot_id: &str) -> Self {
        let saved = match loaded {
            Loaded::Saved(saved) => Some(&**saved),
            Loaded::Nothing | Loaded::Quarantined => None,
        };
        Self {
            saved,
            had_state: !matches!(loaded, Loaded::Nothing),
            same_boot: saved.is_some_and(|saved| !boot_id.is_empty() && saved.boot_id == boot_id),
        }
    }

    pub(super) fn resume(&self) -> Option<&Resume> {
        self.saved.map(|saved| &saved.resume)
    }

    /// What may be believed if its files are the same: what was written in this run of the
    /// machine, else only what was synced.
    pub(super) fn claim(&self) -> Option<&Bitfield> {
        let resume = self.resume()?;
        Some(if self.same_boot {
            &resume.written
        } else {
            &resume.synced
        })
    }

    fn file(&self, file: usize) -> Option<&SavedFile> {
        self.saved?.files.get(file)?.as_ref()
    }

    fn is_same_file(&self, file: usize, found: &Found) -> bool {
        self.file(file).is_some_and(|saved| {
            let (then, now) = (saved.stamp, found.stamp);
            // Devices are numbered anew at every boot.
            then.ino == now.ino && (then.dev == now.dev || !self.same_boot)
        })
    }

    /// How far a file that is the same by inode may be believed.
    fn standing(&self, file: usize, claimed_end: u64, found: &Found) -> Standing {
        let Some(saved) = self.file(file) else {
            return Standing::Owned;
        };
        let (then, now) = (saved.stamp, found.stamp);
        // After a power cut a file may have lost what was not synced, and its size with it.
        let least = if self.same_boot {
            then.size
        } else {
            claimed_end
        };
        let shrunk = now.size < least.max(claimed_end);
        let edited = saved.complete && (now.size != then.size || now.mtime_ns != then.mtime_ns);
        if shrunk || edited {
            Standing::Owned
        } else {
            Standing::Trusted
        }
    }
}

/// Looks at every file of the torrent. What is wanted and in the way of it is in
/// [`Seen::conflict`]; what can never be overcome is an error.
pub(super) fn survey(
    content: &Content,
    folder: &Folder,
    past: &Past<'_>,
    wanted: &[bool],
) -> Result<Vec<Seen>, StorageError> {
    let claimed = claimed_ends(content, past);
    let mut seen = Vec::with_capacity(content.files.len());
    for (file, spec) in content.files.iter().enumerate() {
        seen.push(if spec.stored {
            look(folder, past, file, spec, claimed[file], wanted[file])?
        } else {
            Seen::ABSENT
        });
    }
    no_two_are_one(content, folder, &seen)?;
    Ok(seen)
}

fn look(
    folder: &Folder,
    past: &Past<'_>,
    file: usize,
    spec: &ContentFile,
    claimed_end: u64,
    wanted: bool,
) -> Result<Seen, StorageError> {
    let whole = folder.look(&spec.path)?;
    let part = folder.look(&spec.part)?;
    for (found, path) in [(whole, &spec.path), (part, &spec.part)] {
        if found.is_some_and(|found| !found.is_file) {
            if wanted {
                return Err(StorageError::Conflict {
                    path: folder.full_path(path),
                    reason: ConflictReason::NotAFile,
                });
            }
            return Ok(Seen::ABSENT);
        }
    }
    let both = whole.is_some() && part.is_some();
    let (name, found, standing) = match (whole, part) {
        (None, None) => return Ok(Seen::ABSENT),
        (Some(whole), _) if past.is_same_file(file, &whole) => {
            (Name::Final, whole, past.standing(file, claimed_end, &whole))
        }
        (_, Some(part)) if past.is_same_file(file, &part) => {
            (Name::Part, part, past.standing(file, claimed_end, &part))
        }
        (_, Some(part)) if past.had_state => (Name::Part, part, Standing::Owned),
        (Some(whole), _) => (Name::Final, whole, Standing::Foreign),
        (None, Some(part)) => (Name::Part, part, Standing::Foreign),
    };
    let conflict = if found.stamp.size > spec.len {
        Some(ConflictReason::TooLong { expected: spec.len })
    } else if both && name == Name::Part {
        Some(ConflictReason::BothNames)
    } else {
        None
    };
    Ok(Seen {
        name,
        standing,
        stamp: Some(found.stamp),
        both,
        conflict,
    })
}

/// How many bytes of each file the claimed pieces need.
fn claimed_ends(content: &Content, past: &Past<'_>) -> Vec<u64> {
    let layout = &content.layout;
    let Some(claim) = past.claim() else {
        return vec![0; content.files.len()];
    };
    let piece_len = u64::from(layout.piece_length());
    let mut start = 0;
    let mut ends = Vec::with_capacity(content.files.len());
    for file in 0..content.files.len() {
        let len = layout.file_len(file);
        let last = layout
            .file_pieces(file)
            .rev()
            .find(|&piece| claim.get(piece));
        ends.push(last.map_or(0, |piece| {
            let end = (u64::from(piece) + 1) * piece_len;
            end.saturating_sub(start).min(len)
        }));
        start += len;
    }
    ends
}

/// On a file system that ignores case, two files of a torrent may be one here.
fn no_two_are_one(content: &Content, folder: &Folder, seen: &[Seen]) -> Result<(), StorageError> {
    let mut inodes = BTreeMap::new();
    for (spec, seen) in content.files.iter().zip(seen) {
        let Some(stamp) = seen.stamp else { continue };
        if inodes.insert((stamp.dev, stamp.ino), ()).is_some() {
            return Err(StorageError::Conflict {
                path: folder.full_path(&spec.path),
                reason: ConflictReason::SameFile,
            });
        }
    }
    Ok(())
}

/// Pieces that count without hashing, and pieces that must be hashed.
pub(super) struct Sorted {
    pub(super) trusted: Bitfield,
    pub(super) to_check: Bitfield,
}

pub(super) fn sort_pieces(content: &Content, past: &Past<'_>, seen: &[Seen]) -> Sorted {
    let layout = &content.layout;
    let mut sorted = Sorted {
        trusted: Bitfield::new(layout.pieces()),
        to_check: Bitfield::new(layout.pieces()),
    };
    for piece in layout.all_pieces() {
        match sort(content, past, seen, piece) {
            Verdict::Trusted => sorted.trusted.set(piece.get()),
            Verdict::Check => sorted.to_check.set(piece.get()),
            Verdict::Missing => false,
        };
    }
    sorted
}

enum Verdict {
    Trusted,
    Check,
    Missing,
}

fn sort(content: &Content, past: &Past<'_>, seen: &[Seen], piece: PieceIndex) -> Verdict {
    let mut all_trusted = true;
    for file in content.layout.piece_files(piece) {
        if content.layout.is_pad_file(file) {
            continue;
        }
        match seen[file].standing {
            Standing::Absent => return Verdict::Missing,
            Standing::Trusted => {}
            Standing::Owned | Standing::Foreign => all_trusted = false,
        }
    }
    let claimed = past.claim().is_some_and(|claim| claim.get(piece.get()));
    let written = past
        .resume()
        .is_some_and(|resume| resume.written.get(piece.get()));
    match (all_trusted, claimed, written) {
        (true, true, _) => Verdict::Trusted,
        (true, false, false) => Verdict::Missing,
        (true, false, true) | (false, _, _) => Verdict::Check,
    }
}
