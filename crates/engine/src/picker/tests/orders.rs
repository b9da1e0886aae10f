//! Random and sequential order, and the random start of rarest first.

use super::*;

#[test]
fn sequential_takes_the_lowest_piece_however_common() {
    let mut swarm = swarm(
        "availability 9 5 1 2
         order        sequential",
    );
    assert_eq!(swarm.pick(&peer(1, ". x x x"), 3), "1:0-1 2:0");
    assert_eq!(swarm.pick(&peer(2, "x x x x"), 5), "0:0-1 2:1 3:0-1");
}

#[test]
fn sequential_goes_back_for_what_was_abandoned() {
    let mut swarm = swarm(
        "availability 1 1 1
         order        sequential",
    );
    let alice = peer(1, "x x x");
    assert_eq!(swarm.pick(&alice, 3), "0:0-1 1:0");
    swarm.receive("0:0", 1);
    swarm.abandon("0:1", 1);
    assert_eq!(swarm.pick(&alice, 2), "0:1 1:1");
}

#[test]
fn sequential_keeps_to_priorities() {
    let mut swarm = swarm(
        "availability 1 1 1 1
         priority     l n - n
         order        sequential",
    );
    assert_eq!(swarm.pick(&peer(1, "x x x x"), 9), "1:0-1 3:0-1 0:0-1");
}

#[test]
fn random_order_finishes_started_pieces_first() {
    for seed in 0..50 {
        let mut swarm = swarm(
            "availability 1 9 2 1 3
             order        random",
        );
        swarm.rng = Rng::new(seed);
        let begun = swarm.pick(&peer(1, "x x x x x"), 1);
        let joined = swarm.pick(&peer(2, "x x x x x"), 1);
        assert_eq!(begun[..1], joined[..1], "seed {seed}");
    }
}

#[test]
fn random_order_pays_no_heed_to_rarity() {
    let mut counts = [0; 4];
    for seed in 0..2000 {
        let mut swarm = swarm(
            "availability 1 9 5 1
             order        random",
        );
        swarm.rng = Rng::new(seed);
        let pick = swarm.pick(&peer(1, "x x x x"), 1);
        counts[pick[..1].parse::<usize>().unwrap()] += 1;
    }
    assert!(
        counts.iter().all(|count| (420..580).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn the_first_pieces_are_drawn_and_then_the_rarest_goes_first() {
    let mut rarest_was_first = 0;
    for seed in 0..200 {
        let mut swarm = swarm(
            "availability 3 3 3 1 3 3 2 3
             random_first 2",
        );
        swarm.rng = Rng::new(seed);
        let alice = peer(1, "x x x x x x x x");
        let first = swarm.pick(&alice, 2);
        let second = swarm.pick(&alice, 2);
        let third = swarm.pick(&alice, 2);
        rarest_was_first += u32::from(first == "3:0-1");
        let left = ["3:0-1", "6:0-1"];
        if let Some(rarest) = left
            .into_iter()
            .find(|&piece| piece != first && piece != second)
        {
            assert_eq!(third, rarest, "seed {seed}");
        }
    }
    assert!(
        (10..45).contains(&rarest_was_first),
        "{rarest_was_first} of 200"
    );
}

#[test]
fn the_first_pieces_are_finished_before_others_are_begun() {
    let mut swarm = swarm(
        "availability 3 1
         random_first 4",
    );
    assert_eq!(swarm.pick(&peer(1, "x ."), 1), "0:0");
    assert_eq!(swarm.pick(&peer(2, "x x"), 2), "0:1 1:0");
}

#[test]
fn what_is_on_disk_counts_as_first_pieces() {
    for seed in 0..50 {
        let mut swarm = swarm(
            "availability 3 3 1 3 3
             have         x x . . .
             random_first 2",
        );
        swarm.rng = Rng::new(seed);
        assert_eq!(swarm.pick(&peer(1, "x x x x x"), 1), "2:0", "seed {seed}");
    }
}

#[test]
fn random_order_does_not_correlate_with_the_index_and_sequential_does() {
    for seed in 0..20 {
        let random = correlation(&download(PieceOrder::Random, seed));
        assert!(random.abs() < 0.3, "seed {seed}: r = {random}");
        let rarest = correlation(&download(PieceOrder::RarestFirst, seed));
        assert!(rarest.abs() < 0.3, "seed {seed}: r = {rarest}");
        let sequential = download(PieceOrder::Sequential, seed);
        assert!(sequential.is_sorted(), "seed {seed}: {sequential:?}");
    }
}

#[test]
fn a_new_order_takes_effect_at_once() {
    let mut swarm = swarm(
        "availability 1 1 1
         blocks       3",
    );
    let alice = peer(1, "x x x");
    swarm.pick(&peer(2, ". . x"), 1);
    swarm.pick(&alice, 1);
    swarm.picker.set_order(PieceOrder::Sequential);
    assert_eq!(swarm.pick(&alice, 2), "0:0-1");
}

/// Indices of 128 pieces in the order in which they become full.
fn download(order: PieceOrder, seed: u64) -> Vec<u32> {
    let mut swarm = Swarm::of_layout(2 * 16_384, &[(128 * 2 * 16_384, false)]);
    swarm.rng = Rng::new(seed);
    swarm.picker.set_order(order);
    let alice = drawing::seed(1);
    let mut full = Vec::new();
    while swarm.picker.wanted_left() > 0 {
        let pick = swarm.pick(&alice, 1);
        if let (Arrival::New { piece_full: true }, Some((piece, _))) =
            (swarm.receive(&pick, 1), pick.split_once(':'))
        {
            let piece = swarm.piece(piece.parse().unwrap());
            swarm.picker.on_piece_good(piece);
            full.push(piece.get());
        }
    }
    assert_eq!(full.len(), 128);
    full
}

/// Pearson's r between the positions and the values.
fn correlation(values: &[u32]) -> f64 {
    let mean = (values.len() as f64 - 1.0) / 2.0;
    let (mut together, mut alone) = (0.0, 0.0);
    for (at, &value) in values.iter().enumerate() {
        together += (at as f64 - mean) * (f64::from(value) - mean);
        alone += (at as f64 - mean).powi(2);
    }
    together / alone
}
