//! TCP sockets as the loop wants them: non-blocking, without Nagle's delay.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dunlin_engine::reason::CloseReason;
use mio::net::{TcpListener, TcpStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Resource, getrlimit};

use crate::net::Paths;

/// Where to listen for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// This port on all interfaces, or else the next one that is free.
    Auto(u16),
    /// This port on all interfaces.
    Port(u16),
    /// This address and nothing else.
    Exact(SocketAddr),
}

/// Why we cannot listen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{addr}: {message}")]
pub struct ListenError {
    pub addr: SocketAddr,
    pub kind: ListenErrorKind,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenErrorKind {
    /// Somebody else listens there.
    InUse,
    /// Not an address of this machine.
    NotOurs,
    /// Ports below 1024 are for the administrator.
    Permission,
    Other,
}

/// The listening sockets, and the address that we tell.
pub(crate) fn listen(
    at: Listen,
    paths: &Paths,
) -> Result<(Vec<TcpListener>, SocketAddr), ListenError> {
    match at {
        Listen::Exact(addr) => {
            let listener = bind(addr).map_err(|error| listen_error(addr, &error))?;
            let addr = listener.local_addr().unwrap_or(addr);
            Ok((vec![listener], addr))
        }
        Listen::Port(port) => bind_all(port, paths),
        Listen::Auto(first) => {
            let next = (first..=first.saturating_add(PORTS_TRIED - 1)).chain([0]);
            let mut tries = next.map(|port| bind_all(port, paths));
            let is_over = |bound: &Result<_, ListenError>| match bound {
                Ok(_) => true,
                Err(error) => error.kind != ListenErrorKind::InUse,
            };
            tries.find(is_over).unwrap_or_else(|| bind_all(0, paths))
        }
    }
}

/// One socket a family. A machine without IPv6 has one; which is told only if nothing else is
/// left.
fn bind_all(port: u16, paths: &Paths) -> Result<(Vec<TcpListener>, SocketAddr), ListenError> {
    let mut listeners = Vec::new();
    let mut told: Option<SocketAddr> = None;
    let mut failed = None;
    for ip in paths.listening() {
        let addr = SocketAddr::new(ip, told.map_or(port, |told| told.port()));
        let bound = if ip.is_ipv4() {
            bind(addr)
        } else {
            bind_v6_only(addr)
        };
        match bound {
            Ok(listener) => {
                told = told.or(listener.local_addr().ok()).or(Some(addr));
                listeners.push(listener);
            }
            Err(error) => {
                let error = listen_error(addr, &error);
                if error.kind == ListenErrorKind::InUse || addr.is_ipv4() {
                    return Err(error);
                }
                failed = Some(error);
            }
        }
    }
    match (told, failed) {
        (Some(told), _) => Ok((listeners, told)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(listen_error(
            SocketAddr::from(([0, 0, 0, 0], port)),
            &io::Error::from(io::ErrorKind::AddrNotAvailable),
        )),
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
}

/// Without taking the same port of IPv4, which has a socket of its own.
fn bind_v6_only(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(addr.ip())?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
fn listen_error(addr: SocketAddr, error: &io::Error) -> ListenError {
    let (kind, message) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            ListenErrorKind::InUse,
            "another program listens there; choose another port with --port".to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            ListenErrorKind::NotOurs,
            "this machine has no such address; choose another one".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            ListenErrorKind::Permission,
            "not allowed; choose a port above 1023".to_owned(),
        ),
        _ => (ListenErrorKind::Other, crate::words(error)),
    };
    ListenError {
        addr,
        kind,
        message,
    }
}

/// Begins to connect.
pub(crate) fn dial(addr: SocketAddr, paths: &Paths) -> io::Result<TcpStream> {
    let socket = outgoing(addr, paths)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
        Err(error) => Err(error.into()),
    }
}

/// Connects and waits for it.
pub(crate) fn connect(
    addr: SocketAddr,
    paths: &Paths,
    timeout: Duration,
) -> io::Result<std::net::TcpStream> {
    let deadline = Instant::now() + timeout;
    let socket = outgoing(addr, paths)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait_writable(&socket, deadline)?,
        Err(error) => return Err(error.into()),
    }
    let stream = std::net::TcpStream::from(socket);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn wait_writable(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            // A signal, which another thread takes care of.
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A socket that leaves by the way that leads to `to`.
fn outgoing(to: SocketAddr, paths: &Paths) -> io::Result<OwnedFd> {
    let source = paths.source(to.ip())?;
    let socket = new_socket(to.ip())?;
    paths.hold(&socket)?;
    if let Some(source) = source {
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

fn new_socket(ip: IpAddr) -> io::Result<OwnedFd> {
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Whether the attempt to connect is over, and how it went.
pub(crate) fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Small messages go out at once: blocks are sent in large writes anyway.
pub(crate) fn set_up(stream: &TcpStream) {
    // Without it the connection works, only slower.
    let _ = stream.set_nodelay(true);
}

/// The process or the system is out of descriptors or memory: try again later.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .map(Some)
        .contains(&errno)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
pub(crate) fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CloseReason::ConnectionRefused,
        io::ErrorKind::TimedOut => CloseReason::TimedOut,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            CloseReason::Unreachable
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::RemoteClosed,
        _ => CloseReason::Io(crate::words(error)),
    }
}

/// Sockets that we may hold open. A quarter of what the process may open is for files.
pub(crate) fn sockets_max() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    (allowed / 4 * 3)
        .saturating_sub(OTHER_FILES)
        .max(SOCKETS_MIN)
}

/// Tried one after the other before any free port is taken.
const PORTS_TRIED: u16 = 100;
const BACKLOG: i32 = 1024;
/// Logs, locks, pipes, tracker connections, standard streams.
const OTHER_FILES: usize = 64;
const SOCKETS_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Families, Interface, Network};

    fn port_of(at: Listen) -> (Vec<TcpListener>, u16) {
        let (listeners, addr) = listen(at, &Paths::ANY).unwrap();
        (listeners, addr.port())
    }

    fn why(at: Listen) -> (ListenErrorKind, String) {
        let error = listen(at, &Paths::ANY).unwrap_err();
        (error.kind, error.to_string())
    }

    #[test]
    fn all_interfaces_are_those_of_both_families() {
        let (listeners, port) = port_of(Listen::Auto(0));
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        // A machine without IPv6 has one listener.
        assert!(listeners.len() == 1 || std::net::TcpStream::connect(("::1", port)).is_ok());
    }

    #[test]
    fn one_family_listens_alone() {
        let network = Network {
            families: Families::V6,
            interface: None,
        };
        let paths = Paths::new(&network, Listen::Auto(0)).unwrap();
        // A machine without IPv6 cannot listen at all.
        if let Ok((_listeners, addr)) = listen(Listen::Auto(0), &paths) {
            assert!(addr.is_ipv6());
            assert!(std::net::TcpStream::connect(("127.0.0.1", addr.port())).is_err());
        }
    }

    #[test]
    fn an_interface_listens_alone() {
        let network = Network {
            families: Families::V4,
            interface: Some(Interface::from("127.0.0.2")),
        };
        let paths = Paths::new(&network, Listen::Auto(0)).unwrap();
        let (_listeners, addr) = listen(Listen::Auto(0), &paths).unwrap();
        assert_eq!(addr.ip(), IpAddr::from([127, 0, 0, 2]));
    }

    #[test]
    fn whoever_listens_on_one_address_comes_from_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let from = IpAddr::from([127, 0, 0, 3]);
        let listen = Listen::Exact(SocketAddr::new(from, 0));
        let paths = Paths::new(&Network::default(), listen).unwrap();
        let dialled = dial(addr, &paths).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), from);
        let connected = connect(addr, &paths, Duration::from_secs(10)).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), from);
        drop((dialled, connected));
    }

    #[test]
    fn connecting_says_what_went_wrong() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let kind = |addr| {
            connect(addr, &Paths::ANY, Duration::from_millis(300))
                .unwrap_err()
                .kind()
        };
        assert_eq!(kind(addr), io::ErrorKind::ConnectionRefused);
        // Nobody takes connections out of this backlog, so it fills up.
        let busy = new_socket(addr.ip()).unwrap();
        rustix::net::bind(&busy, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&busy, 1).unwrap();
        let busy = std::net::TcpListener::from(busy);
        let addr = busy.local_addr().unwrap();
        let mut held = Vec::new();
        let last = loop {
            match connect(addr, &Paths::ANY, Duration::from_millis(300)) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(last.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_exact_address_in_use_is_refused_and_an_automatic_one_moves_on() {
        let (_taken, port) = port_of(Listen::Auto(0));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let (kind, text) = why(Listen::Exact(addr));
        assert_eq!(kind, ListenErrorKind::InUse);
        assert!(text.starts_with(&format!("127.0.0.1:{port}: another program")));
        assert_eq!(why(Listen::Port(port)).0, ListenErrorKind::InUse);
        let (_, other) = port_of(Listen::Auto(port));
        assert_ne!(port, other);
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        let (kind, text) = why(Listen::Exact("192.0.2.1:0".parse().unwrap()));
        assert_eq!(kind, ListenErrorKind::NotOurs);
        assert!(text.contains("no such address"), "{text}");
    }
}
