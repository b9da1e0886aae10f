//! dunlin and libtorrent trade with each other.

use crate::fixture::{Sandbox, assert_same};
use crate::libtorrent::Libtorrent;

const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn a_file_comes_from_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("a file comes from libtorrent") else {
        return;
    };
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 5_000_001, 1);
    let torrent = sandbox.create(&file, &[]);
    let mut seed = libtorrent.start(&torrent, &sandbox.path("data"), &[]);
    let (addr, out) = (seed.addr(), sandbox.path("out"));
    seed.wait_for("complete");
    sandbox
        .run(
            "get",
            &[
                &torrent,
                &"-d",
                &out,
                &"--listen",
                &LOOPBACK,
                &"--peer",
                &addr,
            ],
        )
        .expect(0);
    assert_same(&file, &out.join("thing.bin"));
}

#[test]
fn a_file_goes_to_libtorrent() {
    let Some(libtorrent) = Libtorrent::find("a file goes to libtorrent") else {
        return;
    };
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 5_000_001, 1);
    let torrent = sandbox.create(&file, &[]);
    let data = sandbox.path("data");
    let mut seed = sandbox.start("seed", &[&torrent, &data, &"--listen", &LOOPBACK]);
    let (addr, out) = (seed.addr(), sandbox.dir("out"));
    let mut leech = libtorrent.start(&torrent, &out, &[&"--peer", &addr]);
    leech.wait_for("complete");
    assert_same(&file, &out.join("thing.bin"));
}
