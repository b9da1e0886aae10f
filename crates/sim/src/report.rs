//! What a run came to, in the numbers that goals are written in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::figures::{self, Figure};
use crate::net::{NodeId, Rates};
use crate::oracles::Oracle;
use crate::record::Record;
use crate::scenario::Role;
use crate::stats::NodeStats;
use crate::world::World;
use dunlin_engine::config::Config;
use dunlin_engine::explain::StallCounts;

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
    /// What is not as `Config::default()` says, and at how many nodes.
    pub config_differences: Vec<String>,
    /// Groups of connected nodes, in each second.
    pub islands: Vec<usize>,
    pub false_accusations: u64,
    pub events: u64,
    pub trace_hash: u64,
    /// First violation of each oracle; `None` where it holds.
    pub oracles: BTreeMap<&'static str, Option<String>>,
    /// What a page is drawn from, if one was asked for.
    pub record: Option<Box<Record>>,
}

#[derive(Clone, Debug)]
pub struct NodeReport {
    pub class: &'static str,
    /// Bytes per second; `None` is free.
    pub rates: Rates,
    /// Since the start of the world.
    pub completed_s: Option<f64>,
    /// Since it joined.
    pub took_s: Option<f64>,
    pub uploaded: u64,
    /// Of what it downloaded, the payload that seeds sent.
    pub from_seeds: u64,
    pub stats: NodeStats,
}

/// What a run took of the real computer.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall: Duration,
    /// The most memory that the process had; `None` where the system does not say.
    pub peak_rss_bytes: Option<u64>,
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
            nodes: node_reports(world, &seeds),
            config_differences: config_differences(world),
            islands: world.stats.islands.clone(),
            false_accusations: world.stats.false_accusations,
            events: world.trace.events(),
            trace_hash: world.trace.hash(),
            oracles: Oracle::ALL
                .iter()
                .map(|&oracle| (oracle.name(), world.verdicts.of(oracle)))
                .collect(),
            record: world.record.clone(),
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

    /// What is measured in every swarm.
    pub fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::new("t_all_s", self.t_all_s),
            Figure::new("efficiency", self.efficiency),
            Figure::new("seed_copies", self.seed_copies),
            Figure::new("seed_copies_first", self.seed_copies_first),
            Figure::new("uplink_use", self.uplink_use),
            Figure::new("jain", self.jain),
            Figure::new("duplicate_share", self.endgame_duplicate_share),
            Figure::new("waste_share", self.waste_share()),
            Figure::new("violations", self.violations().len() as f64),
        ]
    }

    /// Bytes that came and were of no use, over all that the leeches needed.
    pub fn waste_share(&self) -> f64 {
        let needed = self.bytes as f64 * self.peers.max(1) as f64;
        (self.wasted_bytes + self.duplicate_bytes) as f64 / needed
    }

    /// Nodes of one class.
    pub fn class<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a NodeReport> + Clone {
        self.nodes.iter().filter(move |node| node.class == class)
    }

    /// Mean time from joining to completion of a class; `None` unless all of it completed.
    pub fn class_took_s(&self, class: &str) -> Option<f64> {
        let took: Option<Vec<f64>> = self.class(class).map(|node| node.took_s).collect();
        figures::mean(took?)
    }

    /// Stalled seconds of all honest nodes by cause.
    pub fn stalls(&self) -> StallCounts {
        let mut all = StallCounts::default();
        for node in &self.nodes {
            all += node.stats.stalls;
        }
        all
    }

    /// Who was banned by whom.
    pub fn banned(&self) -> impl Iterator<Item = (usize, NodeId)> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .flat_map(|(by, node)| node.stats.banned.iter().map(move |&peer| (by, peer)))
    }

    /// One object a node, in their order.
    fn json_nodes_stalls(&self) -> String {
        let nodes = self.nodes.iter();
        let nodes: Vec<String> = nodes.map(|node| json_stalls(&node.stats.stalls)).collect();
        format!("[{}]", nodes.join(","))
    }

    /// Everything that a person or a script wants to know, as one JSON document.
    pub fn json(&self, scenario: &str, figures: &[Figure], cost: Cost) -> String {
        let wall_s = cost.wall.as_secs_f64();
        let memory = cost.peak_rss_bytes;
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
            ("wall_s", number(Some(wall_s))),
            (
                "events_per_s",
                number(Some(self.events as f64 / wall_s.max(1e-9))),
            ),
            (
                "peak_rss_bytes",
                memory.map_or("null".to_owned(), |bytes| bytes.to_string()),
            ),
            ("config_differences", strings(&self.config_differences)),
            ("figures", json_figures(figures)),
            ("stalled_s", self.stalls().total().to_string()),
            ("stalls", json_stalls(&self.stalls())),
            ("nodes_stalls", self.json_nodes_stalls()),
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

/// `{"choked":12,"silent":3}`.
fn json_stalls(stalls: &StallCounts) -> String {
    let causes = stalls.ranking().into_iter();
    let causes: Vec<String> = causes
        .map(|(cause, seconds)| format!("\"{}\":{seconds}", cause.code()))
        .collect();
    format!("{{{}}}", causes.join(","))
}

fn node_reports(world: &World, seeds: &[NodeId]) -> Vec<NodeReport> {
    let mut from_seeds = vec![0; world.nodes.len()];
    for (from, to, bytes) in world.net.payloads() {
        if seeds.contains(&from) {
            from_seeds[to.index()] += bytes;
        }
    }
    let nodes = world.node_ids().zip(from_seeds);
    nodes
        .map(|(node, from_seeds)| node_report(world, node, from_seeds))
        .collect()
}

/// `field: value (default value), at how many nodes`.
fn config_differences(world: &World) -> Vec<String> {
    let mut differences: BTreeMap<String, u32> = BTreeMap::new();
    let default = fields(&Config::default());
    for node in &world.nodes {
        if node.spec.role != Role::Honest {
            continue;
        }
        for (name, value) in fields(&node.spec.config) {
            if default.get(&name).is_some_and(|default| *default != value) {
                let default = &default[&name];
                let difference = format!("{name}: {value} (default {default})");
                *differences.entry(difference).or_default() += 1;
            }
        }
    }
    let differences = differences.into_iter();
    differences
        .map(|(difference, nodes)| format!("{difference} at {nodes} nodes"))
        .collect()
}

/// Every field as it is written by `Debug`: whatever the configuration has, none is forgotten.
fn fields(config: &Config) -> BTreeMap<String, String> {
    let text = format!("{config:#?}");
    let mut fields = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        match line
            .strip_prefix("    ")
            .and_then(|line| line.split_once(": "))
        {
            Some((name, value)) if !name.starts_with(' ') => {
                current = name.to_owned();
                fields.insert(current.clone(), value.trim_end_matches(',').to_owned());
            }
            _ => {
                if let Some(value) = fields.get_mut(&current) {
                    value.push_str(line.trim());
                }
            }
        }
    }
    fields
}

fn node_report(world: &World, node: NodeId, from_seeds: u64) -> NodeReport {
    let state = &world.nodes[node.index()];
    let completed_s = state.stats.completed_at.map(|at| at.as_secs_f64());
    NodeReport {
        class: state.spec.class,
        rates: state.spec.rates,
        completed_s,
        took_s: completed_s.map(|at| at - state.spec.joins_at.as_secs_f64()),
        uploaded: world.net.payload_up(node),
        from_seeds,
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
    figures::jain(&ratios)
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or("null".to_owned(), |value| format!("{value:.6}"))
}

pub(crate) fn strings(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(","))
}

pub(crate) fn json_figures(figures: &[Figure]) -> String {
    let figures: Vec<String> = figures
        .iter()
        .map(|figure| format!("{}:{}", quoted(&figure.name), number(figure.value)))
        .collect();
    format!("{{{}}}", figures.join(","))
}

/// A JSON string: oracles may quote anything.
pub(crate) fn quoted(text: &str) -> String {
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

    #[test]
    fn every_field_of_the_configuration_is_compared_even_when_it_spans_lines() {
        let mut config = Config::default();
        config.limits.up = Some(1000);
        config.max_peers = 7;
        let (ours, default) = (fields(&config), fields(&Config::default()));
        let different: Vec<&String> = ours
            .keys()
            .filter(|&name| ours[name] != default[name])
            .collect();
        assert_eq!(different, ["limits", "max_peers"]);
        assert_eq!(ours.len(), default.len());
    }
}
