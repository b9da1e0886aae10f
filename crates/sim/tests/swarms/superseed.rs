//! Seeds that tell each piece to one peer first (BEP 16), and whom that must not harm.

use dunlin_engine::config::SuperSeeding;
use dunlin_sim::scenario::KIB;
use dunlin_sim::{Content, Hostile, Report, Swarm};

fn swarm(seed: u64, leeches: u32, mode: SuperSeeding) -> Swarm {
    Swarm::new(seed, &Content::new(128, 256 * KIB), leeches)
        .config(|config| config.super_seeding = mode)
}

fn mean(mode: SuperSeeding, figure: fn(&Report) -> f64) -> f64 {
    let runs = (1..=3).map(|seed| {
        let report = swarm(seed, 30, mode).run().expect_all_oracles();
        figure(&report)
    });
    runs.sum::<f64>() / 3.0
}

#[test]
fn the_first_copy_costs_a_super_seed_little_more_than_itself() {
    let first = |report: &Report| report.seed_copies_first.unwrap();
    let (on, off) = (
        mean(SuperSeeding::Auto, first),
        mean(SuperSeeding::Off, first),
    );
    assert!(on <= 1.15, "{on}");
    assert!(on < off - 0.05, "{on} with, {off} without");
}

#[test]
fn a_lone_leech_is_served_as_by_any_seed() {
    for mode in [SuperSeeding::Auto, SuperSeeding::On] {
        let report = swarm(1, 1, mode).run().expect_all_oracles();
        assert!(report.efficiency > 0.95, "{}", report.efficiency);
        assert_eq!(report.seed_copies, 1.0);
    }
}

#[test]
fn leeches_that_pass_nothing_on_all_finish() {
    let time = |mode| {
        let swarm = swarm(2, 8, mode).every_node(|index, node| node.rides_free = index > 0);
        swarm.run().expect_all_oracles().t_all_s.unwrap()
    };
    let (on, off) = (time(SuperSeeding::On), time(SuperSeeding::Off));
    assert!(on < 1.1 * off, "{on} s with, {off} s without");
}

#[test]
fn peers_without_the_fast_extension_finish() {
    swarm(3, 12, SuperSeeding::On)
        .every_node(|_, node| node.speaks_fast = false)
        .run()
        .expect_all_oracles();
}

#[test]
fn peers_that_claim_everything_or_flood_do_not_stop_it() {
    for mode in [SuperSeeding::Auto, SuperSeeding::On] {
        swarm(4, 12, mode)
            .hostile(2, Hostile::Staller)
            .hostile(2, Hostile::RequestFlood)
            .hostile(2, Hostile::GarbageHaves)
            .run()
            .expect_all_oracles();
    }
}
