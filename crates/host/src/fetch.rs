//! Brings a .torrent file from a web server: for a SOURCE that is a URL.
//!
//! [`fetch`] blocks its thread, but never longer than [`FetchOptions::timeout`] plus the time to
//! look up a name, and never takes more than [`FetchOptions::bytes_max`].

use std::time::Duration;

use crate::Listen;
use crate::http::{self, HttpError, Loopback, Response, ResponseError, Rules, Tls, Url};
use crate::net::{Network, Paths};

#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The longest answer that is taken, in bytes.
    pub bytes_max: usize,
    /// For connecting and everything after it, redirects included.
    pub timeout: Duration,
    /// What of this machine's network is used.
    pub network: Network,
}

impl Default for FetchOptions {
    /// 10 MB, as libtorrent takes at most, within a minute.
    fn default() -> Self {
        Self {
            bytes_max: 10_000_000,
            timeout: http::TOTAL_TIMEOUT,
            network: Network::default(),
        }
    }
}

/// Why there is no file. The text says what happened, not to which URL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    pub kind: FetchErrorKind,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchErrorKind {
    /// The text is no URL that we could fetch.
    Url,
    /// No such host, or the server has no such file (404, 410).
    NotFound,
    /// The part of the network that is to be used does not exist.
    Network,
    /// The server wants to know who we are, or does not like us (401, 403).
    Refused,
    TooLarge,
    /// No answer in time.
    TimedOut,
    /// No safe connection: the certificate is not right, there is nothing to check it with, or
    /// https was to become http.
    Tls,
    /// Nobody listens there, or the connection broke.
    Unreachable,
    /// An answer that makes no sense, a bad redirect, an error of the server.
    Other,
}

/// GETs `url`, following redirects.
pub fn fetch(url: &str, options: &FetchOptions) -> Result<Vec<u8>, FetchError> {
    fetch_with(url, options, &Tls::default())
}

fn fetch_with(url: &str, options: &FetchOptions, tls: &Tls) -> Result<Vec<u8>, FetchError> {
    let paths = Paths::new(&options.network, Listen::Auto(0)).map_err(|error| FetchError {
        kind: FetchErrorKind::Network,
        message: error.to_string(),
    })?;
    let rules = Rules {
        body_len_max: options.bytes_max,
        timeout: options.timeout,
        loopback: Loopback::Anything,
        family: None,
        paths: &paths,
        tls,
    };
    let response = Url::parse(url)
        .map_err(HttpError::from)
        .and_then(|url| http::get(&url, &rules))
        .map_err(|error| FetchError {
            kind: kind(&error),
            message: error.to_string(),
        })?;
    if response.status == 200 {
        return Ok(response.body);
    }
    Err(refusal(&response))
}

fn kind(error: &HttpError) -> FetchErrorKind {
    match error {
        HttpError::Url(_) => FetchErrorKind::Url,
        HttpError::Dns(_) => FetchErrorKind::NotFound,
        HttpError::Response(ResponseError::BodyTooLong(_)) => FetchErrorKind::TooLarge,
        HttpError::Tls(_) | HttpError::Downgrade(_) => FetchErrorKind::Tls,
        HttpError::TimedOut(_) => FetchErrorKind::TimedOut,
        HttpError::Refused | HttpError::Reset | HttpError::Io(_) | HttpError::NoAddress(_) => {
            FetchErrorKind::Unreachable
        }
        HttpError::Response(_)
        | HttpError::Redirects
        | HttpError::NoLocation
        | HttpError::LocalRedirect
        | HttpError::LoopbackPath => FetchErrorKind::Other,
    }
}

fn refusal(response: &Response) -> FetchError {
    let kind = match response.status {
        404 | 410 => FetchErrorKind::NotFound,
        401 | 403 => FetchErrorKind::Refused,
        _ => FetchErrorKind::Other,
    };
    FetchError {
        kind,
        message: format!("the server answered {}", response.status_line()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::http::fixture::{Answer, serve};

    fn answer(text: &str) -> Result<Vec<u8>, FetchError> {
        let (addr, _server) = serve(vec![Answer::text(text)]);
        fetch(
            &format!("http://{addr}/a.torrent"),
            &FetchOptions::default(),
        )
    }

    fn kind_of(text: &str) -> FetchErrorKind {
        answer(text).unwrap_err().kind
    }

    #[test]
    fn a_file_comes_as_it_is_from_any_path_of_any_machine() {
        let file = answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nd1:xmore");
        assert_eq!(file.unwrap(), b"d1:x");
    }

    #[test]
    fn the_kinds_of_failure_are_told_apart() {
        let none = "Content-Length: 0\r\n\r\n";
        let status = |status: &str| kind_of(&format!("HTTP/1.1 {status}\r\n{none}"));
        assert_eq!(status("404 Not Found"), FetchErrorKind::NotFound);
        assert_eq!(status("410 Gone"), FetchErrorKind::NotFound);
        assert_eq!(status("401 Unauthorized"), FetchErrorKind::Refused);
        assert_eq!(status("403 Forbidden"), FetchErrorKind::Refused);
        assert_eq!(status("500 Oops"), FetchErrorKind::Other);
        assert_eq!(status("204 No Content"), FetchErrorKind::Other);
        let large = "HTTP/1.1 200 OK\r\nContent-Length: 10000001\r\n\r\n";
        assert_eq!(kind_of(large), FetchErrorKind::TooLarge);
        assert_eq!(kind_of("SSH-2.0\r\n\r\n"), FetchErrorKind::Other);
        let why = |url: &str| fetch(url, &FetchOptions::default()).unwrap_err().kind;
        assert_eq!(why("file:///etc/passwd"), FetchErrorKind::Url);
        assert_eq!(why("udp://127.0.0.1:1/x"), FetchErrorKind::Url);
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = nobody.local_addr().unwrap();
        drop(nobody);
        let nobody = why(&format!("http://{addr}/x"));
        assert_eq!(nobody, FetchErrorKind::Unreachable);
    }

    #[test]
    fn a_message_names_what_the_server_said() {
        let error = answer("HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err();
        assert_eq!(error.to_string(), "the server answered 404 Not Found");
    }

    #[test]
    fn a_silent_server_does_not_hold_us_for_ever() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", silent.local_addr().unwrap());
        let options = FetchOptions {
            timeout: Duration::from_secs(1),
            ..FetchOptions::default()
        };
        let error = fetch(&url, &options).unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no answer within 1 s");
    }
}
