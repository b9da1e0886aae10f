//! Whom a session knows, dials, keeps and tells others about.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_metainfo::PeerId;
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Handshake, Message, Reserved, priority};

use super::rig::{Rig, TORRENT};
use crate::config::Config;
use crate::event::{Action, ConnKey, Direction, Event, PeerAddr, PeerKey, PeerSource};
use crate::reason::CloseReason;

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
