//! What a client asks of an HTTP tracker, and how it reads the answer.
//!
//! Trackers are as careless as peers: an answer is taken field by field, a field that makes no
//! sense counts as missing, and addresses that nobody can dial are dropped.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dunlin_metainfo::InfoHash;
use dunlin_metainfo::bencode::{self, DecodeError, Value};

use crate::tracker::announce::{self, INTERVAL_MAX_S, PEERS_MAX, is_dialable};
use crate::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, ScrapeEntry};

use super::query;

/// Why an answer is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("{0} bytes, more than {BODY_LEN_MAX}")]
    TooLong(usize),
    #[error("not an answer of a tracker: {0}")]
    Bencode(#[from] DecodeError),
    #[error("not an answer of a tracker: no dictionary")]
    NotADictionary,
    /// The tracker said no, in its own words.
    #[error("{0}")]
    Failure(String),
}

/// The request target of an announce. `target` is path and query of the tracker's URL: both stay
/// as they are, for they may hold a passkey.
pub fn announce_target(target: &str, request: &AnnounceRequest) -> String {
    let mut out = with_query(target);
    out.push_str("info_hash=");
    query::encode(request.info_hash.as_bytes(), &mut out);
    out.push_str("&peer_id=");
    query::encode(request.peer_id.as_bytes(), &mut out);
    let AnnounceRequest {
        port,
        uploaded,
        downloaded,
        left,
        num_want,
        key,
        ..
    } = *request;
    write!(
        out,
        "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}\
         &numwant={num_want}&key={key:08X}&compact=1"
    )
    .expect("writing to a string succeeds");
    match request.event {
        AnnounceEvent::None => {}
        AnnounceEvent::Started => out.push_str("&event=started"),
        AnnounceEvent::Stopped => out.push_str("&event=stopped"),
        AnnounceEvent::Completed => out.push_str("&event=completed"),
        AnnounceEvent::Paused => out.push_str("&event=paused"),
    }
    if let Some(tracker_id) = &request.tracker_id {
        out.push_str("&trackerid=");
        query::encode(tracker_id, &mut out);
    }
    out
}

/// The request target of a scrape for at most [`SCRAPE_HASHES_MAX`] torrents; those beyond are
/// left out. `None` if the tracker cannot be scraped: by convention (BEP 48) only a URL whose last
/// component begins with `announce` can, and it turns into `scrape`.
pub fn scrape_target(target: &str, info_hashes: &[InfoHash]) -> Option<String> {
    let (path, rest) = target.split_at(target.find(['?', '#']).unwrap_or(target.len()));
    let (folders, name) = path.rsplit_once('/')?;
    let suffix = name.strip_prefix("announce")?;
    let mut out = with_query(&format!("{folders}/scrape{suffix}{rest}"));
    for (at, info_hash) in info_hashes.iter().take(SCRAPE_HASHES_MAX).enumerate() {
        out.push_str(if at == 0 { "info_hash=" } else { "&info_hash=" });
        query::encode(info_hash.as_bytes(), &mut out);
    }
    Some(out)
}

/// A target that waits for its first pair.
fn with_query(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(target.len() + 300);
    if !target.starts_with('/') {
        out.push('/');
    }
    query::encode_rest(target, &mut out);
    out.push(if target.contains('?') { '&' } else { '?' });
    out
}

/// Reads the body of the answer to a scrape: what it says about the torrents that were asked for,
/// in their order. Others, and those that the tracker does not know, are left out.
pub fn parse_scrape(
    body: &[u8],
    asked: &[InfoHash],
) -> Result<Vec<(InfoHash, ScrapeEntry)>, AnnounceError> {
    if body.len() > BODY_LEN_MAX {
        return Err(AnnounceError::TooLong(body.len()));
    }
    let document = bencode::decode(body)?;
    let root = document.root();
    root.as_dict().ok_or(AnnounceError::NotADictionary)?;
    if let Some(reason) = root.get("failure reason") {
        return Err(AnnounceError::Failure(text(reason)));
    }
    let files = root.get("files").and_then(Value::as_dict);
    let files = files.ok_or(AnnounceError::NotADictionary)?;
    let mut known: BTreeMap<InfoHash, ScrapeEntry> = BTreeMap::new();
    for (hash, entry) in files {
        if let Some(hash) = InfoHash::from_slice(hash)
            && asked.contains(&hash)
        {
            known.entry(hash).or_insert_with(|| scrape_entry(entry));
        }
    }
    let found = asked.iter();
    Ok(found
        .filter_map(|hash| Some((*hash, *known.get(hash)?)))
        .collect())
}

fn scrape_entry(entry: Value<'_>) -> ScrapeEntry {
    let field = |key: &str| count(entry.get(key));
    ScrapeEntry {
        complete: field("complete").unwrap_or(0),
        incomplete: field("incomplete").unwrap_or(0),
        downloaded: field("downloaded").unwrap_or(0),
        downloaders: field("downloaders"),
    }
}

/// Reads the body of an answer.
pub fn parse_announce(body: &[u8]) -> Result<AnnounceResponse, AnnounceError> {
    if body.len() > BODY_LEN_MAX {
        return Err(AnnounceError::TooLong(body.len()));
    }
    let document = bencode::decode(body)?;
    let root = document.root();
    root.as_dict().ok_or(AnnounceError::NotADictionary)?;
    if let Some(reason) = root.get("failure reason") {
        return Err(AnnounceError::Failure(text(reason)));
    }
    let bytes = |key: &str| root.get(key).and_then(Value::as_bytes);
    Ok(AnnounceResponse {
        interval_s: announce::interval_kept_s(seconds(root.get("interval"))),
        min_interval_s: seconds(root.get("min interval")).map(|s| s.min(INTERVAL_MAX_S)),
        complete: count(root.get("complete")),
        incomplete: count(root.get("incomplete")),
        peers: peers(root.get("peers"), bytes("peers6").unwrap_or_default()),
        warning: root.get("warning message").map(text),
        tracker_id: bytes("tracker id")
            .filter(|id| id.len() <= TRACKER_ID_LEN_MAX)
            .map(<[u8]>::to_vec),
        external_ip: bytes("external ip").and_then(ip),
    })
}

fn peers(peers: Option<Value<'_>>, peers6: &[u8]) -> Vec<SocketAddr> {
    let compact = peers.and_then(Value::as_bytes).unwrap_or_default();
    let v4 = compact
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, p, q]| {
            let ip = Ipv4Addr::new(a, b, c, d);
            SocketAddr::from((ip, u16::from_be_bytes([p, q])))
        });
    let v6 = peers6
        .as_chunks::<18>()
        .0
        .iter()
        .map(|&[ref ip @ .., p, q]| {
            let ip = Ipv6Addr::from(*ip).to_canonical();
            SocketAddr::from((ip, u16::from_be_bytes([p, q])))
        });
    let dicts = peers.and_then(Value::as_list).into_iter().flatten();
    v4.chain(dicts.filter_map(peer_of_dict))
        .chain(v6)
        .filter(|&addr| is_dialable(addr))
        .take(PEERS_MAX)
        .collect()
}

/// The form before BEP 23. Names instead of addresses are ignored: we do not look up what a
/// tracker tells us to.
fn peer_of_dict(peer: Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = peer.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(peer.get("port")?.as_int()?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// A time to wait: none at all and less is as good as not said.
fn seconds(value: Option<Value<'_>>) -> Option<u32> {
    value
        .and_then(Value::as_int)
        .filter(|&seconds| seconds > 0)
        .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn count(value: Option<Value<'_>>) -> Option<u32> {
    u32::try_from(value?.as_int()?).ok()
}

fn text(value: Value<'_>) -> String {
    announce::text(value.as_bytes().unwrap_or_default())
}

/// BEP 24: 4 or 16 bytes.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = bytes.try_into().ok().map(<[u8; 4]>::into);
    v4.or_else(|| bytes.try_into().ok().map(<[u8; 16]>::into))
}

/// Length of a body, in bytes.
pub const BODY_LEN_MAX: usize = 1024 * 1024;

/// Torrents in one scrape: a request line of 4,000 bytes, which every server takes.
pub const SCRAPE_HASHES_MAX: usize = 50;

/// Bytes of a tracker id that we repeat.
const TRACKER_ID_LEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_metainfo::bencode::Bencode;
    use dunlin_metainfo::{InfoHash, PeerId};
    use proptest::prelude::*;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash::new(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
            peer_id: PeerId::new(*b"-DL0100-abcdefgh\0\xff &"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: AnnounceEvent::Started,
            num_want: 50,
            key: 0xbeef,
            tracker_id: None,
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_target_of_an_announce_is_byte_exact() {
        assert_eq!(
            announce_target("/announce", &request()),
            "/announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
             &peer_id=-DL0100-abcdefgh%00%FF%20%26&port=6881&uploaded=1&downloaded=2&left=3\
             &numwant=50&key=0000BEEF&compact=1&event=started"
        );
    }

    #[test]
    fn passkeys_and_queries_of_the_url_are_kept() {
        let mut request = request();
        request.event = AnnounceEvent::None;
        request.tracker_id = Some(b"a b".to_vec());
        let target = announce_target("/0123abcd/announce.php?pass=%20x#top", &request);
        assert!(target.starts_with("/0123abcd/announce.php?pass=%20x&info_hash=%12"));
        assert!(target.ends_with("&compact=1&trackerid=a%20b"));
        assert!(announce_target("", &request).starts_with("/?info_hash="));
        assert!(announce_target("?a", &request).starts_with("/?a&info_hash="));
    }

    #[test]
    fn a_url_smuggles_nothing_into_the_request() {
        let target = announce_target("/a b\r\nHost: x\u{7f}é", &request());
        assert!(
            target.starts_with("/a%20b%0D%0AHost:%20x%7F%C3%A9?"),
            "{target}"
        );
    }

    #[test]
    fn compact_and_ipv6_peers_are_read() {
        let body = b"d8:completei5e11:external ip4:\x01\x02\x03\x0410:incompletei7e8:intervali900e\
            12:min intervali60e5:peers12:\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x00\x50\
            6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\
            10:tracker id2:id15:warning message4:slowe";
        let expected = AnnounceResponse {
            interval_s: 900,
            min_interval_s: Some(60),
            complete: Some(5),
            incomplete: Some(7),
            peers: addresses(&["10.0.0.1:6881", "10.0.0.2:80", "[2001:db8::1]:6881"]),
            warning: Some("slow".to_owned()),
            tracker_id: Some(b"id".to_vec()),
            external_ip: Some(Ipv4Addr::new(1, 2, 3, 4).into()),
        };
        assert_eq!(parse_announce(body), Ok(expected));
    }

    #[test]
    fn peers_as_dictionaries_are_read() {
        let body = b"d8:intervali900e5:peersld2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
            d2:ip11:2001:db8::14:porti1eed2:ip11:example.com4:porti1eed2:ip8:10.0.0.24:porti65536eei3eee";
        let peers = parse_announce(body).unwrap().peers;
        assert_eq!(peers, addresses(&["10.0.0.1:6881", "[2001:db8::1]:1"]));
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_tracker() {
        let result = parse_announce(b"d14:failure reason11:unknown keye");
        assert_eq!(
            result,
            Err(AnnounceError::Failure("unknown key".to_owned()))
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in [b"".as_slice(), b"<html>", b"d", b"d8:intervali1ee trailing"] {
            let error = parse_announce(body).unwrap_err();
            assert!(matches!(error, AnnounceError::Bencode(_)), "{error:?}");
        }
        assert_eq!(parse_announce(b"le"), Err(AnnounceError::NotADictionary));
        let long = vec![b'1'; BODY_LEN_MAX + 1];
        assert_eq!(
            parse_announce(&long),
            Err(AnnounceError::TooLong(long.len()))
        );
    }

    #[test]
    fn intervals_are_kept_in_bounds() {
        for (interval, kept) in [(-1i64, 1800), (0, 1800), (1, 1), (i64::MAX, 86_400)] {
            let body = format!("d8:intervali{interval}ee");
            assert_eq!(parse_announce(body.as_bytes()).unwrap().interval_s, kept);
        }
        assert_eq!(parse_announce(b"de").unwrap().interval_s, 1800);
    }

    #[test]
    fn addresses_that_nobody_can_dial_are_dropped() {
        let peers = [
            [0, 0, 0, 0, 0x1a, 0xe1],
            [10, 0, 0, 1, 0, 0],
            [224, 0, 0, 1, 0x1a, 0xe1],
            [255, 255, 255, 255, 0x1a, 0xe1],
            [10, 0, 0, 9, 0, 1],
        ];
        let mut peers6 = [0u8; 36];
        peers6[17] = 9;
        peers6[18] = 0xff;
        peers6[35] = 9;
        let body = Bencode::dict([
            ("peers", peers.concat().into()),
            ("peers6", peers6.as_slice().into()),
        ]);
        let peers = parse_announce(&body.encode()).unwrap().peers;
        assert_eq!(peers, addresses(&["10.0.0.9:1"]));
    }

    #[test]
    fn only_so_many_peers_are_kept() {
        let body = Bencode::dict([("peers", [10, 0, 0, 1, 0, 9].repeat(5000).into())]);
        assert_eq!(
            parse_announce(&body.encode()).unwrap().peers.len(),
            PEERS_MAX
        );
    }

    #[test]
    fn announce_becomes_scrape_in_the_last_component_only() {
        let hash = InfoHash::new([b'a'; 20]);
        let query = "info_hash=aaaaaaaaaaaaaaaaaaaa";
        // The examples of the convention that BEP 48 repeats.
        for (announce, scrape) in [
            ("/announce", Some("/scrape?")),
            ("/x/announce", Some("/x/scrape?")),
            ("/announce.php", Some("/scrape.php?")),
            ("/a", None),
            ("/announce?x2%0644", Some("/scrape?x2%0644&")),
            ("/announce?x=2/4", Some("/scrape?x=2/4&")),
            ("/x%064announce", None),
            ("/announce/x", None),
            ("/announce/announce#x", Some("/announce/scrape?")),
            ("announce", None),
            ("", None),
        ] {
            let scrape = scrape.map(|start| format!("{start}{query}"));
            assert_eq!(scrape_target(announce, &[hash]), scrape, "{announce}");
        }
        let many = scrape_target("/announce", &[hash; SCRAPE_HASHES_MAX + 1]).unwrap();
        assert_eq!(many.matches("info_hash=").count(), SCRAPE_HASHES_MAX);
        assert!(many.len() < 4096);
    }

    #[test]
    fn a_scrape_tells_of_the_torrents_that_were_asked_for() {
        let [a, b, c] = [b'a', b'b', b'c'].map(|byte| InfoHash::new([byte; 20]));
        let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi3e\
            11:downloadersi1e10:incompletei2ee20:bbbbbbbbbbbbbbbbbbbbi5e3:xxxde\
            20:ccccccccccccccccccccd8:completei-1e10:incompletei99999999999eeee";
        let full = ScrapeEntry {
            complete: 1,
            incomplete: 2,
            downloaded: 3,
            downloaders: Some(1),
        };
        let none = ScrapeEntry::default();
        assert_eq!(
            parse_scrape(body, &[c, a, InfoHash::new([b'd'; 20]), b]),
            Ok(vec![(c, none), (a, full), (b, none)])
        );
        assert_eq!(parse_scrape(body, &[]), Ok(vec![]));
        assert_eq!(
            parse_scrape(b"d14:failure reason2:noe", &[a]),
            Err(AnnounceError::Failure("no".to_owned()))
        );
        assert_eq!(
            parse_scrape(b"de", &[a]),
            Err(AnnounceError::NotADictionary)
        );
    }

    proptest! {
        #[test]
        fn random_scrapes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_scrape(&bytes, &[InfoHash::new([b'a'; 20])]);
            let _ = scrape_target(&String::from_utf8_lossy(&bytes), &[]);
        }

        #[test]
        fn random_bodies_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_announce(&bytes);
            for key in ["peers", "peers6", "interval", "external ip"] {
                let body = Bencode::dict([(key, bytes.clone().into())]).encode();
                prop_assert!(parse_announce(&body).is_ok());
                let list = format!("d{}:{key}l", key.len());
                let _ = parse_announce(&[list.as_bytes(), &bytes, b"ee"].concat());
            }
        }
    }
}
