//! Links and hashes that lead nowhere, servers that have no torrent for us.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{Case, check_alone};

const HASH: &str = "0123456789012345678901234567890123456789";

#[track_caller]
fn check_link(id: &str, link: &str) {
    let case = Case::new();
    for command in ["get", "show"] {
        check_alone(id, case.run(&format!("{command} {link}")));
    }
    assert_eq!(crate::fixture::names(&case.sandbox.path("")).len(), 3);
}

#[test]
fn link_has_a_bad_hash() {
    check_link("link_has_a_bad_hash", "magnet:?xt=urn:btih:zz");
}

#[test]
fn link_has_no_hash() {
    check_link("link_has_no_hash", "magnet:?dn=thing");
}

#[test]
fn link_is_cut() {
    check_link("link_is_cut", "magnet:");
}

#[test]
fn link_is_v2_only() {
    let case = Case::new();
    let zeros = "0".repeat(64);
    let line = format!("get magnet:?xt=urn:btmh:1220{zeros} -d out --timeout 5s");
    check_alone("link_is_v2_only", case.run(&line));
    assert!(case.left().is_empty());
}

#[test]
fn link_leads_to_nobody() {
    let case = Case::new();
    let line = format!("get {HASH} -d out");
    check_alone("link_leads_to_nobody", case.run(&line));
    assert!(case.left().is_empty());
}

#[test]
fn link_brings_nothing() {
    let case = Case::new();
    let line = format!("get {HASH} -d out --peer 127.0.0.1:1 --timeout 1s --listen 127.0.0.1:0");
    super::check("link_brings_nothing", case.run(&line));
    assert!(case.left().is_empty());
}

#[test]
fn link_cannot_be_seeded() {
    let case = Case::new();
    for command in ["seed", "verify"] {
        let done = case.run(&format!("{command} magnet:?xt=urn:btih:{HASH} data"));
        check_alone("link_cannot_be_seeded", done);
    }
}

/// Gets from a server that gives this answer to everybody.
fn get_from(case: &Case, answer: &'static str) -> crate::fixture::Done {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let done = case.run(&format!("get http://{addr}/x.torrent -d out"));
    assert!(case.left().is_empty());
    done
}

#[test]
fn url_is_not_there() {
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    check_alone("url_is_not_there", get_from(&Case::new(), answer));
}

#[test]
fn url_is_not_for_us() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    check_alone("url_is_not_for_us", get_from(&Case::new(), answer));
}

#[test]
fn url_is_html() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    check_alone("url_is_html", get_from(&Case::new(), answer));
}

#[test]
fn url_has_no_server() {
    check_link("url_has_no_server", "http://127.0.0.1:1/x.torrent");
}

#[test]
fn url_has_no_host() {
    check_link("url_has_no_host", "http:///x.torrent");
}

#[test]
fn url_has_an_unknown_host() {
    check_link("url_has_an_unknown_host", "http://nobody.invalid/x.torrent");
}

#[test]
fn url_never_answers() {
    let case = Case::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let line = format!("get http://{addr}/x.torrent -d out --timeout 1s");
    check_alone("url_never_answers", case.run(&line));
    assert!(case.left().is_empty());
}
