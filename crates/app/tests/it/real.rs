//! Whole swarms of one client on slow links, by the clock: real beside simulated.
//!
//! `cargo xtask swarm` runs this by hand and prints the table of docs/sim.md; in a run of all tests
//! it does nothing. A seed and its leeches are processes in network namespaces of their own, the
//! links are those of the laboratory's scenarios `real-8` and `real-30`, every client is as its
//! makers ship it, and they meet by our tracker. All leeches come at once and stay.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clients::{Client, Kind, Limits, Rates, Source, Star, Transfer, await_peers, complete};
use crate::fixture::{Sandbox, Words};
use crate::interop::create;
use crate::interop::trees::{Data, sha256};

const BYTES: u64 = 128 << 20;
const PIECE: &str = "512KiB";
const NAME: &str = "swarm.bin";

/// Payload per second.
const UP: u64 = 1 << 20;
const DOWN: u64 = 10 << 20;

/// tbf counts frames: 1,448 bytes of a full one, of 1,514, are TCP's payload. The rest of what
/// travels up, acknowledgements and messages, is left to the swarm.
const FRAME: u64 = 1514;
const FRAME_PAYLOAD: u64 = 1448;

/// A swarm that takes longer has failed.
const LATEST: Duration = Duration::from_secs(580);

/// The swarms that were asked for, as in `dunlin:8 aria2:30`.
const ASKED: &str = "DUNLIN_SWARM";

#[derive(Debug)]
struct Peer {
    client: Box<dyn Client>,
    transfer: Transfer,
    target: PathBuf,
    done_s: Option<f64>,
}

/// What one swarm came to.
struct Outcome {
    kind: Kind,
    leeches: usize,
    /// When the last leech was asked to start, since the first was.
    started_s: f64,
    /// When each was complete; those that did not get so far are missing.
    done_s: Vec<f64>,
    /// That left the cable of the seed, headers taken off; and by its own account.
    copies: f64,
    copies_told: f64,
    /// Of what all leeches needed, where the client counts them.
    duplicates: Option<f64>,
    cpu_s: f64,
    /// Share of the machine that everything on it used.
    busy: f64,
}

/// Kumar and Ross: the slowest downlink, the seed's uplink, all uplinks.
fn bound_s(leeches: usize) -> f64 {
    let seconds = |bytes: u64, rate: u64| bytes as f64 / rate as f64;
    let n = leeches as u64;
    let all = seconds(n * BYTES, (n + 1) * UP);
    seconds(BYTES, DOWN).max(seconds(BYTES, UP)).max(all)
}

#[test]
fn swarms_on_slow_links() {
    let Ok(asked) = std::env::var(ASKED) else {
        return;
    };
    let mut table = String::from(HEAD);
    for word in asked.split_whitespace() {
        let (name, leeches) = word.split_once(':').expect("asked for as CLIENT:LEECHES");
        let kind = kind(name);
        let outcome = run(kind, leeches.parse().expect("LEECHES is a number"));
        let Some(outcome) = outcome else { continue };
        println!("{outcome}");
        table.push_str(&outcome.row());
    }
    println!("{table}");
}

fn kind(name: &str) -> Kind {
    match name {
        "dunlin" => Kind::Dunlin,
        "dunlin-super" => Kind::DunlinSuperSeeding,
        "libtorrent" => Kind::Libtorrent,
        "aria2" => Kind::Aria2,
        "transmission" => Kind::Transmission,
        "qbittorrent" => Kind::Qbittorrent,
        _ => panic!("no client is called {name}"),
    }
}

fn run(kind: Kind, leeches: usize) -> Option<Outcome> {
    let test = format!("a swarm of {kind:?}");
    let on_wire = |payload: u64| payload * FRAME / FRAME_PAYLOAD;
    let rates = Rates {
        up: on_wire(UP),
        down: on_wire(DOWN),
    };
    let net = Star::new(&test, 1 + leeches, rates)?;
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    Data::new(78).file(&source.join(NAME), BYTES);
    let (_tracker, url) = sandbox.tracker_at(net.hub());
    let torrent = sandbox.path("swarm.torrent");
    let words: Words<'_> = &[&"--tracker", &url, &"--piece-length", &PIECE];
    let created = create(&sandbox, &source.join(NAME), &torrent, words);
    let clients = net
        .hosts()
        .iter()
        .map(|place| kind.start(&test, &sandbox, place));
    let mut clients = clients.collect::<Option<Vec<_>>>()?.into_iter();

    let mut seed = clients.next()?;
    let sharing = seed.add(&Source::Torrent(&torrent), &source, Limits::NONE);
    complete(&mut *seed, sharing);
    let info_hash = created["info_hash_v1"].as_str().expect("it has one");
    await_peers(net.hub(), &url, info_hash, 1);

    let (started, busy) = (Instant::now(), busy_s());
    let join = |mut client: Box<dyn Client>| {
        let target = sandbox.fresh_dir("target");
        let transfer = client.add(&Source::Torrent(&torrent), &target, Limits::NONE);
        Peer {
            client,
            transfer,
            target,
            done_s: None,
        }
    };
    let mut peers: Vec<Peer> = clients.map(join).collect();
    let started_s = started.elapsed().as_secs_f64();
    watch(&net, &mut peers, started);
    let (used, offered) = (busy_s() - busy, started.elapsed().as_secs_f64() * cores());

    let sent = net.moved()[0].0 * FRAME_PAYLOAD / FRAME;
    let told = seed.look(sharing).uploaded;
    let duplicates: Option<u64> = peers
        .iter_mut()
        .map(|peer| peer.client.look(peer.transfer).duplicate)
        .sum();
    let all = std::iter::once(&seed).chain(peers.iter().map(|peer| &peer.client));
    let cpu_s = all.flat_map(|client| client.processes()).map(cpu_s).sum();
    let digest = sha256(&source.join(NAME));
    for peer in peers.iter().filter(|peer| peer.done_s.is_some()) {
        let copy = peer.target.join(NAME);
        assert_eq!(sha256(&copy), digest, "{} differs", copy.display());
    }
    Some(Outcome {
        kind,
        leeches,
        started_s,
        done_s: peers.iter().filter_map(|peer| peer.done_s).collect(),
        copies: sent as f64 / BYTES as f64,
        copies_told: told as f64 / BYTES as f64,
        duplicates: duplicates.map(|bytes| bytes as f64 / (BYTES * leeches as u64) as f64),
        cpu_s,
        busy: used / offered,
    })
}

/// Notes when each is complete. Asking a client costs a process, so it is asked only when its cable
/// has brought enough.
fn watch(net: &Star, peers: &mut [Peer], started: Instant) {
    while peers.iter().any(|peer| peer.done_s.is_none()) && started.elapsed() < LATEST {
        std::thread::sleep(Duration::from_millis(250));
        let moved = net.moved();
        for (peer, (_, received)) in peers.iter_mut().zip(&moved[1..]) {
            if peer.done_s.is_none()
                && *received >= BYTES
                && peer.client.look(peer.transfer).complete
            {
                peer.done_s = Some(started.elapsed().as_secs_f64());
            }
        }
    }
}

const HEAD: &str = "\
| swarm | all done | x bound | x laboratory | first, median | copies of the seed | duplicates | CPU |
|--|--|--|--|--|--|--|--|
";

impl Outcome {
    fn row(&self) -> String {
        let mut row = format!("| 1 + {} {:?} ", self.leeches, self.kind);
        let mut done = self.done_s.clone();
        done.sort_by(f64::total_cmp);
        let at = |share: f64| done[((done.len() - 1) as f64 * share) as usize];
        let bound = bound_s(self.leeches);
        match done.last() {
            Some(last) if done.len() == self.leeches => {
                write!(row, "| {last:.1} s | {:.2} ", last / bound).unwrap();
                let simulated = std::env::var(format!("DUNLIN_SIMULATED_{}", self.leeches));
                match simulated.map(|text| text.parse::<f64>()) {
                    Ok(Ok(simulated)) if self.kind == Kind::Dunlin => {
                        write!(row, "| {:.2} ", last / simulated).unwrap()
                    }
                    _ => row.push_str("| "),
                }
                write!(row, "| {:.1} s, {:.1} s ", at(0.0), at(0.5)).unwrap();
            }
            _ => {
                let (done, s) = (done.len(), LATEST.as_secs());
                write!(row, "| {done} of {} after {s} s | | | ", self.leeches).unwrap();
            }
        }
        write!(row, "| {:.2} ", self.copies).unwrap();
        match self.duplicates {
            Some(share) => write!(row, "| {:.2} % ", share * 100.0).unwrap(),
            None => row.push_str("| "),
        }
        writeln!(row, "| {:.0} s |", self.cpu_s).unwrap();
        row
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done: Vec<String> = self.done_s.iter().map(|s| format!("{s:.1}")).collect();
        write!(
            f,
            "1 + {} {:?}: started within {:.1} s; complete after {} s; the seed says it sent {:.3} \
             copies; the machine was busy for {:.0} %",
            self.leeches,
            self.kind,
            self.started_s,
            done.join(" "),
            self.copies_told,
            self.busy * 100.0
        )
    }
}

/// Processor time of a process so far, in seconds.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let times = fields.split(' ').skip(11).take(2);
    times
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_S
}

/// Time that the processors of this machine were not idle, in seconds.
fn busy_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let ticks: Vec<f64> = all.filter_map(|ticks| ticks.parse().ok()).collect();
    // User, nice, system, idle, waiting for a disk, interrupts twice, stolen; what follows is in user.
    let idle = |index: &usize| [3, 4].contains(index);
    let busy = (0..ticks.len().min(8)).filter(|index| !idle(index));
    busy.map(|index| ticks[index]).sum::<f64>() / TICKS_PER_S
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// Of /proc, on every Linux.
const TICKS_PER_S: f64 = 100.0;
