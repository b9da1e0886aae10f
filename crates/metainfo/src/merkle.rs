//! The hash trees of v2 torrents (BEP 52).
//!
//! Each file has a binary tree of SHA-256 over its blocks of 16 KiB. Leaves beyond the end of the
//! file are zero. The *piece layer* is the level at which one digest covers one piece; a .torrent
//! lists it for every file of more than one piece.

use sha2::{Digest, Sha256};

use crate::ids::Sha256Digest;

/// What stands for the leaves that a file does not have.
const NO_LEAF: Sha256Digest = Sha256Digest::new([0; Sha256Digest::LEN]);

/// The digest of one block.
pub fn leaf(block: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(block).into())
}

/// The level above this one, which is `height` levels above the leaves. A digest without a partner
/// is joined with that of a tree of missing leaves.
pub fn parents(level: &[Sha256Digest], height: u32) -> Vec<Sha256Digest> {
    let padding = (0..height).fold(NO_LEAF, |below, _| join(&below, &below));
    let pairs = level.chunks(2).filter_map(|pair| {
        let (left, rest) = pair.split_first()?;
        Some(join(left, rest.first().unwrap_or(&padding)))
    });
    pairs.collect()
}

/// The top of the tree over a level that is `height` levels above the leaves; `None` over nothing.
pub fn root(level: &[Sha256Digest], mut height: u32) -> Option<Sha256Digest> {
    let mut level = level.to_vec();
    while level.len() > 1 {
        level = parents(&level, height);
        height += 1;
    }
    level.first().copied()
}

fn join(left: &Sha256Digest, right: &Sha256Digest) -> Sha256Digest {
    let both = Sha256::new()
        .chain_update(left.as_bytes())
        .chain_update(right.as_bytes());
    Sha256Digest::new(both.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Sha256Digest> {
        (0..count).map(|at| leaf(&[at])).collect()
    }

    #[test]
    fn one_leaf_is_its_own_root_and_none_has_none() {
        assert_eq!(root(&leaves(1), 0), Some(leaf(&[0])));
        assert_eq!(root(&[], 0), None);
        // sha256sum of nothing.
        assert_eq!(
            leaf(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn missing_leaves_are_zero_whatever_the_level() {
        for count in 1..20 {
            let mut full = leaves(count);
            let width = full.len().next_power_of_two();
            full.resize(width, NO_LEAF);
            let expected = root(&full, 0);
            let mut level = leaves(count);
            for height in 0..6 {
                assert_eq!(
                    root(&level, height),
                    expected,
                    "{count} leaves, level {height}"
                );
                if level.len() > 1 {
                    level = parents(&level, height);
                } else {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_tree_is_joined_from_left_to_right() {
        let [a, b, c] = leaves(3)[..] else {
            unreachable!()
        };
        let expected = join(&join(&a, &b), &join(&c, &NO_LEAF));
        assert_eq!(root(&[a, b, c], 0), Some(expected));
        assert_ne!(root(&[b, a, c], 0), Some(expected));
        let padding = join(&NO_LEAF, &NO_LEAF);
        let above = join(&join(&a, &b), &join(&c, &padding));
        assert_eq!(root(&[a, b, c], 1), Some(above));
    }
}
