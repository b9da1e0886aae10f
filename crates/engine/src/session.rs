//! Everything that dunlin knows about its torrents, as one value.
//!
//! Tell it what happened with [`Session::handle`], let time pass with [`Session::tick`], then
//! drain [`Session::poll_action`] until it is empty. Nothing else mutates it, and the same calls
//! give the same actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_metainfo::{BLOCK_LEN, InfoHash};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::alert::Alert;
use crate::command::{AddMagnet, AddTorrent, Command};
use crate::config::Config;
use crate::event::{Action, Event, PeerKey, PeerSource, TorrentKey};
use crate::explain::StallCounts;
use crate::external::External;
use crate::key_map::KeyMap;
use crate::rate_limit::{RateLimiter, Turns};
use crate::reason::{CloseReason, RefuseReason};
use crate::resume::Resume;
use crate::snapshot::TorrentSnapshot;
use crate::torrent::{Shared, Torrent};

#[derive(Debug)]
pub struct Session {
    shared: Shared,
    torrents: BTreeMap<TorrentKey, Torrent>,
    by_info_hash: BTreeMap<InfoHash, TorrentKey>,
    /// Which torrent a connection belongs to, until its `PeerClosed`.
    peers: KeyMap<TorrentKey>,
    /// The deadline of each torrent that has one, earliest first.
    timers: BTreeSet<(Instant, TorrentKey)>,
    timer_of: BTreeMap<TorrentKey, Instant>,
    /// The first of `timers`: it is asked for after every event.
    earliest: Option<Instant>,
    /// Who came first when several torrents wanted the same tokens or memory: next time the ones
    /// after it do.
    first_served: TorrentKey,
}

impl Session {
    pub fn new(config: Config, rng: Rng, now: Instant) -> Self {
        let (down, up) = (config.limits.down, config.limits.up);
        Self {
            shared: Shared {
                config,
                rng,
                actions: VecDeque::new(),
                down: RateLimiter::new(down, now),
                up: RateLimiter::new(up, now),
                down_turns: Turns::default(),
                up_turns: Turns::default(),
                buffered: 0,
                next_job: 0,
                unchoked: 0,
                starved: BTreeSet::new(),
                dropped_events: 0,
                external: External::default(),
            },
            torrents: BTreeMap::new(),
            by_info_hash: BTreeMap::new(),
            peers: KeyMap::default(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            earliest: None,
            first_served: TorrentKey(0),
        }
    }

    pub fn handle(&mut self, now: Instant, event: Event) {
        if let Some(key) = self.dispatch(now, event) {
            self.after(now, key);
        }
        self.feed_starved(now);
    }

    /// What to do next. Call until `None` after each `handle` and `tick`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.shared.actions.pop_front()
    }

    /// When [`Session::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.earliest
    }

    pub fn tick(&mut self, now: Instant) {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        let due: BTreeSet<TorrentKey> = due.map(|(_, key)| *key).collect();
        for key in self.in_turn(&due) {
            if let Some(torrent) = self.torrents.get_mut(&key) {
                torrent.tick(&mut self.shared, now);
            }
            self.after(now, key);
            // A deadline that did not move would spin: look again a little later.
            if let Some(&still) = self.timer_of.get(&key)
                && still <= now
            {
                self.set_timer(key, Some(now + std::time::Duration::from_millis(1)));
            }
        }
        self.feed_starved(now);
    }

    pub fn torrent_by_info_hash(&self, info_hash: &InfoHash) -> Option<TorrentKey> {
        self.by_info_hash.get(info_hash).copied()
    }

    pub fn info_hash_of(&self, torrent: TorrentKey) -> Option<InfoHash> {
        self.torrents.get(&torrent).map(Torrent::info_hash)
    }

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub fn snapshot(&self, torrent: TorrentKey, now: Instant) -> Option<TorrentSnapshot> {
        self.torrents
            .get(&torrent)
            .map(|torrent| torrent.snapshot(&self.shared, now))
    }

    /// Stalled seconds of the torrent until now, by cause.
    pub fn stalls(&self, torrent: TorrentKey, now: Instant) -> Option<StallCounts> {
        let torrent = self.torrents.get(&torrent)?;
        Some(torrent.stall_counts(&self.shared, now))
    }

    /// What the torrent's resume data would say now.
    pub fn resume_data(&self, torrent: TorrentKey) -> Option<Resume> {
        self.torrents.get(&torrent).map(Torrent::resume_data)
    }

    /// Bytes requested, or received and not yet written.
    pub fn buffered_bytes(&self) -> u64 {
        self.shared.buffered
    }

    /// Events that named something the session no longer knows: normal after a close.
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped_events
    }

    /// Panics if the state contradicts itself: a bug, whatever the network did.
    pub fn check_invariants(&self) {
        self.torrents.values().for_each(Torrent::check_invariants);
        let unchoked: usize = self.torrents.values().map(Torrent::unchoked).sum();
        assert_eq!(
            self.shared.unchoked, unchoked,
            "unchoked peers are counted wrong"
        );
        let open: u64 = self
            .torrents
            .values()
            .map(Torrent::open_request_bytes)
            .sum();
        assert!(
            open <= self.shared.buffered,
            "open requests are not in the memory budget"
        );
        assert!(
            self.shared.buffered <= self.shared.config.buffer_bytes_max + (1 << 24),
            "{} bytes buffered",
            self.shared.buffered
        );
        assert_eq!(self.timers.len(), self.timer_of.len());
    }

    // One event.

    /// Returns the torrent that the event was about.
    fn dispatch(&mut self, now: Instant, event: Event) -> Option<TorrentKey> {
        let shared = &mut self.shared;
        match event {
            Event::Incoming {
                conn,
                remote,
                handshake,
            } => {
                let Some(&key) = self.by_info_hash.get(&handshake.info_hash) else {
                    let reason = RefuseReason::UnknownTorrent;
                    shared.actions.push_back(Action::Refuse { conn, reason });
                    return None;
                };
                let torrent = self.torrents.get_mut(&key)?;
                torrent.on_incoming(shared, now, conn, remote, &handshake);
                Some(key)
            }
            Event::PeerConnected {
                peer,
                torrent: key,
                remote,
                direction,
                handshake,
            } => {
                let Some(torrent) = self.torrents.get_mut(&key) else {
                    let reason = CloseReason::TorrentStopped;
                    shared.actions.push_back(Action::Close { peer, reason });
                    return None;
                };
                self.peers.insert(peer, key);
                torrent.on_connected(shared, now, peer, remote, direction, &handshake);
                Some(key)
            }
            Event::DialFailed {
                torrent: key,
                remote,
                reason,
            } => {
                self.torrents
                    .get_mut(&key)?
                    .on_dial_failed(shared, now, remote, reason);
                Some(key)
            }
            Event::DiskDone {
                job,
                torrent: key,
                result,
            } => {
                self.torrents
                    .get_mut(&key)?
                    .on_disk_done(shared, now, job, result);
                Some(key)
            }
            Event::TrackerReplied {
                torrent: key,
                tracker,
                result,
            } => {
                self.torrents
                    .get_mut(&key)?
                    .on_tracker_reply(shared, now, tracker, result);
                Some(key)
            }
            Event::PeersFound {
                torrent: key,
                source,
                peers,
            } => {
                self.torrents
                    .get_mut(&key)?
                    .on_peers_found(shared, now, source, peers);
                Some(key)
            }
            Event::Command(command) => self.obey(now, command),
            Event::PeerMessage { peer, message } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                let something_follows = torrent.on_message(shared, now, peer, message);
                something_follows.then_some(key)
            }
            Event::Received { peer, run, bufs } => {
                let Some((key, torrent, shared)) = self.torrent_of(peer) else {
                    self.shared.actions.push_back(Action::Discard { bufs });
                    return None;
                };
                torrent.on_received(shared, now, peer, run, bufs);
                Some(key)
            }
            Event::Unrequested { peer, len } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                torrent.on_unrequested(shared, now, peer, len);
                Some(key)
            }
            Event::Served { peer, run, bytes } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                torrent.on_served(shared, now, peer, run, bytes);
                Some(key)
            }
            Event::ServeFailed { peer, run, error } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                torrent.on_serve_failed(shared, now, peer, run, error);
                Some(key)
            }
            Event::MetadataServed { peer } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                torrent.on_metadata_served(shared, now, peer);
                Some(key)
            }
            Event::PeerClosed { peer, reason } => {
                let (key, torrent, shared) = self.torrent_of(peer)?;
                torrent.on_closed(shared, now, peer, reason);
                self.peers.remove(&peer);
                Some(key)
            }
        }
    }

    fn torrent_of(&mut self, peer: PeerKey) -> Option<(TorrentKey, &mut Torrent, &mut Shared)> {
        let Some(&key) = self.peers.get(&peer) else {
            self.shared.dropped_events += 1;
            return None;
        };
        Some((key, self.torrents.get_mut(&key)?, &mut self.shared))
    }

    fn obey(&mut self, now: Instant, command: Command) -> Option<TorrentKey> {
        let shared = &mut self.shared;
        match command {
            Command::Add {
                torrent: key,
                params,
            } => self.add(now, key, *params),
            Command::AddMagnet {
                torrent: key,
                params,
            } => self.add_magnet(now, key, *params),
            Command::Remove { torrent: key } => {
                let torrent = self.torrents.get_mut(&key)?;
                self.by_info_hash.remove(&torrent.info_hash());
                torrent.stop(shared, now);
                Some(key)
            }
            Command::AddPeers {
                torrent: key,
                peers,
            } => {
                let torrent = self.torrents.get_mut(&key)?;
                torrent.on_peers_found(shared, now, PeerSource::User, peers);
                Some(key)
            }
            Command::SetOrder {
                torrent: key,
                order,
            } => {
                self.torrents.get_mut(&key)?.set_order(order);
                Some(key)
            }
            Command::SetPriorities {
                torrent: key,
                files,
            } => {
                self.torrents
                    .get_mut(&key)?
                    .change_priorities(shared, now, files);
                Some(key)
            }
            Command::SetTorrentLimits {
                torrent: key,
                limits,
            } => {
                self.torrents.get_mut(&key)?.set_limits(limits, now);
                Some(key)
            }
            Command::SetSessionLimits { limits } => {
                shared.config.limits = limits;
                shared.down.set(limits.down, now);
                shared.up.set(limits.up, now);
                for torrent in self.torrents.values_mut() {
                    torrent.on_limits_changed(now);
                }
                for key in self.torrents.keys().copied().collect::<Vec<_>>() {
                    self.after(now, key);
                }
                None
            }
            Command::Resume { torrent: key } => {
                self.torrents.get_mut(&key)?.retry(shared, now);
                Some(key)
            }
        }
    }

    fn add_magnet(
        &mut self,
        now: Instant,
        key: TorrentKey,
        params: AddMagnet,
    ) -> Option<TorrentKey> {
        let hash = params.info_hash;
        if self.is_refused(key, hash) {
            return Some(key);
        }
        let magnet = Torrent::magnet(key, params, &mut self.shared, now);
        self.start(now, hash, key, magnet)
    }

    /// A new torrent, or a magnet that knows now what it is.
    fn add(&mut self, now: Instant, key: TorrentKey, params: AddTorrent) -> Option<TorrentKey> {
        let shared = &mut self.shared;
        match self.torrents.get_mut(&key) {
            Some(magnet) if magnet.is_magnet() && !magnet.is_stopping() => {
                magnet.promote(params, shared, now);
                magnet.tick(shared, now);
                Some(key)
            }
            // It was removed meanwhile.
            Some(_) => None,
            None => {
                let hash = params.info_hash;
                if self.is_refused(key, hash) {
                    return Some(key);
                }
                let torrent = Torrent::new(key, params, &mut self.shared, now);
                self.start(now, hash, key, torrent)
            }
        }
    }

    /// Two torrents of one info hash would fight for the same peers and files: the first one stays.
    fn is_refused(&mut self, torrent: TorrentKey, hash: InfoHash) -> bool {
        let Some(&first) = self.by_info_hash.get(&hash) else {
            return false;
        };
        self.shared.alert(Alert::AlreadyAdded { torrent, first });
        let gone = Action::TorrentGone { torrent };
        self.shared.actions.push_back(gone);
        true
    }

    fn start(
        &mut self,
        now: Instant,
        hash: InfoHash,
        key: TorrentKey,
        torrent: Torrent,
    ) -> Option<TorrentKey> {
        self.by_info_hash.insert(hash, key);
        let torrent = self.torrents.entry(key).or_insert(torrent);
        torrent.tick(&mut self.shared, now);
        Some(key)
    }

    /// Memory that came free goes to the torrents that wait for it, each in turn the first.
    fn feed_starved(&mut self, now: Instant) {
        let room = self
            .shared
            .config
            .buffer_bytes_max
            .saturating_sub(self.shared.buffered);
        if self.shared.starved.is_empty() || room < u64::from(BLOCK_LEN) {
            return;
        }
        let starved = std::mem::take(&mut self.shared.starved);
        for key in self.in_turn(&starved) {
            if let Some(torrent) = self.torrents.get_mut(&key) {
                torrent.request_all(&mut self.shared, now);
                self.after(now, key);
            }
        }
    }

    /// The keys from the one after [`Session::first_served`] on, then the others.
    fn in_turn(&mut self, keys: &BTreeSet<TorrentKey>) -> Vec<TorrentKey> {
        let (early, late): (Vec<TorrentKey>, Vec<TorrentKey>) =
            keys.iter().partition(|&&key| key <= self.first_served);
        let turn: Vec<TorrentKey> = late.into_iter().chain(early).collect();
        if turn.len() > 1 {
            self.first_served = turn[0];
        }
        turn
    }

    /// Takes a torrent out when it is done, else notes when it wants to be woken.
    fn after(&mut self, now: Instant, key: TorrentKey) {
        let Some(torrent) = self.torrents.get(&key) else {
            self.set_timer(key, None);
            return;
        };
        if torrent.is_gone(now) {
            self.torrents.remove(&key);
            self.peers.retain(|of| *of != key);
            self.set_timer(key, None);
            self.shared
                .actions
                .push_back(Action::TorrentGone { torrent: key });
            return;
        }
        let deadline = torrent.deadline(now);
        self.set_timer(key, deadline);
    }

    fn set_timer(&mut self, key: TorrentKey, at: Option<Instant>) {
        if self.timer_of.get(&key) == at.as_ref() {
            return;
        }
        if let Some(old) = self.timer_of.remove(&key) {
            self.timers.remove(&(old, key));
        }
        if let Some(at) = at {
            self.timers.insert((at, key));
            self.timer_of.insert(key, at);
        }
        self.earliest = self.timers.first().map(|(at, _)| *at);
    }
}

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod hardship;
#[cfg(test)]
mod limits;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod magnets;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod neighbours;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod rig;
#[cfg(test)]
mod soundness;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod stalls;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod superseeding;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one message among many"
)]
mod tests;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one message among many"
)]
mod uploads;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one action among many"
)]
mod verdicts;
