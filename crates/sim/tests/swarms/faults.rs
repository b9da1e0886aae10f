//! Processes that die, disks that fail.

use std::time::Duration;

use dunlin_engine::event::DiskErrorKind;
use dunlin_sim::disk::{Fault, WritePolicy};
use dunlin_sim::scenario::{KIB, MIB};
use dunlin_sim::{Content, Do, NodeId, Report, Swarm, When};

const VICTIM: NodeId = NodeId(1);

fn killed_at(seed: u64, pieces: u32, power_cut: bool) -> Report {
    let kill = Do::Kill {
        node: VICTIM,
        restart: Some(Duration::from_secs(5)),
        power_cut,
    };
    let has = When::Has {
        node: VICTIM,
        pieces,
    };
    Swarm::new(seed, &Content::new(128, 256 * KIB), 5)
        .when(has, kill)
        .at_most(1200)
        .run()
        .expect_all_oracles()
}

#[test]
fn a_killed_leech_goes_on_where_it_stopped() {
    for (seed, pieces) in [(1, 3), (2, 30), (3, 64), (4, 100), (5, 127)] {
        let report = killed_at(seed, pieces, false);
        let victim = &report.nodes[1].stats;
        // Whole pieces that the resume data did not claim yet: its last 4 MiB or 2 s.
        let lost = pieces - victim.pieces_at_kill;
        assert!(lost <= 24, "{lost} pieces of {pieces} were forgotten");
        let pieces_fetched = victim.pieces.len() as u32;
        assert_eq!(pieces_fetched, 128 + lost, "the rest once");
    }
}

#[test]
fn after_a_power_cut_only_synced_pieces_count() {
    for seed in 1..=3 {
        let report = killed_at(seed, 64, true);
        let victim = &report.nodes[1].stats;
        // What the resume data claim is on the disk: the oracles looked. The rest came again.
        let lost = 64 - victim.pieces_at_kill;
        assert_eq!(victim.pieces.len() as u32, 128 + lost);
    }
}

#[test]
fn a_full_disk_pauses_one_leech_and_resume_continues() {
    let report = Swarm::new(4, &Content::new(128, 256 * KIB), 5)
        .at(10, Do::DiskFails(VICTIM, DiskErrorKind::Full))
        .at(60, Do::DiskRepaired(VICTIM))
        .at(60, Do::Resume(VICTIM))
        .at_most(1200)
        .run()
        .expect_all_oracles();
    assert!(report.nodes[1].stats.disk_failures >= 1);
    assert!(report.nodes[1].completed_s.unwrap() > 60.0);
    // The others did not wait for it.
    assert!(report.nodes[2].completed_s.unwrap() < 60.0);
}

#[test]
fn whichever_disk_job_fails_the_download_survives() {
    let content = Content::new(6, 64 * KIB);
    let mut hits = 0;
    for job in 0..60 {
        let report = Swarm::new(5, &content, 2)
            .node(1, |node| {
                node.disk_fault = Some(Fault {
                    kind: DiskErrorKind::Other,
                    from: job,
                    until: job + 1,
                });
            })
            .at(20, Do::Resume(VICTIM))
            .at(40, Do::Resume(VICTIM))
            .at_most(600)
            .run()
            .expect_all_oracles();
        hits += report.nodes[1].stats.disk_failures;
    }
    assert!(hits >= 20, "{hits}");
}

#[test]
fn blocks_held_in_memory_until_their_piece_is_verified_fit_the_ceiling() {
    let ceiling = 6 * u64::from(MIB);
    let report = Swarm::new(6, &Content::new(32, MIB), 6)
        .every_node(|_, node| {
            node.disk.write = WritePolicy::AtFinish;
            node.config.buffer_bytes_max = ceiling;
        })
        .at_most(1200)
        .run()
        .expect_all_oracles();
    for node in &report.nodes {
        assert!(
            node.stats.buffered_max <= ceiling,
            "{}",
            node.stats.buffered_max
        );
    }
}

#[test]
fn a_slow_disk_holds_requests_back_instead_of_filling_memory() {
    let ceiling = 2 * u64::from(MIB);
    let content = Content::new(64, 256 * KIB);
    let rate = u64::from(256 * KIB);
    let report = Swarm::new(7, &content, 2)
        .node(1, |node| {
            node.disk.rate = rate;
            node.config.buffer_bytes_max = ceiling;
        })
        .at_most(1200)
        .run()
        .expect_all_oracles();
    let slow = &report.nodes[1];
    assert!(
        slow.stats.buffered_max <= ceiling,
        "{}",
        slow.stats.buffered_max
    );
    let bound = content.bytes() as f64 / rate as f64;
    let took = slow.took_s.unwrap();
    assert!((bound..1.2 * bound).contains(&took), "{took}");
}

#[test]
fn a_storm_of_misfortunes_leaves_everybody_with_everything() {
    let storm = dunlin_sim::catalogue::find("storm").expect("it has a name");
    // 2 found requests that were taken back without a word when a disk failed; the rest are luck.
    for seed in [2].into_iter().chain(100..112) {
        (storm.build)(storm.peers, seed).run().expect_all_oracles();
    }
}
