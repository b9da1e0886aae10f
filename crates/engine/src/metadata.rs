//! Fetches the info dictionary of a magnet from several peers at once (BEP 9).
//!
//! Peers are grouped by the length that they claim, so that who lies about it harms only himself.
//! Of each length one *attempt* is made with everybody's help. When the bytes of several peers do
//! not add up to the info hash, nobody is blamed: from then on whoever claims that length is asked
//! for all of it, and a whole dictionary of another hash proves its one giver a liar. What is held
//! in memory is what came, never what was promised. Connections are not its business.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::InfoHash;
use dunlin_proto::peer::ut_metadata::{METADATA_LEN_MAX, piece_len};
use dunlin_proto::time::Instant;

use crate::event::{PeerAddr, PeerKey};

mod attempt;
mod source;

use attempt::Attempt;
use source::Source;

/// One info dictionary on its way, and whom it may come from.
#[derive(Debug)]
pub struct Fetch {
    info_hash: InfoHash,
    sources: BTreeMap<PeerKey, Source>,
    attempts: Vec<Attempt>,
    /// Lengths under which the bytes of several peers did not add up.
    tainted: BTreeSet<u32>,
    /// How often the common attempt at a length gave way to others.
    evictions: BTreeMap<u32, u32>,
}

/// What came of a piece that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// There is more to come.
    Pending,
    /// This is what the info hash names.
    Done {
        info: Arc<[u8]>,
        from: Vec<PeerAddr>,
    },
    /// A whole dictionary of another hash. If it came from one peer, that one is a liar.
    Failed { from: Vec<PeerAddr> },
    /// The sender contradicts itself, or sends what nobody asked for.
    Nonsense,
}

impl Fetch {
    pub fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            sources: BTreeMap::new(),
            attempts: Vec::new(),
            tainted: BTreeSet::new(),
            evictions: BTreeMap::new(),
        }
    }

    /// A peer that speaks the extension, and the length that it claims. It may say so again. A
    /// length that no metadata has is as good as none.
    pub fn on_source(&mut self, now: Instant, key: PeerKey, addr: PeerAddr, size: Option<u32>) {
        let size = size.filter(|size| (1..=METADATA_LEN_MAX).contains(size));
        let source = self.sources.entry(key);
        let source = source.or_insert_with(|| Source::new(addr, now));
        if size.is_some() && source.size != size {
            source.claim(size, now);
            self.attempts.retain(|attempt| attempt.only != Some(key));
        }
    }

    /// The peer is gone. What it contributed to a common attempt stays.
    pub fn on_gone(&mut self, key: PeerKey) {
        self.sources.remove(&key);
        self.attempts.retain(|attempt| attempt.only != Some(key));
    }

    /// A piece came. After [`Outcome::Done`] there is nothing left to do.
    pub fn on_data(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: u32,
        total_size: u32,
        bytes: Vec<u8>,
    ) -> Outcome {
        let Some(source) = self.sources.get_mut(&key) else {
            return Outcome::Nonsense;
        };
        if !source.on_answer(piece) {
            return if source.unasked > UNASKED_MAX {
                Outcome::Nonsense
            } else {
                Outcome::Pending
            };
        }
        let right_len = piece_len(total_size, piece).map(|len| len as usize) == Some(bytes.len());
        let is_consistent = source.size.is_none_or(|size| size == total_size);
        if !right_len || !is_consistent || total_size > METADATA_LEN_MAX {
            return Outcome::Nonsense;
        }
        if source.size.is_none() {
            // It answered a probe: now it is a source like any other.
            source.claim(Some(total_size), now);
        }
        source.on_data(now);
        let from = (key, source.addr);
        let only = self.tainted.contains(&total_size).then_some(key);
        let mut attempts = self.attempts.iter();
        let Some(index) = attempts.position(|attempt| attempt.is_of(total_size, only)) else {
            return Outcome::Pending;
        };
        let attempt = &mut self.attempts[index];
        attempt.take(now, piece, bytes, from);
        if attempt.is_whole() {
            let attempt = self.attempts.swap_remove(index);
            return self.judge(attempt);
        }
        Outcome::Pending
    }

    /// The peer will not give this piece now: it rests before it is asked again.
    pub fn on_reject(&mut self, now: Instant, key: PeerKey, piece: u32) {
        if let Some(source) = self.sources.get_mut(&key) {
            source.on_reject(piece, now);
        }
    }

    /// Whom to ask for which piece next. Call until `None` after everything that happens.
    pub fn poll(&mut self, now: Instant) -> Option<(PeerKey, u32)> {
        self.open_attempts(now);
        let (key, piece) = self.probe(now).or_else(|| self.next_ask(now))?;
        self.sources.get_mut(&key)?.ask(piece, now);
        Some((key, piece))
    }

    /// Gives up on requests that were not answered, and on attempts that hold up others. Due every
    /// [`TICK`] while there is a source.
    pub fn tick(&mut self, now: Instant) {
        for source in self.sources.values_mut() {
            source.give_up_overdue(now);
        }
        self.open_attempts(now);
        if !self.candidates(now).is_empty() {
            self.evict(now);
        }
    }

    /// Whether [`Fetch::tick`] has anything to look after.
    pub fn is_active(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the peer claims to have the metadata.
    pub fn is_source(&self, key: PeerKey) -> bool {
        let source = self.sources.get(&key);
        source.is_some_and(|source| source.size.is_some())
    }

    /// Of the attempt that got furthest: bytes that came, and all of them.
    pub fn progress(&self) -> (u32, Option<u32>) {
        let furthest = self.attempts.iter().max_by_key(|attempt| attempt.have());
        match furthest {
            Some(attempt) => (attempt.have(), Some(attempt.size)),
            None => (0, self.sources.values().find_map(|source| source.size)),
        }
    }

    /// Bytes of metadata in memory.
    pub fn held_bytes(&self) -> u64 {
        let held = self.attempts.iter().map(Attempt::have);
        let kept = self.sources.values().map(Source::kept_bytes);
        held.map(u64::from).chain(kept).sum()
    }

    /// Panics if the state contradicts itself.
    pub fn check_invariants(&self) {
        assert!(self.attempts.len() <= ATTEMPTS_MAX);
        assert!(self.promised_bytes() <= HELD_MAX);
        for attempt in &self.attempts {
            attempt.check_invariants();
            assert!(
                attempt
                    .only
                    .is_none_or(|key| self.sources.contains_key(&key)),
                "an attempt with somebody who is gone"
            );
        }
        self.sources.values().for_each(Source::check_invariants);
        assert!(self.held_bytes() <= self.promised_bytes() + KEPT_MAX);
        assert!(self.tainted.len() <= SIZES_MAX);
        assert!(self.evictions.len() <= SIZES_MAX);
    }

    fn promised_bytes(&self) -> u64 {
        self.attempts
            .iter()
            .map(|attempt| u64::from(attempt.size))
            .sum()
    }

    /// All of a dictionary is here: is it the right one?
    fn judge(&mut self, attempt: Attempt) -> Outcome {
        let (size, contributors) = (attempt.size, attempt.contributors());
        let from = contributors.values().copied().collect();
        let info = attempt.bytes();
        if InfoHash::of(&info) == self.info_hash {
            return Outcome::Done {
                info: info.into(),
                from,
            };
        }
        drop(info);
        if contributors.len() == 1 {
            for &key in contributors.keys() {
                self.on_gone(key);
            }
        } else {
            remember(&mut self.tainted, size);
            for key in contributors.keys() {
                if let Some(source) = self.sources.get_mut(key) {
                    source.is_suspect = true;
                }
            }
            self.give_back(attempt);
        }
        Outcome::Failed { from }
    }

    /// What each gave is where the attempt with it alone goes on, so that nobody is asked again for
    /// what he sent.
    fn give_back(&mut self, attempt: Attempt) {
        let kept: u64 = self.sources.values().map(Source::kept_bytes).sum();
        if kept + u64::from(attempt.size) > KEPT_MAX {
            return;
        }
        let size = attempt.size;
        for (piece, bytes, from) in attempt.into_parts() {
            let source = self.sources.get_mut(&from);
            if let Some(source) = source.filter(|source| source.size == Some(size)) {
                source.kept.insert(piece, bytes);
            }
        }
    }

    /// Makes the best attempts that there is room for.
    fn open_attempts(&mut self, now: Instant) {
        while self.attempts.len() < ATTEMPTS_MAX {
            let room = HELD_MAX - self.promised_bytes();
            let candidates = self.candidates(now);
            let mut fitting = candidates
                .into_iter()
                .filter(|(size, _)| u64::from(*size) <= room);
            let Some((size, only)) = fitting.next() else {
                return;
            };
            let mut attempt = Attempt::new(now, size, only);
            if let Some((key, source)) =
                only.and_then(|key| Some((key, self.sources.get_mut(&key)?)))
            {
                for (piece, bytes) in std::mem::take(&mut source.kept) {
                    attempt.take(now, piece, bytes, (key, source.addr));
                }
            }
            self.attempts.push(attempt);
        }
    }

    /// Attempts that could be made and are not, best first: what was never tried, those not under
    /// suspicion, what most claim, what is short.
    fn candidates(&self, now: Instant) -> Vec<(u32, Option<PeerKey>)> {
        let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
        for size in self.sources.values().filter_map(|source| source.size) {
            *votes.entry(size).or_default() += 1;
        }
        let mut ranked = Vec::new();
        for (&key, source) in &self.sources {
            let Some(size) = source.size.filter(|_| source.may_be_asked(now)) else {
                continue;
            };
            let only = self.tainted.contains(&size).then_some(key);
            if self
                .attempts
                .iter()
                .any(|attempt| attempt.is_of(size, only))
            {
                continue;
            }
            let evictions = match only {
                Some(_) => source.evictions,
                None => self.evictions.get(&size).copied().unwrap_or_default(),
            };
            let claimed_by = votes.get(&size).copied().unwrap_or_default();
            let is_suspect = only.is_some() && source.is_suspect;
            ranked.push((evictions, is_suspect, Reverse(claimed_by), size, only));
        }
        ranked.sort_unstable();
        ranked.dedup();
        let best = ranked.into_iter();
        best.map(|(.., size, only)| (size, only)).collect()
    }

    /// The attempt that has held up others for too long gives way. It gets twice the time when its
    /// turn comes again, so that a slow peer with the right metadata gets there in the end.
    fn evict(&mut self, now: Instant) {
        let evictions = |attempt: &Attempt| match attempt.only {
            Some(key) => self.sources.get(&key).map(|source| source.evictions),
            None => self.evictions.get(&attempt.size).copied(),
        };
        let has_had_its_time = |attempt: &Attempt| {
            let slice = SLICE * 2u32.pow(evictions(attempt).unwrap_or_default().min(10));
            attempt.is_stalled(now, STALL) || now.since(attempt.started_at) >= slice
        };
        let oldest = (0..).zip(&self.attempts);
        let oldest = oldest
            .filter(|(_, attempt)| has_had_its_time(attempt))
            .min_by_key(|(_, attempt)| attempt.started_at)
            .map(|(index, _): (usize, _)| index);
        let Some(index) = oldest else {
            return;
        };
        let attempt = self.attempts.swap_remove(index);
        match attempt.only {
            Some(key) => {
                if let Some(source) = self.sources.get_mut(&key) {
                    source.evictions = source.evictions.saturating_add(1);
                }
            }
            None => {
                *self.evictions.entry(attempt.size).or_default() += 1;
                if self.evictions.len() > SIZES_MAX {
                    self.evictions.pop_first();
                }
            }
        }
    }

    /// Peers that claim nothing may have it by now.
    fn probe(&self, now: Instant) -> Option<(PeerKey, u32)> {
        let mut silent = self
            .sources
            .iter()
            .filter(|(_, source)| source.size.is_none() && source.may_be_asked(now));
        silent.next().map(|(&key, _)| (key, 0))
    }

    fn next_ask(&self, now: Instant) -> Option<(PeerKey, u32)> {
        let mut attempts = self.attempts.iter();
        attempts.find_map(|attempt| self.next_ask_for(attempt, now))
    }

    /// Those who answer are asked before those who have not yet.
    fn next_ask_for(&self, attempt: &Attempt, now: Instant) -> Option<(PeerKey, u32)> {
        let helps = |key: PeerKey, source: &Source| match attempt.only {
            Some(only) => key == only,
            None => source.size == Some(attempt.size),
        };
        let helpers = self.sources.iter();
        let helpers: Vec<_> = helpers
            .filter(|(key, source)| helps(**key, source))
            .collect();
        let mut asked: BTreeMap<u32, (usize, Instant)> = BTreeMap::new();
        for (piece, at) in helpers.iter().flat_map(|(_, source)| source.open()) {
            let entry = asked.entry(piece).or_insert((0, at));
            *entry = (entry.0 + 1, entry.1.max(at));
        }
        let mut ready: Vec<_> = helpers
            .into_iter()
            .filter(|(_, source)| source.may_be_asked(now))
            .collect();
        ready.sort_by_key(|(key, source)| (source.reluctance(), **key));
        let is_end_game = attempt.missing_len() <= END_GAME_PIECES;
        ready.into_iter().find_map(|(&key, source)| {
            let missing = attempt.missing().filter(|&piece| !source.is_asked(piece));
            let askers = |piece: u32| asked.get(&piece).copied().unwrap_or((0, now));
            let may_be_asked = |piece: u32| {
                let (count, newest) = askers(piece);
                count == 0
                    || (is_end_game && count < ASKED_AT_ONCE)
                    || now.since(newest) >= PATIENCE
            };
            let piece = missing
                .filter(|&piece| may_be_asked(piece))
                .min_by_key(|&piece| askers(piece).0)?;
            Some((key, piece))
        })
    }
}

fn remember(set: &mut BTreeSet<u32>, size: u32) {
    set.insert(size);
    if set.len() > SIZES_MAX {
        set.pop_first();
    }
}

/// How often [`Fetch::tick`] is due: the shortest of the times below.
pub const TICK: Duration = Duration::from_millis(250);

/// Attempts at one time.
const ATTEMPTS_MAX: usize = 8;

/// What all attempts together may come to hold: two of the longest.
const HELD_MAX: u64 = 2 * METADATA_LEN_MAX as u64;

/// What came for attempts that failed and may serve others: once the longest.
const KEPT_MAX: u64 = METADATA_LEN_MAX as u64;

/// Lengths of which something is remembered.
const SIZES_MAX: usize = 64;

/// The last pieces are asked of several peers.
const END_GAME_PIECES: usize = 4;

/// Of so many; and of one more each time that nobody answered for [`PATIENCE`].
const ASKED_AT_ONCE: usize = 3;
const PATIENCE: Duration = Duration::from_millis(250);

/// While others wait, an attempt that gets nothing for so long gives way, and one that has lasted
/// so long.
const STALL: Duration = Duration::from_secs(5);
const SLICE: Duration = Duration::from_secs(30);

/// Pieces that nobody asked for, of one peer: answers to a former claim of it.
const UNASKED_MAX: u32 = 16;

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most kinds of peers are like the others in most respects"
)]
mod tests;
