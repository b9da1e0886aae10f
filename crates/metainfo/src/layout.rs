//! Where pieces, blocks and files lie: the only place that divides by the piece length.
//!
//! [`PieceIndex`], [`Block`] and [`Run`] are made here alone, so whoever holds one holds a valid
//! one and need not check again.

use std::ops::Range;

/// The unit that peers request, in bytes. BEP 3 names no size; every client uses 16 KiB and closes
/// on more.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The longest piece that we handle, in bytes: block indices fit `u16` with room to spare.
pub const PIECE_LEN_MAX: u32 = 512 * 1024 * 1024;

/// The most pieces a torrent may have (libtorrent's limit too).
pub const PIECES_MAX: u32 = 1 << 21;

/// Index of a piece in its torrent. Made by [`Layout`], hence in range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PieceIndex(u32);

impl PieceIndex {
    pub const fn get(self) -> u32 {
        self.0
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// At most [`BLOCK_LEN`] bytes of one piece, at a multiple of [`BLOCK_LEN`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    piece: PieceIndex,
    offset: u32,
    len: u32,
}

impl Block {
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Bytes from the start of the piece.
    pub const fn offset(self) -> u32 {
        self.offset
    }

    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Which block of its piece this is.
    pub const fn index(self) -> u16 {
        (self.offset / BLOCK_LEN) as u16
    }
}

/// Consecutive blocks of one piece: never empty, never past the end of the piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Run {
    piece: PieceIndex,
    first: u16,
    count: u16,
}

impl Run {
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    pub const fn first(self) -> u16 {
        self.first
    }

    pub const fn count(self) -> u16 {
        self.count
    }

    /// Indices of the blocks in the piece.
    pub fn blocks(self) -> Range<u16> {
        self.first..self.first + self.count
    }
}

/// What a [`Layout`] needs to know about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSpan {
    pub len: u64,
    /// Zeros that only align the next file (BEP 47): never stored.
    pub pad: bool,
}

/// A stretch of a piece, in terms of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slice {
    /// `len` bytes at `offset` of the `file`-th file.
    File { file: usize, offset: u64, len: u32 },
    /// `len` zeros that no file holds.
    Pad { len: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("piece length {0} is not between 1 and {PIECE_LEN_MAX}")]
    PieceLength(u64),
    #[error("file sizes add up to more than 2^63 bytes")]
    TooLarge,
    #[error("{0} pieces, more than {PIECES_MAX}")]
    TooManyPieces(u64),
}

/// Which pieces hold each file of a v2 torrent, where every file that is not empty begins a piece
/// (BEP 52).
pub fn v2_pieces(
    piece_len: u32,
    lens: impl IntoIterator<Item = u64>,
) -> Result<Vec<Range<u32>>, LayoutError> {
    if piece_len == 0 || piece_len > PIECE_LEN_MAX {
        return Err(LayoutError::PieceLength(piece_len.into()));
    }
    let mut end = 0;
    let mut ranges = Vec::new();
    for len in lens {
        let start = end;
        let pieces = u64::from(start) + len.div_ceil(u64::from(piece_len));
        end = u32::try_from(pieces)
            .ok()
            .filter(|&end| end <= PIECES_MAX)
            .ok_or(LayoutError::TooManyPieces(pieces))?;
        ranges.push(start..end);
    }
    Ok(ranges)
}

/// The arithmetic of one torrent: pieces over blocks over files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    piece_len: u32,
    bytes: u64,
    pieces: u32,
    files: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Bytes from the start of the torrent.
    start: u64,
    len: u64,
    pad: bool,
}

impl Layout {
    pub fn new(
        piece_len: u64,
        files: impl IntoIterator<Item = FileSpan>,
    ) -> Result<Self, LayoutError> {
        if piece_len == 0 || piece_len > u64::from(PIECE_LEN_MAX) {
            return Err(LayoutError::PieceLength(piece_len));
        }
        let mut bytes = 0u64;
        let mut extents = Vec::new();
        for FileSpan { len, pad } in files {
            extents.push(Extent {
                start: bytes,
                len,
                pad,
            });
            bytes = bytes
                .checked_add(len)
                .filter(|&sum| sum <= i64::MAX as u64)
                .ok_or(LayoutError::TooLarge)?;
        }
        let pieces = bytes.div_ceil(piece_len);
        if pieces > u64::from(PIECES_MAX) {
            return Err(LayoutError::TooManyPieces(pieces));
        }
        let (piece_len, pieces) = (piece_len as u32, pieces as u32);
        Ok(Self {
            piece_len,
            bytes,
            pieces,
            files: extents,
        })
    }

    /// Length of every piece but the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_len
    }

    /// Size of the torrent, pads included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    pub fn files(&self) -> usize {
        self.files.len()
    }

    pub fn file_len(&self, file: usize) -> u64 {
        self.files[file].len
    }

    pub fn is_pad_file(&self, file: usize) -> bool {
        self.files[file].pad
    }

    /// Whether the file begins where a piece does, as all but empty ones must in v2 (BEP 52).
    pub fn begins_piece(&self, file: usize) -> bool {
        self.files[file]
            .start
            .is_multiple_of(u64::from(self.piece_len))
    }

    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.pieces).then_some(PieceIndex(index))
    }

    pub fn all_pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// Length of this piece in bytes: the last one may be short.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let rest = self.bytes - self.piece_start(piece);
        rest.min(u64::from(self.piece_len)) as u32
    }

    pub fn blocks_in(&self, piece: PieceIndex) -> u16 {
        self.piece_len(piece).div_ceil(BLOCK_LEN) as u16
    }

    /// The block that a peer names, if it is exactly one of ours.
    pub fn block(&self, piece: u32, begin: u32, len: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        if !begin.is_multiple_of(BLOCK_LEN) {
            return None;
        }
        let block = self.block_at(piece, u16::try_from(begin / BLOCK_LEN).ok()?)?;
        (block.len == len).then_some(block)
    }

    pub fn block_at(&self, piece: PieceIndex, index: u16) -> Option<Block> {
        let offset = u32::from(index) * BLOCK_LEN;
        let rest = self
            .piece_len(piece)
            .checked_sub(offset)
            .filter(|&rest| rest > 0)?;
        Some(Block {
            piece,
            offset,
            len: rest.min(BLOCK_LEN),
        })
    }

    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = Block> + '_ {
        (0..self.blocks_in(piece)).filter_map(move |index| self.block_at(piece, index))
    }

    pub fn run(&self, piece: PieceIndex, first: u16, count: u16) -> Option<Run> {
        let end = first.checked_add(count)?;
        (count > 0 && end <= self.blocks_in(piece)).then_some(Run {
            piece,
            first,
            count,
        })
    }

    /// Both as one run, if the second begins where the first ends.
    pub fn join(&self, first: Run, second: Run) -> Option<Run> {
        let follows = first.piece == second.piece && first.blocks().end == second.first;
        follows
            .then(|| self.run(first.piece, first.first, first.count + second.count))
            .flatten()
    }

    pub fn run_of(&self, block: Block) -> Run {
        Run {
            piece: block.piece,
            first: block.index(),
            count: 1,
        }
    }

    pub fn run_blocks(&self, run: Run) -> impl Iterator<Item = Block> + '_ {
        run.blocks()
            .filter_map(move |index| self.block_at(run.piece, index))
    }

    /// Payload bytes of the run.
    pub fn run_len(&self, run: Run) -> u32 {
        let end = u32::from(run.first + run.count) * BLOCK_LEN;
        end.min(self.piece_len(run.piece)) - u32::from(run.first) * BLOCK_LEN
    }

    /// Whether the block holds nothing but padding: then nobody needs to send it.
    pub fn is_pad(&self, block: Block) -> bool {
        self.slices(block.piece, block.offset, block.len)
            .all(|slice| matches!(slice, Slice::Pad { .. }))
    }

    /// The bytes `offset .. offset + len` of a piece, file by file. Empty files do not appear;
    /// what lies past the end of the piece is cut off.
    pub fn slices(
        &self,
        piece: PieceIndex,
        offset: u32,
        len: u32,
    ) -> impl Iterator<Item = Slice> + '_ {
        let piece_end = self.piece_start(piece) + u64::from(self.piece_len(piece));
        let start = (self.piece_start(piece) + u64::from(offset)).min(piece_end);
        let end = (start + u64::from(len)).min(piece_end);
        let first = self
            .files
            .partition_point(|file| file.start + file.len <= start);
        self.files[first..]
            .iter()
            .enumerate()
            .take_while(move |(_, file)| file.start < end)
            .filter(|(_, file)| file.len > 0)
            .map(move |(at, file)| {
                let from = start.max(file.start);
                let len = (end.min(file.start + file.len) - from) as u32;
                if file.pad {
                    Slice::Pad { len }
                } else {
                    Slice::File {
                        file: first + at,
                        offset: from - file.start,
                        len,
                    }
                }
            })
    }

    /// The pieces that hold bytes of the file: empty for an empty file.
    pub fn file_pieces(&self, file: usize) -> Range<u32> {
        let Extent { start, len, .. } = self.files[file];
        if len == 0 {
            return 0..0;
        }
        let piece_len = u64::from(self.piece_len);
        (start / piece_len) as u32..(start + len).div_ceil(piece_len) as u32
    }

    /// The files that have bytes in the piece, pads included.
    pub fn piece_files(&self, piece: PieceIndex) -> impl Iterator<Item = usize> + '_ {
        let start = self.piece_start(piece);
        let end = start + u64::from(self.piece_len(piece));
        let first = self
            .files
            .partition_point(|file| file.start + file.len <= start);
        (first..self.files.len())
            .take_while(move |&file| self.files[file].start < end)
            .filter(|&file| self.files[file].len > 0)
    }

    fn piece_start(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files(lens: &[u64]) -> Vec<FileSpan> {
        lens.iter()
            .map(|&len| FileSpan { len, pad: false })
            .collect()
    }

    #[test]
    fn the_last_piece_and_the_last_block_are_short() {
        let layout = Layout::new(40_000, files(&[100_001])).unwrap();
        assert_eq!(layout.pieces(), 3);
        let last = layout.piece(2).unwrap();
        assert_eq!(layout.piece_len(last), 20_001);
        assert_eq!(layout.blocks_in(last), 2);
        assert_eq!(layout.block_at(last, 1).unwrap().len(), 20_001 - BLOCK_LEN);
        assert_eq!(layout.block_at(last, 2), None);
        assert_eq!(layout.piece(3), None);
    }

    #[test]
    fn only_exact_blocks_are_valid() {
        let layout = Layout::new(65_536, files(&[70_000])).unwrap();
        assert!(layout.block(0, 0, BLOCK_LEN).is_some());
        assert!(layout.block(0, 1, BLOCK_LEN).is_none());
        assert!(layout.block(0, 0, BLOCK_LEN + 1).is_none());
        assert!(layout.block(0, 65_536, BLOCK_LEN).is_none());
        assert!(layout.block(1, 0, 70_000 - 65_536).is_some());
        assert!(
            layout
                .block(0, u32::MAX - (u32::MAX % BLOCK_LEN), BLOCK_LEN)
                .is_none()
        );
    }

    #[test]
    fn overflow_is_refused() {
        let huge = files(&[u64::MAX / 2, u64::MAX / 2, 10]);
        assert_eq!(Layout::new(1 << 14, huge), Err(LayoutError::TooLarge));
        assert_eq!(
            Layout::new(0, files(&[1])),
            Err(LayoutError::PieceLength(0))
        );
        assert!(matches!(
            Layout::new(1, files(&[u64::from(PIECES_MAX) + 1])),
            Err(LayoutError::TooManyPieces(_))
        ));
    }

    #[test]
    fn pads_are_slices_of_their_own() {
        let spans = [
            FileSpan {
                len: 10,
                pad: false,
            },
            FileSpan { len: 6, pad: true },
            FileSpan {
                len: 16,
                pad: false,
            },
        ];
        let layout = Layout::new(16, spans).unwrap();
        let first = layout.piece(0).unwrap();
        assert_eq!(
            layout.slices(first, 0, 16).collect::<Vec<_>>(),
            [
                Slice::File {
                    file: 0,
                    offset: 0,
                    len: 10
                },
                Slice::Pad { len: 6 }
            ]
        );
        assert_eq!(layout.file_pieces(2), 1..2);
        assert_eq!(layout.piece_files(first).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn files_of_v2_begin_pieces_of_their_own() {
        let ranges = v2_pieces(16_384, [1, 0, 16_384, 16_385, 0]).unwrap();
        assert_eq!(ranges, [0..1, 1..1, 1..2, 2..4, 4..4]);
        let layout = Layout::new(16_384, files(&[16_384, 0, 5, 5])).unwrap();
        let begins: Vec<bool> = (0..4).map(|file| layout.begins_piece(file)).collect();
        assert_eq!(begins, [true, true, true, false]);
        let pieces_max = u64::from(PIECES_MAX);
        assert!(v2_pieces(16_384, [16_384 * pieces_max]).is_ok());
        for lens in [&[16_384 * pieces_max + 1][..], &[u64::MAX, u64::MAX]] {
            let result = v2_pieces(16_384, lens.iter().copied());
            assert!(matches!(result, Err(LayoutError::TooManyPieces(_))));
        }
        assert_eq!(v2_pieces(0, [1]), Err(LayoutError::PieceLength(0)));
    }

    proptest! {
        #[test]
        fn slices_tile_every_file_exactly(
            piece_len in 1u64..200,
            lens in prop::collection::vec(0u64..300, 0..8),
        ) {
            let layout = Layout::new(piece_len, files(&lens)).unwrap();
            let mut written: Vec<u64> = vec![0; lens.len()];
            for piece in layout.all_pieces() {
                let mut in_piece = 0;
                for slice in layout.slices(piece, 0, layout.piece_len(piece)) {
                    let Slice::File { file, offset, len } = slice else { unreachable!() };
                    prop_assert!(len > 0);
                    prop_assert_eq!(written[file], offset);
                    prop_assert!(layout.file_pieces(file).contains(&piece.get()));
                    prop_assert!(layout.piece_files(piece).any(|f| f == file));
                    written[file] += u64::from(len);
                    in_piece += len;
                }
                prop_assert_eq!(in_piece, layout.piece_len(piece));
            }
            prop_assert_eq!(written, lens);
        }

        #[test]
        fn blocks_tile_every_piece(piece_len in 1u64..200_000, bytes in 0u64..700_000) {
            let layout = Layout::new(piece_len, files(&[bytes])).unwrap();
            for piece in layout.all_pieces() {
                let mut at = 0;
                for block in layout.blocks(piece) {
                    prop_assert_eq!(block.offset(), at);
                    prop_assert_eq!(layout.block(piece.get(), at, block.len()), Some(block));
                    at += block.len();
                }
                prop_assert_eq!(at, layout.piece_len(piece));
                let all = layout.run(piece, 0, layout.blocks_in(piece)).unwrap();
                prop_assert_eq!(layout.run_len(all), at);
            }
        }
    }
}
