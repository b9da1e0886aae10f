mod hostile;
mod tls;

use std::net::TcpListener;

use dunlin_engine::event::TrackerFailure;
use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use super::fixture::{Answer, serve};
use super::*;

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

fn ok(body: &str) -> Answer {
    let len = body.len();
    Answer::ok(&format!("Content-Length: {len}\r\n"), body.as_bytes())
}

static PATHS: Paths = Paths::ANY;

fn rules(tls: &Tls) -> Rules<'_> {
    Rules {
        body_len_max: 1024 * 1024,
        timeout: Duration::from_secs(60),
        loopback: Loopback::Anything,
        family: None,
        paths: &PATHS,
        tls,
    }
}

fn ask(url: &str) -> Result<AnnounceResponse, TrackerFailure> {
    ask_with(url, &Tls::default())
}

fn ask_with(url: &str, tls: &Tls) -> Result<AnnounceResponse, TrackerFailure> {
    let url = Url::parse(url).unwrap();
    let addrs = dns::resolve(&url.host, url.port).unwrap();
    announce(&url, &addrs, &request(), &PATHS, tls)
}

fn message(answer: &str) -> String {
    let (addr, server) = serve(vec![Answer::text(answer)]);
    let failure = ask(&format!("http://{addr}/announce")).unwrap_err();
    server.join().unwrap();
    failure.message
}

#[test]
fn an_announce_asks_and_reads_the_answer() {
    let (addr, server) = serve(vec![ok(
        "d8:intervali900e5:peers6:\x7f\x00\x00\x01\x1a\x0ae",
    )]);
    let answer = ask(&format!("http://{addr}/x/announce?key=1")).unwrap();
    assert_eq!(answer.interval_s, 900);
    assert_eq!(answer.peers, ["127.0.0.1:6666".parse().unwrap()]);
    let asked = server.join().unwrap().remove(0);
    assert!(
        asked.starts_with("GET /x/announce?key=1&info_hash=%AA%AA"),
        "{asked}"
    );
    assert!(asked.contains(&format!("\r\nHost: {addr}\r\n")), "{asked}");
    assert!(asked.contains("event=started"), "{asked}");
}

#[test]
fn redirects_are_followed() {
    let to = Answer::redirect;
    let (addr, server) = serve(vec![to("/2/announce"), ok("d8:intervali60e5:peers0:e")]);
    let answer = ask(&format!("http://{addr}/announce")).unwrap();
    assert_eq!(answer.interval_s, 60);
    assert!(server.join().unwrap()[1].starts_with("GET /2/announce"));
}

#[test]
fn failures_say_what_happened() {
    assert_eq!(
        message("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        "the tracker answered 404 Not Found"
    );
    assert_eq!(message("220 smtp ready\r\n\r\n"), "the answer is not HTTP");
    let (addr, server) = serve(vec![ok("d14:failure reason11:go away nowe")]);
    let failure = ask(&format!("http://{addr}/announce")).unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.refused),
        ("go away now", true)
    );
    server.join().unwrap();
    let teapot = "HTTP/1.1 400 Bad\r\n\r\nd14:failure reason7:no porte";
    assert_eq!(message(teapot), "no port");
}

/// Linux takes "no address" for its own.
#[test]
fn no_address_at_all_is_this_machine() {
    for host in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]"] {
        let why = ask(&format!("http://{host}:1/admin?delete=all")).unwrap_err();
        assert_eq!(
            why.message, "the path does not end in /announce, and the address is this machine's",
            "{host}"
        );
    }
}

#[test]
fn nobody_there_is_connection_refused() {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let why = |url: &str| ask(url).unwrap_err().message;
    assert_eq!(
        why(&format!("http://{addr}/announce")),
        "connection refused"
    );
    assert_eq!(
        why(&format!("http://{addr}/admin?delete=all")),
        "the path does not end in /announce, and the address is this machine's"
    );
}

#[test]
fn the_open_internet_cannot_send_us_into_the_local_network() {
    let url = Url::parse("http://t/announce").unwrap();
    let local = vec!["192.168.0.1:80".parse().unwrap()];
    let both = vec![
        "192.168.0.1:80".parse().unwrap(),
        "1.1.1.1:80".parse().unwrap(),
    ];
    let tls = Tls::default();
    let allowed = |addrs, outside| allowed(&url, addrs, outside, &rules(&tls));
    assert!(allowed(local.clone(), false).is_ok());
    assert!(matches!(
        allowed(local, true),
        Err(HttpError::LocalRedirect)
    ));
    assert_eq!(allowed(both, true).unwrap().len(), 1);
}

#[test]
fn a_family_is_kept_to_over_redirects() {
    let (addr, server) = serve(vec![Answer::redirect("http://[::1]:1/announce")]);
    let failure = ask(&format!("http://{addr}/announce")).unwrap_err();
    assert_eq!(
        failure.message,
        "::1 has no address of a family that is used"
    );
    server.join().unwrap();
}
