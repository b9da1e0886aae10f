//! Stalls in words.

use std::fmt;
use std::time::Duration;

use super::{Scene, Stall, StallCause, TrackerStanding};
use crate::words::count;

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scene = &self.scene;
        match self.cause {
            StallCause::DiskFailed => f.write_str("the disk failed; stopped until it is mended"),
            StallCause::Checking => {
                f.write_str("the metadata is here; what is on the disk is looked at")
            }
            StallCause::Verifying => {
                f.write_str("everything asked for is here; the disk checks it")
            }
            StallCause::NoPeers => no_peers(f, scene),
            StallCause::NoTracker => no_tracker(f, scene),
            StallCause::Unreachable => {
                let known = count(scene.known, "peer");
                write!(f, "{known} known, none can be reached; tried again later")
            }
            StallCause::Dialling => write!(f, "dialling {}", count(scene.dialling, "peer")),
            StallCause::Handshake => {
                let peers = count(scene.peers.greeting, "peer");
                write!(
                    f,
                    "just connected to {peers}; waiting to hear what they have"
                )
            }
            StallCause::Metadata => metadata(f, scene),
            StallCause::NobodyHas => nobody_has(f, scene),
            StallCause::SeedsBusy => seeds_busy(f, scene),
            StallCause::Choked => choked(f, scene),
            StallCause::Rejected => {
                let peers = count(scene.peers.rejecting, "peer");
                write!(f, "{peers} rejected our requests; asked again in a moment")
            }
            StallCause::DiskSlow => {
                f.write_str("the disk is slower than the peers; memory is full")
            }
            StallCause::Memory => f.write_str("other downloads use all memory for blocks"),
            StallCause::RateLimit => f.write_str("our own download limit"),
            StallCause::Silent => silent(f, scene),
            StallCause::EndGame => {
                let (open, peers) = (scene.open, count(scene.peers.asked, "peer"));
                let blocks = if open == 1 { "block is" } else { "blocks are" };
                write!(f, "end-game: the last {open} {blocks} asked of {peers}")
            }
            StallCause::Asked => {
                write!(
                    f,
                    "just asked {}; the first block is on its way",
                    asked(scene)
                )
            }
            StallCause::Slow => {
                let waits = seconds(scene.waits);
                write!(
                    f,
                    "{} slow: the last block came {waits} ago",
                    are(scene.peers.asked)
                )
            }
            StallCause::Other => f.write_str("for no reason that has a name"),
        }
    }
}

impl Stall {
    /// In few words, for a line that is full: at most [`SHORT_MAX`] characters.
    pub fn short(&self) -> String {
        let scene = &self.scene;
        let peers = &scene.peers;
        let mut text = match self.cause {
            StallCause::DiskFailed => "the disk failed".to_owned(),
            StallCause::Checking => "checking the disk".to_owned(),
            StallCause::Verifying => "the disk checks it".to_owned(),
            StallCause::NoPeers => "no peers known".to_owned(),
            StallCause::NoTracker => "no tracker answers".to_owned(),
            StallCause::Unreachable => "no peer can be reached".to_owned(),
            StallCause::Dialling => format!("dialling {}", count(scene.dialling, "peer")),
            StallCause::Handshake => "just connected".to_owned(),
            StallCause::Metadata => "asking for the metadata".to_owned(),
            StallCause::NobodyHas => "nobody has what we lack".to_owned(),
            StallCause::SeedsBusy => {
                format!("{} of {} seeds busy", peers.choking_seeds, scene.connected)
            }
            StallCause::Choked => format!("choked by {} of {}", peers.choking, scene.connected),
            StallCause::Rejected => "requests rejected".to_owned(),
            StallCause::DiskSlow => "the disk is slow".to_owned(),
            StallCause::Memory => "memory is full".to_owned(),
            StallCause::RateLimit => "our download limit".to_owned(),
            StallCause::Silent => format!("{} silent", count(peers.asked, "peer")),
            StallCause::EndGame => "end-game".to_owned(),
            StallCause::Asked => "just asked".to_owned(),
            StallCause::Slow => format!("{} slow", count(peers.asked, "peer")),
            StallCause::Other => "stalled".to_owned(),
        };
        text.truncate(SHORT_MAX);
        text
    }
}

/// Characters that [`Stall::short`] has at most.
pub(super) const SHORT_MAX: usize = 28;

fn no_peers(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    f.write_str(match scene.tracker {
        TrackerStanding::None => "no peer is known, and no tracker to ask",
        TrackerStanding::Asked | TrackerStanding::Failing | TrackerStanding::Answered => {
            "no peer is known: the tracker knows nobody else"
        }
    })
}

fn no_tracker(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    f.write_str(match scene.tracker {
        TrackerStanding::Failing => "no peer is known, and no tracker answers",
        TrackerStanding::None | TrackerStanding::Asked | TrackerStanding::Answered => {
            "no peer is known: waiting for the tracker"
        }
    })
}

fn metadata(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    let peers = count(scene.connected, "peer");
    match scene.metadata {
        (_, None) => write!(
            f,
            "waiting for the metadata: {peers}, none has said that it has it"
        ),
        (have, Some(size)) => {
            write!(
                f,
                "waiting for the metadata: {have} of {size} bytes from {peers}"
            )
        }
    }
}

fn nobody_has(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    let peers = count(scene.connected, "connected peer");
    write!(f, "none of {peers} has a piece that we lack")?;
    nobody_has_piece(f, scene)
}

fn seeds_busy(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    let (choking, all) = (scene.peers.choking, count(scene.connected, "peer"));
    write!(
        f,
        "choked by {choking} of {all}: seeds whose slots are with others"
    )?;
    nobody_has_piece(f, scene)
}

fn choked(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    let (choking, all) = (scene.peers.choking, count(scene.connected, "peer"));
    let why = if scene.has_pieces {
        "they upload to faster ones"
    } else {
        "we have nothing to give them yet"
    };
    write!(f, "choked by {choking} of {all}: {why}")?;
    nobody_has_piece(f, scene)
}

fn nobody_has_piece(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    match scene.missing {
        Some(piece) => write!(f, "; nobody has piece {piece}"),
        None => Ok(()),
    }
}

fn silent(f: &mut fmt::Formatter<'_>, scene: &Scene) -> fmt::Result {
    let waits = seconds(scene.waits);
    write!(f, "asked {}, no answer for {waits}", asked(scene))?;
    match scene.peers.snubbed {
        0 => Ok(()),
        1 => f.write_str("; 1 is snubbed"),
        snubbed => write!(f, "; {snubbed} are snubbed"),
    }
}

/// `3 peers for 12 blocks`.
fn asked(scene: &Scene) -> String {
    let (peers, blocks) = (scene.peers.asked, scene.open);
    format!("{} for {}", count(peers, "peer"), count(blocks, "block"))
}

fn are(peers: usize) -> String {
    let verb = if peers == 1 { "is" } else { "are" };
    format!("{} {verb}", count(peers, "peer"))
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
