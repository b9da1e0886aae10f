//! When to announce a torrent, to which tracker, with which event (BEP 3, BEP 12).
//!
//! One request at a time. Each announce goes over the trackers from the first tier on until one
//! answers, and that one moves to the front of its tier. When none answers, all of them rest for
//! a while that doubles. The request itself, its numbers and its transport are not its business.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::AnnounceEvent;

use crate::event::TrackerKey;
use crate::explain::TrackerStanding;

/// The announces of one torrent.
#[derive(Clone, Debug)]
pub struct Announcer {
    /// BEP 12: tier after tier, each in the order in which it is tried.
    tiers: Vec<Vec<Tracker>>,
    rng: Rng,
    /// Place of the next tracker to try: tier, index in it.
    cursor: (usize, usize),
    next_at: Instant,
    in_flight: Option<(TrackerKey, AnnounceEvent)>,
    /// A request that `stop` gave up on: its answer means nothing.
    abandoned: Option<TrackerKey>,
    /// When a tracker was last asked, whatever it said.
    last_asked: Option<Instant>,
    /// What the last answer demands between two announces.
    min_interval: Option<Duration>,
    /// Rounds over all trackers in a row in which none answered.
    failed_rounds: u32,
    last_answered: Option<TrackerKey>,
    completion: Completion,
    stage: Stage,
}

impl Announcer {
    /// The first announce is due at once. Empty and repeated URLs are left out, and so is what
    /// exceeds [`TRACKERS_MAX`].
    pub fn new(tiers: Vec<Vec<String>>, rng: &mut Rng, now: Instant) -> Self {
        let mut rng = rng.fork();
        Self {
            tiers: kept(tiers, 0, &mut BTreeSet::new(), &mut rng),
            rng,
            cursor: (0, 0),
            next_at: now,
            in_flight: None,
            abandoned: None,
            last_asked: None,
            min_interval: None,
            failed_rounds: 0,
            last_answered: None,
            completion: Completion::NotYet,
            stage: Stage::Running,
        }
    }

    /// More trackers, as tiers behind those that are there. What is known already, empty or
    /// exceeds [`TRACKERS_MAX`] is left out.
    pub fn add(&mut self, tiers: Vec<Vec<String>>, now: Instant) {
        let known = self.tiers.iter().flatten();
        let mut seen: BTreeSet<String> = known.map(|tracker| tracker.url.clone()).collect();
        let keys = self.tiers.iter().flatten().map(|tracker| tracker.key.tier);
        let first = keys.max().map_or(0, |tier| tier.saturating_add(1));
        let had_none = self.tiers.is_empty();
        let more = kept(tiers, first, &mut seen, &mut self.rng);
        self.tiers.extend(more);
        if had_none {
            self.next_at = now;
        }
    }

    /// When [`poll`](Self::poll) has something. `None` while a request is in flight, and when there
    /// is nothing left to say.
    pub fn deadline(&self) -> Option<Instant> {
        if self.in_flight.is_some() || self.tiers.is_empty() {
            return None;
        }
        match self.stage {
            Stage::Running | Stage::Stopping => Some(self.next_at),
            Stage::Stopped => None,
        }
    }

    /// What to announce now. The answer comes to [`on_reply`](Self::on_reply) or
    /// [`on_failure`](Self::on_failure).
    pub fn poll(&mut self, now: Instant) -> Option<(TrackerKey, String, AnnounceEvent)> {
        if self.deadline().is_none_or(|due| due > now) {
            return None;
        }
        let tracker = match self.stage {
            Stage::Running => self.tiers.get(self.cursor.0)?.get(self.cursor.1)?,
            Stage::Stopping => self.tracker(self.last_answered?)?,
            Stage::Stopped => return None,
        };
        let event = if self.stage == Stage::Stopping {
            AnnounceEvent::Stopped
        } else if !tracker.started {
            AnnounceEvent::Started
        } else if self.completion == Completion::ToTell {
            AnnounceEvent::Completed
        } else {
            AnnounceEvent::None
        };
        let (key, url) = (tracker.key, tracker.url.clone());
        self.in_flight = Some((key, event));
        self.last_asked = Some(now);
        Some((key, url, event))
    }

    /// A tracker answered. A zero `interval` names none.
    pub fn on_reply(
        &mut self,
        now: Instant,
        tracker: TrackerKey,
        interval: Duration,
        min_interval: Option<Duration>,
    ) {
        let Some(event) = self.land(tracker) else {
            return;
        };
        self.failed_rounds = 0;
        self.cursor = (0, 0);
        self.last_answered = Some(tracker);
        self.promote(tracker);
        let interval = if interval.is_zero() {
            INTERVAL
        } else {
            interval
        };
        self.min_interval = min_interval.map(|min| min.min(INTERVAL_MAX));
        self.next_at = now
            + interval
                .clamp(INTERVAL_MIN, INTERVAL_MAX)
                .max(self.min_interval.unwrap_or_default());
        match event {
            AnnounceEvent::Started | AnnounceEvent::None | AnnounceEvent::Paused => {}
            AnnounceEvent::Completed => self.completion = Completion::Told,
            AnnounceEvent::Stopped => {
                self.stage = Stage::Stopped;
                return;
            }
        }
        if self.completion == Completion::ToTell {
            self.next_at = now;
        }
    }

    /// A tracker gave no answer or refused: the next one is asked at once, and after the last one
    /// all of them rest.
    pub fn on_failure(&mut self, now: Instant, tracker: TrackerKey) {
        let Some(event) = self.land(tracker) else {
            return;
        };
        if event == AnnounceEvent::Stopped {
            // It drops us by itself when we fall silent.
            self.stage = Stage::Stopped;
            return;
        }
        self.next_at = now;
        self.cursor.1 += 1;
        if self
            .tiers
            .get(self.cursor.0)
            .is_none_or(|tier| self.cursor.1 >= tier.len())
        {
            self.cursor = (self.cursor.0 + 1, 0);
        }
        if self.cursor.0 >= self.tiers.len() {
            self.cursor = (0, 0);
            self.next_at = now + self.back_off();
            self.failed_rounds = self.failed_rounds.saturating_add(1);
        }
    }

    /// The download finished in this session: told once, as soon as `started` was answered.
    pub fn completed(&mut self, now: Instant) {
        if self.completion != Completion::NotYet {
            return;
        }
        self.completion = Completion::ToTell;
        if self.last_answered.is_some() && self.failed_rounds == 0 && self.stage == Stage::Running {
            self.next_at = self.next_at.min(now);
        }
    }

    /// The torrent stops: `stopped` goes to the tracker that answered last, if one knows us. A
    /// request in flight is given up.
    pub fn stop(&mut self, now: Instant) {
        if self.stage != Stage::Running {
            return;
        }
        self.abandoned = self.in_flight.take().map(|(tracker, _)| tracker);
        self.stage = if self.last_answered.is_some() {
            Stage::Stopping
        } else {
            Stage::Stopped
        };
        self.next_at = now;
    }

    /// We know too few peers: announce before the interval is over, but not before the tracker
    /// allows it, nor while all trackers rest.
    pub fn want_peers(&mut self, now: Instant) {
        if self.stage != Stage::Running || self.in_flight.is_some() || self.failed_rounds > 0 {
            return;
        }
        let Some(last_asked) = self.last_asked else {
            return;
        };
        let gap = self.min_interval.unwrap_or(EARLY_GAP).max(EARLY_GAP_MIN);
        self.next_at = self.next_at.min((last_asked + gap).max(now));
    }

    /// What is known of the trackers.
    pub fn standing(&self) -> TrackerStanding {
        if self.tiers.is_empty() {
            TrackerStanding::None
        } else if self.failed_rounds > 0 {
            TrackerStanding::Failing
        } else if self.last_answered.is_none() {
            TrackerStanding::Asked
        } else {
            TrackerStanding::Answered
        }
    }

    /// [`stop`](Self::stop) was called, and nothing is left to say.
    pub fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }

    /// The request in flight to `tracker` is over: what it said. `None` if there was none.
    fn land(&mut self, tracker: TrackerKey) -> Option<AnnounceEvent> {
        if self.abandoned == Some(tracker) {
            self.abandoned = None;
            return None;
        }
        let (_, event) = self.in_flight.take_if(|(key, _)| *key == tracker)?;
        Some(event)
    }

    /// BEP 12: who answers moves to the front of its tier.
    fn promote(&mut self, key: TrackerKey) {
        for tier in &mut self.tiers {
            if let Some(place) = tier.iter().position(|tracker| tracker.key == key) {
                let mut tracker = tier.remove(place);
                tracker.started = true;
                tier.insert(0, tracker);
                return;
            }
        }
    }

    fn tracker(&self, key: TrackerKey) -> Option<&Tracker> {
        self.tiers
            .iter()
            .flatten()
            .find(|tracker| tracker.key == key)
    }

    /// Between the whole and one and a half of the doubled time, so that a swarm does not come back
    /// to a restarted tracker in one wave.
    fn back_off(&mut self) -> Duration {
        let whole = BACK_OFF * (1 << self.failed_rounds.min(16));
        let whole = whole.min(BACK_OFF_MAX);
        whole + whole.mul_f64(self.rng.unit() / 2.0)
    }
}

/// The tiers to be used of those that were named; the first gets the number `first`.
fn kept(
    tiers: Vec<Vec<String>>,
    first: u16,
    seen: &mut BTreeSet<String>,
    rng: &mut Rng,
) -> Vec<Vec<Tracker>> {
    let mut kept = Vec::new();
    for (tier, urls) in (first..).zip(tiers) {
        let mut trackers = Vec::new();
        for (index, url) in (0u16..).zip(urls) {
            if url.is_empty() || seen.len() >= TRACKERS_MAX || !seen.insert(url.clone()) {
                continue;
            }
            trackers.push(Tracker {
                key: TrackerKey { tier, index },
                url,
                started: false,
            });
        }
        rng.shuffle(&mut trackers);
        if !trackers.is_empty() {
            kept.push(trackers);
        }
    }
    kept
}

#[derive(Clone, Debug)]
struct Tracker {
    key: TrackerKey,
    url: String,
    /// It answered us: it knows that we started.
    started: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Completion {
    NotYet,
    ToTell,
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// `stopped` is to be said, or in flight.
    Stopping,
    Stopped,
}

/// Trackers of one torrent; real ones list a few dozen.
pub const TRACKERS_MAX: usize = 200;

/// When the tracker names no interval.
const INTERVAL: Duration = Duration::from_secs(30 * 60);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Between two announces when we starve and the tracker names no minimum.
const EARLY_GAP: Duration = Duration::from_secs(15);
/// The same, whatever minimum it names.
const EARLY_GAP_MIN: Duration = Duration::from_secs(5);

/// Rest after the first round in which no tracker answered; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(5);
const BACK_OFF_MAX: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests;
