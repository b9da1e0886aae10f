//! Accounts for every second of a torrent that lacks something: see [`explain`](crate::explain).

use dunlin_metainfo::BLOCK_LEN;
use dunlin_proto::time::Instant;

use super::download::BLOCK_HEADER;
use super::{Job, Shared, Torrent};
use crate::alert::Alert;
use crate::explain::{
    GREETING_MAX, Hold, PeerStages, Phase, Scene, Stall, StallCause, StallCounts, StallNews,
};
use crate::peer::Peer;
use crate::rate_limit::next_at_of;
use crate::snapshot::TorrentState;

impl Torrent {
    /// Whether something is lacking: only then seconds can be stalled.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.is_stopping()
            && (self.is_magnet() || self.picker.wanted_left() > 0 || !self.complete_is_told)
    }

    /// Judges the seconds that are over. Whoever ends the download calls it before he does.
    pub(super) fn account_for_seconds(&mut self, shared: &mut Shared, now: Instant) {
        let meter = &self.stats.down;
        let due = self.stalls.due(meter.second(now));
        let mut stall = None;
        for second in due {
            let is_stalled = self.stats.down.in_second(second) == 0 && self.is_incomplete();
            let news = if is_stalled {
                let stall = *stall.get_or_insert_with(|| Stall::of(self.scene(shared, now)));
                self.stalls.on_stalled(second, stall)
            } else {
                self.stalls.on_flowing()
            };
            self.tell_of_stall(shared, news);
        }
    }

    /// What is lacking has come, or is lacking no more.
    pub(super) fn end_stall(&mut self, shared: &mut Shared) {
        let news = self.stalls.on_flowing();
        self.tell_of_stall(shared, news);
    }

    fn tell_of_stall(&self, shared: &mut Shared, news: Option<StallNews>) {
        let torrent = self.key;
        match news {
            Some(StallNews::Stalled) => {
                if let Some(stall) = self.stall() {
                    let seconds = self.stalls.run();
                    shared.alert(Alert::Stalled {
                        torrent,
                        stall,
                        seconds,
                    });
                }
            }
            Some(StallNews::Over(seconds)) => shared.alert(Alert::Flowing { torrent, seconds }),
            None => {}
        }
    }

    /// Why nothing came in the last second, if nothing did.
    pub(super) fn stall(&self) -> Option<Stall> {
        let mut stall = self.stalls.last().filter(|_| self.is_incomplete())?;
        // Looked for only when it is told: it is long to find.
        stall.scene.missing = self.picker.first_that_nobody_has();
        Some(stall)
    }

    /// Stalled seconds until now.
    pub(crate) fn stall_counts(&self, shared: &Shared, now: Instant) -> StallCounts {
        let mut clock = self.stalls.clone();
        let is_stalled = |&second: &u64| self.stats.down.in_second(second) == 0;
        let due = clock.due(self.stats.down.second(now));
        let stalled = due.filter(is_stalled).count() as u64;
        let mut counts = clock.counts();
        if stalled > 0 && self.is_incomplete() {
            counts.add(StallCause::of(&self.scene(shared, now)), stalled);
        }
        counts
    }

    fn scene(&self, shared: &Shared, now: Instant) -> Scene {
        let mut scene = Scene {
            phase: self.phase(),
            tracker: self.announcer.standing(),
            dialling: self.dialling,
            connected: self.peers.len(),
            has_pieces: self.picker.have_bits().count_ones() > 0,
            is_endgame: self.picker.is_endgame(),
            ..Scene::default()
        };
        if let TorrentState::FetchingMetadata { have, size } = self.shown_state() {
            scene.metadata = (have, size);
        }
        if self.peers.is_empty() {
            // With peers it decides nothing, and is long to count.
            scene.known = self.peer_list.idle_len();
        }
        let mut waits = None;
        for peer in self.peers.values() {
            self.place(peer, &mut scene.peers, now);
            scene.open += peer.requests.len();
            if !peer.requests.is_empty() {
                let snub = if peer.snubbed {
                    shared.config.snub_timeout
                } else {
                    std::time::Duration::ZERO
                };
                let wait = now.since(peer.waiting_since) + snub;
                waits = Some(waits.map_or(wait, |waits: std::time::Duration| waits.min(wait)));
            }
        }
        scene.waits = waits.unwrap_or_default();
        if scene.peers.ready + scene.peers.asked > 0 {
            scene.hold = self.hold(shared, now);
        }
        scene
    }

    fn phase(&self) -> Phase {
        if let TorrentState::Failed(_) = self.state {
            return Phase::DiskFailed;
        }
        if let Some(magnet) = &self.magnet {
            return if magnet.is_fetched() {
                Phase::Checking
            } else {
                Phase::Metadata
            };
        }
        // A piece whose blocks are all here has a job that finishes it.
        let is_judged = |job: &&Job| match job {
            Job::Finish { piece } => self.picker.is_wanted(*piece),
            Job::Write { .. }
            | Job::Forget
            | Job::CompleteFile { .. }
            | Job::Sync { .. }
            | Job::SaveResume
            | Job::RemoveResume => false,
        };
        let judged = self.jobs.values().filter(is_judged).count();
        if judged >= self.picker.wanted_left() as usize {
            Phase::Verifying
        } else {
            Phase::Downloading
        }
    }

    /// Counts the peer at the stage to which it has come.
    fn place(&self, peer: &Peer, stages: &mut PeerStages, now: Instant) {
        let may_have_allowed = || {
            let mut allowed = peer.allowed_in.iter();
            allowed.any(|&piece| self.picker.is_wanted(piece))
        };
        if !peer.requests.is_empty() {
            stages.asked += 1;
            stages.snubbed += usize::from(peer.snubbed);
            stages.gave |= peer.gave_since_unchoke;
        } else if peer.interesting == 0 {
            let is_new = !peer.has_is_known && now.since(peer.connected_at) < GREETING_MAX;
            stages.greeting += usize::from(is_new);
            stages.useless += usize::from(!is_new);
        } else if peer.peer_choking && !may_have_allowed() {
            stages.choking += 1;
            stages.choking_seeds += usize::from(peer.is_giver_only());
        } else if now < peer.no_requests_before || peer.refusals_in_a_row > 0 {
            stages.rejecting += 1;
        } else {
            stages.ready += 1;
        }
    }

    fn hold(&self, shared: &Shared, now: Instant) -> Option<Hold> {
        let block = u64::from(BLOCK_LEN);
        let config = &shared.config;
        let has = |wanted: fn(&Job) -> bool| self.jobs.values().any(wanted);
        if config.buffer_bytes_max.saturating_sub(shared.buffered) < block {
            let is_ours = has(|job| matches!(job, Job::Write { .. }));
            return Some(if is_ours { Hold::Disk } else { Hold::Memory });
        }
        if self.disk_is_behind(config) {
            return Some(Hold::Disk);
        }
        let wire = block + BLOCK_HEADER;
        let tokens = next_at_of(&[&shared.down, &self.down], wire);
        let turn = shared.down_turns.room(self.key, &shared.down);
        if tokens.is_some_and(|at| at > now) || turn < wire {
            return Some(Hold::RateLimit);
        }
        let judged = has(|job| matches!(job, Job::Finish { .. }));
        (judged || self.somebody_waits_for_a_verdict).then_some(Hold::Verdict)
    }
}
