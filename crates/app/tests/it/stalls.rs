//! Many connections, some of which stall: the others are served as if these were not there.

use std::time::Duration;

use crate::crowd::{Crowd, Manner};
use crate::fixture::{PATIENCE, Running, Sandbox, Words, assert_same};
use crate::wire::Content;

/// How a peer can hold a seed up.
const OF_A_SEED: [Manner; 5] = [
    Manner::Silent,
    Manner::HalfHandshake,
    Manner::Mute,
    Manner::Deaf,
    Manner::SlowReader,
];

/// How a peer can hold a leech up.
const OF_A_LEECH: [Manner; 5] = [
    Manner::Silent,
    Manner::HalfHandshake,
    Manner::Mute,
    Manner::Withholder,
    Manner::Withholder,
];

fn add_stallers(crowd: &mut Crowd, addr: &str, manners: [Manner; 5], count: usize) {
    for manner in manners {
        crowd.add(addr, manner, count / 5);
    }
}

/// A dunlin that knows its torrent already, and where it listens.
fn start(sandbox: &Sandbox, command: &str, words: &[Words<'_>]) -> (Running, String) {
    let listen: Words<'_> = &[&"--listen", &"127.0.0.1:0", &"-q"];
    let mut dunlin = sandbox.start(command, &[words.concat().as_slice(), listen].concat());
    let addr = dunlin.addr();
    dunlin.wait_for("progress");
    (dunlin, addr)
}

#[test]
fn ninety_leeches_are_served_while_ten_others_stall() {
    let sandbox = Sandbox::new();
    let content = Content::new(&sandbox, "crowded.bin", 64 * 1024, 4);
    let words: Words<'_> = &[
        &content.torrent,
        &content.file,
        &"--max-peers",
        &"100",
        &"--preferred-neighbors",
        &"100",
    ];
    let (mut seed, addr) = start(&sandbox, "seed", &[words]);
    let mut crowd = Crowd::new(&content);
    add_stallers(&mut crowd, &addr, OF_A_SEED, 10);
    crowd.add(&addr, Manner::Leech, 90);
    let whole = u64::from(content.pieces * content.piece_len);
    let all_have = |crowd: &Crowd| {
        let mut leeches = crowd
            .fakes
            .iter()
            .filter(|fake| fake.manner == Manner::Leech);
        leeches.all(|fake| fake.bytes >= whole)
    };
    assert!(
        crowd.run(PATIENCE, all_have),
        "{:?}",
        lacking(&crowd, whole)
    );
    seed.interrupt().expect(0);
}

/// What those who did not get everything got.
fn lacking(crowd: &Crowd, whole: u64) -> Vec<(u64, bool)> {
    let leeches = crowd
        .fakes
        .iter()
        .filter(|fake| fake.manner == Manner::Leech);
    let lacking = leeches.filter(|fake| fake.bytes < whole);
    lacking.map(|fake| (fake.bytes, fake.is_closed)).collect()
}

#[test]
fn a_leech_completes_from_ninety_seeds_while_ten_others_stall() {
    let sandbox = Sandbox::new();
    let content = Content::new(&sandbox, "crowded.bin", 64 * 1024, 64);
    let words: Words<'_> = &[&content.torrent, &"-d", &"out", &"--max-peers", &"100"];
    let (mut get, addr) = start(&sandbox, "get", &[words]);
    let mut crowd = Crowd::new(&content);
    add_stallers(&mut crowd, &addr, OF_A_LEECH, 10);
    crowd.add(&addr, Manner::Seed, 90);
    let whole = u64::from(content.pieces * content.piece_len);
    crowd.run(PATIENCE, |crowd| {
        let is_over = |fake: &crate::crowd::Fake| fake.is_closed || fake.manner != Manner::Seed;
        crowd.bytes_of(Manner::Seed) >= whole && crowd.fakes.iter().all(is_over)
    });
    get.finish().expect(0);
    assert_same(&content.file, &sandbox.path("out/crowded.bin"));
}

/// Payload a second of the honest ones, alone and while fifty others stall.
fn rates(crowd: &mut Crowd, addr: &str, honest: Manner, stallers: [Manner; 5]) -> (f64, f64) {
    const WARM_UP: Duration = Duration::from_secs(4);
    const MEASURED: Duration = Duration::from_secs(6);
    let measure = |crowd: &mut Crowd| {
        crowd.run_for(WARM_UP);
        let (before, from) = (crowd.bytes_of(honest), crowd.now());
        crowd.run_for(MEASURED);
        (crowd.bytes_of(honest) - before) as f64 / (crowd.now() - from)
    };
    crowd.add(addr, honest, 450);
    let clean = measure(crowd);
    add_stallers(crowd, addr, stallers, 50);
    (clean, measure(crowd))
}

#[test]
fn of_500_connections_50_stall_and_the_others_keep_their_rate() {
    if !crate::limits::is_asked_for() {
        return;
    }
    println!("| dunlin is | honest | clean MB/s | while 50 stall MB/s | ratio |");
    println!("|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for (name, slots) in [("seed, 4 + 1 slots", "4"), ("seed, 500 slots", "500")] {
        let sandbox = Sandbox::new();
        let content = Content::new(&sandbox, "crowded.bin", 1 << 20, 16);
        let words: Words<'_> = &[&content.torrent, &content.file, &"--max-peers", &"600"];
        let more: Words<'_> = &[&"--preferred-neighbors", &slots];
        let (_seed, addr) = start(&sandbox, "seed", &[words, more]);
        let mut crowd = Crowd::new(&content);
        let (clean, stalled) = rates(&mut crowd, &addr, Manner::Leech, OF_A_SEED);
        ratios.push(tell(name, clean, stalled));
    }
    let sandbox = Sandbox::new();
    let content = Content::repeated(&sandbox, "crowded.bin", 1 << 20, 1600);
    let words: Words<'_> = &[&content.torrent, &"-d", &"out", &"--max-peers", &"600"];
    let (_get, addr) = start(&sandbox, "get", &[words]);
    let mut crowd = Crowd::new(&content);
    crowd.pace = Some(100_000);
    let (clean, stalled) = rates(&mut crowd, &addr, Manner::Seed, OF_A_LEECH);
    ratios.push(tell("leech, seeds give 100 kB/s each", clean, stalled));
    assert!(ratios.iter().all(|&ratio| ratio >= 0.9), "{ratios:?}");
}

fn tell(name: &str, clean: f64, stalled: f64) -> f64 {
    let ratio = stalled / clean;
    let (clean, stalled) = (clean / 1e6, stalled / 1e6);
    println!("| {name} | 450 | {clean:.1} | {stalled:.1} | {ratio:.2} |");
    ratio
}
