//! Links, disks and processes that fail, peers that come and go.

use std::time::Duration;

use dunlin_metainfo::Bitfield;

use super::{PLAIN, Scenario};
use crate::content::Content;
use crate::figures::Figure;
use crate::net::NodeId;
use crate::plan::{Do, When};
use crate::scenario::{Crashes, KIB, Swarm};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "jitter",
        about: "round trips of 50 to 650 ms, different for every message",
        peers: 30,
        build: |peers, seed| {
            small(peers, seed).every_node(|_, node| node.jitter = Duration::from_millis(150))
        },
        ..PLAIN
    },
    Scenario {
        name: "stalling-links",
        about: "every leech's link stops twice a minute for ten seconds in the mean",
        peers: 20,
        build: |peers, seed| {
            let (every, length) = (Duration::from_secs(30), Duration::from_secs(10));
            small(peers, seed)
                .stalling(every, length, Duration::from_secs(1200))
                .at_most(3 * 3600)
        },
        clean: Some(small),
        figures: |runs| {
            let clean = runs.clean.and_then(|clean| clean.t_all_s);
            let slowdown = runs.this.t_all_s.zip(clean).map(|(t, clean)| t / clean);
            vec![Figure::new("time_over_clean", slowdown)]
        },
    },
    Scenario {
        name: "partition-heals",
        about: "half of the swarm loses sight of the rest and of the seed for two minutes",
        peers: 20,
        build: |peers, seed| {
            let half = (1..=peers / 2).map(NodeId).collect();
            small(peers, seed)
                .at(10, Do::Partition(half))
                .at(130, Do::Heal)
                .at_most(3600)
        },
        ..PLAIN
    },
    Scenario {
        name: "churn",
        about: "six leeches a minute come, a fifth gives up, those who are done stay a minute",
        peers: 60,
        build: |peers, seed| {
            small(peers, seed)
                .uplinks(u64::from(256 * KIB))
                .arriving_one_by_one(6.0)
                .lingering(Duration::from_secs(60))
                .giving_up(20, Duration::from_secs(60))
                .at_most(3 * 3600)
        },
        ..PLAIN
    },
    Scenario {
        name: "late-joiners",
        about: "ten at once, and one more every ten seconds; who is done leaves",
        peers: 30,
        build: |peers, seed| {
            small(peers, seed)
                .every_node(|index, node| {
                    let late = u64::from(index.saturating_sub(10));
                    node.joins_at = Duration::from_secs(10 * late);
                })
                .leaving_when_done()
        },
        ..PLAIN
    },
    Scenario {
        name: "last-copy",
        about: "all seeds leave the moment one copy is out, spread over the leeches",
        peers: 20,
        build: |peers, seed| {
            small(peers, seed)
                .node(1, |node| {
                    node.has = Some(Bitfield::full(128));
                    node.must_finish = false;
                })
                .when(When::Replicated, Do::Leave(NodeId(0)))
                .when(When::Replicated, Do::Leave(NodeId(1)))
        },
        ..PLAIN
    },
    Scenario {
        name: "tracker-down",
        about: "the tracker answers nobody for the first minute",
        peers: 20,
        build: |peers, seed| {
            small(peers, seed)
                .at(0, Do::TrackerDown)
                .at(60, Do::TrackerUp)
                .at_most(3600)
        },
        ..PLAIN
    },
    Scenario {
        name: "power-cuts",
        about: "the power of every third leech fails at half: unsynced blocks are lost or torn",
        peers: 12,
        build: |peers, seed| {
            let mut swarm = small(peers, seed).at_most(3600);
            for node in (1..=peers).step_by(3).map(NodeId) {
                let has = When::Has { node, pieces: 64 };
                let cut = Do::Kill {
                    node,
                    restart: Some(Duration::from_secs(20)),
                    power_cut: true,
                };
                swarm = swarm.when(has, cut);
            }
            swarm
        },
        ..PLAIN
    },
    Scenario {
        name: "crash-anywhere",
        about: "three leeches die at every 3,000th, 1,500th and 700th event, 20 times each",
        peers: 6,
        build: |peers, seed| {
            let mut swarm = small(peers, seed).at_most(2 * 3600);
            for (index, every) in [(1, 3000), (2, 1500), (3, 700)] {
                if index <= peers {
                    swarm = swarm.node(index, |node| {
                        node.crashes = Some(Crashes {
                            every,
                            at_most: 20,
                            down_for: Duration::from_secs(2),
                            power_cut: index == 2,
                        });
                    });
                }
            }
            swarm
        },
        ..PLAIN
    },
    Scenario {
        name: "bit-rot",
        about: "a second seed's disk has a flipped bit in every eighth piece, and nobody told it",
        peers: 10,
        build: |peers, seed| {
            let rotten: Vec<u32> = (0..128).step_by(8).collect();
            small(peers, seed)
                .class("rotten seed", [1], |node| {
                    node.has = Some(Bitfield::full(128));
                    node.must_finish = false;
                })
                .at(0, Do::FlipBits(NodeId(1), rotten))
                .at_most(3600)
        },
        ..PLAIN
    },
];

/// 32 MiB in 128 pieces.
fn small(peers: u32, seed: u64) -> Swarm {
    Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
}
