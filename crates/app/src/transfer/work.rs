//! One torrent of a run: how far it is, and how that is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dunlin_engine::PeerAddr;
use dunlin_engine::TorrentKey;
use dunlin_engine::alert::Alert;
use dunlin_engine::snapshot::{TorrentSnapshot, TorrentState};
use dunlin_host::check::CheckProgress;
use dunlin_host::shown_url;
use dunlin_host::storage::PrepareMode;
use serde_json::json;

use crate::events::Events;
use crate::failure::Failure;
use crate::quantity::{count, percent, show_bytes, show_duration, show_rate};
use crate::screen;
use crate::story::Story;

use super::Item;

/// A stall is shown in place of the rate when it has lasted so many seconds.
const SHOWN_AFTER_S: u64 = 3;

/// Bars that are shown at once; the rest is counted.
const BARS_MAX: usize = 10;

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Of a link: its metadata is asked of peers.
    Metadata {
        key: TorrentKey,
        since: Instant,
    },
    /// What is on the disk is looked at. The key is that of a link whose metadata came.
    Preparing {
        key: Option<TorrentKey>,
    },
    Running {
        key: TorrentKey,
        since: Instant,
    },
    /// It failed, and said so.
    Ended,
}

/// The most bytes a second in each direction, measured over one `progress` interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    pub down: u64,
    pub up: u64,
    last: Option<(Instant, u64, u64)>,
}

impl Peak {
    fn see(&mut self, now: Instant, downloaded: u64, uploaded: u64) {
        if let Some((then, down, up)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64();
            let rate = |bytes: u64| (bytes as f64 / seconds.max(0.1)) as u64;
            self.down = self.down.max(rate(downloaded.saturating_sub(down)));
            self.up = self.up.max(rate(uploaded.saturating_sub(up)));
        }
        self.last = Some((now, downloaded, uploaded));
    }
}

#[derive(Debug)]
pub struct Work {
    pub item: Item,
    pub story: Story,
    pub stage: Stage,
    pub checking: Option<CheckProgress>,
    pub peak: Peak,
    pub snapshot: Option<TorrentSnapshot>,
    /// When everything wanted was here. Never for a seed.
    pub complete: Option<Instant>,
    /// Where it is, or will be.
    pub path: Option<PathBuf>,
    pub has_trackers: bool,
    pub has_peers: bool,
    /// The first peer that has everything, for whoever waits for one.
    pub served: Option<PeerAddr>,
    met_somebody: bool,
    loneliness_told: bool,
    /// What the trackers said last, and why the last dial failed.
    tracker_said: Option<String>,
    dial_failed: Option<String>,
}

impl Work {
    pub fn new(item: Item, loud: bool, prefixed: bool) -> Self {
        let name = item.name();
        let story = Story {
            info_hash: item.info_hash,
            prefix: if prefixed {
                format!("{name}: ")
            } else {
                String::new()
            },
            loud,
            troubles: BTreeMap::new(),
            interest_told: BTreeSet::new(),
        };
        Self {
            item,
            story,
            stage: Stage::Preparing { key: None },
            checking: None,
            peak: Peak::default(),
            snapshot: None,
            complete: None,
            path: None,
            has_trackers: false,
            has_peers: false,
            served: None,
            met_somebody: false,
            loneliness_told: false,
            tracker_said: None,
            dial_failed: None,
        }
    }

    /// Something is still to be downloaded.
    pub fn is_unfinished(&self) -> bool {
        match self.stage {
            Stage::Ended => false,
            Stage::Metadata { .. } => true,
            Stage::Preparing { .. } => self.item.mode != PrepareMode::Seed { check: false },
            Stage::Running { .. } => self.item.is_download() && self.complete.is_none(),
        }
    }

    /// Bytes uploaded over bytes wanted.
    pub fn ratio(&self) -> f64 {
        let uploaded = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.uploaded);
        match self.have().1 {
            0 => f64::INFINITY,
            bytes => uploaded as f64 / bytes as f64,
        }
    }

    /// The key that the host knows it by.
    pub fn key(&self) -> Option<TorrentKey> {
        match self.stage {
            Stage::Metadata { key, .. } | Stage::Running { key, .. } => Some(key),
            Stage::Preparing { key } => key,
            Stage::Ended => None,
        }
    }

    /// `thing.iso: 31 % of 134.2 MB`.
    pub fn state(&self) -> String {
        let (have, wanted) = self.have();
        let name = self.item.name();
        if self.item.torrent().is_none() {
            return format!("{name}: its metadata has not come");
        }
        format!(
            "{name}: {} % of {}",
            percent(have, wanted),
            show_bytes(wanted)
        )
    }

    fn have(&self) -> (u64, u64) {
        match &self.snapshot {
            Some(snapshot) => (snapshot.have_bytes, snapshot.wanted_bytes),
            None => (0, self.item.bytes()),
        }
    }

    /// Keeps what explains later why nothing happens.
    pub fn learn(&mut self, alert: &Alert) {
        if let Alert::Connected { .. } = alert {
            self.met_somebody = true;
        } else if let Alert::PeerCompleted { peer, .. } = alert {
            self.served.get_or_insert(*peer);
        } else if let Alert::Announced { url, peers, .. } = alert {
            let known = match peers {
                0 => "nobody else".to_owned(),
                &peers => count(peers, "peer"),
            };
            self.tracker_said = Some(format!("tracker {} knows {known}", shown_url(url)));
        } else if let Alert::AnnounceFailed { url, message, .. } = alert {
            self.tracker_said = Some(format!("tracker {}: {message}", shown_url(url)));
        } else if let Alert::DialFailed { peer, reason, .. } = alert {
            self.dial_failed = Some(format!("{peer}: {reason}"));
        }
    }

    pub fn tell_metadata(&self, events: &Events) -> Result<(), Failure> {
        let Some(torrent) = self.item.torrent() else {
            return Ok(());
        };
        events.emit("metadata", Some(&torrent.info_hash), || {
            json!({
                "name": torrent.name,
                "bytes": torrent.layout.bytes(),
                "pieces": torrent.layout.pieces(),
            })
        })
    }

    /// The metadata of a link came: from now on it has its real name.
    pub fn on_metadata(&mut self, events: &Events) -> Result<(), Failure> {
        let Some(torrent) = self.item.torrent() else {
            return Ok(());
        };
        let (name, layout) = (self.item.name(), &torrent.layout);
        let line = format!(
            "metadata is here: {name}, {} in {} pieces",
            show_bytes(layout.bytes()),
            layout.pieces()
        );
        self.story.say_aloud(&line);
        if !self.story.prefix.is_empty() {
            self.story.prefix = format!("{name}: ");
        }
        self.tell_metadata(events)
    }

    pub fn tell_progress(&mut self, events: &Events) -> Result<(), Failure> {
        let hash = Some(&self.item.info_hash);
        if let Some(at) = self.checking {
            return events.emit(
                "checking",
                hash,
                || json!({ "done": at.done_bytes, "total": at.total_bytes }),
            );
        }
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        self.peak
            .see(Instant::now(), snapshot.downloaded, snapshot.uploaded);
        events.emit("progress", hash, || {
            json!({
                "have_bytes": snapshot.have_bytes,
                "total_bytes": snapshot.wanted_bytes,
                "downloaded": snapshot.downloaded,
                "uploaded": snapshot.uploaded,
                "wasted": snapshot.duplicate + snapshot.failed_hash,
                "down_rate": snapshot.down_rate,
                "up_rate": snapshot.up_rate,
                "peers": snapshot.peers.len(),
                "seeds": snapshot.peers.iter().filter(|peer| peer.is_seed).count(),
                "eta_s": eta(snapshot).map(|eta| eta.as_secs()),
                "stall": snapshot.stall.map(|stall| stall.cause.code()),
                "stalled_s": snapshot.stalled_s,
            })
        })
    }

    /// Says once why nothing happens.
    pub fn tell_if_lonely(&mut self, events: &Events, after: Duration) -> Result<(), Failure> {
        let (since, is_link) = match self.stage {
            Stage::Running { since, .. } => (since, false),
            Stage::Metadata { since, .. } => (since, true),
            Stage::Preparing { .. } | Stage::Ended => return Ok(()),
        };
        if self.loneliness_told || self.complete.is_some() || !self.item.is_download() {
            return Ok(());
        }
        if since.elapsed() < after || self.met_somebody && !is_link {
            return Ok(());
        }
        self.loneliness_told = true;
        let connected = self.snapshot.as_ref().map_or(0, |now| now.peers.len());
        let (code, line) = if is_link && connected > 0 {
            let peers = count(connected, "peer");
            let line = format!("no metadata so far: connected to {peers}, none has it");
            ("no_metadata", line)
        } else {
            let line = format!("no peers so far: {}", self.why_lonely());
            ("no_peers", line)
        };
        self.story.warn(events, code, &line)
    }

    fn why_lonely(&self) -> String {
        if !self.has_trackers && !self.has_peers {
            return "the torrent names no tracker; name one with --tracker or a peer with --peer"
                .to_owned();
        }
        let mut reasons = Vec::new();
        match (&self.tracker_said, self.has_trackers) {
            (Some(said), _) => reasons.push(said.clone()),
            (None, true) => reasons.push("no tracker has answered yet".to_owned()),
            (None, false) => {}
        }
        match (&self.dial_failed, self.has_peers) {
            (Some(failed), _) => reasons.push(failed.clone()),
            (None, true) => reasons.push("no peer has answered yet".to_owned()),
            (None, false) => {}
        }
        reasons.join("; ")
    }
}

fn eta(snapshot: &TorrentSnapshot) -> Option<Duration> {
    if matches!(snapshot.state, TorrentState::FetchingMetadata { .. }) {
        return None;
    }
    let left = snapshot.wanted_bytes.saturating_sub(snapshot.have_bytes);
    match (left, snapshot.down_rate) {
        (0, _) => Some(Duration::ZERO),
        (_, 0) => None,
        (left, rate) => Some(Duration::from_secs(left / rate)),
    }
}

/// The live area: a line a torrent.
pub fn bars(works: &[Work]) -> Vec<String> {
    let shown = works
        .iter()
        .filter(|work| !matches!(work.stage, Stage::Ended));
    let mut lines: Vec<String> = shown.map(bar_line).collect();
    if lines.len() > BARS_MAX {
        let more = lines.len() - (BARS_MAX - 1);
        lines.truncate(BARS_MAX - 1);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn bar_line(work: &Work) -> String {
    let colour = screen::look().colour;
    let name = screen::fit(&work.item.name(), 18);
    if let Some(at) = work.checking {
        let bar = screen::bar(at.done_bytes, at.total_bytes, 16, colour);
        let done = percent(at.done_bytes, at.total_bytes);
        return format!("{name:<18} {bar} {done:>3} %  checking what is here");
    }
    let Some(snapshot) = &work.snapshot else {
        return format!("{name:<18} waiting");
    };
    let (have, wanted) = work.have();
    let peers = snapshot.peers.len();
    if work.item.torrent().is_none() {
        let why = stalled(snapshot).unwrap_or_else(|| "asking for the metadata".to_owned());
        return format!("{name:<18} {why:<28}  {peers:>3} peers");
    }
    let bar = screen::bar(have, wanted, 16, colour);
    if let Some(why) = stalled(snapshot).filter(|_| work.is_unfinished()) {
        let (done, seconds) = (percent(have, wanted), snapshot.stalled_s);
        format!("{name:<18} {bar} {done:>3} %  {why} ({seconds} s)")
    } else if work.is_unfinished() {
        let eta = eta(snapshot).map_or("-".to_owned(), show_duration);
        let rate = show_rate(snapshot.down_rate);
        let done = percent(have, wanted);
        format!("{name:<18} {bar} {done:>3} %  {rate:>10}  {peers:>3} peers  {eta:>8}")
    } else {
        let (rate, ratio) = (show_rate(snapshot.up_rate), work.ratio());
        format!("{name:<18} {bar} seeding  {rate:>10}  {peers:>3} peers  ratio {ratio:.2}")
    }
}

/// Why nothing comes, in few words, once it has lasted long enough to be more than a pause.
fn stalled(snapshot: &TorrentSnapshot) -> Option<String> {
    let stall = snapshot
        .stall
        .filter(|_| snapshot.stalled_s >= SHOWN_AFTER_S)?;
    Some(stall.short())
}

/// The same for a log: a line a torrent.
pub fn lines(works: &[Work]) -> Vec<String> {
    works.iter().filter_map(line).collect()
}

fn line(work: &Work) -> Option<String> {
    let name = work.item.name();
    if let Some(at) = work.checking {
        let done = percent(at.done_bytes, at.total_bytes);
        return Some(format!(
            "checking {name}: {done} % of {}",
            show_bytes(at.total_bytes)
        ));
    }
    let snapshot = work.snapshot.as_ref()?;
    if matches!(work.stage, Stage::Ended) {
        return None;
    }
    let stall = snapshot
        .stall
        .filter(|_| snapshot.stalled_s >= SHOWN_AFTER_S && work.is_unfinished());
    let eta = match (stall, eta(snapshot)) {
        (Some(stall), _) => format!("; stalled: {stall}"),
        (None, Some(eta)) if work.is_unfinished() => format!("; {} left", show_duration(eta)),
        (None, Some(_) | None) => String::new(),
    };
    Some(format!(
        "progress: {}; {} down, {} up, {}{eta}",
        work.state(),
        show_rate(snapshot.down_rate),
        show_rate(snapshot.up_rate),
        count(snapshot.peers.len(), "peer"),
    ))
}
