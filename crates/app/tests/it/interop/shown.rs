//! `show` beside libtorrent: torrents of all versions that libtorrent made, and their magnet links.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fixture::Sandbox;
use crate::libtorrent::Libtorrent;

use super::number;
use super::trees::Data;

const VERSIONS: [&str; 3] = ["v1", "hybrid", "v2"];

/// Names that people have. A backslash is not among them: libtorrent takes it out.
const NAMES: [&str; 14] = [
    "a b",
    "CON",
    "é",
    "e\u{301}",
    "日本",
    "dunlin 🐦",
    "quote\"x",
    "semi;colon",
    "a:b?*|<>",
    " lead",
    "trail ",
    "dot.",
    ".hidden",
    "-dash.tar.gz",
];

/// Trees and the piece lengths for them.
fn trees(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut data = Data::new(71);
    let at = |name: &str| folder.join(name);
    data.file(&at("one"), 100_000);
    data.file(&at("small"), 5);
    data.file(&at("large pieces"), 40_000_000);
    for (name, len) in [("a", 16_384), ("b/c", 16_385), ("b/d/e", 1), ("z", 300_000)] {
        data.file(&at("many").join(name), len);
    }
    data.file(&at("rooted/only/file"), 70_000);
    for (name, len) in [("1", 0), ("2", 20_000), ("3/0", 0), ("4", 0)] {
        data.file(&at("empty files").join(name), len);
    }
    let odd = at("odd");
    for (index, name) in (0..).zip(NAMES) {
        data.file(&odd.join(name), 10_000 * (index % 3) + 1);
    }
    data.file(&odd.join("l".repeat(200)), 3);
    fs::set_permissions(odd.join("CON"), Permissions::from_mode(0o755)).unwrap();
    symlink("a b", odd.join("link")).unwrap();
    data.file(&odd.join("sub/x"), 50_000);
    symlink("sub/x", odd.join("z link")).unwrap();
    vec![
        (at("one"), 16 << 10),
        (at("one"), 64 << 10),
        (at("small"), 1 << 20),
        (at("large pieces"), 16 << 20),
        (at("many"), 16 << 10),
        (at("many"), 128 << 10),
        (at("rooted"), 32 << 10),
        (at("empty files"), 16 << 10),
        (at("odd"), 16 << 10),
    ]
}

/// What both say of a file. Pads are left out: libtorrent lists those that v2 implies.
fn files(document: &Value) -> Vec<Value> {
    let files = document["files"].as_array().expect("files is a list");
    let is_pad = |file: &Value| {
        file["attributes"]
            .as_array()
            .unwrap()
            .contains(&json!("pad"))
    };
    let keys = ["path", "bytes", "attributes", "symlink", "pieces_root"];
    let said = |file: &Value| keys.map(|key| (key, file[key].clone()));
    files
        .iter()
        .filter(|file| !is_pad(file))
        .map(|file| said(file).into_iter().collect())
        .collect()
}

fn agree(
    sandbox: &Sandbox,
    libtorrent: &Libtorrent,
    tree: &Path,
    piece_length: u64,
    version: &str,
) {
    let torrent = sandbox.path(&format!("{version}.torrent"));
    let theirs = libtorrent.make_all(tree, &torrent, piece_length, version);
    let shown = sandbox.run("show", &[&torrent, &"--json"]).expect(0).json();
    let what = format!("{} {version} {piece_length}", tree.display());
    for key in [
        "info_hash_v1",
        "info_hash_v2",
        "name",
        "piece_length",
        "pieces",
        "private",
    ] {
        assert_eq!(shown[key], theirs[key], "{what}: {key}");
    }
    assert_eq!(shown["info_hash_v1"].is_null(), version == "v2", "{what}");
    assert_eq!(shown["info_hash_v2"].is_null(), version == "v1", "{what}");
    assert_eq!(files(&shown), files(&theirs), "{what}");
    // Pads that the torrent does not list count for nobody but libtorrent.
    let bytes = if version == "v2" {
        "bytes_on_disk"
    } else {
        "bytes"
    };
    assert_eq!(number(&shown, "bytes"), number(&theirs, bytes), "{what}");

    let link = shown["magnet"].as_str().expect("a link is text");
    let read = libtorrent.magnet(link);
    for key in ["info_hash_v1", "info_hash_v2", "name"] {
        assert_eq!(read[key], theirs[key], "{what}: {key} of {link}");
    }
    let theirs_link = theirs["magnet"].as_str().expect("a link is text");
    let shown = sandbox
        .run("show", &[&theirs_link, &"--json"])
        .expect(0)
        .json();
    for key in ["info_hash_v1", "info_hash_v2", "name"] {
        assert_eq!(shown[key], theirs[key], "{what}: {key} of {theirs_link}");
    }
    // And it is pleasant to read.
    let text = sandbox.run("show", &[&torrent]).expect(0).stdout;
    for line in text.lines().filter(|line| !line.contains("magnet:?")) {
        assert!(line.chars().count() <= 80, "{what}: {line}");
    }
}

#[test]
fn show_agrees_with_libtorrent_on_torrents_of_every_version() {
    let Some(libtorrent) = Libtorrent::find("show agrees on v1, v2 and hybrid torrents") else {
        return;
    };
    let sandbox = Sandbox::new();
    for (tree, piece_length) in trees(&sandbox.dir("trees")) {
        for version in VERSIONS {
            agree(&sandbox, &libtorrent, &tree, piece_length, version);
        }
    }
}

#[test]
fn a_v2_torrent_can_be_shown_and_linked_but_not_transferred_yet() {
    let Some(libtorrent) = Libtorrent::find("a v2-only torrent is a clear not yet") else {
        return;
    };
    let sandbox = Sandbox::new();
    let tree = sandbox.dir("source/tree");
    Data::new(72).file(&tree.join("a"), 50_000);
    let torrent = sandbox.path("v2.torrent");
    libtorrent.make_all(&tree, &torrent, 16 << 10, "v2");
    let text = sandbox.run("show", &[&torrent]).expect(0).stdout;
    assert!(text.contains("not yet"), "{text}");
    let link = sandbox.run("link", &[&torrent]).expect(0).stdout;
    assert!(link.starts_with("magnet:?xt=urn:btmh:1220"), "{link}");
    for command in ["get", "seed", "verify"] {
        let done = sandbox.run(command, &[&torrent]).expect(6);
        for word in ["v2.torrent", "v2 only", "hybrid"] {
            assert!(done.error().contains(word), "{command}: {}", done.stderr);
        }
    }
}
