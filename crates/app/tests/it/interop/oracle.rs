//! libtorrent as an oracle for .torrent files, and what `verify` finds.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dunlin_proto::rng::Rng;
use serde_json::{Value, json};

use crate::fixture::{Sandbox, Words};
use crate::libtorrent::Libtorrent;

use super::trees::Data;
use super::{create, number};

const TREES: u64 = 10;
const PIECE_LENGTHS: [u64; 4] = [16 << 10, 32 << 10, 128 << 10, 1 << 20];

/// Names whose order differs between bytes, letters and path text ("a b/x" and "a/x").
const NAMES: [&str; 10] = ["a", "a b", "a-b", "a.b", "B", "b", "é", "日本", "10", "9"];

/// A file, or a folder of up to forty files.
fn make_tree(path: &Path, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut data = Data::new(seed);
    if seed.is_multiple_of(5) {
        data.file(path, 1 + rng.below(3_000_000));
        return;
    }
    for index in 0..1 + rng.below(40) {
        let mut at = path.to_owned();
        for _ in 0..rng.below(4) {
            at.push(NAMES[rng.index(NAMES.len())]);
        }
        let len = match rng.below(5) {
            0 => 0,
            1 => 16 << 10,
            2 => rng.below(1_000_000),
            _ => rng.below(50_000),
        };
        // The number keeps a file from having the name of a folder.
        data.file(
            &at.join(format!("{} {index}", NAMES[rng.index(NAMES.len())])),
            len,
        );
    }
}

/// Compares one tree; returns the info-hash on which all agree.
fn agree(libtorrent: &Libtorrent, seed: u64) -> String {
    let sandbox = Sandbox::new();
    let name = format!("tree {seed}");
    let tree = sandbox.dir("source").join(&name);
    make_tree(&tree, seed);
    let piece_length = PIECE_LENGTHS[seed as usize % PIECE_LENGTHS.len()];
    let (ours, theirs) = (sandbox.path("ours"), sandbox.path("theirs"));
    let asked = piece_length.to_string();
    let made = create(&sandbox, &tree, &ours, &[&"--piece-length", &asked]);
    let shown = sandbox.run("show", &[&ours, &"--json"]).expect(0).json();
    let listed = sandbox.path("files.json");
    fs::write(&listed, parts(&shown, &name).to_string()).unwrap();
    let made_by_them = libtorrent.make(&tree, &theirs, piece_length, &listed);
    let read_by_them = libtorrent.info(&ours);
    let keys = [
        "info_hash_v1",
        "name",
        "bytes",
        "piece_length",
        "pieces",
        "private",
    ];
    for key in keys {
        assert_eq!(shown[key], read_by_them[key], "{name}: {key}");
        assert_eq!(shown[key], made_by_them[key], "{name}: {key}");
    }
    assert_eq!(made["info_hash_v1"], shown["info_hash_v1"], "{name}");
    assert_eq!(sizes(&shown), sizes(&read_by_them), "{name}");
    let hash = shown["info_hash_v1"]
        .as_str()
        .expect("a hash is text")
        .to_owned();
    assert_eq!(hash.len(), 40);
    hash
}

/// The paths of `show --json`, each as a list of names below the folder that is shared.
fn parts(shown: &Value, name: &str) -> Value {
    let files = shown["files"].as_array().expect("files is a list");
    let split = |file: &Value| -> Value {
        let path = file["path"].as_str().expect("a path is text");
        let names = path.split('/').skip_while(|part| *part == name);
        names.map(|part| json!(part)).collect()
    };
    files.iter().map(split).collect()
}

fn sizes(document: &Value) -> Vec<u64> {
    let files = document["files"].as_array().expect("files is a list");
    files.iter().map(|file| number(file, "bytes")).collect()
}

#[test]
fn create_show_and_libtorrent_agree_on_ten_trees() {
    let Some(libtorrent) = Libtorrent::find("create has libtorrent's info-hash") else {
        return;
    };
    let mut hashes: Vec<String> = (0..TREES).map(|seed| agree(&libtorrent, seed)).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(
        hashes.len(),
        TREES as usize,
        "the trees differ, so their hashes do"
    );
}

#[test]
fn libtorrent_reads_what_is_beside_the_info() {
    let Some(libtorrent) = Libtorrent::find("libtorrent reads our trackers") else {
        return;
    };
    let sandbox = Sandbox::new();
    let file = sandbox.path("x");
    Data::new(31).file(&file, 100_000);
    let torrent = sandbox.path("x.torrent");
    let words: Words<'_> = &[
        &"--tracker",
        &"http://a.example/announce,http://b.example/announce",
        &"--tracker",
        &"udp://c.example:1/announce",
        &"--web-seed",
        &"http://w.example/x",
        &"--private",
        &"--comment",
        &"naïve",
    ];
    create(&sandbox, &file, &torrent, words);
    let read = libtorrent.info(&torrent);
    let tiers = json!([
        ["http://a.example/announce", 0],
        ["http://b.example/announce", 0],
        ["udp://c.example:1/announce", 1],
    ]);
    assert_eq!(read["trackers"], tiers);
    assert_eq!(read["web_seeds"], json!(["http://w.example/x"]));
    assert_eq!(read["private"], true);
    assert_eq!(read["comment"], "naïve");
    assert_eq!(read["info_hash_v1"], read["info_sha1_of_reencoded"]);
}

#[test]
fn verify_finds_one_flipped_byte_and_names_the_file() {
    let sandbox = Sandbox::new();
    let tree = sandbox.dir("tree");
    let mut data = Data::new(32);
    for name in ["first.bin", "sub/second.bin", "third.bin"] {
        data.file(&tree.join(name), 300_000);
    }
    let torrent = sandbox.path("t.torrent");
    create(&sandbox, &tree, &torrent, &[&"--piece-length", &"16K"]);
    let verify = || sandbox.run("verify", &[&torrent, &sandbox.path(""), &"--json"]);
    assert_eq!(number(&verify().expect(0).json(), "bad_pieces"), 0);

    let file = File::options()
        .read(true)
        .write(true)
        .open(tree.join("sub/second.bin"))
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 150_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 150_000).unwrap();
    let done = verify().expect(8);
    assert!(done.stderr.contains("second.bin"), "{}", done.stderr);
    assert!(!done.stderr.contains("third.bin"), "{}", done.stderr);
    let report = done.json();
    assert_eq!(number(&report, "bad_pieces"), 1);
    for file in report["files"].as_array().unwrap() {
        let is_bad = file["path"].as_str().unwrap().ends_with("second.bin");
        let lost = number(file, "bytes") - number(file, "ok_bytes");
        assert_eq!(lost > 0, is_bad, "{file}");
        assert!(lost <= 16 << 10, "{file}");
    }
}
