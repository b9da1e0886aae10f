//! Whom the optimistic slot goes to, and for how long.

use super::*;

#[test]
fn the_optimistic_slot_reaches_everybody() {
    let mut swarm = swarm(
        LEECHING,
        1,
        "1 i 900 0\n 2 i 0 0\n 3 i 0 0\n 4 i 0 0\n 5 is 0 0\n 6 i 0 0",
    );
    let mut had = BTreeSet::new();
    let mut last = None;
    for _ in 0..60 {
        let round = swarm.round();
        if swarm.choker.next_optimistic == swarm.now + secs(30) {
            assert_ne!(round.optimistic, last, "it has to go to somebody else");
            last = round.optimistic;
            had.extend(round.optimistic);
        }
    }
    assert_eq!(had, [2, 3, 4, 5, 6].map(PeerKey).into());
}

#[test]
fn the_optimistic_slot_goes_to_a_choked_peer_if_there_is_one() {
    for seed in 0..20 {
        let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 iu 100 0\n 3 iu 50 0\n 4 i 0 0");
        swarm.rng = Rng::new(seed);
        assert_eq!(swarm.round().optimistic, Some(PeerKey(4)));
    }
}

#[test]
fn when_nobody_is_choked_it_goes_to_one_that_just_lost_its_slot() {
    for seed in 0..20 {
        let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0");
        swarm.rng = Rng::new(seed);
        assert_eq!(swarm.round().optimistic, Some(PeerKey(2)));
        swarm.peers.push(Candidate {
            interested: true,
            down_rate: 1000,
            ..newcomer(3, swarm.now)
        });
        swarm.now = swarm.choker.next_optimistic;
        swarm.choker.next_unchoking = swarm.now;
        let round = swarm.round_now();
        assert_eq!(round.preferred, [(PeerKey(3), 1000)]);
        assert_eq!(round.optimistic, Some(PeerKey(1)));
    }
}

#[test]
fn the_only_choked_peer_keeps_the_optimistic_slot() {
    let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0");
    for _ in 0..10 {
        assert_eq!(swarm.round().optimistic, Some(PeerKey(2)));
    }
    assert!(swarm.peer(2).unchoked);
}

#[test]
fn when_its_time_is_over_the_optimistic_peer_is_choked() {
    let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0\n 3 i 0 0");
    let first = swarm.round().optimistic.unwrap();
    swarm.now = swarm.choker.next_optimistic;
    let round = swarm.round_now();
    assert_ne!(round.optimistic, Some(first));
    assert_eq!(reason_of(&round, first.0), ChokeReason::TurnOver);
}

#[test]
fn a_new_optimistic_peer_is_drawn_when_the_old_one_loses_interest() {
    let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0\n 3 i 0 0");
    let first = swarm.round().optimistic.unwrap();
    swarm.peer(first.0).interested = false;
    let round = swarm.round();
    assert!(round.optimistic.is_some_and(|peer| peer != first));
    assert_eq!(reason_of(&round, first.0), ChokeReason::NotInterested);
}

#[test]
fn a_new_optimistic_peer_is_drawn_when_the_old_one_becomes_preferred() {
    let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0\n 3 i 0 0");
    let first = swarm.round().optimistic.unwrap();
    swarm.peer(first.0).down_rate = 1000;
    let round = swarm.round();
    assert_eq!(round.preferred, [(first, 1000)]);
    assert!(round.optimistic.is_some_and(|peer| peer != first));
    assert!(
        round.changes.iter().all(|choice| choice.peer != first),
        "it stays unchoked"
    );
    assert_eq!(swarm.choker.next_optimistic, swarm.now + secs(30));
}

#[test]
fn a_new_optimistic_peer_is_drawn_at_once_when_the_old_one_leaves() {
    let mut swarm = swarm(LEECHING, 1, "1 i 900 0\n 2 i 0 0\n 3 i 0 0");
    let first = swarm.round();
    swarm.now += secs(1);
    swarm.leave(first.optimistic.unwrap());
    assert!(swarm.choker.deadline() <= swarm.now);
    let round = swarm.round();
    assert!(!round.regular);
    assert_eq!(round.preferred, first.preferred);
    assert!(round.optimistic.is_some());
    // The departure of any other peer hurries nothing.
    swarm.leave(PeerKey(1));
    assert!(swarm.choker.deadline() > swarm.now);
}

#[test]
fn new_peers_are_three_times_as_likely_to_become_optimistic() {
    let share = |peers: &dyn Fn(&mut Swarm)| {
        let mut new_ones = 0;
        for seed in 0..4000 {
            let mut swarm = idle_swarm(LEECHING, 0, 8);
            swarm.rng = Rng::new(seed);
            peers(&mut swarm);
            let drawn = swarm.round().optimistic.unwrap();
            new_ones += u32::from(drawn.0 <= 4);
        }
        f64::from(new_ones) / 4000.0
    };
    let connected = |swarm: &mut Swarm, ago: Duration| {
        let round_at = swarm.choker.deadline();
        for peer in 1..=4 {
            swarm.peer(peer).connected_at = round_at - ago;
        }
    };
    // 4 x 3 tickets of 4 x 3 + 4; the standard error is 0.007.
    let new = share(&|swarm| connected(swarm, secs(89)));
    assert!((0.72..0.78).contains(&new), "{new}");
    let old = share(&|swarm| connected(swarm, secs(90)));
    assert!((0.47..0.53).contains(&old), "{old}");
    let had_it = share(&|swarm| {
        connected(swarm, secs(5));
        swarm.choker.was_optimistic.extend((1..=4).map(PeerKey));
    });
    assert!((0.47..0.53).contains(&had_it), "{had_it}");
}

#[test]
fn one_turn_makes_a_peer_as_likely_as_any_old_one() {
    let mut first_again = 0;
    for seed in 0..2000 {
        let mut swarm = idle_swarm(LEECHING, 0, 3);
        swarm.rng = Rng::new(seed);
        for peer in 1..=3 {
            swarm.peer(peer).connected_at = swarm.now;
        }
        let mut drawn = Vec::new();
        for s in [29, 59, 89] {
            swarm.now = at(1000 + s);
            swarm.choker.next_optimistic = swarm.now;
            drawn.extend(swarm.round_now().optimistic);
        }
        first_again += u32::from(drawn[2] == drawn[0]);
    }
    // One ticket against the three of the peer that never had it; the standard error is 20.
    assert!((420..580).contains(&first_again), "{first_again} of 2000");
}
