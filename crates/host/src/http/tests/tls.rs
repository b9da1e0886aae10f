//! Servers with right and wrong certificates.

use std::sync::Arc;

use rustls::ServerConfig;

use super::super::fixture::{Authority, serve_tls};
use super::*;

const NOW: (i32, i32) = (2020, 4000);

fn get_over_tls(
    authority: &Authority,
    config: Arc<ServerConfig>,
    host: &str,
    answers: Vec<Answer>,
) -> Result<Response, HttpError> {
    let (addr, server) = serve_tls(config, answers);
    let tls = Tls::with_roots(authority.roots());
    let url = Url::parse(&format!("https://{host}:{}/announce", addr.port())).unwrap();
    let result = get(&url, &rules(&tls));
    drop(server);
    result
}

fn why(name: &str, years: (i32, i32), host: &str) -> String {
    let authority = Authority::new("ours");
    let config = authority.server(name, years);
    let answers = vec![Answer::ok("", b"secret")];
    get_over_tls(&authority, config, host, answers)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_right_certificate_opens_the_way_by_name_and_by_address() {
    let authority = Authority::new("ours");
    for host in ["localhost", "127.0.0.1"] {
        for headers in ["Content-Length: 5\r\n", ""] {
            let answers = vec![Answer::ok(headers, b"hello")];
            let config = authority.server(host, NOW);
            let response = get_over_tls(&authority, config, host, answers).unwrap();
            assert_eq!(response.body, b"hello");
        }
    }
}

#[test]
fn a_wrong_certificate_is_refused_and_the_reason_is_told() {
    assert_eq!(
        why("other.example", NOW, "localhost"),
        "the certificate is for another name"
    );
    assert_eq!(
        why("localhost", (2000, 2001), "localhost"),
        "the certificate has expired"
    );
    assert_eq!(
        why("localhost", (3000, 3001), "localhost"),
        "the certificate is not valid yet; is the clock right?"
    );
    let (ours, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let config = stranger.server("localhost", NOW);
    let answers = vec![Answer::ok("", b"secret")];
    let error = get_over_tls(&ours, config, "localhost", answers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate is signed by nobody whom this system trusts"
    );
}

#[test]
fn the_path_of_a_request_is_not_said_before_the_certificate_was_checked() {
    let (ours, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let config = stranger.server("localhost", NOW);
    let (addr, server) = serve_tls(config, vec![Answer::ok("", b"")]);
    let tls = Tls::with_roots(ours.roots());
    let url = format!("https://localhost:{}/passkey/announce", addr.port());
    assert!(ask_with(&url, &tls).is_err());
    assert_eq!(server.join().unwrap(), [""]);
}

#[test]
fn a_server_without_tls_is_told_so() {
    let (addr, server) = serve(vec![Answer::text("HTTP/1.1 400 Bad Request\r\n\r\n")]);
    let tls = Tls::with_roots(Authority::new("ours").roots());
    let failure = ask_with(&format!("https://{addr}/announce"), &tls);
    assert_eq!(
        failure.unwrap_err().message,
        "TLS: the server does not speak it"
    );
    drop(server);
}

#[test]
fn no_roots_is_a_reason_of_its_own() {
    let failure = TlsError::NoRoots;
    assert!(failure.to_string().contains("SSL_CERT_FILE"));
}

#[test]
fn https_never_becomes_http_by_a_redirect() {
    let authority = Authority::new("ours");
    let config = authority.server("localhost", NOW);
    let answers = vec![Answer::redirect("http://127.0.0.1:1/announce")];
    let error = get_over_tls(&authority, config, "localhost", answers).unwrap_err();
    assert_eq!(error.to_string(), "a redirect from https to http");
}

#[test]
fn http_may_become_https() {
    let authority = Authority::new("ours");
    let body = b"d8:intervali60e5:peers0:e";
    let (safe, _server) = serve_tls(
        authority.server("localhost", NOW),
        vec![Answer::ok("", body)],
    );
    let place = format!("https://localhost:{}/announce", safe.port());
    let (addr, _server) = serve(vec![Answer::redirect(&place)]);
    let tls = Tls::with_roots(authority.roots());
    let answer = ask_with(&format!("http://{addr}/announce"), &tls);
    assert_eq!(answer.unwrap().interval_s, 60);
}

#[test]
fn a_handshake_byte_by_byte_does_not_hold_us_for_ever() {
    // A record of 16,000 bytes is announced.
    let (addr, server) = serve(vec![Answer::Drip(vec![0x16, 3, 3, 0x3e, 0x80])]);
    let tls = Tls::with_roots(Authority::new("ours").roots());
    let rules = Rules {
        timeout: Duration::from_secs(1),
        ..rules(&tls)
    };
    let url = Url::parse(&format!("https://{addr}/")).unwrap();
    let error = get(&url, &rules).unwrap_err();
    assert_eq!(error.to_string(), "no answer within 1 s");
    drop(server);
}
