//! The imaginary world: a clock that jumps from event to event, nodes, and what they do.
//!
//! Everything that happens is an entry of one queue, ordered by time and then by the order in
//! which it was put there; all randomness comes from one seed. So a run is a function of its
//! scenario and its seed, and [`Trace`] says whether two runs were the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use dunlin_engine::session::Session;
use dunlin_engine::{DiskResult, Event, JobId, PeerKey};
use dunlin_metainfo::PeerId;
use dunlin_proto::peer::{Handshake, Reserved};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::content::Content;
use crate::disk::Disk;
use crate::hostile::{Act, Io, Script};
use crate::net::{EndId, Handed, Net, NetEvent, NodeId};
use crate::oracles::{Oracle, Verdicts, Watch};
use crate::plan::{Do, Step};
use crate::record::{NodeView, Record};
use crate::scenario::{FINE_NODES_MAX, NodeSpec, Role};
use crate::stats::{NodeStats, SwarmStats};
use crate::trace::Trace;
use crate::tracker::Tracker;

mod actions;
mod arrivals;
mod lives;
mod stalls;

use stalls::Lulls;

/// BEP 6, in the last reserved byte.
const FAST_BIT: u8 = 0x04;

/// Ticks of one session at one moment, beyond which its deadline does not move.
const TICKS_MAX: u32 = 1000;

/// Nodes that are watched where the network is coarse, about. Where it is fine, all are.
const WATCHED: usize = 32;

/// How often counters are looked at and scripts act.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Instant,
    queue: BinaryHeap<Reverse<Entry>>,
    next: u64,
    pub(crate) content: Content,
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Node>,
    /// What is known of each end beside the network, by end.
    sides: Vec<Side>,
    /// Ends of every so many nodes are watched.
    watch_every: u32,
    /// Every message is acted upon before the next one.
    is_fine: bool,
    /// Nothing but the room that it takes, for the runs that an uplink hands over.
    handed: Vec<Handed>,
    /// The same for the answers of a disk.
    answers: Vec<(JobId, DiskResult)>,
    /// Connections that are not open yet, by number.
    dials: BTreeMap<u32, Dialling>,
    pub(crate) tracker: Tracker,
    rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) verdicts: Verdicts,
    pub(crate) stats: SwarmStats,
    plan: Vec<Step>,
    /// Nodes of one side of a partition, while there is one.
    partition: Option<Vec<NodeId>>,
    /// Invariants are checked after every so many events.
    check_every: u64,
    /// Alerts go to standard error.
    log: bool,
    pub(crate) record: Option<Box<Record>>,
    limits: Limits,
}

/// When a simulation ends, whatever happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) until: Instant,
    /// End as soon as everybody who should has finished.
    pub(crate) stop_when_complete: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) disk: Disk,
    pub(crate) stats: NodeStats,
    mind: Mind,
    /// Counts its starts: what was meant for an earlier life is dropped.
    life: u32,
    /// When the timer rings that is in the queue.
    timer: Option<Instant>,
    ticks: (Instant, u32),
    /// Bytes of write jobs that are not answered.
    unwritten: u64,
    /// Bytes of blocks asked for, over all connections.
    requested: u64,
    last_job: Option<JobId>,
    /// Connections with each node, by what its session was told.
    links: BTreeMap<NodeId, u32>,
    dials: usize,
    /// While it lacks something.
    lulls: Option<Lulls>,
    /// What its session knows of stalls is not compared yet.
    counts_stalls: bool,
    /// Its last life ended with a power cut.
    lost_power: bool,
    /// Events that its session was told in this life.
    told: u64,
    crashed: u32,
    /// Who sent bad blocks of a piece that is not judged yet.
    lies: BTreeMap<u32, BTreeSet<NodeId>>,
    /// The torrent was removed and everything of it is done.
    gone: bool,
}

#[derive(Debug)]
enum Mind {
    Off,
    Session(Box<Session>),
    Script(Box<dyn Script>),
}

#[derive(Debug, Default)]
struct Side {
    /// Its owner was told of it, and not yet that it is gone.
    is_known: bool,
    /// What the owner may know, if it is watched.
    watch: Option<Box<Watch>>,
}

#[derive(Debug)]
struct Dialling {
    from: (NodeId, u32),
    to: (NodeId, u32),
}

#[derive(Debug)]
enum What {
    Start(NodeId),
    Timer(NodeId, u32),
    /// For a session, if it still lives that life.
    Tell(NodeId, u32, Box<Event>),
    Disk(NodeId, u32),
    Net(NetEvent),
    /// The dialler's handshake arrives.
    Knock(EndId),
    /// The acceptor shows its handshake.
    Accepted(EndId),
    /// The acceptor's handshake is back at the dialler.
    Established(EndId),
    /// What the plan says is due.
    Plan(Do),
    Second,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    order: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What a world is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) content: Content,
    pub(crate) net: Net,
    pub(crate) specs: Vec<NodeSpec>,
    pub(crate) tracker: Tracker,
    pub(crate) rng: Rng,
    pub(crate) plan: Vec<Step>,
    pub(crate) check_every: u64,
    pub(crate) log: bool,
    pub(crate) record: Option<NodeId>,
    pub(crate) limits: Limits,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let pieces = setup.content.layout.pieces();
        let record = setup.record.map(|watched| {
            let classes: Vec<String> = setup.specs.iter().map(NodeSpec::kind).collect();
            Box::new(Record::new(watched, &classes, pieces))
        });
        let mut world = Self {
            now: Instant::START,
            queue: BinaryHeap::new(),
            next: 0,
            stats: SwarmStats::new(setup.content.layout.pieces()),
            content: setup.content,
            is_fine: setup.net.is_fine(),
            watch_every: watch_every(setup.specs.len(), setup.net.is_fine()),
            net: setup.net,
            nodes: Vec::new(),
            sides: Vec::new(),
            handed: Vec::new(),
            answers: Vec::new(),
            dials: BTreeMap::new(),
            tracker: setup.tracker,
            rng: setup.rng,
            trace: Trace::default(),
            verdicts: Verdicts::default(),
            plan: setup.plan,
            partition: None,
            check_every: setup.check_every.max(1),
            log: setup.log,
            record,
            limits: setup.limits,
        };
        for spec in setup.specs {
            world.add_node(spec);
        }
        world.put(Instant::START + SECOND, What::Second);
        world.plan_timed_steps();
        world
    }

    fn add_node(&mut self, spec: NodeSpec) {
        let id = self.net.add_node(spec.rates, spec.latency);
        self.net.set_jitter(id, spec.jitter);
        let mut disk = Disk::new(&self.content.layout, spec.disk.clone());
        if let Some(pieces) = &spec.has {
            disk.preload(pieces);
        }
        disk.set_fault(spec.disk_fault);
        self.put(Instant::START + spec.joins_at, What::Start(id));
        self.nodes.push(Node {
            disk,
            stats: NodeStats::new(&self.content.layout),
            mind: Mind::Off,
            life: 0,
            timer: None,
            ticks: (Instant::START, 0),
            unwritten: 0,
            requested: 0,
            last_job: None,
            links: BTreeMap::new(),
            dials: 0,
            lulls: None,
            counts_stalls: false,
            lost_power: false,
            told: 0,
            crashed: 0,
            lies: BTreeMap::new(),
            gone: false,
            spec,
        });
    }

    /// Lets time pass until everybody is done or the limit is reached.
    pub(crate) fn run(&mut self) {
        while let Some(Reverse(entry)) = self.queue.pop() {
            if entry.at > self.limits.until {
                self.now = self.limits.until;
                break;
            }
            self.now = entry.at;
            self.happen(entry.what);
            if self.limits.stop_when_complete && self.everybody_is_done() {
                break;
            }
        }
        self.judge_the_end();
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Start(node) => self.start(node),
            What::Timer(node, life) => self.ring(node, life),
            What::Tell(node, life, event) => {
                if self.lives(node, life) {
                    self.tell(node, *event);
                }
            }
            What::Disk(node, life) => self.disk_done(node, life),
            What::Net(event) => self.net_event(event),
            What::Knock(end) => self.knock(end),
            What::Accepted(end) => self.accept_end(end),
            What::Established(end) => self.established(end),
            What::Plan(step) => self.carry_out(step),
            What::Second => self.second(),
        }
        self.collect_net();
    }

    fn everybody_is_done(&self) -> bool {
        self.stats.unfinished == 0
    }

    pub(crate) fn must_finish(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.node_ids()
            .filter(|node| self.nodes[node.index()].spec.must_finish)
    }

    pub(crate) fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    fn put(&mut self, at: Instant, what: What) {
        let order = self.next;
        self.next += 1;
        self.queue.push(Reverse(Entry { at, order, what }));
    }

    fn put_event(&mut self, at: Instant, node: NodeId, event: Event) {
        let life = self.nodes[node.index()].life;
        self.put(at, What::Tell(node, life, Box::new(event)));
    }

    fn collect_net(&mut self) {
        let Self {
            net, queue, next, ..
        } = self;
        for (at, event) in net.take_events() {
            let order = *next;
            *next += 1;
            let what = What::Net(event);
            queue.push(Reverse(Entry { at, order, what }));
        }
    }

    fn lives(&self, node: NodeId, life: u32) -> bool {
        let node = &self.nodes[node.index()];
        node.life == life && !matches!(node.mind, Mind::Off)
    }

    /// Tells a session what happened and does what it says.
    fn tell(&mut self, node: NodeId, event: Event) {
        let now = self.now;
        let state = &mut self.nodes[node.index()];
        let Mind::Session(session) = &mut state.mind else {
            return;
        };
        self.trace.on_event(now, node, &event);
        if let Event::PeerClosed { peer, .. } = &event {
            // From now on the session must not name it.
            self.sides[peer.0 as usize] = Side::default();
            let other = self.net.node(end_of(*peer).other());
            if let Some(count) = state.links.get_mut(&other) {
                *count -= 1;
                state.links.retain(|_, count| *count > 0);
            }
        }
        state.told += 1;
        let dial_failed = matches!(event, Event::DialFailed { .. });
        session.handle(now, event);
        if dial_failed {
            let dials = &mut self.nodes[node.index()].dials;
            *dials = dials.saturating_sub(1);
        }
        self.obey(node);
        self.crash_if_due(node);
    }

    /// Does what the session says and sets its timer.
    fn obey(&mut self, node: NodeId) {
        loop {
            let Mind::Session(session) = &mut self.nodes[node.index()].mind else {
                return;
            };
            let Some(action) = session.poll_action() else {
                break;
            };
            self.act(node, action);
        }
        if self.trace.events().is_multiple_of(self.check_every)
            && let Mind::Session(session) = &self.nodes[node.index()].mind
        {
            session.check_invariants();
        }
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node.index()];
        let Mind::Session(session) = &state.mind else {
            return;
        };
        let Some(deadline) = session.deadline() else {
            return;
        };
        let at = deadline.max(now);
        if state.timer.is_none_or(|timer| at < timer) {
            state.timer = Some(at);
            let life = state.life;
            self.put(at, What::Timer(node, life));
        }
    }

    fn ring(&mut self, node: NodeId, life: u32) {
        let now = self.now;
        if !self.lives(node, life) || self.nodes[node.index()].timer != Some(now) {
            return;
        }
        let state = &mut self.nodes[node.index()];
        state.timer = None;
        let Mind::Session(session) = &mut state.mind else {
            return;
        };
        if session.deadline().is_none_or(|deadline| deadline > now) {
            return self.set_timer(node);
        }
        state.ticks = match state.ticks {
            (at, count) if at == now => (at, count + 1),
            _ => (now, 1),
        };
        if state.ticks.1 > TICKS_MAX {
            return self.verdicts.fail(Oracle::TimersMoveOn, || {
                format!("{node:?} ticks for ever at {} us", now.as_micros())
            });
        }
        self.trace.on_tick(now, node);
        session.tick(now);
        self.obey(node);
    }

    fn script(&mut self, node: NodeId, play: impl FnOnce(&mut dyn Script, &mut Io<'_>)) {
        let Mind::Script(script) = &mut self.nodes[node.index()].mind else {
            return;
        };
        let mut io = Io {
            now: self.now,
            rng: &mut self.rng,
            layout: &self.content.layout,
            metadata_len: self.content.info.len() as u32,
            acts: Vec::new(),
        };
        play(script.as_mut(), &mut io);
        let acts = io.acts;
        for act in acts {
            match act {
                Act::Send(peer, message) => self.net.send(self.now, end_of(peer), message),
                Act::Block(peer, run, tag) => {
                    let tags = vec![tag; usize::from(run.count())];
                    self.net
                        .serve(self.now, end_of(peer), run, Some(tags.into_boxed_slice()));
                }
            }
        }
    }

    /// Once a second: counters, scripts, and the steps of the plan that wait for something.
    fn second(&mut self) {
        self.put(self.now + SECOND, What::Second);
        for node in self.node_ids() {
            let up = self.net.payload_up(node);
            let connections = self.net.ends(node).len();
            self.nodes[node.index()].stats.on_second(up, connections);
            if matches!(self.nodes[node.index()].mind, Mind::Script(_)) {
                for end in self.net.ends(node).to_vec() {
                    self.script(node, |script, io| script.second(peer_key(end), io));
                }
            }
        }
        let is_due = self
            .stats
            .islands
            .len()
            .is_multiple_of(self.islands_every());
        let islands = match self.stats.islands.last() {
            Some(&last) if !is_due => last,
            Some(_) | None => self.islands(),
        };
        self.stats.islands.push(islands);
        self.snapshot();
    }

    fn snapshot(&mut self) {
        let second = self.now.since(Instant::START).as_secs();
        let Some(record) = &mut self.record else {
            return;
        };
        if !record.is_due(second) {
            return;
        }
        let nodes = (0..).zip(&self.nodes).map(|(node, state)| NodeView {
            node: NodeId(node),
            must_finish: state.spec.must_finish,
            complete: state.stats.completed_at.is_some(),
            downloaded: state.stats.downloaded,
            disk: matches!(state.mind, Mind::Session(_)).then_some(&state.disk),
        });
        record.snapshot(second, self.content.layout.pieces(), nodes);
    }

    /// Seconds between two looks at who is connected with whom: it costs a visit to every
    /// connection, so a big swarm is looked at seldom.
    fn islands_every(&self) -> usize {
        self.nodes.len().div_ceil(FINE_NODES_MAX)
    }

    /// Groups of running honest nodes that are connected with each other.
    fn islands(&self) -> usize {
        let running = |node: NodeId| matches!(self.nodes[node.index()].mind, Mind::Session(_));
        let mut seen = vec![false; self.nodes.len()];
        let mut islands = 0;
        for start in self.node_ids().filter(|&node| running(node)) {
            if seen[start.index()] {
                continue;
            }
            islands += 1;
            let mut edge = vec![start];
            while let Some(node) = edge.pop() {
                if std::mem::replace(&mut seen[node.index()], true) {
                    continue;
                }
                let neighbours = self
                    .net
                    .ends(node)
                    .iter()
                    .map(|end| self.net.node(end.other()));
                edge.extend(neighbours.filter(|&n| running(n) && !seen[n.index()]));
            }
        }
        islands
    }

    fn judge_the_end(&mut self) {
        for node in self.node_ids() {
            self.compare_stalls(node);
            let pieces = self.content.layout.pieces();
            let state = &self.nodes[node.index()];
            if let Mind::Session(session) = &state.mind {
                session.check_invariants();
            }
            let whole = state.disk.pieces_whole();
            if state.spec.must_finish {
                let finished = state.stats.completed_at.is_some();
                self.verdicts
                    .expect(finished, Oracle::EverybodyFinishes, || {
                        format!("{node:?} has {whole} of {pieces} pieces")
                    });
            }
            for complaint in &state.disk.complaints {
                self.verdicts.fail(Oracle::OnlyTruthOnDiskIsClaimed, || {
                    format!("{node:?}: {complaint}")
                });
            }
        }
    }

    /// Honest, and what it read from its disk was what it wrote.
    pub(crate) fn is_blameless(&self, node: NodeId) -> bool {
        self.is_honest(node) && !self.nodes[node.index()].disk.has_rotten()
    }

    pub(crate) fn is_honest(&self, node: NodeId) -> bool {
        match self.nodes[node.index()].spec.role {
            Role::Honest => true,
            Role::Hostile(_) => false,
        }
    }

    fn watch(&mut self, end: EndId) -> Option<&mut Watch> {
        self.sides.get_mut(end.0 as usize)?.watch.as_deref_mut()
    }

    /// Whether what this node asks for and answers is judged, block by block.
    fn is_watched(&self, node: NodeId) -> bool {
        node.0.is_multiple_of(self.watch_every) || self.nodes[node.index()].spec.observed
    }

    /// What `node` shows to `other`.
    fn handshake(&self, node: NodeId, other: NodeId) -> Handshake {
        let mut reserved = Reserved::OURS;
        if !self.both_fast(node, other) {
            reserved.0[7] &= !FAST_BIT;
        }
        Handshake {
            info_hash: self.content.info_hash,
            peer_id: peer_id(node, self.nodes[node.index()].life),
            reserved,
        }
    }

    fn both_fast(&self, a: NodeId, b: NodeId) -> bool {
        [a, b]
            .iter()
            .all(|node| self.nodes[node.index()].spec.speaks_fast)
    }
}

/// Every so many nodes are watched.
fn watch_every(nodes: usize, is_fine: bool) -> u32 {
    let watched = if is_fine { FINE_NODES_MAX } else { WATCHED };
    nodes.div_ceil(watched) as u32
}

pub(crate) fn end_of(peer: PeerKey) -> EndId {
    EndId(peer.0 as u32)
}

pub(crate) fn peer_key(end: EndId) -> PeerKey {
    PeerKey(u64::from(end.0))
}

/// Every life of a node has an id of its own, as every start of a process has.
fn peer_id(node: NodeId, life: u32) -> PeerId {
    let mut id = *b"-DL0100-000000000000";
    id[8..12].copy_from_slice(&node.0.to_be_bytes());
    id[12..16].copy_from_slice(&life.to_be_bytes());
    PeerId::new(id)
}
