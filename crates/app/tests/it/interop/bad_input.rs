//! What goes wrong for users: one clear line, the right exit code, and nothing lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fixture::{Done, Running, Sandbox, Words};

use super::trees::{Data, assert_same, digests};
use super::{create, get, seed};

const NAME: &str = "thing.bin";
const BYTES: u64 = 3_000_000;

/// A torrent with its data in `source`, and room in `target`.
#[derive(Debug)]
struct Case {
    sandbox: Sandbox,
    source: PathBuf,
    target: PathBuf,
    torrent: PathBuf,
}

impl Case {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (source, target) = (sandbox.dir("source"), sandbox.dir("target"));
        let torrent = sandbox.path("thing.torrent");
        Data::new(61).file(&source.join(NAME), BYTES);
        create(
            &sandbox,
            &source.join(NAME),
            &torrent,
            &[&"--piece-length", &"64K"],
        );
        Self {
            sandbox,
            source,
            target,
            torrent,
        }
    }

    /// `dunlin WORDS` in the sandbox.
    fn run(&self, words: &[&str]) -> Done {
        let words: Vec<&dyn AsRef<OsStr>> = words.iter().map(|word| word as _).collect();
        self.sandbox.run("", &words)
    }

    fn get(&self, words: Words<'_>) -> Done {
        get(&self.sandbox, &self.torrent, &self.target, words).finish()
    }

    fn seed(&self) -> (Running, String) {
        let mut seed = seed(&self.sandbox, &self.torrent, &self.source, &[]);
        let addr = seed.addr();
        (seed, addr)
    }
}

/// The code is right, and one line, the last one, says what is wrong in these words.
#[track_caller]
fn assert_fails(done: Done, code: i32, words: &[&str]) -> Done {
    let done = done.expect(code);
    let line = done.error();
    let last = done.stderr.lines().last().unwrap_or_default();
    assert!(
        last.ends_with(line),
        "the reason comes last: {}",
        done.stderr
    );
    assert!(line.len() < 400, "{} characters: {line}", line.len());
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    done
}

/// As [`assert_fails`], and that line is all.
#[track_caller]
fn assert_refused(done: Done, code: i32, words: &[&str]) {
    let done = assert_fails(done, code, words);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert_eq!(done.stdout, "");
}

/// Bencode of an info dictionary around `fields`, which come before `pieces`.
fn hostile(fields: &str) -> Vec<u8> {
    let mut bytes = format!("d4:infod{fields}12:piece lengthi16384e6:pieces20:").into_bytes();
    bytes.extend([7; 20]);
    bytes.extend(b"ee");
    bytes
}

/// Stands for a digest.
const ROOT: &str = "abcdefghijklmnopqrstuvwxyz012345";

/// A v2 torrent of one file, with more fields before `meta version` and at the end.
fn version_2(len: u64, piece_len: u64, before: &str, end: &str) -> Vec<u8> {
    let tree = format!("d1:xd0:d6:lengthi{len}e11:pieces root32:{ROOT}eee");
    let rest = format!("12:meta versioni2e4:name1:x12:piece lengthi{piece_len}e{end}");
    format!("d4:infod9:file tree{tree}{before}{rest}ee").into_bytes()
}

fn bad_torrents() -> BTreeMap<&'static str, Vec<u8>> {
    let one_file = "6:lengthi5e4:name1:x";
    let good = hostile(one_file);
    let text = |text: &str| text.as_bytes().to_vec();
    let replaced = |from: &str, to: &str| {
        let bytes = String::from_utf8(good.clone()).expect("it is ASCII");
        assert!(bytes.contains(from));
        bytes.replace(from, to).into_bytes()
    };
    BTreeMap::from([
        ("empty", text("")),
        ("a text", text("this is no torrent\n")),
        ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()),
        ("zeros", vec![0; 4096]),
        ("a number", text("i5e")),
        ("a list", text("le")),
        ("no info", text("d8:announce8:http://xe")),
        ("info is a list", text("d4:infolee")),
        ("deep", [b"d4:info".to_vec(), vec![b'l'; 100_000]].concat()),
        ("long string", text("d4:info99999999999999999999:x")),
        ("too long string", text("d4:infod4:name4000000000:xee")),
        ("wide number", replaced("i5e", "i99999999999999999999e")),
        ("negative length", replaced("i5e", "i-5e")),
        ("huge length", replaced("i5e", "i9223372036854775807e")),
        ("no piece length", replaced("i16384e", "i0e")),
        ("negative piece length", replaced("i16384e", "i-16384e")),
        (
            "huge piece length",
            replaced("i16384e", "i4611686018427387904e"),
        ),
        ("half a digest", replaced("6:pieces20:", "6:pieces19:")),
        ("too few digests", replaced("i5e", "i50000e")),
        ("too many digests", replaced("i5e", "i0e")),
        ("no name", replaced("4:name1:x", "4:nama1:x")),
        ("no files", hostile("5:filesle4:name1:x")),
        (
            "a file without a path",
            hostile("5:filesld6:lengthi5e4:pathleee4:name1:x"),
        ),
        (
            "v2 without a tree",
            text("d4:infod12:meta versioni2e4:name1:x12:piece lengthi16384eee"),
        ),
        ("v2 with odd pieces", version_2(5, 16_385, "", "")),
        ("v2 of a later version", {
            let bytes = String::from_utf8(version_2(5, 16_384, "", "")).expect("it is ASCII");
            bytes.replace("versioni2e", "versioni3e").into_bytes()
        }),
        (
            "halves that disagree",
            version_2(6, 16_384, "6:lengthi5e", "6:pieces20:aaaaabbbbbcccccddddd"),
        ),
        ("a wrong piece layer", {
            let mut bytes = version_2(40_000, 16_384, "", "");
            bytes.pop();
            bytes.extend(format!("12:piece layersd32:{ROOT}96:{}ee", ROOT.repeat(3)).bytes());
            bytes
        }),
    ])
}

#[test]
fn what_is_no_torrent_is_refused_by_every_command() {
    let case = Case::new();
    for (name, bytes) in bad_torrents() {
        let path = &format!("{name}.torrent");
        case.sandbox.write(path, &bytes);
        for words in [
            vec!["get", path, "-d", "target", "--timeout", "5s"],
            vec!["seed", path, "source"],
            vec!["show", path],
            vec!["link", path],
            vec!["verify", path, "source"],
        ] {
            println!("{words:?}");
            assert_refused(case.run(&words), 6, &[path]);
        }
    }
    assert_eq!(digests(&case.target), BTreeMap::new());
}

#[test]
fn a_torrent_that_is_cut_anywhere_is_refused() {
    let case = Case::new();
    let whole = fs::read(&case.torrent).unwrap();
    for eighth in 0..8 {
        let len = (whole.len() - 1) * (eighth + 1) / 8;
        case.sandbox.write("cut.torrent", &whole[..len]);
        assert_refused(
            case.run(&["get", "cut.torrent", "-d", "target"]),
            6,
            &["cut.torrent"],
        );
    }
    assert_eq!(digests(&case.target), BTreeMap::new());
}

#[test]
fn no_torrent_writes_outside_its_folder() {
    let case = Case::new();
    let inside = |path: &str| format!("5:filesld6:lengthi5e4:pathl{path}eee4:name1:x");
    let torrents = [
        hostile("6:lengthi5e4:name5:../up"),
        hostile("6:lengthi5e4:name2:.."),
        hostile("6:lengthi5e4:name1:."),
        hostile("6:lengthi5e4:name0:"),
        hostile("6:lengthi5e4:name9:/tmp/evil"),
        hostile("6:lengthi5e4:name4:a\0/b"),
        hostile(&inside("2:..2:..4:evil")),
        hostile(&inside("6:../../4:evil")),
        hostile(&inside("1:/4:evil")),
        hostile(&inside("0:4:evil")),
        hostile("5:filesld6:lengthi5e4:pathl4:evileee4:name5:../up"),
    ];
    for (index, bytes) in torrents.iter().enumerate() {
        case.sandbox.write("evil.torrent", bytes);
        let before = digests(&case.sandbox.path(""));
        let ended = case.run(&["get", "evil.torrent", "-d", "target", "--timeout", "1s"]);
        assert!(matches!(ended.code, 6 | 7), "{index}: {ended:?}");
        let target = Path::new("target");
        let after = digests(&case.sandbox.path(""));
        let outside = after.iter().filter(|(path, _)| !path.starts_with(target));
        let outside: BTreeMap<_, _> = outside.map(|(p, d)| (p.clone(), d.clone())).collect();
        let before = before
            .into_iter()
            .filter(|(path, _)| !path.starts_with(target))
            .collect();
        assert_eq!(outside, before, "{index}");
    }
}

#[test]
fn a_symbolic_link_in_the_folder_leads_nobody_out() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("source/tree");
    let (target, outside) = (sandbox.dir("target/tree"), sandbox.dir("outside"));
    Data::new(62).file(&tree.join("sub/a.bin"), 100_000);
    let torrent = sandbox.path("t.torrent");
    create(&sandbox, &tree, &torrent, &[]);
    std::os::unix::fs::symlink(&outside, target.join("sub")).unwrap();
    let mut seed = seed(&sandbox, &torrent, &sandbox.path("source"), &[]);
    let words: Words<'_> = &[&"--peer", &seed.addr(), &"--timeout", &"5s"];
    let done = get(&sandbox, &torrent, &sandbox.path("target"), words).finish();
    assert_ne!(done.code, 0, "{done:?}");
    done.error();
    assert_eq!(digests(&outside), BTreeMap::new());
}

#[test]
fn a_peer_that_sends_garbage_is_closed_and_forgotten() {
    let case = Case::new();
    let liar = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = liar.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || {
        let (mut peer, _) = liar.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // It may close before everything was sent.
        let _ = peer.write_all(&[0xff; 100_000]);
        let mut rest = Vec::new();
        // Anything but a timeout means that it closed.
        match peer.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    let (mut seed, good) = case.seed();
    case.get(&[&"--peer", &addr, &"--peer", &good]).expect(0);
    assert_same(&case.source, &case.target);
    assert!(served.join().unwrap(), "the liar was not closed");
    seed.interrupt().expect(0);
}

#[test]
fn what_a_tracker_says_cannot_steer_the_terminal() {
    const EVIL: &str = "no\x1b[2J\u{9b}31m\u{202e}<script>";
    let case = Case::new();
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut asked in tracker.incoming().flatten() {
            let body = format!("d14:failure reason{}:{EVIL}e", EVIL.len());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = asked.read(&mut [0; 4096]);
            let _ = asked.write_all((head + &body).as_bytes());
        }
    });
    let done = case.get(&[&"--tracker", &url, &"-v", &"--timeout", &"2s"]);
    let done = done.expect(7);
    assert!(done.stderr.contains("<script>"), "{}", done.stderr);
    let warning = done.last_event("warning")["message"].to_string();
    assert!(warning.contains("<script>"), "{warning}");
    let steers = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    for said in [&done.stdout, &done.stderr] {
        assert!(!said.contains(steers), "{said:?}");
    }
}
