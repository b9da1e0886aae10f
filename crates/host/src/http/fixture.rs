//! A web server for tests: it says what it is told to, right or wrong.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What one connection is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// The bytes, then more of the same for as long as somebody listens.
    Endless(Vec<u8>, &'static [u8]),
    /// The bytes, then one more now and then for as long as somebody listens.
    Drip(Vec<u8>),
}

impl Answer {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// 200 with these headers (each with its line end) and this body.
    pub(crate) fn ok(headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        Self::Bytes([head.as_bytes(), body].concat())
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::text(&format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n"))
    }

    fn say(&self, mut stream: impl Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => stream.write_all(bytes),
            Self::Endless(bytes, more) => {
                stream.write_all(bytes)?;
                let more = more.repeat(16 * 1024);
                loop {
                    stream.write_all(&more)?;
                }
            }
            Self::Drip(bytes) => {
                stream.write_all(bytes)?;
                loop {
                    thread::sleep(Duration::from_millis(50));
                    stream.write_all(b"1")?;
                }
            }
        }
    }
}

pub(crate) type Server = JoinHandle<Vec<String>>;

/// Gives one answer a connection, in order, and returns what was asked.
pub(crate) fn serve(answers: Vec<Answer>) -> (SocketAddr, Server) {
    serve_with(None, answers)
}

/// The same over TLS.
pub(crate) fn serve_tls(config: Arc<ServerConfig>, answers: Vec<Answer>) -> (SocketAddr, Server) {
    serve_with(Some(config), answers)
}

fn serve_with(tls: Option<Arc<ServerConfig>>, answers: Vec<Answer>) -> (SocketAddr, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = if let Some(config) = &tls {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                let request = read_request(&mut stream);
                // Who has heard enough hangs up.
                let _ = answer.say(&mut stream);
                stream.conn.send_close_notify();
                let _ = stream.flush();
                request
            } else {
                let request = read_request(&mut stream);
                let _ = answer.say(&mut stream);
                request
            };
            asked.push(request);
        }
        asked
    });
    (addr, server)
}

/// Up to its end, or as far as it came, or up to what shows that it is no HTTP.
fn read_request(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && request.first().is_none_or(|&byte| byte == b'G') {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            break;
        }
        request.extend(byte);
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// A certificate authority of a test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        let certificate = params.self_signed(&key).unwrap();
        roots.add(certificate.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        self.roots.clone()
    }

    /// What a server of this name shows, valid through these years.
    pub(crate) fn server(&self, name: &str, years: (i32, i32)) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}
