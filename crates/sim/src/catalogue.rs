//! The scenarios that have a name.

use std::time::Duration;

use dunlin_engine::config::{Config, PieceOrder, SuperSeeding};
use dunlin_engine::event::DiskErrorKind;
use dunlin_proto::rng::Rng;

use crate::content::Content;
use crate::disk::WritePolicy;
use crate::figures::Figure;
use crate::hostile::{Hostile, MetadataLie};
use crate::net::NodeId;
use crate::plan::{Do, When};
use crate::report::Report;
use crate::scenario::{KIB, MIB, Swarm};

mod attacks;
mod trade;
mod weather;

/// Builds the swarm of a scenario for so many peers and a seed.
pub type Build = fn(peers: u32, seed: u64) -> Swarm;

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// Unless told otherwise.
    pub peers: u32,
    pub build: Build,
    /// The same swarm without what the scenario is about, if its figures compare the two.
    pub clean: Option<Build>,
    /// What is measured beside the figures of every swarm.
    pub figures: fn(&Runs<'_>) -> Vec<Figure>,
}

/// What figures are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    pub this: &'a Report,
    pub clean: Option<&'a Report>,
}

/// A run with its figures.
#[derive(Clone, Debug)]
pub struct Measured {
    pub report: Report,
    pub clean: Option<Report>,
    pub figures: Vec<Figure>,
}

/// What a scenario is when nothing else is said.
const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    peers: 1,
    build: |peers, seed| Swarm::new(seed, &Content::new(1, MIB), peers),
    clean: None,
    figures: |_| Vec::new(),
};

impl Scenario {
    /// Runs it, and its clean twin if it has one.
    pub fn measure(&self, peers: u32, seed: u64) -> Measured {
        self.measure_with(peers, seed, |swarm| swarm)
    }

    /// The same with a last word about the swarm.
    pub fn measure_with(
        &self,
        peers: u32,
        seed: u64,
        change: impl FnOnce(Swarm) -> Swarm,
    ) -> Measured {
        let report = change((self.build)(peers, seed)).run();
        let clean = self.clean.map(|build| build(peers, seed).run());
        let runs = Runs {
            this: &report,
            clean: clean.as_ref(),
        };
        let mut figures = report.figures();
        figures.extend((self.figures)(&runs));
        Measured {
            figures,
            clean,
            report,
        }
    }
}

impl Measured {
    /// Oracles that do not hold, in the run or in its clean twin.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.report.violations();
        let clean = self.clean.iter().flat_map(Report::violations);
        violations.extend(clean.map(|violation| format!("clean twin: {violation}")));
        violations
    }
}

/// Every scenario that has a name.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    let parts = [
        ALL,
        trade::SCENARIOS,
        attacks::SCENARIOS,
        weather::SCENARIOS,
    ];
    parts.into_iter().flatten()
}

const ALL: &[Scenario] = &[
    Scenario {
        name: "flash-crowd",
        about: "everybody comes at once: equal peers, one seed, 1,024 x 1 MiB",
        peers: 100,
        build: |peers, seed| Swarm::new(seed, &Content::new(1024, MIB), peers),
        ..PLAIN
    },
    Scenario {
        name: "flash-crowd-small",
        about: "the same with 1,024 x 256 KiB",
        peers: 100,
        build: |peers, seed| Swarm::new(seed, &Content::new(1024, 256 * KIB), peers),
        ..PLAIN
    },
    Scenario {
        name: "real-8",
        about: "what `cargo xtask swarm` runs with real processes: 256 x 512 KiB, no latency",
        peers: 8,
        build: real,
        ..PLAIN
    },
    Scenario {
        name: "real-30",
        about: "the same with more leeches",
        peers: 30,
        build: real,
        ..PLAIN
    },
    Scenario {
        name: "super-seed",
        about: "flash-crowd with a seed that tells each piece to one peer first (BEP 16)",
        peers: 100,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(1024, MIB), peers)
                .config(|config| config.super_seeding = SuperSeeding::Auto)
        },
        ..PLAIN
    },
    Scenario {
        name: "liars",
        about: "one honest seed and three whose blocks are bad one time in ten",
        peers: 5,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(64, 256 * KIB), peers)
                .hostile(3, Hostile::Liar { percent: 10 })
        },
        ..PLAIN
    },
    Scenario {
        name: "magnet",
        about: "every leech knows the info hash alone: 64 KiB of metadata come from peers first",
        peers: 20,
        build: |peers, seed| {
            let content = Content::new(64, 256 * KIB).with_metadata(64 << 10);
            Swarm::new(seed, &content, peers).every_node(|index, node| {
                node.from_magnet = index > 0;
            })
        },
        ..PLAIN
    },
    Scenario {
        name: "magnet-liars",
        about: "one honest seed, and one of each kind of peer that lies about the metadata",
        peers: 5,
        build: |peers, seed| {
            let content = Content::new(64, 256 * KIB).with_metadata(64 << 10);
            let swarm = Swarm::new(seed, &content, peers).every_node(|index, node| {
                node.from_magnet = index > 0;
            });
            let kinds = MetadataLie::ALL.map(Hostile::Metadata);
            kinds
                .into_iter()
                .fold(swarm, |swarm, kind| swarm.hostile(1, kind))
        },
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "stallers",
        about: "as many seeds that never answer as there are peers",
        peers: 10,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(64, 256 * KIB), peers).hostile(peers, Hostile::Staller)
        },
        ..PLAIN
    },
    Scenario {
        name: "tracker-dies",
        about: "everybody learns of one peer, then the tracker is gone and every sixth peer leaves",
        peers: 30,
        build: tracker_dies,
        ..PLAIN
    },
    Scenario {
        name: "pex-poison",
        about: "five peers tell of thousands that do not exist",
        peers: 20,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
                .config(|config| config.num_want = 5)
                .hostile(5, Hostile::PexPoisoner)
        },
        ..PLAIN
    },
    Scenario {
        name: "storm",
        about: "everything at once, drawn from the seed: kills, faults, partitions, liars, limits",
        peers: 10,
        build: storm,
        ..PLAIN
    },
];

/// The same content, links and peers as in crates/app/tests/it/real.rs.
fn real(peers: u32, seed: u64) -> Swarm {
    Swarm::new(seed, &Content::new(256, 512 * KIB), peers)
        .round_trip(Duration::ZERO)
        .config(|config| config.max_peers = Config::default().max_peers)
}

/// Who comes later knows one who came before, so at first it is one tree; those who leave at 40 s cut
/// it in pieces, and nothing but what the peers told each other can join them again.
fn tracker_dies(peers: u32, seed: u64) -> Swarm {
    let mut swarm = Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
        .config(|config| config.num_want = 1)
        .at(2, Do::TrackerDown)
        .at_most(3600);
    for index in (1..=peers).step_by(6) {
        swarm = swarm
            .node(index, |node| node.must_finish = false)
            .at(40, Do::Leave(NodeId(index)));
    }
    swarm
}

/// A random misfortune for nearly everybody; the seed alone stays honest, up and whole, so that all
/// can finish in the end.
fn storm(peers: u32, seed: u64) -> Swarm {
    let mut rng = Rng::new(seed ^ 0x0073_746f_726d);
    let piece_len = [32, 64, 100, 256][rng.index(4)] * KIB;
    let bytes = 1 + rng.below(12 << 20);
    let files = [bytes / 3, rng.below(50_000), bytes];
    let mut swarm = Swarm::new(seed, &Content::with_files(piece_len, &files), peers)
        .tracker_interval(60)
        .at_most(3 * 3600);
    for index in 1..=peers {
        swarm = misfortune(swarm, index, &mut rng);
    }
    let kinds = [
        Hostile::Liar {
            percent: 1 + rng.below(100),
        },
        Hostile::Staller,
        Hostile::NeverUnchoke,
        Hostile::Rejecter,
        Hostile::RequestFlood,
        Hostile::GarbageHaves,
        Hostile::Pusher,
        Hostile::Flapper,
    ];
    for kind in kinds {
        if rng.chance(1, 3) {
            swarm = swarm.hostile(1 + rng.below(3) as u32, kind);
        }
    }
    if rng.chance(1, 3) {
        let side = (1..=peers).filter(|_| rng.chance(1, 2)).map(NodeId);
        let side = side.collect();
        let from = rng.below(20);
        swarm = swarm
            .at(from, Do::Partition(side))
            .at(from + 10 + rng.below(200), Do::Heal);
    }
    if rng.chance(1, 3) {
        let from = rng.below(30);
        swarm = swarm
            .at(from, Do::TrackerDown)
            .at(from + rng.below(200), Do::TrackerUp);
    }
    if rng.chance(1, 3) {
        swarm = swarm.hostile(1 + rng.below(3) as u32, Hostile::PexPoisoner);
    }
    swarm
}

fn misfortune(swarm: Swarm, index: u32, rng: &mut Rng) -> Swarm {
    let node = NodeId(index);
    let at = 1 + rng.below(20);
    let swarm = match rng.below(8) {
        0 => swarm.at(
            at,
            Do::Kill {
                node,
                restart: Some(Duration::from_millis(rng.below(30_000))),
                power_cut: rng.chance(1, 2),
            },
        ),
        1 => swarm
            .at(at, Do::DiskFails(node, DiskErrorKind::Full))
            .at(at + 30, Do::DiskRepaired(node))
            .at(at + 30, Do::Resume(node))
            .at(at + 60, Do::Resume(node)),
        2 => swarm.node(index, |node| {
            node.limits.down = Some(200_000);
            node.limits.up = Some(100_000);
        }),
        3 => swarm.node(index, |node| node.speaks_fast = false),
        4 => swarm.node(index, |node| {
            node.disk.write = WritePolicy::AtFinish;
            node.config.buffer_bytes_max = 2 << 20;
        }),
        5 => swarm.node(index, |node| node.config.max_peers = 3),
        6 => swarm.node(index, |node| {
            node.order = PieceOrder::Sequential;
            node.rates.down = Some(300_000);
            node.latency = Duration::from_millis(150);
        }),
        _ => swarm,
    };
    if rng.chance(1, 4) {
        swarm.when(When::Complete(node), Do::Leave(node))
    } else {
        swarm
    }
}

pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}
