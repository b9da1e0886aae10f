//! What a tracker knows, asked by scrape (BEP 48) or as a leech.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::fixture::PATIENCE;

use super::Place;
use super::daemon::{Reply, Request, ask};

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

/// Whom the tracker names to a leech at `place`: their addresses, sorted.
#[track_caller]
pub fn named(place: &Place, announce: &str, info_hash: &str) -> Vec<Ipv4Addr> {
    // Nobody listens at port 9, so nobody is kept waiting by this leech.
    let words =
        "&peer_id=-XX0000-only-looking&port=9&uploaded=0&downloaded=0&left=1&numwant=50&compact=1";
    let path = format!("/announce?info_hash={}{words}", escaped(info_hash));
    let reply = get(place, announce, &path).expect("the tracker answers");
    let key = b"5:peers";
    let at = reply.bytes.windows(key.len()).position(|some| some == key);
    let rest = &reply.bytes[at.expect("an answer names peers") + key.len()..];
    let colon = rest
        .iter()
        .position(|&byte| byte == b':')
        .expect("a string");
    let len: usize = std::str::from_utf8(&rest[..colon])
        .expect("a length")
        .parse()
        .expect("a length");
    // BEP 23: four bytes of address, two of port.
    let peers = rest[colon + 1..][..len].chunks_exact(6);
    let mut addrs: Vec<Ipv4Addr> = peers
        .map(|peer| Ipv4Addr::new(peer[0], peer[1], peer[2], peer[3]))
        .collect();
    addrs.sort();
    addrs
}

fn peers(place: &Place, announce: &str, info_hash: &str) -> Option<u64> {
    let path = format!("/scrape?info_hash={}", escaped(info_hash));
    let body = get(place, announce, &path)?.body;
    let count = |name: &str| {
        let (_, rest) = body.split_once(name)?;
        rest.split_once('e')?.0.parse::<u64>().ok()
    };
    Some(count("8:completei")? + count("10:incompletei")?)
}

/// Asks the tracker whose announce URL this is for another path.
fn get(place: &Place, announce: &str, path: &str) -> Option<Reply> {
    let (addr, _) = announce.strip_prefix("http://")?.split_once('/')?;
    let addr: SocketAddrV4 = addr.parse().expect("a test's tracker has an address");
    let request = Request {
        path,
        headers: "",
        body: None,
    };
    ask(place, (*addr.ip(), addr.port()), &request)
}

fn escaped(info_hash: &str) -> String {
    let bytes = info_hash.as_bytes().chunks(2);
    bytes
        .map(|hex| format!("%{}", String::from_utf8_lossy(hex)))
        .collect()
}
