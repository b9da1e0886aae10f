//! A piece that is being put together: which blocks are in memory, which are on the disk, and how
//! far the hash is. No I/O here.
//!
//! Blocks are hashed in order, from memory as they come; a block that was written before the hash
//! reached it must be read back. Every block remembers the job that brought it, so that the job is
//! answered when its last block is written or dropped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use dunlin_engine::event::{JobId, TorrentKey};
use dunlin_hash::{Sha1, sha1};
use dunlin_metainfo::{Block, Layout, PieceIndex, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;

use crate::check::zeros;
use crate::storage::Storage;

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) torrent: TorrentKey,
    pub(super) storage: Arc<Storage>,
    pub(super) index: PieceIndex,
    /// Pieces that were begun earlier have smaller numbers.
    pub(super) begun: u64,
    slots: Vec<Slot>,
    hash: Sha1,
    /// Blocks that are in the hash.
    hashed: u16,
    jobs: BTreeMap<JobId, Given>,
    held_bytes: u64,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Held {
        buf: BlockBuf,
        job: JobId,
    },
    /// In the file.
    Written,
}

/// A `Write` that is not answered yet.
#[derive(Debug)]
struct Given {
    bytes: u32,
    blocks_left: u16,
    bufs: Vec<BlockBuf>,
}

/// A `Write` that can be answered, and its buffers.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) job: JobId,
    pub(super) bytes: u32,
    pub(super) bufs: Vec<BlockBuf>,
}

/// How the hash may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It reached the end, or a block that is not here.
    Wait,
    /// This block must be read back, and given to [`Piece::hash_block`].
    ReadBack(Block),
}

impl Piece {
    pub(super) fn new(
        torrent: TorrentKey,
        storage: Arc<Storage>,
        index: PieceIndex,
        begun: u64,
    ) -> Self {
        let blocks = storage.content().layout.blocks_in(index);
        Self {
            torrent,
            storage,
            index,
            begun,
            slots: (0..blocks).map(|_| Slot::Empty).collect(),
            hash: Sha1::new(),
            hashed: 0,
            jobs: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    /// Takes the blocks of a job. Of a block that came before, the first copy counts.
    pub(super) fn give(&mut self, job: JobId, run: Run, bufs: Vec<BlockBuf>) -> Vec<Answered> {
        debug_assert_eq!(bufs.len(), usize::from(run.count()));
        let storage = Arc::clone(&self.storage);
        let mut given = Given {
            bytes: bufs.iter().map(BlockBuf::len).sum(),
            blocks_left: 0,
            bufs: Vec::new(),
        };
        for (block, buf) in storage.content().layout.run_blocks(run).zip(bufs) {
            debug_assert_eq!(block.len(), buf.len());
            match self.slots.get_mut(usize::from(block.index())) {
                Some(slot @ Slot::Empty) => {
                    given.blocks_left += 1;
                    self.held_bytes += u64::from(buf.len());
                    *slot = Slot::Held { buf, job };
                }
                Some(Slot::Held { .. } | Slot::Written) | None => given.bufs.push(buf),
            }
        }
        self.jobs.insert(job, given);
        self.answer()
    }

    /// Hashes what is in memory, as far as it goes.
    pub(super) fn advance(&mut self) -> Next {
        let storage = Arc::clone(&self.storage);
        let layout = &storage.content().layout;
        while let Some(block) = layout.block_at(self.index, self.hashed) {
            match &self.slots[usize::from(self.hashed)] {
                Slot::Held { buf, .. } => self.hash.update(buf.bytes()),
                Slot::Written => return Next::ReadBack(block),
                // Nobody sends padding (BEP 47).
                Slot::Empty if layout.is_pad(block) => zeros(&mut self.hash, block.len()),
                Slot::Empty => return Next::Wait,
            }
            self.hashed += 1;
        }
        Next::Wait
    }

    /// The bytes of the block that [`Next::ReadBack`] asked for.
    pub(super) fn hash_block(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.hashed += 1;
    }

    /// The digest, if the hash reached the end.
    pub(super) fn digest(&self) -> Option<Sha1Digest> {
        (usize::from(self.hashed) == self.slots.len()).then(|| self.hash.clone().finish())
    }

    /// The digest of one block, or `None` if it must be read back.
    pub(super) fn block_digest(&self, block: Block) -> Option<Sha1Digest> {
        match self.slots.get(usize::from(block.index()))? {
            Slot::Held { buf, .. } => Some(sha1(buf.bytes())),
            Slot::Written => None,
            Slot::Empty => {
                let mut hash = Sha1::new();
                zeros(&mut hash, block.len());
                Some(hash.finish())
            }
        }
    }

    /// Bytes that are in memory.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Stretches of blocks that are in memory.
    pub(super) fn held(&self) -> Vec<Range<u16>> {
        let mut stretches: Vec<Range<u16>> = Vec::new();
        for (at, slot) in (0..).zip(&self.slots) {
            if !matches!(slot, Slot::Held { .. }) {
                continue;
            }
            match stretches.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                Some(_) | None => stretches.push(at..at + 1),
            }
        }
        stretches
    }

    /// The stretch in memory that the hash has just passed, if it is worth a write.
    pub(super) fn worth_writing(&self) -> Option<Range<u16>> {
        let hashed = &self.slots[..usize::from(self.hashed)];
        let held = hashed
            .iter()
            .rev()
            .take_while(|slot| matches!(slot, Slot::Held { .. }))
            .count() as u16;
        (held >= WRITE_BLOCKS_MIN).then(|| self.hashed - held..self.hashed)
    }

    /// The bytes of a stretch of [`Piece::held`].
    pub(super) fn bytes(&self, blocks: &Range<u16>) -> Vec<&[u8]> {
        self.slots[usize::from(blocks.start)..usize::from(blocks.end)]
            .iter()
            .map(|slot| match slot {
                Slot::Held { buf, .. } => buf.bytes(),
                Slot::Empty | Slot::Written => &[],
            })
            .collect()
    }

    /// These blocks are in the file now.
    pub(super) fn on_written(&mut self, blocks: &Range<u16>) -> Vec<Answered> {
        for at in blocks.clone() {
            self.release(at, Slot::Written);
        }
        self.answer()
    }

    /// Drops what is in memory. Everything given is answered then.
    pub(super) fn drop_held(&mut self) -> Vec<Answered> {
        for at in 0..self.slots.len() as u16 {
            self.release(at, Slot::Empty);
        }
        self.answer()
    }

    fn release(&mut self, at: u16, now: Slot) {
        let slot = &mut self.slots[usize::from(at)];
        if !matches!(slot, Slot::Held { .. }) {
            return;
        }
        if let Slot::Held { buf, job } = std::mem::replace(slot, now) {
            self.held_bytes -= u64::from(buf.len());
            if let Some(given) = self.jobs.get_mut(&job) {
                given.blocks_left -= 1;
                given.bufs.push(buf);
            }
        }
    }

    fn answer(&mut self) -> Vec<Answered> {
        self.jobs
            .extract_if(.., |_, given| given.blocks_left == 0)
            .map(|(job, given)| Answered {
                job,
                bytes: given.bytes,
                bufs: given.bufs,
            })
            .collect()
    }

    /// Whether the piece is written as it comes, because it is too long to be held.
    pub(super) fn is_long(layout: &Layout, piece: PieceIndex) -> bool {
        layout.piece_len(piece) > HELD_PIECE_LEN_MAX
    }
}

/// Longest piece that is kept in memory until it verified, in bytes.
const HELD_PIECE_LEN_MAX: u32 = 1024 * 1024;
/// Longer pieces are written in stretches of at least this many blocks (64 KiB).
const WRITE_BLOCKS_MIN: u16 = 4;
