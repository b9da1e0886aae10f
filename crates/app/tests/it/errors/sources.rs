//! What is named as a torrent and is none.

use std::io::Write;
use std::process::Stdio;

use super::{Case, at_the_end, check, check_alone};
use crate::fixture::{PATIENCE, wait};

/// Every command that reads a torrent says the same, and writes nothing.
#[track_caller]
fn check_readers(case: &Case, id: &str, path: &str) {
    for line in [
        format!("get {path} -d out --listen 127.0.0.1:0"),
        format!("seed {path} data"),
        format!("show {path}"),
        format!("verify {path} data"),
    ] {
        println!("{line}");
        check_alone(id, case.run(&line));
    }
    assert!(case.left().is_empty());
}

#[test]
fn source_is_not_there() {
    let case = Case::new();
    check_readers(&case, "source_is_not_there", "gone.torrent");
}

#[test]
fn source_is_html() {
    let case = Case::new();
    let page = b"\n <!DOCTYPE html><html><title>404</title></html>";
    case.sandbox.write("page.torrent", page);
    check_readers(&case, "source_is_html", "page.torrent");
}

#[test]
fn source_is_cut() {
    let case = Case::new();
    let whole = std::fs::read(&case.content.torrent).unwrap();
    for len in [20, whole.len() / 2, whole.len() - 1] {
        case.sandbox.write("cut.torrent", &whole[..len]);
        check_readers(&case, "source_is_cut", "cut.torrent");
    }
}

#[test]
fn source_is_empty() {
    let case = Case::new();
    case.sandbox.write("empty.torrent", b"");
    check_readers(&case, "source_is_empty", "empty.torrent");
}

#[test]
fn source_is_another_file() {
    let case = Case::new();
    case.sandbox
        .write("picture.torrent", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    check_readers(&case, "source_is_another_file", "picture.torrent");
}

#[test]
fn source_is_a_folder() {
    let case = Case::new();
    check_readers(&case, "source_is_a_folder", "data");
}

#[test]
fn source_is_endless() {
    let case = Case::new();
    check_readers(&case, "source_is_endless", "/dev/zero");
}

#[test]
fn source_makes_no_sense() {
    let case = Case::new();
    let pieces = "6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    for fields in [
        "6:lengthi5e4:name1:x12:piece lengthi0e",
        "6:lengthi-5e4:name1:x12:piece lengthi16384e",
        "6:lengthi50000e4:name1:x12:piece lengthi16384e",
        "5:filesle4:name1:x12:piece lengthi16384e",
    ] {
        let text = format!("d4:infod{fields}{pieces}");
        case.sandbox.write("bad.torrent", text.as_bytes());
        check_readers(&case, "source_makes_no_sense", "bad.torrent");
    }
}

#[test]
fn source_is_v2_only() {
    let case = Case::new();
    let root = "a".repeat(32);
    let text = format!(
        "d4:infod9:file treed1:xd0:d6:lengthi5e11:pieces root32:{root}eee\
         12:meta versioni2e4:name1:x12:piece lengthi16384eee"
    );
    case.sandbox.write("v2.torrent", text.as_bytes());
    for line in [
        "get v2.torrent -d out --listen 127.0.0.1:0",
        "seed v2.torrent data",
    ] {
        check_alone("source_is_v2_only", case.run(line));
    }
    assert!(case.left().is_empty());
}

#[test]
fn source_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&case.content.torrent, closed).unwrap();
    for line in ["show thing.torrent", "verify thing.torrent data"] {
        let Some(done) = case.run_as_nobody(line) else {
            return;
        };
        check_alone("source_may_not_be_read", done);
    }
}

#[test]
fn source_is_named_twice() {
    let case = Case::new();
    let mut seed = case.seed();
    let peer = seed.addr();
    let line =
        format!("get thing.torrent ./thing.torrent -d out --listen 127.0.0.1:0 --peer {peer} -q");
    check("source_is_named_twice", at_the_end(case.run(&line)));
    // What could be done was done.
    crate::fixture::assert_same(&case.content.file, &case.sandbox.path("out/thing"));
    seed.kill();
}

#[test]
fn sources_fail_in_part() {
    let case = Case::new();
    let mut seed = case.seed();
    let peer = seed.addr();
    let line = format!(
        "get gone.torrent data thing.torrent -d out --listen 127.0.0.1:0 --peer {peer} --json-lines"
    );
    let done = case.run(&line);
    assert_eq!(done.stderr.matches("error: ").count(), 3, "{}", done.stderr);
    check("sources_fail_in_part", at_the_end(done));
    crate::fixture::assert_same(&case.content.file, &case.sandbox.path("out/thing"));
    seed.kill();
}

#[test]
fn stdin_is_named_twice() {
    let case = Case::new();
    check_alone("stdin_is_named_twice", case.run("get - - -d out"));
}

#[test]
fn stdin_is_no_torrent() {
    let case = Case::new();
    let mut child = case
        .sandbox
        .dunlin("show", &[&"-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    check_alone("stdin_is_no_torrent", wait(child, PATIENCE));
}
