//! Reads the log of a `peer` back: what a person sees there, as values.
//!
//! Nothing of the program is used, so that a test can set the words of the log against the events
//! and against the logs of the other peers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Seconds on a clock that all logs of one test share.
    pub t: f64,
    pub level: String,
    pub text: String,
}

/// A choice of preferred neighbours, with what the lines before it say.
#[derive(Clone, Debug)]
pub struct Round {
    pub t: f64,
    pub named: Vec<String>,
    pub optimistic: Option<String>,
    /// How many the line itself says are interested.
    pub interested_said: usize,
    /// Who became interested before, did not lose interest and did not leave.
    pub interested: BTreeSet<String>,
}

#[derive(Debug)]
pub struct PeerLog {
    pub lines: Vec<Line>,
    /// The peer id of who wrote it.
    pub own_id: String,
    /// `text` or `json`.
    pub format: &'static str,
}

impl PeerLog {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<Line> = text.lines().map(line).collect();
        let own_id = lines
            .iter()
            .find_map(|line| line.text.strip_prefix("listening on "))
            .and_then(|rest| rest.split_once(", peer id "))
            .map(|(_, id)| id.to_owned())
            .unwrap_or_else(|| panic!("{} names no peer id", path.display()));
        let format = if text.lines().all(|line| line.starts_with('{')) {
            "json"
        } else {
            "text"
        };
        Self {
            lines,
            own_id,
            format,
        }
    }

    pub fn end(&self) -> f64 {
        self.lines.last().map_or(0.0, |line| line.t)
    }

    /// The interested set is right only in a log of level `debug`.
    pub fn rounds(&self) -> Vec<Round> {
        let mut interested = BTreeSet::new();
        let mut rounds = Vec::new();
        for line in &self.lines {
            let text = &line.text;
            if let Some(peer) = text.strip_suffix(" is interested in us") {
                interested.insert(peer.to_owned());
            } else if let Some(peer) = text.strip_suffix(" is no longer interested in us") {
                interested.remove(peer);
            } else if let Some(peer) = disconnected(text) {
                interested.remove(peer);
            } else if let Some(rest) = text.strip_prefix("preferred neighbours: ") {
                rounds.push(round(line.t, rest, &interested));
            }
        }
        rounds
    }

    /// Whom it says to have unchoked by chance, or to keep unchoked so, and when.
    pub fn optimistic(&self) -> Vec<(f64, String)> {
        let mut named: Vec<(f64, String)> = self
            .rounds()
            .into_iter()
            .filter_map(|round| Some((round.t, round.optimistic?)))
            .collect();
        named.extend(self.lines.iter().filter_map(|line| {
            let peer = line.text.strip_prefix("optimistic unchoke: ")?;
            Some((line.t, peer.to_owned()))
        }));
        named
    }

    /// The peer id behind an address at a time.
    pub fn id_at(&self, addr: &str, t: f64) -> Option<&str> {
        let before = self.lines.iter().rev().filter(|line| line.t <= t);
        let mut ids = before.filter_map(|line| connected(&line.text));
        ids.find(|(peer, _)| *peer == addr).map(|(_, id)| id)
    }

    /// When the connection with an address ended, after a time.
    pub fn gone_after(&self, addr: &str, t: f64) -> Option<f64> {
        let after = self.lines.iter().filter(|line| line.t >= t);
        let mut gone = after.filter(|line| disconnected(&line.text) == Some(addr));
        gone.next().map(|line| line.t)
    }

    /// The spans of time during which the peer of this id unchoked us.
    pub fn unchoked_by(&self, id: &str) -> Vec<(f64, f64)> {
        let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open: BTreeMap<&str, f64> = BTreeMap::new();
        let mut spans = Vec::new();
        for line in &self.lines {
            let text = line.text.as_str();
            if let Some((peer, id)) = connected(text) {
                ids.insert(peer, id);
            } else if let Some(peer) = text.strip_suffix(" unchoked us") {
                if ids.get(peer) == Some(&id) {
                    open.entry(peer).or_insert(line.t);
                }
            } else if let Some(peer) = text.strip_suffix(" choked us").or(disconnected(text)) {
                spans.extend(open.remove(peer).map(|since| (since, line.t)));
            }
        }
        spans.extend(open.into_values().map(|since| (since, f64::INFINITY)));
        spans
    }

    /// The most connections at one time.
    pub fn connections_max(&self) -> usize {
        let mut peers = BTreeSet::new();
        let mut most = 0;
        for line in &self.lines {
            if let Some((peer, _)) = connected(&line.text) {
                peers.insert(peer);
            } else if let Some(peer) = disconnected(&line.text) {
                peers.remove(peer);
            }
            most = most.max(peers.len());
        }
        most
    }
}

/// Address and peer id.
fn connected(text: &str) -> Option<(&str, &str)> {
    let (head, id) = text.strip_suffix(')')?.split_once(", peer id ")?;
    let addr = match head.split_once(" connected to us (") {
        Some((addr, _)) => addr,
        None => head.strip_prefix("connected to ")?.split_once(" (")?.0,
    };
    Some((addr, id))
}

fn disconnected(text: &str) -> Option<&str> {
    Some(text.strip_prefix("disconnected from ")?.split_once(": ")?.0)
}

fn round(t: f64, rest: &str, interested: &BTreeSet<String>) -> Round {
    let parts: Vec<&str> = rest.split("; ").collect();
    let [named, optimistic, said] = parts[..] else {
        panic!("three parts in {rest:?}");
    };
    let named = match named {
        "none" => Vec::new(),
        named => named
            .split(", ")
            .map(|peer| peer.split_once(" (").unwrap().0.to_owned())
            .collect(),
    };
    let optimistic = optimistic.strip_prefix("optimistic: ").unwrap();
    Round {
        t,
        named,
        optimistic: (optimistic != "none").then(|| optimistic.to_owned()),
        interested_said: said.strip_suffix(" interested").unwrap().parse().unwrap(),
        interested: interested.clone(),
    }
}

/// Of either format.
fn line(text: &str) -> Line {
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).expect("a line is JSON");
        let field = |name: &str| value[name].as_str().expect(name).to_owned();
        return Line {
            t: seconds(&field("timestamp")),
            level: field("level"),
            text: field("message"),
        };
    }
    let (time, rest) = text.split_once(' ').unwrap();
    let (level, text) = rest.trim_start().split_once(' ').unwrap();
    Line {
        t: seconds(time),
        level: level.to_owned(),
        text: text.trim_start().to_owned(),
    }
}

/// `2026-01-31T12:00:00.000000Z` as seconds since its month began: a test that runs over the end of
/// a month may fail.
fn seconds(time: &str) -> f64 {
    let (date, clock) = time.strip_suffix('Z').unwrap().split_once('T').unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let day = number(date.rsplit('-').next().unwrap());
    let of_day = clock
        .split(':')
        .fold(0.0, |sum, part| sum * 60.0 + number(part));
    day * 86_400.0 + of_day
}
