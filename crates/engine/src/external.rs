//! Our own address as others see it: what peers (BEP 10 `yourip`) and trackers (BEP 24) say.
//!
//! Nobody is believed alone: an address counts when at least [`VOTERS_MIN`] voters and more than
//! half of them name it. Everybody of one network has one vote. Peers of our own network see us
//! under another address than those outside, so the two kinds, and IPv4 and IPv6, vote apart.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::reach::{Reach, network};

/// Who names an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Voter {
    Peer(IpAddr),
    /// Its announce URL.
    Tracker(String),
}

/// The votes of a session.
#[derive(Clone, Debug, Default)]
pub struct External {
    ballots: BTreeMap<Kind, Ballot>,
}

/// The addresses that won, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnAddresses {
    by_kind: [Option<IpAddr>; 4],
}

impl External {
    /// A vote replaces the voter's former one. What says nothing is no vote: loopback, no address
    /// at all, or one of another network than the peer's own.
    pub fn on_vote(&mut self, voter: Voter, named: IpAddr) {
        let named = named.to_canonical();
        let Some(kind) = Kind::of(named) else {
            return;
        };
        let voter = match voter {
            Voter::Peer(ip) if Kind::of(ip.to_canonical()) != Some(kind) => return,
            Voter::Peer(ip) => Voter::Peer(network(ip.to_canonical())),
            tracker @ Voter::Tracker(_) => tracker,
        };
        self.ballots.entry(kind).or_default().cast(voter, named);
    }

    pub fn addresses(&self) -> OwnAddresses {
        let mut won = OwnAddresses::default();
        for (kind, ballot) in &self.ballots {
            won.by_kind[kind.index()] = ballot.winner;
        }
        won
    }
}

impl OwnAddresses {
    /// How a peer with this address sees us.
    pub fn seen_from(&self, peer: IpAddr) -> Option<IpAddr> {
        self.by_kind[Kind::of(peer.to_canonical())?.index()]
    }

    /// Whether this is one of ours.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.by_kind.contains(&Some(ip.to_canonical()))
    }
}

/// Voters and addresses that may be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    is_v6: bool,
    is_local: bool,
}

impl Kind {
    fn of(ip: IpAddr) -> Option<Self> {
        let is_local = match Reach::of(ip) {
            Reach::Loopback | Reach::Nobody => return None,
            Reach::Local => true,
            Reach::Global => false,
        };
        Some(Self {
            is_v6: ip.is_ipv6(),
            is_local,
        })
    }

    fn index(self) -> usize {
        usize::from(self.is_v6) * 2 + usize::from(self.is_local)
    }
}

#[derive(Clone, Debug, Default)]
struct Ballot {
    votes: BTreeMap<Voter, IpAddr>,
    /// Oldest first.
    order: VecDeque<Voter>,
    winner: Option<IpAddr>,
}

impl Ballot {
    fn cast(&mut self, voter: Voter, named: IpAddr) {
        if self.votes.insert(voter.clone(), named).is_none() {
            self.order.push_back(voter);
        }
        if self.order.len() > VOTERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.votes.remove(&oldest);
        }
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for &ip in self.votes.values() {
            *counts.entry(ip).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|&(_, count)| count);
        self.winner = most
            .filter(|&(_, count)| count >= VOTERS_MIN && 2 * count > self.votes.len())
            .map(|(ip, _)| ip);
    }
}

/// Votes that make an address ours.
pub const VOTERS_MIN: usize = 2;

/// Votes remembered of one kind; the oldest give way.
pub const VOTERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn votes(votes: &[(&str, &str)]) -> External {
        let mut external = External::default();
        for (voter, named) in votes {
            external.on_vote(Voter::Peer(ip(voter)), ip(named));
        }
        external
    }

    fn seen_from(external: &External, peer: &str) -> Option<IpAddr> {
        external.addresses().seen_from(ip(peer))
    }

    #[test]
    fn nobody_is_believed_alone() {
        let mut external = votes(&[("8.1.1.1", "9.9.9.9"), ("8.1.1.1", "9.9.9.9")]);
        assert_eq!(seen_from(&external, "8.7.7.7"), None);
        external.on_vote(Voter::Tracker("http://t/announce".into()), ip("9.9.9.9"));
        assert_eq!(seen_from(&external, "8.7.7.7"), Some(ip("9.9.9.9")));
        assert!(external.addresses().contains(ip("::ffff:9.9.9.9")));
    }

    #[test]
    fn liars_of_one_network_have_one_vote_and_a_minority_has_none() {
        let external = votes(&[
            ("2001:db8::1", "2001:db8:f::1"),
            ("2001:db8::2", "2001:db8:f::1"),
        ]);
        assert_eq!(seen_from(&external, "2001:db8:2::1"), None);
        let external = votes(&[
            ("8.1.1.1", "9.9.9.9"),
            ("8.2.1.1", "9.9.9.9"),
            ("8.3.1.1", "6.6.6.6"),
            ("8.4.1.1", "6.6.6.6"),
        ]);
        assert_eq!(seen_from(&external, "8.7.7.7"), None);
    }

    #[test]
    fn a_neighbour_and_a_stranger_see_us_under_different_addresses() {
        let external = votes(&[
            ("8.1.1.1", "9.9.9.9"),
            ("8.2.1.1", "9.9.9.9"),
            ("10.0.0.2", "10.0.0.1"),
            ("10.0.0.3", "10.0.0.1"),
            ("8.3.1.1", "10.0.0.1"),
            ("10.0.0.4", "9.9.9.9"),
        ]);
        assert_eq!(seen_from(&external, "8.7.7.7"), Some(ip("9.9.9.9")));
        assert_eq!(seen_from(&external, "10.0.0.9"), Some(ip("10.0.0.1")));
        assert_eq!(seen_from(&external, "2001:db8::1"), None);
    }

    #[test]
    fn votes_for_nothing_are_none() {
        for named in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::"] {
            let external = votes(&[("8.1.1.1", named), ("8.2.1.1", named)]);
            assert_eq!(external.addresses(), OwnAddresses::default(), "{named}");
        }
    }

    #[test]
    fn old_votes_give_way_so_that_a_new_address_is_noticed() {
        let mut external = External::default();
        for n in 0..100 {
            let named = if n < 60 { "9.9.9.9" } else { "9.9.9.8" };
            external.on_vote(Voter::Peer(ip(&format!("8.{n}.1.1"))), ip(named));
        }
        assert_eq!(seen_from(&external, "8.7.7.7"), Some(ip("9.9.9.8")));
        let ballot = external.ballots.values().next().unwrap();
        assert_eq!(
            (ballot.votes.len(), ballot.order.len()),
            (VOTERS_MAX, VOTERS_MAX)
        );
    }
}
