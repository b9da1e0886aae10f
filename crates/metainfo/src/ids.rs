//! The fixed-length names of the field: info hashes, peer ids, piece digests.
//!
//! Each is its own type, so that a peer id never compiles as an info hash.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};

/// Text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got:?}")]
pub struct HexError {
    expected: usize,
    got: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            pub const LEN: usize = $len;

            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $len];
                if decode_hex(text, &mut bytes) {
                    Ok(Self(bytes))
                } else {
                    Err(HexError { expected: 2 * $len, got: text.chars().take(80).collect() })
                }
            }
        }
    };
}

id!(
    /// SHA-1 of the bencoded `info` dictionary: the name of a v1 torrent (BEP 3).
    InfoHash,
    20
);
id!(
    /// SHA-256 of the bencoded `info` dictionary: the name of a v2 torrent (BEP 52).
    InfoHashV2,
    32
);
id!(
    /// What a peer calls itself in its handshake (BEP 3, BEP 20).
    PeerId,
    20
);
id!(
    /// SHA-1 of a piece or of a block.
    Sha1Digest,
    20
);
id!(
    /// SHA-256 of a block, or of two others: a node of a hash tree (BEP 52).
    Sha256Digest,
    32
);

impl InfoHash {
    /// The name of the torrent whose bencoded `info` dictionary this is.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    if digits.len() != 2 * out.len() {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (
            char::from(pair[0]).to_digit(16),
            char::from(pair[1]).to_digit(16),
        ) else {
            return false;
        };
        *byte = (high * 16 + low) as u8;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        let text = "0123456789abcdef0123456789ABCDEF01234567";
        let hash: InfoHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text.to_lowercase());
    }

    #[test]
    fn wrong_length_and_wrong_digits_are_refused() {
        assert!("abc".parse::<InfoHash>().is_err());
        assert!(
            "zz23456789abcdef0123456789abcdef01234567"
                .parse::<InfoHash>()
                .is_err()
        );
        assert!(
            "é123456789abcdef0123456789abcdef0123456"
                .parse::<InfoHash>()
                .is_err()
        );
    }
}
