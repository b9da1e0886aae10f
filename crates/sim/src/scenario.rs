//! Swarms that read like sentences: who is there, what they have, what happens to them.
//!
//! [`Swarm::run`] is a function of what was said and the seed. Seeds are the first nodes, leeches
//! follow, misbehaving peers come last; [`Swarm::node`] changes one of them.

use std::time::Duration;

use dunlin_engine::TorrentKey;
use dunlin_engine::config::{Config, PieceOrder, RateLimits};
use dunlin_metainfo::Bitfield;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::content::Content;
use crate::disk::{DiskSpec, Fault};
use crate::hostile::Hostile;
use crate::net::{self, Net, NetSpec, NodeId, Rates};
use crate::page::link_rate;
use crate::plan::{Do, Step, When};
use crate::report::Report;
use crate::tracker::{Tracker, TrackerSpec};
use crate::world::{Limits, Setup, World};

/// The class of nodes that have everything from the start.
pub const SEED: &str = "seed";

/// The class of honest nodes that have no other.
pub const LEECH: &str = "leech";

/// The one torrent of a world.
pub const TORRENT: TorrentKey = TorrentKey(0);

pub const KIB: u32 = 1 << 10;
pub const MIB: u32 = 1 << 20;

/// Nodes of a swarm that is simulated block by block unless told otherwise.
pub const FINE_NODES_MAX: usize = 128;

/// Work that invariant checks may cost a run, in pieces looked at: keeps big swarms fast.
const CHECK_BUDGET: u64 = 2_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Honest,
    Hostile(Hostile),
}

/// Everything about one node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub role: Role,
    /// What nodes of its kind are called in the report.
    pub class: &'static str,
    pub rates: Rates,
    /// One way to the middle of the network.
    pub latency: Duration,
    /// Every message is late by anything up to this.
    pub jitter: Duration,
    pub joins_at: Duration,
    pub stays: Stay,
    /// Its process dies again and again.
    pub crashes: Option<Crashes>,
    /// What it has from the start; `None` for nothing.
    pub has: Option<Bitfield>,
    pub must_finish: bool,
    /// It knows the info hash alone, and gets the metadata from peers (BEP 9).
    pub from_magnet: bool,
    pub config: Config,
    pub order: PieceOrder,
    pub limits: RateLimits,
    pub seed_when_complete: bool,
    pub uses_tracker: bool,
    /// Its torrent is private (BEP 27).
    pub private: bool,
    /// BEP 6; a connection speaks it when both sides do.
    pub speaks_fast: bool,
    /// Its unchokes and allowed pieces are never heard: it takes and gives nothing.
    pub rides_free: bool,
    /// Who gives it how much is remembered with each choice of preferred neighbours.
    pub observed: bool,
    /// Peers that it knows without a tracker.
    pub known: Vec<NodeId>,
    pub disk: DiskSpec,
    pub disk_fault: Option<Fault>,
}

impl NodeSpec {
    /// The kind of node that it is, as a reader of a report calls it.
    pub fn kind(&self) -> String {
        let is_seed = self.has.as_ref().is_some_and(Bitfield::is_full);
        let up = self.rates.up.map_or("free uplink".to_owned(), |up| {
            format!("{} up", link_rate(up))
        });
        match self.role {
            Role::Hostile(kind) => kind.name().to_owned(),
            Role::Honest if self.rides_free => "free rider".to_owned(),
            Role::Honest if ![SEED, LEECH].contains(&self.class) => self.class.to_owned(),
            Role::Honest if is_seed => format!("seed, {up}"),
            Role::Honest => up,
        }
    }
}

/// How long a node takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stay {
    ForEver,
    /// The user removes the torrent so long after it is complete.
    AfterCompletion(Duration),
    /// The process is gone so long after it joined, complete or not, without a word.
    AfterJoining(Duration),
}

/// Crashes of one node, counted in events that its session was told since it last started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crashes {
    pub every: u64,
    pub at_most: u32,
    /// Time until it starts again.
    pub down_for: Duration,
    pub power_cut: bool,
}

#[derive(Clone, Debug)]
pub struct Swarm {
    seed: u64,
    content: Content,
    nodes: Vec<NodeSpec>,
    net: NetSpec,
    /// What an uplink sends in one go; unless told, by the size of the swarm.
    quantum: Option<u32>,
    tracker: TrackerSpec,
    plan: Vec<Step>,
    log: bool,
    /// Whose chokes the record of the run tells, if it keeps one.
    record: Option<NodeId>,
    time_limit: Duration,
    stop_when_complete: bool,
}

impl Swarm {
    /// One seed and `leeches` leeches of equal rates; 50 ms round trips, at most 40 connections.
    pub fn new(seed: u64, content: &Content, leeches: u32) -> Self {
        let template = NodeSpec {
            role: Role::Honest,
            class: LEECH,
            rates: Rates {
                up: Some(u64::from(MIB)),
                down: Some(10 * u64::from(MIB)),
            },
            latency: Duration::from_micros(12_500),
            jitter: Duration::ZERO,
            joins_at: Duration::ZERO,
            stays: Stay::ForEver,
            crashes: None,
            has: None,
            must_finish: true,
            from_magnet: false,
            config: Config {
                max_peers: 40,
                ..Config::default()
            },
            order: PieceOrder::RarestFirst,
            limits: RateLimits::default(),
            seed_when_complete: true,
            uses_tracker: true,
            private: false,
            speaks_fast: true,
            rides_free: false,
            observed: false,
            known: Vec::new(),
            disk: DiskSpec::default(),
            disk_fault: None,
        };
        let seed_node = NodeSpec {
            class: SEED,
            has: Some(Bitfield::full(content.layout.pieces())),
            must_finish: false,
            from_magnet: false,
            ..template.clone()
        };
        let mut nodes = vec![seed_node];
        nodes.resize(1 + leeches as usize, template);
        Self {
            seed,
            content: content.clone(),
            nodes,
            net: NetSpec::default(),
            quantum: None,
            tracker: TrackerSpec::default(),
            plan: Vec::new(),
            log: false,
            record: None,
            time_limit: Duration::from_secs(24 * 3600),
            stop_when_complete: true,
        }
        .joining_within(Duration::from_secs(1))
    }

    /// Every honest node joins at a random time in this window; the seed is there from the start.
    pub fn joining_within(mut self, window: Duration) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x6a6f_696e);
        for node in self.nodes.iter_mut().skip(1) {
            let micros = rng.below(window.as_micros() as u64 + 1);
            node.joins_at = Duration::from_micros(micros);
        }
        self
    }

    pub fn uplinks(mut self, bytes_per_s: u64) -> Self {
        self.nodes
            .iter_mut()
            .for_each(|node| node.rates.up = Some(bytes_per_s));
        self
    }

    pub fn downlinks(mut self, bytes_per_s: u64) -> Self {
        self.nodes
            .iter_mut()
            .for_each(|node| node.rates.down = Some(bytes_per_s));
        self
    }

    pub fn round_trip(mut self, rtt: Duration) -> Self {
        self.nodes
            .iter_mut()
            .for_each(|node| node.latency = rtt / 4);
        self
    }

    /// [`net::FINE`] or [`net::COARSE`]; unless told, fine up to [`FINE_NODES_MAX`] nodes.
    pub fn quantum(mut self, bytes: u32) -> Self {
        self.quantum = Some(bytes);
        self
    }

    /// Changes the configuration of every node.
    pub fn config(mut self, change: impl Fn(&mut Config)) -> Self {
        self.nodes
            .iter_mut()
            .for_each(|node| change(&mut node.config));
        self
    }

    /// Changes one node: 0 is the seed, leeches follow.
    pub fn node(mut self, index: u32, change: impl FnOnce(&mut NodeSpec)) -> Self {
        change(&mut self.nodes[index as usize]);
        self
    }

    /// Nodes that have a name of their own in the report, and what is special about them.
    pub fn class(
        mut self,
        name: &'static str,
        members: impl IntoIterator<Item = u32>,
        change: impl Fn(&mut NodeSpec),
    ) -> Self {
        for index in members {
            let node = &mut self.nodes[index as usize];
            node.class = name;
            change(node);
        }
        self
    }

    pub fn every_node(mut self, change: impl Fn(u32, &mut NodeSpec)) -> Self {
        for (index, node) in (0..).zip(&mut self.nodes) {
            change(index, node);
        }
        self
    }

    /// Adds peers that misbehave.
    pub fn hostile(mut self, count: u32, kind: Hostile) -> Self {
        let node = NodeSpec {
            role: Role::Hostile(kind),
            class: kind.name(),
            must_finish: false,
            has: None,
            joins_at: Duration::ZERO,
            ..self.nodes[0].clone()
        };
        let len = self.nodes.len() + count as usize;
        self.nodes.resize(len, node);
        self
    }

    /// So many misbehaving peers, of all kinds in turn.
    pub fn hostile_mix(self, count: u32) -> Self {
        let kinds = (0..count).map(|nth| Hostile::MIX[nth as usize % Hostile::MIX.len()]);
        kinds.fold(self, |swarm, kind| swarm.hostile(1, kind))
    }

    /// Leeches come one after the other, so many a minute in the mean, as a Poisson process.
    pub fn arriving_one_by_one(mut self, per_minute: f64) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x6172_7269);
        let mut at = 0.0;
        for node in self.nodes.iter_mut().filter(|node| node.has.is_none()) {
            at += exponential(&mut rng, 60.0 / per_minute);
            node.joins_at = Duration::from_secs_f64(at);
        }
        self
    }

    /// Who is done stays for an exponential time with this mean, the seed for ever.
    pub fn lingering(mut self, mean: Duration) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x6c69_6e67);
        for node in self.leeches() {
            let time = exponential(&mut rng, mean.as_secs_f64());
            node.stays = Stay::AfterCompletion(Duration::from_secs_f64(time));
        }
        self
    }

    /// Leeches leave as soon as they are done.
    pub fn leaving_when_done(mut self) -> Self {
        for node in self.leeches() {
            node.stays = Stay::AfterCompletion(Duration::ZERO);
        }
        self
    }

    /// This share of the leeches vanishes after an exponential time with this mean, done or not.
    pub fn giving_up(mut self, percent: u64, mean: Duration) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x6769_7665);
        for node in self.leeches() {
            if rng.chance(percent, 100) {
                let time = exponential(&mut rng, mean.as_secs_f64());
                node.stays = Stay::AfterJoining(Duration::from_secs_f64(time));
                node.must_finish = false;
            }
        }
        self
    }

    /// The links of all leeches stall again and again for `horizon`, at random times and for random
    /// times with these means.
    pub fn stalling(mut self, every: Duration, length: Duration, horizon: Duration) -> Self {
        let mut rng = Rng::new(self.seed ^ 0x7374_616c);
        for index in 0..self.nodes.len() as u32 {
            let mut at = exponential(&mut rng, every.as_secs_f64());
            while index > 0 && at < horizon.as_secs_f64() {
                let time = Duration::from_secs_f64(exponential(&mut rng, length.as_secs_f64()));
                let when = When::At(Duration::from_secs_f64(at));
                self = self.when(when, Do::Stall(NodeId(index), time));
                at += exponential(&mut rng, every.as_secs_f64());
            }
        }
        self
    }

    /// Honest nodes that do not have everything from the start.
    fn leeches(&mut self) -> impl Iterator<Item = &mut NodeSpec> {
        let nodes = self.nodes.iter_mut();
        nodes.filter(|node| node.role == Role::Honest && node.has.is_none())
    }

    pub fn tracker_interval(mut self, seconds: u32) -> Self {
        self.tracker.interval_s = seconds;
        self
    }

    pub fn when(mut self, when: When, what: Do) -> Self {
        self.plan.push(Step { when, what });
        self
    }

    pub fn at(self, seconds: u64, what: Do) -> Self {
        self.when(When::At(Duration::from_secs(seconds)), what)
    }

    /// Ends after this time even if nobody is done.
    pub fn at_most(mut self, seconds: u64) -> Self {
        self.time_limit = Duration::from_secs(seconds);
        self
    }

    /// Goes on for exactly this time, done or not.
    pub fn for_seconds(mut self, seconds: u64) -> Self {
        self.stop_when_complete = false;
        self.at_most(seconds)
    }

    /// Tells every alert of every node on standard error.
    pub fn log(mut self, log: bool) -> Self {
        self.log = log;
        self
    }

    /// Keeps what a page is drawn from, with the chokes of one node.
    pub fn record(mut self, watched: NodeId) -> Self {
        self.record = Some(watched);
        self
    }

    pub fn run(mut self) -> Report {
        let mut rng = Rng::new(self.seed);
        let is_big = self.nodes.len() > FINE_NODES_MAX;
        let by_size = if is_big { net::COARSE } else { net::FINE };
        self.net.quantum = self.quantum.unwrap_or(by_size);
        let setup = Setup {
            net: Net::new(self.net, self.content.layout.clone()),
            tracker: Tracker::new(self.tracker),
            rng: rng.fork(),
            check_every: check_every(&self.content, &self.nodes),
            log: self.log,
            record: self.record,
            limits: Limits {
                until: Instant::START + self.time_limit,
                stop_when_complete: self.stop_when_complete,
            },
            content: self.content,
            specs: self.nodes,
            plan: self.plan,
        };
        let mut world = World::new(setup);
        world.run();
        Report::of(&world, self.seed)
    }
}

/// A time of a memoryless process, in seconds.
fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    // In (0, 1]: never the logarithm of nothing.
    let share = (rng.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64;
    -mean * share.ln()
}

/// After every event while that is affordable, else now and then.
fn check_every(content: &Content, nodes: &[NodeSpec]) -> u64 {
    let pieces = u64::from(content.layout.pieces());
    let blocks = content.bytes() / u64::from(dunlin_metainfo::BLOCK_LEN);
    let events = blocks * nodes.len() as u64 * 4;
    (events * pieces / CHECK_BUDGET).max(1)
}
