use super::*;
use crate::config::Limits;
use crate::files::Files;
use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::tracker::udp::client::{self, Reply, UrlData};
use dunlin_proto::tracker::udp::{PROTOCOL_ID, SCRAPE_HASHES_MAX};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
use proptest::prelude::*;
use std::time::Duration;

struct Tracker {
    service: Service,
    ids: ConnectionIds,
    now: Instant,
}

impl Tracker {
    fn new() -> Self {
        Self {
            service: Service::new(Limits::default(), Files::default(), 1),
            ids: ConnectionIds::new(&[7; 32]),
            now: Instant::START,
        }
    }

    fn answer(&mut self, from: &str, datagram: &[u8]) -> Option<Vec<u8>> {
        let (service, ids) = (&mut self.service, &self.ids);
        let from = from.parse().unwrap();
        respond(service, ids, self.now, from, || None, datagram)
    }

    fn connect(&mut self, from: &str) -> u64 {
        let reply = self.answer(from, &client::encode_connect(5)).unwrap();
        assert_eq!(client::transaction_of(&reply), Some(5));
        let reply = client::parse_reply(&reply, Family::V4);
        let Ok(Reply::Connect { connection }) = reply else {
            panic!("{reply:?}");
        };
        connection
    }

    fn ask(&mut self, from: &str, datagram: &[u8]) -> Reply {
        let reply = self.answer(from, datagram).unwrap();
        assert_eq!(client::transaction_of(&reply), Some(6));
        assert!(reply.len() <= REPLY_LEN_MAX);
        let family = Family::of(from.parse().unwrap());
        client::parse_reply(&reply, family).unwrap()
    }

    fn announce(&mut self, from: &str, port: u16) -> AnnounceResponse {
        let connection = self.connect(from);
        let reply = self.ask(from, &announce(connection, port));
        let Reply::Announce(response) = reply else {
            panic!("{reply:?}");
        };
        response
    }
}

fn announce(connection: u64, port: u16) -> Vec<u8> {
    let request = AnnounceRequest {
        info_hash: InfoHash::new([1; 20]),
        peer_id: PeerId::new([b'p'; 20]),
        port,
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event: AnnounceEvent::Started,
        num_want: 1000,
        key: 1,
        tracker_id: None,
    };
    let url_data = UrlData::new(&format!("/announce?{}", "x".repeat(300))).unwrap();
    client::encode_announce(connection, 6, &request, &url_data)
}

#[test]
fn peers_of_one_family_find_each_other() {
    let mut tracker = Tracker::new();
    assert!(tracker.announce("8.0.0.1", 1).peers.is_empty());
    assert!(tracker.announce("2001:db8::1", 2).peers.is_empty());
    let response = tracker.announce("8.0.0.2", 3);
    assert_eq!(response.peers, ["8.0.0.1:1".parse().unwrap()]);
    assert_eq!(response.interval_s, 1800);
    assert_eq!((response.complete, response.incomplete), (Some(0), Some(3)));
    let response = tracker.announce("2001:db8::2", 4);
    assert_eq!(response.peers, ["[2001:db8::1]:2".parse().unwrap()]);
}

/// Threat 40: whoever writes another's address into a datagram makes us send him nothing.
#[test]
fn without_a_valid_connection_id_there_is_no_reply() {
    let mut tracker = Tracker::new();
    let id = tracker.connect("8.0.0.1");
    let scrape = client::encode_scrape(id, 6, &[InfoHash::new([1; 20])]);
    let mut nonsense = announce(id, 1);
    nonsense[11] = 9;
    for datagram in [announce(id, 1), announce(id, 0), scrape, nonsense] {
        assert!(tracker.answer("8.0.0.1", &datagram).is_some());
        // Somebody else's, a guess, and none.
        assert_eq!(tracker.answer("8.0.0.2", &datagram), None);
        for other in [id ^ 1, 0, u64::MAX, PROTOCOL_ID] {
            let mut datagram = datagram.clone();
            datagram[..8].copy_from_slice(&other.to_be_bytes());
            assert_eq!(tracker.answer("8.0.0.1", &datagram), None);
        }
    }
    // The forged announces left no trace.
    assert_eq!(tracker.service.table.peers(), 1);
    tracker.now += Duration::from_secs(240);
    assert_eq!(tracker.answer("8.0.0.1", &announce(id, 1)), None);
}

/// Threat 40: nothing to gain by aiming us at somebody.
#[test]
fn the_reply_to_a_connect_is_no_longer_than_it() {
    let mut tracker = Tracker::new();
    let connect = client::encode_connect(5);
    let reply = tracker.answer("8.0.0.1", &connect).unwrap();
    assert!(reply.len() <= connect.len());
    for len in 0..connect.len() {
        assert_eq!(tracker.answer("8.0.0.1", &connect[..len]), None);
    }
    // A reply is no request: two trackers cannot be made to talk to each other for ever.
    assert_eq!(tracker.answer("8.0.0.1", &reply), None);
}

#[test]
fn a_bad_request_is_told_to_a_proven_sender() {
    let mut tracker = Tracker::new();
    let id = tracker.connect("8.0.0.1");
    let error = |text: &str| Reply::Error(text.to_owned());
    assert_eq!(
        tracker.ask("8.0.0.1", &announce(id, 0)),
        error("port is missing")
    );
    assert_eq!(
        tracker.ask("8.0.0.1", &announce(id, 1)[..50]),
        error("the request is too short")
    );
    assert_eq!(
        tracker.ask("8.0.0.1", &client::encode_scrape(id, 6, &[])),
        error("no info hash")
    );
    tracker.service.table = crate::table::Table::new(Limits {
        torrents_max: 0,
        ..Limits::default()
    });
    assert_eq!(
        tracker.ask("8.0.0.1", &announce(id, 1)),
        error("the tracker is full")
    );
}

#[test]
fn a_scrape_tells_of_every_torrent_in_order() {
    let mut tracker = Tracker::new();
    tracker.announce("8.0.0.1", 1);
    let id = tracker.connect("8.0.0.9");
    let hashes: Vec<_> = (0..SCRAPE_HASHES_MAX as u8)
        .map(|number| InfoHash::new([number; 20]))
        .collect();
    let reply = tracker.ask("8.0.0.9", &client::encode_scrape(id, 6, &hashes));
    let Reply::Scrape(entries) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(entries.len(), SCRAPE_HASHES_MAX);
    assert_eq!(entries[1].incomplete, 1);
    assert_eq!(entries[2], ScrapeEntry::default());
}

#[test]
fn a_reply_fits_one_packet_however_many_peers_are_wanted() {
    let mut tracker = Tracker::new();
    let mut told = [0, 0];
    for host in 1..=250 {
        told[0] = tracker.announce(&format!("8.0.0.{host}"), 1).peers.len();
        told[1] = tracker
            .announce(&format!("2001:db8:{host}::"), 1)
            .peers
            .len();
    }
    assert_eq!(told, [200, 67]);
}

#[test]
fn a_peer_on_this_machine_is_known_by_our_address() {
    let mut tracker = Tracker::new();
    tracker.announce("127.0.0.1", 1);
    let id = tracker.connect("10.0.0.7");
    let reached_at = || Some([10, 0, 0, 5].into());
    let from = [10, 0, 0, 7].into();
    let (service, ids, now) = (&mut tracker.service, &tracker.ids, tracker.now);
    let reply = respond(service, ids, now, from, reached_at, &announce(id, 2)).unwrap();
    let Ok(Reply::Announce(response)) = client::parse_reply(&reply, Family::V4) else {
        panic!("{reply:?}");
    };
    assert_eq!(response.peers, ["10.0.0.5:1".parse().unwrap()]);
}

proptest! {
    #[test]
    fn random_datagrams_never_panic(
        action in 0u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut tracker = Tracker::new();
        let id = tracker.connect("8.0.0.1");
        tracker.answer("8.0.0.1", &bytes);
        let start = [&id.to_be_bytes()[..], &[0, 0, 0, action, 0, 0, 0, 6]].concat();
        let reply = tracker.answer("8.0.0.1", &[start, bytes].concat());
        prop_assert!(reply.is_some_and(|reply| reply.len() <= REPLY_LEN_MAX));
    }
}
