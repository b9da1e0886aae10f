//! What peers say about themselves: what they have, whether they are interested, whether they choke
//! us. Requests and blocks are in `upload.rs` and `download.rs`.

use std::net::IpAddr;

use dunlin_metainfo::{Bitfield, PieceIndex};
use dunlin_proto::peer::allowed_fast::allowed_fast;
use dunlin_proto::peer::{Message, Violation};
use dunlin_proto::time::Instant;

use super::{Shared, Torrent};
use crate::alert::{Alert, Side};
use crate::event::{Action, PeerKey};
use crate::reason::{ChokeReason, CloseReason};
use crate::snapshot::TorrentState;

/// Pieces that a newcomer may have while choked (BEP 6 suggests 10, libtorrent sends 5).
const ALLOWED_FAST: usize = 5;

/// A piece is given to choked newcomers only if so many connected peers have it too. BEP 6 derives
/// the set from the first three bytes of the address: a crowd from one network that starts together
/// would take the same few pieces from a lone seed, once each.
const ALLOWED_COPIES: u32 = 4;

/// The most pieces that we note as allowed by a peer.
const ALLOWED_IN_MAX: usize = 64;

impl Torrent {
    /// False when all that changed is what the peer has: then no deadline moves either.
    pub(crate) fn on_message(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        message: Message,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return true;
        };
        peer.last_heard = now;
        if let Message::Have { piece } = message
            && let Some(piece) = self.layout.piece(piece)
            && !self.is_magnet()
        {
            return self.on_have(shared, now, key, piece);
        }
        if let Err(violation) = self.follow_message(shared, now, key, message) {
            self.close(shared, key, CloseReason::Violation(violation), now);
        }
        true
    }

    pub(super) fn follow_message(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        message: Message,
    ) -> Result<(), Violation> {
        self.check_negotiated(key, &message)?;
        let message = if self.is_magnet() {
            let Some(message) = self.keep_for_later(shared, now, key, message)? else {
                return Ok(());
            };
            message
        } else {
            message
        };
        match message {
            Message::KeepAlive | Message::Port(_) => {}
            Message::Choke => self.on_choke(shared, now, key),
            Message::Unchoke => self.on_unchoke(shared, now, key),
            Message::Interested => self.on_interested(shared, now, key),
            Message::NotInterested => self.on_not_interested(shared, now, key),
            Message::Have { piece } => {
                let piece = self
                    .layout
                    .piece(piece)
                    .ok_or(Violation::PieceIndex(piece))?;
                self.on_have(shared, now, key, piece);
            }
            Message::Bitfield(bytes) => {
                let bits = Bitfield::from_wire(&bytes, self.layout.pieces());
                self.on_bitfield(shared, now, key, bits.ok_or(Violation::Bitfield)?);
            }
            Message::HaveAll => {
                self.on_bitfield(shared, now, key, Bitfield::full(self.layout.pieces()));
            }
            Message::HaveNone => {
                if self.peers.get(&key).is_some_and(|peer| peer.has_is_known) {
                    return Err(Violation::HaveNoneLate);
                }
                self.on_bitfield(shared, now, key, Bitfield::new(self.layout.pieces()));
            }
            Message::Request(request) => self.on_request(shared, now, key, request)?,
            Message::Cancel(request) => self.on_cancel(shared, key, request),
            Message::SuggestPiece { piece } => {
                // Nothing follows from a suggestion, but a wrong one is a wrong index.
                self.layout
                    .piece(piece)
                    .ok_or(Violation::PieceIndex(piece))?;
            }
            Message::RejectRequest(request) => self.on_reject(shared, now, key, request),
            Message::AllowedFast { piece } => {
                let piece = self
                    .layout
                    .piece(piece)
                    .ok_or(Violation::PieceIndex(piece))?;
                self.on_allowed_fast(shared, now, key, piece);
            }
            Message::Extended { id, payload } => {
                self.on_extended(shared, now, key, id, &payload)?
            }
        }
        Ok(())
    }

    /// BEP 6: a peer that sends its messages without having offered them is closed.
    fn check_negotiated(&self, key: PeerKey, message: &Message) -> Result<(), Violation> {
        let has_fast = self
            .peers
            .get(&key)
            .is_some_and(|peer| peer.reserved.fast());
        match message {
            Message::SuggestPiece { .. }
            | Message::HaveAll
            | Message::HaveNone
            | Message::RejectRequest(_)
            | Message::AllowedFast { .. } => {
                if has_fast {
                    Ok(())
                } else {
                    Err(Violation::NotNegotiated)
                }
            }
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Have { .. }
            | Message::Bitfield(_)
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::Extended { .. } => Ok(()),
        }
    }

    /// Whether anything follows from it.
    fn on_have(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        piece: PieceIndex,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.has_is_known = true;
        if peer.is_seed || !peer.has.set(piece.get()) {
            return false;
        }
        self.picker.on_peer_have(piece);
        if self.picker.is_wanted(piece) {
            peer.interesting += 1;
        }
        let peer_is_full = peer.has.is_full();
        // Of nearly all HAVEs of a swarm.
        let nothing_follows = peer.am_interested && !peer_is_full && !peer.may_request(now);
        self.on_reported(key, piece);
        if nothing_follows {
            return false;
        }
        if peer_is_full {
            self.on_completed(shared, now, key);
        }
        self.reveal(shared, now, key);
        self.update_interest(shared, key, now);
        self.request_from(shared, key, now);
        true
    }

    fn on_bitfield(&mut self, shared: &mut Shared, now: Instant, key: PeerKey, bits: Bitfield) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.has_is_known {
            self.on_more_bits(shared, now, key, &bits);
            return;
        }
        peer.has_is_known = true;
        let is_seed = bits.is_full();
        self.picker.on_peer_bits(&bits);
        self.on_all_reported(key, &bits);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.has = bits;
        }
        if is_seed {
            self.on_became_seed(shared, now, key);
        }
        self.reveal(shared, now, key);
        self.offer_allowed_fast(shared, key);
        self.recount_interest(shared, key, now);
        self.request_from(shared, key, now);
    }

    /// BEP 3 has bitfields only as the first message, but aria2 sends one in place of many haves.
    /// What it had and is not in there it keeps: nobody can make us follow a piece that comes and
    /// goes.
    fn on_more_bits(&mut self, shared: &mut Shared, now: Instant, key: PeerKey, bits: &Bitfield) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.is_seed {
            return;
        }
        for piece in bits
            .iter_ones()
            .filter_map(|index| self.layout.piece(index))
        {
            if peer.has.set(piece.get()) {
                self.picker.on_peer_have(piece);
                if self.picker.is_wanted(piece) {
                    peer.interesting += 1;
                }
            }
        }
        let peer_is_full = peer.has.is_full();
        self.on_all_reported(key, bits);
        if peer_is_full {
            self.on_completed(shared, now, key);
        }
        self.reveal(shared, now, key);
        self.update_interest(shared, key, now);
        self.request_from(shared, key, now);
    }

    /// The peer got its last piece under our eyes.
    fn on_completed(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get(&key) {
            shared.alert(Alert::PeerCompleted {
                torrent: self.key,
                peer: peer.addr,
            });
        }
        self.on_became_seed(shared, now, key);
    }

    fn on_became_seed(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        self.on_other_seed(shared);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        self.picker.on_peer_bits_gone(&peer.has);
        self.picker.on_seed();
        peer.is_seed = true;
        self.peer_list.on_seed(peer.listed_as());
        self.leave_if_both_seed(shared, key, now);
    }

    pub(super) fn recount_interest(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.interesting = if peer.is_seed {
            self.picker.wanted_left()
        } else {
            let mut pieces = peer
                .has
                .iter_ones()
                .filter_map(|index| self.layout.piece(index));
            let count = pieces
                .by_ref()
                .filter(|&piece| self.picker.is_wanted(piece))
                .count();
            count as u32
        };
        self.update_interest(shared, key, now);
    }

    /// Says so when our interest in the peer changed.
    pub(super) fn update_interest(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        let is_downloading = self.state == TorrentState::Downloading;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let interested = is_downloading && peer.interesting > 0;
        if interested == peer.am_interested {
            return;
        }
        peer.am_interested = interested;
        peer.last_interest = now;
        shared.alert(Alert::Interest {
            torrent: self.key,
            peer: peer.addr,
            by: Side::Us,
            interested,
        });
        let message = if interested {
            Message::Interested
        } else {
            Message::NotInterested
        };
        shared
            .actions
            .push_back(Action::Send { peer: key, message });
    }

    fn on_choke(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.peer_choking {
            return;
        }
        peer.peer_choking = true;
        if !peer.gave_since_unchoke && !peer.requests.is_empty() {
            peer.on_refusal(now);
        }
        self.tell_peer_choke(shared, key, true);
        self.take_back_requests(shared, key);
        self.request_all(shared, now);
    }

    fn on_unchoke(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.peer_choking {
            return;
        }
        peer.peer_choking = false;
        peer.waiting_since = now;
        peer.gave_since_unchoke = false;
        peer.requests.on_unchoked(now, &shared.config);
        let pause = (peer.no_requests_before > now).then_some(peer.no_requests_before);
        self.request_again_at(pause);
        self.tell_peer_choke(shared, key, false);
        self.request_from(shared, key, now);
    }

    fn tell_peer_choke(&self, shared: &mut Shared, key: PeerKey, choked: bool) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        shared.alert(Alert::Choke {
            torrent: self.key,
            peer: peer.addr,
            by: Side::Peer,
            choked,
            reason: ChokeReason::PeerDecided,
        });
    }

    fn on_allowed_fast(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        piece: PieceIndex,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.reserved.fast()
            || peer.allowed_in.len() + peer.rejected_in.len() >= ALLOWED_IN_MAX
            || peer.allowed_in.contains(&piece)
            || peer.rejected_in.contains(&piece)
        {
            return;
        }
        peer.allowed_in.push(piece);
        self.request_from(shared, key, now);
    }

    /// A newcomer with nothing to trade gets a few pieces although it is choked (BEP 6).
    fn offer_allowed_fast(&mut self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let IpAddr::V4(ip) = peer.addr.socket_addr().ip() else {
            return;
        };
        if !peer.reserved.fast() || peer.has.count_ones() as usize >= ALLOWED_FAST {
            return;
        }
        let pieces = self.layout.pieces();
        for index in allowed_fast(ip, &self.info_hash, pieces, ALLOWED_FAST) {
            let Some(piece) = self.layout.piece(index) else {
                continue;
            };
            let is_known = self.is_told(key, piece) && self.picker.have(piece);
            if is_known && self.picker.copies(piece) >= ALLOWED_COPIES {
                let Some(peer) = self.peers.get_mut(&key) else {
                    return;
                };
                peer.allowed_out.push((piece, 0));
                let message = Message::AllowedFast { piece: index };
                shared
                    .actions
                    .push_back(Action::Send { peer: key, message });
            }
        }
    }
}
