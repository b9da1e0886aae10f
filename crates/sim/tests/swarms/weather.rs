//! Every named scenario with one seed, and what the rougher ones are about.

use dunlin_sim::catalogue;

/// Those that the other tests run already, or that take long.
const ELSEWHERE: [&str; 3] = ["flash-crowd", "flash-crowd-small", "storm"];

fn scenario(name: &str) -> &'static catalogue::Scenario {
    catalogue::find(name).expect("it has a name")
}

#[test]
fn every_named_scenario_keeps_its_promises_with_a_smaller_crowd() {
    for scenario in catalogue::all() {
        if ELSEWHERE.contains(&scenario.name) {
            continue;
        }
        let peers = scenario.peers.min(12);
        let report = (scenario.build)(peers, 1).run();
        let violations = report.violations();
        assert!(violations.is_empty(), "{}: {violations:#?}", scenario.name);
    }
}

#[test]
fn names_of_scenarios_are_distinct_and_many() {
    let names: std::collections::BTreeSet<&str> =
        catalogue::all().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), catalogue::all().count());
    assert!(names.len() >= 20, "{names:?}");
}

#[test]
fn a_leech_that_dies_at_every_so_many_events_finishes_all_the_same() {
    for seed in 1..=3 {
        let scenario = scenario("crash-anywhere");
        let report = (scenario.build)(3, seed).run().expect_all_oracles();
        assert!(report.t_all_s.is_some(), "seed {seed}");
    }
}

#[test]
fn a_seed_whose_disk_rots_is_found_out_and_does_no_lasting_harm() {
    let report = (scenario("bit-rot").build)(10, 1)
        .run()
        .expect_all_oracles();
    assert!(report.wasted_bytes > 0, "somebody read a rotten block");
    let accused = report.banned().filter(|(_, peer)| peer.0 == 1).count();
    assert!(accused >= 5, "{accused} of 9 found out");
}

#[test]
fn scripted_leeches_take_part() {
    let report = (scenario("strategic-fast").build)(12, 1)
        .run()
        .expect_all_oracles();
    assert!(report.nodes[12].uploaded > 0);
    let report = (scenario("fake-progress").build)(20, 1)
        .run()
        .expect_all_oracles();
    let fakes: u64 = report
        .class("fake-progress")
        .map(|node| node.stats.downloaded)
        .sum();
    assert!(fakes > 0);
}
