//! The fingerprint of a run: a hash over every event that a session was told.
//!
//! It covers (time in us, session, event kind, peer, piece), never sizes of things or wall time,
//! so that it is the same on every machine.

use dunlin_engine::Event;
use dunlin_proto::peer::Message;
use dunlin_proto::time::Instant;

use crate::net::NodeId;

/// FNV-1a over 64-bit words, with a final mix.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
        }
    }
}

impl Trace {
    pub fn on_event(&mut self, now: Instant, node: NodeId, event: &Event) {
        let (kind, peer, piece) = describe(event);
        self.add(now, node, kind, peer, piece);
    }

    pub fn on_tick(&mut self, now: Instant, node: NodeId) {
        self.add(now, node, 0, 0, 0);
    }

    pub fn hash(&self) -> u64 {
        crate::content::mix(self.hash)
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    fn add(&mut self, now: Instant, node: NodeId, kind: u8, peer: u64, piece: u32) {
        self.events += 1;
        let where_and_what = u64::from(node.0) << 40 | u64::from(kind) << 32 | u64::from(piece);
        for word in [now.as_micros(), where_and_what, peer] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }
}

/// No piece is named.
const NONE: u32 = u32::MAX;

fn describe(event: &Event) -> (u8, u64, u32) {
    match event {
        Event::Incoming { conn, .. } => (1, conn.0, NONE),
        Event::PeerConnected { peer, .. } => (2, peer.0, NONE),
        Event::DialFailed { remote, .. } => (3, u64::from(remote.socket_addr().port()), NONE),
        Event::PeerMessage { peer, message } => {
            let (kind, piece) = describe_message(message);
            (kind, peer.0, piece)
        }
        Event::Received { peer, run, .. } => (4, peer.0, run.piece().get()),
        Event::Unrequested { peer, .. } => (5, peer.0, NONE),
        Event::Served { peer, run, .. } => (6, peer.0, run.piece().get()),
        Event::ServeFailed { peer, run, .. } => (7, peer.0, run.piece().get()),
        Event::PeerClosed { peer, .. } => (8, peer.0, NONE),
        Event::DiskDone { job, .. } => (9, job.0, NONE),
        Event::TrackerReplied { tracker, .. } => (10, u64::from(tracker.tier), NONE),
        Event::PeersFound { .. } => (11, 0, NONE),
        Event::Command(_) => (12, 0, NONE),
        Event::MetadataServed { peer } => (13, peer.0, NONE),
    }
}

fn describe_message(message: &Message) -> (u8, u32) {
    match message {
        Message::KeepAlive => (32, NONE),
        Message::Choke => (33, NONE),
        Message::Unchoke => (34, NONE),
        Message::Interested => (35, NONE),
        Message::NotInterested => (36, NONE),
        Message::Have { piece } => (37, *piece),
        Message::Bitfield(_) => (38, NONE),
        Message::Request(request) => (39, request.piece),
        Message::Cancel(request) => (40, request.piece),
        Message::Port(_) => (41, NONE),
        Message::SuggestPiece { piece } => (42, *piece),
        Message::HaveAll => (43, NONE),
        Message::HaveNone => (44, NONE),
        Message::RejectRequest(request) => (45, request.piece),
        Message::AllowedFast { piece } => (46, *piece),
        Message::Extended { .. } => (47, NONE),
    }
}
