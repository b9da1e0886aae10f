//! Makes .torrent files (BEP 3).
//!
//! In order: [`Content`] (names are checked and files sorted), [`PieceLen`] (chosen or asked for),
//! then whoever does I/O hashes the files in the order of [`Content::files`], and [`build`] writes
//! the bytes. The same input gives the same bytes: nothing here knows the time or the machine.
//!
//! Files are sorted by their path, component by component, as bytes.

use std::fmt;

use crate::bencode::Bencode;
use crate::ids::Sha1Digest;
use crate::layout::{FileSpan, Layout, LayoutError, PIECE_LEN_MAX, PIECES_MAX};
use crate::safe_path::{PathError, SafePath, resolve_collisions};
use crate::torrent_file::{FILES_MAX, MetainfoError, TORRENT_FILE_LEN_MAX, Torrent};

/// The smallest piece, in bytes: one block.
pub const PIECE_LEN_MIN: u32 = 16 << 10;

/// The largest piece that we choose as long as anything else fits, in bytes.
pub const PIECE_LEN_ORDINARY_MAX: u32 = 16 << 20;

/// Pieces of a torrent of ordinary size: half as many to this many.
pub const PIECES_ORDINARY_MAX: u64 = 2_000;

/// Length of the `info` dictionary in bytes that we stay under: clients refuse to fetch a longer
/// one from peers (BEP 9), so that magnet links would not work.
pub const INFO_LEN_MAX: u64 = 2 << 20;

/// The most bytes that are kept free of the limit of a .torrent file, for what is not `info`.
const DETAILS_LEN_MAX: u64 = 64 << 10;

/// The bytes of `info` that are kept free for `private` and `source`.
const INFO_DETAILS_LEN_MAX: u64 = 1 << 10;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    #[error("{0} is an empty folder: nothing to share")]
    NoFiles(String),
    #[error("{0} files, more than the {FILES_MAX} that a torrent may have: share sub-folders")]
    TooManyFiles(usize),
    #[error("unusable name: {0}")]
    Path(#[from] PathError),
    #[error("{0:?} would have another name on the other side: rename it")]
    Name(String),
    #[error("piece length {0} is not a power of two from 16 KiB to 512 MiB")]
    PieceLength(u64),
    #[error("pieces of {piece_len} bytes make {pieces} of them, more than {PIECES_MAX}")]
    TooManyPieces { piece_len: u32, pieces: u64 },
    #[error("the .torrent file would be longer than {TORRENT_FILE_LEN_MAX} bytes: {0}")]
    TooLong(&'static str),
    #[error("{0}")]
    Layout(#[from] LayoutError),
    #[error("{0}")]
    Torrent(#[from] MetainfoError),
}

/// What a torrent is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    name: String,
    files: Vec<NewFile>,
    is_single_file: bool,
}

/// A file below the folder that is shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewFile {
    /// From the folder down. Empty if the file itself is shared.
    pub path: Vec<String>,
    /// In bytes.
    pub len: u64,
}

impl Content {
    /// One file.
    pub fn file(name: impl Into<String>, len: u64) -> Result<Self, CreateError> {
        Self::checked(Self {
            name: name.into(),
            files: vec![NewFile {
                path: Vec::new(),
                len,
            }],
            is_single_file: true,
        })
    }

    /// A folder with at least one file in it, at any depth. Brings the files into our order.
    pub fn folder(name: impl Into<String>, mut files: Vec<NewFile>) -> Result<Self, CreateError> {
        let name = name.into();
        if files.is_empty() {
            return Err(CreateError::NoFiles(name));
        }
        files.sort();
        Self::checked(Self {
            name,
            files,
            is_single_file: false,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// In the order of the torrent, which is the order to hash them in.
    pub fn files(&self) -> &[NewFile] {
        &self.files
    }

    pub fn is_single_file(&self) -> bool {
        self.is_single_file
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// A torrent must mean the names that its maker has on disk, or he could not seed it.
    fn checked(self) -> Result<Self, CreateError> {
        if self.files.len() > FILES_MAX {
            return Err(CreateError::TooManyFiles(self.files.len()));
        }
        Layout::new(PIECE_LEN_MAX.into(), self.spans())?;
        let mut paths = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let names = std::iter::once(&self.name).chain(&file.path);
            let path = SafePath::new(names.clone().map(|name| name.as_bytes()))?;
            if !path.components().eq(names.map(String::as_str)) {
                return Err(CreateError::Name(file.path_below(&self.name)));
            }
            paths.push(path);
        }
        let mut distinct = paths.clone();
        resolve_collisions(&mut distinct.iter_mut().collect::<Vec<_>>());
        if let Some((path, _)) = paths.iter().zip(&distinct).find(|(a, b)| a != b) {
            return Err(CreateError::Name(path.to_string()));
        }
        Ok(self)
    }

    fn spans(&self) -> impl Iterator<Item = FileSpan> {
        let span = |file: &NewFile| FileSpan {
            len: file.len,
            pad: false,
        };
        self.files.iter().map(span)
    }

    /// The length of `info` without piece digests and what the maker adds, in bytes.
    fn info_len(&self) -> u64 {
        let details = Details::default();
        let info = info(self, PIECE_LEN_MAX, &[], &details);
        info.encode().len() as u64
    }
}

impl NewFile {
    fn path_below(&self, name: &str) -> String {
        let mut path = name.to_owned();
        for component in &self.path {
            path.push('/');
            path.push_str(component);
        }
        path.chars().take(200).collect()
    }
}

/// A piece length, and in one sentence why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceLen {
    /// In bytes: a power of two.
    pub len: u32,
    /// How many pieces that makes.
    pub pieces: u64,
    pub reason: String,
}

impl PieceLen {
    /// Chooses: the smallest that makes no more than [`PIECES_ORDINARY_MAX`] pieces, between
    /// [`PIECE_LEN_MIN`] and [`PIECE_LEN_ORDINARY_MAX`]; larger if `info` would exceed
    /// [`INFO_LEN_MAX`] otherwise.
    pub fn auto(content: &Content) -> Result<Self, CreateError> {
        let bytes = content.bytes();
        let ordinary = double_until(PIECE_LEN_MIN, PIECE_LEN_ORDINARY_MAX, |len| {
            bytes.div_ceil(len.into()) <= PIECES_ORDINARY_MAX
        });
        let info_len = content.info_len() + INFO_DETAILS_LEN_MAX;
        let fits = |len: u32| {
            let digests = bytes.div_ceil(len.into()) * Sha1Digest::LEN as u64;
            digests + info_len < INFO_LEN_MAX
        };
        // When the list of files alone is too long, larger pieces are no help.
        let len = if info_len + PIECES_ORDINARY_MAX * Sha1Digest::LEN as u64 >= INFO_LEN_MAX {
            ordinary
        } else {
            double_until(ordinary, PIECE_LEN_MAX, fits)
        };
        let pieces = bytes.div_ceil(len.into());
        let (size, count) = (Binary(len), Count(pieces));
        let reason = if len > ordinary {
            format!(
                "{size}, {count}: with smaller pieces the torrent's description would exceed 2 MiB, \
                 and magnet links would not work"
            )
        } else if len == PIECE_LEN_MIN {
            format!("{size}, {count}: the smallest pieces there are, because the content is small")
        } else if pieces > PIECES_ORDINARY_MAX {
            format!("{size}, {count}: the largest pieces that all clients handle well")
        } else {
            format!(
                "{size}, {count}: with 1,000 to 2,000 pieces peers soon have something to trade, \
                 and the .torrent file stays small"
            )
        };
        Self {
            len,
            pieces,
            reason,
        }
        .check(content)
    }

    /// Takes what the user asks for.
    pub fn exactly(len: u64, content: &Content) -> Result<Self, CreateError> {
        let len = u32::try_from(len)
            .ok()
            .filter(|len| len.is_power_of_two() && (PIECE_LEN_MIN..=PIECE_LEN_MAX).contains(len))
            .ok_or(CreateError::PieceLength(len))?;
        let pieces = content.bytes().div_ceil(len.into());
        let reason = format!("{}, {}: as asked", Binary(len), Count(pieces));
        Self {
            len,
            pieces,
            reason,
        }
        .check(content)
    }

    /// Says before anything is hashed what would make the result unusable.
    fn check(self, content: &Content) -> Result<Self, CreateError> {
        if self.pieces > PIECES_MAX.into() {
            return Err(CreateError::TooManyPieces {
                piece_len: self.len,
                pieces: self.pieces,
            });
        }
        let room = (TORRENT_FILE_LEN_MAX as u64).saturating_sub(DETAILS_LEN_MAX);
        let list = content.info_len();
        if list > room {
            return Err(CreateError::TooLong("share sub-folders, or fewer files"));
        }
        if list + self.pieces * Sha1Digest::LEN as u64 > room {
            return Err(CreateError::TooLong("take larger pieces"));
        }
        Ok(self)
    }
}

/// What the maker of a torrent may add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Tiers of URLs (BEP 12).
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    /// Part of the info hash, as is `source`.
    pub private: bool,
    pub source: Option<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970. `None` leaves the date out.
    pub created: Option<i64>,
}

/// Writes the .torrent file. The torrent that comes with it is what our own reader makes of the
/// bytes.
pub fn build(
    content: &Content,
    piece_len: &PieceLen,
    piece_digests: &[Sha1Digest],
    details: &Details,
) -> Result<(Vec<u8>, Torrent), CreateError> {
    let trackers: Vec<&[String]> = details
        .trackers
        .iter()
        .map(|tier| &tier[..])
        .filter(|tier| !tier.is_empty())
        .collect();
    let mut root = vec![("info", info(content, piece_len.len, piece_digests, details))];
    if let Some(first) = trackers.first().and_then(|tier| tier.first()) {
        root.push(("announce", first[..].into()));
    }
    if trackers.iter().map(|tier| tier.len()).sum::<usize>() > 1 {
        let tiers = trackers.iter().map(|tier| texts(tier));
        root.push(("announce-list", Bencode::list(tiers)));
    }
    if !details.web_seeds.is_empty() {
        root.push(("url-list", texts(&details.web_seeds)));
    }
    if let Some(comment) = &details.comment {
        root.push(("comment", comment[..].into()));
    }
    if let Some(created_by) = &details.created_by {
        root.push(("created by", created_by[..].into()));
    }
    if let Some(created) = details.created {
        root.push(("creation date", created.into()));
    }
    let bytes = Bencode::dict(root).encode();
    let torrent = Torrent::parse(&bytes)?;
    Ok((bytes, torrent))
}

fn info<'a>(
    content: &'a Content,
    piece_len: u32,
    piece_digests: &[Sha1Digest],
    details: &'a Details,
) -> Bencode<'a> {
    let digests: Vec<u8> = piece_digests
        .iter()
        .flat_map(|digest| *digest.as_bytes())
        .collect();
    let mut info = vec![
        ("name", content.name[..].into()),
        ("piece length", piece_len.into()),
        ("pieces", digests.into()),
    ];
    match &content.files[..] {
        [file] if content.is_single_file => info.push(("length", length(file))),
        files => {
            let entry = |file: &'a NewFile| {
                Bencode::dict([("length", length(file)), ("path", texts(&file.path))])
            };
            info.push(("files", Bencode::list(files.iter().map(entry))));
        }
    }
    if details.private {
        info.push(("private", 1u32.into()));
    }
    if let Some(source) = &details.source {
        info.push(("source", source[..].into()));
    }
    Bencode::dict(info)
}

fn length(file: &NewFile) -> Bencode<'static> {
    let len = i64::try_from(file.len).expect("Content::checked kept the sum below 2^63");
    len.into()
}

fn texts(texts: &[String]) -> Bencode<'_> {
    Bencode::list(texts.iter().map(|text| text[..].into()))
}

/// The first power of two from `from` on that is enough, or `to`.
fn double_until(from: u32, to: u32, enough: impl Fn(u32) -> bool) -> u32 {
    let mut len = from;
    while len < to && !enough(len) {
        len *= 2;
    }
    len
}

/// A power of two of bytes, for people.
struct Binary(u32);

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            len if len < 1 << 20 => write!(f, "{} KiB", len >> 10),
            len => write!(f, "{} MiB", len >> 20),
        }
    }
}

/// A number of pieces, for people.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 piece"),
            pieces => write!(f, "{pieces} pieces"),
        }
    }
}

#[cfg(test)]
mod tests;
