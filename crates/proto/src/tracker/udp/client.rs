//! What a client sends to a UDP tracker, and how it reads the reply.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use dunlin_metainfo::InfoHash;

use crate::tracker::announce::{self, PEERS_MAX, is_dialable};
use crate::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, ScrapeEntry};

use super::reader::Reader;
use super::{
    ANNOUNCE, COMPLETED, CONNECT, ERROR, Family, PAUSED, PROTOCOL_ID, SCRAPE, SCRAPE_HASHES_MAX,
    STARTED, STOPPED, URL_DATA,
};

/// Path and query of a tracker's URL, which may hold a passkey and are told to it in options
/// (BEP 41).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UrlData(String);

/// Path and query are too long for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("path and query of the tracker's URL are longer than {URL_DATA_LEN_MAX} bytes")]
pub struct UrlTooLong;

impl UrlData {
    /// `target` is what follows host and port in the URL, as it stands there.
    pub fn new(target: &str) -> Result<Self, UrlTooLong> {
        let target = target.split('#').next().unwrap_or_default();
        if target.len() > URL_DATA_LEN_MAX {
            return Err(UrlTooLong);
        }
        Ok(Self(target.to_owned()))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for part in self.0.as_bytes().chunks(usize::from(u8::MAX)) {
            out.push(URL_DATA);
            out.push(u8::try_from(part.len()).expect("parts are at most 255 bytes long"));
            out.extend_from_slice(part);
        }
    }
}

pub fn encode_connect(transaction: u32) -> Vec<u8> {
    header(PROTOCOL_ID, CONNECT, transaction)
}

pub fn encode_announce(
    connection: u64,
    transaction: u32,
    request: &AnnounceRequest,
    url_data: &UrlData,
) -> Vec<u8> {
    let mut out = header(connection, ANNOUNCE, transaction);
    out.extend_from_slice(request.info_hash.as_bytes());
    out.extend_from_slice(request.peer_id.as_bytes());
    for number in [request.downloaded, request.left, request.uploaded] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let event = match request.event {
        AnnounceEvent::None => 0,
        AnnounceEvent::Completed => COMPLETED,
        AnnounceEvent::Started => STARTED,
        AnnounceEvent::Stopped => STOPPED,
        AnnounceEvent::Paused => PAUSED,
    };
    // A signed number, in which -1 leaves the choice to the tracker.
    let num_want = request.num_want.min(i32::MAX as u32);
    // Between event and key: an address that we would claim to have. The tracker sees ours.
    for number in [event, 0, request.key, num_want] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&request.port.to_be_bytes());
    url_data.encode(&mut out);
    out
}

/// Torrents beyond [`SCRAPE_HASHES_MAX`] are left out.
pub fn encode_scrape(connection: u64, transaction: u32, info_hashes: &[InfoHash]) -> Vec<u8> {
    let mut out = header(connection, SCRAPE, transaction);
    for info_hash in info_hashes.iter().take(SCRAPE_HASHES_MAX) {
        out.extend_from_slice(info_hash.as_bytes());
    }
    out
}

/// What a tracker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Connect {
        connection: u64,
    },
    Announce(AnnounceResponse),
    /// In the order of the question.
    Scrape(Vec<ScrapeEntry>),
    /// The tracker says no, in its own words.
    Error(String),
}

/// Why a reply is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplyError {
    #[error("a reply of {0} bytes, more than {REPLY_LEN_MAX}")]
    TooLong(usize),
    #[error("a reply of {0} bytes, too short for what it is")]
    TooShort(usize),
    #[error("a reply to no known question: action {0}")]
    UnknownAction(u32),
}

/// Which question a datagram answers; `None` if it is too short to answer any.
pub fn transaction_of(datagram: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(datagram);
    reader.u32()?;
    reader.u32()
}

/// Reads a reply. Bytes after the known fields are ignored, for BEP 15 leaves room for more.
pub fn parse_reply(datagram: &[u8], family: Family) -> Result<Reply, ReplyError> {
    if datagram.len() > REPLY_LEN_MAX {
        return Err(ReplyError::TooLong(datagram.len()));
    }
    let mut reader = Reader::new(datagram);
    let action = reader.u32();
    let transaction = reader.u32();
    let reply = match (action, transaction) {
        (None, _) | (_, None) => None,
        (Some(CONNECT), _) => reader.u64().map(|connection| Reply::Connect { connection }),
        (Some(ANNOUNCE), _) => announce_reply(&mut reader, family).map(Reply::Announce),
        (Some(SCRAPE), _) => Some(Reply::Scrape(scrape_reply(&mut reader))),
        (Some(ERROR), _) => {
            let text = announce::text(reader.rest());
            Some(Reply::Error(text.trim_end_matches('\0').to_owned()))
        }
        (Some(action), _) => return Err(ReplyError::UnknownAction(action)),
    };
    reply.ok_or(ReplyError::TooShort(datagram.len()))
}

fn announce_reply(reader: &mut Reader<'_>, family: Family) -> Option<AnnounceResponse> {
    let interval_s = i32::from_be_bytes(reader.array()?);
    let [incomplete, complete] = [reader.u32()?, reader.u32()?];
    let peers: Vec<SocketAddr> = match family {
        Family::V4 => compact(reader, |octets: [u8; 4]| Ipv4Addr::from(octets).into()),
        Family::V6 => compact(reader, |octets: [u8; 16]| Ipv6Addr::from(octets).into()),
    };
    Some(AnnounceResponse {
        interval_s: announce::interval_kept_s(interval_s.try_into().ok()),
        complete: Some(complete),
        incomplete: Some(incomplete),
        peers,
        ..AnnounceResponse::default()
    })
}

fn compact<const N: usize>(
    reader: &mut Reader<'_>,
    ip: impl Fn([u8; N]) -> std::net::IpAddr,
) -> Vec<SocketAddr> {
    let next = || {
        Some(SocketAddr::new(
            ip(reader.array()?).to_canonical(),
            reader.u16()?,
        ))
    };
    std::iter::from_fn(next)
        .filter(|&addr| is_dialable(addr))
        .take(PEERS_MAX)
        .collect()
}

fn scrape_reply(reader: &mut Reader<'_>) -> Vec<ScrapeEntry> {
    let next = || {
        Some(ScrapeEntry {
            complete: reader.u32()?,
            downloaded: reader.u32()?,
            incomplete: reader.u32()?,
            downloaders: None,
        })
    };
    std::iter::from_fn(next).take(SCRAPE_HASHES_MAX).collect()
}

fn header(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(REQUEST_CAPACITY);
    out.extend_from_slice(&connection.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
    out
}

/// Bytes of path and query: with the announce and the heads of the options they fit any network.
pub const URL_DATA_LEN_MAX: usize = 1020;

/// Bytes of a reply, which is how large a buffer has to be to tell when one is longer:
/// an announce with [`PEERS_MAX`] IPv6 peers.
pub const REPLY_LEN_MAX: usize = 20 + 18 * PEERS_MAX;

/// An announce with a short path.
const REQUEST_CAPACITY: usize = 128;

#[cfg(test)]
mod tests;
