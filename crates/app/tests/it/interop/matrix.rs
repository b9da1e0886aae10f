//! Every client, both ways, by .torrent and magnet, over HTTP and UDP trackers.
//!
//! A test is one client and one direction; its cells run side by side, each with a torrent and a
//! dunlin of its own, and a failure names the cells. The other client is as its makers ship it, see
//! [`crate::clients`]. All sides live in a network of their own and meet by our tracker.
//!
//! Each dunlin has its own address: of several peers with one address that dial at the same moment
//! Transmission 3.00 takes one and hangs up on the others. For every cell a line that starts with
//! [`CELL`] is printed; `cargo xtask interop` makes a table of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::clients::{
    Client, Kind, Limits, Look, Network, Place, Source, Transfer, await_peers, complete,
};
use crate::fixture::{PATIENCE, Running, Sandbox, Words};

use super::create;
use super::trees::{Data, sha256};

/// Starts the line that tells of one cell: client, version, direction, link, tracker, and
/// seconds or `failed`. Only a copy with the right SHA-256 has seconds.
const CELL: &str = "CELL";

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
    Udp,
}

/// How the leech learns of the torrent, and where the peers meet.
const CELLS: [(Link, Tracker); 4] = [
    (Link::Torrent, Tracker::Http),
    (Link::Magnet, Tracker::Http),
    (Link::Torrent, Tracker::Udp),
    (Link::Magnet, Tracker::Udp),
];

/// One way to share one file.
#[derive(Debug)]
struct Cell {
    link: Link,
    tracker: Tracker,
    /// Of our side.
    place: Place,
    file: String,
    source: PathBuf,
    target: PathBuf,
    torrent: PathBuf,
    magnet: String,
    info_hash: String,
}

impl Cell {
    fn new(sandbox: &Sandbox, index: usize, place: &Place, url: &str) -> Self {
        let (link, tracker) = CELLS[index];
        let name = format!("{link:?} {tracker:?}");
        let source = sandbox.dir(&format!("source {name}"));
        let file = format!("{name}.bin");
        let path = source.join(&file);
        Data::new(100 + index as u64).file(&path, BYTES);
        let torrent = sandbox.path(&format!("{name}.torrent"));
        let created = create(sandbox, &path, &torrent, &[&"--tracker", &url]);
        let magnet = sandbox.run("link", &[&torrent]).expect(0).stdout;
        Self {
            link,
            tracker,
            place: place.clone(),
            source,
            target: sandbox.dir(&format!("target {name}")),
            magnet: magnet.trim().to_owned(),
            info_hash: created["info_hash_v1"].as_str().unwrap().to_owned(),
            torrent,
            file,
        }
    }

    fn name(&self) -> String {
        format!("{:?} {:?}", self.link, self.tracker)
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

/// A client, the cells, and the tracker where they meet.
#[derive(Debug)]
struct Matrix {
    kind: Kind,
    direction: &'static str,
    cells: Vec<Cell>,
    clients: Vec<Box<dyn Client>>,
    middle: Place,
    http: String,
    sandbox: Sandbox,
    _tracker: Running,
    _net: Network,
}

impl Matrix {
    fn new(kind: Kind, direction: &'static str) -> Option<Self> {
        let test = format!("{kind:?} {direction}");
        let net = Network::new(&test, 2 + CELLS.len())?;
        let [middle, theirs, ours @ ..] = net.hosts::<{ 2 + CELLS.len() }>();
        let sandbox = Sandbox::new();
        let (mut tracker, http) = sandbox.tracker_at(middle);
        let udp = format!("udp://{}/announce", tracker.udp_addr());
        let cell = |(index, place): (usize, &&Place)| {
            let url = match CELLS[index].1 {
                Tracker::Http => &http,
                Tracker::Udp => &udp,
            };
            Cell::new(&sandbox, index, place, url)
        };
        let cells = ours.iter().enumerate().map(cell).collect();
        let count = CELLS.len().div_ceil(kind.transfers_max());
        let clients = (0..count).map(|_| kind.start(&test, &sandbox, theirs));
        Some(Self {
            kind,
            direction,
            cells,
            clients: clients.collect::<Option<_>>()?,
            middle: middle.clone(),
            http,
            sandbox,
            _tracker: tracker,
            _net: net,
        })
    }

    /// Gives the clients a cell each in turn, or as many as they take at once.
    fn add<'a>(&'a mut self, what: impl Fn(&'a Cell) -> (Source<'a>, &'a Path)) -> Vec<Transfer> {
        let per_client = self.kind.transfers_max();
        let cells = self.cells.iter().enumerate();
        cells
            .map(|(index, cell)| {
                let (source, folder) = what(cell);
                self.clients[index / per_client].add(&source, folder, Limits::NONE)
            })
            .collect()
    }

    fn look(&mut self, index: usize, transfer: Transfer) -> Look {
        self.clients[index / self.kind.transfers_max()].look(transfer)
    }

    /// Waits until the tracker has heard of a peer in every cell.
    fn all_announced(&self) {
        for cell in &self.cells {
            await_peers(&self.middle, &self.http, &cell.info_hash, 1);
        }
    }

    /// Waits until every cell has ended, however.
    #[track_caller]
    fn ends(mut self, mut how: impl FnMut(&mut Self, usize) -> Option<Result<(), String>>) {
        let version = self.kind.version();
        let started = Instant::now();
        let mut left: Vec<usize> = (0..self.cells.len()).collect();
        let mut failed = Vec::new();
        while !left.is_empty() {
            left.retain(|&index| {
                let end = how(&mut self, index);
                let cell = &self.cells[index];
                let end = match end {
                    None if started.elapsed() < PATIENCE => return true,
                    None => Err("it takes too long".to_owned()),
                    Some(Ok(())) if !cell.is_same() => Err("the copy differs".to_owned()),
                    Some(end) => end,
                };
                let took = match end {
                    Ok(()) => format!("{:.1}", started.elapsed().as_secs_f64()),
                    Err(why) => {
                        failed.push(format!("{}: {why}", cell.name()));
                        "failed".to_owned()
                    }
                };
                println!(
                    "{CELL}\t{:?}\t{version}\t{}\t{:?}\t{:?}\t{took}",
                    self.kind, self.direction, cell.link, cell.tracker
                );
                false
            });
            std::thread::sleep(Duration::from_millis(100));
        }
        let logs: Vec<String> = self.clients.iter().map(|client| client.log()).collect();
        assert!(
            failed.is_empty(),
            "{:?} {}:\n{}\nit said:\n{}",
            self.kind,
            self.direction,
            failed.join("\n"),
            logs.join("\n")
        );
    }
}

/// The client seeds, we download.
fn comes_from(kind: Kind) {
    let Some(mut matrix) = Matrix::new(kind, "seeds to us") else {
        return;
    };
    let seeds = matrix.add(|cell| (Source::Torrent(&cell.torrent), &cell.source));
    for (index, seed) in seeds.into_iter().enumerate() {
        complete(&mut *matrix.clients[index / kind.transfers_max()], seed);
    }
    matrix.all_announced();
    let get = |cell: &Cell| {
        let source = match cell.link() {
            Source::Torrent(path) => path.as_os_str().to_owned(),
            Source::Magnet(uri) | Source::Url(uri) => uri.into(),
        };
        let words: Words<'_> = &[&source, &"-d", &cell.target, &"--timeout", &"200s", &"-v"];
        matrix.sandbox.start_at(&cell.place, "get", words)
    };
    let mut gets: Vec<Running> = matrix.cells.iter().map(get).collect();
    matrix.ends(|_, index| {
        let done = gets[index].ended()?;
        Some(if done.code == 0 {
            Ok(())
        } else {
            Err(format!("{done:?}"))
        })
    });
}

/// We seed, the client downloads.
fn goes_to(kind: Kind) {
    let Some(mut matrix) = Matrix::new(kind, "downloads from us") else {
        return;
    };
    // Transmission 3.00 dials by uTP first and does not notice that nobody answers: its clock for
    // uTP starts with the first packet that it hears. webtorrent too waits for uTP again and again.
    // So they come first, and we dial.
    let we_dial = matches!(kind, Kind::Transmission | Kind::Webtorrent);
    let mut transfers = Vec::new();
    if we_dial {
        transfers = matrix.add(|cell| (cell.link(), &cell.target));
        matrix.all_announced();
    }
    let seed = |cell: &Cell| {
        let words: Words<'_> = &[&cell.torrent, &cell.source, &"-v"];
        matrix.sandbox.start_at(&cell.place, "seed", words)
    };
    let mut seeds: Vec<Running> = matrix.cells.iter().map(seed).collect();
    for seed in &mut seeds {
        seed.addr();
    }
    if !we_dial {
        matrix.all_announced();
        transfers = matrix.add(|cell| (cell.link(), &cell.target));
    }
    matrix.ends(|matrix, index| {
        let look = matrix.look(index, transfers[index]);
        match look.error {
            Some(error) => Some(Err(error)),
            None => look.complete.then_some(Ok(())),
        }
    });
}

/// Two tests a client.
macro_rules! both_ways {
    ($($(#[$attribute:meta])? $client:ident: $kind:ident),+ $(,)?) => {$(
        mod $client {
            use super::{Kind, comes_from, goes_to};

            #[test]
            $(#[$attribute])?
            fn seeds_to_us() {
                comes_from(Kind::$kind);
            }

            #[test]
            $(#[$attribute])?
            fn downloads_from_us() {
                goes_to(Kind::$kind);
            }
        }
    )+};
}

both_ways! {
    libtorrent: Libtorrent,
    aria2: Aria2,
    transmission: Transmission,
    qbittorrent: Qbittorrent,
    #[ignore = "`cargo xtask interop --all` installs it"]
    webtorrent: Webtorrent,
    #[ignore = "`cargo xtask interop --all` installs it"]
    rqbit: Rqbit,
}
