//! Starting the host, and what the rest of the program may ask of it.
//!
//! A [`Handle`] sends orders to the loop thread and never waits for the network. Dropping it stops
//! everything as [`Handle::shutdown`] does.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dunlin_engine::command::Priority;
use dunlin_engine::config::{PieceOrder, RateLimits};
use dunlin_engine::snapshot::TorrentSnapshot;
use dunlin_engine::{AddMagnet, AddTorrent, Command, Config, PeerAddr, TorrentKey};
use dunlin_metainfo::{InfoHash, Magnet, PeerId, Torrent};

use crate::http::{check_tracker, shown as shown_url};
use crate::net::{Network, NetworkError, Paths};
use crate::notices::{Notice, Notices};
use crate::poller::{Poller, Wake};
use crate::run::{Loop, Order};
use crate::storage::Prepared;
use crate::tcp::{self, Listen, ListenError};

#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its peer id and listening port are replaced by the real ones.
    pub engine: Config,
    pub listen: Listen,
    pub network: Network,
    /// Threads that hash, read and write.
    pub disk_workers: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("no randomness from the system: {0}")]
    Randomness(getrandom::Error),
    #[error("the system gives us no thread or no poll object: {0}")]
    System(#[from] std::io::Error),
}

/// A torrent to be transferred.
#[derive(Debug)]
pub struct AddRequest {
    pub torrent: Arc<Torrent>,
    pub prepared: Prepared,
    /// Addresses that the user names.
    pub peers: Vec<SocketAddr>,
    /// Announce URLs in tiers.
    pub trackers: Vec<Vec<String>>,
    /// One a file; missing ones are normal.
    pub priorities: Vec<Priority>,
    pub order: PieceOrder,
    pub limits: RateLimits,
    pub seed_when_complete: bool,
}

impl AddRequest {
    /// All files, from the torrent's own trackers, without limits.
    pub fn new(torrent: Arc<Torrent>, prepared: Prepared) -> Self {
        Self {
            trackers: torrent.trackers.clone(),
            torrent,
            prepared,
            peers: Vec::new(),
            priorities: Vec::new(),
            order: PieceOrder::RarestFirst,
            limits: RateLimits::default(),
            seed_when_complete: true,
        }
    }
}

/// A torrent of which only the info hash is known.
#[derive(Clone, Debug)]
pub struct MagnetRequest {
    pub info_hash: InfoHash,
    /// Announce URLs in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Addresses that the user or the link names.
    pub peers: Vec<SocketAddr>,
    pub limits: RateLimits,
}

impl MagnetRequest {
    /// What the link says, as far as it needs no look-up of names. `None` for a v2 torrent.
    pub fn new(magnet: &Magnet) -> Option<Self> {
        let peer = |(host, port): &(String, u16)| {
            let ip: IpAddr = host.parse().ok()?;
            Some(SocketAddr::new(ip, *port))
        };
        Some(Self {
            info_hash: magnet.info_hash?,
            trackers: magnet
                .trackers
                .iter()
                .map(|url| vec![url.clone()])
                .collect(),
            peers: magnet.peers.iter().filter_map(peer).collect(),
            limits: RateLimits::default(),
        })
    }
}

/// The running host.
pub struct Handle {
    orders: SyncSender<Order>,
    wake: Wake,
    listen_addr: SocketAddr,
    peer_id: PeerId,
    next_torrent: AtomicU32,
    thread: Option<JoinHandle<()>>,
}

/// Opens the port and starts the threads. News come out of the receiver, which should be drained:
/// see [`Notice`].
pub fn start(mut config: HostConfig) -> Result<(Handle, Receiver<Notice>), HostError> {
    let paths = Paths::new(&config.network, config.listen)?;
    let (listeners, listen_addr) = tcp::listen(config.listen, &paths)?;
    config.engine.listen_port = listen_addr.port();
    config.engine.peer_id = random_peer_id()?;
    // Peers never take the last sockets: somebody new can always be heard, and then the session
    // decides who yields.
    let sockets_for_peers = (tcp::sockets_max() / 4 * 3).max(1);
    config.engine.max_peers = config.engine.max_peers.min(sockets_for_peers);
    let peer_id = config.engine.peer_id;
    let seed = getrandom::u64().map_err(HostError::Randomness)?;
    let poller = Poller::new()?;
    let wake = poller.wake();
    let (orders, inbox) = mpsc::sync_channel(ORDERS_MAX);
    let (notices, receiver) = Notices::new();
    let run = Loop::new(config, seed, paths, listeners, poller, inbox, notices)?;
    let thread = thread::Builder::new()
        .name("loop".to_owned())
        .spawn(move || run.run())?;
    let handle = Handle {
        orders,
        wake,
        listen_addr,
        peer_id,
        next_torrent: AtomicU32::new(1),
        thread: Some(thread),
    };
    Ok((handle, receiver))
}

impl Handle {
    /// Where peers reach us. The address is unspecified if we listen on all interfaces.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen_addr
    }

    /// What we call ourselves.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// An info hash is added once: of another torrent that has it [`Alert::AlreadyAdded`] tells,
    /// and the new key stands for nothing.
    ///
    /// [`Alert::AlreadyAdded`]: dunlin_engine::Alert::AlreadyAdded
    pub fn add(&self, request: AddRequest) -> TorrentKey {
        let key = self.new_key();
        self.promote(key, request);
        key
    }

    /// Looks for the info dictionary of a torrent; when it is here a [`Notice::Metadata`] says so.
    /// Then [`Handle::promote`] makes a torrent of it. As for [`Handle::add`], once.
    pub fn add_magnet(&self, request: MagnetRequest) -> TorrentKey {
        let torrent = self.new_key();
        let MagnetRequest {
            info_hash,
            trackers,
            peers,
            limits,
        } = request;
        let params = Box::new(AddMagnet {
            info_hash,
            trackers: supported(trackers),
            peers: peers.into_iter().map(peer_addr).collect(),
            limits,
        });
        self.command(Command::AddMagnet { torrent, params });
        torrent
    }

    /// Makes a magnet a torrent like any other. Its peers stay connected; the trackers and peers
    /// of the request are used as well.
    pub fn promote(&self, key: TorrentKey, request: AddRequest) {
        let AddRequest {
            torrent,
            prepared,
            peers,
            trackers,
            priorities,
            order,
            limits,
            seed_when_complete,
        } = request;
        let params = AddTorrent {
            info_hash: torrent.info_hash,
            layout: Arc::clone(&torrent.layout),
            piece_digests: Arc::clone(&torrent.piece_digests),
            private: torrent.private,
            info: Arc::clone(&torrent.info),
            trackers: supported(trackers),
            resume: prepared.resume,
            priorities,
            peers: peers.into_iter().map(peer_addr).collect::<BTreeSet<_>>(),
            order,
            limits,
            seed_when_complete,
        };
        self.order(Order::Add {
            torrent: key,
            params: Box::new(params),
            storage: Box::new(prepared.storage),
        });
    }

    fn new_key(&self) -> TorrentKey {
        TorrentKey(self.next_torrent.fetch_add(1, Ordering::Relaxed))
    }

    pub fn command(&self, command: Command) {
        self.order(Order::Command(command));
    }

    /// `None` for a torrent that is gone, or when the loop is.
    pub fn snapshot(&self, torrent: TorrentKey) -> Option<TorrentSnapshot> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.order(Order::Snapshot { torrent, reply });
        answer.recv_timeout(SNAPSHOT_TIMEOUT).ok().flatten()
    }

    /// Bytes of block buffers in use.
    pub fn buffer_bytes(&self) -> Option<u64> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.order(Order::BufferBytes { reply });
        answer.recv_timeout(SNAPSHOT_TIMEOUT).ok()
    }

    /// Closes every connection, tells the trackers, saves what is to be saved, and waits for all
    /// that: two seconds at most for the trackers, longer only if the disk needs it.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A loop that panicked has said so already.
            let _ = thread.join();
        }
    }

    fn order(&self, order: Order) {
        // When the loop is gone nobody can obey; whoever waits for an answer gets none.
        if self.orders.send(order).is_ok() {
            (self.wake)();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("listen_addr", &self.listen_addr)
            .finish_non_exhaustive()
    }
}

/// Trackers that we know how to ask; of the others one line is said, here and now.
fn supported(mut tiers: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for tier in &mut tiers {
        tier.retain(|url| {
            let checked = check_tracker(url);
            if let Err(why) = &checked {
                tracing::debug!("tracker {} is left out: {why}", shown_url(url));
            }
            checked.is_ok()
        });
    }
    tiers
}

fn peer_addr(addr: SocketAddr) -> PeerAddr {
    PeerAddr::Tcp(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
}

/// `-DL0100-` (BEP 20) and twelve random characters.
fn random_peer_id() -> Result<PeerId, HostError> {
    const CHARS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.~";
    let mut id = *b"-DL0100-............";
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(HostError::Randomness)?;
    for (char, byte) in id.iter_mut().skip(8).zip(random) {
        *char = CHARS[usize::from(byte % 64)];
    }
    Ok(PeerId::new(id))
}

/// Orders that wait for the loop; whoever gives more waits.
const ORDERS_MAX: usize = 1024;

/// The loop answers within a turn, unless the machine stands still.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
