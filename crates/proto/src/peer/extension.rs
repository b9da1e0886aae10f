//! The handshake of the extension protocol (BEP 10).
//!
//! It may come again: what it names then replaces what it named before. What is missing, of the
//! wrong type or out of range is as good as not said; only something that is no dictionary at all
//! is a [`Violation`]. How much of it is kept does not depend on how much was sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dunlin_metainfo::bencode::{self, Bencode, Value};

use super::message::Violation;

/// The payload of an extended message with id 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtendedHandshake {
    /// Which id the sender wants to see on messages of each extension; 0 switches it off.
    pub m: BTreeMap<String, u8>,
    /// Name and version of the client.
    pub v: Option<String>,
    /// How many requests the sender queues before it drops some.
    pub reqq: Option<u32>,
    /// The port that the sender listens on.
    pub p: Option<u16>,
    /// The receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// Length of the info dictionary in bytes, if the sender has it (BEP 9).
    pub metadata_size: Option<u32>,
    /// Whether the sender downloads no more (BEP 21), if it says.
    pub upload_only: Option<bool>,
}

impl ExtendedHandshake {
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.m.iter();
        let ids = ids.map(|(name, id)| (name.as_str(), Bencode::Integer((*id).into())));
        let mut entries = vec![("m", Bencode::dict(ids))];
        entries.extend(self.v.as_deref().map(|v| ("v", v.into())));
        entries.extend(self.reqq.map(|reqq| ("reqq", reqq.into())));
        entries.extend(self.p.map(|port| ("p", u32::from(port).into())));
        entries.extend(self.yourip.map(|ip| ("yourip", ip_bytes(ip).into())));
        let metadata_size = self.metadata_size;
        entries.extend(metadata_size.map(|size| ("metadata_size", size.into())));
        let upload_only = self.upload_only.map(u32::from);
        entries.extend(upload_only.map(|flag| ("upload_only", flag.into())));
        Bencode::dict(entries).encode()
    }

    pub fn decode(payload: &[u8]) -> Result<Self, Violation> {
        let document = bencode::decode(payload).map_err(|_| Violation::ExtensionHandshake)?;
        let root = document.root();
        root.as_dict().ok_or(Violation::ExtensionHandshake)?;
        let number = |key: &str| root.get(key).and_then(Value::as_int);
        Ok(Self {
            m: root.get("m").map(extensions).unwrap_or_default(),
            v: root.get("v").and_then(Value::as_bytes).map(client_name),
            reqq: positive(number("reqq")),
            p: positive(number("p")).and_then(|port| u16::try_from(port).ok()),
            yourip: root.get("yourip").and_then(Value::as_bytes).and_then(ip),
            metadata_size: positive(number("metadata_size")),
            upload_only: number("upload_only").map(|flag| flag != 0),
        })
    }
}

fn extensions(m: Value<'_>) -> BTreeMap<String, u8> {
    let entries = m.as_dict().into_iter().flatten();
    let mut extensions = BTreeMap::new();
    for (name, id) in entries {
        let (Ok(name), Some(Ok(id))) = (std::str::from_utf8(name), id.as_int().map(u8::try_from))
        else {
            continue;
        };
        if name.len() <= NAME_LEN_MAX && !extensions.contains_key(name) {
            extensions.insert(name.to_owned(), id);
        }
        if extensions.len() >= EXTENSIONS_MAX {
            break;
        }
    }
    extensions
}

fn client_name(bytes: &[u8]) -> String {
    let name = bytes.get(..CLIENT_NAME_LEN_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(name).into_owned()
}

fn positive(number: Option<i64>) -> Option<u32> {
    number
        .filter(|&number| number > 0)
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = bytes.try_into().ok().map(<[u8; 4]>::into);
    v4.or_else(|| bytes.try_into().ok().map(<[u8; 16]>::into))
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Extensions of one peer that we remember.
pub const EXTENSIONS_MAX: usize = 64;

/// Bytes of the name of an extension; longer ones are ignored.
const NAME_LEN_MAX: usize = 64;

/// Bytes of the client's name that are kept.
const CLIENT_NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &[u8]) -> ExtendedHandshake {
        ExtendedHandshake::decode(text).unwrap()
    }

    #[test]
    fn the_example_of_bep_10_is_read() {
        let handshake =
            decode(b"d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e");
        assert_eq!(handshake.m["LT_metadata"], 1);
        assert_eq!(handshake.m["µT_PEX"], 2);
        assert_eq!(handshake.p, Some(6881));
        assert_eq!(handshake.v.as_deref(), Some("µTorrent 1.2"));
        assert_eq!(handshake.reqq, None);
        assert_eq!(handshake.upload_only, None);
    }

    #[test]
    fn what_makes_no_sense_is_as_good_as_not_said() {
        let handshake = decode(
            b"d1:md1:ai256e1:bi-1e1:c1:x1:di0ee13:metadata_sizei-5e1:pi70000e\
              4:reqqi99999999999e11:upload_onlyi1e1:vi1e6:yourip3:abce",
        );
        assert_eq!(
            handshake,
            ExtendedHandshake {
                m: [("d".to_owned(), 0)].into(),
                reqq: Some(u32::MAX),
                upload_only: Some(true),
                ..ExtendedHandshake::default()
            }
        );
        assert_eq!(decode(b"d1:mi1ee"), ExtendedHandshake::default());
    }

    #[test]
    fn something_else_is_a_violation() {
        let deep = [b"d1:m".as_slice(), &[b'l'; 5000], &[b'e'; 5000], b"e"].concat();
        for payload in [b"".as_slice(), b"i1e", b"le", b"d1:m", b"d", &deep] {
            let result = ExtendedHandshake::decode(payload);
            assert_eq!(result, Err(Violation::ExtensionHandshake));
        }
    }

    #[test]
    fn only_so_many_extensions_and_so_much_of_a_name_are_kept() {
        let mut payload = b"d1:md".to_vec();
        for name in 0..500 {
            payload.extend_from_slice(format!("3:{name:03}i1e").as_bytes());
        }
        payload.extend_from_slice(b"e1:v1000:");
        payload.extend_from_slice(&[b'n'; 1000]);
        payload.push(b'e');
        let handshake = decode(&payload);
        assert_eq!(handshake.m.len(), EXTENSIONS_MAX);
        assert_eq!(handshake.v.unwrap().len(), CLIENT_NAME_LEN_MAX);
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_are_inverse(
            m in prop::collection::btree_map("[a-zA-Z_]{1,20}", any::<u8>(), 0..5),
            v in prop::option::of("[ -~]{0,40}"),
            reqq in prop::option::of(1u32..),
            p in prop::option::of(1u16..),
            yourip in prop::option::of(any::<IpAddr>()),
            metadata_size in prop::option::of(1u32..),
            upload_only in prop::option::of(any::<bool>()),
        ) {
            let handshake = ExtendedHandshake { m, v, reqq, p, yourip, metadata_size, upload_only };
            prop_assert_eq!(ExtendedHandshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtendedHandshake::decode(&bytes);
            let dict = [b"d1:m".as_slice(), &bytes, b"e"].concat();
            let _ = ExtendedHandshake::decode(&dict);
        }
    }
}
