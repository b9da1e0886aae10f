//! A download that stands still says why, in the log and in events, in the same words.

use serde_json::Value;

use crate::fixture::{Running, Sandbox, Words};
use crate::wire::{BITFIELD, Content, INTERESTED, Wire, message};

/// Nobody listens there: the port is reserved.
const DEAD: &str = "127.0.0.1:1";

fn get(sandbox: &Sandbox, content: &Content, words: Words<'_>) -> Running {
    let start: Words<'_> = &[
        &content.torrent,
        &"-v",
        &"-d",
        &"out",
        &"--listen",
        &"127.0.0.1:0",
    ];
    sandbox.start("get", &[start, words].concat())
}

/// Waits until the stall of this code is told, as an event and in each `progress`, ends the
/// download and returns the event and everything that was logged.
fn stalled(mut get: Running, code: &str) -> (Value, String) {
    let stalled = get.wait_until("stalled", |event| event["code"] == code);
    let progress = get.wait_until("progress", |event| event["stall"] == code);
    assert!(progress["stalled_s"].as_u64() >= Some(3), "{progress}");
    (stalled, get.interrupt().expect(7).stderr)
}

#[test]
fn a_lone_download_says_that_it_knows_nobody() {
    let sandbox = Sandbox::new();
    let content = Content::new(&sandbox, "lonely.bin", 64 * 1024, 2);
    let (event, log) = stalled(get(&sandbox, &content, &[]), "no_peers");
    assert_eq!(event["message"], "no peer is known, and no tracker to ask");
    let line = "stalled for 3 s: no peer is known, and no tracker to ask";
    assert!(log.contains(line), "{log}");
}

#[test]
fn a_download_that_is_choked_says_by_whom_and_why() {
    let sandbox = Sandbox::new();
    let content = Content::new(&sandbox, "choked.bin", 64 * 1024, 2);
    let mut get = get(&sandbox, &content, &[]);
    let addr = get.addr();
    get.wait_for("progress");
    let mut seed = Wire::open(&addr, &content, [0; 8], 1);
    seed.say(&message(BITFIELD, &content.bitfield(|_| true)));
    seed.wait_for(INTERESTED);
    let (event, log) = stalled(get, "seeds_busy");
    let sentence = "choked by 1 of 1 peer: seeds whose slots are with others";
    assert_eq!(event["message"], sentence);
    assert!(log.contains(&format!(" s: {sentence}")), "{log}");
}

#[test]
fn a_dial_says_who_named_the_address_and_how_it_ended() {
    let sandbox = Sandbox::new();
    let content = Content::new(&sandbox, "dialled.bin", 64 * 1024, 2);
    let mut get = get(&sandbox, &content, &[&"--peer", &DEAD]);
    let dialling = get.wait_for("dialling");
    assert_eq!(
        (&dialling["peer"], &dialling["code"]),
        (&DEAD.into(), &"user".into())
    );
    let failed = get.wait_for("dial_failed");
    assert_eq!(failed["code"], "connection_refused");
    assert_eq!(get.wait_for("dialling")["code"], "retry");
    let log = get.interrupt().expect(7).stderr;
    assert!(log.contains("dialling 127.0.0.1:1: you named it"), "{log}");
}
