use dunlin_proto::peer::ut_metadata::METADATA_PIECE_LEN;

use super::*;

fn peer(number: u64) -> (PeerKey, PeerAddr) {
    let addr = ([127, 0, 0, 1], 1000 + number as u16);
    (PeerKey(number), PeerAddr::Tcp(addr.into()))
}

/// Bytes that nobody reads.
fn info(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8)
        .collect()
}

fn part(info: &[u8], piece: u32) -> Vec<u8> {
    let mut parts = info.chunks(METADATA_PIECE_LEN as usize);
    parts.nth(piece as usize).unwrap_or_default().to_vec()
}

#[test]
fn one_honest_peer_is_enough() {
    let info = info(100_000);
    let mut fetch = Fetch::new(InfoHash::of(&info));
    let now = Instant::from_micros(1);
    let (key, addr) = peer(1);
    fetch.on_source(now, key, addr, Some(100_000));
    let mut asked = Vec::new();
    loop {
        let (from, piece) = fetch.poll(now).expect("there is more to ask for");
        assert_eq!(from, key);
        asked.push(piece);
        let outcome = fetch.on_data(now, key, piece, 100_000, part(&info, piece));
        fetch.check_invariants();
        if outcome != Outcome::Pending {
            let right = Outcome::Done {
                info: info.into(),
                from: vec![addr],
            };
            assert_eq!(outcome, right);
            break;
        }
    }
    assert_eq!(asked, [0, 1, 2, 3, 4, 5, 6]);
}
