//! Swarms that meet at our tracker: libtorrent and dunlin side by side, and a leech that dies.

use std::path::{Path, PathBuf};

use crate::fixture::{Running, Sandbox, Words};
use crate::libtorrent::Libtorrent;

use super::trees::{Data, assert_same};
use super::{create, get, number, seed};

const NAME: &str = "swarm.bin";
const PIECE_BYTES: u64 = 128 << 10;

/// A file, its tracker and its seed.
#[derive(Debug)]
struct Swarm {
    tracker: Running,
    seed: Running,
    torrent: PathBuf,
    source: PathBuf,
    sandbox: Sandbox,
}

impl Swarm {
    /// `up` is the limit of the seed: it forces the leeches to trade.
    fn start(bytes: u64, up: &str) -> Self {
        let sandbox = Sandbox::new();
        let (source, torrent) = (sandbox.dir("source"), sandbox.path("it.torrent"));
        Data::new(21).file(&source.join(NAME), bytes);
        let (tracker, url) = sandbox.tracker();
        let words: Words<'_> = &[&"--tracker", &url, &"--piece-length", &"128K"];
        create(&sandbox, &source.join(NAME), &torrent, words);
        let mut seed = seed(&sandbox, &torrent, &source, &[&"--up", &up]);
        seed.addr();
        Self {
            tracker,
            seed,
            torrent,
            source,
            sandbox,
        }
    }

    fn get(&self, target: &Path, words: Words<'_>) -> Running {
        get(&self.sandbox, &self.torrent, target, words)
    }

    fn assert_same(&self, target: &Path) {
        assert_same(&self.source.join(NAME), &target.join(NAME));
    }

    /// Ends the seed and the tracker. Returns what the seed sent.
    fn stop(mut self) -> u64 {
        let sent = number(
            &self.seed.interrupt().expect(0).last_event("progress"),
            "uploaded",
        );
        self.tracker.interrupt();
        sent
    }
}

#[test]
fn three_libtorrents_and_three_of_us_finish_in_one_swarm() {
    let Some(libtorrent) = Libtorrent::find("a mixed swarm") else {
        return;
    };
    const BYTES: u64 = 32 << 20;
    let swarm = Swarm::start(BYTES, "8M");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for index in 0..3 {
        let target = swarm.sandbox.dir(&format!("dunlin {index}"));
        ours.push((swarm.get(&target, &[&"--seed", &"forever"]), target));
        let target = swarm.sandbox.dir(&format!("libtorrent {index}"));
        let leech = libtorrent.leech(&swarm.torrent, &target, &[&"--many-on-one-address"]);
        theirs.push((leech, target));
    }
    for (get, _) in &mut ours {
        let complete = get.wait_for("complete");
        assert_eq!(number(&complete, "bytes"), BYTES);
        assert_eq!(number(&complete, "failed_hash"), 0);
    }
    for (leech, _) in &mut theirs {
        let finished = leech.wait_for("finished");
        assert_eq!(number(&finished, "bytes"), BYTES);
        assert_eq!(
            number(&finished, "failed"),
            0,
            "libtorrent got a piece that is wrong"
        );
    }
    let mut traded = [0, 0];
    for (leech, target) in &mut theirs {
        traded[0] += number(
            &leech.interrupt().expect(0).last_event("stopped"),
            "uploaded",
        );
        swarm.assert_same(target);
    }
    for (get, target) in &mut ours {
        traded[1] += number(
            &get.interrupt().expect(0).last_event("progress"),
            "uploaded",
        );
        swarm.assert_same(target);
    }
    let sent = swarm.stop();
    println!(
        "sent: by the seed {sent}, by libtorrents {}, by us {}",
        traded[0], traded[1]
    );
    assert!(traded[0] > 0, "no libtorrent gave anything to anybody");
    assert!(traded[1] > 0, "none of us gave anything to anybody");
    assert!(
        sent < 4 * BYTES,
        "the seed sent {sent} bytes for six leeches: nobody traded"
    );
}

#[test]
fn a_leech_that_is_killed_midway_and_restarted_finishes() {
    const BYTES: u64 = 24 << 20;
    let swarm = Swarm::start(BYTES, "6M");
    let (steady, shaky) = (swarm.sandbox.dir("steady"), swarm.sandbox.dir("shaky"));
    let mut first = swarm.get(&steady, &[&"--seed", &"forever"]);
    let mut second = swarm.get(&shaky, &[]);
    second.wait_until("piece", |piece| {
        2 * number(piece, "have") >= number(piece, "total")
    });
    second.kill();
    assert!(
        !shaky.join(NAME).exists(),
        "an unfinished file has another name"
    );
    let complete = swarm
        .get(&shaky, &[])
        .finish()
        .expect(0)
        .last_event("complete");
    // What was verified but not saved yet is at most 4 MiB, or two seconds.
    let most = BYTES / 2 + (8 << 20) + PIECE_BYTES;
    assert!(number(&complete, "downloaded") <= most, "{complete}");
    first.wait_for("complete");
    first.interrupt().expect(0);
    swarm.assert_same(&steady);
    swarm.assert_same(&shaky);
    swarm.stop();
}

/// A leech with the even pieces and a leech with the odd ones have everything between them.
#[test]
fn libtorrent_and_we_complete_each_other() {
    let Some(libtorrent) = Libtorrent::find("two halves") else {
        return;
    };
    const BYTES: u64 = 16 << 20;
    let sandbox = Sandbox::new();
    let (source, torrent) = (sandbox.dir("source"), sandbox.path("it.torrent"));
    Data::new(22).file(&source.join(NAME), BYTES);
    create(
        &sandbox,
        &source.join(NAME),
        &torrent,
        &[&"--piece-length", &"128K"],
    );
    let whole = std::fs::read(source.join(NAME)).unwrap();
    let half = |target: &Path, parity: usize| {
        let mut bytes = whole.clone();
        for (index, piece) in bytes.chunks_mut(PIECE_BYTES as usize).enumerate() {
            if index % 2 == parity {
                piece.fill(0);
            }
        }
        std::fs::write(target.join(NAME), bytes).unwrap();
    };
    let (ours, theirs) = (sandbox.dir("ours"), sandbox.dir("theirs"));
    half(&ours, 0);
    half(&theirs, 1);
    let mut get = get(&sandbox, &torrent, &ours, &[&"--seed", &"forever"]);
    let mut leech = libtorrent.leech(&torrent, &theirs, &[&"--peer", &get.addr()]);
    let complete = get.wait_for("complete");
    let finished = leech.wait_for("finished");
    assert_eq!(number(&complete, "downloaded"), BYTES / 2);
    assert_eq!(number(&finished, "downloaded"), BYTES / 2);
    leech.interrupt().expect(0);
    get.interrupt().expect(0);
    assert_same(&source, &ours);
    assert_same(&source, &theirs);
}
