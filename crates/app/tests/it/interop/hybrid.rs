//! Hybrid torrents that libtorrent made: they run on their v1 half.

use std::path::PathBuf;

use crate::fixture::Sandbox;
use crate::libtorrent::Libtorrent;

use super::trees::{Data, assert_same};
use super::{get, number, seed};

/// A tree whose padding covers parts of blocks, blocks and nothing, and its torrent.
#[derive(Debug)]
struct Share {
    sandbox: Sandbox,
    torrent: PathBuf,
    source: PathBuf,
    target: PathBuf,
}

impl Share {
    fn new(libtorrent: &Libtorrent) -> Self {
        let sandbox = Sandbox::new();
        let (source, target) = (sandbox.dir("source"), sandbox.dir("target"));
        let tree = source.join("tree");
        let mut data = Data::new(81);
        for (name, len) in [
            ("1", 1),
            ("2/exact", 128 << 10),
            ("3 empty", 0),
            ("4 one block", 16 << 10),
            ("5 a block and a bit", (16 << 10) + 1),
            ("6 large", 5_000_001),
            ("7 last", 99_999),
        ] {
            data.file(&tree.join(name), len);
        }
        let torrent = sandbox.path("hybrid.torrent");
        libtorrent.make_all(&tree, &torrent, 64 << 10, "hybrid");
        Self {
            sandbox,
            torrent,
            source,
            target,
        }
    }
}

#[test]
fn a_hybrid_comes_from_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("a hybrid comes from libtorrent") else {
        return;
    };
    let share = Share::new(&libtorrent);
    let mut seed = libtorrent.seed(&share.torrent, &share.source, &[]);
    seed.wait_for("ready");
    let words: &[&dyn AsRef<_>] = &[&"--peer", &seed.addr(), &"--timeout", &"60s"];
    let done = get(&share.sandbox, &share.torrent, &share.target, words).finish();
    let complete = done.expect(0).last_event("complete");
    assert_eq!(number(&complete, "failed_hash"), 0);
    assert_same(&share.source, &share.target);
}

#[test]
fn a_hybrid_goes_to_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("a hybrid goes to libtorrent") else {
        return;
    };
    let share = Share::new(&libtorrent);
    let mut seed = seed(&share.sandbox, &share.torrent, &share.source, &[]);
    let words: &[&dyn AsRef<_>] = &[&"--peer", &seed.addr()];
    let mut leech = libtorrent.leech(&share.torrent, &share.target, words);
    let finished = leech.wait_for("finished");
    assert_eq!(number(&finished, "failed"), 0);
    leech.interrupt().expect(0);
    seed.interrupt().expect(0);
    assert_same(&share.source, &share.target);
}
