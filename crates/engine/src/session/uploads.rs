//! What is served to whom, and what is refused.

use std::time::Duration;

use dunlin_proto::peer::{Message, Request, Reserved};

use super::rig::{BLOCK, Rig, SECOND, full};
use crate::config::{Config, RateLimits};
use crate::event::Event;

#[test]
fn requests_out_of_range_end_the_connection() {
    for (piece, begin, len) in [
        (9, 0, BLOCK),
        (0, 65_536, 1),
        (0, 0, 0),
        (0, u32::MAX, BLOCK),
    ] {
        let mut rig = Rig::seed(2, Config::default());
        let peer = rig.peer("..");
        rig.hear(peer, Message::Interested);
        rig.hear(peer, Message::Request(Request { piece, begin, len }));
        assert!(rig.is_closed(peer), "{piece} {begin} {len}");
    }
}

#[test]
fn a_request_while_choked_is_rejected_with_the_fast_extension_and_ignored_without() {
    let config = Config {
        preferred_neighbors: 0,
        upload_slots_max: 0,
        ..Config::default()
    };
    let mut rig = Rig::with(20, config, full(20), Vec::new());
    let plain = Reserved::default();
    let (occupant, fast) = (rig.peer(""), rig.peer(""));
    rig.hear(occupant, Message::Interested);
    let slow = rig.peer_with("", plain);
    // Which pieces are allowed while choked depends on the address.
    let allowed: Vec<u32> = rig
        .sent(fast)
        .into_iter()
        .filter_map(|message| match message {
            Message::AllowedFast { piece } => Some(piece),
            _ => None,
        })
        .collect();
    let piece = (0..20).find(|piece| !allowed.contains(piece)).unwrap();
    let request = Request {
        piece,
        begin: 0,
        len: BLOCK,
    };
    rig.sent(slow);
    rig.hear(fast, Message::Request(request));
    rig.hear(slow, Message::Request(request));
    assert_eq!(rig.sent(fast), [Message::RejectRequest(request)]);
    assert!(rig.sent(slow).is_empty());
    assert!(rig.served(fast).is_empty() && rig.served(slow).is_empty());
}

#[test]
fn an_allowed_piece_is_served_while_choked_but_not_over_and_over() {
    let config = Config {
        preferred_neighbors: 0,
        upload_slots_max: 0,
        ..Config::default()
    };
    let mut rig = Rig::with(20, config, full(20), Vec::new());
    for _ in 0..4 {
        rig.peer(&"x".repeat(19));
    }
    let peer = rig.peer("");
    let piece = rig
        .sent(peer)
        .into_iter()
        .find_map(|message| match message {
            Message::AllowedFast { piece } => Some(piece),
            _ => None,
        })
        .expect("a newcomer is offered allowed pieces");
    let mut blocks_served = 0;
    for _ in 0..10 {
        for index in 0..4 {
            let request = Request {
                piece,
                begin: index * BLOCK,
                len: BLOCK,
            };
            rig.hear(peer, Message::Request(request));
            for run in rig.served(peer) {
                blocks_served += run.count();
                let bytes = rig.layout.run_len(run);
                rig.tell(Event::Served { peer, run, bytes });
            }
        }
    }
    assert_eq!(blocks_served, 8, "twice the four blocks of the piece");
}

#[test]
fn pieces_that_hardly_anybody_has_are_not_given_while_choked() {
    let mut rig = Rig::with(20, Config::default(), full(20), Vec::new());
    for _ in 0..3 {
        rig.peer(&"x".repeat(19));
    }
    let newcomer = rig.peer("");
    let offers = rig.sent(newcomer);
    assert!(
        !offers
            .iter()
            .any(|message| matches!(message, Message::AllowedFast { .. })),
        "{offers:?}"
    );
}

#[test]
fn a_choke_voids_what_was_queued() {
    let mut rig = Rig::seed(
        20,
        Config {
            preferred_neighbors: 1,
            ..Config::default()
        },
    );
    // With five pieces of its own it is no newcomer: nothing is allowed while choked.
    let peer = rig.peer("xxxxx");
    rig.hear(peer, Message::Interested);
    for piece in 0..20 {
        for index in 0..4 {
            let request = Request {
                piece,
                begin: index * BLOCK,
                len: BLOCK,
            };
            rig.hear(peer, Message::Request(request));
        }
    }
    let in_hand: u32 = rig
        .served(peer)
        .iter()
        .map(|&run| rig.layout.run_len(run))
        .sum();
    assert_eq!(
        in_hand,
        256 * 1024,
        "no more than the credit leaves the session"
    );
    // Two others wait; with one slot and the optimistic one, somebody has to yield.
    for _ in 0..3 {
        let other = rig.peer("");
        rig.hear(other, Message::Interested);
    }
    rig.sent(peer);
    rig.wait(Duration::from_secs(60));
    let messages = rig.sent(peer);
    assert!(messages.contains(&Message::Choke));
    let rejects = messages
        .iter()
        .filter(|message| matches!(message, Message::RejectRequest(_)))
        .count();
    assert_eq!(rejects, 80 - 16, "each queued request is answered");
}

#[test]
fn an_upload_limit_paces_what_is_served() {
    let limits = RateLimits {
        down: None,
        up: Some(100_000),
    };
    let mut rig = Rig::seed(
        50,
        Config {
            limits,
            ..Config::default()
        },
    );
    let peers = [rig.peer(""), rig.peer("")];
    for peer in peers {
        rig.hear(peer, Message::Interested);
        for piece in 0..50 {
            for index in 0..4 {
                let request = Request {
                    piece,
                    begin: index * BLOCK,
                    len: BLOCK,
                };
                rig.hear(peer, Message::Request(request));
            }
        }
    }
    let mut bytes = [0u64; 2];
    for _ in 0..100 {
        rig.wait(SECOND / 5);
        for (peer, sum) in peers.into_iter().zip(&mut bytes) {
            for run in rig.served(peer) {
                let len = rig.layout.run_len(run);
                *sum += u64::from(len);
                rig.tell(Event::Served {
                    peer,
                    run,
                    bytes: len,
                });
            }
        }
    }
    let total = bytes[0] + bytes[1];
    assert!(
        (1_900_000..2_060_000).contains(&total),
        "{total} bytes in 20 s at 100 kB/s"
    );
    assert!(
        bytes[0].abs_diff(bytes[1]) <= 2 * u64::from(BLOCK),
        "{bytes:?} is not a fair share"
    );
}
