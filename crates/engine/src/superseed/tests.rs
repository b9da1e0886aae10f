use dunlin_metainfo::FileSpan;

use super::*;

const PIECE: u32 = 1 << 16;

fn seed(pieces: u32) -> SuperSeed {
    let len = u64::from(pieces) * u64::from(PIECE);
    let span = FileSpan { len, pad: false };
    let layout = Arc::new(Layout::new(u64::from(PIECE), [span]).unwrap());
    SuperSeed::new(layout, &mut Rng::new(1), |_| false)
}

fn none(seed: &SuperSeed) -> Bitfield {
    Bitfield::new(seed.layout.pieces())
}

fn reveal(seed: &mut SuperSeed, peer: u64, at: u64, window: u64) -> Vec<u32> {
    let now = Instant::from_micros(at * 1_000_000);
    let has = none(seed);
    let revealed = seed.reveal(now, &mut Rng::new(at), PeerKey(peer), &has, window);
    seed.check_invariants();
    revealed.into_iter().map(PieceIndex::get).collect()
}

fn serve(seed: &mut SuperSeed, peer: u64, at: u64, piece: u32, bytes: u32) {
    let piece = seed.layout.piece(piece).unwrap();
    let now = Instant::from_micros(at * 1_000_000);
    seed.on_served(now, PeerKey(peer), piece, bytes);
}

fn report(seed: &mut SuperSeed, peer: u64, piece: u32) {
    let piece = seed.layout.piece(piece).unwrap();
    seed.on_have(PeerKey(peer), piece);
    seed.check_invariants();
}

#[test]
fn a_peer_is_told_as_much_as_its_window_takes() {
    let mut seed = seed(400);
    seed.on_connected(PeerKey(1), Knows::Nothing);
    assert_eq!(reveal(&mut seed, 1, 0, 1).len(), 1);
    assert_eq!(reveal(&mut seed, 1, 0, 1).len(), 0);
    assert_eq!(reveal(&mut seed, 1, 0, 4 * u64::from(PIECE)).len(), 3);
    assert_eq!(reveal(&mut seed, 1, 0, u64::MAX).len(), OPEN_MAX - 4);
}

#[test]
fn nothing_is_told_twice_while_there_is_something_new() {
    let mut seed = seed(30);
    let mut told: Vec<u32> = Vec::new();
    for peer in 0..30 {
        seed.on_connected(PeerKey(peer), Knows::Nothing);
        told.extend(reveal(&mut seed, peer, 0, 1));
    }
    told.sort_unstable();
    assert_eq!(told, (0..30).collect::<Vec<_>>());
}

#[test]
fn untouched_goes_before_stalled_before_out_before_what_is_under_way() {
    let mut seed = seed(4);
    for peer in 1..=5 {
        seed.on_connected(PeerKey(peer), Knows::Nothing);
    }
    let told: Vec<u32> = (1..=4)
        .map(|peer| reveal(&mut seed, peer, 0, 1)[0])
        .collect();
    serve(&mut seed, 2, 0, told[1], 100);
    report(&mut seed, 3, told[2]);
    serve(&mut seed, 4, 6, told[3], 100);
    let second = reveal(&mut seed, 5, 6, u64::MAX);
    assert_eq!(second, [told[0], told[1], told[2], told[3]]);
}

#[test]
fn whoever_reports_nothing_is_not_waited_for() {
    let mut seed = seed(3 * OPEN_MAX as u32);
    seed.on_connected(PeerKey(1), Knows::Nothing);
    for _ in 0..3 * OPEN_MAX {
        let told = reveal(&mut seed, 1, 0, 1);
        assert_eq!(told.len(), 1);
        serve(&mut seed, 1, 0, told[0], PIECE);
    }
    assert!(reveal(&mut seed, 1, 0, 1).is_empty());
}

#[test]
fn a_piece_whose_holders_are_gone_is_told_again() {
    let mut seed = seed(1);
    for peer in [1, 2] {
        seed.on_connected(PeerKey(peer), Knows::Nothing);
    }
    let piece = reveal(&mut seed, 1, 0, 1)[0];
    report(&mut seed, 1, piece);
    assert!(seed.is_copied());
    seed.on_gone(PeerKey(1), &Bitfield::full(1), |_| false);
    seed.check_invariants();
    assert!(!seed.is_copied());
    assert_eq!(reveal(&mut seed, 2, 0, 1), [piece]);
}

#[test]
fn the_list_of_fresh_pieces_does_not_grow() {
    let mut seed = seed(3);
    for peer in 0..500 {
        seed.on_connected(PeerKey(peer), Knows::Nothing);
        assert_eq!(reveal(&mut seed, peer, 0, 1).len(), 1);
        let has = none(&seed);
        seed.on_gone(PeerKey(peer), &has, |_| false);
        assert!(seed.fresh.len() <= 3);
    }
}

#[test]
fn what_a_peer_takes_of_its_own_choice_is_not_told_to_another() {
    let mut seed = seed(2);
    seed.on_connected(PeerKey(1), Knows::Everything);
    seed.on_connected(PeerKey(2), Knows::Nothing);
    serve(&mut seed, 1, 0, 0, 100);
    seed.check_invariants();
    assert_eq!(reveal(&mut seed, 2, 0, 1), [1]);
}

#[test]
fn the_rest_is_told_once_and_first_what_the_peer_lacks() {
    let mut seed = seed(10);
    seed.on_connected(PeerKey(1), Knows::Nothing);
    let first = reveal(&mut seed, 1, 0, 1)[0];
    let mut has = none(&seed);
    let had = (first + 1) % 10;
    has.set(had);
    let rest = seed.tell_rest(PeerKey(1), &has, 8);
    assert_eq!(rest.len(), 8);
    assert!(
        rest.iter()
            .all(|piece| ![first, had].contains(&piece.get()))
    );
    assert!(seed.hides_from(PeerKey(1)));
    let last = seed.tell_rest(PeerKey(1), &has, 8);
    assert_eq!(last.len(), 1);
    assert!(!seed.hides_from(PeerKey(1)));
    assert!(seed.may_ask(PeerKey(1), seed.layout.piece(3).unwrap()));
}
