use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use super::*;

/// Answers every announce with one peer and passes on what was asked.
fn tracker(peer: SocketAddr) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                request.extend(byte);
            }
            let SocketAddr::V4(v4) = peer else {
                panic!("an IPv6 peer");
            };
            let mut body = b"d8:intervali900e5:peers6:".to_vec();
            body.extend(v4.ip().octets());
            body.extend(v4.port().to_be_bytes());
            body.push(b'e');
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            if asked.send(String::from_utf8(request).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, questions)
}

#[test]
fn the_tracker_names_the_seed_and_hears_how_it_ends() {
    let (share, dir) = (Share::file(300_000), tempfile::tempdir().unwrap());
    let seed = Node::seed(&share, Setup::default());
    let (url, questions) = tracker(seed.addr());
    let setup = Setup {
        trackers: vec![vec![url.clone()]],
        ..Setup::default()
    };
    let leech = Node::leech(&share, dir.path(), setup);
    let next = || questions.recv_timeout(PATIENCE).unwrap();
    let started = next();
    assert!(
        started.contains("event=started") && started.contains("left=300000"),
        "{started}"
    );
    assert!(
        started.contains(&format!("port={}&", leech.addr().port())),
        "{started}"
    );
    leech.wait_complete();
    share.assert_same(dir.path());
    let completed = next();
    assert!(
        completed.contains("event=completed") && completed.contains("left=0"),
        "{completed}"
    );
    leech.handle.shutdown();
    let stopped = next();
    assert!(
        stopped.contains("event=stopped") && stopped.contains("downloaded=300000"),
        "{stopped}"
    );
}

#[test]
fn a_tracker_that_never_answers_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (share, dir) = (Share::file(1000), tempfile::tempdir().unwrap());
    let setup = Setup {
        trackers: vec![vec![url]],
        ..Setup::default()
    };
    let leech = Node::leech(&share, dir.path(), setup);
    listener.accept().unwrap();
    let start = Instant::now();
    leech.handle.shutdown();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_dead_tracker_is_told_in_words() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (share, dir) = (Share::file(1000), tempfile::tempdir().unwrap());
    let setup = Setup {
        trackers: vec![vec![format!("http://{nobody}/announce")]],
        ..Setup::default()
    };
    let leech = Node::leech(&share, dir.path(), setup);
    let message = leech.wait(|alert| match alert {
        Alert::AnnounceFailed { message, .. } => Some(message),
        _ => None,
    });
    assert_eq!(message, "connection refused");
}
