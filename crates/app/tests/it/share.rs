//! `share`: one line on each side.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use crate::fixture::{Running, Sandbox, Words, assert_same, names, wait};

const LOOPBACK: &str = "127.0.0.1:0";

/// `dunlin share` on loopback, and what it tells others.
fn share(sandbox: &Sandbox, words: Words<'_>) -> (Running, serde_json::Value) {
    let mut all = words.to_vec();
    all.extend([&"--listen" as &dyn AsRef<std::ffi::OsStr>, &LOOPBACK]);
    let mut share = sandbox.start("share", &all);
    let told = share.wait_for("sharing");
    (share, told)
}

fn text(value: &serde_json::Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

#[test]
fn what_share_prints_is_all_that_the_other_side_types() {
    let sandbox = Sandbox::new();
    for (name, len) in [("my folder/größe & co.bin", 500_000), ("my folder/x", 7)] {
        sandbox.random(name, len, 3);
    }
    let folder = sandbox.path("my folder");
    let (mut share, told) = share(&sandbox, &[&folder, &"--http", &LOOPBACK, &"--once"]);
    let command = text(&told, "command");
    let url = command.strip_prefix("dunlin get ").unwrap();
    assert!(url.ends_with("/my%20folder.torrent"), "{url}");
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let done = sandbox
        .run("get", &[&url, &"--dir", &"got", &"--listen", &LOOPBACK])
        .expect(0);
    assert_eq!(done.stdout, "got/my folder\n");
    assert_same(&folder, &sandbox.path("got/my folder"));
    // One receiver has everything: that is what was asked for.
    let done = share.finish().expect(0);
    assert!(done.stderr.contains(" has everything\n"), "{}", done.stderr);
    assert!(
        done.stderr.contains("ended: my folder in "),
        "{}",
        done.stderr
    );
    // Nothing was left behind.
    assert_eq!(names(&sandbox.path(""))[..], ["got", "my folder"]);
}

#[test]
fn the_link_that_share_prints_names_the_tracker_and_the_peer() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing.bin", 300_000, 3);
    let (mut share, told) = share(&sandbox, &[&file, &"--http", &LOOPBACK]);
    let magnet = text(&told, "magnet");
    let peer = text(&told, "peer");
    assert!(
        magnet.contains(&format!("&x.pe={peer}&tr=http")),
        "{magnet}"
    );
    let get = |link: &str, dir: &str| {
        let done = sandbox
            .run("get", &[&link, &"--dir", &dir, &"--listen", &LOOPBACK])
            .expect(0);
        assert_same(&file, &sandbox.path(dir).join("thing.bin"));
        done
    };
    get(&magnet, "whole");
    // Either of the two is enough.
    let parts: Vec<&str> = magnet.split('&').collect();
    let without = |start: &str| {
        let left = parts.iter().filter(|part| !part.starts_with(start));
        left.copied().collect::<Vec<_>>().join("&")
    };
    get(&without("tr="), "by-peer");
    get(&without("x.pe="), "by-tracker");
    share.interrupt().expect(0);
}

#[test]
fn without_json_the_lines_to_copy_are_on_stdout() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 3);
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &file,
        &"--http",
        &LOOPBACK,
        &"--listen",
        &LOOPBACK,
        &"--once",
        &"--while-stdin",
    ];
    // stdin is at its end: nobody can have anything yet.
    let done = wait(
        sandbox.dunlin("share", &words).spawn().unwrap(),
        crate::fixture::PATIENCE,
    )
    .expect(7);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.stdout);
    assert!(lines[0].starts_with("dunlin get http://127.0.0.1:"));
    assert!(lines[1].starts_with("magnet:?xt=urn:btih:"));
    assert!(
        done.stderr
            .contains("any other BitTorrent client opens that URL"),
        "{}",
        done.stderr
    );
    assert!(
        done.error().contains("nobody has everything yet"),
        "{}",
        done.stderr
    );
}

#[test]
fn the_same_path_is_the_same_torrent_again() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 100_000, 3);
    let hash = || {
        let (mut share, told) = share(&sandbox, &[&file, &"--http", &LOOPBACK]);
        share.interrupt().expect(0);
        text(&told, "info_hash")
    };
    assert_eq!(hash(), hash());
}

#[test]
fn a_tracker_of_ones_own_leaves_no_url() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 100_000, 3);
    let (mut tracker, url) = sandbox.tracker();
    let (mut share, told) = share(&sandbox, &[&file, &"--tracker", &url]);
    assert!(told["url"].is_null());
    let magnet = text(&told, "magnet");
    assert_eq!(text(&told, "command"), format!("dunlin get '{magnet}'"));
    assert_eq!(magnet.matches("&tr=").count(), 1, "{magnet}");
    sandbox
        .run("get", &[&magnet, &"--dir", &"out", &"--listen", &LOOPBACK])
        .expect(0);
    share.interrupt().expect(0);
    tracker.interrupt().expect(0);
}

#[test]
fn what_cannot_be_shared_is_said_in_one_line() {
    let sandbox = Sandbox::new();
    let file = sandbox.random("thing", 1000, 3);
    let empty = sandbox.dir("empty");
    sandbox.run("share", &[&"nothing"]).expect(3);
    let done = sandbox.run("share", &[&empty]).expect(6);
    assert!(done.error().contains("empty"), "{}", done.stderr);
    let taken = TcpListener::bind(LOOPBACK).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let words: [&dyn AsRef<std::ffi::OsStr>; 5] = [&file, &"--listen", &LOOPBACK, &"--http", &addr];
    let done = sandbox.run("share", &words).expect(10);
    assert!(done.error().starts_with(&addr), "{}", done.stderr);
    let words: [&dyn AsRef<std::ffi::OsStr>; 5] = [&file, &"--listen", &addr, &"--http", &LOOPBACK];
    let done = sandbox.run("share", &words).expect(10);
    assert!(done.error().starts_with(&addr), "{}", done.stderr);
    // `.` has the name of the folder that it is.
    let inside = sandbox.dir("inside");
    fs::write(inside.join("x"), "x").unwrap();
    let mut dunlin = sandbox.dunlin(
        "share",
        &[
            &".",
            &"--http",
            &LOOPBACK,
            &"--listen",
            &LOOPBACK,
            &"--json-lines",
        ],
    );
    let mut share = Running::new(dunlin.current_dir(&inside).spawn().unwrap());
    let told = share.wait_for("sharing");
    assert!(text(&told, "url").ends_with("/inside.torrent"));
    share.interrupt().expect(0);
}

#[test]
fn odd_names_and_links_to_files_arrive_as_what_they_show() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("real \u{1f426}");
    for name in [
        "a\nb",
        "c:d\\e",
        " blank ",
        "dot.",
        "#?&=%41",
        "日本/…",
        "'quote\"",
        "-o",
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::write(sandbox.path("elsewhere"), "the text").unwrap();
    symlink("../elsewhere", folder.join("link")).unwrap();
    symlink(&folder, sandbox.path("linked folder")).unwrap();
    for name in ["real \u{1f426}", "linked folder"] {
        let path = sandbox.path(name);
        let (mut share, told) = share(&sandbox, &[&path, &"--http", &LOOPBACK]);
        let out = sandbox.path("out");
        let words: [&dyn AsRef<std::ffi::OsStr>; 5] =
            [&text(&told, "url"), &"--dir", &out, &"--listen", &LOOPBACK];
        sandbox.run("get", &words).expect(0);
        assert_same(&path, &out.join(name));
        assert!(
            out.join(name)
                .join("link")
                .symlink_metadata()
                .unwrap()
                .is_file()
        );
        share.interrupt().expect(0);
    }
}

#[test]
fn what_cannot_be_read_is_named_before_anybody_is_invited() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.random("tree/a", 1000, 1);
    let secret = sandbox.random("tree/secret", 1000, 1);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_ok() {
        return; // Root reads everything.
    }
    let done = sandbox.run("share", &[&sandbox.path("tree")]).expect(5);
    assert!(done.error().contains("tree/secret: "), "{}", done.stderr);
    assert_eq!(done.stdout, "");
}
