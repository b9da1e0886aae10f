//! A file beyond 4 GiB, nearly all zeros: every offset must be 64 bits wide, on both sides.
//!
//! The copy starts as a file of zeros, so that only what differs is transferred. With
//! DUNLIN_BIG_TESTS=1 it starts from nothing: minutes, and 5 GiB of disk.

use std::path::{Path, PathBuf};

use crate::clients::skip;
use crate::fixture::Sandbox;
use crate::libtorrent::Libtorrent;

use super::trees::{Data, sparse, sparse_sha256};
use super::{create, get, number, seed};

const NAME: &str = "huge.img";
const GIB: u64 = 1 << 30;
const BYTES: u64 = 5 * GIB;

/// Random data lies across these offsets and at the end.
const EDGES: [u64; 2] = [2 * GIB, 4 * GIB];
const PATCH_BYTES: usize = 1 << 20;

/// Where the copy starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Zeros,
    Nothing,
}

/// The file, its torrent, and room for its copies.
#[derive(Debug)]
struct Huge {
    sandbox: Sandbox,
    torrent: PathBuf,
    digest: String,
}

impl Huge {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let path = sandbox.dir("source").join(NAME);
        let file = sparse(&path, BYTES);
        let mut data = Data::new(51);
        for edge in EDGES {
            data.patch(&file, edge - PATCH_BYTES as u64 / 2, PATCH_BYTES);
        }
        data.patch(&file, BYTES - PATCH_BYTES as u64, PATCH_BYTES);
        let torrent = sandbox.path("it.torrent");
        create(&sandbox, &path, &torrent, &[&"--piece-length", &"4M"]);
        let digest = sparse_sha256(&path);
        Self {
            sandbox,
            torrent,
            digest,
        }
    }

    fn target(&self, name: &str, start: Start) -> PathBuf {
        let target = self.sandbox.dir(name);
        if start == Start::Zeros {
            sparse(&target.join(NAME), BYTES);
        }
        target
    }

    fn check(&self, target: &Path) {
        assert_eq!(sparse_sha256(&target.join(NAME)), self.digest);
    }

    fn comes_from(&self, libtorrent: &Libtorrent, start: Start) {
        let target = self.target("ours", start);
        let source = self.sandbox.path("source");
        let mut seed = libtorrent.seed(&self.torrent, &source, &[&"--trust", &"--seconds", &"300"]);
        seed.wait_for("ready");
        let mut get = get(
            &self.sandbox,
            &self.torrent,
            &target,
            &[&"--peer", &seed.addr()],
        );
        let complete = get.finish().expect(0).last_event("complete");
        assert_eq!(number(&complete, "bytes"), BYTES);
        self.check(&target);
    }

    fn goes_to(&self, libtorrent: &Libtorrent, start: Start) {
        let target = self.target("theirs", start);
        let source = self.sandbox.path("source");
        let mut seed = seed(&self.sandbox, &self.torrent, &source, &[&"--skip-check"]);
        let words: &[&dyn AsRef<_>] = &[&"--peer", &seed.addr(), &"--seconds", &"300"];
        let mut leech = libtorrent.leech(&self.torrent, &target, words);
        assert_eq!(number(&leech.wait_for("finished"), "bytes"), BYTES);
        leech.interrupt().expect(0);
        self.check(&target);
    }
}

#[test]
fn offsets_beyond_4_gib_are_right_from_libtorrent_and_to_it() {
    let Some(libtorrent) = Libtorrent::find("offsets beyond 4 GiB") else {
        return;
    };
    let huge = Huge::new();
    huge.comes_from(&libtorrent, Start::Zeros);
    huge.goes_to(&libtorrent, Start::Zeros);
}

#[test]
fn five_gib_come_from_libtorrent_and_go_to_it() {
    let name = "5 GiB from and to libtorrent";
    if std::env::var_os("DUNLIN_BIG_TESTS").is_none_or(|value| value != "1") {
        return skip(name, "it takes minutes; DUNLIN_BIG_TESTS=1 runs it");
    }
    let Some(libtorrent) = Libtorrent::find(name) else {
        return;
    };
    let huge = Huge::new();
    huge.comes_from(&libtorrent, Start::Nothing);
    huge.goes_to(&libtorrent, Start::Nothing);
}
