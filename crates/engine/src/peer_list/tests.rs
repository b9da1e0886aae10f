mod machines;

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::external::{External, Voter};

/// A list of tracker addresses, written as text, and a clock.
struct Book {
    list: PeerList,
    rng: Rng,
    now: Instant,
}

fn book(addrs: &[&str]) -> Book {
    let mut book = Book {
        list: PeerList::new(100),
        rng: Rng::new(1),
        now: at(1000),
    };
    for text in addrs {
        assert!(book.add(text), "{text}");
    }
    book
}

impl PeerList {
    /// What the queues and counts say follows from the states.
    fn check_invariants(&self) {
        let mut links: BTreeMap<IpAddr, Links> = BTreeMap::new();
        let by_address = |addr: &PeerAddr| network(addr.socket_addr().ip());
        let counted = |addr: &PeerAddr| !addr.socket_addr().ip().is_loopback();
        for addr in self.incoming.iter().filter(|addr| counted(addr)) {
            links.entry(by_address(addr)).or_default().connected += 1;
        }
        let (mut ready, mut waiting) = (0, 0);
        for (addr, known) in &self.known {
            match known.state {
                State::Ready => {
                    ready += 1;
                    let rank = if known.by_user {
                        Rank::User
                    } else {
                        Rank::Other
                    };
                    let queued = self.ready.contains(&(rank, known.last_attempt, *addr));
                    assert!(
                        queued != self.untried.contains(addr),
                        "{addr} is in one queue"
                    );
                }
                State::Waiting(until) => {
                    waiting += 1;
                    assert!(self.waiting.contains(&(until, *addr)));
                }
                State::Parked => assert!(known.is_seed && self.seeding),
                State::Dialling if counted(addr) => {
                    links.entry(by_address(addr)).or_default().dialling += 1;
                }
                State::Connected if counted(addr) => {
                    links.entry(by_address(addr)).or_default().connected += 1;
                }
                State::Dialling | State::Connected => {}
            }
            assert!(
                !(known.state.is_idle() && self.is_banned(*addr)),
                "{addr} is banned"
            );
        }
        assert_eq!(ready, self.ready.len() + self.untried.len());
        assert_eq!(waiting, self.waiting.len());
        assert_eq!(links, self.links);
        self.hearsay
            .check_invariants(|addr| self.known.contains_key(&addr));
        assert_eq!(self.bans.len(), self.ban_order.len());
    }
}

impl Book {
    fn add(&mut self, text: &str) -> bool {
        self.list.add(addr(text), PeerSource::Tracker, self.now)
    }

    fn add_by_user(&mut self, text: &str) -> bool {
        self.list.add(addr(text), PeerSource::User, self.now)
    }

    fn next(&mut self) -> Option<String> {
        let next = self.list.next_dial(self.now, &mut self.rng);
        self.list.check_invariants();
        next.map(|addr| addr.to_string())
    }

    /// Dials whoever is next.
    fn dial(&mut self) -> Option<String> {
        let next = self.next()?;
        self.list.on_dialling(addr(&next), self.now);
        Some(next)
    }

    /// Dials whoever is next, in vain.
    fn dial_in_vain(&mut self) -> Option<String> {
        let next = self.dial()?;
        self.list.on_dial_failed(addr(&next), self.now);
        Some(next)
    }

    /// Dials whoever is next, with success.
    fn connect(&mut self) -> Option<String> {
        let next = self.dial()?;
        self.list.on_connected(addr(&next), self.now);
        Some(next)
    }

    /// Jumps to the next deadline; the answer is how far, in seconds.
    fn wait(&mut self) -> u64 {
        let due = self.list.next_deadline().expect("somebody rests");
        let waited = due.since(self.now).as_secs();
        self.now = due;
        waited
    }

    /// How long the only address rests after each of `count` failures.
    fn rests(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                assert!(self.dial_in_vain().is_some());
                assert_eq!(self.next(), None);
                self.wait()
            })
            .collect()
    }
}

#[test]
fn nobody_is_dialled_who_is_dialling_or_connected() {
    let mut book = book(&["1.1.1.1:1", "2.2.2.2:2"]);
    let first = book.dial().unwrap();
    let second = book.connect().unwrap();
    assert_ne!(first, second);
    assert_eq!(book.next(), None);
    book.list.on_connected(addr(&first), book.now);
    assert_eq!(book.next(), None);
    assert_eq!((book.list.len(), book.list.idle_len()), (2, 0));
}

#[test]
fn asking_who_is_next_changes_nothing() {
    let mut book = book(&["1.1.1.1:1"]);
    assert_eq!(book.next(), book.next());
    assert_eq!(book.list.idle_len(), 1);
}

#[test]
fn the_users_come_first_then_the_untried_then_the_oldest_attempt() {
    let mut book = book(&["1.1.1.1:1", "2.2.2.2:2"]);
    let failed = [book.dial_in_vain().unwrap(), {
        book.now += secs(1);
        book.dial_in_vain().unwrap()
    }];
    book.now += secs(100);
    book.add("3.3.3.3:3");
    book.add_by_user("4.4.4.4:4");
    let order: Vec<_> = std::iter::from_fn(|| book.dial()).collect();
    assert_eq!(order, ["4.4.4.4:4", "3.3.3.3:3", &failed[0], &failed[1]]);
}

#[test]
fn a_user_may_name_a_known_address_that_rests() {
    let mut book = book(&["1.1.1.1:1", "2.2.2.2:2"]);
    let failed = book.dial_in_vain().unwrap();
    assert!(!book.add_by_user(&failed), "it is known");
    assert_eq!(book.next(), Some(failed));
}

#[test]
fn untried_addresses_are_drawn_at_random() {
    let mut firsts = BTreeSet::new();
    for seed in 0..60 {
        let mut book = book(&["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "4.4.4.4:4"]);
        book.rng = Rng::new(seed);
        firsts.insert(book.next());
    }
    assert_eq!(firsts.len(), 4);
}

#[test]
fn who_knows_its_own_address_dials_by_canonical_priority() {
    let mut external = External::default();
    for voter in ["8.1.1.1", "8.2.1.1"] {
        external.on_vote(Voter::Peer(ip(voter)), ip("123.213.32.10"));
    }
    let addrs = [
        "98.76.54.32:1",
        "98.76.54.36:1",
        "98.77.54.32:1",
        "9.1.1.1:1",
    ];
    let mut book = book(&addrs);
    book.list.set_own_addresses(external.addresses(), 6881);
    // The example of BEP 40.
    assert_eq!(book.list.priority(addr("98.76.54.32:1")), 0xec2d_7224);
    assert_eq!(book.list.priority(addr("[2001:db8::1]:1")), 0);
    let mut best = addrs.map(addr);
    best.sort_by_key(|addr| Reverse(book.list.priority(*addr)));
    let dialled: Vec<_> = std::iter::from_fn(|| book.dial()).collect();
    assert_eq!(dialled, best.map(|addr| addr.to_string()));
}

#[test]
fn a_failed_dial_rests_fifteen_seconds_doubling_to_half_an_hour() {
    let mut book = book(&["1.1.1.1:1"]);
    assert_eq!(
        book.rests(10),
        [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    );
}

#[test]
fn on_loopback_the_rest_starts_at_two_seconds() {
    for text in ["127.0.0.1:7001", "[::1]:7001"] {
        let mut book = book(&[text]);
        assert_eq!(book.rests(4), [2, 4, 8, 16]);
    }
}

#[test]
fn a_peer_that_the_user_named_is_tried_every_ten_seconds_at_least() {
    for text in ["127.0.0.1:7001", "1.1.1.1:1"] {
        let mut book = book(&[]);
        book.add_by_user(text);
        let rests = book.rests(40);
        assert!(rests.iter().all(|&rest| rest <= 10), "{rests:?}");
        assert!(rests[0] <= 2);
    }
}

#[test]
fn a_useful_connection_makes_failures_forgotten() {
    let mut book = book(&["1.1.1.1:1"]);
    book.rests(5);
    let peer = book.connect().unwrap();
    book.now += secs(60);
    book.list.on_closed(addr(&peer), book.now, true);
    assert_eq!(book.next(), None);
    assert_eq!(book.wait(), 15);
    assert_eq!(book.rests(2), [15, 30]);
}

#[test]
fn a_useless_connection_counts_as_a_failure() {
    let mut book = book(&["1.1.1.1:1"]);
    let mut rests = Vec::new();
    for _ in 0..4 {
        let peer = book.connect().unwrap();
        book.list.on_closed(addr(&peer), book.now, false);
        rests.push(book.wait());
    }
    assert_eq!(rests, [15, 30, 60, 120]);
}

#[test]
fn late_news_about_an_idle_address_change_nothing() {
    let mut book = book(&["1.1.1.1:1"]);
    book.list.on_dial_failed(addr("1.1.1.1:1"), book.now);
    book.list.on_closed(addr("1.1.1.1:1"), book.now, false);
    book.list.on_closed(addr("9.9.9.9:9"), book.now, false);
    book.list.on_dial_failed(addr("9.9.9.9:9"), book.now);
    assert_eq!(book.next().as_deref(), Some("1.1.1.1:1"));
    assert_eq!(book.list.len(), 1);
}

#[test]
fn the_next_deadline_is_the_end_of_the_first_rest_until_it_was_seen() {
    let mut book = book(&["1.1.1.1:1", "2.2.2.2:2"]);
    assert_eq!(
        book.list.next_deadline(),
        None,
        "who is ready needs no timer"
    );
    book.dial_in_vain();
    book.now += secs(5);
    book.dial_in_vain();
    assert_eq!(book.list.next_deadline(), Some(at(1015)));
    book.now = at(1016);
    assert_eq!(book.list.next_deadline(), Some(at(1015)), "nobody looked");
    assert!(book.next().is_some());
    assert_eq!(book.list.next_deadline(), Some(at(1020)));
    book.now = at(1020);
    assert!(book.next().is_some());
    assert_eq!(book.list.next_deadline(), None);
}

#[test]
fn addresses_that_nobody_can_have_are_dropped() {
    let mut book = book(&[]);
    for text in [
        "1.1.1.1:0",
        "0.0.0.0:1",
        "0.1.2.3:1",
        "[::]:1",
        "224.0.0.1:1",
        "239.255.255.250:1900",
        "[ff02::1]:1",
        "255.255.255.255:1",
        "[::ffff:0.0.0.0]:1",
        "[::ffff:224.0.0.1]:1",
    ] {
        assert!(!book.add(text) && !book.add_by_user(text), "{text}");
    }
    assert!(book.list.is_empty());
}

#[test]
fn an_address_is_known_once_even_when_ipv6_wraps_it() {
    let mut book = book(&["1.1.1.1:1"]);
    assert!(!book.add("1.1.1.1:1"));
    assert!(!book.add("[::ffff:1.1.1.1]:1"));
    assert!(book.add("1.1.1.1:2"));
    let next = book.dial().unwrap();
    let wrapped = next.replace("1.1.1.1", "[::ffff:1.1.1.1]");
    book.list.on_connected(addr(&wrapped), book.now);
    assert_eq!(book.list.connected_from(ip("::ffff:1.1.1.1")), 1);
    assert_eq!(book.list.idle_len(), 1);
}

#[test]
fn a_full_list_prefers_those_who_did_not_fail() {
    let mut book = book(&[]);
    book.list = PeerList::new(3);
    for text in ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"] {
        assert!(book.add(text));
    }
    assert!(!book.add("4.4.4.4:4"), "nobody failed");
    let failed = book.dial_in_vain().unwrap();
    assert!(book.add("4.4.4.4:4"));
    assert!(!book.list.known.contains_key(&addr(&failed)));
    assert!(!book.add("5.5.5.5:5"));
    assert!(
        book.add_by_user("5.5.5.5:5"),
        "for the user there is always room"
    );
    assert_eq!(book.list.len(), 3);
}

#[test]
fn a_full_list_of_connections_and_users_takes_nobody() {
    let mut book = book(&[]);
    book.list = PeerList::new(3);
    book.add("1.1.1.1:1");
    book.connect();
    book.add("2.2.2.2:2");
    book.dial();
    book.add_by_user("3.3.3.3:3");
    assert!(!book.add("4.4.4.4:4") && !book.add_by_user("4.4.4.4:4"));
}

#[test]
fn the_port_of_an_incoming_peer_is_never_dialled() {
    let mut book = book(&["1.1.1.1:1"]);
    book.list.on_incoming(addr("2.2.2.2:50001"));
    assert_eq!(book.list.len(), 1);
    // Somebody who dialled us from the port that we know it by.
    book.list.on_incoming(addr("1.1.1.1:1"));
    assert_eq!(book.next(), None);
    book.list.on_closed(addr("1.1.1.1:1"), book.now, false);
    book.list.on_closed(addr("2.2.2.2:50001"), book.now, true);
    book.now += secs(10_000);
    assert_eq!(book.dial().as_deref(), Some("1.1.1.1:1"));
    assert_eq!(book.next(), None);
}

#[test]
fn seeds_do_not_dial_seeds() {
    let mut book = book(&["1.1.1.1:1", "2.2.2.2:2"]);
    book.list.on_seed(addr("1.1.1.1:1"));
    book.list.set_seeding(true);
    assert_eq!(book.dial().as_deref(), Some("2.2.2.2:2"));
    book.list.on_connected(addr("2.2.2.2:2"), book.now);
    book.list.on_seed(addr("2.2.2.2:2"));
    book.list.on_closed(addr("2.2.2.2:2"), book.now, true);
    book.now += secs(10_000);
    assert_eq!(book.next(), None);
    assert_eq!(book.list.next_deadline(), None);
    // Files were chosen later: seeds are useful again.
    book.list.set_seeding(false);
    assert!(book.dial().is_some() && book.dial().is_some());
}

#[test]
fn our_own_address_is_not_dialled_twice() {
    let mut book = book(&["1.1.1.1:1"]);
    book.dial();
    book.list.on_own(addr("1.1.1.1:1"));
    book.list.on_dial_failed(addr("1.1.1.1:1"), book.now);
    assert!(!book.add("1.1.1.1:1") && !book.add_by_user("1.1.1.1:1"));
    assert_eq!((book.next(), book.list.len()), (None, 0));
}

#[test]
fn untried_addresses_are_seen() {
    let mut book = book(&[]);
    assert!(!book.list.has_untried());
    book.add("1.1.1.1:1");
    assert!(book.list.has_untried());
    book.dial_in_vain();
    book.now += secs(100);
    assert!(book.next().is_some() && !book.list.has_untried());
    book.add_by_user("2.2.2.2:2");
    assert!(book.list.has_untried());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16, bool),
    Tell(u16, u16),
    Untell(u16, u16),
    Dial,
    Connected(u16),
    Incoming(u16),
    DialFailed(u16),
    Closed(u16, bool),
    Ban(u16),
    Seed(u16),
    Seeding(bool),
    Own(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..40u16;
    prop_oneof![
        8 => (peer.clone(), prop::bool::weighted(0.2)).prop_map(|(p, user)| Step::Add(p, user)),
        4 => (peer.clone(), peer.clone()).prop_map(|(p, teller)| Step::Tell(p, teller)),
        2 => (peer.clone(), peer.clone()).prop_map(|(p, teller)| Step::Untell(p, teller)),
        6 => proptest::prelude::Just(Step::Dial),
        4 => peer.clone().prop_map(Step::Connected),
        2 => peer.clone().prop_map(Step::Incoming),
        4 => peer.clone().prop_map(Step::DialFailed),
        4 => (peer.clone(), any::<bool>()).prop_map(|(p, useful)| Step::Closed(p, useful)),
        1 => peer.clone().prop_map(Step::Ban),
        1 => peer.clone().prop_map(Step::Seed),
        1 => any::<bool>().prop_map(Step::Seeding),
        1 => peer.prop_map(Step::Own),
        4 => (0..100u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_queues_follow_the_states(
        seed: u64,
        cap in 1..5usize,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut book = book(&[]);
        book.list = PeerList::new(12);
        book.list.set_address_cap(cap);
        book.rng = Rng::new(seed);
        // Three addresses, one of them loopback, and an IPv6 network.
        let peer = |p: u16| addr(&match p % 4 {
            0 => format!("127.0.0.1:{}", 1 + p),
            1 => format!("1.1.1.1:{}", 1 + p),
            2 => format!("2.2.2.2:{}", 1 + p),
            _ => format!("[2001:db8::{p:x}]:{}", 1 + p),
        });
        for step in steps {
            match step {
                Step::Add(p, user) => {
                    let source = if user { PeerSource::User } else { PeerSource::Tracker };
                    let before = book.list.len();
                    let is_new = book.list.add(peer(p), source, book.now);
                    prop_assert!(book.list.len() <= before.max(12));
                    prop_assert!(!is_new || !book.list.is_banned(peer(p)));
                }
                Step::Tell(p, teller) => {
                    book.list.add(peer(p), PeerSource::Pex(peer(teller)), book.now);
                }
                Step::Untell(p, teller) => book.list.on_dropped(peer(p), peer(teller)),
                Step::Dial => if let Some(next) = book.list.next_dial(book.now, &mut book.rng) {
                    let state = book.list.known[&next].state;
                    prop_assert_eq!(state, State::Ready);
                    prop_assert!(!book.list.is_banned(next) && !book.list.own.contains(&next));
                    prop_assert!(!book.list.incoming.contains(&next));
                    let ip = next.socket_addr().ip();
                    prop_assert!(book.list.connected_from(ip) < cap);
                    book.list.on_dialling(next, book.now);
                },
                Step::Connected(p) => if book.list.known.get(&peer(p))
                    .is_some_and(|known| known.state == State::Dialling)
                {
                    book.list.on_connected(peer(p), book.now);
                },
                Step::Incoming(p) => book.list.on_incoming(peer(p)),
                Step::DialFailed(p) => book.list.on_dial_failed(peer(p), book.now),
                Step::Closed(p, useful) => book.list.on_closed(peer(p), book.now, useful),
                Step::Ban(p) => book.list.ban(peer(p)),
                Step::Seed(p) => book.list.on_seed(peer(p)),
                Step::Seeding(on) => book.list.set_seeding(on),
                Step::Own(p) => book.list.on_own(peer(p)),
                Step::Wait(s) => book.now += secs(s),
            }
            book.list.check_invariants();
        }
    }
}

fn addr(text: &str) -> PeerAddr {
    PeerAddr::Tcp(text.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(s: u64) -> Instant {
    Instant::START + secs(s)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn a_dial_says_who_named_the_address_and_whether_it_was_tried() {
    let mut book = book(&["8.1.1.1:1"]);
    let now = book.now;
    let teller = addr("8.9.9.9:1");
    book.list.add(addr("8.2.1.1:1"), PeerSource::User, now);
    book.list
        .add(addr("8.3.1.1:1"), PeerSource::Pex(teller), now);
    let reason = |book: &Book, text| book.list.dial_reason(addr(text));
    assert_eq!(reason(&book, "8.1.1.1:1"), DialReason::Tracker);
    assert_eq!(reason(&book, "8.2.1.1:1"), DialReason::User);
    assert_eq!(reason(&book, "8.3.1.1:1"), DialReason::Pex);
    for text in ["8.1.1.1:1", "8.2.1.1:1", "8.3.1.1:1"] {
        book.list.on_dialling(addr(text), now);
        book.list.on_dial_failed(addr(text), now);
        assert_eq!(reason(&book, text), DialReason::Retry);
    }
}
