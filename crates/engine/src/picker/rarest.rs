//! How many peers have each piece, and which piece that nobody fetches yet comes first.
//!
//! One `u16` a piece holds both: the class (who may be picked, by priority) above the number of
//! copies. So a HAVE is one addition, and the smallest key is the rarest piece of the most urgent
//! class: a pick is one scan over a compact array that compilers turn into vector code.

use dunlin_metainfo::{Bitfield, PieceIndex};
use dunlin_proto::rng::Rng;

use crate::command::Priority;

/// What comes first among the pieces that wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// Fewest copies; equals are drawn.
    Rarest,
    /// Any, drawn evenly.
    Random,
    /// Lowest index.
    Lowest,
}

/// Urgency of a piece: lower goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Class(u16);

impl Class {
    /// `None` for what nobody wants.
    pub(super) fn of(priority: Priority) -> Option<Self> {
        match priority {
            Priority::Skip => None,
            Priority::Low => Some(Self(2)),
            Priority::Normal => Some(Self(1)),
            Priority::High => Some(Self(0)),
        }
    }
}

/// A piece that waits to be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) class: Class,
    /// Seeds not included.
    pub(super) copies: u32,
    pub(super) index: u32,
}

#[derive(Debug)]
pub(super) struct Rarity {
    /// Class in the upper two bits, copies below; whole chunks, filled up with [`OUT`].
    keys: Vec<u16>,
    /// Pieces that wait, by class.
    waiting: [u32; 3],
}

impl Rarity {
    /// No copies, and nothing waits.
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            keys: vec![OUT; (pieces as usize).next_multiple_of(CHUNK)],
            waiting: [0; 3],
        }
    }

    pub(super) fn add_copy(&mut self, index: u32) {
        let key = &mut self.keys[index as usize];
        if *key & COPIES < COPIES {
            *key += 1;
        }
    }

    pub(super) fn remove_copy(&mut self, index: u32) {
        let key = &mut self.keys[index as usize];
        debug_assert!(
            *key & COPIES > 0,
            "a copy of piece {index} goes that never came"
        );
        if *key & COPIES > 0 {
            *key -= 1;
        }
    }

    /// `Some`: the piece waits to be started. `None`: it is out of the draw.
    pub(super) fn set_class(&mut self, piece: PieceIndex, class: Option<Class>) {
        let key = &mut self.keys[piece.index()];
        if let Some(count) = self.waiting.get_mut(usize::from(*key >> CLASS_SHIFT)) {
            *count -= 1;
        }
        let class = class.map_or(OUT >> CLASS_SHIFT, |class| class.0);
        *key = *key & COPIES | class << CLASS_SHIFT;
        if let Some(count) = self.waiting.get_mut(usize::from(class)) {
            *count += 1;
        }
    }

    /// Seeds not included.
    pub(super) fn copies(&self, piece: PieceIndex) -> u32 {
        u32::from(self.keys[piece.index()] & COPIES)
    }

    pub(super) fn is_waiting(&self, piece: PieceIndex) -> bool {
        self.keys[piece.index()] < OUT
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.iter().sum()
    }

    /// The first by `rule` of the waiting pieces that are in `has` (`None`: a seed has all).
    pub(super) fn first(
        &self,
        has: Option<&Bitfield>,
        rule: Rule,
        rng: &mut Rng,
    ) -> Option<Waiting> {
        let top = self.waiting.iter().position(|&count| count > 0)? as u16;
        let words = has.map(Bitfield::words);
        let word_at =
            |at: usize| words.map_or(u64::MAX, |words| words.get(at).copied().unwrap_or_default());
        let (chunks, _) = self.keys.as_chunks::<CHUNK>();
        let mut draw = Draw::new(rule);
        for (at, keys) in chunks.iter().enumerate() {
            let word = word_at(at);
            if word == 0 {
                continue;
            }
            draw.offer(at, &shown(keys, word, draw.mask), rng);
            if rule == Rule::Lowest && draw.best >> CLASS_SHIFT == top {
                break;
            }
        }
        let at = draw.chunk?;
        let shown = shown(&chunks[at], word_at(at), draw.mask);
        let lane = (0..CHUNK)
            .filter(|&lane| shown[lane] == draw.best)
            .nth(draw.nth)?;
        Some(self.waiting_at((at * CHUNK + lane) as u32))
    }

    /// The first by `rule` of `pieces` that waits.
    pub(super) fn first_of(
        &self,
        pieces: impl Iterator<Item = PieceIndex>,
        rule: Rule,
        rng: &mut Rng,
    ) -> Option<Waiting> {
        let mut best: Option<(u32, PieceIndex)> = None;
        let mut equals = 0;
        for piece in pieces.filter(|&piece| self.is_waiting(piece)) {
            let key = self.keys[piece.index()];
            let rank = match rule {
                Rule::Rarest => u32::from(key),
                Rule::Random => u32::from(key & !COPIES),
                Rule::Lowest => u32::from(key & !COPIES) << 8 | piece.get(),
            };
            match best {
                Some((least, _)) if rank > least => continue,
                Some((least, _)) if rank == least => equals += 1,
                Some(_) | None => equals = 1,
            }
            if equals == 1 || rng.below(equals) == 0 {
                best = Some((rank, piece));
            }
        }
        best.map(|(_, piece)| self.waiting_at(piece.get()))
    }

    pub(super) fn check_invariants(&self) {
        let mut waiting = [0; 3];
        for key in &self.keys {
            if let Some(count) = waiting.get_mut(usize::from(key >> CLASS_SHIFT)) {
                *count += 1;
            }
        }
        assert_eq!(waiting, self.waiting, "pieces that wait, by class");
    }

    fn waiting_at(&self, index: u32) -> Waiting {
        let key = self.keys[index as usize];
        Waiting {
            class: Class(key >> CLASS_SHIFT),
            copies: u32::from(key & COPIES),
            index,
        }
    }
}

/// Which chunk holds the winner: equals of many chunks have equal chances (reservoir sampling by
/// chunk, one draw a chunk that has some).
#[derive(Debug)]
struct Draw {
    rule: Rule,
    /// The part of a key that the rule looks at.
    mask: u16,
    best: u16,
    chunk: Option<usize>,
    /// Which of the equals in the chunk.
    nth: usize,
    equals: u64,
}

impl Draw {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            mask: match rule {
                Rule::Rarest => u16::MAX,
                Rule::Random | Rule::Lowest => !COPIES,
            },
            best: OUT,
            chunk: None,
            nth: 0,
            equals: 0,
        }
    }

    fn offer(&mut self, at: usize, shown: &[u16; CHUNK], rng: &mut Rng) {
        let least = shown.iter().fold(OUT, |least, &key| least.min(key));
        if least > self.best || least == OUT {
            return;
        }
        if least < self.best {
            self.best = least;
            self.equals = 0;
        }
        if self.rule == Rule::Lowest {
            if self.equals == 0 {
                (self.chunk, self.nth, self.equals) = (Some(at), 0, 1);
            }
            return;
        }
        let equals = u64::from(
            shown
                .iter()
                .map(|&key| u16::from(key == least))
                .sum::<u16>(),
        );
        self.equals += equals;
        let drawn = rng.below(self.equals);
        if drawn < equals {
            (self.chunk, self.nth) = (Some(at), drawn as usize);
        }
    }
}

/// The keys of a chunk as a peer with these pieces sees them; what it has not got is out.
fn shown(keys: &[u16; CHUNK], word: u64, mask: u16) -> [u16; CHUNK] {
    let mut shown = [OUT; CHUNK];
    let (from, _) = keys.as_chunks::<LANES>();
    let (to, _) = shown.as_chunks_mut::<LANES>();
    for (part, (from, to)) in from.iter().zip(to).enumerate() {
        let bits = (word >> (CHUNK - LANES - part * LANES)) as u16;
        for lane in 0..LANES {
            let absent = u16::from(bits & LANE_BITS[lane] == 0).wrapping_neg();
            to[lane] = from[lane] & mask | absent;
        }
    }
    shown
}

/// Pieces in a word of a bitfield.
const CHUNK: usize = 64;
const LANES: usize = 16;
/// Bitfields have the high bit first.
const LANE_BITS: [u16; LANES] = {
    let mut bits = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        bits[lane] = 0x8000 >> lane;
        lane += 1;
    }
    bits
};

const CLASS_SHIFT: u32 = 14;
/// The part of a key that counts copies: peers beyond 16,383 are not counted.
const COPIES: u16 = (1 << CLASS_SHIFT) - 1;
/// Every key from here on is out of the draw.
const OUT: u16 = 3 << CLASS_SHIFT;
