//! What goes wrong for users: one clear line, the right exit code, and nothing lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::skip;
use crate::fixture::{Done, PATIENCE, Running, Sandbox, Words, wait};

use super::trees::{Data, assert_same, digests};
use super::{create, get, seed};

const NAME: &str = "thing.bin";
const BYTES: u64 = 3_000_000;

/// Nobody listens there: the port is reserved.
const DEAD: &str = "127.0.0.1:1";

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

    /// A download that works, to show that nothing was lost before.
    fn finishes(&self) {
        let (mut seed, addr) = self.seed();
        self.get(&[&"--peer", &addr]).expect(0);
        assert_same(&self.source, &self.target);
        seed.interrupt().expect(0);
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
            "v2 only",
            text("d4:infod12:meta versioni2e4:name1:x12:piece lengthi16384eee"),
        ),
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
fn a_source_that_is_not_there_is_not_found() {
    let case = Case::new();
    assert_refused(
        case.run(&["get", "gone.torrent"]),
        3,
        &["gone.torrent", "no such file"],
    );
    assert_refused(case.run(&["show", "gone.torrent"]), 3, &["gone.torrent"]);
    assert_refused(case.run(&["create", "gone"]), 3, &["gone"]);
    assert_refused(case.run(&["get", "source"]), 6, &["source", "folder"]);
    assert_refused(case.run(&["get", &"0".repeat(40)]), 2, &["info-hash"]);
}

#[test]
fn missing_data_is_not_seeded() {
    let case = Case::new();
    let expected = format!("expected target/{NAME}");
    assert_fails(
        case.run(&["seed", "thing.torrent", "target"]),
        3,
        &["target", &expected],
    );
    assert_fails(
        case.run(&["verify", "thing.torrent", "target"]),
        3,
        &["target", &expected],
    );
    fs::write(case.target.join(NAME), vec![1; 1_000_000]).unwrap();
    assert_fails(case.run(&["seed", "thing.torrent", "target"]), 8, &[NAME]);
    assert_fails(case.run(&["verify", "thing.torrent", "target"]), 8, &[NAME]);
    assert_fails(
        case.run(&["seed", "--skip-check", "thing.torrent", "target"]),
        8,
        &[NAME],
    );
}

#[test]
fn a_port_in_use_is_a_conflict() {
    let case = Case::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let get = case.run(&["get", "thing.torrent", "-d", "target", "--listen", &addr]);
    assert_fails(get, 10, &[&addr, "choose another"]);
    let seed = case.run(&["seed", "thing.torrent", "source", "--listen", &addr]);
    assert_fails(seed, 10, &[&addr, "choose another"]);
    let tracker = case.run(&["tracker", "--http", &addr]);
    assert_refused(tracker, 10, &[&addr, "choose another"]);
    assert_eq!(digests(&case.target), BTreeMap::new());
}

#[test]
fn existing_output_is_a_conflict() {
    let case = Case::new();
    let before = fs::read(&case.torrent).unwrap();
    let ended = case.run(&["create", "source", "-o", "thing.torrent"]);
    assert_refused(ended, 10, &["thing.torrent", "exists"]);
    assert_eq!(fs::read(&case.torrent).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_written_is_a_disk_error() {
    const NOBODY: u32 = 65_534;
    let case = Case::new();
    fs::set_permissions(&case.target, Permissions::from_mode(0o555)).unwrap();
    let words: Words<'_> = &[&case.torrent, &"-d", &"target", &"--timeout", &"20s"];
    let mut command = case
        .sandbox
        .dunlin("get", &[words, &[&"--listen", &"127.0.0.1:0"]].concat());
    if rustix::process::geteuid().is_root() {
        // Nothing is read-only for root.
        fs::set_permissions(case.sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
        let mut probe = case.sandbox.dunlin("", &[&"--version"]);
        if !probe
            .uid(NOBODY)
            .output()
            .is_ok_and(|output| output.status.success())
        {
            return skip(
                "a read-only folder",
                "root, and nobody else can run the binary",
            );
        }
    }
    let done = wait(command.spawn().unwrap(), PATIENCE);
    assert_fails(done, 5, &["target", "permission denied"]);
    fs::set_permissions(&case.target, Permissions::from_mode(0o755)).unwrap();
    case.finishes();
}

#[test]
fn an_unknown_config_key_is_bad_input_with_a_suggestion() {
    let case = Case::new();
    case.sandbox
        .write("dunlin.toml", b"[limits]\nupp = \"1M\"\n");
    let ended = case.run(&["--config", "dunlin.toml", "get", "thing.torrent"]);
    assert_refused(ended, 6, &["dunlin.toml", "limits.upp", "limits.up"]);
    case.sandbox.write("dunlin.toml", b"[limits\n");
    let ended = case.run(&["--config", "dunlin.toml", "get", "thing.torrent"]);
    assert_refused(ended, 6, &["dunlin.toml"]);
    case.sandbox
        .write("dunlin.toml", b"[limits]\nup = \"fast\"\n");
    let ended = case.run(&["--config", "dunlin.toml", "get", "thing.torrent"]);
    assert_refused(ended, 6, &["dunlin.toml", "limits.up", "fast"]);
}

#[test]
fn a_dead_tracker_is_a_warning_with_a_cause_and_the_next_try() {
    let case = Case::new();
    let url = format!("http://{DEAD}/announce");
    let done = case.get(&[&"--tracker", &url, &"--timeout", &"2s"]);
    let done = assert_fails(done, 7, &["not done after 2"]);
    let warning = done.last_event("warning");
    assert_eq!(warning["code"], "tracker");
    let message = warning["message"].as_str().expect("a message is text");
    for word in [&url, "refused", "next try in"] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    case.finishes();
}

#[test]
fn a_dead_peer_ends_at_the_timeout() {
    let case = Case::new();
    let done = case.get(&[&"--peer", &DEAD, &"--timeout", &"1s"]);
    assert_fails(done, 7, &[NAME, "not done after 1"]);
    let done = case.get(&[&"--peer", &DEAD, &"--stall-timeout", &"1s"]);
    assert_fails(done, 7, &[NAME, "no byte for 1"]);
    case.finishes();
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
fn an_unrelated_file_in_the_way_is_never_touched() {
    let case = Case::new();
    let names = [NAME, "thing.bin.part"].into_iter().cycle();
    for (len, name) in [1, 1_000, BYTES, BYTES + 1].into_iter().zip(names) {
        let other = case.target.join(name);
        Data::new(63).file(&other, len);
        let before = fs::metadata(&other).unwrap().modified().unwrap();
        let was = digests(&case.target);
        assert_fails(case.get(&[&"--timeout", &"5s"]), 10, &[name, "--overwrite"]);
        assert_eq!(digests(&case.target), was, "{name} of {len} bytes");
        assert_eq!(fs::metadata(&other).unwrap().modified().unwrap(), before);
        fs::remove_file(other).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error_and_the_next_run_goes_on() {
    const SCRIPT: &str = r#"
        mount -t tmpfs -o size=4m tmpfs target && head -c 3M /dev/zero > target/ballast || exit 99
        get() { "$0" get thing.torrent -d target --listen 127.0.0.1:0 --peer "$1" --timeout 60s; }
        get "$1"
        echo "first $?"
        rm target/ballast
        get "$1" || exit
        cp target/thing.bin .
    "#;
    let case = Case::new();
    let (mut seed, addr) = case.seed();
    // A mount of its own: it ends with the process.
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT]);
    unshare
        .arg(env!("CARGO_BIN_EXE_dunlin"))
        .arg(&addr)
        .current_dir(case.sandbox.path(""));
    let child = unshare
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let done = child.map(|child| wait(child, PATIENCE));
    let done = match done {
        Ok(done) if done.stdout.contains("first") => done.expect(0),
        other => {
            return skip(
                "a full disk",
                &format!("no small disk can be mounted: {other:?}"),
            );
        }
    };
    assert!(done.stdout.starts_with("first 5\n"), "{done:?}");
    let error = done.error();
    for word in ["target/thing.bin.part", "no space left", "free some space"] {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert_same(&case.source.join(NAME), &case.sandbox.path(NAME));
    seed.interrupt().expect(0);
}
