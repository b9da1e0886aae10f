use std::collections::VecDeque;
use std::time::Duration;

use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, Reserved};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceResponse};

use super::rig::{BLOCK, PIECE_LEN, Rig, SECOND, TORRENT, deliver_everything, request_of, unchoke};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{Action, Direction, Event, PeerAddr, PeerKey};
use crate::reason::CloseReason;
use crate::resume::Resume;
use crate::snapshot::TorrentState;

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

/// Requests open at a peer that has answered very many at once.
fn requests_open_at_a_fast_peer(rig: &mut Rig, peer: PeerKey) -> usize {
    unchoke(rig, peer);
    let mut open = VecDeque::new();
    for _ in 0..400 {
        open.extend(rig.requested(peer));
        let block = open.pop_front().expect("something is open");
        rig.receive(peer, block);
    }
    open.extend(rig.requested(peer));
    open.len()
}

#[test]
fn less_is_asked_ahead_of_the_only_source_while_another_leech_waits_for_it() {
    let config = Config::default();
    let few = config.requests_rare_max;
    let mut rig = Rig::new(200, config.clone());
    let seed = rig.peer(&"x".repeat(200));
    assert!(requests_open_at_a_fast_peer(&mut rig, seed) > few);
    let mut rig = Rig::new(200, config);
    let (seed, _leech) = (rig.peer(&"x".repeat(200)), rig.peer(&".".repeat(200)));
    let open = requests_open_at_a_fast_peer(&mut rig, seed);
    assert!((few / 2..=few).contains(&open), "{open}");
}

/// Announces so far, answered: come back in half an hour.
fn announces_answered(rig: &mut Rig) -> usize {
    let trackers = rig.take(|action| match action {
        Action::Announce { tracker, .. } => Some(*tracker),
        _ => None,
    });
    for &tracker in &trackers {
        let result = Ok(AnnounceResponse {
            interval_s: 1800,
            ..AnnounceResponse::default()
        });
        let torrent = TORRENT;
        rig.tell(Event::TrackerReplied {
            torrent,
            tracker,
            result,
        });
    }
    trackers.len()
}

#[test]
fn a_leech_whose_peers_have_nothing_for_it_asks_the_tracker_early() {
    for (pieces, announces) in [("...", 1), ("x..", 0)] {
        let trackers = vec![vec!["http://t/announce".to_owned()]];
        let mut rig = Rig::with(3, Config::default(), Resume::empty(3), trackers);
        assert_eq!(announces_answered(&mut rig), 1);
        rig.peer(pieces);
        rig.wait(20 * SECOND);
        assert_eq!(announces_answered(&mut rig), announces, "{pieces}");
    }
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
