use std::io::{Read, Write};
use std::net::TcpStream;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::tracker::http::client;
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
    let first = announce(server.addr(), &request(7001, 0));
    assert_eq!((first.interval_s, first.peers), (99, vec![]));
    let second = announce(server.addr(), &request(7002, 5));
    assert_eq!(second.peers, addresses(&["127.0.0.1:7001"]));
    assert_eq!((second.complete, second.incomplete), (Some(1), Some(1)));
    assert_eq!(second.external_ip, Some(Ipv4Addr::LOCALHOST.into()));
    server.stop();
}

#[test]
fn a_connection_serves_many_requests() {
    let server = server();
    let mut stream = connect(server.addr());
    for port in 1..=100 {
        let peers = announce_on(&mut stream, &request(port, 5)).peers;
        assert_eq!(peers.len(), usize::from(port - 1).min(50));
    }
}

/// However many come at once: a turn answers some of them, the next ones the others.
#[test]
fn hundreds_of_requests_may_wait_at_once() {
    let server = server();
    let mut stream = connect(server.addr());
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
    let mut stream = connect(server.addr());
    stream.set_nodelay(true).unwrap();
    let target = client::announce_target("/announce", &request(1, 5));
    let one = format!("GET {target} HTTP/1.1\r\n\r\n");
    let (start, end) = one.split_at(one.len() / 2);
    stream.write_all(start.as_bytes()).unwrap();
    announce(server.addr(), &request(2, 5));
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
    announce(server.addr(), &request(1, 0));
    announce(server.addr(), &request(2, 5));
    let stop = AnnounceRequest {
        event: AnnounceEvent::Stopped,
        ..request(2, 5)
    };
    announce(server.addr(), &stop);
    let mut stream = connect(server.addr());
    let query = "info_hash=%00%01hash+of+a+torrent%FF";
    write!(stream, "GET /scrape?{query} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = response.escape_ascii().to_string();
    assert!(
        response.contains("d8:completei1e10:downloadedi0e10:incompletei0ee"),
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
    announce(server.addr(), &request(1, 5));
    let peers = announce(server.addr(), &request(2, 5)).peers;
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
        let mut stream = connect(server.addr());
        // The server may close before everything is sent.
        let _ = stream.write_all(garbage);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 4"));
        assert_eq!(announce(server.addr(), &request(1, 5)).interval_s, 99);
    }
}

#[test]
fn silent_connections_end_and_answered_ones_live_on() {
    let server = Server::start(Config {
        timeout: Duration::from_secs(1),
        ..config()
    });
    let server = server.unwrap();
    let mut silent = connect(server.addr());
    let mut slow = connect(server.addr());
    slow.write_all(b"GET /announce").unwrap();
    let mut answered = connect(server.addr());
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
    let mut busy = connect(server.addr());
    announce_on(&mut busy, &request(1, 5));
    let mut silent = connect(server.addr());
    let mut streams: Vec<TcpStream> = Vec::new();
    for port in 2..20 {
        announce_on(&mut busy, &request(1, 5));
        let mut stream = connect(server.addr());
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
        http: server.addr(),
        ..config()
    });
    let text = error.unwrap_err().to_string();
    let start = format!("cannot listen on {}: ", server.addr());
    assert!(text.starts_with(&start), "{text}");
}

#[test]
fn a_dropped_server_frees_its_port() {
    let server = server();
    let addr = server.addr();
    let mut stream = connect(addr);
    announce_on(&mut stream, &request(1, 5));
    drop(server);
    assert!(is_closed(&mut stream));
    let again = Server::start(Config {
        http: addr,
        ..config()
    });
    assert_eq!(again.unwrap().addr(), addr);
}
