//! Peers that play with us, limits that change, disks and trackers that fail: the session goes on.

use std::time::Duration;

use dunlin_metainfo::Block;
use dunlin_proto::peer::{Message, Request, Reserved};

use super::rig::{BLOCK, Rig, SECOND, TORRENT, deliver_everything, full, request_of};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{
    Action, Direction, DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerAddr, PeerKey,
    PeerSource, TorrentKey, TrackerFailure,
};
use crate::reason::CloseReason;
use crate::resume::Resume;
use crate::snapshot::TorrentState;

pub(super) fn limited(down: Option<u64>, up: Option<u64>) -> Config {
    Config {
        limits: RateLimits { down, up },
        ..Config::default()
    }
}

fn set_session_limits(rig: &mut Rig, down: Option<u64>, up: Option<u64>) {
    let limits = RateLimits { down, up };
    rig.tell(Event::Command(Command::SetSessionLimits { limits }));
}

pub(super) fn ask(rig: &mut Rig, peer: PeerKey, piece: u32, index: u32) {
    let request = Request {
        piece,
        begin: index * BLOCK,
        len: BLOCK,
    };
    rig.hear(peer, Message::Request(request));
}

fn broken() -> DiskError {
    DiskError {
        kind: DiskErrorKind::Permission,
        path: "data".into(),
        message: "permission denied".into(),
    }
}

fn state(rig: &Rig) -> TorrentState {
    rig.session.snapshot(TORRENT, rig.now).unwrap().state
}

// Limits.

#[test]
fn uploads_begin_when_a_limit_of_nothing_is_lifted() {
    let mut rig = Rig::seed(4, limited(None, Some(0)));
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    ask(&mut rig, peer, 0, 0);
    rig.wait(5 * SECOND);
    assert!(rig.served(peer).is_empty());
    set_session_limits(&mut rig, None, Some(1_000_000));
    rig.wait(SECOND);
    assert_eq!(rig.served(peer).len(), 1);
    ask(&mut rig, peer, 0, 1);
    rig.wait(SECOND);
    assert_eq!(rig.served(peer).len(), 1);
}

#[test]
fn downloads_begin_when_a_limit_of_nothing_is_lifted() {
    let mut rig = Rig::new(4, limited(Some(0), None));
    let peer = rig.peer("xxxx");
    rig.hear(peer, Message::Unchoke);
    rig.wait(5 * SECOND);
    assert!(rig.requested(peer).is_empty());
    set_session_limits(&mut rig, Some(1_000_000), None);
    rig.wait(SECOND / 4);
    assert!(!rig.requested(peer).is_empty());
}

#[test]
fn a_slow_download_limit_does_not_delay_uploads() {
    let config = limited(Some(1_000), Some(1_000_000));
    let mut rig = Rig::with(20, config, half(20), Vec::new());
    let giver = rig.peer(&"x".repeat(20));
    rig.hear(giver, Message::Unchoke);
    let taker = rig.peer("xxxxx");
    rig.hear(taker, Message::Interested);
    rig.wait(3 * SECOND);
    ask(&mut rig, taker, 0, 0);
    rig.wait(SECOND / 10);
    assert_eq!(rig.served(taker).len(), 1);
}

fn half(pieces: u32) -> Resume {
    let mut resume = Resume::empty(pieces);
    for piece in 0..pieces / 2 {
        resume.written.set(piece);
    }
    resume
}

// Peers that play with us.

#[test]
fn a_peer_that_chokes_as_soon_as_it_is_asked_is_asked_ever_less_often() {
    let mut rig = Rig::new(4, Config::default());
    let peer = rig.peer("xxxx");
    let mut asked = 0;
    for _ in 0..1000 {
        rig.hear(peer, Message::Unchoke);
        asked += rig.requested(peer).len();
        rig.hear(peer, Message::Choke);
        rig.wait(SECOND / 100);
    }
    assert!(asked <= 100, "{asked} requests in 10 s");
}

#[test]
fn an_allowed_piece_that_is_refused_is_not_asked_for_over_and_over() {
    let mut rig = Rig::new(4, Config::default());
    let peer = rig.peer("xxxx");
    let mut asked = 0;
    for _ in 0..1000 {
        rig.hear(peer, Message::AllowedFast { piece: 1 });
        for block in rig.requested(peer) {
            asked += 1;
            rig.hear(peer, Message::RejectRequest(request_of(block)));
        }
        rig.wait(SECOND / 100);
    }
    assert!(asked <= 100, "{asked} requests in 10 s");
}

#[test]
fn a_queue_of_requests_does_not_get_around_the_bound_of_an_allowed_piece() {
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
    for index in 0..100 {
        ask(&mut rig, peer, piece, index % 4);
    }
    let mut blocks = 0;
    loop {
        let runs = rig.served(peer);
        if runs.is_empty() {
            break;
        }
        for run in runs {
            blocks += run.count();
            let bytes = rig.layout.run_len(run);
            rig.tell(Event::Served { peer, run, bytes });
        }
    }
    assert_eq!(blocks, 8, "twice the four blocks of the piece");
}

#[test]
fn a_piece_that_the_torrent_has_not_ends_the_connection_whoever_names_it() {
    for message in [
        Message::Have { piece: 3 },
        Message::SuggestPiece { piece: u32::MAX },
        Message::AllowedFast { piece: 3 },
    ] {
        let mut rig = Rig::new(3, Config::default());
        let peer = rig.peer("...");
        rig.hear(peer, message.clone());
        assert!(rig.is_closed(peer), "{message:?}");
    }
}

#[test]
fn a_bitfield_of_a_wrong_size_or_with_spare_bits_ends_the_connection() {
    for bits in [vec![], vec![0b1110_0000, 0], vec![0b1111_0000]] {
        let mut rig = Rig::new(3, Config::default());
        let peer = rig.connect(9, Reserved::OURS, Direction::Incoming);
        rig.hear(peer, Message::Bitfield(bits.clone()));
        assert!(rig.is_closed(peer), "{bits:?}");
    }
}

#[test]
fn a_peer_that_pours_out_what_nobody_asked_for_is_closed() {
    let mut rig = Rig::new(3, Config::default());
    let peer = rig.peer("xxx");
    let mut blocks = 0;
    while !rig.is_closed(peer) {
        rig.tell(Event::Unrequested { peer, len: BLOCK });
        blocks += 1;
        assert!(blocks <= 257, "more than 4 MiB");
    }
}

#[test]
fn a_peer_that_floods_a_full_queue_is_closed() {
    let mut rig = Rig::seed(4, Config::default());
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    let mut asked = 0;
    while !rig.is_closed(peer) {
        ask(&mut rig, peer, asked % 4, asked / 4 % 4);
        asked += 1;
        assert!(asked < 6_000, "queue and refusals have a bound");
    }
    assert!(asked > 2_000, "a full queue alone is no offence");
}

fn is_unchoked(rig: &mut Rig, peer: PeerKey) -> bool {
    rig.sent(peer).contains(&Message::Unchoke)
}

#[test]
fn peers_that_hold_slots_and_ask_for_nothing_keep_no_newcomer_waiting() {
    let mut rig = Rig::seed(4, Config::default());
    let idle: Vec<PeerKey> = (0..10).map(|_| rig.peer("")).collect();
    for &peer in &idle {
        rig.hear(peer, Message::Interested);
    }
    let unchoked = idle.iter().filter(|&&peer| is_unchoked(&mut rig, peer));
    assert_eq!(unchoked.count(), 5);
    rig.wait(7 * SECOND);
    let newcomer = rig.peer("");
    rig.hear(newcomer, Message::Interested);
    assert!(is_unchoked(&mut rig, newcomer));
}

#[test]
fn peers_that_hold_slots_and_do_not_read_give_way_after_a_round() {
    let mut rig = Rig::seed(4, Config::default());
    let deaf: Vec<PeerKey> = (0..5).map(|_| rig.peer("")).collect();
    for &peer in &deaf {
        rig.hear(peer, Message::Interested);
        ask(&mut rig, peer, 0, 0);
    }
    let newcomer = rig.peer("");
    rig.hear(newcomer, Message::Interested);
    assert!(!is_unchoked(&mut rig, newcomer), "five slots are in use");
    rig.wait(11 * SECOND);
    assert!(is_unchoked(&mut rig, newcomer));
}

#[test]
fn peers_that_wait_for_an_upload_limit_keep_their_slots() {
    let mut rig = Rig::seed(4, limited(None, Some(1)));
    let slow: Vec<PeerKey> = (0..5).map(|_| rig.peer("")).collect();
    for &peer in &slow {
        rig.hear(peer, Message::Interested);
        ask(&mut rig, peer, 0, 0);
    }
    let newcomer = rig.peer("");
    rig.hear(newcomer, Message::Interested);
    rig.wait(9 * SECOND);
    assert!(!is_unchoked(&mut rig, newcomer));
}

// Disks that fail and come back.

#[test]
fn a_file_that_could_not_be_named_is_named_before_the_torrent_is_complete() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("x");
    rig.hear(peer, Message::Unchoke);
    deliver_everything(&mut rig, peer);
    while let Some(job) = rig.jobs.pop() {
        match job.op {
            DiskOp::CompleteFile { .. } => {
                let error = broken();
                rig.answer(job.id, DiskResult::Failed { error, bytes: 0 });
            }
            _ => rig.answer_well(job),
        }
    }
    assert_eq!(state(&rig), TorrentState::Failed(broken()));
    rig.tell(Event::Command(Command::Resume { torrent: TORRENT }));
    let complete = |rig: &Rig| {
        let is_complete = |alert: &Alert| matches!(alert, Alert::Complete { .. });
        rig.alerts.iter().any(is_complete)
    };
    assert!(!complete(&rig), "the file has not its name yet");
    let job = rig.jobs.pop().expect("the file is named again");
    assert!(matches!(job.op, DiskOp::CompleteFile { file: 0 }));
    rig.answer_well(job);
    assert!(complete(&rig));
}

#[test]
fn a_complete_torrent_whose_disk_is_repaired_seeds_again() {
    let mut rig = Rig::seed(2, Config::default());
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    ask(&mut rig, peer, 0, 0);
    let run = rig.served(peer)[0];
    let error = broken();
    rig.tell(Event::ServeFailed { peer, run, error });
    assert_eq!(state(&rig), TorrentState::Failed(broken()));
    rig.tell(Event::Command(Command::Resume { torrent: TORRENT }));
    assert_eq!(state(&rig), TorrentState::Seeding);
}

#[test]
fn a_sync_that_failed_is_done_again() {
    let mut rig = Rig::new(1, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("x");
    rig.hear(peer, Message::Unchoke);
    deliver_everything(&mut rig, peer);
    while let Some(job) = rig.jobs.pop() {
        match job.op {
            DiskOp::Sync => {
                let error = broken();
                rig.answer(job.id, DiskResult::Failed { error, bytes: 0 });
            }
            _ => rig.answer_well(job),
        }
    }
    rig.disk_is_honest = true;
    rig.tell(Event::Command(Command::Resume { torrent: TORRENT }));
    let resume = rig.session.resume_data(TORRENT).unwrap();
    assert_eq!(resume.synced.count_ones(), 1);
    let completes = rig.alerts.iter();
    let completes = completes.filter(|alert| matches!(alert, Alert::Complete { .. }));
    assert_eq!(completes.count(), 1);
}

#[test]
fn resume_data_that_could_not_be_saved_is_saved_later() {
    let mut rig = Rig::new(3, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("x..");
    rig.hear(peer, Message::Unchoke);
    deliver_everything(&mut rig, peer);
    let mut saves = 0;
    for _ in 0..10 {
        rig.wait(SECOND);
        for job in std::mem::take(&mut rig.jobs) {
            match job.op {
                DiskOp::SaveResume(_) if saves == 0 => {
                    saves += 1;
                    let error = broken();
                    rig.answer(job.id, DiskResult::Failed { error, bytes: 0 });
                }
                DiskOp::SaveResume(_) => {
                    saves += 1;
                    rig.answer_well(job);
                }
                _ => rig.answer_well(job),
            }
        }
    }
    assert_eq!(saves, 2, "once more, and then it is saved");
}

// Deadlines.

#[test]
fn a_slow_disk_is_not_polled_while_a_torrent_ends() {
    let mut rig = Rig::new(2, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("xx");
    rig.hear(peer, Message::Unchoke);
    let block: Block = rig.requested(peer)[0];
    rig.receive(peer, block);
    rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
    rig.wait(3 * SECOND);
    assert_eq!(rig.session.deadline(), None, "only the disk is waited for");
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
    assert!(rig.session.snapshot(TORRENT, rig.now).is_none());
}

#[test]
fn a_torrent_that_ends_does_not_wait_for_pieces_that_never_will() {
    let mut rig = Rig::new(3, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("xxx");
    rig.hear(peer, Message::Unchoke);
    for (piece, index) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)] {
        rig.receive(peer, rig.block(piece, index));
    }
    rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
    // As the disk does it: what was given is answered when its piece is finished or forgotten.
    let jobs = std::mem::take(&mut rig.jobs);
    let mut settled = Vec::new();
    for job in &jobs {
        if let DiskOp::Finish { piece, .. } = job.op {
            settled.push((piece, "finished"));
        } else if let DiskOp::Forget { piece } = job.op {
            settled.push((piece, "forgotten"));
        }
    }
    let piece = |index| rig.layout.piece(index).unwrap();
    assert_eq!(settled, [(piece(0), "finished"), (piece(1), "forgotten")]);
    rig.disk_is_honest = true;
    jobs.into_iter().for_each(|job| rig.answer_well(job));
    // Nobody confirms that the peer is gone.
    rig.wait(3 * SECOND);
    assert!(rig.session.snapshot(TORRENT, rig.now).is_none());
}

#[test]
fn a_peer_is_dialled_after_its_back_off_whatever_else_happens_then() {
    let trackers = vec![vec!["http://127.0.0.1/announce".to_owned()]];
    for offset_ms in (0..2000).step_by(100) {
        let mut rig = Rig::with(3, Config::default(), Resume::empty(3), trackers.clone());
        let remote = PeerAddr::Tcp(([127, 0, 0, 1], 7).into());
        rig.tell(Event::PeersFound {
            torrent: TORRENT,
            source: PeerSource::User,
            peers: vec![remote],
        });
        let mut last_dial = rig.now;
        let mut answer_tracker_at = None;
        let end = rig.now + 120 * SECOND;
        while rig.now < end {
            for action in std::mem::take(&mut rig.actions) {
                match action {
                    Action::Dial {
                        torrent, remote, ..
                    } => {
                        last_dial = rig.now;
                        let reason = CloseReason::RemoteClosed;
                        rig.tell(Event::DialFailed {
                            torrent,
                            remote,
                            reason,
                        });
                    }
                    Action::Announce { tracker, .. } => {
                        let delay = Duration::from_millis(offset_ms);
                        answer_tracker_at = Some((rig.now + delay, tracker));
                    }
                    _ => {}
                }
            }
            if let Some((at, tracker)) = answer_tracker_at
                && at <= rig.now
            {
                answer_tracker_at = None;
                let result = Err(TrackerFailure {
                    message: "connection refused".to_owned(),
                    refused: false,
                });
                rig.tell(Event::TrackerReplied {
                    torrent: TORRENT,
                    tracker,
                    result,
                });
            }
            rig.wait(SECOND / 100);
            let waited = rig.now.since(last_dial);
            assert!(
                waited <= 12 * SECOND,
                "not dialled for {waited:?} with answers after {offset_ms} ms"
            );
        }
    }
}

/// Blocks that each of two torrents gets in 20 s from a peer of its own.
pub(super) fn shares_of_two(config: Config, disk_is_honest: bool) -> [usize; 2] {
    let mut rig = Rig::new(200, config);
    let everything = "x".repeat(200);
    let first = rig.peer(&everything);
    rig.add(TorrentKey(2), Resume::empty(200), Vec::new());
    let second = rig.peer(&everything);
    rig.disk_is_honest = disk_is_honest;
    let peers = [first, second];
    for peer in peers {
        rig.hear(peer, Message::Unchoke);
    }
    let mut blocks = [0; 2];
    for _ in 0..100 {
        rig.wait(Duration::from_millis(200));
        for (peer, count) in peers.into_iter().zip(&mut blocks) {
            for block in rig.requested(peer) {
                *count += 1;
                rig.receive(peer, block);
            }
        }
        for job in std::mem::take(&mut rig.jobs) {
            rig.answer_well(job);
        }
    }
    blocks
}

#[test]
fn two_torrents_share_the_memory() {
    let config = Config {
        buffer_bytes_max: 8 * u64::from(BLOCK),
        ..Config::default()
    };
    let [first, second] = shares_of_two(config, false);
    assert!(first > 100 && second > 100, "{first} and {second} blocks");
    assert!(
        first.min(second) * 5 >= first + second,
        "{first} and {second} blocks"
    );
}

#[test]
fn messages_of_the_fast_extension_need_the_fast_extension() {
    for message in [
        Message::HaveAll,
        Message::HaveNone,
        Message::SuggestPiece { piece: 0 },
        Message::AllowedFast { piece: 0 },
        Message::RejectRequest(Request {
            piece: 0,
            begin: 0,
            len: BLOCK,
        }),
    ] {
        let mut rig = Rig::new(3, Config::default());
        let peer = rig.connect(9, Reserved::default(), Direction::Incoming);
        rig.hear(peer, message.clone());
        assert!(rig.is_closed(peer), "{message:?}");
    }
}

#[test]
fn what_was_written_is_synced_from_time_to_time_and_only_that_is_claimed() {
    let mut rig = Rig::new(3, Config::default());
    rig.disk_is_honest = false;
    let peer = rig.peer("xxx");
    rig.hear(peer, Message::Unchoke);
    let synced = |rig: &Rig| {
        rig.session
            .resume_data(TORRENT)
            .unwrap()
            .synced
            .count_ones()
    };
    for index in 0..4 {
        rig.receive(peer, rig.block(0, index));
    }
    for job in std::mem::take(&mut rig.jobs) {
        rig.answer_well(job);
    }
    rig.wait(40 * SECOND);
    assert_eq!(synced(&rig), 0, "the disk has not answered");
    // A second piece comes while the sync is under way.
    for index in 0..4 {
        rig.receive(peer, rig.block(1, index));
    }
    let (syncs, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut rig.jobs)
        .into_iter()
        .partition(|job| matches!(job.op, DiskOp::Sync));
    assert_eq!(syncs.len(), 1);
    rest.into_iter().for_each(|job| rig.answer_well(job));
    syncs.into_iter().for_each(|job| rig.answer_well(job));
    let resume = rig.session.resume_data(TORRENT).unwrap();
    assert_eq!((resume.written.count_ones(), synced(&rig)), (2, 1));
}
