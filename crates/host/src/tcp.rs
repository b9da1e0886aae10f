//! TCP sockets as the loop wants them: non-blocking, without Nagle's delay.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use dunlin_engine::reason::CloseReason;
use mio::net::{TcpListener, TcpStream};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Resource, getrlimit};

/// Where to listen for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// This port on all interfaces, or else the next one that is free.
    Auto(u16),
    /// This address and nothing else.
    Exact(SocketAddr),
}

impl Listen {
    /// The address that our own connections come from, if it is a certain one.
    pub(crate) fn source(self) -> Option<IpAddr> {
        match self {
            Self::Exact(addr) if !addr.ip().is_unspecified() => Some(addr.ip()),
            Self::Exact(_) | Self::Auto(_) => None,
        }
    }
}

/// Why we cannot listen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{addr}: {message}")]
pub struct ListenError {
    pub addr: SocketAddr,
    /// Somebody else listens there.
    pub is_in_use: bool,
    /// This machine does not have the address.
    pub is_unknown: bool,
    /// The system keeps the port for others.
    pub is_forbidden: bool,
    message: String,
}

/// The listening sockets, and the address that we tell.
pub(crate) fn listen(at: Listen) -> Result<(Vec<TcpListener>, SocketAddr), ListenError> {
    match at {
        Listen::Exact(addr) => {
            let listener = bind(addr).map_err(|error| listen_error(addr, &error))?;
            let addr = listener.local_addr().unwrap_or(addr);
            Ok((vec![listener], addr))
        }
        Listen::Auto(first) => {
            let mut last = None;
            let next = (first..=first.saturating_add(PORTS_TRIED - 1)).chain([0]);
            for port in next {
                match bind_all_interfaces(port) {
                    Ok(bound) => return Ok(bound),
                    Err(error) if error.is_in_use => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(last.expect("at least one port was tried"))
        }
    }
}

fn bind_all_interfaces(port: u16) -> Result<(Vec<TcpListener>, SocketAddr), ListenError> {
    let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v4 = bind(addr).map_err(|error| listen_error(addr, &error))?;
    let addr = v4.local_addr().unwrap_or(addr);
    let addr_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    match bind_v6_only(addr_v6) {
        Ok(v6) => Ok((vec![v4, v6], addr)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(listen_error(addr_v6, &error))
        }
        // A machine without IPv6.
        Err(_) => Ok((vec![v4], addr)),
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

fn listen_error(addr: SocketAddr, error: &io::Error) -> ListenError {
    let is_in_use = error.kind() == io::ErrorKind::AddrInUse;
    let is_unknown = error.kind() == io::ErrorKind::AddrNotAvailable;
    let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied;
    let message = if is_in_use {
        "another program listens there; choose another port with --port".to_owned()
    } else if is_unknown {
        "this machine has no such address; choose another one".to_owned()
    } else if is_forbidden {
        "not allowed; choose a port above 1023".to_owned()
    } else {
        crate::words(error)
    };
    ListenError {
        addr,
        is_in_use,
        is_unknown,
        is_forbidden,
        message,
    }
}

/// Begins to connect. `from` is the address that we listen on, if it is a certain one: others
/// should see us come from there.
pub(crate) fn dial(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = source(from, addr) else {
        return TcpStream::connect(addr);
    };
    let socket = bound(from)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
        Err(error) => Err(error.into()),
    }
}

/// Connects and waits for it.
pub(crate) fn connect(
    addr: SocketAddr,
    from: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<std::net::TcpStream> {
    let Some(from) = source(from, addr) else {
        return std::net::TcpStream::connect_timeout(&addr, timeout);
    };
    let socket = bound(from)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) => Ok(socket.into()),
        Err(Errno::INPROGRESS | Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// The address to come from, if it can reach `to` at all.
fn source(from: Option<IpAddr>, to: SocketAddr) -> Option<IpAddr> {
    from.filter(|from| {
        from.is_ipv4() == to.is_ipv4() && from.is_loopback() == to.ip().is_loopback()
    })
}

fn bound(from: IpAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(from)?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
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

    fn port_of(at: Listen) -> (Vec<TcpListener>, u16) {
        let (listeners, addr) = listen(at).unwrap();
        (listeners, addr.port())
    }

    #[test]
    fn all_interfaces_are_those_of_both_families() {
        let (listeners, port) = port_of(Listen::Auto(0));
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        // A machine without IPv6 has one listener.
        assert!(listeners.len() == 1 || std::net::TcpStream::connect(("::1", port)).is_ok());
    }

    #[test]
    fn whoever_listens_on_one_address_comes_from_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let from = Some(IpAddr::from([127, 0, 0, 3]));
        let dialled = dial(addr, from).unwrap();
        assert_eq!(Some(listener.accept().unwrap().1.ip()), from);
        let connected = connect(addr, from, Duration::from_secs(10)).unwrap();
        assert_eq!(Some(listener.accept().unwrap().1.ip()), from);
        drop((dialled, connected));
        assert_eq!(source(from, "1.1.1.1:80".parse().unwrap()), None);
        assert_eq!(source(from, "[::1]:80".parse().unwrap()), None);
    }

    #[test]
    fn an_exact_address_in_use_is_refused_and_an_automatic_one_moves_on() {
        let (_taken, port) = port_of(Listen::Auto(0));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let error = listen(Listen::Exact(addr)).unwrap_err();
        assert!(error.is_in_use);
        assert!(
            error
                .to_string()
                .starts_with(&format!("127.0.0.1:{port}: another program"))
        );
        let (_, other) = port_of(Listen::Auto(port));
        assert_ne!(port, other);
    }
}
