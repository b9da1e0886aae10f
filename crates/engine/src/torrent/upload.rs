//! Blocks that go out: choking, the queues of requests, credit.

use dunlin_metainfo::{Block, PieceIndex, Run};
use dunlin_proto::peer::{Message, Request, Violation};
use dunlin_proto::time::Instant;

use super::download::BLOCK_HEADER;
use super::{Shared, Torrent, sooner};
use crate::alert::{Alert, Side};
use crate::choker::{Candidate, Choice, Mode};
use crate::event::{Action, DiskError, PeerKey};
use crate::peer::Peer;
use crate::rate_limit::{TURN, available_of, next_at_of, take_of};
use crate::reason::CloseReason;
use crate::snapshot::TorrentState;

/// Blocks that are served in one go.
const SERVE_RUN_MAX: u16 = 16;

/// Requests refused in a row for a full queue, after which the peer floods us.
pub(super) const REFUSED_MAX: u32 = 1000;

impl Torrent {
    // Choking.

    pub(super) fn rechoke(&mut self, shared: &mut Shared, now: Instant) {
        let candidates: Vec<Candidate> = self
            .peers
            .iter()
            .map(|(key, peer)| candidate(*key, peer, now))
            .collect();
        let slots = self.slots(shared);
        let mode = self.choke_mode(shared);
        let round = self
            .choker
            .rechoke(now, &mut shared.rng, mode, &candidates, slots);
        for choice in round.changes {
            self.set_choking(shared, now, choice);
        }
        if !round.regular {
            return;
        }
        let addr = |key: &PeerKey| self.peers.get(key).map(|peer| peer.addr);
        let peers: Vec<_> = round
            .preferred
            .iter()
            .filter_map(|(key, rate)| addr(key).map(|addr| (addr, *rate)))
            .collect();
        let interested = self
            .peers
            .values()
            .filter(|peer| peer.peer_interested)
            .count() as u32;
        // Also when it is nobody: whoever reads the story counts the rounds.
        if !self.peers.is_empty() {
            shared.alert(Alert::Preferred {
                torrent: self.key,
                peers,
                optimistic: round.optimistic.as_ref().and_then(addr),
                interested,
            });
        }
    }

    /// Regular slots that this torrent may fill: its own number, within the session's.
    fn slots(&self, shared: &Shared) -> usize {
        let elsewhere = shared.unchoked.saturating_sub(self.unchoked());
        let free = shared.config.upload_slots_max.saturating_sub(elsewhere);
        shared
            .config
            .preferred_neighbors
            .min(free.saturating_sub(1))
    }

    fn choke_mode(&self, shared: &Shared) -> Mode {
        if self.state == TorrentState::Seeding {
            Mode::Seeding(shared.config.seed_strategy)
        } else {
            Mode::Leeching(shared.config.leech_strategy)
        }
    }

    pub(super) fn on_interested(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let is_news = !std::mem::replace(&mut peer.peer_interested, true);
        peer.last_interest = now;
        if is_news {
            shared.alert(Alert::Interest {
                torrent: self.key,
                peer: peer.addr,
                by: Side::Peer,
                interested: true,
            });
        }
        self.admit(shared, now, key);
    }

    /// Unchokes a peer between two rounds, if a slot is free.
    fn admit(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let slots = self.slots(shared);
        let is_used = |peer: &Peer| !peer.am_choking && !peer.is_idle(now);
        let used = self.peers.values().filter(|peer| is_used(peer)).count();
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let candidate = candidate(key, peer, now);
        if let Some(choice) = self.choker.admit(now, &candidate, used, slots) {
            self.set_choking(shared, now, choice);
        }
    }

    /// Slots whose peers take nothing serve newcomers meanwhile: whoever connects only to hold a
    /// slot keeps nobody waiting for a round.
    pub(super) fn admit_newcomers(&mut self, shared: &mut Shared, now: Instant) {
        if !self.peers.values().any(|peer| peer.is_idle(now)) {
            return;
        }
        let waits = |peer: &Peer| peer.peer_interested && peer.unchoked_at.is_none();
        let newcomers = self.peers.iter().filter(|(_, peer)| waits(peer));
        for key in newcomers.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.admit(shared, now, key);
        }
    }

    pub(super) fn on_not_interested(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let is_news = std::mem::replace(&mut peer.peer_interested, false);
        peer.last_interest = now;
        if is_news {
            shared.alert(Alert::Interest {
                torrent: self.key,
                peer: peer.addr,
                by: Side::Peer,
                interested: false,
            });
        }
    }

    fn set_choking(&mut self, shared: &mut Shared, now: Instant, choice: Choice) {
        let Choice {
            peer: key,
            unchoke,
            reason,
        } = choice;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.am_choking != unchoke {
            return;
        }
        peer.am_choking = !unchoke;
        let alert = Alert::Choke {
            torrent: self.key,
            peer: peer.addr,
            by: Side::Us,
            choked: !unchoke,
            reason,
        };
        if unchoke {
            shared.unchoked += 1;
            peer.unchoked_at = Some(now);
            peer.uploaded_since_unchoke = 0;
            // First what it may take: it asks as soon as it is unchoked.
            self.reveal(shared, now, key);
            shared.actions.push_back(Action::Send {
                peer: key,
                message: Message::Unchoke,
            });
        } else {
            shared.unchoked -= 1;
            shared.actions.push_back(Action::Send {
                peer: key,
                message: Message::Choke,
            });
            self.drop_queue(shared, key);
        }
        shared.alert(alert);
    }

    /// A choked peer's requests are void, but for the pieces that it may have anyway. BEP 6: each
    /// request gets its block or a reject.
    fn drop_queue(&mut self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let allowed: Vec<PieceIndex> = peer.allowed_out.iter().map(|(piece, _)| *piece).collect();
        let (kept, dropped): (Vec<Block>, Vec<Block>) = std::mem::take(&mut peer.queue)
            .into_iter()
            .partition(|block| peer.spend_allowance(&self.layout, block.piece()));
        peer.queue = kept.into();
        let fast = peer.reserved.fast();
        for &run in peer
            .serving
            .iter()
            .filter(|run| !allowed.contains(&run.piece()))
        {
            shared.actions.push_back(Action::Unserve { peer: key, run });
        }
        if fast {
            for block in dropped {
                reject(shared, key, block);
            }
        }
    }

    // Requests.

    pub(super) fn on_request(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        request: Request,
    ) -> Result<(), Violation> {
        let Request { piece, begin, len } = request;
        let in_range = self.layout.piece(piece).is_some_and(|index| {
            let end = u64::from(begin) + u64::from(len);
            len > 0 && end <= u64::from(self.layout.piece_len(index))
        });
        if !in_range {
            return Err(Violation::RequestRange);
        }
        let block = self.layout.block(piece, begin, len);
        let block = block.filter(|block| self.is_told(key, block.piece()));
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let served = block.filter(|block| {
            self.picker.have(block.piece())
                && peer.queue.len() < shared.config.peer_requests_max
                && (!peer.am_choking || peer.spend_allowance(&self.layout, block.piece()))
        });
        match served {
            Some(block) => {
                peer.refused_requests = 0;
                if peer.queue.is_empty() && peer.serving.is_empty() {
                    peer.took_at = now;
                }
                peer.queue.push_back(block);
                self.serve(shared, key, now);
            }
            None => {
                peer.refused_requests += 1;
                if peer.reserved.fast() {
                    let message = Message::RejectRequest(request);
                    shared
                        .actions
                        .push_back(Action::Send { peer: key, message });
                }
                if peer.refused_requests > REFUSED_MAX + shared.config.peer_requests_max as u32 {
                    self.close(shared, key, CloseReason::RequestFlood, now);
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_cancel(&mut self, shared: &mut Shared, key: PeerKey, request: Request) {
        let Request { piece, begin, len } = request;
        let Some(block) = self.layout.block(piece, begin, len) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(at) = peer.queue.iter().position(|&other| other == block) {
            peer.queue.remove(at);
            if peer.reserved.fast() {
                reject(shared, key, block);
            }
        } else if peer.serving.contains(&self.layout.run_of(block)) {
            let run = self.layout.run_of(block);
            shared.actions.push_back(Action::Unserve { peer: key, run });
        }
    }

    // Serving.

    /// Serves every peer in turn, one run each, as long as limits and credit last.
    pub(super) fn serve_all(&mut self, shared: &mut Shared, now: Instant) {
        shared.up_turns.go(self.key);
        let after = self.serve_after;
        let (early, late): (Vec<PeerKey>, Vec<PeerKey>) = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.queue.is_empty())
            .map(|(key, _)| *key)
            .partition(|&key| key <= after);
        let mut waiting: Vec<PeerKey> = late.into_iter().chain(early).collect();
        while !waiting.is_empty() {
            waiting.retain(|&key| {
                let served = self.serve_run(shared, key, now);
                if served {
                    self.serve_after = key;
                }
                served
            });
        }
    }

    /// Serves one peer as far as its credit goes; under a limit everybody has to take turns.
    pub(super) fn serve(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        if self.uploads_are_limited(shared) {
            if self.next_serving.is_none() {
                self.serve_all(shared, now);
            }
            return;
        }
        while self.serve_run(shared, key, now) {}
    }

    fn uploads_are_limited(&self, shared: &Shared) -> bool {
        shared.up.limit().is_some() || self.up.limit().is_some()
    }

    fn serve_run(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) -> bool {
        let is_limited = self.uploads_are_limited(shared);
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let Some(&first) = peer.queue.front() else {
            return false;
        };
        let wire = u64::from(first.len()) + BLOCK_HEADER;
        if !peer.has_credit(first.len(), now) {
            return false;
        }
        let tokens = available_of(now, &mut [&mut shared.up, &mut self.up]);
        if tokens.min(shared.up_turns.room(self.key, &shared.up)) < wire {
            let at = next_at_of(&[&shared.up, &self.up], wire);
            let at = at.map(|at| at.max(now + TURN));
            self.next_serving = sooner(self.next_serving, at);
            if shared.up.limit().is_some() {
                shared.up_turns.wait(self.key);
            }
            return false;
        }
        let count_max = if is_limited { 1 } else { SERVE_RUN_MAX };
        let mut count = 0;
        while count < count_max
            && peer.queue.front().is_some_and(|block| {
                block.piece() == first.piece() && block.index() == first.index() + count
            })
        {
            peer.queue.pop_front();
            count += 1;
        }
        let run = self
            .layout
            .run(first.piece(), first.index(), count)
            .expect("consecutive valid blocks of one piece");
        let bytes = u64::from(self.layout.run_len(run));
        peer.serving_bytes += bytes;
        peer.last_sent = now;
        let wire = bytes + u64::from(count) * BLOCK_HEADER;
        take_of(&mut [&mut shared.up, &mut self.up], wire);
        shared.up_turns.take(self.key, wire);
        match shared.actions.back_mut() {
            // Requests that the host hands over together are served together.
            Some(Action::Serve {
                peer: of,
                run: last,
            }) if *of == key
                && last.count() + count <= count_max
                && let Some(joined) = self.layout.join(*last, run) =>
            {
                *last = joined;
                if let Some(serving) = peer.serving.back_mut() {
                    *serving = joined;
                }
            }
            Some(_) | None => {
                peer.serving.push_back(run);
                shared.actions.push_back(Action::Serve { peer: key, run });
            }
        }
        true
    }

    /// The run left our hands: whole, or not at all because it was taken back.
    pub(crate) fn on_served(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        run: Run,
        bytes: u32,
    ) {
        if !self.end_serving(shared, key, run) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if bytes == 0 {
            let wire = u64::from(self.layout.run_len(run)) + u64::from(run.count()) * BLOCK_HEADER;
            shared.up.refund(wire);
            self.up.refund(wire);
            if peer.reserved.fast() {
                for block in self.layout.run_blocks(run) {
                    reject(shared, key, block);
                }
            }
        } else {
            peer.up.add(now, u64::from(bytes));
            peer.uploaded_since_unchoke += u64::from(bytes);
            peer.took_at = now;
            self.stats.uploaded += u64::from(bytes);
            self.stats.up.add(now, u64::from(bytes));
            self.on_taken(now, key, run.piece(), bytes);
            self.reveal(shared, now, key);
        }
        self.serve(shared, key, now);
    }

    pub(crate) fn on_serve_failed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        run: Run,
        error: DiskError,
    ) {
        if self.end_serving(shared, key, run)
            && self
                .peers
                .get(&key)
                .is_some_and(|peer| peer.reserved.fast())
        {
            for block in self.layout.run_blocks(run) {
                reject(shared, key, block);
            }
        }
        self.fail(shared, now, error);
    }

    fn end_serving(&mut self, shared: &mut Shared, key: PeerKey, run: Run) -> bool {
        let peer = self.peers.get_mut(&key);
        let at = peer
            .as_ref()
            .and_then(|peer| peer.serving.iter().position(|&r| r == run));
        let (Some(peer), Some(at)) = (peer, at) else {
            shared.dropped_events += 1;
            return false;
        };
        peer.serving.remove(at);
        peer.serving_bytes -= u64::from(self.layout.run_len(run));
        true
    }
}

fn candidate(key: PeerKey, peer: &Peer, now: Instant) -> Candidate {
    Candidate {
        peer: key,
        interested: peer.peer_interested,
        snubbed: peer.snubbed,
        down_rate: peer.down.rate_over(now, 10),
        up_rate: peer.up.rate_over(now, 10),
        connected_at: peer.connected_at,
        unchoked: !peer.am_choking,
        unchoked_at: peer.unchoked_at,
        uploaded_since_unchoke: peer.uploaded_since_unchoke,
        is_idle: peer.is_idle(now),
    }
}

fn reject(shared: &mut Shared, key: PeerKey, block: Block) {
    let request = Request {
        piece: block.piece().get(),
        begin: block.offset(),
        len: block.len(),
    };
    shared.actions.push_back(Action::Send {
        peer: key,
        message: Message::RejectRequest(request),
    });
}
