//! The extension protocol (BEP 10): introductions, and the info dictionary for peers that came with
//! a magnet (BEP 9).
//!
//! Metadata is handed to every connected peer that asks, choked or not: whoever is connected named
//! the info hash, and of a private torrent (BEP 27) peers come from its tracker alone. What one
//! connection may take is bounded, so that nobody spends our uplink by asking again and again.

use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, MetadataMessage, Violation, ut_metadata};
use dunlin_proto::time::Instant;

use super::{Shared, Torrent};
use crate::event::{Action, Direction, PeerAddr, PeerKey};
use crate::extensions::{UT_METADATA, UT_PEX, our_handshake};
use crate::external::Voter;

/// Pieces of metadata that wait to be sent to one peer; further requests are rejected.
const METADATA_QUEUE_MAX: usize = 64;

/// Pieces of metadata in the host's hands for one peer.
const METADATA_SERVING_MAX: usize = 4;

/// How often one connection may take the whole metadata. Once is what it needs.
const METADATA_COPIES_MAX: u32 = 4;

impl Torrent {
    /// Sends our extension handshake: at first, and again when what it says has changed.
    pub(super) fn introduce(&self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let message = our_handshake(&shared.config, peer.addr, self.metadata_size());
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
            // Nothing is offered under this id yet, so nothing can come that we understand.
            UT_PEX => {}
            UT_METADATA => self.on_metadata_message(shared, key, payload)?,
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
            self.on_listens(now, key, port);
        }
    }

    fn on_listens(&mut self, now: Instant, key: PeerKey, port: u16) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.direction == Direction::Outgoing || peer.listens_at.is_some() {
            return;
        }
        let listens = PeerAddr::Tcp((peer.addr.socket_addr().ip(), port).into());
        if self.peer_list.on_listens(peer.addr, listens, now) {
            peer.listens_at = Some(listens);
            if peer.is_seed {
                self.peer_list.on_seed(listens);
            }
        }
    }

    fn on_metadata_message(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match MetadataMessage::decode(payload)? {
            Some(MetadataMessage::Request { piece }) => {
                self.on_metadata_request(shared, key, piece);
            }
            // We have it, so we never asked; or we asked before we had it.
            Some(MetadataMessage::Data { .. } | MetadataMessage::Reject { .. }) | None => {}
        }
        Ok(())
    }

    fn on_metadata_request(&mut self, shared: &mut Shared, key: PeerKey, piece: u32) {
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
            self.serve_metadata(shared, key);
        } else {
            let message = Message::Extended {
                id: metadata.their_id,
                payload: MetadataMessage::Reject { piece }.encode(),
            };
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
    }

    fn serve_metadata(&mut self, shared: &mut Shared, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let metadata = &mut peer.metadata;
        while metadata.serving < METADATA_SERVING_MAX
            && let Some(piece) = metadata.queue.pop_front()
        {
            metadata.serving += 1;
            shared.actions.push_back(Action::ServeMetadata {
                peer: key,
                id: metadata.their_id,
                piece,
            });
        }
    }

    pub(crate) fn on_metadata_served(&mut self, shared: &mut Shared, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.metadata.serving = peer.metadata.serving.saturating_sub(1);
        }
        self.serve_metadata(shared, key);
    }
}
