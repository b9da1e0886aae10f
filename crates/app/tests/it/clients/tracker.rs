//! What a tracker knows, asked by scrape (BEP 48).

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::fixture::PATIENCE;

use super::Place;
use super::daemon::{Request, ask};

/// Waits until the tracker that `place` reaches at `announce`, an HTTP URL, knows `count` peers of
/// a torrent, seeds and leeches together.
#[track_caller]
pub fn await_peers(place: &Place, announce: &str, info_hash: &str, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let known = peers(place, announce, info_hash);
        if known >= Some(count) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{known:?} of {count} peers have announced {info_hash}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn peers(place: &Place, announce: &str, info_hash: &str) -> Option<u64> {
    let (addr, _) = announce.strip_prefix("http://")?.split_once('/')?;
    let addr: SocketAddrV4 = addr.parse().expect("a test's tracker has an address");
    let mut path = String::from("/scrape?info_hash=");
    for digits in info_hash.as_bytes().chunks(2) {
        path.push('%');
        path.push_str(std::str::from_utf8(digits).expect("a hash is digits"));
    }
    let request = Request {
        path: &path,
        headers: "",
        body: None,
    };
    let body = ask(place, (*addr.ip(), addr.port()), &request)?.body;
    let count = |name: &str| {
        let (_, rest) = body.split_once(name)?;
        rest.split_once('e')?.0.parse::<u64>().ok()
    };
    Some(count("8:completei")? + count("10:incompletei")?)
}
