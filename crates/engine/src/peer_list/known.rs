//! What is known of one address, and by which of its parts it is counted and banned.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_proto::time::Instant;

use crate::event::PeerAddr;
use crate::reach::network;

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) by_user: bool,
    pub(super) is_seed: bool,
    pub(super) state: State,
    /// Attempts and useless connections in a row.
    pub(super) failures: u32,
    /// When somebody last told us of it.
    pub(super) named_at: Instant,
    pub(super) last_attempt: Option<Instant>,
}

impl Known {
    /// How long to leave it alone. A peer that the user named is expected to come up any moment.
    pub(super) fn back_off(&self, addr: PeerAddr) -> Duration {
        let (first, longest) = if self.by_user {
            (BACK_OFF_NEAR, BACK_OFF_USER_MAX)
        } else if addr.socket_addr().ip().is_loopback() {
            (BACK_OFF_NEAR, BACK_OFF_MAX)
        } else {
            (BACK_OFF, BACK_OFF_MAX)
        };
        let doublings = self.failures.saturating_sub(1).min(16);
        (first * (1 << doublings)).min(longest)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Ready,
    Waiting(Instant),
    /// A seed while we are one.
    Parked,
    Dialling,
    /// We dialled it and are connected.
    Connected,
}

impl State {
    pub(super) fn is_idle(self) -> bool {
        match self {
            Self::Ready | Self::Waiting(_) | Self::Parked => true,
            Self::Dialling | Self::Connected => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    User,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Links {
    pub(super) connected: usize,
    pub(super) dialling: usize,
}

/// What is believed and banned as one: an IPv4 address, an IPv6 /64, on loopback a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Machine {
    Socket(PeerAddr),
    Network(IpAddr),
}

impl Machine {
    pub(super) fn of(addr: PeerAddr) -> Self {
        let ip = addr.socket_addr().ip();
        if ip.is_loopback() {
            Self::Socket(addr)
        } else {
            Self::Network(network(ip))
        }
    }
}

/// An IPv4 address that comes wrapped in IPv6 (a socket that listens on both) is the plain one.
pub(super) fn canonical(addr: PeerAddr) -> PeerAddr {
    match addr {
        PeerAddr::Tcp(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => PeerAddr::Tcp(SocketAddr::new(v4.into(), v6.port())),
            None => addr,
        },
        PeerAddr::Tcp(SocketAddr::V4(_)) => addr,
    }
}

/// Back-off after the first failure; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(15);
/// The same on loopback and for peers that the user named.
const BACK_OFF_NEAR: Duration = Duration::from_secs(2);
const BACK_OFF_MAX: Duration = Duration::from_secs(30 * 60);
/// Peers that the user named are tried at least so often.
const BACK_OFF_USER_MAX: Duration = Duration::from_secs(10);
