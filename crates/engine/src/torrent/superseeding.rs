//! Super-seeding (BEP 16) carried out: when it begins and ends, and what peers are told.
//!
//! [`SuperSeed`] decides which piece whom; the choker decides who is served, as ever. A peer that
//! met us as a super-seed is told that we download no more (BEP 21) only when it knows everything
//! that we have: one that sees no use in us would leave.

use dunlin_metainfo::{Bitfield, PieceIndex};
use dunlin_proto::peer::Message;
use dunlin_proto::time::Instant;

use super::{Shared, Torrent};
use crate::alert::Alert;
use crate::config;
use crate::event::{Action, PeerKey};
use crate::peer::Peer;
use crate::snapshot::TorrentState;
use crate::superseed::{Knows, SuperSeed};

/// What a peer may take beyond what was served, in bytes, before it is told of another piece: this,
/// or one second of its rate.
const WINDOW_MIN: u64 = 256 * 1024;

/// Copies that we sent while no full one was reported, after which pieces are held back no more:
/// peers leave with them, or say nothing.
const COPIES_MAX: u64 = 2;

/// Haves that a peer is told in a second when super-seeding is over: 9 KiB.
const REST_PER_S: usize = 1024;

#[derive(Debug)]
pub(super) struct SuperSeeding {
    pieces: SuperSeed,
    /// A full copy is out: peers that come are told everything, the others get to know the rest.
    is_over: bool,
}

impl SuperSeeding {
    pub(super) fn check_invariants(&self) {
        self.pieces.check_invariants();
    }
}

impl Torrent {
    /// Whoever just downloaded it has it from somebody: there is another copy.
    pub(super) fn begin_super_seeding(&mut self, shared: &mut Shared) {
        let brings_it = self.stats.downloaded == 0 && self.resume.downloaded_before == 0;
        let wanted = match shared.config.super_seeding {
            config::SuperSeeding::Off => false,
            config::SuperSeeding::Auto => brings_it,
            config::SuperSeeding::On => true,
        };
        if !wanted || !self.seed_when_complete || !self.picker.have_bits().is_full() {
            return;
        }
        let picker = &self.picker;
        let layout = self.layout.clone();
        let is_out = |piece| picker.copies(piece) > 0;
        let mut pieces = SuperSeed::new(layout, &mut shared.rng, is_out);
        for &key in self.peers.keys() {
            pieces.on_connected(key, Knows::Everything);
        }
        if pieces.is_copied() {
            return;
        }
        let is_over = false;
        self.super_seed = Some(Box::new(SuperSeeding { pieces, is_over }));
        let torrent = self.key;
        shared.alert(Alert::SuperSeeding { torrent, on: true });
    }

    /// Before the greeting. Whether we show ourselves without pieces.
    pub(super) fn meet_as_super_seed(&mut self, key: PeerKey) -> bool {
        let Some(seeding) = &mut self.super_seed else {
            return false;
        };
        let knows = if seeding.is_over {
            Knows::Everything
        } else {
            Knows::Nothing
        };
        seeding.pieces.on_connected(key, knows);
        knows == Knows::Nothing
    }

    /// Whether the peer may ask for the piece.
    pub(super) fn is_told(&self, key: PeerKey, piece: PieceIndex) -> bool {
        let seeding = self.super_seed.as_ref();
        seeding.is_none_or(|seeding| seeding.pieces.may_ask(key, piece))
    }

    pub(super) fn hides_from(&self, key: PeerKey) -> bool {
        let seeding = self.super_seed.as_ref();
        seeding.is_some_and(|seeding| seeding.pieces.hides_from(key))
    }

    pub(super) fn on_reported(&mut self, key: PeerKey, piece: PieceIndex) {
        if let Some(seeding) = &mut self.super_seed {
            seeding.pieces.on_have(key, piece);
        }
    }

    pub(super) fn on_all_reported(&mut self, key: PeerKey, bits: &Bitfield) {
        let Some(seeding) = &mut self.super_seed else {
            return;
        };
        let pieces = bits.iter_ones();
        for piece in pieces.filter_map(|index| self.layout.piece(index)) {
            seeding.pieces.on_have(key, piece);
        }
    }

    pub(super) fn on_taken(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, bytes: u32) {
        if let Some(seeding) = &mut self.super_seed {
            seeding.pieces.on_served(now, key, piece, bytes);
        }
    }

    /// The picker has forgotten the peer already.
    pub(super) fn forget_revealed(&mut self, key: PeerKey, peer: &Peer) {
        let picker = &self.picker;
        if let Some(seeding) = &mut self.super_seed {
            let is_out = |piece| picker.copies(piece) > 0;
            seeding.pieces.on_gone(key, &peer.has, is_out);
        }
    }

    /// Somebody else has everything.
    pub(super) fn on_other_seed(&mut self, shared: &mut Shared) {
        match shared.config.super_seeding {
            config::SuperSeeding::Off | config::SuperSeeding::On => {}
            config::SuperSeeding::Auto => self.end_super_seeding(shared),
        }
    }

    /// What a tracker counts, ourselves among them.
    pub(super) fn on_seeds_counted(&mut self, shared: &mut Shared, complete: Option<u32>) {
        if complete.is_some_and(|seeds| seeds > 1) {
            self.on_other_seed(shared);
        }
    }

    pub(super) fn reveal_to_all(&mut self, shared: &mut Shared, now: Instant) {
        if self.super_seed.is_none() {
            return;
        }
        let bytes = self.layout.bytes();
        if self.stats.uploaded >= bytes.saturating_mul(COPIES_MAX) {
            self.end_super_seeding(shared);
        }
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.tell_rest(shared, key);
            self.reveal(shared, now, key);
        }
        let knows_all = |key: &PeerKey| !self.hides_from(*key);
        let is_over = |seeding: &SuperSeeding| seeding.is_over;
        if self.super_seed.as_deref().is_some_and(is_over) && self.peers.keys().all(knows_all) {
            self.super_seed = None;
        }
    }

    /// Tells the peer of pieces until it has enough to take; a choked one of one piece, so that it
    /// stays interested.
    pub(super) fn reveal(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let (Some(seeding), Some(peer)) = (&mut self.super_seed, self.peers.get(&key)) else {
            return;
        };
        if seeding.pieces.is_copied() {
            return self.end_super_seeding(shared);
        }
        // Whoever speaks BEP 6 says first what it has.
        if seeding.is_over || (peer.reserved.fast() && !peer.has_is_known) {
            return;
        }
        let window = if peer.am_choking {
            1
        } else {
            WINDOW_MIN.max(peer.up.rate_over(now, 5))
        };
        let rng = &mut shared.rng;
        let pieces = seeding.pieces.reveal(now, rng, key, &peer.has, window);
        self.say_have(shared, key, &pieces);
    }

    fn end_super_seeding(&mut self, shared: &mut Shared) {
        let Some(seeding) = &mut self.super_seed else {
            return;
        };
        if std::mem::replace(&mut seeding.is_over, true) {
            return;
        }
        let torrent = self.key;
        shared.alert(Alert::SuperSeeding { torrent, on: false });
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.tell_rest(shared, key);
        }
    }

    /// When it is over: what the peer does not know yet.
    fn tell_rest(&mut self, shared: &mut Shared, key: PeerKey) {
        let (Some(seeding), Some(peer)) = (&mut self.super_seed, self.peers.get(&key)) else {
            return;
        };
        if !seeding.is_over || !seeding.pieces.hides_from(key) {
            return;
        }
        let rest = seeding.pieces.tell_rest(key, &peer.has, REST_PER_S);
        self.say_have(shared, key, &rest);
        if !self.hides_from(key) && self.state == TorrentState::Seeding {
            self.introduce(shared, key);
        }
    }

    fn say_have(&self, shared: &mut Shared, key: PeerKey, pieces: &[PieceIndex]) {
        for piece in pieces {
            let message = Message::Have { piece: piece.get() };
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
    }
}
