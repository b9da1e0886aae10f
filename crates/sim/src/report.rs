//! What a run came to, in the numbers that goals are written in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::net::NodeId;
use crate::oracles::Oracle;
use crate::scenario::Role;
use crate::stats::NodeStats;
use crate::world::World;

#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub peers: usize,
    pub bytes: u64,
    pub pieces: u32,
    /// When the last one finished; `None` if somebody did not.
    pub t_all_s: Option<f64>,
    /// Fluid lower bound: max of F/d_min, F/U_s and L F/(U_s + sum u) (Kumar and Ross 2006).
    pub t_bound_s: f64,
    pub efficiency: f64,
    /// Payload that the seeds sent over the size of the torrent, to the end.
    pub seed_copies: f64,
    /// The same when every piece was at some leech.
    pub seed_copies_first: Option<f64>,
    /// Share of all uplinks that was used between 10 % and 90 % of the time.
    pub uplink_use: f64,
    /// Fairness (Jain) of downloaded / uploaded over the leeches.
    pub jain: f64,
    pub duplicate_bytes: u64,
    /// Duplicates over all that the leeches needed.
    pub endgame_duplicate_share: f64,
    pub wasted_bytes: u64,
    pub ended_at_s: f64,
    pub nodes: Vec<NodeReport>,
    /// Groups of connected nodes, in each second.
    pub islands: Vec<usize>,
    pub false_accusations: u64,
    pub events: u64,
    pub trace_hash: u64,
    /// First violation of each oracle; `None` where it holds.
    pub oracles: BTreeMap<&'static str, Option<String>>,
}

#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Since the start of the world.
    pub completed_s: Option<f64>,
    /// Since it joined.
    pub took_s: Option<f64>,
    pub uploaded: u64,
    pub stats: NodeStats,
}

impl Report {
    pub(crate) fn of(world: &World, seed: u64) -> Self {
        let bytes = world.content.bytes();
        let leeches: Vec<NodeId> = world.must_finish().collect();
        let t_all_s = (world.stats.unfinished == 0)
            .then(|| world.stats.last_completion.map(|at| at.as_secs_f64()))
            .flatten();
        let t_bound_s = bound(world, &leeches);
        let seeds: Vec<NodeId> = world.seeds().collect();
        let seed_bytes: u64 = seeds.iter().map(|&seed| world.net.payload_up(seed)).sum();
        let copies = |sent: u64| sent as f64 / bytes as f64;
        let sum = |count: fn(&NodeStats) -> u64| -> u64 {
            world.nodes.iter().map(|node| count(&node.stats)).sum()
        };
        let duplicate_bytes = sum(|stats| stats.duplicate);
        Self {
            seed,
            peers: leeches.len(),
            bytes,
            pieces: world.content.layout.pieces(),
            t_all_s,
            t_bound_s,
            efficiency: t_all_s.map_or(0.0, |t_all| t_bound_s / t_all),
            seed_copies: copies(seed_bytes),
            seed_copies_first: world.stats.seed_bytes_at_first_replica.map(copies),
            uplink_use: uplink_use(world),
            jain: jain(world, &leeches),
            duplicate_bytes,
            endgame_duplicate_share: duplicate_bytes as f64
                / (bytes as f64 * leeches.len().max(1) as f64),
            wasted_bytes: sum(|stats| stats.wasted),
            ended_at_s: world.now.as_secs_f64(),
            nodes: world
                .node_ids()
                .map(|node| node_report(world, node))
                .collect(),
            islands: world.stats.islands.clone(),
            false_accusations: world.stats.false_accusations,
            events: world.trace.events(),
            trace_hash: world.trace.hash(),
            oracles: Oracle::ALL
                .iter()
                .map(|&oracle| (oracle.name(), world.verdicts.of(oracle)))
                .collect(),
        }
    }

    /// Names of the oracles that do not hold, with their first violation.
    pub fn violations(&self) -> Vec<String> {
        self.oracles
            .iter()
            .filter_map(|(name, detail)| Some(format!("{name}: {}", detail.as_ref()?)))
            .collect()
    }

    /// # Panics
    /// If an oracle does not hold.
    #[track_caller]
    pub fn expect_all_oracles(self) -> Self {
        let violations = self.violations();
        assert!(violations.is_empty(), "seed {}: {violations:#?}", self.seed);
        self
    }

    /// Who was banned by whom.
    pub fn banned(&self) -> impl Iterator<Item = (usize, NodeId)> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .flat_map(|(by, node)| node.stats.banned.iter().map(move |&peer| (by, peer)))
    }

    /// Everything that a person or a script wants to know, as one JSON document.
    pub fn json(&self, scenario: &str, wall: Duration) -> String {
        let number = |value: Option<f64>| value.map_or("null".to_owned(), |v| format!("{v:.6}"));
        let oracles: Vec<String> = self
            .oracles
            .iter()
            .map(|(name, detail)| {
                let text = detail.as_deref().unwrap_or("pass");
                format!("\"{name}\":{}", quoted(text))
            })
            .collect();
        let fields = [
            ("scenario", quoted(scenario)),
            ("seed", self.seed.to_string()),
            ("peers", self.peers.to_string()),
            ("bytes", self.bytes.to_string()),
            ("pieces", self.pieces.to_string()),
            ("t_all_s", number(self.t_all_s)),
            ("t_bound_s", number(Some(self.t_bound_s))),
            ("efficiency", number(Some(self.efficiency))),
            ("seed_copies", number(Some(self.seed_copies))),
            ("seed_copies_first", number(self.seed_copies_first)),
            ("uplink_use", number(Some(self.uplink_use))),
            ("jain", number(Some(self.jain))),
            (
                "endgame_duplicate_share",
                number(Some(self.endgame_duplicate_share)),
            ),
            ("duplicate_bytes", self.duplicate_bytes.to_string()),
            ("wasted_bytes", self.wasted_bytes.to_string()),
            ("banned", self.banned().count().to_string()),
            ("events", self.events.to_string()),
            ("wall_s", number(Some(wall.as_secs_f64()))),
            ("trace_hash", format!("\"{:016x}\"", self.trace_hash)),
            ("oracles", format!("{{{}}}", oracles.join(","))),
        ];
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

fn node_report(world: &World, node: NodeId) -> NodeReport {
    let state = &world.nodes[node.index()];
    let completed_s = state.stats.completed_at.map(|at| at.as_secs_f64());
    NodeReport {
        completed_s,
        took_s: completed_s.map(|at| at - state.spec.joins_at.as_secs_f64()),
        uploaded: world.net.payload_up(node),
        stats: state.stats.clone(),
    }
}

fn bound(world: &World, leeches: &[NodeId]) -> f64 {
    let size = world.content.bytes() as f64;
    let infinite = |rate: Option<u64>| rate.map_or(f64::INFINITY, |rate| rate as f64);
    let seeds_up: f64 = world
        .seeds()
        .map(|seed| infinite(world.net.rates(seed).up))
        .sum();
    let leeches_up: f64 = leeches
        .iter()
        .map(|&node| infinite(world.net.rates(node).up))
        .sum();
    let down_min = leeches
        .iter()
        .map(|&node| infinite(world.net.rates(node).down))
        .fold(f64::INFINITY, f64::min);
    let all = leeches.len() as f64 * size / (seeds_up + leeches_up);
    (size / down_min).max(size / seeds_up).max(all)
}

fn uplink_use(world: &World) -> f64 {
    let end = world.now.as_secs_f64();
    let (from, to) = ((end * 0.1) as u64, (end * 0.9) as u64);
    let (mut used, mut offered) = (0.0, 0.0);
    for node in world.node_ids() {
        let state = &world.nodes[node.index()];
        if let (Role::Honest, Some(up)) = (state.spec.role, state.spec.rates.up) {
            let window = (Duration::from_secs(from), Duration::from_secs(to));
            used += state.stats.up_rate(window.0, window.1);
            offered += up as f64;
        }
    }
    if offered > 0.0 { used / offered } else { 0.0 }
}

fn jain(world: &World, leeches: &[NodeId]) -> f64 {
    let ratios: Vec<f64> = leeches
        .iter()
        .filter_map(|&node| {
            let up = world.net.payload_up(node) as f64;
            let down = world.nodes[node.index()].stats.downloaded as f64;
            (up > 0.0).then_some(down / up)
        })
        .collect();
    let sum: f64 = ratios.iter().sum();
    let squares: f64 = ratios.iter().map(|ratio| ratio * ratio).sum();
    if squares > 0.0 {
        sum * sum / (ratios.len() as f64 * squares)
    } else {
        1.0
    }
}

/// A JSON string: oracles may quote anything.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
