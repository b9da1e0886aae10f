//! One swarm of five implementations that find each other through our tracker, some over HTTP and
//! some over UDP; its uploads are limited so that they have to trade for a minute.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clients::{Client, Kind, Limits, Network, Place, Source, Transfer, await_peers, named};
use crate::fixture::{Sandbox, Words};

use super::create;
use super::trees::{Data, sha256};

const BYTES: u64 = 32 << 20;

/// Of the seed and of each leech, in bytes per second.
const UP: u64 = 500_000;

/// No swarm is faster: every byte must leave the seed once, and all copies all uploads.
const BOUND_S: f64 = BYTES as f64 / UP as f64;

/// Everybody gets so much of a copy from leeches that are other programs.
const SHARE_MIN: f64 = 0.05;

/// Of what a peer sends, so much comes back as acknowledgements and requests: it is taken off.
const ECHO: f64 = 0.04;

const LATEST: Duration = Duration::from_secs(300);

/// A leech of the swarm.
#[derive(Debug)]
struct Leech<'a> {
    place: &'a Place,
    kind: Kind,
    client: Box<dyn Client>,
    transfer: Transfer,
    target: PathBuf,
    done: Option<Duration>,
}

impl Leech<'_> {
    fn name(&self) -> String {
        format!("{:?}", self.kind)
    }
}

/// How much of a copy came from one host to another.
fn copies(net: &Network, from: &Place, to: &Place) -> f64 {
    let echo = ECHO * net.moved(to, from) as f64;
    (net.moved(from, to) as f64 - echo).max(0.0) / BYTES as f64
}

#[test]
fn five_implementations_find_each_other_and_trade_in_one_swarm() {
    const TEST: &str = "a mixed swarm in a network of its own";
    let Some(net) = Network::new(TEST, 8) else {
        return;
    };
    let [middle, home, a, b, c, d, e, f] = net.hosts();
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    let file = source.join("mixed.bin");
    Data::new(77).file(&file, BYTES);
    let (mut tracker, http) = sandbox.tracker_at(middle);
    let udp = format!("udp://{}/announce", tracker.udp_addr());
    let mut info_hash = String::new();
    // Two ways to one swarm: the tracker is not a part of what is hashed.
    let [over_http, over_udp] = [("http", &http), ("udp", &udp)].map(|(name, url)| {
        let torrent = sandbox.path(&format!("{name}.torrent"));
        let words: Words<'_> = &[&"--tracker", url, &"--piece-length", &"128K"];
        let created = create(&sandbox, &file, &torrent, words);
        info_hash = created["info_hash_v1"].as_str().unwrap().to_owned();
        torrent
    });
    let announced = |count: usize| await_peers(middle, &http, &info_hash, count as u64);
    let mut leeches = Vec::new();
    let limits = Limits { up: Some(UP) };
    // Transmission first: the others must dial it, see the matrix.
    for (kind, place, torrent) in [
        (Kind::Transmission, a, &over_udp),
        (Kind::Aria2, b, &over_http),
        (Kind::Libtorrent, c, &over_udp),
        (Kind::Qbittorrent, d, &over_http),
        (Kind::Dunlin, e, &over_http),
        (Kind::Dunlin, f, &over_udp),
    ] {
        let Some(mut client) = kind.start(TEST, &sandbox, place) else {
            return;
        };
        let target = sandbox.fresh_dir("target");
        let transfer = client.add(&Source::Torrent(torrent), &target, limits);
        announced(leeches.len() + 1);
        leeches.push(Leech {
            place,
            kind,
            client,
            transfer,
            target,
            done: None,
        });
    }
    let mut everybody: Vec<Ipv4Addr> = leeches.iter().map(|leech| leech.place.ip()).collect();
    everybody.sort();
    assert_eq!(named(home, &http, &info_hash), everybody);
    let up = UP.to_string();
    let started = Instant::now();
    let mut seed = sandbox.start_at(home, "seed", &[&over_http, &source, &"--up", &up]);
    seed.addr();
    while leeches.iter().any(|leech| leech.done.is_none()) && started.elapsed() < LATEST {
        for leech in leeches.iter_mut().filter(|leech| leech.done.is_none()) {
            if leech.client.look(leech.transfer).complete {
                leech.done = Some(started.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let table = table(&net, home, &leeches);
    println!("{table}");
    let digest = sha256(&file);
    for leech in &leeches {
        check(&net, &leeches, leech, &digest, &table);
    }
}

/// It is complete, its copy is right, and other programs gave it a share.
#[track_caller]
fn check(net: &Network, leeches: &[Leech<'_>], leech: &Leech<'_>, digest: &str, table: &str) {
    let name = leech.name();
    assert!(leech.done.is_some(), "{name} is not complete\n{table}");
    assert_eq!(digest, sha256(&leech.target.join("mixed.bin")), "{name}");
    let others = leeches.iter().filter(|other| other.name() != name);
    let traded: f64 = others
        .map(|other| copies(net, other.place, leech.place))
        .sum();
    assert!(
        traded >= SHARE_MIN,
        "{name} got {traded:.3} copies from others\n{table}"
    );
}

/// Who gave whom how much of a copy, and when each was done.
fn table(net: &Network, home: &Place, leeches: &[Leech<'_>]) -> String {
    let names: Vec<String> = leeches.iter().map(Leech::name).collect();
    let mut table = format!("{:>13} {:>12}", "copies from", "the seed");
    for name in &names {
        write!(table, " {name:>12}").unwrap();
    }
    writeln!(table, "   done after").unwrap();
    for (leech, name) in leeches.iter().zip(&names) {
        write!(table, "{name:>13} {:>12.2}", copies(net, home, leech.place)).unwrap();
        for other in leeches {
            if std::ptr::eq(leech, other) {
                write!(table, " {:>12}", "").unwrap();
            } else {
                write!(table, " {:>12.2}", copies(net, other.place, leech.place)).unwrap();
            }
        }
        let seconds = leech.done.map_or(f64::NAN, |done| done.as_secs_f64());
        writeln!(table, "   {seconds:.1} s").unwrap();
    }
    writeln!(table, "the bound is {BOUND_S:.1} s").unwrap();
    table
}
