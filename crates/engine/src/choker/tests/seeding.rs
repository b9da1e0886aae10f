//! Whom a seed prefers: the fastest, or each in turn.

use super::*;

#[test]
fn seeding_by_speed_prefers_those_who_take_fastest() {
    let mut swarm = swarm(FASTEST, 2, "1 i 0 50\n 2 iu 900 10\n 3 i 0 300\n 4 i 0 200");
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(3), 300), (PeerKey(4), 200)]);
    assert_eq!(reason_of(&round, 3), ChokeReason::Preferred);
}

#[test]
fn round_robin_serves_everybody_alike() {
    // Everybody takes 1 MB/s: no speed wins.
    let mut swarm = idle_swarm(ROUND_ROBIN, 3, 13);
    let mut seconds = BTreeMap::new();
    for _ in 0..400 {
        let before = swarm.now;
        swarm.round();
        let next = swarm.choker.deadline();
        assert!(next > before);
        let held = next.since(swarm.now).as_secs();
        for peer in swarm.peers.iter_mut().filter(|peer| peer.unchoked) {
            *seconds.entry(peer.peer).or_insert(0) += held;
            peer.uploaded_since_unchoke += held * 1_000_000;
        }
    }
    let (least, most) = (
        seconds.values().min().unwrap(),
        seconds.values().max().unwrap(),
    );
    assert_eq!(seconds.len(), 13);
    assert!(*most as f64 <= *least as f64 * 1.25, "{seconds:?}");
}

#[test]
fn a_turn_lasts_until_two_mebibytes_or_six_intervals() {
    // Rounds that the first holder keeps its slot while another waits; `None`: for good.
    let turn = |bytes_a_round: u64| {
        let mut swarm = swarm(ROUND_ROBIN, 1, "1 iu 0 0\n 2 i 0 0\n 3 i 0 0");
        for round in 1.. {
            swarm.peer(1).uploaded_since_unchoke += bytes_a_round;
            let result = swarm.regular_round();
            if result.preferred[0].0 != PeerKey(1) {
                assert_eq!(
                    reason_of(&result, result.preferred[0].0.0),
                    ChokeReason::RoundRobin
                );
                return round;
            }
        }
        unreachable!()
    };
    assert_eq!(turn(2 * 1024 * 1024), 1);
    assert_eq!(turn(2 * 1024 * 1024 - 1), 2);
    assert_eq!(turn(700_000), 3);
    assert_eq!(turn(0), 6);
}

#[test]
fn a_turn_lasts_one_interval_at_least() {
    let mut swarm = swarm(ROUND_ROBIN, 1, "1 iu 0 0\n 2 i 0 0\n 3 i 0 0");
    swarm.now = swarm.choker.deadline();
    swarm.peer(1).unchoked_at = Some(swarm.now - secs(9));
    swarm.peer(1).uploaded_since_unchoke = 100 * TURN_BYTES;
    assert_eq!(swarm.round().preferred, [(PeerKey(1), 0)]);
    assert_ne!(swarm.regular_round().preferred, [(PeerKey(1), 0)]);
}

#[test]
fn a_turn_goes_on_while_nobody_waits() {
    let mut swarm = swarm(ROUND_ROBIN, 2, "1 iu 0 0\n 2 i 0 0\n 3 . 0 0");
    for _ in 0..20 {
        swarm.round();
        assert!(swarm.peer(1).unchoked);
        swarm.peer(1).uploaded_since_unchoke += 10_000_000;
    }
}

#[test]
fn whoever_waited_longest_has_the_next_turn() {
    let mut swarm = swarm(ROUND_ROBIN, 1, "1 iu 0 0\n 2 i 0 0\n 3 i 0 0\n 4 i 0 0");
    swarm.peer(2).connected_at = at(300);
    swarm.peer(3).connected_at = at(100);
    swarm.peer(4).connected_at = at(200);
    swarm.peer(1).uploaded_since_unchoke = TURN_BYTES;
    let round = swarm.round();
    assert_eq!(round.preferred, [(PeerKey(3), 0)]);
    // A newcomer waits behind those who were here before.
    let mut late = newcomer(5, swarm.now);
    late.interested = true;
    swarm.peers.push(late);
    swarm.peer(3).uploaded_since_unchoke = TURN_BYTES;
    let next = swarm.regular_round().preferred[0].0;
    assert!([2, 4].map(PeerKey).contains(&next), "{next:?}");
}

#[test]
fn what_a_gone_peer_left_is_forgotten() {
    let mut swarm = idle_swarm(ROUND_ROBIN, 2, 6);
    for _ in 0..30 {
        swarm.round();
    }
    for peer in 1..=6 {
        swarm.leave(PeerKey(peer));
    }
    let choker = &swarm.choker;
    assert!(choker.preferred.is_empty() && choker.turn_ended.is_empty());
    assert!(choker.was_optimistic.is_empty() && choker.optimistic.is_none());
}
