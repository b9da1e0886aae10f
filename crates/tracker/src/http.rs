//! From the bytes of a request to the bytes of a response.
//!
//! Only what a tracker needs of HTTP: `GET` and `HEAD` without a body, 1.0 and 1.1, connections
//! that stay open. What is wrong with an announce is told in its own language, a bencoded failure with
//! status 200; what is wrong with the request itself, by status and closing.

use std::sync::Arc;

use dunlin_proto::time::Instant;
use dunlin_proto::tracker::http::server::{
    encode_announce, encode_failure, encode_scrape, parse_announce, parse_scrape,
};

use crate::service::{Service, Way};
use crate::table::Asker;

/// What goes back: the head, and behind it the body if it is an announce's or a scrape's; a file
/// is not copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Response {
    pub bytes: Vec<u8>,
    pub file: Option<Arc<[u8]>>,
}

impl Response {
    /// What is left when the first `sent` bytes are gone, or a part of it; `None` if nothing is.
    pub fn rest(&self, sent: usize) -> Option<&[u8]> {
        let rest = match sent.checked_sub(self.bytes.len()) {
            None => self.bytes.get(sent..),
            Some(sent) => self.file.as_deref()?.get(sent..),
        };
        rest.filter(|rest| !rest.is_empty())
    }
}

/// How far the bytes of a connection led.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The request is not complete.
    NeedsMore,
    /// The first `used` bytes were a request, and the response is written.
    Answered { used: usize, keep_open: bool },
}

/// Answers the request at the start of `bytes`.
pub fn respond(
    service: &mut Service,
    now: Instant,
    way: Way,
    bytes: &[u8],
    out: &mut Response,
) -> Progress {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) if used <= REQUEST_LEN_MAX => used,
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_LEN_MAX => {
            return Progress::NeedsMore;
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return refuse(bytes, "431 Request Header Fields Too Large", out);
        }
        Err(_) => return refuse(bytes, "400 Bad Request", out),
    };
    if has_body(&request) {
        return refuse(bytes, "400 Bad Request", out);
    }
    let wants_body = match request.method {
        Some("GET") => true,
        Some("HEAD") => false,
        Some(_) | None => return refuse(bytes, "405 Method Not Allowed", out),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let keep_open = keeps_open(&request);
    let body = match path_only(path) {
        // An announce has consequences: what has none is no way to make it.
        "/announce" | "/scrape" if !wants_body => {
            return refuse(bytes, "405 Method Not Allowed", out);
        }
        "/announce" => announce(service, now, way, query),
        "/scrape" => match parse_scrape(query) {
            Ok(info_hashes) => encode_scrape(&service.table.scrape(&info_hashes)),
            Err(error) => encode_failure(&error.to_string()),
        },
        path => {
            let Some(file) = service.files.find(path) else {
                return refuse(bytes, "404 Not Found", out);
            };
            out.bytes = head("200 OK", TORRENT, file.len(), keep_open);
            out.file = wants_body.then_some(file);
            return Progress::Answered { used, keep_open };
        }
    };
    out.bytes = head("200 OK", TEXT, body.len(), keep_open);
    out.bytes.extend_from_slice(&body);
    Progress::Answered { used, keep_open }
}

fn announce(service: &mut Service, now: Instant, way: Way, query: &str) -> Vec<u8> {
    let (query, form) = match parse_announce(query) {
        Ok(query) => query,
        Err(error) => return encode_failure(&error.to_string()),
    };
    let asker = Asker {
        ip: way.from,
        reached_at: way.reached_at,
        only: None,
    };
    match service
        .table
        .announce(now, &mut service.rng, &query, &asker)
    {
        Ok(reply) => encode_announce(&reply, form),
        Err(error) => encode_failure(&error.to_string()),
    }
}

/// An answer after which the connection closes: where the next request begins is unsure.
fn refuse(bytes: &[u8], status: &str, out: &mut Response) -> Progress {
    let body = format!("{status}\n");
    out.bytes = head(status, TEXT, body.len(), false);
    if !bytes.starts_with(b"HEAD ") {
        out.bytes.extend_from_slice(body.as_bytes());
    }
    Progress::Answered {
        used: bytes.len(),
        keep_open: false,
    }
}

fn head(status: &str, content_type: &str, length: usize, keep_open: bool) -> Vec<u8> {
    let connection = if keep_open { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    );
    head.into_bytes()
}

fn has_body(request: &httparse::Request<'_, '_>) -> bool {
    header(request, "transfer-encoding").is_some()
        || header(request, "content-length").is_some_and(|length| length.trim() != "0")
}

fn keeps_open(request: &httparse::Request<'_, '_>) -> bool {
    let wish = header(request, "connection").unwrap_or_default();
    let wishes = |token: &str| {
        let mut tokens = wish.split(',');
        tokens.any(|other| other.trim().eq_ignore_ascii_case(token))
    };
    if request.version == Some(1) {
        !wishes("close")
    } else {
        wishes("keep-alive")
    }
}

fn header<'b>(request: &httparse::Request<'_, 'b>, name: &str) -> Option<&'b str> {
    let mut headers = request.headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
    // One that is no text must not pass for one that is missing.
    Some(std::str::from_utf8(found.value).unwrap_or("?"))
}

/// Proxies send the whole URL (RFC 9112, 3.2.2).
fn path_only(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("http://") else {
        return path;
    };
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// Bytes of a request: an announce takes about 400, a scrape of 100 torrents 7,300.
pub const REQUEST_LEN_MAX: usize = 8 * 1024;

const HEADERS_MAX: usize = 64;

/// Trackers' answers are no text, but browsers show them.
const TEXT: &str = "text/plain";
const TORRENT: &str = "application/x-bittorrent";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::files::Files;
    use dunlin_proto::tracker::http::client;
    use proptest::prelude::*;

    const ANNOUNCE: &str = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=pppppppppppppppppppp\
        &port=6881&left=5";

    fn respond_to(request: &[u8]) -> (Progress, Response) {
        let files = Files::default();
        files.put("ü 1.torrent", b"d4:infodee".to_vec());
        let mut service = Service::new(Limits::default(), files, 1);
        let way = Way {
            from: [10, 0, 0, 1].into(),
            reached_at: None,
        };
        let mut out = Response::default();
        let progress = respond(&mut service, Instant::START, way, request, &mut out);
        (progress, out)
    }

    fn answer(request: &[u8]) -> (Progress, String) {
        let (progress, response) = respond_to(request);
        (progress, response.bytes.escape_ascii().to_string())
    }

    fn body(response: &str) -> &str {
        response.split_once(r"\r\n\r\n").unwrap().1
    }

    #[test]
    fn an_announce_is_answered_and_the_connection_stays() {
        let request = format!("GET {ANNOUNCE} HTTP/1.1\r\nHost: t\r\n\r\nGET /next");
        let (progress, response) = answer(request.as_bytes());
        assert_eq!(
            progress,
            Progress::Answered {
                used: request.len() - 9,
                keep_open: true
            }
        );
        assert!(response.starts_with(r"HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(body(&response).starts_with("d8:completei0e"), "{response}");
        assert!(response.contains("10:incompletei1e"));
        assert!(response.contains("8:intervali1800e"));
    }

    #[test]
    fn the_length_of_the_body_is_right() {
        let request = format!("GET {ANNOUNCE} HTTP/1.0\r\n\r\n");
        let out = respond_to(request.as_bytes()).1.bytes;
        let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&out[..end]).unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", out.len() - end)));
        assert!(client::parse_announce(&out[end..]).is_ok());
    }

    #[test]
    fn a_file_is_served_from_memory() {
        for path in [
            "/%C3%BC%201.torrent",
            "/ü%201.torrent",
            "http://t:6969/%c3%bc%201.torrent",
        ] {
            for method in ["GET", "HEAD"] {
                let request = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n\r\n");
                let (progress, response) = respond_to(request.as_bytes());
                let (used, keep_open) = (request.len(), true);
                assert_eq!(
                    progress,
                    Progress::Answered { used, keep_open },
                    "{request}"
                );
                assert_eq!(
                    response.bytes.escape_ascii().to_string(),
                    "HTTP/1.1 200 OK\\r\\nContent-Type: application/x-bittorrent\\r\\n\
                     Content-Length: 10\\r\\nConnection: keep-alive\\r\\n\\r\\n"
                );
                let file = (method == "GET").then_some(b"d4:infodee".as_slice());
                assert_eq!(response.file.as_deref(), file);
            }
        }
    }

    /// There is no way from a path to a file system, so none of these can be found.
    #[test]
    fn nothing_else_is_served() {
        for path in [
            "/",
            "/1.torrent",
            "/../ü%201.torrent",
            "/..%2f..%2fetc/passwd",
            "//etc/passwd",
            "/etc/passwd",
            "/%C3%BC%201.torrent/",
            "/%C3%BC%201.torrent%00",
            "/%ff",
        ] {
            let (_, response) = answer(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
            assert!(response.starts_with("HTTP/1.1 404"), "{path}: {response}");
            assert_eq!(body(&response), r"404 Not Found\n");
        }
        let (_, response) = answer(b"HEAD /x HTTP/1.1\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 404"));
        assert_eq!(body(&response), "");
    }

    #[test]
    fn connections_stay_open_as_the_version_and_the_header_say() {
        for (version, header, keep_open) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "connection: Upgrade, CLOSE\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let request = format!("GET {ANNOUNCE} HTTP/{version}\r\n{header}\r\n");
            let (progress, response) = answer(request.as_bytes());
            let used = request.len();
            assert_eq!(progress, Progress::Answered { used, keep_open });
            let told = if keep_open { "keep-alive" } else { "close" };
            assert!(response.contains(&format!("Connection: {told}")));
        }
    }

    #[test]
    fn a_bad_announce_is_told_in_bencode() {
        let (_, response) = answer(b"GET /announce?port=1&info_hash=%zz HTTP/1.1\r\n\r\n");
        assert_eq!(
            body(&response),
            "d14:failure reason22:info_hash is malformede"
        );
        let (_, response) = answer(b"GET /scrape HTTP/1.1\r\n\r\n");
        assert_eq!(
            body(&response),
            "d14:failure reason20:info_hash is missinge"
        );
    }

    #[test]
    fn a_scrape_of_unknown_torrents_is_empty() {
        let request = b"GET http://t:1/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n";
        assert_eq!(body(&answer(request).1), "d5:filesdee");
    }

    #[test]
    fn a_wrong_request_is_refused_and_the_connection_closed() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(REQUEST_LEN_MAX));
        for (request, status) in [
            ("\x16\x03\x01\x02", "400"),
            ("GET /announce\r\n\r\n", "400"),
            (
                "GET /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
                "400",
            ),
            (
                "GET /announce HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "400",
            ),
            ("POST /announce HTTP/1.1\r\n\r\n", "405"),
            ("HEAD /announce HTTP/1.1\r\n\r\n", "405"),
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /announcer HTTP/1.1\r\n\r\n", "404"),
            (&many, "431"),
            (&long, "431"),
            (&long[..REQUEST_LEN_MAX], "431"),
        ] {
            let (progress, response) = answer(request.as_bytes());
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status}")),
                "{response}"
            );
            let used = request.len();
            let keep_open = false;
            assert_eq!(progress, Progress::Answered { used, keep_open });
        }
    }

    #[test]
    fn an_unfinished_request_waits() {
        let request = format!("GET {ANNOUNCE} HTTP/1.1\r\nHost: t\r\n\r\n");
        for len in 0..request.len() {
            let (progress, response) = answer(&request.as_bytes()[..len]);
            assert_eq!((progress, response.as_str()), (Progress::NeedsMore, ""));
        }
    }

    proptest! {
        #[test]
        fn random_requests_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            answer(&bytes);
            let target = [b"GET /announce?", bytes.as_slice(), b" HTTP/1.1\r\n\r\n"].concat();
            answer(&target);
            let header = [b"GET /scrape HTTP/1.1\r\n", bytes.as_slice(), b"\r\n\r\n"].concat();
            answer(&header);
        }
    }
}
