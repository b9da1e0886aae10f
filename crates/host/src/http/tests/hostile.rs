//! Servers that mean harm, one a test.

use std::io::Write;
use std::net::TcpListener;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const BODY_LEN_MAX: usize = 1024 * 1024;

fn get_from(addr: SocketAddr, timeout: Duration) -> Result<Response, HttpError> {
    let tls = Tls::default();
    let rules = Rules {
        timeout,
        ..rules(&tls)
    };
    get(&Url::parse(&format!("http://{addr}/")).unwrap(), &rules)
}

fn answered(answer: Answer) -> Result<Response, HttpError> {
    let (addr, server) = serve(vec![answer]);
    let response = get_from(addr, Duration::from_secs(60));
    server.join().unwrap();
    response
}

fn why(answer: Answer) -> String {
    answered(answer).unwrap_err().to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

const GZIP: &str = "Content-Encoding: gzip\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn an_endless_body_ends_at_the_limit() {
    for headers in ["", "Content-Length: 18446744073709551615\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        let answer = Answer::Endless(head.into_bytes(), b"x");
        assert_eq!(why(answer), "the answer is longer than 1048576 bytes");
    }
}

#[test]
fn endless_chunks_end_at_the_limit() {
    for chunk in [&b"1\r\nx\r\n"[..], b"7fffffff\r\nxxxx"] {
        let head = format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n");
        let answer = match chunk {
            b"1\r\nx\r\n" => Answer::Endless(head.into_bytes(), b"1\r\nx\r\n"),
            _ => Answer::Endless([head.as_bytes(), chunk].concat(), b"xxxx"),
        };
        assert_eq!(why(answer), "the answer is longer than 1048576 bytes");
    }
    let sizes: &[u8] = b"fffffffffffffffff\r\n";
    assert_eq!(
        why(Answer::ok(CHUNKED, sizes)),
        "the answer has a bad chunk"
    );
}

#[test]
fn an_endless_head_ends_at_the_limit() {
    let line = Answer::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), b"x");
    assert_eq!(
        why(line),
        "the head of the answer is longer than 16384 bytes"
    );
    let headers = Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n");
    assert_eq!(why(headers), "the answer has more than 64 headers");
    let interim = Answer::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(why(interim), "the answer is not HTTP");
}

#[test]
fn a_byte_now_and_then_does_not_hold_us_for_ever() {
    for head in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\n\r\n"] {
        let (addr, server) = serve(vec![Answer::Drip(head.as_bytes().to_vec())]);
        let error = get_from(addr, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 1 s");
        server.join().unwrap();
    }
}

#[test]
fn gzip_that_nobody_asked_for_is_unpacked() {
    let response = answered(Answer::ok(GZIP, &gzip(b"d5:peers0:e"))).unwrap();
    assert_eq!(response.body, b"d5:peers0:e");
}

#[test]
fn a_gzip_bomb_is_not_unpacked_beyond_the_limit() {
    let bomb = gzip(&vec![0; 64 * BODY_LEN_MAX]);
    assert!(bomb.len() < BODY_LEN_MAX / 8);
    assert_eq!(
        why(Answer::ok(GZIP, &bomb)),
        "the answer is longer than 1048576 bytes"
    );
    let exact = answered(Answer::ok(GZIP, &gzip(&vec![0; BODY_LEN_MAX]))).unwrap();
    assert_eq!(exact.body.len(), BODY_LEN_MAX);
}

#[test]
fn broken_gzip_is_an_error() {
    let packed = gzip(&[7; 1000]);
    let cut = packed.get(..packed.len() - 9).unwrap();
    for body in [cut, b"not gzip", b""] {
        assert_eq!(why(Answer::ok(GZIP, body)), "the answer cannot be unpacked");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let (addr, server) = serve(vec![Answer::redirect("/"); REDIRECTS_MAX + 1]);
    let error = get_from(addr, Duration::from_secs(60)).unwrap_err();
    assert_eq!(error.to_string(), "more than 5 redirects");
    assert_eq!(server.join().unwrap().len(), REDIRECTS_MAX + 1);
}

#[test]
fn redirects_to_other_schemes_are_not_followed() {
    for place in [
        "file:///etc/passwd",
        "udp://127.0.0.1:1/announce",
        "gopher://x/",
    ] {
        let error = answered(Answer::redirect(place)).unwrap_err();
        assert!(matches!(error, HttpError::Url(UrlError::Scheme)), "{error}");
    }
}

#[test]
fn a_tracker_cannot_make_us_ask_other_services_of_this_machine() {
    let victim = TcpListener::bind("127.0.0.1:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let port = victim.local_addr().unwrap().port();
    let places = [
        format!("http://127.0.0.1:{port}/admin?delete=all"),
        format!("http://localhost:{port}/announce/../admin"),
        format!("http://127.0.0.1:{port}/admin?x=/announce"),
    ];
    for place in places {
        let (addr, server) = serve(vec![Answer::redirect(&place)]);
        let url = format!("http://{addr}/announce");
        let failure = ask(&url).unwrap_err();
        assert!(failure.message.contains("this machine"), "{failure:?}");
        server.join().unwrap();
    }
    assert!(victim.accept().is_err());
}

#[test]
fn whatever_resolves_to_the_local_network_counts_as_local() {
    let addrs = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 80)];
    let url = Url::parse("http://innocent.example/announce").unwrap();
    let tls = Tls::default();
    for ip in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
        "64:ff9b::a00:1",
    ] {
        let result = allowed(&url, addrs(ip), true, &rules(&tls));
        assert!(matches!(result, Err(HttpError::LocalRedirect)), "{ip}");
    }
}
