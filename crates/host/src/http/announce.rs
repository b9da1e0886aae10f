//! An announce over HTTP.

use std::net::SocketAddr;

use dunlin_engine::event::TrackerFailure;
use dunlin_proto::tracker::http::client::{
    AnnounceError, BODY_LEN_MAX, announce_target, parse_announce,
};
use dunlin_proto::tracker::udp::Family;
use dunlin_proto::tracker::{AnnounceRequest, AnnounceResponse};

use crate::net::Paths;

use super::{Loopback, Response, Rules, TOTAL_TIMEOUT, Tls, Url, get_at};

/// Asks the tracker at one of `addrs`, which are all of one family, and waits for at most
/// [`TOTAL_TIMEOUT`] plus the time to look up where it redirects to.
pub(crate) fn announce(
    url: &Url,
    addrs: &[SocketAddr],
    request: &AnnounceRequest,
    paths: &Paths,
    tls: &Tls,
) -> Result<AnnounceResponse, TrackerFailure> {
    let rules = Rules {
        body_len_max: BODY_LEN_MAX,
        timeout: TOTAL_TIMEOUT,
        loopback: Loopback::AnnouncePath,
        family: addrs.first().map(|addr| Family::of(addr.ip())),
        paths,
        tls,
    };
    let mut url = url.clone();
    url.target = announce_target(&url.target, request);
    read_announce(&get_at(&url, addrs, &rules).map_err(|error| failure(&error))?)
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
        Err(error) if is_ok => Err(failure(&error)),
        Ok(_) | Err(_) => Err(failure(&format!(
            "the tracker answered {}",
            response.status_line()
        ))),
    }
}

fn failure(why: &dyn ToString) -> TrackerFailure {
    TrackerFailure {
        message: why.to_string(),
        refused: false,
    }
}
