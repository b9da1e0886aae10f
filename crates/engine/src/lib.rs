//! Every decision of a BitTorrent swarm: sans-IO, single-threaded, deterministic.
//!
//! A [`Session`](session::Session) is told what happened ([`event::Event`] and the time) and says
//! what to do ([`event::Action`]). Read [`event`] first: it is the whole border.

pub mod alert;
pub mod announcer;
pub mod choker;
pub mod command;
pub mod config;
pub mod event;
pub mod explain;
pub mod extensions;
pub mod external;
pub mod hub;
mod key_map;
pub mod metadata;
pub mod outbox;
pub mod peer;
pub mod peer_list;
pub mod pex;
pub mod picker;
pub mod rate_limit;
pub mod reach;
pub mod reason;
pub mod resume;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod stats;
pub mod stream;
pub mod superseed;
pub mod torrent;
pub mod trust;
pub mod verify;
pub mod words;

pub use alert::Alert;
pub use command::{AddMagnet, AddTorrent, Command};
pub use config::Config;
pub use event::{Action, DiskJob, DiskOp, DiskResult, Event, JobId, PeerAddr, PeerKey, TorrentKey};
pub use session::Session;
