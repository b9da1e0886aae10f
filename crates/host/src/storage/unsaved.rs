//! Pieces that were written after resume data was last saved, as a killed process leaves them.
//!
//! Nothing says which they are, but unfinished files are sparse: a piece without a hole in it was
//! written, and is worth hashing. Only looks; what is found is a guess until it verified.

use std::fs::File;

use dunlin_metainfo::{Bitfield, PieceIndex, Slice};

use super::Name;
use super::content::Content;
use super::folder::{Access, Folder};
use super::survey::{Seen, Standing};

/// Payload that is hashed on such a guess at most: on a file system without holes every piece
/// looks written.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Pieces outside `known` that seem to be written.
pub(super) fn unsaved_pieces(
    content: &Content,
    folder: &Folder,
    seen: &[Seen],
    known: &Bitfield,
) -> Vec<PieceIndex> {
    let mut looking = Looking {
        content,
        folder,
        seen,
        opened: None,
    };
    let mut left = CHECKED_BYTES_MAX;
    let mut found = Vec::new();
    for piece in content.layout.all_pieces() {
        let len = u64::from(content.layout.piece_len(piece));
        if len <= left && !known.get(piece.get()) && looking.is_written(piece) {
            left -= len;
            found.push(piece);
        }
    }
    found
}

struct Looking<'a> {
    content: &'a Content,
    folder: &'a Folder,
    seen: &'a [Seen],
    /// The file that was looked into last: pieces follow each other.
    opened: Option<(usize, Option<File>)>,
}

impl Looking<'_> {
    fn is_written(&mut self, piece: PieceIndex) -> bool {
        let layout = &self.content.layout;
        let mut has_unfinished = false;
        for slice in layout.slices(piece, 0, layout.piece_len(piece)) {
            let Slice::File { file, offset, len } = slice else {
                continue;
            };
            let seen = &self.seen[file];
            if seen.standing != Standing::Trusted {
                return false;
            }
            if seen.name == Name::Part {
                has_unfinished = true;
                if !self.is_solid(file, offset, u64::from(len)) {
                    return false;
                }
            }
        }
        has_unfinished
    }

    fn is_solid(&mut self, file: usize, offset: u64, len: u64) -> bool {
        if self.opened.as_ref().is_none_or(|(at, _)| *at != file) {
            let part = &self.content.files[file].part;
            // What cannot be opened is found out, and told, by whoever needs it.
            let opened = self.folder.open_file(part, Access::Read).ok();
            self.opened = Some((file, opened));
        }
        match &self.opened {
            Some((_, Some(opened))) => first_hole(opened, offset) >= Some(offset + len),
            Some((_, None)) | None => false,
        }
    }
}

/// Where the first hole at or after `offset` begins; the end of a file counts as one. `None`
/// beyond the end, or if the file system does not say.
#[cfg(target_os = "linux")]
fn first_hole(file: &File, offset: u64) -> Option<u64> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset)).ok()
}

#[cfg(not(target_os = "linux"))]
fn first_hole(_file: &File, _offset: u64) -> Option<u64> {
    None
}
