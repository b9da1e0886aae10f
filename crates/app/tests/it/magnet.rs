//! `get` of a magnet link: the metadata comes from peers, then it is a torrent like any other.

use crate::fixture::{Sandbox, assert_same};

const LOOPBACK: &str = "127.0.0.1:0";

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_hash_and_a_peer_are_enough() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 500_000, 3);
    let torrent = sandbox.create(&file, &[]);
    let mut seed = sandbox.start("seed", &[&torrent, &"data", &"--listen", &LOOPBACK]);
    let peer = seed.addr();
    let hash = sandbox.run("show", &[&torrent, &"--json"]).expect(0).json();
    let hash = hash["info_hash_v1"].as_str().unwrap().to_owned();
    let words: [&dyn AsRef<std::ffi::OsStr>; 8] = [
        &hash,
        &"--peer",
        &peer,
        &"--listen",
        &LOOPBACK,
        &"--dir",
        &"out",
        &"--json-lines",
    ];
    let done = sandbox.run("get", &words).expect(0);
    assert_same(&file, &sandbox.path("out/thing.bin"));
    let metadata = done.last_event("metadata");
    assert_eq!(metadata["name"], "thing.bin");
    assert_eq!(metadata["bytes"], 500_000);
    assert_eq!(done.last_event("complete")["bytes"], 500_000);
    assert!(
        done.stderr
            .contains("metadata is here: thing.bin, 500.0 KB")
    );
    seed.interrupt().expect(0);
}

#[test]
fn a_link_with_nobody_to_ask_says_so() {
    let sandbox = Sandbox::new();
    for source in [HASH.to_owned(), format!("magnet:?xt=urn:btih:{HASH}&dn=x")] {
        let done = sandbox.run("get", &[&source]).expect(2);
        let error = done.error();
        assert!(error.contains("names no tracker and no peer"), "{error}");
        assert!(error.contains("--peer HOST:PORT"), "{error}");
    }
    let v2 = "0".repeat(64);
    for source in [v2.clone(), format!("magnet:?xt=urn:btmh:1220{v2}")] {
        let done = sandbox
            .run("get", &[&source, &"--peer", &"127.0.0.1:1"])
            .expect(6);
        assert!(done.error().contains("v2"), "{}", done.stderr);
    }
    sandbox.run("get", &[&"magnet:?dn=x"]).expect(6);
}

#[test]
fn waiting_for_metadata_has_an_end_and_a_reason() {
    let sandbox = Sandbox::new();
    let link = format!("magnet:?xt=urn:btih:{HASH}&dn=the+thing&x.pe=127.0.0.1:1");
    for limit in ["--timeout", "--stall-timeout"] {
        let done = sandbox
            .run("get", &[&link, &limit, &"300ms", &"--listen", &LOOPBACK])
            .expect(7);
        let error = done.error();
        assert!(
            error.contains("the thing: its metadata has not come"),
            "{error}"
        );
        assert!(
            error.ends_with("run the same command again to continue"),
            "{error}"
        );
    }
    let mut get = sandbox.start("get", &[&link, &"--listen", &LOOPBACK]);
    let warning = get.wait_for("warning");
    assert_eq!(warning["code"], "no_peers");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1:1: "), "{message}");
    let done = get.interrupt().expect(7);
    assert!(
        done.error().starts_with("interrupted: the thing"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_link_selects_files_and_the_flag_stands_above_it() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.random(&format!("tree/{name}"), 50_000, 3);
    }
    let torrent = sandbox.create(&sandbox.path("tree"), &[]);
    let mut seed = sandbox.start("seed", &[&torrent, &"--listen", &LOOPBACK]);
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    let link = format!("{}&x.pe={}&so=1", link.trim_end(), seed.addr());
    let get = |dir: &str, words: &[&str]| {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&link, &"--listen", &LOOPBACK, &"--dir", &dir];
        all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        sandbox.run("get", &all)
    };
    let has = |path: &str| sandbox.path(path).is_file();
    get("linked", &[]).expect(0);
    assert!(!has("linked/tree/a") && has("linked/tree/b") && !has("linked/tree/c"));
    get("flagged", &["--select", "c"]).expect(0);
    assert!(!has("flagged/tree/a") && !has("flagged/tree/b") && has("flagged/tree/c"));
    let done = get("none", &["--select", "*.mkv"]).expect(2);
    assert!(done.stderr.contains("tree/a"), "{}", done.stderr);
    assert!(!sandbox.path("none").exists());
    seed.interrupt().expect(0);
}

#[test]
fn a_link_whose_data_is_partly_here_continues() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 3_000_000, 3);
    let torrent = sandbox.create(&file, &[]);
    let words: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&torrent, &"data", &"--listen", &LOOPBACK, &"--up", &"1M"];
    let mut seed = sandbox.start("seed", &words);
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    let link = format!("{}&x.pe={}", link.trim_end(), seed.addr());
    let words: [&dyn AsRef<std::ffi::OsStr>; 5] = [&link, &"--listen", &LOOPBACK, &"--dir", &"out"];
    let mut get = sandbox.start("get", &words);
    get.wait_until("piece", |event| event["have"] == 20);
    get.interrupt().expect(7);
    let done = sandbox.run("get", &words).expect(0);
    assert!(done.stderr.contains("continuing with "), "{}", done.stderr);
    assert_same(&file, &sandbox.path("out/thing.bin"));
    seed.interrupt().expect(0);
}

#[test]
fn a_peer_may_know_no_more_than_a_link() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 300_000, 3);
    let torrent = sandbox.create(&file, &[]);
    let mut seed = sandbox.start("seed", &[&torrent, &"data", &"--listen", &LOOPBACK]);
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    let config = format!(
        "[share]\nmagnet = \"{}\"\n[swarm]\npeers = [\"{}\"]\n",
        link.trim_end(),
        seed.addr()
    );
    let config = sandbox.write("swarm/swarm.toml", config.as_bytes());
    let mut peer = sandbox.start("peer", &[&config, &"127.0.0.1", &"0"]);
    peer.wait_for("complete");
    peer.interrupt().expect(0);
    assert_same(&file, &sandbox.path("swarm/thing.bin"));
    let nobody = format!("[share]\nmagnet = \"magnet:?xt=urn:btih:{HASH}\"\n");
    let nobody = sandbox.write("nobody.toml", nobody.as_bytes());
    sandbox
        .run("peer", &[&nobody, &"127.0.0.1", &"0"])
        .expect(2);
    let nothing = sandbox.write("nothing.toml", b"");
    let done = sandbox
        .run("peer", &[&nothing, &"127.0.0.1", &"0"])
        .expect(3);
    assert!(done.error().contains("share.magnet"), "{}", done.stderr);
    seed.interrupt().expect(0);
}
