//! What a session wants done, done in the imaginary world, and judged on the way.

use std::time::Duration;

use dunlin_engine::event::ConnKey;
use dunlin_engine::extensions::UT_PEX;
use dunlin_engine::reason::CloseReason;
use dunlin_engine::{Action, Alert, DiskJob, DiskOp, Event, PeerAddr, PeerKey};
use dunlin_metainfo::{Bitfield, Run};
use dunlin_proto::peer::ut_metadata::METADATA_PIECE_LEN;
use dunlin_proto::peer::{Message, MetadataMessage, PexMessage, ut_pex};
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::AnnounceRequest;

use super::{Dialling, Mind, Side, What, World, end_of};
use crate::hostile::metadata_asked;
use crate::net::{EndId, NodeId};
use crate::oracles::Oracle;
use crate::plan::Do;
use crate::record::Change;
use crate::scenario::{Stay, TORRENT};
use crate::stats::Preferred;
use crate::tracker::node_at;

/// A dial into nothing takes this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A tracker's answer takes this long, one that is down fails after as long.
const TRACKER_DELAY: Duration = Duration::from_millis(100);

/// Bytes beyond its credit that a session may hand over: one run at most.
const HANDED_SLACK: u64 = 1 << 20;

/// Bytes that a session may hand over to one connection (architecture.md 4): this, or 250 ms of
/// the peer's rate.
const HANDED_MAX: u64 = 256 * 1024;

/// What a session may ask for beyond its memory ceiling: one run.
const BUFFER_SLACK: u64 = 1 << 20;

impl World {
    pub(super) fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Dial { remote, .. } => self.dial(node, remote),
            Action::Accept { conn, .. } => self.accept(node, conn),
            Action::Refuse { conn, .. } => self.refuse(conn),
            Action::Send { peer, message } => self.send(node, peer, message),
            Action::Request { peer, run } => self.request(node, peer, run),
            Action::Cancel { peer, run } => self.cancel(node, peer, run),
            Action::Serve { peer, run } => self.serve(node, peer, run),
            Action::Unserve { peer, run } => self.unserve(node, peer, run),
            Action::ServeMetadata { peer, id, piece } => self.serve_metadata(node, peer, id, piece),
            Action::BroadcastHave { piece, .. } => {
                let whole = self.nodes[node.index()].disk.has_piece(piece.get());
                self.verdicts
                    .expect(whole, Oracle::OnlyTruthOnDiskIsClaimed, || {
                        format!("{node:?} announces piece {piece} that is not on its disk")
                    });
                self.net.broadcast_have(self.now, node, piece);
            }
            Action::Close { peer, reason } => self.close(node, peer, reason),
            Action::Disk(job) => self.submit(node, job),
            Action::Discard { bufs: _ } => {}
            Action::Announce {
                torrent,
                tracker,
                request,
                ..
            } => {
                let result = self.announce(node, &request);
                let event = Event::TrackerReplied {
                    torrent,
                    tracker,
                    result,
                };
                self.put_event(self.now + TRACKER_DELAY, node, event);
            }
            Action::Metadata { info, .. } => {
                let right = info == self.content.info;
                self.verdicts.expect(right, Oracle::NoBadPieceAccepted, || {
                    format!("{node:?} takes other bytes for the metadata")
                });
                self.promote(node);
            }
            Action::TorrentGone { .. } => self.gone(node),
            Action::Alert(alert) => self.alert(node, alert),
        }
    }

    pub(super) fn announce(
        &mut self,
        node: NodeId,
        request: &AnnounceRequest,
    ) -> Result<dunlin_proto::tracker::AnnounceResponse, dunlin_engine::event::TrackerFailure> {
        self.tracker.announce(node, request, &mut self.rng)
    }

    /// The end of a peer that this node may talk to.
    fn own_end(&mut self, node: NodeId, peer: PeerKey) -> Option<EndId> {
        let end = end_of(peer);
        let side = self.sides.get(end.0 as usize);
        let own = side.is_some_and(|side| side.is_known) && self.net.node(end) == node;
        self.verdicts.expect(own, Oracle::KeysAreAlive, || {
            format!("{node:?} names {peer:?}, which it never met or was told is gone")
        });
        (own && self.net.is_open(end)).then_some(end)
    }

    fn dial(&mut self, node: NodeId, remote: PeerAddr) {
        let state = &mut self.nodes[node.index()];
        state.dials += 1;
        let (dials, max) = (state.dials, state.spec.config.dials_max);
        self.verdicts
            .expect(dials <= max, Oracle::QueuesAreBounded, || {
                format!("{node:?} has {dials} dials under way")
            });
        self.dial_from(node, remote);
    }

    pub(super) fn dial_from(&mut self, node: NodeId, remote: PeerAddr) {
        let target = node_at(remote).filter(|target| target.index() < self.nodes.len());
        let now = self.now;
        let fail = |reason| Event::DialFailed {
            torrent: TORRENT,
            remote,
            reason,
        };
        let Some(target) = target.filter(|&target| !self.is_cut(node, target)) else {
            return self.put_event(now + DIAL_TIMEOUT, node, fail(CloseReason::TimedOut));
        };
        let end = self.net.add_connection(node, target);
        self.sides.resize_with(end.0 as usize + 2, Side::default);
        let latency = self.net.latency(end);
        if matches!(self.nodes[target.index()].mind, Mind::Off) {
            let refused = fail(CloseReason::ConnectionRefused);
            return self.put_event(now + latency * 2, node, refused);
        }
        let life = |node: NodeId| (node, self.nodes[node.index()].life);
        let dialling = Dialling {
            from: life(node),
            to: life(target),
        };
        self.dials.insert(end.connection(), dialling);
        // One way for each: SYN, SYN/ACK, our handshake.
        self.put(now + latency * 3, What::Knock(end));
    }

    fn accept(&mut self, node: NodeId, conn: ConnKey) {
        let end = EndId(conn.0 as u32 * 2 + 1);
        let waiting = self.dials.contains_key(&end.connection());
        self.verdicts.expect(waiting, Oracle::KeysAreAlive, || {
            format!("{node:?} accepts {conn:?}, which is not waiting")
        });
        if waiting {
            // From the queue: this is one of the session's own actions.
            self.put(self.now, What::Accepted(end));
        }
    }

    fn refuse(&mut self, conn: ConnKey) {
        let end = EndId(conn.0 as u32 * 2);
        if let Some(dialling) = self.dials.remove(&end.connection()) {
            let to = dialling.to.0;
            self.fail_dial(end, dialling.from, to, CloseReason::RemoteClosed);
        }
    }

    fn send(&mut self, node: NodeId, peer: PeerKey, message: Message) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        let gives = matches!(message, Message::Unchoke | Message::AllowedFast { .. });
        if gives && self.nodes[node.index()].spec.rides_free {
            return;
        }
        self.judge_claims(node, &message);
        if let Message::Extended { id, payload } = &message {
            self.judge_exchange(node, end, *id, payload);
        }
        if metadata_asked(&message).is_some() {
            let to = self.net.node(end.other());
            let second = self.now.since(Instant::START).as_secs();
            let asked = &mut self.nodes[node.index()].stats.metadata_asked;
            *asked.entry((to, second)).or_default() += 1;
        }
        if let Some(watch) = self.sides[end.0 as usize].watch.as_deref_mut() {
            watch.on_send(&message, &self.content.layout);
        }
        self.net.send(self.now, end, message);
    }

    fn serve_metadata(&mut self, node: NodeId, peer: PeerKey, id: u8, piece: u32) {
        let info = &self.content.info;
        let total_size = info.len() as u32;
        let start = (piece * METADATA_PIECE_LEN) as usize;
        let bytes = info.get(start..).unwrap_or_default();
        let bytes = bytes.chunks(METADATA_PIECE_LEN as usize).next();
        let data = MetadataMessage::Data {
            piece,
            total_size,
            bytes: bytes.unwrap_or_default().to_vec(),
        };
        let payload = data.encode();
        self.send(node, peer, Message::Extended { id, payload });
        self.put_event(self.now, node, Event::MetadataServed { peer });
    }

    /// BEP 11: at most 50 and 50 a minute, first hand only; BEP 27: never of a private torrent.
    fn judge_exchange(&mut self, node: NodeId, end: EndId, id: u8, payload: &[u8]) {
        let now = self.now;
        let said = match id {
            0 => dunlin_proto::peer::ExtendedHandshake::decode(payload)
                .map(|handshake| handshake.m.contains_key(ut_pex::NAME)),
            // Every session wants the same ids.
            UT_PEX => Ok(true),
            _ => Ok(false),
        };
        let spec = &self.nodes[node.index()].spec;
        let is_silent = spec.private || !spec.config.pex;
        let polite = Oracle::PeerExchangeIsPolite;
        self.verdicts.expect(
            said.is_ok() && !(is_silent && said == Ok(true)),
            polite,
            || format!("{node:?} says {said:?} of peer exchange"),
        );
        if id != UT_PEX {
            return;
        }
        let Ok(message) = PexMessage::decode(payload) else {
            return self
                .verdicts
                .fail(polite, || format!("{node:?} tells nonsense of peers"));
        };
        let to = self.net.node(end.other());
        let first_hand = message.added.iter().all(|peer| {
            let peer = node_at(PeerAddr::Tcp(peer.addr));
            peer.is_some_and(|peer| {
                self.nodes[node.index()].links.contains_key(&peer) && peer != to
            })
        });
        self.verdicts.expect(first_hand, polite, || {
            format!("{node:?} tells of peers that it is not connected with")
        });
        self.nodes[node.index()].stats.pex_sent += 1;
        let Some(watch) = self.watch(end) else {
            return;
        };
        let last = watch.last_pex.replace(now);
        let in_time = last.is_none_or(|last| now.since(last) >= dunlin_engine::pex::INTERVAL);
        self.verdicts.expect(in_time, polite, || {
            format!("{node:?} tells of peers more than once a minute")
        });
    }

    fn judge_claims(&mut self, node: NodeId, message: &Message) {
        let disk = &self.nodes[node.index()].disk;
        let pieces = self.content.layout.pieces();
        let claimed = match message {
            Message::Bitfield(bytes) => Bitfield::from_wire(bytes, pieces),
            Message::HaveAll => Some(Bitfield::full(pieces)),
            Message::Have { piece } => {
                let mut one = Bitfield::new(pieces);
                one.set(*piece);
                Some(one)
            }
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::SuggestPiece { .. }
            | Message::HaveNone
            | Message::RejectRequest(_)
            | Message::AllowedFast { .. }
            | Message::Extended { .. } => return,
        };
        let holds = claimed.is_some_and(|bits| bits.iter_ones().all(|piece| disk.has_piece(piece)));
        self.verdicts
            .expect(holds, Oracle::OnlyTruthOnDiskIsClaimed, || {
                format!("{node:?} claims by {message:?} what is not on its disk")
            });
    }

    fn request(&mut self, node: NodeId, peer: PeerKey, run: Run) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        self.nodes[node.index()].stats.requests += u64::from(run.count());
        if self.watch(end).is_some() {
            self.judge_request(node, end, run);
        }
        self.net.request(self.now, end, run);
    }

    fn judge_request(&mut self, node: NodeId, end: EndId, run: Run) {
        let Some(watch) = self.watch(end) else {
            return;
        };
        let verdict = watch.on_request(run);
        let open = watch.open_requests();
        let bytes = u64::from(self.content.layout.run_len(run));
        let now = self.now;
        let state = &mut self.nodes[node.index()];
        state.requested += bytes;
        let buffered = state.requested + state.unwritten;
        state.stats.buffered_max = state.stats.buffered_max.max(buffered);
        let config = &state.spec.config;
        if let Err(detail) = verdict {
            self.verdicts.fail(Oracle::RequestsAreLegal, || {
                format!("{node:?} at {} us: {detail}", now.as_micros())
            });
        }
        let within =
            open <= config.requests_max && buffered <= config.buffer_bytes_max + BUFFER_SLACK;
        self.verdicts.expect(within, Oracle::QueuesAreBounded, || {
            format!("{node:?} has {open} requests at one peer and {buffered} bytes buffered")
        });
    }

    fn cancel(&mut self, node: NodeId, peer: PeerKey, run: Run) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        if let Some(watch) = self.watch(end) {
            let open = watch.on_cancel(run);
            self.unrequest(node, run, open);
        }
        self.net.cancel(self.now, end, run);
    }

    /// So many requests of the run, or of blocks like its, are open no more.
    pub(super) fn unrequest(&mut self, node: NodeId, run: Run, blocks: usize) {
        let bytes = u64::from(self.content.layout.run_len(run));
        let share = bytes * blocks as u64 / u64::from(run.count().max(1));
        let requested = &mut self.nodes[node.index()].requested;
        *requested = requested.saturating_sub(share);
    }

    fn serve(&mut self, node: NodeId, peer: PeerKey, run: Run) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        if self.watch(end).is_some() {
            self.judge_serve(node, end, run);
        }
        match self.read(node, run) {
            Ok(tags) => self.net.serve(self.now, end, run, tags),
            Err(block) => self.verdicts.fail(Oracle::OnlyTruthOnDiskIsClaimed, || {
                format!("{node:?} serves block {block} of {run:?}, never written")
            }),
        }
    }

    fn judge_serve(&mut self, node: NodeId, end: EndId, run: Run) {
        let bytes = u64::from(self.content.layout.run_len(run));
        let rate = self.net.rates(node).up.unwrap_or(1 << 30);
        let Some(watch) = self.watch(end) else {
            return;
        };
        let asked = watch.on_serve(run);
        let told = watch.was_told(run.piece().get());
        watch.serving += bytes;
        watch.runs_serving.push(run);
        let handed = watch.serving;
        self.verdicts.expect(asked, Oracle::ServesAreLegal, || {
            format!("{node:?} serves {run:?} that nobody waits for")
        });
        // What a leech gets on its way it tells to all at once.
        let has = self.nodes[node.index()].spec.has.as_ref();
        let told = told || !has.is_some_and(Bitfield::is_full);
        self.verdicts.expect(told, Oracle::ToldBeforeServed, || {
            format!("{node:?} serves {run:?} and never said that it has it")
        });
        let max = HANDED_MAX.max(rate / 4) + HANDED_SLACK;
        self.verdicts
            .expect(handed <= max, Oracle::QueuesAreBounded, || {
                format!("{node:?} handed {handed} bytes to one connection")
            });
        let stats = &mut self.nodes[node.index()].stats;
        stats.handed_max = stats.handed_max.max(handed);
    }

    /// The tags of the run as the disk has them; `None` when all are honest.
    fn read(&self, node: NodeId, run: Run) -> Result<Option<Box<[u64]>>, u16> {
        let disk = &self.nodes[node.index()].disk;
        let piece = run.piece().get();
        if disk.reads_true(piece) {
            return Ok(None);
        }
        let tags = run
            .blocks()
            .map(|block| disk.tag(piece, block).ok_or(block));
        tags.collect::<Result<Box<[u64]>, u16>>().map(Some)
    }

    fn unserve(&mut self, node: NodeId, peer: PeerKey, run: Run) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        if self.net.unserve(end, run) {
            if let Some(watch) = self.watch(end) {
                watch.on_unserved(run);
            }
            // From the queue: this is one of the session's own actions.
            if let Some(event) = self.served(end, run, 0) {
                self.put_event(self.now, node, event);
            }
        }
    }

    /// A run left the queue of its connection, sent or dropped. Says what its owner is to hear.
    pub(super) fn served(&mut self, end: EndId, run: Run, bytes: u32) -> Option<Event> {
        let len = u64::from(self.content.layout.run_len(run));
        if !self.sides[end.0 as usize].is_known {
            return None;
        }
        if let Some(watch) = self.watch(end) {
            watch.serving = watch.serving.saturating_sub(len);
            let at = watch.runs_serving.iter().position(|&other| other == run);
            if let Some(at) = at {
                watch.runs_serving.swap_remove(at);
            }
        }
        let peer = super::peer_key(end);
        Some(Event::Served { peer, run, bytes })
    }

    fn close(&mut self, node: NodeId, peer: PeerKey, reason: CloseReason) {
        let Some(end) = self.own_end(node, peer) else {
            return;
        };
        let remote = self.net.node(end.other());
        let accuses = matches!(
            reason,
            CloseReason::Violation(_)
                | CloseReason::Banned
                | CloseReason::TooManyRejects
                | CloseReason::Unrequested
                | CloseReason::RequestFlood
                | CloseReason::PexFlood
        );
        if accuses && self.is_blameless(remote) {
            self.stats.false_accusations += 1;
            self.verdicts.fail(Oracle::HonestPeersAreNotBanned, || {
                format!("{node:?} closes the connection to honest {remote:?}: {reason}")
            });
        }
        self.close_end(end, reason);
    }

    fn submit(&mut self, node: NodeId, job: DiskJob) {
        let now = self.now;
        let state = &mut self.nodes[node.index()];
        let fresh = state.last_job.is_none_or(|last| job.id > last);
        let id = job.id;
        state.last_job = Some(id);
        if let DiskOp::Write { run, .. } = &job.op {
            state.unwritten += u64::from(self.content.layout.run_len(*run));
        }
        let at = state.disk.submit(now, job);
        let life = state.life;
        self.put(at, What::Disk(node, life));
        self.verdicts.expect(fresh, Oracle::JobsAreOrderly, || {
            format!("{node:?} uses {id:?} again")
        });
    }

    fn alert(&mut self, node: NodeId, alert: Alert) {
        if self.log {
            let at = self.now.as_secs_f64();
            eprintln!("{at:.6} {node:?} {}", alert.sentence());
        }
        match alert {
            Alert::PieceDone { piece, .. } => self.piece_done(node, piece.get()),
            Alert::PieceFailed { piece, .. } => {
                let bytes = u64::from(self.content.layout.piece_len(piece));
                let stats = &mut self.nodes[node.index()].stats;
                stats.wasted += bytes;
                stats.on_piece_lost(&self.content.layout, piece);
                self.liars_fooled(node, piece.get());
            }
            Alert::PeerBanned { peer, .. } => {
                let Some(banned) = node_at(peer) else {
                    return;
                };
                self.nodes[node.index()].stats.banned.push(banned);
                let guilty = !self.is_blameless(banned);
                self.verdicts
                    .expect(guilty, Oracle::HonestPeersAreNotBanned, || {
                        format!("{node:?} bans honest {banned:?}")
                    });
            }
            Alert::Preferred {
                peers,
                optimistic,
                interested,
                ..
            } => {
                self.preferred(node, &peers, optimistic.and_then(node_at), interested);
            }
            Alert::Choke {
                peer, by, choked, ..
            } => {
                if let (dunlin_engine::alert::Side::Us, Some(peer)) = (by, node_at(peer)) {
                    if let Some(record) = &mut self.record {
                        record.choke(self.now, node, peer, choked);
                    }
                    let chokes = &mut self.nodes[node.index()].stats.chokes;
                    chokes.push((self.now, peer, choked));
                }
            }
            Alert::Complete { .. } => self.complete(node),
            Alert::DiskFailed { .. } => self.nodes[node.index()].stats.disk_failures += 1,
            Alert::Disconnected { peer, .. } => {
                if let Some(peer) = node_at(peer) {
                    self.record_change(node, peer, Change::Gone);
                }
            }
            Alert::Connected { .. }
            | Alert::AlreadyAdded { .. }
            | Alert::Interest { .. }
            | Alert::Listens { .. }
            | Alert::Dialling { .. }
            | Alert::DialFailed { .. }
            | Alert::Refused { .. }
            | Alert::PeerCompleted { .. }
            | Alert::SuperSeeding { .. }
            | Alert::FileCompleted { .. }
            | Alert::MetadataDone { .. }
            | Alert::MetadataFailed { .. }
            | Alert::Announced { .. }
            | Alert::AnnounceFailed { .. }
            | Alert::TrackerWarning { .. }
            | Alert::Stalled { .. }
            | Alert::Flowing { .. } => {}
        }
    }

    fn preferred(
        &mut self,
        node: NodeId,
        peers: &[(PeerAddr, u64)],
        optimistic: Option<NodeId>,
        interested: u32,
    ) {
        self.record_optimistic(node, optimistic);
        let peers = peers.iter();
        let preferred = Preferred {
            at: self.now,
            peers: peers
                .filter_map(|&(peer, rate)| Some((node_at(peer)?, rate)))
                .collect(),
            optimistic,
            interested,
            givers: self.givers(node),
        };
        self.nodes[node.index()].stats.preferred.push(preferred);
    }

    fn record_optimistic(&mut self, node: NodeId, optimistic: Option<NodeId>) {
        if let Some(peer) = optimistic {
            self.record_change(node, peer, Change::Optimistic);
        }
    }

    /// Something between the watched node and another, seen by the watched one.
    fn record_change(&mut self, node: NodeId, peer: NodeId, change: Change) {
        if let Some(record) = &mut self.record
            && record.watched == node
        {
            record.change(self.now, peer, change);
        }
    }

    /// Who is interested in an observed node, and what it gave lately.
    fn givers(&self, node: NodeId) -> Vec<(NodeId, u64)> {
        let state = &self.nodes[node.index()];
        if !state.spec.observed {
            return Vec::new();
        }
        let ends = self.net.ends(node).iter();
        let mut givers: Vec<(NodeId, u64)> = ends
            .filter(|end| {
                let watch = self.sides[end.0 as usize].watch.as_deref();
                watch.is_some_and(|watch| watch.peer_interested)
            })
            .map(|end| self.net.node(end.other()))
            .map(|peer| (peer, state.stats.given_by(self.now, peer)))
            .collect();
        givers.sort_by_key(|&(peer, bytes)| (std::cmp::Reverse(bytes), peer));
        givers
    }

    fn piece_done(&mut self, node: NodeId, piece: u32) {
        let state = &mut self.nodes[node.index()];
        state.stats.pieces.push(piece);
        state.lies.remove(&piece);
        let honest = state.disk.has_piece(piece);
        self.verdicts
            .expect(honest, Oracle::NoBadPieceAccepted, || {
                format!("{node:?} calls piece {piece} done")
            });
        if self.stats.on_piece(piece) {
            let sent = self.seeds().map(|seed| self.net.payload_up(seed)).sum();
            self.stats.seed_bytes_at_first_replica = Some(sent);
        }
        self.look_at_plan(node);
    }

    fn complete(&mut self, node: NodeId) {
        let now = self.now;
        self.end_lulls(node);
        let state = &mut self.nodes[node.index()];
        let whole = state.disk.pieces_whole() == self.content.layout.pieces();
        self.verdicts
            .expect(whole, Oracle::OnlyTruthOnDiskIsClaimed, || {
                format!("{node:?} says it is complete")
            });
        let is_seed = state.spec.has.as_ref().is_some_and(Bitfield::is_full);
        if !is_seed {
            self.finished(node);
        }
        if let Stay::AfterCompletion(time) = self.nodes[node.index()].spec.stays {
            self.put(now + time, What::Plan(Do::Leave(node)));
        }
        self.look_at_plan(node);
    }

    /// A node that came for the content has all of it.
    pub(super) fn finished(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.index()];
        if state.stats.completed_at.is_some() {
            return;
        }
        state.stats.completed_at = Some(self.now);
        if state.spec.must_finish {
            self.stats.unfinished -= 1;
            self.stats.last_completion = Some(self.now);
        }
    }

    /// A piece failed: each who sent a bad block of it fooled the node once.
    fn liars_fooled(&mut self, node: NodeId, piece: u32) {
        let state = &mut self.nodes[node.index()];
        for liar in state.lies.remove(&piece).unwrap_or_default() {
            *state.stats.fooled_by.entry(liar).or_default() += 1;
        }
    }
}
