//! Which pieces a peer may download from us while it is choked (BEP 6).

use std::net::Ipv4Addr;

use dunlin_metainfo::InfoHash;
use sha1::{Digest, Sha1};

/// The canonical allowed-fast set: at most `count` pieces of a torrent that has `pieces`, in the
/// order in which they are found. Addresses of one /24 get the same set, so that owning many of
/// them brings nothing. BEP 6 defines it for IPv4 only.
pub fn allowed_fast(ip: Ipv4Addr, info_hash: &InfoHash, pieces: u32, count: usize) -> Vec<u32> {
    let count = count.min(ALLOWED_FAST_MAX).min(pieces as usize);
    let [a, b, c, _] = ip.octets();
    let mut seed = [a, b, c, 0].to_vec();
    seed.extend_from_slice(info_hash.as_bytes());
    let mut digest: [u8; 20] = Sha1::digest(&seed).into();
    let mut set = Vec::with_capacity(count);
    for _ in 0..ROUNDS_MAX {
        for word in digest.as_chunks::<4>().0 {
            if set.len() == count {
                return set;
            }
            let piece = u32::from_be_bytes(*word) % pieces;
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        digest = Sha1::digest(digest).into();
    }
    set
}

/// Pieces in a set, at most.
const ALLOWED_FAST_MAX: usize = 32;

/// Digests tried before a set stays short. Five draws a digest: 32 of 32 pieces need about 130.
const ROUNDS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_bep_6() {
        let info_hash = InfoHash::new([0xaa; 20]);
        let ip = Ipv4Addr::new(80, 4, 4, 200);
        let nine = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(allowed_fast(ip, &info_hash, 1313, 7), nine[..7]);
        assert_eq!(allowed_fast(ip, &info_hash, 1313, 9), nine);
        let neighbour = Ipv4Addr::new(80, 4, 4, 1);
        assert_eq!(allowed_fast(neighbour, &info_hash, 1313, 9), nine);
    }

    #[test]
    fn small_torrents_give_every_piece_once() {
        let info_hash = InfoHash::new([7; 20]);
        for pieces in 0..40 {
            let mut set = allowed_fast(Ipv4Addr::LOCALHOST, &info_hash, pieces, 1000);
            set.sort_unstable();
            set.dedup();
            assert_eq!(set.len(), pieces.min(32) as usize);
            assert!(set.iter().all(|&piece| piece < pieces));
        }
    }
}
