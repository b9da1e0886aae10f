//! Every number that the tracker depends on, with its unit and default.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a tracker is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for HTTP; port 0 takes a free one. `0.0.0.0` listens on IPv6 too, where
    /// the machine has it.
    pub http: SocketAddr,
    /// Where to listen for UDP, in the same way, if at all.
    pub udp: Option<SocketAddr>,
    pub limits: Limits,
    /// Connections at once. At the limit the one that is silent longest gives way.
    pub connections_max: usize,
    /// How long a request may take to arrive, and how long a connection may stay silent between
    /// two requests or refuse to take an answer.
    pub timeout: Duration,
}

/// The port that trackers have by custom.
pub const PORT: u16 = 6969;

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            udp: None,
            limits: Limits::default(),
            connections_max: 1024,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What the tracker tells peers, and how much it remembers of them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time between two announces of a peer. One that stays away twice as long is forgotten.
    pub interval: Duration,
    /// Time that a peer is asked to let pass between any two announces.
    pub min_interval: Duration,
    /// Peers in an answer, when the asker names no number, and at most.
    pub num_want_default: usize,
    pub num_want_max: usize,
    pub torrents_max: usize,
    pub peers_per_torrent_max: usize,
    /// Peers of one torrent that share an address (IPv6: a /64); loopback is exempt.
    pub peers_per_address_max: usize,
    /// Peers of all torrents together that share an address; loopback is exempt. Whoever announces
    /// invented torrents fills a tenth of the tracker, and needs ten addresses to lock others out.
    pub announced_per_address_max: usize,
    /// Bytes for everything that is remembered.
    pub memory_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30 * 60),
            min_interval: Duration::from_secs(60),
            num_want_default: 50,
            num_want_max: 200,
            torrents_max: 100_000,
            peers_per_torrent_max: 100_000,
            peers_per_address_max: 128,
            announced_per_address_max: 10_000,
            memory_max: 256 * 1024 * 1024,
        }
    }
}
