//! Which blocks a peer is asked for: what the picker says, within what the peer is trusted with.

use dunlin_metainfo::{Layout, PieceIndex, Run};
use dunlin_proto::time::Instant;

use super::download::BLOCK_HEADER;
use super::{Shared, Torrent};
use crate::event::{Action, PeerAddr, PeerKey};
use crate::picker::{Asker, RUN_BLOCKS_MAX};
use crate::rate_limit::take_of;

impl Torrent {
    pub(super) fn request_blocks(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        room: usize,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let is_accused = self.verify.is_accused(peer.addr);
        let mut runs = Vec::new();
        // The only one there is spoils nobody else's pieces, and its first lie is proof.
        let is_alone = self.peers.len() == 1;
        if is_alone || peer.trust.is_full(is_accused) {
            self.pick(shared, key, None, room, now, &mut runs);
        } else {
            self.pick_carefully(shared, key, is_accused, room, now, &mut runs);
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.requests.is_empty() {
            peer.waiting_since = now;
        }
        for run in joined(&self.layout, runs) {
            peer.trust.on_asked(run.piece());
            for block in self.layout.run_blocks(run) {
                peer.requests.push(block);
            }
            let bytes = u64::from(self.layout.run_len(run));
            let wire = bytes + u64::from(run.count()) * BLOCK_HEADER;
            shared.buffered += bytes;
            take_of(&mut [&mut shared.down, &mut self.down], wire);
            shared.down_turns.take(self.key, wire);
            peer.last_sent = now;
            shared.actions.push_back(Action::Request { peer: key, run });
        }
    }

    /// The piece is judged or given up; `good` is the verdict on those who gave blocks of it.
    pub(super) fn judge(&mut self, piece: PieceIndex, from: &[PeerAddr], good: Option<bool>) {
        for peer in self.peers.values_mut() {
            let verdict = good.filter(|_| from.contains(&peer.addr));
            peer.trust.on_judged(piece, verdict);
        }
    }

    /// Blocks of one piece after the other, so that the peer touches no more than it may. Who is
    /// accused is asked first for the pieces that failed: it alone gives one, and that settles it.
    fn pick_carefully(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        is_accused: bool,
        room: usize,
        now: Instant,
        runs: &mut Vec<Run>,
    ) {
        for _ in 0..room {
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            let picked = if peer.trust.is_at_limit(is_accused) {
                let unjudged: Vec<PieceIndex> = peer.trust.unjudged().collect();
                self.pick(shared, key, Some(&unjudged), 1, now, runs)
                    || self.pick_after_patience(shared, key, is_accused, now, runs)
            } else {
                self.pick_another(shared, key, is_accused, now, runs)
            };
            if !picked {
                return;
            }
            if let (Some(peer), Some(run)) = (self.peers.get_mut(&key), runs.last()) {
                peer.trust.on_asked(run.piece());
            }
        }
    }

    fn pick_another(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        is_accused: bool,
        now: Instant,
        runs: &mut Vec<Run>,
    ) -> bool {
        let failed: Vec<PieceIndex> = if is_accused {
            self.picker.failed_pieces().collect()
        } else {
            Vec::new()
        };
        (is_accused && self.pick(shared, key, Some(&failed), 1, now, runs))
            || self.pick(shared, key, None, 1, now, runs)
    }

    /// Others owe what its pieces lack. It may have one more if it waited for them long enough.
    fn pick_after_patience(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        is_accused: bool,
        now: Instant,
        runs: &mut Vec<Run>,
    ) -> bool {
        self.somebody_waits_for_a_verdict = true;
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        if !peer.requests.is_empty() || !runs.is_empty() {
            return false;
        }
        if let Some(until) = peer.trust.wait(now) {
            self.request_again_at(Some(until));
            return false;
        }
        self.pick_another(shared, key, is_accused, now, runs)
    }

    /// Whether there was anything; `only` these pieces, if it is given.
    fn pick(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        only: Option<&[PieceIndex]>,
        room: usize,
        now: Instant,
        runs: &mut Vec<Run>,
    ) -> bool {
        let Some(peer) = self.peers.get(&key) else {
            return false;
        };
        let allowed = peer.peer_choking.then_some(&peer.allowed_in[..]);
        let both: Vec<PieceIndex>;
        let only = match (only, allowed) {
            (Some(only), Some(allowed)) => {
                let both_of = only.iter().filter(|piece| allowed.contains(piece));
                both = both_of.copied().collect();
                Some(&both[..])
            }
            (only, allowed) => only.or(allowed),
        };
        let asker = Asker {
            peer: key,
            has: &peer.has,
            is_seed: peer.is_seed,
            only,
            snubbed: peer.snubbed,
            rate: peer.down.rate_over(now, 5),
        };
        let before = runs.len();
        self.picker.pick(&asker, room, &mut shared.rng, runs);
        runs.len() > before
    }
}

/// Runs that follow each other within a piece become one.
fn joined(layout: &Layout, runs: Vec<Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        let longer = joined.last().and_then(|last| {
            let follows = last.piece() == run.piece() && last.first() + last.count() == run.first();
            let count = last.count() + run.count();
            let fits = follows && count <= RUN_BLOCKS_MAX;
            fits.then(|| layout.run(last.piece(), last.first(), count))?
        });
        match (longer, joined.last_mut()) {
            (Some(longer), Some(last)) => *last = longer,
            (_, _) => joined.push(run),
        }
    }
    joined
}
