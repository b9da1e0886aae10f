//! The 68 bytes that open every connection (BEP 3), and what their reserved bits promise.

use dunlin_metainfo::{InfoHash, PeerId};

/// What a peer announced in its handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    pub reserved: Reserved,
}

/// The eight reserved bytes. Unknown bits are kept and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// What dunlin offers: the fast extension and the extension protocol.
    pub const OURS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

    /// BEP 6.
    pub const fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// BEP 10.
    pub const fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }
}
