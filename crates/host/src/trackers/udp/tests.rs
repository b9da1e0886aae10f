use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::tracker::AnnounceEvent;

use super::*;

const CONNECTION: u64 = 0x1122_3344_5566_7788;
/// 10.0.0.1:80
const PEER: [u8; 6] = [10, 0, 0, 1, 0, 80];

/// Something that arrived at a tracker.
struct Question {
    bytes: Vec<u8>,
    from: SocketAddr,
}

impl Question {
    fn is_connect(&self) -> bool {
        self.bytes.len() == 16
    }

    fn transaction(&self) -> [u8; 4] {
        self.bytes[12..16].try_into().unwrap()
    }

    /// The right answer.
    fn answer(&self, peers: &[u8]) -> Vec<u8> {
        if self.is_connect() {
            let id = CONNECTION.to_be_bytes();
            return [&[0; 4][..], &self.transaction(), &id].concat();
        }
        let head = [900, 2, 3].map(u32::to_be_bytes).concat();
        [&[0, 0, 0, 1][..], &self.transaction(), &head, peers].concat()
    }
}

/// A tracker that answers as `answer` says, and tells what it was asked.
fn tracker(
    ip: &str,
    mut answer: impl FnMut(&UdpSocket, &Question) + Send + 'static,
) -> (SocketAddr, Receiver<Question>) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let question = Question {
                bytes: buffer[..len].to_vec(),
                from,
            };
            answer(&socket, &question);
            let _ = asked.send(question);
        }
    });
    (addr, questions)
}

fn honest(ip: &str, peers: &'static [u8]) -> (SocketAddr, Receiver<Question>) {
    tracker(ip, move |socket, question| {
        socket
            .send_to(&question.answer(peers), question.from)
            .unwrap();
    })
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash::new([0xaa; 20]),
        peer_id: PeerId::new(*b"-DL0100-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: AnnounceEvent::Started,
        num_want: 50,
        key: 7,
        tracker_id: None,
    }
}

fn quick() -> Pool {
    Pool::new(Patience {
        timeout: Duration::from_millis(400),
        repeats: 1,
    })
}

fn announce(pool: &Pool, addr: SocketAddr, path: &str) -> Result<AnnounceResponse, TrackerFailure> {
    let url = Url::parse(&format!("udp://{addr}{path}")).unwrap();
    pool.announce(&url, &[addr], &request(), &Paths::ANY)
}

fn message(result: Result<AnnounceResponse, TrackerFailure>) -> String {
    result.unwrap_err().message
}

#[test]
fn an_announce_connects_asks_and_reads_the_answer() {
    let (addr, questions) = honest("127.0.0.1", &PEER);
    let pool = Pool::new(Patience::default());
    let answer = announce(&pool, addr, "/announce?passkey=x").unwrap();
    assert_eq!(answer.interval_s, 900);
    assert_eq!(answer.peers, ["10.0.0.1:80".parse().unwrap()]);
    let (connect, asked) = (questions.recv().unwrap(), questions.recv().unwrap());
    assert!(connect.is_connect());
    assert_eq!(asked.bytes[..8], CONNECTION.to_be_bytes());
    // BEP 41: option 2, its length, path and query.
    assert_eq!(asked.bytes[98..], *b"\x02\x13/announce?passkey=x");
}

#[test]
fn a_connection_id_is_used_again_from_the_same_port() {
    let (addr, questions) = honest("127.0.0.1", &PEER);
    let pool = Pool::new(Patience::default());
    announce(&pool, addr, "").unwrap();
    announce(&pool, addr, "").unwrap();
    let asked: Vec<Question> = questions.try_iter().collect();
    let connects = asked.iter().filter(|question| question.is_connect());
    assert_eq!(connects.count(), 1);
    assert!(asked.iter().all(|question| question.from == asked[0].from));
    assert_eq!(asked.last().unwrap().bytes.len(), 98);
}

#[test]
fn answers_over_ipv6_hold_ipv6_peers() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let peer: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50";
    let (addr, _questions) = honest("::1", peer);
    let answer = announce(&Pool::new(Patience::default()), addr, "").unwrap();
    assert_eq!(answer.peers, ["[2001:db8::1]:80".parse().unwrap()]);
}

#[test]
fn answers_to_other_questions_are_not_heard() {
    let (addr, _questions) = tracker("127.0.0.1", |socket, question| {
        let mut forged = question.answer(&[6; 6]);
        forged[4..8].copy_from_slice(b"evil");
        for datagram in [&forged, &b"short"[..], b"", &question.answer(&PEER)] {
            socket.send_to(datagram, question.from).unwrap();
        }
    });
    let answer = announce(&Pool::new(Patience::default()), addr, "").unwrap();
    assert_eq!(answer.peers, ["10.0.0.1:80".parse().unwrap()]);
}

#[test]
fn nobody_but_the_tracker_is_heard() {
    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let neighbour = UdpSocket::bind("127.0.0.2:0").unwrap();
    let (addr, _questions) = tracker("127.0.0.1", move |socket, question| {
        for forger in [&forger, &neighbour] {
            // The right id, from the wrong address.
            let _ = forger.send_to(&question.answer(&[6; 6]), question.from);
        }
        socket
            .send_to(&question.answer(&PEER), question.from)
            .unwrap();
    });
    let answer = announce(&Pool::new(Patience::default()), addr, "").unwrap();
    assert_eq!(answer.peers, ["10.0.0.1:80".parse().unwrap()]);
}

#[test]
fn nobody_there_is_connection_refused() {
    let addr = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let pool = Pool::new(Patience::default());
    assert_eq!(message(announce(&pool, addr, "")), "connection refused");
}

#[test]
fn silence_has_an_end_and_a_lost_datagram_is_repeated() {
    let (addr, questions) = tracker("127.0.0.1", |_, _| {});
    assert_eq!(
        message(announce(&quick(), addr, "")),
        "no answer within 1 s"
    );
    assert_eq!(questions.try_iter().count(), 2);

    let mut is_lost = true;
    let (addr, _questions) = tracker("127.0.0.1", move |socket, question| {
        if !std::mem::take(&mut is_lost) {
            socket
                .send_to(&question.answer(&PEER), question.from)
                .unwrap();
        }
    });
    let patient = Pool::new(Patience {
        timeout: Duration::from_millis(200),
        repeats: 6,
    });
    assert_eq!(announce(&patient, addr, "").unwrap().peers.len(), 1);
}

#[test]
fn noise_does_not_keep_us_waiting_for_ever() {
    let (addr, _questions) = tracker("127.0.0.1", |socket, question| {
        let (socket, from) = (socket.try_clone().unwrap(), question.from);
        thread::spawn(move || {
            while socket.send_to(b"noisenoisenoise!", from).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
    });
    assert_eq!(
        message(announce(&quick(), addr, "")),
        "no answer within 1 s"
    );
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_tracker() {
    let (addr, _questions) = tracker("127.0.0.1", |socket, question| {
        let words = [&[0, 0, 0, 3][..], &question.transaction(), b"go away"].concat();
        socket.send_to(&words, question.from).unwrap();
    });
    let failure = announce(&Pool::new(Patience::default()), addr, "").unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.refused),
        ("go away", true)
    );
}

#[test]
fn a_path_that_fits_no_packet_is_refused() {
    let (addr, questions) = honest("127.0.0.1", &PEER);
    let result = announce(&quick(), addr, &format!("/{}", "x".repeat(2000)));
    assert!(message(result).contains("longer than"));
    assert_eq!(questions.try_iter().count(), 0);
}

#[test]
fn a_tracker_with_a_dead_address_is_asked_at_the_next_one() {
    let dead = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (addr, _questions) = honest("127.0.0.1", &PEER);
    let url = Url::parse("udp://t.example:1/announce").unwrap();
    let pool = Pool::new(Patience::default());
    let answer = pool.announce(&url, &[dead, addr], &request(), &Paths::ANY);
    assert_eq!(answer.unwrap().peers.len(), 1);
}

#[test]
fn no_more_sockets_wait_than_the_limit() {
    let pool = Pool::new(Patience::default());
    for _ in 0..=IDLE_MAX {
        let (addr, _questions) = honest("127.0.0.1", &PEER);
        announce(&pool, addr, "").unwrap();
    }
    assert_eq!(pool.idle.lock().unwrap().len(), IDLE_MAX);
}

#[test]
fn the_source_is_the_chosen_one() {
    use crate::net::{Interface, Network};
    use crate::tcp::Listen;

    let (addr, questions) = honest("127.0.0.1", &PEER);
    let network = Network {
        interface: Some(Interface::from("127.0.0.2")),
        ..Network::default()
    };
    let paths = Paths::new(&network, Listen::Auto(0)).unwrap();
    let url = Url::parse(&format!("udp://{addr}")).unwrap();
    let pool = Pool::new(Patience::default());
    pool.announce(&url, &[addr], &request(), &paths).unwrap();
    let from = questions.recv().unwrap().from.ip();
    assert_eq!(from, IpAddr::from([127, 0, 0, 2]));
}
