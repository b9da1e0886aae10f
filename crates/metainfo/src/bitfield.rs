//! A set of piece indices, in the order that the wire uses (BEP 3: high bit first).

/// One bit a piece. Bits past [`Bitfield::len`] are always zero.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bitfield {
    /// Bit `i` is bit `63 - i % 64` of word `i / 64`, so that words in big-endian order are the
    /// wire form.
    words: Vec<u64>,
    len: u32,
}

impl Bitfield {
    /// `len` zero bits.
    pub fn new(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(64) as usize],
            len,
        }
    }

    /// `len` one bits.
    pub fn full(len: u32) -> Self {
        let mut bits = Self {
            words: vec![u64::MAX; len.div_ceil(64) as usize],
            len,
        };
        bits.trim();
        bits
    }

    /// Reads the payload of a `bitfield` message for `len` pieces. `None` if the length is wrong
    /// or a spare bit is set: BEP 3 lets us drop such a peer.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut bits = Self::new(len);
        for (word, chunk) in bits.words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_be_bytes(padded);
        }
        let before = bits.words.last().copied();
        bits.trim();
        (bits.words.last().copied() == before).then_some(bits)
    }

    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    /// True when there are no bits at all, set or not.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// False for an index out of range.
    pub fn get(&self, index: u32) -> bool {
        index < self.len && self.words[(index / 64) as usize] & mask(index) != 0
    }

    /// Sets the bit and says whether it was clear before.
    ///
    /// # Panics
    /// If `index` is out of range: indices are checked where they enter the program.
    pub fn set(&mut self, index: u32) -> bool {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let word = &mut self.words[(index / 64) as usize];
        let was_clear = *word & mask(index) == 0;
        *word |= mask(index);
        was_clear
    }

    /// Clears the bit and says whether it was set before.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn clear(&mut self, index: u32) -> bool {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let word = &mut self.words[(index / 64) as usize];
        let was_set = *word & mask(index) != 0;
        *word &= !mask(index);
        was_set
    }

    pub fn count_ones(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub fn is_full(&self) -> bool {
        let last = self.words.len().saturating_sub(1);
        // Nearly always the first word says no.
        self.words.iter().take(last).all(|&word| word == u64::MAX) && self.count_ones() == self.len
    }

    /// One bit a piece, the first piece in the high bit of the first word: for scans that look at
    /// many pieces at once.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    pub fn iter_ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, at)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                if bit == 64 {
                    return None;
                }
                rest &= !mask(bit);
                Some(at * 64 + bit)
            })
        })
    }

    /// How many bits are set here and clear in `other`.
    pub fn count_and_not(&self, other: &Self) -> u32 {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(a, b)| (a & !b).count_ones())
            .sum()
    }

    /// Whether any bit is set both here and in `other`.
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= !(u64::MAX >> (self.len % 64));
        }
    }
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitfield({} of {})", self.count_ones(), self.len)
    }
}

const fn mask(index: u32) -> u64 {
    1 << (63 - index % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_piece_is_the_high_bit() {
        let mut bits = Bitfield::new(10);
        bits.set(0);
        bits.set(9);
        assert_eq!(bits.to_wire(), [0x80, 0x40]);
        assert_eq!(bits.iter_ones().collect::<Vec<_>>(), [0, 9]);
    }

    #[test]
    fn spare_bits_and_wrong_lengths_are_refused() {
        assert!(Bitfield::from_wire(&[0x80, 0x20], 10).is_none());
        assert!(Bitfield::from_wire(&[0x80], 10).is_none());
        assert!(Bitfield::from_wire(&[0x80, 0, 0], 10).is_none());
        assert!(Bitfield::from_wire(&[], 0).is_some());
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 1u32..300, picks in prop::collection::vec(0u32..300, 0..80)) {
            let mut bits = Bitfield::new(len);
            let mut set = std::collections::BTreeSet::new();
            for pick in picks {
                let index = pick % len;
                prop_assert_eq!(bits.set(index), set.insert(index));
                if pick % 3 == 0 {
                    prop_assert_eq!(bits.clear(index), set.remove(&index));
                }
            }
            prop_assert!(bits.iter_ones().eq(set.iter().copied()));
            prop_assert_eq!(bits.count_ones() as usize, set.len());
            prop_assert_eq!(Bitfield::from_wire(&bits.to_wire(), len), Some(bits.clone()));
            prop_assert_eq!(Bitfield::full(len).count_and_not(&bits), len - bits.count_ones());
        }
    }
}
