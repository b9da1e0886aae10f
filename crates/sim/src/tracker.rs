//! A tracker as the engine sees it: announces in, addresses out, sometimes no answer at all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_engine::PeerAddr;
use dunlin_engine::event::TrackerFailure;
use dunlin_proto::rng::Rng;
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use crate::net::NodeId;

/// Peers in one answer, at most (BEP 3 suggests 50; most trackers cap at 200).
const PEERS_MAX: usize = 200;

/// Where every node of the world listens.
const PORT: u16 = 6881;

#[derive(Clone, Debug)]
pub struct TrackerSpec {
    /// Seconds between announces.
    pub interval_s: u32,
}

impl Default for TrackerSpec {
    fn default() -> Self {
        Self { interval_s: 1800 }
    }
}

#[derive(Debug)]
pub struct Tracker {
    spec: TrackerSpec,
    /// Bytes left of every peer that announced.
    peers: BTreeMap<NodeId, u64>,
    down: bool,
    pub announces: u64,
}

impl Tracker {
    pub fn new(spec: TrackerSpec) -> Self {
        Self {
            spec,
            peers: BTreeMap::new(),
            down: false,
            announces: 0,
        }
    }

    pub fn set_down(&mut self, down: bool) {
        self.down = down;
    }

    pub fn announce(
        &mut self,
        node: NodeId,
        request: &AnnounceRequest,
        rng: &mut Rng,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        if self.down {
            return Err(TrackerFailure {
                message: "connection refused".to_owned(),
                refused: false,
            });
        }
        self.announces += 1;
        match request.event {
            AnnounceEvent::Stopped => {
                self.peers.remove(&node);
            }
            AnnounceEvent::None
            | AnnounceEvent::Started
            | AnnounceEvent::Completed
            | AnnounceEvent::Paused => {
                self.peers.insert(node, request.left);
            }
        }
        let mut others: Vec<NodeId> = self.peers.keys().copied().filter(|&n| n != node).collect();
        rng.shuffle(&mut others);
        others.truncate((request.num_want as usize).min(PEERS_MAX));
        let seeds = self.peers.values().map(|&left| u32::from(left == 0)).sum();
        Ok(AnnounceResponse {
            interval_s: self.spec.interval_s,
            complete: Some(seeds),
            incomplete: Some(self.peers.len() as u32 - seeds),
            peers: others.into_iter().map(listen_addr).collect(),
            ..AnnounceResponse::default()
        })
    }

    /// For nodes that do not announce themselves.
    pub fn register(&mut self, node: NodeId, left: u64) {
        self.peers.insert(node, left);
    }

    pub fn some_peers(&self, node: NodeId, rng: &mut Rng, count: usize) -> Vec<NodeId> {
        let mut others: Vec<NodeId> = self.peers.keys().copied().filter(|&n| n != node).collect();
        rng.shuffle(&mut others);
        others.truncate(count);
        others
    }
}

/// 10.0.0.0/8 holds every node that a simulation can have.
pub fn listen_addr(node: NodeId) -> SocketAddr {
    let [_, a, b, c] = (node.0 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), PORT)
}

/// The node that listens or dialled from there.
pub fn node_at(addr: PeerAddr) -> Option<NodeId> {
    match addr.socket_addr().ip() {
        IpAddr::V4(ip) => {
            let [_, a, b, c] = ip.octets();
            u32::from_be_bytes([0, a, b, c]).checked_sub(1).map(NodeId)
        }
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_metainfo::{InfoHash, PeerId};

    fn request(event: AnnounceEvent) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash::new([0; 20]),
            peer_id: PeerId::new([0; 20]),
            port: PORT,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event,
            num_want: 3,
            key: 0,
            tracker_id: None,
        }
    }

    #[test]
    fn it_names_others_and_forgets_who_stopped() {
        let mut tracker = Tracker::new(TrackerSpec::default());
        let mut rng = Rng::new(1);
        let started = request(AnnounceEvent::Started);
        for node in 0..5 {
            tracker.announce(NodeId(node), &started, &mut rng).unwrap();
        }
        let reply = tracker.announce(NodeId(0), &started, &mut rng).unwrap();
        assert_eq!(reply.peers.len(), 3);
        assert!(!reply.peers.contains(&listen_addr(NodeId(0))));
        for node in 1..5 {
            let stopped = request(AnnounceEvent::Stopped);
            tracker.announce(NodeId(node), &stopped, &mut rng).unwrap();
        }
        let reply = tracker.announce(NodeId(0), &started, &mut rng).unwrap();
        assert!(reply.peers.is_empty());
    }

    #[test]
    fn an_address_leads_back_to_its_node() {
        for node in [0, 254, 255, 70_000] {
            let addr = PeerAddr::Tcp(listen_addr(NodeId(node)));
            assert_eq!(node_at(addr), Some(NodeId(node)));
        }
    }
}
