//! What the network and the disk bring to a node.

use dunlin_engine::event::Direction;
use dunlin_engine::reason::CloseReason;
use dunlin_engine::{DiskResult, Event, PeerAddr};
use dunlin_metainfo::{Block, Run};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::peer::Message;

use super::{Mind, Side, What, World, peer_key};
use crate::content::honest_tag;
use crate::hostile;
use crate::net::{EndId, Handed, NetEvent, NodeId, Wire};
use crate::oracles::{Oracle, Watch};
use crate::plan::Do;
use crate::scenario::{Stay, TORRENT};
use crate::tracker::listen_addr;

impl World {
    pub(super) fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Sent(node) => {
                let mut handed = std::mem::take(&mut self.handed);
                self.net.sent(self.now, node, &mut handed);
                for Handed { end, run, bytes } in handed.drain(..) {
                    if let Some(event) = self.served(end, run, bytes) {
                        self.tell(node, event);
                    }
                }
                self.handed = handed;
                self.look_at_plan(node);
            }
            NetEvent::Arrived(end, wire) => self.arrived(end, wire),
            NetEvent::QuantumArrived(end, mut items) => {
                self.net.arrived(self.now, end, &items);
                for wire in items.drain(..) {
                    self.arrived(end, wire);
                }
                self.net.recycle(items);
            }
            NetEvent::HaveArrived(piece, ends) => {
                for end in ends {
                    if self.net.is_open(end) {
                        let piece = piece.get();
                        self.message_arrived(end, Message::Have { piece });
                    }
                }
            }
        }
    }

    fn arrived(&mut self, end: EndId, wire: Wire) {
        if !self.net.is_open(end) {
            return;
        }
        match wire {
            Wire::Message(message) => self.message_arrived(end, message),
            Wire::Requests(run) => self.requests_arrived(end, run),
            Wire::Cancels(run) => {
                for request in self.requests(run) {
                    self.message_arrived(end, Message::Cancel(request));
                }
            }
            Wire::Blocks { run, tags } => self.blocks_arrived(end, run, tags.as_deref()),
            Wire::Hangup => self.close_end(end, CloseReason::RemoteClosed),
        }
    }

    fn requests(&self, run: Run) -> Vec<dunlin_proto::peer::Request> {
        let blocks = self.content.layout.run_blocks(run);
        blocks.map(hostile::request).collect()
    }

    /// Requests of one run arrive together. In a big swarm the session hears all of them before it
    /// is asked what to do, as if they had come in one read.
    fn requests_arrived(&mut self, end: EndId, run: Run) {
        let node = self.net.node(end);
        if self.is_fine || !matches!(self.nodes[node.index()].mind, Mind::Session(_)) {
            for request in self.requests(run) {
                self.message_arrived(end, Message::Request(request));
            }
            return;
        }
        let (now, peer) = (self.now, peer_key(end));
        let layout = self.content.layout.clone();
        for block in layout.run_blocks(run) {
            let message = Message::Request(hostile::request(block));
            if let Some(watch) = self.watch(end) {
                watch.on_arrival(&message, &layout);
            }
            let Mind::Session(session) = &mut self.nodes[node.index()].mind else {
                return;
            };
            let event = Event::PeerMessage { peer, message };
            self.trace.on_event(now, node, &event);
            session.handle(now, event);
        }
        self.obey(node);
    }

    fn message_arrived(&mut self, end: EndId, message: Message) {
        let node = self.net.node(end);
        if !self.net.is_open(end) {
            return;
        }
        if let Some(watch) = self.sides[end.0 as usize].watch.as_deref_mut() {
            let layout = &self.content.layout;
            let ended = watch.on_arrival(&message, layout);
            if ended > 0
                && let Some(piece) = layout.piece(0)
            {
                // Blocks of the first piece are as long as those of any piece but the last.
                let one = layout.run(piece, 0, 1).expect("a piece has a block");
                self.unrequest(node, one, ended);
            }
        }
        let peer = peer_key(end);
        match &self.nodes[node.index()].mind {
            Mind::Off => {}
            Mind::Session(_) => self.tell(node, Event::PeerMessage { peer, message }),
            Mind::Script(_) => {
                self.script(node, |script, io| script.message(peer, &message, io));
            }
        }
    }

    /// Sorts what was asked for from what was not, as the production stream does. Where nobody
    /// watches, the session sorts.
    fn blocks_arrived(&mut self, end: EndId, run: Run, tags: Option<&[u64]>) {
        let node = self.net.node(end);
        match self.nodes[node.index()].mind {
            Mind::Off => return,
            Mind::Script(_) => return self.script_gets(end, run, tags),
            Mind::Session(_) => {}
        }
        if self.watch(end).is_none() {
            return self.run_arrived(end, run, tags);
        }
        let layout = self.content.layout.clone();
        let peer = peer_key(end);
        let mut expected_from = run.first();
        let stretch = |from: u16, to: u16| layout.run(run.piece(), from, to.checked_sub(from)?);
        let tags_of = |stretch: Run| {
            let from = usize::from(stretch.first() - run.first());
            tags.and_then(|tags| tags.get(from..))
        };
        for block in layout.run_blocks(run) {
            let Some(watch) = self.watch(end) else {
                return;
            };
            let (expected, open) = watch.on_block(run.piece().get(), block.index());
            if expected {
                self.unrequest(node, layout.run_of(block), usize::from(open));
                continue;
            }
            if let Some(before) = stretch(expected_from, block.index()) {
                self.run_arrived(end, before, tags_of(before));
            }
            expected_from = block.index() + 1;
            let len = block.len();
            self.nodes[node.index()].stats.unrequested += u64::from(len);
            self.tell(node, Event::Unrequested { peer, len });
        }
        if let Some(rest) = stretch(expected_from, run.blocks().end) {
            self.run_arrived(end, rest, tags_of(rest));
        }
    }

    fn run_arrived(&mut self, end: EndId, run: Run, tags: Option<&[u64]>) {
        let (node, from) = (self.net.node(end), self.net.node(end.other()));
        let layout = &self.content.layout;
        let state = &mut self.nodes[node.index()];
        if let Some(lulls) = &mut state.lulls {
            lulls.on_payload(self.now);
        }
        state.stats.on_received(layout, run);
        if state.spec.observed {
            state.stats.note_giver(self.now, from, layout.run_len(run));
        }
        let piece = run.piece().get();
        if let Some(tags) = tags
            && (run.blocks().zip(tags)).any(|(block, &tag)| tag != honest_tag(piece, block))
        {
            state.lies.entry(piece).or_default().insert(from);
        }
        let buf = |(at, block): (usize, Block)| {
            let told = tags.and_then(|tags| tags.get(at));
            let honest = || honest_tag(piece, block.index());
            BlockBuf::phantom(block.len(), told.copied().unwrap_or_else(honest))
        };
        let bufs = layout.run_blocks(run).enumerate().map(buf).collect();
        let peer = peer_key(end);
        self.tell(node, Event::Received { peer, run, bufs });
    }

    /// A script believes what it gets: its author wants to know how much that is.
    fn script_gets(&mut self, end: EndId, run: Run, tags: Option<&[u64]>) {
        let (node, peer) = (self.net.node(end), peer_key(end));
        let layout = self.content.layout.clone();
        for (at, block) in layout.run_blocks(run).enumerate() {
            let honest = honest_tag(run.piece().get(), block.index());
            let tag = tags.and_then(|tags| tags.get(at));
            if tag.is_some_and(|&tag| tag != honest) {
                continue;
            }
            let stats = &mut self.nodes[node.index()].stats;
            stats.on_received(&layout, layout.run_of(block));
            let has_all = stats.has_every_block(&layout);
            self.script(node, |script, io| script.block(peer, block, io));
            if has_all && self.nodes[node.index()].stats.completed_at.is_none() {
                self.finished(node);
                self.leave_as_script(node);
            }
        }
    }

    fn leave_as_script(&mut self, node: NodeId) {
        if let Stay::AfterCompletion(time) = self.nodes[node.index()].spec.stays {
            let leave = Do::Kill {
                node,
                restart: None,
                power_cut: false,
            };
            self.put(self.now + time, What::Plan(leave));
        }
    }

    pub(super) fn disk_done(&mut self, node: NodeId, life: u32) {
        if !self.lives(node, life) {
            return;
        }
        let mut done = std::mem::take(&mut self.answers);
        self.nodes[node.index()].disk.complete(&mut done);
        for (job, result) in done.drain(..) {
            match &result {
                DiskResult::Written { bytes } | DiskResult::Failed { bytes, .. } => {
                    let unwritten = &mut self.nodes[node.index()].unwritten;
                    *unwritten = unwritten.saturating_sub(u64::from(*bytes));
                }
                DiskResult::Good { .. }
                | DiskResult::Bad { .. }
                | DiskResult::Forgotten { .. }
                | DiskResult::FileCompleted { .. }
                | DiskResult::Synced
                | DiskResult::ResumeSaved
                | DiskResult::ResumeRemoved => {}
            }
            let event = Event::DiskDone {
                job,
                torrent: TORRENT,
                result,
            };
            self.tell(node, event);
        }
        self.answers = done;
    }

    /// The dialler's handshake is here.
    pub(super) fn knock(&mut self, end: EndId) {
        let Some(dialling) = self.dials.get(&end.connection()) else {
            return;
        };
        let (from, (to, life)) = (dialling.from, dialling.to);
        if !self.lives(to, life) || self.is_cut(from.0, to) {
            self.dials.remove(&end.connection());
            return self.fail_dial(end, from, to, CloseReason::RemoteClosed);
        }
        if matches!(self.nodes[to.index()].mind, Mind::Script(_)) {
            return self.accept_end(end.other());
        }
        let event = Event::Incoming {
            conn: dunlin_engine::event::ConnKey(u64::from(end.connection())),
            remote: self.ephemeral_addr(end),
            handshake: self.handshake(from.0, to),
        };
        self.tell(to, event);
    }

    /// The acceptor shows its handshake and may talk at once.
    pub(super) fn accept_end(&mut self, end: EndId) {
        let Some(dialling) = self.dials.get(&end.connection()) else {
            return;
        };
        let (from, (to, life)) = (dialling.from, dialling.to);
        if !self.lives(to, life) {
            self.dials.remove(&end.connection());
            return self.fail_dial(end, from, to, CloseReason::RemoteClosed);
        }
        let at = self.now + self.net.latency(end);
        // Put first: the dialler must know of the connection before it hears anything on it.
        self.put(at, What::Established(end.other()));
        self.open_end(end, at, Direction::Incoming);
    }

    pub(super) fn established(&mut self, end: EndId) {
        let Some(dialling) = self.dials.remove(&end.connection()) else {
            return;
        };
        let (node, life) = dialling.from;
        let state = &mut self.nodes[node.index()];
        state.dials = state.dials.saturating_sub(1);
        if !self.lives(node, life) {
            // Opened only to be closed, so that the acceptor hears of it.
            self.net.open(end, self.now);
            return self.net.close(self.now, end);
        }
        self.open_end(end, self.now, Direction::Outgoing);
    }

    fn open_end(&mut self, end: EndId, not_before: dunlin_proto::time::Instant, how: Direction) {
        let (node, remote) = (self.net.node(end), self.net.node(end.other()));
        self.net.open(end, not_before);
        let pieces = self.content.layout.pieces();
        let watch = self
            .is_watched(node)
            .then(|| Box::new(Watch::new(pieces, self.both_fast(node, remote))));
        self.sides[end.0 as usize] = Side {
            is_known: true,
            watch,
        };
        let addr = match how {
            Direction::Incoming => self.ephemeral_addr(end.other()),
            Direction::Outgoing => PeerAddr::Tcp(listen_addr(remote)),
        };
        let peer = peer_key(end);
        match &self.nodes[node.index()].mind {
            Mind::Off => {}
            Mind::Script(_) => self.script(node, |script, io| script.connected(peer, io)),
            Mind::Session(_) => {
                let event = Event::PeerConnected {
                    peer,
                    torrent: TORRENT,
                    remote: addr,
                    direction: how,
                    handshake: self.handshake(remote, node),
                };
                self.judge_connections(node);
                *self.nodes[node.index()].links.entry(remote).or_default() += 1;
                self.tell(node, event);
            }
        }
    }

    fn judge_connections(&mut self, node: NodeId) {
        let open = self.net.ends(node).len();
        let max = self.nodes[node.index()].spec.config.max_peers;
        let slack = self.nodes[node.index()].spec.config.dials_max;
        self.verdicts
            .expect(open <= max + slack, Oracle::QueuesAreBounded, || {
                format!("{node:?} has {open} connections")
            });
    }

    pub(super) fn fail_dial(
        &mut self,
        end: EndId,
        (node, life): (NodeId, u32),
        to: NodeId,
        reason: CloseReason,
    ) {
        let event = Event::DialFailed {
            torrent: TORRENT,
            remote: PeerAddr::Tcp(listen_addr(to)),
            reason,
        };
        let at = self.now + self.net.latency(end);
        self.put(at, What::Tell(node, life, Box::new(event)));
    }

    /// Closes this end for its owner too: one `PeerClosed`, told from the queue.
    pub(super) fn close_end(&mut self, end: EndId, reason: CloseReason) {
        if !self.net.is_open(end) {
            return;
        }
        let node = self.net.node(end);
        self.net.close(self.now, end);
        let open = self.watch(end).map_or(0, |watch| watch.open_requests());
        if open > 0
            && let Some(piece) = self.content.layout.piece(0)
            && let Some(one) = self.content.layout.run(piece, 0, 1)
        {
            self.unrequest(node, one, open);
        }
        let peer = peer_key(end);
        self.script(node, |script, io| script.gone(peer, io));
        self.put_event(self.now, node, Event::PeerClosed { peer, reason });
    }

    /// Where an incoming connection comes from: the dialler's address, not its listening port.
    fn ephemeral_addr(&self, dialler: EndId) -> PeerAddr {
        let mut addr = listen_addr(self.net.node(dialler));
        addr.set_port(32_768 + (dialler.connection() % 28_000) as u16);
        PeerAddr::Tcp(addr)
    }
}
