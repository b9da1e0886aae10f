//! The extension protocol (BEP 10): introductions, and the info dictionary for peers that came with
//! a magnet (BEP 9).
//!
//! Metadata is handed to every connected peer that asks, choked or not: whoever is connected named
//! the info hash, and of a private torrent (BEP 27) peers come from its tracker alone. What one
//! connection may take is bounded, so that nobody spends our uplink by asking again and again.

use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, MetadataMessage, Violation, ut_metadata, ut_pex};
use dunlin_proto::time::Instant;

use super::download::BLOCK_HEADER;
use super::{Shared, Torrent, sooner};
use crate::alert::Alert;
use crate::event::{Action, Direction, PeerAddr, PeerKey};
use crate::extensions::{Introduction, UT_METADATA, UT_PEX, our_handshake};
use crate::external::Voter;
use crate::rate_limit::{available_of, next_at_of, take_of};
use crate::reason::CloseReason;
use crate::snapshot::TorrentState;

/// Pieces of metadata that wait to be sent to one peer; further requests are rejected.
const METADATA_QUEUE_MAX: usize = 64;

/// Pieces of metadata in the host's hands for one peer.
const METADATA_SERVING_MAX: usize = 4;

/// How often one connection may take the whole metadata. Once is what it needs.
const METADATA_COPIES_MAX: u32 = 4;

/// Requests for metadata refused, after which the peer floods us.
const METADATA_REFUSED_MAX: u32 = 1000;

impl Torrent {
    /// Sends our extension handshake: at first, and again when what it says has changed.
    pub(super) fn introduce(&mut self, shared: &mut Shared, key: PeerKey) {
        let metadata_size = self.metadata_size();
        let pex = self.exchanges_peers(shared);
        let upload_only = self.is_upload_only() && !self.hides_from(key);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.reserved.extended() {
            return;
        }
        let was_told = std::mem::replace(&mut peer.told_upload_only, upload_only);
        let introduction = Introduction {
            metadata_size,
            pex,
            upload_only: (upload_only || was_told).then_some(upload_only),
        };
        let message = our_handshake(&shared.config, peer.addr, introduction);
        shared
            .actions
            .push_back(Action::Send { peer: key, message });
    }

    /// Length of the info dictionary, if we hand it on.
    fn metadata_size(&self) -> Option<u32> {
        u32::try_from(self.info.len()).ok().filter(|&len| len > 0)
    }

    pub(super) fn on_extended(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        id: u8,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        if !peer.reserved.extended() {
            return Err(Violation::NotNegotiated);
        }
        match id {
            0 => {
                let handshake = ExtendedHandshake::decode(payload)?;
                self.on_extension_handshake(shared, now, key, handshake);
            }
            UT_PEX => self.on_pex_message(shared, now, key, payload)?,
            UT_METADATA => self.on_metadata_message(shared, now, key, payload)?,
            // BEP 10: whatever has an id that we did not name is not for us.
            _ => {}
        }
        Ok(())
    }

    fn on_extension_handshake(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        handshake: ExtendedHandshake,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(name) = handshake.v {
            peer.client = name.chars().filter(|c| !c.is_control()).take(64).collect();
        }
        if let Some(reqq) = handshake.reqq {
            peer.requests_max = reqq.clamp(1, 10_000) as usize;
        }
        if let Some(&id) = handshake.m.get(ut_metadata::NAME) {
            peer.metadata.their_id = id;
        }
        if let Some(named) = handshake.yourip {
            let voter = Voter::Peer(peer.addr.socket_addr().ip());
            shared.external.on_vote(voter, named);
        }
        if let Some(port) = handshake.p {
            self.on_listens(shared, now, key, port);
        }
        self.on_metadata_source(shared, now, key, handshake.metadata_size);
        if let Some(&id) = handshake.m.get(ut_pex::NAME) {
            self.on_pex_id(shared, now, key, id);
        }
        if let Some(upload_only) = handshake.upload_only {
            self.on_upload_only(shared, now, key, upload_only);
        }
    }

    /// Whether we want nothing any more (BEP 21).
    pub(super) fn is_upload_only(&self) -> bool {
        self.state == TorrentState::Seeding
    }

    /// Tells everybody who does not know yet whether we want something.
    pub(super) fn tell_upload_only(&mut self, shared: &mut Shared) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            let upload_only = self.is_upload_only() && !self.hides_from(key);
            let peer = self.peers.get(&key);
            if peer.is_some_and(|peer| peer.told_upload_only != upload_only) {
                self.introduce(shared, key);
            }
        }
    }

    fn on_upload_only(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        upload_only: bool,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.upload_only = upload_only;
        self.leave_if_both_seed(shared, key, now);
    }

    /// Two that only give have nothing to say to each other.
    pub(super) fn leave_if_both_seed(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get(&key).filter(|peer| peer.is_giver_only()) else {
            return;
        };
        if self.state == TorrentState::Seeding {
            self.peer_list.on_seed(peer.listed_as());
            self.close(shared, key, CloseReason::BothSeeds, now);
        }
    }

    fn on_listens(&mut self, shared: &mut Shared, now: Instant, key: PeerKey, port: u16) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.direction == Direction::Outgoing || peer.listens_at.is_some() {
            return;
        }
        let listens = PeerAddr::Tcp((peer.addr.socket_addr().ip(), port).into());
        if self.peer_list.on_listens(peer.addr, listens, now) {
            peer.listens_at = Some(listens);
            self.connections_version += 1;
            shared.alert(Alert::Listens {
                torrent: self.key,
                peer: peer.addr,
                at: listens,
            });
            if peer.is_seed {
                self.peer_list.on_seed(listens);
            }
        }
    }

    fn on_metadata_message(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match MetadataMessage::decode(payload)? {
            Some(MetadataMessage::Request { piece }) => {
                self.on_metadata_request(shared, now, key, piece);
            }
            Some(MetadataMessage::Data {
                piece,
                total_size,
                bytes,
            }) => {
                self.on_metadata_data(shared, now, key, piece, total_size, bytes)?;
            }
            Some(MetadataMessage::Reject { piece }) => {
                self.on_metadata_reject(shared, now, key, piece);
            }
            None => {}
        }
        Ok(())
    }

    fn on_metadata_request(&mut self, shared: &mut Shared, now: Instant, key: PeerKey, piece: u32) {
        let size = self.metadata_size().unwrap_or_default();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let metadata = &mut peer.metadata;
        // Without an id to answer with there is no answer.
        if metadata.their_id == 0 {
            return;
        }
        let may_have = ut_metadata::piece_len(size, piece).is_some()
            && metadata.queue.len() < METADATA_QUEUE_MAX
            && metadata.granted < METADATA_COPIES_MAX.saturating_mul(ut_metadata::pieces(size));
        if may_have {
            metadata.granted += 1;
            metadata.queue.push_back(piece);
            self.serve_metadata(shared, now, key);
            return;
        }
        let message = Message::Extended {
            id: metadata.their_id,
            payload: MetadataMessage::Reject { piece }.encode(),
        };
        metadata.refused += 1;
        if metadata.refused > METADATA_REFUSED_MAX {
            self.close(shared, key, CloseReason::RequestFlood, now);
        } else {
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
    }

    pub(super) fn serve_metadata_to_all(&mut self, shared: &mut Shared, now: Instant) {
        let waiting = self.peers.iter();
        let waiting = waiting.filter(|(_, peer)| !peer.metadata.queue.is_empty());
        for key in waiting.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.serve_metadata(shared, now, key);
        }
    }

    /// Hands over what the upload limits and the peer's credit let pass.
    fn serve_metadata(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        let size = self.metadata_size().unwrap_or_default();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let metadata = &mut peer.metadata;
        while metadata.serving < METADATA_SERVING_MAX
            && let Some(&piece) = metadata.queue.front()
        {
            let len = ut_metadata::piece_len(size, piece).unwrap_or_default();
            let wire = u64::from(len) + BLOCK_HEADER;
            if available_of(now, &mut [&mut shared.up, &mut self.up]) < wire {
                let at = next_at_of(&[&shared.up, &self.up], wire);
                self.next_serving = sooner(self.next_serving, at);
                return;
            }
            take_of(&mut [&mut shared.up, &mut self.up], wire);
            metadata.queue.pop_front();
            metadata.serving += 1;
            peer.last_sent = now;
            shared.actions.push_back(Action::ServeMetadata {
                peer: key,
                id: metadata.their_id,
                piece,
            });
        }
    }

    pub(crate) fn on_metadata_served(&mut self, shared: &mut Shared, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.metadata.serving = peer.metadata.serving.saturating_sub(1);
        }
        self.serve_metadata(shared, now, key);
    }
}
