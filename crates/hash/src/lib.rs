//! SHA-1 of pieces.
//!
//! One message at a time today, over the `sha1` crate. Hashing of several messages at once (the
//! lanes of one core) will live behind these names, and any unsafe code that it needs is fenced
//! in this crate.

use dunlin_metainfo::Sha1Digest;
use sha1::Digest;

/// A SHA-1 in progress.
#[derive(Clone, Debug, Default)]
pub struct Sha1(sha1::Sha1);

impl Sha1 {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Sha1Digest {
        Sha1Digest::new(self.0.finalize().into())
    }
}

/// The digest of one message that is in memory.
pub fn sha1(bytes: &[u8]) -> Sha1Digest {
    let mut hasher = Sha1::new();
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-4 examples.
    const VECTORS: [(&str, &str); 3] = [
        ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
    ];

    #[test]
    fn agrees_with_the_published_vectors() {
        for (message, digest) in VECTORS {
            assert_eq!(sha1(message.as_bytes()).to_string(), digest);
        }
    }

    #[test]
    fn where_a_message_is_split_does_not_matter() {
        let message: Vec<u8> = (0..1_000u32).map(|at| (at % 251) as u8).collect();
        for split in [0, 1, 63, 64, 65, 999, 1_000] {
            let mut hasher = Sha1::new();
            hasher.update(&message[..split]);
            hasher.update(&message[split..]);
            assert_eq!(hasher.finish(), sha1(&message));
        }
    }
}
