//! A session and the streams of its peers: the session decides, the streams move bytes, and the
//! shard carries between them. What neither can do becomes a [`Task`] for the host.
//!
//! Buffers have one ceiling, [`Config::buffer_bytes_max`], in two fixed shares, so that uploads
//! and downloads cannot starve each other: a quarter is for blocks that are being sent, the rest
//! for blocks that are requested or received. Each peer that is served may hold an equal part of
//! the sending share, so a slow reader cannot take all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{BLOCK_LEN, Layout};
use dunlin_proto::buf::{BlockBuf, BufPool};
use dunlin_proto::peer::Message;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::command::Command;
use crate::config::Config;
use crate::event::{Action, DiskResult, Event, JobId, PeerKey, TorrentKey};
use crate::hub::Established;
use crate::outbox::Sent;
use crate::reason::CloseReason;
use crate::session::Session;
use crate::snapshot::TorrentSnapshot;
use crate::stream::{Item, PeerStream};
use crate::torrent::unknown_layout;

mod serving;
mod task;

pub use task::{Read, Task};

#[derive(Debug)]
pub struct Shard {
    session: Session,
    torrents: BTreeMap<TorrentKey, Torrent>,
    peers: BTreeMap<PeerKey, Peer>,
    /// Buffers of blocks that are being received or written.
    receiving: BufPool,
    /// Buffers of blocks that are being read or sent.
    sending: BufPool,
    /// Peers with runs to be read from the disk, in turn.
    readers: VecDeque<PeerKey>,
    /// Peers that were given something to send since the host last asked.
    dirty: BTreeSet<PeerKey>,
    tasks: VecDeque<Task>,
    /// What the session is to hear when it is done with what it is doing.
    events: VecDeque<Event>,
    next_stall_check: Instant,
}

#[derive(Debug)]
struct Torrent {
    layout: Arc<Layout>,
    /// The info dictionary, for peers that ask (BEP 9).
    info: Arc<[u8]>,
    peers: BTreeSet<PeerKey>,
    /// Encoded `have` messages for all of them, kept until the end of the loop turn.
    haves: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    torrent: TorrentKey,
    stream: PeerStream,
    /// The socket takes no more bytes for now.
    blocked: bool,
    /// When the socket last took bytes, or there were none to take.
    taken_at: Instant,
    /// It stands in `readers`.
    is_reader: bool,
}

impl Shard {
    /// `config.buffer_bytes_max` is the ceiling of all buffers.
    pub fn new(mut config: Config, rng: Rng, now: Instant) -> Self {
        let buffers = (config.buffer_bytes_max / u64::from(BLOCK_LEN)) as usize;
        let sending = (buffers / SENDING_SHARE).max(BUFFERS_MIN);
        let receiving = buffers.saturating_sub(sending).max(BUFFERS_MIN);
        config.buffer_bytes_max = receiving as u64 * u64::from(BLOCK_LEN);
        Self {
            session: Session::new(config, rng, now),
            torrents: BTreeMap::new(),
            peers: BTreeMap::new(),
            receiving: BufPool::new(receiving),
            sending: BufPool::new(sending),
            readers: VecDeque::new(),
            dirty: BTreeSet::new(),
            tasks: VecDeque::new(),
            events: VecDeque::new(),
            next_stall_check: now,
        }
    }

    /// An event that is about no peer's bytes.
    pub fn handle(&mut self, now: Instant, event: Event) {
        if let Event::Command(Command::Add { torrent, params }) = &event {
            self.add(*torrent, &params.layout, &params.info);
        } else if let Event::Command(Command::AddMagnet { torrent, .. }) = &event {
            self.add(*torrent, &unknown_layout(), &Arc::from([]));
        }
        self.tell(now, event);
    }

    /// Both handshakes are done. The host's socket is named by `peer` from now on.
    pub fn connected(&mut self, now: Instant, peer: PeerKey, established: Established) {
        let Established {
            torrent,
            remote,
            direction,
            handshake,
            outgoing,
            residual,
        } = established;
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            let reason = CloseReason::TorrentStopped;
            self.tasks.push_back(Task::Close { peer, reason });
            return;
        };
        let mut stream = PeerStream::new(entry.layout.clone());
        stream.send_bytes(&outgoing);
        entry.peers.insert(peer);
        self.dirty.insert(peer);
        let entry = Peer {
            torrent,
            stream,
            blocked: false,
            taken_at: now,
            is_reader: false,
        };
        self.peers.insert(peer, entry);
        let event = Event::PeerConnected {
            peer,
            torrent,
            remote,
            direction,
            handshake,
        };
        self.tell(now, event);
        let mut items = Vec::new();
        if let Some(entry) = self.peers.get_mut(&peer) {
            let result = entry
                .stream
                .feed(&residual, &mut self.receiving, &mut items);
            self.deliver(now, peer, items, result.map_err(CloseReason::Violation));
        }
    }

    /// Where the next bytes of a peer belong. `None`: read nothing from it until buffers came
    /// home ([`Shard::has_room`]).
    pub fn space<'a>(
        &'a mut self,
        peer: PeerKey,
        shared: &'a mut [u8],
    ) -> Option<[IoSliceMut<'a>; 2]> {
        let entry = self.peers.get_mut(&peer)?;
        entry.stream.space(&self.receiving, shared)
    }

    /// The first `n` bytes of that are filled.
    pub fn filled(&mut self, now: Instant, peer: PeerKey, n: usize, shared: &[u8]) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        let mut items = Vec::new();
        let result = entry
            .stream
            .filled(n, shared, &mut self.receiving, &mut items);
        self.deliver(now, peer, items, result.map_err(CloseReason::Violation));
    }

    /// What to send to a peer next; returns how many of `slices` are filled.
    pub fn outgoing<'a>(&'a self, peer: PeerKey, slices: &mut [IoSlice<'a>]) -> usize {
        let entry = self.peers.get(&peer);
        entry.map_or(0, |entry| entry.stream.outgoing(slices))
    }

    /// `n` bytes of it are in the socket's hands; `blocked` when it would not take them all.
    pub fn sent(&mut self, now: Instant, peer: PeerKey, n: usize, blocked: bool) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        entry.blocked = blocked;
        if n > 0 {
            entry.taken_at = now;
        }
        let mut served = Vec::new();
        entry.stream.sent(n, &mut self.sending, &mut served);
        let layout = entry.stream.layout();
        let served: Vec<_> = served
            .into_iter()
            .map(|sent| match sent {
                Sent::Run(run) => Event::Served {
                    peer,
                    run,
                    bytes: layout.run_len(run),
                },
                Sent::Metadata => Event::MetadataServed { peer },
            })
            .collect();
        self.queue_read(peer);
        for event in served {
            self.tell(now, event);
        }
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, peer: PeerKey) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.blocked = false;
            self.queue_read(peer);
        }
    }

    /// A [`Task::Disk`] is done, and its buffers come home.
    pub fn disk_done(
        &mut self,
        now: Instant,
        torrent: TorrentKey,
        job: JobId,
        result: DiskResult,
        bufs: Vec<BlockBuf>,
    ) {
        give_all(&mut self.receiving, bufs);
        let event = Event::DiskDone {
            job,
            torrent,
            result,
        };
        self.tell(now, event);
    }

    /// The socket of a peer is gone, not by our doing.
    pub fn closed(&mut self, now: Instant, peer: PeerKey, reason: CloseReason) {
        if self.forget(peer) {
            self.tell(now, Event::PeerClosed { peer, reason });
        }
    }

    pub fn tick(&mut self, now: Instant) {
        self.session.tick(now);
        self.drain(now);
        if now >= self.next_stall_check {
            self.next_stall_check = now + STALL_CHECK;
            self.close_stalled(now);
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    /// The end of a loop turn: HAVEs go into the outboxes, and reads are started for the peers
    /// whose outboxes have room.
    pub fn flush(&mut self, now: Instant) {
        self.flush_haves(now);
        self.start_reads();
    }

    pub fn poll_task(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// A peer that was given something to send since it was last named here.
    pub fn poll_dirty(&mut self) -> Option<PeerKey> {
        self.dirty.pop_first()
    }

    /// Whether a peer that had to wait for a buffer may try again.
    pub fn has_room(&self) -> bool {
        self.receiving.free() > 0
    }

    /// Bytes of buffers in use, of both shares.
    pub fn buffer_bytes(&self) -> u64 {
        (self.receiving.out() + self.sending.out()) as u64 * u64::from(BLOCK_LEN)
    }

    /// Gives memory of idle buffers back to the system, but for a few.
    pub fn shrink(&mut self) {
        self.receiving.shrink(BUFFERS_MIN);
        self.sending.shrink(BUFFERS_MIN);
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn snapshot(&self, torrent: TorrentKey, now: Instant) -> Option<TorrentSnapshot> {
        self.session.snapshot(torrent, now)
    }

    pub fn torrents(&self) -> impl Iterator<Item = TorrentKey> + '_ {
        self.torrents.keys().copied()
    }

    /// Bytes requested or received and not yet written, at most: what the disk may be holding.
    pub fn receiving_bytes_max(&self) -> u64 {
        (self.receiving.free() + self.receiving.out()) as u64 * u64::from(BLOCK_LEN)
    }

    /// A torrent, or what became known of a magnet: its peers stay.
    fn add(&mut self, torrent: TorrentKey, layout: &Arc<Layout>, info: &Arc<[u8]>) {
        let entry = self.torrents.entry(torrent).or_insert_with(|| Torrent {
            layout: Arc::clone(layout),
            info: Arc::clone(info),
            peers: BTreeSet::new(),
            haves: Vec::new(),
        });
        entry.layout = Arc::clone(layout);
        entry.info = Arc::clone(info);
        for peer in &entry.peers {
            if let Some(peer) = self.peers.get_mut(peer) {
                peer.stream.set_layout(Arc::clone(layout));
            }
        }
    }

    fn deliver(
        &mut self,
        now: Instant,
        peer: PeerKey,
        items: Vec<Item>,
        end: Result<(), CloseReason>,
    ) {
        for item in items {
            let event = match item {
                Item::Message(message) => Event::PeerMessage { peer, message },
                Item::Received { run, bufs } => Event::Received { peer, run, bufs },
                Item::Unrequested { len } => Event::Unrequested { peer, len },
            };
            self.tell(now, event);
        }
        if let Err(reason) = end {
            self.hang_up(peer, reason);
            self.drain(now);
        }
    }

    fn tell(&mut self, now: Instant, event: Event) {
        self.session.handle(now, event);
        self.drain(now);
    }

    /// Carries out everything that the session wants, until it wants nothing more.
    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.session.poll_action() {
                self.act(action);
            }
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.session.handle(now, event);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial {
                torrent,
                info_hash,
                remote,
            } => self.tasks.push_back(Task::Dial {
                torrent,
                info_hash,
                remote,
            }),
            Action::Accept { conn, torrent } => {
                self.tasks.push_back(Task::Accept { conn, torrent });
            }
            Action::Refuse { conn, reason } => self.tasks.push_back(Task::Refuse { conn, reason }),
            Action::Send { peer, message } => self.send(peer, &message),
            Action::Request { peer, run } => self.write(peer, |stream| stream.request(run)),
            Action::Cancel { peer, run } => self.write(peer, |stream| stream.cancel(run)),
            Action::Serve { peer, run } => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.stream.serve(run);
                    self.queue_read(peer);
                }
            }
            Action::Unserve { peer, run } => self.unserve(peer, run),
            Action::ServeMetadata { peer, id, piece } => self.serve_metadata(peer, id, piece),
            Action::BroadcastHave { torrent, piece } => {
                if let Some(entry) = self.torrents.get_mut(&torrent) {
                    Message::Have { piece: piece.get() }.encode(&mut entry.haves);
                }
            }
            Action::Close { peer, reason } => self.hang_up(peer, reason),
            Action::Disk(job) => self.tasks.push_back(Task::Disk(job)),
            Action::Discard { bufs } => give_all(&mut self.receiving, bufs),
            Action::Announce {
                torrent,
                tracker,
                url,
                request,
            } => self.tasks.push_back(Task::Announce {
                torrent,
                tracker,
                url,
                request,
            }),
            Action::Metadata { torrent, info } => {
                self.tasks.push_back(Task::Metadata { torrent, info });
            }
            Action::TorrentGone { torrent } => {
                self.torrents.remove(&torrent);
                self.tasks.push_back(Task::TorrentGone { torrent });
            }
            Action::Alert(alert) => self.tasks.push_back(Task::Alert(alert)),
        }
    }

    fn send(&mut self, peer: PeerKey, message: &Message) {
        self.write(peer, |stream| stream.send(message));
    }

    fn write(&mut self, peer: PeerKey, write: impl FnOnce(&mut PeerStream)) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        write(&mut entry.stream);
        self.dirty.insert(peer);
        if entry.stream.is_clogged() {
            self.hang_up(peer, CloseReason::ReadsTooSlowly);
        }
    }

    fn serve_metadata(&mut self, peer: PeerKey, id: u8, piece: u32) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Some(torrent) = self.torrents.get(&entry.torrent) {
            entry.stream.serve_metadata(id, piece, &torrent.info);
            self.dirty.insert(peer);
        }
    }

    /// Ends the connection from our side. The session hears of it when it is done with what it
    /// is doing.
    fn hang_up(&mut self, peer: PeerKey, reason: CloseReason) {
        if self.forget(peer) {
            self.tasks.push_back(Task::Close {
                peer,
                reason: reason.clone(),
            });
            self.events.push_back(Event::PeerClosed { peer, reason });
        }
    }

    /// Drops the peer's stream; whether there was one.
    fn forget(&mut self, peer: PeerKey) -> bool {
        let Some(mut entry) = self.peers.remove(&peer) else {
            return false;
        };
        entry.stream.release(&mut self.receiving, &mut self.sending);
        if let Some(torrent) = self.torrents.get_mut(&entry.torrent) {
            torrent.peers.remove(&peer);
        }
        self.dirty.remove(&peer);
        true
    }

    fn flush_haves(&mut self, now: Instant) {
        let mut clogged = Vec::new();
        for torrent in self.torrents.values_mut() {
            if torrent.haves.is_empty() {
                continue;
            }
            for &peer in &torrent.peers {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.stream.send_bytes(&torrent.haves);
                    self.dirty.insert(peer);
                    if entry.stream.is_clogged() {
                        clogged.push(peer);
                    }
                }
            }
            torrent.haves.clear();
        }
        for peer in clogged {
            self.hang_up(peer, CloseReason::ReadsTooSlowly);
        }
        self.drain(now);
    }

    /// Whoever asks and never reads would keep buffers from those who do.
    fn close_stalled(&mut self, now: Instant) {
        let timeout = self.session.config().peer_timeout;
        let mut stalled = Vec::new();
        for (&peer, entry) in &mut self.peers {
            if entry.stream.is_flushed() {
                entry.taken_at = now;
            } else if now.since(entry.taken_at) >= timeout {
                stalled.push(peer);
            }
        }
        for peer in stalled {
            self.hang_up(peer, CloseReason::ReadsNothing);
        }
        self.drain(now);
    }
}

fn give_all(pool: &mut BufPool, bufs: Vec<BlockBuf>) {
    bufs.into_iter().for_each(|buf| pool.give(buf));
}

/// One part in this many of the ceiling is for blocks that are being sent.
const SENDING_SHARE: usize = 4;

/// How often stalled sockets are looked for. The session ticks as often while it has peers.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// Buffers that each share has at least, however low the ceiling.
const BUFFERS_MIN: usize = 16;

#[cfg(test)]
mod tests;
