//! How an HTTP tracker reads a question, and what it answers.

use std::net::{IpAddr, SocketAddr};

use dunlin_metainfo::bencode::Bencode;
use dunlin_metainfo::{InfoHash, PeerId};

use crate::tracker::{AnnounceEvent, AnnounceQuery, AnnounceReply, ScrapeEntry};

use super::query;

/// In which form the client wants to read the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerForm {
    /// BEP 23; what a client gets that asks for nothing.
    Compact,
    /// BEP 3.
    Dict,
    DictWithoutPeerId,
}

/// What is wrong with a question. The text goes to the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("more than {SCRAPE_HASHES_MAX} torrents in one scrape")]
    TooManyHashes,
}

/// Reads the query of an announce. The first of equal keys counts.
pub fn parse_announce(query: &str) -> Result<(AnnounceQuery, PeerForm), QueryError> {
    let event = match find(query, "event") {
        Some("started") => AnnounceEvent::Started,
        Some("stopped") => AnnounceEvent::Stopped,
        Some("completed") => AnnounceEvent::Completed,
        Some("paused") => AnnounceEvent::Paused,
        // What nobody has invented yet is an ordinary announce.
        Some(_) | None => AnnounceEvent::None,
    };
    let port = number(query, "port")?.unwrap_or(0);
    let port = u16::try_from(port).map_err(|_| QueryError::Malformed("port"))?;
    if port == 0 && event != AnnounceEvent::Stopped {
        return Err(QueryError::Missing("port"));
    }
    // libtorrent and others send -1 for "as many as you like".
    let num_want = find(query, "numwant").and_then(|text| text.parse().ok());
    let form = match (find(query, "compact"), find(query, "no_peer_id")) {
        (Some("0"), Some("1")) => PeerForm::DictWithoutPeerId,
        (Some("0"), _) => PeerForm::Dict,
        _ => PeerForm::Compact,
    };
    let query = AnnounceQuery {
        info_hash: InfoHash::new(id(query, "info_hash")?),
        peer_id: PeerId::new(id(query, "peer_id")?),
        port,
        uploaded: number(query, "uploaded")?.unwrap_or(0),
        downloaded: number(query, "downloaded")?.unwrap_or(0),
        left: number(query, "left")?.unwrap_or(u64::MAX),
        event,
        num_want,
    };
    Ok((query, form))
}

/// Reads the query of a scrape (BEP 48): which torrents it asks for, each once. Asking for all
/// that there are is not answered.
pub fn parse_scrape(query: &str) -> Result<Vec<InfoHash>, QueryError> {
    let mut hashes = Vec::new();
    for (_, value) in query::pairs(query).filter(|(key, _)| *key == "info_hash") {
        let bytes = query::decode(value);
        let hash = bytes.and_then(|bytes| InfoHash::from_slice(&bytes));
        let hash = hash.ok_or(QueryError::Malformed("info_hash"))?;
        if hashes.len() >= SCRAPE_HASHES_MAX {
            return Err(QueryError::TooManyHashes);
        }
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
    }
    if hashes.is_empty() {
        return Err(QueryError::Missing("info_hash"));
    }
    Ok(hashes)
}

/// The answer to an announce.
pub fn encode_announce(reply: &AnnounceReply, form: PeerForm) -> Vec<u8> {
    let mut entries = vec![
        ("interval", reply.interval_s.into()),
        ("complete", reply.complete.into()),
        ("incomplete", reply.incomplete.into()),
        ("downloaded", reply.downloaded.into()),
    ];
    let min_interval = reply.min_interval_s;
    entries.extend(min_interval.map(|seconds| ("min interval", seconds.into())));
    let external_ip = reply.external_ip.map(ip_bytes);
    entries.extend(external_ip.map(|ip| ("external ip", ip.into())));
    match form {
        PeerForm::Compact => {
            let (v4, v6) = compact_peers(&reply.peers);
            entries.push(("peers", v4.into()));
            if !v6.is_empty() {
                entries.push(("peers6", v6.into()));
            }
        }
        PeerForm::Dict | PeerForm::DictWithoutPeerId => {
            let peers = reply.peers.iter().map(|peer| peer_dict(peer, form));
            entries.push(("peers", Bencode::list(peers)));
        }
    }
    Bencode::dict(entries).encode()
}

/// BEP 23, and BEP 7 for IPv6.
fn compact_peers(peers: &[(PeerId, SocketAddr)]) -> (Vec<u8>, Vec<u8>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (_, addr) in peers {
        let out = if addr.is_ipv4() { &mut v4 } else { &mut v6 };
        out.extend(ip_bytes(addr.ip()));
        out.extend_from_slice(&addr.port().to_be_bytes());
    }
    (v4, v6)
}

/// The answer to a scrape (BEP 48).
pub fn encode_scrape(files: &[(InfoHash, ScrapeEntry)]) -> Vec<u8> {
    let files = files.iter().map(|(info_hash, entry)| {
        let mut entries = vec![
            ("complete", entry.complete.into()),
            ("downloaded", entry.downloaded.into()),
            ("incomplete", entry.incomplete.into()),
        ];
        let downloaders = entry.downloaders;
        entries.extend(downloaders.map(|count| ("downloaders", count.into())));
        (
            info_hash.as_bytes().as_slice().into(),
            Bencode::dict(entries),
        )
    });
    let files = Bencode::Dict(files.collect());
    Bencode::dict([("files", files)]).encode()
}

/// The answer to a question that is refused.
pub fn encode_failure(reason: &str) -> Vec<u8> {
    Bencode::dict([("failure reason", Bencode::from(reason))]).encode()
}

fn peer_dict((peer_id, addr): &(PeerId, SocketAddr), form: PeerForm) -> Bencode<'_> {
    let mut entries = vec![
        ("ip", addr.ip().to_string().into()),
        ("port", u32::from(addr.port()).into()),
    ];
    if form == PeerForm::Dict {
        entries.push(("peer id", peer_id.as_bytes().as_slice().into()));
    }
    Bencode::dict(entries)
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn find<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query::pairs(query).find_map(|(found, value)| (found == key).then_some(value))
}

fn id(query: &str, key: &'static str) -> Result<[u8; 20], QueryError> {
    let value = find(query, key).ok_or(QueryError::Missing(key))?;
    let bytes = query::decode(value).ok_or(QueryError::Malformed(key))?;
    bytes.try_into().map_err(|_| QueryError::Malformed(key))
}

fn number(query: &str, key: &'static str) -> Result<Option<u64>, QueryError> {
    find(query, key)
        .map(|text| text.parse().map_err(|_| QueryError::Malformed(key)))
        .transpose()
}

/// Torrents in one scrape.
pub const SCRAPE_HASHES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::http::client;
    use crate::tracker::{AnnounceRequest, AnnounceResponse};
    use proptest::prelude::*;

    const QUERY: &str = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
        &peer_id=-DL0100-abcdefghijkl&port=6881";

    fn reply() -> AnnounceReply {
        AnnounceReply {
            interval_s: 1800,
            min_interval_s: Some(60),
            complete: 1,
            incomplete: 2,
            downloaded: 3,
            peers: vec![
                (PeerId::new([b'a'; 20]), "10.0.0.1:6881".parse().unwrap()),
                (PeerId::new([b'b'; 20]), "[2001:db8::1]:80".parse().unwrap()),
            ],
            external_ip: Some([127, 0, 0, 1].into()),
        }
    }

    #[test]
    fn an_announce_may_say_no_more_than_it_must() {
        let (query, form) = parse_announce(QUERY).unwrap();
        assert_eq!(
            query.info_hash.to_string(),
            "123456789abcdef123456789abcdef123456789a"
        );
        assert_eq!(query.peer_id, PeerId::new(*b"-DL0100-abcdefghijkl"));
        assert_eq!((query.port, query.left), (6881, u64::MAX));
        assert_eq!((query.num_want, form), (None, PeerForm::Compact));
        assert_eq!(query.event, AnnounceEvent::None);
    }

    #[test]
    fn forms_events_and_numwant_are_understood() {
        let both = |rest: &str| parse_announce(&format!("{QUERY}{rest}")).unwrap();
        let (parse, form) = (|rest: &str| both(rest).0, |rest: &str| both(rest).1);
        assert_eq!(form("&compact=0"), PeerForm::Dict);
        assert_eq!(form("&compact=0&no_peer_id=1"), PeerForm::DictWithoutPeerId);
        assert_eq!(form("&compact=1&no_peer_id=1"), PeerForm::Compact);
        assert_eq!(parse("&event=completed").event, AnnounceEvent::Completed);
        assert_eq!(parse("&event=paused").event, AnnounceEvent::Paused);
        assert_eq!(parse("&numwant=7").num_want, Some(7));
        assert_eq!(parse("&numwant=-1").num_want, None);
        assert_eq!(parse("&ip=1.2.3.4&left=5&left=6").left, 5);
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        use QueryError::{Malformed, Missing};
        for (query, error) in [
            ("", Missing("port")),
            ("port=1", Missing("info_hash")),
            ("port=1&info_hash=short", Malformed("info_hash")),
            ("port=1&info_hash=%zz", Malformed("info_hash")),
            ("port=70000", Malformed("port")),
            ("port=0", Missing("port")),
            ("port=-1", Malformed("port")),
            ("port=1&info_hash=aaaaaaaaaaaaaaaaaaaa", Missing("peer_id")),
        ] {
            assert_eq!(parse_announce(query), Err(error), "{query}");
        }
        assert!(parse_announce(&QUERY.replace("6881", "0&event=stopped")).is_ok());
        let long = QUERY.replace("%9A&", "%9Ax&");
        assert_eq!(parse_announce(&long), Err(Malformed("info_hash")));
    }

    #[test]
    fn a_scrape_names_its_torrents() {
        let query = "info_hash=aaaaaaaaaaaaaaaaaaaa&x=1&info_hash=bbbbbbbbbbbbbbbbbbbb\
            &info_hash=aaaaaaaaaaaaaaaaaaaa";
        let (a, b) = (InfoHash::new([b'a'; 20]), InfoHash::new([b'b'; 20]));
        assert_eq!(parse_scrape(query), Ok(vec![a, b]));
        assert_eq!(parse_scrape(""), Err(QueryError::Missing("info_hash")));
        assert_eq!(
            parse_scrape("info_hash=a"),
            Err(QueryError::Malformed("info_hash"))
        );
        let many: String = (10..=10 + SCRAPE_HASHES_MAX)
            .map(|n| format!("&info_hash={n:020}"))
            .collect();
        assert_eq!(parse_scrape(&many), Err(QueryError::TooManyHashes));
    }

    #[test]
    fn answers_are_byte_exact() {
        let mut reply = reply();
        assert_eq!(
            encode_announce(&reply, PeerForm::Compact)
                .escape_ascii()
                .to_string(),
            "d8:completei1e10:downloadedi3e11:external ip4:\\x7f\\x00\\x00\\x01\
             10:incompletei2e8:intervali1800e12:min intervali60e5:peers6:\\n\\x00\\x00\\x01\\x1a\\xe1\
             6:peers618: \\x01\\r\\xb8\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x00Pe"
        );
        reply.min_interval_s = None;
        reply.external_ip = None;
        reply.peers.truncate(1);
        assert_eq!(
            encode_announce(&reply, PeerForm::Dict)
                .escape_ascii()
                .to_string(),
            "d8:completei1e10:downloadedi3e10:incompletei2e8:intervali1800e5:peers\
             ld2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eeee"
        );
        assert_eq!(
            encode_failure("no").escape_ascii().to_string(),
            "d14:failure reason2:noe"
        );
        let entry = ScrapeEntry {
            complete: 1,
            incomplete: 2,
            downloaded: 3,
            downloaders: Some(1),
        };
        assert_eq!(
            encode_scrape(&[(InfoHash::new([b'a'; 20]), entry)])
                .escape_ascii()
                .to_string(),
            "d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi3e\
             11:downloadersi1e10:incompletei2eeee"
        );
    }

    #[test]
    fn a_client_reads_what_the_server_writes() {
        let reply = reply();
        for form in [
            PeerForm::Compact,
            PeerForm::Dict,
            PeerForm::DictWithoutPeerId,
        ] {
            let expected = AnnounceResponse {
                interval_s: 1800,
                min_interval_s: Some(60),
                complete: Some(1),
                incomplete: Some(2),
                peers: reply.peers.iter().map(|(_, addr)| *addr).collect(),
                external_ip: reply.external_ip,
                ..AnnounceResponse::default()
            };
            assert_eq!(
                client::parse_announce(&encode_announce(&reply, form)),
                Ok(expected)
            );
        }
    }

    proptest! {
        #[test]
        fn a_server_reads_what_a_client_writes(
            info_hash in any::<[u8; 20]>(),
            peer_id in any::<[u8; 20]>(),
            port in 1u16..,
            (uploaded, downloaded, left) in any::<(u64, u64, u64)>(),
            num_want in any::<u32>(),
        ) {
            let request = AnnounceRequest {
                info_hash: InfoHash::new(info_hash),
                peer_id: PeerId::new(peer_id),
                port,
                uploaded,
                downloaded,
                left,
                event: AnnounceEvent::Completed,
                num_want,
                key: 1,
                tracker_id: None,
            };
            let target = client::announce_target("/announce", &request);
            let query = parse_announce(target.split_once('?').unwrap().1);
            let expected = AnnounceQuery {
                info_hash: request.info_hash,
                peer_id: request.peer_id,
                port,
                uploaded,
                downloaded,
                left,
                event: AnnounceEvent::Completed,
                num_want: Some(num_want),
            };
            prop_assert_eq!(query, Ok((expected, PeerForm::Compact)));
        }

        #[test]
        fn random_queries_never_panic(query in "\\PC{0,60}") {
            let _ = parse_announce(&query);
            let _ = parse_announce(&format!("{QUERY}&{query}"));
            let _ = parse_scrape(&format!("info_hash={query}"));
        }
    }
}
