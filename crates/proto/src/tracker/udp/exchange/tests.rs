use super::*;
use crate::tracker::udp::server::{self, Header, Request};
use crate::tracker::{AnnounceEvent, AnnounceReply};
use dunlin_metainfo::PeerId;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

const TRACKER: [u8; 4] = [10, 0, 0, 1];

/// An exchange, its clock, and what it sent last.
struct Client {
    exchange: Exchange,
    now: Instant,
    rng: Rng,
}

impl Client {
    fn new(question: Question, known: Option<Connection>, patience: Patience) -> Self {
        Self::at(Instant::START, question, known, patience)
    }

    fn at(now: Instant, question: Question, known: Option<Connection>, patience: Patience) -> Self {
        let mut rng = Rng::new(1);
        let tracker = TRACKER.into();
        let exchange = Exchange::new(now, &mut rng, tracker, question, known, patience);
        Self { exchange, now, rng }
    }

    fn sent(&mut self) -> (Header, Vec<u8>) {
        let datagram = self.exchange.poll_transmit().expect("something to send");
        assert_eq!(self.exchange.poll_transmit(), None, "sent once");
        (Header::parse(&datagram).unwrap(), datagram)
    }

    fn receive(&mut self, datagram: &[u8]) -> Option<Result<Answer, ExchangeError>> {
        self.exchange.on_datagram(self.now, &mut self.rng, datagram)
    }

    /// Waits for the deadline; says for how many seconds.
    fn wait(&mut self) -> (u64, Option<Result<Answer, ExchangeError>>) {
        let deadline = self.exchange.deadline().unwrap();
        let waited = deadline.since(self.now).as_secs();
        self.now = deadline;
        (waited, self.exchange.on_time(deadline, &mut self.rng))
    }

    fn connect(&mut self, id: u64) {
        let (header, _) = self.sent();
        assert!(header.is_connect());
        let reply = server::encode_connect(header.transaction, id);
        assert_eq!(self.receive(&reply), None);
    }
}

fn announce() -> Question {
    let request = AnnounceRequest {
        info_hash: InfoHash::new([1; 20]),
        peer_id: PeerId::new([b'p'; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event: AnnounceEvent::Started,
        num_want: 50,
        key: 1,
        tracker_id: None,
    };
    Question::Announce {
        request: Box::new(request),
        url_data: UrlData::new("/announce").unwrap(),
    }
}

fn announce_reply(transaction: u32) -> Vec<u8> {
    let reply = AnnounceReply {
        interval_s: 900,
        peers: vec![(PeerId::new([0; 20]), "10.0.0.9:1".parse().unwrap())],
        ..AnnounceReply::default()
    };
    server::encode_announce(transaction, &reply, Family::V4)
}

/// A connection that an exchange at the start of time left.
fn left_connection() -> Connection {
    let mut client = Client::new(announce(), None, Patience::default());
    client.connect(77);
    let (header, _) = client.sent();
    client.receive(&announce_reply(header.transaction));
    client.exchange.connection().unwrap()
}

#[test]
fn connect_then_announce_then_the_peers() {
    let mut client = Client::new(announce(), None, Patience::default());
    client.connect(77);
    let (header, datagram) = client.sent();
    assert_eq!(header.connection, 77);
    let request = server::parse_request(&header, &datagram).unwrap();
    assert!(matches!(request, Request::Announce { url_data, .. } if url_data == b"/announce"));
    let answer = client.receive(&announce_reply(header.transaction));
    let Some(Ok(Answer::Announce(response))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(response.interval_s, 900);
    assert_eq!(response.peers, ["10.0.0.9:1".parse().unwrap()]);
    assert_eq!(client.exchange.deadline(), None);
    // The reply again, long after: it changes nothing.
    assert_eq!(client.receive(&announce_reply(header.transaction)), None);
    assert_eq!(client.exchange.poll_transmit(), None);
}

#[test]
fn a_reply_with_another_transaction_id_is_none() {
    let mut client = Client::new(announce(), None, Patience::default());
    let (connect, _) = client.sent();
    let forged = server::encode_connect(connect.transaction ^ 1, 66);
    assert_eq!(client.receive(&forged), None);
    assert_eq!(client.exchange.poll_transmit(), None);
    let reply = server::encode_connect(connect.transaction, 77);
    assert_eq!(client.receive(&reply), None);
    let (announce, _) = client.sent();
    assert_ne!(announce.transaction, connect.transaction);
    for transaction in [connect.transaction, announce.transaction ^ 1] {
        assert_eq!(client.receive(&announce_reply(transaction)), None);
        let error = server::encode_error(transaction, "go away");
        assert_eq!(client.receive(&error), None);
        assert_eq!(client.receive(&[0; 7]), None);
    }
    assert!(
        client
            .receive(&announce_reply(announce.transaction))
            .is_some()
    );
}

#[test]
fn a_silent_tracker_is_asked_nine_times_as_bep_15_says() {
    let mut client = Client::new(announce(), None, Patience::BEP_15);
    let (first, _) = client.sent();
    for seconds in [15, 30, 60, 120, 240, 480, 960, 1920] {
        assert_eq!(client.wait(), (seconds, None));
        assert_eq!(client.sent().0, first, "the same datagram again");
    }
    let waited = Duration::from_secs(15 * 511);
    let (seconds, result) = client.wait();
    assert_eq!(seconds, 3840);
    assert_eq!(result, Some(Err(ExchangeError::TimedOut(waited))));
    assert_eq!(client.exchange.deadline(), None);
}

#[test]
fn an_announcer_gives_up_after_45_seconds() {
    let mut client = Client::new(announce(), None, Patience::default());
    client.sent();
    assert_eq!(client.wait(), (15, None));
    let (header, _) = client.sent();
    // Time that is not up: nothing happens.
    let too_early = client.exchange.on_time(client.now, &mut client.rng);
    assert_eq!((too_early, client.exchange.poll_transmit()), (None, None));
    assert_eq!(client.wait().0, 30);
    assert_eq!(
        client.receive(&server::encode_connect(header.transaction, 1)),
        None
    );
    assert_eq!(client.exchange.poll_transmit(), None, "it is over");
}

#[test]
fn a_tracker_that_answers_connects_only_is_given_up_too() {
    let mut client = Client::new(announce(), None, Patience::BEP_15);
    client.connect(77);
    let (header, _) = client.sent();
    // 15 s, then 30 s: the id is still good. After 60 s more it is not.
    for seconds in [15, 30] {
        assert_eq!(client.wait(), (seconds, None));
        assert_eq!(client.sent().0, header);
    }
    assert_eq!(client.wait(), (60, None));
    client.connect(78);
    assert_eq!(client.sent().0.connection, 78);
    let mut waits = 0;
    while client.wait().1.is_none() {
        waits += 1;
        client.sent();
    }
    assert_eq!(waits, 5, "eight repeats in all");
}

#[test]
fn a_connection_id_serves_for_a_minute() {
    let connection = left_connection();
    for (seconds, is_used) in [(0, true), (59, true), (60, false)] {
        let now = Instant::START + Duration::from_secs(seconds);
        let mut client = Client::at(now, announce(), Some(connection), Patience::default());
        let (header, _) = client.sent();
        assert_eq!(header.connection == 77, is_used);
        assert_eq!(header.is_connect(), !is_used);
    }
}

#[test]
fn an_old_connection_id_is_tried_once() {
    let known = Some(left_connection());
    let mut silent = Client::new(announce(), known, Patience::default());
    assert_eq!(silent.sent().0.connection, 77);
    assert_eq!(silent.wait(), (15, None));
    assert!(silent.sent().0.is_connect());

    let mut refused = Client::new(announce(), known, Patience::default());
    let (header, _) = refused.sent();
    let error = server::encode_error(header.transaction, "connection id mismatch");
    assert_eq!(refused.receive(&error), None);
    refused.connect(78);
    let (header, _) = refused.sent();
    let error = server::encode_error(header.transaction, "not registered");
    assert_eq!(
        refused.receive(&error),
        Some(Err(ExchangeError::Refused("not registered".to_owned())))
    );
    assert_eq!(refused.exchange.connection(), None);
}

#[test]
fn a_scrape_tells_of_each_torrent() {
    let hashes = [InfoHash::new([1; 20]), InfoHash::new([2; 20])];
    let ask = || {
        let question = Question::Scrape(hashes.to_vec());
        let mut client = Client::new(question, None, Patience::default());
        client.connect(77);
        let (header, datagram) = client.sent();
        let request = server::parse_request(&header, &datagram);
        assert_eq!(request, Ok(Request::Scrape(hashes.to_vec())));
        (client, header.transaction)
    };
    let entry = |complete| ScrapeEntry {
        complete,
        ..ScrapeEntry::default()
    };
    let (mut client, transaction) = ask();
    let reply = server::encode_scrape(transaction, &[entry(1), entry(2)]);
    let expected = Answer::Scrape(vec![(hashes[0], entry(1)), (hashes[1], entry(2))]);
    assert_eq!(client.receive(&reply), Some(Ok(expected)));

    let (mut client, transaction) = ask();
    let short = server::encode_scrape(transaction, &[entry(1)]);
    let error = ExchangeError::WrongCount { asked: 2, got: 1 };
    assert_eq!(client.receive(&short), Some(Err(error)));
}

#[test]
fn an_answer_to_something_else_ends_the_exchange() {
    let mut client = Client::new(announce(), None, Patience::default());
    let (header, _) = client.sent();
    let wrong = Some(Err(ExchangeError::WrongAction));
    assert_eq!(client.receive(&announce_reply(header.transaction)), wrong);

    for reply in [server::encode_connect, |transaction, _| {
        server::encode_scrape(transaction, &[])
    }] {
        let mut client = Client::new(announce(), None, Patience::default());
        client.connect(77);
        let (header, _) = client.sent();
        assert_eq!(client.receive(&reply(header.transaction, 1)), wrong);
    }

    let mut client = Client::new(announce(), None, Patience::default());
    client.connect(77);
    let (header, _) = client.sent();
    let cut = &announce_reply(header.transaction)[..19];
    assert_eq!(
        client.receive(cut),
        Some(Err(ReplyError::TooShort(19).into()))
    );
}

#[test]
fn over_ipv6_the_peers_are_ipv6() {
    let (mut rng, now) = (Rng::new(1), Instant::START);
    let tracker: IpAddr = "2001:db8::1".parse().unwrap();
    let mut exchange = Exchange::new(
        now,
        &mut rng,
        tracker,
        announce(),
        None,
        Patience::default(),
    );
    let header = Header::parse(&exchange.poll_transmit().unwrap()).unwrap();
    exchange.on_datagram(
        now,
        &mut rng,
        &server::encode_connect(header.transaction, 1),
    );
    let header = Header::parse(&exchange.poll_transmit().unwrap()).unwrap();
    let reply = AnnounceReply {
        peers: vec![(PeerId::new([0; 20]), "[2001:db8::9]:1".parse().unwrap())],
        ..AnnounceReply::default()
    };
    let reply = server::encode_announce(header.transaction, &reply, Family::V6);
    let answer = exchange.on_datagram(now, &mut rng, &reply);
    let Some(Ok(Answer::Announce(response))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(response.peers, ["[2001:db8::9]:1".parse().unwrap()]);
}

proptest! {
    /// Whatever comes, the exchange ends after its repeats, and with one result.
    #[test]
    fn random_datagrams_never_panic(
        datagrams in prop::collection::vec(
            (0u8..5, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            0..30,
        ),
    ) {
        let mut client = Client::new(announce(), None, Patience::default());
        let mut results = 0;
        for (action, bytes, waits) in datagrams {
            let transaction = client.exchange.transaction.to_be_bytes();
            let datagram = [&[0, 0, 0, action], &transaction[..], &bytes].concat();
            results += usize::from(client.receive(&bytes).is_some());
            results += usize::from(client.receive(&datagram).is_some());
            if waits && client.exchange.deadline().is_some() {
                results += usize::from(client.wait().1.is_some());
            }
            let _ = client.exchange.poll_transmit();
        }
        prop_assert!(results <= 1);
        prop_assert_eq!(results == 1, client.exchange.deadline().is_none());
    }
}
