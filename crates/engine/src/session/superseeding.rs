//! A super-seed in dialogue (BEP 16), with honest peers and with others.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_metainfo::Bitfield;
use dunlin_proto::peer::{Message, Reserved};
use dunlin_proto::tracker::AnnounceResponse;

use super::rig::{Rig, TORRENT, request_of};
use crate::config::{Config, SuperSeeding};
use crate::event::{Event, PeerKey, TrackerKey};
use crate::resume::Resume;
use crate::{Action, Alert};

fn rig(pieces: u32, mode: SuperSeeding) -> Rig {
    let config = Config {
        super_seeding: mode,
        ..Config::default()
    };
    Rig::super_seed(pieces, config)
}

/// Pieces that the peer was told of one by one since the last call.
fn told(rig: &mut Rig, peer: PeerKey) -> Vec<u32> {
    rig.take(|action| match action {
        Action::Send {
            peer: to,
            message: Message::Have { piece },
        } if *to == peer => Some(*piece),
        _ => None,
    })
}

/// It asks for a piece, gets it and says so.
fn fetch(rig: &mut Rig, peer: PeerKey, piece: u32) {
    take(rig, peer, piece);
    rig.hear(peer, Message::Have { piece });
}

/// It asks for a piece and gets it.
fn take(rig: &mut Rig, peer: PeerKey, piece: u32) {
    for index in 0..4 {
        let request = request_of(rig.block(piece, index));
        rig.hear(peer, Message::Request(request));
    }
    loop {
        let runs = rig.served(peer);
        if runs.is_empty() {
            return;
        }
        for run in runs {
            let bytes = rig.layout.run_len(run);
            rig.tell(Event::Served { peer, run, bytes });
        }
    }
}

fn ends(rig: &Rig) -> usize {
    let is_end = |alert: &&Alert| matches!(alert, Alert::SuperSeeding { on: false, .. });
    rig.alerts.iter().filter(is_end).count()
}

#[test]
fn a_super_seed_shows_nothing_and_reveals_one_piece() {
    let mut rig = rig(40, SuperSeeding::On);
    let peer = rig.peer("");
    let sent = rig.sent(peer);
    assert_eq!(sent[0], Message::HaveNone);
    let haves = sent.iter().filter(|m| matches!(m, Message::Have { .. }));
    assert_eq!(haves.count(), 1, "{sent:?}");
}

#[test]
fn peers_are_told_of_different_pieces() {
    let mut rig = rig(40, SuperSeeding::On);
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        let peer = rig.peer("");
        let told = told(&mut rig, peer);
        assert_eq!(told.len(), 1);
        assert!(all.insert(told[0]), "{all:?}, and again {told:?}");
    }
}

#[test]
fn a_peer_without_the_fast_extension_is_told_too() {
    let mut rig = rig(40, SuperSeeding::On);
    let peer = rig.connect(9, Reserved::default(), crate::event::Direction::Incoming);
    rig.wait(Duration::from_secs(2));
    let sent = rig.sent(peer);
    assert!(
        matches!(sent.as_slice(), [Message::Have { .. }]),
        "{sent:?}"
    );
}

#[test]
fn what_was_not_revealed_is_refused() {
    let mut rig = rig(40, SuperSeeding::On);
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    let told: BTreeSet<u32> = told(&mut rig, peer).into_iter().collect();
    let hidden = (0..40).find(|piece| !told.contains(piece)).unwrap();
    let request = request_of(rig.block(hidden, 0));
    rig.hear(peer, Message::Request(request));
    assert!(rig.served(peer).is_empty());
    assert!(rig.sent(peer).contains(&Message::RejectRequest(request)));
    let open = request_of(rig.block(*told.first().unwrap(), 0));
    rig.hear(peer, Message::Request(open));
    assert_eq!(rig.served(peer).len(), 1);
}

#[test]
fn a_lone_peer_gets_everything_without_confirmation() {
    let mut rig = rig(60, SuperSeeding::On);
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    let mut has = BTreeSet::new();
    for _ in 0..60 {
        let news: Vec<u32> = told(&mut rig, peer);
        for piece in news {
            fetch(&mut rig, peer, piece);
            has.insert(piece);
        }
    }
    assert_eq!(has.len(), 60);
}

#[test]
fn whoever_reports_nothing_is_served_to_the_end() {
    let mut rig = rig(300, SuperSeeding::On);
    let peer = rig.peer("");
    rig.hear(peer, Message::Interested);
    let mut has = BTreeSet::new();
    for _ in 0..300 {
        for piece in told(&mut rig, peer) {
            take(&mut rig, peer, piece);
            has.insert(piece);
        }
    }
    assert_eq!(has.len(), 300);
}

#[test]
fn with_a_full_copy_out_everybody_is_told_the_rest() {
    let mut rig = rig(20, SuperSeeding::On);
    let (a, b) = (rig.peer("xxxxxxxxxx"), rig.peer("..........xxxxxxxxx"));
    let mut told_a: BTreeSet<u32> = told(&mut rig, a).into_iter().collect();
    assert_eq!(ends(&rig), 0);
    rig.hear(b, Message::Have { piece: 19 });
    assert_eq!(ends(&rig), 1);
    told_a.extend(told(&mut rig, a));
    assert_eq!(told_a.len(), 20);
    let newcomer = rig.peer("");
    assert!(rig.sent(newcomer).contains(&Message::HaveAll));
}

#[test]
fn haves_at_the_end_come_in_portions() {
    let mut rig = rig(3000, SuperSeeding::Auto);
    let peer = rig.peer("");
    told(&mut rig, peer);
    let liar = rig.connect(99, Reserved::OURS, crate::event::Direction::Incoming);
    rig.hear(liar, Message::HaveAll);
    let first = told(&mut rig, peer).len();
    assert_eq!(first, 1024);
    rig.wait(Duration::from_secs(5));
    assert_eq!(first + told(&mut rig, peer).len(), 2999);
}

#[test]
fn a_peer_that_claims_everything_ends_it_and_harms_nobody() {
    let mut rig = rig(20, SuperSeeding::Auto);
    let honest = rig.peer("");
    let liar = rig.connect(99, Reserved::OURS, crate::event::Direction::Incoming);
    rig.hear(liar, Message::HaveAll);
    assert_eq!(ends(&rig), 1);
    rig.hear(honest, Message::Interested);
    let request = request_of(rig.block(7, 0));
    rig.hear(honest, Message::Request(request));
    assert_eq!(rig.served(honest).len(), 1);
}

#[test]
fn whoever_reports_at_once_what_it_was_told_takes_nothing_from_others() {
    let mut rig = rig(60, SuperSeeding::Auto);
    let (liar, honest) = (rig.peer(""), rig.peer(""));
    rig.hear(honest, Message::Interested);
    for _ in 0..200 {
        for piece in told(&mut rig, liar) {
            rig.hear(liar, Message::Have { piece });
        }
    }
    // All are reported: it is an ordinary seed now.
    assert_eq!(ends(&rig), 1);
    let request = request_of(rig.block(33, 0));
    rig.hear(honest, Message::Request(request));
    assert_eq!(rig.served(honest).len(), 1);
}

#[test]
fn coming_and_going_leaves_no_state_behind() {
    let mut rig = rig(10, SuperSeeding::On);
    for _ in 0..300 {
        let peer = rig.peer("x");
        rig.tell(Event::PeerClosed {
            peer,
            reason: crate::reason::CloseReason::RemoteClosed,
        });
        rig.actions.clear();
    }
    let peer = rig.peer("");
    assert_eq!(told(&mut rig, peer).len(), 1);
}

#[test]
fn a_tracker_that_knows_another_seed_ends_it() {
    let config = Config {
        super_seeding: SuperSeeding::Auto,
        ..Config::default()
    };
    let mut resume = Resume::empty(20);
    resume.written = Bitfield::full(20);
    let trackers = vec![vec!["http://tracker/announce".to_owned()]];
    let mut rig = Rig::with(20, config, resume, trackers);
    let reply = |seeds| AnnounceResponse {
        complete: Some(seeds),
        ..AnnounceResponse::default()
    };
    for (seeds, ended) in [(1, 0), (2, 1)] {
        rig.tell(Event::TrackerReplied {
            torrent: TORRENT,
            tracker: TrackerKey { tier: 0, index: 0 },
            result: Ok(reply(seeds)),
        });
        assert_eq!(ends(&rig), ended);
    }
}

#[test]
fn super_seeding_is_off_unless_asked_for() {
    let mut rig = Rig::super_seed(10, Config::default());
    let peer = rig.peer("");
    assert!(rig.sent(peer).contains(&Message::HaveAll));
}
