//! Addresses that only other peers told of (BEP 11), and nobody else confirmed yet.
//!
//! Anybody can make up addresses: to keep us from finding the swarm, or to let the swarm knock at
//! somebody's door. So each teller, each network and the whole have a cap, and an address of a
//! smaller reach counts only from somebody within that reach. Whoever was connected once, or is
//! named by a tracker or the user too, is no hearsay any more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::known::Machine;
use crate::event::PeerAddr;
use crate::reach::{Reach, site};

#[derive(Clone, Debug)]
pub(super) struct Hearsay {
    max: usize,
    /// Who told of each address first.
    tellers: BTreeMap<PeerAddr, Machine>,
    by_teller: BTreeMap<Machine, usize>,
    by_network: BTreeMap<IpAddr, usize>,
}

impl Hearsay {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            tellers: BTreeMap::new(),
            by_teller: BTreeMap::new(),
            by_network: BTreeMap::new(),
        }
    }

    /// Whether one more address may be taken from this teller.
    pub(super) fn may_add(&self, addr: PeerAddr, teller: PeerAddr) -> bool {
        let counts = |network| self.by_network.get(&network).copied().unwrap_or_default();
        let told = self.by_teller.get(&Machine::of(teller)).copied();
        is_in_reach(addr, teller)
            && self.tellers.len() < self.max
            && told.unwrap_or_default() < PER_TELLER_MAX
            && site(addr.socket_addr().ip()).is_none_or(|network| counts(network) < PER_NETWORK_MAX)
    }

    pub(super) fn add(&mut self, addr: PeerAddr, teller: PeerAddr) {
        let teller = Machine::of(teller);
        if self.tellers.insert(addr, teller).is_none() {
            self.count(addr, teller);
        }
    }

    fn count(&mut self, addr: PeerAddr, teller: Machine) {
        *self.by_teller.entry(teller).or_default() += 1;
        if let Some(network) = site(addr.socket_addr().ip()) {
            *self.by_network.entry(network).or_default() += 1;
        }
    }

    /// It is confirmed or forgotten. False if it was no hearsay.
    pub(super) fn remove(&mut self, addr: PeerAddr) -> bool {
        let Some(teller) = self.tellers.remove(&addr) else {
            return false;
        };
        one_less(&mut self.by_teller, teller);
        if let Some(network) = site(addr.socket_addr().ip()) {
            one_less(&mut self.by_network, network);
        }
        true
    }

    pub(super) fn contains(&self, addr: PeerAddr) -> bool {
        self.tellers.contains_key(&addr)
    }

    pub(super) fn teller_of(&self, addr: PeerAddr) -> Option<Machine> {
        self.tellers.get(&addr).copied()
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, is_known: impl Fn(PeerAddr) -> bool) {
        let mut again = Self::new(self.max);
        for (&addr, &teller) in &self.tellers {
            assert!(is_known(addr), "{addr} was forgotten");
            again.count(addr, teller);
        }
        assert!(self.tellers.len() <= self.max);
        assert_eq!(again.by_teller, self.by_teller);
        assert_eq!(again.by_network, self.by_network);
    }
}

/// Whom a peer may tell us of: everybody who is as far from us as it is, or farther.
fn is_in_reach(addr: PeerAddr, teller: PeerAddr) -> bool {
    Reach::of(addr.socket_addr().ip()) >= Reach::of(teller.socket_addr().ip())
}

fn one_less<K: Ord + Copy>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// Unconfirmed addresses that one peer may have told us of.
pub(super) const PER_TELLER_MAX: usize = 100;
/// Unconfirmed addresses of one network: more than a few peers of a swarm are rarely there.
pub(super) const PER_NETWORK_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PeerSource;
    use crate::peer_list::PeerList;
    use dunlin_proto::rng::Rng;
    use dunlin_proto::time::Instant;

    const NOW: Instant = Instant::START;

    fn addr(text: &str) -> PeerAddr {
        PeerAddr::Tcp(text.parse().unwrap())
    }

    /// How many of the addresses are taken from this teller.
    fn tell(list: &mut PeerList, teller: &str, addrs: impl IntoIterator<Item = String>) -> usize {
        let source = PeerSource::Pex(addr(teller));
        let taken = addrs.into_iter().filter(|text| {
            let taken = list.add(addr(text), source, NOW);
            assert!(list.hearsay.tellers.len() <= list.known.len());
            taken
        });
        taken.count()
    }

    fn one(list: &mut PeerList, teller: &str, text: &str) -> bool {
        tell(list, teller, [text.to_owned()]) == 1
    }

    /// So many addresses, each of another network.
    fn far(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("20.{}.{}.1:1", n / 250, n % 250))
    }

    #[test]
    fn an_address_of_a_smaller_reach_counts_only_from_within_that_reach() {
        let cases = [
            ("8.1.1.1:1", "9.1.1.1:1", true),
            ("8.1.1.1:1", "10.0.0.1:1", false),
            ("8.1.1.1:1", "[fe80::1]:1", false),
            ("8.1.1.1:1", "127.0.0.1:1", false),
            ("10.0.0.2:1", "127.0.0.1:1", false),
            ("10.0.0.2:1", "10.0.0.1:1", true),
            ("10.0.0.2:1", "9.1.1.1:1", true),
            ("127.0.0.1:2", "127.0.0.1:1", true),
            ("127.0.0.1:2", "10.0.0.1:1", true),
            ("127.0.0.1:2", "127.0.0.1:0", false),
            ("10.0.0.2:1", "10.0.0.1:0", false),
            ("10.0.0.2:1", "224.0.0.1:5", false),
            ("10.0.0.2:1", "0.0.0.0:5", false),
        ];
        for (teller, told, taken) in cases {
            let mut list = PeerList::new(100);
            assert_eq!(one(&mut list, teller, told), taken, "{teller} {told}");
        }
    }

    #[test]
    fn of_one_network_only_a_few_are_taken_but_on_loopback_and_at_home_all() {
        let of = |prefix: &'static str| (1..=20).map(move |n| format!("{prefix}.{n}:1"));
        let mut list = PeerList::new(1000);
        assert_eq!(tell(&mut list, "8.1.1.1:1", of("9.1.1")), PER_NETWORK_MAX);
        let v6 = (1..=20).map(|n| format!("[2001:db8:1:{n}::1]:1"));
        assert_eq!(tell(&mut list, "8.1.1.1:1", v6), PER_NETWORK_MAX);
        assert_eq!(tell(&mut list, "10.0.0.1:1", of("10.0.1")), 20);
        let ports = (1..=20).map(|port| format!("127.0.0.1:{port}"));
        assert_eq!(tell(&mut list, "127.0.0.1:99", ports), 20);
    }

    #[test]
    fn of_one_machine_one_address_is_taken_until_it_fails() {
        let mut list = PeerList::new(100);
        assert!(one(&mut list, "8.1.1.1:1", "9.1.1.1:1"));
        assert!(!one(&mut list, "8.1.1.1:1", "9.1.1.1:2"));
        list.on_dialling(addr("9.1.1.1:1"), NOW);
        list.on_dial_failed(addr("9.1.1.1:1"), NOW);
        assert!(one(&mut list, "8.1.1.1:1", "9.1.1.1:2"));
    }

    #[test]
    fn one_teller_fills_only_its_part_and_all_of_them_only_theirs() {
        let mut list = PeerList::new(1000);
        assert_eq!(tell(&mut list, "8.1.1.1:1", far(500)), PER_TELLER_MAX);
        for n in 2..=9 {
            tell(&mut list, &format!("8.{n}.1.1:1"), far(500));
        }
        assert_eq!(list.len(), 250);
    }

    #[test]
    fn hearsay_gives_way_to_what_a_tracker_names_and_never_the_other_way() {
        let mut list = PeerList::new(40);
        assert_eq!(tell(&mut list, "8.1.1.1:1", far(500)), 10);
        for n in 0..40 {
            let named = addr(&format!("30.{n}.1.1:1"));
            assert!(list.add(named, PeerSource::Tracker, NOW));
        }
        assert_eq!((list.len(), list.hearsay.tellers.len()), (40, 0));
        assert!(!one(&mut list, "8.1.1.1:1", "9.1.1.1:1"));
    }

    #[test]
    fn hearsay_is_dialled_after_everything_else_that_is_untried() {
        let mut list = PeerList::new(100);
        tell(&mut list, "8.1.1.1:1", far(20));
        list.add(addr("30.1.1.1:1"), PeerSource::Tracker, NOW);
        let mut rng = Rng::new(1);
        assert_eq!(list.next_dial(NOW, &mut rng), Some(addr("30.1.1.1:1")));
    }

    #[test]
    fn who_tells_of_many_is_followed_no_more_often_than_who_tells_of_few() {
        let mut list = PeerList::new(1000);
        tell(&mut list, "8.1.1.1:1", far(100));
        let few = ["9.1.1.1:1", "9.2.1.1:1", "9.3.1.1:1"];
        assert_eq!(tell(&mut list, "8.2.1.1:1", few.map(str::to_owned)), 3);
        let mut rng = Rng::new(3);
        let mut of_few = 0;
        for _ in 0..12 {
            let next = list.next_dial(NOW, &mut rng).unwrap();
            of_few += usize::from(few.contains(&next.to_string().as_str()));
            list.on_dialling(next, NOW);
        }
        assert_eq!(of_few, 3);
    }

    #[test]
    fn what_is_confirmed_counts_no_more_and_is_not_dropped_on_the_tellers_word() {
        let mut list = PeerList::new(1000);
        let [named, met, told] = ["9.1.1.1:1", "9.2.1.1:1", "9.3.1.1:1"];
        for text in [named, met, told] {
            assert!(one(&mut list, "8.1.1.1:1", text));
        }
        list.add(addr(named), PeerSource::Tracker, NOW);
        list.on_connected(addr(met), NOW);
        assert_eq!(list.hearsay.tellers.len(), 1);
        for text in [named, met, told] {
            list.on_dropped(addr(text), addr("8.9.9.9:1"));
        }
        assert_eq!(list.len(), 3, "only the teller itself takes it back");
        for text in [named, met, told] {
            list.on_dropped(addr(text), addr("8.1.1.1:77"));
        }
        assert_eq!(list.len(), 2);
    }
}
