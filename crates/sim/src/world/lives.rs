//! Nodes that start, die, start again and leave, and everything else that a plan does.

use dunlin_engine::command::{AddMagnet, AddTorrent};
use dunlin_engine::config::Config;
use dunlin_engine::reason::CloseReason;
use dunlin_engine::resume::Resume;
use dunlin_engine::session::Session;
use dunlin_engine::{Command, Event, PeerAddr};
use dunlin_metainfo::Bitfield;
use dunlin_proto::time::Instant;

use super::{Mind, What, World, peer_id};
use crate::disk::Disk;
use crate::net::{EndId, NodeId};
use crate::plan::{Do, Step, When};
use crate::scenario::{Role, Stay, TORRENT};
use crate::tracker::listen_addr;

/// The one tracker of the world.
const TRACKER_URL: &str = "http://tracker.sim/announce";

/// Addresses that a misbehaving node dials.
const HOSTILE_DIALS: usize = 40;

impl World {
    pub(super) fn start(&mut self, node: NodeId) {
        if !matches!(self.nodes[node.index()].mind, Mind::Off) {
            return;
        }
        self.nodes[node.index()].life += 1;
        match self.nodes[node.index()].spec.role {
            Role::Honest => self.start_session(node),
            Role::Hostile(kind) => {
                let rates = self.nodes[node.index()].spec.rates;
                let script = kind.script(rates);
                let dials = script.dials();
                self.nodes[node.index()].mind = Mind::Script(script);
                self.tracker.register(node, 0);
                if dials {
                    let mut targets = self.tracker.some_peers(node, &mut self.rng, HOSTILE_DIALS);
                    // Among themselves they would only cost time.
                    targets.retain(|&target| self.is_honest(target));
                    for target in targets {
                        self.dial_from(node, PeerAddr::Tcp(listen_addr(target)));
                    }
                }
            }
        }
    }

    fn start_session(&mut self, node: NodeId) {
        let rng = self.rng.fork();
        let params = self.params(node);
        self.open_lulls(node, &params.resume.written);
        let state = &mut self.nodes[node.index()];
        state.disk.forget_unclaimed(&params.resume);
        let config = Config {
            peer_id: peer_id(node, state.life),
            ..state.spec.config.clone()
        };
        state.mind = Mind::Session(Box::new(Session::new(config, rng, self.now)));
        state.timer = None;
        state.last_job = None;
        state.links.clear();
        state.unwritten = 0;
        state.requested = 0;
        state.dials = 0;
        state.told = 0;
        state.lies.clear();
        if let (Stay::AfterJoining(time), 1) = (state.spec.stays, state.life) {
            let vanish = Do::Kill {
                node,
                restart: None,
                power_cut: false,
            };
            self.put(self.now + time, What::Plan(vanish));
        }
        let add = if self.nodes[node.index()].spec.from_magnet {
            Command::AddMagnet {
                torrent: TORRENT,
                params: Box::new(AddMagnet {
                    info_hash: params.info_hash,
                    trackers: params.trackers,
                    peers: params.peers,
                    limits: params.limits,
                }),
            }
        } else {
            Command::Add {
                torrent: TORRENT,
                params: Box::new(params),
            }
        };
        self.tell(node, Event::Command(add));
    }

    /// A magnet knows now what it is.
    pub(super) fn promote(&mut self, node: NodeId) {
        let params = Box::new(self.params(node));
        let torrent = TORRENT;
        // From the queue: this is one of the session's own actions.
        let add = Event::Command(Command::Add { torrent, params });
        self.put_event(self.now, node, add);
    }

    fn params(&self, node: NodeId) -> AddTorrent {
        let state = &self.nodes[node.index()];
        let spec = &state.spec;
        let known = spec.known.iter();
        AddTorrent {
            info_hash: self.content.info_hash,
            layout: self.content.layout.clone(),
            piece_digests: self.content.piece_digests.clone(),
            private: spec.private,
            info: self.content.info.clone(),
            trackers: if spec.uses_tracker {
                vec![vec![TRACKER_URL.to_owned()]]
            } else {
                Vec::new()
            },
            resume: self.resume(node),
            priorities: Vec::new(),
            peers: known
                .map(|&peer| PeerAddr::Tcp(listen_addr(peer)))
                .collect(),
            order: spec.order,
            limits: spec.limits,
            seed_when_complete: spec.seed_when_complete,
        }
    }

    fn resume(&self, node: NodeId) -> Resume {
        let state = &self.nodes[node.index()];
        match (&state.spec.has, state.life) {
            (Some(pieces), 1) => Resume {
                written: pieces.clone(),
                synced: pieces.clone(),
                ..Resume::empty(pieces.len())
            },
            _ => state.disk.resume(state.lost_power),
        }
    }

    /// The process ends between two events: no goodbye.
    fn kill(&mut self, node: NodeId, power_cut: bool) {
        self.compare_stalls(node);
        for end in self.net.ends(node).to_vec() {
            self.net.close(self.now, end);
        }
        let state = &mut self.nodes[node.index()];
        state.mind = Mind::Off;
        state.lost_power = power_cut;
        if power_cut {
            state.disk.power_cut(&mut self.rng);
        } else {
            state.disk.crash();
        }
        let layout = self.content.layout.clone();
        for piece in layout.all_pieces() {
            if !state.disk.has_piece(piece.get()) {
                state.stats.on_piece_lost(&layout, piece);
            }
        }
        let claimed = state.disk.resume(power_cut).written;
        let forgotten = (0..layout.pieces())
            .filter(|&piece| state.disk.has_piece(piece) && !claimed.get(piece))
            .count();
        state.stats.forgotten_pieces += forgotten as u32;
        state.stats.pieces_at_kill = claimed.count_ones();
    }

    /// The process of a node that crashes again and again.
    pub(super) fn crash_if_due(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.index()];
        let Some(crashes) = state.spec.crashes else {
            return;
        };
        if state.told != crashes.every || state.crashed >= crashes.at_most {
            return;
        }
        state.crashed += 1;
        let kill = Do::Kill {
            node,
            restart: Some(crashes.down_for),
            power_cut: crashes.power_cut,
        };
        // From the queue: between two events.
        self.put(self.now, What::Plan(kill));
    }

    fn flip_bits(&mut self, node: NodeId, pieces: &[u32]) {
        let layout = self.content.layout.clone();
        for piece in pieces.iter().filter_map(|&piece| layout.piece(piece)) {
            let blocks = u64::from(layout.blocks_in(piece));
            let block = self.rng.below(blocks) as u16;
            let disk = self.disk_of(node);
            if disk.has_piece(piece.get()) {
                disk.flip_bit(piece.get(), block);
            }
        }
    }

    pub(super) fn gone(&mut self, node: NodeId) {
        let waiting = self.nodes[node.index()].disk.jobs_waiting();
        self.verdicts
            .expect(waiting == 0, crate::oracles::Oracle::JobsAreOrderly, || {
                format!("{node:?} is gone with {waiting} jobs out")
            });
        self.nodes[node.index()].gone = true;
    }

    pub(crate) fn seeds(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.node_ids().filter(|node| {
            let spec = &self.nodes[node.index()].spec;
            spec.role == Role::Honest && spec.has.as_ref().is_some_and(Bitfield::is_full)
        })
    }

    pub(super) fn plan_timed_steps(&mut self) {
        let (timed, waiting): (Vec<Step>, Vec<Step>) = std::mem::take(&mut self.plan)
            .into_iter()
            .partition(|step| matches!(step.when, When::At(_)));
        self.plan = waiting;
        for step in timed {
            if let When::At(time) = step.when {
                self.put(Instant::START + time, What::Plan(step.what));
            }
        }
        self.stats.unfinished = self.must_finish().count();
    }

    /// Something changed at this node: is a step of the plan due?
    pub(super) fn look_at_plan(&mut self, changed: NodeId) {
        if self.plan.is_empty() {
            return;
        }
        let mut due = Vec::new();
        let plan = std::mem::take(&mut self.plan);
        for step in plan {
            let is_due = match step.when {
                When::At(_) => false,
                When::Has { node, pieces } => {
                    node == changed && self.nodes[node.index()].disk.pieces_whole() >= pieces
                }
                When::Sent { node, bytes } => node == changed && self.net.payload_up(node) >= bytes,
                When::Replicated => self.stats.seed_bytes_at_first_replica.is_some(),
                When::Complete(node) => {
                    node == changed && self.nodes[node.index()].stats.completed_at.is_some()
                }
            };
            if is_due {
                due.push(step.what);
            } else {
                self.plan.push(step);
            }
        }
        // Carried out from the queue: this may be inside a session's own actions.
        for step in due {
            self.put(self.now, What::Plan(step));
        }
    }

    pub(super) fn carry_out(&mut self, step: Do) {
        match step {
            Do::Kill {
                node,
                restart,
                power_cut,
            } => {
                self.kill(node, power_cut);
                if let Some(after) = restart {
                    self.put(self.now + after, What::Start(node));
                }
            }
            Do::Start(node) => self.start(node),
            Do::Leave(node) => {
                self.compare_stalls(node);
                self.command(node, Command::Remove { torrent: TORRENT });
            }
            Do::Resume(node) => self.command(node, Command::Resume { torrent: TORRENT }),
            Do::Limit(node, limits) => {
                let torrent = TORRENT;
                self.command(node, Command::SetTorrentLimits { torrent, limits });
            }
            Do::Order(node, order) => {
                let torrent = TORRENT;
                self.command(node, Command::SetOrder { torrent, order });
            }
            Do::DiskFails(node, kind) => self.disk_of(node).fail_from_now(kind),
            Do::DiskRepaired(node) => self.disk_of(node).set_fault(None),
            Do::Stall(node, time) => self.net.stall(node, self.now + time),
            Do::FlipBits(node, pieces) => self.flip_bits(node, &pieces),
            Do::Partition(side) => self.cut(side),
            Do::Heal => self.partition = None,
            Do::TrackerDown => self.tracker.set_down(true),
            Do::TrackerUp => self.tracker.set_down(false),
        }
    }

    fn command(&mut self, node: NodeId, command: Command) {
        self.tell(node, Event::Command(command));
    }

    fn disk_of(&mut self, node: NodeId) -> &mut Disk {
        &mut self.nodes[node.index()].disk
    }

    pub(super) fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.partition
            .as_ref()
            .is_some_and(|side| side.contains(&a) != side.contains(&b))
    }

    fn cut(&mut self, side: Vec<NodeId>) {
        self.partition = Some(side);
        for node in self.node_ids() {
            let cut: Vec<EndId> = self
                .net
                .ends(node)
                .iter()
                .copied()
                .filter(|end| self.is_cut(node, self.net.node(end.other())))
                .collect();
            for end in cut {
                self.close_end(end, CloseReason::TimedOut);
            }
        }
    }
}
