//! Who gives to whom: classes of peers, free riders, strategic peers.

use std::time::Duration;

use dunlin_metainfo::Bitfield;

use super::{PLAIN, Runs, Scenario};
use crate::content::Content;
use crate::figures::{Figure, mean};
use crate::hostile::Hostile;
use crate::net::Rates;
use crate::report::{NodeReport, Report};
use crate::scenario::{KIB, MIB, NodeSpec, Role, Swarm};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "three-classes",
        about: "SIGMETRICS 2007: 13, 14 and 13 leeches of 20, 50 and 200 kB/s leave when done",
        peers: 40,
        build: three_classes,
        figures: class_figures,
        ..PLAIN
    },
    Scenario {
        name: "slow-seed",
        about: "a seed of an eighth of the leeches' rate: nobody can be faster than it",
        peers: 30,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
                .node(0, |node| node.rates.up = Some(u64::from(MIB / 8)))
        },
        ..PLAIN
    },
    Scenario {
        name: "asymmetric",
        about: "home links: a third each of 16/1, 50/10 and 1000/500 Mbit/s down/up",
        peers: 30,
        build: |peers, seed| {
            let mbit = |down: u64, up: u64| Rates {
                down: Some(down * 125_000),
                up: Some(up * 125_000),
            };
            let third = |nth: u32| (1..=peers).filter(move |index| index % 3 == nth);
            Swarm::new(seed, &Content::new(256, 256 * KIB), peers)
                .class("16/1 Mbit/s", third(0), |node| node.rates = mbit(16, 1))
                .class("50/10 Mbit/s", third(1), |node| node.rates = mbit(50, 10))
                .class("1000/500 Mbit/s", third(2), |node| {
                    node.rates = mbit(1000, 500);
                })
        },
        ..PLAIN
    },
    Scenario {
        name: "free-riders-10",
        about: "one leech of ten gives nothing; a fast seed, honest peers leave when done",
        peers: 50,
        build: |peers, seed| with_free_riders(peers - peers / 10, peers / 10, seed),
        clean: Some(|peers, seed| with_free_riders(peers - peers / 10, 0, seed)),
        figures: |runs| free_rider_figures(runs, 1.05),
    },
    Scenario {
        name: "free-riders-40",
        about: "two leeches of five give nothing; a fast seed, honest peers leave when done",
        peers: 50,
        build: |peers, seed| with_free_riders(peers - peers * 2 / 5, peers * 2 / 5, seed),
        clean: Some(|peers, seed| with_free_riders(peers - peers * 2 / 5, 0, seed)),
        figures: |runs| free_rider_figures(runs, 1.15),
    },
    Scenario {
        name: "strategic-slow",
        about: "a peer of the slow class plays BitTyrant among three classes",
        peers: 40,
        build: |peers, seed| with_strategic(peers, seed, 1),
        clean: Some(three_classes),
        figures: |runs| strategic_figures(runs, 1),
    },
    Scenario {
        name: "strategic-middle",
        about: "a peer of the middle class plays BitTyrant among three classes",
        peers: 40,
        build: |peers, seed| with_strategic(peers, seed, peers / 2),
        clean: Some(three_classes),
        figures: |runs| strategic_figures(runs, runs.this.peers / 2),
    },
    Scenario {
        name: "strategic-fast",
        about: "a peer of the fast class plays BitTyrant among three classes",
        peers: 40,
        build: |peers, seed| with_strategic(peers, seed, peers),
        clean: Some(three_classes),
        figures: |runs| strategic_figures(runs, runs.this.peers),
    },
    Scenario {
        name: "fake-progress",
        about: "one leech of ten announces 5 % at most and asks for everything for ever",
        peers: 40,
        build: |peers, seed| {
            let fakes = peers / 10;
            Swarm::new(seed, &Content::new(512, 256 * KIB), peers - fakes)
                .every_node(|index, node| {
                    let rate = if index == 0 { MIB } else { MIB / 4 };
                    node.rates.up = Some(u64::from(rate));
                })
                .hostile(fakes, Hostile::FakeProgress)
                .every_node(by_hand)
                .at_most(2 * 3600)
        },
        figures: |runs| {
            let fakes = runs.this.class(Hostile::FakeProgress.name());
            let taken: u64 = fakes.map(|node| node.from_seeds).sum();
            let given = runs.this.seed_copies * runs.this.bytes as f64;
            vec![Figure::new("fake_share_of_seed", taken as f64 / given.max(1.0)).at_most(0.05)]
        },
        ..PLAIN
    },
];

const SLOW: &str = "slow";
const MIDDLE: &str = "middle";
const FAST: &str = "fast";

/// Slowest first, with the uplink in bytes per second.
const CLASSES: [(&str, u64); 3] = [(SLOW, 20_000), (MIDDLE, 50_000), (FAST, 200_000)];

/// Legout, Liogkas, Kohler and Zhang, "Clustering and sharing incentives in BitTorrent systems":
/// 113 MB, one seed of 200 kB/s that stays; only uplinks are slow.
fn three_classes(peers: u32, seed: u64) -> Swarm {
    let third = peers * 13 / 40;
    let members = [
        1..=third,
        third + 1..=peers - third,
        peers - third + 1..=peers,
    ];
    let mut swarm = Swarm::new(seed, &Content::new(453, 256 * KIB), peers)
        .every_node(|_, node| {
            node.rates = Rates {
                up: Some(200_000),
                down: None,
            };
        })
        .leaving_when_done();
    for ((name, up), members) in CLASSES.into_iter().zip(members) {
        swarm = swarm.class(name, members, |node| node.rates.up = Some(up));
    }
    swarm
}

fn with_strategic(peers: u32, seed: u64, index: u32) -> Swarm {
    three_classes(peers, seed)
        .node(index, |node| {
            node.role = Role::Hostile(Hostile::Strategic);
            node.class = Hostile::Strategic.name();
            // It finds everybody else at the tracker.
            node.joins_at = Duration::from_secs(2);
        })
        .every_node(by_hand)
}

/// Scripts do not reject what they drop, so they must not speak BEP 6.
fn by_hand(_: u32, node: &mut NodeSpec) {
    if matches!(node.role, Role::Hostile(_)) {
        node.speaks_fast = false;
    }
}

fn with_free_riders(honest: u32, riders: u32, seed: u64) -> Swarm {
    let is_leech = |node: &NodeSpec| node.has.as_ref().is_none_or(Bitfield::is_empty);
    Swarm::new(seed, &Content::new(512, 256 * KIB), honest + riders)
        .every_node(|_, node| {
            let rate = if is_leech(node) { MIB / 2 } else { 2 * MIB };
            node.rates.up = Some(u64::from(rate));
        })
        .leaving_when_done()
        .class(FREE_RIDER, honest + 1..=honest + riders, |node| {
            node.rides_free = true;
        })
        .at_most(4 * 3600)
}

const FREE_RIDER: &str = "free rider";

fn free_rider_figures(runs: &Runs<'_>, honest_max: f64) -> Vec<Figure> {
    let honest = runs.this.class_took_s(crate::scenario::LEECH);
    let riders = runs.this.class_took_s(FREE_RIDER);
    let alone = runs
        .clean
        .and_then(|clean| clean.class_took_s(crate::scenario::LEECH));
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    vec![
        Figure::new("t_honest_s", honest),
        Figure::new("t_free_s", riders),
        Figure::new("t_honest_alone_s", alone),
        Figure::new("free_over_honest", ratio(riders, honest)).at_least(1.8),
        Figure::new("honest_over_alone", ratio(honest, alone)).at_most(honest_max),
    ]
}

fn strategic_figures(runs: &Runs<'_>, index: impl TryInto<usize>) -> Vec<Figure> {
    let index = index.try_into().unwrap_or_default();
    let took = |report: &Report| report.nodes.get(index).and_then(|node| node.took_s);
    let strategic = took(runs.this);
    let honest = runs.clean.and_then(took);
    let class = runs.clean.and_then(|clean| {
        let class = clean.nodes.get(index)?.class;
        clean.class_took_s(class)
    });
    let gain = |honest: Option<f64>| Some(honest? / strategic?);
    vec![
        Figure::new("t_strategic_s", strategic),
        Figure::new("t_as_honest_s", honest),
        Figure::new("gain", gain(honest)).at_most(1.3),
        Figure::new("gain_over_class", gain(class)),
    ]
}

fn class_figures(runs: &Runs<'_>) -> Vec<Figure> {
    let report = runs.this;
    let times = CLASSES.map(|(class, _)| report.class_took_s(class));
    let mut figures: Vec<Figure> = CLASSES
        .iter()
        .zip(times)
        .map(|((class, _), took)| Figure::new(format!("t_{class}_s"), took))
        .collect();
    let [slow, middle, fast] = times;
    let is_ordered = slow > middle && middle > fast && fast.is_some();
    figures
        .push(Figure::new("fast_before_middle_before_slow", f64::from(is_ordered)).at_least(1.0));
    figures.push(Figure::new("jain_down_over_up", report.jain).at_least(0.85));
    for (number, (from, to)) in phases(report).into_iter().enumerate() {
        for (class, up) in CLASSES.into_iter().take(CLASSES.len() - number) {
            let ratio = download_over_model(report, class, up, from, to);
            figures.push(Figure::new(
                format!("phase{}_{class}_over_model", number + 1),
                ratio,
            ));
        }
    }
    figures
}

/// From when to when all of the classes that are left are whole, in seconds: until the first of the
/// fastest leaves, then from its last until the first of the next leaves, and so on.
fn phases(report: &Report) -> Vec<(f64, f64)> {
    let mut from = 0.0;
    let mut phases = Vec::new();
    for (class, _) in CLASSES.iter().rev() {
        let ends = || report.class(class).filter_map(|node| node.completed_s);
        let first = ends().fold(f64::INFINITY, f64::min);
        if first.is_finite() {
            phases.push((from, first.max(from)));
        }
        from = ends().fold(from, f64::max);
    }
    phases
}

/// Download rate of a class over d = (1 - o) u + o mean(u) + u_seed / n, with o the share of the
/// optimistic slot and n the leeches that are there; `None` for a phase of less than a minute.
fn download_over_model(report: &Report, class: &str, up: u64, from: f64, to: f64) -> Option<f64> {
    if to - from < 60.0 {
        return None;
    }
    let there = |node: &&NodeReport| node.completed_s.is_none_or(|at| at >= to);
    let leeches = report.nodes[1..].iter().filter(there);
    let uplinks = leeches.filter_map(|node| node.rates.up).map(|up| up as f64);
    let n = uplinks.clone().count() as f64;
    let seed = report.nodes[0].rates.up.unwrap_or_default() as f64;
    let model = (1.0 - OPTIMISTIC_SHARE) * up as f64 + OPTIMISTIC_SHARE * mean(uplinks)? + seed / n;
    let window = (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
    let rates = report.class(class).filter(there);
    let rate = mean(rates.map(|node| node.stats.down_rate(window.0, window.1)))?;
    Some(rate / model)
}

/// One slot of five.
const OPTIMISTIC_SHARE: f64 = 0.2;
