//! What is wanted, when it is complete, and what may be claimed about it after a restart.

use dunlin_metainfo::BLOCK_LEN;
use dunlin_proto::time::Instant;

use super::{Job, Shared, Torrent, rate};
use crate::alert::{Alert, Summary};
use crate::command::Priority;
use crate::event::{DiskOp, PeerAddr};
use crate::resume::Resume;
use crate::snapshot::TorrentState;

impl Torrent {
    pub(crate) fn set_priorities(&mut self, priorities: Vec<Priority>) {
        self.priorities = priorities;
        self.priorities
            .resize(self.layout.files(), Priority::Normal);
        for piece in self.layout.all_pieces() {
            // A piece that several files share is as wanted as the most wanted of them.
            let priority = self
                .layout
                .piece_files(piece)
                .filter(|&file| !self.layout.is_pad_file(file))
                .map(|file| self.priorities[file])
                .max()
                .unwrap_or(Priority::Normal);
            self.picker.set_piece_priority(piece, priority);
        }
    }

    pub(crate) fn change_priorities(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        priorities: Vec<Priority>,
    ) {
        self.set_priorities(priorities);
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.recount_interest(shared, key, now);
        }
        if self.state == TorrentState::Seeding {
            self.go_on();
        }
        self.check_completion(shared, now);
        self.tell_upload_only(shared);
        self.request_all(shared, now);
    }

    pub(crate) fn set_order(&mut self, order: crate::config::PieceOrder) {
        self.picker.set_order(order);
    }

    pub(crate) fn set_limits(&mut self, limits: crate::config::RateLimits, now: Instant) {
        self.down.set(limits.down, now);
        self.up.set(limits.up, now);
        self.on_limits_changed(now);
    }

    /// Whoever was held back under the old limits asks again.
    pub(crate) fn on_limits_changed(&mut self, now: Instant) {
        self.next_serving = Some(now);
        self.next_requesting = Some(now);
    }

    /// Seeds or downloads, whichever is left to do.
    pub(super) fn go_on(&mut self) {
        if self.complete_is_told && self.picker.wanted_left() == 0 {
            self.state = TorrentState::Seeding;
            return;
        }
        self.state = TorrentState::Downloading;
        self.peer_list.set_seeding(false);
        self.complete_is_told = false;
    }

    /// Names the files that are whole already: a crash may have come before they were renamed.
    pub(super) fn complete_ready_files(&mut self, shared: &mut Shared) {
        for file in 0..self.layout.files() {
            self.complete_file_if_whole(shared, file);
        }
    }

    pub(super) fn complete_file_if_whole(&mut self, shared: &mut Shared, file: usize) {
        let mut pieces = self.layout.file_pieces(file);
        if self.layout.is_pad_file(file)
            || pieces.is_empty()
            || !pieces.all(|piece| self.picker.have_bits().get(piece))
        {
            return;
        }
        self.unnamed_files.insert(file);
        let job = Job::CompleteFile { file };
        self.disk(shared, job, DiskOp::CompleteFile { file });
    }

    /// Tells the world once when every wanted piece is verified, written and named.
    pub(super) fn check_completion(&mut self, shared: &mut Shared, now: Instant) {
        let is_whole = self.picker.wanted_left() == 0 && self.unnamed_files.is_empty();
        if !is_whole || self.complete_is_told || self.state != TorrentState::Downloading {
            return;
        }
        self.account_for_seconds(shared, now);
        self.end_stall(shared);
        self.complete_is_told = true;
        self.state = TorrentState::Seeding;
        self.peer_list.set_seeding(true);
        self.begin_super_seeding(shared);
        if self.stats.downloaded > 0 && self.picker.have_bits().is_full() {
            self.announcer.completed(now);
        }
        // An earlier run may have left names that are not durable, and resume data: what that
        // says of a complete torrent must not outlive it.
        self.sync(shared, now);
        let summary = Box::new(self.summary(now));
        shared.alert(Alert::Complete {
            torrent: self.key,
            summary,
        });
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.update_interest(shared, key, now);
            self.leave_if_both_seed(shared, key, now);
        }
        self.tell_upload_only(shared);
        self.announce(shared, now);
    }

    pub(super) fn may_transfer(&self) -> bool {
        match self.state {
            TorrentState::Downloading | TorrentState::FetchingMetadata { .. } => true,
            TorrentState::Seeding => self.seed_when_complete,
            TorrentState::Failed(_) | TorrentState::Stopping => false,
        }
    }

    pub(crate) fn left_bytes(&self) -> u64 {
        if self.is_magnet() {
            // 0 would make us a seed, and how much it is nobody knows yet.
            return u64::from(BLOCK_LEN);
        }
        let missing = self
            .layout
            .all_pieces()
            .filter(|&piece| !self.picker.have(piece));
        missing
            .map(|piece| u64::from(self.layout.piece_len(piece)))
            .sum()
    }

    pub(super) fn summary(&self, now: Instant) -> Summary {
        let elapsed = now.since(self.stats.started_at);
        let mut givers = self.stats.givers.clone();
        for peer in self.peers.values() {
            let entry = givers.entry(peer.addr).or_default();
            entry.0 += peer.down.total();
            entry.1 += now.since(peer.connected_at);
        }
        let mut best: Vec<(PeerAddr, u64, u64)> = givers
            .into_iter()
            .filter(|(_, (bytes, _))| *bytes > 0)
            .map(|(addr, (bytes, time))| (addr, bytes, rate(bytes, time)))
            .collect();
        best.sort_by_key(|&(addr, bytes, _)| (std::cmp::Reverse(bytes), addr));
        best.truncate(5);
        let mean_rate = rate(self.stats.downloaded, elapsed);
        // It is complete: what was not wanted is not here.
        let have = self.layout.all_pieces();
        let have = have.filter(|&piece| self.picker.have(piece));
        Summary {
            bytes: have
                .map(|piece| u64::from(self.layout.piece_len(piece)))
                .sum(),
            elapsed,
            downloaded: self.stats.downloaded,
            uploaded: self.stats.uploaded,
            duplicate: self.stats.duplicate,
            failed_hash: self.stats.failed_hash,
            mean_rate,
            // A transfer that is over in a moment has no second to peak in.
            peak_rate: self
                .stats
                .peak_rate
                .max(self.stats.down.rate_over(now, 5))
                .max(mean_rate),
            best_peers: best,
        }
    }

    // Resume data.

    pub(crate) fn resume_data(&self) -> Resume {
        Resume {
            written: self.picker.have_bits().clone(),
            synced: self.resume.synced.clone(),
            downloaded: self.resume.downloaded_before + self.stats.downloaded,
            uploaded: self.resume.uploaded_before + self.stats.uploaded,
        }
    }

    /// A power cut takes no more than what was written since the last sync.
    pub(super) fn sync_if_due(&mut self, shared: &mut Shared, now: Instant) {
        let is_due = now.since(self.resume.last_sync) >= shared.config.sync_interval;
        if is_due
            && self.state == TorrentState::Downloading
            && self.resume.syncing.is_empty()
            && self.resume.synced != *self.picker.have_bits()
        {
            self.sync(shared, now);
        }
    }

    /// Makes what is written durable. Of a complete torrent nothing need be remembered then.
    pub(super) fn sync(&mut self, shared: &mut Shared, now: Instant) {
        self.resume.sync_has_failed = false;
        self.resume.last_sync = now;
        self.resume
            .syncing
            .push_back(self.picker.have_bits().clone());
        let clean_up = self.complete_is_told && self.picker.have_bits().is_full();
        self.disk(shared, Job::Sync { clean_up }, DiskOp::Sync);
    }

    pub(super) fn save_resume_if_due(&mut self, shared: &mut Shared, now: Instant) {
        let config = &shared.config;
        let is_due = self.resume.unsaved_bytes >= config.resume_bytes_max
            || now.since(self.resume.last_saved) >= config.resume_interval;
        if self.resume.unsaved_bytes > 0 && is_due && !self.resume.is_saving {
            self.save_resume(shared, now);
        }
    }

    pub(super) fn save_resume(&mut self, shared: &mut Shared, now: Instant) {
        self.resume.unsaved_bytes = 0;
        self.resume.last_saved = now;
        self.resume.is_saving = true;
        let resume = Box::new(self.resume_data());
        self.disk(shared, Job::SaveResume, DiskOp::SaveResume(resume));
    }
}
