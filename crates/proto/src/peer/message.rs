//! The messages of BEP 3, BEP 6 (fast extension) and BEP 10 (extension protocol).

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

/// A stretch of a piece, as named on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Request {
    pub piece: u32,
    pub begin: u32,
    pub len: u32,
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
    #[error("bitfield after other messages, or twice")]
    BitfieldLate,
    #[error("piece index {0} out of range")]
    PieceIndex(u32),
    #[error("request out of range")]
    RequestRange,
    #[error("extension handshake malformed")]
    ExtensionHandshake,
    #[error("message of an extension that was not negotiated")]
    NotNegotiated,
}
