//! Whole hosts that talk over loopback.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one alert among many"
)]

mod magnets;
mod tracker;
mod transfers;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use dunlin_engine::alert::Summary;
use dunlin_engine::config::{PieceOrder, RateLimits};
use dunlin_engine::{Alert, Config, TorrentKey};
use dunlin_metainfo::Torrent;
use dunlin_metainfo::create::{Content, Details, NewFile, PieceLen, build};
use tempfile::TempDir;

use crate::check::hash_files;
use crate::storage::{PrepareMode, PrepareOptions, Prepared, StorageError, prepare};
use crate::{AddRequest, Handle, HostConfig, Listen, Network, Notice};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files with known bytes, and the torrent of them.
struct Share {
    dir: TempDir,
    torrent: Arc<Torrent>,
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Share {
    fn file(len: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thing.bin"), bytes(len, 7)).unwrap();
        let content = Content::file("thing.bin", len as u64).unwrap();
        Self::make(dir, &content, &["thing.bin".to_owned()])
    }

    fn folder(files: &[(&str, usize)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Vec::new();
        for (at, &(path, len)) in files.iter().enumerate() {
            let full = dir.path().join("things").join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, bytes(len, at as u64 + 11)).unwrap();
            let path = path.split('/').map(str::to_owned).collect();
            list.push(NewFile {
                path,
                len: len as u64,
            });
        }
        let content = Content::folder("things", list).unwrap();
        let paths: Vec<String> = content
            .files()
            .iter()
            .map(|file| format!("things/{}", file.path.join("/")))
            .collect();
        Self::make(dir, &content, &paths)
    }

    fn make(dir: TempDir, content: &Content, paths: &[String]) -> Self {
        let paths: Vec<PathBuf> = paths.iter().map(|path| dir.path().join(path)).collect();
        let lens: Vec<u64> = content.files().iter().map(|file| file.len).collect();
        let piece_len = PieceLen::exactly(64 * 1024, content).unwrap();
        let mut progress = |_| {};
        let cancel = AtomicBool::new(false);
        let digests = hash_files(&paths, &lens, 64 * 1024, 2, &mut progress, &cancel).unwrap();
        let (_, torrent) = build(content, &piece_len, &digests, &Details::default()).unwrap();
        Self {
            dir,
            torrent: Arc::new(torrent),
        }
    }

    /// Panics unless every file below `other` is as it is here.
    fn assert_same(&self, other: &Path) {
        for file in &self.torrent.files {
            let path = file.path.as_path();
            let (ours, theirs) = (self.dir.path().join(path), other.join(path));
            let theirs =
                fs::read(&theirs).unwrap_or_else(|error| panic!("{}: {error}", theirs.display()));
            assert!(
                fs::read(ours).unwrap() == theirs,
                "{} differs",
                path.display()
            );
        }
    }
}

/// A host with one torrent.
struct Node {
    handle: Handle,
    notices: Receiver<Notice>,
    torrent: TorrentKey,
}

#[derive(Default)]
struct Setup {
    peers: Vec<SocketAddr>,
    trackers: Vec<Vec<String>>,
    limits: RateLimits,
    buffer_bytes_max: Option<u64>,
}

fn prepared(
    torrent: &Arc<Torrent>,
    dir: &Path,
    mode: PrepareMode,
) -> Result<Prepared, StorageError> {
    let options = PrepareOptions {
        mode,
        wanted: Vec::new(),
        threads: 1,
    };
    prepare(torrent, dir, &options, &mut |_| {}, &AtomicBool::new(false))
}

const DOWNLOAD: PrepareMode = PrepareMode::Download { overwrite: false };
const SEED: PrepareMode = PrepareMode::Seed { check: false };

/// A host on loopback that chooses its neighbours often.
fn host(buffer_bytes_max: Option<u64>) -> (Handle, Receiver<Notice>) {
    let default = Config::default();
    let config = HostConfig {
        engine: Config {
            unchoking_interval: Duration::from_secs(1),
            optimistic_interval: Duration::from_secs(3),
            buffer_bytes_max: buffer_bytes_max.unwrap_or(default.buffer_bytes_max),
            ..default
        },
        listen: Listen::Exact("127.0.0.1:0".parse().unwrap()),
        network: Network::default(),
        disk_workers: 2,
    };
    crate::start(config).unwrap()
}

impl Node {
    fn start(content: &Share, dir: &Path, mode: PrepareMode, setup: Setup) -> Self {
        let (handle, notices) = host(setup.buffer_bytes_max);
        let torrent = handle.add(AddRequest {
            torrent: Arc::clone(&content.torrent),
            prepared: prepared(&content.torrent, dir, mode).unwrap(),
            peers: setup.peers,
            trackers: setup.trackers,
            priorities: Vec::new(),
            order: PieceOrder::RarestFirst,
            limits: setup.limits,
            seed_when_complete: true,
        });
        Self {
            handle,
            notices,
            torrent,
        }
    }

    fn seed(content: &Share, setup: Setup) -> Self {
        Self::start(content, content.dir.path(), SEED, setup)
    }

    fn leech(content: &Share, dir: &Path, setup: Setup) -> Self {
        Self::start(content, dir, DOWNLOAD, setup)
    }

    fn addr(&self) -> SocketAddr {
        self.handle.listen_addr()
    }

    /// Waits for the first alert that `pick` takes.
    fn wait<T>(&self, mut pick: impl FnMut(Alert) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let notice = self.notices.recv_timeout(left);
            let Ok(notice) = notice else {
                panic!("waited in vain; {:#?}", self.handle.snapshot(self.torrent));
            };
            if let Notice::Alert { alert, .. } = notice
                && let Some(found) = pick(alert)
            {
                return found;
            }
        }
    }

    fn wait_complete(&self) -> Summary {
        self.wait(|alert| match alert {
            Alert::Complete { summary, .. } => Some(*summary),
            Alert::DiskFailed { error, .. } => panic!("{error}"),
            _ => None,
        })
    }

    fn wait_pieces(&self, wanted: u32) {
        self.wait(|alert| match alert {
            Alert::PieceDone { have, .. } if have >= wanted => Some(()),
            _ => None,
        });
    }

    fn uploaded(&self) -> u64 {
        self.handle.snapshot(self.torrent).unwrap().uploaded
    }
}
