//! What the disk says of a piece, and what waits for it.

use dunlin_metainfo::{FileSpan, Sha1Digest};

use super::rig::{BLOCK, PIECE_LEN, Rig, SECOND, TORRENT, addr, deliver_everything, unchoke};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::Config;
use crate::event::{DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerKey};
use crate::resume::Resume;
use crate::snapshot::TorrentState;

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
