//! How long it takes from a magnet to the first payload, when a peer is known:
//!
//! ```text
//! cargo run --release -p dunlin-host --example magnet_speed -- INFO_HASH 127.0.0.1:6881 [RUNS]
//! ```
//!
//! Each run has a host and a folder of its own. The clock starts when the host is given the magnet,
//! and stops at the metadata, and at the first verified piece.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use dunlin_engine::config::{PieceOrder, RateLimits};
use dunlin_engine::{Alert, Config};
use dunlin_host::storage::{PrepareMode, PrepareOptions, prepare};
use dunlin_host::{AddRequest, HostConfig, Listen, MagnetRequest, Notice, start};
use dunlin_metainfo::{InfoHash, Torrent};

/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [info_hash, peer, rest @ ..] = &words[..] else {
        return Err("usage: magnet_speed INFO_HASH IP:PORT [RUNS]".into());
    };
    let (info_hash, peer) = (info_hash.parse()?, peer.parse()?);
    let runs: usize = rest.first().map_or(Ok(11), |runs| runs.parse())?;
    let (mut metadata, mut payload) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (to_metadata, to_payload) = run(info_hash, peer)?;
        metadata.push(to_metadata);
        payload.push(to_payload);
    }
    for (what, times) in [("metadata", metadata), ("first piece", payload)] {
        println!("{what}: {}", summary(times));
    }
    Ok(())
}

fn run(
    info_hash: InfoHash,
    peer: SocketAddr,
) -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("magnet-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (host, notices) = start(HostConfig {
        engine: Config::default(),
        listen: Listen::Exact("127.0.0.1:0".parse()?),
        disk_workers: 2,
        network: dunlin_host::Network::default(),
    })?;
    let started = Instant::now();
    let key = host.add_magnet(MagnetRequest {
        info_hash,
        trackers: Vec::new(),
        peers: vec![peer],
        limits: RateLimits::default(),
    });
    let info = wait(&notices, |notice| match notice {
        Notice::Metadata { info, .. } => Some(info),
        Notice::Alert { .. } => None,
    })?;
    let to_metadata = started.elapsed();
    let torrent = Arc::new(Torrent::from_info(&info)?);
    let options = PrepareOptions {
        mode: PrepareMode::Download { overwrite: true },
        wanted: Vec::new(),
        threads: 1,
    };
    let stop = AtomicBool::new(false);
    let prepared = prepare(&torrent, &dir, &options, &mut |_| {}, &stop)?;
    let request = AddRequest {
        torrent,
        prepared,
        peers: Vec::new(),
        trackers: Vec::new(),
        priorities: Vec::new(),
        order: PieceOrder::RarestFirst,
        limits: RateLimits::default(),
        seed_when_complete: false,
    };
    host.promote(key, request);
    wait(&notices, |notice| match notice {
        Notice::Alert {
            alert: Alert::PieceDone { .. },
            ..
        } => Some(()),
        Notice::Alert { .. } | Notice::Metadata { .. } => None,
    })?;
    let to_payload = started.elapsed();
    host.shutdown();
    std::fs::remove_dir_all(&dir)?;
    Ok((to_metadata, to_payload))
}

fn wait<T>(
    notices: &Receiver<Notice>,
    mut pick: impl FnMut(Notice) -> Option<T>,
) -> Result<T, Box<dyn std::error::Error>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Some(found) = pick(notices.recv_timeout(left)?) {
            return Ok(found);
        }
    }
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, Duration::as_secs_f64);
    let (median, worst) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
    format!(
        "median {median:.4} s, best {:.4} s, worst {worst:.4} s of {} runs",
        at(0),
        times.len()
    )
}
