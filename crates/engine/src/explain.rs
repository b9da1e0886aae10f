//! Why nothing comes: every stalled second of a torrent has exactly one cause.
//!
//! Seconds are counted from the moment the torrent was added. One in which it lacked something and
//! got no payload that it had asked for is *stalled*; it is judged when it is over. A block comes
//! to us on a chain of steps: an address is known, it is dialled, it connects, it says what it has,
//! it has something that we lack, it unchokes us, we ask, it answers. What holds up the peer that
//! has come furthest on this chain is the cause; only what stops us whatever peers do goes before.
//! Nothing is decided here: who asks and who is choked never depends on it.

mod sentence;

#[cfg(test)]
mod tests;

use std::time::Duration;

use dunlin_metainfo::PieceIndex;

/// What a stalled second is put down to, in the order in which it is looked for: first what stops
/// us whatever peers do, then what holds up the peer that has come furthest. That one is nearest to
/// giving us something, so mending what holds it up ends the stall soonest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StallCause {
    // Whatever peers do.
    /// The disk failed and the torrent waits for [`Command::Resume`](crate::Command::Resume).
    DiskFailed,
    /// The metadata of a magnet is here, and what of the torrent is on the disk is looked at.
    Checking,
    /// Every missing block came; the disk has not said yet whether the pieces are good.
    Verifying,

    // Nobody is connected.
    /// No address to dial, and no tracker that could name one has failed.
    NoPeers,
    /// No address to dial, and no tracker has answered.
    NoTracker,
    /// Every address that we know was tried in vain and rests.
    Unreachable,
    /// Dials are under way.
    Dialling,

    // Somebody is connected.
    /// None of the connected peers has said yet what it has.
    Handshake,
    /// A magnet: its info dictionary comes from peers first.
    Metadata,
    /// Nobody connected has a piece that we lack.
    NobodyHas,
    /// All who have one choke us, and all of those are seeds.
    SeedsBusy,
    /// All who have one choke us.
    Choked,
    /// Whoever does not choke us rejected our requests, and is left alone for a moment.
    Rejected,

    // Somebody could be asked, and is not.
    /// What came faster than the disk takes it waits in memory.
    DiskSlow,
    /// Other torrents use the memory that there is for blocks.
    Memory,
    /// Our own download limit.
    RateLimit,

    // Somebody was asked.
    /// Nobody that was asked has answered for [`SILENT_AFTER`].
    Silent,
    /// The last blocks are asked of several.
    EndGame,
    /// Somebody was asked a moment ago.
    Asked,
    /// Blocks come, but not every second.
    Slow,

    /// None of these. A bug, or a cause that is still to be named.
    Other,
}

impl StallCause {
    pub const ALL: [Self; 21] = [
        Self::DiskFailed,
        Self::Checking,
        Self::Verifying,
        Self::NoPeers,
        Self::NoTracker,
        Self::Unreachable,
        Self::Dialling,
        Self::Handshake,
        Self::Metadata,
        Self::NobodyHas,
        Self::SeedsBusy,
        Self::Choked,
        Self::Rejected,
        Self::DiskSlow,
        Self::Memory,
        Self::RateLimit,
        Self::Silent,
        Self::EndGame,
        Self::Asked,
        Self::Slow,
        Self::Other,
    ];

    /// The word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::DiskFailed => "disk_failed",
            Self::Checking => "checking",
            Self::Verifying => "verifying",
            Self::NoPeers => "no_peers",
            Self::NoTracker => "no_tracker",
            Self::Unreachable => "unreachable",
            Self::Dialling => "dialling",
            Self::Handshake => "handshake",
            Self::Metadata => "metadata",
            Self::NobodyHas => "nobody_has",
            Self::SeedsBusy => "seeds_busy",
            Self::Choked => "choked",
            Self::Rejected => "rejected",
            Self::DiskSlow => "disk_slow",
            Self::Memory => "memory",
            Self::RateLimit => "rate_limit",
            Self::Silent => "silent",
            Self::EndGame => "end_game",
            Self::Asked => "asked",
            Self::Slow => "slow",
            Self::Other => "other",
        }
    }

    /// The one cause of a stall in this scene.
    pub fn of(scene: &Scene) -> Self {
        match scene.phase {
            Phase::DiskFailed => return Self::DiskFailed,
            Phase::Checking => return Self::Checking,
            Phase::Verifying => return Self::Verifying,
            Phase::Metadata | Phase::Downloading => {}
        }
        let peers = &scene.peers;
        if scene.connected == 0 {
            Self::of_the_lonely(scene)
        } else if scene.phase == Phase::Metadata {
            Self::Metadata
        } else if peers.asked > 0 {
            Self::of_the_asked(scene)
        } else if peers.ready > 0 {
            match scene.hold {
                Some(Hold::Disk) => Self::DiskSlow,
                Some(Hold::Memory) => Self::Memory,
                Some(Hold::RateLimit) => Self::RateLimit,
                Some(Hold::Verdict) => Self::Verifying,
                None => Self::Other,
            }
        } else if peers.rejecting > 0 {
            Self::Rejected
        } else if peers.choking > peers.choking_seeds {
            Self::Choked
        } else if peers.choking > 0 {
            Self::SeedsBusy
        } else if peers.useless > 0 {
            Self::NobodyHas
        } else if peers.greeting > 0 {
            Self::Handshake
        } else {
            Self::Other
        }
    }

    fn of_the_lonely(scene: &Scene) -> Self {
        if scene.dialling > 0 {
            return Self::Dialling;
        }
        if scene.known > 0 {
            return Self::Unreachable;
        }
        match scene.tracker {
            TrackerStanding::Asked | TrackerStanding::Failing => Self::NoTracker,
            TrackerStanding::Answered | TrackerStanding::None => Self::NoPeers,
        }
    }

    /// Silence goes first: it says what ends the stall, whatever else holds. A limit goes before
    /// the end-game, which lasts longer for it.
    fn of_the_asked(scene: &Scene) -> Self {
        if scene.waits >= SILENT_AFTER {
            Self::Silent
        } else if scene.hold == Some(Hold::RateLimit) {
            Self::RateLimit
        } else if scene.is_endgame {
            Self::EndGame
        } else if !scene.peers.gave && scene.waits < ASKED_FOR {
            Self::Asked
        } else {
            Self::Slow
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What a torrent does that lacks something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    #[default]
    Downloading,
    Metadata,
    Checking,
    Verifying,
    DiskFailed,
}

/// What we have heard of the trackers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrackerStanding {
    /// The torrent names none.
    #[default]
    None,
    /// None has answered yet.
    Asked,
    /// None answered, and all of them rest.
    Failing,
    Answered,
}

/// Why we ask nobody although we could.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    Disk,
    Memory,
    RateLimit,
    /// Whatever those who could be asked have is here and waits for its verdict.
    Verdict,
}

/// Connected peers by how far they have come; each counts once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStages {
    /// They have just connected and not said yet what they have.
    pub greeting: usize,
    /// They have nothing that we lack.
    pub useless: usize,
    pub choking: usize,
    /// Of those that choke us.
    pub choking_seeds: usize,
    /// They rejected requests and are left alone for a moment.
    pub rejecting: usize,
    /// They could be asked, and nothing is asked of them.
    pub ready: usize,
    pub asked: usize,
    /// Of those that were asked: they have not answered for a minute.
    pub snubbed: usize,
    /// One of those that were asked gave a block since it unchoked us.
    pub gave: bool,
}

/// A torrent as the judge of its stall sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scene {
    pub phase: Phase,
    pub tracker: TrackerStanding,
    /// Addresses that we are neither connected to nor dialling. Counted while nobody is connected.
    pub known: usize,
    pub dialling: usize,
    pub connected: usize,
    pub peers: PeerStages,
    pub hold: Option<Hold>,
    /// How long the most recent answer of those that were asked is ago, or the asking.
    pub waits: Duration,
    /// Blocks asked for.
    pub open: usize,
    pub is_endgame: bool,
    /// Bytes of the metadata that are here, and of how many.
    pub metadata: (u32, Option<u32>),
    /// We have pieces that others may want.
    pub has_pieces: bool,
    /// A wanted piece that nobody connected has.
    pub missing: Option<PieceIndex>,
}

/// A stall in words: its `Display` is the sentence that the log, the events and the laboratory
/// tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    pub cause: StallCause,
    pub scene: Scene,
}

impl Stall {
    pub fn of(scene: Scene) -> Self {
        Self {
            cause: StallCause::of(&scene),
            scene,
        }
    }
}

/// Stalled seconds by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StallCounts([u64; StallCause::ALL.len()]);

impl StallCounts {
    pub fn add(&mut self, cause: StallCause, seconds: u64) {
        self.0[cause.index()] += seconds;
    }

    pub fn of(&self, cause: StallCause) -> u64 {
        self.0[cause.index()]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What there was, most first.
    pub fn ranking(&self) -> Vec<(StallCause, u64)> {
        let mut ranking: Vec<(StallCause, u64)> = StallCause::ALL
            .iter()
            .map(|&cause| (cause, self.of(cause)))
            .filter(|&(_, seconds)| seconds > 0)
            .collect();
        ranking.sort_by_key(|&(_, seconds)| std::cmp::Reverse(seconds));
        ranking
    }
}

impl std::ops::AddAssign for StallCounts {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}

/// Counts stalled seconds, and says when a stall is worth telling.
#[derive(Clone, Debug, Default)]
pub struct StallClock {
    /// Seconds since the torrent was added that are accounted for.
    seconds: u64,
    counts: StallCounts,
    /// Stalled seconds in a row.
    run: u64,
    last: Option<Stall>,
    /// Of the run, seconds in a row with the last cause.
    same: u64,
    told: Option<StallCause>,
    /// In which second each cause was told last.
    told_in: [Option<u64>; StallCause::ALL.len()],
}

/// What is worth telling of a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StallNews {
    /// It stalls, and this is a cause that was not told lately.
    Stalled,
    /// A stall that was told is over, after so many seconds.
    Over(u64),
}

impl StallClock {
    /// Seconds that ended before `second` and are not accounted for. What is too old to be known
    /// is left out: the machine slept.
    pub fn due(&mut self, second: u64) -> std::ops::Range<u64> {
        let from = self.seconds.max(second.saturating_sub(SECONDS_KNOWN));
        self.seconds = self.seconds.max(second);
        from.min(second)..second
    }

    /// The second was stalled, and why.
    pub fn on_stalled(&mut self, second: u64, stall: Stall) -> Option<StallNews> {
        let cause = stall.cause;
        self.counts.add(cause, 1);
        self.run += 1;
        self.same = if self.last.is_some_and(|last| last.cause == cause) {
            self.same + 1
        } else {
            1
        };
        self.last = Some(stall);
        let told_in = &mut self.told_in[cause.index()];
        let is_fresh = told_in.is_none_or(|told| second >= told + TELL_AGAIN_AFTER);
        let is_worth_telling = self.run >= TELL_AFTER
            && self.same >= TELL_CAUSE_AFTER
            && self.told != Some(cause)
            && is_fresh;
        if !is_worth_telling {
            return None;
        }
        *told_in = Some(second);
        self.told = Some(cause);
        Some(StallNews::Stalled)
    }

    /// In this second payload came, or nothing was lacking.
    pub fn on_flowing(&mut self) -> Option<StallNews> {
        let lasted = std::mem::take(&mut self.run);
        self.last = None;
        self.same = 0;
        self.told.take().map(|_| StallNews::Over(lasted))
    }

    pub fn counts(&self) -> StallCounts {
        self.counts
    }

    /// The last second, if it was stalled.
    pub fn last(&self) -> Option<Stall> {
        self.last
    }

    /// Stalled seconds in a row until now.
    pub fn run(&self) -> u64 {
        self.run
    }
}

/// Nobody that was asked has answered for so long: they are silent rather than slow. A peer that
/// gives 2 KB/s sends a block every eight seconds.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Who was asked so long ago may be expected to answer any moment: a round trip and the
/// time of a block on a slow line.
pub const ASKED_FOR: Duration = Duration::from_secs(2);

/// A peer that has said nothing of its pieces for so long has none (BEP 3: then the bitfield may
/// be left out).
pub const GREETING_MAX: Duration = Duration::from_secs(5);

/// Seconds back to which the rate meter knows what came.
const SECONDS_KNOWN: u64 = crate::stats::WINDOW_S;

/// A stall is told when it has lasted so many seconds, and its cause so many of them.
const TELL_AFTER: u64 = 3;
const TELL_CAUSE_AFTER: u64 = 2;

/// The same cause is not told again before so many seconds have passed.
const TELL_AGAIN_AFTER: u64 = 30;
