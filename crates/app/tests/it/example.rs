//! `crates/host/examples/get.rs`, the engine as a library, downloads what our program seeds.

use crate::fixture::{Sandbox, assert_same};

#[allow(dead_code, reason = "its `main` reads the command line")]
#[path = "../../../host/examples/get.rs"]
mod get;

#[test]
fn the_example_downloads_by_torrent_and_by_link() {
    let sandbox = Sandbox::new();
    let (mut tracker, url) = sandbox.tracker();
    let file = sandbox.random("data/thing.bin", 300_000, 3);
    let torrent = sandbox.create(&file, &[&"--tracker", &url]);
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    let mut seed = sandbox.start("seed", &[&torrent, &"data", &"--listen", &"127.0.0.1:0"]);
    let link = format!("{}&x.pe={}", link.trim_end(), seed.addr());
    for (source, out) in [(torrent.to_str().unwrap(), "one"), (&link, "two")] {
        let listen = dunlin_host::Listen::Exact("127.0.0.1:0".parse().unwrap());
        get::get(source, &sandbox.dir(out), listen).unwrap();
        assert_same(&file, &sandbox.path(out).join("thing.bin"));
    }
    seed.interrupt().expect(0);
    tracker.interrupt().expect(0);
}
