//! The picture of a demo: a row a peer, 80 columns.

use std::time::Duration;

use crate::quantity::{percent, show_rate};
use crate::screen::{self, Look, bar};

use super::Plan;
use super::child::{Child, Mark};

/// Lines besides the rows: heading, what else there is, the seed's copies.
const OTHER_LINES: usize = 3;

/// Columns left for the marks, one a peer.
const MARKS_MAX: usize = 19;

pub fn rows(plan: &Plan, peers: &[Child], time: Duration) -> Vec<String> {
    let look = screen::look();
    let room = look.height.saturating_sub(OTHER_LINES + 1).max(1);
    let marks = peers.len() <= MARKS_MAX;
    let heading = if marks { "unchokes" } else { "slots" };
    let mut lines = vec![format!(
        "{:<8} {:<20}  {:>5}  {:>10}  {:>10}  {heading}",
        "", "", "done", "down", "up"
    )];
    lines.extend(
        peers
            .iter()
            .take(room)
            .map(|peer| row(plan, peers, peer, marks, look)),
    );
    if let Some(more) = peers.len().checked_sub(room).filter(|&more| more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines.push(line(plan, peers, time));
    lines
}

fn row(plan: &Plan, peers: &[Child], peer: &Child, marks: bool, look: Look) -> String {
    format!(
        "{:<8} {}  {:>3} %  {:>10}  {:>10}  {}",
        peer.name,
        bar(peer.have_bytes, plan.size, 20, look.colour),
        percent(peer.have_bytes, plan.size),
        show_rate(peer.down_rate),
        show_rate(peer.up_rate),
        if marks {
            mark_each(peers, peer)
        } else {
            count(peers, peer)
        },
    )
}

/// A column a peer: `+` for a preferred neighbour, `*` for the optimistic one.
fn mark_each(peers: &[Child], peer: &Child) -> String {
    let mark = |other: &Child| {
        if other.name == peer.name {
            return ' ';
        }
        match peer.mark(other) {
            Mark::Choked => '.',
            Mark::Preferred => '+',
            Mark::Optimistic => '*',
        }
    };
    peers.iter().map(mark).collect()
}

fn count(peers: &[Child], peer: &Child) -> String {
    let count = |wanted: Mark| {
        peers
            .iter()
            .filter(|other| peer.mark(other) == wanted)
            .count()
    };
    format!("+{} *{}", count(Mark::Preferred), count(Mark::Optimistic))
}

/// The whole swarm in a line.
pub fn line(plan: &Plan, peers: &[Child], time: Duration) -> String {
    let leeches = peers.iter().skip(1);
    let complete = leeches
        .clone()
        .filter(|leech| leech.completed.is_some())
        .count();
    let have: u64 = leeches.map(|leech| leech.have_bytes).sum();
    let of = plan.size.saturating_mul(plan.peers as u64);
    let sent = peers.first().map_or(0, |seed| seed.uploaded) as f64 / plan.size as f64;
    format!(
        "{:.1} s: {} % of all copies, {complete} of {} complete; the seed sent {sent:.2} copies",
        time.as_secs_f64(),
        percent(have, of),
        plan.peers,
    )
}
