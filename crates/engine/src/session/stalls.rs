//! Each cause of a stall appears where it should: a test a cause, but for the one that has none.

use std::time::Duration;

use dunlin_proto::peer::{Message, Reserved};
use dunlin_proto::tracker::AnnounceResponse;

use super::magnets::{give, info, rig as magnet, source};
use super::rig::{MAGNET, Rig, TORRENT, request_of};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{
    Action, Direction, DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerAddr, PeerKey,
    PeerSource, TorrentKey, TrackerFailure,
};
use crate::explain::{Stall, StallCause};
use crate::reason::CloseReason;
use crate::resume::Resume;

const SECOND: Duration = Duration::from_secs(1);
const TRACKER: &str = "http://127.0.0.1/announce";

fn rig() -> Rig {
    Rig::new(3, Config::default())
}

/// The stall of a torrent that has just stalled for this long.
#[track_caller]
fn stall_of(rig: &mut Rig, torrent: TorrentKey, time: Duration) -> Stall {
    rig.wait(time);
    let snapshot = rig.session.snapshot(torrent, rig.now).unwrap();
    let stall = snapshot.stall.expect("it stalls");
    assert!(snapshot.stalls.of(stall.cause) > 0, "{:?}", snapshot.stalls);
    stall
}

#[track_caller]
fn expect(rig: &mut Rig, cause: StallCause, sentence: &str) {
    let stall = stall_of(rig, TORRENT, SECOND);
    assert_eq!((stall.cause, &*stall.to_string()), (cause, sentence));
}

fn unchoking(rig: &mut Rig, has: &str) -> PeerKey {
    let peer = rig.peer(has);
    rig.hear(peer, Message::Unchoke);
    peer
}

fn find(rig: &mut Rig, port: u16) -> PeerAddr {
    let remote = PeerAddr::Tcp(([127, 0, 0, 1], port).into());
    rig.tell(Event::PeersFound {
        torrent: TORRENT,
        source: PeerSource::Tracker,
        peers: vec![remote],
    });
    remote
}

fn limit(rig: &mut Rig, down: u64) {
    let limits = RateLimits {
        down: Some(down),
        up: None,
    };
    let torrent = TORRENT;
    rig.tell(Event::Command(Command::SetTorrentLimits {
        torrent,
        limits,
    }));
}

#[test]
fn nobody_is_known_and_there_is_no_tracker() {
    let sentence = "no peer is known, and no tracker to ask";
    expect(&mut rig(), StallCause::NoPeers, sentence);
}

#[test]
fn a_tracker_that_does_not_answer_is_named() {
    let trackers = vec![vec![TRACKER.to_owned()]];
    let mut rig = Rig::with(3, Config::default(), Resume::empty(3), trackers);
    let waiting = "no peer is known: waiting for the tracker";
    expect(&mut rig, StallCause::NoTracker, waiting);
    let asked = rig.take(|action| match action {
        Action::Announce { tracker, .. } => Some(*tracker),
        _ => None,
    });
    let reply = |result| Event::TrackerReplied {
        torrent: TORRENT,
        tracker: asked[0],
        result,
    };
    rig.tell(reply(Err(TrackerFailure {
        message: "no route".to_owned(),
        refused: false,
    })));
    let failing = "no peer is known, and no tracker answers";
    expect(&mut rig, StallCause::NoTracker, failing);
    rig.wait(10 * SECOND);
    rig.tell(reply(Ok(AnnounceResponse {
        interval_s: 1800,
        ..AnnounceResponse::default()
    })));
    let alone = "no peer is known: the tracker knows nobody else";
    expect(&mut rig, StallCause::NoPeers, alone);
}

#[test]
fn a_peer_is_dialled_and_cannot_be_reached() {
    let mut rig = rig();
    let remote = find(&mut rig, 7);
    expect(&mut rig, StallCause::Dialling, "dialling 1 peer");
    rig.tell(Event::DialFailed {
        torrent: TORRENT,
        remote,
        reason: CloseReason::ConnectionRefused,
    });
    let sentence = "1 peer known, none can be reached; tried again later";
    expect(&mut rig, StallCause::Unreachable, sentence);
}

#[test]
fn a_peer_that_says_nothing_of_its_pieces_has_none_in_the_end() {
    let mut rig = rig();
    rig.connect(1, Reserved::OURS, Direction::Outgoing);
    let sentence = "just connected to 1 peer; waiting to hear what they have";
    expect(&mut rig, StallCause::Handshake, sentence);
    rig.wait(5 * SECOND);
    let sentence = "none of 1 connected peer has a piece that we lack; nobody has piece 0";
    expect(&mut rig, StallCause::NobodyHas, sentence);
}

#[test]
fn metadata_comes_first_and_then_the_disk_is_looked_at() {
    let (mut rig, info) = (magnet(), info());
    let peer = source(&mut rig, 1, Some(info.len()));
    let stall = stall_of(&mut rig, MAGNET, SECOND);
    assert_eq!(stall.cause, StallCause::Metadata);
    assert_eq!(
        stall.to_string(),
        "waiting for the metadata: 0 of 40000 bytes from 1 peer"
    );
    give(&mut rig, peer, &info);
    let stall = stall_of(&mut rig, MAGNET, SECOND);
    assert_eq!(stall.cause, StallCause::Checking);
}

#[test]
fn nobody_has_the_second_piece() {
    let mut rig = rig();
    let peer = unchoking(&mut rig, "x..");
    for block in rig.requested(peer) {
        rig.receive(peer, block);
    }
    rig.wait(SECOND);
    let sentence = "none of 1 connected peer has a piece that we lack; nobody has piece 1";
    expect(&mut rig, StallCause::NobodyHas, sentence);
}

#[test]
fn seeds_are_busy_and_leeches_upload_to_faster_ones() {
    let mut rig = rig();
    rig.peer("xxx");
    rig.peer("...");
    let sentence = "choked by 1 of 2 peers: seeds whose slots are with others";
    expect(&mut rig, StallCause::SeedsBusy, sentence);

    let mut rig = self::rig();
    let first = unchoking(&mut rig, "x..");
    for block in rig.requested(first) {
        rig.receive(first, block);
    }
    rig.peer("xx.");
    rig.wait(SECOND);
    let sentence = "choked by 1 of 2 peers: they upload to faster ones; nobody has piece 2";
    expect(&mut rig, StallCause::Choked, sentence);
}

#[test]
fn a_newcomer_has_nothing_to_give() {
    let mut rig = rig();
    rig.peer("xx.");
    let sentence = "choked by 1 of 1 peer: we have nothing to give them yet; nobody has piece 2";
    expect(&mut rig, StallCause::Choked, sentence);
}

#[test]
fn who_rejects_every_request_is_left_alone_for_a_moment() {
    let mut rig = rig();
    let peer = unchoking(&mut rig, "xxx");
    for _ in 0..100 {
        for block in rig.requested(peer) {
            rig.hear(peer, Message::RejectRequest(request_of(block)));
        }
        rig.wait(SECOND / 100);
    }
    let sentence = "1 peer rejected our requests; asked again in a moment";
    expect(&mut rig, StallCause::Rejected, sentence);
}

/// A rig whose disk is silent, and a peer that gives what it is asked for.
fn full_memory(config: Config) -> Rig {
    let mut rig = Rig::new(3, config);
    rig.disk_is_honest = false;
    let peer = unchoking(&mut rig, "xxx");
    let mut asked = rig.requested(peer);
    while !asked.is_empty() {
        for block in asked {
            rig.receive(peer, block);
        }
        asked = rig.requested(peer);
    }
    rig.wait(SECOND);
    rig
}

#[test]
fn a_disk_that_takes_nothing_fills_the_memory() {
    let config = Config {
        buffer_bytes_max: 4 * 16 * 1024,
        ..Config::default()
    };
    let sentence = "the disk is slower than the peers; memory is full";
    expect(&mut full_memory(config), StallCause::DiskSlow, sentence);
}

#[test]
fn pieces_that_the_disk_has_not_judged_are_enough() {
    let config = Config {
        unjudged_bytes_max: 0,
        requests_min: 4,
        ..Config::default()
    };
    let sentence = "the disk is slower than the peers; memory is full";
    expect(&mut full_memory(config), StallCause::DiskSlow, sentence);
}

#[test]
fn another_download_has_all_the_memory() {
    let config = Config {
        buffer_bytes_max: 4 * 16 * 1024,
        ..Config::default()
    };
    let mut rig = Rig::new(3, config);
    unchoking(&mut rig, "xxx");
    let second = TorrentKey(3);
    rig.add(second, Resume::empty(3), Vec::new());
    unchoking(&mut rig, "xxx");
    let stall = stall_of(&mut rig, second, SECOND);
    assert_eq!(stall.cause, StallCause::Memory, "{stall:?}");
}

#[test]
fn our_own_limit_is_blamed_before_and_after_a_block() {
    let mut rig = rig();
    limit(&mut rig, 1000);
    let peer = unchoking(&mut rig, "xxx");
    expect(&mut rig, StallCause::RateLimit, "our own download limit");
    rig.wait(20 * SECOND);
    let block = rig.requested(peer)[0];
    rig.receive(peer, block);
    rig.wait(SECOND);
    expect(&mut rig, StallCause::RateLimit, "our own download limit");
}

#[test]
fn who_was_asked_is_on_its_way_then_slow_then_silent_then_snubbed() {
    let mut rig = rig();
    rig.wait(SECOND / 2);
    let peer = unchoking(&mut rig, "xxx");
    let asked = rig.requested(peer);
    assert_eq!(asked.len(), 4);
    let sentence = "just asked 1 peer for 4 blocks; the first block is on its way";
    expect(&mut rig, StallCause::Asked, sentence);
    rig.receive(peer, asked[0]);
    rig.wait(3 * SECOND);
    let stall = stall_of(&mut rig, TORRENT, SECOND);
    assert_eq!(stall.cause, StallCause::Slow);
    assert_eq!(
        stall.to_string(),
        "1 peer is slow: the last block came 3 s ago"
    );
    rig.wait(10 * SECOND);
    let stall = stall_of(&mut rig, TORRENT, SECOND);
    assert_eq!(stall.cause, StallCause::Silent);
    rig.wait(60 * SECOND);
    let stall = stall_of(&mut rig, TORRENT, SECOND);
    assert_eq!(stall.cause, StallCause::Silent);
    assert!(stall.to_string().ends_with("; 1 is snubbed"), "{stall}");
}

#[test]
fn the_last_blocks_are_asked_of_several() {
    let mut rig = Rig::new(1, Config::default());
    let first = unchoking(&mut rig, "x");
    unchoking(&mut rig, "x");
    let asked = rig.requested(first);
    rig.receive(first, asked[0]);
    rig.wait(2 * SECOND);
    let sentence = "end-game: the last 6 blocks are asked of 2 peers";
    expect(&mut rig, StallCause::EndGame, sentence);
}

#[test]
fn everything_is_here_and_the_disk_has_not_judged_it() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let peer = unchoking(&mut rig, "x");
    for block in rig.requested(peer) {
        rig.receive(peer, block);
    }
    rig.wait(SECOND);
    let sentence = "everything asked for is here; the disk checks it";
    expect(&mut rig, StallCause::Verifying, sentence);
    rig.disk_is_honest = true;
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!((snapshot.stall, snapshot.stalls.total()), (None, 1));
}

#[test]
fn a_disk_that_failed_stops_everything() {
    let mut rig = rig();
    rig.disk_is_honest = false;
    let peer = unchoking(&mut rig, "xxx");
    let block = rig.requested(peer)[0];
    rig.receive(peer, block);
    let error = DiskError {
        kind: DiskErrorKind::Full,
        path: "x".into(),
        message: "no space".to_owned(),
    };
    let is_write = |op: &DiskOp| matches!(op, DiskOp::Write { .. });
    let job = rig.jobs.iter().find(|job| is_write(&job.op)).unwrap().id;
    let bytes = block.len();
    rig.answer(job, DiskResult::Failed { error, bytes });
    rig.wait(SECOND);
    let sentence = "the disk failed; stopped until it is mended";
    expect(&mut rig, StallCause::DiskFailed, sentence);
}

#[test]
fn a_stall_is_told_once_and_so_is_its_end() {
    let mut rig = rig();
    let peer = rig.peer("xxx");
    rig.alerts.clear();
    rig.wait(60 * SECOND);
    let told: Vec<(StallCause, u64)> = rig
        .alerts
        .iter()
        .filter_map(|alert| match alert {
            Alert::Stalled { stall, seconds, .. } => Some((stall.cause, *seconds)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(StallCause::SeedsBusy, 3)]);
    rig.hear(peer, Message::Unchoke);
    for block in rig.requested(peer) {
        rig.receive(peer, block);
    }
    rig.wait(SECOND);
    let over = rig.alerts.iter().filter_map(|alert| match alert {
        Alert::Flowing { seconds, .. } => Some(*seconds),
        _ => None,
    });
    assert_eq!(over.collect::<Vec<u64>>(), [60]);
}

#[test]
fn nothing_stalls_while_blocks_come_nor_when_all_is_here() {
    let mut rig = rig();
    let peer = unchoking(&mut rig, "xxx");
    for _ in 0..12 {
        let block = rig.session.snapshot(TORRENT, rig.now).unwrap();
        assert_eq!(block.stall, None);
        let asked = rig.requested(peer);
        for block in asked {
            rig.receive(peer, block);
            rig.wait(SECOND);
        }
    }
    rig.wait(100 * SECOND);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert_eq!(snapshot.stalls.total(), 0, "{:?}", snapshot.stalls);
}

#[test]
fn dials_refusals_and_farewells_say_why() {
    let config = Config {
        max_peers_per_address: 1,
        ..Config::default()
    };
    let mut rig = Rig::new(3, config);
    find(&mut rig, 7);
    let visitor = PeerAddr::Tcp(([8, 1, 1, 1], 5).into());
    rig.connect_from(visitor, 1, Reserved::OURS, Direction::Incoming);
    let handshake = dunlin_proto::peer::Handshake {
        info_hash: rig.session.info_hash_of(TORRENT).unwrap(),
        peer_id: dunlin_metainfo::PeerId::new([9; 20]),
        reserved: Reserved::OURS,
    };
    rig.tell(Event::Incoming {
        conn: crate::event::ConnKey(1),
        remote: PeerAddr::Tcp(([8, 1, 1, 1], 7).into()),
        handshake,
    });
    rig.wait(130 * SECOND);
    let said: Vec<String> = rig.alerts.iter().map(Alert::sentence).collect();
    for sentence in [
        "dialling 127.0.0.1:7: a tracker named it",
        "refused 8.1.1.1:7: too many connections from this address",
        "disconnected from 8.1.1.1:5: silent for 120 s",
    ] {
        assert!(said.iter().any(|said| said == sentence), "{said:#?}");
    }
}
