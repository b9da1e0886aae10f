//! The messages of `ut_metadata` (BEP 9): how peers hand on the info dictionary of a torrent.
//!
//! The info dictionary travels in pieces of 16 KiB, the last one shorter. Nothing of it is
//! believed here: whether the bytes are the right ones is known when all of them are hashed.

use dunlin_metainfo::bencode::{self, Bencode, Value};

use super::message::Violation;

/// The name of the extension in the handshake of BEP 10.
pub const NAME: &str = "ut_metadata";

/// Bytes in every piece but the last.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// The longest info dictionary that we take or believe in. A torrent of 2^20 pieces has 20 MiB
/// of digests.
pub const METADATA_LEN_MAX: u32 = 30 * 1024 * 1024;

/// A piece and the dictionary before it.
const PAYLOAD_LEN_MAX: usize = METADATA_PIECE_LEN as usize + 1024;

/// What follows the id of an extended message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataMessage {
    Request {
        piece: u32,
    },
    Data {
        piece: u32,
        /// Length of the whole info dictionary, as the sender has it.
        total_size: u32,
        bytes: Vec<u8>,
    },
    /// The sender does not have the metadata, or will not give this piece of it now.
    Reject {
        piece: u32,
    },
}

impl MetadataMessage {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request { piece } => header(REQUEST, *piece, None),
            Self::Reject { piece } => header(REJECT, *piece, None),
            Self::Data {
                piece,
                total_size,
                bytes,
            } => {
                let mut out = data_header(*piece, *total_size);
                out.extend_from_slice(bytes);
                out
            }
        }
    }

    /// `None` for kinds of messages that nobody knows yet: BEP 9 wants them ignored.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, Violation> {
        if payload.len() > PAYLOAD_LEN_MAX {
            return Err(Violation::ExtensionMessage);
        }
        let (document, bytes) =
            bencode::decode_prefix(payload).map_err(|_| Violation::ExtensionMessage)?;
        let root = document.root();
        let number = |key: &str| root.get(key).and_then(Value::as_int);
        let kind = number("msg_type").ok_or(Violation::ExtensionMessage)?;
        if !(REQUEST..=REJECT).contains(&kind) {
            return Ok(None);
        }
        let small = |number: Option<i64>| {
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.ok_or(Violation::ExtensionMessage)
        };
        let piece = small(number("piece"))?;
        Ok(Some(match kind {
            REQUEST => Self::Request { piece },
            DATA => Self::Data {
                piece,
                total_size: small(number("total_size"))?,
                bytes: bytes.to_vec(),
            },
            _ => Self::Reject { piece },
        }))
    }
}

/// What stands before the bytes of a piece.
pub fn data_header(piece: u32, total_size: u32) -> Vec<u8> {
    header(DATA, piece, Some(total_size))
}

/// How many pieces an info dictionary of this length has.
pub const fn pieces(total_size: u32) -> u32 {
    total_size.div_ceil(METADATA_PIECE_LEN)
}

/// Length of one of them; `None` if there is no such piece.
pub fn piece_len(total_size: u32, piece: u32) -> Option<u32> {
    let start = piece.checked_mul(METADATA_PIECE_LEN)?;
    let rest = total_size.checked_sub(start).filter(|&rest| rest > 0)?;
    Some(rest.min(METADATA_PIECE_LEN))
}

fn header(kind: i64, piece: u32, total_size: Option<u32>) -> Vec<u8> {
    let mut entries = vec![
        ("msg_type", Bencode::Integer(kind)),
        ("piece", piece.into()),
    ];
    entries.extend(total_size.map(|size| ("total_size", size.into())));
    Bencode::dict(entries).encode()
}

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_9_are_byte_exact() {
        let request = MetadataMessage::Request { piece: 0 };
        assert_eq!(request.encode(), b"d8:msg_typei0e5:piecei0ee");
        let reject = MetadataMessage::Reject { piece: 0 };
        assert_eq!(reject.encode(), b"d8:msg_typei2e5:piecei0ee");
        let data = MetadataMessage::Data {
            piece: 0,
            total_size: 3425,
            bytes: b"xxxxxxxx".to_vec(),
        };
        let wire = b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx";
        assert_eq!(data.encode(), wire);
        for message in [request, reject, data] {
            assert_eq!(
                MetadataMessage::decode(&message.encode()),
                Ok(Some(message))
            );
        }
    }

    #[test]
    fn unknown_kinds_are_ignored_and_nonsense_is_a_violation() {
        assert_eq!(
            MetadataMessage::decode(b"d8:msg_typei3e5:piecei0ee"),
            Ok(None)
        );
        for payload in [
            b"".as_slice(),
            b"i0e",
            b"de",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei1e5:piecei0eexx",
            b"d8:msg_typei1e5:piecei0e10:total_sizei99999999999eexx",
            b"d8:msg_typei0e5:piecei0e",
        ] {
            assert_eq!(
                MetadataMessage::decode(payload),
                Err(Violation::ExtensionMessage),
                "{}",
                String::from_utf8_lossy(payload)
            );
        }
        let mut long = data_header(0, METADATA_LEN_MAX);
        long.resize(PAYLOAD_LEN_MAX + 1, b'x');
        let result = MetadataMessage::decode(&long);
        assert_eq!(result, Err(Violation::ExtensionMessage));
    }

    #[test]
    fn the_pieces_tile_the_dictionary() {
        for size in [1, 16_383, 16_384, 16_385, 3 * 16_384, METADATA_LEN_MAX] {
            let sum: u32 = (0..pieces(size))
                .map(|piece| piece_len(size, piece).unwrap())
                .sum();
            assert_eq!(sum, size);
            assert_eq!(piece_len(size, pieces(size)), None);
        }
        assert_eq!(pieces(0), 0);
        assert_eq!(piece_len(u32::MAX, u32::MAX), None);
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_are_inverse(
            kind in 0u8..3,
            piece in any::<u32>(),
            total_size in any::<u32>(),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let message = match kind {
                0 => MetadataMessage::Request { piece },
                1 => MetadataMessage::Data { piece, total_size, bytes },
                _ => MetadataMessage::Reject { piece },
            };
            prop_assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = MetadataMessage::decode(&bytes);
            let _ = MetadataMessage::decode(&[b"d8:msg_type".as_slice(), &bytes].concat());
        }
    }
}
