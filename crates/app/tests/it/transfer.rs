//! `get` and `seed` between real processes.

use serde_json::Value;

use crate::fixture::{Done, Running, Sandbox, assert_same, names, random_bytes};

const LOOPBACK: &str = "127.0.0.1:0";

/// A file, its torrent, and a seed that has it.
fn seeded(sandbox: &Sandbox, len: usize, words: &[&str]) -> (Running, String) {
    let file = sandbox.random("thing.bin", len, 7);
    let torrent = sandbox.create(&file, &[]);
    let folder = sandbox.path("");
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&torrent, &folder, &"--listen", &LOOPBACK];
    all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
    let mut seed = sandbox.start("seed", &all);
    let addr = seed.addr();
    (seed, addr)
}

fn get(sandbox: &Sandbox, words: &[&str]) -> Done {
    let torrent = sandbox.path("thing.bin.torrent");
    let out = sandbox.path("out");
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&torrent, &"-d", &out, &"--listen", &LOOPBACK];
    all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
    sandbox.run("get", &all)
}

#[test]
fn a_file_comes_from_a_seed_that_is_named() {
    let sandbox = Sandbox::new();
    let (mut seed, addr) = seeded(&sandbox, 3_000_001, &[]);
    let done = get(&sandbox, &["--peer", &addr]).expect(0);
    let out = sandbox.path("out/thing.bin");
    assert_eq!(done.stdout.trim_end(), out.to_string_lossy());
    assert!(
        done.stderr.contains("complete: thing.bin: 3.0 MB in "),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr
            .contains("uploaded 0 %; `--seed ratio=1` keeps sharing")
    );
    assert_same(&sandbox.path("thing.bin"), &out);
    assert_eq!(
        names(&sandbox.path("out")),
        ["thing.bin"],
        "nothing else is left behind"
    );
    // A seed has all that was asked of it, whenever it is stopped.
    seed.interrupt().expect(0);
}

#[test]
fn a_folder_with_empty_and_oddly_named_files_comes_through_a_tracker() {
    let sandbox = Sandbox::new();
    for (name, len) in [
        ("a", 100_000),
        ("sub/ünï 日本.txt", 1),
        ("sub/deep/er/b", 70_000),
    ] {
        sandbox.random(&format!("tree/{name}"), len, 3);
    }
    sandbox.write("tree/empty", b"");
    let (_tracker, url) = sandbox.tracker();
    let torrent = sandbox.create(&sandbox.path("tree"), &[&"--tracker", &url]);
    let folder = sandbox.path("");
    let mut seed = sandbox.start("seed", &[&torrent, &folder, &"--listen", &LOOPBACK]);
    seed.addr();
    let out = sandbox.path("out");
    sandbox
        .run("get", &[&torrent, &"-d", &out, &"--listen", &LOOPBACK])
        .expect(0);
    assert_same(&sandbox.path("tree"), &sandbox.path("out/tree"));
}

#[test]
fn events_tell_the_whole_story_in_order() {
    let sandbox = Sandbox::new();
    let (_seed, addr) = seeded(&sandbox, 500_000, &[]);
    let done = get(&sandbox, &["--peer", &addr, "--json-lines"]).expect(0);
    let events: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = |name: &str| {
        let found = events.iter().position(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", done.stdout))
    };
    let order = [
        "listening",
        "metadata",
        "connected",
        "unchoked",
        "piece",
        "complete",
    ];
    assert!(order.map(first).is_sorted(), "{}", done.stdout);
    assert!(
        events
            .iter()
            .map(|event| event["t"].as_f64().unwrap())
            .is_sorted()
    );
    let metadata = &events[first("metadata")];
    assert_eq!(metadata["name"], "thing.bin");
    assert_eq!(metadata["bytes"], 500_000);
    assert_eq!(metadata["pieces"], 31);
    let connected = &events[first("connected")];
    assert_eq!(connected["peer"], addr);
    assert_eq!(connected["direction"], "outgoing");
    assert_eq!(connected["transport"], "tcp");
    assert_eq!(connected["encrypted"], false);
    let pieces = events.iter().filter(|event| event["event"] == "piece");
    let mut have: Vec<u64> = pieces
        .map(|event| event["have"].as_u64().unwrap())
        .collect();
    have.sort_unstable();
    assert_eq!(have, (1..=31).collect::<Vec<u64>>());
    let complete = &events[first("complete")];
    for field in ["seconds", "uploaded", "mean_rate", "peak_rate"] {
        assert!(complete[field].is_number(), "{complete}");
    }
    assert_eq!(complete["bytes"], 500_000);
    assert_eq!(complete["downloaded"], 500_000);
    assert_eq!(complete["duplicate"], 0);
    assert_eq!(complete["failed_hash"], 0);
    assert_eq!(complete["best_peers"][0]["peer"], addr);
    let last = events
        .iter()
        .rfind(|event| event["event"] == "progress")
        .unwrap();
    assert_eq!(last["have_bytes"], 500_000);
    assert_eq!(last["downloaded"], 500_000);
}

#[test]
fn a_download_that_cannot_finish_says_why_and_exits_with_7() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing.bin", 100_000, 7);
    sandbox.create(&file, &[]);
    let done = get(&sandbox, &["--timeout", "300ms"]).expect(7);
    assert!(
        done.error()
            .starts_with("not done after 0.3 s: thing.bin: 0 % of 100.0 KB")
    );
    let done = get(&sandbox, &["--stall-timeout", "300ms"]).expect(7);
    assert!(done.error().starts_with("no byte for 0.3 s: "));
    assert_eq!(done.stdout, "");
}

#[test]
fn a_leech_killed_midway_and_started_again_finishes_without_the_bytes_it_had() {
    let sandbox = Sandbox::new();
    let (mut seed, addr) = seeded(&sandbox, 20_000_000, &["--up", "8M"]);
    let torrent = sandbox.path("thing.bin.torrent");
    let out = sandbox.path("out");
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &torrent,
        &"-d",
        &out,
        &"--listen",
        &LOOPBACK,
        &"--peer",
        &addr,
    ];
    let mut leech = sandbox.start("get", &words);
    leech.wait_until("progress", |event| {
        event["have_bytes"].as_u64() > Some(6_000_000)
    });
    leech.kill();
    assert!(sandbox.path("out/thing.bin.part").exists());
    assert!(!sandbox.path("out/thing.bin").exists());
    sandbox.run("get", &words).expect(0);
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
    assert_eq!(names(&out), ["thing.bin"]);
    seed.interrupt().expect(0);
    let last = seed
        .events
        .iter()
        .rfind(|event| event["event"] == "progress")
        .unwrap();
    let uploaded = last["uploaded"].as_u64().unwrap();
    // Issue: a restart fetches at most 16 MiB again; what was saved is not fetched at all.
    assert!(
        uploaded < 20_000_000 + 6_000_000,
        "{uploaded} bytes were uploaded"
    );
}

#[test]
fn an_interrupted_download_continues_where_it_stopped() {
    let sandbox = Sandbox::new();
    let (_seed, addr) = seeded(&sandbox, 10_000_000, &["--up", "5M"]);
    let torrent = sandbox.path("thing.bin.torrent");
    let out = sandbox.path("out");
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &torrent,
        &"-d",
        &out,
        &"--listen",
        &LOOPBACK,
        &"--peer",
        &addr,
    ];
    let mut leech = sandbox.start("get", &words);
    leech.wait_until("progress", |event| {
        event["have_bytes"].as_u64() > Some(3_000_000)
    });
    let done = leech.interrupt().expect(7);
    assert!(
        done.error().starts_with("interrupted: thing.bin: "),
        "{}",
        done.stderr
    );
    assert!(
        done.error()
            .ends_with("run the same command again to continue")
    );
    let mut leech = sandbox.start("get", &words);
    let complete = leech.wait_for("complete");
    assert!(
        complete["downloaded"].as_u64() < Some(7_100_000),
        "{complete}"
    );
    leech.finish().expect(0);
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
}

#[test]
fn nobodys_file_is_destroyed() {
    let sandbox = Sandbox::new();
    let (_seed, addr) = seeded(&sandbox, 200_000, &[]);
    let theirs = random_bytes(200_000, 99);
    sandbox.write("out/thing.bin", &theirs);
    let done = get(&sandbox, &["--peer", &addr]).expect(10);
    assert!(done.error().contains("--overwrite"), "{}", done.stderr);
    assert_eq!(
        std::fs::read(sandbox.path("out/thing.bin")).unwrap(),
        theirs
    );
    get(&sandbox, &["--peer", &addr, "--overwrite"]).expect(0);
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
}

#[test]
fn a_file_with_some_right_pieces_is_adopted() {
    let sandbox = Sandbox::new();
    let (mut seed, addr) = seeded(&sandbox, 200_000, &[]);
    let mut bytes = std::fs::read(sandbox.path("thing.bin")).unwrap();
    bytes[150_000] ^= 1;
    sandbox.write("out/thing.bin", &bytes);
    let done = get(&sandbox, &["--peer", &addr]).expect(0);
    assert!(
        done.stderr.contains("found 12 of 13 pieces"),
        "{}",
        done.stderr
    );
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
    seed.interrupt().expect(0);
    let last = seed
        .events
        .iter()
        .rfind(|event| event["event"] == "progress")
        .unwrap();
    assert_eq!(last["uploaded"], 16_384);
}

#[test]
fn only_selected_files_are_downloaded() {
    let sandbox = Sandbox::new();
    for name in ["a.txt", "b.bin", "sub/c.txt"] {
        sandbox.random(&format!("tree/{name}"), 50_000, name.len() as u64);
    }
    let torrent = sandbox.create(&sandbox.path("tree"), &[]);
    let folder = sandbox.path("");
    let mut seed = sandbox.start("seed", &[&torrent, &folder, &"--listen", &LOOPBACK]);
    let (addr, out) = (seed.addr(), sandbox.path("out"));
    let get = |words: &[&str]| {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
            &torrent,
            &"-d",
            &out,
            &"--listen",
            &LOOPBACK,
            &"--peer",
            &addr,
        ];
        all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        sandbox.run("get", &all)
    };
    let done = get(&["-s", "*.mkv"]).expect(2);
    assert!(done.stderr.contains("tree/sub/c.txt"), "{}", done.stderr);
    get(&["-s", "*.txt"]).expect(0);
    for name in ["tree/a.txt", "tree/sub/c.txt"] {
        assert_same(&sandbox.path(name), &out.join(name));
    }
    assert!(!out.join("tree/b.bin").exists());
    get(&["-s", "2"]).expect(0);
    assert_same(&sandbox.path("tree"), &out.join("tree"));
}

#[test]
fn several_sources_are_all_tried_and_the_first_failure_decides() {
    let sandbox = Sandbox::new();
    let (_seed, addr) = seeded(&sandbox, 100_000, &[]);
    let bad = sandbox.write("bad.torrent", b"d4:spam4:eggse");
    let (good, none) = (
        sandbox.path("thing.bin.torrent"),
        sandbox.path("none.torrent"),
    );
    let out = sandbox.path("out");
    let done = sandbox
        .run(
            "get",
            &[
                &bad,
                &good,
                &none,
                &"-d",
                &out,
                &"--peer",
                &addr,
                &"--listen",
                &LOOPBACK,
            ],
        )
        .expect(6);
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
    assert_eq!(
        done.stdout.trim_end(),
        out.join("thing.bin").to_string_lossy()
    );
    assert!(done.stderr.contains("2 sources failed"), "{}", done.stderr);
}

#[test]
fn a_seed_with_wrong_data_reports_each_file_and_exits_with_8() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.random(&format!("tree/{name}"), 40_000, 1);
    }
    let torrent = sandbox.create(&sandbox.path("tree"), &[]);
    std::fs::remove_file(sandbox.path("tree/b")).unwrap();
    let done = sandbox
        .run("seed", &[&torrent, &"--listen", &LOOPBACK])
        .expect(8);
    assert!(
        done.stderr.contains("tree/b: 0 of 40000 bytes verified"),
        "{}",
        done.stderr
    );
    let elsewhere = sandbox.dir("elsewhere");
    let done = sandbox
        .run("seed", &[&torrent, &elsewhere, &"--listen", &LOOPBACK])
        .expect(3);
    assert!(done.error().contains("expected "), "{}", done.stderr);
    assert!(done.error().ends_with("elsewhere/tree"), "{}", done.stderr);
}

#[test]
fn what_is_complete_already_ends_at_once() {
    let sandbox = Sandbox::new();
    let (mut seed, addr) = seeded(&sandbox, 100_000, &[]);
    get(&sandbox, &["--peer", &addr]).expect(0);
    seed.interrupt().expect(0);
    let done = get(&sandbox, &[]).expect(0);
    assert_eq!(
        done.stdout.trim_end(),
        sandbox.path("out/thing.bin").to_string_lossy()
    );
}

#[test]
fn a_file_of_no_bytes_is_made() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("thing.bin", b"");
    sandbox.create(&file, &[]);
    get(&sandbox, &[]).expect(0);
    assert_eq!(std::fs::read(sandbox.path("out/thing.bin")).unwrap(), b"");
}

#[test]
fn seeding_goes_on_until_the_ratio_is_reached() {
    let sandbox = Sandbox::new();
    let (mut seed, addr) = seeded(&sandbox, 300_000, &[]);
    let torrent = sandbox.path("thing.bin.torrent");
    let one = sandbox.path("one");
    let mut first = sandbox.start(
        "get",
        &[
            &torrent,
            &"-d",
            &one,
            &"--listen",
            &LOOPBACK,
            &"--peer",
            &addr,
            &"--seed",
            &"ratio=1",
        ],
    );
    let first_addr = first.addr();
    first.wait_for("complete");
    seed.interrupt().expect(0);
    get(&sandbox, &["--peer", &first_addr]).expect(0);
    first.finish().expect(0);
}

#[test]
fn a_disk_that_takes_no_more_ends_the_download_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let (_seed, addr) = seeded(&sandbox, 3_000_000, &[]);
    let (torrent, out) = (sandbox.path("thing.bin.torrent"), sandbox.path("out"));
    let words = "ulimit -f 2048 && exec \"$0\" get \"$1\" -d \"$2\" --sequential --listen 127.0.0.1:0 --peer \"$3\"";
    let shell = std::process::Command::new("bash")
        .args(["-c", words, env!("CARGO_BIN_EXE_dunlin")])
        .args([&torrent, &out])
        .arg(&addr)
        .env("HOME", sandbox.path(""))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let done = crate::fixture::wait(shell, crate::fixture::PATIENCE).expect(5);
    assert!(done.error().contains("thing.bin.part: "), "{}", done.stderr);
    let done = get(&sandbox, &["--peer", &addr]).expect(0);
    assert!(done.stderr.contains("continuing with "), "{}", done.stderr);
    assert_same(&sandbox.path("thing.bin"), &sandbox.path("out/thing.bin"));
}

#[test]
fn a_place_that_cannot_hold_files_is_refused() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing.bin", 1000, 7);
    let torrent = sandbox.create(&file, &[]);
    for (dir, code) in [("/dev/null", 10), ("/proc/none", 5), ("/dev/null/x", 5)] {
        let done = sandbox.run("get", &[&torrent, &"-d", &dir, &"--listen", &LOOPBACK]);
        assert!(done.expect(code).error().contains(dir), "{dir}");
    }
}
