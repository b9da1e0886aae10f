//! The picker once more, naive: plain sets, everything counted anew at each question, no state that
//! could be out of step. `tests/series.rs` drives both with the same events.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(super) const STARTED_MAX: usize = 2;
pub(super) const RANDOM_FIRST: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Good,
    Bad,
    Lost,
}

pub(super) struct Model {
    pub(super) layout: Arc<Layout>,
    pub(super) order: PieceOrder,
    pub(super) have: BTreeSet<PieceIndex>,
    pub(super) priorities: BTreeMap<PieceIndex, Priority>,
    pub(super) peers: BTreeMap<PeerKey, ModelPeer>,
    pub(super) received: BTreeSet<Block>,
    /// Oldest first.
    pub(super) requests: Vec<(Block, PeerKey)>,
    pub(super) suspects: BTreeSet<PieceIndex>,
    pub(super) owners: BTreeMap<PieceIndex, PeerKey>,
    /// Peers that answer, with their rate.
    pub(super) rates: BTreeMap<PeerKey, u64>,
    pub(super) current: BTreeMap<PeerKey, PieceIndex>,
}

pub(super) struct ModelPeer {
    pub(super) has: BTreeSet<PieceIndex>,
    pub(super) is_seed: bool,
}

impl Model {
    fn is_wanted(&self, piece: PieceIndex) -> bool {
        !self.have.contains(&piece) && self.priorities[&piece] != Priority::Skip
    }

    fn copies(&self, piece: PieceIndex) -> u32 {
        let has = |peer: &&ModelPeer| peer.is_seed || peer.has.contains(&piece);
        self.peers.values().filter(has).count() as u32
    }

    fn is_here(&self, block: Block) -> bool {
        self.received.contains(&block) || self.layout.is_pad(block)
    }

    fn requesters(&self, block: Block) -> Vec<PeerKey> {
        let of_block = self.requests.iter().filter(|request| request.0 == block);
        of_block.map(|request| request.1).collect()
    }

    fn is_started(&self, piece: PieceIndex) -> bool {
        self.requests
            .iter()
            .any(|request| request.0.piece() == piece)
            || self.received.iter().any(|block| block.piece() == piece)
    }

    fn is_free(&self, block: Block) -> bool {
        self.is_wanted(block.piece()) && !self.is_here(block) && self.requesters(block).is_empty()
    }

    fn free_in(&self, piece: PieceIndex) -> usize {
        self.layout
            .blocks(piece)
            .filter(|&block| self.is_free(block))
            .count()
    }

    fn open_pieces(&self) -> usize {
        let open = |piece: &PieceIndex| {
            self.is_started(*piece) && !self.owners.contains_key(piece) && self.free_in(*piece) > 0
        };
        self.layout.all_pieces().filter(open).count()
    }

    fn is_endgame(&self) -> bool {
        let mut pieces = self.layout.all_pieces();
        self.layout.all_pieces().any(|piece| self.is_wanted(piece))
            && pieces.all(|piece| self.free_in(piece) == 0 || self.owners.contains_key(&piece))
    }

    /// Nothing that an asker may not take; then only the best by the rules of the module.
    fn allowed(&self, asker: &Asker<'_>) -> BTreeSet<PieceIndex> {
        let may_take = |piece: &PieceIndex| {
            asker.offers(*piece)
                && self.free_in(*piece) > 0
                && self
                    .owners
                    .get(piece)
                    .is_none_or(|&owner| owner == asker.peer)
        };
        let mut pieces: BTreeSet<_> = self.layout.all_pieces().filter(may_take).collect();
        if let Some(&current) = self.current.get(&asker.peer)
            && self.order != PieceOrder::Sequential
            && pieces.contains(&current)
            && self.is_started(current)
        {
            return [current].into();
        }
        let urgent = pieces.iter().map(|piece| self.priorities[piece]).max();
        pieces.retain(|piece| Some(self.priorities[piece]) == urgent);
        let (started, new): (BTreeSet<_>, BTreeSet<_>) =
            pieces.iter().partition(|&&piece| self.is_started(piece));
        let begun = self
            .layout
            .all_pieces()
            .filter(|&piece| self.is_started(piece));
        let begun = (self.have.len() + begun.count()) as u32;
        match self.order {
            PieceOrder::Sequential => pieces.into_iter().take(1).collect(),
            PieceOrder::RarestFirst if begun >= RANDOM_FIRST => {
                let least = |set: &BTreeSet<_>| set.iter().map(|&piece| self.copies(piece)).min();
                let started_goes = match (least(&started), least(&new)) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(a), Some(b)) => a <= b || b >= 4 || self.open_pieces() >= STARTED_MAX,
                };
                self.least_by(if started_goes { started } else { new }, |piece| {
                    (
                        self.copies(piece),
                        if started_goes { self.free_in(piece) } else { 0 },
                    )
                })
            }
            PieceOrder::RarestFirst | PieceOrder::Random if started.is_empty() => new,
            PieceOrder::RarestFirst | PieceOrder::Random => {
                self.least_by(started, |piece| self.free_in(piece))
            }
        }
    }

    fn least_by<K: Ord>(
        &self,
        mut pieces: BTreeSet<PieceIndex>,
        key: impl Fn(PieceIndex) -> K,
    ) -> BTreeSet<PieceIndex> {
        let least = pieces.iter().map(|&piece| key(piece)).min();
        pieces.retain(|&piece| Some(key(piece)) == least);
        pieces
    }

    /// Requesters besides the asker that answer, and the rate of the fastest.
    fn live(&self, block: Block, asker: PeerKey) -> (usize, u64) {
        let requesters = self.requesters(block);
        let others = requesters.iter().filter(|&&peer| peer != asker);
        let rates: Vec<u64> = others
            .filter_map(|peer| self.rates.get(peer).copied())
            .collect();
        (rates.len(), rates.iter().copied().max().unwrap_or(0))
    }

    /// The block that the end-game takes next, if any.
    fn doubled(&self, asker: &Asker<'_>) -> Option<Block> {
        let missing: BTreeSet<Block> = self
            .requests
            .iter()
            .map(|request| request.0)
            .filter(|&block| !self.is_here(block))
            .collect();
        let is_asked = |block: &Block| self.requesters(*block).contains(&asker.peer);
        let doubles = missing
            .iter()
            .filter(|block| is_asked(block) && self.live(**block, asker.peer).0 > 0)
            .count();
        missing
            .iter()
            .copied()
            .filter(|block| {
                let live = self.live(*block, asker.peer).0;
                asker.offers(block.piece())
                    && self.is_wanted(block.piece())
                    && !self.suspects.contains(&block.piece())
                    && !is_asked(block)
                    && live < 2
                    && self.requesters(*block).len() < 3
                    && (live == 0 || doubles < 4)
            })
            .min_by_key(|&block| {
                let (live, rate) = self.live(block, asker.peer);
                let last = self.requests.iter().rposition(|request| request.0 == block);
                (
                    live,
                    self.requesters(block).len(),
                    rate,
                    std::cmp::Reverse(last),
                )
            })
    }

    /// Follows a pick block by block.
    pub(super) fn check_pick(&mut self, asker: &Asker<'_>, blocks: usize, picked: &[Block]) {
        assert!(picked.len() <= blocks);
        self.note(asker);
        self.take_over(asker);
        let mut picked = picked.iter().copied();
        let mut left = blocks;
        let mut begun = None;
        while left > 0 {
            let allowed = match begun.filter(|&piece| self.free_in(piece) > 0) {
                Some(begun) => [begun].into(),
                None => self.allowed(asker),
            };
            if allowed.is_empty() {
                break;
            }
            let block = picked.next().expect("there is a free block for this peer");
            assert!(
                allowed.contains(&block.piece()),
                "{block:?}, not of {allowed:?}"
            );
            let lowest = self
                .layout
                .blocks(block.piece())
                .find(|&block| self.is_free(block));
            assert_eq!(Some(block), lowest, "the lowest free block");
            if self.suspects.contains(&block.piece()) {
                self.owners.insert(block.piece(), asker.peer);
            }
            if !asker.snubbed {
                self.current.insert(asker.peer, block.piece());
            }
            self.requests.push((block, asker.peer));
            begun = Some(block.piece());
            left -= 1;
        }
        while left > 0 && self.is_endgame() && !asker.snubbed {
            let expected = self.doubled(asker);
            let block = picked.next();
            assert_eq!(block, expected, "the end-game");
            let Some(block) = block else { break };
            self.requests.push((block, asker.peer));
            left -= 1;
        }
        assert_eq!(picked.next(), None, "more than the rules allow");
    }

    fn take_over(&mut self, asker: &Asker<'_>) {
        let is_left_alone = |&(&piece, owner): &(&PieceIndex, &PeerKey)| {
            let nothing_came = self.received.iter().all(|block| block.piece() != piece);
            !asker.snubbed && asker.offers(piece) && !self.rates.contains_key(owner) && nothing_came
        };
        let owned = self.owners.iter().filter(is_left_alone);
        let pieces: Vec<_> = owned.map(|(&piece, _)| piece).collect();
        pieces.into_iter().for_each(|piece| self.forget(piece));
    }

    fn note(&mut self, asker: &Asker<'_>) {
        if asker.snubbed {
            self.rates.remove(&asker.peer);
            self.current.remove(&asker.peer);
        } else {
            self.rates.insert(asker.peer, asker.rate);
        }
    }

    pub(super) fn on_block(&mut self, block: Block, from: PeerKey) -> Arrival {
        let piece = block.piece();
        let foreign = self.suspects.contains(&piece) && self.owners.get(&piece) != Some(&from);
        let is_dead = !self.is_wanted(piece) && !self.is_started(piece);
        if foreign || is_dead || self.have.contains(&piece) {
            return Arrival::Duplicate;
        }
        self.requests.retain(|&request| request != (block, from));
        if self.layout.is_pad(block) || !self.received.insert(block) {
            self.forget_owner_if_idle(piece);
            return Arrival::Duplicate;
        }
        let piece_full = self.layout.blocks(piece).all(|block| self.is_here(block));
        Arrival::New { piece_full }
    }

    fn forget_owner_if_idle(&mut self, piece: PieceIndex) {
        if !self.is_started(piece) {
            self.owners.remove(&piece);
        }
    }

    pub(super) fn on_abandoned(&mut self, block: Block, peer: PeerKey) {
        self.requests.retain(|&request| request != (block, peer));
        self.forget_owner_if_idle(block.piece());
    }

    fn forget(&mut self, piece: PieceIndex) {
        self.requests.retain(|request| request.0.piece() != piece);
        self.received.retain(|block| block.piece() != piece);
        self.owners.remove(&piece);
    }

    pub(super) fn release(&mut self, peer: PeerKey) -> Vec<PieceIndex> {
        self.rates.remove(&peer);
        self.current.remove(&peer);
        let is_full = |piece| self.layout.blocks(piece).all(|block| self.is_here(block));
        let owned = self.owners.iter().filter(|&(_, &owner)| owner == peer);
        let unfinished: Vec<_> = owned
            .map(|(&piece, _)| piece)
            .filter(|&p| !is_full(p))
            .collect();
        let mut begun = unfinished.clone();
        begun.retain(|&piece| self.received.iter().any(|block| block.piece() == piece));
        unfinished.into_iter().for_each(|piece| self.forget(piece));
        begun
    }

    pub(super) fn judge(&mut self, piece: PieceIndex, verdict: Verdict) {
        match verdict {
            Verdict::Good => {
                self.forget(piece);
                self.suspects.remove(&piece);
                self.have.insert(piece);
            }
            Verdict::Bad => {
                self.forget(piece);
                self.have.remove(&piece);
                self.suspects.insert(piece);
            }
            Verdict::Lost => {
                self.received.retain(|block| block.piece() != piece);
                self.have.remove(&piece);
                self.forget_owner_if_idle(piece);
            }
        }
    }

    pub(super) fn full_pieces(&self) -> Vec<PieceIndex> {
        let full = |piece: &PieceIndex| {
            !self.have.contains(piece) && self.layout.blocks(*piece).all(|b| self.is_here(b))
        };
        self.layout.all_pieces().filter(full).collect()
    }

    pub(super) fn compare(&self, picker: &Picker) {
        picker.check_invariants();
        let wanted = self
            .layout
            .all_pieces()
            .filter(|&piece| self.is_wanted(piece));
        assert_eq!(wanted.count() as u32, picker.wanted_left());
        assert_eq!(self.is_endgame(), picker.is_endgame(), "end-game");
        let started = self
            .layout
            .all_pieces()
            .filter(|&piece| self.is_started(piece));
        assert_eq!(started.count(), picker.started_pieces());
        for piece in self.layout.all_pieces() {
            assert_eq!(self.have.contains(&piece), picker.have(piece));
            assert_eq!(self.copies(piece), picker.copies(piece));
            for block in self.layout.blocks(piece) {
                let is_missing = self.is_wanted(piece) && !self.is_here(block);
                assert_eq!(is_missing, picker.is_missing(block), "{block:?}");
                let requesters: Vec<_> = picker.requesters(block).collect();
                assert_eq!(self.requesters(block), requesters, "{block:?}");
            }
        }
    }
}
