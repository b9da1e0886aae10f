mod optimistic;
mod seeding;

use std::collections::btree_map::{BTreeMap, Entry};

use dunlin_proto::rng::Rng;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::*;

const LEECHING: Mode = Mode::Leeching(LeechStrategy::TitForTat);
const ROUND_ROBIN: Mode = Mode::Seeding(SeedStrategy::RoundRobin);
const FASTEST: Mode = Mode::Seeding(SeedStrategy::FastestUpload);

/// A choker, the peers it decides about, and a clock that jumps from round to round.
struct Swarm {
    choker: Choker,
    rng: Rng,
    now: Instant,
    mode: Mode,
    slots: usize,
    peers: Vec<Candidate>,
}

/// One line a peer: name, flags (`i`nterested, `s`nubbed, `u`nchoked, `.` none), the rate it gives
/// us, the rate we give it. They connected long ago. 10 s and 30 s, as BEP 3 has it.
fn swarm(mode: Mode, slots: usize, table: &str) -> Swarm {
    let now = at(1000);
    let peers = table
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let unchoked = fields[1].contains('u');
            Candidate {
                peer: PeerKey(fields[0].parse().unwrap()),
                interested: fields[1].contains('i'),
                snubbed: fields[1].contains('s'),
                down_rate: fields[2].parse().unwrap(),
                up_rate: fields[3].parse().unwrap(),
                connected_at: Instant::START,
                unchoked,
                unchoked_at: unchoked.then_some(now),
                uploaded_since_unchoke: 0,
                is_idle: false,
            }
        })
        .collect();
    Swarm {
        choker: Choker::new(slots, secs(10), secs(30), now),
        rng: Rng::new(1),
        now,
        mode,
        slots,
        peers,
    }
}

/// `count` interested peers, choked, with no rates.
fn idle_swarm(mode: Mode, slots: usize, count: u64) -> Swarm {
    let table: String = (1..=count).map(|peer| format!("{peer} i 0 0\n")).collect();
    swarm(mode, slots, &table)
}

impl Swarm {
    /// Jumps to the deadline, decides, obeys, and checks what holds after every round.
    fn round(&mut self) -> Round {
        self.now = self.now.max(self.choker.deadline());
        self.round_now()
    }

    fn round_now(&mut self) -> Round {
        let round =
            self.choker
                .rechoke(self.now, &mut self.rng, self.mode, &self.peers, self.slots);
        for &choice in &round.changes {
            self.obey(choice);
        }
        self.check(&round);
        round
    }

    /// Rounds until the next regular one.
    fn regular_round(&mut self) -> Round {
        loop {
            let round = self.round();
            if round.regular {
                return round;
            }
        }
    }

    fn admit(&mut self, peer: u64) -> Option<Choice> {
        let candidate = self.peer(peer).clone();
        let unchoked = self.unchoked().len();
        let choice = self
            .choker
            .admit(self.now, &candidate, unchoked, self.slots)?;
        assert_eq!(choice.peer, PeerKey(peer));
        assert!(choice.unchoke);
        self.obey(choice);
        assert!(self.unchoked().len() <= self.slots + 1);
        Some(choice)
    }

    fn obey(&mut self, choice: Choice) {
        let now = self.now;
        let peer = self.peer(choice.peer.0);
        assert_ne!(peer.unchoked, choice.unchoke, "{choice:?} changes nothing");
        peer.unchoked = choice.unchoke;
        if choice.unchoke {
            peer.unchoked_at = Some(now);
            peer.uploaded_since_unchoke = 0;
        }
    }

    fn check(&self, round: &Round) {
        let preferred: BTreeSet<_> = round.preferred.iter().map(|&(peer, _)| peer).collect();
        assert_eq!(
            preferred.len(),
            round.preferred.len(),
            "a peer is preferred twice"
        );
        assert!(preferred.len() <= self.slots);
        assert!(
            round
                .optimistic
                .is_none_or(|peer| !preferred.contains(&peer))
        );
        let mut chosen = preferred;
        chosen.extend(round.optimistic);
        assert_eq!(self.unchoked(), chosen, "all others are choked");
        for peer in &self.peers {
            assert!(peer.interested || !peer.unchoked, "a slot for nobody");
        }
        let interested = self
            .peers
            .iter()
            .filter(|peer| self.mode.admits(peer))
            .count();
        assert_eq!(round.preferred.len(), interested.min(self.slots));
        let waiting = self
            .peers
            .iter()
            .any(|peer| peer.interested && !peer.unchoked);
        assert!(round.optimistic.is_some() || !waiting, "somebody waits");
        assert!(round.preferred.is_sorted_by_key(|&(_, rate)| Reverse(rate)));
        assert!(self.choker.deadline() > self.now);
    }

    fn unchoked(&self) -> BTreeSet<PeerKey> {
        let unchoked = self.peers.iter().filter(|peer| peer.unchoked);
        unchoked.map(|peer| peer.peer).collect()
    }

    fn peer(&mut self, key: u64) -> &mut Candidate {
        self.peers
            .iter_mut()
            .find(|peer| peer.peer == PeerKey(key))
            .unwrap()
    }

    fn leave(&mut self, key: PeerKey) {
        self.peers.retain(|peer| peer.peer != key);
        self.choker.on_gone(key);
    }
}

#[test]
fn those_who_give_most_are_preferred_fastest_first() {
    let mut swarm = swarm(
        LEECHING,
        2,
        "1 i  50 900
         2 i 100   0
         3 i 300   0
         4 i 200  10
         5 .  999  0",
    );
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(3), 300), (PeerKey(4), 200)]);
    assert!([Some(PeerKey(1)), Some(PeerKey(2))].contains(&round.optimistic));
    assert_eq!(reason_of(&round, 3), ChokeReason::Preferred);
    assert_eq!(
        reason_of(&round, round.optimistic.unwrap().0),
        ChokeReason::Optimistic
    );
    assert_eq!(round.changes.len(), 3);
}

#[test]
fn a_slower_peer_loses_its_slot_and_hears_why() {
    let mut swarm = swarm(
        LEECHING,
        1,
        "1 i  300 0
         2 iu 200 0
         3 u  100 0
         4 ius 100 0",
    );
    // The optimistic slot goes to a choked peer while there is one; 1 becomes preferred, so none
    // is, and one of those who just lost their slot keeps it.
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(1), 300)]);
    assert_eq!(reason_of(&round, 3), ChokeReason::NotInterested);
    match round.optimistic.unwrap() {
        PeerKey(2) => assert_eq!(reason_of(&round, 4), ChokeReason::Snubbed),
        PeerKey(4) => assert_eq!(reason_of(&round, 2), ChokeReason::OthersFaster),
        other => panic!("{other:?} is optimistic"),
    }
}

#[test]
fn fewer_interested_peers_than_slots_are_all_preferred() {
    let mut swarm = swarm(LEECHING, 4, "1 i 0 0\n 2 . 500 0\n 3 i 7 0");
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(3), 7), (PeerKey(1), 0)]);
    assert_eq!(round.optimistic, None);
}

#[test]
fn without_slots_only_the_optimistic_peer_is_unchoked() {
    let mut swarm = swarm(LEECHING, 4, "1 i 10 0\n 2 i 20 0\n 3 iu 30 0");
    swarm.slots = 0;
    let round = swarm.round();
    assert_eq!(round.preferred, []);
    assert!(round.optimistic.is_some());
    assert_eq!(swarm.unchoked().len(), 1);
}

#[test]
fn nobody_interested_means_nobody_unchoked() {
    let mut swarm = swarm(LEECHING, 4, "1 u 10 0\n 2 . 20 0");
    let round = swarm.round();
    assert_eq!((round.preferred.len(), round.optimistic), (0, None));
    assert_eq!(swarm.unchoked().len(), 0);
}

#[test]
fn while_nobody_gives_anything_everybody_is_preferred_sometimes() {
    let mut swarm = idle_swarm(LEECHING, 2, 8);
    let mut rounds = BTreeMap::new();
    for _ in 0..100 {
        for (peer, _) in swarm.regular_round().preferred {
            *rounds.entry(peer).or_insert(0) += 1;
        }
    }
    assert_eq!(rounds.len(), 8);
    assert!(rounds.values().all(|&count| count >= 10), "{rounds:?}");
}

#[test]
fn regular_rounds_are_one_interval_apart_and_optimistic_ones_have_their_own() {
    let mut swarm = idle_swarm(LEECHING, 2, 12);
    swarm.choker = Choker::new(2, secs(10), secs(25), swarm.now);
    let start = swarm.now;
    let (mut regular, mut rotations) = (Vec::new(), Vec::new());
    let mut optimistic = None;
    let mut preferred = Vec::new();
    while swarm.now < start + secs(120) {
        // The preferred ones give something, or a draw of zeros would promote the optimistic one.
        let round = swarm.round();
        let t = swarm.now.since(start).as_secs();
        if round.regular {
            regular.push(t);
        } else {
            assert_eq!(
                round.preferred, preferred,
                "only the optimistic slot is due at {t} s"
            );
        }
        preferred.clone_from(&round.preferred);
        if round.optimistic != optimistic {
            rotations.push(t);
            optimistic = round.optimistic;
        }
        for peer in 1..=12 {
            let is_preferred = preferred.iter().any(|&(key, _)| key == PeerKey(peer));
            swarm.peer(peer).down_rate = if is_preferred { 100 } else { 0 };
        }
        preferred.iter_mut().for_each(|(_, rate)| *rate = 100);
    }
    assert_eq!(regular, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]);
    // Drawn in the first round, since then every 25 s.
    assert_eq!(rotations, [10, 35, 60, 85, 110]);
}

#[test]
fn a_round_for_the_optimistic_slot_leaves_the_preferred_ones_alone() {
    let mut swarm = swarm(
        LEECHING,
        2,
        "1 i 30 0\n 2 i 20 0\n 3 i 10 0\n 4 i 0 0\n 5 i 0 0",
    );
    let preferred = swarm.round().preferred;
    assert_eq!(preferred, [(PeerKey(1), 30), (PeerKey(2), 20)]);
    let optimistic = swarm.choker.optimistic().unwrap();
    let third = PeerKey(3 + u64::from(optimistic == PeerKey(3)));
    swarm.peer(third.0).down_rate = 900;
    swarm.choker.next_unchoking = at(2000);
    swarm.now = swarm.choker.deadline();
    let round = swarm.round_now();
    assert!(!round.regular);
    assert_eq!(round.preferred, preferred);
    assert_ne!(round.optimistic, Some(optimistic));
    // But a slot that became free is filled.
    swarm.peer(third.0).down_rate = 25;
    swarm.leave(PeerKey(1));
    let round = swarm.round();
    assert!(!round.regular);
    assert_eq!(round.preferred, [(third, 25), (PeerKey(2), 20)]);
    assert!(swarm.regular_round().regular);
}

#[test]
fn a_late_round_is_followed_by_a_whole_interval() {
    let mut swarm = idle_swarm(LEECHING, 2, 3);
    swarm.round();
    swarm.now += secs(17);
    swarm.round_now();
    assert_eq!(swarm.choker.deadline(), swarm.now + secs(10));
}

#[test]
fn a_snubbed_peer_gets_only_the_optimistic_slot() {
    let mut swarm = swarm(LEECHING, 2, "1 is 900 0\n 2 i 0 0\n 3 is 800 0");
    let mut optimistic = BTreeSet::new();
    for _ in 0..40 {
        let round = swarm.round();
        assert_eq!(round.preferred, [(PeerKey(2), 0)]);
        optimistic.extend(round.optimistic);
    }
    assert_eq!(optimistic, [1, 3].map(PeerKey).into());
    assert_eq!(swarm.admit(1).or(swarm.admit(3)), None);
}

#[test]
fn a_seed_does_not_ask_who_snubs_it() {
    for mode in [ROUND_ROBIN, FASTEST] {
        let mut swarm = swarm(mode, 2, "1 is 0 900\n 2 i 0 0");
        assert_eq!(
            swarm.round().preferred,
            [(PeerKey(1), 900), (PeerKey(2), 0)]
        );
    }
}

#[test]
fn a_free_slot_is_given_at_once() {
    let mut swarm = swarm(LEECHING, 2, "1 i 10 0\n 2 . 0 0\n 3 . 0 0\n 4 . 0 0");
    swarm.round();
    let reasons: Vec<_> = [2, 3, 4]
        .map(|peer| {
            swarm.peer(peer).interested = true;
            swarm.admit(peer).map(|choice| choice.reason)
        })
        .into();
    assert_eq!(
        reasons,
        [
            Some(ChokeReason::FreeSlot),
            Some(ChokeReason::Optimistic),
            None
        ]
    );
    assert_eq!(swarm.choker.optimistic(), Some(PeerKey(3)));
    assert!(swarm.choker.is_preferred(PeerKey(2)));
}

#[test]
fn nobody_is_admitted_who_is_not_interested_or_has_a_slot() {
    let mut swarm = swarm(LEECHING, 4, "1 . 10 0\n 2 iu 0 0");
    assert_eq!(swarm.admit(1), None);
    assert_eq!(swarm.admit(2), None);
}

#[test]
fn the_session_may_lower_the_number_of_slots_but_not_raise_it() {
    let mut swarm = idle_swarm(LEECHING, 2, 6);
    swarm.slots = 100;
    for peer in 1..=6 {
        assert_eq!(swarm.admit(peer).is_some(), peer <= 3);
    }
    let round = swarm
        .choker
        .rechoke(swarm.now, &mut swarm.rng, LEECHING, &swarm.peers, 100);
    assert_eq!(round.preferred.len(), 2);
}

#[test]
fn flapping_interest_wins_one_slot_an_interval_at_most() {
    let mut swarm = swarm(LEECHING, 2, "1 . 0 0");
    let mut unchokes = 0;
    let mut rounds = 0;
    for _ in 0..100 {
        swarm.now += secs(1);
        swarm.peer(1).interested ^= true;
        unchokes += usize::from(swarm.admit(1).is_some());
        if swarm.choker.deadline() <= swarm.now {
            swarm.round();
            rounds += 1;
        }
    }
    assert!(
        (1..=rounds + 1).contains(&unchokes),
        "{unchokes} in {rounds} rounds"
    );
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let run = || {
        let mut swarm = idle_swarm(LEECHING, 3, 20);
        (0..50).map(|_| swarm.round()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// What may happen between two rounds.
#[derive(Clone, Debug)]
enum Step {
    Round,
    Early,
    Wait(u64),
    Interest(u64, bool),
    Rates(u64, u64, u64),
    Snubbed(u64, bool),
    Join(u64),
    Leave(u64),
    Slots(usize),
    Mode(Mode),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1..12u64;
    prop_oneof![
        6 => Just(Step::Round),
        1 => Just(Step::Early),
        2 => (0..40_000u64).prop_map(Step::Wait),
        6 => (peer.clone(), any::<bool>()).prop_map(|(peer, on)| Step::Interest(peer, on)),
        4 => (peer.clone(), 0..5u64, 0..5u64).prop_map(|(peer, d, u)| Step::Rates(peer, d, u)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, on)| Step::Snubbed(peer, on)),
        4 => peer.clone().prop_map(Step::Join),
        2 => peer.prop_map(Step::Leave),
        1 => (0..5usize).prop_map(Step::Slots),
        1 => prop_oneof![Just(LEECHING), Just(ROUND_ROBIN), Just(FASTEST)].prop_map(Step::Mode),
    ]
}

proptest! {
    // `Swarm::check` holds after every round, `Swarm::admit` never passes the cap.
    #[test]
    fn whatever_happens_only_the_chosen_are_unchoked(
        seed: u64,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut swarm = idle_swarm(LEECHING, 4, 0);
        swarm.rng = Rng::new(seed);
        let mut keys: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next_key = 100;
        for step in steps {
            match step {
                Step::Round => drop(swarm.round()),
                Step::Early => drop(swarm.round_now()),
                Step::Wait(ms) => swarm.now += Duration::from_millis(ms),
                Step::Interest(name, on) => if let Some(&key) = keys.get(&name) {
                    swarm.peer(key).interested = on;
                    if on {
                        swarm.admit(key);
                    }
                },
                Step::Rates(name, down, up) => if let Some(&key) = keys.get(&name) {
                    let peer = swarm.peer(key);
                    (peer.down_rate, peer.up_rate) = (down, up);
                    peer.uploaded_since_unchoke += up * 1_000_000;
                },
                Step::Snubbed(name, on) => if let Some(&key) = keys.get(&name) {
                    swarm.peer(key).snubbed = on;
                },
                Step::Join(name) => if let Entry::Vacant(entry) = keys.entry(name) {
                    entry.insert(next_key);
                    swarm.peers.push(newcomer(next_key, swarm.now));
                    next_key += 1;
                },
                Step::Leave(name) => if let Some(key) = keys.remove(&name) {
                    swarm.leave(PeerKey(key));
                },
                Step::Slots(slots) => swarm.slots = slots.min(4),
                Step::Mode(mode) => swarm.mode = mode,
            }
        }
    }
}

#[test]
fn who_is_preferred_without_being_faster_was_drawn() {
    let mut swarm = swarm(LEECHING, 2, "1 i 0 0\n 2 i 30 0\n 3 iu 0 0\n 4 iu 0 0");
    let round = swarm.round();
    for (peer, _) in round.preferred.iter().filter(|(_, rate)| *rate == 0) {
        assert_eq!(*peer, PeerKey(1), "the seed of this test draws the first");
        assert_eq!(reason_of(&round, 1), ChokeReason::Drawn);
    }
    assert_eq!(reason_of(&round, 2), ChokeReason::Preferred);
    let choked = round.changes.iter().filter(|choice| !choice.unchoke);
    for choice in choked {
        assert_eq!(choice.reason, ChokeReason::OthersDrawn, "{choice:?}");
    }
}

#[test]
fn who_has_just_come_gets_the_optimistic_slot_as_a_newcomer() {
    let mut swarm = swarm(LEECHING, 1, "1 i 100 0");
    swarm.peers.push(Candidate {
        interested: true,
        ..newcomer(2, swarm.now)
    });
    let round = swarm.round();
    assert_eq!(round.optimistic, Some(PeerKey(2)));
    assert_eq!(reason_of(&round, 2), ChokeReason::Newcomer);
}

#[test]
fn a_slot_that_another_torrent_took_is_no_verdict_on_the_peer() {
    let mut swarm = swarm(
        LEECHING,
        3,
        "1 iu 300 0\n 2 iu 200 0\n 3 iu 100 0\n 4 i 0 0",
    );
    swarm.slots = 1;
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(1), 300)]);
    for peer in [2, 3] {
        assert_eq!(reason_of(&round, peer), ChokeReason::SlotsElsewhere);
    }
}

fn newcomer(peer: u64, now: Instant) -> Candidate {
    Candidate {
        peer: PeerKey(peer),
        interested: false,
        snubbed: false,
        down_rate: 0,
        up_rate: 0,
        connected_at: now,
        unchoked: false,
        unchoked_at: None,
        uploaded_since_unchoke: 0,
        is_idle: false,
    }
}

fn reason_of(round: &Round, peer: u64) -> ChokeReason {
    let mut changes = round
        .changes
        .iter()
        .filter(|choice| choice.peer == PeerKey(peer));
    let reason = changes.next().expect("the peer's state changes").reason;
    assert_eq!(changes.next(), None, "changed twice");
    reason
}

fn at(s: u64) -> Instant {
    Instant::START + secs(s)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
