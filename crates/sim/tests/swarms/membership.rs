//! Peers that come, go, meet and lose each other.

use std::time::Duration;

use dunlin_sim::scenario::KIB;
use dunlin_sim::{Content, Do, NodeId, Swarm, When};

#[test]
fn a_late_joiner_finishes_at_the_speed_of_many() {
    let content = Content::new(128, 256 * KIB);
    let report = Swarm::new(1, &content, 10)
        .node(10, |node| node.joins_at = Duration::from_secs(120))
        .run()
        .expect_all_oracles();
    // Everybody else is a seed by then: ten uplinks of 1 MiB/s and a downlink of 10.
    let took = report.nodes[10].took_s.unwrap();
    assert!(took < 12.0, "{took}");
}

#[test]
fn the_seed_may_leave_when_one_copy_is_out() {
    for seed in 1..=5 {
        let report = Swarm::new(seed, &Content::new(128, 256 * KIB), 12)
            .when(When::Replicated, Do::Leave(NodeId(0)))
            .run()
            .expect_all_oracles();
        assert!(report.seed_copies < 1.5, "{}", report.seed_copies);
    }
}

#[test]
fn leeches_that_leave_when_done_do_not_strand_the_rest() {
    let mut swarm = Swarm::new(3, &Content::new(128, 256 * KIB), 12);
    for node in 1..=12 {
        swarm = swarm.when(When::Complete(NodeId(node)), Do::Leave(NodeId(node)));
    }
    swarm.run().expect_all_oracles();
}

#[test]
fn the_connection_cap_holds_and_the_swarm_stays_in_one_piece() {
    let cap = 8;
    let report = Swarm::new(4, &Content::new(64, 256 * KIB), 60)
        .config(|config| config.max_peers = cap)
        .run()
        .expect_all_oracles();
    for node in &report.nodes {
        assert!(
            node.stats.connections_max <= cap,
            "{}",
            node.stats.connections_max
        );
    }
    let first = report
        .nodes
        .iter()
        .filter_map(|node| node.completed_s)
        .fold(f64::INFINITY, f64::min) as usize;
    // Afterwards seeds leave each other alone.
    assert!(first > 12);
    assert_eq!(report.islands[10..first].iter().max(), Some(&1));
}

#[test]
fn a_partition_that_heals_loses_nobody() {
    // The half without the seed has to wait for the other.
    let far: Vec<NodeId> = (6..=10).map(NodeId).collect();
    let report = Swarm::new(5, &Content::new(128, 256 * KIB), 10)
        .tracker_interval(60)
        .at(5, Do::Partition(far))
        .at(90, Do::Heal)
        .at_most(1200)
        .run()
        .expect_all_oracles();
    assert!(report.islands[6..60].iter().all(|&islands| islands >= 2));
    assert!(report.nodes[6].completed_s.unwrap() > 90.0);
}

#[test]
fn known_peers_are_enough_when_the_tracker_is_down() {
    let report = Swarm::new(6, &Content::new(64, 256 * KIB), 6)
        .every_node(|index, node| {
            if index > 0 {
                node.known = vec![NodeId(index - 1)];
            }
        })
        .at(0, Do::TrackerDown)
        .at_most(600)
        .run()
        .expect_all_oracles();
    assert_eq!(report.nodes[0].stats.banned, []);
}

#[test]
fn a_tracker_that_comes_back_is_asked_again() {
    let report = Swarm::new(7, &Content::new(64, 256 * KIB), 4)
        .at(0, Do::TrackerDown)
        .at(100, Do::TrackerUp)
        .at_most(1200)
        .run()
        .expect_all_oracles();
    assert!(report.t_all_s.unwrap() > 100.0);
}

#[test]
fn peers_without_the_fast_extension_are_served_too() {
    Swarm::new(8, &Content::new(64, 256 * KIB), 8)
        .every_node(|index, node| node.speaks_fast = index % 2 == 0)
        .run()
        .expect_all_oracles();
}

#[test]
fn leeches_that_together_have_everything_need_no_seed() {
    let content = Content::new(60, 256 * KIB);
    Swarm::new(9, &content, 6)
        .every_node(|index, node| {
            let mut pieces = dunlin_metainfo::Bitfield::new(60);
            (0..60)
                .filter(|piece| piece % 6 + 1 == index)
                .for_each(|piece| {
                    pieces.set(piece);
                });
            node.has = Some(pieces);
        })
        .node(0, |node| node.joins_at = Duration::from_secs(100_000))
        .at_most(600)
        .run()
        .expect_all_oracles();
}

#[test]
fn leeches_with_a_magnet_finish_like_the_others() {
    let content = Content::new(64, 256 * KIB).with_metadata(200_000);
    for seed in 1..=5 {
        Swarm::new(seed, &content, 10)
            .every_node(|index, node| node.from_magnet = index > 0)
            .run()
            .expect_all_oracles();
    }
}

#[test]
fn metadata_travels_on_from_leech_to_leech() {
    let content = Content::new(64, 256 * KIB).with_metadata(200_000);
    // Nobody but the second node ever meets the seed.
    let report = Swarm::new(1, &content, 3)
        .every_node(|index, node| {
            node.uses_tracker = false;
            node.from_magnet = index > 0;
            node.known = index.checked_sub(1).map(NodeId).into_iter().collect();
            node.config.pex = false;
        })
        .run()
        .expect_all_oracles();
    assert!(
        report
            .nodes
            .iter()
            .skip(1)
            .all(|node| node.took_s.is_some())
    );
}
