//! Rate limits: token buckets, one a session and one a torrent in each direction.
//!
//! What goes must be allowed by every bucket above it ([`available_of`], [`take_of`]). A bucket
//! starts empty and holds at most a quarter of a second, so that no second sees more than 1.25
//! times the limit and the mean is exact. Pacing itself happens elsewhere: uploads pace `Serve`,
//! downloads pace requests.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_proto::time::Instant;

use crate::event::TorrentKey;

/// A token bucket. One token is one byte.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Bytes per second; `None` is unlimited, 0 lets nothing pass.
    limit: Option<u64>,
    /// Millionths of bytes that may go; negative is a debt.
    level: i128,
    updated: Instant,
}

impl RateLimiter {
    pub fn new(limit: Option<u64>, now: Instant) -> Self {
        Self {
            limit,
            level: 0,
            updated: now,
        }
    }

    /// Changes the limit. What was saved or owed under the old one stays, within the new depth.
    pub fn set(&mut self, limit: Option<u64>, now: Instant) {
        self.refill(now);
        if self.limit.is_none() || limit.is_none() {
            self.level = 0;
        }
        self.limit = limit;
        self.level = self.level.min(self.depth());
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Bytes that may go now; `u64::MAX` when unlimited.
    pub fn available(&mut self, now: Instant) -> u64 {
        if self.limit.is_none() {
            return u64::MAX;
        }
        self.refill(now);
        u64::try_from(self.level.max(0) / MILLION).unwrap_or(u64::MAX)
    }

    /// `bytes` go. They may exceed what is available by less than one block: the debt delays what
    /// comes next.
    pub fn take(&mut self, bytes: u64) {
        if self.limit.is_some() {
            self.level = self.level.saturating_sub(i128::from(bytes) * MILLION);
        }
    }

    /// `bytes` that were taken did not go.
    pub fn refund(&mut self, bytes: u64) {
        if self.limit.is_some() {
            // What is above the depth goes at the next refill.
            self.level = self.level.saturating_add(i128::from(bytes) * MILLION);
        }
    }

    /// When `want` bytes will be there, or as many as it can hold. `None` when unlimited.
    pub fn next_at(&self, want: u64) -> Option<Instant> {
        let limit = self.limit?;
        let missing = (i128::from(want) * MILLION).min(self.depth()) - self.level;
        if missing <= 0 {
            return Some(self.updated);
        }
        if limit == 0 {
            return Some(Instant::from_micros(u64::MAX));
        }
        let limit = i128::from(limit);
        let wait_us = (missing + limit - 1) / limit;
        Some(self.updated + Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX)))
    }

    fn refill(&mut self, now: Instant) {
        let passed_us = now.since(self.updated).as_micros() as i128;
        self.updated = self.updated.max(now);
        // Bytes per second times microseconds are millionths of bytes.
        let gained = i128::from(self.limit.unwrap_or(0)).saturating_mul(passed_us);
        self.level = self.level.saturating_add(gained).min(self.depth());
    }

    /// Millionths of bytes that it may hold: with the debt, a quarter of a second's worth; but at
    /// least one block, or nothing would ever pass.
    fn depth(&self) -> i128 {
        let quarter = i128::from(self.limit.unwrap_or(0)) * MILLION / 4;
        let block = i128::from(BLOCK_AND_HEADER) * MILLION;
        (quarter - block).max(block)
    }
}

/// Who of several torrents may take from the bucket that they share.
///
/// Tokens come one after the other, and whoever looks first would have them all. So a torrent may
/// be ahead of those that wait by a little only. Whoever waits has a timer, and then either takes
/// something or waits no more: nobody is held up by one that wants nothing.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    taken: BTreeMap<TorrentKey, Turn>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Bytes, counted from those of the others when it joined.
    bytes: u64,
    waits: bool,
}

impl Turns {
    /// Bytes that the torrent may take before it is the turn of others.
    pub fn room(&self, torrent: TorrentKey, limiter: &RateLimiter) -> u64 {
        let Some(limit) = limiter.limit() else {
            return u64::MAX;
        };
        let Some(least) = self.least_of_others(torrent) else {
            return u64::MAX;
        };
        let own = self.taken.get(&torrent).map_or(least, |turn| turn.bytes);
        // A sixty-fourth of a second: timers come seldom enough for that.
        let lead = (limit / 64).max(LEAD_MIN);
        (least + lead).saturating_sub(own)
    }

    /// It would take more if there were more.
    pub fn wait(&mut self, torrent: TorrentKey) {
        self.join(torrent).waits = true;
    }

    /// It is about to take what it can.
    pub fn go(&mut self, torrent: TorrentKey) {
        if let Some(turn) = self.taken.get_mut(&torrent) {
            turn.waits = false;
        }
        if self.taken.values().all(|turn| !turn.waits) {
            self.taken.clear();
        }
    }

    pub fn take(&mut self, torrent: TorrentKey, bytes: u64) {
        if self.least_of_others(torrent).is_some() {
            self.join(torrent).bytes += bytes;
        }
    }

    fn join(&mut self, torrent: TorrentKey) -> &mut Turn {
        let bytes = self.least_of_others(torrent).unwrap_or(0);
        let waits = false;
        self.taken.entry(torrent).or_insert(Turn { bytes, waits })
    }

    fn least_of_others(&self, torrent: TorrentKey) -> Option<u64> {
        let others = self.taken.iter().filter(|(key, _)| **key != torrent);
        let waiting = others.filter(|(_, turn)| turn.waits);
        waiting.map(|(_, turn)| turn.bytes).min()
    }
}

/// Bytes that may go now under each of `levels`.
pub fn available_of(now: Instant, levels: &mut [&mut RateLimiter]) -> u64 {
    levels
        .iter_mut()
        .map(|level| level.available(now))
        .min()
        .unwrap_or(u64::MAX)
}

/// `bytes` go under each of `levels`.
pub fn take_of(levels: &mut [&mut RateLimiter], bytes: u64) {
    for level in levels {
        level.take(bytes);
    }
}

/// `bytes` that were taken under each of `levels` will not go.
pub fn refund_of(levels: [&mut RateLimiter; 2], bytes: u64) {
    for level in levels {
        level.refund(bytes);
    }
}

/// When `want` bytes may go under each of `levels`. `None` when all are unlimited.
pub fn next_at_of(levels: &[&RateLimiter], want: u64) -> Option<Instant> {
    levels.iter().filter_map(|level| level.next_at(want)).max()
}

/// A block and its `piece` header (BEP 3): the least that can go.
pub const BLOCK_AND_HEADER: u64 = 16 * 1024 + 13;

/// A torrent may always be ahead by so many bytes.
const LEAD_MIN: u64 = 4 * BLOCK_AND_HEADER;

/// How soon to look again when it is the turn of others.
pub const TURN: Duration = Duration::from_millis(1);

const MILLION: i128 = 1_000_000;

#[cfg(test)]
mod tests;
