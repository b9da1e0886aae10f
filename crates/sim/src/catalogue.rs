//! The scenarios that have a name.

use std::time::Duration;

use dunlin_engine::event::DiskErrorKind;

use crate::content::Content;
use crate::hostile::Hostile;
use crate::net::NodeId;
use crate::plan::{Do, When};
use crate::scenario::{KIB, MIB, Swarm};

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// Unless told otherwise.
    pub peers: u32,
    pub build: fn(peers: u32, seed: u64) -> Swarm,
}

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "flash-crowd",
        about: "everybody comes at once: equal peers, one seed, 1,024 x 1 MiB",
        peers: 100,
        build: |peers, seed| Swarm::new(seed, &Content::new(1024, MIB), peers),
    },
    Scenario {
        name: "flash-crowd-small",
        about: "the same with 1,024 x 256 KiB",
        peers: 100,
        build: |peers, seed| Swarm::new(seed, &Content::new(1024, 256 * KIB), peers),
    },
    Scenario {
        name: "liars",
        about: "one honest seed and three whose blocks are bad one time in ten",
        peers: 5,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(64, 256 * KIB), peers)
                .hostile(3, Hostile::Liar { percent: 10 })
        },
    },
    Scenario {
        name: "classes",
        about: "a slow, a middle and a fast third: 20, 50 and 200 kB/s uplinks",
        peers: 40,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(453, 256 * KIB), peers).every_node(|index, node| {
                let rate = match index {
                    0 => 200_000,
                    _ => [20_000, 50_000, 200_000][index as usize % 3],
                };
                node.rates.up = Some(rate);
                node.rates.down = None;
            })
        },
    },
    Scenario {
        name: "seed-leaves",
        about: "the seed leaves when it has sent 1.3 copies",
        peers: 20,
        build: |peers, seed| {
            let content = Content::new(128, 256 * KIB);
            let bytes = content.bytes() * 13 / 10;
            let node = NodeId(0);
            Swarm::new(seed, &content, peers).when(When::Sent { node, bytes }, Do::Leave(node))
        },
    },
    Scenario {
        name: "restart",
        about: "a leech is killed at half and starts again from its resume data",
        peers: 5,
        build: |peers, seed| {
            let node = NodeId(1);
            Swarm::new(seed, &Content::new(128, 256 * KIB), peers).when(
                When::Has { node, pieces: 64 },
                Do::Kill {
                    node,
                    restart: Some(Duration::from_secs(5)),
                    power_cut: false,
                },
            )
        },
    },
    Scenario {
        name: "disk-full",
        about: "a leech's disk is full for ten seconds",
        peers: 5,
        build: |peers, seed| {
            let node = NodeId(1);
            Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
                .at(10, Do::DiskFails(node, DiskErrorKind::Full))
                .at(20, Do::DiskRepaired(node))
                .at(20, Do::Resume(node))
        },
    },
    Scenario {
        name: "stallers",
        about: "as many seeds that never answer as there are peers",
        peers: 10,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(64, 256 * KIB), peers).hostile(peers, Hostile::Staller)
        },
    },
];

pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
