//! A seed that shows its pieces one by one (BEP 16), to its own kind and to strangers.

use crate::clients::{Kind, Limits, Network, Source, await_peers, complete};
use crate::fixture::{Running, Sandbox, Words};

use super::trees::{Data, sha256};
use super::{create, get, number, seed};

const NAME: &str = "super.bin";
const BYTES: u64 = 6 << 20;

/// Of the seed, in bytes per second: slow enough for leeches to have time to trade.
const UP: u64 = 1_500_000;

#[test]
fn aria2_transmission_and_libtorrent_complete_behind_a_super_seed() {
    const TEST: &str = "a super-seed and strangers";
    let Some(net) = Network::new(TEST, 5) else {
        return;
    };
    let [middle, home, a, b, c] = net.hosts();
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    let file = source.join(NAME);
    Data::new(16).file(&file, BYTES);
    let (_tracker, url) = sandbox.tracker_at(middle);
    let torrent = sandbox.path("it.torrent");
    let words: Words<'_> = &[&"--tracker", &url, &"--piece-length", &"64K"];
    let created = create(&sandbox, &file, &torrent, words);
    let info_hash = created["info_hash_v1"].as_str().unwrap();
    let mut leeches = Vec::new();
    // Transmission first: the others must dial it, see the matrix.
    for (kind, place) in [
        (Kind::Transmission, a),
        (Kind::Aria2, b),
        (Kind::Libtorrent, c),
    ] {
        let Some(mut client) = kind.start(TEST, &sandbox, place) else {
            return;
        };
        let target = sandbox.fresh_dir("target");
        let transfer = client.add(&Source::Torrent(&torrent), &target, Limits::NONE);
        leeches.push((kind, client, transfer, target));
        await_peers(middle, &url, info_hash, leeches.len() as u64);
    }
    let up = UP.to_string();
    let words: Words<'_> = &[&torrent, &source, &"--up", &up, &"--super-seed", &"on"];
    let mut seed = sandbox.start_at(home, "seed", words);
    for (kind, client, transfer, target) in &mut leeches {
        complete(&mut **client, *transfer);
        assert_eq!(sha256(&file), sha256(&target.join(NAME)), "{kind:?}");
    }
    // How much they pass on depends on when they find each other.
    let copies = [a, b, c].map(|place| net.moved(home, place) as f64 / BYTES as f64);
    println!("copies from the seed: {copies:.2?}");
    let events = seed.interrupt().expect(0).events;
    let mut told = events.iter().filter(|e| e["event"] == "super_seeding");
    assert!(told.next().is_some_and(|first| first["on"] == true));
}

#[test]
fn two_of_our_leeches_complete_behind_a_super_seed() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    let file = source.join(NAME);
    Data::new(17).file(&file, BYTES);
    let torrent = sandbox.path("it.torrent");
    create(&sandbox, &file, &torrent, &[&"--piece-length", &"64K"]);
    let words: Words<'_> = &[&"--super-seed", &"on", &"--up", &"4M"];
    let mut seed = seed(&sandbox, &torrent, &source, words);
    let addr = seed.addr();
    let mut leeches = [(); 2].map(|()| {
        let target = sandbox.fresh_dir("target");
        let words: Words<'_> = &[&"--peer", &addr, &"--seed", &"forever"];
        let get: Running = get(&sandbox, &torrent, &target, words);
        (get, target)
    });
    for (get, target) in &mut leeches {
        let complete = get.wait_for("complete");
        assert_eq!(number(&complete, "bytes"), BYTES);
        assert_eq!(number(&complete, "failed_hash"), 0);
        assert_eq!(sha256(&file), sha256(&target.join(NAME)));
    }
    seed.wait_until("super_seeding", |event| event["on"] == true);
    seed.wait_until("super_seeding", |event| event["on"] == false);
    seed.interrupt().expect(0);
}
