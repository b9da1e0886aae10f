//! Peer exchange (BEP 11) between processes: peers meet whom nobody but another peer named.
//!
//! Every peer has an address of its own on loopback, so that an address tells who it is; libtorrent
//! takes one connection an address. What is said of a peer comes no earlier than 5 s after a
//! connection began, so the uploads are slow enough to last longer.

use std::path::{Path, PathBuf};

use crate::fixture::{Running, Sandbox, Words, assert_same};
use crate::libtorrent::Libtorrent;

/// A file and its torrent that names no tracker.
struct Share {
    sandbox: Sandbox,
    file: PathBuf,
    torrent: PathBuf,
}

impl Share {
    fn new(bytes: usize, words: Words<'_>) -> Self {
        let sandbox = Sandbox::new();
        let file = sandbox.random("data/thing.bin", bytes, 11);
        let torrent = sandbox.create(&file, words);
        Self {
            sandbox,
            file,
            torrent,
        }
    }

    fn seed(&self, listen: &str, words: Words<'_>) -> Running {
        let start: Words<'_> = &[&self.torrent, &"data", &"--listen", &listen];
        self.sandbox.start("seed", &[start, words].concat())
    }

    /// A download into the folder that is named like the address.
    fn get(&self, listen: &str, words: Words<'_>) -> Running {
        let dir = self.folder(listen);
        let start: Words<'_> = &[&self.torrent, &"--listen", &listen, &"-d", &dir];
        let start = [start, &[&"--seed", &"forever"], words].concat();
        self.sandbox.start("get", &start)
    }

    fn folder(&self, listen: &str) -> PathBuf {
        self.sandbox.path(listen.split(':').next().unwrap())
    }

    fn assert_complete(&self, folder: &Path) {
        assert_same(&self.file, &folder.join("thing.bin"));
    }
}

/// Waits until the process is connected with whoever lives at this address, whatever the ports.
#[track_caller]
fn await_connection(process: &mut Running, with: &str) {
    let ip = |addr: &str| addr.split(':').next().unwrap().to_owned();
    process.wait_until("connected", |event| {
        ip(event["peer"].as_str().unwrap()) == ip(with)
    });
}

const A: &str = "127.0.0.11:0";
const B: &str = "127.0.0.12:0";
const C: &str = "127.0.0.13:0";
const D: &str = "127.0.0.14:0";

/// Wherever on loopback libtorrent listens, it dials from here, first by uTP, which takes 4 s.
const LIBTORRENT: &str = "127.0.0.1:0";

/// A seeds; of the others each is told of the one before it. B is killed when C has met A, of whom
/// nobody told it but B: without that connection C and D would never end.
#[test]
fn a_chain_of_neighbours_becomes_a_swarm() {
    let share = Share::new(10_000_000, &[]);
    let mut a = share.seed(A, &[&"--up", &"800K"]);
    let a_addr = a.addr();
    let mut b = share.get(B, &[&"--peer", &a_addr, &"--up", &"300K"]);
    let mut c = share.get(C, &[&"--peer", &b.addr(), &"--up", &"800K"]);
    let mut d = share.get(D, &[&"--peer", &c.addr()]);
    await_connection(&mut c, A);
    b.kill();
    for (leech, listen) in [(&mut c, C), (&mut d, D)] {
        leech.wait_for("complete");
        leech.interrupt().expect(0);
        share.assert_complete(&share.folder(listen));
    }
    a.interrupt().expect(0);
}

/// The tracker knows A and B when it dies. C is told of B alone, hears of A, and does without B.
#[test]
fn a_swarm_outlives_its_tracker_and_the_peer_that_was_told() {
    let sandbox = Sandbox::new();
    let (mut tracker, url) = sandbox.tracker();
    let share = Share::new(10_000_000, &[&"--tracker", &url]);
    let mut a = share.seed(A, &[&"--up", &"800K"]);
    a.addr();
    let mut b = share.get(B, &[&"--up", &"200K"]);
    let b_addr = b.addr();
    await_connection(&mut a, B);
    tracker.kill();
    let mut c = share.get(C, &[&"--peer", &b_addr]);
    await_connection(&mut c, A);
    b.kill();
    c.wait_for("complete");
    let told = c.interrupt().expect(0);
    let host = url.split('/').nth(2).unwrap();
    assert!(told.stderr.contains(host), "{}", told.stderr);
    share.assert_complete(&share.folder(C));
    a.interrupt().expect(0);
}

/// A wants to hear of nobody and listens, so that whoever meets it dialled: libtorrent, who is told
/// of dunlin's B alone.
#[test]
fn libtorrent_dials_whom_dunlin_told_it_of() {
    let Some(libtorrent) = Libtorrent::find("libtorrent dials whom dunlin told it of") else {
        return;
    };
    let share = Share::new(10_000_000, &[]);
    let mut a = share.seed(A, &[&"--up", &"2M", &"--no-pex"]);
    let words: Words<'_> = &[&"--peer", &a.addr(), &"--down", &"300K", &"--up", &"100K"];
    let mut b = share.get(B, words);
    let folder = share.sandbox.dir("libtorrent");
    let words: Words<'_> = &[&"--listen", &C, &"--peer", &b.addr()];
    let mut leech = libtorrent.leech(&share.torrent, &folder, words);
    await_connection(&mut a, LIBTORRENT);
    b.kill();
    leech.wait_for("finished");
    share.assert_complete(&folder);
    a.interrupt().expect(0);
}

/// The reverse: libtorrent in the middle, downloading from A, tells C.
#[test]
fn dunlin_dials_whom_libtorrent_told_it_of() {
    let Some(libtorrent) = Libtorrent::find("dunlin dials whom libtorrent told it of") else {
        return;
    };
    let share = Share::new(10_000_000, &[]);
    let mut a = share.seed(A, &[&"--up", &"2M", &"--no-pex"]);
    let a_addr = a.addr();
    let folder = share.sandbox.dir("libtorrent");
    let told: Words<'_> = &[&"--listen", &B, &"--peer", &a_addr];
    let slow: Words<'_> = &[&"--down", &"300000", &"--up", &"100000"];
    let words = [told, slow].concat();
    let mut middle = libtorrent.leech(&share.torrent, &folder, &words);
    let b_addr = middle.addr();
    await_connection(&mut a, LIBTORRENT);
    let mut c = share.get(C, &[&"--peer", &b_addr]);
    await_connection(&mut c, A);
    middle.kill();
    c.wait_for("complete");
    c.interrupt().expect(0);
    share.assert_complete(&share.folder(C));
    a.interrupt().expect(0);
}
