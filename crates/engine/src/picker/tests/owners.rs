//! The end-game, and pieces that failed their hash.

use super::*;

#[test]
fn the_end_game_starts_when_every_missing_block_is_requested() {
    let mut swarm = swarm(
        "availability 2 2
         have         x .",
    );
    let (alice, bob) = (peer(1, "x x"), peer(2, "x x"));
    assert_eq!(swarm.pick(&alice, 1), "1:0");
    assert!(!swarm.picker.is_endgame());
    assert_eq!(swarm.pick(&bob, 1), "1:1");
    assert!(swarm.picker.is_endgame());
    assert_eq!(swarm.pick(&bob, 9), "1:0");
    assert_eq!(swarm.pick(&alice, 9), "1:1");
    assert_eq!(swarm.requesters("1:0"), [1, 2]);
}

#[test]
fn no_block_is_requested_twice_before_the_end_game() {
    let mut swarm = swarm("availability 2 1");
    swarm.pick(&peer(1, "x ."), 2);
    // Piece 1 is free, though not with this peer.
    assert_eq!(swarm.pick(&peer(2, "x ."), 9), "");
}

#[test]
fn after_an_abandoned_block_the_end_game_is_over() {
    let mut swarm = swarm("availability 2");
    swarm.pick(&peer(1, "x"), 2);
    assert!(swarm.picker.is_endgame());
    swarm.abandon("0:1", 1);
    assert!(!swarm.picker.is_endgame());
    assert_eq!(swarm.pick(&peer(2, "x"), 1), "0:1");
}

#[test]
fn a_block_has_two_requesters_at_most_while_they_answer() {
    let mut swarm = swarm("availability 4");
    swarm.pick(&peer(1, "x"), 2);
    assert_eq!(swarm.pick(&peer(2, "x"), 9), "0:1 0:0");
    assert_eq!(swarm.pick(&peer(3, "x"), 9), "");
    swarm.release(1);
    assert_eq!(swarm.pick(&peer(3, "x"), 9), "0:0 0:1");
    swarm.release(2);
    swarm.release(3);
    assert_eq!(swarm.pick(&peer(4, "x"), 9), "", "three in all");
}

#[test]
fn nobody_is_asked_twice_for_a_block() {
    let mut swarm = swarm("availability 1");
    let alice = peer(1, "x");
    swarm.pick(&alice, 2);
    assert_eq!(swarm.pick(&alice, 9), "");
}

#[test]
fn the_other_requesters_are_known_when_the_block_is_here() {
    let mut swarm = swarm("availability 2");
    swarm.pick(&peer(1, "x"), 2);
    swarm.pick(&peer(2, "x"), 9);
    assert_eq!(swarm.receive("0:0", 2), Arrival::New { piece_full: false });
    assert_eq!(swarm.requesters("0:0"), [1]);
    swarm.abandon("0:0", 1);
    assert!(swarm.requesters("0:0").is_empty());
    assert!(swarm.picker.is_endgame(), "a received block is not free");
    assert_eq!(swarm.receive("0:0", 1), Arrival::Duplicate);
}

#[test]
fn a_snubbed_peers_blocks_go_first_then_a_slow_ones_then_the_latest() {
    let mut swarm = swarm(
        "availability 2
         blocks       6",
    );
    let (mut fast, mut slow, mut mute) = (peer(1, "x"), peer(2, "x"), peer(3, "x"));
    (fast.rate, slow.rate, mute.rate) = (100, 5, 1000);
    assert_eq!(swarm.pick(&mute, 2), "0:0-1");
    assert_eq!(swarm.pick(&slow, 2), "0:2-3");
    assert_eq!(swarm.pick(&fast, 2), "0:4-5");
    swarm.release(3);
    assert_eq!(swarm.pick(&peer(4, "x"), 5), "0:1 0:0 0:3 0:2 0:5");
}

#[test]
fn blocks_with_fewest_requesters_go_first() {
    let mut swarm = swarm(
        "availability 2
         blocks       3",
    );
    swarm.pick(&peer(1, "x"), 3);
    swarm.pick(&peer(2, "x"), 1);
    swarm.abandon("0:1", 1);
    swarm.abandon("0:0", 1);
    // 0:2 has two requesters, the others one.
    swarm.pick(&peer(3, "x"), 2);
    assert_eq!(swarm.pick(&peer(4, "x"), 9), "0:1 0:0");
}

#[test]
fn a_peer_doubles_four_blocks_at_most_at_a_time() {
    let mut swarm = swarm(
        "availability 2
         blocks       8",
    );
    let bob = peer(2, "x");
    swarm.pick(&peer(1, "x"), 8);
    assert_eq!(swarm.pick(&bob, 9), "0:7 0:6 0:5 0:4");
    assert_eq!(swarm.pick(&bob, 9), "");
    swarm.receive("0:7", 2);
    assert_eq!(swarm.pick(&bob, 9), "0:3");
}

#[test]
fn what_only_a_snubbed_peer_owes_is_taken_over_whole() {
    let mut swarm = swarm(
        "availability 2
         blocks       8",
    );
    swarm.pick(&peer(1, "x"), 8);
    swarm.release(1);
    let taken = "0:7 0:6 0:5 0:4 0:3 0:2 0:1 0:0";
    assert_eq!(swarm.pick(&peer(2, "x"), 9), taken);
}

#[test]
fn a_snubbed_peer_doubles_nothing() {
    let mut swarm = swarm("availability 2");
    swarm.pick(&peer(1, "x"), 2);
    let mut bob = peer(2, "x");
    bob.snubbed = true;
    assert_eq!(swarm.pick(&bob, 9), "");
    bob.snubbed = false;
    assert_eq!(swarm.pick(&bob, 1), "0:1");
}

#[test]
fn the_end_game_asks_only_for_what_the_peer_offers() {
    let mut swarm = swarm("availability 2 1");
    swarm.pick(&peer(1, "x x"), 4);
    assert_eq!(swarm.pick(&peer(2, "x ."), 9), "0:1 0:0");
    let mut carol = peer(3, "x x");
    carol.only = Some(vec![swarm.piece(1)]);
    assert_eq!(swarm.pick(&carol, 1), "1:1");
    swarm
        .picker
        .set_piece_priority(swarm.piece(1), Priority::Skip);
    assert_eq!(swarm.pick(&peer(4, "x x"), 9), "");
}

/// Piece 0 of 2 came from two peers and was bad.
fn suspect() -> Swarm {
    let mut swarm = swarm(
        "availability 3 3
         blocks       3
         have         . x",
    );
    swarm.pick(&peer(1, "x x"), 2);
    swarm.pick(&peer(2, "x x"), 1);
    for (block, from) in [("0:0", 1), ("0:1", 1), ("0:2", 2)] {
        swarm.receive(block, from);
    }
    swarm.picker.on_piece_bad(swarm.piece(0));
    swarm.picker.check_invariants();
    swarm
}

#[test]
fn a_piece_that_failed_is_fetched_again_from_one_peer_only() {
    let mut swarm = suspect();
    assert_eq!(swarm.pick(&peer(2, "x x"), 1), "0:0");
    assert_eq!(swarm.pick(&peer(1, "x x"), 9), "");
    assert_eq!(swarm.pick(&peer(2, "x x"), 9), "0:1-2");
    assert!(swarm.picker.is_endgame());
    assert_eq!(
        swarm.pick(&peer(1, "x x"), 9),
        "",
        "not in the end-game either"
    );
}

#[test]
fn blocks_that_one_peer_owns_do_not_hold_up_the_end_game() {
    let mut swarm = swarm("availability 3 3");
    swarm.pick(&peer(1, "x ."), 2);
    swarm.receive("0:0", 1);
    swarm.receive("0:1", 1);
    swarm.picker.on_piece_bad(swarm.piece(0));
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, ". x"), 2), "1:0-1");
    assert_eq!(swarm.pick(&peer(3, "x x"), 9), "1:1 1:0");
}

#[test]
fn a_late_block_of_another_peer_is_not_mixed_into_a_piece_that_failed() {
    let mut swarm = suspect();
    assert_eq!(
        swarm.receive("0:0", 1),
        Arrival::Duplicate,
        "nobody owns it yet"
    );
    swarm.pick(&peer(2, "x x"), 9);
    assert_eq!(swarm.receive("0:0", 1), Arrival::Duplicate);
    assert_eq!(swarm.receive("0:0", 2), Arrival::New { piece_full: false });
}

#[test]
fn a_piece_that_failed_starts_again_when_its_peer_leaves() {
    let mut swarm = suspect();
    swarm.pick(&peer(2, "x x"), 2);
    swarm.receive("0:0", 2);
    assert!(swarm.release(1).is_empty());
    assert_eq!(swarm.release(2), [0]);
    assert!(swarm.release(2).is_empty());
    swarm.abandon("0:1", 2);
    assert_eq!(swarm.pick(&peer(1, "x x"), 9), "0:0-2");
    assert_eq!(swarm.pick(&peer(2, "x x"), 9), "");
}

#[test]
fn ownership_is_free_when_nothing_came_of_it() {
    let mut swarm = suspect();
    swarm.pick(&peer(2, "x x"), 1);
    assert!(swarm.release(2).is_empty(), "the disk knows nothing of it");
    swarm.pick(&peer(2, "x x"), 1);
    swarm.abandon("0:0", 2);
    assert_eq!(swarm.pick(&peer(3, "x x"), 9), "0:0-2");
}

#[test]
fn a_full_piece_is_judged_even_if_its_peer_left() {
    let mut swarm = suspect();
    swarm.pick(&peer(2, "x x"), 3);
    swarm.receive("0:0", 2);
    swarm.receive("0:1", 2);
    assert_eq!(swarm.receive("0:2", 2), Arrival::New { piece_full: true });
    assert!(swarm.release(2).is_empty());
    swarm.picker.on_piece_good(swarm.piece(0));
    assert_eq!(swarm.picker.wanted_left(), 0);
}

#[test]
fn a_good_piece_is_not_suspect_when_it_gets_lost() {
    let mut swarm = suspect();
    swarm.pick(&peer(2, "x x"), 3);
    swarm.picker.on_piece_good(swarm.piece(0));
    swarm.picker.on_piece_lost(swarm.piece(0));
    assert_eq!(swarm.pick(&peer(1, "x x"), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 1), "0:1");
}

#[test]
fn a_piece_that_fails_again_may_go_to_another_peer() {
    let mut swarm = suspect();
    swarm.pick(&peer(2, "x x"), 3);
    for block in ["0:0", "0:1", "0:2"] {
        swarm.receive(block, 2);
    }
    swarm.picker.on_piece_bad(swarm.piece(0));
    assert_eq!(swarm.pick(&peer(3, "x x"), 9), "0:0-2");
    assert_eq!(swarm.pick(&peer(2, "x x"), 9), "");
}

#[test]
fn a_snubbed_peer_does_not_keep_a_piece_that_failed() {
    let mut swarm = suspect();
    let mut mute = peer(2, "x x");
    mute.snubbed = true;
    assert_eq!(swarm.pick(&mute, 1), "0:0");
    assert_eq!(
        swarm.pick(&peer(3, ". x"), 9),
        "",
        "it has not got the piece"
    );
    assert_eq!(swarm.pick(&peer(1, "x x"), 9), "0:0-2");
    assert_eq!(swarm.receive("0:0", 2), Arrival::Duplicate);
    // What a peer gave before it was snubbed goes through `release`, for the disk's sake.
    assert_eq!(swarm.receive("0:0", 1), Arrival::New { piece_full: false });
    assert_eq!(swarm.pick(&peer(3, "x x"), 9), "");
}
