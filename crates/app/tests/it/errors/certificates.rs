//! Servers that speak https, with certificates of an authority that the test makes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Case, check_alone};
use crate::fixture::{Done, PATIENCE, Words, wait};

/// An authority, whose certificate is at `path` in PEM.
fn authority(name: &str, path: &Path) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    std::fs::write(path, pem(&certificate)).unwrap();
    Issuer::new(params, key)
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in der.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=part.len()].copy_from_slice(part);
        let bits = u32::from_be_bytes(bytes);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > part.len() { '=' } else { digit.into() });
        }
    }
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// Gives everybody `body`, and shows a certificate for `localhost`.
fn serve(issuer: &Issuer<'static, KeyPair>, body: Vec<u8>) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                request.extend(byte);
            }
            // Who does not trust us hangs up.
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    format!("https://localhost:{port}/x.torrent")
}

fn show(case: &Case, url: &str, roots: &Path) -> Done {
    let words: Words<'_> = &[&url];
    let mut show = case.sandbox.dunlin("show", words);
    show.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    wait(show.spawn().unwrap(), PATIENCE)
}

#[test]
fn url_has_a_certificate_of_a_stranger() {
    let case = Case::new();
    let ours = case.sandbox.path("ours.pem");
    let theirs = case.sandbox.path("theirs.pem");
    let issuer = authority("ours", &ours);
    authority("theirs", &theirs);
    let url = serve(&issuer, std::fs::read(&case.content.torrent).unwrap());
    check_alone(
        "url_has_a_certificate_of_a_stranger",
        show(&case, &url, &theirs),
    );
    let done = show(&case, &url, &ours).expect(0);
    assert!(done.stdout.contains("thing"), "{}", done.stdout);
}
