//! HTTP/1.1 GET as trackers need it, blocking, with limits on everything. Helper threads call it.
//!
//! Addresses are judged after they are resolved: an answer from the open internet may not send us
//! into the local network, and on loopback only a tracker's path is asked for.

mod response;
mod url;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dunlin_engine::event::TrackerFailure;
use dunlin_proto::tracker::http::client::{AnnounceError, announce_target, parse_announce};
use dunlin_proto::tracker::{AnnounceRequest, AnnounceResponse};

use crate::{dns, tcp};
use response::{Response, ResponseError, ResponseReader};
pub(crate) use url::Url;
use url::UrlError;

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error("host not found: {0}")]
    HostNotFound(String),
    #[error("connection refused")]
    Refused,
    #[error("no answer in {0} s")]
    TimedOut(u64),
    #[error("the connection was reset")]
    Reset,
    #[error("{0}")]
    Io(String),
    #[error("more than {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("a redirect that leads nowhere")]
    NoLocation,
    #[error("a redirect into the local network")]
    LocalRedirect,
    #[error("the path has no /announce, and the address is this machine's")]
    LoopbackPath,
    #[error("the tracker answered {0}")]
    Status(String),
}

/// Asks the tracker, coming from the address `from` if there is one, and waits for at most [`TOTAL_TIMEOUT`] plus the time to look up its name.
pub(crate) fn announce(
    url: &str,
    request: &AnnounceRequest,
    from: Option<IpAddr>,
) -> Result<AnnounceResponse, TrackerFailure> {
    let failed = |error: HttpError| TrackerFailure {
        message: error.to_string(),
        refused: false,
    };
    let mut url = Url::parse(url).map_err(|error| failed(error.into()))?;
    url.target = announce_target(&url.target, request);
    read_announce(&get(&url, from).map_err(failed)?)
}

/// The host whose share of helper threads an announce to `url` uses.
pub(crate) fn host_of(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.host)
}

/// Some trackers explain themselves in the body of an error.
fn read_announce(response: &Response) -> Result<AnnounceResponse, TrackerFailure> {
    let is_ok = response.status == 200;
    match parse_announce(&response.body) {
        Ok(answer) if is_ok => Ok(answer),
        Err(AnnounceError::Failure(message)) => Err(TrackerFailure {
            message,
            refused: true,
        }),
        Err(error) if is_ok => Err(TrackerFailure {
            message: error.to_string(),
            refused: false,
        }),
        Ok(_) | Err(_) => {
            let status = format!("{} {}", response.status, response.reason);
            Err(TrackerFailure {
                message: HttpError::Status(status.trim().to_owned()).to_string(),
                refused: false,
            })
        }
    }
}

/// GETs `url` and follows redirects. The deadline covers all of them.
fn get(url: &Url, from: Option<IpAddr>) -> Result<Response, HttpError> {
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let mut url = url.clone();
    let mut came_from_outside = false;
    for _ in 0..=REDIRECTS_MAX {
        let addrs = dns::resolve(&url.host, url.port)
            .ok()
            .filter(|addrs| !addrs.is_empty())
            .ok_or_else(|| HttpError::HostNotFound(url.host.clone()))?;
        let addrs = allowed(&url, addrs, came_from_outside)?;
        let response = exchange(&url, connect(&addrs, from, deadline)?, deadline)?;
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        came_from_outside |= addrs.iter().any(|addr| !dns::is_local(addr.ip()));
        let location = response.location.ok_or(HttpError::NoLocation)?;
        url = url.join(&location)?;
    }
    Err(HttpError::Redirects)
}

/// The addresses that we may connect to for this URL.
fn allowed(
    url: &Url,
    mut addrs: Vec<SocketAddr>,
    came_from_outside: bool,
) -> Result<Vec<SocketAddr>, HttpError> {
    if came_from_outside {
        addrs.retain(|addr| !dns::is_local(addr.ip()));
        if addrs.is_empty() {
            return Err(HttpError::LocalRedirect);
        }
    }
    if addrs.iter().any(|addr| addr.ip().is_loopback()) && !url.path().contains("/announce") {
        return Err(HttpError::LoopbackPath);
    }
    Ok(addrs)
}

fn exchange(url: &Url, mut stream: TcpStream, deadline: Instant) -> Result<Response, HttpError> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        url.target,
        url.authority(),
    );
    stream
        .set_write_timeout(Some(left(deadline)?))
        .map_err(io_error)?;
    stream.write_all(request.as_bytes()).map_err(io_error)?;
    let mut reader = ResponseReader::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        stream
            .set_read_timeout(Some(left(deadline)?))
            .map_err(io_error)?;
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if count == 0 || reader.push(bytes)? {
            return Ok(reader.finish()?);
        }
    }
}

fn connect(
    addrs: &[SocketAddr],
    from: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, HttpError> {
    let mut last = HttpError::Refused;
    for &addr in addrs {
        match tcp::connect(addr, from, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = io_error(error),
        }
    }
    Err(last)
}

/// Time for the next step.
fn left(deadline: Instant) -> Result<Duration, HttpError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(HttpError::TimedOut(TOTAL_TIMEOUT.as_secs()));
    }
    Ok(left.min(STEP_TIMEOUT))
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
fn io_error(error: io::Error) -> HttpError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => HttpError::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            HttpError::TimedOut(STEP_TIMEOUT.as_secs())
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => HttpError::Reset,
        _ => HttpError::Io(crate::words(&error)),
    }
}

const USER_AGENT: &str = concat!("dunlin/", env!("CARGO_PKG_VERSION"));
/// For connecting, and for each wait for more bytes.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;

#[cfg(test)]
mod tests;
