//! Links and connections of the imaginary network.
//!
//! A node's uplink serves its connections in turn, a quantum each; a receiver's downlink is one
//! queue. Everything on a connection keeps its order, so a `have` behind queued blocks waits for
//! them as it would in a socket. Messages other than blocks cost no bandwidth, only latency.
//!
//! What a quantum holds travels and arrives as one event: with the fine quantum that is a block,
//! with the coarse one up to sixteen and the messages between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{BLOCK_LEN, Layout, PieceIndex, Run};
use dunlin_proto::peer::Message;
use dunlin_proto::time::Instant;

use crate::content::mix;

/// Index of a node of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One side of a connection. The two sides of connection `n` are `2n` (who dialled) and `2n + 1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndId(pub u32);

impl EndId {
    pub fn other(self) -> Self {
        Self(self.0 ^ 1)
    }

    pub fn connection(self) -> u32 {
        self.0 / 2
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// One block at a time: what happens in which order is as in a real network.
pub const FINE: u32 = BLOCK_LEN;

/// A sixteenth of the events. A block arrives when the last one of its quantum does.
pub const COARSE: u32 = 16 * BLOCK_LEN;

#[derive(Clone, Debug)]
pub struct NetSpec {
    /// What the uplink sends of one connection before it turns to the next, in bytes.
    pub quantum: u32,
    /// Bytes of one connection that are sent and not yet received, at most.
    pub window: u32,
}

impl Default for NetSpec {
    fn default() -> Self {
        Self {
            quantum: FINE,
            window: 1 << 20,
        }
    }
}

/// Bytes per second; `None` is free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub up: Option<u64>,
    pub down: Option<u64>,
}

/// What travels on a connection.
#[derive(Debug)]
pub enum Wire {
    Message(Message),
    /// One `request` a block.
    Requests(Run),
    /// One `cancel` a block.
    Cancels(Run),
    /// Blocks of a run; `None` are the honest ones.
    Blocks {
        run: Run,
        tags: Option<Box<[u64]>>,
    },
    /// The last thing that arrives.
    Hangup,
}

/// What becomes of something that was given to the network.
#[derive(Debug)]
pub enum NetEvent {
    /// The uplink of the node finished its quantum: call [`Net::sent`].
    Sent(NodeId),
    /// At this end arrives a message of the other.
    Arrived(EndId, Wire),
    /// At this end arrives a quantum, messages between its blocks and after them included: call
    /// [`Net::arrived`], and give the list back to [`Net::recycle`].
    QuantumArrived(EndId, Vec<Wire>),
    /// `have` arrives at each of these ends.
    HaveArrived(PieceIndex, Box<[EndId]>),
}

/// The uplink handed over a run that was to be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed {
    pub end: EndId,
    pub run: Run,
    pub bytes: u32,
}

#[derive(Debug)]
pub struct Net {
    spec: NetSpec,
    layout: Arc<Layout>,
    nodes: Vec<Link>,
    ends: Vec<End>,
    /// Drawn from for jitter.
    noise: u64,
    /// No jitter and no stall: latencies alone count.
    is_steady: bool,
    out: Vec<(Instant, NetEvent)>,
    /// Empty lists, for quanta to come.
    spare: Vec<Vec<Wire>>,
}

#[derive(Debug)]
struct Link {
    rates: Rates,
    /// One way to the middle of the network.
    latency: Duration,
    /// Added to the latency of each message: anything up to this.
    jitter: Duration,
    /// Nothing comes or goes before.
    stalled_until: Instant,
    /// Open ends of this node.
    ends: Vec<EndId>,
    /// Ends with something to send, in the order of their turns.
    turns: VecDeque<EndId>,
    sending: Option<Sending>,
    /// Runs that end with what is being sent.
    finished: Vec<Run>,
    down_free_at: Instant,
    payload_up: u64,
}

#[derive(Debug)]
struct Sending {
    end: EndId,
    started: Instant,
    bytes: u32,
    items: Vec<Wire>,
}

#[derive(Debug)]
struct End {
    node: NodeId,
    /// One way to the other end.
    latency: Duration,
    open: bool,
    queue: VecDeque<Queued>,
    /// In `turns` of its node's link.
    has_turn: bool,
    /// Sent and not yet received at the other end, in bytes.
    in_flight: u32,
    /// Payload that the uplink sent from here, in bytes.
    payload: u64,
    /// When the last thing sent from here arrives there.
    last_arrival: Instant,
}

#[derive(Debug)]
enum Queued {
    Control(Wire),
    Blocks {
        run: Run,
        /// Blocks of the run that are sent.
        sent: u16,
        tags: Option<Box<[u64]>>,
    },
}

impl Net {
    pub fn new(spec: NetSpec, layout: Arc<Layout>) -> Self {
        Self {
            spec,
            layout,
            nodes: Vec::new(),
            ends: Vec::new(),
            noise: 0,
            is_steady: true,
            out: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub fn add_node(&mut self, rates: Rates, latency: Duration) -> NodeId {
        self.nodes.push(Link {
            rates,
            latency,
            jitter: Duration::ZERO,
            stalled_until: Instant::START,
            ends: Vec::new(),
            turns: VecDeque::new(),
            sending: None,
            finished: Vec::new(),
            down_free_at: Instant::START,
            payload_up: 0,
        });
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// What the node sends and gets is late by anything up to this, in order all the same.
    pub fn set_jitter(&mut self, node: NodeId, jitter: Duration) {
        self.nodes[node.index()].jitter = jitter;
        self.is_steady &= jitter == Duration::ZERO;
    }

    /// Nothing leaves or reaches the node until then; what is under way already arrives.
    pub fn stall(&mut self, node: NodeId, until: Instant) {
        self.is_steady = false;
        let link = &mut self.nodes[node.index()];
        link.stalled_until = link.stalled_until.max(until);
        link.down_free_at = link.down_free_at.max(until);
    }

    /// A connection that is being dialled: both ends closed. Returns the dialler's end.
    pub fn add_connection(&mut self, from: NodeId, to: NodeId) -> EndId {
        let id = EndId(self.ends.len() as u32);
        let latency = self.nodes[from.index()].latency + self.nodes[to.index()].latency;
        for node in [from, to] {
            self.ends.push(End {
                node,
                latency,
                open: false,
                queue: VecDeque::new(),
                has_turn: false,
                in_flight: 0,
                payload: 0,
                last_arrival: Instant::START,
            });
        }
        id
    }

    /// The end may send; nothing that it sends arrives before `not_before`.
    pub fn open(&mut self, end: EndId, not_before: Instant) {
        let state = &mut self.ends[end.index()];
        state.open = true;
        state.last_arrival = not_before;
        self.nodes[state.node.index()].ends.push(end);
    }

    pub fn send(&mut self, now: Instant, end: EndId, message: Message) {
        self.send_control(now, end, Wire::Message(message));
    }

    pub fn request(&mut self, now: Instant, end: EndId, run: Run) {
        self.send_control(now, end, Wire::Requests(run));
    }

    pub fn cancel(&mut self, now: Instant, end: EndId, run: Run) {
        self.send_control(now, end, Wire::Cancels(run));
    }

    pub fn serve(&mut self, now: Instant, end: EndId, run: Run, tags: Option<Box<[u64]>>) {
        let state = &mut self.ends[end.index()];
        if !state.open {
            return;
        }
        state.queue.push_back(Queued::Blocks { run, sent: 0, tags });
        let node = state.node;
        self.give_turn(end);
        self.send_next(now, node);
    }

    /// Whether the run was still waiting and is dropped now.
    pub fn unserve(&mut self, end: EndId, run: Run) -> bool {
        let queue = &mut self.ends[end.index()].queue;
        let waiting = queue.iter().position(|item| match item {
            Queued::Control(_) => false,
            Queued::Blocks {
                run: queued, sent, ..
            } => *queued == run && *sent == 0,
        });
        waiting.is_some_and(|at| queue.remove(at).is_some())
    }

    /// Sends `have` to every connection of the node. Those with nothing queued share one event.
    pub fn broadcast_have(&mut self, now: Instant, node: NodeId, piece: PieceIndex) {
        let ends = std::mem::take(&mut self.nodes[node.index()].ends);
        let mut together: Vec<(Instant, Vec<EndId>)> = Vec::new();
        for &end in &ends {
            let arrival = self.arrival(now, end);
            let sending = self.is_sending(end);
            let state = &mut self.ends[end.index()];
            if sending || !state.queue.is_empty() || state.last_arrival > arrival {
                let have = Message::Have { piece: piece.get() };
                self.send(now, end, have);
                continue;
            }
            state.last_arrival = arrival;
            match together.iter_mut().find(|(at, _)| *at == arrival) {
                Some((_, ends)) => ends.push(end.other()),
                None => {
                    let mut first = Vec::with_capacity(ends.len());
                    first.push(end.other());
                    together.push((arrival, first));
                }
            }
        }
        self.nodes[node.index()].ends = ends;
        for (at, ends) in together {
            let arrived = NetEvent::HaveArrived(piece, ends.into_boxed_slice());
            self.out.push((at, arrived));
        }
    }

    /// Nothing more is sent from here. The other end hears of it after what is under way.
    pub fn close(&mut self, now: Instant, end: EndId) {
        if !self.is_open(end) {
            return;
        }
        let arrival = self.arrival(now, end);
        let state = &mut self.ends[end.index()];
        state.open = false;
        state.queue.clear();
        let at = arrival.max(state.last_arrival);
        let node = state.node;
        self.nodes[node.index()].ends.retain(|&other| other != end);
        self.out
            .push((at, NetEvent::Arrived(end.other(), Wire::Hangup)));
    }

    /// The uplink is free again. Appends the runs that it handed over whole.
    pub fn sent(&mut self, now: Instant, node: NodeId, handed: &mut Vec<Handed>) {
        let link = &mut self.nodes[node.index()];
        let Some(Sending {
            end,
            started,
            bytes,
            mut items,
        }) = link.sending.take()
        else {
            return;
        };
        link.payload_up += u64::from(bytes);
        let arrival = self.block_arrival(started, now, end, bytes);
        let state = &mut self.ends[end.index()];
        state.payload += u64::from(bytes);
        if state.open {
            state.last_arrival = arrival;
            // Messages cost the uplink nothing: those behind the blocks go with them.
            while let Some(Queued::Control(wire)) = state
                .queue
                .pop_front_if(|item| matches!(item, Queued::Control(_)))
            {
                items.push(wire);
            }
            let arrived = NetEvent::QuantumArrived(end.other(), items);
            self.out.push((arrival, arrived));
            for run in self.nodes[node.index()].finished.drain(..) {
                let bytes = self.layout.run_len(run);
                handed.push(Handed { end, run, bytes });
            }
            self.give_turn(end);
        } else {
            self.nodes[node.index()].finished.clear();
            self.recycle(items);
        }
        self.send_next(now, node);
    }

    /// Takes the list of a quantum that arrived.
    pub fn recycle(&mut self, mut items: Vec<Wire>) {
        items.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(items);
        }
    }

    /// A quantum arrived: makes room in the sender's window.
    pub fn arrived(&mut self, now: Instant, end: EndId, items: &[Wire]) {
        let bytes = items.iter().map(|wire| match wire {
            Wire::Blocks { run, .. } => self.layout.run_len(*run),
            Wire::Message(_) | Wire::Requests(_) | Wire::Cancels(_) | Wire::Hangup => 0,
        });
        let bytes: u32 = bytes.sum();
        let sender = end.other();
        let state = &mut self.ends[sender.index()];
        state.in_flight = state.in_flight.saturating_sub(bytes);
        let node = state.node;
        if state.open {
            self.give_turn(sender);
            self.send_next(now, node);
        }
    }

    /// Whether each block travels alone.
    pub fn is_fine(&self) -> bool {
        self.spec.quantum <= FINE
    }

    pub fn take_events(&mut self) -> std::vec::Drain<'_, (Instant, NetEvent)> {
        self.out.drain(..)
    }

    pub fn is_open(&self, end: EndId) -> bool {
        self.ends.get(end.index()).is_some_and(|state| state.open)
    }

    pub fn node(&self, end: EndId) -> NodeId {
        self.ends[end.index()].node
    }

    pub fn ends(&self, node: NodeId) -> &[EndId] {
        &self.nodes[node.index()].ends
    }

    /// One way along the connection.
    pub fn latency(&self, end: EndId) -> Duration {
        self.ends[end.index()].latency
    }

    pub fn rates(&self, node: NodeId) -> Rates {
        self.nodes[node.index()].rates
    }

    /// Payload that left the node's uplink, in bytes.
    pub fn payload_up(&self, node: NodeId) -> u64 {
        self.nodes[node.index()].payload_up
    }

    /// Payload on every connection that there ever was: from whom, to whom, in bytes.
    pub fn payloads(&self) -> impl Iterator<Item = (NodeId, NodeId, u64)> + '_ {
        self.ends.iter().zip(0..).map(|(state, index)| {
            let to = self.node(EndId(index).other());
            (state.node, to, state.payload)
        })
    }

    /// Bytes of blocks that wait at this end.
    pub fn queued_runs(&self, end: EndId) -> impl Iterator<Item = (Run, u16)> + '_ {
        self.ends[end.index()]
            .queue
            .iter()
            .filter_map(|item| match item {
                Queued::Control(_) => None,
                Queued::Blocks { run, sent, .. } => Some((*run, *sent)),
            })
    }

    fn send_control(&mut self, now: Instant, end: EndId, wire: Wire) {
        let sending = self.is_sending(end);
        let state = &mut self.ends[end.index()];
        if !state.open {
            return;
        }
        if sending || !state.queue.is_empty() {
            state.queue.push_back(Queued::Control(wire));
            return;
        }
        let arrival = self.arrival(now, end);
        let state = &mut self.ends[end.index()];
        state.last_arrival = state.last_arrival.max(arrival);
        let at = state.last_arrival;
        self.out.push((at, NetEvent::Arrived(end.other(), wire)));
    }

    /// Sends the messages at the head of the queue: they cost the uplink nothing.
    fn flush_control(&mut self, now: Instant, end: EndId) {
        if !matches!(
            self.ends[end.index()].queue.front(),
            Some(Queued::Control(_))
        ) {
            return;
        }
        let arrival = self.arrival(now, end);
        let state = &mut self.ends[end.index()];
        while matches!(state.queue.front(), Some(Queued::Control(_))) {
            if let Some(Queued::Control(wire)) = state.queue.pop_front() {
                state.last_arrival = state.last_arrival.max(arrival);
                let arrived = NetEvent::Arrived(end.other(), wire);
                self.out.push((state.last_arrival, arrived));
            }
        }
    }

    /// When the other end gets what is sent now, if nothing is before it.
    fn arrival(&mut self, now: Instant, end: EndId) -> Instant {
        let latency = self.latency(end);
        if self.is_steady {
            return now + latency;
        }
        let (from, to) = (self.node(end), self.node(end.other()));
        let (from, to) = (&self.nodes[from.index()], &self.nodes[to.index()]);
        let jitter = from.jitter + to.jitter;
        let from_now = now.max(from.stalled_until).max(to.stalled_until);
        if jitter == Duration::ZERO {
            return from_now + latency;
        }
        self.noise = self.noise.wrapping_add(1);
        let late = mix(self.noise) % (jitter.as_micros() as u64 + 1);
        from_now + latency + Duration::from_micros(late)
    }

    fn is_sending(&self, end: EndId) -> bool {
        let sending = &self.nodes[self.node(end).index()].sending;
        sending.as_ref().is_some_and(|sending| sending.end == end)
    }

    fn give_turn(&mut self, end: EndId) {
        let window = self.spec.window;
        let state = &mut self.ends[end.index()];
        if !state.has_turn && !state.queue.is_empty() && state.in_flight < window {
            state.has_turn = true;
            let node = state.node;
            self.nodes[node.index()].turns.push_back(end);
        }
    }

    fn send_next(&mut self, now: Instant, node: NodeId) {
        while self.nodes[node.index()].sending.is_none() {
            let Some(end) = self.nodes[node.index()].turns.pop_front() else {
                return;
            };
            self.ends[end.index()].has_turn = false;
            self.flush_control(now, end);
            self.start_sending(now, end);
        }
    }

    /// Takes a quantum from the head of the queue: blocks, and the messages between them.
    fn start_sending(&mut self, now: Instant, end: EndId) {
        let quantum = (self.spec.quantum / BLOCK_LEN).max(1) as u16;
        let state = &mut self.ends[end.index()];
        if !state.open || state.in_flight >= self.spec.window || state.queue.is_empty() {
            return;
        }
        let link = &mut self.nodes[state.node.index()];
        let mut items = self.spare.pop().unwrap_or_default();
        let (mut blocks, mut bytes) = (0, 0);
        while blocks < quantum
            && let Some(item) = state.queue.pop_front()
        {
            let Queued::Blocks { run, sent, tags } = item else {
                if let Queued::Control(wire) = item {
                    items.push(wire);
                }
                continue;
            };
            let count = (quantum - blocks).min(run.count() - sent);
            let part = self.layout.run(run.piece(), run.first() + sent, count);
            let part = part.expect("a part of a run is a run");
            let range = usize::from(sent)..usize::from(sent + count);
            items.push(Wire::Blocks {
                run: part,
                tags: tags.as_ref().map(|tags| tags[range].into()),
            });
            blocks += count;
            bytes += self.layout.run_len(part);
            let sent = sent + count;
            if sent == run.count() {
                link.finished.push(run);
            } else {
                state.queue.push_front(Queued::Blocks { run, sent, tags });
            }
        }
        state.in_flight += bytes;
        let wire_bytes = u64::from(bytes) + u64::from(blocks) * HEADER_LEN;
        let at = now.max(link.stalled_until) + transfer_time(wire_bytes, link.rates.up);
        link.sending = Some(Sending {
            end,
            started: now,
            bytes,
            items,
        });
        self.out.push((at, NetEvent::Sent(state.node)));
    }

    /// Cut-through: a downlink that is free and at least as fast adds nothing to the latency.
    fn block_arrival(&mut self, started: Instant, now: Instant, end: EndId, bytes: u32) -> Instant {
        let arrival = self.arrival(now, end);
        let latency = arrival.since(now);
        let in_order = arrival.max(self.ends[end.index()].last_arrival);
        let receiver = self.node(end.other());
        let link = &mut self.nodes[receiver.index()];
        let first_byte = (started + latency).max(link.down_free_at);
        let at = in_order.max(first_byte + transfer_time(u64::from(bytes), link.rates.down));
        link.down_free_at = at;
        at
    }
}

fn transfer_time(bytes: u64, rate: Option<u64>) -> Duration {
    match rate {
        Some(rate) => Duration::from_micros(bytes * 1_000_000 / rate.max(1)),
        None => Duration::ZERO,
    }
}

/// Lists kept for reuse, at most: as many as quanta are under way at once in a big swarm.
const SPARE_MAX: usize = 1 << 14;

/// Length prefix, id, piece and offset of a `piece` message.
const HEADER_LEN: u64 = 13;

#[cfg(test)]
mod tests;
