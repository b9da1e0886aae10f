//! The peers of one torrent.
//!
//! They stand in groups, by what they want and from where they can be reached, so that a random
//! choice among those that may be told to an asker costs no more than its own length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dunlin_metainfo::PeerId;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::Family;
use dunlin_proto::tracker::{AnnounceEvent, ScrapeEntry};

use super::Asker;
use super::scope::Scope;

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) peer_id: PeerId,
    pub(super) expires: Instant,
}

#[derive(Debug)]
pub(super) struct Swarm {
    /// Groups that were needed so far, mostly one or two.
    groups: Vec<(Group, Vec<Peer>)>,
    places: BTreeMap<SocketAddr, Place>,
    /// Downloads that came to their end.
    downloaded: u32,
    expired_at: Instant,
}

/// What a peer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Downloader,
    /// Incomplete, but wants nothing more (BEP 21).
    PartialSeed,
    Seed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    group: Group,
    at: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Group {
    kind: Kind,
    scope: Scope,
    family: Family,
}

/// Peers of a group as an asker may hear of them.
struct Candidates<'a> {
    peers: &'a [Peer],
    /// Where they are for the asker, if not at the address that they announced from.
    ip: Option<IpAddr>,
}

impl Swarm {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            groups: Vec::new(),
            places: BTreeMap::new(),
            downloaded: 0,
            expired_at: now,
        }
    }

    /// Adds the peer or renews what is known of it.
    pub(super) fn put(&mut self, peer: Peer, kind: Kind, event: AnnounceEvent) {
        let group = Group {
            kind,
            scope: Scope::of(peer.addr.ip()),
            family: Family::of(peer.addr.ip()),
        };
        if let Some(old) = self.places.get(&peer.addr).map(|place| place.group) {
            // Counted once a peer, however often it says so.
            let finishes = kind == Kind::Seed && old.kind != Kind::Seed;
            if event == AnnounceEvent::Completed && finishes {
                self.downloaded = self.downloaded.saturating_add(1);
            }
            self.take_out(peer.addr);
        }
        let peers = self.group_mut(group);
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

    /// Forgets peers that stayed away, and says where they were.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<SocketAddr> {
        self.expired_at = now;
        let peers = self.groups.iter().flat_map(|(_, peers)| peers);
        let gone: Vec<SocketAddr> = peers
            .filter(|peer| peer.expires <= now)
            .map(|peer| peer.addr)
            .collect();
        for &addr in &gone {
            self.take_out(addr);
        }
        for (_, peers) in &mut self.groups {
            peers.shrink_to(2 * peers.len());
        }
        gone
    }

    /// A random choice of at most `want` peers for the asker: not itself, nobody who has as
    /// little to ask for as the asker, and nobody whom it could not reach or must not know.
    pub(super) fn sample(
        &self,
        now: Instant,
        rng: &mut Rng,
        asker: &Asker,
        port: u16,
        kind: Kind,
        want: usize,
    ) -> Vec<(PeerId, SocketAddr)> {
        let groups = self.groups.iter();
        let groups: Vec<Candidates<'_>> = groups
            .filter(|(group, _)| kind == Kind::Downloader || group.kind == Kind::Downloader)
            .filter_map(|(group, peers)| group.candidates(asker, peers))
            .collect();
        let count = groups.iter().map(|group| group.peers.len()).sum();
        let asker_addr = SocketAddr::new(asker.ip.to_canonical(), port);
        let mut seen = BTreeSet::new();
        // One more than wanted, for the asker may be among them.
        let mut told: Vec<_> = distinct(rng, count, want.saturating_add(1))
            .into_iter()
            .filter_map(|at| nth(&groups, at))
            .filter(|(other, addr)| *addr != asker_addr && other.expires > now)
            // One peer may be known by two addresses of its machine.
            .filter(|(_, addr)| seen.insert(*addr))
            .map(|(other, addr)| (other.peer_id, addr))
            .collect();
        rng.shuffle(&mut told);
        told.truncate(want);
        told
    }

    pub(super) fn scrape(&self) -> ScrapeEntry {
        let count = |kind: Kind| -> u32 {
            let groups = self.groups.iter().filter(|(group, _)| group.kind == kind);
            groups.map(|(_, peers)| peers.len() as u32).sum()
        };
        let downloaders = count(Kind::Downloader);
        ScrapeEntry {
            complete: count(Kind::Seed),
            incomplete: downloaders + count(Kind::PartialSeed),
            downloaded: self.downloaded,
            downloaders: Some(downloaders),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.keys().copied()
    }

    /// Whether it announced in time.
    pub(super) fn is_here(&self, addr: SocketAddr, now: Instant) -> bool {
        self.peer(addr).is_some_and(|peer| peer.expires > now)
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
        let peers: usize = self.groups.iter().map(|(_, peers)| peers.len()).sum();
        assert_eq!(peers, self.places.len(), "every peer has one place");
        for (addr, place) in &self.places {
            let peer = self.peer(*addr).expect("a place is where a peer is");
            assert_eq!(peer.addr, *addr);
            assert_eq!(place.group.scope, Scope::of(addr.ip()));
            assert_eq!(place.group.family, Family::of(addr.ip()));
        }
    }

    fn group_mut(&mut self, group: Group) -> &mut Vec<Peer> {
        let at = self.groups.iter().position(|(other, _)| *other == group);
        let at = at.unwrap_or_else(|| {
            self.groups.push((group, Vec::new()));
            self.groups.len() - 1
        });
        &mut self.groups[at].1
    }

    fn peer(&self, addr: SocketAddr) -> Option<&Peer> {
        let place = self.places.get(&addr)?;
        let mut groups = self.groups.iter();
        let (_, peers) = groups.find(|(group, _)| *group == place.group)?;
        peers.get(place.at as usize)
    }

    fn take_out(&mut self, addr: SocketAddr) {
        let Some(place) = self.places.remove(&addr) else {
            return;
        };
        let peers = self.group_mut(place.group);
        peers.swap_remove(place.at as usize);
        if let Some(moved) = peers.get(place.at as usize).map(|peer| peer.addr) {
            self.places.insert(moved, place);
        }
    }
}

impl Group {
    /// The peers of this group, if the asker may hear of them.
    fn candidates<'a>(&self, asker: &Asker, peers: &'a [Peer]) -> Option<Candidates<'a>> {
        if asker.only.is_some_and(|only| only != self.family) {
            return None;
        }
        if asker.scope().may_hear_of(self.scope) {
            return Some(Candidates { peers, ip: None });
        }
        let ip = asker.reached_at.map(|ip| ip.to_canonical())?;
        let is_told = self.scope == Scope::Machine
            && Family::of(ip) == self.family
            && Scope::of(ip) != Scope::Machine
            && asker.scope().may_hear_of(Scope::of(ip));
        let ip = Some(ip);
        is_told.then_some(Candidates { peers, ip })
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

/// A peer, and its address for the asker.
fn nth<'a>(groups: &[Candidates<'a>], mut at: usize) -> Option<(&'a Peer, SocketAddr)> {
    for group in groups {
        match group.peers.get(at) {
            Some(peer) => {
                let ip = group.ip.unwrap_or(peer.addr.ip());
                return Some((peer, SocketAddr::new(ip, peer.addr.port())));
            }
            None => at -= group.peers.len(),
        }
    }
    None
}
