//! What happens in a swarm, told twice: as words in the log and as events on stdout.
//!
//! One function translates every [`Alert`]. In `peer` the story is told at `info`, elsewhere at
//! `debug`: only what a user must know is louder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_engine::alert::{Alert, Side, Summary};
use dunlin_engine::event::{Direction, PeerAddr};
use dunlin_engine::reason::ChokeReason;
use dunlin_metainfo::InfoHash;
use serde_json::{Value, json};

use crate::clean::clean;
use crate::events::Events;
use crate::failure::Failure;
use crate::quantity::{show_bytes, show_duration, show_rate};

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
        let hash = self.info_hash;
        let emit = |event: &str, body: Value| events.emit_at(at, event, Some(&hash), || body);
        match alert {
            Alert::Connected {
                peer,
                direction,
                peer_id,
                client,
                ..
            } => {
                let client = clean(client);
                let (line, word) = match direction {
                    Direction::Incoming => (format!("{peer} connected to us"), "incoming"),
                    Direction::Outgoing => (format!("connected to {peer}"), "outgoing"),
                };
                let id = shown_id(peer_id.as_bytes());
                self.say(&format!("{line} ({client}, peer id {id})"));
                emit(
                    "connected",
                    json!({
                        "peer": peer.to_string(), "direction": word, "transport": "tcp",
                        "encrypted": false, "client": client, "peer_id": id,
                    }),
                )
            }
            Alert::Disconnected { peer, reason, .. } => {
                self.interest_told.remove(&(*peer, true));
                self.interest_told.remove(&(*peer, false));
                self.say(&format!("disconnected from {peer}: {reason}"));
                let reason = reason.to_string();
                emit(
                    "disconnected",
                    json!({ "peer": peer.to_string(), "reason": reason }),
                )
            }
            Alert::DialFailed { peer, reason, .. } => {
                self.say(&format!("cannot connect to {peer}: {reason}"));
                Ok(())
            }
            Alert::PieceDone {
                piece,
                have,
                total,
                from,
                ..
            } => {
                let names = list(from);
                self.say(&format!(
                    "piece {piece} from {names}; have {have} of {total}"
                ));
                emit(
                    "piece",
                    json!({ "index": piece.get(), "have": have, "total": total,
                            "from": addresses(from) }),
                )
            }
            Alert::PieceFailed { piece, from, .. } => {
                let line = format!(
                    "piece {piece} failed its hash and is fetched again; it came from {}",
                    list(from)
                );
                self.warn(events, "piece_failed", &line)
            }
            Alert::PeerBanned { peer, piece, .. } => {
                let line = format!("{peer} is banned: it sent wrong data for piece {piece}");
                self.warn(events, "peer_banned", &line)
            }
            Alert::Preferred {
                peers,
                optimistic,
                interested,
                ..
            } => {
                self.say(&preferred_line(peers, *optimistic, *interested));
                let peers: Value = peers
                    .iter()
                    .map(|(peer, rate)| json!({ "peer": peer.to_string(), "rate": rate }))
                    .collect();
                let optimistic = optimistic.map(|peer| peer.to_string());
                emit(
                    "preferred",
                    json!({ "peers": peers, "optimistic": optimistic, "interested": interested }),
                )
            }
            Alert::Choke {
                peer,
                by,
                choked,
                reason,
                ..
            } => {
                let verb = if *choked { "choked" } else { "unchoked" };
                match by {
                    Side::Us if *reason == ChokeReason::Optimistic && !*choked => {
                        self.say(&format!("optimistic unchoke: {peer}"));
                    }
                    Side::Us => self.say(&format!("we {verb} {peer}: {reason}")),
                    Side::Peer => self.say(&format!("{peer} {verb} us")),
                }
                let by = match by {
                    Side::Us => "us",
                    Side::Peer => "peer",
                };
                let reason = reason.to_string();
                emit(
                    verb,
                    json!({ "peer": peer.to_string(), "by": by, "reason": reason }),
                )
            }
            Alert::Interest {
                peer,
                by,
                interested,
                ..
            } => {
                self.tell_interest(*peer, *by, *interested);
                Ok(())
            }
            Alert::FileCompleted { .. } => Ok(()),
            Alert::Complete { summary, .. } => emit("complete", complete(summary)),
            Alert::Announced {
                url, peers, next, ..
            } => {
                self.troubles.remove(url);
                let next = show_duration(*next);
                self.say(&format!(
                    "tracker {url}: {peers} peers; next announce in {next}"
                ));
                Ok(())
            }
            Alert::AnnounceFailed {
                url, message, next, ..
            } => {
                let trouble = format!("tracker {}: {}", clean(url), clean(message));
                let line = if next.is_zero() {
                    format!("{trouble}; the next tracker is asked")
                } else {
                    format!("{trouble}; next try in {}", show_duration(*next))
                };
                self.trouble(events, url, trouble, &line)
            }
            Alert::TrackerWarning { url, message, .. } => {
                let line = format!("tracker {} warns: {}", clean(url), clean(message));
                self.trouble(events, url, line.clone(), &line)
            }
            // It ends the transfer, which says so.
            Alert::DiskFailed { .. } => Ok(()),
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
