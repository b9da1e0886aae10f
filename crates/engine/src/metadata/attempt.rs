//! One try at putting an info dictionary together: what came, and from whom.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_proto::peer::ut_metadata::pieces;
use dunlin_proto::time::Instant;

use crate::event::{PeerAddr, PeerKey};

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) size: u32,
    /// The one peer that all of it has to come from; `None` if everybody helps.
    pub(super) only: Option<PeerKey>,
    pub(super) started_at: Instant,
    last_progress: Instant,
    parts: BTreeMap<u32, Part>,
    have: u32,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    from: (PeerKey, PeerAddr),
}

impl Attempt {
    pub(super) fn new(now: Instant, size: u32, only: Option<PeerKey>) -> Self {
        Self {
            size,
            only,
            started_at: now,
            last_progress: now,
            parts: BTreeMap::new(),
            have: 0,
        }
    }

    pub(super) fn is_of(&self, size: u32, only: Option<PeerKey>) -> bool {
        self.size == size && self.only == only
    }

    /// Keeps a piece of the right length, unless it is here already.
    pub(super) fn take(
        &mut self,
        now: Instant,
        piece: u32,
        bytes: Vec<u8>,
        from: (PeerKey, PeerAddr),
    ) {
        if !self.parts.contains_key(&piece) {
            self.have += bytes.len() as u32;
            self.parts.insert(piece, Part { bytes, from });
            self.last_progress = now;
        }
    }

    /// Bytes that came.
    pub(super) fn have(&self) -> u32 {
        self.have
    }

    pub(super) fn is_whole(&self) -> bool {
        self.have == self.size
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..pieces(self.size)).filter(|piece| !self.parts.contains_key(piece))
    }

    pub(super) fn missing_len(&self) -> usize {
        (pieces(self.size) as usize).saturating_sub(self.parts.len())
    }

    pub(super) fn is_stalled(&self, now: Instant, after: Duration) -> bool {
        now.since(self.last_progress) >= after
    }

    pub(super) fn contributors(&self) -> BTreeMap<PeerKey, PeerAddr> {
        self.parts.values().map(|part| part.from).collect()
    }

    /// The parts joined.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.parts.values() {
            bytes.extend_from_slice(&part.bytes);
        }
        bytes
    }

    /// Each piece and who gave it.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (u32, Vec<u8>, PeerKey)> {
        let parts = self.parts.into_iter();
        parts.map(|(piece, part)| (piece, part.bytes, part.from.0))
    }

    pub(super) fn check_invariants(&self) {
        let held: usize = self.parts.values().map(|part| part.bytes.len()).sum();
        assert_eq!(held, self.have as usize);
        assert!(self.have < self.size, "a whole attempt was not judged");
        if let Some(only) = self.only {
            assert!(self.parts.values().all(|part| part.from.0 == only));
        }
    }
}
