//! `kill -9` in the middle of a download: the next run continues, and little is done twice.

use std::path::Path;
use std::time::Duration;

use dunlin_proto::rng::Rng;
use serde_json::Value;

use crate::fixture::{Running, Sandbox, Words};
use crate::libtorrent::Libtorrent;

use super::trees::{Data, assert_same};
use super::{create, get, number};

const NAME: &str = "long.bin";
const BYTES: u64 = 1 << 30;
const PIECE_BYTES: u64 = 1 << 20;
const KILLS: u64 = 10;

/// What a restart may hash again, and what it may download again.
const RECHECK_BYTES_MAX: u64 = 64 << 20;
const AGAIN_BYTES_MAX: u64 = 16 << 20;

/// What a run found when it began, in bytes, and what of it had to be hashed.
#[derive(Debug)]
struct Run {
    had: u64,
    checked: u64,
}

impl Run {
    fn new(events: &[Value]) -> Self {
        let of = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
        let have = |event: &Value| number(event, "have") * PIECE_BYTES;
        Self {
            had: of("piece").next().map_or(BYTES, have) - PIECE_BYTES,
            checked: of("checking")
                .map(|event| number(event, "total"))
                .max()
                .unwrap_or(0),
        }
    }
}

/// Sorted points, one somewhere in each part of the download but the last.
fn kill_points(rng: &mut Rng) -> Vec<u64> {
    let span = BYTES / (KILLS + 1);
    (0..KILLS)
        .map(|index| index * span + PIECE_BYTES + rng.below(span - PIECE_BYTES))
        .collect()
}

/// What the seed has sent when the connection of a run is gone: each run has one.
fn sent(seed: &mut Running) -> u64 {
    seed.wait_until("alert", |alert| alert["kind"] == "peer_disconnected_alert");
    let progress = seed.wait_for("progress");
    assert_eq!(number(&progress, "peers"), 0, "a run has one connection");
    number(&progress, "uploaded")
}

fn start(sandbox: &Sandbox, torrent: &Path, target: &Path, addr: &str) -> Running {
    get(sandbox, torrent, target, &[&"--peer", &addr])
}

#[test]
fn a_download_that_is_killed_ten_times_goes_on_where_it_was() {
    let Some(libtorrent) = Libtorrent::find("kill -9 of a long download") else {
        return;
    };
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.dir("source"), sandbox.dir("target"));
    let torrent = sandbox.path("it.torrent");
    Data::new(41).file(&source.join(NAME), BYTES);
    create(
        &sandbox,
        &source.join(NAME),
        &torrent,
        &[&"--piece-length", &"1M"],
    );
    let words: Words<'_> = &[&"--trust", &"--seconds", &"300"];
    let mut seed = libtorrent.seed(&torrent, &source, words);
    let addr = seed.addr();
    seed.wait_for("ready");
    let mut rng = Rng::new(42);
    let (mut runs, mut counts) = (Vec::new(), vec![0]);
    for enough in kill_points(&mut rng) {
        let mut get = start(&sandbox, &torrent, &target, &addr);
        get.wait_until("piece", |piece| {
            number(piece, "have") * PIECE_BYTES >= enough
        });
        // Anywhere between two pieces, not only after one.
        std::thread::sleep(Duration::from_millis(rng.below(20)));
        get.kill();
        assert!(
            !target.join(NAME).exists(),
            "an unfinished file has another name"
        );
        runs.push(Run::new(&get.events));
        counts.push(sent(&mut seed));
    }
    let mut last = start(&sandbox, &torrent, &target, &addr);
    let complete = last.finish().expect(0).last_event("complete");
    assert_eq!(number(&complete, "bytes"), BYTES);
    assert_eq!(
        number(&complete, "failed_hash"),
        0,
        "a run claimed what it did not have"
    );
    runs.push(Run::new(&last.events));
    counts.push(sent(&mut seed));
    assert_same(&source, &target);
    let mut worst = 0;
    for ((index, runs), counts) in runs.windows(2).enumerate().zip(counts.windows(2)) {
        let again = counts[1] - counts[0] - (runs[1].had - runs[0].had);
        worst = worst.max(again);
        println!("{again} bytes of run {index} come again: {runs:?}");
        assert!(
            runs[1].checked <= RECHECK_BYTES_MAX,
            "too much is checked again"
        );
    }
    assert!(
        worst <= AGAIN_BYTES_MAX,
        "{worst} bytes of one run were lost"
    );
    let twice = counts.last().expect("there were runs") - BYTES;
    println!("{twice} bytes were sent twice in {KILLS} kills");
}
