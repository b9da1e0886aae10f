//! Every client, both ways, by .torrent and magnet.
//!
//! A test is one client and one direction; its cells run side by side, each with a torrent of its
//! own, and a failure names the cells. The other client is as its makers ship it, see
//! [`crate::clients`]. The three sides live in a network of their own and meet by our tracker.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clients::{
    Client, Kind, Limits, Network, Place, Source, Transfer, await_peers, complete,
};
use crate::fixture::{PATIENCE, Running, Sandbox};

use super::create;
use super::trees::{Data, sha256};

/// Ends in the middle of a piece and of a block.
const BYTES: u64 = 8_000_123;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Torrent,
    Magnet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tracker {
    Http,
}

/// How the leech learns of the torrent, and where the peers meet.
const CELLS: [(Link, Tracker); 2] = [
    (Link::Torrent, Tracker::Http),
    (Link::Magnet, Tracker::Http),
];

/// One way to share one file.
#[derive(Debug)]
struct Cell {
    name: String,
    file: String,
    source: PathBuf,
    target: PathBuf,
    torrent: PathBuf,
    /// Of the leech.
    link: Link,
    magnet: String,
    info_hash: String,
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
        let torrent = sandbox.path(&format!("{name}.torrent"));
        let created = create(sandbox, &path, &torrent, &[&"--tracker", &url]);
        Self {
            source,
            target: sandbox.dir(&format!("target {name}")),
            link,
            magnet: sandbox
                .run("link", &[&torrent])
                .expect(0)
                .stdout
                .trim()
                .to_owned(),
            info_hash: created["info_hash_v1"].as_str().unwrap().to_owned(),
            torrent,
            name,
            file,
        }
    }

    fn link(&self) -> Source<'_> {
        match self.link {
            Link::Torrent => Source::Torrent(&self.torrent),
            Link::Magnet => Source::Magnet(&self.magnet),
        }
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
    place: Place,
    http: String,
    _tracker: Running,
}

impl Matrix {
    fn new(place: &Place) -> Self {
        let sandbox = Sandbox::new();
        let (tracker, http) = sandbox.tracker_at(place);
        let cells = (0..CELLS.len())
            .map(|index| Cell::new(&sandbox, index, &http))
            .collect();
        Self {
            cells,
            sandbox,
            place: place.clone(),
            http,
            _tracker: tracker,
        }
    }

    fn add(&self, client: &mut dyn Client) -> Vec<Transfer> {
        let cells = self.cells.iter();
        cells
            .map(|cell| client.add(&cell.link(), &cell.target, Limits::NONE))
            .collect()
    }

    /// Waits until the tracker has heard of a peer in every cell.
    fn all_announced(&self) {
        for cell in &self.cells {
            await_peers(&self.place, &self.http, &cell.info_hash, 1);
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
    matrix.all_announced();
    let started = Instant::now();
    let gets: Vec<Running> = matrix
        .cells
        .iter()
        .map(|cell| {
            let source = match cell.link() {
                Source::Torrent(path) => path.as_os_str().to_owned(),
                Source::Magnet(uri) | Source::Url(uri) => uri.into(),
            };
            matrix.sandbox.start_at(
                ours,
                "get",
                &[&source, &"-d", &cell.target, &"--timeout", &"200s", &"-v"],
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
    // Transmission 3.00 dials by uTP first and does not notice that nobody answers: its clock for
    // uTP starts with the first packet that it hears. So it comes first, and we dial.
    let we_dial = kind == Kind::Transmission;
    let mut transfers = Vec::new();
    if we_dial {
        transfers = matrix.add(&mut *client);
        matrix.all_announced();
    }
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
    if !we_dial {
        matrix.all_announced();
        transfers = matrix.add(&mut *client);
    }
    let mut left: Vec<_> = matrix.cells.iter().zip(transfers).collect();
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
fn libtorrent_seeds_to_us() {
    comes_from(Kind::Libtorrent);
}

#[test]
fn libtorrent_downloads_from_us() {
    goes_to(Kind::Libtorrent);
}

#[test]
fn aria2_seeds_to_us() {
    comes_from(Kind::Aria2);
}

#[test]
fn aria2_downloads_from_us() {
    goes_to(Kind::Aria2);
}

#[test]
fn transmission_seeds_to_us() {
    comes_from(Kind::Transmission);
}

#[test]
fn transmission_downloads_from_us() {
    goes_to(Kind::Transmission);
}

#[test]
fn qbittorrent_seeds_to_us() {
    comes_from(Kind::Qbittorrent);
}

#[test]
fn qbittorrent_downloads_from_us() {
    goes_to(Kind::Qbittorrent);
}
