//! Blocks that come in: requests, arrivals, verdicts.

use std::collections::BTreeSet;

use dunlin_metainfo::{BLOCK_LEN, Block, PieceIndex, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::peer::Request;
use dunlin_proto::time::Instant;

use super::{Job, Shared, Torrent, sooner};
use crate::alert::Alert;
use crate::config::Config;
use crate::event::{Action, DiskOp, DiskResult, JobId, PeerKey};
use crate::peer::{Asked, REFUSAL_BACKOFF};
use crate::picker::Arrival;
use crate::rate_limit::{TURN, available_of, next_at_of, refund_of, take_of};
use crate::reason::CloseReason;
use crate::snapshot::TorrentState;

/// Rejected requests in a row after which a peer is of no use (libtorrent: 50).
const REJECTS_MAX: u32 = 50;

/// Payload that nobody asked for, after which we hang up. Some is normal: answers to requests
/// that we forgot.
const UNREQUESTED_MAX: u64 = 4 * 1024 * 1024;

impl Torrent {
    /// Asks every peer that has room, beginning after the one that was asked last when something
    /// ran out: nobody is favoured by the order of keys.
    pub(crate) fn request_all(&mut self, shared: &mut Shared, now: Instant) {
        shared.down_turns.go(self.key);
        if self.state != TorrentState::Downloading {
            return;
        }
        self.requests_are_held_back = false;
        self.somebody_waits_for_a_verdict = false;
        let after = self.request_after;
        let (early, late): (Vec<PeerKey>, Vec<PeerKey>) =
            self.peers.keys().partition(|&&key| key <= after);
        for key in late.into_iter().chain(early) {
            self.request_from(shared, key, now);
            if self.requests_are_held_back || shared.starved.contains(&self.key) {
                return;
            }
            self.request_after = key;
        }
    }

    /// Fills the pipeline of one peer.
    pub(super) fn request_from(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        if self.state != TorrentState::Downloading {
            return;
        }
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if !peer.may_request(now) {
            return;
        }
        let open = peer.requests.len();
        let mut depth = peer.pipeline_depth(&shared.config, now);
        if depth > shared.config.requests_rare_max
            && self.has_other_leech(key)
            && self.asks_for_rare(key)
        {
            // A deep pipeline at the only source delays the pieces that others wait for: a 1 + 8
            // swarm took 1.21 x the bound with 256 blocks, 1.06 x with 64.
            depth = shared.config.requests_rare_max;
        }
        // Refilled by the half: one request at a time would cost a message and a pick a block.
        if open > 0 && open * 4 > depth * 3 {
            return;
        }
        let room = self.allowance(shared, depth.saturating_sub(open), now);
        if room == 0 {
            return;
        }
        self.request_blocks(shared, key, room, now);
    }

    fn has_other_leech(&self, key: PeerKey) -> bool {
        self.peers
            .iter()
            .any(|(k, peer)| *k != key && !peer.is_seed)
    }

    /// Whether the newest request is for a piece that only one connected peer has.
    fn asks_for_rare(&self, key: PeerKey) -> bool {
        let Some(block) = self.peers.get(&key).and_then(|peer| peer.requests.newest()) else {
            return true;
        };
        self.picker.copies(block.piece()) < 2
    }

    /// How many of `wanted` blocks memory and the download limits admit now.
    fn allowance(&mut self, shared: &mut Shared, wanted: usize, now: Instant) -> usize {
        if wanted == 0 {
            return 0;
        }
        let block = u64::from(BLOCK_LEN);
        let config = &shared.config;
        let memory = config.buffer_bytes_max.saturating_sub(shared.buffered) / block;
        if memory == 0 {
            shared.starved.insert(self.key);
            return 0;
        }
        if self.disk_is_behind(config) {
            self.requests_are_held_back = true;
            return 0;
        }
        let wire = block + BLOCK_HEADER;
        let limit = available_of(now, &mut [&mut shared.down, &mut self.down]) / wire;
        let limit = limit.min(shared.down_turns.room(self.key, &shared.down) / wire);
        self.requests_are_held_back |= limit == 0;
        if limit < wanted as u64 {
            let tokens = next_at_of(&[&shared.down, &self.down], wire);
            self.request_again_at(tokens.map(|at| at.max(now + TURN)));
            if shared.down.limit().is_some() {
                shared.down_turns.wait(self.key);
            }
        }
        memory.min(limit).min(wanted as u64) as usize
    }

    /// More than enough waits for the disk: nothing more is asked for.
    pub(super) fn disk_is_behind(&self, config: &Config) -> bool {
        self.unjudged_bytes > config.unjudged_bytes_max
            || self.resume.unsaved_bytes > config.unsaved_bytes_max
    }

    /// Requests again at that time, or earlier if something else makes us.
    pub(super) fn request_again_at(&mut self, at: Option<Instant>) {
        self.next_requesting = sooner(self.next_requesting, at);
    }

    /// Tells the peer that what it owes us is not needed any more.
    pub(super) fn cancel_requests(&mut self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        for block in peer.requests.blocks() {
            let run = self.layout.run_of(block);
            shared.actions.push_back(Action::Cancel { peer: key, run });
        }
    }

    /// The peer will not answer what we asked: all of it may be asked of others.
    pub(super) fn take_back_requests(&mut self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        shared.buffered -= peer.requests.bytes();
        for block in peer.requests.retire_all() {
            let limiters = [&mut shared.down, &mut self.down];
            refund_of(limiters, u64::from(block.len()) + BLOCK_HEADER);
            self.picker.on_abandoned(block, key);
        }
        for piece in self.picker.release(key) {
            self.forget_piece(shared, piece);
        }
    }

    /// What we hold of a piece is dropped without a verdict.
    fn forget_piece(&mut self, shared: &mut Shared, piece: PieceIndex) {
        self.verify.on_reset(piece);
        self.judge(piece, &[], None);
        self.disk(shared, Job::Forget, DiskOp::Forget { piece });
    }

    /// The disk answers for what it was given of a piece when the piece is finished or forgotten:
    /// none that will never be finished may keep the torrent waiting.
    pub(super) fn forget_unfinished(&mut self, shared: &mut Shared) {
        let mut pieces = BTreeSet::new();
        for job in self.jobs.values() {
            if let Job::Write { piece } = *job {
                pieces.insert(piece);
            }
        }
        for job in self.jobs.values() {
            if let Job::Finish { piece } = job {
                pieces.remove(piece);
            }
        }
        for piece in pieces {
            self.forget_piece(shared, piece);
        }
    }

    pub(super) fn on_reject(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        request: Request,
    ) {
        let Request { piece, begin, len } = request;
        let Some(block) = self.layout.block(piece, begin, len) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.requests.on_reject(block) {
            return;
        }
        shared.buffered -= u64::from(block.len());
        let limiters = [&mut shared.down, &mut self.down];
        refund_of(limiters, u64::from(block.len()) + BLOCK_HEADER);
        if peer.peer_choking {
            peer.on_allowed_rejected(block.piece());
        } else {
            peer.on_refusal(now);
        }
        let refusals = peer.refusals_in_a_row;
        self.picker.on_abandoned(block, key);
        if refusals > REJECTS_MAX {
            self.close(shared, key, CloseReason::TooManyRejects, now);
        }
        self.request_again_at(Some(now + REFUSAL_BACKOFF));
    }

    pub(crate) fn on_unrequested(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        len: u32,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.unrequested_bytes += u64::from(len);
        let wire = u64::from(len) + BLOCK_HEADER;
        take_of(&mut [&mut shared.down, &mut self.down], wire);
        self.stats.duplicate += u64::from(len);
        if peer.unrequested_bytes > UNREQUESTED_MAX {
            self.close(shared, key, CloseReason::Unrequested, now);
        }
    }

    /// Blocks arrived. What is new goes to the disk, the rest home to the pool.
    pub(crate) fn on_received(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        run: Run,
        mut bufs: Vec<BlockBuf>,
    ) {
        let piece = run.piece();
        debug_assert_eq!(bufs.len(), usize::from(run.count()), "one buffer a block");
        let mut discarded = Vec::new();
        let mut filled = None;
        // Blocks from here on are kept so far, and their buffers are what is left of `bufs`.
        let mut from = run.first();
        for index in run.blocks() {
            let Some(block) = self.layout.block_at(piece, index) else {
                break;
            };
            match self.accept_block(shared, now, key, block) {
                Some(piece_full) => {
                    if piece_full {
                        filled = Some(piece);
                    }
                }
                None => {
                    let mut rest = bufs.split_off(usize::from(index - from));
                    discarded.extend(rest.drain(..1));
                    self.write(shared, piece, from, std::mem::replace(&mut bufs, rest));
                    from = index + 1;
                }
            }
        }
        self.write(shared, piece, from, bufs);
        if !discarded.is_empty() {
            shared
                .actions
                .push_back(Action::Discard { bufs: discarded });
        }
        if let Some(piece) = filled {
            self.finish(shared, piece);
        }
        self.request_from(shared, key, now);
    }

    /// Whether the block is kept, and if so whether it was the last of its piece.
    fn accept_block(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        block: Block,
    ) -> Option<bool> {
        let peer = self.peers.get_mut(&key)?;
        peer.last_heard = now;
        let asked = peer.requests.on_block(block);
        if asked == Asked::Never {
            self.on_unrequested(shared, now, key, block.len());
            return None;
        }
        peer.on_block(block.len(), &shared.config, now);
        let len = u64::from(block.len());
        self.stats.downloaded += len;
        self.stats.down.add(now, len);
        if asked == Asked::Retired {
            // What it had taken was given back when it was not wanted any more.
            let limiters = &mut [&mut shared.down, &mut self.down];
            take_of(limiters, len + BLOCK_HEADER);
            if self.state != TorrentState::Downloading || !self.picker.is_missing(block) {
                self.stats.duplicate += len;
                return None;
            }
            shared.buffered += len;
        }
        let from = peer.addr;
        match self.picker.on_block(block, key) {
            Arrival::New { piece_full } => {
                let blocks = self.layout.blocks_in(block.piece());
                self.verify
                    .on_block(block.piece(), block.index(), blocks, from);
                self.cancel_elsewhere(shared, block, key);
                Some(piece_full)
            }
            Arrival::Duplicate => {
                shared.buffered -= len;
                self.stats.duplicate += len;
                None
            }
        }
    }

    /// End-game: others who were asked for the block need not send it any more.
    fn cancel_elsewhere(&mut self, shared: &mut Shared, block: Block, from: PeerKey) {
        let others: Vec<PeerKey> = self
            .picker
            .requesters(block)
            .filter(|&other| other != from)
            .collect();
        for key in others {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if peer.requests.retire(block) {
                shared.buffered -= u64::from(block.len());
                let limiters = [&mut shared.down, &mut self.down];
                refund_of(limiters, u64::from(block.len()) + BLOCK_HEADER);
                let run = self.layout.run_of(block);
                shared.actions.push_back(Action::Cancel { peer: key, run });
            }
            self.picker.on_abandoned(block, key);
        }
    }

    /// Consecutive blocks go to the disk together.
    fn write(&mut self, shared: &mut Shared, piece: PieceIndex, first: u16, bufs: Vec<BlockBuf>) {
        if bufs.is_empty() {
            return;
        }
        let run = self
            .layout
            .run(piece, first, bufs.len() as u16)
            .expect("consecutive blocks of one received run");
        let job = Job::Write { piece };
        self.disk(shared, job, DiskOp::Write { run, bufs });
    }

    pub(super) fn finish(&mut self, shared: &mut Shared, piece: PieceIndex) {
        let expect = self.piece_digests[piece.index()];
        let block_digests = self.verify.is_suspect(piece);
        self.unjudged_bytes += u64::from(self.layout.piece_len(piece));
        let op = DiskOp::Finish {
            piece,
            expect,
            block_digests,
        };
        self.disk(shared, Job::Finish { piece }, op);
    }

    // What the disk says.

    pub(crate) fn on_disk_done(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: JobId,
        result: DiskResult,
    ) {
        let Some(job) = self.jobs.remove(&id) else {
            shared.dropped_events += 1;
            return;
        };
        if let Job::Finish { piece } = job {
            self.unjudged_bytes -= u64::from(self.layout.piece_len(piece));
        }
        match result {
            // The session shares the memory out again among those who starve.
            DiskResult::Written { bytes } => shared.buffered -= u64::from(bytes),
            DiskResult::Good {
                piece,
                block_digests,
            } => {
                self.on_piece_good(shared, now, piece, &block_digests);
            }
            DiskResult::Bad {
                piece,
                block_digests,
            } => {
                self.on_piece_bad(shared, now, piece, block_digests);
            }
            DiskResult::Forgotten { .. } | DiskResult::ResumeRemoved => {}
            DiskResult::FileCompleted { file } => {
                self.unnamed_files.remove(&file);
                shared.alert(Alert::FileCompleted {
                    torrent: self.key,
                    file,
                });
                self.check_completion(shared, now);
            }
            DiskResult::Synced => self.on_synced(shared, now, job),
            DiskResult::ResumeSaved => {
                self.resume.is_saving = false;
                self.save_resume_if_due(shared, now);
                if self.requests_are_held_back {
                    self.request_all(shared, now);
                }
            }
            DiskResult::Failed { error, bytes } => {
                self.on_disk_failed(shared, job, bytes);
                self.fail(shared, now, error);
            }
        }
    }

    fn on_disk_failed(&mut self, shared: &mut Shared, job: Job, bytes: u32) {
        match job {
            Job::Write { piece } => {
                shared.buffered -= u64::from(bytes);
                self.lose_piece(shared, piece);
            }
            Job::Finish { piece } => self.lose_piece(shared, piece),
            Job::SaveResume => {
                self.resume.is_saving = false;
                // Something is unsaved, however little: it is tried again.
                self.resume.unsaved_bytes = self.resume.unsaved_bytes.max(1);
            }
            Job::Sync { .. } => {
                self.resume.syncing.pop_front();
                self.resume.sync_has_failed = true;
            }
            // A file without its name waits in `unnamed_files`.
            Job::CompleteFile { .. } | Job::Forget | Job::RemoveResume => {}
        }
    }

    fn lose_piece(&mut self, shared: &mut Shared, piece: PieceIndex) {
        if self.picker.have(piece) {
            return;
        }
        self.picker.on_piece_lost(piece);
        self.forget_piece(shared, piece);
    }

    fn on_piece_good(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        piece: PieceIndex,
        block_digests: &[Sha1Digest],
    ) {
        let from = self.verify.contributors(piece);
        self.judge(piece, &from, Some(true));
        let was_wanted = self.picker.is_wanted(piece);
        self.picker.on_piece_good(piece);
        shared.alert(Alert::PieceDone {
            torrent: self.key,
            piece,
            have: self.picker.have_bits().count_ones(),
            total: self.layout.pieces(),
            from,
        });
        shared.actions.push_back(Action::BroadcastHave {
            torrent: self.key,
            piece,
        });
        for liar in self.verify.on_good(piece, block_digests) {
            self.ban(shared, now, liar, piece);
        }
        if was_wanted {
            self.lose_interest_in(shared, now, piece);
        }
        self.resume.unsaved_bytes += u64::from(self.layout.piece_len(piece));
        self.save_resume_if_due(shared, now);
        for file in self.layout.piece_files(piece).collect::<Vec<_>>() {
            self.complete_file_if_whole(shared, file);
        }
        self.check_completion(shared, now);
        if self.requests_are_held_back || self.somebody_waits_for_a_verdict {
            self.request_all(shared, now);
        }
    }

    fn lose_interest_in(&mut self, shared: &mut Shared, now: Instant, piece: PieceIndex) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if peer.is_seed || peer.has.get(piece.get()) {
                peer.interesting -= 1;
                self.update_interest(shared, key, now);
            }
        }
    }

    fn on_piece_bad(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        piece: PieceIndex,
        block_digests: Vec<Sha1Digest>,
    ) {
        let from = self.verify.contributors(piece);
        self.judge(piece, &from, Some(false));
        self.stats.failed_hash += u64::from(self.layout.piece_len(piece));
        shared.alert(Alert::PieceFailed {
            torrent: self.key,
            piece,
            from,
        });
        self.picker.on_piece_bad(piece);
        if let Some(liar) = self.verify.on_bad(piece, block_digests) {
            self.ban(shared, now, liar, piece);
        }
        self.request_all(shared, now);
    }

    fn on_synced(&mut self, shared: &mut Shared, now: Instant, job: Job) {
        if let Some(synced) = self.resume.syncing.pop_front() {
            self.resume.synced = synced;
        }
        match job {
            Job::Sync { clean_up: true } => {
                self.resume.unsaved_bytes = 0;
                self.disk(shared, Job::RemoveResume, DiskOp::RemoveResume);
            }
            Job::Sync { clean_up: false } => self.save_resume(shared, now),
            Job::Write { .. }
            | Job::Finish { .. }
            | Job::Forget
            | Job::CompleteFile { .. }
            | Job::SaveResume
            | Job::RemoveResume => {}
        }
    }
}

/// Bytes of a `piece` message before its payload.
pub(super) const BLOCK_HEADER: u64 = 13;
