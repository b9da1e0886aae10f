//! From a datagram to the reply, if there is one (BEP 15, 41).
//!
//! Anybody can write any sender into a datagram. So whoever has no valid connection id gets
//! nothing but one, in a reply no longer than the question, and silence otherwise; errors, too, are
//! told only to those who have one. No reply needs to be cut into fragments on its way.

use std::net::IpAddr;

use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::Family;
use dunlin_proto::tracker::udp::server::{
    Header, Request, encode_announce, encode_connect, encode_error, encode_scrape, parse_request,
};
use dunlin_proto::tracker::{AnnounceQuery, AnnounceReply, ScrapeEntry};

use crate::connection_id::ConnectionIds;
use crate::service::Service;
use crate::table::Asker;

/// Answers `datagram`, which claims to come from `from`. `reached_at` finds our own address as
/// seen from there; it is only asked when the sender is proven.
pub fn respond(
    service: &mut Service,
    ids: &ConnectionIds,
    now: Instant,
    from: IpAddr,
    reached_at: impl FnOnce() -> Option<IpAddr>,
    datagram: &[u8],
) -> Option<Vec<u8>> {
    let header = Header::parse(datagram)?;
    if header.is_connect() {
        return Some(encode_connect(header.transaction, ids.issue(now, from)));
    }
    if !ids.is_valid(now, from, header.connection) {
        return None;
    }
    let transaction = header.transaction;
    Some(match parse_request(&header, datagram) {
        // Path and query mean nothing to us: there are no users to tell apart.
        Ok(Request::Announce { query, url_data: _ }) => {
            let family = Family::of(from);
            let asker = Asker {
                ip: from,
                reached_at: reached_at(),
                only: Some(family),
            };
            match announce(service, now, &query, &asker) {
                Ok(reply) => encode_announce(transaction, &reply, family),
                Err(error) => encode_error(transaction, &error.to_string()),
            }
        }
        Ok(Request::Scrape(info_hashes)) => {
            let entries: Vec<ScrapeEntry> = info_hashes
                .iter()
                .map(|info_hash| service.table.entry(info_hash).unwrap_or_default())
                .collect();
            encode_scrape(transaction, &entries)
        }
        Err(error) => encode_error(transaction, &error.to_string()),
    })
}

fn announce(
    service: &mut Service,
    now: Instant,
    query: &AnnounceQuery,
    asker: &Asker,
) -> Result<AnnounceReply, crate::table::Refusal> {
    let mut reply = service
        .table
        .announce(now, &mut service.rng, query, asker)?;
    let peer_len = match asker.only {
        Some(Family::V6) => 18,
        Some(Family::V4) | None => 6,
    };
    reply.peers.truncate((REPLY_LEN_MAX - 20) / peer_len);
    Ok(reply)
}

/// Bytes of a reply: what every IPv6 network carries in one packet (1,280 without the headers of
/// IPv6 and UDP). Room for 202 IPv4 or 67 IPv6 peers.
pub const REPLY_LEN_MAX: usize = 1232;

#[cfg(test)]
mod tests;
