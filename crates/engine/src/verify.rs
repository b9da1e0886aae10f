//! Who sent which block, and who lied.
//!
//! A piece that fails its hash proves nothing about any one of its contributors, unless there was
//! only one. So the digests of its blocks are kept, the piece is fetched again from a single peer,
//! and when it is good, whoever sent a block with another digest is a proven liar. Nobody is
//! blamed on suspicion: the last contributor of a bad piece is as likely an honest seed.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_metainfo::{PieceIndex, Sha1Digest};

use crate::event::PeerAddr;

/// Failed attempts remembered for one piece. Older ones are forgotten: each attempt after the
/// first came from one peer, so that peer is proven guilty without a comparison.
const ATTEMPTS_MAX: usize = 4;

/// Pieces under suspicion at once. Beyond that the suspicion of the lowest piece is dropped: liars
/// get away with it once, memory does not grow.
const SUSPECTS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Verify {
    /// Contributors of the pieces in progress, one slot a block.
    trails: BTreeMap<PieceIndex, Vec<Option<PeerAddr>>>,
    suspects: BTreeMap<PieceIndex, Vec<Attempt>>,
}

#[derive(Debug)]
struct Attempt {
    contributors: Vec<Option<PeerAddr>>,
    /// The same, each once and in order.
    everybody: Vec<PeerAddr>,
    digests: Vec<Sha1Digest>,
}

impl Verify {
    /// A block of the piece came from this peer. `blocks` is how many the piece has.
    pub fn on_block(&mut self, piece: PieceIndex, index: u16, blocks: u16, from: PeerAddr) {
        let trail = self
            .trails
            .entry(piece)
            .or_insert_with(|| vec![None; usize::from(blocks)]);
        if let Some(slot) = trail.get_mut(usize::from(index)) {
            *slot = Some(from);
        }
    }

    /// The blocks of the piece are dropped without a verdict.
    pub fn on_reset(&mut self, piece: PieceIndex) {
        self.trails.remove(&piece);
    }

    /// Whether the digests of the blocks are wanted even if the piece is good.
    pub fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.suspects.contains_key(&piece)
    }

    /// Whether a piece failed that it gave a block of, and is not good yet: then it will be known
    /// who lied.
    pub fn is_accused(&self, peer: PeerAddr) -> bool {
        let mut attempts = self.suspects.values().flatten();
        attempts.any(|attempt| attempt.everybody.binary_search(&peer).is_ok())
    }

    /// Peers that gave blocks of the piece in progress, each once.
    pub fn contributors(&self, piece: PieceIndex) -> Vec<PeerAddr> {
        let peers: BTreeSet<PeerAddr> = self
            .trails
            .get(&piece)
            .into_iter()
            .flatten()
            .copied()
            .flatten()
            .collect();
        peers.into_iter().collect()
    }

    /// The piece failed its hash. Returns its contributor if there was only one: that is proof.
    pub fn on_bad(&mut self, piece: PieceIndex, digests: Vec<Sha1Digest>) -> Option<PeerAddr> {
        let everybody = self.contributors(piece);
        let contributors = self.trails.remove(&piece).unwrap_or_default();
        if let [only] = everybody[..] {
            return Some(only);
        }
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&piece) {
            self.suspects.pop_first();
        }
        let attempts = self.suspects.entry(piece).or_default();
        if attempts.len() == ATTEMPTS_MAX {
            attempts.remove(0);
        }
        attempts.push(Attempt {
            contributors,
            everybody,
            digests,
        });
        None
    }

    /// The piece is good. Returns everybody who sent a block that differs from the good one in an
    /// earlier attempt.
    pub fn on_good(&mut self, piece: PieceIndex, digests: &[Sha1Digest]) -> Vec<PeerAddr> {
        self.trails.remove(&piece);
        let attempts = self.suspects.remove(&piece).unwrap_or_default();
        let liars: BTreeSet<PeerAddr> = attempts
            .iter()
            .flat_map(|attempt| attempt.liars(digests))
            .collect();
        liars.into_iter().collect()
    }
}

impl Attempt {
    fn liars<'a>(&'a self, good: &'a [Sha1Digest]) -> impl Iterator<Item = PeerAddr> + 'a {
        self.contributors
            .iter()
            .zip(&self.digests)
            .zip(good)
            .filter(|((_, sent), good)| sent != good)
            .filter_map(|((from, _), _)| *from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_metainfo::{FileSpan, Layout};

    fn piece(index: u32) -> PieceIndex {
        let span = FileSpan {
            len: 1 << 30,
            pad: false,
        };
        Layout::new(1 << 18, [span]).unwrap().piece(index).unwrap()
    }

    fn peer(port: u16) -> PeerAddr {
        PeerAddr::Tcp(([127, 0, 0, 1], port).into())
    }

    fn digests(text: &str) -> Vec<Sha1Digest> {
        text.bytes()
            .map(|byte| Sha1Digest::new([byte; 20]))
            .collect()
    }

    fn trail(verify: &mut Verify, ports: &[u16]) {
        for (index, &port) in (0..).zip(ports) {
            verify.on_block(piece(0), index, ports.len() as u16, peer(port));
        }
    }

    #[test]
    fn the_one_who_sent_another_block_is_the_liar_not_the_last_contributor() {
        let mut verify = Verify::default();
        trail(&mut verify, &[1, 2, 3]);
        assert_eq!(verify.on_bad(piece(0), digests("aXc")), None);
        assert!(verify.is_suspect(piece(0)));
        assert!(verify.is_accused(peer(1)) && !verify.is_accused(peer(4)));
        trail(&mut verify, &[3, 3, 3]);
        assert_eq!(verify.on_good(piece(0), &digests("abc")), [peer(2)]);
        assert!(!verify.is_accused(peer(1)));
        assert!(!verify.is_suspect(piece(0)));
    }

    #[test]
    fn a_liar_who_then_sends_the_truth_convicts_itself() {
        let mut verify = Verify::default();
        trail(&mut verify, &[1, 2]);
        verify.on_bad(piece(0), digests("Xb"));
        trail(&mut verify, &[1, 1]);
        assert_eq!(verify.on_good(piece(0), &digests("ab")), [peer(1)]);
    }

    #[test]
    fn a_single_contributor_of_a_bad_piece_is_proof() {
        let mut verify = Verify::default();
        trail(&mut verify, &[1, 2]);
        assert_eq!(verify.on_bad(piece(0), digests("Xb")), None);
        trail(&mut verify, &[2, 2]);
        assert_eq!(verify.on_bad(piece(0), digests("aY")), Some(peer(2)));
        assert!(
            verify.is_suspect(piece(0)),
            "the first attempt is still to be judged"
        );
        trail(&mut verify, &[3, 3]);
        assert_eq!(verify.on_good(piece(0), &digests("ab")), [peer(1)]);
    }

    #[test]
    fn a_dropped_piece_leaves_no_trail() {
        let mut verify = Verify::default();
        trail(&mut verify, &[1, 2]);
        verify.on_reset(piece(0));
        assert!(verify.contributors(piece(0)).is_empty());
    }

    #[test]
    fn suspicion_is_bounded() {
        let mut verify = Verify::default();
        for index in 0..1000 {
            verify.on_block(piece(index), 0, 2, peer(1));
            verify.on_block(piece(index), 1, 2, peer(2));
            verify.on_bad(piece(index), digests("ab"));
        }
        assert_eq!(verify.suspects.len(), SUSPECTS_MAX);
    }
}
