//! What happens to a swarm from outside, and when.

use std::time::Duration;

use dunlin_engine::config::{PieceOrder, RateLimits};
use dunlin_engine::event::DiskErrorKind;

use crate::net::NodeId;

#[derive(Clone, Debug)]
pub struct Step {
    pub when: When,
    pub what: Do,
}

#[derive(Clone, Copy, Debug)]
pub enum When {
    At(Duration),
    /// The node has verified this many pieces.
    Has {
        node: NodeId,
        pieces: u32,
    },
    /// The node's uplink has sent this many bytes of payload.
    Sent {
        node: NodeId,
        bytes: u64,
    },
    /// The node has everything.
    Complete(NodeId),
    /// Every piece is at some leech.
    Replicated,
}

#[derive(Clone, Debug)]
pub enum Do {
    /// The process is killed; it may start again after a while.
    Kill {
        node: NodeId,
        restart: Option<Duration>,
        power_cut: bool,
    },
    Start(NodeId),
    /// The user removes the torrent.
    Leave(NodeId),
    /// The user says: try again.
    Resume(NodeId),
    Limit(NodeId, RateLimits),
    Order(NodeId, PieceOrder),
    DiskFails(NodeId, DiskErrorKind),
    DiskRepaired(NodeId),
    /// Nothing comes or goes at the node for so long; its connections stay.
    Stall(NodeId, Duration),
    /// One block of each of these pieces reads as something else from now on, if it is there.
    FlipBits(NodeId, Vec<u32>),
    /// These nodes and the others lose sight of each other.
    Partition(Vec<NodeId>),
    Heal,
    TrackerDown,
    TrackerUp,
}
