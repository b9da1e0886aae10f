//! Everything over IPv6: trackers of both kinds, peers of both makes, what one peer tells another.
//!
//! All on `::1`, where a port tells who is who. A machine without it skips these, and says so.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::clients::{has_ipv6, skip};
use crate::fixture::{Running, Sandbox, Words, assert_same};
use crate::libtorrent::Libtorrent;

const LISTEN: &str = "[::1]:0";

/// A tracker on `::1`, and its announce URLs: HTTP, UDP.
fn tracker(sandbox: &Sandbox) -> (Running, [String; 2]) {
    let words: Words<'_> = &[&"--http", &LISTEN, &"--udp", &LISTEN];
    let mut tracker = sandbox.start("tracker", words);
    let http = format!("http://{}/announce", tracker.addr());
    let udp = format!("udp://{}/announce", tracker.udp_addr());
    (tracker, [http, udp])
}

/// A file in `data N`, and its torrent, which names no tracker.
fn share(sandbox: &Sandbox, n: u64) -> (PathBuf, PathBuf) {
    let file = sandbox.random(&format!("data {n}/thing {n}.bin"), 3_000_000, n);
    let torrent = sandbox.create(&file, &[]);
    (file, torrent)
}

fn seed(sandbox: &Sandbox, torrent: &Path, file: &Path, words: Words<'_>) -> Running {
    let start: Words<'_> = &[&torrent, &file, &"--listen", &LISTEN, &"-6"];
    sandbox.start("seed", &[start, words].concat())
}

/// What the tracker says to somebody who wants to know of peers; HTTP alone.
fn peers6_of(url: &str, info_hash: &str) -> Option<Vec<u8>> {
    let host = url.split('/').nth(2).unwrap();
    let hash: String = (0..20)
        .map(|n| format!("%{}", &info_hash[2 * n..2 * n + 2]))
        .collect();
    let query = format!(
        "GET /announce?info_hash={hash}&peer_id=-XX0000-abcdefghijkl&port=9&uploaded=0&downloaded=0\
         &left=1&compact=1 HTTP/1.0\r\nHost: {host}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(query.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let key = b"6:peers6";
    let at = answer.windows(key.len()).position(|part| part == key)?;
    let rest = &answer[at + key.len()..];
    let colon = rest.iter().position(|&byte| byte == b':')?;
    let len: usize = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    rest.get(colon + 1..colon + 1 + len).map(<[u8]>::to_vec)
}

#[test]
fn peers_find_each_other_through_a_tracker_on_ipv6_over_http_and_udp() {
    let test = "peers on IPv6 find each other";
    if !has_ipv6() {
        return skip(test, "this machine has no ::1");
    }
    let sandbox = Sandbox::new();
    let (mut tracker, urls) = tracker(&sandbox);
    for (n, url) in urls.iter().enumerate() {
        let (file, torrent) = share(&sandbox, n as u64);
        let mut seed = seed(&sandbox, &torrent, &file, &[&"--tracker", url]);
        let port: u16 = seed.addr().rsplit_once(':').unwrap().1.parse().unwrap();
        let words: Words<'_> = &[&torrent, &"-d", &"out", &"-6", &"--tracker", url];
        let done = sandbox
            .run("get", &[words, &[&"--json-lines"]].concat())
            .expect(0);
        // Whoever of the two dialled.
        let peer = done.last_event("connected")["peer"].clone();
        assert!(peer.as_str().unwrap().starts_with("[::1]:"), "{peer}");
        let name = file.file_name().unwrap();
        assert_same(&file, &sandbox.path("out").join(name));
        // BEP 7: sixteen bytes of address, two of port.
        let hash = sandbox.run("show", &[&torrent, &"--json"]).expect(0).json();
        let peers = peers6_of(&urls[0], hash["info_hash_v1"].as_str().unwrap());
        let mut entry = [0; 18];
        entry[15] = 1;
        entry[16..].copy_from_slice(&port.to_be_bytes());
        let peers = peers.expect("the tracker tells of IPv6 peers");
        assert!(peers.chunks(18).any(|peer| peer == entry), "{peers:?}");
        seed.interrupt().expect(0);
    }
    tracker.interrupt().expect(0);
}

#[test]
fn libtorrent_and_dunlin_trade_over_ipv6() {
    let test = "libtorrent and dunlin on IPv6";
    if !has_ipv6() {
        return skip(test, "this machine has no ::1");
    }
    let Some(libtorrent) = Libtorrent::find(test) else {
        return;
    };
    let sandbox = Sandbox::new();
    let (mut tracker, [http, udp]) = tracker(&sandbox);

    let (file, torrent) = share(&sandbox, 5);
    let mut ours = seed(&sandbox, &torrent, &file, &[&"--tracker", &udp]);
    ours.addr();
    let folder = sandbox.dir("libtorrent");
    let words: Words<'_> = &[&"--listen", &LISTEN, &"--tracker", &udp];
    let mut leech = libtorrent.leech(&torrent, &folder, words);
    leech.wait_for("finished");
    assert_same(&file, &folder.join("thing 5.bin"));
    leech.interrupt().expect(0);
    ours.interrupt().expect(0);

    let (file, torrent) = share(&sandbox, 6);
    let words: Words<'_> = &[&"--listen", &LISTEN, &"--tracker", &http];
    let mut theirs = libtorrent.seed(&torrent, file.parent().unwrap(), words);
    theirs.wait_until("alert", |event| event["kind"] == "tracker_reply_alert");
    let words: Words<'_> = &[&torrent, &"-d", &"out", &"-6", &"--tracker", &http];
    sandbox.run("get", words).expect(0);
    assert_same(&file, &sandbox.path("out/thing 6.bin"));
    theirs.interrupt().expect(0);
    tracker.interrupt().expect(0);
}

/// As in `exchange`, with the addresses in `added6`. A hears of nobody, so C dials.
#[test]
fn peers_tell_each_other_of_ipv6_addresses() {
    if !has_ipv6() {
        return skip("peer exchange on IPv6", "this machine has no ::1");
    }
    let sandbox = Sandbox::new();
    let file = sandbox.random("data/thing.bin", 10_000_000, 11);
    let torrent = sandbox.create(&file, &[]);
    let mut a = seed(&sandbox, &torrent, &file, &[&"--up", &"800K", &"--no-pex"]);
    let a_addr = a.addr();
    let get = |dir: &str, peer: String| {
        let words: Words<'_> = &[
            &torrent,
            &"-d",
            &dir,
            &"--listen",
            &LISTEN,
            &"--up",
            &"200K",
        ];
        sandbox.start("get", &[words, &[&"--peer", &peer]].concat())
    };
    let mut b = get("b", a_addr.clone());
    let mut c = get("c", b.addr());
    c.wait_until("connected", |event| event["peer"] == *a_addr);
    b.kill();
    c.finish().expect(0);
    assert_same(&file, &sandbox.path("c/thing.bin"));
    a.interrupt().expect(0);
}
