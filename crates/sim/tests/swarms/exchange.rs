//! Peers that hear of each other from each other.

use dunlin_sim::catalogue;
use dunlin_sim::hostile::Hostile;
use dunlin_sim::scenario::KIB;
use dunlin_sim::{Content, Report, Swarm};

fn tracker_dies(seed: u64) -> Swarm {
    (catalogue::find("tracker-dies").unwrap().build)(30, seed)
}

fn told(report: &Report) -> u32 {
    report.nodes.iter().map(|node| node.stats.pex_sent).sum()
}

#[test]
fn peer_exchange_alone_completes_a_swarm_whose_tracker_died() {
    for seed in 1..=5 {
        let report = tracker_dies(seed).run().expect_all_oracles();
        assert!(report.t_all_s.is_some(), "seed {seed}");
    }
}

#[test]
fn without_peer_exchange_that_swarm_falls_apart() {
    let report = tracker_dies(1)
        .config(|config| config.pex = false)
        .at_most(600)
        .run();
    assert!(report.islands.last().is_some_and(|&islands| islands > 1));
    assert_eq!(report.t_all_s, None);
    assert_eq!(told(&report), 0);
}

#[test]
fn peers_of_a_private_torrent_tell_nobody_of_each_other() {
    let report = Swarm::new(2, &Content::new(64, 256 * KIB), 10)
        .every_node(|_, node| node.private = true)
        .run()
        .expect_all_oracles();
    assert_eq!(told(&report), 0);
}

#[test]
fn poisoners_who_tell_of_peers_that_do_not_exist_cost_little() {
    let run = |poisoners| {
        Swarm::new(3, &Content::new(128, 256 * KIB), 20)
            .config(|config| config.num_want = 5)
            .hostile(poisoners, Hostile::PexPoisoner)
            .run()
            .expect_all_oracles()
    };
    let (clean, poisoned) = (run(0), run(5));
    assert!(told(&poisoned) > 0);
    let (clean, poisoned) = (clean.t_all_s.unwrap(), poisoned.t_all_s.unwrap());
    assert!(poisoned < 1.2 * clean, "{poisoned} s against {clean} s");
}
