//! Decides which peers may download from us.
//!
//! Every peer is choked unless the last [`Choker::rechoke`] or a later [`Choker::admit`] chose it:
//! at most `slots` preferred neighbours and one optimistic peer. Ranking uses only the
//! [`Candidate`] values passed in, so a test is a table of numbers. Sending the messages, counting
//! rates and emptying queues happen elsewhere.
//!
//! BEP 3 also keeps faster peers unchoked that are not interested. We choke them: when one becomes
//! interested, [`Choker::admit`] gives it a free slot at once, or it waits one interval at most,
//! and nobody can hold more slots than there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::config::{LeechStrategy, SeedStrategy};
use crate::event::PeerKey;
use crate::reason::ChokeReason;

/// A connected peer as the choker sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub peer: PeerKey,
    /// It wants something from us.
    pub interested: bool,
    /// It unchoked us and sent nothing for a minute. Ignored while seeding.
    pub snubbed: bool,
    /// Bytes per second that it gave us, over 10 s.
    pub down_rate: u64,
    /// Bytes per second that we gave it, over 10 s.
    pub up_rate: u64,
    pub connected_at: Instant,
    /// We unchoke it now.
    pub unchoked: bool,
    /// When we last unchoked it.
    pub unchoked_at: Option<Instant>,
    /// Bytes that we sent it since then.
    pub uploaded_since_unchoke: u64,
    /// It is unchoked and takes nothing, for want of requests or because it does not read.
    pub is_idle: bool,
}

/// What the preferred neighbours are chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Leeching(LeechStrategy),
    Seeding(SeedStrategy),
}

/// A peer whose state has to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    pub peer: PeerKey,
    pub unchoke: bool,
    pub reason: ChokeReason,
}

/// What one round decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// The preferred neighbours were chosen anew. Otherwise only the optimistic slot was due, and
    /// the preferred ones stayed as far as they could.
    pub regular: bool,
    /// Fastest first, with bytes per second: what they give us while leeching, what we give them
    /// while seeding.
    pub preferred: Vec<(PeerKey, u64)>,
    pub optimistic: Option<PeerKey>,
    /// Each peer at most once.
    pub changes: Vec<Choice>,
}

/// The choking state of one torrent.
///
/// Every map is keyed by connected peers: [`Choker::on_gone`] is called for each that leaves.
#[derive(Clone, Debug)]
pub struct Choker {
    preferred_neighbors: usize,
    unchoking_interval: Duration,
    optimistic_interval: Duration,
    next_unchoking: Instant,
    next_optimistic: Instant,
    preferred: BTreeSet<PeerKey>,
    optimistic: Option<PeerKey>,
    /// Peers that had the optimistic slot: no longer new.
    was_optimistic: BTreeSet<PeerKey>,
    /// When a peer was last choked: it waits since then.
    turn_ended: BTreeMap<PeerKey, Instant>,
}

impl Choker {
    pub fn new(
        preferred_neighbors: usize,
        unchoking_interval: Duration,
        optimistic_interval: Duration,
        now: Instant,
    ) -> Self {
        Self {
            preferred_neighbors,
            unchoking_interval,
            optimistic_interval,
            next_unchoking: now + unchoking_interval,
            next_optimistic: now + optimistic_interval,
            preferred: BTreeSet::new(),
            optimistic: None,
            was_optimistic: BTreeSet::new(),
            turn_ended: BTreeMap::new(),
        }
    }

    /// When [`rechoke`](Self::rechoke) is due.
    pub fn deadline(&self) -> Instant {
        self.next_unchoking.min(self.next_optimistic)
    }

    /// One round over all connected peers. `slots` bounds the preferred ones below
    /// `preferred_neighbors`, when the session's cap demands it; the optimistic slot comes on top
    /// even then, so that every torrent always gives somebody a chance.
    ///
    /// Called before its time, it is a regular round.
    pub fn rechoke(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        mode: Mode,
        candidates: &[Candidate],
        slots: usize,
    ) -> Round {
        let optimistic_due = now >= self.next_optimistic;
        let regular = now >= self.next_unchoking || !optimistic_due;
        let slots = slots.min(self.preferred_neighbors);

        let mut ranking = self.rank(now, rng, mode, candidates);
        if regular {
            self.next_unchoking = now + self.unchoking_interval;
        } else {
            // Stable: within both groups the order stays.
            ranking.sort_by_key(|candidate| !self.preferred.contains(&candidate.peer));
        }
        let beyond = self.preferred_neighbors.min(ranking.len());
        let capped: BTreeSet<PeerKey> = ranking
            .get(slots..beyond)
            .unwrap_or_default()
            .iter()
            .map(|candidate| candidate.peer)
            .collect();
        ranking.truncate(slots);
        self.preferred = ranking.iter().map(|candidate| candidate.peer).collect();

        let former = Former {
            optimistic: self.optimistic,
            newcomers: self.newcomers(now, candidates),
            least: ranking.iter().map(|candidate| mode.rate(candidate)).min(),
            capped,
        };
        self.choose_optimistic(now, rng, candidates, optimistic_due);

        let mut preferred: Vec<_> = ranking
            .iter()
            .map(|candidate| (candidate.peer, mode.rate(candidate)))
            .collect();
        preferred.sort_by_key(|&(_, rate)| Reverse(rate));
        Round {
            regular,
            preferred,
            optimistic: self.optimistic,
            changes: self.changes(now, mode, candidates, &former),
        }
    }

    /// A peer became interested between two rounds: it is unchoked at once while a slot is free, a
    /// preferred one or the optimistic one.
    /// `unchoked_now` counts the torrent's unchoked peers but for idle ones, which keep nobody from
    /// being served; `slots` is as in [`rechoke`](Self::rechoke).
    ///
    /// A peer that flaps its interest gains nothing: losing interest frees its slot only at the
    /// next round.
    pub fn admit(
        &mut self,
        now: Instant,
        candidate: &Candidate,
        unchoked_now: usize,
        slots: usize,
    ) -> Option<Choice> {
        if !candidate.interested || candidate.unchoked || candidate.snubbed {
            return None;
        }
        let slots = slots.min(self.preferred_neighbors);
        let regular_now = unchoked_now.saturating_sub(usize::from(self.optimistic.is_some()));
        let reason = if regular_now < slots {
            self.preferred.insert(candidate.peer);
            ChokeReason::FreeSlot
        } else if regular_now == slots && self.optimistic.is_none() {
            self.set_optimistic(now, candidate.peer);
            ChokeReason::Optimistic
        } else {
            return None;
        };
        Some(Choice {
            peer: candidate.peer,
            unchoke: true,
            reason,
        })
    }

    /// The connection is gone. If it was the optimistic one, the next round is due at once.
    pub fn on_gone(&mut self, peer: PeerKey) {
        self.preferred.remove(&peer);
        self.was_optimistic.remove(&peer);
        self.turn_ended.remove(&peer);
        if self.optimistic == Some(peer) {
            self.optimistic = None;
            self.next_optimistic = Instant::START;
        }
    }

    pub fn is_preferred(&self, peer: PeerKey) -> bool {
        self.preferred.contains(&peer)
    }

    pub fn optimistic(&self) -> Option<PeerKey> {
        self.optimistic
    }

    /// Those who may become preferred neighbours, best first. Equals come in random order.
    fn rank<'a>(
        &self,
        now: Instant,
        rng: &mut Rng,
        mode: Mode,
        candidates: &'a [Candidate],
    ) -> Vec<&'a Candidate> {
        let mut eligible: Vec<_> = candidates
            .iter()
            .filter(|candidate| mode.admits(candidate))
            .collect();
        rng.shuffle(&mut eligible);
        match mode {
            Mode::Leeching(LeechStrategy::TitForTat) => {
                eligible.sort_by_key(|candidate| Reverse(candidate.down_rate));
            }
            Mode::Seeding(SeedStrategy::FastestUpload) => {
                eligible.sort_by_key(|candidate| Reverse(candidate.up_rate));
            }
            Mode::Seeding(SeedStrategy::RoundRobin) => {
                eligible.sort_by_key(|candidate| self.turn(now, candidate));
            }
        }
        eligible
    }

    /// Who comes first when everybody is served in turn, and since when.
    fn turn(&self, now: Instant, candidate: &Candidate) -> (Turn, Instant) {
        let waits_since = self
            .turn_ended
            .get(&candidate.peer)
            .copied()
            .unwrap_or(candidate.connected_at);
        if self.optimistic == Some(candidate.peer) {
            return (Turn::Optimistic, waits_since);
        }
        match candidate.unchoked_at {
            Some(since) if candidate.unchoked => {
                let turn = if candidate.is_idle || self.is_over(now.since(since), candidate) {
                    Turn::Over
                } else {
                    Turn::GoingOn
                };
                (turn, since)
            }
            Some(_) | None => (Turn::Waits, waits_since),
        }
    }

    fn is_over(&self, held: Duration, candidate: &Candidate) -> bool {
        let served = candidate.uploaded_since_unchoke >= TURN_BYTES;
        held >= self.unchoking_interval * TURN_INTERVALS_MAX
            || (served && held >= self.unchoking_interval)
    }

    fn choose_optimistic(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        candidates: &[Candidate],
        due: bool,
    ) {
        let current = self.optimistic.filter(|peer| {
            !self.preferred.contains(peer)
                && candidates
                    .iter()
                    .any(|candidate| candidate.peer == *peer && candidate.interested)
        });
        if current.is_some() && !due {
            return;
        }
        match self.draw_optimistic(now, rng, candidates).or(current) {
            Some(peer) => self.set_optimistic(now, peer),
            None => {
                self.optimistic = None;
                self.next_optimistic = now + self.optimistic_interval;
            }
        }
    }

    fn set_optimistic(&mut self, now: Instant, peer: PeerKey) {
        self.optimistic = Some(peer);
        self.was_optimistic.insert(peer);
        self.next_optimistic = now + self.optimistic_interval;
    }

    /// Draws from the choked interested peers, or from those that just lost their slot.
    fn draw_optimistic(
        &self,
        now: Instant,
        rng: &mut Rng,
        candidates: &[Candidate],
    ) -> Option<PeerKey> {
        let eligible = |candidate: &&Candidate| {
            candidate.interested
                && !self.preferred.contains(&candidate.peer)
                && self.optimistic != Some(candidate.peer)
        };
        let mut pool: Vec<_> = candidates.iter().filter(eligible).collect();
        if pool.iter().any(|candidate| !candidate.unchoked) {
            pool.retain(|candidate| !candidate.unchoked);
        }
        let total: u64 = pool
            .iter()
            .map(|candidate| self.weight(now, candidate))
            .sum();
        let mut ticket = rng.below(total);
        for candidate in pool {
            let weight = self.weight(now, candidate);
            if ticket < weight {
                return Some(candidate.peer);
            }
            ticket -= weight;
        }
        None
    }

    /// BEP 3: new connections are three times as likely to become the optimistic one, so that they
    /// soon have a piece to trade. New is who connected in the last three optimistic intervals and
    /// never had the slot.
    fn weight(&self, now: Instant, candidate: &Candidate) -> u64 {
        if self.is_new(now, candidate) {
            NEW_WEIGHT
        } else {
            1
        }
    }

    fn is_new(&self, now: Instant, candidate: &Candidate) -> bool {
        let age = now.since(candidate.connected_at);
        age < self.optimistic_interval * NEW_INTERVALS
            && !self.was_optimistic.contains(&candidate.peer)
    }

    fn newcomers(&self, now: Instant, candidates: &[Candidate]) -> BTreeSet<PeerKey> {
        let choked = candidates.iter().filter(|candidate| !candidate.unchoked);
        choked
            .filter(|candidate| self.is_new(now, candidate))
            .map(|candidate| candidate.peer)
            .collect()
    }

    /// The differences between what is and what was chosen.
    fn changes(
        &mut self,
        now: Instant,
        mode: Mode,
        candidates: &[Candidate],
        former: &Former,
    ) -> Vec<Choice> {
        let mut changes = Vec::new();
        for candidate in candidates {
            let peer = candidate.peer;
            let is_preferred = self.preferred.contains(&peer);
            let unchoke = is_preferred || self.optimistic == Some(peer);
            if unchoke == candidate.unchoked {
                continue;
            }
            let reason = if is_preferred {
                mode.unchoke_reason(candidate)
            } else if unchoke && former.newcomers.contains(&peer) {
                ChokeReason::Newcomer
            } else if unchoke {
                ChokeReason::Optimistic
            } else {
                self.turn_ended.insert(peer, now);
                mode.choke_reason(candidate, former)
            };
            changes.push(Choice {
                peer,
                unchoke,
                reason,
            });
        }
        changes
    }
}

impl Mode {
    fn rate(self, candidate: &Candidate) -> u64 {
        match self {
            Self::Leeching(LeechStrategy::TitForTat) => candidate.down_rate,
            Self::Seeding(SeedStrategy::RoundRobin | SeedStrategy::FastestUpload) => {
                candidate.up_rate
            }
        }
    }

    /// May this peer be a preferred neighbour? BEP 3, anti-snubbing: one that gives nothing gets
    /// only the optimistic slot. A seed expects nothing from anybody.
    fn admits(self, candidate: &Candidate) -> bool {
        candidate.interested
            && match self {
                Self::Leeching(LeechStrategy::TitForTat) => !candidate.snubbed,
                Self::Seeding(SeedStrategy::RoundRobin | SeedStrategy::FastestUpload) => true,
            }
    }

    fn unchoke_reason(self, candidate: &Candidate) -> ChokeReason {
        match self {
            Self::Leeching(LeechStrategy::TitForTat)
            | Self::Seeding(SeedStrategy::FastestUpload) => {
                if self.rate(candidate) == 0 {
                    ChokeReason::Drawn
                } else {
                    ChokeReason::Preferred
                }
            }
            Self::Seeding(SeedStrategy::RoundRobin) => ChokeReason::RoundRobin,
        }
    }

    fn choke_reason(self, candidate: &Candidate, former: &Former) -> ChokeReason {
        if !candidate.interested {
            ChokeReason::NotInterested
        } else if former.capped.contains(&candidate.peer) {
            ChokeReason::SlotsElsewhere
        } else if former.optimistic == Some(candidate.peer) {
            ChokeReason::TurnOver
        } else if !self.admits(candidate) {
            ChokeReason::Snubbed
        } else {
            match self {
                Self::Leeching(LeechStrategy::TitForTat)
                | Self::Seeding(SeedStrategy::FastestUpload) => {
                    if former
                        .least
                        .is_some_and(|least| self.rate(candidate) >= least)
                    {
                        ChokeReason::OthersDrawn
                    } else {
                        ChokeReason::OthersFaster
                    }
                }
                Self::Seeding(SeedStrategy::RoundRobin) => ChokeReason::TurnOver,
            }
        }
    }
}

/// What a round found and left, by which its changes are explained.
#[derive(Debug)]
struct Former {
    optimistic: Option<PeerKey>,
    /// Choked peers that are new.
    newcomers: BTreeSet<PeerKey>,
    /// The rate of the slowest preferred neighbour.
    least: Option<u64>,
    /// Those who would be preferred if no other torrent used the session's slots.
    capped: BTreeSet<PeerKey>,
}

/// Where a peer stands while everybody is served in turn, first come the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Turn {
    GoingOn,
    Waits,
    /// Served already, by the optimistic slot.
    Optimistic,
    /// Keeps its slot while nobody waits.
    Over,
}

/// A turn of round-robin seeding lasts until so much was sent, and one interval at least: a
/// newcomer then has something to trade.
const TURN_BYTES: u64 = 2 * 1024 * 1024;

/// A turn ends after this many unchoking intervals, or a slow peer would keep its slot for ever.
const TURN_INTERVALS_MAX: u32 = 6;

/// Optimistic intervals for which a connection is new.
const NEW_INTERVALS: u32 = 3;

const NEW_WEIGHT: u64 = 3;

#[cfg(test)]
mod tests;
