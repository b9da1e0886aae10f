use super::*;
use dunlin_metainfo::PeerId;
use proptest::prelude::*;

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash::new([0xaa; 20]),
        peer_id: PeerId::new(*b"-DL0100-abcdefghijkl"),
        port: 6881,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: AnnounceEvent::Started,
        num_want: 50,
        key: 0xdead_beef,
        tracker_id: None,
    }
}

/// The bytes of hexadecimal text; what follows `|` in a line is a comment.
fn hex(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split('|').next().unwrap());
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_connect_is_byte_exact() {
    let expected = hex("
        00 00 04 17 27 10 19 80 | protocol id
        00 00 00 00             | action: connect
        01 02 03 04             | transaction id
    ");
    assert_eq!(encode_connect(0x0102_0304), expected);
}

#[test]
fn an_announce_is_byte_exact() {
    let url = UrlData::new("/announce?k=1#top").unwrap();
    let expected = hex("
        11 22 33 44 55 66 77 88     | connection id
        00 00 00 01                 | action: announce
        01 02 03 04                 | transaction id
        aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa | info hash
        2d 44 4c 30 31 30 30 2d 61 62 63 64 65 66 67 68 69 6a 6b 6c | peer id
        00 00 00 00 00 00 00 01     | downloaded
        00 00 00 00 00 00 00 02     | left
        00 00 00 00 00 00 00 03     | uploaded
        00 00 00 02                 | event: started
        00 00 00 00                 | IP address: the sender's
        de ad be ef                 | key
        00 00 00 32                 | num want
        1a e1                       | port
        02 0d 2f 61 6e 6e 6f 75 6e 63 65 3f 6b 3d 31 | option URL data, 13 bytes
    ");
    let bytes = encode_announce(0x1122_3344_5566_7788, 0x0102_0304, &request(), &url);
    assert_eq!(bytes, expected);
    assert_eq!(bytes.len(), 98 + 15);
}

#[test]
fn a_scrape_is_byte_exact_and_bounded() {
    let [a, b] = [0xaa, 0xbb].map(|byte| InfoHash::new([byte; 20]));
    let expected = hex("
        11 22 33 44 55 66 77 88     | connection id
        00 00 00 02                 | action: scrape
        01 02 03 04                 | transaction id
        aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa
        bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb
    ");
    assert_eq!(
        encode_scrape(0x1122_3344_5566_7788, 0x0102_0304, &[a, b]),
        expected
    );
    assert_eq!(encode_scrape(1, 2, &[a; 80]).len(), 16 + 74 * 20);
}

#[test]
fn a_long_url_is_split_and_a_longer_one_refused() {
    let url = UrlData::new(&"x".repeat(256)).unwrap();
    let bytes = encode_announce(1, 2, &request(), &url);
    assert_eq!((bytes[98], bytes[99]), (2, 255));
    assert_eq!(bytes[98 + 257..], [2, 1, b'x']);
    assert!(UrlData::new(&"x".repeat(URL_DATA_LEN_MAX)).is_ok());
    assert_eq!(
        UrlData::new(&"x".repeat(URL_DATA_LEN_MAX + 1)),
        Err(UrlTooLong)
    );
    let none = encode_announce(1, 2, &request(), &UrlData::default());
    assert_eq!(none.len(), 98);
}

#[test]
fn any_number_of_peers_may_be_wanted() {
    let mut request = request();
    request.num_want = u32::MAX;
    let bytes = encode_announce(1, 2, &request, &UrlData::default());
    assert_eq!(bytes[92..96], i32::MAX.to_be_bytes());
}

#[test]
fn the_reply_to_a_connect_is_read() {
    let mut bytes = hex("
        00 00 00 00             | action: connect
        01 02 03 04             | transaction id
        11 22 33 44 55 66 77 88 | connection id
    ");
    let connection = 0x1122_3344_5566_7788;
    assert_eq!(transaction_of(&bytes), Some(0x0102_0304));
    assert_eq!(
        parse_reply(&bytes, Family::V4),
        Ok(Reply::Connect { connection })
    );
    bytes.push(0);
    assert_eq!(
        parse_reply(&bytes, Family::V6),
        Ok(Reply::Connect { connection })
    );
    assert_eq!(
        parse_reply(&bytes[..15], Family::V4),
        Err(ReplyError::TooShort(15))
    );
}

#[test]
fn the_reply_to_an_announce_is_read_in_both_families() {
    let head = "
        00 00 00 01 01 02 03 04 | action: announce, transaction id
        00 00 03 84             | interval: 900 s
        00 00 00 07             | leeches
        00 00 00 05             | seeds
    ";
    let expected = AnnounceResponse {
        interval_s: 900,
        complete: Some(5),
        incomplete: Some(7),
        peers: addresses(&["10.0.0.1:6881", "10.0.0.2:80"]),
        ..AnnounceResponse::default()
    };
    let v4 = hex(&format!("{head} 0a 00 00 01 1a e1   0a 00 00 02 00 50"));
    let reply = Ok(Reply::Announce(expected.clone()));
    assert_eq!(parse_reply(&v4, Family::V4), reply);
    // Half a peer, and whatever may stand there one day.
    assert_eq!(
        parse_reply(&[&v4[..], &[10, 0, 0]].concat(), Family::V4),
        reply
    );
    let v6 = hex(&format!(
        "{head} 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01 1a e1"
    ));
    let expected = AnnounceResponse {
        peers: addresses(&["[2001:db8::1]:6881"]),
        ..expected
    };
    assert_eq!(parse_reply(&v6, Family::V6), Ok(Reply::Announce(expected)));
    assert_eq!(
        parse_reply(&v4[..19], Family::V4),
        Err(ReplyError::TooShort(19))
    );
}

#[test]
fn an_interval_that_makes_no_sense_counts_as_not_said() {
    for (interval, kept) in [
        (0u32, 1800),
        (u32::MAX, 1800),
        (1, 1),
        (0x7fff_ffff, 86_400),
    ] {
        let bytes = [1, 2, interval, 0, 0].map(u32::to_be_bytes).concat();
        let Ok(Reply::Announce(response)) = parse_reply(&bytes, Family::V4) else {
            panic!("{interval}");
        };
        assert_eq!(response.interval_s, kept);
    }
}

#[test]
fn the_reply_to_a_scrape_is_read() {
    let bytes = hex("
        00 00 00 02 01 02 03 04 | action: scrape, transaction id
        00 00 00 01             | seeds
        00 00 00 02             | downloaded
        00 00 00 03             | leeches
        00 00 00 04 00 00 00 05 00 00 00 06
    ");
    let entry = |complete, downloaded, incomplete| ScrapeEntry {
        complete,
        incomplete,
        downloaded,
        downloaders: None,
    };
    assert_eq!(
        parse_reply(&bytes, Family::V4),
        Ok(Reply::Scrape(vec![entry(1, 2, 3), entry(4, 5, 6)]))
    );
}

#[test]
fn an_error_is_told_in_the_words_of_the_tracker() {
    let bytes = hex("00 00 00 03 01 02 03 04   6e 6f 21 00");
    assert_eq!(
        parse_reply(&bytes, Family::V4),
        Ok(Reply::Error("no!".to_owned()))
    );
    let endless = [&bytes[..8], &[b'x'; 10_000]].concat();
    let Ok(Reply::Error(text)) = parse_reply(&endless, Family::V4) else {
        panic!("no error");
    };
    assert_eq!(text.len(), 500);
}

#[test]
fn what_is_no_reply_is_refused() {
    for (bytes, error) in [
        (vec![], ReplyError::TooShort(0)),
        (vec![0; 7], ReplyError::TooShort(7)),
        (vec![0; 8], ReplyError::TooShort(8)),
        (vec![1; 30], ReplyError::UnknownAction(0x0101_0101)),
        (
            vec![0; REPLY_LEN_MAX + 1],
            ReplyError::TooLong(REPLY_LEN_MAX + 1),
        ),
    ] {
        assert_eq!(parse_reply(&bytes, Family::V4), Err(error));
    }
    assert_eq!(transaction_of(&[0; 7]), None);
}

#[test]
fn addresses_that_nobody_can_dial_are_dropped_and_only_so_many_peers_kept() {
    let head = [1u32, 2, 900, 0, 0].map(u32::to_be_bytes).concat();
    let peers = [
        [0, 0, 0, 0, 0x1a, 0xe1],
        [10, 0, 0, 1, 0, 0],
        [224, 0, 0, 1, 0x1a, 0xe1],
        [255, 255, 255, 255, 0x1a, 0xe1],
    ];
    let bytes = [
        head.clone(),
        peers.concat(),
        [10, 0, 0, 9, 0, 1].repeat(2000),
    ]
    .concat();
    let Ok(Reply::Announce(response)) = parse_reply(&bytes, Family::V4) else {
        panic!("no reply");
    };
    assert_eq!(
        response.peers,
        vec![addresses(&["10.0.0.9:1"])[0]; PEERS_MAX]
    );
}

proptest! {
    #[test]
    fn random_replies_never_panic(
        action in 0u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let likely = [&[0, 0, 0, action], bytes.as_slice()].concat();
        for bytes in [bytes, likely] {
            let _ = transaction_of(&bytes);
            let _ = parse_reply(&bytes, Family::V4);
            let _ = parse_reply(&bytes, Family::V6);
        }
    }
}
