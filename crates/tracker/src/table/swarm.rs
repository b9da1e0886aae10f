//! The peers of one torrent.
//!
//! They stand in four groups, seeds and leeches, on this machine and elsewhere, so that a random
//! choice among those that may be told to an asker costs no more than its own length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dunlin_metainfo::PeerId;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::{AnnounceEvent, ScrapeEntry};

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) peer_id: PeerId,
    pub(super) expires: Instant,
}

#[derive(Debug)]
pub(super) struct Swarm {
    groups: [Vec<Peer>; Group::ALL.len()],
    places: BTreeMap<SocketAddr, Place>,
    /// Downloads that came to their end.
    downloaded: u32,
    expired_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    group: Group,
    at: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Group {
    seed: bool,
    loopback: bool,
}

impl Swarm {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            groups: [const { Vec::new() }; Group::ALL.len()],
            places: BTreeMap::new(),
            downloaded: 0,
            expired_at: now,
        }
    }

    /// Adds the peer or renews what is known of it.
    pub(super) fn put(&mut self, peer: Peer, seed: bool, event: AnnounceEvent) {
        let group = Group {
            seed,
            loopback: peer.addr.ip().is_loopback(),
        };
        if let Some(old) = self.places.get(&peer.addr).map(|place| place.group) {
            // Counted once a peer, however often it says so.
            if event == AnnounceEvent::Completed && seed && !old.seed {
                self.downloaded = self.downloaded.saturating_add(1);
            }
            self.take_out(peer.addr);
        }
        let peers = &mut self.groups[group.index()];
        let at = peers.len() as u32;
        peers.push(peer);
        self.places.insert(peer.addr, Place { group, at });
    }

    /// False if another peer is at the address by now, or none.
    pub(super) fn remove(&mut self, addr: SocketAddr, peer_id: &PeerId) -> bool {
        let known = self.peer(addr).is_some_and(|peer| peer.peer_id == *peer_id);
        if known {
            self.take_out(addr);
        }
        known
    }

    /// Forgets peers that stayed away; says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        self.expired_at = now;
        let gone: Vec<SocketAddr> = self
            .groups
            .iter()
            .flatten()
            .filter(|peer| peer.expires <= now)
            .map(|peer| peer.addr)
            .collect();
        for &addr in &gone {
            self.take_out(addr);
        }
        for peers in &mut self.groups {
            peers.shrink_to(2 * peers.len());
        }
        gone.len()
    }

    /// A random choice of at most `want` peers for the asker: not itself, no seeds for a seed,
    /// and nobody on this machine for somebody elsewhere, who could not reach it.
    pub(super) fn sample(
        &self,
        now: Instant,
        rng: &mut Rng,
        asker: SocketAddr,
        asker_is_seed: bool,
        want: usize,
    ) -> Vec<(PeerId, SocketAddr)> {
        let asker_is_local = asker.ip().is_loopback();
        let groups = Group::ALL
            .into_iter()
            .filter(|group| !(asker_is_seed && group.seed) && (asker_is_local || !group.loopback))
            .map(|group| self.groups[group.index()].as_slice());
        let groups: Vec<&[Peer]> = groups.collect();
        let candidates = groups.iter().map(|peers| peers.len()).sum();
        // One more than wanted, for the asker may be among them.
        let mut peers: Vec<_> = distinct(rng, candidates, want.saturating_add(1))
            .into_iter()
            .filter_map(|at| nth(&groups, at))
            .filter(|peer| peer.addr != asker && peer.expires > now)
            .map(|peer| (peer.peer_id, peer.addr))
            .collect();
        rng.shuffle(&mut peers);
        peers.truncate(want);
        peers
    }

    pub(super) fn scrape(&self) -> ScrapeEntry {
        let count = |seed: bool| {
            let groups = Group::ALL.into_iter().filter(|group| group.seed == seed);
            groups
                .map(|group| self.groups[group.index()].len() as u32)
                .sum()
        };
        ScrapeEntry {
            complete: count(true),
            incomplete: count(false),
            downloaded: self.downloaded,
            downloaders: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        self.places.contains_key(&addr)
    }

    /// Peers that share this address, or with IPv6 its /64; 0 for loopback.
    pub(super) fn count_at(&self, ip: IpAddr) -> usize {
        if ip.is_loopback() {
            return 0;
        }
        let (first, last) = match ip {
            IpAddr::V4(_) => (ip, ip),
            IpAddr::V6(ip) => {
                let prefix = ip.to_bits() >> 64 << 64;
                let last = prefix | u128::from(u64::MAX);
                (
                    Ipv6Addr::from_bits(prefix).into(),
                    Ipv6Addr::from_bits(last).into(),
                )
            }
        };
        let first = SocketAddr::new(first, 0);
        let last = SocketAddr::new(last, u16::MAX);
        self.places.range(first..=last).count()
    }

    pub(super) fn expired_at(&self) -> Instant {
        self.expired_at
    }

    pub(super) fn check_invariants(&self) {
        let peers: usize = self.groups.iter().map(Vec::len).sum();
        assert_eq!(peers, self.places.len(), "every peer has one place");
        for (addr, place) in &self.places {
            let peer = &self.groups[place.group.index()][place.at as usize];
            assert_eq!(peer.addr, *addr);
            assert_eq!(place.group.loopback, addr.ip().is_loopback());
        }
    }

    fn peer(&self, addr: SocketAddr) -> Option<&Peer> {
        let place = self.places.get(&addr)?;
        self.groups[place.group.index()].get(place.at as usize)
    }

    fn take_out(&mut self, addr: SocketAddr) {
        let Some(place) = self.places.remove(&addr) else {
            return;
        };
        let peers = &mut self.groups[place.group.index()];
        peers.swap_remove(place.at as usize);
        if let Some(moved) = peers.get(place.at as usize) {
            self.places.insert(moved.addr, place);
        }
    }
}

impl Group {
    const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(seed: bool, loopback: bool) -> Self {
        Self { seed, loopback }
    }

    const fn index(self) -> usize {
        self.seed as usize * 2 + self.loopback as usize
    }
}

/// `count` different numbers below `bound`, every set as likely as any other, in time that
/// depends on `count` alone (Floyd's algorithm).
fn distinct(rng: &mut Rng, bound: usize, count: usize) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    for last in bound.saturating_sub(count)..bound {
        if !numbers.insert(rng.index(last + 1)) {
            numbers.insert(last);
        }
    }
    numbers
}

fn nth<'a>(groups: &[&'a [Peer]], mut at: usize) -> Option<&'a Peer> {
    for peers in groups {
        match peers.get(at) {
            Some(peer) => return Some(peer),
            None => at -= peers.len(),
        }
    }
    None
}
