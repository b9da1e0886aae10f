use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::rng::Rng;
use dunlin_proto::tracker::http::client;
use dunlin_proto::tracker::udp::client::UrlData;
use dunlin_proto::tracker::udp::{Answer, Exchange, Patience, Question};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use super::*;
use crate::config::Limits;
use crate::http::REQUEST_LEN_MAX;

fn config() -> Config {
    Config {
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        limits: Limits {
            interval: Duration::from_secs(99),
            ..Limits::default()
        },
        ..Config::default()
    }
}

/// One question over UDP, as a client would put it.
fn ask_udp(socket: &std::net::UdpSocket, question: Question) -> Answer {
    let (mut rng, now) = (Rng::new(1), dunlin_proto::time::Instant::START);
    let tracker = socket.peer_addr().unwrap().ip();
    let mut exchange = Exchange::new(now, &mut rng, tracker, question, None, Patience::default());
    let mut buffer = [0; 2048];
    loop {
        while let Some(datagram) = exchange.poll_transmit() {
            socket.send(&datagram).unwrap();
        }
        let len = socket.recv(&mut buffer).unwrap();
        if let Some(answer) = exchange.on_datagram(now, &mut rng, &buffer[..len]) {
            return answer.unwrap();
        }
    }
}

fn announce_udp(tracker: SocketAddr, request: &AnnounceRequest) -> AnnounceResponse {
    let question = Question::Announce {
        request: Box::new(request.clone()),
        url_data: UrlData::new("/announce").unwrap(),
    };
    match ask_udp(&udp_socket(tracker), question) {
        Answer::Announce(response) => response,
        Answer::Scrape(entries) => panic!("{entries:?}"),
    }
}

fn udp_socket(tracker: SocketAddr) -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind((tracker.ip(), 0)).unwrap();
    socket.connect(tracker).unwrap();
    // Only so that a failing test ends.
    let timeout = Some(Duration::from_secs(20));
    socket.set_read_timeout(timeout).unwrap();
    socket
}

fn both() -> Server {
    let config = Config {
        udp: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ..config()
    };
    Server::start(config).unwrap()
}

fn server() -> Server {
    Server::start(config()).unwrap()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    // Only so that a failing test ends.
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash::new(*b"\0\x01hash of a torrent\xff"),
        peer_id: PeerId::new(*b"-DL0100-abcdefghijkl"),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event: AnnounceEvent::Started,
        num_want: 50,
        key: 1,
        tracker_id: None,
    }
}

/// One response of a connection that may stay open: its head and its body.
fn read_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split_once("Content-Length: ").unwrap().1;
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn announce_on(stream: &mut TcpStream, request: &AnnounceRequest) -> AnnounceResponse {
    let target = client::announce_target("/announce", request);
    let request = format!("GET {target} HTTP/1.1\r\nHost: tracker\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    client::parse_announce(&read_response(stream).1).unwrap()
}

fn announce(addr: SocketAddr, request: &AnnounceRequest) -> AnnounceResponse {
    announce_on(&mut connect(addr), request)
}

/// True when the other side ends the connection without another byte.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn peers_find_each_other() {
    let server = server();
    let first = announce(server.http_addr(), &request(7001, 0));
    assert_eq!((first.interval_s, first.peers), (99, vec![]));
    let second = announce(server.http_addr(), &request(7002, 5));
    assert_eq!(second.peers, addresses(&["127.0.0.1:7001"]));
    assert_eq!((second.complete, second.incomplete), (Some(1), Some(1)));
    assert_eq!(second.external_ip, Some(Ipv4Addr::LOCALHOST.into()));
    server.stop();
}

#[test]
fn a_connection_serves_many_requests() {
    let server = server();
    let mut stream = connect(server.http_addr());
    for port in 1..=100 {
        let peers = announce_on(&mut stream, &request(port, 5)).peers;
        assert_eq!(peers.len(), usize::from(port - 1).min(50));
    }
}

/// However many come at once: a turn answers some of them, the next ones the others.
#[test]
fn hundreds_of_requests_may_wait_at_once() {
    let server = server();
    let mut stream = connect(server.http_addr());
    let mut writer = stream.try_clone().unwrap();
    let target = client::announce_target("/announce", &request(1, 5));
    let all = format!("GET {target} HTTP/1.1\r\n\r\n").repeat(500);
    let writing = std::thread::spawn(move || writer.write_all(all.as_bytes()));
    for _ in 0..500 {
        assert!(client::parse_announce(&read_response(&mut stream).1).is_ok());
    }
    writing.join().unwrap().unwrap();
}

#[test]
fn requests_may_come_in_pieces_or_together() {
    let server = server();
    let mut stream = connect(server.http_addr());
    stream.set_nodelay(true).unwrap();
    let target = client::announce_target("/announce", &request(1, 5));
    let one = format!("GET {target} HTTP/1.1\r\n\r\n");
    let (start, end) = one.split_at(one.len() / 2);
    stream.write_all(start.as_bytes()).unwrap();
    announce(server.http_addr(), &request(2, 5));
    stream.write_all(end.as_bytes()).unwrap();
    assert!(client::parse_announce(&read_response(&mut stream).1).is_ok());
    stream.write_all(one.repeat(3).as_bytes()).unwrap();
    for _ in 0..3 {
        assert!(client::parse_announce(&read_response(&mut stream).1).is_ok());
    }
}

#[test]
fn a_stopped_peer_is_no_longer_told_and_scrape_counts() {
    let server = server();
    announce(server.http_addr(), &request(1, 0));
    announce(server.http_addr(), &request(2, 5));
    let stop = AnnounceRequest {
        event: AnnounceEvent::Stopped,
        ..request(2, 5)
    };
    announce(server.http_addr(), &stop);
    let mut stream = connect(server.http_addr());
    let query = "info_hash=%00%01hash+of+a+torrent%FF";
    write!(stream, "GET /scrape?{query} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = response.escape_ascii().to_string();
    assert!(
        response.contains("d8:completei1e10:downloadedi0e11:downloadersi0e10:incompletei0ee"),
        "{response}"
    );
}

#[test]
fn ipv6_peers_are_served_and_told() {
    let config = Config {
        http: SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ..config()
    };
    let Ok(server) = Server::start(config) else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    announce(server.http_addr(), &request(1, 5));
    let peers = announce(server.http_addr(), &request(2, 5)).peers;
    assert_eq!(peers, addresses(&["[::1]:1"]));
}

#[test]
fn garbage_is_refused_and_others_are_served() {
    let server = server();
    let long = vec![b'a'; 3 * REQUEST_LEN_MAX];
    for garbage in [
        b"\x13BitTorrent protocol".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        &long,
    ] {
        let mut stream = connect(server.http_addr());
        // The server may close before everything is sent.
        let _ = stream.write_all(garbage);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 4"));
        assert_eq!(announce(server.http_addr(), &request(1, 5)).interval_s, 99);
    }
}

#[test]
fn silent_connections_end_and_answered_ones_live_on() {
    let server = Server::start(Config {
        timeout: Duration::from_secs(1),
        ..config()
    });
    let server = server.unwrap();
    let mut silent = connect(server.http_addr());
    let mut slow = connect(server.http_addr());
    slow.write_all(b"GET /announce").unwrap();
    let mut answered = connect(server.http_addr());
    announce_on(&mut answered, &request(1, 5));
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut slow));
    assert!(is_closed(&mut answered));
}

#[test]
fn at_the_limit_the_most_silent_connection_gives_way() {
    let server = Server::start(Config {
        connections_max: 3,
        ..config()
    });
    let server = server.unwrap();
    let mut busy = connect(server.http_addr());
    announce_on(&mut busy, &request(1, 5));
    let mut silent = connect(server.http_addr());
    let mut streams: Vec<TcpStream> = Vec::new();
    for port in 2..20 {
        announce_on(&mut busy, &request(1, 5));
        let mut stream = connect(server.http_addr());
        announce_on(&mut stream, &request(port, 5));
        streams.push(stream);
    }
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut streams[0]));
    assert!(!announce_on(&mut busy, &request(1, 5)).peers.is_empty());
}

#[test]
fn a_port_in_use_is_named() {
    let server = server();
    let error = Server::start(Config {
        http: server.http_addr(),
        ..config()
    });
    let text = error.unwrap_err().to_string();
    let start = format!("cannot listen on {} (HTTP): ", server.http_addr());
    assert!(text.starts_with(&start), "{text}");
}

#[test]
fn a_dropped_server_frees_its_port() {
    let server = server();
    let addr = server.http_addr();
    let mut stream = connect(addr);
    announce_on(&mut stream, &request(1, 5));
    drop(server);
    assert!(is_closed(&mut stream));
    let again = Server::start(Config {
        http: addr,
        ..config()
    });
    assert_eq!(again.unwrap().http_addr(), addr);
}

#[test]
fn peers_find_each_other_over_udp_and_http() {
    let server = both();
    let udp = server.udp_addr().unwrap();
    assert!(announce_udp(udp, &request(7001, 0)).peers.is_empty());
    let second = announce(server.http_addr(), &request(7002, 5));
    assert_eq!(second.peers, addresses(&["127.0.0.1:7001"]));
    let third = announce_udp(udp, &request(7001, 0));
    assert_eq!(third.peers, addresses(&["127.0.0.1:7002"]));
    assert_eq!((third.complete, third.incomplete), (Some(1), Some(1)));
    let hashes = vec![request(1, 1).info_hash, InfoHash::new([9; 20])];
    let Answer::Scrape(entries) = ask_udp(&udp_socket(udp), Question::Scrape(hashes)) else {
        panic!("no scrape");
    };
    assert_eq!(entries[0].1.complete, 1);
    assert_eq!(entries[1].1.complete, 0);
}

#[test]
fn udp_over_ipv6_tells_ipv6_peers() {
    let config = Config {
        udp: Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))),
        ..config()
    };
    let Ok(server) = Server::start(config) else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let udp = server.udp_addr().unwrap();
    announce_udp(udp, &request(1, 5));
    announce(server.http_addr(), &request(3, 5));
    let peers = announce_udp(udp, &request(2, 5)).peers;
    assert_eq!(peers, addresses(&["[::1]:1"]));
}

/// Everywhere is both families, whether the system makes that one socket or two.
#[test]
fn a_wildcard_address_takes_both_families() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let config = Config {
        udp: Some(everywhere),
        ..config()
    };
    let server = Server::start(config).unwrap();
    let port = server.udp_addr().unwrap().port();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    announce_udp(v4, &request(1, 5));
    assert_eq!(
        announce_udp(v4, &request(2, 5)).peers,
        addresses(&["127.0.0.1:1"])
    );
    if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        announce_udp(v6, &request(1, 5));
        assert_eq!(
            announce_udp(v6, &request(2, 5)).peers,
            addresses(&["[::1]:1"])
        );
    }
}

/// Whoever floods us with datagrams takes his turns, not everybody's.
#[test]
fn a_flood_of_datagrams_does_not_starve_http() {
    let server = both();
    let udp = server.udp_addr().unwrap();
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = udp_socket(udp);
            let connect = dunlin_proto::tracker::udp::client::encode_connect(1);
            while !stop.load(Ordering::Relaxed) {
                // The buffer may be full, and replies are not read.
                let is_sent = socket.send(&connect).is_ok();
                sent.fetch_add(u64::from(is_sent), Ordering::Relaxed);
            }
        });
        while sent.load(Ordering::Relaxed) < 1000 {
            std::thread::yield_now();
        }
        for port in 1..=20 {
            let told = announce(server.http_addr(), &request(port, 5)).peers.len();
            assert_eq!(told, usize::from(port) - 1);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn nonsense_over_udp_changes_nothing() {
    let server = both();
    let udp = server.udp_addr().unwrap();
    let socket = udp_socket(udp);
    for len in [0, 1, 15, 16, 98, 2000, 9000] {
        socket.send(&vec![0xff; len]).unwrap();
        socket.send(&vec![0; len]).unwrap();
    }
    assert_eq!(announce_udp(udp, &request(1, 5)).interval_s, 99);
    socket.set_nonblocking(true).unwrap();
    let error = socket.recv(&mut [0]).unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::WouldBlock,
        "no reply to nonsense"
    );
}

fn get(server: &Server, method: &str, path: &str) -> (String, Vec<u8>) {
    let mut stream = connect(server.http_addr());
    write!(stream, "{method} {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|four| four == b"\r\n\r\n");
    let body = response.split_off(end.unwrap() + 4);
    (String::from_utf8(response).unwrap(), body)
}

/// 20 MiB: more than the buffers of both sockets hold, so it takes many turns.
#[test]
fn a_file_of_any_size_is_served_while_others_are() {
    let server = server();
    let file: Vec<u8> = (0u32..5 << 20).flat_map(u32::to_le_bytes).collect();
    let path = server.serve_file("Größe \u{1f426}.torrent", file.clone());
    assert_eq!(path, "/Gr%C3%B6%C3%9Fe%20%F0%9F%90%A6.torrent");
    let mut lazy = connect(server.http_addr());
    write!(lazy, "GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let (head, body) = get(&server, "HEAD", &path);
    assert!(head.contains("Content-Type: application/x-bittorrent\r\n"));
    assert!(head.contains(&format!("Content-Length: {}\r\n", file.len())));
    assert!(body.is_empty());
    let (head, body) = get(&server, "GET", &path);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == file, "{} of {} bytes", body.len(), file.len());
    assert!(read_response(&mut lazy).1 == file);
    let (head, body) = get(&server, "GET", "/other.torrent");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, b"404 Not Found\n");
}

/// Slow is not silent: who takes a part of the file in every while gets all of it.
#[test]
fn a_slow_reader_gets_all_and_a_stalled_one_is_closed() {
    let timeout = Duration::from_secs(1);
    let server = Server::start(Config {
        timeout,
        ..config()
    });
    let server = server.unwrap();
    let file = vec![7; 32 << 20];
    let path = server.serve_file("f.torrent", file.clone());
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let mut slow = connect(server.http_addr());
    slow.write_all(request.as_bytes()).unwrap();
    let mut stalled = connect(server.http_addr());
    stalled.write_all(request.as_bytes()).unwrap();
    let started = Instant::now();
    let (mut got, mut buffer) = (0, vec![0; 64 * 1024]);
    while got < file.len() {
        let n = slow.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "closed after {got} bytes");
        got += n;
        // Two timeouts in all, and never one of them without taking anything.
        if started.elapsed() < 2 * timeout {
            std::thread::sleep(timeout / 50);
        }
    }
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest);
    assert!(rest.len() < file.len(), "the stalled one was cut off");
}

#[test]
fn a_udp_port_in_use_is_named() {
    let server = both();
    let udp = server.udp_addr();
    let error = Server::start(Config { udp, ..config() }).unwrap_err();
    let start = format!("cannot listen on {} (UDP): ", udp.unwrap());
    assert!(error.to_string().starts_with(&start), "{error}");
}
