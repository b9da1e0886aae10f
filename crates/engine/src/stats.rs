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
        let age = now.since(self.started).max(Duration::from_secs(1));
        let span_us = age.min(Duration::from_secs(window_s)).as_micros();
        // Millionths of bytes over millionths of seconds.
        let rate = self.millionths_within(now, window_s) / span_us;
        u64::try_from(rate).unwrap_or(u64::MAX)
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

    /// Millionths of bytes that fell into the last `window_s` seconds.
    fn millionths_within(&self, now: Instant, window_s: u64) -> u128 {
        let second = self.second(now).max(self.newest);
        let inside_us = 1_000_000 - u128::from(now.since(self.started).subsec_micros());
        let mut millionths = 0u128;
        for age in 0..=window_s {
            let Some(bucket) = second.checked_sub(age) else {
                break;
            };
            if bucket > self.newest {
                continue;
            }
            // Of the oldest second, what the window still covers.
            let weight = if age == window_s {
                inside_us
            } else {
                1_000_000
            };
            millionths += u128::from(self.buckets[slot(bucket)]) * weight;
        }
        millionths
    }

    /// The second since the start in which `now` falls.
    pub fn second(&self, now: Instant) -> u64 {
        now.since(self.started).as_secs()
    }
}

fn slot(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

/// BEP 3 measures over 20 s.
pub const WINDOW_S: u64 = 20;

/// The seconds of the window and the one that is going on.
const BUCKETS: usize = WINDOW_S as usize + 1;

#[cfg(test)]
mod tests;
