//! How much of the download a peer may touch before what it gave is verified.
//!
//! A liar spoils every piece that it gave a block of, and the verdict comes when the piece is full:
//! a peer that nobody has reason to trust yet is asked for blocks of few pieces at a time. Each
//! piece that turns out good admits one more, as in slow start, until the peer is trusted; one that
//! fails takes that trust away. Who gave what, and who lied, is for `verify.rs` to say.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_metainfo::PieceIndex;
use dunlin_proto::time::Instant;

/// Pieces that a newcomer may touch before the first is verified.
const PIECES_MIN: usize = 1;

/// Pieces verified in a row after which nothing is held back any more.
const TRUSTED_PIECES: u32 = 8;

/// More than a session has started pieces; what is beyond was given up.
const UNJUDGED_MAX: usize = 256;

/// A peer with nothing to do but wait for a verdict is asked for one more piece after this: the
/// others who owe blocks of its pieces may never send them.
pub const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Trust {
    /// Pieces that it was asked for blocks of and that are not judged.
    unjudged: BTreeSet<PieceIndex>,
    /// Pieces with its blocks that were good since the last that was not.
    good: u32,
    /// When it began to have nothing to do but wait for a verdict.
    waits_since: Option<Instant>,
}

impl Trust {
    pub fn on_asked(&mut self, piece: PieceIndex) {
        self.unjudged.insert(piece);
        if self.unjudged.len() > UNJUDGED_MAX {
            self.unjudged.pop_first();
        }
        self.waits_since = None;
    }

    /// The piece is good, bad or given up. `good` is the verdict if this peer gave a block of it.
    pub fn on_judged(&mut self, piece: PieceIndex, good: Option<bool>) {
        self.unjudged.remove(&piece);
        match good {
            Some(true) => self.good = self.good.saturating_add(1),
            Some(false) => self.good = 0,
            None => {}
        }
    }

    /// Whether it may be asked for any piece.
    pub fn is_full(&self, is_accused: bool) -> bool {
        !is_accused && self.good >= TRUSTED_PIECES
    }

    /// Whether it must not be asked for another piece now.
    pub fn is_at_limit(&self, is_accused: bool) -> bool {
        let limit = if is_accused {
            1
        } else {
            PIECES_MIN + self.good as usize
        };
        !self.is_full(is_accused) && self.unjudged.len() >= limit
    }

    pub fn unjudged(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.unjudged.iter().copied()
    }

    /// It owes us nothing and may not be asked. Says until when, or `None` if it waited enough.
    pub fn wait(&mut self, now: Instant) -> Option<Instant> {
        let until = *self.waits_since.get_or_insert(now) + PATIENCE;
        (until > now).then_some(until)
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

    #[test]
    fn each_good_piece_admits_one_more_until_the_peer_is_trusted() {
        let mut trust = Trust::default();
        for count in 0..u32::from(u8::MAX) {
            if trust.is_full(false) {
                assert_eq!(count, TRUSTED_PIECES);
                return;
            }
            let may_touch = PIECES_MIN as u32 + count;
            (0..may_touch).for_each(|nth| {
                assert!(!trust.is_at_limit(false), "{nth} of {may_touch}");
                trust.on_asked(piece(nth));
            });
            assert!(trust.is_at_limit(false));
            trust.on_judged(piece(0), Some(true));
            (1..may_touch).for_each(|nth| trust.on_judged(piece(nth), None));
        }
        panic!("never trusted");
    }

    #[test]
    fn a_failed_piece_takes_the_trust_away_and_an_accusation_admits_one_piece() {
        let mut trust = Trust::default();
        (0..TRUSTED_PIECES).for_each(|nth| trust.on_judged(piece(nth), Some(true)));
        assert!(trust.is_full(false) && !trust.is_full(true));
        trust.on_asked(piece(0));
        assert!(trust.is_at_limit(true), "accused of another piece");
        trust.on_judged(piece(0), Some(false));
        assert!(!trust.is_full(false));
    }

    #[test]
    fn whoever_waits_for_a_verdict_waits_a_second() {
        let mut trust = Trust::default();
        let now = Instant::from_micros(5_000_000);
        assert_eq!(trust.wait(now), Some(now + PATIENCE));
        assert_eq!(trust.wait(now + PATIENCE), None);
        trust.on_asked(piece(0));
        assert!(
            trust.wait(now + PATIENCE).is_some(),
            "the next wait is another"
        );
    }
}
