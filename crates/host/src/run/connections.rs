//! The loop's sockets: accepting, dialling, reading and writing, each bounded a turn.

use std::io::{self, IoSlice, Read, Write};

use dunlin_engine::event::{ConnKey, PeerAddr, TorrentKey};
use dunlin_engine::hub::{Established, Failure, Step};
use dunlin_engine::reason::CloseReason;
use dunlin_engine::{Event, PeerKey};
use dunlin_metainfo::InfoHash;
use dunlin_proto::time::Instant;
use mio::net::TcpStream;
use std::net::SocketAddr;
use std::time::Duration;

use super::Loop;
use crate::poller::News;
use crate::tcp;

/// One connection and what mio has told of it.
pub(super) struct Socket {
    stream: TcpStream,
    phase: Phase,
    readable: bool,
    writable: bool,
    /// A read that finds less than it could take is not the last: the end is still to be read.
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Dialling,
    Handshake,
    Peer,
}

impl Socket {
    pub(super) fn on_news(&mut self, news: News) {
        self.readable |= news.readable || news.ended;
        self.writable |= news.writable;
        self.ended |= news.ended;
    }
}

impl Loop {
    /// Somebody may be waiting, and there is a descriptor for him or for whom he displaces.
    pub(super) fn may_accept(&self) -> bool {
        let has_room = self.sockets.len() < self.sockets_max || self.hub.has_strangers();
        has_room && self.listeners.iter().any(|listener| listener.readable)
    }

    /// Lets strangers in. Once the descriptors are used up a new one displaces the one that has
    /// not shown its handshake for longest; when all are peers, the others wait in the backlog.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|at| at > now) {
            return;
        }
        self.accept_after = None;
        for _ in 0..ACCEPTS_A_TURN {
            if !self.may_accept() {
                return;
            }
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.readable)
            else {
                return;
            };
            match listener.socket.accept() {
                Ok((stream, addr)) => {
                    if self.sockets.len() >= self.sockets_max
                        && let Some(failure) = self.hub.displace()
                    {
                        self.on_failure(now, failure);
                    }
                    self.on_accepted(now, stream, addr);
                }
                Err(error) if would_block(&error) => listener.readable = false,
                Err(error) if tcp::is_exhausted(&error) => {
                    tracing::warn!(%error, "no more connections for now");
                    self.accept_after = Some(now + EXHAUSTED_PAUSE);
                    return;
                }
                // One connection that ended before we looked at it.
                Err(_) => {}
            }
        }
    }

    fn on_accepted(&mut self, now: Instant, stream: TcpStream, addr: SocketAddr) {
        tcp::set_up(&stream);
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let Some(key) = self.add_socket(stream, Phase::Handshake) else {
            return;
        };
        let displaced = self.hub.accepted(now, ConnKey(key), PeerAddr::Tcp(addr));
        if let Some(failure) = displaced {
            self.on_failure(now, failure);
        }
    }

    pub(super) fn dial(
        &mut self,
        now: Instant,
        torrent: TorrentKey,
        info_hash: InfoHash,
        remote: PeerAddr,
    ) {
        let has_room = self.hub.may_dial() && self.sockets.len() < self.sockets_max;
        let result = if has_room {
            tcp::dial(remote.socket_addr(), &self.paths)
        } else {
            Err(io::Error::other("too many open connections"))
        };
        let result = result.and_then(|stream| {
            self.add_socket(stream, Phase::Dialling)
                .ok_or_else(|| io::Error::other("too many open connections"))
        });
        match result {
            Ok(key) => self
                .hub
                .dialling(now, ConnKey(key), torrent, info_hash, remote),
            Err(error) => {
                let event = Event::DialFailed {
                    torrent,
                    remote,
                    reason: tcp::close_reason(&error),
                };
                self.shard.handle(now, event);
            }
        }
    }

    fn add_socket(&mut self, mut stream: TcpStream, phase: Phase) -> Option<u64> {
        let key = self.next_key;
        self.next_key += 1;
        if let Err(error) = self.poller.register(&mut stream, key) {
            tracing::warn!(%error, "a socket cannot be waited for");
            return None;
        }
        let socket = Socket {
            stream,
            phase,
            readable: false,
            writable: false,
            ended: false,
        };
        self.sockets.insert(key, socket);
        Some(key)
    }

    pub(super) fn drop_socket(&mut self, key: u64) {
        if let Some(mut socket) = self.sockets.remove(&key) {
            self.poller.deregister(&mut socket.stream);
        }
        self.ready.remove(&key);
        self.writers.remove(&key);
        self.starved.remove(&key);
    }

    /// Reads once from a socket.
    pub(super) fn read(&mut self, now: Instant, key: u64) {
        let Some(phase) = self.sockets.get(&key).map(|socket| socket.phase) else {
            return;
        };
        match phase {
            Phase::Dialling => self.check_dial(now, key),
            Phase::Handshake => self.read_handshake(now, key),
            Phase::Peer => self.read_peer(now, key),
        }
    }

    fn check_dial(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        match tcp::connected(&socket.stream) {
            Ok(true) => {
                tcp::set_up(&socket.stream);
                socket.phase = Phase::Handshake;
                self.hub.connected(now, ConnKey(key));
                self.writers.insert(key);
                self.ready.insert(key);
            }
            Ok(false) => {}
            Err(error) => self.on_end(now, key, tcp::close_reason(&error)),
        }
    }

    fn read_handshake(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        let mut buffer = [0; HANDSHAKE_READ_LEN];
        match socket.stream.read(&mut buffer) {
            Ok(0) => self.on_end(now, key, CloseReason::RemoteClosed),
            Ok(n) => {
                self.ready.insert(key);
                let bytes = buffer.get(..n).unwrap_or_default();
                let step = self.hub.received(ConnKey(key), bytes);
                self.on_step(now, key, step);
            }
            Err(error) => self.on_read_error(now, key, &error),
        }
    }

    fn on_step(&mut self, now: Instant, key: u64, step: Step) {
        match step {
            Step::Wait => {
                self.writers.insert(key);
            }
            Step::Incoming { remote, handshake } => {
                let event = Event::Incoming {
                    conn: ConnKey(key),
                    remote,
                    handshake,
                };
                self.shard.handle(now, event);
            }
            Step::Established(established) => {
                self.on_established(now, ConnKey(key), *established);
            }
            Step::Failed(failure) => self.on_failure(now, failure),
        }
    }

    /// From now on the socket is a peer's, under the same number.
    pub(super) fn on_established(&mut self, now: Instant, conn: ConnKey, established: Established) {
        let key = conn.0;
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.phase = Phase::Peer;
            self.ready.insert(key);
            self.shard.connected(now, PeerKey(key), established);
        }
    }

    pub(super) fn on_failure(&mut self, now: Instant, failure: Failure) {
        let Failure {
            conn,
            dialled,
            reason,
        } = failure;
        tracing::debug!(conn = conn.0, %reason, "no handshake");
        self.drop_socket(conn.0);
        if let Some((torrent, remote)) = dialled {
            let event = Event::DialFailed {
                torrent,
                remote,
                reason,
            };
            self.shard.handle(now, event);
        }
    }

    fn read_peer(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get_mut(&key).filter(|socket| socket.readable) else {
            return;
        };
        let Some(mut slots) = self.shard.space(PeerKey(key), &mut self.shared) else {
            self.starved.insert(key);
            return;
        };
        let space: usize = slots.iter().map(|slot| slot.len()).sum();
        match socket.stream.read_vectored(&mut slots) {
            Ok(0) => self.on_end(now, key, CloseReason::RemoteClosed),
            Ok(n) => {
                // A short read emptied the socket: mio tells when there is more.
                if n == space || socket.ended {
                    self.ready.insert(key);
                } else {
                    socket.readable = false;
                }
                self.shard.filled(now, PeerKey(key), n, &self.shared);
            }
            Err(error) => self.on_read_error(now, key, &error),
        }
    }

    fn on_read_error(&mut self, now: Instant, key: u64, error: &io::Error) {
        if would_block(error) {
            if let Some(socket) = self.sockets.get_mut(&key) {
                socket.readable = false;
            }
        } else if was_interrupted(error) {
            self.ready.insert(key);
        } else {
            self.on_end(now, key, tcp::close_reason(error));
        }
    }

    /// The connection ended, not by our doing.
    fn on_end(&mut self, now: Instant, key: u64, reason: CloseReason) {
        let phase = self.sockets.get(&key).map(|socket| socket.phase);
        self.drop_socket(key);
        match phase {
            Some(Phase::Peer) => self.shard.closed(now, PeerKey(key), reason),
            Some(Phase::Dialling | Phase::Handshake) => {
                if let Some(failure) = self.hub.closed(ConnKey(key), reason) {
                    self.on_failure(now, failure);
                }
            }
            None => {}
        }
    }

    /// Writes once to a socket; what is left over waits for the next round.
    pub(super) fn write(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get(&key).filter(|socket| socket.writable) else {
            return;
        };
        match socket.phase {
            Phase::Dialling => {}
            Phase::Handshake => self.write_handshake(now, key),
            Phase::Peer => self.write_peer(now, key),
        }
    }

    fn write_handshake(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        let bytes = self.hub.outgoing(ConnKey(key));
        if bytes.is_empty() {
            return;
        }
        match socket.stream.write(bytes) {
            Ok(n) => {
                self.hub.sent(ConnKey(key), n);
                self.writers.insert(key);
            }
            Err(error) => self.on_write_error(now, key, &error),
        }
    }

    fn write_peer(&mut self, now: Instant, key: u64) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        let peer = PeerKey(key);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = self.shard.outgoing(peer, &mut slices);
        let slices = slices.get(..filled).unwrap_or_default();
        if slices.is_empty() {
            return;
        }
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        match socket.stream.write_vectored(slices) {
            Ok(n) => {
                let is_full = n < len;
                socket.writable = !is_full;
                self.shard.sent(now, peer, n, is_full);
                if !is_full {
                    self.writers.insert(key);
                }
            }
            Err(error) => self.on_write_error(now, key, &error),
        }
    }

    fn on_write_error(&mut self, now: Instant, key: u64, error: &io::Error) {
        if would_block(error) {
            if let Some(socket) = self.sockets.get_mut(&key) {
                socket.writable = false;
            }
            self.shard.sent(now, PeerKey(key), 0, true);
        } else if was_interrupted(error) {
            self.writers.insert(key);
        } else {
            self.on_end(now, key, tcp::close_reason(error));
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn was_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// A flood of connections does not keep the peers waiting for longer than these take.
const ACCEPTS_A_TURN: usize = 64;

/// How long no connection is accepted after descriptors ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);

/// Nothing large may come before the handshakes are done.
const HANDSHAKE_READ_LEN: usize = 4096;

/// 64 blocks with their headers in one write.
const SLICES_MAX: usize = 128;
