//! Which peers are in which swarm: the tracker as a value.
//!
//! A peer is known by its address, which is where the announce came from plus the port it names;
//! the newest peer id at an address is the right one. Peers that stay away are forgotten. What is
//! remembered never exceeds the [`Limits`]: a peer that does not fit still gets an answer, only
//! others do not hear of it. Time and randomness are arguments.

mod swarm;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::Duration;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::{AnnounceEvent, AnnounceQuery, AnnounceReply, ScrapeEntry};

use crate::config::Limits;

use swarm::{Peer, Swarm};

/// All swarms.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    swarms: BTreeMap<InfoHash, Swarm>,
    /// Peers of all swarms together.
    peers: usize,
    /// Where [`Table::expire`] goes on.
    cursor: Option<InfoHash>,
}

/// The tracker cannot take another torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the tracker is full")]
pub struct Full;

impl Table {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            swarms: BTreeMap::new(),
            peers: 0,
            cursor: None,
        }
    }

    /// A peer at `from` tells what it does and asks for others.
    pub fn announce(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        query: &AnnounceQuery,
        from: IpAddr,
    ) -> Result<AnnounceReply, Full> {
        let from = from.to_canonical();
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
            reply.peers = self.peers_for(now, rng, query, peer.addr);
        }
        Ok(reply)
    }

    /// What is known about these torrents; those that nobody announced are left out.
    pub fn scrape(&self, info_hashes: &[InfoHash]) -> Vec<(InfoHash, ScrapeEntry)> {
        let known = info_hashes.iter();
        known
            .filter_map(|hash| Some((*hash, self.swarms.get(hash)?.scrape())))
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
            self.peers -= swarm.expire(now);
            if swarm.len() == 0 {
                self.swarms.remove(&info_hash);
            }
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
        assert!(self.memory() <= self.limits.memory_max);
        assert!(self.swarms.len() <= self.limits.torrents_max);
        self.swarms.values().for_each(Swarm::check_invariants);
    }

    fn insert(&mut self, now: Instant, query: &AnnounceQuery, peer: Peer) -> Result<&Swarm, Full> {
        let memory_left = self.limits.memory_max.saturating_sub(self.memory());
        let torrents = self.swarms.len();
        let swarm = match self.swarms.entry(query.info_hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_)
                if torrents >= self.limits.torrents_max
                    || memory_left < TORRENT_BYTES + PEER_BYTES =>
            {
                return Err(Full);
            }
            Entry::Vacant(entry) => entry.insert(Swarm::new(now)),
        };
        if now.since(swarm.expired_at()) >= self.limits.interval / EXPIRIES_PER_INTERVAL {
            self.peers -= swarm.expire(now);
        }
        let fits = memory_left >= PEER_BYTES
            && swarm.len() < self.limits.peers_per_torrent_max
            && swarm.count_at(peer.addr.ip()) < self.limits.peers_per_address_max;
        if fits || swarm.contains(peer.addr) {
            let before = swarm.len();
            swarm.put(peer, query.left == 0, query.event);
            self.peers += swarm.len() - before;
        }
        Ok(swarm)
    }

    fn remove(&mut self, info_hash: &InfoHash, peer: &Peer) -> Option<&Swarm> {
        let swarm = self.swarms.get_mut(info_hash)?;
        if swarm.remove(peer.addr, &peer.peer_id) {
            self.peers -= 1;
        }
        if swarm.len() == 0 {
            self.swarms.remove(info_hash);
        }
        self.swarms.get(info_hash)
    }

    fn peers_for(
        &self,
        now: Instant,
        rng: &mut Rng,
        query: &AnnounceQuery,
        asker: SocketAddr,
    ) -> Vec<(PeerId, SocketAddr)> {
        let want = query
            .num_want
            .map_or(self.limits.num_want_default, |n| n as usize);
        let want = want.min(self.limits.num_want_max);
        let swarm = self.swarms.get(&query.info_hash);
        swarm
            .map(|swarm| swarm.sample(now, rng, asker, query.left == 0, want))
            .unwrap_or_default()
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

/// What a peer costs: itself and its place in the index, each with as much spare room.
const PEER_BYTES: usize = 256;

#[cfg(test)]
mod tests;
