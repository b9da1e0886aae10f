mod addresses;

use super::*;
use dunlin_proto::rng::Rng;
use proptest::prelude::*;

const INTERVAL: Duration = Duration::from_secs(100);

fn limits() -> Limits {
    Limits {
        interval: INTERVAL,
        ..Limits::default()
    }
}

struct Tracker {
    table: Table,
    rng: Rng,
    now: Instant,
    /// Carried by UDP of this family.
    only: Option<Family>,
}

impl Tracker {
    fn new(limits: Limits) -> Self {
        Self {
            table: Table::new(limits),
            rng: Rng::new(1),
            now: Instant::START,
            only: None,
        }
    }

    fn ask(&mut self, from: &str, query: &AnnounceQuery) -> Result<AnnounceReply, Refusal> {
        self.ask_by(from, None, query)
    }

    /// `reached_at` is the tracker's address as the asker reaches it.
    fn ask_by(
        &mut self,
        from: &str,
        reached_at: Option<&str>,
        query: &AnnounceQuery,
    ) -> Result<AnnounceReply, Refusal> {
        let addr: SocketAddr = from.parse().unwrap();
        let asker = Asker {
            ip: addr.ip(),
            reached_at: reached_at.map(|ip| ip.parse().unwrap()),
            only: self.only,
        };
        let query = AnnounceQuery {
            port: addr.port(),
            ..query.clone()
        };
        let reply = self.table.announce(self.now, &mut self.rng, &query, &asker);
        self.table.check_invariants();
        reply
    }

    /// The addresses that are told to a peer of torrent 1, sorted.
    fn told(&mut self, from: &str, query: &AnnounceQuery) -> Vec<String> {
        let peers = self.ask(from, query).unwrap().peers;
        sorted(&peers)
    }

    /// The same for one who reaches the tracker at `at`.
    fn told_at(&mut self, at: &str, from: &str) -> Vec<String> {
        let peers = self.ask_by(from, Some(at), &leech()).unwrap().peers;
        sorted(&peers)
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn sorted(peers: &[(PeerId, SocketAddr)]) -> Vec<String> {
    let mut peers: Vec<_> = peers.iter().map(|(_, addr)| addr.to_string()).collect();
    peers.sort();
    peers
}

fn torrent(number: u8) -> InfoHash {
    InfoHash::new([number; 20])
}

fn leech() -> AnnounceQuery {
    AnnounceQuery {
        info_hash: torrent(1),
        peer_id: PeerId::new([b'p'; 20]),
        port: 1,
        uploaded: 0,
        downloaded: 0,
        left: 100,
        event: AnnounceEvent::None,
        num_want: None,
    }
}

fn seed() -> AnnounceQuery {
    AnnounceQuery { left: 0, ..leech() }
}

fn stopped() -> AnnounceQuery {
    AnnounceQuery {
        event: AnnounceEvent::Stopped,
        ..leech()
    }
}

#[test]
fn peers_hear_of_each_other_but_not_of_themselves() {
    let mut tracker = Tracker::new(limits());
    assert!(tracker.told("10.0.0.1:1", &leech()).is_empty());
    assert_eq!(tracker.told("10.0.0.2:2", &leech()), ["10.0.0.1:1"]);
    assert_eq!(
        tracker.told("[fd00::3]:3", &leech()),
        ["10.0.0.1:1", "10.0.0.2:2"]
    );
    assert_eq!(
        tracker.told("10.0.0.1:1", &leech()),
        ["10.0.0.2:2", "[fd00::3]:3"]
    );
}

#[test]
fn swarms_are_separate() {
    let mut tracker = Tracker::new(limits());
    let other = AnnounceQuery {
        info_hash: torrent(2),
        ..leech()
    };
    tracker.told("10.0.0.1:1", &leech());
    assert!(tracker.told("10.0.0.2:2", &other).is_empty());
    assert_eq!((tracker.table.torrents(), tracker.table.peers()), (2, 2));
}

#[test]
fn a_reply_counts_the_swarm_and_names_the_intervals() {
    let mut tracker = Tracker::new(limits());
    tracker.told("10.0.0.1:1", &seed());
    let reply = tracker.ask("[::ffff:10.0.0.2]:2", &leech()).unwrap();
    assert_eq!((reply.complete, reply.incomplete), (1, 1));
    assert_eq!((reply.interval_s, reply.min_interval_s), (100, Some(60)));
    assert_eq!(reply.external_ip, Some([10, 0, 0, 2].into()));
}

#[test]
fn a_seed_is_not_given_other_seeds() {
    let mut tracker = Tracker::new(limits());
    tracker.told("10.0.0.1:1", &seed());
    tracker.told("10.0.0.2:2", &leech());
    tracker.told("10.0.0.3:3", &seed());
    assert_eq!(tracker.told("10.0.0.3:3", &seed()), ["10.0.0.2:2"]);
    assert_eq!(
        tracker.told("10.0.0.2:2", &leech()),
        ["10.0.0.1:1", "10.0.0.3:3"]
    );
    // The last leech is finished: seeds among themselves.
    assert!(tracker.told("10.0.0.2:2", &seed()).is_empty());
}

/// rqbit says so of a magnet.
#[test]
fn who_comes_with_nothing_left_and_no_event_hears_of_seeds_too() {
    let mut tracker = Tracker::new(limits());
    tracker.told("10.0.0.1:1", &seed());
    assert_eq!(tracker.told("10.0.0.3:3", &seed()), ["10.0.0.1:1"]);
    assert!(tracker.told("10.0.0.3:3", &seed()).is_empty());
}

/// aria2 says so of a magnet.
#[test]
fn who_starts_with_nothing_left_hears_of_leeches_and_then_of_seeds_once() {
    let mut tracker = Tracker::new(Limits {
        num_want_max: 3,
        ..limits()
    });
    let started = AnnounceQuery {
        event: AnnounceEvent::Started,
        ..seed()
    };
    tracker.told("10.0.0.1:1", &seed());
    tracker.told("10.0.0.2:2", &leech());
    assert_eq!(
        tracker.told("10.0.0.3:3", &started),
        ["10.0.0.1:1", "10.0.0.2:2"]
    );
    assert_eq!(tracker.told("10.0.0.3:3", &seed()), ["10.0.0.2:2"]);
    tracker.told("10.0.0.4:4", &leech());
    tracker.told("10.0.0.5:5", &leech());
    let crowded = tracker.told("10.0.0.3:3", &started);
    assert_eq!(crowded, ["10.0.0.2:2", "10.0.0.4:4", "10.0.0.5:5"]);
}

#[test]
fn a_partial_seed_is_no_downloader() {
    let mut tracker = Tracker::new(limits());
    let paused = AnnounceQuery {
        event: AnnounceEvent::Paused,
        ..leech()
    };
    tracker.told("10.0.0.1:1", &seed());
    tracker.told("10.0.0.2:2", &paused);
    tracker.told("10.0.0.3:3", &leech());
    let entry = ScrapeEntry {
        complete: 1,
        incomplete: 2,
        downloaded: 0,
        downloaders: Some(1),
    };
    assert_eq!(tracker.table.entry(&torrent(1)), Some(entry));
    // It wants nothing of those who have something, and others want something of it.
    assert_eq!(tracker.told("10.0.0.2:2", &paused), ["10.0.0.3:3"]);
    assert_eq!(
        tracker.told("10.0.0.3:3", &leech()),
        ["10.0.0.1:1", "10.0.0.2:2"]
    );
    // A paused seed is a seed.
    let seed = AnnounceQuery { left: 0, ..paused };
    tracker.told("10.0.0.2:2", &seed);
    let entry = tracker.table.entry(&torrent(1)).unwrap();
    assert_eq!((entry.complete, entry.downloaders), (2, Some(1)));
}

/// Threat 41: one sender with invented torrents must not lock others out.
#[test]
fn one_address_fills_only_its_share_of_the_tracker() {
    let mut tracker = Tracker::new(Limits {
        announced_per_address_max: 3,
        ..limits()
    });
    let of = |number| AnnounceQuery {
        info_hash: torrent(number),
        ..leech()
    };
    for (at, from) in ["8.8.8.8:1", "[2001:db8::1]:1"].into_iter().enumerate() {
        for number in 0..3 {
            assert!(tracker.ask(from, &of(number + 10 * at as u8)).is_ok());
        }
        let next = if at == 0 {
            "8.8.8.8:2"
        } else {
            "[2001:db8::9]:2"
        };
        assert_eq!(tracker.ask(next, &of(99)), Err(Refusal::TooManyFromAddress));
        // A torrent that is known anyway: answered, only not remembered.
        let peers = tracker.table.peers();
        assert!(tracker.ask(next, &of(1)).is_ok());
        assert_eq!(tracker.table.peers(), peers);
        // Others are welcome, and so is who is known already.
        assert!(tracker.ask("8.8.4.4:1", &of(at as u8 + 50)).is_ok());
        assert!(tracker.ask(from, &of(10 * at as u8)).is_ok());
    }
    for number in 100..110 {
        assert!(tracker.ask("127.0.0.1:1", &of(number)).is_ok());
    }
    // What is left or forgotten no longer counts.
    let stop = AnnounceQuery {
        event: AnnounceEvent::Stopped,
        ..of(0)
    };
    tracker.ask("8.8.8.8:1", &stop).unwrap();
    assert!(tracker.ask("8.8.8.8:1", &of(99)).is_ok());
    tracker.wait(200);
    tracker.table.expire(tracker.now, usize::MAX);
    tracker.table.check_invariants();
    assert_eq!((tracker.table.peers(), tracker.table.torrents()), (0, 0));
    assert!(tracker.ask("8.8.8.8:1", &of(98)).is_ok());
}

#[test]
fn a_peer_that_stays_away_for_two_intervals_is_forgotten() {
    let mut tracker = Tracker::new(limits());
    tracker.told("10.0.0.1:1", &leech());
    tracker.wait(100);
    tracker.told("10.0.0.2:2", &leech());
    tracker.wait(99);
    assert_eq!(
        tracker.told("10.0.0.3:3", &leech()),
        ["10.0.0.1:1", "10.0.0.2:2"]
    );
    tracker.wait(1);
    assert_eq!(tracker.told("10.0.0.3:3", &leech()), ["10.0.0.2:2"]);
    tracker.wait(50);
    tracker.told("10.0.0.3:3", &leech());
    assert_eq!(tracker.table.peers(), 2);
}

#[test]
fn forgotten_swarms_take_no_memory() {
    let mut tracker = Tracker::new(limits());
    for number in 0..10 {
        let query = AnnounceQuery {
            info_hash: torrent(number),
            ..leech()
        };
        tracker.told("10.0.0.1:1", &query);
        tracker.wait(10);
    }
    tracker.wait(125);
    // The round goes on where the last call stopped.
    for (visits, torrents) in [(1, 9), (2, 8), (100, 7), (100, 7)] {
        tracker.table.expire(tracker.now, visits);
        tracker.table.check_invariants();
        assert_eq!(tracker.table.torrents(), torrents);
    }
    tracker.wait(200);
    tracker.table.expire(tracker.now, usize::MAX);
    tracker.table.expire(tracker.now, usize::MAX);
    assert_eq!(tracker.table.memory(), 0);
}

#[test]
fn a_stopped_peer_leaves_at_once_and_is_told_nobody() {
    let mut tracker = Tracker::new(limits());
    tracker.told("10.0.0.1:1", &leech());
    tracker.told("10.0.0.2:2", &leech());
    assert!(tracker.told("10.0.0.1:1", &stopped()).is_empty());
    assert!(tracker.told("10.0.0.2:2", &leech()).is_empty());
    tracker.told("10.0.0.2:2", &stopped());
    tracker.told("10.0.0.2:2", &stopped());
    assert_eq!((tracker.table.torrents(), tracker.table.peers()), (0, 0));
}

#[test]
fn a_late_stop_of_the_old_process_does_not_remove_the_new_one() {
    let mut tracker = Tracker::new(limits());
    let new = AnnounceQuery {
        peer_id: PeerId::new([b'n'; 20]),
        ..leech()
    };
    tracker.told("10.0.0.1:1", &leech());
    tracker.told("10.0.0.1:1", &new);
    tracker.told("10.0.0.1:1", &stopped());
    let told = tracker.ask("10.0.0.2:2", &leech()).unwrap().peers;
    assert_eq!(told, [(new.peer_id, "10.0.0.1:1".parse().unwrap())]);
}

#[test]
fn a_finished_download_is_counted_once() {
    let mut tracker = Tracker::new(limits());
    let completed = AnnounceQuery {
        event: AnnounceEvent::Completed,
        ..seed()
    };
    tracker.told("10.0.0.1:1", &completed);
    tracker.told("10.0.0.2:2", &leech());
    tracker.told("10.0.0.2:2", &completed);
    tracker.told("10.0.0.2:2", &completed);
    let entry = ScrapeEntry {
        complete: 2,
        incomplete: 0,
        downloaded: 1,
        downloaders: Some(0),
    };
    assert_eq!(
        tracker.table.scrape(&[torrent(1), torrent(9)]),
        [(torrent(1), entry)]
    );
}

#[test]
fn as_many_peers_are_told_as_wanted_within_the_limit() {
    let mut tracker = Tracker::new(limits());
    for host in 1..=250 {
        tracker.told(&format!("10.0.0.{host}:1"), &leech());
    }
    for (num_want, told) in [
        (None, 50),
        (Some(0), 0),
        (Some(7), 7),
        (Some(200), 200),
        (Some(u32::MAX), 200),
    ] {
        let query = AnnounceQuery {
            num_want,
            ..leech()
        };
        let mut peers = tracker.told("10.0.0.1:1", &query);
        assert_eq!(peers.len(), told);
        peers.dedup();
        assert_eq!(peers.len(), told, "nobody twice");
    }
}

#[test]
fn every_peer_is_told_as_often_as_any_other() {
    let mut tracker = Tracker::new(limits());
    let mut counts = BTreeMap::new();
    for host in 1..=40 {
        let query = if host % 4 == 0 { seed() } else { leech() };
        tracker.told(&format!("10.0.0.{host}:1"), &query);
    }
    let query = AnnounceQuery {
        num_want: Some(10),
        ..leech()
    };
    for _ in 0..4000 {
        for addr in tracker.told("10.0.0.1:1", &query) {
            *counts.entry(addr).or_insert(0) += 1;
        }
    }
    // 4,000 x 10 draws over 39 peers: 1,026 each, standard deviation about 28.
    assert_eq!(counts.len(), 39);
    assert!(
        counts.values().all(|count| (900..1150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn the_limits_hold_and_known_peers_stay_welcome() {
    let mut tracker = Tracker::new(Limits {
        torrents_max: 2,
        peers_per_torrent_max: 3,
        ..limits()
    });
    for host in 1..=5 {
        tracker.told(&format!("10.0.0.{host}:1"), &leech());
    }
    assert_eq!(tracker.table.peers(), 3);
    // One that did not fit hears of others all the same.
    assert_eq!(tracker.told("10.0.0.5:1", &leech()).len(), 3);
    assert_eq!(tracker.told("10.0.0.1:1", &leech()).len(), 2);
    for (number, result) in [(2, true), (3, false), (1, true)] {
        let query = AnnounceQuery {
            info_hash: torrent(number),
            ..leech()
        };
        let expected = if result { Ok(()) } else { Err(Refusal::Full) };
        assert_eq!(tracker.ask("10.0.0.1:1", &query).map(|_| ()), expected);
    }
}

#[test]
fn one_address_fills_only_its_share_of_a_swarm() {
    let mut tracker = Tracker::new(Limits {
        peers_per_address_max: 2,
        ..limits()
    });
    for port in 1..=5 {
        tracker.told(&format!("10.0.0.1:{port}"), &leech());
        tracker.told(&format!("[2001:db8::{port}]:1"), &leech());
        tracker.told(&format!("127.0.0.1:{port}"), &leech());
    }
    tracker.told("10.0.0.2:1", &leech());
    tracker.told("[2001:db8:0:1::1]:1", &leech());
    assert_eq!(tracker.table.peers(), 2 + 2 + 5 + 1 + 1);
}

#[test]
fn memory_is_bounded_whatever_is_announced() {
    let memory_max = 20 * TORRENT_BYTES;
    let mut tracker = Tracker::new(Limits {
        memory_max,
        ..limits()
    });
    for number in 0..100 {
        let query = AnnounceQuery {
            info_hash: torrent(number),
            ..leech()
        };
        for host in 1..=number {
            let _ = tracker.ask(&format!("10.0.0.{host}:1"), &query);
        }
    }
    assert!(tracker.table.memory() > memory_max / 2);
    // A peer in the vector and in the index, each half empty.
    let places = size_of::<(SocketAddr, u64)>() + size_of::<(IpAddr, u32)>();
    assert!(2 * (size_of::<Peer>() + places) <= PEER_BYTES);
    assert!(2 * size_of::<(InfoHash, Swarm)>() <= TORRENT_BYTES / 2);
}

#[derive(Clone, Debug)]
struct Step {
    wait: u64,
    torrent: u8,
    host: u8,
    left: u64,
    event: AnnounceEvent,
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        3 => Just(AnnounceEvent::None),
        1 => Just(AnnounceEvent::Completed),
        1 => Just(AnnounceEvent::Stopped),
    ];
    (0u64..40, 0u8..3, 0u8..8, 0u64..2, event).prop_map(|(wait, torrent, host, left, event)| Step {
        wait,
        torrent,
        host,
        left,
        event,
    })
}

proptest! {
    /// Compared with a list of who announced when.
    #[test]
    fn everybody_who_may_be_told_is_told(steps in prop::collection::vec(step(), 1..80)) {
        let mut tracker = Tracker::new(limits());
        let mut known: BTreeMap<(u8, String), (Instant, bool)> = BTreeMap::new();
        for step in steps {
            tracker.wait(step.wait);
            let now = tracker.now;
            known.retain(|_, (at, _)| now.since(*at) < 2 * INTERVAL);
            let net = if step.host < 3 { "127.0.0" } else { "10.0.0" };
            let addr = format!("{net}.{}:1", step.host + 1);
            let query = AnnounceQuery {
                info_hash: torrent(step.torrent),
                left: step.left,
                event: step.event,
                ..leech()
            };
            let told = tracker.told(&addr, &query);
            let me = (step.torrent, addr.clone());
            if step.event == AnnounceEvent::Stopped {
                known.remove(&me);
                prop_assert!(told.is_empty());
                continue;
            }
            let comes = known.insert(me, (now, step.left == 0)).is_none()
                || step.event == AnnounceEvent::Started;
            let expected: Vec<String> = known
                .iter()
                .filter(|((torrent, other), (_, is_seed))| {
                    *torrent == step.torrent
                        && *other != addr
                        && !(*is_seed && step.left == 0 && !comes)
                        && (step.host < 3 || other.starts_with("10."))
                })
                .map(|((_, other), _)| other.clone())
                .collect();
            prop_assert_eq!(told, expected);
        }
    }
}
