//! A peer that may have the metadata: what it claims, what it was asked, how it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_proto::time::Instant;

use crate::event::PeerAddr;

#[derive(Debug)]
pub(super) struct Source {
    pub(super) addr: PeerAddr,
    /// The length that it claims; `None` if it has no metadata yet.
    pub(super) size: Option<u32>,
    requests: Vec<Ask>,
    /// How many requests may be open.
    window: usize,
    /// Rejects and time-outs in a row.
    failures: u32,
    not_before: Instant,
    last_data: Option<Instant>,
    /// It contributed to an attempt that failed.
    pub(super) is_suspect: bool,
    /// What it gave to an attempt that failed.
    pub(super) kept: BTreeMap<u32, Vec<u8>>,
    /// How often an attempt with it alone gave way to others.
    pub(super) evictions: u32,
    /// Pieces that came and were not asked for.
    pub(super) unasked: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    piece: u32,
    at: Instant,
    /// It was given up; the answer is still welcome.
    is_late: bool,
}

impl Source {
    /// One that claims nothing yet: it is asked after a while whether it does.
    pub(super) fn new(addr: PeerAddr, now: Instant) -> Self {
        Self {
            addr,
            size: None,
            requests: Vec::new(),
            window: WINDOW_MIN,
            failures: 0,
            not_before: now + PROBE_INTERVAL,
            last_data: None,
            is_suspect: false,
            kept: BTreeMap::new(),
            evictions: 0,
            unasked: 0,
        }
    }

    /// From now on it claims this length. Who claims another one again and again is not asked more
    /// often for it.
    pub(super) fn claim(&mut self, size: Option<u32>, now: Instant) {
        if self.size.is_some() {
            self.rest(now);
        } else {
            self.failures = 0;
            self.not_before = now;
        }
        self.size = size;
        self.requests.clear();
        self.kept.clear();
    }

    pub(super) fn ask(&mut self, piece: u32, now: Instant) {
        self.requests.retain(|ask| ask.piece != piece);
        self.requests.push(Ask {
            piece,
            at: now,
            is_late: false,
        });
        if self.size.is_none() {
            self.not_before = now + PROBE_INTERVAL;
        }
    }

    /// Whether this piece was asked for.
    pub(super) fn on_answer(&mut self, piece: u32) -> bool {
        let at = self.requests.iter().position(|ask| ask.piece == piece);
        match at {
            Some(at) => {
                self.requests.swap_remove(at);
            }
            None => self.unasked = self.unasked.saturating_add(1),
        }
        at.is_some()
    }

    pub(super) fn on_data(&mut self, now: Instant) {
        self.last_data = Some(now);
        self.failures = 0;
        self.window = (self.window + 1).min(WINDOW_MAX);
    }

    pub(super) fn on_reject(&mut self, piece: u32, now: Instant) {
        let before = self.requests.len();
        self.requests.retain(|ask| ask.piece != piece);
        if self.requests.len() < before {
            self.rest(now);
        }
    }

    /// Requests that were not answered in time are given up.
    pub(super) fn give_up_overdue(&mut self, now: Instant) {
        let last_data = self.last_data.unwrap_or(Instant::START);
        let is_overdue = |ask: &Ask| now.since(ask.at.max(last_data)) >= REQUEST_TIMEOUT;
        if !self
            .requests
            .iter()
            .any(|ask| !ask.is_late && is_overdue(ask))
        {
            return;
        }
        for ask in &mut self.requests {
            ask.is_late = true;
        }
        let excess = self.requests.len().saturating_sub(LATE_MAX);
        self.requests.drain(..excess);
        self.rest(now);
    }

    /// Requests that may still be answered in time.
    pub(super) fn open(&self) -> impl Iterator<Item = (u32, Instant)> + '_ {
        let open = self.requests.iter().filter(|ask| !ask.is_late);
        open.map(|ask| (ask.piece, ask.at))
    }

    pub(super) fn is_asked(&self, piece: u32) -> bool {
        self.open().any(|(open, _)| open == piece)
    }

    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        let window = if self.size.is_some() { self.window } else { 1 };
        now >= self.not_before && self.open().count() < window
    }

    /// Whom to ask first: the least.
    pub(super) fn reluctance(&self) -> (u32, bool, usize) {
        (self.failures, self.last_data.is_none(), self.open().count())
    }

    /// A reject for each of several open requests is one refusal.
    fn rest(&mut self, now: Instant) {
        if self.not_before > now {
            return;
        }
        let doublings = self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        self.window = WINDOW_MIN;
        let (first, longest) = match self.size {
            Some(_) => (REST, REST_MAX),
            None => (PROBE_INTERVAL, PROBE_INTERVAL_MAX),
        };
        self.not_before = now + (first * 2u32.pow(doublings)).min(longest);
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.values().map(|bytes| bytes.len() as u64).sum()
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.requests.len() <= WINDOW_MAX + LATE_MAX);
        assert!(self.open().count() <= WINDOW_MAX);
    }
}

/// Requests open at one peer: at first, and at most. Answers open the window.
const WINDOW_MIN: usize = 2;
const WINDOW_MAX: usize = 16;

/// Requests given up whose answers are still welcome.
const LATE_MAX: usize = 16;

/// A request is given up when the peer has sent nothing for so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer rests after a reject or a time-out: doubling from one to the other.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// How often a peer that claims no length is asked all the same: doubling too.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(240);
