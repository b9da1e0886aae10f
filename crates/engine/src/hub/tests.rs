use std::net::SocketAddr;

use dunlin_proto::peer::Violation;

use super::*;

const US: PeerId = PeerId::new(*b"-DL0100-aaaaaaaaaaaa");
const THEM: PeerId = PeerId::new(*b"-DL0100-bbbbbbbbbbbb");
const HASH: InfoHash = InfoHash::new([7; 20]);
const TORRENT: TorrentKey = TorrentKey(3);

fn remote(port: u16) -> PeerAddr {
    PeerAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn handshake(info_hash: InfoHash, peer_id: PeerId) -> Vec<u8> {
    ours(info_hash, peer_id).encode().to_vec()
}

fn dialled(hub: &mut Hub) -> ConnKey {
    let conn = ConnKey(1);
    hub.dialling(at(0), conn, TORRENT, HASH, remote(1));
    assert!(
        hub.outgoing(conn).is_empty(),
        "nothing can be sent before we are connected"
    );
    hub.connected(at(1), conn);
    conn
}

#[test]
fn two_hubs_agree_in_any_split() {
    for step in [1, 7, 68, 1000] {
        let (mut a, mut b) = (Hub::new(US), Hub::new(THEM));
        let (dial, accept) = (dialled(&mut a), ConnKey(1));
        assert!(b.accepted(at(0), accept, remote(2)).is_none());

        let mut hello = a.outgoing(dial).to_vec();
        a.sent(dial, hello.len());
        hello.extend(b"tail");
        let mut steps: Vec<Step> = hello
            .chunks(step)
            .map(|part| b.received(accept, part))
            .collect();
        steps.retain(|step| !matches!(step, Step::Wait));
        let [Step::Incoming { handshake, .. }] = steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!((handshake.info_hash, handshake.peer_id), (HASH, US));
        let there = b.accept(accept, TorrentKey(9)).unwrap();
        assert_eq!(
            (there.torrent, there.direction),
            (TorrentKey(9), Direction::Incoming)
        );
        assert_eq!(there.residual, b"tail");

        let mut steps: Vec<Step> = there
            .outgoing
            .chunks(step)
            .map(|part| a.received(dial, part))
            .collect();
        let Some(Step::Established(here)) = steps.pop() else {
            panic!("{steps:?}");
        };
        assert_eq!((here.torrent, here.remote), (TORRENT, remote(1)));
        assert_eq!(here.handshake.peer_id, THEM);
        assert!(here.outgoing.is_empty() && here.residual.is_empty());
        assert!(a.is_empty() && b.is_empty());
    }
}

#[test]
fn another_torrent_or_garbage_fails_the_dial() {
    let why = |bytes: &[u8]| {
        let mut hub = Hub::new(US);
        let conn = dialled(&mut hub);
        let Step::Failed(failure) = hub.received(conn, bytes) else {
            panic!("it went on");
        };
        assert_eq!(failure.dialled, Some((TORRENT, remote(1))));
        assert!(hub.is_empty());
        failure.reason
    };
    assert_eq!(
        why(&handshake(InfoHash::new([8; 20]), THEM)),
        CloseReason::WrongInfoHash
    );
    assert_eq!(why(&handshake(HASH, US)), CloseReason::SelfConnection);
    assert_eq!(
        why(b"SSH-2.0"),
        CloseReason::Violation(Violation::NotBitTorrent)
    );
}

#[test]
fn strangers_that_send_garbage_go() {
    let mut hub = Hub::new(US);
    hub.accepted(at(0), ConnKey(1), remote(1));
    let step = hub.received(ConnKey(1), b"GET / HTTP/1.1");
    assert!(
        matches!(step, Step::Failed(Failure { dialled: None, .. })),
        "{step:?}"
    );
    assert!(hub.is_empty());
}

#[test]
fn dialling_ourselves_is_seen_by_whoever_dialled() {
    let mut hub = Hub::new(US);
    let dial = dialled(&mut hub);
    let accept = ConnKey(2);
    hub.accepted(at(0), accept, remote(2));
    let hello = hub.outgoing(dial).to_vec();
    assert!(matches!(hub.received(accept, &hello), Step::Wait));
    let answer = hub.outgoing(accept).to_vec();
    let Step::Failed(failure) = hub.received(dial, &answer) else {
        panic!("it went on");
    };
    assert_eq!(failure.reason, CloseReason::SelfConnection);
    assert_eq!(failure.dialled, Some((TORRENT, remote(1))));
    hub.closed(accept, CloseReason::RemoteClosed);
    assert!(hub.is_empty());
}

#[test]
fn silence_ends_at_the_deadline() {
    let mut hub = Hub::new(US);
    hub.accepted(at(0), ConnKey(1), remote(1));
    hub.dialling(at(0), ConnKey(2), TORRENT, HASH, remote(2));
    assert_eq!(hub.deadline(), Some(at(10)));
    assert_eq!(hub.expired(at(9)), None);
    assert_eq!(hub.expired(at(10)).unwrap().conn, ConnKey(1));
    assert_eq!(hub.expired(at(14)), None);
    let dial = hub.expired(at(15)).unwrap();
    assert_eq!(dial.dialled, Some((TORRENT, remote(2))));
    assert_eq!(dial.reason, CloseReason::TimedOut);
    assert_eq!(hub.deadline(), None);
}

#[test]
fn the_stranger_that_waits_longest_gives_way() {
    let mut hub = Hub::new(US);
    for conn in 0..INCOMING_MAX as u64 {
        assert_eq!(hub.accepted(at(0), ConnKey(conn), remote(1)), None);
    }
    let gone = hub.accepted(at(0), ConnKey(1000), remote(2)).unwrap();
    assert_eq!(gone.conn, ConnKey(0));
    assert_eq!(hub.len(), INCOMING_MAX);
    let step = hub.received(ConnKey(1000), &handshake(HASH, THEM));
    assert!(matches!(step, Step::Incoming { .. }), "{step:?}");
}

#[test]
fn a_stranger_cannot_make_us_remember_much() {
    let mut hub = Hub::new(US);
    hub.accepted(at(0), ConnKey(1), remote(1));
    hub.received(ConnKey(1), &handshake(HASH, THEM));
    assert!(matches!(
        hub.received(ConnKey(1), &[0; RESIDUAL_MAX]),
        Step::Wait
    ));
    assert!(matches!(hub.received(ConnKey(1), &[0]), Step::Failed(_)));
}
