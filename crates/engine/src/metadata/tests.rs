use std::collections::VecDeque;

use dunlin_proto::peer::ut_metadata::METADATA_PIECE_LEN;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_oneof, proptest};

use super::*;

/// How a peer of a test behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Honest,
    /// Right sizes, wrong bytes.
    Liar,
    /// Wrong bytes of another length.
    SizeLiar(u32),
    /// Claims and never answers.
    Staller(Option<u32>),
    Rejecter,
    /// Answers each request after this time, with the right bytes.
    Slow(Duration),
    /// Answers each request after this time, with wrong bytes of this length.
    Dripper(u32, Duration),
    /// Says another length in its data than in its handshake.
    Turncoat,
    /// Claims nothing, and has it.
    Modest,
}

/// A fetch, its peers, and a clock.
struct Crowd {
    fetch: Fetch,
    info: Vec<u8>,
    kinds: Vec<Kind>,
    now: Instant,
    /// Answers under way.
    answers: BTreeMap<(Instant, u64), (PeerKey, u32)>,
    next: u64,
    asks: Vec<(Instant, PeerKey, u32)>,
    banned: BTreeSet<PeerKey>,
    hung_up: BTreeSet<PeerKey>,
    held_max: u64,
    done: Option<Duration>,
}

const LATENCY: Duration = Duration::from_millis(50);

impl Crowd {
    fn new(len: usize, kinds: &[Kind]) -> Self {
        let info = info(len);
        let now = Instant::from_micros(1_000_000);
        let mut fetch = Fetch::new(InfoHash::of(&info));
        for (number, kind) in (0..).zip(kinds) {
            let size = match kind {
                Kind::SizeLiar(size) | Kind::Dripper(size, _) => Some(*size),
                Kind::Staller(Some(size)) => Some(*size),
                Kind::Modest => None,
                _ => Some(len as u32),
            };
            let (key, addr) = peer(number);
            fetch.on_source(now, key, addr, size);
        }
        Self {
            fetch,
            info,
            kinds: kinds.to_vec(),
            now,
            answers: BTreeMap::new(),
            next: 0,
            asks: Vec::new(),
            banned: BTreeSet::new(),
            hung_up: BTreeSet::new(),
            held_max: 0,
            done: None,
        }
    }

    /// Goes on until the metadata is there or the time is over.
    fn run(mut self, limit: Duration) -> Self {
        let start = self.now;
        let mut next_tick = start + TICK;
        while self.done.is_none() && self.now.since(start) < limit {
            self.ask();
            let answer = self.answers.first_key_value().map(|(key, _)| *key);
            match answer.filter(|(at, _)| *at <= next_tick) {
                Some(at) => {
                    self.now = at.0;
                    let (key, piece) = self.answers.remove(&at).unwrap();
                    self.answer(key, piece, start);
                }
                None => {
                    self.now = next_tick;
                    next_tick += TICK;
                    self.fetch.tick(self.now);
                }
            }
            self.fetch.check_invariants();
            self.held_max = self.held_max.max(self.fetch.held_bytes());
        }
        self
    }

    fn ask(&mut self) {
        while let Some((key, piece)) = self.fetch.poll(self.now) {
            self.asks.push((self.now, key, piece));
            let delay = match self.kinds[key.0 as usize] {
                Kind::Staller(_) => continue,
                Kind::Slow(delay) | Kind::Dripper(_, delay) => delay,
                _ => LATENCY,
            };
            self.next += 1;
            self.answers
                .insert((self.now + delay, self.next), (key, piece));
        }
    }

    fn answer(&mut self, key: PeerKey, piece: u32, start: Instant) {
        if self.banned.contains(&key) || self.hung_up.contains(&key) {
            return;
        }
        let size = self.info.len() as u32;
        let (total, bytes) = match self.kinds[key.0 as usize] {
            Kind::Rejecter => return self.fetch.on_reject(self.now, key, piece),
            Kind::Liar => (size, junk(size, piece)),
            Kind::SizeLiar(size) | Kind::Dripper(size, _) => (size, junk(size, piece)),
            Kind::Turncoat => (size + 1, junk(size + 1, piece)),
            _ => (size, part(&self.info, piece)),
        };
        match self.fetch.on_data(self.now, key, piece, total, bytes) {
            Outcome::Pending => {}
            Outcome::Done { info, .. } => {
                assert_eq!(*info, self.info[..]);
                self.done = Some(self.now.since(start));
            }
            Outcome::Failed { from } => {
                if let [liar] = from[..] {
                    let key = PeerKey(u64::from(liar.socket_addr().port() - 1000));
                    self.banned.insert(key);
                    self.fetch.on_gone(key);
                }
            }
            Outcome::Nonsense => {
                self.hung_up.insert(key);
                self.fetch.on_gone(key);
            }
        }
    }

    /// The most requests for pieces that it was asked for before, to one peer in one second.
    fn re_requests_a_second(&self) -> usize {
        let mut worst = 0;
        for number in 0..self.kinds.len() as u64 {
            let (mut seen, mut again) = (BTreeSet::new(), VecDeque::new());
            for (at, _, piece) in self.asks.iter().filter(|ask| ask.1 == PeerKey(number)) {
                if !seen.insert(*piece) {
                    again.push_back(*at);
                }
                while let Some(first) = again.front()
                    && at.since(*first) >= Duration::from_secs(1)
                {
                    again.pop_front();
                }
                worst = worst.max(again.len());
            }
        }
        worst
    }

    fn assert_only_liars_banned(&self) {
        for key in self.banned.iter().chain(&self.hung_up) {
            let kind = self.kinds[key.0 as usize];
            let guilty = matches!(
                kind,
                Kind::Liar | Kind::SizeLiar(_) | Kind::Dripper(..) | Kind::Turncoat
            );
            assert!(guilty, "{kind:?} is no liar");
        }
    }
}

fn peer(number: u64) -> (PeerKey, PeerAddr) {
    let addr = ([127, 0, 0, 1], 1000 + number as u16);
    (PeerKey(number), PeerAddr::Tcp(addr.into()))
}

/// Bytes that nobody reads.
fn info(len: usize) -> Vec<u8> {
    let bytes = (0..len as u32).map(|at| (at.wrapping_mul(at) >> 7) as u8);
    bytes.collect()
}

fn part(info: &[u8], piece: u32) -> Vec<u8> {
    let mut parts = info.chunks(METADATA_PIECE_LEN as usize);
    parts.nth(piece as usize).unwrap_or_default().to_vec()
}

fn junk(size: u32, piece: u32) -> Vec<u8> {
    vec![0xbb; piece_len(size, piece).unwrap_or_default() as usize]
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn one_honest_peer_is_asked_for_each_piece_once() {
    let crowd = Crowd::new(100_000, &[Kind::Honest]).run(MINUTE);
    assert!(crowd.done.unwrap() < Duration::from_millis(400));
    let mut pieces: Vec<u32> = crowd.asks.iter().map(|ask| ask.2).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn several_peers_share_the_work() {
    let crowd = Crowd::new(2_000_000, &[Kind::Honest; 8]).run(MINUTE);
    assert!(crowd.done.is_some());
    for number in 0..8 {
        let asks = crowd.asks.iter().filter(|ask| ask.1 == PeerKey(number));
        let share = asks.count();
        assert!(
            (5..40).contains(&share),
            "peer {number} was asked {share} times"
        );
    }
    let pieces = ut_pieces(2_000_000);
    assert!(
        crowd.asks.len() <= pieces + 3 * END_GAME_PIECES,
        "{} requests",
        crowd.asks.len()
    );
}

fn ut_pieces(len: u32) -> usize {
    dunlin_proto::peer::ut_metadata::pieces(len) as usize
}

#[test]
fn a_liar_beside_an_honest_peer_harms_nobody() {
    for len in [9_000, 40_000, 1_000_000] {
        for kinds in [[Kind::Liar, Kind::Honest], [Kind::Honest, Kind::Liar]] {
            let crowd = Crowd::new(len, &kinds).run(MINUTE);
            assert!(crowd.done.unwrap() < Duration::from_secs(20), "{len} bytes");
            assert_eq!(crowd.re_requests_a_second(), 0, "{len} bytes");
            crowd.assert_only_liars_banned();
        }
    }
}

#[test]
fn nine_liars_and_one_honest_peer() {
    for len in [9_000, 40_000, 300_000] {
        for honest in 0..10 {
            let mut kinds = [Kind::Liar; 10];
            kinds[honest] = Kind::Honest;
            let crowd = Crowd::new(len, &kinds).run(MINUTE);
            let done = crowd.done.unwrap();
            assert!(done < Duration::from_secs(10), "{len} bytes take {done:?}");
            assert!(crowd.re_requests_a_second() <= 1, "{len} bytes");
            crowd.assert_only_liars_banned();
        }
    }
}

#[test]
fn a_majority_that_lies_about_the_length_does_not_win() {
    for sizes in [[20_000; 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [30_000_000; 9]] {
        let mut kinds: Vec<Kind> = sizes.map(Kind::SizeLiar).to_vec();
        kinds.push(Kind::Honest);
        let crowd = Crowd::new(50_000, &kinds).run(5 * MINUTE);
        assert!(crowd.done.unwrap() < Duration::from_secs(5), "{sizes:?}");
        crowd.assert_only_liars_banned();
    }
    // Different promises of nearly everything that may be held.
    let mut kinds: Vec<Kind> = (0..9).map(|n| Kind::SizeLiar(31_000_000 - n)).collect();
    kinds.push(Kind::Honest);
    let crowd = Crowd::new(12_000_000, &kinds).run(30 * MINUTE);
    assert!(crowd.done.is_some());
    assert!(crowd.held_max <= HELD_MAX);
}

#[test]
fn who_never_answers_is_passed_over() {
    for len in [9_000, 300_000] {
        for claim in [len as u32, 25_000_000] {
            let mut kinds = vec![Kind::Staller(Some(claim)); 9];
            kinds.push(Kind::Honest);
            let crowd = Crowd::new(len, &kinds).run(5 * MINUTE);
            let done = crowd.done.unwrap();
            assert!(done < Duration::from_secs(15), "{len} bytes take {done:?}");
            assert!(crowd.re_requests_a_second() <= 1);
            crowd.assert_only_liars_banned();
        }
    }
}

#[test]
fn a_rejecter_is_asked_ever_less_often() {
    let crowd = Crowd::new(9_000, &[Kind::Rejecter]).run(10 * MINUTE);
    assert!(crowd.done.is_none());
    assert!(crowd.re_requests_a_second() <= 1);
    assert!(crowd.asks.len() < 20, "{} requests", crowd.asks.len());
    let crowd = Crowd::new(100_000, &[Kind::Rejecter, Kind::Honest]).run(MINUTE);
    assert!(crowd.done.unwrap() < Duration::from_secs(2));
}

#[test]
fn slow_junk_gives_way_and_a_slow_honest_peer_gets_there() {
    let slow = Kind::Slow(Duration::from_millis(700));
    let drip = |n: u32| Kind::Dripper(29_000_000 + n, Duration::from_secs(4));
    let mut kinds: Vec<Kind> = (0..9).map(drip).collect();
    kinds.push(slow);
    let crowd = Crowd::new(6_000_000, &kinds).run(60 * MINUTE);
    assert!(crowd.done.is_some());
    crowd.assert_only_liars_banned();
}

#[test]
fn who_contradicts_himself_is_hung_up_on() {
    let crowd = Crowd::new(50_000, &[Kind::Turncoat, Kind::Honest]).run(MINUTE);
    assert!(crowd.done.is_some());
    assert_eq!(crowd.hung_up, [PeerKey(0)].into());
}

#[test]
fn who_claims_nothing_is_asked_now_and_then() {
    let crowd = Crowd::new(50_000, &[Kind::Modest]).run(2 * MINUTE);
    assert!(crowd.done.unwrap() < Duration::from_secs(32));
    let crowd = Crowd::new(50_000, &[Kind::Modest, Kind::Honest]).run(MINUTE);
    assert!(crowd.done.unwrap() < Duration::from_secs(1));
}

#[test]
fn ten_mib_and_more_arrive() {
    let len = METADATA_LEN_MAX as usize;
    let crowd = Crowd::new(len, &[Kind::Honest; 5]).run(5 * MINUTE);
    assert!(crowd.done.is_some());
}

#[test]
fn a_length_that_no_metadata_has_is_no_claim() {
    let mut fetch = Fetch::new(InfoHash::of(b"x"));
    let now = Instant::from_micros(1);
    for (number, size) in [(1, METADATA_LEN_MAX + 1), (2, u32::MAX), (3, 0)] {
        let (key, addr) = peer(number);
        fetch.on_source(now, key, addr, Some(size));
        assert!(!fetch.is_source(key));
    }
    assert_eq!(fetch.poll(now), None);
    assert_eq!(fetch.progress(), (0, None));
    // Nor when it comes with data, in answer to a probe.
    let later = now + Duration::from_secs(31);
    let (key, _) = fetch.poll(later).expect("a probe");
    let size = METADATA_LEN_MAX + 1;
    let outcome = fetch.on_data(later, key, 0, size, junk(size, 0));
    assert_eq!(outcome, Outcome::Nonsense);
    assert_eq!(fetch.held_bytes(), 0);
}

#[test]
fn what_was_not_asked_for_is_not_kept() {
    let info = info(50_000);
    let mut fetch = Fetch::new(InfoHash::of(&info));
    let now = Instant::from_micros(1);
    let (key, addr) = peer(1);
    fetch.on_source(now, key, addr, Some(50_000));
    for _ in 0..UNASKED_MAX {
        let outcome = fetch.on_data(now, key, 3, 50_000, part(&info, 3));
        assert_eq!(outcome, Outcome::Pending);
    }
    assert_eq!(fetch.held_bytes(), 0);
    let outcome = fetch.on_data(now, key, 3, 50_000, part(&info, 3));
    assert_eq!(outcome, Outcome::Nonsense);
    let (stranger, _) = peer(2);
    let outcome = fetch.on_data(now, stranger, 0, 50_000, part(&info, 0));
    assert_eq!(outcome, Outcome::Nonsense);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Liar),
        (1u32..200_000).prop_map(Kind::SizeLiar),
        prop::option::of(1u32..31_000_000).prop_map(Kind::Staller),
        Just(Kind::Rejecter),
        (1u64..4000).prop_map(|ms| Kind::Slow(Duration::from_millis(ms))),
        (1u32..31_000_000, 1u64..9000)
            .prop_map(|(size, ms)| Kind::Dripper(size, Duration::from_millis(ms))),
        Just(Kind::Turncoat),
        Just(Kind::Modest),
    ]
}

proptest! {
    #[test]
    fn with_one_honest_peer_it_always_arrives(
        len in 1usize..120_000,
        mut others in prop::collection::vec(kinds(), 0..12),
        place in any::<prop::sample::Index>(),
    ) {
        others.insert(place.index(others.len() + 1), Kind::Honest);
        let crowd = Crowd::new(len, &others).run(10 * MINUTE);
        prop_assert!(crowd.done.is_some());
        prop_assert!(crowd.re_requests_a_second() <= 10);
        crowd.assert_only_liars_banned();
    }
}
