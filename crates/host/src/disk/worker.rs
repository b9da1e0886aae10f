//! One thread of the disk and the pieces that are its own: hashes, writes, verifies, reads.
//!
//! A short piece stays in memory until it verified, and is written at once. A long one is written
//! as the hash passes over it. When more is held than may be, the piece that was begun first is
//! written where it belongs, whole or not: that needs no buffer, so memory can always be freed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use dunlin_engine::event::{DiskError, DiskJob, DiskOp, DiskResult, JobId, TorrentKey};
use dunlin_hash::sha1;
use dunlin_metainfo::{BLOCK_LEN, Block, PieceIndex, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;

use super::files::Files;
use super::piece::{Answered, Next, Piece};
use super::queue::Queue;
use super::{DiskReply, ReadJob, Replies};
use crate::storage::Storage;
use crate::storage::error::other;

#[derive(Debug)]
pub(super) enum Task {
    Job { storage: Arc<Storage>, job: DiskJob },
    Read { storage: Arc<Storage>, job: ReadJob },
    Remove { torrent: TorrentKey },
}

#[derive(Debug)]
pub(super) struct Worker {
    replies: Arc<Replies>,
    hold_bytes_max: u64,
    files: Files,
    pieces: BTreeMap<(TorrentKey, PieceIndex), Piece>,
    /// Why pieces were lost whose `Finish` may still come.
    lost: BTreeMap<(TorrentKey, PieceIndex), DiskError>,
    begun: u64,
    /// Blocks that are read back go here.
    scratch: Box<[u8]>,
}

/// What `Finish` asks.
#[derive(Clone, Copy, Debug)]
struct Verify {
    expect: Sha1Digest,
    block_digests: bool,
}

impl Worker {
    pub(super) fn new(replies: Arc<Replies>, hold_bytes_max: u64, open_files_max: usize) -> Self {
        Self {
            replies,
            hold_bytes_max,
            files: Files::new(open_files_max),
            pieces: BTreeMap::new(),
            lost: BTreeMap::new(),
            begun: 0,
            scratch: vec![0; BLOCK_LEN as usize].into_boxed_slice(),
        }
    }

    pub(super) fn run(mut self, queue: &Queue<Task>) {
        while let Some(task) = queue.pop() {
            match task {
                Task::Job { storage, job } => self.on_job(storage, job),
                Task::Read { storage, job } => self.on_read(&storage, job),
                Task::Remove { torrent } => self.on_remove(torrent),
            }
        }
    }

    fn on_job(&mut self, storage: Arc<Storage>, job: DiskJob) {
        let DiskJob { id, torrent, op } = job;
        match op {
            DiskOp::Write { run, bufs } => self.on_write(storage, torrent, id, run, bufs),
            DiskOp::Finish {
                piece,
                expect,
                block_digests,
            } => {
                let verify = Verify {
                    expect,
                    block_digests,
                };
                let result = self
                    .on_finish(storage, torrent, piece, verify)
                    .unwrap_or_else(|error| DiskResult::Failed { error, bytes: 0 });
                self.replies.done(id, torrent, result, Vec::new());
            }
            DiskOp::Forget { piece } => {
                self.lost.remove(&(torrent, piece));
                if let Some(mut piece) = self.pieces.remove(&(torrent, piece)) {
                    self.answer(torrent, piece.drop_held());
                }
                let result = DiskResult::Forgotten { piece };
                self.replies.done(id, torrent, result, Vec::new());
            }
            DiskOp::CompleteFile { .. }
            | DiskOp::Sync
            | DiskOp::SaveResume(_)
            | DiskOp::RemoveResume => unreachable!("only jobs of a piece come here"),
        }
    }

    fn on_write(
        &mut self,
        storage: Arc<Storage>,
        torrent: TorrentKey,
        id: JobId,
        run: Run,
        bufs: Vec<BlockBuf>,
    ) {
        let index = run.piece();
        let mut piece = self.take_piece(storage, torrent, index);
        let answered = piece.give(id, run, bufs);
        self.answer(torrent, answered);
        match self.work_on(&mut piece) {
            Ok(()) => {
                self.pieces.insert((torrent, index), piece);
            }
            Err(error) => self.lose(piece, error),
        }
        self.keep_to_budget();
    }

    /// Hashes what can be hashed, and writes what is not worth holding.
    fn work_on(&mut self, piece: &mut Piece) -> Result<(), DiskError> {
        self.advance(piece)?;
        if Piece::is_long(&piece.storage.content().layout, piece.index)
            && let Some(blocks) = piece.worth_writing()
        {
            self.write(piece, &blocks)?;
        }
        Ok(())
    }

    fn on_finish(
        &mut self,
        storage: Arc<Storage>,
        torrent: TorrentKey,
        index: PieceIndex,
        verify: Verify,
    ) -> Result<DiskResult, DiskError> {
        let mut piece = self.take_piece(storage, torrent, index);
        let lost = self.lost.remove(&(torrent, index));
        let verdict = self.verify(&mut piece, verify, lost);
        match verdict {
            Ok(result) => Ok(result),
            Err(error) => {
                self.fail(piece, &error);
                Err(error)
            }
        }
    }

    fn verify(
        &mut self,
        piece: &mut Piece,
        verify: Verify,
        lost: Option<DiskError>,
    ) -> Result<DiskResult, DiskError> {
        self.advance(piece)?;
        let index = piece.index;
        let Some(digest) = piece.digest() else {
            let missing = || {
                let message = format!("piece {index} was finished before all of it came");
                other(&piece.storage.root_path(), message)
            };
            return Err(lost.unwrap_or_else(missing));
        };
        let is_good = digest == verify.expect;
        let block_digests = if !is_good || verify.block_digests {
            self.block_digests(piece)?
        } else {
            Vec::new()
        };
        if !is_good {
            self.answer(piece.torrent, piece.drop_held());
            return Ok(DiskResult::Bad {
                piece: index,
                block_digests,
            });
        }
        self.write_held(piece)?;
        Ok(DiskResult::Good {
            piece: index,
            block_digests,
        })
    }

    fn block_digests(&mut self, piece: &Piece) -> Result<Vec<Sha1Digest>, DiskError> {
        let storage = Arc::clone(&piece.storage);
        let mut digests = Vec::new();
        for block in storage.content().layout.blocks(piece.index) {
            digests.push(match piece.block_digest(block) {
                Some(digest) => digest,
                None => sha1(self.read_back(piece, block)?),
            });
        }
        Ok(digests)
    }

    fn on_read(&mut self, storage: &Storage, job: ReadJob) {
        let ReadJob {
            torrent,
            run,
            tag,
            mut bufs,
        } = job;
        let layout = &storage.content().layout;
        let bytes: u32 = bufs.iter().map(BlockBuf::len).sum();
        let result = if bytes == layout.run_len(run) {
            let offset = u32::from(run.first()) * BLOCK_LEN;
            let parts = bufs.iter_mut().map(BlockBuf::bytes_mut).collect();
            self.files
                .read(torrent, storage, run.piece(), offset, parts)
        } else {
            debug_assert!(false, "buffers of {bytes} bytes for {run:?}");
            Err(other(&storage.root_path(), "wrong buffers for a read"))
        };
        self.replies.send(DiskReply::Read {
            torrent,
            run,
            tag,
            bufs,
            result,
        });
    }

    fn on_remove(&mut self, torrent: TorrentKey) {
        self.lost.retain(|&(key, _), _| key != torrent);
        let gone: Vec<Piece> = self
            .pieces
            .extract_if(.., |&(key, _), _| key == torrent)
            .map(|(_, piece)| piece)
            .collect();
        for mut piece in gone {
            self.answer(torrent, piece.drop_held());
        }
        self.files.close_all_of(torrent);
    }

    /// The piece's state, out of the table while it is worked on.
    fn take_piece(
        &mut self,
        storage: Arc<Storage>,
        torrent: TorrentKey,
        index: PieceIndex,
    ) -> Piece {
        self.pieces.remove(&(torrent, index)).unwrap_or_else(|| {
            self.begun += 1;
            Piece::new(torrent, storage, index, self.begun)
        })
    }

    fn advance(&mut self, piece: &mut Piece) -> Result<(), DiskError> {
        while let Next::ReadBack(block) = piece.advance() {
            let bytes = self.read_back(piece, block)?;
            piece.hash_block(bytes);
        }
        Ok(())
    }

    fn read_back(&mut self, piece: &Piece, block: Block) -> Result<&[u8], DiskError> {
        let buf = &mut self.scratch[..block.len() as usize];
        let (torrent, index) = (piece.torrent, piece.index);
        self.files
            .read(torrent, &piece.storage, index, block.offset(), vec![buf])?;
        Ok(&self.scratch[..block.len() as usize])
    }

    fn write_held(&mut self, piece: &mut Piece) -> Result<(), DiskError> {
        for blocks in piece.held() {
            self.write(piece, &blocks)?;
        }
        Ok(())
    }

    fn write(&mut self, piece: &mut Piece, blocks: &Range<u16>) -> Result<(), DiskError> {
        let (torrent, index) = (piece.torrent, piece.index);
        let bytes = piece.bytes(blocks);
        self.files
            .write(torrent, &piece.storage, index, blocks, &bytes)?;
        let answered = piece.on_written(blocks);
        self.answer(torrent, answered);
        Ok(())
    }

    /// Writes the oldest pieces until no more is held than may be.
    fn keep_to_budget(&mut self) {
        loop {
            let held: u64 = self.pieces.values().map(Piece::held_bytes).sum();
            if held <= self.hold_bytes_max {
                return;
            }
            let oldest = self
                .pieces
                .iter()
                .filter(|(_, piece)| piece.held_bytes() > 0)
                .min_by_key(|(_, piece)| piece.begun)
                .map(|(&key, _)| key);
            let Some((key, mut piece)) =
                oldest.and_then(|key| Some((key, self.pieces.remove(&key)?)))
            else {
                return;
            };
            match self.write_held(&mut piece) {
                Ok(()) => {
                    self.pieces.insert(key, piece);
                }
                Err(error) => self.lose(piece, error),
            }
        }
    }

    /// The disk refused: nothing of the piece is kept, and its `Finish` will fail too.
    fn lose(&mut self, piece: Piece, error: DiskError) {
        let key = (piece.torrent, piece.index);
        self.fail(piece, &error);
        self.lost.insert(key, error);
    }

    fn fail(&mut self, mut piece: Piece, error: &DiskError) {
        for Answered { job, bytes, bufs } in piece.drop_held() {
            let error = error.clone();
            let result = DiskResult::Failed { error, bytes };
            self.replies.done(job, piece.torrent, result, bufs);
        }
    }

    fn answer(&self, torrent: TorrentKey, answered: Vec<Answered>) {
        for Answered { job, bytes, bufs } in answered {
            let result = DiskResult::Written { bytes };
            self.replies.done(job, torrent, result, bufs);
        }
    }
}
