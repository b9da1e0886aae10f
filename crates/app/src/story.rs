//! What happens in a swarm, told twice: as words in the log and as events on stdout.
//!
//! One function translates every [`Alert`]. In `peer` the story is told at `info`, elsewhere at
//! `debug`: only what a user must know is louder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_engine::alert::{Alert, Side, Summary};
use dunlin_engine::event::{Direction, PeerAddr};
use dunlin_engine::reason::ChokeReason;
use dunlin_host::shown_url;
use dunlin_metainfo::InfoHash;
use serde_json::{Value, json};

use crate::clean::clean;
use crate::events::Events;
use crate::failure::Failure;
use crate::quantity::{count, show_bytes, show_duration, show_rate};

/// Tells the story of one torrent.
#[derive(Debug)]
pub struct Story {
    pub info_hash: InfoHash,
    /// Before each line where several torrents are told of.
    pub prefix: String,
    /// At `info` rather than `debug`.
    pub loud: bool,
    /// What each tracker's trouble was when it was told last: the same again is only for `debug`.
    /// A torrent has few trackers.
    pub troubles: BTreeMap<String, String>,
    /// Of which connected peers the first interest was told, and whether it was ours.
    pub interest_told: BTreeSet<(PeerAddr, bool)>,
}

impl Story {
    pub fn say(&self, line: &str) {
        let prefix = &self.prefix;
        if self.loud {
            tracing::info!(target: "dunlin", "{prefix}{line}");
        } else {
            tracing::debug!(target: "dunlin", "{prefix}{line}");
        }
    }

    /// Something that everybody may know.
    pub fn say_aloud(&self, line: &str) {
        tracing::info!(target: "dunlin", "{}{line}", self.prefix);
    }

    /// Something that a user should know, whatever the command.
    pub fn warn(&self, events: &Events, code: &str, line: &str) -> Result<(), Failure> {
        tracing::warn!(target: "dunlin", "{}{line}", self.prefix);
        events.warning(Some(&self.info_hash), code, line)
    }

    /// `at` is the time of the event on the clock of `events`.
    pub fn tell(&mut self, events: &Events, at: Duration, alert: &Alert) -> Result<(), Failure> {
        match alert {
            Alert::Interest {
                peer,
                by,
                interested,
                ..
            } => {
                self.tell_interest(*peer, *by, *interested);
            }
            Alert::Disconnected { peer, .. } => {
                self.interest_told.remove(&(*peer, true));
                self.interest_told.remove(&(*peer, false));
            }
            Alert::Announced { url, .. } => {
                self.troubles.remove(url);
            }
            Alert::AnnounceFailed {
                url, message, next, ..
            } => {
                let trouble = format!("tracker {}: {}", clean(&shown_url(url)), clean(message));
                let line = format!("{trouble}; {}", next_try(*next));
                return self.trouble(events, url, trouble, &line);
            }
            Alert::TrackerWarning { url, message, .. } => {
                let line = format!(
                    "tracker {} warns: {}",
                    clean(&shown_url(url)),
                    clean(message)
                );
                return self.trouble(events, url, line.clone(), &line);
            }
            Alert::AlreadyAdded { .. } => {
                let line = "not added: the same torrent is here already";
                return self.warn(events, "already_added", line);
            }
            Alert::Connected { .. }
            | Alert::DialFailed { .. }
            | Alert::PieceDone { .. }
            | Alert::PieceFailed { .. }
            | Alert::PeerBanned { .. }
            | Alert::MetadataDone { .. }
            | Alert::MetadataFailed { .. }
            | Alert::Preferred { .. }
            | Alert::Choke { .. }
            | Alert::Listens { .. }
            | Alert::PeerCompleted { .. }
            | Alert::SuperSeeding { .. }
            | Alert::FileCompleted { .. }
            | Alert::Complete { .. }
            | Alert::DiskFailed { .. }
            | Alert::Stalled { .. }
            | Alert::Flowing { .. } => {}
        }
        if let Some((code, line)) = misdeed(alert) {
            return self.warn(events, code, &line);
        }
        if let Some(line) = line(alert) {
            self.say(&line);
        }
        match event(alert) {
            Some((name, body)) => events.emit_at(at, name, Some(&self.info_hash), || body),
            None => Ok(()),
        }
    }

    /// Near the end, and between two leeches that are equally far, interest comes and goes many
    /// times a second: only the first time is worth more than `debug`.
    fn tell_interest(&mut self, peer: PeerAddr, by: Side, interested: bool) {
        let verb = if interested {
            "interested"
        } else {
            "no longer interested"
        };
        let line = match by {
            Side::Us => format!("we are {verb} in {peer}"),
            Side::Peer => format!("{peer} is {verb} in us"),
        };
        if interested && self.interest_told.insert((peer, by == Side::Us)) {
            self.say(&line);
        } else {
            tracing::debug!(target: "dunlin", "{}{line}", self.prefix);
        }
    }

    fn trouble(
        &mut self,
        events: &Events,
        url: &str,
        trouble: String,
        line: &str,
    ) -> Result<(), Failure> {
        let before = self.troubles.insert(url.to_owned(), trouble.clone());
        if before == Some(trouble) {
            self.say(line);
            return events.warning(Some(&self.info_hash), "tracker", line);
        }
        self.warn(events, "tracker", line)
    }
}

/// Code and line of what a peer did wrong.
fn misdeed(alert: &Alert) -> Option<(&'static str, String)> {
    if let Alert::PieceFailed { piece, from, .. } = alert {
        let from = list(from);
        let line =
            format!("piece {piece} failed its hash and is fetched again; it came from {from}");
        Some(("piece_failed", line))
    } else if let Alert::PeerBanned { peer, piece, .. } = alert {
        let line = format!("{peer} is banned: it sent wrong data for piece {piece}");
        Some(("peer_banned", line))
    } else if let Alert::MetadataFailed { from, banned, .. } = alert {
        let from = list(from);
        let line = if *banned {
            format!("{from} is banned: it sent wrong metadata")
        } else {
            format!("the metadata from {from} is wrong and is fetched again")
        };
        Some(("metadata_failed", line))
    } else {
        None
    }
}

/// The line of what only followers of the story want to know.
fn line(alert: &Alert) -> Option<String> {
    Some(match alert {
        Alert::Connected {
            peer,
            direction,
            peer_id,
            client,
            ..
        } => {
            let who = format!(
                "({}, peer id {})",
                clean(client),
                shown_id(peer_id.as_bytes())
            );
            match direction {
                Direction::Incoming => format!("{peer} connected to us {who}"),
                Direction::Outgoing => format!("connected to {peer} {who}"),
            }
        }
        Alert::Disconnected { peer, reason, .. } => format!("disconnected from {peer}: {reason}"),
        Alert::DialFailed { peer, reason, .. } => format!("cannot connect to {peer}: {reason}"),
        Alert::PieceDone {
            piece,
            have,
            total,
            from,
            ..
        } => {
            format!("piece {piece} from {}; have {have} of {total}", list(from))
        }
        Alert::MetadataDone { bytes, from, .. } => {
            format!("metadata ({bytes} bytes) from {}", list(from))
        }
        Alert::Preferred {
            peers,
            optimistic,
            interested,
            ..
        } => preferred_line(peers, *optimistic, *interested),
        Alert::Choke {
            peer,
            by,
            choked,
            reason,
            ..
        } => choke_line(*peer, *by, *choked, *reason),
        Alert::Announced {
            url, peers, next, ..
        } => {
            let (peers, next) = (count(*peers, "peer"), show_duration(*next));
            format!(
                "tracker {}: {peers}; next announce in {next}",
                clean(&shown_url(url))
            )
        }
        Alert::Listens { peer, at, .. } => format!("{peer} listens on {at}"),
        Alert::PeerCompleted { peer, .. } => format!("{peer} has everything"),
        Alert::SuperSeeding { on: true, .. } => {
            "super-seeding: each piece goes to one peer first".to_owned()
        }
        Alert::SuperSeeding { on: false, .. } => {
            "super-seeding is over: everybody is told of every piece".to_owned()
        }
        Alert::Stalled { stall, seconds, .. } => format!("stalled for {seconds} s: {stall}"),
        Alert::Flowing { seconds, .. } => format!("it flows again, after {seconds} s"),
        // Told louder, or by whom it ends.
        Alert::Interest { .. }
        | Alert::AlreadyAdded { .. }
        | Alert::PieceFailed { .. }
        | Alert::PeerBanned { .. }
        | Alert::MetadataFailed { .. }
        | Alert::AnnounceFailed { .. }
        | Alert::TrackerWarning { .. }
        | Alert::FileCompleted { .. }
        | Alert::Complete { .. }
        | Alert::DiskFailed { .. } => return None,
    })
}

/// Name and body of the event, for what the contract lists.
fn event(alert: &Alert) -> Option<(&'static str, Value)> {
    Some(match alert {
        Alert::Connected {
            peer,
            direction,
            peer_id,
            client,
            ..
        } => {
            let direction = way(*direction);
            let body = json!({
                "peer": peer.to_string(), "direction": direction, "transport": "tcp",
                "encrypted": false, "client": clean(client),
                "peer_id": shown_id(peer_id.as_bytes()),
            });
            ("connected", body)
        }
        Alert::Disconnected { peer, reason, .. } => (
            "disconnected",
            json!({ "peer": peer.to_string(), "reason": reason.to_string() }),
        ),
        Alert::PieceDone {
            piece,
            have,
            total,
            from,
            ..
        } => {
            let (index, from) = (piece.get(), addresses(from));
            (
                "piece",
                json!({ "index": index, "have": have, "total": total, "from": from }),
            )
        }
        Alert::Preferred {
            peers,
            optimistic,
            interested,
            ..
        } => ("preferred", preferred(peers, *optimistic, *interested)),
        Alert::Choke {
            peer,
            by,
            choked,
            reason,
            ..
        } => {
            let name = if *choked { "choked" } else { "unchoked" };
            (name, choke(*peer, *by, *reason))
        }
        Alert::PeerCompleted { peer, .. } => {
            ("peer_completed", json!({ "peer": peer.to_string() }))
        }
        Alert::Complete { summary, .. } => ("complete", complete(summary)),
        Alert::Stalled { stall, seconds, .. } => (
            "stalled",
            json!({
                "code": stall.cause.code(), "message": stall.to_string(), "seconds": seconds,
            }),
        ),
        Alert::Flowing { seconds, .. } => ("flowing", json!({ "seconds": seconds })),
        Alert::DialFailed { .. }
        | Alert::AlreadyAdded { .. }
        | Alert::SuperSeeding { .. }
        | Alert::Interest { .. }
        | Alert::Listens { .. }
        | Alert::PieceFailed { .. }
        | Alert::PeerBanned { .. }
        | Alert::MetadataDone { .. }
        | Alert::MetadataFailed { .. }
        | Alert::FileCompleted { .. }
        | Alert::Announced { .. }
        | Alert::AnnounceFailed { .. }
        | Alert::TrackerWarning { .. }
        | Alert::DiskFailed { .. } => return None,
    })
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => "incoming",
        Direction::Outgoing => "outgoing",
    }
}

fn choke_line(peer: PeerAddr, by: Side, choked: bool, reason: ChokeReason) -> String {
    match (by, choked, reason) {
        (Side::Us, false, ChokeReason::Optimistic) => format!("optimistic unchoke: {peer}"),
        (Side::Us, true, reason) => format!("we choked {peer}: {reason}"),
        (Side::Us, false, reason) => format!("we unchoked {peer}: {reason}"),
        (Side::Peer, true, _) => format!("{peer} choked us"),
        (Side::Peer, false, _) => format!("{peer} unchoked us"),
    }
}

/// When a tracker that failed is asked again, or that another one is.
fn next_try(next: Duration) -> String {
    if next.is_zero() {
        "the next tracker is asked".to_owned()
    } else {
        format!("next try in {}", show_duration(next))
    }
}

fn preferred_line(
    peers: &[(PeerAddr, u64)],
    optimistic: Option<PeerAddr>,
    interested: u32,
) -> String {
    let names: Vec<String> = peers
        .iter()
        .map(|(peer, rate)| format!("{peer} ({})", show_rate(*rate)))
        .collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    let optimistic = optimistic.map_or("none".to_owned(), |peer| peer.to_string());
    format!("preferred neighbours: {names}; optimistic: {optimistic}; {interested} interested")
}

/// The body of a `preferred` event.
fn preferred(peers: &[(PeerAddr, u64)], optimistic: Option<PeerAddr>, interested: u32) -> Value {
    let peers: Value = peers
        .iter()
        .map(|(peer, rate)| json!({ "peer": peer.to_string(), "rate": rate }))
        .collect();
    let optimistic = optimistic.map(|peer| peer.to_string());
    json!({ "peers": peers, "optimistic": optimistic, "interested": interested })
}

/// The body of a `choked` or `unchoked` event.
fn choke(peer: PeerAddr, by: Side, reason: ChokeReason) -> Value {
    let by = match by {
        Side::Us => "us",
        Side::Peer => "peer",
    };
    json!({ "peer": peer.to_string(), "by": by, "reason": reason.to_string() })
}

/// The body of a `complete` event.
fn complete(summary: &Summary) -> Value {
    let best: Value = summary
        .best_peers
        .iter()
        .map(
            |(peer, bytes, rate)| json!({ "peer": peer.to_string(), "bytes": bytes, "rate": rate }),
        )
        .collect();
    json!({
        "bytes": summary.bytes,
        "seconds": summary.elapsed.as_secs_f64(),
        "downloaded": summary.downloaded,
        "uploaded": summary.uploaded,
        "duplicate": summary.duplicate,
        "failed_hash": summary.failed_hash,
        "mean_rate": summary.mean_rate,
        "peak_rate": summary.peak_rate,
        "best_peers": best,
    })
}

/// The line that ends a download.
pub fn summary_line(name: &str, summary: &Summary) -> String {
    let useful = summary
        .downloaded
        .saturating_sub(summary.duplicate + summary.failed_hash);
    let ratio = if summary.bytes == 0 {
        0.0
    } else {
        summary.uploaded as f64 / summary.bytes as f64
    };
    let best: Vec<String> = summary
        .best_peers
        .iter()
        .map(|(peer, bytes, rate)| format!("{peer} {} at {}", show_bytes(*bytes), show_rate(*rate)))
        .collect();
    let best = if best.is_empty() {
        "none".to_owned()
    } else {
        best.join(", ")
    };
    format!(
        "complete: {}: {} in {}, mean {}, peak {}; useful {}, duplicate {}, failed {}; \
         ratio {ratio:.2}; best peers: {best}",
        clean(name),
        show_bytes(summary.bytes),
        show_duration(summary.elapsed),
        show_rate(summary.mean_rate),
        show_rate(summary.peak_rate),
        show_bytes(useful),
        show_bytes(summary.duplicate),
        show_bytes(summary.failed_hash),
    )
}

fn list(peers: &[PeerAddr]) -> String {
    if peers.is_empty() {
        return "the disk".to_owned();
    }
    addresses(peers).join(", ")
}

fn addresses(peers: &[PeerAddr]) -> Vec<String> {
    peers.iter().map(ToString::to_string).collect()
}

/// A peer id as text: what is not printable becomes a dot.
pub fn shown_id(id: &[u8; 20]) -> String {
    id.iter()
        .map(|&byte| {
            if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '.'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line_with_everything_in_it() {
        let peer = PeerAddr::Tcp("127.0.0.1:7001".parse().unwrap());
        let summary = Summary {
            bytes: 1_000_000,
            elapsed: Duration::from_secs(10),
            downloaded: 1_100_000,
            uploaded: 310_000,
            duplicate: 60_000,
            failed_hash: 40_000,
            mean_rate: 110_000,
            peak_rate: 200_000,
            best_peers: vec![(peer, 1_000_000, 100_000)],
        };
        assert_eq!(
            summary_line("a\nb", &summary),
            "complete: a\u{fffd}b: 1.0 MB in 10.0 s, mean 110.0 KB/s, peak 200.0 KB/s; \
             useful 1.0 MB, duplicate 60.0 KB, failed 40.0 KB; ratio 0.31; \
             best peers: 127.0.0.1:7001 1.0 MB at 100.0 KB/s"
        );
    }
}
