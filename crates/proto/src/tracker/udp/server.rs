//! How a UDP tracker reads a question, and what it replies.
//!
//! The header comes first, so that a tracker can judge the connection id before it looks at
//! anything else: whoever has no valid one may have forged his address.

use std::net::{IpAddr, SocketAddr};

use dunlin_metainfo::{InfoHash, PeerId};

use crate::tracker::{AnnounceEvent, AnnounceQuery, AnnounceReply, ScrapeEntry};

use super::reader::Reader;
use super::{
    ANNOUNCE, COMPLETED, CONNECT, END_OF_OPTIONS, ERROR, Family, NOP, PAUSED, PROTOCOL_ID, SCRAPE,
    SCRAPE_HASHES_MAX, STARTED, STOPPED, URL_DATA,
};

/// What every request begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub connection: u64,
    pub action: u32,
    /// Repeated in the reply.
    pub transaction: u32,
}

impl Header {
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        Some(Self {
            connection: reader.u64()?,
            action: reader.u32()?,
            transaction: reader.u32()?,
        })
    }

    /// The one request that needs no connection id: it asks for one.
    pub fn is_connect(&self) -> bool {
        self.connection == PROTOCOL_ID && self.action == CONNECT
    }
}

/// What is asked of somebody whose connection id is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Announce {
        query: AnnounceQuery,
        /// Path and query of the URL that the client knows (BEP 41); empty if it names none.
        url_data: Vec<u8>,
    },
    /// 1 to [`SCRAPE_HASHES_MAX`] torrents.
    Scrape(Vec<InfoHash>),
}

/// What is wrong with a request. The text goes to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the request is too short")]
    TooShort,
    #[error("port is missing")]
    NoPort,
    #[error("no info hash")]
    NoInfoHash,
    #[error("more than {SCRAPE_HASHES_MAX} torrents in one scrape")]
    TooManyHashes,
    #[error("unknown action")]
    UnknownAction,
}

/// Reads the request whose header is `header`.
pub fn parse_request(header: &Header, datagram: &[u8]) -> Result<Request, RequestError> {
    let body = datagram.get(HEADER_LEN..).unwrap_or_default();
    match header.action {
        ANNOUNCE => {
            let mut reader = Reader::new(body);
            let query = announce(&mut reader).ok_or(RequestError::TooShort)?;
            if query.port == 0 && query.event != AnnounceEvent::Stopped {
                return Err(RequestError::NoPort);
            }
            let url_data = url_data(&mut reader);
            Ok(Request::Announce { query, url_data })
        }
        SCRAPE => scrape(body).map(Request::Scrape),
        _ => Err(RequestError::UnknownAction),
    }
}

fn announce(reader: &mut Reader<'_>) -> Option<AnnounceQuery> {
    let info_hash = InfoHash::new(reader.array()?);
    let peer_id = PeerId::new(reader.array()?);
    let [downloaded, left, uploaded] = [reader.u64()?, reader.u64()?, reader.u64()?];
    // The address between event and key is the client's claim, and the key proves that it is who
    // it was: neither is believed.
    let [event, _ip, _key, num_want] = [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
    Some(AnnounceQuery {
        info_hash,
        peer_id,
        port: reader.u16()?,
        uploaded,
        downloaded,
        left,
        event: match event {
            COMPLETED => AnnounceEvent::Completed,
            STARTED => AnnounceEvent::Started,
            STOPPED => AnnounceEvent::Stopped,
            PAUSED => AnnounceEvent::Paused,
            // What nobody has invented yet is an ordinary announce.
            _ => AnnounceEvent::None,
        },
        // A signed number; -1 and less is "as many as you like".
        num_want: i32::try_from(num_want).ok().map(i32::unsigned_abs),
    })
}

/// Options (BEP 41): unknown ones are skipped, and one that is cut off ends them.
fn url_data(reader: &mut Reader<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(kind) = reader.u8() {
        match kind {
            END_OF_OPTIONS => break,
            NOP => {}
            _ => {
                let len = reader.u8().map(usize::from);
                let Some(value) = len.and_then(|len| reader.bytes(len)) else {
                    break;
                };
                if kind == URL_DATA {
                    data.extend_from_slice(value);
                }
            }
        }
    }
    data
}

fn scrape(body: &[u8]) -> Result<Vec<InfoHash>, RequestError> {
    let (hashes, _) = body.as_chunks::<20>();
    if hashes.is_empty() {
        return Err(RequestError::NoInfoHash);
    }
    if hashes.len() > SCRAPE_HASHES_MAX {
        return Err(RequestError::TooManyHashes);
    }
    Ok(hashes.iter().map(|hash| InfoHash::new(*hash)).collect())
}

/// As long as the request.
pub fn encode_connect(transaction: u32, connection: u64) -> Vec<u8> {
    let mut out = reply(CONNECT, transaction);
    out.extend_from_slice(&connection.to_be_bytes());
    out
}

/// Peers of the other family are left out: the reply has no place for them.
pub fn encode_announce(transaction: u32, announce: &AnnounceReply, family: Family) -> Vec<u8> {
    let mut out = reply(ANNOUNCE, transaction);
    for number in [announce.interval_s, announce.incomplete, announce.complete] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for (_, addr) in &announce.peers {
        encode_peer(*addr, family, &mut out);
    }
    out
}

fn encode_peer(addr: SocketAddr, family: Family, out: &mut Vec<u8>) {
    match (addr.ip(), family) {
        (IpAddr::V4(ip), Family::V4) => out.extend_from_slice(&ip.octets()),
        (IpAddr::V6(ip), Family::V6) => out.extend_from_slice(&ip.octets()),
        (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => return,
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// The entries stand in the order of the question, zeros for what is not known.
pub fn encode_scrape(transaction: u32, entries: &[ScrapeEntry]) -> Vec<u8> {
    let mut out = reply(SCRAPE, transaction);
    for entry in entries {
        for number in [entry.complete, entry.downloaded, entry.incomplete] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    out
}

pub fn encode_error(transaction: u32, text: &str) -> Vec<u8> {
    let mut out = reply(ERROR, transaction);
    out.extend_from_slice(text.as_bytes());
    out
}

fn reply(action: u32, transaction: u32) -> Vec<u8> {
    [action.to_be_bytes(), transaction.to_be_bytes()].concat()
}

const HEADER_LEN: usize = 16;

/// Bytes of the longest request that is understood in full: an announce with 1,020 bytes of URL
/// in five options, or a scrape of 74 torrents and a few bytes more to see that there are more.
pub const REQUEST_LEN_MAX: usize = 2048;

#[cfg(test)]
mod tests;
