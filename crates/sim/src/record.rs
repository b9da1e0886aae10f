//! What a page about a run is drawn from: snapshots of the swarm, and one peer's chokes.
//!
//! How long a run will be is not known while it runs. So when there are too many snapshots every
//! second one goes and the next are taken half as often: between 128 and 256 stay, evenly spaced.

use std::collections::BTreeMap;

use dunlin_proto::time::Instant;

use crate::disk::Disk;
use crate::net::NodeId;

/// Memory of a record does not grow with the length of the run.
const SNAPSHOTS_MAX: usize = 256;

/// Pieces that are told apart: neighbours are told by the rarest of them when there are more.
const GROUPS_MAX: u32 = 4096;

/// Chokes and unchokes of the watched peer that are remembered.
const CHOKES_MAX: usize = 20_000;

#[derive(Clone, Debug)]
pub struct Record {
    /// The peer whose chokes are told.
    pub watched: NodeId,
    /// Names of the kinds of node, in the order of their first member.
    pub classes: Vec<String>,
    /// The kind of each node.
    pub class_of: Vec<usize>,
    pub snapshots: Vec<Snapshot>,
    pub chokes: Vec<ChokeChange>,
    every_s: u64,
    pieces_a_group: u32,
}

/// The swarm at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at_s: u64,
    /// Leeches that have everything.
    pub complete: u32,
    /// Mean share of the pieces that a leech has.
    pub progress: f64,
    /// Online copies of each piece, or of the rarest in each group of pieces.
    pub copies: Vec<u32>,
    pub copies_mean: f64,
    pub classes: Vec<ClassSnapshot>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ClassSnapshot {
    /// Payload that its members have received since the start.
    pub downloaded: u64,
    /// Members that are there and not complete.
    pub downloading: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct ChokeChange {
    pub at: Instant,
    pub peer: NodeId,
    pub change: Change,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The watched peer chokes or unchokes the other.
    Ours {
        choked: bool,
    },
    /// The other chokes or unchokes the watched peer.
    Theirs {
        choked: bool,
    },
    /// The other is the watched peer's optimistic choice until the next one.
    Optimistic,
    Gone,
}

/// One node, as a snapshot needs to see it.
#[derive(Debug)]
pub struct NodeView<'a> {
    pub node: NodeId,
    pub must_finish: bool,
    pub complete: bool,
    pub downloaded: u64,
    /// `None` while it is not there.
    pub disk: Option<&'a Disk>,
}

impl Record {
    pub fn new(watched: NodeId, class_names: &[String], pieces: u32) -> Self {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut classes = Vec::new();
        let class_of = class_names
            .iter()
            .map(|name| {
                *numbers.entry(name).or_insert_with(|| {
                    classes.push(name.clone());
                    classes.len() - 1
                })
            })
            .collect();
        Self {
            watched,
            classes,
            class_of,
            snapshots: Vec::new(),
            chokes: Vec::new(),
            every_s: 1,
            pieces_a_group: pieces.div_ceil(GROUPS_MAX).max(1),
        }
    }

    /// Whether a snapshot is due at this second.
    pub fn is_due(&self, second: u64) -> bool {
        second.is_multiple_of(self.every_s)
    }

    /// Adds the swarm as it is now.
    pub fn snapshot<'a>(
        &mut self,
        second: u64,
        pieces: u32,
        nodes: impl Iterator<Item = NodeView<'a>>,
    ) {
        let mut copies = vec![0_u32; pieces as usize];
        let mut classes = vec![ClassSnapshot::default(); self.classes.len()];
        let (mut leeches, mut complete, mut had) = (0_u32, 0_u32, 0_u64);
        for view in nodes {
            let class = self.class_of.get(view.node.index()).copied();
            if let Some(class) = class.and_then(|class| classes.get_mut(class)) {
                class.downloaded += view.downloaded;
                class.downloading += u32::from(!view.complete && view.disk.is_some());
            }
            let mut has = 0;
            if let Some(disk) = view.disk {
                for (piece, copies) in (0..).zip(&mut copies) {
                    let here = u32::from(disk.has_piece(piece));
                    *copies += here;
                    has += here;
                }
            }
            if view.must_finish {
                leeches += 1;
                complete += u32::from(view.complete);
                had += u64::from(if view.complete { pieces } else { has });
            }
        }
        let all = f64::from(leeches.max(1)) * f64::from(pieces.max(1));
        let sum: u64 = copies.iter().map(|&copies| u64::from(copies)).sum();
        self.snapshots.push(Snapshot {
            at_s: second,
            complete,
            progress: had as f64 / all,
            copies_mean: sum as f64 / f64::from(pieces.max(1)),
            copies: copies
                .chunks(self.pieces_a_group as usize)
                .filter_map(|row| row.iter().min().copied())
                .collect(),
            classes,
        });
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.every_s *= 2;
            let every_s = self.every_s;
            self.snapshots
                .retain(|snapshot| snapshot.at_s.is_multiple_of(every_s));
        }
    }

    /// A choke or unchoke that `by` tells `to`; remembered if one of them is watched.
    pub fn choke(&mut self, at: Instant, by: NodeId, to: NodeId, choked: bool) {
        if by == self.watched {
            self.change(at, to, Change::Ours { choked });
        } else if to == self.watched {
            self.change(at, by, Change::Theirs { choked });
        }
    }

    /// Something between the watched peer and another.
    pub fn change(&mut self, at: Instant, peer: NodeId, change: Change) {
        if self.chokes.len() < CHOKES_MAX {
            self.chokes.push(ChokeChange { at, peer, change });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pieces: u32) -> Record {
        let names = ["seed", "leech", "leech"].map(str::to_owned);
        Record::new(NodeId(1), &names, pieces)
    }

    #[test]
    fn kinds_are_in_the_order_of_their_first_member() {
        let record = record(8);
        assert_eq!(record.classes, ["seed", "leech"]);
        assert_eq!(record.class_of, [0, 1, 1]);
    }

    #[test]
    fn long_runs_keep_evenly_spaced_snapshots() {
        let mut record = record(5000);
        for second in 0..5000 {
            if record.is_due(second) {
                record.snapshot(second, 5000, std::iter::empty());
            }
        }
        let times: Vec<u64> = record.snapshots.iter().map(|s| s.at_s).collect();
        assert!((SNAPSHOTS_MAX / 2..=SNAPSHOTS_MAX).contains(&times.len()));
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 32));
        assert_eq!(record.snapshots[0].copies.len(), 2500);
    }

    #[test]
    fn only_chokes_of_the_watched_peer_are_remembered() {
        let mut record = record(8);
        record.choke(Instant::START, NodeId(1), NodeId(2), false);
        record.choke(Instant::START, NodeId(0), NodeId(1), false);
        record.choke(Instant::START, NodeId(0), NodeId(2), false);
        let changes: Vec<_> = record.chokes.iter().map(|c| (c.peer, c.change)).collect();
        let ours = Change::Ours { choked: false };
        let theirs = Change::Theirs { choked: false };
        assert_eq!(changes, [(NodeId(2), ours), (NodeId(0), theirs)]);
    }
}
