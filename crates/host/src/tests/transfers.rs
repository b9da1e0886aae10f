use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

const LEN: usize = 5 * 1024 * 1024 + 12_345;

fn peers(nodes: &[&Node]) -> Setup {
    Setup {
        peers: nodes.iter().map(|node| node.addr()).collect(),
        ..Setup::default()
    }
}

#[test]
fn a_leech_that_dials_gets_the_file() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let seed = Node::seed(&share, Setup::default());
    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    let summary = leech.wait_complete();
    assert_eq!(summary.downloaded, LEN as u64);
    assert_eq!((summary.duplicate, summary.failed_hash), (0, 0));
    share.assert_same(dir.path());
    leech.handle.shutdown();
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["thing.bin"], "nothing else is left behind");
}

#[test]
fn a_leech_that_is_dialled_gets_the_folder() {
    let files = [
        ("a/empty", 0),
        ("a/one", 1),
        ("b/c/large.bin", 700_001),
        ("b/ümläut ☃", 65_536),
        ("last", 100_000),
        ("zero", 0),
    ];
    let (share, dir) = (Share::folder(&files), tempfile::tempdir().unwrap());
    let leech = Node::leech(&share, dir.path(), Setup::default());
    let seed = Node::seed(&share, peers(&[&leech]));
    leech.wait_complete();
    share.assert_same(dir.path());
    drop(seed);
}

#[test]
fn whoever_stops_at_once_leaves_no_resume_data_of_a_complete_folder() {
    let names: Vec<String> = (0..300).map(|at| format!("{}/{at}", at % 7)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (&name[..], 3000)).collect();
    let (share, dir) = (Share::folder(&files), tempfile::tempdir().unwrap());
    let seed = Node::seed(&share, Setup::default());
    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    leech.wait_complete();
    leech.handle.shutdown();
    let names = fs::read_dir(dir.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["things"]);
}

/// All pieces came, then somebody's file had the name: the next run only has to rename.
#[test]
fn what_an_earlier_run_brought_is_named_and_leaves_no_resume_data() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let leech = Node::leech(&share, dir.path(), Setup::default());
    let thing = dir.path().join("thing.bin");
    fs::write(&thing, "mine").unwrap();
    let _seed = Node::seed(&share, peers(&[&leech]));
    leech.wait(|alert| matches!(alert, Alert::DiskFailed { .. }).then_some(()));
    leech.handle.shutdown();
    fs::remove_file(&thing).unwrap();

    let again = Node::leech(&share, dir.path(), Setup::default());
    assert_eq!(again.wait_complete().downloaded, 0);
    again.handle.shutdown();
    share.assert_same(dir.path());
    let names = fs::read_dir(dir.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thing.bin"]);

    // Nothing of the past is believed of a file that was edited since.
    let mut bytes = fs::read(&thing).unwrap();
    bytes[LEN / 2] ^= 1;
    fs::write(&thing, bytes).unwrap();
    let edited = prepared(&share.torrent, dir.path(), DOWNLOAD).unwrap();
    assert!(!edited.resume.written.is_full());
}

#[test]
fn an_empty_file_is_complete_at_once() {
    let (share, dir) = (Share::file(0), tempfile::tempdir().unwrap());
    let leech = Node::leech(&share, dir.path(), Setup::default());
    leech.wait_complete();
    share.assert_same(dir.path());
}

#[test]
fn leeches_feed_each_other() {
    let share = Share::file(LEN);
    let dirs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let limits = RateLimits {
        up: Some(2_000_000),
        ..RateLimits::default()
    };
    let seed = Node::seed(
        &share,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    let mut leeches: Vec<Node> = Vec::new();
    for dir in &dirs {
        let known: Vec<&Node> = leeches.iter().chain([&seed]).collect();
        let leech = Node::leech(&share, dir.path(), peers(&known));
        leeches.push(leech);
    }
    for (leech, dir) in leeches.iter().zip(&dirs) {
        leech.wait_complete();
        share.assert_same(dir.path());
    }
    let sent = seed.uploaded();
    assert!(
        sent < 2 * LEN as u64,
        "the seed sent {sent} bytes to three leeches"
    );
}

#[test]
fn a_low_memory_ceiling_is_kept() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let low = |peers| Setup {
        peers,
        buffer_bytes_max: Some(1024 * 1024),
        ..Setup::default()
    };
    let seed = Node::seed(&share, low(Vec::new()));
    let leech = Node::leech(&share, dir.path(), low(vec![seed.addr()]));
    let mut peak = 0;
    leech.wait(|alert| {
        peak = peak.max(leech.handle.buffer_bytes().unwrap());
        matches!(alert, Alert::Complete { .. }).then_some(())
    });
    assert!(peak <= 1024 * 1024, "{peak} bytes of buffers");
    share.assert_same(dir.path());
}

#[test]
fn garbage_and_silence_do_not_disturb() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let seed = Node::seed(&share, Setup::default());
    let silent: Vec<TcpStream> = (0..150)
        .map(|_| TcpStream::connect(seed.addr()).unwrap())
        .collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 5000],
        b"\x13BitTorrent protocoX",
    ] {
        let mut stream = TcpStream::connect(seed.addr()).unwrap();
        stream.write_all(garbage).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed, whichever way the system puts it.
        assert!(matches!(stream.read(&mut [0; 100]), Ok(0) | Err(_)));
    }
    // A right handshake, then messages that no peer may send.
    let mut liar = TcpStream::connect(seed.addr()).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(share.torrent.info_hash.as_bytes());
    hello.extend(b"-XX0000-abcdefghijkl");
    hello.extend(b"\x7f\xff\xff\xff\x07");
    liar.write_all(&hello).unwrap();
    liar.set_read_timeout(Some(PATIENCE)).unwrap();
    // Our handshake and first messages, then the end.
    assert!(liar.read_to_end(&mut Vec::new()).is_err() || liar.read(&mut [0]).is_ok());
    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    leech.wait_complete();
    share.assert_same(dir.path());
    drop(silent);
}

#[test]
fn a_download_that_was_stopped_goes_on_where_it_was() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let limits = RateLimits {
        up: Some(3_000_000),
        ..RateLimits::default()
    };
    let seed = Node::seed(
        &share,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    leech.wait_pieces(30);
    leech.handle.shutdown();
    assert!(
        !dir.path().join("thing.bin").exists(),
        "an unfinished file has the suffix .part"
    );

    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    let summary = leech.wait_complete();
    share.assert_same(dir.path());
    // One of the thirty may be the last piece, which is short.
    let saved = 29 * 64 * 1024;
    assert!(
        summary.downloaded <= LEN as u64 - saved,
        "{} downloaded again",
        summary.downloaded
    );
}

#[test]
fn a_dead_peer_is_told_and_the_others_serve() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let seed = Node::seed(&share, Setup::default());
    let setup = Setup {
        peers: vec![nobody, seed.addr()],
        ..Setup::default()
    };
    let leech = Node::leech(&share, dir.path(), setup);
    let (mut failed, mut complete) = (None, false);
    leech.wait(|alert| {
        match alert {
            Alert::DialFailed { peer, reason, .. } => failed = Some((peer, reason.to_string())),
            Alert::Complete { .. } => complete = true,
            _ => {}
        }
        (complete && failed.is_some()).then_some(())
    });
    let (peer, reason) = failed.unwrap();
    assert_eq!(
        (peer.socket_addr(), reason.as_str()),
        (nobody, "connection refused")
    );
}

#[test]
fn dialling_ourselves_comes_to_nothing() {
    let share = Share::file(1000);
    let dir = tempfile::tempdir().unwrap();
    let leech = Node::leech(&share, dir.path(), Setup::default());
    let addr = dunlin_engine::PeerAddr::Tcp(leech.addr());
    leech.handle.command(dunlin_engine::Command::AddPeers {
        torrent: leech.torrent,
        peers: vec![addr],
    });
    let reason = leech.wait(|alert| match alert {
        Alert::DialFailed { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.to_string(), "it is this very process");
    assert!(
        leech
            .handle
            .snapshot(leech.torrent)
            .unwrap()
            .peers
            .is_empty()
    );
}

#[test]
fn two_that_dial_each_other_at_once_keep_one_connection() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let limits = RateLimits {
        up: Some(3_000_000),
        ..RateLimits::default()
    };
    let seed = Node::seed(
        &share,
        Setup {
            limits,
            ..Setup::default()
        },
    );
    let leech = Node::leech(&share, dir.path(), Setup::default());
    for (node, peer) in [(&seed, &leech), (&leech, &seed)] {
        node.handle.command(dunlin_engine::Command::AddPeers {
            torrent: node.torrent,
            peers: vec![dunlin_engine::PeerAddr::Tcp(peer.addr())],
        });
    }
    leech.wait_pieces(10);
    let snapshot = leech.handle.snapshot(leech.torrent).unwrap();
    assert_eq!(snapshot.peers.len(), 1, "{:#?}", snapshot.peers);
    leech.wait_complete();
    share.assert_same(dir.path());
}

/// A peer that asks for everything and takes nothing.
fn greedy(share: &Share, seed: &Node, number: u8) -> TcpStream {
    let mut stream = TcpStream::connect(seed.addr()).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(share.torrent.info_hash.as_bytes());
    hello.extend(b"-XX0000-greedy-----");
    hello.push(b'a' + number);
    hello.extend([0, 0, 0, 1, 2]);
    for piece in 0..60u32 {
        for block in 0..4u32 {
            hello.extend([0, 0, 0, 13, 6]);
            for word in [piece, block * 16_384, 16_384] {
                hello.extend(word.to_be_bytes());
            }
        }
    }
    // Without the fast extension requests of a choked peer are ignored: wait for the unchoke.
    let (first, requests) = hello.split_at(68 + 5);
    stream.write_all(first).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(&[0, 0, 0, 1, 1]) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        seen.push(byte[0]);
    }
    stream.write_all(requests).unwrap();
    stream
}

#[test]
fn readers_that_never_read_do_not_starve_the_others() {
    let (share, dir) = (Share::file(LEN), tempfile::tempdir().unwrap());
    let setup = Setup {
        buffer_bytes_max: Some(2 * 1024 * 1024),
        ..Setup::default()
    };
    let seed = Node::seed(&share, setup);
    let greedy: Vec<TcpStream> = (0..3).map(|number| greedy(&share, &seed, number)).collect();
    let leech = Node::leech(&share, dir.path(), peers(&[&seed]));
    leech.wait_complete();
    share.assert_same(dir.path());
    assert!(
        seed.handle.buffer_bytes().unwrap() <= 512 * 1024,
        "a quarter of the ceiling"
    );
    drop(greedy);
}
