//! Peers come and go: dials, introductions, farewells, timeouts, bans.

use std::net::IpAddr;

use dunlin_metainfo::PieceIndex;
use dunlin_proto::peer::{Handshake, Message, Reserved};
use dunlin_proto::time::Instant;

use super::{GIVERS_MAX, Shared, Torrent};
use crate::alert::Alert;
use crate::event::{Action, ConnKey, Direction, PeerAddr, PeerKey, PeerSource};
use crate::peer::Peer;
use crate::reach::site;
use crate::reason::{CloseReason, RefuseReason};

/// A connection is at least this old before it may have to yield to an untried peer.
const YIELD_AGE: std::time::Duration = std::time::Duration::from_secs(60);

impl Torrent {
    pub(crate) fn on_peers_found(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        source: PeerSource,
        peers: Vec<PeerAddr>,
    ) {
        for addr in peers {
            self.peer_list.add(addr, source, now);
        }
        self.dial(shared, now);
    }

    pub(super) fn dial(&mut self, shared: &mut Shared, now: Instant) {
        if !self.may_transfer() {
            return;
        }
        self.set_own_addresses(shared);
        while self.dialling < shared.config.dials_max
            && self.dialling + self.peers.len() < shared.config.max_peers
        {
            let Some(remote) = self.peer_list.next_dial(now, &mut shared.rng) else {
                return;
            };
            let reason = self.peer_list.dial_reason(remote);
            self.peer_list.on_dialling(remote, now);
            self.dialling += 1;
            let (torrent, info_hash) = (self.key, self.info_hash);
            shared.alert(Alert::Dialling {
                torrent,
                peer: remote,
                reason,
            });
            shared.actions.push_back(Action::Dial {
                torrent,
                info_hash,
                remote,
            });
        }
    }

    pub(super) fn set_own_addresses(&mut self, shared: &Shared) {
        self.peer_list
            .set_own_addresses(shared.external.addresses(), shared.config.listen_port);
    }

    pub(crate) fn on_dial_failed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        remote: PeerAddr,
        reason: CloseReason,
    ) {
        self.dialling = self.dialling.saturating_sub(1);
        self.peer_list.on_dial_failed(remote, now);
        if reason == CloseReason::SelfConnection {
            self.peer_list.on_own(remote);
        }
        shared.alert(Alert::DialFailed {
            torrent: self.key,
            peer: remote,
            reason,
        });
        self.dial(shared, now);
    }

    /// Answers an [`Event::Incoming`](crate::event::Event::Incoming).
    pub(crate) fn on_incoming(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        conn: ConnKey,
        remote: PeerAddr,
        handshake: &Handshake,
    ) {
        match self.may_accept(shared, now, remote, handshake) {
            Ok(yielding) => {
                if let Some(key) = yielding {
                    self.close(shared, key, CloseReason::LeastUseful, now);
                }
                shared.actions.push_back(Action::Accept {
                    conn,
                    torrent: self.key,
                });
            }
            Err(reason) => {
                shared.actions.push_back(Action::Refuse { conn, reason });
                shared.alert(Alert::Refused {
                    torrent: self.key,
                    peer: remote,
                    reason,
                });
            }
        }
    }

    /// Whether a stranger may come in, and who has to go for it.
    fn may_accept(
        &self,
        shared: &Shared,
        now: Instant,
        remote: PeerAddr,
        handshake: &Handshake,
    ) -> Result<Option<PeerKey>, RefuseReason> {
        if handshake.peer_id == shared.config.peer_id {
            return Err(RefuseReason::SelfConnection);
        }
        if !self.may_transfer() {
            return Err(RefuseReason::TorrentStopped);
        }
        if self.peer_list.is_banned(remote) {
            return Err(RefuseReason::Banned);
        }
        let ip = remote.socket_addr().ip();
        if self.peer_list.connected_from(ip) >= shared.config.max_peers_per_address {
            return Err(RefuseReason::AddressLimit);
        }
        if self.connected_from_site_of(ip) >= shared.config.max_peers_per_network {
            return Err(RefuseReason::NetworkLimit);
        }
        if self.peers.len() < shared.config.max_peers {
            return Ok(None);
        }
        self.least_useful(now)
            .map(Some)
            .ok_or(RefuseReason::ConnectionLimit)
    }

    fn connected_from_site_of(&self, ip: IpAddr) -> usize {
        let Some(network) = site(ip) else {
            return 0;
        };
        let peers = self.peers.values().map(|peer| peer.addr.socket_addr().ip());
        peers.filter(|&ip| site(ip) == Some(network)).count()
    }

    pub(crate) fn on_connected(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        remote: PeerAddr,
        direction: Direction,
        handshake: &Handshake,
    ) {
        if direction == Direction::Outgoing {
            self.dialling = self.dialling.saturating_sub(1);
        }
        let Handshake {
            peer_id, reserved, ..
        } = *handshake;
        let pieces = self.layout.pieces();
        let peer = Peer::new(remote, direction, peer_id, reserved, pieces, now);
        if let Some(reason) = self.refusal(shared, &peer) {
            if direction == Direction::Outgoing {
                self.peer_list.on_dial_failed(remote, now);
            }
            self.closing.insert(key);
            shared
                .actions
                .push_back(Action::Close { peer: key, reason });
            return;
        }
        match direction {
            Direction::Outgoing => self.peer_list.on_connected(remote, now),
            Direction::Incoming => self.peer_list.on_incoming(remote),
        }
        shared.alert(Alert::Connected {
            torrent: self.key,
            peer: remote,
            direction,
            peer_id,
            client: peer.client.clone(),
        });
        if self.peers.is_empty() {
            self.next_housekeeping = self.next_housekeeping.max(now);
        }
        self.peers.insert(key, Box::new(peer));
        self.connections_version += 1;
        self.greet(shared, key, reserved);
    }

    /// Why a fresh connection is of no use. Two peers that dial each other at once keep the
    /// connection that the one with the smaller id dialled: both sides know which that is.
    fn refusal(&mut self, shared: &mut Shared, new: &Peer) -> Option<CloseReason> {
        if !self.may_transfer() {
            return Some(CloseReason::TorrentStopped);
        }
        if self.peer_list.is_banned(new.addr) {
            return Some(CloseReason::Banned);
        }
        let twin = self
            .peers
            .iter()
            .find(|(_, peer)| peer.peer_id == new.peer_id);
        let Some((&twin_key, twin)) = twin else {
            // Others may have come in while we dialled.
            let is_full = self.peers.len() >= shared.config.max_peers;
            return is_full.then_some(CloseReason::Refused(RefuseReason::ConnectionLimit));
        };
        let dialled_by_us = |peer: &Peer| peer.direction == Direction::Outgoing;
        let we_should_dial = shared.config.peer_id < new.peer_id;
        if dialled_by_us(twin) == dialled_by_us(new) || dialled_by_us(twin) == we_should_dial {
            return Some(CloseReason::Duplicate);
        }
        self.close(shared, twin_key, CloseReason::Duplicate, new.connected_at);
        None
    }

    fn greet(&mut self, shared: &mut Shared, key: PeerKey, theirs: Reserved) {
        let hides = self.meet_as_super_seed(key);
        let have = self.picker.have_bits();
        let message = match (theirs.fast(), have.count_ones()) {
            (true, _) if hides => Some(Message::HaveNone),
            (false, _) if hides => None,
            (true, 0) => Some(Message::HaveNone),
            (true, count) if count == have.len() => Some(Message::HaveAll),
            (false, 0) => None,
            (true | false, _) => Some(Message::Bitfield(have.to_wire())),
        };
        if let Some(message) = message {
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
        if theirs.extended() {
            self.introduce(shared, key);
        }
    }

    pub(crate) fn on_closed(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        reason: CloseReason,
    ) {
        if self.closing.remove(&key) {
            return;
        }
        self.forget_peer(shared, key, reason, now);
        self.dial(shared, now);
        self.request_all(shared, now);
        self.ask_for_metadata(shared, now);
    }

    /// Ends the connection from our side.
    pub(super) fn close(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        reason: CloseReason,
        now: Instant,
    ) {
        if !self.peers.contains_key(&key) {
            return;
        }
        shared.actions.push_back(Action::Close {
            peer: key,
            reason: reason.clone(),
        });
        self.forget_peer(shared, key, reason, now);
        self.closing.insert(key);
    }

    fn forget_peer(
        &mut self,
        shared: &mut Shared,
        key: PeerKey,
        reason: CloseReason,
        now: Instant,
    ) {
        self.take_back_requests(shared, key);
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        self.connections_version += 1;
        if peer.is_seed {
            self.picker.on_seed_gone();
        } else {
            self.picker.on_peer_bits_gone(&peer.has);
        }
        self.forget_revealed(key, &peer);
        if !peer.am_choking {
            shared.unchoked -= 1;
        }
        self.choker.on_gone(key);
        if let Some(magnet) = &mut self.magnet {
            magnet.on_gone(key);
        }
        let useful = peer.down.total() + peer.up.total() > 0;
        self.peer_list.on_closed(peer.listed_as(), now, useful);
        if peer.down.total() > 0
            && (self.stats.givers.len() < GIVERS_MAX || self.stats.givers.contains_key(&peer.addr))
        {
            let entry = self.stats.givers.entry(peer.addr).or_default();
            entry.0 += peer.down.total();
            entry.1 += now.since(peer.connected_at);
        }
        shared.alert(Alert::Disconnected {
            torrent: self.key,
            peer: peer.addr,
            reason,
        });
    }

    pub(super) fn ban(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        addr: PeerAddr,
        piece: PieceIndex,
    ) {
        if self.peer_list.is_banned(addr) {
            return;
        }
        self.peer_list.ban(addr);
        shared.alert(Alert::PeerBanned {
            torrent: self.key,
            peer: addr,
            piece,
        });
        self.close_banned(shared, now);
    }

    pub(super) fn close_banned(&mut self, shared: &mut Shared, now: Instant) {
        let banned: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| self.peer_list.is_banned(peer.addr))
            .map(|(key, _)| *key)
            .collect();
        for key in banned {
            self.close(shared, key, CloseReason::Banned, now);
        }
    }

    pub(super) fn check_timeouts(&mut self, shared: &mut Shared, now: Instant) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            if let Some(reason) = self.timeout_of(shared, key, now) {
                self.close(shared, key, reason, now);
                continue;
            }
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if now.since(peer.last_sent) >= shared.config.keep_alive_interval {
                peer.last_sent = now;
                let message = Message::KeepAlive;
                shared
                    .actions
                    .push_back(Action::Send { peer: key, message });
            }
            if !peer.snubbed && peer.keeps_us_waiting(&shared.config, now) {
                peer.snubbed = true;
                self.cancel_requests(shared, key);
                self.take_back_requests(shared, key);
            }
        }
    }

    fn timeout_of(&self, shared: &Shared, key: PeerKey, now: Instant) -> Option<CloseReason> {
        let (config, peer) = (&shared.config, self.peers.get(&key)?);
        if now.since(peer.last_heard) >= config.peer_timeout {
            return Some(CloseReason::Silent(config.peer_timeout.as_secs()));
        }
        let is_idle = !peer.am_interested
            && !peer.peer_interested
            && now.since(peer.last_interest) >= config.inactivity_timeout;
        is_idle.then_some(CloseReason::Idle(config.inactivity_timeout.as_secs()))
    }

    /// At the connection cap somebody who gives and takes nothing yields to an untried peer.
    pub(super) fn replace_least_useful(&mut self, shared: &mut Shared, now: Instant) {
        if self.peers.len() < shared.config.max_peers
            || now.since(self.last_replacement) < YIELD_AGE
            || !self.peer_list.has_untried()
        {
            return;
        }
        if let Some(key) = self.least_useful(now) {
            self.last_replacement = now;
            self.close(shared, key, CloseReason::LeastUseful, now);
        }
    }

    /// Of equals, the connection with the lowest canonical priority (BEP 40).
    fn least_useful(&self, now: Instant) -> Option<PeerKey> {
        self.peers
            .iter()
            .filter(|(_, peer)| now.since(peer.connected_at) >= YIELD_AGE && peer.am_choking)
            .map(|(key, peer)| {
                (
                    peer.down.rate(now) + peer.up.rate(now),
                    self.is_metadata_source(*key),
                    peer.interesting,
                    self.peer_list.priority(peer.listed_as()),
                    *key,
                )
            })
            .filter(|&(rate, ..)| rate == 0)
            .min()
            .map(|(.., key)| key)
    }
}
