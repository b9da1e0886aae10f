//! Peer exchange (BEP 11): who is connected with the sender, and who is no more.
//!
//! One message holds at most [`ENTRIES_MAX`] added and as many dropped peers, IPv4 and IPv6
//! together; the rest of a longer one is ignored. Whether an address makes sense is not decided here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dunlin_metainfo::bencode::{self, Bencode, Value};

use super::message::Violation;

/// As it is called in the handshake of the extension protocol (BEP 10).
pub const NAME: &str = "ut_pex";

/// The payload of a `ut_pex` message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PexMessage {
    pub added: Vec<PexPeer>,
    pub dropped: Vec<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PexPeer {
    pub addr: SocketAddr,
    pub flags: PexFlags,
}

/// What the sender knows of an added peer. Unknown bits are kept and mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PexFlags(pub u8);

impl PexFlags {
    pub const PREFERS_ENCRYPTION: Self = Self(0x01);
    /// A seed, or one that downloads no more (BEP 21).
    pub const SEED: Self = Self(0x02);
    pub const UTP: Self = Self(0x04);
    pub const HOLEPUNCH: Self = Self(0x08);
    /// The sender dialled it: others can too.
    pub const REACHABLE: Self = Self(0x10);

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl PexMessage {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }

    /// What exceeds the limits is left out.
    pub fn encode(&self) -> Vec<u8> {
        let added = self.added.get(..ENTRIES_MAX).unwrap_or(&self.added);
        let dropped = self.dropped.get(..ENTRIES_MAX).unwrap_or(&self.dropped);
        let (v4, v6): (Vec<PexPeer>, Vec<PexPeer>) =
            added.iter().partition(|peer| peer.addr.is_ipv4());
        let (gone4, gone6): (Vec<SocketAddr>, Vec<SocketAddr>) =
            dropped.iter().partition(|addr| addr.is_ipv4());
        let addrs = |peers: &[PexPeer]| compact(peers.iter().map(|peer| peer.addr));
        let flags = |peers: &[PexPeer]| peers.iter().map(|peer| peer.flags.0).collect::<Vec<u8>>();
        // Those of IPv4 always: early clients expect them.
        let mut entries: Vec<(&str, Bencode<'_>)> = vec![
            ("added", addrs(&v4).into()),
            ("added.f", flags(&v4).into()),
            ("dropped", compact(gone4.into_iter()).into()),
        ];
        if !v6.is_empty() {
            entries.push(("added6", addrs(&v6).into()));
            entries.push(("added6.f", flags(&v6).into()));
        }
        if !gone6.is_empty() {
            entries.push(("dropped6", compact(gone6.into_iter()).into()));
        }
        Bencode::dict(entries).encode()
    }

    /// Fields that are missing or of the wrong type are empty, missing flags are 0, half an address
    /// at the end is not there, and an address that comes twice comes once. Only what is no
    /// dictionary is a violation.
    pub fn decode(payload: &[u8]) -> Result<Self, Violation> {
        let document = bencode::decode(payload).map_err(|_| Violation::ExtensionMessage)?;
        let root = document.root();
        root.as_dict().ok_or(Violation::ExtensionMessage)?;
        let field = |key: &str| root.get(key).and_then(Value::as_bytes).unwrap_or_default();
        let added = peers(v4_addrs(field("added")), field("added.f"))
            .chain(peers(v6_addrs(field("added6")), field("added6.f")));
        let mut seen = BTreeSet::new();
        let added = added
            .take(ENTRIES_MAX)
            .filter(|peer| seen.insert(peer.addr));
        let dropped = v4_addrs(field("dropped")).chain(v6_addrs(field("dropped6")));
        Ok(Self {
            added: added.collect(),
            dropped: dropped.take(ENTRIES_MAX).collect(),
        })
    }
}

fn peers<'a>(
    addrs: impl Iterator<Item = SocketAddr> + 'a,
    flags: &'a [u8],
) -> impl Iterator<Item = PexPeer> + 'a {
    addrs.enumerate().map(|(place, addr)| PexPeer {
        addr,
        flags: PexFlags(flags.get(place).copied().unwrap_or_default()),
    })
}

fn v4_addrs(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    let (entries, _) = bytes.as_chunks::<6>();
    entries.iter().map(|&[a, b, c, d, high, low]| {
        let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        SocketAddr::new(ip, u16::from_be_bytes([high, low]))
    })
}

fn v6_addrs(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    let (entries, _) = bytes.as_chunks::<18>();
    entries.iter().map(|entry| {
        let [ip @ .., high, low] = entry;
        let ip = IpAddr::V6(Ipv6Addr::from(*ip));
        SocketAddr::new(ip, u16::from_be_bytes([*high, *low]))
    })
}

fn compact(addrs: impl Iterator<Item = SocketAddr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for addr in addrs {
        match addr.ip() {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
        bytes.extend_from_slice(&addr.port().to_be_bytes());
    }
    bytes
}

/// Peers added, and peers dropped, in one message (BEP 11).
pub const ENTRIES_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(text: &str, flags: PexFlags) -> PexPeer {
        let addr = text.parse().unwrap();
        PexPeer { addr, flags }
    }

    #[test]
    fn a_message_is_encoded_as_bep_11_has_it() {
        let message = PexMessage {
            added: vec![
                peer("1.2.3.4:258", PexFlags::SEED.with(PexFlags::REACHABLE)),
                peer("[102:304:506:708:90a:b0c:d0e:f10]:257", PexFlags::UTP),
            ],
            dropped: vec!["5.6.7.8:1".parse().unwrap()],
        };
        let bytes = message.encode();
        assert_eq!(
            bytes,
            b"d5:added6:\x01\x02\x03\x04\x01\x027:added.f1:\x12\
              6:added618:\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x01\x01\
              8:added6.f1:\x04\
              7:dropped6:\x05\x06\x07\x08\x00\x01e"
        );
        assert_eq!(PexMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_is_missing_or_cut_short_is_not_there() {
        let message = PexMessage::decode(b"d5:added13:\x01\x02\x03\x04\x01\x02\x01\x02\x03\x05\x01\x02\x097:added.f1:\x107:droppedi3ee").unwrap();
        assert_eq!(
            message.added,
            [
                peer("1.2.3.4:258", PexFlags::REACHABLE),
                peer("1.2.3.5:258", PexFlags::default())
            ]
        );
        assert!(message.dropped.is_empty());
        assert!(PexMessage::decode(b"de").unwrap().is_empty());
    }

    #[test]
    fn an_address_that_comes_twice_comes_once() {
        let twice = b"d5:added12:\x01\x02\x03\x04\x01\x02\x01\x02\x03\x04\x01\x02e";
        assert_eq!(PexMessage::decode(twice).unwrap().added.len(), 1);
    }

    #[test]
    fn the_excess_of_a_long_message_is_ignored() {
        let addrs: Vec<u8> = (0..1000u32)
            .flat_map(|n| [n.to_be_bytes().as_slice(), &[1, 1]].concat())
            .collect();
        let payload = Bencode::dict([
            ("added", addrs.clone().into()),
            ("dropped", addrs[..360].to_vec().into()),
        ]);
        let message = PexMessage::decode(&payload.encode()).unwrap();
        assert_eq!((message.added.len(), message.dropped.len()), (50, 50));
    }

    #[test]
    fn we_never_send_more_than_the_limit() {
        let many = (1..200u16).map(|port| SocketAddr::from(([1, 2, 3, 4], port)));
        let message = PexMessage {
            added: many
                .clone()
                .map(|addr| PexPeer {
                    addr,
                    flags: PexFlags::default(),
                })
                .collect(),
            dropped: many.collect(),
        };
        let sent = PexMessage::decode(&message.encode()).unwrap();
        assert_eq!((sent.added.len(), sent.dropped.len()), (50, 50));
    }

    #[test]
    fn something_else_is_a_violation() {
        for payload in [
            b"".as_slice(),
            b"le",
            b"d5:added",
            b"i1e",
            b"d5:added9999999999:",
        ] {
            let result = PexMessage::decode(payload);
            assert_eq!(result, Err(Violation::ExtensionMessage));
        }
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_are_inverse(
            v4 in prop::collection::btree_map(any::<(Ipv4Addr, u16)>(), any::<u8>(), 0..25),
            v6 in prop::collection::btree_map(any::<(Ipv6Addr, u16)>(), any::<u8>(), 0..25),
            dropped in prop::collection::vec(any::<(Ipv4Addr, u16)>(), 0..50),
        ) {
            let v4 = v4.into_iter().map(|((ip, port), flags)| (SocketAddr::from((ip, port)), flags));
            let v6 = v6.into_iter().map(|((ip, port), flags)| (SocketAddr::from((ip, port)), flags));
            let added = v4.chain(v6).map(|(addr, flags)| PexPeer { addr, flags: PexFlags(flags) });
            let message = PexMessage {
                added: added.collect(),
                dropped: dropped.into_iter().map(SocketAddr::from).collect(),
                };
            prop_assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PexMessage::decode(&bytes);
            let entry = Bencode::dict([("added", bytes.clone().into()), ("added6", bytes.clone().into())]);
            prop_assert!(PexMessage::decode(&entry.encode()).is_ok());
        }
    }
}
