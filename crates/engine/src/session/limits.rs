//! Rate limits in exact time: what is asked and what is served, of one peer and of several, under
//! the limit of the session and under that of the torrent.

use std::time::Duration;

use dunlin_metainfo::Bitfield;
use dunlin_proto::peer::Message;
use dunlin_proto::time::Instant;

use super::hardship::{ask, limited, shares_of_two};
use super::rig::{BLOCK, PIECE_LEN, Rig, TORRENT};
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{Event, PeerKey, TorrentKey};
use crate::reason::CloseReason;
use crate::resume::Resume;

/// How often the rig's other side looks: a round trip.
const STEP: Duration = Duration::from_millis(10);
const MB: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
enum Level {
    Session,
    Torrent,
}

/// Of the seconds 2 to 12 the mean and the busiest span of a second, over the limit.
fn figures(moved: &[(Instant, u64)], limit: u64) -> (f64, f64) {
    let at = |secs| moved[0].0 + Duration::from_secs(secs);
    let within = moved.iter().filter(|(t, _)| (at(2)..at(12)).contains(t));
    let moved: Vec<(Instant, u64)> = within.copied().collect();
    let sum: u64 = moved.iter().map(|(_, bytes)| bytes).sum();
    let (mut first, mut span, mut most) = (0, 0, 0);
    for &(t, bytes) in &moved {
        span += bytes;
        while t.since(moved[first].0) >= Duration::from_secs(1) {
            span -= moved[first].1;
            first += 1;
        }
        most = most.max(span);
    }
    let limit = limit as f64;
    (sum as f64 / 10.0 / limit, most as f64 / limit)
}

#[track_caller]
fn assert_kept(moved: &[(Instant, u64)], limit: u64, what: &str) {
    let (mean, busiest) = figures(moved, limit);
    assert!(
        (mean - 1.0).abs() <= 0.05,
        "{what}: the mean is {mean} of it"
    );
    assert!(busiest <= 1.25, "{what}: a second has {busiest} of it");
}

fn set(rig: &mut Rig, level: Level, limits: RateLimits) {
    rig.tell(Event::Command(match level {
        Level::Session => Command::SetSessionLimits { limits },
        Level::Torrent => Command::SetTorrentLimits {
            torrent: TORRENT,
            limits,
        },
    }));
}

#[test]
fn what_is_served_keeps_the_limit_of_session_and_torrent() {
    for level in [Level::Session, Level::Torrent] {
        for (limit, peers) in [(MB, 1), (MB, 5), (10 * MB, 1), (10 * MB, 5), (50 * MB, 5)] {
            let moved = serve(level, limit, peers);
            assert_kept(&moved, limit, &format!("{level:?} {limit} {peers}"));
        }
    }
}

/// Peers that always have requests open, as much as they may.
fn serve(level: Level, limit: u64, peers: usize) -> Vec<(Instant, u64)> {
    let mut rig = Rig::seed(4, Config::default());
    let up = Some(limit);
    set(&mut rig, level, RateLimits { down: None, up });
    let peers: Vec<PeerKey> = (0..peers).map(|_| rig.peer("")).collect();
    let open = (limit / u64::from(BLOCK) / 10).max(16) as u32;
    for &peer in &peers {
        rig.hear(peer, Message::Interested);
        (0..open).for_each(|n| ask(&mut rig, peer, n % 4, n / 4 % 4));
    }
    let mut moved = Vec::new();
    while moved
        .first()
        .is_none_or(|(t, _)| rig.now.since(*t) < Duration::from_secs(12))
    {
        rig.wait(STEP);
        for &peer in &peers {
            for run in rig.served(peer) {
                let bytes = rig.layout.run_len(run);
                moved.push((rig.now, u64::from(bytes)));
                rig.tell(Event::Served { peer, run, bytes });
                for block in rig.layout.run_blocks(run).collect::<Vec<_>>() {
                    ask(&mut rig, peer, block.piece().get(), block.offset() / BLOCK);
                }
            }
        }
    }
    moved
}

#[test]
fn what_is_asked_keeps_the_limit_of_session_and_torrent() {
    for level in [Level::Session, Level::Torrent] {
        for (limit, peers) in [(MB / 2, 1), (MB, 1), (MB, 5), (8 * MB, 5)] {
            let mut rig = Rig::new((limit * 13 / PIECE_LEN) as u32, Config::default());
            let down = Some(limit);
            set(&mut rig, level, RateLimits { down, up: None });
            let peers = seeds(&mut rig, peers);
            let moved = take(&mut rig, &peers, Duration::from_secs(12));
            assert_kept(&moved, limit, &format!("{level:?} {limit} {peers:?}"));
        }
    }
}

fn seeds(rig: &mut Rig, count: usize) -> Vec<PeerKey> {
    let everything = "x".repeat(rig.layout.pieces() as usize);
    let peers: Vec<PeerKey> = (0..count).map(|_| rig.peer(&everything)).collect();
    for &peer in &peers {
        rig.hear(peer, Message::Unchoke);
    }
    peers
}

/// Every request is answered within a [`STEP`].
fn take(rig: &mut Rig, peers: &[PeerKey], time: Duration) -> Vec<(Instant, u64)> {
    let end = rig.now + time;
    let mut moved = Vec::new();
    while rig.now < end {
        rig.wait(STEP);
        for &peer in peers {
            for block in rig.requested(peer) {
                moved.push((rig.now, u64::from(block.len())));
                rig.receive(peer, block);
            }
        }
    }
    moved
}

#[test]
fn what_nobody_answered_costs_nothing_of_the_limit() {
    let limit = 500_000;
    let mut rig = Rig::new(120, limited(Some(limit), None));
    let honest = seeds(&mut rig, 1);
    let mut bytes = 0;
    for _ in 0..10 {
        // Each takes its part of the requests along when it goes.
        let fickle = seeds(&mut rig, 3);
        let moved = take(&mut rig, &honest, Duration::from_millis(700));
        bytes += moved.iter().map(|(_, bytes)| bytes).sum::<u64>();
        for peer in fickle {
            let reason = CloseReason::RemoteClosed;
            rig.tell(Event::PeerClosed { peer, reason });
        }
        let moved = take(&mut rig, &honest, Duration::from_millis(300));
        bytes += moved.iter().map(|(_, bytes)| bytes).sum::<u64>();
    }
    // A bucket holds a quarter of a second: that much of each second comes back.
    let of_the_limit = bytes as f64 / (10 * limit) as f64;
    assert!(of_the_limit > 0.65, "{of_the_limit}");
}

#[test]
fn blocks_that_come_after_all_count() {
    let limit = 500_000;
    let mut rig = Rig::new(120, limited(Some(limit), None));
    let peers = seeds(&mut rig, 2);
    let mut bytes = 0;
    for _ in 0..100 {
        rig.wait(Duration::from_millis(100));
        for &peer in &peers {
            // It chokes, sends what was under way nevertheless, and unchokes.
            let asked = rig.requested(peer);
            rig.hear(peer, Message::Choke);
            for block in asked {
                bytes += u64::from(block.len());
                rig.receive(peer, block);
            }
            rig.hear(peer, Message::Unchoke);
        }
    }
    let of_the_limit = bytes as f64 / (10 * limit) as f64;
    assert!(of_the_limit <= 1.05, "{of_the_limit}");
}

#[test]
fn two_torrents_share_the_download_limit_by_halves() {
    let [first, second] = shares_of_two(limited(Some(400_000), None), true);
    assert!(first + second > 450, "{first} and {second} blocks");
    assert!(first.abs_diff(second) <= 10, "{first} and {second} blocks");
}

#[test]
fn two_torrents_share_the_upload_limit_by_halves_however_many_peers_they_have() {
    let mut rig = Rig::seed(4, limited(None, Some(400_000)));
    let mut peers = vec![(0, rig.peer(""))];
    let mut resume = Resume::empty(4);
    resume.written = Bitfield::full(4);
    rig.add(TorrentKey(2), resume, Vec::new());
    peers.extend((0..4).map(|_| (1, rig.peer(""))));
    for &(_, peer) in &peers {
        rig.hear(peer, Message::Interested);
        (0..16).for_each(|n| ask(&mut rig, peer, n % 4, n / 4));
    }
    let mut blocks = [0u32; 2];
    for _ in 0..2000 {
        rig.wait(STEP);
        for &(torrent, peer) in &peers {
            for run in rig.served(peer) {
                blocks[torrent] += u32::from(run.count());
                let bytes = rig.layout.run_len(run);
                rig.tell(Event::Served { peer, run, bytes });
                for block in rig.layout.run_blocks(run).collect::<Vec<_>>() {
                    ask(&mut rig, peer, block.piece().get(), block.offset() / BLOCK);
                }
            }
        }
    }
    let [first, second] = blocks;
    assert!(first + second > 450, "{first} and {second} blocks");
    assert!(first.abs_diff(second) <= 10, "{first} and {second} blocks");
}

#[test]
fn a_torrent_whose_only_peer_left_holds_nobody_up() {
    let mut rig = Rig::new(200, limited(Some(400_000), None));
    let first = seeds(&mut rig, 1);
    rig.add(TorrentKey(2), Resume::empty(200), Vec::new());
    let second = seeds(&mut rig, 1);
    take(&mut rig, &[first[0], second[0]], Duration::from_secs(2));
    let reason = CloseReason::RemoteClosed;
    rig.tell(Event::PeerClosed {
        peer: first[0],
        reason,
    });
    let moved = take(&mut rig, &second, Duration::from_secs(10));
    let bytes: u64 = moved.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes > 3_800_000, "{bytes} of 4,000,000");
}
