//! A thread that serves the [`Table`] over HTTP.
//!
//! One thread does it all: accept, read, answer. A connection owns at most one request of
//! [`REQUEST_LEN_MAX`] bytes and one response; while the response is not gone nothing more is
//! read. Silent connections end after a time, and at the limit the most silent gives way to a new
//! one, so that nobody can keep others out by opening connections.

mod connection;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dunlin_proto::rng::Rng;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::Config;
use crate::table::Table;

use connection::{Connection, Fate};

/// A running tracker. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stopping: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Why a tracker could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {addr}: {error}")]
    Listen { addr: SocketAddr, error: io::Error },
    #[error("cannot start the tracker: {0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Listens and begins to answer.
    pub fn start(config: Config) -> Result<Self, Error> {
        let addr = config.http;
        let listeners = listen(addr).map_err(|error| Error::Listen { addr, error })?;
        let addr = match listeners.first() {
            Some(listener) => listener.local_addr()?,
            None => addr,
        };
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let server_loop = Loop::new(config, poll, listeners, Arc::clone(&stopping))?;
        let thread = std::thread::Builder::new().name("tracker".to_owned());
        let thread = thread.spawn(move || server_loop.run())?;
        tracing::debug!(%addr, "tracker listens");
        Ok(Self {
            addr,
            stopping,
            waker,
            thread: Some(thread),
        })
    }

    /// Where it listens: the port is the one that was found if none was given, and everywhere is
    /// `[::]` where one socket takes IPv4 as well.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes everything and waits for the thread to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "tracker does not hear that it shall stop");
            return;
        }
        if thread.join().is_err() {
            tracing::error!("the tracker's thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread owns.
struct Loop {
    config: Config,
    poll: Poll,
    listeners: Vec<TcpListener>,
    connections: BTreeMap<Token, Connection>,
    /// Those that had more to say than a turn allows: they go on in the next one.
    busy: BTreeSet<Token>,
    next_token: usize,
    table: Table,
    rng: Rng,
    start: Instant,
    stopping: Arc<AtomicBool>,
}

impl Loop {
    fn new(
        config: Config,
        poll: Poll,
        mut listeners: Vec<TcpListener>,
        stopping: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        for (at, listener) in listeners.iter_mut().enumerate() {
            let token = Token(FIRST_LISTENER + at);
            poll.registry()
                .register(listener, token, Interest::READABLE)?;
        }
        Ok(Self {
            table: Table::new(config.limits.clone()),
            next_token: FIRST_LISTENER + listeners.len(),
            config,
            poll,
            listeners,
            connections: BTreeMap::new(),
            busy: BTreeSet::new(),
            // The choice of peers has to be even, not secret: the standard hasher's random keys
            // are seed enough.
            rng: Rng::new(RandomState::new().hash_one(0)),
            start: Instant::now(),
            stopping,
        })
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut next_sweep = Instant::now() + SWEEP_INTERVAL;
        while !self.stopping.load(Ordering::Acquire) {
            let wait = if self.busy.is_empty() {
                next_sweep.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            if let Err(error) = self.poll.poll(&mut events, Some(wait)) {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                tracing::error!(%error, "tracker stops: it cannot wait for its sockets");
                return;
            }
            let mut tokens = std::mem::take(&mut self.busy);
            tokens.extend(events.iter().map(mio::event::Event::token));
            for token in tokens {
                if self.listener(token).is_some() {
                    self.accept(token);
                } else if token != WAKER {
                    self.serve(token);
                }
            }
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_INTERVAL;
                self.sweep();
            }
        }
    }

    /// Once in a while: what is too old goes, and who could not be accepted is tried again.
    fn sweep(&mut self) {
        let now = Instant::now();
        let late = self.connections.iter();
        let late: Vec<Token> = late
            .filter(|(_, connection)| connection.deadline() <= now)
            .map(|(token, _)| *token)
            .collect();
        late.into_iter().for_each(|token| self.close(token));
        self.table.expire(self.virtual_now(), PEERS_PER_SWEEP);
        for at in 0..self.listeners.len() {
            self.accept(Token(FIRST_LISTENER + at));
        }
    }

    fn accept(&mut self, listener: Token) {
        while let Some(listener) = self.listener(listener) {
            let (stream, remote) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.on_exhausted(&error);
                    return;
                }
            };
            if self.connections.len() >= self.config.connections_max {
                self.close_most_silent();
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            let from = remote.ip().to_canonical();
            let connection = Connection::new(stream, from, Instant::now() + self.config.timeout);
            self.open(token, connection);
        }
    }

    /// Out of file descriptors, mostly. So many connections are too many from now on: with one
    /// fewer there is always a descriptor for the next, and the most silent gives way to it. The
    /// next sweep accepts whoever waits.
    fn on_exhausted(&mut self, error: &io::Error) {
        let connections = self.connections.len();
        if connections <= 1 {
            tracing::debug!(%error, "tracker cannot accept");
            return;
        }
        self.config.connections_max = connections - 1;
        tracing::warn!(%error, "no more than {} connections from now on", connections - 1);
        self.close_most_silent();
    }

    fn open(&mut self, token: Token, mut connection: Connection) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        match registry.register(connection.stream(), token, interest) {
            Ok(()) => {
                self.connections.insert(token, connection);
            }
            Err(error) => tracing::warn!(%error, "tracker cannot watch a connection"),
        }
    }

    fn serve(&mut self, token: Token) {
        let now = self.virtual_now();
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let deadline = Instant::now() + self.config.timeout;
        let fate = connection.advance(&mut self.table, now, &mut self.rng, deadline);
        match fate {
            Fate::Wait => {}
            Fate::GoOn => {
                self.busy.insert(token);
            }
            Fate::Close => self.close(token),
        }
    }

    fn close(&mut self, token: Token) {
        self.busy.remove(&token);
        if let Some(mut connection) = self.connections.remove(&token)
            && let Err(error) = self.poll.registry().deregister(connection.stream())
        {
            tracing::debug!(%error, "tracker forgets a connection");
        }
    }

    fn close_most_silent(&mut self) {
        let connections = self.connections.iter();
        let silent = connections.min_by_key(|(_, connection)| connection.deadline());
        if let Some((&token, _)) = silent {
            self.close(token);
        }
    }

    fn listener(&self, token: Token) -> Option<&TcpListener> {
        let at = token.0.checked_sub(FIRST_LISTENER)?;
        self.listeners.get(at)
    }

    /// The table's clock: it starts with the server.
    fn virtual_now(&self) -> dunlin_proto::time::Instant {
        dunlin_proto::time::Instant::START + self.start.elapsed()
    }
}

/// Sockets for the address. `0.0.0.0` means everywhere, hence IPv6 as well: either one socket
/// takes both, or there are two, as the system is set.
fn listen(addr: SocketAddr) -> io::Result<Vec<TcpListener>> {
    if addr.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return Ok(vec![TcpListener::bind(addr)?]);
    }
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    let v6 = match TcpListener::bind(everywhere) {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        // No IPv6 on this machine.
        Err(_) => return Ok(vec![TcpListener::bind(addr)?]),
    };
    let v4 = SocketAddr::new(addr.ip(), v6.local_addr()?.port());
    Ok(match TcpListener::bind(v4) {
        Ok(v4) => vec![v4, v6],
        Err(_) => vec![v6],
    })
}

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;

const EVENTS_PER_TURN: usize = 256;

/// How often connections are checked for silence and the table for peers that stayed away.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Peers looked at in one sweep: a few milliseconds.
const PEERS_PER_SWEEP: usize = 50_000;

#[cfg(test)]
mod tests;
