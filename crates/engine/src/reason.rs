//! Why we did what we did: closed lists, so that every decision can be told and counted.
//!
//! The `Display` of each is what users read in logs, its `code` the word for programs;
//! docs/explain.md lists them all.

use dunlin_proto::peer::message::Violation;

/// Why a connection ended or did not come about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("the peer closed the connection")]
    RemoteClosed,
    #[error("connection refused")]
    ConnectionRefused,
    /// Of a dial or a handshake.
    #[error("no answer in time")]
    TimedOut,
    /// A connected peer said nothing for so many seconds.
    #[error("silent for {0} s")]
    Silent(u64),
    #[error("unreachable")]
    Unreachable,
    /// What the system said, lower case.
    #[error("{0}")]
    Io(String),
    #[error("protocol violation: {0}")]
    Violation(Violation),
    #[error("it is this very process")]
    SelfConnection,
    #[error("already connected to this peer")]
    Duplicate,
    #[error("it does not have this torrent")]
    WrongInfoHash,
    #[error("banned for sending bad data")]
    Banned,
    #[error("both are seeds")]
    BothSeeds,
    #[error("nothing to exchange, and others wait")]
    LeastUseful,
    #[error("sends nothing useful for {0} s")]
    Idle(u64),
    #[error("says more than we can keep before the metadata is here")]
    SaysTooMuch,
    #[error("it reads too slowly")]
    ReadsTooSlowly,
    #[error("it reads nothing")]
    ReadsNothing,
    #[error("too many rejected requests")]
    TooManyRejects,
    #[error("sends data that nobody asked for")]
    Unrequested,
    #[error("floods us with requests")]
    RequestFlood,
    #[error("tells of other peers far too often")]
    PexFlood,
    #[error("the torrent has stopped")]
    TorrentStopped,
    #[error("refused: {0}")]
    Refused(RefuseReason),
}

impl CloseReason {
    pub fn code(&self) -> &'static str {
        match self {
            Self::RemoteClosed => "remote_closed",
            Self::ConnectionRefused => "connection_refused",
            Self::TimedOut => "timed_out",
            Self::Silent(_) => "silent",
            Self::Unreachable => "unreachable",
            Self::Io(_) => "io",
            Self::Violation(_) => "violation",
            Self::SelfConnection => "self_connection",
            Self::Duplicate => "duplicate",
            Self::WrongInfoHash => "wrong_info_hash",
            Self::Banned => "banned",
            Self::BothSeeds => "both_seeds",
            Self::LeastUseful => "least_useful",
            Self::Idle(_) => "idle",
            Self::SaysTooMuch => "says_too_much",
            Self::ReadsTooSlowly => "reads_too_slowly",
            Self::ReadsNothing => "reads_nothing",
            Self::TooManyRejects => "too_many_rejects",
            Self::Unrequested => "unrequested",
            Self::RequestFlood => "request_flood",
            Self::PexFlood => "pex_flood",
            Self::TorrentStopped => "torrent_stopped",
            Self::Refused(_) => "refused",
        }
    }
}

/// Why an incoming connection was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefuseReason {
    #[error("unknown info hash")]
    UnknownTorrent,
    #[error("too many connections")]
    ConnectionLimit,
    #[error("too many connections from this address")]
    AddressLimit,
    #[error("too many connections from this network")]
    NetworkLimit,
    #[error("banned")]
    Banned,
    #[error("already connected to this peer")]
    Duplicate,
    #[error("it is this very process")]
    SelfConnection,
    #[error("the torrent has stopped")]
    TorrentStopped,
}

impl RefuseReason {
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownTorrent => "unknown_torrent",
            Self::ConnectionLimit => "connection_limit",
            Self::AddressLimit => "address_limit",
            Self::NetworkLimit => "network_limit",
            Self::Banned => "banned",
            Self::Duplicate => "duplicate",
            Self::SelfConnection => "self_connection",
            Self::TorrentStopped => "torrent_stopped",
        }
    }
}

/// Why a peer is dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DialReason {
    #[error("you named it")]
    User,
    #[error("a tracker named it")]
    Tracker,
    #[error("a peer told of it")]
    Pex,
    /// It was dialled or connected before.
    #[error("it is time to try again")]
    Retry,
}

impl DialReason {
    pub fn code(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Tracker => "tracker",
            Self::Pex => "pex",
            Self::Retry => "retry",
        }
    }
}

/// Why a peer was choked or unchoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChokeReason {
    #[error("a preferred neighbour: among the fastest")]
    Preferred,
    #[error("a preferred neighbour: drawn, for nobody is faster")]
    Drawn,
    #[error("seeding: its turn")]
    RoundRobin,
    #[error("optimistic: it gets a chance")]
    Optimistic,
    #[error("optimistic: a newcomer gets a chance")]
    Newcomer,
    #[error("a slot was free")]
    FreeSlot,
    #[error("others are faster")]
    OthersFaster,
    #[error("others are as fast, and were drawn")]
    OthersDrawn,
    #[error("other torrents have the slots")]
    SlotsElsewhere,
    #[error("its turn is over")]
    TurnOver,
    #[error("no longer interested")]
    NotInterested,
    #[error("snubbed: it sent nothing for a minute")]
    Snubbed,
    #[error("the peer decided")]
    PeerDecided,
}

impl ChokeReason {
    pub fn code(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Drawn => "drawn",
            Self::RoundRobin => "round_robin",
            Self::Optimistic => "optimistic",
            Self::Newcomer => "newcomer",
            Self::FreeSlot => "free_slot",
            Self::OthersFaster => "others_faster",
            Self::OthersDrawn => "others_drawn",
            Self::SlotsElsewhere => "slots_elsewhere",
            Self::TurnOver => "turn_over",
            Self::NotInterested => "not_interested",
            Self::Snubbed => "snubbed",
            Self::PeerDecided => "peer_decided",
        }
    }
}
