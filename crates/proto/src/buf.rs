//! Buffers of one block each, and the pool that bounds how many exist.
//!
//! A buffer is owned by exactly one place: it moves from the socket through the session to the
//! disk and comes home to the pool. Nothing copies or shares it.

use dunlin_metainfo::BLOCK_LEN;

/// The payload of one block, or in the simulator a token that stands for it.
#[derive(Debug)]
pub struct BlockBuf(Repr);

#[derive(Debug)]
enum Repr {
    Bytes { data: Box<[u8]>, len: u32 },
    Phantom { len: u32, tag: u64 },
}

impl BlockBuf {
    /// A buffer without bytes, for message-level simulation. The simulated digest of a piece is
    /// folded from the tags of its blocks, so that a liar's block is told from an honest one.
    pub fn phantom(len: u32, tag: u64) -> Self {
        debug_assert!(len > 0 && len <= BLOCK_LEN);
        Self(Repr::Phantom { len, tag })
    }

    /// Length of the payload in bytes: 1 ..= [`BLOCK_LEN`].
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> u32 {
        match self.0 {
            Repr::Bytes { len, .. } | Repr::Phantom { len, .. } => len,
        }
    }

    /// The payload; empty for a phantom.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Bytes { data, len } => &data[..*len as usize],
            Repr::Phantom { .. } => &[],
        }
    }

    /// The payload to be filled; empty for a phantom.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Repr::Bytes { data, len } => &mut data[..*len as usize],
            Repr::Phantom { .. } => &mut [],
        }
    }

    pub fn tag(&self) -> Option<u64> {
        match self.0 {
            Repr::Bytes { .. } => None,
            Repr::Phantom { tag, .. } => Some(tag),
        }
    }
}

/// Hands out block buffers and takes them back. `max` bounds how many are out at once; up to
/// `max` idle ones are kept for reuse until [`BufPool::shrink`].
#[derive(Debug)]
pub struct BufPool {
    idle: Vec<Box<[u8]>>,
    out: usize,
    max: usize,
}

impl BufPool {
    pub fn new(max: usize) -> Self {
        Self {
            idle: Vec::new(),
            out: 0,
            max,
        }
    }

    /// A buffer of `len` bytes with undefined content, or `None` while `max` are out.
    pub fn take(&mut self, len: u32) -> Option<BlockBuf> {
        debug_assert!(len > 0 && len <= BLOCK_LEN);
        if self.out >= self.max {
            return None;
        }
        self.out += 1;
        let data = self
            .idle
            .pop()
            .unwrap_or_else(|| vec![0; BLOCK_LEN as usize].into_boxed_slice());
        Some(BlockBuf(Repr::Bytes { data, len }))
    }

    pub fn give(&mut self, buf: BlockBuf) {
        if let Repr::Bytes { data, .. } = buf.0 {
            debug_assert!(self.out > 0, "more buffers came home than left");
            self.out = self.out.saturating_sub(1);
            self.idle.push(data);
        }
    }

    /// Buffers handed out and not yet returned.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Buffers that may still be taken.
    pub fn free(&self) -> usize {
        self.max.saturating_sub(self.out)
    }

    /// Frees idle buffers beyond `keep`.
    pub fn shrink(&mut self, keep: usize) {
        self.idle.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_stops_at_its_limit_and_reuses() {
        let mut pool = BufPool::new(2);
        let mut first = pool.take(5).unwrap();
        first.bytes_mut().copy_from_slice(b"hello");
        let _second = pool.take(BLOCK_LEN).unwrap();
        assert!(pool.take(1).is_none());
        pool.give(first);
        assert_eq!(pool.out(), 1);
        assert_eq!(pool.take(3).unwrap().bytes().len(), 3);
    }
}
