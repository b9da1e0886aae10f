//! Real beside simulated: whole swarms of one client on slow links, by the clock.
//!
//! The laboratory tells what its scenarios `real-8` and `real-30` take, then the test
//! `real::swarms_on_slow_links` of crates/app runs the same with processes and prints the table.
//! It makes the network namespaces that it needs and takes them away.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// All that docs/sim.md tells of.
const ALL: [&str; 8] = [
    "dunlin:8",
    "libtorrent:8",
    "aria2:8",
    "transmission:8",
    "dunlin:30",
    "libtorrent:30",
    "aria2:30",
    "transmission:30",
];

/// Of the laboratory, whose mean counts.
const SEEDS: u32 = 5;

/// `asked` as in `dunlin:8 aria2:30`, or nothing for everything.
pub(crate) fn run(root: &Path, asked: &[&str]) -> Result<()> {
    let asked = if asked.is_empty() { &ALL[..] } else { asked };
    let mut real = Command::new(env!("CARGO"));
    real.args("test --release -p dunlin --test it -- --nocapture real::".split(' '))
        .env("DUNLIN_SWARM", asked.join(" "))
        .current_dir(root);
    for leeches in [8, 30] {
        if asked.iter().any(|swarm| is_of(swarm, leeches)) {
            let seconds = simulated(root, leeches)?;
            println!("the laboratory, 1 + {leeches}: {seconds:.1} s (mean of {SEEDS} seeds)");
            real.env(format!("DUNLIN_SIMULATED_{leeches}"), seconds.to_string());
        }
    }
    if !real.status()?.success() {
        bail!("a swarm did not come to its end");
    }
    Ok(())
}

fn is_of(swarm: &str, leeches: u32) -> bool {
    swarm
        .split_once(':')
        .is_some_and(|(_, count)| count.parse() == Ok(leeches))
}

/// The mean time of the last completion.
fn simulated(root: &Path, leeches: u32) -> Result<f64> {
    let scenario = format!("real-{leeches}");
    let mut sum = 0.0;
    for seed in 1..=SEEDS {
        let words =
            format!("run --release -q -p dunlin-sim -- run {scenario} --json --seed {seed}");
        let output = Command::new(env!("CARGO"))
            .args(words.split(' '))
            .current_dir(root)
            .output()?;
        ensure!(
            output.status.success(),
            "{scenario}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        sum += number(&text, "t_all_s").with_context(|| format!("{scenario} tells no time"))?;
    }
    Ok(sum / f64::from(SEEDS))
}

/// A number of a flat JSON object.
fn number(json: &str, name: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    rest[..end].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_what_the_laboratory_tells() {
        let json = r#"{"scenario":"real-8","t_all_s":135.25,"oracles":{"a":"pass"}}"#;
        assert_eq!(number(json, "t_all_s"), Some(135.25));
        assert_eq!(number(json, "nothing"), None);
    }
}
