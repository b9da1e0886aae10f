//! Each key of a `peer` config shows: a small swarm runs with one value and with another one, and
//! both values can be read back from what its log and events tell, without a look at the config.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Running, Sandbox};
use crate::peer::{correlation, free_port};
use crate::peer_log::PeerLog;

/// A key with two values as TOML, and how to read the value from a run.
struct Key {
    key: &'static str,
    values: [&'static str; 2],
    read: fn(&Run) -> String,
}

/// What a swarm left behind; the seed is first everywhere.
struct Run {
    logs: Vec<PeerLog>,
    log_files: Vec<PathBuf>,
    ports: Vec<u16>,
    events: Vec<Vec<Value>>,
}

/// What the swarm is, apart from the keys in question.
struct Shape<'a> {
    leeches: usize,
    bytes: usize,
    fixed: &'a [(&'a str, &'a str)],
    /// Waits until there is enough to read.
    enough: fn(&mut [Running]),
}

/// Runs the swarm with the first values of all keys, then with the second ones.
fn check(shape: &Shape<'_>, keys: &[Key]) {
    for n in [0, 1] {
        let asked = keys.iter().map(|key| (key.key, key.values[n]));
        let fixed = shape.fixed.iter().copied();
        let run = run(shape, &fixed.chain(asked).collect::<Vec<_>>());
        for key in keys {
            assert_eq!((key.read)(&run), key.values[n], "{}", key.key);
        }
    }
}

fn run(shape: &Shape<'_>, settings: &[(&str, &str)]) -> Run {
    let sandbox = Sandbox::new();
    sandbox.random("swarm/thing.bin", shape.bytes, 5);
    let ports: Vec<u16> = (0..=shape.leeches).map(|_| free_port()).collect();
    let peers: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut text = format!("share.file = \"thing.bin\"\nswarm.peers = {peers:?}\n");
    for (key, value) in settings {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let config = sandbox.write("swarm/swarm.toml", text.as_bytes());
    let folder = |n: usize| match n {
        0 => sandbox.path("swarm"),
        n => sandbox.dir(&n.to_string()),
    };
    let mut running = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let port = port.to_string();
        let words: &[&dyn AsRef<std::ffi::OsStr>] =
            &[&config, &"127.0.0.1", &port, &"--dir", &folder(n)];
        let mut peer = sandbox.dunlin("peer", words);
        peer.arg("--json-lines");
        if n == 0 {
            // It is complete from the start, and is to stay whatever leeches do.
            peer.env("DUNLIN_SHARE__SEED", "forever");
        }
        running.push(Running::new(peer.spawn().unwrap()));
        if n == 0 {
            running[0].addr();
        }
    }
    (shape.enough)(&mut running);
    for process in &mut running {
        process.interrupt();
    }
    let log_files: Vec<PathBuf> = (0..ports.len()).map(|n| log_file(&folder(n))).collect();
    Run {
        logs: log_files.iter().map(|file| PeerLog::read(file)).collect(),
        log_files: log_files
            .iter()
            .map(|file| file.file_name().unwrap().into())
            .collect(),
        ports,
        events: running
            .into_iter()
            .map(|peer| peer.events.clone())
            .collect(),
    }
}

fn log_file(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files = entries.map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    files.find(is_log).expect("there is a log")
}

impl Run {
    /// Events of one peer.
    fn events(&self, n: usize, name: &str) -> impl Iterator<Item = &Value> + Clone {
        let events = self.events[n].iter();
        events.filter(move |event| event["event"] == name)
    }
}

/// The middle of the gaps between times, to the next 250 ms.
fn interval(times: &[f64]) -> String {
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(f64::total_cmp);
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or(0.0);
    format!("\"{}ms\"", (middle * 4.0).round() * 250.0)
}

/// Which of two limits a rate obeys and nearly reaches, or the rate.
fn limit(rate: f64) -> String {
    let fits = |limit: f64| (limit * 0.6..=limit * 1.1).contains(&rate);
    match rate {
        _ if fits(200e3) => "\"200K\"".to_owned(),
        _ if fits(800e3) => "\"800K\"".to_owned(),
        rate => format!("{rate} B/s"),
    }
}

fn mean_rate_of_the_leech(run: &Run) -> String {
    limit(
        run.events(1, "complete").next().unwrap()["mean_rate"]
            .as_f64()
            .unwrap(),
    )
}

fn until_complete(running: &mut [Running]) {
    for leech in &mut running[1..] {
        leech.wait_for("complete");
    }
}

fn choking_keys() -> [Key; 3] {
    [
        Key {
            key: "choking.preferred_neighbors",
            values: ["1", "2"],
            read: |run| {
                let rounds = run.logs[0].rounds();
                let most = rounds.iter().map(|round| round.named.len()).max();
                most.unwrap().to_string()
            },
        },
        Key {
            key: "choking.unchoking_interval",
            values: ["\"500ms\"", "\"1500ms\""],
            read: |run| {
                let rounds = run.logs[0].rounds();
                interval(&rounds.iter().map(|round| round.t).collect::<Vec<_>>())
            },
        },
        Key {
            key: "choking.optimistic_unchoking_interval",
            values: ["\"1000ms\"", "\"2000ms\""],
            read: |run| {
                let lines = run.logs[0].lines.iter();
                let chosen = lines.filter(|line| line.text.starts_with("optimistic unchoke: "));
                interval(&chosen.map(|line| line.t).collect::<Vec<_>>())
            },
        },
    ]
}

fn piece_and_log_keys() -> [Key; 4] {
    [
        Key {
            key: "pieces.order",
            values: ["\"random\"", "\"sequential\""],
            read: |run| {
                let pieces = run.events(1, "piece").map(|event| event["index"].as_f64());
                let r = correlation(&pieces.map(Option::unwrap).collect::<Vec<_>>());
                let order = if r > 0.8 { "sequential" } else { "random" };
                format!("{order:?}")
            },
        },
        Key {
            key: "share.piece_length",
            values: ["\"16K\"", "\"32K\""],
            read: |run| {
                let metadata = run.events(1, "metadata").next().unwrap();
                let number = |name: &str| metadata[name].as_u64().unwrap();
                let mean = number("bytes").div_ceil(number("pieces"));
                format!("\"{}K\"", mean.next_power_of_two() / 1024)
            },
        },
        Key {
            key: "log.level",
            values: ["\"info\"", "\"debug\""],
            read: |run| {
                let mut lines = run.logs[0].lines.iter();
                let level = lines.find(|line| line.level == "DEBUG");
                format!("{:?}", if level.is_some() { "debug" } else { "info" })
            },
        },
        Key {
            key: "log.file",
            values: ["\"at_{port}.log\"", "\"story.log\""],
            read: |run| {
                let name = run.log_files[0].to_string_lossy();
                format!("{:?}", name.replace(&run.ports[0].to_string(), "{port}"))
            },
        },
    ]
}

#[test]
fn choking_pieces_and_log_show_what_their_keys_say() {
    let keys: Vec<Key> = choking_keys()
        .into_iter()
        .chain(piece_and_log_keys())
        .collect();
    let shape = Shape {
        leeches: 4,
        // Five times 200 kB/s cannot bring four copies of it in two minutes: the swarm outlasts
        // whatever is waited for.
        bytes: 40_000_000,
        fixed: &[("limits.up", "\"200K\"")],
        enough: |running| {
            let is_optimistic = |event: &Value| {
                event["by"] == "us" && event["reason"].as_str().unwrap().starts_with("optimistic")
            };
            for _ in 0..4 {
                running[0].wait_until("unchoked", is_optimistic);
            }
        },
    };
    check(&shape, &keys);
}

#[test]
fn a_seed_and_its_log_show_their_strategy_and_format() {
    let keys = [
        Key {
            key: "choking.seed_strategy",
            values: ["\"round-robin\"", "\"fastest-upload\""],
            read: |run| {
                // Who takes fastest may well stay the same all the time.
                let mut unchoked = run.events(0, "unchoked");
                let in_turn = unchoked.any(|event| event["reason"] == "seeding: its turn");
                let strategy = if in_turn {
                    "round-robin"
                } else {
                    "fastest-upload"
                };
                format!("{strategy:?}")
            },
        },
        Key {
            key: "log.format",
            values: ["\"text\"", "\"json\""],
            read: |run| format!("{:?}", run.logs[0].format),
        },
    ];
    let shape = Shape {
        leeches: 3,
        bytes: 4_000_000,
        fixed: &[
            ("limits.up", "\"500K\""),
            ("choking.preferred_neighbors", "1"),
            ("choking.unchoking_interval", "\"500ms\""),
            ("choking.optimistic_unchoking_interval", "\"1s\""),
        ],
        enough: |running| {
            for _ in 0..10 {
                running[0].wait_for("preferred");
            }
        },
    };
    check(&shape, &keys);
}

#[test]
fn the_upload_limit_shows_and_who_seeds_goes_on() {
    let keys = [
        Key {
            key: "limits.up",
            values: ["\"200K\"", "\"800K\""],
            read: mean_rate_of_the_leech,
        },
        Key {
            key: "share.seed",
            values: ["\"none\"", "\"forever\""],
            read: |run| {
                let complete = run.events(1, "complete").next().unwrap();
                let last = run.events[1].last().unwrap();
                let after = last["t"].as_f64().unwrap() - complete["t"].as_f64().unwrap();
                // Interrupted after 3 s; until then there is an event a second.
                format!("{:?}", if after < 1.5 { "none" } else { "forever" })
            },
        },
    ];
    let shape = Shape {
        leeches: 1,
        bytes: 1_000_000,
        fixed: &[],
        enough: |running| {
            until_complete(running);
            std::thread::sleep(Duration::from_secs(3));
        },
    };
    check(&shape, &keys);
}

#[test]
fn the_download_limit_shows() {
    let keys = [Key {
        key: "limits.down",
        values: ["\"200K\"", "\"800K\""],
        read: mean_rate_of_the_leech,
    }];
    let shape = Shape {
        leeches: 1,
        bytes: 1_000_000,
        fixed: &[],
        enough: until_complete,
    };
    check(&shape, &keys);
}

#[test]
fn the_number_of_connections_shows() {
    let keys = [Key {
        key: "limits.max_peers",
        values: ["1", "2"],
        read: |run| run.logs[0].connections_max().to_string(),
    }];
    let shape = Shape {
        leeches: 3,
        bytes: 1_000_000,
        fixed: &[("limits.up", "\"100K\"")],
        enough: |running| {
            let is_full = |event: &Value| event["peers"].as_u64() > Some(0);
            for _ in 0..3 {
                running[0].wait_until("progress", is_full);
            }
        },
    };
    check(&shape, &keys);
}

#[test]
fn peers_come_from_where_the_config_says() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("swarm/thing.bin", 100_000, 5);
    let torrent = sandbox.path("swarm/thing.bin.torrent");
    // It names no trackers, so that those that are asked are those of the config.
    sandbox.run("create", &[&file, &"-o", &torrent]).expect(0);
    let (_tracker, url) = sandbox.tracker();
    let start = |name: &str, port: u16, swarm: &str| {
        let text = format!("[share]\nfile = \"thing.bin\"\n[swarm]\n{swarm}\n");
        let config = sandbox.write(&format!("swarm/{name}.toml"), text.as_bytes());
        let (dir, port) = (sandbox.dir(name), port.to_string());
        let words: &[&dyn AsRef<std::ffi::OsStr>] = &[&config, &"127.0.0.1", &port, &"--dir", &dir];
        sandbox.start("peer", words)
    };
    let port = free_port();
    let trackers = format!("trackers = [{url:?}]");
    let mut seed = start("swarm", port, &trackers);
    seed.addr();
    let mut dialling = start("dialling", 0, &format!("peers = [\"127.0.0.1:{port}\"]"));
    let mut asking = start("asking", 0, &trackers);
    let mut nobody = start("nobody", 0, "dht = false\npex = false\nlsd = false");
    dialling.wait_for("complete");
    asking.wait_for("complete");
    let warning = nobody.wait_for("warning");
    assert_eq!(warning["code"], "no_peers");
    for process in [&mut seed, &mut dialling, &mut asking, &mut nobody] {
        process.interrupt();
    }
    let tells = |name: &str, words: &str| {
        let log = PeerLog::read(&log_file(&sandbox.path(name)));
        log.lines.iter().any(|line| line.text.starts_with(words))
    };
    let tracker = format!("tracker {url}: ");
    let shown = |name| (tells(name, &tracker), tells(name, "connected to "));
    assert_eq!(shown("dialling"), (false, true));
    assert_eq!(shown("asking"), (true, true));
    assert_eq!(shown("nobody"), (false, false));
}

#[test]
fn there_is_one_strategy_for_leeches_so_far() {
    let sandbox = Sandbox::new();
    let text = "[share]\nfile = \"x\"\n[choking]\nleech_strategy = \"generous\"\n";
    let config = sandbox.write("swarm/swarm.toml", text.as_bytes());
    let done = sandbox
        .run("peer", &[&config, &"127.0.0.1", &"0"])
        .expect(6);
    let error = done.error();
    assert!(
        error.contains("choking.leech_strategy") && error.contains("tit-for-tat"),
        "{error}"
    );
}
