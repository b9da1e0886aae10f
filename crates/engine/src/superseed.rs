//! Super-seeding (BEP 16): which piece a seed tells whom, so that it sends each of them once.
//!
//! A super-seed shows itself as a peer without pieces and reveals them one after another, each to
//! one peer if it can. A peer gets its next piece as soon as it has little left to take of the last
//! one, whether or not it passed that on: the uplink never waits for a confirmation, and whoever is
//! alone is served as by any seed. Told twice are, in this order: pieces that nobody began to
//! take, pieces that others have, pieces that somebody else is at. When the swarm reports a full
//! copy it is over. Who is served is decided by the choker; what is sent for a reveal, elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{Bitfield, Layout, PieceIndex};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::event::PeerKey;

/// Pieces that one peer was told and that it has not reported, at most. The oldest that it took
/// whole yields.
const OPEN_MAX: usize = 256;

/// Who has all blocks of a piece needs so long, at most, to verify it and to say so.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer that took some of a piece and nothing of it for so long is choked, or gone for us.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A piece that is under way for so long may be told to a faster peer too.
const SLOW_AFTER: Duration = Duration::from_secs(20);

/// Pieces that are compared for one reveal when no fresh one is left.
const COMPARED_MAX: usize = 4096;

/// What a connected peer knows of us from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knows {
    Nothing,
    Everything,
}

#[derive(Debug)]
pub struct SuperSeed {
    layout: Arc<Layout>,
    peers: BTreeMap<PeerKey, Told>,
    /// Pieces that a connected peer has, by its own word.
    out: Bitfield,
    /// Pieces that nobody has.
    inside: u32,
    /// Pieces to be told next, last first. Some of them may be out by now.
    fresh: Vec<u32>,
    /// Pieces that stand in `fresh`.
    listed: Bitfield,
    /// Of each piece: peers that were told of it and have not reported it.
    open_at: Vec<u16>,
}

/// What one peer was told.
#[derive(Debug)]
struct Told {
    /// `None` for everything.
    pieces: Option<Bitfield>,
    /// Not reported yet, in the order in which they were told.
    open: Vec<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    piece: PieceIndex,
    /// Bytes that the peer has not taken.
    left: u32,
    /// When it first and last took some.
    taken: Option<(Instant, Instant)>,
}

impl Open {
    /// The peer has all of it and should have said so by now.
    fn is_unreported(&self, now: Instant) -> bool {
        let is_late = |(_, last)| now.since(last) >= REPORT_TIMEOUT;
        self.left == 0 && self.taken.is_some_and(is_late)
    }

    fn held(&self, now: Instant) -> Held {
        match self.taken {
            None => Held::Untouched,
            Some((first, last))
                if self.left > 0
                    && (now.since(last) >= STALLED_AFTER || now.since(first) >= SLOW_AFTER) =>
            {
                Held::Stalled
            }
            Some(_) => Held::UnderWay,
        }
    }
}

/// Where a piece that was told stands, from the one that should be told again first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Held {
    /// Nobody has it and nobody began to take it.
    Untouched,
    /// Somebody took some of it and does not go on, or is slow.
    Stalled,
    /// Others can give it.
    Out,
    /// Somebody is at it.
    UnderWay,
}

impl SuperSeed {
    /// `is_out` tells what connected peers have.
    pub fn new(layout: Arc<Layout>, rng: &mut Rng, is_out: impl Fn(PieceIndex) -> bool) -> Self {
        let pieces = layout.pieces();
        let mut out = Bitfield::new(pieces);
        for piece in layout.all_pieces().filter(|&piece| is_out(piece)) {
            out.set(piece.get());
        }
        let mut fresh: Vec<u32> = (0..pieces).filter(|&index| !out.get(index)).collect();
        rng.shuffle(&mut fresh);
        let mut listed = Bitfield::new(pieces);
        fresh.iter().for_each(|&index| {
            listed.set(index);
        });
        Self {
            peers: BTreeMap::new(),
            inside: fresh.len() as u32,
            out,
            fresh,
            listed,
            open_at: vec![0; pieces as usize],
            layout,
        }
    }

    /// Every piece is at some connected peer.
    pub fn is_copied(&self) -> bool {
        self.inside == 0
    }

    pub fn on_connected(&mut self, peer: PeerKey, knows: Knows) {
        let pieces = match knows {
            Knows::Nothing => Some(Bitfield::new(self.layout.pieces())),
            Knows::Everything => None,
        };
        let open = Vec::new();
        self.peers.insert(peer, Told { pieces, open });
    }

    /// A peer has the piece, by its own word.
    pub fn on_have(&mut self, peer: PeerKey, piece: PieceIndex) {
        if self.out.set(piece.get()) {
            self.inside -= 1;
        }
        self.close(peer, piece);
    }

    /// The peer is gone. `is_out` tells what the others have.
    pub fn on_gone(&mut self, peer: PeerKey, had: &Bitfield, is_out: impl Fn(PieceIndex) -> bool) {
        let Some(told) = self.peers.remove(&peer) else {
            return;
        };
        for open in told.open {
            self.count_closed(open.piece);
        }
        for index in had.iter_ones() {
            let Some(piece) = self.layout.piece(index).filter(|&piece| !is_out(piece)) else {
                continue;
            };
            if self.out.clear(index) {
                self.inside += 1;
            }
            self.refresh(piece);
        }
    }

    /// Whether the peer may ask for the piece.
    pub fn may_ask(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        self.peers
            .get(&peer)
            .and_then(|told| told.pieces.as_ref())
            .is_none_or(|pieces| pieces.get(piece.get()))
    }

    /// Whether the peer was told less than everything.
    pub fn hides_from(&self, peer: PeerKey) -> bool {
        let told = self.peers.get(&peer);
        told.is_some_and(|told| told.pieces.is_some())
    }

    /// A peer takes bytes of a piece: of its own choice if it knows everything.
    pub fn on_served(&mut self, now: Instant, peer: PeerKey, piece: PieceIndex, bytes: u32) {
        let Some(told) = self.peers.get_mut(&peer) else {
            return;
        };
        let at = told.open.iter().position(|open| open.piece == piece);
        let at = match at {
            Some(at) => at,
            None if told.pieces.is_none() && told.open.len() < OPEN_MAX => {
                self.open(peer, piece);
                return self.on_served(now, peer, piece, bytes);
            }
            None => return,
        };
        let open = &mut told.open[at];
        open.left = open.left.saturating_sub(bytes);
        let first = open.taken.map_or(now, |(first, _)| first);
        open.taken = Some((first, now));
    }

    /// What a peer is told now: pieces until it has `window` bytes to take.
    pub fn reveal(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        peer: PeerKey,
        has: &Bitfield,
        window: u64,
    ) -> Vec<PieceIndex> {
        let mut revealed = Vec::new();
        if !self.hides_from(peer) {
            return revealed;
        }
        self.give_up_waiting(now, peer);
        while self.left_of(peer) < window
            && self.has_room(peer)
            && let Some(piece) = self.next(now, rng, peer, has)
        {
            self.tell(peer, piece);
            self.open(peer, piece);
            revealed.push(piece);
        }
        revealed
    }

    /// Up to `count` pieces that the peer was not told, those that it lacks first. With the last of
    /// them it knows everything.
    pub fn tell_rest(&mut self, peer: PeerKey, has: &Bitfield, count: usize) -> Vec<PieceIndex> {
        let Some(told) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        let Some(pieces) = &mut told.pieces else {
            return Vec::new();
        };
        let untold = |lacks: bool| {
            let all = self.layout.all_pieces();
            let pieces = &*pieces;
            all.filter(move |piece| !pieces.get(piece.get()) && has.get(piece.get()) != lacks)
        };
        let rest: Vec<PieceIndex> = untold(true).chain(untold(false)).take(count).collect();
        for piece in &rest {
            pieces.set(piece.get());
        }
        if pieces.is_full() {
            told.pieces = None;
        }
        rest
    }

    pub fn check_invariants(&self) {
        assert_eq!(self.inside, self.out.len() - self.out.count_ones());
        let mut open_at = vec![0; self.open_at.len()];
        for told in self.peers.values() {
            assert!(told.open.len() <= OPEN_MAX);
            for open in &told.open {
                open_at[open.piece.index()] += 1;
                let pieces = told.pieces.as_ref();
                assert!(pieces.is_none_or(|pieces| pieces.get(open.piece.get())));
            }
        }
        assert_eq!(open_at, self.open_at, "peers that a piece is open at");
    }

    /// Bytes that the peer may take of what it was told.
    fn left_of(&self, peer: PeerKey) -> u64 {
        self.peers.get(&peer).map_or(u64::MAX, |told| {
            told.open.iter().map(|open| u64::from(open.left)).sum()
        })
    }

    /// Whether one more piece may be open, when the oldest that was taken whole is given up.
    fn has_room(&mut self, peer: PeerKey) -> bool {
        let Some(told) = self.peers.get_mut(&peer) else {
            return false;
        };
        if told.open.len() < OPEN_MAX {
            return true;
        }
        let Some(at) = told.open.iter().position(|open| open.left == 0) else {
            return false;
        };
        let given_up = told.open.remove(at);
        self.count_closed(given_up.piece);
        true
    }

    fn tell(&mut self, peer: PeerKey, piece: PieceIndex) {
        let told = self.peers.get_mut(&peer);
        if let Some(pieces) = told.and_then(|told| told.pieces.as_mut()) {
            pieces.set(piece.get());
        }
    }

    fn open(&mut self, peer: PeerKey, piece: PieceIndex) {
        let left = self.layout.piece_len(piece);
        let Some(told) = self.peers.get_mut(&peer) else {
            return;
        };
        told.open.push(Open {
            piece,
            left,
            taken: None,
        });
        self.open_at[piece.index()] += 1;
    }

    fn close(&mut self, peer: PeerKey, piece: PieceIndex) {
        let Some(told) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Some(at) = told.open.iter().position(|open| open.piece == piece) {
            told.open.remove(at);
            self.count_closed(piece);
        }
    }

    fn count_closed(&mut self, piece: PieceIndex) {
        self.open_at[piece.index()] -= 1;
        self.refresh(piece);
    }

    /// A piece that nobody has or takes is as good as one that was never told.
    fn refresh(&mut self, piece: PieceIndex) {
        let is_fresh = self.open_at[piece.index()] == 0 && !self.out.get(piece.get());
        if is_fresh && self.listed.set(piece.get()) {
            self.fresh.push(piece.get());
        }
    }

    /// Whoever took a piece and says nothing of it is not waited for.
    fn give_up_waiting(&mut self, now: Instant, peer: PeerKey) {
        let Some(told) = self.peers.get_mut(&peer) else {
            return;
        };
        let late: Vec<PieceIndex> = told
            .open
            .extract_if(.., |open| open.is_unreported(now))
            .map(|open| open.piece)
            .collect();
        for piece in late {
            self.count_closed(piece);
        }
    }

    /// The piece that the peer should be told next.
    fn next(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        peer: PeerKey,
        has: &Bitfield,
    ) -> Option<PieceIndex> {
        let told = self.peers.get(&peer)?.pieces.as_ref()?;
        let is_new = |index: u32| !told.get(index) && !has.get(index);
        while let Some(&index) = self.fresh.last() {
            let is_fresh = !self.out.get(index) && self.open_at.get(index as usize) == Some(&0);
            if is_fresh && is_new(index) {
                return self.layout.piece(index);
            }
            if is_fresh {
                // It had the piece and said nothing: somebody else is told.
                break;
            }
            self.fresh.pop();
            self.listed.clear(index);
        }
        self.next_of_all(now, rng, &is_new)
    }

    /// The best of those that are told already, or out.
    fn next_of_all(
        &self,
        now: Instant,
        rng: &mut Rng,
        is_new: &impl Fn(u32) -> bool,
    ) -> Option<PieceIndex> {
        let mut held = BTreeMap::new();
        for open in self.peers.values().flat_map(|told| &told.open) {
            let most: &mut Held = held.entry(open.piece.get()).or_insert(Held::Untouched);
            *most = open.held(now).max(*most);
        }
        let held = |index: u32| match held.get(&index) {
            _ if self.out.get(index) => Held::Out,
            Some(&held) => held,
            None => Held::Untouched,
        };
        let pieces = self.layout.pieces();
        let start = rng.below(u64::from(pieces)) as u32;
        let best = (start..pieces)
            .chain(0..start)
            .filter(|&index| is_new(index))
            .take(COMPARED_MAX)
            .min_by_key(|&index| (held(index), self.open_at[index as usize]))?;
        self.layout.piece(best)
    }
}

#[cfg(test)]
mod tests;
