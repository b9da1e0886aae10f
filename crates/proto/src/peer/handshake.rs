//! The 68 bytes that open every connection (BEP 3), and what their reserved bits promise.

use dunlin_metainfo::{InfoHash, PeerId};

use super::message::Violation;

/// What a peer announced in its handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    pub reserved: Reserved,
}

impl Handshake {
    pub const LEN: usize = 68;

    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(self.info_hash.as_bytes());
        bytes[48..].copy_from_slice(self.peer_id.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let (mut reserved, mut info_hash, mut peer_id) = ([0; 8], [0; 20], [0; 20]);
        reserved.copy_from_slice(&bytes[20..28]);
        info_hash.copy_from_slice(&bytes[28..48]);
        peer_id.copy_from_slice(&bytes[48..]);
        Self {
            info_hash: InfoHash::new(info_hash),
            peer_id: PeerId::new(peer_id),
            reserved: Reserved(reserved),
        }
    }
}

/// Takes a handshake from a stream, in whatever portions it comes.
#[derive(Debug)]
pub struct HandshakeDecoder {
    bytes: [u8; Handshake::LEN],
    len: usize,
}

impl HandshakeDecoder {
    pub fn new() -> Self {
        Self {
            bytes: [0; Handshake::LEN],
            len: 0,
        }
    }

    /// Takes the next bytes from the front of `input`; what follows the handshake stays there.
    /// Something that is not BitTorrent is known by its first wrong byte.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Handshake>, Violation> {
        let missing = self.bytes.get_mut(self.len..).unwrap_or_default();
        let (taken, rest) = input.split_at(missing.len().min(input.len()));
        missing
            .iter_mut()
            .zip(taken)
            .for_each(|(to, from)| *to = *from);
        self.len += taken.len();
        *input = rest;
        let mut start = self.bytes.iter().zip(PROTOCOL).take(self.len);
        if !start.all(|(got, want)| got == want) {
            return Err(Violation::NotBitTorrent);
        }
        Ok((self.len == Handshake::LEN).then(|| Handshake::decode(&self.bytes)))
    }

    /// Whether anything arrived yet: a peer that closes before is one that refused us.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for HandshakeDecoder {
    fn default() -> Self {
        Self::new()
    }
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

/// The length of the name, and the name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handshake() -> Handshake {
        Handshake {
            info_hash: InfoHash::new(*b"iiiiiiiiiiiiiiiiiiii"),
            peer_id: PeerId::new(*b"-DL0100-pppppppppppp"),
            reserved: Reserved::OURS,
        }
    }

    #[test]
    fn the_handshake_is_byte_exact() {
        let mut expected = b"\x13BitTorrent protocol".to_vec();
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0x10, 0, 0x04]);
        expected.extend_from_slice(b"iiiiiiiiiiiiiiiiiiii-DL0100-pppppppppppp");
        assert_eq!(handshake().encode().to_vec(), expected);
    }

    #[test]
    fn the_first_wrong_byte_is_enough() {
        let mut decoder = HandshakeDecoder::new();
        assert_eq!(decoder.feed(&mut b"\x13BitTor".as_slice()), Ok(None));
        assert_eq!(
            decoder.feed(&mut b"n".as_slice()),
            Err(Violation::NotBitTorrent)
        );
        assert_eq!(
            HandshakeDecoder::new().feed(&mut b"GET / HTTP/1.1".as_slice()),
            Err(Violation::NotBitTorrent)
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_handshake(cuts in prop::collection::vec(0usize..=70, 0..6)) {
            let mut stream = handshake().encode().to_vec();
            stream.extend_from_slice(b"tail");
            let mut cuts = cuts;
            cuts.push(stream.len());
            cuts.sort_unstable();
            let mut decoder = HandshakeDecoder::new();
            let (mut at, mut found) = (0, None);
            for cut in cuts {
                let mut input = &stream[at..cut];
                if found.is_none() {
                    found = decoder.feed(&mut input).unwrap();
                    at = cut - input.len();
                }
            }
            prop_assert_eq!(found, Some(handshake()));
            prop_assert_eq!(&stream[at..], b"tail");
        }
    }
}
