//! HTTP/1.1 GET as trackers and .torrent files need it, blocking, with limits on everything.
//! Helper threads call it.
//!
//! Addresses are judged after they are resolved: an answer from the open internet may not send us
//! into the local network, and what a torrent file names is asked on loopback only for a tracker's
//! path.

mod announce;
mod response;
mod stream;
mod tls;
mod url;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_proto::tracker::udp::Family;

use crate::dns::{self, DnsError};
use crate::net::Paths;
pub(crate) use announce::{announce, host_of};
use response::ResponseReader;
pub(crate) use response::{Response, ResponseError};
use stream::{Deadline, STEP_TIMEOUT, Stream};
pub(crate) use tls::{Tls, TlsError};
pub(crate) use url::{Scheme, Url};
pub use url::{UrlError, check_tracker, shown};

/// What one GET may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Bytes of the answer.
    pub(crate) body_len_max: usize,
    /// For everything but looking up names.
    pub(crate) timeout: Duration,
    pub(crate) loopback: Loopback,
    /// Addresses of this family alone.
    pub(crate) family: Option<Family>,
    pub(crate) paths: &'a Paths,
    pub(crate) tls: &'a Tls,
}

/// What this machine may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loopback {
    /// Strangers name the URL: other services of this machine are none of their business.
    AnnouncePath,
    /// The user named it.
    Anything,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error(transparent)]
    Tls(TlsError),
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error("{0} has no address of a family that is used")]
    NoAddress(String),
    #[error("connection refused")]
    Refused,
    #[error("no answer within {0} s")]
    TimedOut(u64),
    #[error("the connection was reset")]
    Reset,
    #[error("{0}")]
    Io(String),
    #[error("more than {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("a redirect that leads nowhere")]
    NoLocation,
    #[error("a redirect from https to {0}")]
    Downgrade(&'static str),
    #[error("a redirect into the local network")]
    LocalRedirect,
    #[error("the path does not end in /announce, and the address is this machine's")]
    LoopbackPath,
}

/// GETs `url` and follows redirects. The deadline covers all of them.
pub(crate) fn get(url: &Url, rules: &Rules<'_>) -> Result<Response, HttpError> {
    get_at(url, &dns::resolve(&url.host, url.port)?, rules)
}

/// The same for a host whose addresses are known.
pub(crate) fn get_at(
    url: &Url,
    addrs: &[SocketAddr],
    rules: &Rules<'_>,
) -> Result<Response, HttpError> {
    let deadline = Deadline::after(rules.timeout);
    let (mut url, mut addrs) = (url.clone(), addrs.to_vec());
    let mut came_from_outside = false;
    for _ in 0..=REDIRECTS_MAX {
        addrs = allowed(&url, addrs, came_from_outside, rules)?;
        let response = ask(&url, &addrs, rules, deadline)?;
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        came_from_outside |= addrs.iter().any(|addr| !dns::is_local(addr.ip()));
        let location = response.location.ok_or(HttpError::NoLocation)?;
        let next = url.join(&location)?;
        if url.scheme == Scheme::Https && next.scheme != Scheme::Https {
            return Err(HttpError::Downgrade(next.scheme.name()));
        }
        url = next;
        addrs = dns::resolve(&url.host, url.port)?;
    }
    Err(HttpError::Redirects)
}

/// One question, one answer.
fn ask(
    url: &Url,
    addrs: &[SocketAddr],
    rules: &Rules<'_>,
    deadline: Deadline,
) -> Result<Response, HttpError> {
    let io_error = |error| io_error(&error, deadline);
    let connect = || Stream::connect(addrs, rules.paths, deadline).map_err(io_error);
    match url.scheme {
        Scheme::Http => exchange(url, connect()?, rules.body_len_max, &io_error),
        Scheme::Https => {
            let stream = rules.tls.connect(&url.host, connect()?).map_err(io_error)?;
            exchange(url, stream, rules.body_len_max, &io_error)
        }
        Scheme::Udp => Err(UrlError::Scheme.into()),
    }
}

/// The addresses that we may connect to for this URL.
fn allowed(
    url: &Url,
    mut addrs: Vec<SocketAddr>,
    came_from_outside: bool,
    rules: &Rules<'_>,
) -> Result<Vec<SocketAddr>, HttpError> {
    addrs.retain(|addr| {
        let is_wanted = |family| family == Family::of(addr.ip());
        rules.paths.is_open(addr.ip()) && rules.family.is_none_or(is_wanted)
    });
    if addrs.is_empty() {
        return Err(HttpError::NoAddress(url.host.clone()));
    }
    if came_from_outside {
        addrs.retain(|addr| !dns::is_local(addr.ip()));
        if addrs.is_empty() {
            return Err(HttpError::LocalRedirect);
        }
    }
    if rules.loopback == Loopback::AnnouncePath
        && addrs.iter().any(|addr| dns::is_this_machine(addr.ip()))
        && !is_announce_path(url.path())
    {
        return Err(HttpError::LoopbackPath);
    }
    Ok(addrs)
}

/// `/announce`, `/PASSKEY/announce`, `/announce.php`
fn is_announce_path(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last == "announce" || last.starts_with("announce.")
}

fn exchange(
    url: &Url,
    mut stream: impl Read + Write,
    body_len_max: usize,
    io_error: &dyn Fn(io::Error) -> HttpError,
) -> Result<Response, HttpError> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        url.target,
        url.authority(),
    );
    stream.write_all(request.as_bytes()).map_err(io_error)?;
    let mut reader = ResponseReader::new(body_len_max);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // TLS ended without saying so. Whether the answer is whole is told by its length, or
            // by its bencoding.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(io_error(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if count == 0 || reader.push(bytes)? {
            return Ok(reader.finish()?);
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
fn io_error(error: &io::Error, deadline: Deadline) -> HttpError {
    if let Some(error) = TlsError::of(error) {
        return HttpError::Tls(error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => HttpError::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let waited = if deadline.step().is_none() {
                deadline.total()
            } else {
                STEP_TIMEOUT
            };
            HttpError::TimedOut(waited.as_secs())
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe => HttpError::Reset,
        _ => HttpError::Io(crate::words(error)),
    }
}

const USER_AGENT: &str = concat!("dunlin/", env!("CARGO_PKG_VERSION"));
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
