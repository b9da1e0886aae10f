//! What happens in a swarm, told twice: as words in the log and as events on stdout.
//!
//! One function translates every [`Alert`]. In `peer` the story is told at `info`, elsewhere at
//! `debug`: only what a user must know is louder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_engine::alert::{Alert, Side, Summary};
use dunlin_engine::event::{Direction, PeerAddr};
use dunlin_engine::reason::ChokeReason;
pub use dunlin_engine::words::shown_id;
use dunlin_host::shown_url;
use dunlin_metainfo::InfoHash;
use serde_json::{Value, json};

use crate::clean::clean;
use crate::events::Events;
use crate::failure::Failure;

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
                self.tell_interest(*peer, *by, *interested, &line(alert));
                return Ok(());
            }
            Alert::Disconnected { peer, .. } => {
                self.interest_told.remove(&(*peer, true));
                self.interest_told.remove(&(*peer, false));
            }
            Alert::Announced { url, .. } => {
                self.troubles.remove(url);
            }
            Alert::AnnounceFailed { url, message, .. } => {
                return self.trouble(events, url, message, &line(alert));
            }
            Alert::TrackerWarning { url, message, .. } => {
                return self.trouble(events, url, message, &line(alert));
            }
            Alert::AlreadyAdded { .. } => {
                return self.warn(events, "already_added", &line(alert));
            }
            Alert::Connected { .. }
            | Alert::Dialling { .. }
            | Alert::DialFailed { .. }
            | Alert::Refused { .. }
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
        let line = line(alert);
        match told(alert) {
            Told::Warned(code) => return self.warn(events, code, &line),
            Told::Said => self.say(&line),
            Told::Whispered => tracing::debug!(target: "dunlin", "{}{line}", self.prefix),
            Told::Elsewhere => {}
        }
        match event(alert) {
            Some((name, body)) => events.emit_at(at, name, Some(&self.info_hash), || body),
            None => Ok(()),
        }
    }

    /// Near the end, and between two leeches that are equally far, interest comes and goes many
    /// times a second: only the first time is worth more than `debug`.
    fn tell_interest(&mut self, peer: PeerAddr, by: Side, interested: bool, line: &str) {
        if interested && self.interest_told.insert((peer, by == Side::Us)) {
            self.say(line);
        } else {
            tracing::debug!(target: "dunlin", "{}{line}", self.prefix);
        }
    }

    fn trouble(
        &mut self,
        events: &Events,
        url: &str,
        trouble: &str,
        line: &str,
    ) -> Result<(), Failure> {
        let before = self.troubles.insert(url.to_owned(), trouble.to_owned());
        if before.as_deref() == Some(trouble) {
            self.say(line);
            return events.warning(Some(&self.info_hash), "tracker", line);
        }
        self.warn(events, "tracker", line)
    }
}

/// The sentence of an alert, fit for a terminal. What may be secret in the URL of a tracker is left
/// out.
fn line(alert: &Alert) -> String {
    let mut alert = alert.clone();
    if let Alert::Announced { url, .. }
    | Alert::AnnounceFailed { url, .. }
    | Alert::TrackerWarning { url, .. } = &mut alert
    {
        *url = shown_url(url);
    }
    clean(&alert.sentence())
}

/// How an alert is told.
enum Told {
    /// A peer did something wrong, with the code of the warning.
    Warned(&'static str),
    /// Part of the story.
    Said,
    /// For who wants every detail.
    Whispered,
    /// Not here: by whom it ends, or with more.
    Elsewhere,
}

fn told(alert: &Alert) -> Told {
    match alert {
        Alert::PieceFailed { .. } => Told::Warned("piece_failed"),
        Alert::PeerBanned { .. } => Told::Warned("peer_banned"),
        Alert::MetadataFailed { .. } => Told::Warned("metadata_failed"),
        Alert::Connected { .. }
        | Alert::Disconnected { .. }
        | Alert::DialFailed { .. }
        | Alert::PieceDone { .. }
        | Alert::MetadataDone { .. }
        | Alert::Preferred { .. }
        | Alert::Choke { .. }
        | Alert::Announced { .. }
        | Alert::Listens { .. }
        | Alert::PeerCompleted { .. }
        | Alert::SuperSeeding { .. }
        | Alert::Stalled { .. }
        | Alert::Flowing { .. } => Told::Said,
        // Anybody can make these by the thousand.
        Alert::Dialling { .. } | Alert::Refused { .. } => Told::Whispered,
        Alert::Interest { .. }
        | Alert::AlreadyAdded { .. }
        | Alert::AnnounceFailed { .. }
        | Alert::TrackerWarning { .. }
        | Alert::FileCompleted { .. }
        | Alert::Complete { .. }
        | Alert::DiskFailed { .. } => Told::Elsewhere,
    }
}

/// Name and body of the event, for what the contract lists.
fn event(alert: &Alert) -> Option<(&'static str, Value)> {
    if let Some(event) = connection_event(alert) {
        return Some(event);
    }
    Some(match alert {
        Alert::PieceDone {
            piece,
            have,
            total,
            from,
            ..
        } => {
            let (index, from) = (piece.get(), addresses(from));
            let body = json!({ "index": index, "have": have, "total": total, "from": from });
            ("piece", body)
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
        Alert::SuperSeeding { on, .. } => ("super_seeding", json!({ "on": on })),
        Alert::Complete { summary, .. } => ("complete", complete(summary)),
        Alert::Stalled { stall, seconds, .. } => {
            let (code, message) = (stall.cause.code(), stall.to_string());
            (
                "stalled",
                json!({ "code": code, "message": message, "seconds": seconds }),
            )
        }
        Alert::Flowing { seconds, .. } => ("flowing", json!({ "seconds": seconds })),
        Alert::AlreadyAdded { .. }
        | Alert::Connected { .. }
        | Alert::Disconnected { .. }
        | Alert::Dialling { .. }
        | Alert::DialFailed { .. }
        | Alert::Refused { .. }
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

/// Of connections that begin, end, or do not come about.
fn connection_event(alert: &Alert) -> Option<(&'static str, Value)> {
    if let Alert::Connected {
        peer,
        direction,
        peer_id,
        client,
        ..
    } = alert
    {
        let body = json!({
            "peer": peer.to_string(), "direction": way(*direction), "transport": "tcp",
            "encrypted": false, "client": clean(client),
            "peer_id": shown_id(peer_id.as_bytes()),
        });
        Some(("connected", body))
    } else if let Alert::Disconnected { peer, reason, .. } = alert {
        Some(("disconnected", with_reason(*peer, reason, reason.code())))
    } else if let Alert::Dialling { peer, reason, .. } = alert {
        Some(("dialling", with_reason(*peer, reason, reason.code())))
    } else if let Alert::DialFailed { peer, reason, .. } = alert {
        Some(("dial_failed", with_reason(*peer, reason, reason.code())))
    } else if let Alert::Refused { peer, reason, .. } = alert {
        Some(("refused", with_reason(*peer, reason, reason.code())))
    } else {
        None
    }
}

/// What was done with a peer, and why.
fn with_reason(peer: PeerAddr, reason: &impl ToString, code: &str) -> Value {
    json!({ "peer": peer.to_string(), "reason": reason.to_string(), "code": code })
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => "incoming",
        Direction::Outgoing => "outgoing",
    }
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
    json!({
        "peer": peer.to_string(), "by": by, "reason": reason.to_string(), "code": reason.code(),
    })
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
    format!("complete: {}: {}", clean(name), summary.sentence())
}

fn addresses(peers: &[PeerAddr]) -> Vec<String> {
    peers.iter().map(ToString::to_string).collect()
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
