//! Who trades what with whom, and how well.

use std::time::Duration;

use dunlin_engine::config::{PieceOrder, RateLimits, SeedStrategy};
use dunlin_metainfo::Bitfield;
use dunlin_sim::net::{COARSE, FINE};
use dunlin_sim::scenario::{KIB, MIB};
use dunlin_sim::{Content, Do, NodeId, Report, Swarm, When};

/// Spearman's rank correlation of time and piece index.
fn rise(pieces: &[u32]) -> f64 {
    let n = pieces.len() as f64;
    let squares: f64 = pieces
        .iter()
        .enumerate()
        .map(|(rank, &piece)| (rank as f64 - f64::from(piece)).powi(2))
        .sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| Swarm::new(seed, &Content::new(64, 256 * KIB), 20).run();
    let (first, again, other) = (run(7), run(7), run(8));
    assert_eq!(first.trace_hash, again.trace_hash);
    assert_eq!(first.events, again.events);
    assert_ne!(first.trace_hash, other.trace_hash);
    first.expect_all_oracles();
}

#[test]
fn one_leech_gets_what_the_seed_can_give() {
    let report = Swarm::new(1, &Content::new(64, 256 * KIB), 1)
        .run()
        .expect_all_oracles();
    assert!(report.efficiency > 0.95, "{}", report.efficiency);
    assert_eq!(report.seed_copies, 1.0);
    assert_eq!(report.duplicate_bytes, 0);
}

#[test]
fn a_flash_crowd_of_a_hundred_is_efficient_and_spares_the_seed() {
    let report = Swarm::new(1, &Content::new(1024, 256 * KIB), 100)
        .run()
        .expect_all_oracles();
    // The goals are 0.80 and 1.25; less than this would be a step back.
    assert!(report.efficiency >= 0.86, "{}", report.efficiency);
    assert!(report.seed_copies <= 1.15, "{}", report.seed_copies);
    assert!(report.uplink_use >= 0.88, "{}", report.uplink_use);
    assert!(report.jain >= 0.95, "{}", report.jain);
}

/// One run is a matter of chance, so it is the mean that is judged.
#[test]
fn duplicates_of_the_endgame_are_few() {
    let shares: Vec<f64> = (1..=10)
        .map(|seed| {
            let report = Swarm::new(seed, &Content::new(128, 256 * KIB), 20)
                .run()
                .expect_all_oracles();
            report.endgame_duplicate_share
        })
        .collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    // 20 leeches that ask for 2,048 blocks each: eight blocks twice a leech.
    assert!(mean <= 0.004, "mean {mean} of {shares:?}");
    assert!(shares.iter().all(|&share| share <= 0.01), "{shares:?}");
}

/// One leech with the given order among seeds.
fn with_order(order: PieceOrder) -> Report {
    let content = Content::new(128, 256 * KIB);
    Swarm::new(3, &content, 4)
        .every_node(|index, node| {
            node.order = order;
            if index > 1 {
                node.has = Some(Bitfield::full(128));
                node.must_finish = false;
            }
        })
        .run()
        .expect_all_oracles()
}

#[test]
fn sequential_order_rises() {
    let report = with_order(PieceOrder::Sequential);
    let rise = rise(&report.nodes[1].stats.pieces);
    assert!(rise > 0.95, "{rise}");
}

#[test]
fn other_orders_do_not_follow_the_index() {
    for order in [PieceOrder::Random, PieceOrder::RarestFirst] {
        let report = with_order(order);
        let rise = rise(&report.nodes[1].stats.pieces);
        assert!(rise.abs() < 0.3, "{order:?}: {rise}");
    }
}

/// Nodes 1 to 4 upload sixteen times as fast as 5 to 12; the seed is so fast that pieces are not
/// what they lack. Node 1 is observed.
fn two_classes(seed: u64) -> Report {
    Swarm::new(seed, &Content::new(512, 256 * KIB), 12)
        .every_node(|index, node| {
            let rate = match index {
                0 => 2 * MIB,
                1..=4 => MIB / 2,
                _ => MIB / 32,
            };
            node.rates.up = Some(u64::from(rate));
            node.config.preferred_neighbors = 3;
        })
        .node(1, |node| node.observed = true)
        .run()
        .expect_all_oracles()
}

#[test]
fn a_leech_prefers_those_who_gave_it_most() {
    let report = two_classes(5);
    let end = report.nodes[1].completed_s.unwrap();
    let rounds = &report.nodes[1].stats.preferred;
    let rounds: Vec<_> = rounds
        .iter()
        .filter(|round| (20.0..end).contains(&round.at.as_secs_f64()))
        .collect();
    assert!(rounds.len() >= 15, "{} rounds", rounds.len());
    let given = |givers: &[(NodeId, u64)]| -> u64 { givers.iter().map(|(_, bytes)| bytes).sum() };
    let right = rounds
        .iter()
        .filter(|round| {
            let best = &round.givers[..round.givers.len().min(3)];
            let preferred: Vec<_> = round
                .givers
                .iter()
                .filter(|(peer, _)| round.peers.iter().any(|(chosen, _)| chosen == peer))
                .copied()
                .collect();
            round.peers.len() == best.len() && given(&preferred) * 10 >= given(best) * 9
        })
        .count();
    assert!(
        right * 10 >= rounds.len() * 9,
        "{right} of {}",
        rounds.len()
    );
}

/// What of the preferred neighbours of a fast peer in the second half are fast ones, and how long
/// the fast ones took beside the slow ones.
fn company_and_time(report: &Report) -> (f64, f64) {
    let end = report.nodes[1].completed_s.unwrap();
    let rounds = report.nodes[1].stats.preferred.iter();
    let late = rounds.filter(|round| (0.5 * end..end).contains(&round.at.as_secs_f64()));
    let chosen: Vec<NodeId> = late
        .flat_map(|round| round.peers.iter().map(|(peer, _)| *peer))
        .collect();
    let fast = chosen.iter().filter(|peer| (1..=4).contains(&peer.0));
    let took = |node: usize| report.nodes[node].took_s.unwrap();
    let mean = |nodes: std::ops::RangeInclusive<usize>| {
        let len = nodes.clone().count() as f64;
        nodes.map(took).sum::<f64>() / len
    };
    (
        fast.count() as f64 / chosen.len() as f64,
        mean(1..=4) / mean(5..=12),
    )
}

#[test]
fn fast_uploaders_find_each_other() {
    const SEEDS: u64 = 5;
    let runs = (1..=SEEDS).map(|seed| company_and_time(&two_classes(seed)));
    let (company, time) = runs.fold((0.0, 0.0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
    let (company, time) = (company / SEEDS as f64, time / SEEDS as f64);
    // By chance it would be 3 of 11.
    assert!(company >= 0.6, "{company}");
    assert!(time < 0.8, "{time}");
}

#[test]
fn preferred_neighbours_are_chosen_every_interval() {
    let report = Swarm::new(6, &Content::new(256, 256 * KIB), 12)
        .config(|config| config.unchoking_interval = Duration::from_secs(5))
        .run()
        .expect_all_oracles();
    let rounds = &report.nodes[1].stats.preferred;
    assert!(rounds.len() >= 8, "{}", rounds.len());
    for pair in rounds.windows(2) {
        let gap = pair[1].at.since(pair[0].at).as_secs_f64();
        let intervals = (gap / 5.0).round();
        assert!((gap - 5.0 * intervals).abs() <= 0.5, "{gap} s");
        assert!(pair[0].peers.len() <= 4);
    }
}

#[test]
fn the_optimistic_slot_goes_round() {
    let report = Swarm::new(9, &Content::new(512, 256 * KIB), 20)
        .config(|config| {
            config.preferred_neighbors = 2;
            config.optimistic_interval = Duration::from_secs(10);
        })
        .run()
        .expect_all_oracles();
    for (index, node) in report.nodes.iter().enumerate().skip(1) {
        let lucky: std::collections::BTreeSet<NodeId> = node
            .stats
            .preferred
            .iter()
            .filter_map(|round| round.optimistic)
            .collect();
        assert!(lucky.len() >= 4, "node {index} tried {lucky:?}");
    }
}

#[test]
fn the_optimistic_slot_lets_a_newcomer_in() {
    // All slots of everybody are taken when node 20 comes, and nobody is a seed any more.
    let report = Swarm::new(11, &Content::new(512, 256 * KIB), 20)
        .node(20, |node| node.joins_at = Duration::from_secs(100))
        .when(When::Replicated, Do::Leave(NodeId(0)))
        .run()
        .expect_all_oracles();
    let newcomer = NodeId(20);
    let tried = report
        .nodes
        .iter()
        .flat_map(|node| &node.stats.preferred)
        .filter(|round| round.at.as_secs_f64() < 200.0 && round.optimistic == Some(newcomer))
        .count();
    assert!(tried >= 1);
    let took = report.nodes[20].took_s.unwrap();
    assert!(took < 200.0, "{took}");
}

#[test]
fn free_riders_get_less() {
    // Four of thirty never unchoke anybody; those who are done leave, so that giving pays. The seed
    // is so fast that pieces are not what they lack.
    let riders = 27..=30;
    let mut swarm = Swarm::new(13, &Content::new(512, 256 * KIB), 30).every_node(|index, node| {
        let rate = if index == 0 { 2 * MIB } else { MIB / 2 };
        node.rates.up = Some(u64::from(rate));
        if riders.contains(&index) {
            node.rides_free = true;
            node.must_finish = false;
        }
    });
    for node in 1..=26 {
        swarm = swarm.when(When::Complete(NodeId(node)), Do::Leave(NodeId(node)));
    }
    let report = swarm.for_seconds(3000).run().expect_all_oracles();
    let honest: f64 = (1..=26)
        .map(|node| report.nodes[node].took_s.unwrap())
        .sum::<f64>()
        / 26.0;
    for rider in riders {
        assert_eq!(report.nodes[rider as usize].uploaded, 0);
        let took = report.nodes[rider as usize].took_s.unwrap_or(3000.0);
        assert!(took > 1.3 * honest, "{took} s against {honest} s");
    }
}

#[test]
fn rate_limits_hold() {
    let limit = u64::from(200 * KIB);
    let limits = |down, up| RateLimits { down, up };
    let content = Content::new(128, 256 * KIB);
    let report = Swarm::new(17, &content, 8)
        .node(1, |node| node.limits = limits(None, Some(limit)))
        .node(2, |node| node.limits = limits(Some(limit), None))
        .node(3, |node| node.config.limits = limits(Some(limit), None))
        .run()
        .expect_all_oracles();
    // Any ten seconds of the uploads: the limit and the depth of the bucket.
    for window in report.nodes[1].stats.up_by_second.windows(10) {
        let bytes: u64 = window.iter().map(|&bytes| u64::from(bytes)).sum();
        assert!(bytes <= limit * 11, "{bytes}");
    }
    let fastest = content.bytes() as f64 / limit as f64;
    for node in [2, 3] {
        let took = report.nodes[node].took_s.unwrap();
        assert!((0.97 * fastest..1.25 * fastest).contains(&took), "{took}");
    }
}

#[test]
fn a_limit_may_change_while_it_runs() {
    let limit = Some(u64::from(64 * KIB));
    let limits = RateLimits {
        down: None,
        up: limit,
    };
    let report = Swarm::new(18, &Content::new(128, 256 * KIB), 1)
        .at(5, Do::Limit(NodeId(0), limits))
        .at(25, Do::Limit(NodeId(0), RateLimits::default()))
        .run()
        .expect_all_oracles();
    let rate = |from, to| {
        report.nodes[0]
            .stats
            .up_rate(Duration::from_secs(from), Duration::from_secs(to))
    };
    assert!(rate(1, 5) > 900_000.0, "{}", rate(1, 5));
    assert!(
        (50_000.0..72_000.0).contains(&rate(7, 24)),
        "{}",
        rate(7, 24)
    );
    assert!(rate(27, 35) > 900_000.0, "{}", rate(27, 35));
}

/// Nobody but the seed gives: five leeches with fast downlinks and five with slow ones.
fn only_the_seed_gives(strategy: SeedStrategy) -> Report {
    Swarm::new(19, &Content::new(256, 256 * KIB), 10)
        .every_node(|index, node| {
            node.rides_free = index > 0;
            node.must_finish = false;
            node.config.seed_strategy = strategy;
            node.config.preferred_neighbors = 3;
            if index > 5 {
                node.rates.down = Some(u64::from(32 * KIB));
            }
        })
        .for_seconds(200)
        .run()
        .expect_all_oracles()
}

#[test]
fn a_round_robin_seed_gives_everybody_a_turn() {
    let report = only_the_seed_gives(SeedStrategy::RoundRobin);
    let turns = |peer: u32| {
        let chokes = report.nodes[0].stats.chokes.iter();
        chokes
            .filter(|(_, node, choked)| node.0 == peer && !choked)
            .count()
    };
    let turns: Vec<usize> = (1..=10).map(turns).collect();
    let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
    assert!(*least >= 2 && *most <= 2 * *least, "{turns:?}");
}

#[test]
fn a_seed_that_favours_the_fastest_gives_most_to_fast_downlinks() {
    let fast = |strategy| {
        let report = only_the_seed_gives(strategy);
        let fast = report.nodes[1..=5].iter();
        fast.map(|node| node.stats.downloaded).sum::<u64>()
    };
    assert!(fast(SeedStrategy::FastestUpload) > fast(SeedStrategy::RoundRobin));
}

#[test]
fn the_coarse_network_comes_to_what_the_fine_one_does() {
    let run = |quantum| {
        Swarm::new(2, &Content::new(512, 256 * KIB), 60)
            .quantum(quantum)
            .run()
            .expect_all_oracles()
    };
    let (fine, coarse) = (run(FINE), run(COARSE));
    let ratio = coarse.efficiency / fine.efficiency;
    assert!((0.97..1.03).contains(&ratio), "{ratio}");
    assert!(coarse.events * 3 < fine.events * 2, "{}", coarse.events);
}
