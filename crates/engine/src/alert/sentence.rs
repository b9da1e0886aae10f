//! Every alert as the one sentence that the log, `get -v` and the laboratory tell.
//!
//! Some words come from strangers (names of clients, what trackers say) and may hold anything:
//! whoever prints a sentence on a terminal cleans it first.

use std::time::Duration;

use super::{Alert, Side, Summary};
use crate::event::{Direction, PeerAddr};
use crate::reason::ChokeReason;
use crate::words::{count, show_bytes, show_duration, show_rate, shown_id};

impl Alert {
    pub fn sentence(&self) -> String {
        match self {
            Self::Connected { .. }
            | Self::Disconnected { .. }
            | Self::Dialling { .. }
            | Self::DialFailed { .. }
            | Self::Refused { .. }
            | Self::Listens { .. }
            | Self::PeerCompleted { .. }
            | Self::Interest { .. }
            | Self::Choke { .. }
            | Self::Preferred { .. } => self.of_peers(),
            Self::PieceDone { .. }
            | Self::PieceFailed { .. }
            | Self::PeerBanned { .. }
            | Self::MetadataDone { .. }
            | Self::MetadataFailed { .. }
            | Self::FileCompleted { .. }
            | Self::Complete { .. }
            | Self::DiskFailed { .. }
            | Self::AlreadyAdded { .. }
            | Self::SuperSeeding { .. }
            | Self::Stalled { .. }
            | Self::Flowing { .. }
            | Self::Announced { .. }
            | Self::AnnounceFailed { .. }
            | Self::TrackerWarning { .. } => self.of_data(),
        }
    }

    fn of_peers(&self) -> String {
        match self {
            Self::Connected {
                peer,
                direction,
                peer_id,
                client,
                ..
            } => {
                let who = format!("({client}, peer id {})", shown_id(peer_id.as_bytes()));
                match direction {
                    Direction::Incoming => format!("{peer} connected to us {who}"),
                    Direction::Outgoing => format!("connected to {peer} {who}"),
                }
            }
            Self::Disconnected { peer, reason, .. } => {
                format!("disconnected from {peer}: {reason}")
            }
            Self::Dialling { peer, reason, .. } => format!("dialling {peer}: {reason}"),
            Self::DialFailed { peer, reason, .. } => format!("cannot connect to {peer}: {reason}"),
            Self::Refused { peer, reason, .. } => format!("refused {peer}: {reason}"),
            Self::Listens { peer, at, .. } => format!("{peer} listens on {at}"),
            Self::PeerCompleted { peer, .. } => format!("{peer} has everything"),
            Self::Interest {
                peer,
                by,
                interested,
                ..
            } => interest(*peer, *by, *interested),
            Self::Choke {
                peer,
                by,
                choked,
                reason,
                ..
            } => choke(*peer, *by, *choked, *reason),
            Self::Preferred {
                peers,
                optimistic,
                interested,
                ..
            } => preferred(peers, *optimistic, *interested),
            Self::PieceDone { .. }
            | Self::PieceFailed { .. }
            | Self::PeerBanned { .. }
            | Self::MetadataDone { .. }
            | Self::MetadataFailed { .. }
            | Self::FileCompleted { .. }
            | Self::Complete { .. }
            | Self::DiskFailed { .. }
            | Self::AlreadyAdded { .. }
            | Self::SuperSeeding { .. }
            | Self::Stalled { .. }
            | Self::Flowing { .. }
            | Self::Announced { .. }
            | Self::AnnounceFailed { .. }
            | Self::TrackerWarning { .. } => String::new(),
        }
    }

    fn of_data(&self) -> String {
        match self {
            Self::PieceDone {
                piece,
                have,
                total,
                from,
                ..
            } => format!("piece {piece} from {}; have {have} of {total}", list(from)),
            Self::PieceFailed { piece, from, .. } => {
                let from = list(from);
                format!("piece {piece} failed its hash and is fetched again; it came from {from}")
            }
            Self::PeerBanned { peer, piece, .. } => {
                format!("{peer} is banned: it sent wrong data for piece {piece}")
            }
            Self::MetadataDone { bytes, from, .. } => {
                format!("metadata ({bytes} bytes) from {}", list(from))
            }
            Self::MetadataFailed {
                from, banned: true, ..
            } => format!("{} is banned: it sent wrong metadata", list(from)),
            Self::MetadataFailed { from, .. } => {
                format!(
                    "the metadata from {} is wrong and is fetched again",
                    list(from)
                )
            }
            Self::FileCompleted { file, .. } => format!("file {file} is complete"),
            Self::Complete { summary, .. } => format!("complete: {}", summary.sentence()),
            Self::DiskFailed { error, .. } => format!("the disk failed: {error}"),
            Self::AlreadyAdded { .. } => "not added: the same torrent is here already".to_owned(),
            Self::SuperSeeding { on: true, .. } => {
                "super-seeding: each piece goes to one peer first".to_owned()
            }
            Self::SuperSeeding { on: false, .. } => {
                "super-seeding is over: everybody is told of every piece".to_owned()
            }
            Self::Stalled { stall, seconds, .. } => format!("stalled for {seconds} s: {stall}"),
            Self::Flowing { seconds, .. } => format!("it flows again, after {seconds} s"),
            Self::Announced {
                url, peers, next, ..
            } => {
                let (peers, next) = (count(*peers, "peer"), show_duration(*next));
                format!("tracker {url}: {peers}; next announce in {next}")
            }
            Self::AnnounceFailed {
                url, message, next, ..
            } => format!("tracker {url}: {message}; {}", next_try(*next)),
            Self::TrackerWarning { url, message, .. } => format!("tracker {url} warns: {message}"),
            Self::Connected { .. }
            | Self::Disconnected { .. }
            | Self::Dialling { .. }
            | Self::DialFailed { .. }
            | Self::Refused { .. }
            | Self::Listens { .. }
            | Self::PeerCompleted { .. }
            | Self::Interest { .. }
            | Self::Choke { .. }
            | Self::Preferred { .. } => String::new(),
        }
    }
}

impl Summary {
    /// How it went, in one line.
    pub fn sentence(&self) -> String {
        let useful = self
            .downloaded
            .saturating_sub(self.duplicate + self.failed_hash);
        let ratio = if self.bytes == 0 {
            0.0
        } else {
            self.uploaded as f64 / self.bytes as f64
        };
        let best: Vec<String> = self
            .best_peers
            .iter()
            .map(|(peer, bytes, rate)| {
                format!("{peer} {} at {}", show_bytes(*bytes), show_rate(*rate))
            })
            .collect();
        let best = if best.is_empty() {
            "none".to_owned()
        } else {
            best.join(", ")
        };
        format!(
            "{} in {}, mean {}, peak {}; useful {}, duplicate {}, failed {}; ratio {ratio:.2}; \
             best peers: {best}",
            show_bytes(self.bytes),
            show_duration(self.elapsed),
            show_rate(self.mean_rate),
            show_rate(self.peak_rate),
            show_bytes(useful),
            show_bytes(self.duplicate),
            show_bytes(self.failed_hash),
        )
    }
}

fn interest(peer: PeerAddr, by: Side, interested: bool) -> String {
    let verb = if interested {
        "interested"
    } else {
        "no longer interested"
    };
    match by {
        Side::Us => format!("we are {verb} in {peer}"),
        Side::Peer => format!("{peer} is {verb} in us"),
    }
}

fn choke(peer: PeerAddr, by: Side, choked: bool, reason: ChokeReason) -> String {
    match (by, choked, reason) {
        (Side::Us, false, ChokeReason::Optimistic | ChokeReason::Newcomer) => {
            format!("optimistic unchoke: {peer}")
        }
        (Side::Us, true, reason) => format!("we choked {peer}: {reason}"),
        (Side::Us, false, reason) => format!("we unchoked {peer}: {reason}"),
        (Side::Peer, true, _) => format!("{peer} choked us"),
        (Side::Peer, false, _) => format!("{peer} unchoked us"),
    }
}

fn preferred(peers: &[(PeerAddr, u64)], optimistic: Option<PeerAddr>, interested: u32) -> String {
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

/// When a tracker that failed is asked again, or that another one is.
fn next_try(next: Duration) -> String {
    if next.is_zero() {
        "the next tracker is asked".to_owned()
    } else {
        format!("next try in {}", show_duration(next))
    }
}

fn list(peers: &[PeerAddr]) -> String {
    if peers.is_empty() {
        return "the disk".to_owned();
    }
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    peers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TorrentKey;
    use crate::reason::{DialReason, RefuseReason};

    fn peer() -> PeerAddr {
        PeerAddr::Tcp("127.0.0.1:7001".parse().unwrap())
    }

    fn choked(by: Side, choked: bool, reason: ChokeReason) -> String {
        let alert = Alert::Choke {
            torrent: TorrentKey(0),
            peer: peer(),
            by,
            choked,
            reason,
        };
        alert.sentence()
    }

    #[test]
    fn chokes_and_unchokes_say_why() {
        assert_eq!(
            choked(Side::Us, true, ChokeReason::OthersFaster),
            "we choked 127.0.0.1:7001: others are faster"
        );
        assert_eq!(
            choked(Side::Us, false, ChokeReason::FreeSlot),
            "we unchoked 127.0.0.1:7001: a slot was free"
        );
        assert_eq!(
            choked(Side::Us, false, ChokeReason::Newcomer),
            "optimistic unchoke: 127.0.0.1:7001"
        );
        assert_eq!(
            choked(Side::Peer, true, ChokeReason::PeerDecided),
            "127.0.0.1:7001 choked us"
        );
    }

    #[test]
    fn dials_and_refusals_say_why() {
        let torrent = TorrentKey(0);
        let dialling = Alert::Dialling {
            torrent,
            peer: peer(),
            reason: DialReason::Tracker,
        };
        assert_eq!(
            dialling.sentence(),
            "dialling 127.0.0.1:7001: a tracker named it"
        );
        let refused = Alert::Refused {
            torrent,
            peer: peer(),
            reason: RefuseReason::AddressLimit,
        };
        assert_eq!(
            refused.sentence(),
            "refused 127.0.0.1:7001: too many connections from this address"
        );
    }

    #[test]
    fn a_tracker_that_failed_says_what_comes_next() {
        let failed = |next| {
            let alert = Alert::AnnounceFailed {
                torrent: TorrentKey(0),
                url: "http://t/announce".to_owned(),
                message: "no route".to_owned(),
                next,
            };
            alert.sentence()
        };
        assert_eq!(
            failed(Duration::ZERO),
            "tracker http://t/announce: no route; the next tracker is asked"
        );
        assert_eq!(
            failed(Duration::from_secs(5)),
            "tracker http://t/announce: no route; next try in 5.0 s"
        );
    }
}
