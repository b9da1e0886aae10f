//! Why we did what we did: closed lists, so that every decision can be told and counted.
//!
//! The `Display` of each is what users read in logs.

use dunlin_proto::peer::message::Violation;

/// Why a connection ended or did not come about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("the peer closed the connection")]
    RemoteClosed,
    #[error("connection refused")]
    ConnectionRefused,
    #[error("no answer in time")]
    TimedOut,
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

/// Why a peer was choked or unchoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChokeReason {
    #[error("a preferred neighbour: among the fastest")]
    Preferred,
    #[error("seeding: its turn")]
    RoundRobin,
    #[error("optimistic: it gets a chance")]
    Optimistic,
    #[error("a slot was free")]
    FreeSlot,
    #[error("others are faster")]
    OthersFaster,
    #[error("its turn is over")]
    TurnOver,
    #[error("no longer interested")]
    NotInterested,
    #[error("snubbed: it sent nothing for a minute")]
    Snubbed,
    #[error("the peer decided")]
    PeerDecided,
}
