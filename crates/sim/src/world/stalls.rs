//! Stalled seconds as the world counts them, from the wire, beside what the sessions say of theirs.

use dunlin_metainfo::Bitfield;
use dunlin_proto::time::Instant;

use super::{Mind, World};
use crate::net::NodeId;
use crate::oracles::Oracle;
use crate::scenario::TORRENT;

/// One life of a node that lacks something: which of its seconds brought no payload.
#[derive(Debug)]
pub(crate) struct Lulls {
    began: Instant,
    /// Seconds that are accounted for.
    seconds: u64,
    stalled: u64,
}

impl Lulls {
    fn new(began: Instant) -> Self {
        Self {
            began,
            seconds: 0,
            stalled: 0,
        }
    }

    /// Blocks that were asked for came.
    pub(super) fn on_payload(&mut self, now: Instant) {
        let second = now.since(self.began).as_secs();
        if second >= self.seconds {
            self.stalled += second - self.seconds;
            self.seconds = second + 1;
        }
    }

    /// The seconds until now, but for the one that is not over.
    fn end(&self, now: Instant) -> u64 {
        let second = now.since(self.began).as_secs();
        self.stalled + second.saturating_sub(self.seconds)
    }
}

impl World {
    pub(super) fn open_lulls(&mut self, node: NodeId, claims: &Bitfield) {
        let lulls = (!claims.is_full()).then(|| Lulls::new(self.now));
        self.nodes[node.index()].lulls = lulls;
        self.nodes[node.index()].counts_stalls = true;
    }

    /// The download is complete: from now on no second is stalled.
    pub(super) fn end_lulls(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.index()];
        if let Some(lulls) = state.lulls.take() {
            state.stats.stalled_s += lulls.end(self.now);
        }
    }

    /// A life ends, or the torrent is removed: does the session know as many stalled seconds as
    /// the world saw, each with its cause?
    pub(super) fn compare_stalls(&mut self, node: NodeId) {
        let now = self.now;
        self.end_lulls(node);
        let state = &mut self.nodes[node.index()];
        let Mind::Session(session) = &state.mind else {
            return;
        };
        if !std::mem::replace(&mut state.counts_stalls, false) {
            return;
        }
        state.stats.stalls += session.stalls(TORRENT, now).unwrap_or_default();
        if !self.is_watched(node) {
            // What it had asked for was not sorted from what it had not.
            return;
        }
        let state = &self.nodes[node.index()];
        let (counted, seen) = (state.stats.stalls.total(), state.stats.stalled_s);
        self.verdicts
            .expect(counted == seen, Oracle::EveryStallHasACause, || {
                format!("{node:?} gives a cause for {counted} stalled seconds of {seen}")
            });
    }
}
