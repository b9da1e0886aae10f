//! Every client, both ways, by .torrent and magnet, over HTTP and UDP trackers.
//!
//! A test is one client and one direction; its cells run side by side, each with a torrent of its
//! own, and a failure names the cells. The other client is as its makers ship it, see
//! [`crate::clients`]. The three sides live in a network of their own and meet by our tracker.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clients::{Kind, Limits, Network, Place, Source, Transfer, complete};
use crate::fixture::{PATIENCE, Running, Sandbox};

use super::trees::{Data, sha256};

/// Ends in the middle of a piece and of a block.
const BYTES: u64 = 8_000_123;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Torrent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tracker {
    Http,
}

/// How the leech learns of the torrent, and where the peers meet.
const CELLS: [(Link, Tracker); 1] = [(Link::Torrent, Tracker::Http)];

/// One way to share one file.
#[derive(Debug)]
struct Cell {
    name: String,
    file: String,
    source: PathBuf,
    target: PathBuf,
    torrent: PathBuf,
}

impl Cell {
    fn new(sandbox: &Sandbox, index: usize, http: &str) -> Self {
        let (link, tracker) = CELLS[index];
        let name = format!("{link:?} {tracker:?}");
        let source = sandbox.dir(&format!("source {name}"));
        let file = format!("{name}.bin");
        let path = source.join(&file);
        Data::new(100 + index as u64).file(&path, BYTES);
        let url = match tracker {
            Tracker::Http => http,
        };
        Self {
            source,
            target: sandbox.dir(&format!("target {name}")),
            torrent: sandbox.create(&path, &[&"--tracker", &url]),
            name,
            file,
        }
    }

    fn link(&self) -> Source<'_> {
        Source::Torrent(&self.torrent)
    }

    /// Clients leave notes of their own beside the file.
    fn is_same(&self) -> bool {
        sha256(&self.source.join(&self.file)) == sha256(&self.target.join(&self.file))
    }
}

/// The tracker, and the cells that meet there.
#[derive(Debug)]
struct Matrix {
    cells: Vec<Cell>,
    sandbox: Sandbox,
    _tracker: Running,
}

impl Matrix {
    fn new(place: &Place) -> Self {
        let sandbox = Sandbox::new();
        let (tracker, http) = sandbox.tracker_at(place);
        let cells = (0..CELLS.len()).map(|index| Cell::new(&sandbox, index, &http));
        Self {
            cells: cells.collect(),
            sandbox,
            _tracker: tracker,
        }
    }
}

/// The client seeds, we download.
fn comes_from(kind: Kind) {
    let test = format!("download from {kind:?}");
    let Some(net) = Network::new(&test, 3) else {
        return;
    };
    let [middle, ours, theirs] = net.hosts();
    let matrix = Matrix::new(middle);
    let Some(mut client) = kind.start(&test, &matrix.sandbox, theirs) else {
        return;
    };
    let seeds: Vec<Transfer> = matrix
        .cells
        .iter()
        .map(|cell| client.add(&Source::Torrent(&cell.torrent), &cell.source, Limits::NONE))
        .collect();
    for seed in seeds {
        complete(&mut *client, seed);
    }
    let started = Instant::now();
    let gets: Vec<Running> = matrix
        .cells
        .iter()
        .map(|cell| {
            let source = match cell.link() {
                Source::Torrent(path) => path.as_os_str().to_owned(),
                Source::Magnet(uri) => uri.into(),
            };
            matrix.sandbox.start_at(
                ours,
                "get",
                &[&source, &"-d", &cell.target, &"--timeout", &"60s", &"-v"],
            )
        })
        .collect();
    let mut failed = Vec::new();
    for (cell, mut get) in matrix.cells.iter().zip(gets) {
        let done = get.finish();
        if done.code != 0 || !cell.is_same() {
            failed.push(format!("{}: {done:?}", cell.name));
        }
    }
    assert!(
        failed.is_empty(),
        "{test}:\n{}\nit said:\n{}",
        failed.join("\n"),
        client.log()
    );
    println!("{test}: {:?}", started.elapsed());
}

/// We seed, the client downloads.
fn goes_to(kind: Kind) {
    let test = format!("seed to {kind:?}");
    let Some(net) = Network::new(&test, 3) else {
        return;
    };
    let [middle, ours, theirs] = net.hosts();
    let matrix = Matrix::new(middle);
    let Some(mut client) = kind.start(&test, &matrix.sandbox, theirs) else {
        return;
    };
    let mut seeds: Vec<Running> = matrix
        .cells
        .iter()
        .map(|cell| {
            matrix
                .sandbox
                .start_at(ours, "seed", &[&cell.torrent, &cell.source, &"-v"])
        })
        .collect();
    for seed in &mut seeds {
        seed.addr();
    }
    let started = Instant::now();
    let mut left: Vec<(&Cell, Transfer)> = matrix
        .cells
        .iter()
        .map(|cell| (cell, client.add(&cell.link(), &cell.target, Limits::NONE)))
        .collect();
    while !left.is_empty() && started.elapsed() < PATIENCE {
        left.retain(|(cell, transfer)| {
            let complete = client.look(*transfer).complete;
            if complete {
                assert!(cell.is_same(), "{test}, {}: the copy differs", cell.name);
                println!("{test}, {}: {:?}", cell.name, started.elapsed());
            }
            !complete
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    let failed: Vec<String> = left
        .iter()
        .map(|(cell, transfer)| format!("{}: {:?}", cell.name, client.look(*transfer)))
        .collect();
    assert!(
        failed.is_empty(),
        "{test}:\n{}\nit said:\n{}",
        failed.join("\n"),
        client.log()
    );
}

#[test]
fn aria2_seeds_to_us() {
    comes_from(Kind::Aria2);
}

#[test]
fn aria2_downloads_from_us() {
    goes_to(Kind::Aria2);
}
