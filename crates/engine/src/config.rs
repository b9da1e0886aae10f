//! Every number that a policy depends on, with its unit, default and source.

use std::time::Duration;

use dunlin_metainfo::PeerId;

#[derive(Clone, Debug)]
pub struct Config {
    pub peer_id: PeerId,
    /// The port that we announce.
    pub listen_port: u16,
    /// Regular unchokes a torrent; one optimistic slot comes on top (BEP 3 describes 4 in all,
    /// the classic design leaves the number open).
    pub preferred_neighbors: usize,
    /// Time between two choices of preferred neighbours (BEP 3: 10 s).
    pub unchoking_interval: Duration,
    /// Time between two choices of the optimistic peer (BEP 3: 30 s).
    pub optimistic_interval: Duration,
    pub leech_strategy: LeechStrategy,
    pub seed_strategy: SeedStrategy,
    pub super_seeding: SuperSeeding,
    /// Unchoked peers over all torrents.
    pub upload_slots_max: usize,
    /// Connections a torrent.
    pub max_peers: usize,
    /// Connections from one address; loopback is exempt.
    pub max_peers_per_address: usize,
    /// Connections that come from one IPv4 /24 or IPv6 /48; loopback and private networks are
    /// exempt.
    pub max_peers_per_network: usize,
    /// Addresses remembered a torrent.
    pub known_peers_max: usize,
    /// Dials under way a torrent.
    pub dials_max: usize,
    /// Bytes requested or received and not yet written, over all torrents: the memory ceiling.
    pub buffer_bytes_max: u64,
    /// Bytes of full pieces of a torrent that the disk has not judged yet, beyond which no more is
    /// asked for: more would wait in memory, and be lost if we were killed.
    pub unjudged_bytes_max: u64,
    /// Requests open at one peer: never below the first, never above the second.
    pub requests_min: usize,
    pub requests_max: usize,
    /// Requests open at one peer while what it offers has fewer than two copies.
    pub requests_rare_max: usize,
    /// Requests that a peer may queue with us (libtorrent: 2000). Announced as `reqq` (BEP 10).
    pub peer_requests_max: usize,
    /// Pieces in progress a torrent, beyond which started ones go first.
    pub started_pieces_max: usize,
    /// Pieces picked at random before the order takes over, so that a newcomer has something to
    /// trade soon (BEP 3).
    pub random_first_pieces: u32,
    /// No block for this long from a peer that unchoked us: snubbed (BEP 3: a minute).
    pub snub_timeout: Duration,
    /// Silence after which a connection is closed.
    pub peer_timeout: Duration,
    /// Silence after which we send a keep-alive (BEP 3: two minutes at most).
    pub keep_alive_interval: Duration,
    /// Neither side interested for this long: the connection is closed.
    pub inactivity_timeout: Duration,
    /// Tell connected peers of each other, and listen to them (BEP 11). Never done for private
    /// torrents.
    pub pex: bool,
    /// Peers asked of a tracker.
    pub num_want: u32,
    pub limits: RateLimits,
    /// Verified bytes after which resume data is saved, at most.
    pub resume_bytes_max: u64,
    /// Verified bytes beyond which no more is asked for until resume data is saved: a restart that
    /// has no record of them must hash them again.
    pub unsaved_bytes_max: u64,
    /// Time after which resume data is saved, if anything changed.
    pub resume_interval: Duration,
    /// Time after which what was written is made to survive a power cut.
    pub sync_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            peer_id: PeerId::new(*b"-DL0100-000000000000"),
            listen_port: 6881,
            preferred_neighbors: 4,
            unchoking_interval: Duration::from_secs(10),
            optimistic_interval: Duration::from_secs(30),
            leech_strategy: LeechStrategy::TitForTat,
            seed_strategy: SeedStrategy::RoundRobin,
            super_seeding: SuperSeeding::Off,
            upload_slots_max: 1000,
            max_peers: 80,
            max_peers_per_address: 4,
            max_peers_per_network: 40,
            known_peers_max: 3000,
            dials_max: 20,
            buffer_bytes_max: 32 * 1024 * 1024,
            unjudged_bytes_max: 4 * 1024 * 1024,
            requests_min: 4,
            requests_max: 256,
            requests_rare_max: 64,
            peer_requests_max: 2000,
            started_pieces_max: 20,
            random_first_pieces: 4,
            snub_timeout: Duration::from_secs(60),
            peer_timeout: Duration::from_secs(120),
            keep_alive_interval: Duration::from_secs(100),
            inactivity_timeout: Duration::from_secs(600),
            pex: true,
            num_want: 100,
            limits: RateLimits::default(),
            resume_bytes_max: 4 * 1024 * 1024,
            unsaved_bytes_max: 24 * 1024 * 1024,
            resume_interval: Duration::from_secs(2),
            sync_interval: Duration::from_secs(30),
        }
    }
}

/// Bytes per second, payload plus BitTorrent headers; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateLimits {
    pub down: Option<u64>,
    pub up: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PieceOrder {
    #[default]
    RarestFirst,
    /// The classic design's strategy: any piece that the peer has.
    Random,
    Sequential,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeechStrategy {
    /// Upload to those who upload most to us.
    #[default]
    TitForTat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SeedStrategy {
    /// Everybody in turn.
    #[default]
    RoundRobin,
    /// Those who take fastest.
    FastestUpload,
}

/// Whether a seed reveals its pieces one after another (BEP 16).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SuperSeeding {
    #[default]
    Off,
    /// Whoever brings the first copy does, until that is out.
    Auto,
    /// Every seed does, until a full copy is out.
    On,
}
