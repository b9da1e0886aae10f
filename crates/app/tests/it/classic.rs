//! The classic form under measurement: eight peers of one config, with unequal uploads, for a
//! minute. What their logs claim is set against the clock, the events and each other's logs.

use std::fmt::Write as _;

use serde_json::Value;

use crate::fixture::{Running, Sandbox, assert_same};
use crate::peer::{config, free_port, start_with};
use crate::peer_log::{PeerLog, Round};

/// What each may upload, the seed first: 34 MB/s in all.
const UPLOADS: [&str; 8] = ["8M", "1M", "1M", "2M", "2M", "4M", "8M", "8M"];

/// Seven copies of it at 34 MB/s take 61.8 s at least, and the seed alone sends one in 37.5 s: it
/// is not what the others wait for.
const BYTES: usize = 300_000_000;

/// Small, so that it hardly matters that a piece counts when its last block is there.
const PIECE_BYTES: f64 = 65_536.0;

const PREFERRED_NEIGHBORS: usize = 2;

/// Seconds between two choices.
const UNCHOKING_INTERVAL: f64 = 5.0;

/// Seconds over which the choker measures, which is over how much the test measures too.
const RATE_WINDOW: f64 = 10.0;

/// Seconds after which rates mean something.
const WARM_UP: f64 = 20.0;

/// Seconds between two logs that tell of the same thing: an unchoke has to arrive, and the turn of
/// an optimistic peer that a line names may end in the moment after, and be read about first.
const RACE: f64 = 1.0;

struct Participant {
    log: PeerLog,
    events: Vec<Value>,
}

#[test]
fn eight_peers_of_one_config_choose_as_their_logs_say() {
    let sandbox = Sandbox::new();
    let (peers, last_complete) = run_swarm(&sandbox);
    assert!(last_complete >= 60.0, "over after {last_complete} s");
    assert_rounds_come_in_time(&peers);
    assert_rounds_name_as_many_as_they_can(&peers);
    assert_events_tell_what_the_log_tells(&peers);
    assert_preferred_are_the_fastest(&peers[1..]);
    assert_optimistic_are_unchoked(&peers);
}

/// Ends when everybody is complete; gives also how long the slowest took.
fn run_swarm(sandbox: &Sandbox) -> (Vec<Participant>, f64) {
    let ports: Vec<u16> = UPLOADS.iter().map(|_| free_port()).collect();
    let more = format!(
        "[choking]\npreferred_neighbors = {PREFERRED_NEIGHBORS}\n\
         unchoking_interval = \"{UNCHOKING_INTERVAL}s\"\noptimistic_unchoking_interval = \"12s\"\n\
         [log]\nlevel = \"debug\"\n"
    );
    config(sandbox, BYTES, &ports, &more);
    let toml = sandbox.path("swarm/swarm.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    let text = text.replace("[share]\n", "[share]\npiece_length = \"64K\"\n");
    std::fs::write(&toml, text).unwrap();

    let home = sandbox.path("swarm");
    let mut seed = start_with(sandbox, ports[0], None, &[&"--up", &UPLOADS[0]]);
    seed.addr();
    let folders: Vec<_> = ports[1..]
        .iter()
        .map(|port| sandbox.dir(&port.to_string()))
        .collect();
    let leeches = (1..ports.len()).map(|n| {
        let words: &[&dyn AsRef<std::ffi::OsStr>] = &[&"--up", &UPLOADS[n]];
        start_with(sandbox, ports[n], Some(&folders[n - 1]), words)
    });
    let mut running: Vec<Running> = [seed].into_iter().chain(leeches).collect();
    let mut last = 0.0_f64;
    for leech in &mut running[1..] {
        let complete = leech.wait_for("complete");
        last = last.max(complete["seconds"].as_f64().unwrap());
    }
    for process in &mut running {
        process.interrupt().expect(0);
    }
    for folder in &folders {
        assert_same(&home.join("data/thing.bin"), &folder.join("data/thing.bin"));
    }
    let folders = [home].into_iter().chain(folders);
    let peers = running.into_iter().zip(folders).zip(&ports);
    let peers = peers.map(|((process, folder), port)| Participant {
        log: PeerLog::read(&folder.join(format!("peer_{port}.log"))),
        events: process.events.clone(),
    });
    (peers.collect(), last)
}

fn assert_rounds_come_in_time(peers: &[Participant]) {
    let (mut wrong, mut furthest) = (Vec::new(), 0.0_f64);
    for (n, peer) in peers.iter().enumerate() {
        let rounds = peer.log.rounds();
        assert!(rounds.len() >= 10, "peer {n}: only {} rounds", rounds.len());
        for pair in rounds.windows(2) {
            let gap = pair[1].t - pair[0].t;
            furthest = furthest.max((gap - UNCHOKING_INTERVAL).abs());
            if (gap - UNCHOKING_INTERVAL).abs() > UNCHOKING_INTERVAL * 0.1 {
                wrong.push(format!("peer {n}: {gap:.3} s after {:?}", pair[0]));
            }
        }
    }
    eprintln!("rounds are {UNCHOKING_INTERVAL} s apart, {furthest:.3} s more or less at most");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn assert_rounds_name_as_many_as_they_can(peers: &[Participant]) {
    let mut wrong = Vec::new();
    for (n, peer) in peers.iter().enumerate() {
        for round in peer.log.rounds() {
            let interested = round.interested.len();
            if round.named.len() != PREFERRED_NEIGHBORS.min(interested)
                || round.interested_said != interested
                || !round
                    .named
                    .iter()
                    .all(|peer| round.interested.contains(peer))
            {
                wrong.push(format!("peer {n}: {round:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn assert_events_tell_what_the_log_tells(peers: &[Participant]) {
    for (n, peer) in peers.iter().enumerate() {
        let rounds = peer.log.rounds();
        let said: Vec<&Vec<String>> = rounds.iter().map(|round| &round.named).collect();
        let events: Vec<Vec<String>> = preferred_events(peer).map(named).collect();
        assert_eq!(said, events.iter().collect::<Vec<_>>(), "peer {n}");
    }
}

fn preferred_events(peer: &Participant) -> impl Iterator<Item = &Value> {
    let events = peer.events.iter();
    events.filter(|event| event["event"] == "preferred")
}

fn named(event: &Value) -> Vec<String> {
    let peers = event["peers"].as_array().unwrap().iter();
    peers
        .map(|peer| peer["peer"].as_str().unwrap().to_owned())
        .collect()
}

/// The rate that a peer gave is measured without the rates that the program claims: by the pieces
/// that came from it in the [`RATE_WINDOW`] before the choice, a piece from several peers counting
/// for each in equal parts.
///
/// A choice is right if no peer that was interested and was not named gave more than a named one
/// by over 15 % and over one piece. Only choices count that had somebody to leave out, between
/// [`WARM_UP`] and completion; all leeches' choices are pooled.
fn assert_preferred_are_the_fastest(leeches: &[Participant]) {
    let mut report = String::new();
    let (mut right, mut right_over_interval, mut all) = (0, 0, 0);
    for (n, leech) in leeches.iter().enumerate() {
        let complete = leech
            .events
            .iter()
            .find(|event| event["event"] == "complete");
        let complete = t(complete.unwrap());
        for (round, event) in leech.log.rounds().iter().zip(preferred_events(leech)) {
            let at = t(event);
            if at < WARM_UP || at > complete || round.interested.len() <= round.named.len() {
                continue;
            }
            all += 1;
            let given =
                |window: f64| move |peer: &str| bytes_from(&leech.events, peer, at - window, at);
            right_over_interval += usize::from(is_right(round, given(UNCHOKING_INTERVAL)));
            if is_right(round, given(RATE_WINDOW)) {
                right += 1;
                continue;
            }
            let _ = write!(report, "leech {} at {at:.1} s:", n + 1);
            for peer in &round.interested {
                let mark = if round.named.contains(peer) { "+" } else { "" };
                let rate = given(RATE_WINDOW)(peer) / RATE_WINDOW / 1000.0;
                let _ = write!(report, " {mark}{peer} {rate:.0} KB/s");
            }
            let _ = writeln!(report, "\n  {event}");
        }
    }
    let share = |right: usize| right as f64 / all as f64;
    eprintln!(
        "the preferred were the fastest in {right} of {all} choices ({:.3}), over the last \
         interval alone in {right_over_interval} ({:.3})",
        share(right),
        share(right_over_interval)
    );
    assert!(all >= 30, "only {all} choices to judge");
    assert!(share(right) >= 0.9, "{right} of {all}\n{report}");
}

fn is_right(round: &Round, given: impl Fn(&str) -> f64) -> bool {
    let left_out = round
        .interested
        .iter()
        .filter(|peer| !round.named.contains(peer));
    let best_left_out = left_out.map(|peer| given(peer)).fold(0.0, f64::max);
    round.named.iter().all(|peer| {
        let own = given(peer);
        best_left_out <= (own * 1.15).max(own + PIECE_BYTES)
    })
}

fn bytes_from(events: &[Value], peer: &str, since: f64, until: f64) -> f64 {
    let pieces = events.iter().filter(|event| event["event"] == "piece");
    pieces
        .filter(|event| t(event) > since && t(event) <= until)
        .map(|event| {
            let from = event["from"].as_array().unwrap();
            let part = from.iter().any(|from| from == peer);
            f64::from(u8::from(part)) * PIECE_BYTES / from.len().max(1) as f64
        })
        .sum()
}

fn t(event: &Value) -> f64 {
    event["t"].as_f64().unwrap()
}

/// Who is named optimistic was unchoked then, give or take [`RACE`], says the log of the named one.
/// Not asked of who leaves or stops within that time.
fn assert_optimistic_are_unchoked(peers: &[Participant]) {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (n, peer) in peers.iter().enumerate() {
        for (at, addr) in peer.log.optimistic() {
            let id = peer.log.id_at(&addr, at).expect("it is connected");
            let other = peers.iter().find(|other| other.log.own_id == id);
            let other = &other.expect("it is one of the swarm").log;
            let spans = other.unchoked_by(&peer.log.own_id);
            if spans
                .iter()
                .any(|&(since, until)| since <= at + RACE && until >= at - RACE)
            {
                seen += 1;
                continue;
            }
            let gone = peer.log.gone_after(&addr, at).unwrap_or(f64::INFINITY);
            if gone.min(other.end()) > at + RACE {
                wrong.push(format!("peer {n} at {at:.3}: {addr}, which saw {spans:?}"));
            }
        }
    }
    eprintln!("{seen} optimistic namings were seen by the other side");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 60, "only {seen} to judge");
}
