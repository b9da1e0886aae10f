//! Rate limits: token buckets, one a session and one a torrent in each direction.
//!
//! What goes must be allowed by every bucket above it ([`available_of`], [`take_of`]). A bucket
//! starts empty and holds at most a quarter of a second, so that no second sees more than 1.25
//! times the limit and the mean is exact. Pacing itself happens elsewhere: uploads pace `Serve`,
//! downloads pace requests.

use std::time::Duration;

use dunlin_proto::time::Instant;

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

/// When `want` bytes may go under each of `levels`. `None` when all are unlimited.
pub fn next_at_of(levels: &[&RateLimiter], want: u64) -> Option<Instant> {
    levels.iter().filter_map(|level| level.next_at(want)).max()
}

/// A block and its `piece` header (BEP 3): the least that can go.
pub const BLOCK_AND_HEADER: u64 = 16 * 1024 + 13;

const MILLION: i128 = 1_000_000;

#[cfg(test)]
mod tests;
