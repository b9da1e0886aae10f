//! A virtual disk: takes the engine's jobs in order, answers each once, keeps what was written.
//!
//! Content survives a crash of the session, what was only given does not. Oracles ask the disk,
//! not the session, what is really there. Faults come from here: full, failing, slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dunlin_engine::event::{DiskError, DiskErrorKind};
use dunlin_engine::resume::Resume;
use dunlin_engine::{DiskJob, DiskOp, DiskResult, JobId};
use dunlin_metainfo::{Bitfield, Layout, PieceIndex, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::content::{block_digest, honest_tag, honest_tags, piece_digest};

/// How fast a disk is and when it takes blocks to the file system.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// Cost of any job.
    pub latency: Duration,
    /// Bytes per second.
    pub rate: u64,
    /// Cost of a sync.
    pub sync: Duration,
    pub write: WritePolicy,
}

impl Default for DiskSpec {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(100),
            rate: 1 << 30,
            sync: Duration::from_millis(5),
            write: WritePolicy::AtOnce,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePolicy {
    AtOnce,
    /// Blocks are held in memory until their piece is verified.
    AtFinish,
}

#[derive(Debug)]
pub struct Disk {
    layout: Arc<Layout>,
    spec: DiskSpec,
    /// What the files hold.
    files: Vec<Stored>,
    synced: Bitfield,
    /// Blocks of unfinished pieces, as hashed on their way in.
    given: BTreeMap<u32, Vec<Option<u64>>>,
    /// Pieces that a write was refused for: their `Finish` fails too, as with the real disk.
    lost: BTreeMap<u32, DiskErrorKind>,
    /// Write jobs that wait for the end of their piece.
    held: BTreeMap<u32, Vec<(JobId, u32)>>,
    queue: VecDeque<(Instant, DiskJob)>,
    free_at: Instant,
    resume: Option<Resume>,
    completed_files: Vec<bool>,
    /// Blocks that are read as something else than what was written.
    flipped: BTreeSet<(u32, u16)>,
    jobs_done: u64,
    fault: Option<Fault>,
    /// Broken promises of the engine, for the oracles.
    pub complaints: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stored {
    Nothing,
    /// Every block as its author made it.
    Whole,
    Blocks(Box<[Option<u64>]>),
}

/// Jobs number `from..until`, counted over the disk's whole life, fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: DiskErrorKind,
    pub from: u64,
    pub until: u64,
}

impl Disk {
    pub fn new(layout: &Arc<Layout>, spec: DiskSpec) -> Self {
        Self {
            files: vec![Stored::Nothing; layout.pieces() as usize],
            synced: Bitfield::new(layout.pieces()),
            given: BTreeMap::new(),
            lost: BTreeMap::new(),
            held: BTreeMap::new(),
            queue: VecDeque::new(),
            free_at: Instant::START,
            resume: None,
            completed_files: vec![false; layout.files()],
            flipped: BTreeSet::new(),
            jobs_done: 0,
            fault: None,
            complaints: Vec::new(),
            layout: Arc::clone(layout),
            spec,
        }
    }

    /// Puts whole pieces on the disk, synced, as if downloaded earlier.
    pub fn preload(&mut self, pieces: &Bitfield) {
        for piece in pieces.iter_ones() {
            self.files[piece as usize] = Stored::Whole;
            self.synced.set(piece);
        }
    }

    pub fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Every job from now on fails until the fault is taken away.
    pub fn fail_from_now(&mut self, kind: DiskErrorKind) {
        let from = self.jobs_done;
        let until = u64::MAX;
        self.fault = Some(Fault { kind, from, until });
    }

    /// The job is done at the time that is returned; call [`Disk::complete`] then.
    pub fn submit(&mut self, now: Instant, job: DiskJob) -> Instant {
        let bytes = match &job.op {
            DiskOp::Write { run, .. } => u64::from(self.layout.run_len(*run)),
            DiskOp::Finish { .. }
            | DiskOp::Forget { .. }
            | DiskOp::CompleteFile { .. }
            | DiskOp::Sync
            | DiskOp::SaveResume(_)
            | DiskOp::RemoveResume => 0,
        };
        let mut cost =
            self.spec.latency + Duration::from_micros(bytes * 1_000_000 / self.spec.rate);
        if matches!(job.op, DiskOp::Sync) {
            cost += self.spec.sync;
        }
        let at = self.free_at.max(now) + cost;
        self.free_at = at;
        self.queue.push_back((at, job));
        at
    }

    /// Does the oldest job and appends the answers that this gives.
    pub fn complete(&mut self, done: &mut Vec<(JobId, DiskResult)>) {
        let Some((_, job)) = self.queue.pop_front() else {
            return;
        };
        let number = self.jobs_done;
        self.jobs_done += 1;
        if let Some(fault) = self.fault
            && (fault.from..fault.until).contains(&number)
            && needs_space(&job.op)
        {
            return done.extend(self.fail(&job, fault.kind));
        }
        if let DiskOp::Write { run, bufs } = &job.op {
            return self.write(job.id, *run, bufs, done);
        }
        done.extend(self.carry_out(job));
    }

    fn carry_out(&mut self, job: DiskJob) -> Vec<(JobId, DiskResult)> {
        match job.op {
            DiskOp::Write { .. } => Vec::new(),
            DiskOp::Finish {
                piece,
                expect,
                block_digests,
            } => match self.lost.remove(&piece.get()) {
                Some(kind) => self.fail(&job, kind),
                None => self.finish(job.id, piece, expect, block_digests),
            },
            DiskOp::Forget { piece } => {
                self.given.remove(&piece.get());
                self.lost.remove(&piece.get());
                let mut done = self.release(piece);
                done.push((job.id, DiskResult::Forgotten { piece }));
                done
            }
            DiskOp::CompleteFile { file } => {
                for piece in self.layout.file_pieces(file) {
                    if !self.has_piece(piece) {
                        self.complaints
                            .push(format!("file {file} completed without piece {piece}"));
                    }
                }
                self.completed_files[file] = true;
                vec![(job.id, DiskResult::FileCompleted { file })]
            }
            DiskOp::Sync => {
                for piece in 0..self.layout.pieces() {
                    if self.has_piece(piece) {
                        self.synced.set(piece);
                    }
                }
                vec![(job.id, DiskResult::Synced)]
            }
            DiskOp::SaveResume(resume) => {
                self.check_resume(&resume);
                self.resume = Some(*resume);
                vec![(job.id, DiskResult::ResumeSaved)]
            }
            DiskOp::RemoveResume => {
                self.resume = None;
                vec![(job.id, DiskResult::ResumeRemoved)]
            }
        }
    }

    /// The process died: jobs and given blocks are gone, files stay.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.given.clear();
        self.lost.clear();
        self.held.clear();
        self.free_at = Instant::START;
    }

    /// The power failed: what was synced stays. Each block that was not is there, is gone or is
    /// torn, in no order. The resume data is replaced atomically, so the last one that was saved
    /// is there.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        self.crash();
        for piece in self.layout.all_pieces() {
            if self.synced.get(piece.get()) {
                continue;
            }
            let tags: Box<[Option<u64>]> = (0..self.layout.blocks_in(piece))
                .map(|block| survivor(self.tag(piece.get(), block)?, rng))
                .collect();
            self.files[piece.index()] = if tags.iter().any(Option::is_some) {
                Stored::Blocks(tags)
            } else {
                Stored::Nothing
            };
        }
    }

    /// From now on a block reads as something else, and nobody says so.
    pub fn flip_bit(&mut self, piece: u32, block: u16) {
        self.flipped.insert((piece, block));
    }

    /// Whether anything on it is not what was written.
    pub fn has_rotten(&self) -> bool {
        !self.flipped.is_empty()
    }

    /// Whether all of the piece reads as it was written.
    pub fn reads_true(&self, piece: u32) -> bool {
        let all = (piece, 0)..=(piece, u16::MAX);
        self.has_piece(piece) && self.flipped.range(all).next().is_none()
    }

    /// What a host trusts at the next start: after a crash of the process what was written, after
    /// a power cut only what was synced.
    pub fn resume(&self, after_power_cut: bool) -> Resume {
        let mut resume = self
            .resume
            .clone()
            .unwrap_or_else(|| Resume::empty(self.layout.pieces()));
        if self.completed_files.iter().all(|&done| done) {
            resume.written = Bitfield::full(self.layout.pieces());
            // The record goes when everything is complete and synced: names alone prove nothing.
            if self.resume.is_none() {
                resume.synced = resume.written.clone();
            }
        }
        if after_power_cut {
            resume.written = resume.synced.clone();
        }
        resume
    }

    /// A new process knows only what the resume data claim: whole pieces beyond that are blocks
    /// like any others, and may be written again.
    pub fn forget_unclaimed(&mut self, resume: &Resume) {
        for piece in self.layout.all_pieces() {
            if self.has_piece(piece.get()) && !resume.written.get(piece.get()) {
                let tags = honest_tags(&self.layout, piece).map(Some).collect();
                self.files[piece.index()] = Stored::Blocks(tags);
            }
        }
    }

    /// Whether the piece is in the files as its author made it.
    pub fn has_piece(&self, piece: u32) -> bool {
        self.files
            .get(piece as usize)
            .is_some_and(|stored| *stored == Stored::Whole)
    }

    pub fn pieces_whole(&self) -> u32 {
        self.files
            .iter()
            .map(|stored| u32::from(*stored == Stored::Whole))
            .sum()
    }

    /// What is read where a block should be; `None` if nothing was ever written there.
    pub fn tag(&self, piece: u32, block: u16) -> Option<u64> {
        let tag = match self.files.get(piece as usize)? {
            Stored::Nothing => None,
            Stored::Whole => Some(honest_tag(piece, block)),
            Stored::Blocks(tags) => tags.get(usize::from(block)).copied().flatten(),
        };
        let is_flipped = self.flipped.contains(&(piece, block));
        tag.map(|tag| if is_flipped { tag ^ FLIPPED } else { tag })
    }

    pub fn jobs_waiting(&self) -> usize {
        self.queue.len() + self.held.values().map(Vec::len).sum::<usize>()
    }

    fn write(
        &mut self,
        id: JobId,
        run: Run,
        bufs: &[BlockBuf],
        done: &mut Vec<(JobId, DiskResult)>,
    ) {
        let piece = run.piece();
        if bufs.len() != usize::from(run.count()) {
            self.complaints.push(format!(
                "write of {} blocks holds {}",
                run.count(),
                bufs.len()
            ));
        }
        let blocks = usize::from(self.layout.blocks_in(piece));
        let given = self
            .given
            .entry(piece.get())
            .or_insert_with(|| vec![None; blocks]);
        for (block, buf) in run.blocks().zip(bufs) {
            given[usize::from(block)] = buf.tag();
        }
        let bytes = self.layout.run_len(run);
        match self.spec.write {
            WritePolicy::AtOnce => {
                for (block, buf) in run.blocks().zip(bufs) {
                    if let Some(tag) = buf.tag() {
                        self.store(piece, block, tag);
                    }
                }
                done.push((id, DiskResult::Written { bytes }));
            }
            WritePolicy::AtFinish => {
                self.held.entry(piece.get()).or_default().push((id, bytes));
            }
        }
    }

    fn finish(
        &mut self,
        id: JobId,
        piece: PieceIndex,
        expect: Sha1Digest,
        block_digests: bool,
    ) -> Vec<(JobId, DiskResult)> {
        let blocks = usize::from(self.layout.blocks_in(piece));
        let given = self.given.remove(&piece.get()).unwrap_or_default();
        let tags: Vec<u64> = given.iter().copied().flatten().collect();
        let mut done = self.release(piece);
        if tags.len() != blocks {
            self.complaints.push(format!(
                "piece {piece} finished with {} of {blocks} blocks",
                tags.len()
            ));
        }
        let good = tags.len() == blocks && piece_digest(tags.iter().copied()) == expect;
        let digests = || tags.iter().map(|&tag| block_digest(tag)).collect();
        let result = if good {
            self.files[piece.index()] = if honest_tags(&self.layout, piece).eq(tags.iter().copied())
            {
                Stored::Whole
            } else {
                Stored::Blocks(tags.iter().map(|&tag| Some(tag)).collect())
            };
            let block_digests = if block_digests { digests() } else { Vec::new() };
            DiskResult::Good {
                piece,
                block_digests,
            }
        } else {
            DiskResult::Bad {
                piece,
                block_digests: digests(),
            }
        };
        done.push((id, result));
        done
    }

    /// Answers the writes that waited for the end of the piece.
    fn release(&mut self, piece: PieceIndex) -> Vec<(JobId, DiskResult)> {
        let held = self.held.remove(&piece.get()).unwrap_or_default();
        held.into_iter()
            .map(|(id, bytes)| (id, DiskResult::Written { bytes }))
            .collect()
    }

    fn store(&mut self, piece: PieceIndex, block: u16, tag: u64) {
        self.flipped.remove(&(piece.get(), block));
        let stored = &mut self.files[piece.index()];
        if *stored == Stored::Whole {
            if tag == honest_tag(piece.get(), block) {
                return;
            }
            self.complaints.push(format!(
                "block {block} of finished piece {piece} overwritten"
            ));
            *stored = Stored::Blocks(honest_tags(&self.layout, piece).map(Some).collect());
        }
        if *stored == Stored::Nothing {
            let blocks = usize::from(self.layout.blocks_in(piece));
            *stored = Stored::Blocks(vec![None; blocks].into_boxed_slice());
        }
        if let Stored::Blocks(tags) = stored {
            tags[usize::from(block)] = Some(tag);
        }
    }

    fn check_resume(&mut self, resume: &Resume) {
        for piece in resume.written.iter_ones() {
            if !self.has_piece(piece) {
                self.complaints
                    .push(format!("resume data claim piece {piece} as written"));
            }
        }
        for piece in resume.synced.iter_ones() {
            if !self.synced.get(piece) {
                self.complaints
                    .push(format!("resume data claim piece {piece} as synced"));
            }
        }
    }

    /// The job did not happen. What a piece held in memory is lost with it.
    fn fail(&mut self, job: &DiskJob, kind: DiskErrorKind) -> Vec<(JobId, DiskResult)> {
        let mut failed: Vec<(JobId, u32)> = Vec::new();
        let (piece, bytes) = match &job.op {
            DiskOp::Write { run, .. } => {
                self.lost.insert(run.piece().get(), kind);
                (Some(run.piece()), self.layout.run_len(*run))
            }
            DiskOp::Finish { piece, .. } => (Some(*piece), 0),
            DiskOp::Forget { .. }
            | DiskOp::CompleteFile { .. }
            | DiskOp::Sync
            | DiskOp::SaveResume(_)
            | DiskOp::RemoveResume => (None, 0),
        };
        if let Some(piece) = piece {
            self.given.remove(&piece.get());
            failed = self.held.remove(&piece.get()).unwrap_or_default();
        }
        failed.push((job.id, bytes));
        let error = DiskError {
            kind,
            path: PathBuf::from("/sim/file"),
            message: "injected fault".to_owned(),
        };
        failed
            .into_iter()
            .map(|(id, bytes)| {
                let error = error.clone();
                (id, DiskResult::Failed { error, bytes })
            })
            .collect()
    }
}

/// What a power cut leaves of a block that was not synced.
fn survivor(tag: u64, rng: &mut Rng) -> Option<u64> {
    match rng.below(3) {
        0 => Some(tag),
        1 => Some(tag ^ TORN),
        _ => None,
    }
}

/// The first sectors of the block as written, zeros after them.
const TORN: u64 = 0x746f_726e;

const FLIPPED: u64 = 0x0066_6c69_7000;

/// Forgetting and removing succeed even on a full disk.
fn needs_space(op: &DiskOp) -> bool {
    match op {
        DiskOp::Write { .. }
        | DiskOp::Finish { .. }
        | DiskOp::CompleteFile { .. }
        | DiskOp::Sync
        | DiskOp::SaveResume(_) => true,
        DiskOp::Forget { .. } | DiskOp::RemoveResume => false,
    }
}

#[cfg(test)]
mod tests;
