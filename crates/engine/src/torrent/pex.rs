//! Peer exchange (BEP 11): the connected peers hear of each other, whatever becomes of the tracker.
//!
//! Never for private torrents (BEP 27): of those only the tracker may name peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dunlin_proto::peer::{Message, PexFlags, PexMessage, Violation};
use dunlin_proto::time::Instant;

use super::{Shared, Torrent};
use crate::event::{Action, Direction, PeerAddr, PeerKey, PeerSource};
use crate::peer::Peer;
use crate::pex::{PexLink, Verdict};
use crate::reason::CloseReason;

impl Torrent {
    pub(super) fn exchanges_peers(&self, shared: &Shared) -> bool {
        shared.config.pex && !self.private
    }

    /// The peer says under which id it wants to hear of others; 0 for never.
    pub(super) fn on_pex_id(&mut self, shared: &Shared, now: Instant, key: PeerKey, id: u8) {
        if self.is_magnet() {
            self.keep_pex_id(key, id);
            return;
        }
        if !self.exchanges_peers(shared) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            pex_link(peer, now).their_id = id;
        }
    }

    pub(super) fn on_pex_message(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if !self.exchanges_peers(shared) {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        match pex_link(peer, now).on_message(now) {
            Verdict::Take => {}
            Verdict::Ignore => return Ok(()),
            Verdict::HangUp => {
                self.close(shared, key, CloseReason::PexFlood, now);
                return Ok(());
            }
        }
        let teller = peer.listed_as();
        let message = PexMessage::decode(payload)?;
        for gone in message.dropped {
            self.peer_list.on_dropped(PeerAddr::Tcp(gone), teller);
        }
        self.set_own_addresses(shared);
        let mut has_news = false;
        for added in message.added {
            let addr = PeerAddr::Tcp(added.addr);
            let is_news = self.peer_list.add(addr, PeerSource::Pex(teller), now);
            if is_news && added.flags.contains(PexFlags::SEED) {
                self.peer_list.on_seed(addr);
                self.on_other_seed(shared);
            }
            has_news |= is_news;
        }
        if has_news {
            self.dial(shared, now);
        }
        Ok(())
    }

    /// Tells those who are due what changed since they were told last.
    pub(super) fn tell_of_peers(&mut self, shared: &mut Shared, now: Instant) {
        let version = self.connections_version;
        let is_due = |peer: &Peer| {
            let link = peer.pex.as_ref();
            link.is_some_and(|link| link.is_due(now, version))
        };
        let due: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| is_due(peer))
            .map(|(key, _)| *key)
            .collect();
        if due.is_empty() {
            return;
        }
        let connected: BTreeMap<SocketAddr, PexFlags> = self
            .peers
            .values()
            .filter_map(|peer| pex_entry(peer))
            .collect();
        for key in due {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            let to = canonical(peer.listed_as().socket_addr());
            let Some(link) = &mut peer.pex else {
                continue;
            };
            let Some(message) = link.next_message(to, &connected, version, now) else {
                continue;
            };
            peer.last_sent = now;
            let message = Message::Extended {
                id: link.their_id,
                payload: message.encode(),
            };
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
    }
}

fn pex_link(peer: &mut Peer, now: Instant) -> &mut PexLink {
    peer.pex.get_or_insert_with(|| Box::new(PexLink::new(now)))
}

/// Where the peer listens, if we know, and what may be told of it. The port that a peer dialled us
/// from is nobody's business.
fn pex_entry(peer: &Peer) -> Option<(SocketAddr, PexFlags)> {
    let (addr, reachable) = match peer.direction {
        Direction::Outgoing => (peer.addr, PexFlags::REACHABLE),
        Direction::Incoming => (peer.listens_at?, PexFlags::default()),
    };
    let seed = if peer.is_giver_only() {
        PexFlags::SEED
    } else {
        PexFlags::default()
    };
    Some((canonical(addr.socket_addr()), reachable.with(seed)))
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
