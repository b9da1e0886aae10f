//! The end-game: every missing block is requested, so a peer with nothing left to give may be
//! asked for blocks that others owe us (BEP 3).
//!
//! Duplicates are kept rare:
//! - a block has at most [`LIVE_REQUESTERS_MAX`] requesters that answer, [`REQUESTERS_MAX`] in all;
//! - a peer owes at most [`DOUBLES_MAX`] blocks that another live peer owes too;
//! - first go blocks that only doubtful peers owe (snubbed, or choking us), then those with fewest
//!   requesters, then those of the slowest peer, and of these what was requested last: it is at
//!   the end of that peer's queue, so that the two meet in the middle and cancels come in time;
//! - a snubbed peer takes none, and pieces that failed their hash stay with their one peer.

use std::cmp::Reverse;

use dunlin_metainfo::{PieceIndex, Run};

use super::started::{Request, Started};
use super::{Asker, Picker};
use crate::event::PeerKey;

/// Appends up to `blocks` blocks that others were asked for already.
pub(super) fn pick(picker: &mut Picker, asker: &Asker<'_>, blocks: usize, out: &mut Vec<Run>) {
    if asker.snubbed {
        return;
    }
    let (mut doubles, mut candidates) = survey(picker, asker);
    candidates.sort_unstable();
    for candidate in candidates.into_iter().take(blocks) {
        let is_double = candidate.live > 0;
        if is_double && doubles >= DOUBLES_MAX {
            return;
        }
        doubles += usize::from(is_double);
        let run = picker.layout.run(candidate.piece, candidate.block, 1);
        if let Some(started) = picker.started.get_mut(&candidate.piece) {
            started.add_request(candidate.block, asker.peer, &mut picker.requests);
            out.extend(run);
        }
    }
}

/// A block that the asker may be asked for too; the least goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Candidate {
    /// Requesters that are not doubtful.
    live: usize,
    requesters: usize,
    /// Of the fastest requester.
    rate: u64,
    latest: Reverse<u64>,
    piece: PieceIndex,
    block: u16,
}

/// How many blocks the asker owes that a live peer owes too, and which more it could take.
fn survey(picker: &Picker, asker: &Asker<'_>) -> (usize, Vec<Candidate>) {
    let mut doubles = 0;
    let mut candidates = Vec::new();
    for started in picker.started.values() {
        let offered = asker.offers(started.piece)
            && started.owner.is_none()
            && picker.is_wanted(started.piece);
        for requests in started.open_requests() {
            let (live, rate) = live(picker, asker.peer, requests);
            if requests.iter().any(|request| request.peer == asker.peer) {
                doubles += usize::from(live > 0);
            } else if offered && live < LIVE_REQUESTERS_MAX && requests.len() < REQUESTERS_MAX {
                candidates.push(candidate(started, requests, live, rate));
            }
        }
    }
    (doubles, candidates)
}

fn candidate(started: &Started, requests: &[Request], live: usize, rate: u64) -> Candidate {
    let latest = requests.iter().map(|request| request.number).max();
    Candidate {
        live,
        requesters: requests.len(),
        rate,
        latest: Reverse(latest.unwrap_or_default()),
        piece: started.piece,
        block: requests[0].block,
    }
}

/// How many others than `besides` may be expected to answer, and the rate of the fastest.
fn live(picker: &Picker, besides: PeerKey, requests: &[Request]) -> (usize, u64) {
    requests
        .iter()
        .filter(|request| request.peer != besides)
        .filter_map(|request| picker.paces.get(&request.peer))
        .fold((0, 0), |(live, rate), pace| (live + 1, rate.max(pace.rate)))
}

pub(super) const LIVE_REQUESTERS_MAX: usize = 2;
pub(super) const REQUESTERS_MAX: usize = 3;
pub(super) const DOUBLES_MAX: usize = 4;
