//! The imaginary content of a torrent: every block is a tag instead of 16 KiB.
//!
//! The honest tag of a block follows from its place, the digest of a piece from the tags of its
//! blocks. A liar's block is any other tag, so that lies are found exactly where SHA-1 finds them.

use std::sync::Arc;

use dunlin_metainfo::{FileSpan, InfoHash, Layout, PieceIndex, Sha1Digest};

/// What every peer of a simulated swarm agrees on.
#[derive(Clone, Debug)]
pub struct Content {
    pub info_hash: InfoHash,
    pub layout: Arc<Layout>,
    pub piece_digests: Arc<[Sha1Digest]>,
    /// Stands for the info dictionary: bytes that nobody reads. Empty: nobody hands it on.
    pub info: Arc<[u8]>,
}

impl Content {
    /// One file of `pieces` whole pieces.
    ///
    /// # Panics
    /// If the layout is out of bounds: a scenario is wrong, not a user.
    pub fn new(pieces: u32, piece_len: u32) -> Self {
        Self::with_files(piece_len, &[u64::from(pieces) * u64::from(piece_len)])
    }

    /// # Panics
    /// If the layout is out of bounds.
    pub fn with_files(piece_len: u32, files: &[u64]) -> Self {
        let spans = files.iter().map(|&len| FileSpan { len, pad: false });
        let layout =
            Layout::new(u64::from(piece_len), spans).expect("a scenario's layout is valid");
        let piece_digests = layout
            .all_pieces()
            .map(|piece| piece_digest(honest_tags(&layout, piece)))
            .collect();
        Self {
            info_hash: InfoHash::new(*b"an imaginary torrent"),
            layout: Arc::new(layout),
            piece_digests,
            info: Arc::from([]),
        }
    }

    /// With an info dictionary of so many bytes, and the info hash that names it.
    pub fn with_metadata(mut self, len: usize) -> Self {
        let words = (0u64..).map(mix).flat_map(u64::to_be_bytes);
        self.info = words.take(len).collect();
        self.info_hash = InfoHash::of(&self.info);
        self
    }

    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }
}

/// The tag of a block as its author made it.
pub fn honest_tag(piece: u32, block: u16) -> u64 {
    mix(u64::from(piece) << 16 | u64::from(block))
}

pub fn honest_tags(layout: &Layout, piece: PieceIndex) -> impl Iterator<Item = u64> + use<> {
    (0..layout.blocks_in(piece)).map(move |block| honest_tag(piece.get(), block))
}

pub fn piece_digest(tags: impl Iterator<Item = u64>) -> Sha1Digest {
    digest(tags.fold(0x6475_6e6c_696e, |sum, tag| mix(sum.rotate_left(7) ^ tag)))
}

pub fn block_digest(tag: u64) -> Sha1Digest {
    digest(tag)
}

fn digest(value: u64) -> Sha1Digest {
    let mut bytes = [0; Sha1Digest::LEN];
    bytes[..8].copy_from_slice(&value.to_be_bytes());
    bytes[8..16].copy_from_slice(&mix(value).to_be_bytes());
    Sha1Digest::new(bytes)
}

/// SplitMix64's finaliser: a permutation, so different blocks never share a tag.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_block_changes_the_digest_of_its_piece() {
        let content = Content::new(3, 1 << 16);
        let piece = content.layout.piece(1).unwrap();
        let mut tags: Vec<u64> = honest_tags(&content.layout, piece).collect();
        assert_eq!(piece_digest(tags.iter().copied()), content.piece_digests[1]);
        tags[2] ^= 1;
        assert_ne!(piece_digest(tags.iter().copied()), content.piece_digests[1]);
        tags[2] ^= 1;
        tags.swap(0, 1);
        assert_ne!(piece_digest(tags.into_iter()), content.piece_digests[1]);
    }
}
