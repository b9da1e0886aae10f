//! What may be named as a torrent, and the small commands around that: `link`, several sources at
//! once, `completions`, `man`.

use std::fs;

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
        "error: none.torrent: no such file\n",
        "page.torrent: this is HTML",
        "error: 2 sources failed, the first: none.torrent: no such file\n",
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
