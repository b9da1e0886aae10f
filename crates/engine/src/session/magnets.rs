//! Metadata: handed on, fetched, and what peers said meanwhile.

use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{Bitfield, InfoHash};
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::ut_metadata::{self, METADATA_LEN_MAX, METADATA_PIECE_LEN};
use dunlin_proto::peer::{Message, MetadataMessage, PexMessage, Request, Reserved, ut_pex};
use dunlin_proto::tracker::AnnounceEvent;

use super::rig::{BLOCK, MAGNET, Rig, TORRENT, addr};
use crate::alert::Alert;
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{Action, Direction, Event, PeerKey, TorrentKey};
use crate::extensions::UT_METADATA;
use crate::resume::Resume;
use crate::snapshot::TorrentState;

/// The id under which the peers of these tests want to see `ut_metadata`.
const THEIR_ID: u8 = 7;

const PIECES: u32 = 4;

pub(super) fn info() -> Vec<u8> {
    (0..40_000u32).map(|at| (at >> 5) as u8).collect()
}

pub(super) fn rig() -> Rig {
    Rig::magnet(&info(), PIECES, Config::default(), Vec::new())
}

/// A peer with both extensions connects and speaks `ut_metadata`.
pub(super) fn source(rig: &mut Rig, id: u8, size: Option<usize>) -> PeerKey {
    let peer = rig.connect(id, Reserved::OURS, Direction::Outgoing);
    introduce(rig, peer, size);
    peer
}

fn introduce(rig: &mut Rig, peer: PeerKey, size: Option<usize>) {
    let handshake = ExtendedHandshake {
        m: [(ut_metadata::NAME.to_owned(), THEIR_ID)].into(),
        metadata_size: size.map(|size| size as u32),
        ..ExtendedHandshake::default()
    };
    let payload = handshake.encode();
    rig.hear(peer, Message::Extended { id: 0, payload });
}

fn say(rig: &mut Rig, peer: PeerKey, message: &MetadataMessage) {
    let (id, payload) = (UT_METADATA, message.encode());
    rig.hear(peer, Message::Extended { id, payload });
}

/// What was said to the peer about metadata since the last call.
fn said(rig: &mut Rig, peer: PeerKey) -> Vec<MetadataMessage> {
    rig.take(|action| match action {
        Action::Send {
            peer: to,
            message: Message::Extended { id, payload },
        } if *to == peer && *id == THEIR_ID => MetadataMessage::decode(payload).unwrap(),
        _ => None,
    })
}

fn asked(rig: &mut Rig, peer: PeerKey) -> Vec<u32> {
    let said = said(rig, peer).into_iter();
    let asked = said.map(|message| match message {
        MetadataMessage::Request { piece } => piece,
        other => panic!("{other:?}"),
    });
    asked.collect()
}

fn answer(rig: &mut Rig, peer: PeerKey, piece: u32, info: &[u8]) {
    let mut parts = info.chunks(METADATA_PIECE_LEN as usize);
    let bytes = parts.nth(piece as usize).unwrap().to_vec();
    let total_size = info.len() as u32;
    let data = MetadataMessage::Data {
        piece,
        total_size,
        bytes,
    };
    say(rig, peer, &data);
}

/// Answers everything that is asked of the peer.
pub(super) fn give(rig: &mut Rig, peer: PeerKey, info: &[u8]) {
    while let [piece, ..] = asked(rig, peer)[..] {
        // Whatever else was asked comes again: a window of two.
        for piece in piece..ut_metadata::pieces(info.len() as u32) {
            answer(rig, peer, piece, info);
        }
    }
}

fn metadata(rig: &mut Rig) -> Option<Arc<[u8]>> {
    let found = rig.take(|action| match action {
        Action::Metadata { torrent, info } => {
            assert_eq!(*torrent, MAGNET);
            Some(Arc::clone(info))
        }
        _ => None,
    });
    assert!(found.len() <= 1, "told once");
    found.into_iter().next()
}

#[test]
fn a_magnet_asks_a_peer_that_has_the_metadata() {
    let (mut rig, info) = (rig(), info());
    let peer = rig.connect(1, Reserved::OURS, Direction::Outgoing);
    let greeting = rig.sent(peer);
    assert_eq!(greeting[0], Message::HaveNone);
    let Message::Extended { id: 0, payload } = &greeting[1] else {
        panic!("{greeting:?}");
    };
    let ours = ExtendedHandshake::decode(payload).unwrap();
    assert_eq!(ours.m[ut_metadata::NAME], UT_METADATA);
    assert_eq!(ours.metadata_size, None);
    introduce(&mut rig, peer, Some(info.len()));
    assert_eq!(asked(&mut rig, peer), [0, 1]);
    answer(&mut rig, peer, 0, &info);
    assert_eq!(
        rig.session.snapshot(MAGNET, rig.now).unwrap().state,
        TorrentState::FetchingMetadata {
            have: 16_384,
            size: Some(40_000)
        }
    );
    assert_eq!(asked(&mut rig, peer), [2]);
    answer(&mut rig, peer, 2, &info);
    assert_eq!(metadata(&mut rig), None);
    answer(&mut rig, peer, 1, &info);
    assert_eq!(metadata(&mut rig).as_deref(), Some(&info[..]));
}

#[test]
fn what_peers_said_before_counts_when_the_layout_is_known() {
    let (mut rig, info) = (rig(), info());
    let seed = source(&mut rig, 1, Some(info.len()));
    rig.hear(seed, Message::HaveAll);
    rig.hear(seed, Message::Unchoke);
    let partial = source(&mut rig, 2, None);
    rig.hear(partial, Message::Bitfield(vec![0b1000_0000]));
    rig.hear(partial, Message::Have { piece: 2 });
    rig.hear(partial, Message::AllowedFast { piece: 2 });
    rig.hear(partial, Message::Interested);
    give(&mut rig, seed, &info);
    assert!(metadata(&mut rig).is_some());
    rig.actions.clear();
    rig.promote(&info, Resume::empty(PIECES));
    let snapshot = rig.session.snapshot(MAGNET, rig.now).unwrap();
    assert_eq!(snapshot.state, TorrentState::Downloading);
    let of = |peer| {
        let peers = snapshot.peers.iter();
        peers.filter(|p| p.addr == addr(peer)).collect::<Vec<_>>()[0]
    };
    assert!(of(seed).is_seed && of(seed).am_interested && !of(seed).peer_choking);
    assert_eq!(of(partial).pieces_have, 2);
    assert!(of(partial).am_interested && of(partial).peer_interested);
    assert!(!rig.requested(seed).is_empty(), "the download begins");
    let blocks = rig.requested(partial);
    assert!(!blocks.is_empty() && blocks.iter().all(|block| block.piece().get() == 2));
    // They hear that the metadata is here now.
    for peer in [seed, partial] {
        let handshakes: Vec<_> = rig
            .sent(peer)
            .into_iter()
            .filter_map(|message| match message {
                Message::Extended { id: 0, payload } => ExtendedHandshake::decode(&payload).ok(),
                _ => None,
            })
            .collect();
        assert_eq!(handshakes[0].metadata_size, Some(40_000));
    }
}

/// The id under which the peers of these tests want to hear of others.
const THEIR_PEX_ID: u8 = 8;

/// Two seeds that exchange peers give a magnet its metadata. Returns whether `ut_pex` was offered
/// to the first before it was known what the torrent is, and after, and what it was told in the
/// minute that followed.
fn exchange_of_a_magnet(private: bool) -> (bool, bool, Vec<PexMessage>) {
    let (mut rig, info) = (rig(), info());
    let connect = |rig: &mut Rig, id| {
        let peer = rig.connect(id, Reserved::OURS, Direction::Outgoing);
        let names = [(ut_metadata::NAME, THEIR_ID), (ut_pex::NAME, THEIR_PEX_ID)];
        let handshake = ExtendedHandshake {
            m: names.map(|(name, id)| (name.to_owned(), id)).into(),
            metadata_size: Some(40_000),
            ..ExtendedHandshake::default()
        };
        let payload = handshake.encode();
        rig.hear(peer, Message::Extended { id: 0, payload });
        peer
    };
    let (first, second) = (connect(&mut rig, 1), connect(&mut rig, 2));
    let offers = |rig: &mut Rig| {
        let handshakes = rig.take(|action| match action {
            Action::Send {
                peer,
                message: Message::Extended { id: 0, payload },
            } if *peer == first => ExtendedHandshake::decode(payload).ok(),
            _ => None,
        });
        handshakes.last().unwrap().m.contains_key(ut_pex::NAME)
    };
    let before = offers(&mut rig);
    rig.wait(Duration::from_secs(30));
    for piece in [first, second].map(|peer| asked(&mut rig, peer)).concat() {
        answer(&mut rig, first, piece, &info);
    }
    give(&mut rig, first, &info);
    give(&mut rig, second, &info);
    assert!(metadata(&mut rig).is_some());
    rig.promote_with(&info, |params| params.private = private);
    let after = offers(&mut rig);
    rig.wait(Duration::from_secs(60));
    let told = rig.take(|action| match action {
        Action::Send {
            peer,
            message: Message::Extended { id, payload },
        } if *peer == first && *id == THEIR_PEX_ID => PexMessage::decode(payload).ok(),
        _ => None,
    });
    (before, after, told)
}

#[test]
fn a_magnet_exchanges_peers_from_the_moment_that_it_is_known_not_to_be_private() {
    let (before, after, told) = exchange_of_a_magnet(false);
    assert!(!before && after, "{before} {after}");
    let [told] = &told[..] else {
        panic!("told once: {told:?}")
    };
    let second = addr(PeerKey(2)).socket_addr();
    assert_eq!(
        told.added.iter().map(|p| p.addr).collect::<Vec<_>>(),
        [second]
    );
    let (before, after, told) = exchange_of_a_magnet(true);
    assert!(!before && !after && told.is_empty(), "{told:?}");
}

#[test]
fn what_makes_no_sense_for_the_layout_closes_the_peer_then() {
    let (mut rig, info) = (rig(), info());
    let seed = source(&mut rig, 1, Some(info.len()));
    let wrong: Vec<PeerKey> = [
        Message::Bitfield(vec![0; 2]),
        Message::Bitfield(vec![0b0000_1000]),
        Message::Have { piece: PIECES },
        Message::AllowedFast { piece: PIECES },
    ]
    .into_iter()
    .zip(2..)
    .map(|(message, id)| {
        let peer = rig.connect(id, Reserved::OURS, Direction::Incoming);
        rig.hear(peer, message);
        peer
    })
    .collect();
    give(&mut rig, seed, &info);
    assert!(wrong.iter().all(|&peer| !rig.is_closed(peer)));
    rig.promote(&info, Resume::empty(PIECES));
    assert!(wrong.iter().all(|&peer| rig.is_closed(peer)));
    assert!(!rig.is_closed(seed));
}

#[test]
fn an_index_that_no_torrent_has_closes_the_peer_at_once() {
    let mut rig = rig();
    let peer = rig.connect(1, Reserved::OURS, Direction::Incoming);
    rig.hear(peer, Message::Have { piece: u32::MAX });
    assert!(rig.is_closed(peer));
    let peer = rig.connect(2, Reserved::OURS, Direction::Incoming);
    rig.hear(peer, Message::Have { piece: 1 });
    rig.hear(peer, Message::HaveNone);
    assert!(rig.is_closed(peer), "have none comes first or not at all");
}

#[test]
fn what_peers_may_say_before_is_bounded() {
    let mut rig = rig();
    let quiet = source(&mut rig, 1, None);
    rig.hear(quiet, Message::Bitfield(vec![0xf0]));
    let mut talkers = Vec::new();
    for id in 2..40 {
        let peer = rig.connect(id, Reserved::OURS, Direction::Incoming);
        rig.hear(peer, Message::Bitfield(vec![0xff; 256 * 1024]));
        talkers.push(peer);
    }
    let closed = talkers.iter().filter(|&&peer| rig.is_closed(peer)).count();
    assert!(closed >= 38 - 16, "{closed} of 38 went");
    assert!(!rig.is_closed(quiet));
}

#[test]
fn pieces_from_a_former_run_are_told_one_by_one() {
    let (mut rig, info) = (rig(), info());
    let seed = source(&mut rig, 1, Some(info.len()));
    give(&mut rig, seed, &info);
    let mut resume = Resume::empty(PIECES);
    resume.written.set(1);
    resume.written.set(3);
    rig.actions.clear();
    rig.promote(&info, resume);
    let haves: Vec<u32> = rig
        .sent(seed)
        .into_iter()
        .filter_map(|message| match message {
            Message::Have { piece } => Some(piece),
            _ => None,
        })
        .collect();
    assert_eq!(haves, [1, 3]);
}

#[test]
fn a_magnet_of_what_is_here_already_seeds_it() {
    let (mut rig, info) = (rig(), info());
    let seed = source(&mut rig, 1, Some(info.len()));
    rig.hear(seed, Message::HaveAll);
    give(&mut rig, seed, &info);
    let mut resume = Resume::empty(PIECES);
    resume.written = Bitfield::full(PIECES);
    rig.promote(&info, resume);
    let snapshot = rig.session.snapshot(MAGNET, rig.now).unwrap();
    assert_eq!(snapshot.state, TorrentState::Seeding);
    assert!(rig.is_closed(seed), "two seeds have nothing to exchange");
}

#[test]
fn a_proven_liar_is_banned_and_the_others_are_asked() {
    let (mut rig, info) = (rig(), info());
    let wrong = vec![1; info.len()];
    let liar = source(&mut rig, 1, Some(info.len()));
    give(&mut rig, liar, &wrong);
    assert!(rig.is_closed(liar));
    let told = |alert: &Alert| matches!(alert, Alert::MetadataFailed { banned: true, .. });
    assert!(rig.alerts.iter().any(told));
    let honest = source(&mut rig, 2, Some(info.len()));
    give(&mut rig, honest, &info);
    assert!(metadata(&mut rig).is_some());
}

#[test]
fn absurd_lengths_are_not_asked_for_and_cost_nothing() {
    let mut rig = rig();
    for (id, size) in [(1, METADATA_LEN_MAX as usize + 1), (2, u32::MAX as usize)] {
        let peer = source(&mut rig, id, Some(size));
        assert_eq!(asked(&mut rig, peer), [0; 0]);
    }
    let liar = source(&mut rig, 3, Some(METADATA_LEN_MAX as usize));
    assert_eq!(asked(&mut rig, liar), [0, 1]);
    let data = MetadataMessage::Data {
        piece: 0,
        total_size: METADATA_LEN_MAX,
        bytes: vec![0; 100],
    };
    say(&mut rig, liar, &data);
    assert!(rig.is_closed(liar), "a piece of a wrong length");
}

#[test]
fn a_rejecter_is_asked_less_than_once_a_second() {
    let (mut rig, info) = (rig(), info());
    let peer = source(&mut rig, 1, Some(info.len()));
    let mut requests = 0;
    for _ in 0..600 {
        for piece in asked(&mut rig, peer) {
            requests += 1;
            say(&mut rig, peer, &MetadataMessage::Reject { piece });
        }
        rig.wait(Duration::from_millis(100));
    }
    assert!((2..=20).contains(&requests), "{requests} in a minute");
}

#[test]
fn two_magnets_wait_for_each_other_politely() {
    let mut rig = rig();
    let peer = source(&mut rig, 1, None);
    let mut requests = 0;
    for _ in 0..60 {
        for piece in asked(&mut rig, peer) {
            requests += 1;
            say(&mut rig, peer, &MetadataMessage::Reject { piece });
            // It asks too.
            say(&mut rig, peer, &MetadataMessage::Request { piece: 0 });
            assert_eq!(said(&mut rig, peer), [MetadataMessage::Reject { piece: 0 }]);
        }
        rig.wait(Duration::from_secs(1));
        rig.hear(peer, Message::KeepAlive);
    }
    assert!((1..=2).contains(&requests), "{requests} in a minute");
    assert!(!rig.is_closed(peer));
    // In the end the other one has it, and says so.
    rig.actions.clear();
    introduce(&mut rig, peer, Some(info().len()));
    assert_eq!(asked(&mut rig, peer), [0, 1]);
}

#[test]
fn whoever_cannot_help_now_may_help_later() {
    let (mut rig, info) = (rig(), info());
    let plain = rig.connect(1, Reserved::default(), Direction::Incoming);
    rig.hear(plain, Message::Bitfield(vec![0xf0]));
    rig.hear(plain, Message::Unchoke);
    let seed = source(&mut rig, 2, Some(info.len()));
    give(&mut rig, seed, &info);
    rig.promote(&info, Resume::empty(PIECES));
    assert!(!rig.requested(plain).is_empty());
}

#[test]
fn requests_for_pieces_of_a_magnet_are_rejected_and_a_flood_closes() {
    let mut rig = rig();
    let peer = source(&mut rig, 1, None);
    let request = Request {
        piece: 0,
        begin: 0,
        len: BLOCK,
    };
    rig.hear(peer, Message::Request(request));
    let sent = rig.sent(peer);
    assert!(sent.contains(&Message::RejectRequest(request)), "{sent:?}");
    for _ in 0..1000 {
        rig.hear(peer, Message::Request(request));
    }
    assert!(rig.is_closed(peer));
}

#[test]
fn a_magnet_announces_as_a_leech_and_says_when_it_stops() {
    let tracker = vec![vec!["http://tracker/announce".to_owned()]];
    let mut rig = Rig::magnet(&info(), PIECES, Config::default(), Vec::new());
    rig.tell(Event::Command(Command::Remove { torrent: MAGNET }));
    rig.wait(Duration::from_secs(3));
    let gone = |action: &Action| matches!(action, Action::TorrentGone { .. }).then_some(());
    assert_eq!(rig.take(gone).len(), 1);
    assert!(rig.session.snapshot(MAGNET, rig.now).is_none());

    let (mut rig, mut announces) = (magnet_with(&tracker), Vec::new());
    let peer = source(&mut rig, 1, None);
    for _ in 0..2 {
        let announce = |action: &Action| match action {
            Action::Announce {
                tracker, request, ..
            } => Some((*tracker, request.event, request.left)),
            _ => None,
        };
        for (tracker, event, left) in rig.take(announce) {
            announces.push(event);
            assert!(left > 0, "a magnet is no seed");
            rig.tell(Event::TrackerReplied {
                torrent: MAGNET,
                tracker,
                result: Ok(dunlin_proto::tracker::AnnounceResponse {
                    interval_s: 1800,
                    ..Default::default()
                }),
            });
        }
        rig.tell(Event::Command(Command::Remove { torrent: MAGNET }));
    }
    assert_eq!(announces, [AnnounceEvent::Started, AnnounceEvent::Stopped]);
    assert!(rig.is_closed(peer));
    assert_eq!(asked(&mut rig, peer), [0; 0]);
}

#[test]
fn what_is_here_already_is_not_added_again() {
    let (mut rig, info) = (rig(), info());
    let told = |rig: &mut Rig, torrent| {
        let gone = rig.take(|action| match action {
            Action::TorrentGone { torrent } => Some(*torrent),
            _ => None,
        });
        let alerts = std::mem::take(&mut rig.alerts);
        let is_told = alerts.iter().any(|alert| {
            matches!(alert, Alert::AlreadyAdded { torrent: new, first } if *new == torrent && *first == MAGNET)
        });
        is_told && gone == [torrent]
    };
    // The same magnet, a torrent of the same hash, and both again when the metadata is here.
    for round in 0..2 {
        let (link, file) = (TorrentKey(10 + round), TorrentKey(20 + round));
        rig.add_magnet(link, &info);
        assert!(told(&mut rig, link));
        rig.add_with(file, Resume::empty(PIECES), |params| {
            params.info_hash = InfoHash::of(&info);
        });
        assert!(told(&mut rig, file));
        rig.torrent = MAGNET;
        if round == 0 {
            rig.promote(&info, Resume::empty(PIECES));
        }
    }
    let first = rig.session.torrent_by_info_hash(&InfoHash::of(&info));
    assert_eq!(first, Some(MAGNET), "the first one goes on");
    let peer = source(&mut rig, 1, Some(info.len()));
    rig.hear(peer, Message::HaveAll);
    rig.hear(peer, Message::Unchoke);
    assert!(!rig.requested(peer).is_empty());
    rig.tell(Event::Command(Command::Remove { torrent: MAGNET }));
    rig.wait(Duration::from_secs(5));
    rig.alerts.clear();
    rig.add_magnet(TorrentKey(30), &info);
    assert!(rig.alerts.is_empty(), "there is room again");
}

fn magnet_with(trackers: &[Vec<String>]) -> Rig {
    let params = crate::command::AddMagnet {
        info_hash: InfoHash::of(&info()),
        trackers: trackers.to_vec(),
        peers: std::collections::BTreeSet::new(),
        limits: RateLimits::default(),
    };
    let mut rig = Rig::new(PIECES, Config::default());
    rig.torrent = MAGNET;
    rig.tell(Event::Command(Command::AddMagnet {
        torrent: MAGNET,
        params: Box::new(params),
    }));
    rig
}

#[test]
fn a_magnet_that_was_removed_is_not_promoted() {
    let (mut rig, info) = (rig(), info());
    let seed = source(&mut rig, 1, Some(info.len()));
    give(&mut rig, seed, &info);
    // The connection is still to be confirmed as closed, so the key is not free.
    rig.tell(Event::Command(Command::Remove { torrent: MAGNET }));
    rig.promote(&info, Resume::empty(PIECES));
    let snapshot = rig.session.snapshot(MAGNET, rig.now).unwrap();
    assert_eq!(snapshot.state, TorrentState::Stopping);
}

// Handing it on.

fn seed_with(info: &[u8], limits: RateLimits) -> Rig {
    let mut rig = Rig::seed(
        PIECES,
        Config {
            limits,
            ..Config::default()
        },
    );
    let mut resume = Resume::empty(PIECES);
    resume.written = Bitfield::full(PIECES);
    let info: Arc<[u8]> = info.into();
    rig.add_with(MAGNET, resume, |params| params.info = info);
    rig
}

fn served(rig: &mut Rig, peer: PeerKey) -> Vec<u32> {
    rig.take(|action| match action {
        Action::ServeMetadata {
            peer: to,
            id,
            piece,
        } if *to == peer => {
            assert_eq!(*id, THEIR_ID);
            Some(*piece)
        }
        _ => None,
    })
}

#[test]
fn metadata_is_handed_on_a_few_pieces_at_a_time() {
    let mut rig = seed_with(&vec![5; 10 * 16_384], RateLimits::default());
    let peer = source(&mut rig, 1, None);
    for piece in 0..10 {
        say(&mut rig, peer, &MetadataMessage::Request { piece });
    }
    assert_eq!(served(&mut rig, peer), [0, 1, 2, 3]);
    for piece in 4..10 {
        rig.tell(Event::MetadataServed { peer });
        assert_eq!(served(&mut rig, peer), [piece]);
    }
    assert_eq!(said(&mut rig, peer), []);
}

#[test]
fn what_is_not_there_is_rejected() {
    let mut rig = seed_with(&[5; 100], RateLimits::default());
    let peer = source(&mut rig, 1, None);
    for piece in [1, u32::MAX] {
        say(&mut rig, peer, &MetadataMessage::Request { piece });
        assert_eq!(said(&mut rig, peer), [MetadataMessage::Reject { piece }]);
    }
    // Without an id there is no way to answer.
    let silent = rig.connect(2, Reserved::OURS, Direction::Incoming);
    say(&mut rig, silent, &MetadataMessage::Request { piece: 0 });
    assert_eq!(served(&mut rig, silent), [0; 0]);
    let mut rig = seed_with(&[], RateLimits::default());
    let peer = source(&mut rig, 1, None);
    say(&mut rig, peer, &MetadataMessage::Request { piece: 0 });
    assert_eq!(said(&mut rig, peer), [MetadataMessage::Reject { piece: 0 }]);
}

#[test]
fn a_flood_of_requests_gets_a_few_copies_and_is_hung_up_on() {
    let mut rig = seed_with(&vec![5; 3 * 16_384], RateLimits::default());
    let peer = source(&mut rig, 1, None);
    let mut given = 0;
    for _ in 0..2000 {
        say(&mut rig, peer, &MetadataMessage::Request { piece: 1 });
        given += served(&mut rig, peer).len();
        rig.tell(Event::MetadataServed { peer });
        given += served(&mut rig, peer).len();
    }
    assert_eq!(given, 12, "four copies of three pieces");
    assert!(rig.is_closed(peer));
}

#[test]
fn metadata_counts_for_the_upload_limit() {
    let limits = RateLimits {
        down: None,
        up: Some(32 * 1024),
    };
    let mut rig = seed_with(&vec![5; 10 * 16_384], limits);
    let peer = source(&mut rig, 1, None);
    for piece in 0..10 {
        say(&mut rig, peer, &MetadataMessage::Request { piece });
    }
    let mut given = 0;
    for _ in 0..30 {
        for _ in served(&mut rig, peer) {
            given += 1;
            rig.tell(Event::MetadataServed { peer });
        }
        rig.wait(Duration::from_millis(100));
    }
    assert!(
        (5..=7).contains(&given),
        "{given} pieces in 3 s at 2 a second"
    );
}

#[test]
fn we_say_how_long_the_metadata_is() {
    let mut rig = seed_with(&[5; 100], RateLimits::default());
    let peer = rig.connect(1, Reserved::OURS, Direction::Incoming);
    let handshake = rig
        .sent(peer)
        .into_iter()
        .find_map(|message| match message {
            Message::Extended { id: 0, payload } => ExtendedHandshake::decode(&payload).ok(),
            _ => None,
        });
    assert_eq!(handshake.unwrap().metadata_size, Some(100));
    assert_ne!(TORRENT, MAGNET);
}
