use super::*;
use crate::tracker::udp::client::{self, Reply, UrlData};
use crate::tracker::{AnnounceRequest, AnnounceResponse};
use proptest::prelude::*;

fn reply() -> AnnounceReply {
    AnnounceReply {
        interval_s: 1800,
        min_interval_s: Some(60),
        complete: 1,
        incomplete: 2,
        downloaded: 3,
        peers: vec![
            (PeerId::new([b'a'; 20]), "10.0.0.1:6881".parse().unwrap()),
            (PeerId::new([b'b'; 20]), "[2001:db8::1]:80".parse().unwrap()),
        ],
        external_ip: None,
    }
}

fn parse(datagram: &[u8]) -> (Header, Result<Request, RequestError>) {
    let header = Header::parse(datagram).unwrap();
    (header, parse_request(&header, datagram))
}

/// An announce of port 80, followed by `options`.
fn announce_with(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; 96];
    bytes[11] = 1;
    bytes.extend_from_slice(&[0, 80]);
    bytes.extend_from_slice(options);
    bytes
}

fn url_data_of(options: &[u8]) -> Vec<u8> {
    match parse(&announce_with(options)).1.unwrap() {
        Request::Announce { url_data, .. } => url_data,
        Request::Scrape(_) => panic!("no announce"),
    }
}

#[test]
fn a_connect_is_known_by_its_protocol_id() {
    let datagram = client::encode_connect(7);
    let header = Header::parse(&datagram).unwrap();
    assert!(header.is_connect());
    assert_eq!(header.transaction, 7);
    let other = Header {
        connection: 1,
        ..header
    };
    assert!(!other.is_connect());
    assert_eq!(Header::parse(&datagram[..15]), None);
}

#[test]
fn url_data_is_put_together_from_its_options() {
    assert_eq!(url_data_of(&[]), b"");
    assert_eq!(url_data_of(&[0]), b"");
    assert_eq!(url_data_of(&[2, 2, b'/', b'a']), b"/a");
    // Nothing, an unknown option, and what follows the end.
    let options = [1, 1, 2, 1, b'/', 9, 3, 1, 2, 3, 2, 1, b'a', 0, 2, 1, b'x'];
    assert_eq!(url_data_of(&options), b"/a");
    // Cut off.
    assert_eq!(url_data_of(&[2, 1, b'/', 2, 9, b'a']), b"/");
    assert_eq!(url_data_of(&[2]), b"");
    let (full, rest) = (vec![b'x'; 255], vec![b'x'; 45]);
    let options = [&[2, 255], full.as_slice(), &[2, 45], rest.as_slice(), &[0]].concat();
    assert_eq!(url_data_of(&options), vec![b'x'; 300]);
}

#[test]
fn num_want_below_zero_leaves_the_choice_to_the_tracker() {
    for (num_want, expected) in [(-1i32, None), (i32::MIN, None), (0, Some(0)), (7, Some(7))] {
        let mut datagram = announce_with(&[]);
        datagram[92..96].copy_from_slice(&num_want.to_be_bytes());
        let (_, request) = parse(&datagram);
        let Ok(Request::Announce { query, .. }) = request else {
            panic!("{request:?}");
        };
        assert_eq!(query.num_want, expected);
    }
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let mut portless = announce_with(&[]);
    portless[97] = 0;
    assert_eq!(parse(&portless).1, Err(RequestError::NoPort));
    portless[83] = 3;
    assert!(parse(&portless).1.is_ok(), "a stop needs no port");
    assert_eq!(
        parse(&announce_with(&[])[..97]).1,
        Err(RequestError::TooShort)
    );
    let scrape = |len: usize| {
        let mut bytes = vec![0; 16 + len];
        bytes[11] = 2;
        parse(&bytes).1
    };
    assert_eq!(scrape(19), Err(RequestError::NoInfoHash));
    assert_eq!(scrape(75 * 20), Err(RequestError::TooManyHashes));
    for (len, count) in [(20, 1), (39, 1), (74 * 20, 74), (75 * 20 - 1, 74)] {
        assert_eq!(
            scrape(len),
            Ok(Request::Scrape(vec![InfoHash::new([0; 20]); count]))
        );
    }
    for action in [0, 3, 4, 255] {
        let mut bytes = announce_with(&[]);
        bytes[11] = action;
        assert_eq!(parse(&bytes).1, Err(RequestError::UnknownAction));
    }
}

#[test]
fn replies_are_byte_exact() {
    #[rustfmt::skip]
    assert_eq!(encode_connect(0x0102_0304, 0x1122_3344_5566_7788), [
        0, 0, 0, 0,                                     // action: connect
        1, 2, 3, 4,                                     // transaction id
        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // connection id
    ]);
    #[rustfmt::skip]
    assert_eq!(encode_announce(0x0102_0304, &reply(), Family::V4), [
        0, 0, 0, 1, 1, 2, 3, 4,     // action: announce, transaction id
        0, 0, 7, 8,                 // interval: 1800 s
        0, 0, 0, 2,                 // leeches
        0, 0, 0, 1,                 // seeds
        10, 0, 0, 1, 0x1a, 0xe1,
    ]);
    #[rustfmt::skip]
    assert_eq!(encode_announce(0x0102_0304, &reply(), Family::V6)[20..], [
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
    ]);
    let entry = ScrapeEntry {
        complete: 1,
        incomplete: 2,
        downloaded: 3,
        downloaders: Some(1),
    };
    #[rustfmt::skip]
    assert_eq!(encode_scrape(0x0102_0304, &[entry]), [
        0, 0, 0, 2, 1, 2, 3, 4,     // action: scrape, transaction id
        0, 0, 0, 1,                 // seeds
        0, 0, 0, 3,                 // downloaded
        0, 0, 0, 2,                 // leeches
    ]);
    #[rustfmt::skip]
    assert_eq!(encode_error(0x0102_0304, "no"), [
        0, 0, 0, 3, 1, 2, 3, 4,     // action: error, transaction id
        b'n', b'o',
    ]);
}

#[test]
fn a_client_reads_what_the_server_writes() {
    let reply = reply();
    for (family, peer) in [(Family::V4, 0), (Family::V6, 1)] {
        let expected = AnnounceResponse {
            interval_s: 1800,
            complete: Some(1),
            incomplete: Some(2),
            peers: vec![reply.peers[peer].1],
            ..AnnounceResponse::default()
        };
        let datagram = encode_announce(9, &reply, family);
        assert_eq!(client::transaction_of(&datagram), Some(9));
        assert_eq!(
            client::parse_reply(&datagram, family),
            Ok(Reply::Announce(expected))
        );
    }
    assert_eq!(
        client::parse_reply(&encode_error(9, "no"), Family::V4),
        Ok(Reply::Error("no".to_owned()))
    );
}

fn event() -> impl Strategy<Value = AnnounceEvent> {
    prop::sample::select(vec![
        AnnounceEvent::None,
        AnnounceEvent::Started,
        AnnounceEvent::Stopped,
        AnnounceEvent::Completed,
        AnnounceEvent::Paused,
    ])
}

proptest! {
    #[test]
    fn a_server_reads_what_a_client_writes(
        (connection, transaction) in any::<(u64, u32)>(),
        (info_hash, peer_id) in any::<([u8; 20], [u8; 20])>(),
        port in 1u16..,
        (uploaded, downloaded, left) in any::<(u64, u64, u64)>(),
        num_want in 0..i32::MAX as u32,
        event in event(),
        url in "[!-~&&[^#]]{0,1020}",
    ) {
        let request = AnnounceRequest {
            info_hash: InfoHash::new(info_hash),
            peer_id: PeerId::new(peer_id),
            port,
            uploaded,
            downloaded,
            left,
            event,
            num_want,
            key: 1,
            tracker_id: None,
        };
        let url_data = UrlData::new(&url).unwrap();
        let datagram = client::encode_announce(connection, transaction, &request, &url_data);
        prop_assert!(datagram.len() <= REQUEST_LEN_MAX);
        let header = Header { connection, action: ANNOUNCE, transaction };
        let query = AnnounceQuery {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            port,
            uploaded,
            downloaded,
            left,
            event,
            num_want: Some(num_want),
        };
        let url_data = url.into_bytes();
        prop_assert_eq!(parse(&datagram), (header, Ok(Request::Announce { query, url_data })));
    }

    #[test]
    fn scrapes_go_both_ways(
        hashes in prop::collection::vec(any::<[u8; 20]>(), 1..=SCRAPE_HASHES_MAX),
        counts in any::<(u32, u32, u32)>(),
    ) {
        let hashes: Vec<_> = hashes.into_iter().map(InfoHash::new).collect();
        let datagram = client::encode_scrape(1, 2, &hashes);
        prop_assert!(datagram.len() <= REQUEST_LEN_MAX);
        prop_assert_eq!(parse(&datagram).1, Ok(Request::Scrape(hashes.clone())));
        let (complete, incomplete, downloaded) = counts;
        let entry = ScrapeEntry { complete, incomplete, downloaded, downloaders: None };
        let entries = vec![entry; hashes.len()];
        let reply = client::parse_reply(&encode_scrape(2, &entries), Family::V4);
        prop_assert_eq!(reply, Ok(Reply::Scrape(entries)));
    }

    #[test]
    fn random_requests_never_panic(
        action in 0u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let likely = [&[0; 11], [action].as_slice(), &bytes].concat();
        for bytes in [bytes, likely] {
            if let Some(header) = Header::parse(&bytes) {
                let _ = parse_request(&header, &bytes);
            }
        }
    }
}
