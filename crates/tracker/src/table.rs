//! Which peers are in which swarm: the tracker as a value.
//!
//! A peer is known by its address, which is where the announce came from plus the port it names;
//! the newest peer id at an address is the right one. Peers that stay away are forgotten. What is
//! remembered never exceeds the [`Limits`]: a peer that does not fit still gets an answer, only
//! others do not hear of it. Time and randomness are arguments.
//!
//! Who is told of whom, by the address that a peer announced from:
//! 1. A global address is told to everybody.
//! 2. A private one is told inside only: to askers with a private or link-local address, for a
//!    tracker that sees several private networks connects them; a link-local one to askers with a
//!    link-local address.
//! 3. Who is on the tracker's machine is told everything. That is an asker on loopback, and one
//!    that comes from the address at which it reaches the tracker: so a peer that announces to
//!    `127.0.0.1` and one on the same machine that announces to `10.0.0.5` hear of each other.
//! 4. A loopback address is told on the tracker's machine only. Elsewhere its peer is where the
//!    tracker is, so it is told with the address at which the asker reaches the tracker (of the
//!    same family, and as 1 to 3 allow for that address).

mod scope;
mod swarm;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::Duration;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::Family;
use dunlin_proto::tracker::{AnnounceEvent, AnnounceQuery, AnnounceReply, ScrapeEntry};

use crate::config::Limits;

use scope::{Scope, subscriber};
use swarm::{Kind, Peer, Swarm};

/// All swarms.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    swarms: BTreeMap<InfoHash, Swarm>,
    /// Peers of all swarms together.
    peers: usize,
    /// Peers of all swarms that one subscriber has announced; loopback is not counted.
    per_address: BTreeMap<IpAddr, u32>,
    /// Where [`Table::expire`] goes on.
    cursor: Option<InfoHash>,
}

/// Who asks, and over which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    pub ip: IpAddr,
    /// The tracker's own address as the asker reaches it, if that is known.
    pub reached_at: Option<IpAddr>,
    /// The only addresses that the answer has room for.
    pub only: Option<Family>,
}

impl Asker {
    fn scope(&self) -> Scope {
        let is_here = self.reached_at.map(|ip| ip.to_canonical()) == Some(self.ip.to_canonical());
        if is_here {
            Scope::Machine
        } else {
            Scope::of(self.ip)
        }
    }
}

/// The tracker cannot take another torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the tracker is full")]
    Full,
    #[error("too many torrents from your address")]
    TooManyFromAddress,
}

impl Table {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            swarms: BTreeMap::new(),
            peers: 0,
            per_address: BTreeMap::new(),
            cursor: None,
        }
    }

    /// A peer tells what it does and asks for others.
    pub fn announce(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        query: &AnnounceQuery,
        asker: &Asker,
    ) -> Result<AnnounceReply, Refusal> {
        let from = asker.ip.to_canonical();
        let peer = Peer {
            addr: SocketAddr::new(from, query.port),
            peer_id: query.peer_id,
            expires: now + 2 * self.limits.interval,
        };
        let Limits {
            interval,
            min_interval,
            ..
        } = self.limits;
        let mut reply = AnnounceReply {
            interval_s: seconds(interval),
            min_interval_s: Some(seconds(min_interval.min(interval))),
            external_ip: Some(from),
            ..AnnounceReply::default()
        };
        let swarm = self.swarms.get(&query.info_hash);
        let is_here = swarm.is_some_and(|swarm| swarm.is_here(peer.addr, now));
        let comes = query.event == AnnounceEvent::Started || !is_here;
        let swarm = if query.event == AnnounceEvent::Stopped {
            self.remove(&query.info_hash, &peer)
        } else {
            Some(self.insert(now, query, peer)?)
        };
        if let Some(swarm) = swarm {
            let entry = swarm.scrape();
            reply.complete = entry.complete;
            reply.incomplete = entry.incomplete;
            reply.downloaded = entry.downloaded;
        }
        if query.event != AnnounceEvent::Stopped {
            reply.peers = self.peers_for(now, rng, query, asker, comes);
        }
        Ok(reply)
    }

    /// What is known about a torrent, if somebody announced it.
    pub fn entry(&self, info_hash: &InfoHash) -> Option<ScrapeEntry> {
        self.swarms.get(info_hash).map(Swarm::scrape)
    }

    /// What is known about these torrents; those that nobody announced are left out.
    pub fn scrape(&self, info_hashes: &[InfoHash]) -> Vec<(InfoHash, ScrapeEntry)> {
        let known = info_hashes.iter();
        known
            .filter_map(|hash| Some((*hash, self.entry(hash)?)))
            .collect()
    }

    /// Forgets peers that stayed away, looking at about `visits` peers. Called again and again it
    /// goes round all swarms.
    pub fn expire(&mut self, now: Instant, visits: usize) {
        let mut visited = 0;
        while visited < visits {
            let start = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.swarms.range_mut((start, Bound::Unbounded)).next();
            let Some((&info_hash, swarm)) = next else {
                self.cursor = None;
                return;
            };
            self.cursor = Some(info_hash);
            visited += 1 + swarm.len();
            let gone = swarm.expire(now);
            if swarm.len() == 0 {
                self.swarms.remove(&info_hash);
            }
            self.forget(&gone);
        }
    }

    pub fn torrents(&self) -> usize {
        self.swarms.len()
    }

    pub fn peers(&self) -> usize {
        self.peers
    }

    /// About how many bytes all this takes: more than it really does.
    pub fn memory(&self) -> usize {
        self.swarms.len() * TORRENT_BYTES + self.peers * PEER_BYTES
    }

    pub fn check_invariants(&self) {
        let peers: usize = self.swarms.values().map(Swarm::len).sum();
        assert_eq!(peers, self.peers, "the sum of all swarms");
        let mut per_address: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for addr in self.swarms.values().flat_map(Swarm::addresses) {
            if !addr.ip().is_loopback() {
                *per_address.entry(subscriber(addr.ip())).or_default() += 1;
            }
        }
        assert_eq!(per_address, self.per_address, "nobody counts twice");
        assert!(self.memory() <= self.limits.memory_max);
        assert!(self.swarms.len() <= self.limits.torrents_max);
        self.swarms.values().for_each(Swarm::check_invariants);
    }

    fn insert(
        &mut self,
        now: Instant,
        query: &AnnounceQuery,
        peer: Peer,
    ) -> Result<&Swarm, Refusal> {
        let ip = peer.addr.ip();
        let memory_left = self.limits.memory_max.saturating_sub(self.memory());
        let announced = self.per_address.get(&subscriber(ip)).copied().unwrap_or(0) as usize;
        let address_fits = announced < self.limits.announced_per_address_max;
        let torrents = self.swarms.len();
        let swarm = match self.swarms.entry(query.info_hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_)
                if torrents >= self.limits.torrents_max
                    || memory_left < TORRENT_BYTES + PEER_BYTES =>
            {
                return Err(Refusal::Full);
            }
            Entry::Vacant(_) if !address_fits => return Err(Refusal::TooManyFromAddress),
            Entry::Vacant(entry) => entry.insert(Swarm::new(now)),
        };
        let is_due = now.since(swarm.expired_at()) >= self.limits.interval / EXPIRIES_PER_INTERVAL;
        let gone = if is_due {
            swarm.expire(now)
        } else {
            Vec::new()
        };
        let fits = memory_left >= PEER_BYTES
            && address_fits
            && swarm.len() < self.limits.peers_per_torrent_max
            && swarm.count_at(ip) < self.limits.peers_per_address_max;
        let is_new = !swarm.contains(peer.addr);
        if fits || !is_new {
            swarm.put(peer, kind_of(query), query.event);
        }
        if fits && is_new {
            self.remember(peer.addr);
        }
        self.forget(&gone);
        Ok(&self.swarms[&query.info_hash])
    }

    fn remove(&mut self, info_hash: &InfoHash, peer: &Peer) -> Option<&Swarm> {
        let swarm = self.swarms.get_mut(info_hash)?;
        let was_there = swarm.remove(peer.addr, &peer.peer_id);
        if swarm.len() == 0 {
            self.swarms.remove(info_hash);
        }
        if was_there {
            self.forget(&[peer.addr]);
        }
        self.swarms.get(info_hash)
    }

    /// Counts a peer that came into a swarm.
    fn remember(&mut self, addr: SocketAddr) {
        self.peers += 1;
        if !addr.ip().is_loopback() {
            *self.per_address.entry(subscriber(addr.ip())).or_default() += 1;
        }
    }

    /// Counts peers that left their swarm.
    fn forget(&mut self, gone: &[SocketAddr]) {
        self.peers -= gone.len();
        for addr in gone {
            if let Entry::Occupied(mut entry) = self.per_address.entry(subscriber(addr.ip())) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    fn peers_for(
        &self,
        now: Instant,
        rng: &mut Rng,
        query: &AnnounceQuery,
        asker: &Asker,
        comes: bool,
    ) -> Vec<(PeerId, SocketAddr)> {
        let want = query
            .num_want
            .map_or(self.limits.num_want_default, |n| n as usize);
        let want = want.min(self.limits.num_want_max);
        let Some(swarm) = self.swarms.get(&query.info_hash) else {
            return Vec::new();
        };
        let kind = kind_of(query);
        let mut told = swarm.sample(now, rng, asker, query.port, kind, want);
        // aria2 and rqbit begin a magnet, whose length they do not know yet, with nothing left,
        // rqbit without an event: unless they hear of seeds they never hear more. What leeches
        // leave free is theirs, once.
        if kind == Kind::Seed && comes && told.len() < want {
            let others = swarm.sample(now, rng, asker, query.port, Kind::Downloader, want);
            let others = others.into_iter().filter(|other| !told.contains(other));
            let others: Vec<_> = others.take(want - told.len()).collect();
            told.extend(others);
        }
        told
    }
}

fn kind_of(query: &AnnounceQuery) -> Kind {
    if query.left == 0 {
        Kind::Seed
    } else if query.event == AnnounceEvent::Paused {
        Kind::PartialSeed
    } else {
        Kind::Downloader
    }
}

/// Whole seconds, never 0.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// How often a busy swarm is cleared of peers that stayed away.
const EXPIRIES_PER_INTERVAL: u32 = 8;

/// What a torrent costs without its peers: the swarm, its place in the map, and the first nodes
/// and spare room of its own containers.
const TORRENT_BYTES: usize = 1024;

/// What a peer costs: itself, its place in the index and the count of its address, each with as
/// much spare room.
const PEER_BYTES: usize = 256;

#[cfg(test)]
mod tests;
