//! What may be named as a torrent, and the small commands around that: `link`, several sources at
//! once, `completions`, `man`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::fixture::{Sandbox, names};

const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn link_prints_what_show_calls_the_magnet() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("a thing", 1000, 1);
    let torrent = sandbox.create(&file, &[&"--tracker", &"http://a/x?y=1"]);
    let done = sandbox.run("link", &[&torrent]).expect(0);
    let shown = sandbox.run("show", &[&torrent, &"--json"]).expect(0).json();
    assert_eq!(done.stdout.trim_end(), shown["magnet"].as_str().unwrap());
    assert!(
        done.stdout
            .contains("&dn=a%20thing&tr=http%3A%2F%2Fa%2Fx%3Fy%3D1")
    );
    assert_eq!(done.stderr, "");
    sandbox.run("link", &[&"none.torrent"]).expect(3);
}

#[test]
fn all_sources_are_tried_and_the_first_failure_decides() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing", 100_000, 1);
    let torrent = sandbox.create(&file, &[]);
    let html = sandbox.write("page.torrent", b"<html>");
    let mut seed = sandbox.start("seed", &[&torrent, &"data", &"--listen", &LOOPBACK]);
    let peer = seed.addr();
    let done = sandbox
        .run(
            "get",
            &[
                &"none.torrent",
                &html,
                &torrent,
                &"--listen",
                &LOOPBACK,
                &"--peer",
                &peer,
            ],
        )
        .expect(3);
    assert_eq!(done.stdout, "thing\n");
    for words in [
        "error: none.torrent: no such file or folder",
        "page.torrent: this is HTML",
        "error: 2 sources failed, the first: none.torrent: no such file or folder",
    ] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    seed.interrupt().expect(0);
}

#[test]
fn a_torrent_named_twice_is_fetched_once_and_that_is_a_conflict() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let done = sandbox
        .run("get", &[&torrent, &torrent, &"--listen", &LOOPBACK])
        .expect(10);
    assert_eq!(done.stdout, "thing\n");
    assert!(done.stderr.contains("named twice"), "{}", done.stderr);
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    let link = format!("{}&x.pe=127.0.0.1:9", link.trim_end());
    let done = sandbox
        .run("get", &[&torrent, &link, &"--listen", &LOOPBACK])
        .expect(10);
    let line = format!("error: {link}: the same torrent is named twice\n");
    assert!(done.stderr.starts_with(&line), "{}", done.stderr);
}

#[test]
fn every_shell_gets_a_script_without_what_is_hidden() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sandbox.run("completions", &[&shell]).expect(0).stdout;
        for word in ["verify", "preferred-neighbors", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        for word in ["__options", "no-dht", "while-stdin"] {
            assert!(!script.contains(word), "{shell}: {word}");
        }
    }
    let done = sandbox.run("completions", &[&"tcsh"]).expect(2);
    assert!(done.error().contains("bash"), "{}", done.stderr);
}

#[test]
fn manual_pages_are_written_and_replace_only_their_like() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("share/man1");
    let done = sandbox.run("man", &[&dir]).expect(0);
    let pages = names(&dir);
    assert_eq!(done.stdout.lines().count(), pages.len());
    for name in ["dunlin.1", "dunlin-get.1", "dunlin-man.1"] {
        assert!(pages.contains(&name.into()), "{pages:?}");
    }
    assert!(!pages.contains(&"dunlin-__options.1".into()));
    sandbox.run("man", &[&dir]).expect(0);
    fs::remove_file(dir.join("dunlin.1")).unwrap();
    fs::write(dir.join("dunlin-get.1"), "a diary").unwrap();
    let done = sandbox.run("man", &[&dir]).expect(10);
    assert!(done.error().contains("dunlin-get.1: "), "{}", done.stderr);
    assert_eq!(
        fs::read_to_string(dir.join("dunlin-get.1")).unwrap(),
        "a diary"
    );
    assert!(!dir.join("dunlin.1").exists());
}

/// A web server: it answers every GET with what `answer` makes of the path, or never if that is
/// nothing.
fn web_server(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let len = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            match answer(request.split(' ').nth(1).unwrap_or_default()) {
                Some(bytes) => drop(stream.write_all(&bytes)),
                None => silent.push(stream),
            }
        }
    });
    url
}

fn response(status: &str, body: &[u8]) -> Option<Vec<u8>> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Some([head.as_bytes(), body].concat())
}

#[test]
fn every_command_that_asks_a_server_takes_the_way_that_it_is_told() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let bytes = fs::read(&torrent).unwrap();
    let url = web_server(move |_| response("200 OK", &bytes));
    for command in ["show", "link", "verify", "seed", "get"] {
        let run = |words: &[&str]| {
            let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&url];
            all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
            sandbox.run(command, &all)
        };
        let done = run(&["-6"]).expect(3);
        assert!(
            done.error().contains("of a family that is used"),
            "{}",
            done.stderr
        );
        let done = run(&["--interface", "nowhere0"]).expect(2);
        assert!(
            done.error().contains("nowhere0: no such network interface"),
            "{}",
            done.stderr
        );
        if ["show", "link", "verify"].contains(&command) {
            run(&["-4", "--interface", "127.0.0.1"]).expect(0);
        }
    }
}

#[test]
fn a_url_is_a_source_and_each_failure_has_its_code() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 1);
    let torrent = sandbox.create(&file, &[]);
    let bytes = fs::read(&torrent).unwrap();
    let url = web_server(move |path| match path {
        "/thing.torrent" => response("200 OK", &bytes),
        "/page" => response("200 OK", b"<!doctype html><p>Log in first"),
        "/members" => response("403 Forbidden", b""),
        "/login" => response("401 Unauthorized", b""),
        "/broken" => response("500 Internal Server Error", b""),
        "/silent" => None,
        _ => response("404 Not Found", b""),
    });
    let url = |path: &str| format!("{url}{path}");
    let there = url("/thing.torrent");
    let done = sandbox
        .run("get", &[&there, &"--listen", &LOOPBACK])
        .expect(0);
    assert_eq!(done.stdout, "thing\n");
    sandbox.run("show", &[&there]).expect(0);
    sandbox.run("verify", &[&there]).expect(0);
    let link = sandbox.run("link", &[&there]).expect(0).stdout;
    assert!(link.starts_with("magnet:?"), "{link}");
    for (path, code, words) in [
        ("/page", 6, "this is HTML, no torrent"),
        ("/none", 3, "404"),
        ("/members", 4, "403"),
        ("/login", 4, "401"),
        ("/broken", 1, "500"),
    ] {
        let source = url(path);
        for command in ["get", "show"] {
            let done = sandbox.run(command, &[&source]).expect(code);
            let error = done.error();
            assert!(error.starts_with(&source), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }
    let done = sandbox
        .run("get", &[&url("/silent"), &"--timeout", &"200ms"])
        .expect(7);
    assert!(done.error().contains("/silent: "), "{}", done.stderr);
}

#[test]
fn a_server_that_is_not_there_or_is_silent_can_be_given_up() {
    let sandbox = Sandbox::new();
    let nobody = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let done = sandbox
        .run("get", &[&format!("http://{nobody}/x.torrent")])
        .expect(3);
    assert!(
        done.error().contains("that the server is running"),
        "{}",
        done.stderr
    );
    sandbox.run("get", &[&"http://"]).expect(2);
    let (asked, is_asked) = std::sync::mpsc::channel();
    let url = web_server(move |_| {
        asked.send(()).unwrap();
        None
    });
    let mut get = sandbox.start("get", &[&url]);
    is_asked.recv().unwrap();
    let done = get.interrupt().expect(7);
    assert!(done.error().ends_with("interrupted"), "{}", done.stderr);
}

#[test]
fn a_link_is_shown_as_far_as_it_goes() {
    let sandbox = Sandbox::new();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let link = format!(
        "magnet:?xt=urn:btih:{hash}&dn=a+thing&tr=http%3A%2F%2Fa%2Fx&x.pe=10.0.0.5:6881&so=0,2-4"
    );
    let shown = sandbox.run("show", &[&link]).expect(0).stdout;
    for line in [
        "name          a thing",
        "info hash v1  0123456789abcdef0123456789abcdef01234567",
        "tracker       http://a/x",
        "peer          10.0.0.5:6881",
        "selected      files 1, 3-5",
    ] {
        assert!(shown.lines().any(|other| other == line), "{line}: {shown}");
    }
    let shown = sandbox.run("show", &[&link, &"--json"]).expect(0).json();
    assert_eq!(shown["info_hash_v1"], hash);
    assert!(shown["files"].is_null() && shown["pieces"].is_null());
    // The same link, in our own words.
    let saved = sandbox.write("saved", format!("{link}\n").as_bytes());
    let ours = sandbox.run("link", &[&saved]).expect(0).stdout;
    assert!(ours.contains("&dn=a%20thing&so=0,2-4&x.pe="), "{ours}");
    let bare = sandbox.run("link", &[&hash]).expect(0).stdout;
    assert_eq!(bare, format!("magnet:?xt=urn:btih:{hash}\n"));
    sandbox.run("show", &[&"magnet:?xt=urn:btih:0"]).expect(6);
    let done = sandbox.run("show", &[&hash]).expect(2);
    assert!(done.error().contains("--peer"), "{}", done.stderr);
    for command in ["seed", "verify"] {
        let done = sandbox.run(command, &[&link]).expect(2);
        assert!(
            done.error().contains("a link does not tell"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn a_selection_is_told_at_its_own_size() {
    let sandbox = Sandbox::new();
    for (name, len) in [("tree/large", 1_000_000), ("tree/small", 16_384 * 3)] {
        sandbox.random(name, len, 1);
    }
    let torrent = sandbox.create(&sandbox.path("tree"), &[&"--piece-length", &"16K"]);
    let mut seed = sandbox.start("seed", &[&torrent, &"--listen", &LOOPBACK]);
    let peer = seed.addr();
    let words: [&dyn AsRef<std::ffi::OsStr>; 9] = [
        &torrent,
        &"--listen",
        &LOOPBACK,
        &"--peer",
        &peer,
        &"--select",
        &"small",
        &"--dir",
        &"out",
    ];
    let done = sandbox.run("get", &words).expect(0);
    // Whole pieces: the first of them is the large file's last.
    assert!(
        done.stderr.contains("complete: tree: 49.7 KB in "),
        "{}",
        done.stderr
    );
    seed.interrupt().expect(0);
}
