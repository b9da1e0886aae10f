//! Every stalled second has a cause: what the sessions say is what the wire saw.

use dunlin_engine::explain::{StallCause, StallCounts};
use dunlin_sim::catalogue;
use dunlin_sim::{Content, NodeId, Report, Swarm};

/// Long enough for all that the small versions of the scenarios are about.
const SECONDS: u64 = 150;

#[test]
fn every_stalled_second_of_every_scenario_has_a_cause() {
    let mut all = StallCounts::default();
    for scenario in catalogue::all() {
        for seed in [7, 8] {
            let peers = scenario.peers.min(6);
            let report = (scenario.build)(peers, seed).at_most(SECONDS).run();
            assert_explained(scenario.name, &report);
            all += report.stalls();
        }
    }
    let ranking = all.ranking();
    assert!(all.total() > 200 && ranking.len() >= 6, "{ranking:?}");
    let unexplained = all.of(StallCause::Other);
    assert!(unexplained * 100 <= all.total(), "{:?}", all.ranking());
}

#[track_caller]
fn assert_explained(name: &str, report: &Report) {
    let verdict = &report.oracles["every_stall_has_a_cause"];
    assert_eq!(*verdict, None, "{name}, seed {}", report.seed);
    let seen: u64 = report.nodes.iter().map(|node| node.stats.stalled_s).sum();
    assert_eq!(report.stalls().total(), seen, "{name}");
}

#[test]
fn a_leech_behind_a_limit_blames_the_limit() {
    let swarm = Swarm::new(3, &Content::new(8, 1 << 16), 1).node(1, |node| {
        node.limits.down = Some(4_000);
    });
    let report = swarm.run().expect_all_oracles();
    let ranking = report.nodes[1].stats.stalls.ranking();
    assert_eq!(ranking[0].0, StallCause::RateLimit, "{ranking:?}");
    assert_eq!(report.stalls().of(StallCause::Other), 0, "{ranking:?}");
}

#[test]
fn who_comes_before_the_seed_says_that_nobody_has_anything() {
    let swarm = Swarm::new(3, &Content::new(8, 1 << 16), 2).node(0, |seed| {
        seed.joins_at = std::time::Duration::from_secs(60);
    });
    let report = swarm.run().expect_all_oracles();
    for node in &report.nodes[1..] {
        let nobody_has = node.stats.stalls.of(StallCause::NobodyHas);
        assert!(nobody_has >= 50, "{:?}", node.stats.stalls.ranking());
    }
}

#[test]
fn a_lone_leech_says_why_it_is_alone() {
    let leave = dunlin_sim::Do::Leave(NodeId(0));
    let swarm = Swarm::new(3, &Content::new(64, 1 << 18), 1);
    let report = swarm.at(2, leave).at_most(60).run();
    assert_explained("a lone leech", &report);
    let stalls = &report.nodes[1].stats.stalls;
    let alone = [
        StallCause::Unreachable,
        StallCause::Dialling,
        StallCause::NoPeers,
    ];
    let alone: u64 = alone.iter().map(|&cause| stalls.of(cause)).sum();
    assert!(alone >= 50, "{:?}", stalls.ranking());
}
