use std::time::Duration;

use dunlin_metainfo::{Bitfield, FileSpan, Sha1Digest};
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, Request, Reserved};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceResponse};

use super::rig::{BLOCK, PIECE_LEN, Rig, TORRENT, addr, request_of};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{
    Action, Direction, DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerAddr, PeerKey,
};
use crate::reason::CloseReason;
use crate::resume::Resume;
use crate::snapshot::TorrentState;

const SECOND: Duration = Duration::from_secs(1);

fn unchoke(rig: &mut Rig, peer: PeerKey) {
    rig.hear(peer, Message::Unchoke);
}

/// Answers requests until the peer is asked for nothing more.
fn deliver_everything(rig: &mut Rig, peer: PeerKey) {
    loop {
        let blocks = rig.requested(peer);
        if blocks.is_empty() {
            return;
        }
        blocks
            .into_iter()
            .for_each(|block| rig.receive(peer, block));
    }
}

#[test]
fn a_leech_asks_a_seed_for_everything_and_completes_once() {
    let mut rig = Rig::new(3, Config::default());
    let seed = rig.peer("xxx");
    assert!(rig.sent(seed).contains(&Message::Interested));
    assert!(
        rig.requested(seed).is_empty(),
        "nothing is asked while choked"
    );
    unchoke(&mut rig, seed);
    deliver_everything(&mut rig, seed);
    let completes = rig
        .alerts
        .iter()
        .filter(|alert| matches!(alert, Alert::Complete { .. }));
    assert_eq!(completes.count(), 1);
    let haves = rig.take(|action| match action {
        Action::BroadcastHave { piece, .. } => Some(piece.get()),
        _ => None,
    });
    assert_eq!(haves.len(), 3);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!(snapshot.state, TorrentState::Seeding);
    assert_eq!(snapshot.downloaded, 3 * PIECE_LEN);
    assert_eq!(rig.session.buffered_bytes(), 0);
}

#[test]
fn two_seeds_have_nothing_to_say_to_each_other() {
    let mut rig = Rig::seed(3, Config::default());
    let other = rig.peer("xxx");
    assert!(rig.is_closed(other));
}

#[test]
fn a_peer_that_completes_is_told_of_and_one_that_came_complete_is_not() {
    let mut rig = Rig::seed(2, Config::default());
    let whole = rig.peer("xx");
    let leech = rig.peer("x.");
    rig.hear(leech, Message::Have { piece: 1 });
    let told = rig.alerts.iter();
    let told = told.filter(|alert| matches!(alert, Alert::PeerCompleted { .. }));
    assert_eq!(told.count(), 1);
    assert!(rig.is_closed(whole) && rig.is_closed(leech));
}

#[test]
fn a_fresh_interested_peer_is_unchoked_at_once_while_slots_are_free() {
    let config = Config {
        preferred_neighbors: 2,
        ..Config::default()
    };
    let mut rig = Rig::seed(3, config);
    let peers: Vec<PeerKey> = (0..5).map(|_| rig.peer("...")).collect();
    for &peer in &peers {
        rig.hear(peer, Message::Interested);
    }
    let unchoked: Vec<bool> = peers
        .iter()
        .map(|&peer| rig.sent(peer).contains(&Message::Unchoke))
        .collect();
    assert_eq!(
        unchoked,
        [true, true, true, false, false],
        "two slots and the optimistic one"
    );
}

#[test]
fn a_choke_frees_requests_for_others() {
    let mut rig = Rig::new(2, Config::default());
    let first = rig.peer("xx");
    unchoke(&mut rig, first);
    let asked = rig.requested(first);
    assert!(!asked.is_empty());
    rig.hear(first, Message::Choke);
    let second = rig.peer("xx");
    unchoke(&mut rig, second);
    let again = rig.requested(second);
    assert!(asked.iter().all(|block| again.contains(block)));
}

#[test]
fn a_block_that_was_under_way_when_the_peer_choked_is_still_welcome() {
    let mut rig = Rig::new(2, Config::default());
    let peer = rig.peer("xx");
    unchoke(&mut rig, peer);
    let block = rig.requested(peer)[0];
    rig.hear(peer, Message::Choke);
    rig.receive(peer, block);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!(
        (snapshot.downloaded, snapshot.duplicate),
        (u64::from(BLOCK), 0)
    );
}

#[test]
fn a_block_that_nobody_asked_for_is_thrown_away() {
    let mut rig = Rig::new(2, Config::default());
    let peer = rig.peer("xx");
    rig.receive(peer, rig.block(1, 3));
    assert!(
        rig.actions
            .iter()
            .any(|action| matches!(action, Action::Discard { .. }))
    );
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!(
        (snapshot.downloaded, snapshot.duplicate),
        (0, u64::from(BLOCK))
    );
}

#[test]
fn in_the_end_game_the_slower_copy_is_cancelled() {
    let mut rig = Rig::new(1, Config::default());
    let (first, second) = (rig.peer("x"), rig.peer("x"));
    unchoke(&mut rig, first);
    unchoke(&mut rig, second);
    let (of_first, of_second) = (rig.requested(first), rig.requested(second));
    assert_eq!(of_first.len(), 4, "all blocks of the only piece");
    let shared = *of_second.first().expect("the end-game asks a second peer");
    rig.receive(second, shared);
    let cancelled = rig.take(|action| match action {
        Action::Cancel { peer, run } if *peer == first => Some(*run),
        _ => None,
    });
    assert_eq!(cancelled, [rig.layout.run_of(shared)]);
}

#[test]
fn a_rejecting_peer_is_asked_ever_less_often() {
    let mut rig = Rig::new(4, Config::default());
    let peer = rig.peer("xxxx");
    unchoke(&mut rig, peer);
    let mut asked = 0;
    for _ in 0..100 {
        for block in rig.requested(peer) {
            asked += 1;
            rig.hear(peer, Message::RejectRequest(request_of(block)));
        }
        rig.wait(SECOND / 10);
    }
    assert!(
        asked <= 100,
        "{asked} requests in 10 s to a peer that rejects all of them"
    );
}

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

fn full(pieces: u32) -> Resume {
    Resume {
        written: Bitfield::full(pieces),
        ..Resume::empty(pieces)
    }
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

#[test]
fn a_download_limit_paces_what_is_asked() {
    let limits = RateLimits {
        down: Some(100_000),
        up: None,
    };
    let mut rig = Rig::new(
        100,
        Config {
            limits,
            ..Config::default()
        },
    );
    let peer = rig.peer(&"x".repeat(100));
    unchoke(&mut rig, peer);
    let mut bytes = 0;
    for _ in 0..100 {
        rig.wait(SECOND / 5);
        for block in rig.requested(peer) {
            bytes += block.len();
            rig.receive(peer, block);
        }
    }
    assert!(
        (1_900_000..2_060_000).contains(&bytes),
        "{bytes} bytes in 20 s at 100 kB/s"
    );
}

/// Takes all that is asked for, answering every disk job but those that `waits` names. Returns
/// the blocks that came.
fn deliver_while(rig: &mut Rig, peer: PeerKey, waits: impl Fn(&DiskOp) -> bool) -> usize {
    rig.disk_is_honest = false;
    let mut received = 0;
    loop {
        let blocks = rig.requested(peer);
        if blocks.is_empty() {
            return received;
        }
        for block in blocks {
            rig.receive(peer, block);
            received += 1;
        }
        let jobs = std::mem::take(&mut rig.jobs);
        let (waiting, done): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| waits(&job.op));
        done.into_iter().for_each(|job| rig.answer_well(job));
        rig.jobs.extend(waiting);
    }
}

fn answer_the_rest(rig: &mut Rig) {
    rig.disk_is_honest = true;
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
}

#[test]
fn nothing_is_asked_while_too_many_full_pieces_wait_for_their_verdict() {
    let config = Config {
        unjudged_bytes_max: 4 * PIECE_LEN,
        requests_max: 8,
        ..Config::default()
    };
    let mut rig = Rig::new(100, config);
    let peer = rig.peer(&"x".repeat(100));
    unchoke(&mut rig, peer);
    let blocks = deliver_while(&mut rig, peer, |op| matches!(op, DiskOp::Finish { .. }));
    // Five pieces close the gate; two more may have been asked for before.
    assert!((20..=28).contains(&blocks), "{blocks} blocks");
    answer_the_rest(&mut rig);
    assert!(!rig.requested(peer).is_empty(), "verdicts make room");
}

#[test]
fn nothing_is_asked_while_too_much_is_not_in_the_resume_data() {
    let config = Config {
        resume_bytes_max: PIECE_LEN,
        unsaved_bytes_max: 4 * PIECE_LEN,
        requests_max: 8,
        ..Config::default()
    };
    let mut rig = Rig::new(100, config);
    let peer = rig.peer(&"x".repeat(100));
    unchoke(&mut rig, peer);
    let blocks = deliver_while(&mut rig, peer, |op| matches!(op, DiskOp::SaveResume(_)));
    // One piece is in the save that does not end.
    assert!((24..=36).contains(&blocks), "{blocks} blocks");
    answer_the_rest(&mut rig);
    assert!(!rig.requested(peer).is_empty(), "a save makes room");
}

#[test]
fn nothing_is_asked_beyond_the_memory_ceiling() {
    let config = Config {
        buffer_bytes_max: 40 * u64::from(BLOCK),
        ..Config::default()
    };
    let mut rig = Rig::new(100, config);
    rig.disk_is_honest = false;
    let peer = rig.peer(&"x".repeat(100));
    unchoke(&mut rig, peer);
    let mut received = 0;
    for _ in 0..50 {
        for block in rig.requested(peer) {
            rig.receive(peer, block);
            received += 1;
        }
    }
    assert_eq!(
        received, 40,
        "the disk wrote nothing, so nothing more may come"
    );
    rig.disk_is_honest = true;
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
    assert!(!rig.requested(peer).is_empty(), "writes make room");
}

#[test]
fn the_honest_contributor_of_a_bad_piece_is_not_blamed() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let (honest, liar) = (rig.peer("x"), rig.peer("x"));
    unchoke(&mut rig, honest);
    unchoke(&mut rig, liar);
    rig.receive(liar, rig.block(0, 0));
    for index in 1..4 {
        rig.receive(honest, rig.block(0, index));
    }
    let digest = |byte: u8| Sha1Digest::new([byte; 20]);
    finish(&mut rig, |piece| DiskResult::Bad {
        piece,
        block_digests: vec![digest(9), digest(1), digest(2), digest(3)],
    });
    assert!(
        !rig.is_closed(honest) && !rig.is_closed(liar),
        "suspicion is no proof"
    );

    let owner = [honest, liar]
        .into_iter()
        .find(|&peer| !rig.requested(peer).is_empty())
        .expect("the piece is fetched again");
    for index in 0..4 {
        rig.receive(owner, rig.block(0, index));
    }
    finish(&mut rig, |piece| DiskResult::Good {
        piece,
        block_digests: (0..4).map(digest).collect(),
    });
    assert!(rig.is_closed(liar), "its block differs from the good one");
    assert!(
        !rig.is_closed(honest)
            || owner == honest && rig.session.snapshot(TORRENT, rig.now).is_some()
    );
    let banned: Vec<_> = rig
        .alerts
        .iter()
        .filter_map(|alert| match alert {
            Alert::PeerBanned { peer, .. } => Some(*peer),
            _ => None,
        })
        .collect();
    assert_eq!(banned, [addr(liar)]);
}

/// Answers every disk job well, but the first `Finish` as `verdict` says.
fn finish(rig: &mut Rig, verdict: impl Fn(dunlin_metainfo::PieceIndex) -> DiskResult) {
    for job in std::mem::take(&mut rig.jobs) {
        match job.op {
            DiskOp::Finish { piece, .. } => rig.answer(job.id, verdict(piece)),
            DiskOp::Write { .. }
            | DiskOp::Forget { .. }
            | DiskOp::CompleteFile { .. }
            | DiskOp::Sync
            | DiskOp::SaveResume(_)
            | DiskOp::RemoveResume => rig.answer_well(job),
        }
    }
}

#[test]
fn a_piece_that_one_peer_sent_alone_and_bad_is_proof() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let liar = rig.peer("x");
    unchoke(&mut rig, liar);
    deliver_everything(&mut rig, liar);
    finish(&mut rig, |piece| DiskResult::Bad {
        piece,
        block_digests: Vec::new(),
    });
    assert!(rig.is_closed(liar));
}

#[test]
fn resume_data_claims_a_piece_only_after_the_disk_said_good() {
    let config = Config {
        resume_bytes_max: 1,
        ..Config::default()
    };
    let mut rig = Rig::new(3, config);
    rig.disk_is_honest = false;
    let peer = rig.peer("xxx");
    unchoke(&mut rig, peer);
    for index in 0..4 {
        rig.receive(peer, rig.block(0, index));
    }
    rig.wait(5 * SECOND);
    let claims = |rig: &Rig| {
        rig.session
            .resume_data(TORRENT)
            .unwrap()
            .written
            .count_ones()
    };
    assert_eq!(claims(&rig), 0, "given to the disk is not on the disk");
    assert!(
        !rig.jobs
            .iter()
            .any(|job| matches!(job.op, DiskOp::SaveResume(_)))
    );
    finish(&mut rig, |piece| DiskResult::Good {
        piece,
        block_digests: Vec::new(),
    });
    assert_eq!(claims(&rig), 1);
    assert!(
        rig.jobs
            .iter()
            .any(|job| matches!(job.op, DiskOp::SaveResume(_)))
    );
    let resume = rig.session.resume_data(TORRENT).unwrap();
    assert_eq!(resume.synced.count_ones(), 0, "nothing was synced");
}

#[test]
fn a_full_disk_stops_the_torrent_and_a_repaired_one_lets_it_go_on() {
    let mut rig = Rig::new(2, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("xx");
    unchoke(&mut rig, peer);
    for index in 0..4 {
        rig.receive(peer, rig.block(0, index));
    }
    let error = DiskError {
        kind: DiskErrorKind::Full,
        path: "data".into(),
        message: "no space left on device".into(),
    };
    for job in std::mem::take(&mut rig.jobs) {
        let bytes = match &job.op {
            DiskOp::Write { .. } => BLOCK,
            _ => 0,
        };
        rig.answer(
            job.id,
            DiskResult::Failed {
                error: error.clone(),
                bytes,
            },
        );
    }
    let state = |rig: &Rig| rig.session.snapshot(TORRENT, rig.now).unwrap().state;
    assert_eq!(state(&rig), TorrentState::Failed(error));
    rig.requested(peer);
    rig.wait(5 * SECOND);
    assert!(rig.requested(peer).is_empty());
    rig.disk_is_honest = true;
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
    rig.tell(Event::Command(Command::Resume { torrent: TORRENT }));
    deliver_everything(&mut rig, peer);
    assert_eq!(state(&rig), TorrentState::Seeding);
    assert_eq!(rig.session.buffered_bytes(), 0);
}

#[test]
fn a_silent_peer_is_snubbed_and_its_requests_go_elsewhere() {
    let mut rig = Rig::new(2, Config::default());
    let silent = rig.peer("xx");
    unchoke(&mut rig, silent);
    assert!(!rig.requested(silent).is_empty());
    rig.wait(Duration::from_secs(62));
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert!(snapshot.peers[0].snubbed);
    assert!(
        rig.requested(silent).len() <= 1,
        "one request keeps the door open"
    );
    rig.wait(Duration::from_secs(60));
    assert!(rig.is_closed(silent), "two minutes without a word");
}

/// aria2 sends a bitfield in place of many haves.
#[test]
fn a_later_bitfield_adds_pieces_and_takes_none_away() {
    let mut rig = Rig::new(3, Config::default());
    let peer = rig.peer("x..");
    rig.hear_bits(peer, ".x.");
    unchoke(&mut rig, peer);
    deliver_everything(&mut rig, peer);
    let have = |rig: &Rig| rig.session.snapshot(TORRENT, rig.now).unwrap().pieces_have;
    assert_eq!(have(&rig), 2);
    rig.hear_bits(peer, "...");
    rig.hear(peer, Message::HaveAll);
    rig.hear_bits(peer, "xxx");
    deliver_everything(&mut rig, peer);
    assert_eq!(have(&rig), 3);
}

#[test]
fn a_peer_that_says_that_it_lost_everything_is_closed() {
    let mut rig = Rig::new(3, Config::default());
    let peer = rig.peer("x..");
    rig.hear(peer, Message::HaveNone);
    assert!(rig.is_closed(peer));
}

#[test]
fn a_have_out_of_range_ends_the_connection() {
    let mut rig = Rig::new(3, Config::default());
    let peer = rig.peer("...");
    rig.hear(peer, Message::Have { piece: 3 });
    assert!(rig.is_closed(peer), "there is no piece 3");
}

#[test]
fn the_same_peer_twice_is_one_too_many() {
    let mut rig = Rig::new(3, Config::default());
    let first = rig.connect(5, Reserved::OURS, Direction::Incoming);
    let second = rig.connect(5, Reserved::OURS, Direction::Incoming);
    assert!(!rig.is_closed(first) && rig.is_closed(second));
}

#[test]
fn two_peers_that_dial_each_other_keep_the_same_one_connection() {
    // Our id begins with '-', 45. The smaller id's dial stays.
    for (their_id, ours_stays) in [(200, true), (1, false)] {
        let mut rig = Rig::new(3, Config::default());
        let outgoing = rig.connect(their_id, Reserved::OURS, Direction::Outgoing);
        let incoming = rig.connect(their_id, Reserved::OURS, Direction::Incoming);
        assert_eq!(rig.is_closed(incoming), ours_stays);
        assert_eq!(rig.is_closed(outgoing), !ours_stays);
    }
}

#[test]
fn a_removed_torrent_says_goodbye_and_leaves_nothing() {
    let trackers = vec![vec!["http://127.0.0.1/announce".to_owned()]];
    let mut rig = Rig::with(3, Config::default(), Resume::empty(3), trackers);
    let announced = |rig: &mut Rig| {
        rig.take(|action| match action {
            Action::Announce {
                tracker, request, ..
            } => Some((*tracker, request.event)),
            _ => None,
        })
    };
    let started = announced(&mut rig);
    assert_eq!(started[0].1, AnnounceEvent::Started);
    let tracker = started[0].0;
    let reply = AnnounceResponse {
        interval_s: 1800,
        ..AnnounceResponse::default()
    };
    let result = Ok(reply.clone());
    rig.tell(Event::TrackerReplied {
        torrent: TORRENT,
        tracker,
        result,
    });
    let peer = rig.peer("xxx");
    rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
    assert!(rig.is_closed(peer));
    assert_eq!(announced(&mut rig)[0].1, AnnounceEvent::Stopped);
    let gone = |rig: &Rig| {
        rig.actions
            .iter()
            .any(|action| matches!(action, Action::TorrentGone { .. }))
    };
    rig.tell(Event::TrackerReplied {
        torrent: TORRENT,
        tracker,
        result: Ok(reply),
    });
    assert!(!gone(&rig), "a connection is still open");
    rig.tell(Event::PeerClosed {
        peer,
        reason: CloseReason::TorrentStopped,
    });
    assert!(gone(&rig));
    assert!(rig.session.snapshot(TORRENT, rig.now).is_none());
}

#[test]
fn a_dead_tracker_holds_nobody_up_for_more_than_two_seconds() {
    let trackers = vec![vec!["http://127.0.0.1/announce".to_owned()]];
    let mut rig = Rig::with(3, Config::default(), Resume::empty(3), trackers);
    let tracker = rig
        .take(|action| match action {
            Action::Announce { tracker, .. } => Some(*tracker),
            _ => None,
        })
        .remove(0);
    let result = Ok(AnnounceResponse {
        interval_s: 60,
        ..AnnounceResponse::default()
    });
    rig.tell(Event::TrackerReplied {
        torrent: TORRENT,
        tracker,
        result,
    });
    rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
    rig.wait(SECOND);
    assert!(rig.session.snapshot(TORRENT, rig.now).is_some());
    rig.wait(2 * SECOND);
    assert!(rig.session.snapshot(TORRENT, rig.now).is_none());
}

#[test]
fn a_piece_of_nothing_but_padding_needs_no_peer() {
    let file = FileSpan {
        len: PIECE_LEN,
        pad: false,
    };
    let padding = FileSpan {
        len: PIECE_LEN,
        pad: true,
    };
    let files = [file, padding, file];
    let mut rig = Rig::with_files(&files, Config::default(), Resume::empty(3), Vec::new());
    let peer = rig.peer("xxx");
    unchoke(&mut rig, peer);
    deliver_everything(&mut rig, peer);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!(snapshot.state, TorrentState::Seeding);
    assert_eq!(snapshot.downloaded, 2 * PIECE_LEN);
}

#[test]
fn a_peer_that_dialled_us_and_told_where_it_listens_is_not_dialled() {
    let mut rig = Rig::new(3, Config::default());
    let peer = rig.peer("x..");
    let handshake = ExtendedHandshake {
        p: Some(7001),
        ..ExtendedHandshake::default()
    };
    let payload = handshake.encode();
    rig.hear(peer, Message::Extended { id: 0, payload });
    let listens = PeerAddr::Tcp(([127, 0, 0, 1], 7001).into());
    let is_told = |alert: &Alert| matches!(alert, Alert::Listens { at, .. } if *at == listens);
    assert!(rig.alerts.iter().any(is_told));
    let peers = vec![listens];
    rig.tell(Event::Command(Command::AddPeers {
        torrent: TORRENT,
        peers,
    }));
    rig.wait(Duration::from_secs(20));
    let dialled = |rig: &mut Rig| {
        rig.take(|action| match action {
            Action::Dial { remote, .. } => Some(*remote),
            _ => None,
        })
    };
    assert!(dialled(&mut rig).is_empty());
    rig.tell(Event::PeerClosed {
        peer,
        reason: CloseReason::RemoteClosed,
    });
    rig.wait(Duration::from_secs(60));
    assert_eq!(dialled(&mut rig), [listens], "now it may be dialled");
}

#[test]
fn a_disk_that_fails_at_the_very_end_is_told_too() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("x");
    unchoke(&mut rig, peer);
    for index in 0..4 {
        rig.receive(peer, rig.block(0, index));
    }
    let mut sync = None;
    while let Some(job) = rig.jobs.pop() {
        if matches!(job.op, DiskOp::Sync) {
            sync = Some(job.id);
        } else {
            rig.answer_well(job);
        }
    }
    rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
    let error = DiskError {
        kind: DiskErrorKind::Other,
        path: "data".into(),
        message: "input/output error".into(),
    };
    let result = DiskResult::Failed {
        error: error.clone(),
        bytes: 0,
    };
    rig.answer(sync.expect("what is complete is synced"), result);
    let told =
        |alert: &Alert| matches!(alert, Alert::DiskFailed { error: told, .. } if *told == error);
    assert!(rig.alerts.iter().any(told), "{:?}", rig.alerts);
}
