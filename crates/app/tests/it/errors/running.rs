//! What goes wrong while something runs, and how it is ended.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{Case, check};
use crate::fixture::{PATIENCE, Running, Words};
use crate::wire::{
    BITFIELD, INTERESTED, PIECE, REQUEST, UNCHOKE, Wire, block_message, message, word,
};

/// Nobody listens there: the port is reserved.
const DEAD: &str = "127.0.0.1:1";

fn get(case: &Case, words: Words<'_>) -> Running {
    let start: Words<'_> = &[
        &case.content.torrent,
        &"-d",
        &"out",
        &"--listen",
        &"127.0.0.1:0",
    ];
    case.sandbox.start("get", &[start, words].concat())
}

#[test]
fn time_is_over() {
    let case = Case::new();
    let done = get(&case, &[&"--peer", &DEAD, &"--timeout", &"1s"]).finish();
    check("time_is_over", done);
    case.finishes("out");
}

#[test]
fn nothing_comes() {
    let case = Case::new();
    let done = get(&case, &[&"--peer", &DEAD, &"--stall-timeout", &"1s"]).finish();
    check("nothing_comes", done);
    case.finishes("out");
}

#[test]
fn tracker_is_dead() {
    let case = Case::new();
    let url = format!("http://{DEAD}/announce");
    let mut get = get(&case, &[&"--tracker", &url]);
    let warning = get.wait_until("warning", |event| event["code"] == "tracker");
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .contains("; next try in "),
        "{warning}"
    );
    get.interrupt();
    let mut done = get_done(&case, &[&"--tracker", &url, &"--timeout", &"2s"]);
    // The row is about the warning; what ends the run is the timeout.
    done.code = 0;
    check("tracker_is_dead", done);
    case.finishes("out");
}

fn get_done(case: &Case, words: Words<'_>) -> crate::fixture::Done {
    get(case, words).finish()
}

#[test]
fn nobody_is_met() {
    let case = Case::new();
    let mut get = get(&case, &[]);
    get.wait_until("warning", |event| event["code"] == "no_peers");
    let mut done = get.interrupt().expect(7);
    done.code = 0;
    check("nobody_is_met", done);
}

#[test]
fn peer_lies() {
    let case = Case::new();
    let mut get = get(&case, &[]);
    let addr = get.addr();
    // Before that it does not know the torrent yet.
    get.wait_for("progress");
    let mut liar = Wire::open(&addr, &case.content, [0; 8], 1);
    liar.say(&message(BITFIELD, &case.content.bitfield(|_| true)));
    liar.wait_for(INTERESTED);
    liar.say(&message(UNCHOKE, &[]));
    while let Some((id, payload)) = liar.next() {
        if id == REQUEST {
            let wrong = vec![9; word(&payload[8..]) as usize];
            liar.say(&block_message(word(&payload), word(&payload[4..]), &wrong));
        }
        assert_ne!(id, PIECE);
    }
    get.wait_until("warning", |event| event["code"] == "peer_banned");
    let mut done = get.interrupt().expect(7);
    done.code = 0;
    let done = check("peer_lies", done);
    assert_eq!(done.last_event("progress")["have_bytes"], 0);
    case.finishes("out");
}

#[test]
fn download_is_interrupted() {
    let case = Case::new();
    for signal in ["INT", "TERM"] {
        let mut get = get(&case, &[]);
        get.wait_for("progress");
        get.signal(signal);
        check("download_is_interrupted", get.finish());
    }
    case.finishes("out");
}

#[test]
fn seed_is_interrupted() {
    let case = Case::new();
    for signal in ["INT", "TERM"] {
        let mut seed = case.seed();
        seed.wait_for("progress");
        seed.signal(signal);
        check("seed_is_interrupted", seed.finish());
    }
}

#[test]
fn tracker_is_interrupted() {
    let case = Case::new();
    let (mut tracker, _) = case.sandbox.tracker();
    check("tracker_is_interrupted", tracker.interrupt());
}

#[test]
fn check_is_interrupted() {
    let case = Case::new();
    // Large enough that no machine has hashed it before the signal comes.
    let large = fs::File::create(case.sandbox.path("data/large")).unwrap();
    large.set_len(16 << 30).unwrap();
    let create = case
        .sandbox
        .dunlin("create", &[&"data/large"])
        .spawn()
        .unwrap();
    let pid = create.id().to_string();
    // It has said how long its pieces are once it handles signals.
    let mut create = create;
    let mut stderr = create.stderr.take().unwrap();
    let mut first = [0; 12];
    stderr.read_exact(&mut first).unwrap();
    let kill = std::process::Command::new("kill")
        .args(["-s", "INT", &pid])
        .status();
    assert!(kill.unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let done = crate::fixture::Done {
        code: create.wait().unwrap().code().unwrap(),
        stdout: String::new(),
        stderr: rest,
        events: Vec::new(),
    };
    check("check_is_interrupted", done);
    assert!(!case.sandbox.path("large.torrent").exists());
}

#[test]
fn interrupted_twice() {
    let case = Case::new();
    // A tracker that answers once and then never again: saying goodbye to it takes seconds.
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let (answered, has_answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut first, _) = tracker.accept().unwrap();
        let _ = first.read(&mut [0; 4096]);
        let body = "d8:intervali1800e5:peers0:e";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        std::io::Write::write_all(&mut first, (head + body).as_bytes()).unwrap();
        drop(first);
        answered.send(()).unwrap();
        let silent: Vec<_> = tracker.incoming().collect();
        drop(silent);
    });
    let mut get = get(&case, &[&"--tracker", &url]);
    has_answered.recv_timeout(PATIENCE).unwrap();
    // By the second one from now the answer is in.
    get.wait_for("progress");
    get.wait_for("progress");
    get.signal("INT");
    // Two signals at the same moment are one.
    std::thread::sleep(Duration::from_millis(200));
    get.signal("INT");
    check("interrupted_twice", get.finish());
    case.finishes("out");
}

#[test]
fn download_is_killed() {
    let case = Case::new();
    let mut seed = case.seed();
    let mut get = get(&case, &[&"--peer", &seed.addr(), &"--down", &"100K"]);
    get.wait_for("piece");
    check("download_is_killed", get.kill());
    seed.kill();
    case.finishes("out");
}

/// Asks a seed for a block after its file was written to.
fn ask(seed: &mut Running, case: &Case, id: u32) -> Wire {
    let mut leech = Wire::open(&seed.addr(), &case.content, [0; 8], id);
    leech.say(&message(INTERESTED, &[]));
    leech.wait_for(UNCHOKE);
    leech.say(&crate::wire::request(REQUEST, 0, 0, 16_384));
    leech
}

#[test]
fn data_changes_while_it_is_seeded() {
    let case = Case::new();
    let mut seed = case.seed();
    seed.wait_for("progress");
    let mut leech = Wire::open(&seed.addr(), &case.content, [0; 8], 1);
    leech.say(&message(INTERESTED, &[]));
    leech.wait_for(UNCHOKE);
    let mut bytes = fs::read(&case.content.file).unwrap();
    let len = bytes.len() as u64;
    bytes[5] ^= 1;
    // Another size too: the time alone may be the same within the clock's grain. Whenever the seed
    // looks, it finds one wrong piece.
    bytes.push(0);
    let file = fs::File::options().write(true).open(&case.content.file);
    let file = file.unwrap();
    file.write_all_at(&bytes[5..6], 5).unwrap();
    file.write_all_at(&[0], len).unwrap();
    // It looks when it is asked, if it did not look before.
    leech.say(&crate::wire::request(REQUEST, 0, 0, 16_384));
    let done = check("data_changes_while_it_is_seeded", seed.finish());
    assert!(
        done.stderr
            .contains("; stopped, and checking all of it again"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read(&case.content.file).unwrap(), bytes);
}

#[test]
fn data_is_touched_while_it_is_seeded() {
    let case = Case::new();
    let mut seed = case.seed();
    seed.wait_for("progress");
    let file = fs::File::options()
        .write(true)
        .open(&case.content.file)
        .unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    file.set_modified(later).unwrap();
    let mut first = ask(&mut seed, &case, 1);
    seed.wait_until("warning", |event| event["code"] == "changed");
    // Not a byte before all of it was checked, and then it seeds again.
    while let Some((id, _)) = first.next() {
        assert_ne!(id, PIECE);
    }
    seed.wait_for("progress");
    let payload = ask(&mut seed, &case, 2).wait_for(PIECE);
    assert!(payload[8..] == *case.content.block(0, 0, 16_384));
    check("data_is_touched_while_it_is_seeded", seed.interrupt());
}
