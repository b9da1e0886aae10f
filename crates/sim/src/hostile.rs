//! Peers that misbehave, written by hand at message level.
//!
//! They follow the protocol except where they do not. What they may say goes through [`Io`], so
//! that the network treats them like everybody else.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_engine::PeerKey;
use dunlin_engine::extensions::UT_PEX;
use dunlin_metainfo::{Block, Layout, Run};
use dunlin_proto::peer::ut_pex::ENTRIES_MAX;
use dunlin_proto::peer::{Message, PexFlags, PexMessage, PexPeer, Request};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::content::honest_tag;
use crate::net::Rates;
use metadata::FalseSource;

mod metadata;

pub use metadata::MetadataLie;
pub(crate) use metadata::metadata_asked;

mod download;
mod fake_progress;
mod strategic;

use fake_progress::FakeProgress;
use strategic::Strategic;

/// What a misbehaving peer can do.
#[derive(Debug)]
pub struct Io<'a> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    pub layout: &'a Arc<Layout>,
    /// Length of the info dictionary.
    pub metadata_len: u32,
    pub acts: Vec<Act>,
}

#[derive(Debug)]
pub enum Act {
    Send(PeerKey, Message),
    /// A block with any tag, asked for or not.
    Block(PeerKey, Run, u64),
}

pub trait Script: Debug {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>);

    fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>);

    /// A good block came, asked for or not.
    fn block(&mut self, _peer: PeerKey, _block: Block, _io: &mut Io<'_>) {}

    /// The connection is no more.
    fn gone(&mut self, _peer: PeerKey, _io: &mut Io<'_>) {}

    /// Once a second for each connection.
    fn second(&mut self, _peer: PeerKey, _io: &mut Io<'_>) {}

    /// Whether it looks for others instead of waiting for them.
    fn dials(&self) -> bool {
        false
    }
}

/// The kinds of misbehaviour that scenarios can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hostile {
    /// A seed whose blocks are bad with this probability.
    Liar { percent: u64 },
    /// A seed that accepts requests and never answers.
    Staller,
    /// A seed that never unchokes.
    NeverUnchoke,
    /// A seed that rejects every request (BEP 6).
    Rejecter,
    /// A leech that asks for everything, again and again.
    RequestFlood,
    /// Announces pieces that do not exist.
    GarbageHaves,
    /// Sends blocks that nobody asked for.
    Pusher,
    /// A seed that chokes and unchokes every second.
    Flapper,
    /// A leech that announces a twentieth of what it has and asks for everything for ever.
    FakeProgress,
    /// A leech that gives only as much as is returned (BitTyrant).
    Strategic,
    /// Tells of peers that do not exist, as many and as often as it may (BEP 11).
    PexPoisoner,
    /// Offers metadata that is none (BEP 9).
    Metadata(MetadataLie),
}

impl Hostile {
    /// One of each that does harm to those it meets.
    pub const MIX: [Self; 9] = [
        Self::Liar { percent: 100 },
        Self::Staller,
        Self::RequestFlood,
        Self::Liar { percent: 10 },
        Self::NeverUnchoke,
        Self::Rejecter,
        Self::Pusher,
        Self::Flapper,
        Self::PexPoisoner,
    ];

    /// What its kind is called in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Liar { .. } => "liar",
            Self::Staller => "staller",
            Self::NeverUnchoke => "never-unchoke",
            Self::Rejecter => "rejecter",
            Self::RequestFlood => "request-flood",
            Self::GarbageHaves => "garbage-haves",
            Self::Pusher => "pusher",
            Self::Flapper => "flapper",
            Self::FakeProgress => "fake-progress",
            Self::Strategic => "strategic",
            Self::PexPoisoner => "pex-poisoner",
            Self::Metadata(lie) => lie.name(),
        }
    }

    pub fn script(self, rates: Rates) -> Box<dyn Script> {
        match self {
            Self::Liar { percent } => Box::new(FalseSeed {
                answer: Answer::Lie { percent },
            }),
            Self::Staller => Box::new(FalseSeed {
                answer: Answer::Nothing,
            }),
            Self::NeverUnchoke => Box::new(FalseSeed {
                answer: Answer::StayChoked,
            }),
            Self::Rejecter => Box::new(FalseSeed {
                answer: Answer::Reject,
            }),
            Self::Flapper => Box::new(Flapper { choking: true }),
            Self::RequestFlood => Box::new(RequestFlood),
            Self::GarbageHaves => Box::new(GarbageHaves),
            Self::Pusher => Box::new(Pusher),
            Self::FakeProgress => Box::new(FakeProgress::new()),
            Self::Strategic => Box::new(Strategic::new(rates.up.unwrap_or(UP_FREE))),
            Self::PexPoisoner => Box::new(PexPoisoner),
            Self::Metadata(lie) => Box::new(FalseSource { lie }),
        }
    }
}

/// What a free uplink sends, in bytes per second, as far as a script plans with it.
const UP_FREE: u64 = 100 << 20;

#[derive(Clone, Copy, Debug)]
enum Answer {
    Lie { percent: u64 },
    Nothing,
    Reject,
    StayChoked,
}

/// Claims to have everything.
#[derive(Debug)]
struct FalseSeed {
    answer: Answer,
}

impl Script for FalseSeed {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveAll));
    }

    fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>) {
        match (self.answer, message) {
            (Answer::StayChoked, _) => {}
            (_, Message::Interested) => io.acts.push(Act::Send(peer, Message::Unchoke)),
            (Answer::Lie { percent }, Message::Request(request)) => {
                if let Some(block) = block(io.layout, *request) {
                    let lies = io.rng.chance(percent, 100);
                    let honest = honest_tag(request.piece, block.index());
                    let tag = honest ^ u64::from(lies);
                    io.acts.push(Act::Block(peer, io.layout.run_of(block), tag));
                }
            }
            (Answer::Reject, Message::Request(request)) => {
                let reject = Message::RejectRequest(*request);
                io.acts.push(Act::Send(peer, reject));
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Flapper {
    choking: bool,
}

impl Script for Flapper {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveAll));
    }

    fn message(&mut self, _: PeerKey, _: &Message, _: &mut Io<'_>) {}

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        self.choking = !self.choking;
        let message = if self.choking {
            Message::Choke
        } else {
            Message::Unchoke
        };
        io.acts.push(Act::Send(peer, message));
    }
}

#[derive(Debug)]
struct RequestFlood;

/// Requests a second of the flooder.
const FLOOD: u32 = 10_000;

impl Script for RequestFlood {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveNone));
        io.acts.push(Act::Send(peer, Message::Interested));
    }

    fn message(&mut self, _: PeerKey, _: &Message, _: &mut Io<'_>) {}

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        for _ in 0..FLOOD {
            let piece = io.rng.below(u64::from(io.layout.pieces())) as u32;
            let piece = io.layout.piece(piece).expect("below the number of pieces");
            if let Some(block) = io.layout.block_at(piece, 0) {
                let request = request(block);
                io.acts.push(Act::Send(peer, Message::Request(request)));
            }
        }
    }

    fn dials(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct GarbageHaves;

impl Script for GarbageHaves {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveNone));
    }

    fn message(&mut self, _: PeerKey, _: &Message, _: &mut Io<'_>) {}

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        let piece = io.layout.pieces() + io.rng.below(1 << 31) as u32;
        io.acts.push(Act::Send(peer, Message::Have { piece }));
    }

    fn dials(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Pusher;

impl Script for Pusher {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveAll));
    }

    fn message(&mut self, _: PeerKey, _: &Message, _: &mut Io<'_>) {}

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        let piece = io.rng.below(u64::from(io.layout.pieces())) as u32;
        let piece = io.layout.piece(piece).expect("below the number of pieces");
        if let Some(run) = io.layout.run(piece, 0, 1) {
            io.acts.push(Act::Block(peer, run, 4711));
        }
    }

    fn dials(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct PexPoisoner;

impl Script for PexPoisoner {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        io.acts.push(Act::Send(peer, Message::HaveNone));
        tell_lies(peer, io);
    }

    fn message(&mut self, _: PeerKey, _: &Message, _: &mut Io<'_>) {}

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        if io.rng.chance(1, 60) {
            tell_lies(peer, io);
        }
    }

    fn dials(&self) -> bool {
        true
    }
}

/// Half of the addresses are of our own network.
fn tell_lies(peer: PeerKey, io: &mut Io<'_>) {
    let added = (0..ENTRIES_MAX).map(|nth| {
        let [.., a, b] = io.rng.next_u64().to_be_bytes();
        let first = if nth % 2 == 0 { 10 } else { 20 };
        PexPeer {
            addr: SocketAddr::from(([first, 200, a, b], 6881)),
            flags: PexFlags::REACHABLE,
        }
    });
    let message = PexMessage {
        added: added.collect(),
        dropped: Vec::new(),
    };
    let message = Message::Extended {
        id: UT_PEX,
        payload: message.encode(),
    };
    io.acts.push(Act::Send(peer, message));
}

pub fn block(layout: &Layout, request: Request) -> Option<Block> {
    layout.block(request.piece, request.begin, request.len)
}

pub fn request(block: Block) -> Request {
    Request {
        piece: block.piece().get(),
        begin: block.offset(),
        len: block.len(),
    }
}
