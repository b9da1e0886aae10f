//! What is typed and what comes back: options, exit codes, `create`, `show`, `verify`, `tracker`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::json;

use crate::fixture::{Done, PATIENCE, Running, Sandbox, names, wait};

const LOOPBACK: &str = "127.0.0.1:0";

/// Runs with `text` on stdin.
fn with_stdin(sandbox: &Sandbox, command: &str, words: &[&str], text: &[u8]) -> Done {
    let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words
        .iter()
        .map(|word| word as &dyn AsRef<std::ffi::OsStr>)
        .collect();
    let mut child = sandbox
        .dunlin(command, &words)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    wait(child, PATIENCE)
}

#[test]
fn create_gives_the_same_bytes_for_the_same_input() {
    let sandbox = Sandbox::new();
    for name in ["b", "a/x", "a/y"] {
        sandbox.random(&format!("tree/{name}"), 40_000, name.len() as u64);
    }
    let tree = sandbox.path("tree");
    let done = sandbox.run("create", &[&tree, &"--no-date"]).expect(0);
    assert_eq!(done.stdout.trim_end(), "tree.torrent");
    assert!(
        done.stderr.contains("piece length 16 KiB, 8 pieces: "),
        "{}",
        done.stderr
    );
    sandbox
        .run(
            "create",
            &[&tree, &"--no-date", &"--threads", &"3", &"-o", &"two"],
        )
        .expect(0);
    let read = |name: &str| fs::read(sandbox.path(name)).unwrap();
    assert_eq!(read("tree.torrent"), read("two"));
    // Nothing that exists is replaced.
    let done = sandbox.run("create", &[&tree]).expect(10);
    assert!(
        done.error().starts_with("tree.torrent: exists already"),
        "{}",
        done.stderr
    );
    assert_eq!(
        names(&sandbox.path(""))[..],
        ["tree", "tree.torrent", "two"]
    );
}

#[test]
fn create_tells_programs_what_it_made() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1_000_000, 1);
    let created = sandbox
        .run(
            "create",
            &[
                &file,
                &"--json",
                &"--piece-length",
                &"64K",
                &"--tracker",
                &"http://a/x,http://b/y",
                &"--tracker",
                &"udp://c:1",
                &"--private",
                &"--comment",
                &"hello",
                &"--web-seed",
                &"http://d/",
            ],
        )
        .expect(0)
        .json();
    assert_eq!(created["name"], "thing");
    assert_eq!(created["piece_length"], 65_536);
    assert_eq!(created["pieces"], 16);
    assert_eq!(created["bytes"], 1_000_000);
    assert_eq!(created["files"], 1);
    assert_eq!(created["info_hash_v2"], json!(null));
    assert!(created["seconds"].is_number());
    let shown = sandbox
        .run("show", &[&"thing.torrent", &"--json"])
        .expect(0)
        .json();
    assert_eq!(shown["info_hash_v1"], created["info_hash_v1"]);
    assert_eq!(
        shown["trackers"],
        json!([["http://a/x", "http://b/y"], ["udp://c:1"]])
    );
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "hello");
    assert_eq!(shown["web_seeds"], json!(["http://d/"]));
    assert_eq!(shown["nodes"], json!([]));
    assert!(shown["created"].is_i64());
    assert_eq!(
        shown["files"],
        json!([{"path": "thing", "bytes": 1_000_000, "attributes": []}])
    );
    let magnet = shown["magnet"].as_str().unwrap();
    assert!(magnet.starts_with("magnet:?xt=urn:btih:"), "{magnet}");
}

#[test]
fn create_refuses_what_cannot_be_shared() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let empty = sandbox.dir("empty");
    sandbox.run("create", &[&sandbox.path("none")]).expect(3);
    sandbox.run("create", &[&empty]).expect(6);
    for words in [
        ["--piece-length", "100K"],
        ["--piece-length", "x"],
        ["--threads", "0"],
    ] {
        sandbox
            .run("create", &[&file, &words[0], &words[1]])
            .expect(2);
    }
    for flag in ["--v2", "--hybrid"] {
        let done = sandbox.run("create", &[&file, &flag]).expect(2);
        assert!(done.error().contains("not built yet"));
    }
    let done = sandbox
        .run("create", &[&file, &"-o", &sandbox.path("no/folder/x")])
        .expect(3);
    // Hashing takes minutes: a place that takes no file is refused before.
    assert!(!done.stderr.contains("piece length"), "{}", done.stderr);
    assert_eq!(names(&sandbox.path(""))[..], ["empty", "thing"]);
}

#[test]
fn show_reads_stdin_and_says_what_is_no_torrent() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 100_000, 1);
    let bytes = fs::read(sandbox.create(&file, &[])).unwrap();
    let done = with_stdin(&sandbox, "show", &["-"], &bytes).expect(0);
    assert!(
        done.stdout.starts_with("name          thing\n"),
        "{}",
        done.stdout
    );
    for (bad, word) in [
        (&b"<!DOCTYPE html><html>"[..], "HTML"),
        (&bytes[..bytes.len() / 2], "stdin"),
        (b"", "stdin"),
        (b"d4:infod12:piece lengthi0eee", "stdin"),
        (&[0xff; 1000], "stdin"),
    ] {
        let done = with_stdin(&sandbox, "show", &["-"], bad).expect(6);
        assert!(done.error().contains(word), "{}", done.stderr);
    }
}

#[test]
fn something_to_download_without_a_command_hints_at_get() {
    let sandbox = Sandbox::new();
    let magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567";
    for (source, shown) in [
        // A shell would take its own meaning from the question mark.
        (magnet, format!("'{magnet}'").as_str()),
        (
            "http://127.0.0.1:1/x.torrent",
            "http://127.0.0.1:1/x.torrent",
        ),
        (
            "0123456789abcdef0123456789abcdef01234567",
            "0123456789abcdef0123456789abcdef01234567",
        ),
        ("thing.torrent", "thing.torrent"),
    ] {
        let done = sandbox.run("", &[&source]).expect(2);
        assert!(
            done.error().ends_with(&format!("dunlin get {shown}")),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn verify_finds_a_flipped_byte_and_names_the_file() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.random(&format!("tree/{name}"), 50_000, 1);
    }
    let tree = sandbox.path("tree");
    let torrent = sandbox.create(&tree, &[]);
    // The folder that holds it, the content itself, and the default: here.
    sandbox
        .run("verify", &[&torrent, &sandbox.path("")])
        .expect(0);
    sandbox.run("verify", &[&torrent, &tree]).expect(0);
    sandbox.run("verify", &[&torrent]).expect(0);
    let mut bytes = fs::read(tree.join("b")).unwrap();
    bytes[25_000] ^= 0x10;
    fs::write(tree.join("b"), &bytes).unwrap();
    let done = sandbox.run("verify", &[&torrent]).expect(8);
    assert!(done.error().contains("1 of 10 pieces"), "{}", done.stderr);
    assert!(done.stderr.contains("tree/b: "), "{}", done.stderr);
    assert!(!done.stderr.contains("tree/a: "), "{}", done.stderr);
    let report = sandbox
        .run("verify", &[&torrent, &"--json"])
        .expect(8)
        .json();
    assert_eq!(report["ok_pieces"], 9);
    assert_eq!(report["bad_pieces"], 1);
    assert_eq!(report["files"][1]["path"], "tree/b");
    assert_eq!(report["files"][1]["bytes"], 50_000);
    assert_eq!(report["files"][1]["ok_bytes"], 50_000 - 16_384);
    fs::remove_file(tree.join("c")).unwrap();
    let report = sandbox
        .run("verify", &[&torrent, &"--json"])
        .expect(8)
        .json();
    assert_eq!(report["files"][2]["ok_bytes"], 0);
    let done = sandbox
        .run("verify", &[&torrent, &sandbox.dir("elsewhere")])
        .expect(3);
    assert!(done.error().ends_with("elsewhere/tree"), "{}", done.stderr);
}

#[test]
fn usage_errors_are_one_line_with_exit_code_2() {
    let sandbox = Sandbox::new();
    for words in [
        &["gett", "x"][..],
        &["get"],
        &["get", "x", "--dwon", "1M"],
        &["get", "x", "--up", "fast"],
        &["get", "x", "--order", "backwards"],
        &["get", "x", "--seed", "sometimes"],
        &["get", "x", "--timeout", "30"],
        &["get", "x", "--encryption", "prefer"],
        &["get", "x", "--tracker", "wss://127.0.0.1:1"],
        &["get", "x", "--interface", ""],
        &["get", "x", "-4", "-6"],
        &["get", "x", "--peer", "nobody"],
        &["tracker", "--udp", "6969"],
        &["share"],
        &["demo", "--size", "0"],
    ] {
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words
            .iter()
            .map(|word| word as &dyn AsRef<std::ffi::OsStr>)
            .collect();
        let done = sandbox.run("", &words).expect(2);
        done.error();
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn what_is_not_built_can_be_switched_off_in_silence() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let done = sandbox
        .run(
            "get",
            &[
                &torrent,
                &"--no-dht",
                &"--no-pex",
                &"--no-lsd",
                &"--no-portmap",
                &"--encryption",
                &"off",
                &"--listen",
                &LOOPBACK,
            ],
        )
        .expect(0);
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
}

#[test]
fn options_come_from_flag_environment_and_file() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let run = |variables: &[(&str, &str)], words: &[&str]| {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&torrent, &"--listen", &LOOPBACK, &"--timeout", &"50ms"];
        all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        let mut dunlin = sandbox.dunlin("get", &all);
        dunlin.envs(variables.iter().copied());
        wait(dunlin.spawn().unwrap(), PATIENCE)
    };
    // A rate below 1 KB/s draws a warning that tells which value counted.
    sandbox.write(
        ".config/dunlin/dunlin.toml",
        b"[limits]\nup = \"101\"\n[download]\ndir = \"d\"",
    );
    let rate = |done: &Done| {
        let line = done
            .stderr
            .lines()
            .find(|line| line.contains("limits.up"))
            .unwrap()
            .to_owned();
        line.split(" is ")
            .nth(1)
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(rate(&run(&[], &[])), "101 B/s");
    let variable = ("DUNLIN_LIMITS__UP", "102");
    assert_eq!(rate(&run(&[variable], &[])), "102 B/s");
    assert_eq!(rate(&run(&[variable], &["--up", "103"])), "103 B/s");
    let other = sandbox.write("other.toml", b"[limits]\nup = \"104\"");
    let other = other.to_str().unwrap();
    assert_eq!(rate(&run(&[], &["--config", other])), "104 B/s");
    let typo = sandbox.write("typo.toml", b"[limits]\nuup = \"104\"");
    let done = run(&[], &["--config", typo.to_str().unwrap()]).expect(6);
    assert!(
        done.error()
            .ends_with("unknown key limits.uup; did you mean limits.up?")
    );
    run(&[], &["--config", "none.toml"]).expect(3);
    let done = run(&[("DUNLIN_LIMITS__UPP", "1M")], &[]).expect(2);
    assert!(
        done.error().ends_with("did you mean limits.up?"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_tracker_serves_until_it_is_interrupted() {
    let sandbox = Sandbox::new();
    let (mut tracker, url) = sandbox.tracker();
    let addr = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/announce")
        .unwrap();
    let done = sandbox.run("tracker", &[&"--http", &addr]).expect(10);
    let expected = format!("{addr}: another program listens there (HTTP); ");
    assert!(done.error().contains(&expected), "{}", done.stderr);
    assert!(done.error().ends_with("--http"), "{}", done.stderr);
    let udp = tracker.udp_addr();
    let done = sandbox
        .run("tracker", &[&"--http", &"127.0.0.1:0", &"--udp", &udp])
        .expect(10);
    let expected = format!("{udp}: another program listens there (UDP); ");
    assert!(done.error().contains(&expected), "{}", done.stderr);
    assert!(done.error().ends_with("--udp"), "{}", done.stderr);
    let done = tracker.interrupt().expect(0);
    for scheme in ["http", "udp"] {
        let line = format!("announce URL: {scheme}://127.0.0.1:");
        assert!(done.stderr.contains(&line), "{}", done.stderr);
    }
}

#[test]
fn a_tracker_without_descriptors_left_answers_and_says_so_once() {
    let sandbox = Sandbox::new();
    let program = env!("CARGO_BIN_EXE_dunlin");
    let line =
        format!("ulimit -n 40; exec {program} tracker --http 127.0.0.1:0 --udp off --json-lines");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &line])
        .current_dir(sandbox.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tracker = Running::new(shell.spawn().unwrap());
    let addr = tracker.addr();
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(&addr).unwrap())
        .collect();
    let mut stream = TcpStream::connect(&addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(silent);
    let done = tracker.interrupt().expect(0);
    assert_eq!(done.stderr.matches("warning").count(), 1, "{}", done.stderr);
}

#[test]
fn logs_go_where_and_how_they_are_asked_to() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let log = sandbox.path("log");
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &torrent,
        &"--listen",
        &LOOPBACK,
        &"--log-format",
        &"json",
        &"--log-file",
        &log,
    ];
    let done = sandbox.run("get", &words).expect(0);
    for text in [
        done.stderr.lines().next().unwrap(),
        fs::read_to_string(&log).unwrap().lines().next().unwrap(),
    ] {
        let line: serde_json::Value = serde_json::from_str(text).expect("a JSON object a line");
        assert_eq!(line["level"], "INFO");
        assert!(line["message"].is_string());
    }
    let done = sandbox
        .run("get", &[&torrent, &"--listen", &LOOPBACK, &"-q"])
        .expect(0);
    assert_eq!(done.stderr, "");
    let done = sandbox
        .run(
            "get",
            &[&torrent, &"--listen", &LOOPBACK, &"--log", &"a=b=c"],
        )
        .expect(2);
    assert!(
        done.error().starts_with("--log \"a=b=c\": "),
        "{}",
        done.stderr
    );
}

#[test]
fn the_page_of_options_is_printed_from_the_code() {
    let sandbox = Sandbox::new();
    let printed = sandbox.run("__options", &[]).expect(0).stdout;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
    let kept = fs::read_to_string(page).unwrap_or_default();
    assert!(
        kept == printed,
        "docs/options.md is old: cargo run -- __options > docs/options.md"
    );
}
