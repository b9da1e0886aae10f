//! Places that take no file, names that are taken, ports that are in use.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::{Case, check, check_alone};
use crate::clients::skip;
use crate::fixture::{PATIENCE, wait};

const GET: &str = "get thing.torrent -d out --listen 127.0.0.1:0 --timeout 20s";

#[test]
fn target_is_a_file() {
    let case = Case::new();
    let before = fs::read(&case.content.file).unwrap();
    let line = "get thing.torrent -d data/thing --listen 127.0.0.1:0";
    check_alone("target_is_a_file", case.run(line));
    assert_eq!(fs::read(&case.content.file).unwrap(), before);
}

#[test]
fn target_is_below_a_file() {
    let case = Case::new();
    let line = "get thing.torrent -d data/thing/sub --listen 127.0.0.1:0";
    check_alone("target_is_below_a_file", case.run(line));
}

#[test]
fn target_may_not_be_written() {
    let case = Case::new();
    let out = case.sandbox.path("out");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o555)).unwrap();
    let Some(done) = case.run_as_nobody(GET) else {
        return;
    };
    check("target_may_not_be_written", done);
    assert!(case.left().is_empty());
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    case.finishes("out");
}

#[test]
fn target_has_too_long_a_name() {
    let case = Case::new();
    let long = "x".repeat(300);
    let done = case.run(&format!("get thing.torrent -d {long} --listen 127.0.0.1:0"));
    check_alone("target_has_too_long_a_name", done);
}

#[test]
fn name_is_a_folder() {
    let case = Case::new();
    case.sandbox.dir("out/thing");
    check_alone("name_is_a_folder", case.run(GET));
    assert_eq!(case.left(), ["thing"]);
    fs::remove_dir(case.sandbox.path("out/thing")).unwrap();
    case.finishes("out");
}

#[test]
fn name_of_a_folder_is_a_file() {
    let case = Case::new();
    case.sandbox.write("tree/a", b"a");
    case.run("create tree -q").expect(0);
    case.sandbox.write("out/tree", b"mine");
    let line = "get tree.torrent -d out --listen 127.0.0.1:0 --timeout 20s";
    check_alone("name_of_a_folder_is_a_file", case.run(line));
    assert_eq!(case.left(), ["tree"]);
    assert_eq!(fs::read(case.sandbox.path("out/tree")).unwrap(), b"mine");
}

#[test]
fn name_is_of_another_file() {
    let case = Case::new();
    for name in ["thing", "thing.part"] {
        for bytes in [vec![1], vec![2; 262_144]] {
            let other = case.sandbox.write(&format!("out/{name}"), &bytes);
            let before = fs::metadata(&other).unwrap().modified().unwrap();
            check_alone("name_is_of_another_file", case.run(GET));
            assert_eq!(case.left(), [name]);
            assert_eq!(fs::read(&other).unwrap(), bytes);
            assert_eq!(fs::metadata(&other).unwrap().modified().unwrap(), before);
            fs::remove_file(&other).unwrap();
        }
    }
    case.finishes("out");
}

#[test]
fn name_is_of_a_longer_file() {
    let case = Case::new();
    let mut bytes = fs::read(&case.content.file).unwrap();
    bytes.push(7);
    let other = case.sandbox.write("out/thing", &bytes);
    check_alone("name_is_of_a_longer_file", case.run(GET));
    assert_eq!(fs::read(&other).unwrap(), bytes);
}

#[test]
fn name_is_taken_meanwhile() {
    let case = Case::new();
    let words: crate::fixture::Words<'_> = &[
        &case.content.torrent,
        &"-d",
        &"out",
        &"--listen",
        &"127.0.0.1:0",
        &"-q",
    ];
    let mut get = case.sandbox.start("get", words);
    let addr = get.addr();
    get.wait_for("progress");
    case.sandbox.write("out/thing", b"mine");
    // A seed that dials it: all of it comes now.
    let line = format!("seed thing.torrent data --listen 127.0.0.1:0 --peer {addr} -q");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
    let mut seed = case.sandbox.start("seed", &words);
    check("name_is_taken_meanwhile", get.finish());
    seed.kill();
    assert_eq!(fs::read(case.sandbox.path("out/thing")).unwrap(), b"mine");
    assert!(case.sandbox.path("out/thing.part").is_file());
    fs::remove_file(case.sandbox.path("out/thing")).unwrap();
    // Nothing has to come again.
    case.run("get thing.torrent -d out --listen 127.0.0.1:0 --timeout 20s")
        .expect(0);
    crate::fixture::assert_same(&case.content.file, &case.sandbox.path("out/thing"));
}

#[test]
fn data_is_in_use() {
    let case = Case::new();
    let words: crate::fixture::Words<'_> = &[
        &case.content.torrent,
        &"-d",
        &"out",
        &"--listen",
        &"127.0.0.1:0",
    ];
    let mut first = case.sandbox.start("get", words);
    first.wait_for("progress");
    check_alone("data_is_in_use", case.run(GET));
    first.interrupt().expect(7);
    case.finishes("out");
}

#[test]
fn state_is_newer() {
    let case = Case::new();
    let words: crate::fixture::Words<'_> = &[
        &case.content.torrent,
        &"-d",
        &"out",
        &"--listen",
        &"127.0.0.1:0",
    ];
    let mut first = case.sandbox.start("get", words);
    first.wait_for("progress");
    first.kill();
    let name = case
        .left()
        .into_iter()
        .find(|name| name.to_string_lossy().ends_with(".dunlin"));
    let path = case.sandbox.path("out").join(name.expect("a resume file"));
    let newer = [
        b"dunlin resume\n".as_slice(),
        &99u32.to_be_bytes(),
        &[7; 40],
    ]
    .concat();
    fs::write(&path, &newer).unwrap();
    check_alone("state_is_newer", case.run(GET));
    assert_eq!(fs::read(&path).unwrap(), newer);
}

#[test]
fn disk_is_full() {
    const SCRIPT: &str = r#"
        mount -t tmpfs -o size=160k tmpfs out && head -c 40k /dev/zero > out/ballast || exit 99
        get() { "$0" get thing.torrent -d out --listen 127.0.0.1:0 --peer "$1" --timeout 60s -q; }
        get "$1"
        echo "first $?"
        mount -o remount,size=2m out
        get "$1" || exit
        cp out/thing .
    "#;
    let case = Case::new();
    let mut seed = case.seed();
    // A mount of its own: it ends with the process.
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .arg(env!("CARGO_BIN_EXE_dunlin"))
        .arg(seed.addr())
        .current_dir(case.sandbox.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let done = match child.map(|child| wait(child, PATIENCE)) {
        Ok(done) if done.stdout.contains("first") => done.expect(0),
        other => {
            let why = format!("no small disk can be mounted: {other:?}");
            return skip("a full disk", &why);
        }
    };
    let code = done
        .stdout
        .strip_prefix("first ")
        .and_then(|rest| rest.split('\n').next());
    let first = crate::fixture::Done {
        code: code.unwrap().parse().unwrap(),
        ..done
    };
    check("disk_is_full", first);
    crate::fixture::assert_same(&case.content.file, &case.sandbox.path("thing"));
    seed.kill();
}

#[test]
fn port_is_in_use() {
    let case = Case::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let port = addr.port();
    case.sandbox
        .write("c.toml", b"share.torrent = \"thing.torrent\"\n");
    for line in [
        format!("get thing.torrent -d out --listen {addr}"),
        format!("seed thing.torrent data --listen {addr} -q"),
        format!("tracker --http {addr}"),
        format!("peer c.toml 127.0.0.1 {port}"),
    ] {
        println!("{line}");
        check("port_is_in_use", case.run(&line));
    }
    assert!(case.left().is_empty());
}

#[test]
fn address_is_not_ours() {
    let case = Case::new();
    for line in [
        "get thing.torrent -d out --listen 192.0.2.1:7000",
        "seed thing.torrent data --listen 192.0.2.1:7000 -q",
        "tracker --http 192.0.2.1:7000",
    ] {
        println!("{line}");
        check_alone("address_is_not_ours", case.run(line));
    }
    assert!(case.left().is_empty());
}

#[test]
fn port_is_not_for_everybody() {
    let case = Case::new();
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if !first.is_ok_and(|first| first.trim().parse().is_ok_and(|first: u16| first > 1)) {
        return skip("a privileged port", "every port is for everybody here");
    }
    fs::set_permissions(case.sandbox.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    for line in [
        "get thing.torrent -d out --listen 127.0.0.1:1",
        "tracker --http 127.0.0.1:1",
    ] {
        let Some(done) = case.run_as_nobody(line) else {
            return;
        };
        check_alone("port_is_not_for_everybody", done);
    }
}

#[test]
fn demo_has_no_room() {
    let case = Case::new();
    check_alone("demo_has_no_room", case.run("demo --size 100T --dir out"));
    assert!(case.left().is_empty());
}

#[test]
fn demo_target_is_a_file() {
    let case = Case::new();
    check_alone("demo_target_is_a_file", case.run("demo --dir data/thing"));
}
