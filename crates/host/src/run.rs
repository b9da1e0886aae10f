//! The loop: one thread that owns the session and every socket.
//!
//! A turn waits for news, reads what arrived, carries out what the session wants and writes what
//! is to be sent. Work on one socket is bounded a turn, so a fast peer does not hold up the others;
//! what is left over is remembered, because mio tells of it only once.

mod connections;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use dunlin_engine::event::{DiskOp, PeerAddr, PeerSource, TorrentKey};
use dunlin_engine::hub::Hub;
use dunlin_engine::shard::{Shard, Task};
use dunlin_engine::snapshot::TorrentSnapshot;
use dunlin_engine::{AddTorrent, Command, Event, PeerKey};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use mio::net::TcpListener;

use crate::disk::{Disk, DiskConfig, DiskReply, ReadJob};
use crate::handle::{HostConfig, HostError};
use crate::net::Paths;
use crate::notices::{Notice, Notices};
use crate::poller::{News, Poller};
use crate::storage::Storage;
use crate::tcp;
use crate::trackers::{Announce, News as TrackerNews, Trackers};
use connections::Socket;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Order {
    Add {
        torrent: TorrentKey,
        params: Box<AddTorrent>,
        storage: Box<Storage>,
    },
    Command(Command),
    Snapshot {
        torrent: TorrentKey,
        reply: SyncSender<Option<TorrentSnapshot>>,
    },
    BufferBytes {
        reply: SyncSender<u64>,
    },
    /// Remove every torrent, then end.
    Stop,
}

pub(crate) struct Loop {
    clock: Clock,
    poller: Poller,
    shard: Shard,
    hub: Hub,
    disk: Disk,
    trackers: Trackers,
    orders: Receiver<Order>,
    notices: Notices,
    listeners: Vec<Listener>,
    paths: Paths,
    sockets: BTreeMap<u64, Socket>,
    sockets_max: usize,
    /// No descriptors were left: no new connections until then.
    accept_after: Option<Instant>,
    next_key: u64,
    /// Sockets that may have something to read.
    ready: BTreeSet<u64>,
    /// Sockets that have something to send.
    writers: BTreeSet<u64>,
    /// Peers that wait for a free buffer before more is read from them.
    starved: BTreeSet<u64>,
    /// Bytes that belong in no buffer of their own land here.
    shared: Vec<u8>,
    news: Vec<News>,
    /// When to end, whatever is still to be done.
    stop_at: Option<Instant>,
    shrink_at: Instant,
}

struct Listener {
    socket: TcpListener,
    readable: bool,
}

/// The one place where the clock is read.
struct Clock {
    start: std::time::Instant,
}

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

impl Loop {
    pub(crate) fn new(
        config: HostConfig,
        seed: u64,
        paths: Paths,
        listeners: Vec<TcpListener>,
        poller: Poller,
        orders: Receiver<Order>,
        notices: Notices,
    ) -> Result<Self, HostError> {
        let clock = Clock {
            start: std::time::Instant::now(),
        };
        let hub = Hub::new(config.engine.peer_id);
        let shard = Shard::new(config.engine, Rng::new(seed), clock.now());
        let disk = DiskConfig::new(config.disk_workers, shard.receiving_bytes_max());
        let disk = Disk::start(disk, poller.wake())?;
        let listening = listeners
            .iter()
            .filter_map(|listener| Some(listener.local_addr().ok()?.ip()))
            .collect();
        let trackers = Trackers::new(paths.clone(), listening, poller.wake());
        let mut listening = Vec::new();
        for (mut socket, key) in listeners.into_iter().zip(0..FIRST_KEY) {
            poller.register_listener(&mut socket, key)?;
            listening.push(Listener {
                socket,
                readable: true,
            });
        }
        Ok(Self {
            shrink_at: clock.now() + SHRINK_INTERVAL,
            clock,
            poller,
            shard,
            hub,
            disk,
            trackers,
            orders,
            notices,
            listeners: listening,
            paths,
            sockets: BTreeMap::new(),
            sockets_max: tcp::sockets_max(),
            accept_after: None,
            next_key: FIRST_KEY,
            ready: BTreeSet::new(),
            writers: BTreeSet::new(),
            starved: BTreeSet::new(),
            shared: vec![0; SHARED_LEN],
            news: Vec::new(),
            stop_at: None,
        })
    }

    /// Until [`Order::Stop`], or until the last handle is gone.
    pub(crate) fn run(mut self) {
        loop {
            let timeout = self.timeout();
            let mut news = std::mem::take(&mut self.news);
            if let Err(error) = self.poller.wait(timeout, &mut news) {
                // Nothing can be waited for any more, so nothing can be done.
                tracing::error!(%error, "the poll object is broken, every transfer ends");
                return;
            }
            self.take_news(&mut news);
            self.news = news;
            self.turn();
            if self.is_done() {
                tracing::debug!(lost_alerts = self.notices.lost(), "the loop ends");
                return;
            }
        }
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        self.accept(now);
        self.take_orders(now);
        self.take_disk_replies(now);
        self.take_tracker_news(now);
        if self.shard.has_room() {
            self.ready.append(&mut self.starved);
        }
        for key in std::mem::take(&mut self.ready) {
            self.read(now, key);
        }
        let now = self.clock.now();
        if self.shard.deadline().is_some_and(|at| at <= now) {
            self.shard.tick(now);
        }
        while let Some(failure) = self.hub.expired(now) {
            self.on_failure(now, failure);
        }
        self.settle(now);
        self.notices.send_late();
        if self.shrink_at <= now {
            self.shard.shrink();
            self.shrink_at = now + SHRINK_INTERVAL;
        }
    }

    /// How long to wait for news. What is left over from the last turn does not wait.
    fn timeout(&self) -> Option<Duration> {
        let now = self.clock.now();
        if !self.ready.is_empty() || !self.writers.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.accept_after.is_none() && self.may_accept() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.shard.deadline(),
            self.hub.deadline(),
            self.accept_after,
            self.stop_at,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        // mio waits in milliseconds and rounds up.
        Some(next.since(now))
    }

    fn take_news(&mut self, news: &mut Vec<News>) {
        for news in news.drain(..) {
            if let Some(listener) = self.listeners.get_mut(news.key as usize) {
                listener.readable = true;
                continue;
            }
            let Some(socket) = self.sockets.get_mut(&news.key) else {
                continue;
            };
            socket.on_news(news);
            if news.readable || news.ended {
                self.ready.insert(news.key);
            }
            if news.writable {
                self.ready.insert(news.key);
                self.writers.insert(news.key);
                self.shard.writable(PeerKey(news.key));
            }
        }
    }

    fn take_orders(&mut self, now: Instant) {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(now, order),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.stop(now);
                    return;
                }
            }
        }
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::Add {
                torrent,
                params,
                storage,
            } => {
                self.disk.add(torrent, *storage);
                let command = Command::Add { torrent, params };
                self.shard.handle(now, Event::Command(command));
            }
            Order::Command(command) => self.shard.handle(now, Event::Command(command)),
            // Whoever asked may have stopped waiting.
            Order::Snapshot { torrent, reply } => {
                drop(reply.try_send(self.shard.snapshot(torrent, now)));
            }
            Order::BufferBytes { reply } => drop(reply.try_send(self.shard.buffer_bytes())),
            Order::Stop => self.stop(now),
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.stop_at.is_some() {
            return;
        }
        self.stop_at = Some(now + STOP_TIMEOUT);
        self.listeners.clear();
        let torrents: Vec<TorrentKey> = self.shard.torrents().collect();
        for torrent in torrents {
            self.shard
                .handle(now, Event::Command(Command::Remove { torrent }));
        }
    }

    fn is_done(&self) -> bool {
        self.stop_at
            .is_some_and(|at| self.shard.torrents().next().is_none() || self.clock.now() >= at)
    }

    fn take_disk_replies(&mut self, now: Instant) {
        while let Some(reply) = self.disk.try_recv() {
            match reply {
                DiskReply::Done {
                    job,
                    torrent,
                    result,
                    bufs,
                } => self.shard.disk_done(now, torrent, job, result, bufs),
                DiskReply::Read {
                    tag, bufs, result, ..
                } => self.shard.read_done(now, PeerKey(tag), bufs, result),
            }
        }
    }

    fn take_tracker_news(&mut self, now: Instant) {
        while let Some(news) = self.trackers.try_news() {
            let event = match news {
                TrackerNews::Reply {
                    torrent,
                    tracker,
                    result,
                } => Event::TrackerReplied {
                    torrent,
                    tracker,
                    result,
                },
                TrackerNews::MorePeers { torrent, peers } => Event::PeersFound {
                    torrent,
                    source: PeerSource::Tracker,
                    peers: peers.into_iter().map(PeerAddr::Tcp).collect(),
                },
            };
            self.shard.handle(now, event);
        }
    }

    /// Carries out tasks and writes until nothing moves, or for as long as is fair.
    fn settle(&mut self, now: Instant) {
        for _ in 0..ROUNDS_MAX {
            self.shard.flush(now);
            self.do_tasks(now);
            while let Some(peer) = self.shard.poll_dirty() {
                self.writers.insert(peer.0);
            }
            let writers = std::mem::take(&mut self.writers);
            if writers.is_empty() {
                return;
            }
            for key in writers {
                self.write(now, key);
            }
        }
        self.shard.flush(now);
        self.do_tasks(now);
        while let Some(peer) = self.shard.poll_dirty() {
            self.writers.insert(peer.0);
        }
    }

    fn do_tasks(&mut self, now: Instant) {
        while let Some(task) = self.shard.poll_task() {
            self.do_task(now, task);
        }
    }

    fn do_task(&mut self, now: Instant, task: Task) {
        match task {
            Task::Dial {
                torrent,
                info_hash,
                remote,
            } => self.dial(now, torrent, info_hash, remote),
            Task::Accept { conn, torrent } => {
                if let Some(established) = self.hub.accept(conn, torrent) {
                    self.on_established(now, conn, established);
                }
            }
            Task::Refuse { conn, reason } => {
                tracing::debug!(conn = conn.0, %reason, "refused");
                self.hub.refuse(conn);
                self.drop_socket(conn.0);
            }
            Task::Close { peer, reason } => {
                tracing::trace!(peer = peer.0, %reason, "closed");
                self.drop_socket(peer.0);
            }
            Task::Disk(job) => {
                if let DiskOp::SaveResume(_) = job.op {
                    tracing::trace!(torrent = job.torrent.0, "resume data");
                }
                self.disk.submit(job);
            }
            Task::Read(read) => self.disk.read(ReadJob {
                torrent: read.torrent,
                run: read.run,
                tag: read.peer.0,
                bufs: read.bufs,
            }),
            Task::Announce {
                torrent,
                tracker,
                url,
                request,
            } => self.trackers.announce(Announce {
                torrent,
                tracker,
                url,
                request,
            }),
            Task::TorrentGone { torrent } => {
                self.disk.remove(torrent);
                for conn in self.hub.dials_of(torrent) {
                    self.hub.refuse(conn);
                    self.drop_socket(conn.0);
                }
            }
            Task::Metadata { torrent, info } => {
                let at = Duration::from_micros(now.as_micros());
                self.notices.send(Notice::Metadata { at, torrent, info });
            }
            Task::Alert(alert) => {
                let at = Duration::from_micros(now.as_micros());
                self.notices.send(Notice::Alert { at, alert });
            }
        }
    }
}

/// Smaller keys are those of listening sockets.
const FIRST_KEY: u64 = 16;

/// Read in one go from one socket, beside what goes into its own buffer.
const SHARED_LEN: usize = 256 * 1024;

/// How often in a turn what was written may lead to more to be written.
const ROUNDS_MAX: usize = 3;

/// The session gives trackers two seconds; the disk has until then to make all of it durable.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle buffers are given back to the system that often.
const SHRINK_INTERVAL: Duration = Duration::from_secs(30);
