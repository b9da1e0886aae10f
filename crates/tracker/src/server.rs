//! A thread that serves the [`Table`](crate::table::Table) over HTTP and UDP.
//!
//! One thread does it all: accept, read, answer; every socket gets its turn. A connection owns at most one request of
//! [`REQUEST_LEN_MAX`] bytes and one response; while the response is not gone nothing more is
//! read. Silent connections end after a time, and at the limit the most silent gives way to a new
//! one, so that nobody can keep others out by opening connections.

mod connection;
mod datagrams;
mod own_address;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::files::{self, Files};
use crate::service::{Service, Way};

use connection::{Connection, Fate};
use datagrams::Datagrams;

/// A running tracker. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    http: SocketAddr,
    udp: Option<SocketAddr>,
    files: Files,
    stopping: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Http,
    Udp,
}

/// Why a tracker could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {addr} ({protocol}): {error}")]
    Listen {
        protocol: Protocol,
        addr: SocketAddr,
        error: io::Error,
    },
    #[error("cannot start the tracker: {0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Listens and begins to answer.
    pub fn start(config: Config) -> Result<Self, Error> {
        let cannot_listen = |protocol, addr| {
            move |error| Error::Listen {
                protocol,
                addr,
                error,
            }
        };
        let listeners = listen(config.http).map_err(cannot_listen(Protocol::Http, config.http))?;
        let sockets = match config.udp {
            Some(addr) => datagrams::bind(addr).map_err(cannot_listen(Protocol::Udp, addr))?,
            None => Vec::new(),
        };
        let http = listeners.first().map(TcpListener::local_addr);
        let http = http.transpose()?.unwrap_or(config.http);
        let udp = sockets.first().map(UdpSocket::local_addr).transpose()?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let files = Files::default();
        let mut server_loop = Loop::new(config, poll, files.clone(), Arc::clone(&stopping));
        server_loop.watch(listeners, sockets)?;
        let thread = std::thread::Builder::new().name("tracker".to_owned());
        let thread = thread.spawn(move || server_loop.run())?;
        tracing::debug!(%http, ?udp, "tracker listens");
        Ok(Self {
            http,
            udp,
            files,
            stopping,
            waker,
            thread: Some(thread),
        })
    }

    /// Where it listens: the port is the one that was found if none was given, and everywhere is
    /// `[::]` where one socket takes IPv4 as well.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp
    }

    /// From now on `GET` of [`path_of(name)`](files::path_of) is answered with `bytes`, as a
    /// .torrent. Returns that path.
    pub fn serve_file(&self, name: &str, bytes: Vec<u8>) -> String {
        self.files.put(name, bytes);
        files::path_of(name)
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

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Udp => "UDP",
        })
    }
}

/// What the thread owns.
struct Loop {
    config: Config,
    poll: Poll,
    listeners: BTreeMap<Token, TcpListener>,
    datagrams: BTreeMap<Token, Datagrams>,
    connections: BTreeMap<Token, Connection>,
    /// Those that had more to say than a turn allows: they go on in the next one.
    busy: BTreeSet<Token>,
    next_token: usize,
    service: Service,
    start: Instant,
    stopping: Arc<AtomicBool>,
}

impl Loop {
    fn new(config: Config, poll: Poll, files: Files, stopping: Arc<AtomicBool>) -> Self {
        // The choice of peers has to be even, not secret: the standard hasher's random keys are
        // seed enough.
        let seed = RandomState::new().hash_one(0);
        Self {
            service: Service::new(config.limits.clone(), files, seed),
            next_token: WAKER.0 + 1,
            config,
            poll,
            listeners: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            connections: BTreeMap::new(),
            busy: BTreeSet::new(),
            start: Instant::now(),
            stopping,
        }
    }

    fn watch(&mut self, listeners: Vec<TcpListener>, sockets: Vec<UdpSocket>) -> io::Result<()> {
        for mut listener in listeners {
            let token = self.token();
            let registry = self.poll.registry();
            registry.register(&mut listener, token, Interest::READABLE)?;
            self.listeners.insert(token, listener);
        }
        if sockets.is_empty() {
            return Ok(());
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let ids = ConnectionIds::new(&key);
        for socket in sockets {
            let token = self.token();
            let mut datagrams = Datagrams::new(socket, ids.clone())?;
            let registry = self.poll.registry();
            registry.register(datagrams.socket(), token, Interest::READABLE)?;
            self.datagrams.insert(token, datagrams);
        }
        Ok(())
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
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
                self.serve(token);
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
        let now = self.virtual_now();
        self.service.table.expire(now, PEERS_PER_SWEEP);
        self.datagrams.values_mut().for_each(Datagrams::sweep);
        let listeners: Vec<Token> = self.listeners.keys().copied().collect();
        listeners.into_iter().for_each(|token| self.accept(token));
    }

    fn accept(&mut self, token: Token) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&token) else {
                return;
            };
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
            self.open(stream, remote);
        }
        self.busy.insert(token);
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

    fn open(&mut self, stream: TcpStream, remote: SocketAddr) {
        let way = Way {
            from: remote.ip().to_canonical(),
            reached_at: stream
                .local_addr()
                .ok()
                .map(|addr| addr.ip().to_canonical()),
        };
        let mut connection = Connection::new(stream, way, self.config.timeout);
        let token = self.token();
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
        if self.listeners.contains_key(&token) {
            self.accept(token);
        }
        if let Some(datagrams) = self.datagrams.get_mut(&token)
            && datagrams.serve(&mut self.service, now)
        {
            self.busy.insert(token);
        }
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match connection.advance(&mut self.service, now) {
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

const EVENTS_PER_TURN: usize = 256;

/// Connections that are accepted before the others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How often connections are checked for silence and the table for peers that stayed away.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Peers looked at in one sweep: a few milliseconds.
const PEERS_PER_SWEEP: usize = 50_000;

#[cfg(test)]
mod tests;
