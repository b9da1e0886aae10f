//! The messages of BEP 3, BEP 6 (fast extension) and BEP 10 (extension protocol).
//!
//! On the wire a message is its length (four bytes, big-endian, counting what follows), its id
//! and its payload; a length of zero is a keep-alive. [`check_len`] says how long a message of
//! each id may be, so that nothing is buffered before its length is known to be right. Taking
//! messages from a stream is the [`Decoder`](super::Decoder)'s work.

use dunlin_metainfo::layout::PIECES_MAX;
use dunlin_metainfo::{BLOCK_LEN, Block};

/// One message, as a value. Indices are a peer's claim: nothing here is checked against a
/// torrent yet. A block's payload is not a message; it travels in a
/// [`BlockBuf`](crate::buf::BlockBuf).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have {
        piece: u32,
    },
    Bitfield(Vec<u8>),
    Request(Request),
    Cancel(Request),
    /// DHT port (BEP 5).
    Port(u16),
    /// BEP 6.
    SuggestPiece {
        piece: u32,
    },
    /// BEP 6, in place of a bitfield.
    HaveAll,
    /// BEP 6, in place of a bitfield.
    HaveNone,
    /// BEP 6: the request will not be answered.
    RejectRequest(Request),
    /// BEP 6: the piece may be requested while choked.
    AllowedFast {
        piece: u32,
    },
    /// BEP 10. `id` 0 is the extension handshake.
    Extended {
        id: u8,
        payload: Vec<u8>,
    },
}

impl Message {
    /// Appends the message as it stands on the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeepAlive => out.extend_from_slice(&[0; 4]),
            Self::Choke => put(out, CHOKE, &[]),
            Self::Unchoke => put(out, UNCHOKE, &[]),
            Self::Interested => put(out, INTERESTED, &[]),
            Self::NotInterested => put(out, NOT_INTERESTED, &[]),
            Self::Have { piece } => put(out, HAVE, &[&piece.to_be_bytes()]),
            Self::Bitfield(bits) => put(out, BITFIELD, &[bits]),
            Self::Request(request) => put(out, REQUEST, &[&request.to_bytes()]),
            Self::Cancel(request) => put(out, CANCEL, &[&request.to_bytes()]),
            Self::Port(port) => put(out, PORT, &[&port.to_be_bytes()]),
            Self::SuggestPiece { piece } => put(out, SUGGEST_PIECE, &[&piece.to_be_bytes()]),
            Self::HaveAll => put(out, HAVE_ALL, &[]),
            Self::HaveNone => put(out, HAVE_NONE, &[]),
            Self::RejectRequest(request) => put(out, REJECT_REQUEST, &[&request.to_bytes()]),
            Self::AllowedFast { piece } => put(out, ALLOWED_FAST, &[&piece.to_be_bytes()]),
            Self::Extended { id, payload } => put(out, EXTENDED, &[&[*id], payload]),
        }
    }

    /// A message without a body, from its first bytes: length, id, payload. `None` for ids whose
    /// payload does not fit there or that nobody knows.
    pub(super) fn from_head(head: &[u8; HEAD_LEN_MAX]) -> Option<Self> {
        let piece = word(head, 5);
        let request = Request {
            piece,
            begin: word(head, 9),
            len: word(head, 13),
        };
        Some(match head[4] {
            CHOKE => Self::Choke,
            UNCHOKE => Self::Unchoke,
            INTERESTED => Self::Interested,
            NOT_INTERESTED => Self::NotInterested,
            HAVE => Self::Have { piece },
            REQUEST => Self::Request(request),
            CANCEL => Self::Cancel(request),
            PORT => Self::Port(u16::from_be_bytes([head[5], head[6]])),
            SUGGEST_PIECE => Self::SuggestPiece { piece },
            HAVE_ALL => Self::HaveAll,
            HAVE_NONE => Self::HaveNone,
            REJECT_REQUEST => Self::RejectRequest(request),
            ALLOWED_FAST => Self::AllowedFast { piece },
            _ => return None,
        })
    }
}

/// A stretch of a piece, as named on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Request {
    pub piece: u32,
    pub begin: u32,
    pub len: u32,
}

impl Request {
    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.piece.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.begin.to_be_bytes());
        bytes[8..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

impl From<Block> for Request {
    fn from(block: Block) -> Self {
        Self {
            piece: block.piece().get(),
            begin: block.offset(),
            len: block.len(),
        }
    }
}

/// What stands before the payload of a block on the wire: the head of a `piece` message.
pub fn piece_header(block: Block) -> [u8; PIECE_HEADER_LEN] {
    let mut header = [0; PIECE_HEADER_LEN];
    header[..4].copy_from_slice(&(9 + block.len()).to_be_bytes());
    header[4] = PIECE;
    header[5..9].copy_from_slice(&block.piece().get().to_be_bytes());
    header[9..].copy_from_slice(&block.offset().to_be_bytes());
    header
}

/// The beginning of an extended message (BEP 10) whose payload is `head` and then `rest` bytes.
pub fn extended_header(id: u8, head: &[u8], rest: usize) -> Vec<u8> {
    let len = u32::try_from(2 + head.len() + rest);
    let len = len.expect("our own messages are far shorter than 4 GiB");
    let mut out = len.to_be_bytes().to_vec();
    out.extend_from_slice(&[EXTENDED, id]);
    out.extend_from_slice(head);
    out
}

/// Whether a message of this id may have this length, the id included. Ids that nobody knows are
/// to be ignored (BEP 10 asks for it), but not without end.
pub fn check_len(id: u8, len: u32) -> Result<(), Violation> {
    let (min, max) = match id {
        CHOKE | UNCHOKE | INTERESTED | NOT_INTERESTED | HAVE_ALL | HAVE_NONE => (1, 1),
        HAVE | SUGGEST_PIECE | ALLOWED_FAST => (5, 5),
        REQUEST | CANCEL | REJECT_REQUEST => (13, 13),
        PORT => (3, 3),
        BITFIELD => (1, BITFIELD_LEN_MAX),
        PIECE => (9, 9 + BLOCK_LEN),
        EXTENDED => (2, EXTENDED_LEN_MAX),
        _ => (1, UNKNOWN_LEN_MAX),
    };
    if len > max && max > FIXED_LEN_MAX {
        Err(Violation::MessageTooLong { id, len })
    } else if len < min || len > max {
        Err(Violation::MessageLength { id, len })
    } else {
        Ok(())
    }
}

/// Whether the payload of this id is of any length.
pub(super) fn has_body(id: u8) -> bool {
    !matches!(
        id,
        CHOKE..=HAVE | REQUEST | CANCEL | PORT | SUGGEST_PIECE..=ALLOWED_FAST
    )
}

/// The big-endian number at a place that is known to lie inside.
pub(super) fn word(head: &[u8; HEAD_LEN_MAX], at: usize) -> u32 {
    debug_assert!(at + 4 <= HEAD_LEN_MAX);
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn put(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) {
    let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let len = u32::try_from(len).expect("our own messages are far shorter than 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.push(id);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// How a peer broke the protocol. It ends the connection, nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    #[error("message {id} of {len} bytes is too long")]
    MessageTooLong { id: u8, len: u32 },
    #[error("message {id} has a wrong length, {len} bytes")]
    MessageLength { id: u8, len: u32 },
    #[error("it does not speak BitTorrent")]
    NotBitTorrent,
    #[error("bitfield of a wrong size or with spare bits")]
    Bitfield,
    #[error("have-none after it told what it has")]
    HaveNoneLate,
    #[error("piece index {0} out of range")]
    PieceIndex(u32),
    #[error("request out of range")]
    RequestRange,
    #[error("extension handshake malformed")]
    ExtensionHandshake,
    #[error("message of an extension malformed")]
    ExtensionMessage,
    #[error("metadata that contradicts itself or was not asked for")]
    Metadata,
    #[error("message of an extension that was not negotiated")]
    NotNegotiated,
}

// BEP 3.
pub const CHOKE: u8 = 0;
pub const UNCHOKE: u8 = 1;
pub const INTERESTED: u8 = 2;
pub const NOT_INTERESTED: u8 = 3;
pub const HAVE: u8 = 4;
pub const BITFIELD: u8 = 5;
pub const REQUEST: u8 = 6;
pub const PIECE: u8 = 7;
pub const CANCEL: u8 = 8;
// BEP 5.
pub const PORT: u8 = 9;
// BEP 6.
pub const SUGGEST_PIECE: u8 = 0x0d;
pub const HAVE_ALL: u8 = 0x0e;
pub const HAVE_NONE: u8 = 0x0f;
pub const REJECT_REQUEST: u8 = 0x10;
pub const ALLOWED_FAST: u8 = 0x11;
// BEP 10.
pub const EXTENDED: u8 = 20;

/// Bytes before the payload of a `piece` message: length, id, piece, begin.
pub const PIECE_HEADER_LEN: usize = 13;

/// The longest message without a body, in bytes: a request with its length.
pub(super) const HEAD_LEN_MAX: usize = 17;

/// The longest of the messages that have only one right length, without the length itself.
const FIXED_LEN_MAX: u32 = 13;

const BITFIELD_LEN_MAX: u32 = 1 + PIECES_MAX / 8;
/// The longest that is in use is 16 KiB of metadata behind its header (BEP 9). All of a message that
/// is not a block is kept in memory that no ceiling counts, so this times the connections is what
/// peers can make us hold.
pub const EXTENDED_LEN_MAX: u32 = 64 * 1024;
const UNKNOWN_LEN_MAX: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_metainfo::{FileSpan, Layout};

    fn encoded(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn only_blocks_and_bitfields_are_longer_than_64_kib() {
        // A bitfield is as long as the torrent needs (`Decoder::set_pieces`) and a block has a
        // buffer of the pool. All else that 80 peers can make us keep is 5 MiB.
        for id in (0..=u8::MAX).filter(|&id| id != PIECE && id != BITFIELD) {
            assert!(check_len(id, (64 << 10) + 1).is_err(), "id {id}");
        }
    }

    #[test]
    fn messages_are_byte_exact() {
        let request = Request {
            piece: 1,
            begin: 0x4000,
            len: 0x2000,
        };
        let cases: [(Message, &[u8]); 16] = [
            (Message::KeepAlive, &[0, 0, 0, 0]),
            (Message::Choke, &[0, 0, 0, 1, 0]),
            (Message::Unchoke, &[0, 0, 0, 1, 1]),
            (Message::Interested, &[0, 0, 0, 1, 2]),
            (Message::NotInterested, &[0, 0, 0, 1, 3]),
            (Message::Have { piece: 258 }, &[0, 0, 0, 5, 4, 0, 0, 1, 2]),
            (Message::Bitfield(vec![0xa0]), &[0, 0, 0, 2, 5, 0xa0]),
            (
                Message::Request(request),
                &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x20, 0],
            ),
            (
                Message::Cancel(request),
                &[0, 0, 0, 13, 8, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x20, 0],
            ),
            (Message::Port(6881), &[0, 0, 0, 3, 9, 0x1a, 0xe1]),
            (
                Message::SuggestPiece { piece: 3 },
                &[0, 0, 0, 5, 0x0d, 0, 0, 0, 3],
            ),
            (Message::HaveAll, &[0, 0, 0, 1, 0x0e]),
            (Message::HaveNone, &[0, 0, 0, 1, 0x0f]),
            (
                Message::RejectRequest(request),
                &[0, 0, 0, 13, 0x10, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x20, 0],
            ),
            (
                Message::AllowedFast { piece: 4 },
                &[0, 0, 0, 5, 0x11, 0, 0, 0, 4],
            ),
            (
                Message::Extended {
                    id: 0,
                    payload: b"de".to_vec(),
                },
                &[0, 0, 0, 4, 20, 0, b'd', b'e'],
            ),
        ];
        for (message, bytes) in cases {
            assert_eq!(encoded(&message), bytes, "{message:?}");
        }
    }

    #[test]
    fn the_head_of_a_block_names_it() {
        let file = FileSpan {
            len: 40_000,
            pad: false,
        };
        let layout = Layout::new(32_768, [file]).unwrap();
        let last = layout.block(1, 0, 7_232).unwrap();
        assert_eq!(
            piece_header(last),
            [0, 0, 0x1c, 0x49, 7, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn every_id_has_a_limit() {
        for id in 0..=u8::MAX {
            assert!(check_len(id, 0).is_err(), "id {id}");
            let max = match id {
                BITFIELD => BITFIELD_LEN_MAX,
                _ => EXTENDED_LEN_MAX,
            };
            assert!(check_len(id, max + 1).is_err(), "id {id}");
        }
        for (id, len) in [
            (CHOKE, 2),
            (HAVE, 4),
            (HAVE, 6),
            (REQUEST, 12),
            (REQUEST, 14),
            (PORT, 2),
            (PIECE, 8),
            (EXTENDED, 1),
        ] {
            let violation = Violation::MessageLength { id, len };
            assert_eq!(check_len(id, len), Err(violation));
        }
        for (id, len) in [
            (PIECE, BLOCK_LEN + 10),
            (BITFIELD, PIECES_MAX / 8 + 2),
            (EXTENDED, EXTENDED_LEN_MAX + 1),
            (99, UNKNOWN_LEN_MAX + 1),
        ] {
            let violation = Violation::MessageTooLong { id, len };
            assert_eq!(check_len(id, len), Err(violation));
            assert_eq!(check_len(id, len - 1), Ok(()));
        }
    }
}
