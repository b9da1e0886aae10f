//! Rates as people and the choker want them: payload over the last seconds, in little memory.
//!
//! A [`RateMeter`] keeps one counter a second and no clock. It slides smoothly: of the oldest
//! second only the part that is still inside the window counts.

use std::time::Duration;

use dunlin_proto::time::Instant;

/// Bytes counted over a sliding window of at most [`WINDOW_S`] seconds, and over its whole life.
///
/// Two of them sit in every peer, so it stays below 200 bytes.
#[derive(Clone, Debug)]
pub struct RateMeter {
    /// Bytes of one second each; second `s` since the start is at `s % BUCKETS`.
    buckets: [u64; BUCKETS],
    started: Instant,
    /// The second since the start that was written last.
    newest: u64,
    total: u64,
}

impl RateMeter {
    pub fn new(now: Instant) -> Self {
        Self {
            buckets: [0; BUCKETS],
            started: now,
            newest: 0,
            total: 0,
        }
    }

    /// A `now` from before the latest one counts as the latest.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        let second = self.second(now).max(self.newest);
        let passed = second - self.newest;
        for skipped in 1..=passed.min(BUCKETS as u64) {
            self.buckets[slot(second - passed + skipped)] = 0;
        }
        if passed > BUCKETS as u64 {
            self.buckets = [0; BUCKETS];
        }
        self.newest = second;
        let bucket = &mut self.buckets[slot(second)];
        *bucket = bucket.saturating_add(bytes);
        self.total = self.total.saturating_add(bytes);
    }

    /// Bytes per second over the last 20 s, or since the start if that is later.
    pub fn rate(&self, now: Instant) -> u64 {
        self.rate_over(now, WINDOW_S)
    }

    /// Bytes per second over the last `window_s` seconds (1 to 20), or since the start if that is
    /// later. The first second counts as a whole one, so that one early block is not a wild rate.
    pub fn rate_over(&self, now: Instant, window_s: u64) -> u64 {
        let window_s = window_s.clamp(1, WINDOW_S);
        let age_us = now.as_micros().saturating_sub(self.started.as_micros());
        let second = (age_us / MILLION).max(self.newest);
        if second - self.newest > window_s {
            return 0;
        }
        let span_us = age_us.clamp(MILLION, window_s * MILLION);
        let inside_us = MILLION - age_us % MILLION;
        let (whole, oldest) = self.bytes_within(second, window_s);
        // Millionths of bytes over millionths of seconds.
        if self.total < EXACT_BYTES_MAX {
            return (whole as u64 * MILLION + oldest * inside_us) / span_us;
        }
        let millionths = whole * u128::from(MILLION) + u128::from(oldest) * u128::from(inside_us);
        u64::try_from(millionths / u128::from(span_us)).unwrap_or(u64::MAX)
    }

    /// Bytes of one second since the start; 0 for one that is forgotten, which is more than
    /// [`WINDOW_S`] old.
    pub fn in_second(&self, second: u64) -> u64 {
        let is_kept = second <= self.newest && self.newest - second < BUCKETS as u64;
        if is_kept {
            self.buckets[slot(second)]
        } else {
            0
        }
    }

    /// When the second of `now` is over.
    pub fn next_second(&self, now: Instant) -> Instant {
        self.started + Duration::from_secs(self.second(now) + 1)
    }

    /// Bytes over the whole life.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of the last `window_s` seconds up to this one, and of the one before: of that the
    /// window covers a part.
    fn bytes_within(&self, second: u64, window_s: u64) -> (u128, u64) {
        let mut whole = 0u128;
        let from = second.saturating_sub(window_s - 1);
        for bucket in from..=self.newest {
            whole += u128::from(self.buckets[slot(bucket)]);
        }
        let oldest = second
            .checked_sub(window_s)
            .filter(|&bucket| bucket <= self.newest)
            .map_or(0, |bucket| self.buckets[slot(bucket)]);
        (whole, oldest)
    }

    /// The second since the start in which `now` falls.
    pub fn second(&self, now: Instant) -> u64 {
        now.since(self.started).as_secs()
    }
}

fn slot(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

const MILLION: u64 = 1_000_000;

/// Millionths of so many bytes fit into 64 bits.
const EXACT_BYTES_MAX: u64 = u64::MAX / MILLION / 2;

/// BEP 3 measures over 20 s.
pub const WINDOW_S: u64 = 20;

/// The seconds of the window and the one that is going on.
const BUCKETS: usize = WINDOW_S as usize + 1;

#[cfg(test)]
mod tests;
