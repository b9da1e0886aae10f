//! The rules of the picker, one a test, on swarms drawn as a table: a column is a piece, and
//! blocks read `piece:block`.

mod drawing;
mod orders;
mod owners;
mod series;

use super::*;
use drawing::{Swarm, peer, swarm};

#[test]
fn rarest_piece_is_picked_first() {
    let mut swarm = swarm(
        "availability 3 1 2 0
         have         . . . .",
    );
    assert_eq!(swarm.pick(&peer(1, "x x x ."), 5), "1:0-1 2:0-1 0:0");
}

#[test]
fn what_we_have_and_what_the_peer_lacks_is_never_picked() {
    let mut swarm = swarm(
        "availability 1 1 2 1
         have         x . . .",
    );
    assert_eq!(swarm.pick(&peer(1, "x . x ."), 100), "2:0-1");
    assert!(!swarm.picker.is_wanted(swarm.piece(0)));
}

#[test]
fn a_have_makes_a_piece_less_rare() {
    let mut swarm = swarm("availability 2 1");
    swarm.picker.on_peer_have(swarm.piece(1));
    swarm.picker.on_peer_have(swarm.piece(1));
    assert_eq!(swarm.copies(), [2, 3]);
    assert_eq!(swarm.pick(&peer(1, "x x"), 1), "0:0");
}

#[test]
fn a_peer_that_goes_takes_its_copies_along() {
    let mut swarm = swarm("availability 3 2");
    swarm.picker.on_peer_bits_gone(&drawing::bits("x ."));
    swarm.picker.on_peer_bits_gone(&drawing::bits("x ."));
    assert_eq!(swarm.copies(), [1, 2]);
    assert_eq!(swarm.pick(&peer(1, "x x"), 1), "0:0");
}

#[test]
fn seeds_are_copies_of_every_piece() {
    let mut swarm = swarm("availability 1 0");
    swarm.picker.on_seed();
    swarm.picker.on_seed();
    assert_eq!(swarm.copies(), [3, 2]);
    swarm.picker.on_seed_gone();
    assert_eq!(swarm.copies(), [2, 1]);
    assert_eq!(swarm.pick(&drawing::seed(1), 3), "1:0-1 0:0");
}

#[test]
fn equally_rare_pieces_are_drawn_evenly() {
    let mut counts = [0; 6];
    for seed in 0..3000 {
        let mut swarm = swarm("availability 2 1 1 2 1 1");
        swarm.rng = Rng::new(seed);
        let pick = swarm.pick(&peer(1, "x x . x x x"), 1);
        counts[pick[..1].parse::<usize>().unwrap()] += 1;
    }
    let [zero, one, two, three, four, five] = counts;
    assert_eq!([zero, two, three], [0; 3]);
    assert!(
        [one, four, five]
            .iter()
            .all(|count| (900..1100).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_started_piece_wins_a_tie() {
    for seed in 0..50 {
        let mut swarm = swarm("availability 2 2 2 2");
        swarm.rng = Rng::new(seed);
        let begun = swarm.pick(&peer(1, "x x x x"), 1);
        let joined = swarm.pick(&peer(2, "x x x x"), 1);
        assert_eq!(begun[..1], joined[..1], "seed {seed}");
    }
}

#[test]
fn of_equal_started_pieces_the_one_nearest_its_end_goes_first() {
    let mut swarm = swarm(
        "availability 1 1
         blocks       4",
    );
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, ". x"), 2), "1:0-1");
    assert_eq!(swarm.pick(&peer(3, "x x"), 3), "1:2-3 0:1");
}

#[test]
fn a_rarer_new_piece_goes_before_a_started_one() {
    let mut swarm = swarm("availability 3 2");
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 1), "1:0");
}

#[test]
fn a_common_started_piece_goes_before_a_rarer_but_common_new_one() {
    let mut swarm = swarm("availability 6 4");
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 2), "0:1 1:0");
}

#[test]
fn a_rare_new_piece_goes_before_a_common_started_one() {
    let mut swarm = swarm("availability 6 3");
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 1), "1:0");
}

#[test]
fn a_peer_stays_with_its_piece_while_it_has_free_blocks() {
    let mut swarm = swarm(
        "availability 2 2
         blocks       3",
    );
    let alice = peer(1, "x x");
    assert_eq!(swarm.pick(&peer(2, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&alice, 1), "0:1");
    // Piece 0 gets commoner, but the choice was made.
    swarm.picker.on_peer_have(swarm.piece(0));
    assert_eq!(swarm.pick(&alice, 2), "0:2 1:0");
}

#[test]
fn with_enough_started_pieces_started_ones_go_first() {
    let drawing = "availability 3 3 3 1
                   blocks       3
                   started_max  2";
    let mut swarm = swarm(drawing);
    assert_eq!(swarm.pick(&peer(1, "x . . ."), 1), "0:0");
    // One started piece leaves room for the rare one.
    assert_eq!(swarm.pick(&peer(2, "x . . x"), 1), "3:0");

    let mut swarm = drawing::swarm(drawing);
    assert_eq!(swarm.pick(&peer(1, "x . . ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, ". x . ."), 1), "1:0");
    // When all of one is requested, there is room again.
    assert_eq!(swarm.pick(&peer(3, "x x x x"), 4), "0:1-2 3:0-1");
}

#[test]
fn no_peer_idles_because_enough_pieces_are_started() {
    let mut swarm = swarm(
        "availability 1 1 1 1
         started_max  1",
    );
    assert_eq!(swarm.pick(&peer(1, "x . . ."), 1), "0:0");
    assert_eq!(
        swarm.pick(&peer(2, ". x x ."), 4).len(),
        "1:0-1 2:0-1".len()
    );
    assert_eq!(swarm.picker.started_pieces(), 3);
}

#[test]
fn high_goes_before_normal_before_low_and_skipped_never() {
    let mut swarm = swarm(
        "availability 1 9 2 2
         priority     - h n l",
    );
    assert_eq!(swarm.pick(&peer(1, "x x x x"), 100), "1:0-1 2:0-1 3:0-1");
    assert_eq!(swarm.picker.wanted_left(), 3);
}

#[test]
fn a_more_urgent_new_piece_goes_before_a_started_one() {
    let mut swarm = swarm(
        "availability 1 9
         priority     n h
         started_max  1",
    );
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 3), "1:0-1 0:1");
}

#[test]
fn a_change_of_priority_calls_a_peer_away_from_its_piece() {
    let mut swarm = swarm("availability 1 2");
    let alice = peer(1, "x x");
    assert_eq!(swarm.pick(&alice, 1), "0:0");
    swarm
        .picker
        .set_piece_priority(swarm.piece(1), Priority::High);
    assert_eq!(swarm.pick(&alice, 3), "1:0-1 0:1");
}

#[test]
fn blocks_under_way_count_after_their_piece_is_skipped() {
    let mut swarm = swarm("availability 1 1");
    let alice = peer(1, "x .");
    assert_eq!(swarm.pick(&alice, 1), "0:0");
    swarm
        .picker
        .set_piece_priority(swarm.piece(0), Priority::Skip);
    assert_eq!(swarm.picker.wanted_left(), 1);
    assert!(!swarm.picker.is_missing(swarm.block("0:1")));
    assert_eq!(swarm.pick(&alice, 1), "");
    assert_eq!(swarm.receive("0:0", 1), Arrival::New { piece_full: false });
    swarm
        .picker
        .set_piece_priority(swarm.piece(0), Priority::Low);
    assert_eq!(swarm.pick(&alice, 9), "0:1");
}

#[test]
fn runs_hold_at_most_64_blocks_and_stop_at_a_gap() {
    let mut swarm = swarm(
        "availability 1
         blocks       150",
    );
    let alice = peer(1, "x");
    assert_eq!(swarm.pick(&alice, 149), "0:0-63 0:64-127 0:128-148");
    for block in ["0:3", "0:4", "0:70"] {
        swarm.picker.on_abandoned(swarm.block(block), alice.key);
    }
    assert_eq!(swarm.pick(&alice, 9), "0:3-4 0:70 0:149");
}

#[test]
fn a_peer_that_chokes_us_gives_allowed_fast_pieces_only() {
    let mut swarm = swarm("availability 1 2 1 2");
    let mut alice = peer(1, "x x . x");
    alice.only = Some(vec![swarm.piece(1), swarm.piece(2)]);
    assert_eq!(swarm.pick(&alice, 100), "1:0-1");
    alice.only = Some(Vec::new());
    assert_eq!(swarm.pick(&alice, 100), "");
    alice.only = Some(vec![swarm.piece(3), swarm.piece(0)]);
    assert_eq!(swarm.pick(&alice, 3), "0:0-1 3:0");
}

#[test]
fn a_block_is_new_once() {
    let mut swarm = swarm("availability 1 1");
    swarm.pick(&peer(1, "x ."), 2);
    assert_eq!(swarm.receive("0:1", 1), Arrival::New { piece_full: false });
    assert_eq!(swarm.receive("0:1", 1), Arrival::Duplicate);
    assert_eq!(swarm.receive("0:0", 1), Arrival::New { piece_full: true });
    swarm.picker.on_piece_good(swarm.piece(0));
    assert_eq!(swarm.receive("0:0", 1), Arrival::Duplicate);
    assert!(swarm.picker.have(swarm.piece(0)));
    assert_eq!(swarm.picker.wanted_left(), 1);
    assert_eq!(swarm.picker.started_pieces(), 0);
}

#[test]
fn a_full_piece_is_not_picked_while_its_hash_is_computed() {
    let mut swarm = swarm("availability 1 1");
    swarm.pick(&peer(1, "x ."), 2);
    swarm.receive("0:0", 1);
    swarm.receive("0:1", 1);
    assert_eq!(swarm.pick(&peer(2, "x x"), 9), "1:0-1");
}

#[test]
fn an_abandoned_block_is_free_for_others() {
    let mut swarm = swarm("availability 1");
    swarm.pick(&peer(1, "x"), 2);
    swarm.receive("0:1", 1);
    swarm.abandon("0:0", 1);
    assert_eq!(swarm.pick(&peer(2, "x"), 9), "0:0");
    // What was never asked of a peer cannot be abandoned by it.
    swarm.abandon("0:0", 1);
    assert_eq!(swarm.requesters("0:0"), [2]);
}

#[test]
fn a_piece_of_which_nothing_is_left_is_not_started_any_more() {
    let mut swarm = swarm("availability 2 1");
    swarm.pick(&peer(1, "x ."), 2);
    swarm.abandon("0:0", 1);
    assert_eq!(swarm.picker.started_pieces(), 1);
    swarm.abandon("0:1", 1);
    assert_eq!(swarm.picker.started_pieces(), 0);
    assert_eq!(swarm.pick(&peer(2, "x x"), 3), "1:0-1 0:0");
}

#[test]
fn a_late_block_of_an_abandoned_request_is_welcome_while_it_is_missing() {
    let mut swarm = swarm("availability 1");
    swarm.pick(&peer(1, "x"), 1);
    swarm.abandon("0:0", 1);
    assert!(swarm.picker.is_missing(swarm.block("0:0")));
    assert_eq!(swarm.receive("0:0", 1), Arrival::New { piece_full: false });
    assert!(!swarm.picker.is_missing(swarm.block("0:0")));
    assert_eq!(swarm.pick(&peer(2, "x"), 9), "0:1");
}

#[test]
fn a_lost_piece_is_fetched_again_but_not_what_is_under_way() {
    let mut swarm = swarm(
        "availability 1
         blocks       4",
    );
    swarm.pick(&peer(1, "x"), 3);
    swarm.receive("0:0", 1);
    swarm.receive("0:1", 1);
    swarm.picker.on_piece_lost(swarm.piece(0));
    assert_eq!(swarm.pick(&peer(2, "x"), 3), "0:0-1 0:3");
    assert_eq!(swarm.requesters("0:2"), [1]);
}

#[test]
fn a_verified_piece_can_be_lost_too() {
    let mut swarm = swarm(
        "availability 1 1
         have         x x",
    );
    swarm.picker.on_piece_lost(swarm.piece(1));
    assert_eq!(swarm.picker.wanted_left(), 1);
    assert_eq!(swarm.pick(&peer(1, "x x"), 9), "1:0-1");
}

#[test]
fn the_last_piece_is_full_with_its_own_blocks() {
    let mut swarm = Swarm::of_layout(2 * 16_384, &[(2 * 16_384 + 5, false)]);
    assert_eq!(swarm.pick(&peer(1, ". x"), 9), "1:0");
    assert_eq!(swarm.receive("1:0", 1), Arrival::New { piece_full: true });
}

#[test]
fn padding_is_never_requested() {
    // Piece 0: data, data and pad, pad. Piece 1: pad. Piece 2: data.
    let files = [(16_384 + 1, false), (5 * 16_384 - 1, true), (10, false)];
    let mut swarm = Swarm::of_layout(3 * 16_384, &files);
    let alice = drawing::seed(1);
    let picked = swarm.pick(&alice, 9);
    assert!(
        ["0:0-1 2:0", "2:0 0:0-1"].contains(&picked.as_str()),
        "{picked}"
    );
    assert!(!swarm.picker.is_missing(swarm.block("0:2")));
    assert_eq!(swarm.receive("0:0", 1), Arrival::New { piece_full: false });
    assert_eq!(swarm.receive("0:1", 1), Arrival::New { piece_full: true });
    let padding: Vec<_> = swarm.picker.padding_pieces().collect();
    assert_eq!(padding, [swarm.piece(1)]);
    swarm.picker.on_piece_good(swarm.piece(1));
    assert_eq!(swarm.picker.padding_pieces().count(), 0);
}

#[test]
fn nothing_wanted_means_nothing_to_pick() {
    let mut done = swarm(
        "availability 1 1
         have         x .
         priority     n -",
    );
    assert_eq!(done.pick(&drawing::seed(1), 9), "");
    assert!(!done.picker.is_endgame());
    let mut empty = Swarm::of_layout(16_384, &[(0, false)]);
    assert_eq!(empty.pick(&drawing::seed(1), 9), "");
}
