//! `peer`: the classic form, all peers of a swarm from one config.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Running, Sandbox, Words, assert_same};

/// A port of loopback that nobody used a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A config that names `ports` as its peers, beside a file if `len` is not 0.
pub fn config(sandbox: &Sandbox, len: usize, ports: &[u16], more: &str) {
    if len > 0 {
        sandbox.random("swarm/data/thing.bin", len, 5);
    }
    let peers: Vec<String> = ports
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    let text = format!(
        "[share]\nfile = \"data/thing.bin\"\n[swarm]\npeers = [{}]\n{more}",
        peers.join(", ")
    );
    sandbox.write("swarm/swarm.toml", text.as_bytes());
}

fn start(sandbox: &Sandbox, port: u16, dir: Option<&Path>) -> Running {
    start_with(sandbox, port, dir, &[])
}

/// The same with more words on its command line.
pub fn start_with(sandbox: &Sandbox, port: u16, dir: Option<&Path>, more: Words<'_>) -> Running {
    let (config, port) = (sandbox.path("swarm/swarm.toml"), port.to_string());
    let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&config, &"127.0.0.1", &port];
    if let Some(dir) = &dir {
        words.extend([&"--dir" as &dyn AsRef<std::ffi::OsStr>, dir]);
    }
    words.extend(more);
    sandbox.start("peer", &words)
}

fn log(folder: &Path, port: u16) -> String {
    fs::read_to_string(folder.join(format!("peer_{port}.log"))).unwrap()
}

#[test]
fn three_peers_share_a_file_from_one_config() {
    let sandbox = Sandbox::new();
    let ports = [free_port(), free_port(), free_port()];
    let choking = "[choking]\npreferred_neighbors = 2\nunchoking_interval = \"1s\"\n\
                   optimistic_unchoking_interval = \"1s\"\n[limits]\nup = \"2M\"\n";
    config(&sandbox, 6_000_000, &ports, choking);
    let home = sandbox.path("swarm");
    let folders = [sandbox.dir("two"), sandbox.dir("three")];
    // The leeches are first: they wait for the .torrent file that the seed makes.
    let mut leeches = [1, 2].map(|n| start(&sandbox, ports[n], Some(&folders[n - 1])));
    let mut seed = start(&sandbox, ports[0], None);
    for (leech, folder) in leeches.iter_mut().zip(&folders) {
        leech.wait_for("complete");
        assert_same(&home.join("data/thing.bin"), &folder.join("data/thing.bin"));
    }
    for process in leeches.iter_mut().chain([&mut seed]) {
        // Seeding is what remains to be done, and it has no end: nothing is unfinished.
        process.interrupt().expect(0);
    }
    assert!(home.join("data/thing.bin.torrent").exists());
    let seed_log = log(&home, ports[0]);
    for words in [
        "making ",
        "listening on 127.0.0.1:",
        " connected to us (",
        "we unchoked 127.0.0.1:",
        "is interested in us",
        "preferred neighbours: 127.0.0.1:",
        "optimistic: ",
        "ended: thing.bin in ",
    ] {
        assert!(seed_log.contains(words), "no {words:?} in:\n{seed_log}");
    }
    let leech_log = log(&folders[0], ports[1]);
    for words in [
        "waiting for ",
        "connected to 127.0.0.1:",
        " unchoked us",
        "we are interested in",
        "piece ",
        "; have ",
        "complete: thing.bin: 6.0 MB in ",
    ] {
        assert!(leech_log.contains(words), "no {words:?} in:\n{leech_log}");
    }
}

#[test]
fn an_optimistic_peer_is_seen_unchoked_by_the_other_side() {
    let sandbox = Sandbox::new();
    let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
    let choking = "[choking]\npreferred_neighbors = 1\nunchoking_interval = \"500ms\"\n\
                   optimistic_unchoking_interval = \"1s\"\n[limits]\nup = \"500K\"\n";
    config(&sandbox, 3_000_000, &ports, choking);
    let mut seed = start(&sandbox, ports[0], None);
    seed.addr();
    let mut leeches: Vec<Running> = ports[1..]
        .iter()
        .map(|&port| start(&sandbox, port, Some(&sandbox.dir(&port.to_string()))))
        .collect();
    for leech in &mut leeches {
        leech.addr();
    }
    let is_optimistic = |event: &Value| {
        event["by"] == "us" && event["reason"].as_str().unwrap().starts_with("optimistic")
    };
    let chosen = seed.wait_until("unchoked", is_optimistic);
    seed.interrupt().expect(0);
    let id = |running: &Running, peer: &Value| {
        let connected = |event: &&Value| event["event"] == "connected" && event["peer"] == *peer;
        running.events.iter().find(connected).unwrap()["peer_id"].clone()
    };
    let peer_id = id(&seed, &chosen["peer"]);
    let seed_id = seed.events[0]["peer_id"].clone();
    let leech = leeches
        .iter_mut()
        .find(|leech| leech.events[0]["peer_id"] == peer_id)
        .unwrap();
    leech.interrupt();
    let is_seen = leech.events.iter().any(|event| {
        event["event"] == "unchoked"
            && event["by"] == "peer"
            && id(leech, &event["peer"]) == seed_id
    });
    assert!(is_seen, "{peer_id} never saw it");
}

#[test]
fn pieces_come_in_the_order_that_the_config_asks_for() {
    for (order, right) in [("sequential", 0.98..=1.0), ("random", -0.3..=0.3)] {
        let sandbox = Sandbox::new();
        let ports = [free_port(), free_port()];
        // Slow enough that few pieces are on their way at once.
        let more = format!("[pieces]\norder = \"{order}\"\n[limits]\nup = \"4M\"\n");
        config(&sandbox, 4_000_000, &ports, &more);
        let mut seed = start(&sandbox, ports[0], None);
        seed.addr();
        let mut leech = start(&sandbox, ports[1], Some(&sandbox.dir("two")));
        leech.wait_for("complete");
        let pieces = leech
            .events
            .iter()
            .filter(|event| event["event"] == "piece");
        let order_of_arrival: Vec<f64> = pieces
            .map(|event| event["index"].as_f64().unwrap())
            .collect();
        assert_eq!(order_of_arrival.len(), 245);
        let r = correlation(&order_of_arrival);
        assert!(right.contains(&r), "{order}: r = {r}");
    }
}

/// Pearson's, of the values with their places.
pub fn correlation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let places: Vec<f64> = (0..values.len()).map(|place| place as f64).collect();
    let (a, b) = (mean(values), mean(&places));
    let pairs = || values.iter().zip(&places).map(|(x, y)| (x - a, y - b));
    let covariance: f64 = pairs().map(|(x, y)| x * y).sum();
    let spread: f64 =
        pairs().map(|(x, _)| x * x).sum::<f64>() * pairs().map(|(_, y)| y * y).sum::<f64>();
    covariance / spread.sqrt()
}

#[test]
fn a_config_that_makes_no_sense_is_refused() {
    let sandbox = Sandbox::new();
    let run = |text: &str| {
        let config = sandbox.write("swarm/swarm.toml", text.as_bytes());
        sandbox.run("peer", &[&config, &"127.0.0.1", &"0"])
    };
    let done = run("[swarm]\npeers = []\n").expect(3);
    assert!(done.error().contains("share.file"), "{}", done.stderr);
    let done = run("[chokin]\npreferred_neighbors = 2\n").expect(6);
    assert!(
        done.error().ends_with("did you mean [choking]?"),
        "{}",
        done.stderr
    );
    let done = run("[choking]\npreferred_neighbours = 2\n").expect(6);
    assert!(
        done.error()
            .ends_with("did you mean choking.preferred_neighbors?"),
        "{}",
        done.stderr
    );
    let done = run("[share]\nfile = \"x\"\n[swarm]\ndht = true\n").expect(6);
    assert!(done.error().contains("not built yet"), "{}", done.stderr);
    sandbox
        .run("peer", &[&"none.toml", &"127.0.0.1", &"0"])
        .expect(3);
}

#[test]
fn an_existing_torrent_is_used_and_may_not_be_contradicted() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("swarm/thing.bin", 300_000, 5);
    sandbox
        .run(
            "create",
            &[
                &file,
                &"-o",
                &sandbox.path("swarm/t"),
                &"--piece-length",
                &"32K",
            ],
        )
        .expect(0);
    let config = |extra: &str| {
        let text = format!("[share]\nfile = \"thing.bin\"\ntorrent = \"t\"\n{extra}");
        sandbox.write("swarm/swarm.toml", text.as_bytes());
    };
    config("piece_length = \"16K\"\n");
    let path = sandbox.path("swarm/swarm.toml");
    let done = sandbox.run("peer", &[&path, &"127.0.0.1", &"0"]).expect(6);
    assert!(
        done.error().contains("its piece length is 32768"),
        "{}",
        done.stderr
    );
    config("piece_length = \"32K\"\n");
    let mut seed = start(&sandbox, 0, None);
    let addr = seed.addr();
    let (torrent, out) = (sandbox.path("swarm/t"), sandbox.path("out"));
    sandbox
        .run(
            "get",
            &[
                &torrent,
                &"-d",
                &out,
                &"--listen",
                &"127.0.0.1:0",
                &"--peer",
                &addr,
            ],
        )
        .expect(0);
    assert_same(&file, &out.join("thing.bin"));
    seed.interrupt().expect(0);
}

#[test]
fn a_peer_that_seeds_nothing_ends_when_it_is_complete() {
    let sandbox = Sandbox::new();
    let ports = [free_port(), free_port()];
    config(&sandbox, 100_000, &ports, "");
    let mut seed = start(&sandbox, ports[0], None);
    seed.addr();
    let text = fs::read_to_string(sandbox.path("swarm/swarm.toml")).unwrap();
    let text = text.replace("[share]\n", "[share]\nseed = \"none\"\n");
    sandbox.write("swarm/swarm.toml", text.as_bytes());
    start(&sandbox, ports[1], Some(&sandbox.dir("two")))
        .finish()
        .expect(0);
    assert_same(
        &sandbox.path("swarm/data/thing.bin"),
        &sandbox.path("two/data/thing.bin"),
    );
}

/// As a crash leaves it between the last piece and its name.
#[test]
fn a_folder_that_is_whole_but_not_named_yet_is_named_and_shared() {
    let sandbox = Sandbox::new();
    let first = sandbox.random("swarm/things/a", 50_000, 1);
    sandbox.random("swarm/things/b", 50_000, 2);
    let torrent = sandbox.path("swarm/things.torrent");
    sandbox
        .run("create", &[&sandbox.path("swarm/things"), &"-o", &torrent])
        .expect(0);
    fs::rename(&first, sandbox.path("swarm/things/a.part")).unwrap();
    sandbox.write(
        "swarm/swarm.toml",
        b"[share]\nfile = \"things\"\nseed = \"none\"\n",
    );
    start(&sandbox, 0, None).finish().expect(0);
    assert!(first.is_file());
}
