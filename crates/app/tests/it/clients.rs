//! Other people's clients, each behind the same few calls, and networks for them to live in.
//!
//! ```text
//! let Some(net) = Network::new("aria2 downloads", 2) else { return };   // skipped, and said so
//! let [ours, theirs] = net.hosts();
//! let Some(mut aria2) = Kind::Aria2.start("aria2 downloads", &sandbox, theirs) else { return };
//! let mut seed = sandbox.start_at(ours, "seed", &[&torrent, &source]);
//! let transfer = aria2.add(&Source::Torrent(&torrent), &target, Limits::NONE);
//! complete(&mut *aria2, transfer);          // or panics with what the client said
//! ```
//! Everything at the other side is as its makers ship it, except the folder, the ports, the
//! address to listen on, rate limits where a test asks for them, and this: local discovery is off,
//! so that a peer is found the way that the test means. On loopback DHT is off too: its
//! packets would leave the machine. A [`Network`] has no way out.
//!
//! A client that is not installed, or a machine that gives no network, means a test that is
//! skipped loudly; with `DUNLIN_REQUIRE_CLIENTS=1` it fails instead.

mod aria2;
mod daemon;
mod libtorrent;
mod network;
mod opentracker;
mod ours;
mod qbittorrent;
mod rqbit;
mod shaped;
mod tracker;
mod transmission;
mod webtorrent;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::fixture::{PATIENCE, Sandbox, Words};

pub use network::{Network, Place};
pub use opentracker::Opentracker;
pub use shaped::{Rates, Star};
pub use tracker::{await_peers, named};

/// What a client is asked to download, or to seed when its folder holds everything.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    Torrent(&'a Path),
    Magnet(&'a str),
    /// Of a .torrent, for clients that open such.
    Url(&'a str),
}

/// Bytes per second of one transfer; `None` is the client's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub up: Option<u64>,
}

impl Limits {
    pub const NONE: Self = Self { up: None };
}

/// A transfer of a [`Client`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer(pub usize);

/// How a transfer stands.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Look {
    /// Everything is there, verified, and it seeds.
    pub complete: bool,
    pub bytes: u64,
    pub uploaded: u64,
    pub peers: usize,
    /// Bytes that came more than once; only some clients count them, some once they are complete.
    pub duplicate: Option<u64>,
    /// In the client's own words.
    pub state: String,
    pub error: Option<String>,
}

/// A running client. Dropped, it is killed.
pub trait Client: Debug {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer;

    fn look(&mut self, transfer: Transfer) -> Look;

    /// The end of what it logged.
    fn log(&self) -> String;

    /// Ids of the processes that it consists of.
    fn processes(&self) -> Vec<u32>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The one that is tested, when it plays a part like any other.
    Dunlin,
    DunlinSuperSeeding,
    Libtorrent,
    Aria2,
    Transmission,
    Qbittorrent,
    /// Only by `cargo xtask interop --all`, as rqbit.
    Webtorrent,
    Rqbit,
}

impl Kind {
    /// Starts the client at `place`. `None` means that `test` must end here: it was skipped.
    pub fn start(self, test: &str, sandbox: &Sandbox, place: &Place) -> Option<Box<dyn Client>> {
        Some(match self {
            Self::Dunlin => Box::new(ours::Dunlin::new(sandbox, place, &[])),
            Self::DunlinSuperSeeding => {
                let words: Words<'_> = &[&"--super-seed", &"auto"];
                Box::new(ours::Dunlin::new(sandbox, place, words))
            }
            Self::Libtorrent => Box::new(libtorrent::LibtorrentClient::start(test, place)?),
            Self::Aria2 => Box::new(aria2::Aria2::start(test, sandbox, place)?),
            Self::Transmission => {
                Box::new(transmission::Transmission::start(test, sandbox, place)?)
            }
            Self::Qbittorrent => Box::new(qbittorrent::Qbittorrent::start(test, sandbox, place)?),
            Self::Webtorrent => Box::new(webtorrent::Webtorrent::start(test, sandbox, place)?),
            Self::Rqbit => Box::new(rqbit::Rqbit::start(test, sandbox, place)?),
        })
    }

    /// How many transfers one process has going at once, as it is shipped: qBittorrent lets three
    /// seed, and further ones wait in a queue without an announce.
    pub fn transfers_max(self) -> usize {
        match self {
            Self::Qbittorrent => 2,
            Self::Dunlin | Self::DunlinSuperSeeding | Self::Libtorrent => 4,
            Self::Aria2 | Self::Transmission | Self::Webtorrent | Self::Rqbit => 4,
        }
    }

    /// As the program tells it.
    pub fn version(self) -> String {
        let output = match self {
            Self::Dunlin | Self::DunlinSuperSeeding => {
                return env!("CARGO_PKG_VERSION").to_owned();
            }
            Self::Libtorrent => return libtorrent::version(),
            Self::Aria2 => version_of(Command::new("aria2c")),
            Self::Transmission => version_of(Command::new("transmission-daemon")),
            Self::Qbittorrent => version_of(Command::new("qbittorrent-nox")),
            Self::Webtorrent => version_of(webtorrent::command()),
            Self::Rqbit => version_of(rqbit::command()),
        };
        let is_version =
            |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
        let version = output.split_whitespace().find(is_version);
        version.unwrap_or("?").trim_start_matches('v').to_owned()
    }
}

fn version_of(mut program: Command) -> String {
    let output = program.arg("--version").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Waits until a transfer is complete.
#[track_caller]
pub fn complete(client: &mut dyn Client, transfer: Transfer) -> Look {
    eventually(client, transfer, |look| look.complete)
}

/// Waits until a transfer is as it should be.
#[track_caller]
pub fn eventually(
    client: &mut dyn Client,
    transfer: Transfer,
    right: impl Fn(&Look) -> bool,
) -> Look {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let look = client.look(transfer);
        if right(&look) {
            return look;
        }
        assert!(
            look.error.is_none() && Instant::now() < deadline,
            "{look:?}\n{client:?} said:\n{}",
            client.log()
        );
        std::thread::sleep(POLL);
    }
}

/// How often a client is asked how it stands.
const POLL: Duration = Duration::from_millis(100);

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says, past the harness that keeps what a good test prints to itself, that a test did not run.
pub fn skip(test: &str, why: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = writeln!(std::io::stderr(), "SKIPPED {count}: {test}: {why}");
}

/// Whether this machine has `::1`.
pub fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// What a variable names that `cargo xtask interop --all` sets. `None` means that `test` was skipped.
fn by_hand(test: &str, variable: &str) -> Option<OsString> {
    let value = std::env::var_os(variable);
    if value.is_none() {
        skip(
            test,
            &format!("{variable} is set by `cargo xtask interop --all`"),
        );
    }
    value
}

/// As [`skip`], for what `.ci/run` installs: with `DUNLIN_REQUIRE_CLIENTS=1` the test fails.
#[track_caller]
pub fn missing(test: &str, what: &str) {
    assert!(
        std::env::var_os("DUNLIN_REQUIRE_CLIENTS").is_none_or(|v| v != "1"),
        "{test}: {what}"
    );
    skip(test, &format!("{what}; .ci/run installs it"));
}
