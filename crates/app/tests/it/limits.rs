//! Rate limits, measured where the bytes arrive. Wall-clock figures of a busy machine are no test:
//! `cargo xtask limits` runs this by hand (with `DUNLIN_MEASURE` set), in a release build, and prints
//! the table.
//!
//! The other side is a [`Crowd`], far faster than any limit here. Of each run the seconds 2 to 12
//! count: the mean, and the busiest span of one second.

use std::time::Duration;

use crate::crowd::{Crowd, Manner, Moved};
use crate::fixture::{Sandbox, Words};
use crate::wire::Content;

const FROM: f64 = 2.0;
const UNTIL: f64 = 12.0;
const MB: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Up,
    Down,
}

/// Whether what only the clock can tell is to be measured: by hand, never in a run of all tests.
pub fn is_asked_for() -> bool {
    std::env::var_os("DUNLIN_MEASURE").is_some()
}

/// Mean and busiest second, in bytes per second.
fn figures(moved: &[Moved]) -> (f64, f64) {
    let start = moved.first().map_or(0.0, |(t, _)| *t);
    let within = |&&(t, _): &&Moved| (start + FROM..start + UNTIL).contains(&t);
    let moved: Vec<Moved> = moved.iter().filter(within).copied().collect();
    let sum = |moved: &[Moved]| moved.iter().map(|(_, n)| f64::from(*n)).sum::<f64>();
    let mean = sum(&moved) / (UNTIL - FROM);
    let mut most: f64 = 0.0;
    let (mut first, mut within) = (0, 0.0);
    for &(t, n) in &moved {
        within += f64::from(n);
        while t - moved[first].0 >= 1.0 {
            within -= f64::from(moved[first].1);
            first += 1;
        }
        most = most.max(within);
    }
    (mean, most)
}

/// Payload that moved under a limit.
fn run(way: Way, limit: u64, peers: usize) -> Vec<Moved> {
    let sandbox = Sandbox::new();
    let rate = limit.to_string();
    let listen: Words<'_> = &[&"--listen", &"127.0.0.1:0", &"-q"];
    let (mut dunlin, content, manner) = match way {
        Way::Up => {
            let content = Content::new(&sandbox, "limited.bin", 1 << 20, 64);
            let words: Words<'_> = &[&content.torrent, &content.file, &"--up", &rate];
            let seed = sandbox.start("seed", &[words, listen].concat());
            (seed, content, Manner::Leech)
        }
        Way::Down => {
            let pieces = (limit * 16).div_ceil(1 << 20) as u32;
            let content = Content::repeated(&sandbox, "limited.bin", 1 << 20, pieces);
            let words: Words<'_> = &[&content.torrent, &"-d", &"out", &"--down", &rate];
            let get = sandbox.start("get", &[words, listen].concat());
            (get, content, Manner::Seed)
        }
    };
    let addr = dunlin.addr();
    // Before that it does not know the torrent yet.
    dunlin.wait_for("progress");
    let mut crowd = Crowd::new(&content);
    crowd.add(&addr, manner, peers);
    crowd.run(Duration::from_secs(20), |crowd| {
        let first = crowd.moved.first();
        first.is_some_and(|(t, _)| crowd.now() - t > UNTIL + 0.5)
    });
    dunlin.kill();
    crowd.moved
}

#[test]
fn limits_hold_at_1_10_and_50_mb_per_s() {
    if !is_asked_for() {
        return;
    }
    println!("| way | limit MB/s | peers | mean MB/s | off % | busiest second / limit |");
    println!("|---|---|---|---|---|---|");
    let mut off_limits = Vec::new();
    for way in [Way::Up, Way::Down] {
        for limit in [MB, 10 * MB, 50 * MB] {
            for peers in [1, 5] {
                let (mean, most) = figures(&run(way, limit, peers));
                let (limit_f, mb) = (limit as f64, MB as f64);
                let (off, peak) = (mean / limit_f - 1.0, most / limit_f);
                let line = format!(
                    "| {way:?} | {} | {peers} | {:.2} | {:+.1} | {peak:.2} |",
                    limit / MB,
                    mean / mb,
                    off * 100.0,
                );
                println!("{line}");
                if off.abs() > 0.05 || peak > 1.25 {
                    off_limits.push(line);
                }
            }
        }
    }
    assert!(off_limits.is_empty(), "{off_limits:#?}");
}
