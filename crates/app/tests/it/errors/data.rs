//! Data that is missing, wrong or unreadable, and what `create` cannot do with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Case, check, check_alone};

#[test]
fn folder_of_the_data_is_not_there() {
    let case = Case::new();
    for command in ["seed", "verify"] {
        let done = case.run(&format!("{command} thing.torrent nowhere"));
        check_alone("folder_of_the_data_is_not_there", done);
    }
}

#[test]
fn data_is_not_there() {
    let case = Case::new();
    for command in ["seed", "verify"] {
        let done = case.run(&format!("{command} thing.torrent out"));
        check_alone("data_is_not_there", done);
    }
    assert!(case.left().is_empty());
}

#[test]
fn data_is_wrong() {
    let case = Case::new();
    let mut bytes = fs::read(&case.content.file).unwrap();
    bytes[70_000] ^= 1;
    let damaged = case.sandbox.write("out/thing", &bytes);
    for line in [
        "seed thing.torrent out --listen 127.0.0.1:0",
        "verify thing.torrent out",
    ] {
        let done = check("data_is_wrong", case.run(line));
        assert!(
            done.stderr.contains("  thing: 229376 of 262144 bytes"),
            "{}",
            done.stderr
        );
        assert_eq!(fs::read(&damaged).unwrap(), bytes);
    }
    case.finishes("out");
}

#[test]
fn data_is_too_short() {
    let case = Case::new();
    let bytes = fs::read(&case.content.file).unwrap();
    case.sandbox.write("out/thing", &bytes[..100_000]);
    let line = "seed thing.torrent out --skip-check --listen 127.0.0.1:0";
    check("data_is_too_short", case.run(line));
    case.finishes("out");
}

#[test]
fn data_may_not_be_read() {
    let case = Case::new();
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(&case.content.file, closed).unwrap();
    for line in [
        "seed thing.torrent data --listen 127.0.0.1:0",
        "verify thing.torrent data",
    ] {
        let Some(done) = case.run_as_nobody(line) else {
            return;
        };
        check("data_may_not_be_read", done);
    }
}

#[test]
fn create_of_what_is_not_there() {
    let case = Case::new();
    check_alone("create_of_what_is_not_there", case.run("create gone"));
}

#[test]
fn create_of_an_empty_folder() {
    let case = Case::new();
    check_alone("create_of_an_empty_folder", case.run("create out"));
}

#[test]
fn create_finds_its_output() {
    let case = Case::new();
    let before = fs::read(&case.content.torrent).unwrap();
    check_alone("create_finds_its_output", case.run("create data/thing"));
    assert_eq!(fs::read(&case.content.torrent).unwrap(), before);
}

#[test]
fn create_has_no_folder() {
    let case = Case::new();
    let line = "create data/thing -o no/folder/x.torrent";
    check_alone("create_has_no_folder", case.run(line));
    assert!(!case.sandbox.path("no").exists());
}

#[test]
fn create_may_not_write() {
    let case = Case::new();
    fs::set_permissions(case.sandbox.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    let Some(done) = case.run_as_nobody("create data/thing -o out/x.torrent -q") else {
        return;
    };
    check_alone("create_may_not_write", done);
    assert!(case.left().is_empty());
}

#[test]
fn create_may_not_read() {
    let case = Case::new();
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(&case.content.file, closed).unwrap();
    fs::set_permissions(case.sandbox.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let Some(done) = case.run_as_nobody("create data/thing -o out/x.torrent -q") else {
        return;
    };
    check_alone("create_may_not_read", done);
    assert!(case.left().is_empty());
}

#[test]
fn peer_contradicts_its_torrent() {
    let case = Case::new();
    let text = b"share.torrent = \"thing.torrent\"\nshare.piece_length = \"64K\"\n";
    case.sandbox.write("c.toml", text);
    check_alone(
        "peer_contradicts_its_torrent",
        case.run("peer c.toml 127.0.0.1 0"),
    );
}

#[test]
fn stdout_is_full() {
    let case = Case::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut show = case.sandbox.dunlin("show", &[&case.content.torrent]);
    // Nobody reads what was written to it.
    let mut child = show.stdout(full).spawn().unwrap();
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut pipe, &mut stderr).unwrap();
    let done = crate::fixture::Done {
        code: child.wait().unwrap().code().unwrap(),
        stdout: String::new(),
        stderr,
        events: Vec::new(),
    };
    check_alone("stdout_is_full", done);
}

#[test]
fn stdout_is_closed() {
    let case = Case::new();
    let mut show = case.sandbox.dunlin("show", &[&case.content.torrent]);
    let mut child = show.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let done = crate::fixture::Done {
        code: output.status.code().unwrap(),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        events: Vec::new(),
    };
    check("stdout_is_closed", done);
}

#[test]
fn share_of_what_is_not_there() {
    let case = Case::new();
    check_alone("share_of_what_is_not_there", case.run("share gone"));
}

#[test]
fn share_of_an_empty_folder() {
    let case = Case::new();
    check_alone("share_of_an_empty_folder", case.run("share out"));
    assert!(case.left().is_empty());
}

#[test]
fn man_target_is_a_file() {
    let case = Case::new();
    let before = fs::read(&case.content.torrent).unwrap();
    check_alone("man_target_is_a_file", case.run("man thing.torrent"));
    assert_eq!(fs::read(&case.content.torrent).unwrap(), before);
}
