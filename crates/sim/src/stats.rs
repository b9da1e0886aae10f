//! What is counted about a swarm, by the world and not by the sessions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dunlin_engine::explain::StallCounts;
use dunlin_metainfo::{Bitfield, Layout, PieceIndex, Run};
use dunlin_proto::time::Instant;

use crate::net::NodeId;

#[derive(Clone, Debug)]
pub struct NodeStats {
    pub completed_at: Option<Instant>,
    /// Payload that arrived and was asked for, in bytes.
    pub downloaded: u64,
    /// Of that, blocks that were here already.
    pub duplicate: u64,
    /// Of that, blocks of pieces that failed their hash.
    pub wasted: u64,
    /// Messages that told a peer of others (BEP 11).
    pub pex_sent: u32,
    /// Requests for metadata (BEP 9), by whom they went to and in which second.
    pub metadata_asked: BTreeMap<(NodeId, u64), u32>,
    /// Blocks that arrived and nobody had asked for.
    pub unrequested: u64,
    /// Requests that the node sent.
    pub requests: u64,
    pub connections_max: usize,
    pub handed_max: u64,
    pub buffered_max: u64,
    pub disk_failures: u32,
    /// Seconds in which it lacked something and got nothing, as the world saw it; not those that
    /// were not over when its life ended.
    pub stalled_s: u64,
    /// The same by cause, as its sessions said.
    pub stalls: StallCounts,
    pub banned: Vec<NodeId>,
    /// Pieces that failed and had a bad block of this peer.
    pub fooled_by: BTreeMap<NodeId, u32>,
    /// Pieces that resume data claimed after the last kill.
    pub pieces_at_kill: u32,
    /// Whole pieces on the disk that resume data did not claim after a kill.
    pub forgotten_pieces: u32,
    /// Pieces in the order in which they were verified.
    pub pieces: Vec<u32>,
    /// Choices of preferred neighbours, oldest first.
    pub preferred: Vec<Preferred>,
    /// When each choke or unchoke of ours was told, for whom.
    pub chokes: Vec<(Instant, NodeId, bool)>,
    /// Blocks that came in the last 10 s: when, from whom, how long. Of observed nodes.
    pub received: VecDeque<(Instant, NodeId, u32)>,
    /// Payload sent in each second.
    pub up_by_second: Vec<u32>,
    /// Payload received in each second, if it was asked for.
    pub down_by_second: Vec<u32>,
    sent_before: u64,
    received_before: u64,
    blocks: Bitfield,
    blocks_a_piece: u32,
}

/// One choice of an unchoking interval.
#[derive(Clone, Debug)]
pub struct Preferred {
    pub at: Instant,
    /// Fastest first, with their rates in bytes per second.
    pub peers: Vec<(NodeId, u64)>,
    pub optimistic: Option<NodeId>,
    pub interested: u32,
    /// Every interested peer with the bytes that the world saw it give in the last 10 s, most
    /// first. Only of nodes that are observed.
    pub givers: Vec<(NodeId, u64)>,
}

impl NodeStats {
    pub fn new(layout: &Layout) -> Self {
        let blocks_a_piece = layout
            .piece(0)
            .map_or(1, |piece| u32::from(layout.blocks_in(piece)));
        Self {
            completed_at: None,
            downloaded: 0,
            duplicate: 0,
            wasted: 0,
            pex_sent: 0,
            metadata_asked: BTreeMap::new(),
            unrequested: 0,
            requests: 0,
            connections_max: 0,
            handed_max: 0,
            buffered_max: 0,
            disk_failures: 0,
            stalled_s: 0,
            stalls: StallCounts::default(),
            banned: Vec::new(),
            fooled_by: BTreeMap::new(),
            pieces_at_kill: 0,
            forgotten_pieces: 0,
            pieces: Vec::new(),
            preferred: Vec::new(),
            chokes: Vec::new(),
            received: VecDeque::new(),
            up_by_second: Vec::new(),
            down_by_second: Vec::new(),
            sent_before: 0,
            received_before: 0,
            blocks: Bitfield::new(layout.pieces() * blocks_a_piece),
            blocks_a_piece,
        }
    }

    pub fn on_received(&mut self, layout: &Layout, run: Run) {
        for block in layout.run_blocks(run) {
            let len = u64::from(block.len());
            self.downloaded += len;
            let at = run.piece().get() * self.blocks_a_piece + u32::from(block.index());
            if !self.blocks.set(at) {
                self.duplicate += len;
            }
        }
    }

    /// Whether every block came, at a node that has no disk.
    pub fn has_every_block(&self, layout: &Layout) -> bool {
        self.downloaded - self.duplicate == layout.bytes()
    }

    /// Remembers who gave a block, for 10 s.
    pub fn note_giver(&mut self, now: Instant, from: NodeId, len: u32) {
        self.received.push_back((now, from, len));
        while let Some(&(at, _, _)) = self.received.front()
            && now.since(at) > GIVERS_WINDOW
        {
            self.received.pop_front();
        }
    }

    /// Bytes that the node gave in the last 10 s.
    pub fn given_by(&self, now: Instant, from: NodeId) -> u64 {
        self.received
            .iter()
            .filter(|(at, peer, _)| *peer == from && now.since(*at) <= GIVERS_WINDOW)
            .map(|(_, _, len)| u64::from(*len))
            .sum()
    }

    /// The blocks of the piece have to come again.
    pub fn on_piece_lost(&mut self, layout: &Layout, piece: PieceIndex) {
        for block in 0..u32::from(layout.blocks_in(piece)) {
            self.blocks.clear(piece.get() * self.blocks_a_piece + block);
        }
    }

    pub fn on_second(&mut self, payload_up: u64, connections: usize) {
        self.up_by_second
            .push((payload_up - self.sent_before) as u32);
        self.sent_before = payload_up;
        self.down_by_second
            .push((self.downloaded - self.received_before) as u32);
        self.received_before = self.downloaded;
        self.connections_max = self.connections_max.max(connections);
    }

    /// Mean payload per second sent between two times.
    pub fn up_rate(&self, from: Duration, to: Duration) -> f64 {
        rate(&self.up_by_second, from, to)
    }

    /// Mean payload per second received between two times.
    pub fn down_rate(&self, from: Duration, to: Duration) -> f64 {
        rate(&self.down_by_second, from, to)
    }
}

fn rate(by_second: &[u32], from: Duration, to: Duration) -> f64 {
    let to = (to.as_secs() as usize).min(by_second.len());
    let window = &by_second[(from.as_secs() as usize).min(to)..to];
    let bytes: u64 = window.iter().map(|&bytes| u64::from(bytes)).sum();
    bytes as f64 / window.len().max(1) as f64
}

/// The window of choking rates.
const GIVERS_WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct SwarmStats {
    /// Nodes that should finish and did not.
    pub unfinished: usize,
    pub last_completion: Option<Instant>,
    /// Pieces that some leech verified.
    replicated: Bitfield,
    /// Payload that the seeds had sent when every piece was at some leech.
    pub seed_bytes_at_first_replica: Option<u64>,
    /// Groups of connected nodes, in each second.
    pub islands: Vec<usize>,
    /// Honest nodes that closed a connection to an honest node for bad behaviour.
    pub false_accusations: u64,
}

impl SwarmStats {
    pub fn new(pieces: u32) -> Self {
        Self {
            unfinished: 0,
            last_completion: None,
            replicated: Bitfield::new(pieces),
            seed_bytes_at_first_replica: None,
            islands: Vec::new(),
            false_accusations: 0,
        }
    }

    /// Whether this makes the first full replica outside the seeds.
    pub fn on_piece(&mut self, piece: u32) -> bool {
        self.replicated.set(piece) && self.replicated.is_full()
    }
}
