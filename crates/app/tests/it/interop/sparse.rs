//! A file beyond 4 GiB, nearly all zeros: every offset must be 64 bits wide, on both sides.

use std::path::Path;

use crate::fixture::Sandbox;
use crate::libtorrent::Libtorrent;

use super::trees::{Data, sha256, sparse};
use super::{create, get, number, seed};

const NAME: &str = "huge.img";
const GIB: u64 = 1 << 30;

/// Random data lies across these offsets and at the end.
const EDGES: [u64; 2] = [2 * GIB, 4 * GIB];
const PATCH_BYTES: usize = 1 << 20;

fn make(path: &Path, bytes: u64) {
    let file = sparse(path, bytes);
    let mut data = Data::new(51);
    for edge in EDGES {
        data.patch(&file, edge - PATCH_BYTES as u64 / 2, PATCH_BYTES);
    }
    data.patch(&file, bytes - PATCH_BYTES as u64, PATCH_BYTES);
}

fn from_libtorrent(libtorrent: &Libtorrent, bytes: u64) {
    round(bytes, |sandbox, torrent, source, target| {
        let mut seed = libtorrent.seed(torrent, source, &[&"--trust"]);
        seed.wait_for("ready");
        let mut get = get(sandbox, torrent, target, &[&"--peer", &seed.addr()]);
        let complete = get.finish().expect(0).last_event("complete");
        assert_eq!(number(&complete, "bytes"), bytes);
    });
}

fn to_libtorrent(libtorrent: &Libtorrent, bytes: u64) {
    round(bytes, |sandbox, torrent, source, target| {
        let mut seed = seed(sandbox, torrent, source, &[&"--skip-check"]);
        let mut leech = libtorrent.leech(torrent, target, &[&"--peer", &seed.addr()]);
        assert_eq!(number(&leech.wait_for("finished"), "bytes"), bytes);
        leech.interrupt().expect(0);
    });
}

/// Makes the file, moves it, compares it.
fn round(bytes: u64, transfer: impl FnOnce(&Sandbox, &Path, &Path, &Path)) {
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.dir("source"), sandbox.dir("target"));
    let torrent = sandbox.path("it.torrent");
    make(&source.join(NAME), bytes);
    create(
        &sandbox,
        &source.join(NAME),
        &torrent,
        &[&"--piece-length", &"16M"],
    );
    transfer(&sandbox, &torrent, &source, &target);
    assert_eq!(sha256(&source.join(NAME)), sha256(&target.join(NAME)));
}

#[test]
fn five_gib_come_from_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("5 GiB from libtorrent") else {
        return;
    };
    from_libtorrent(&libtorrent, 5 * GIB);
}

#[test]
fn five_gib_go_to_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("5 GiB to libtorrent") else {
        return;
    };
    to_libtorrent(&libtorrent, 5 * GIB);
}
