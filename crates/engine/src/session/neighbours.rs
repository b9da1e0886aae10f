//! Whom a session knows, dials, keeps and tells others about.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_metainfo::{Bitfield, FileSpan, PeerId};
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{
    Handshake, Message, PexFlags, PexMessage, PexPeer, Reserved, priority, ut_pex,
};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceResponse};

use super::rig::{PIECE_LEN, Rig, TORRENT};
use crate::command::{Command, Priority};
use crate::config::Config;
use crate::event::{Action, ConnKey, Direction, Event, PeerAddr, PeerKey, PeerSource, TorrentKey};
use crate::extensions::UT_PEX;
use crate::reason::{CloseReason, RefuseReason};
use crate::resume::Resume;

/// How everybody sees us.
const OWN: &str = "123.213.32.10:6881";

fn addr(text: &str) -> PeerAddr {
    PeerAddr::Tcp(text.parse().unwrap())
}

fn own() -> SocketAddr {
    OWN.parse().unwrap()
}

/// A peer from there dials us.
fn visitor(rig: &mut Rig, id: u8, from: &str) -> PeerKey {
    rig.connect_from(addr(from), id, Reserved::OURS, Direction::Incoming)
}

fn introduce(rig: &mut Rig, peer: PeerKey, handshake: &ExtendedHandshake) {
    let payload = handshake.encode();
    rig.hear(peer, Message::Extended { id: 0, payload });
}

fn says_we_are(rig: &mut Rig, peer: PeerKey, ip: IpAddr) {
    let handshake = ExtendedHandshake {
        yourip: Some(ip),
        ..ExtendedHandshake::default()
    };
    introduce(rig, peer, &handshake);
}

fn dialled(rig: &mut Rig) -> Vec<PeerAddr> {
    rig.take(|action| match action {
        Action::Dial { remote, .. } => Some(*remote),
        _ => None,
    })
}

fn found(rig: &mut Rig, source: PeerSource, peers: &[&str]) {
    rig.tell(Event::PeersFound {
        torrent: TORRENT,
        source,
        peers: peers.iter().map(|text| addr(text)).collect(),
    });
}

#[test]
fn two_peers_that_agree_on_our_address_set_the_order_of_dials() {
    let config = Config {
        dials_max: 1,
        ..Config::default()
    };
    let mut rig = Rig::new(4, config);
    for (id, from) in [(1, "8.1.1.1:1"), (2, "8.2.1.1:1")] {
        let peer = visitor(&mut rig, id, from);
        says_we_are(&mut rig, peer, own().ip());
    }
    let mut others = [
        "7.1.1.1:1",
        "7.2.1.1:1",
        "7.3.1.1:1",
        "7.4.1.1:1",
        "7.5.1.1:1",
        "7.6.1.1:1",
    ];
    found(&mut rig, PeerSource::Tracker, &others);
    let mut order = Vec::new();
    while let [remote] = dialled(&mut rig)[..] {
        order.push(remote.to_string());
        rig.tell(Event::DialFailed {
            torrent: TORRENT,
            remote,
            reason: CloseReason::TimedOut,
        });
    }
    others.sort_by_key(|text| std::cmp::Reverse(priority(own(), addr(text).socket_addr())));
    assert_eq!(order, others);
}

#[test]
fn of_equally_useless_peers_the_one_of_lowest_priority_yields() {
    let config = Config {
        max_peers: 6,
        ..Config::default()
    };
    let mut rig = Rig::seed(4, config);
    let from = [
        "8.1.1.1:1",
        "8.2.1.1:1",
        "8.3.1.1:1",
        "8.4.1.1:1",
        "8.5.1.1:1",
        "8.6.1.1:1",
    ];
    let peers: Vec<PeerKey> = (1..)
        .zip(from)
        .map(|(id, from)| visitor(&mut rig, id, from))
        .collect();
    for &peer in &peers {
        says_we_are(&mut rig, peer, own().ip());
    }
    rig.wait(Duration::from_secs(70));
    let least = (0..from.len())
        .min_by_key(|&at| priority(own(), addr(from[at]).socket_addr()))
        .unwrap();
    assert_ne!(least, 0, "the first would go anyway");
    rig.tell(Event::Incoming {
        conn: ConnKey(1),
        remote: addr("9.9.9.9:1"),
        handshake: Handshake {
            info_hash: rig.session.info_hash_of(TORRENT).unwrap(),
            peer_id: PeerId::new([99; 20]),
            reserved: Reserved::OURS,
        },
    });
    for (at, &peer) in peers.iter().enumerate() {
        assert_eq!(rig.is_closed(peer), at == least, "peer {at}");
    }
}

/// What the session says to somebody from there who knocks.
fn knock(rig: &mut Rig, from: &str) -> Result<(), RefuseReason> {
    let handshake = Handshake {
        info_hash: rig.session.info_hash_of(TORRENT).unwrap(),
        peer_id: PeerId::new([99; 20]),
        reserved: Reserved::OURS,
    };
    rig.tell(Event::Incoming {
        conn: ConnKey(1),
        remote: addr(from),
        handshake,
    });
    let answers = rig.take(|action| match action {
        Action::Accept { .. } => Some(Ok(())),
        Action::Refuse { reason, .. } => Some(Err(*reason)),
        _ => None,
    });
    answers[0]
}

#[test]
fn one_address_cannot_take_all_connections_but_loopback_can() {
    let mut rig = Rig::new(4, Config::default());
    for (id, port) in (1..).zip(1..=4) {
        for (at, host) in ["8.1.1.1", "[2001:db8:1:2::1]", "127.0.0.1"]
            .iter()
            .enumerate()
        {
            let from = format!("{host}:{port}");
            assert_eq!(knock(&mut rig, &from), Ok(()), "{from}");
            visitor(&mut rig, id + 10 * at as u8, &from);
        }
    }
    let refused = Err(RefuseReason::AddressLimit);
    // Of IPv6 one machine has a /64.
    for from in ["8.1.1.1:9", "[::ffff:8.1.1.1]:9", "[2001:db8:1:2::9]:1"] {
        assert_eq!(knock(&mut rig, from), refused, "{from}");
    }
    for from in ["8.1.1.2:1", "[2001:db8:1:3::1]:1", "127.0.0.1:9"] {
        assert_eq!(knock(&mut rig, from), Ok(()), "{from}");
    }
}

#[test]
fn one_network_cannot_take_all_connections() {
    let config = Config {
        max_peers_per_network: 3,
        ..Config::default()
    };
    let mut rig = Rig::new(4, config);
    let near = ["10.1.1.1:1", "10.1.1.2:1", "10.1.1.3:1"];
    let far = ["8.1.1.1:1", "8.1.1.2:1", "8.1.1.3:1"];
    let six = [
        "[2001:db8:1::1]:1",
        "[2001:db8:1:2::1]:1",
        "[2001:db8:1:3::1]:1",
    ];
    for (id, from) in (1..).zip([near, far, six].concat()) {
        assert_eq!(knock(&mut rig, from), Ok(()), "{from}");
        visitor(&mut rig, id, from);
    }
    let refused = Err(RefuseReason::NetworkLimit);
    for from in ["8.1.1.9:1", "[::ffff:8.1.1.9]:1", "[2001:db8:1:9::1]:1"] {
        assert_eq!(knock(&mut rig, from), refused, "{from}");
    }
    for from in ["8.1.2.9:1", "[2001:db8:2::1]:1", "10.1.1.9:1"] {
        assert_eq!(knock(&mut rig, from), Ok(()), "{from}");
    }
}

// Peer exchange.

/// The id that our imaginary peers want on such messages.
const THEIR_ID: u8 = 9;

/// A peer from there that listens on port 6000 and exchanges peers.
fn gossip(rig: &mut Rig, id: u8, from: &str) -> PeerKey {
    let peer = visitor(rig, id, from);
    let handshake = ExtendedHandshake {
        m: [(ut_pex::NAME.to_owned(), THEIR_ID)].into(),
        p: Some(6000),
        ..ExtendedHandshake::default()
    };
    introduce(rig, peer, &handshake);
    peer
}

/// What the peer was told of others.
fn told(rig: &mut Rig, peer: PeerKey) -> Vec<PexMessage> {
    let messages = rig.sent(peer).into_iter();
    messages
        .filter_map(|message| match message {
            Message::Extended { id, payload } if id == THEIR_ID => {
                Some(PexMessage::decode(&payload).unwrap())
            }
            _ => None,
        })
        .collect()
}

fn tell(rig: &mut Rig, peer: PeerKey, added: &[&str], flags: PexFlags) {
    let added = added.iter().map(|text| PexPeer {
        addr: text.parse().unwrap(),
        flags,
    });
    let message = PexMessage {
        added: added.collect(),
        dropped: Vec::new(),
    };
    let payload = message.encode();
    rig.hear(
        peer,
        Message::Extended {
            id: UT_PEX,
            payload,
        },
    );
}

/// Our extension handshakes to this peer.
fn introductions(rig: &mut Rig, peer: PeerKey) -> Vec<ExtendedHandshake> {
    let messages = rig.sent(peer).into_iter();
    messages
        .filter_map(|message| match message {
            Message::Extended { id: 0, payload } => {
                Some(ExtendedHandshake::decode(&payload).unwrap())
            }
            _ => None,
        })
        .collect()
}

fn addrs(peers: &[PexPeer]) -> Vec<String> {
    peers.iter().map(|peer| peer.addr.to_string()).collect()
}

#[test]
fn connected_peers_are_told_of_each_other_and_of_who_left() {
    let mut rig = Rig::new(4, Config::default());
    let first = gossip(&mut rig, 1, "8.1.1.1:1111");
    let second = gossip(&mut rig, 2, "8.2.1.1:1111");
    let silent = visitor(&mut rig, 3, "8.3.1.1:1111");
    rig.wait(Duration::from_secs(30));
    let [message] = &told(&mut rig, first)[..] else {
        panic!("told once")
    };
    // Where it listens, not where it came from; of the silent one we do not know.
    assert_eq!(addrs(&message.added), ["8.2.1.1:6000"]);
    assert!(told(&mut rig, silent).is_empty());
    rig.tell(Event::PeerClosed {
        peer: second,
        reason: CloseReason::RemoteClosed,
    });
    rig.wait(Duration::from_secs(60));
    let [message] = &told(&mut rig, first)[..] else {
        panic!("told once more")
    };
    assert_eq!(message.dropped, ["8.2.1.1:6000".parse().unwrap()]);
    assert!(message.added.is_empty());
}

#[test]
fn who_was_dialled_is_reachable_and_who_gives_only_is_marked() {
    let mut rig = Rig::new(1, Config::default());
    let first = gossip(&mut rig, 1, "8.1.1.1:1111");
    let remote = addr("8.2.1.1:7777");
    let seed = rig.connect_from(remote, 2, Reserved::OURS, Direction::Outgoing);
    rig.hear(seed, Message::HaveAll);
    rig.wait(Duration::from_secs(30));
    let seed = PexPeer {
        addr: remote.socket_addr(),
        flags: PexFlags::SEED.with(PexFlags::REACHABLE),
    };
    assert_eq!(told(&mut rig, first)[0].added, [seed]);
}

#[test]
fn addresses_that_a_peer_tells_are_dialled() {
    let mut rig = Rig::new(4, Config::default());
    let peer = gossip(&mut rig, 1, "8.1.1.1:1111");
    assert_eq!(introductions(&mut rig, peer)[0].m[ut_pex::NAME], UT_PEX);
    tell(
        &mut rig,
        peer,
        &[
            "9.1.1.1:1",
            "9.2.1.1:1",
            "127.0.0.1:1",
            "10.0.0.1:1",
            "9.3.1.1:0",
            "224.1.1.1:1",
        ],
        PexFlags::default(),
    );
    let mut dialled = dialled(&mut rig);
    dialled.sort();
    assert_eq!(dialled, [addr("9.1.1.1:1"), addr("9.2.1.1:1")]);
}

#[test]
fn a_seed_does_not_dial_the_seeds_that_it_is_told_of() {
    let mut rig = Rig::seed(4, Config::default());
    let peer = gossip(&mut rig, 1, "8.1.1.1:1111");
    tell(&mut rig, peer, &["9.1.1.1:1"], PexFlags::SEED);
    assert!(dialled(&mut rig).is_empty());
    found(&mut rig, PeerSource::Tracker, &["9.1.1.1:1"]);
    assert_eq!(
        dialled(&mut rig).len(),
        1,
        "a tracker does not say such things"
    );
}

/// Neither takes nor gives, and does not offer to.
fn exchanges_nothing(rig: &mut Rig) {
    let first = gossip(rig, 1, "8.1.1.1:1111");
    let _ = gossip(rig, 2, "8.2.1.1:1111");
    assert!(!introductions(rig, first)[0].m.contains_key(ut_pex::NAME));
    tell(rig, first, &["9.1.1.1:1"], PexFlags::default());
    rig.wait(Duration::from_secs(100));
    assert!(dialled(rig).is_empty());
    assert!(told(rig, first).is_empty());
    assert!(!rig.is_closed(first));
}

#[test]
fn a_private_torrent_exchanges_no_peers() {
    let mut rig = Rig::new(4, Config::default());
    rig.add_with(TorrentKey(2), Resume::empty(4), |params| {
        params.private = true
    });
    exchanges_nothing(&mut rig);
}

#[test]
fn without_peer_exchange_no_peers_are_exchanged() {
    exchanges_nothing(&mut Rig::new(
        4,
        Config {
            pex: false,
            ..Config::default()
        },
    ));
}

#[test]
fn a_poisoner_fills_its_part_of_the_list_and_is_left_when_it_floods() {
    let mut rig = Rig::new(
        4,
        Config {
            known_peers_max: 200,
            dials_max: 1,
            ..Config::default()
        },
    );
    let poisoner = gossip(&mut rig, 1, "8.1.1.1:1111");
    for round in 0..8 {
        let bogus: Vec<String> = (0..50).map(|n| format!("20.{round}.{n}.1:1")).collect();
        let bogus: Vec<&str> = bogus.iter().map(String::as_str).collect();
        tell(&mut rig, poisoner, &bogus, PexFlags::default());
        rig.wait(Duration::from_secs(60));
    }
    let known = |rig: &Rig| rig.session.snapshot(TORRENT, rig.now).unwrap().known_peers;
    assert!(known(&rig) <= 50, "{}", known(&rig));
    let honest: Vec<String> = (0..150).map(|n| format!("30.{n}.1.1:1")).collect();
    let honest: Vec<&str> = honest.iter().map(String::as_str).collect();
    found(&mut rig, PeerSource::Tracker, &honest);
    assert!(known(&rig) >= 195, "{}", known(&rig));
    for remote in dialled(&mut rig) {
        let reason = CloseReason::TimedOut;
        rig.tell(Event::DialFailed {
            torrent: TORRENT,
            remote,
            reason,
        });
    }
    let next = dialled(&mut rig)[0].to_string();
    assert!(next.starts_with("30."), "{next}");
    for _ in 0..20 {
        tell(&mut rig, poisoner, &["21.1.1.1:1"], PexFlags::default());
    }
    assert!(rig.is_closed(poisoner));
}

#[test]
fn a_malformed_list_of_peers_ends_the_connection() {
    let mut rig = Rig::new(4, Config::default());
    let peer = gossip(&mut rig, 1, "8.1.1.1:1111");
    let payload = b"no dictionary".to_vec();
    rig.hear(
        peer,
        Message::Extended {
            id: UT_PEX,
            payload,
        },
    );
    assert!(rig.is_closed(peer));
}

// Those who want nothing more.

fn says_upload_only(rig: &mut Rig, peer: PeerKey, upload_only: bool) {
    let handshake = ExtendedHandshake {
        upload_only: Some(upload_only),
        ..ExtendedHandshake::default()
    };
    introduce(rig, peer, &handshake);
}

/// Two files of one piece each; the second is not wanted.
fn half_wanted() -> Rig {
    let span = FileSpan {
        len: PIECE_LEN,
        pad: false,
    };
    let trackers = vec![vec!["http://t/announce".to_owned()]];
    let mut rig = Rig::with_files(&[span, span], Config::default(), Resume::empty(2), trackers);
    prioritise(&mut rig, Priority::Skip);
    rig
}

fn prioritise(rig: &mut Rig, second: Priority) {
    rig.tell(Event::Command(Command::SetPriorities {
        torrent: TORRENT,
        files: vec![Priority::Normal, second],
    }));
}

fn complete_first_file(rig: &mut Rig) {
    let seed = rig.connect_from(addr("8.9.1.1:1"), 99, Reserved::OURS, Direction::Outgoing);
    rig.hear(seed, Message::HaveAll);
    rig.hear(seed, Message::Unchoke);
    for block in rig.requested(seed) {
        rig.receive(seed, block);
    }
}

#[test]
fn who_wants_nothing_more_says_so_and_takes_it_back() {
    let mut rig = half_wanted();
    let peer = visitor(&mut rig, 1, "8.1.1.1:1");
    assert_eq!(introductions(&mut rig, peer)[0].upload_only, None);
    complete_first_file(&mut rig);
    let flags = |rig: &mut Rig| -> Vec<Option<bool>> {
        let introductions = introductions(rig, peer).into_iter();
        introductions.map(|said| said.upload_only).collect()
    };
    assert_eq!(flags(&mut rig), [Some(true)]);
    prioritise(&mut rig, Priority::Normal);
    assert_eq!(flags(&mut rig), [Some(false)]);
    let mut seed = Rig::seed(2, Config::default());
    let late = visitor(&mut seed, 1, "8.1.1.1:1");
    assert_eq!(introductions(&mut seed, late)[0].upload_only, Some(true));
}

#[test]
fn a_seed_and_a_peer_that_only_uploads_part_and_are_not_dialled_again() {
    let mut rig = Rig::seed(4, Config::default());
    found(&mut rig, PeerSource::Tracker, &["8.1.1.1:1"]);
    let [remote] = dialled(&mut rig)[..] else {
        panic!("dialled")
    };
    let peer = rig.connect_from(remote, 1, Reserved::OURS, Direction::Outgoing);
    let mut some = Bitfield::new(4);
    some.set(1);
    rig.hear(peer, Message::Bitfield(some.to_wire()));
    assert!(!rig.is_closed(peer));
    says_upload_only(&mut rig, peer, true);
    assert!(rig.is_closed(peer));
    rig.wait(Duration::from_secs(4000));
    assert!(dialled(&mut rig).is_empty());
}

#[test]
fn a_leech_keeps_a_peer_that_only_uploads_and_counts_it_as_a_seed() {
    let mut rig = Rig::new(4, Config::default());
    let peer = rig.peer("x...");
    says_upload_only(&mut rig, peer, true);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert!(snapshot.peers[0].is_seed);
    assert_eq!(snapshot.peers[0].pieces_have, 1);
    says_upload_only(&mut rig, peer, false);
    let snapshot = rig.session.snapshot(TORRENT, rig.now).unwrap();
    assert!(!snapshot.peers[0].is_seed);
}

fn announced(rig: &mut Rig) -> Vec<AnnounceEvent> {
    let announces = rig.take(|action| match action {
        Action::Announce {
            tracker, request, ..
        } => Some((*tracker, request.event)),
        _ => None,
    });
    for (tracker, _) in &announces {
        rig.tell(Event::TrackerReplied {
            torrent: TORRENT,
            tracker: *tracker,
            result: Ok(AnnounceResponse {
                interval_s: 100,
                ..AnnounceResponse::default()
            }),
        });
    }
    announces.into_iter().map(|(_, event)| event).collect()
}

#[test]
fn a_partial_seed_tells_its_tracker_that_it_pauses_and_never_that_it_completed() {
    let mut rig = half_wanted();
    assert_eq!(announced(&mut rig), [AnnounceEvent::Started]);
    complete_first_file(&mut rig);
    for _ in 0..3 {
        rig.wait(Duration::from_secs(101));
        assert_eq!(announced(&mut rig), [AnnounceEvent::Paused]);
    }
}
