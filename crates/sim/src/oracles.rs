//! What must hold in every simulated swarm, whatever happens in it.
//!
//! Oracles judge from the world's side: the virtual disk, the virtual wire. They never ask the
//! session whether it did well.

use std::collections::{BTreeMap, VecDeque};

use dunlin_metainfo::{Bitfield, Layout, Run};
use dunlin_proto::peer::{Message, Request};
use dunlin_proto::time::Instant;

use crate::hostile;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Oracle {
    NoBadPieceAccepted,
    OnlyTruthOnDiskIsClaimed,
    EverybodyFinishes,
    JobsAreOrderly,
    RequestsAreLegal,
    ServesAreLegal,
    QueuesAreBounded,
    HonestPeersAreNotBanned,
    TimersMoveOn,
    KeysAreAlive,
    PeerExchangeIsPolite,
    EveryStallHasACause,
    ToldBeforeServed,
}

impl Oracle {
    pub const ALL: [Self; 13] = [
        Self::NoBadPieceAccepted,
        Self::OnlyTruthOnDiskIsClaimed,
        Self::EverybodyFinishes,
        Self::JobsAreOrderly,
        Self::RequestsAreLegal,
        Self::ServesAreLegal,
        Self::QueuesAreBounded,
        Self::HonestPeersAreNotBanned,
        Self::TimersMoveOn,
        Self::KeysAreAlive,
        Self::PeerExchangeIsPolite,
        Self::EveryStallHasACause,
        Self::ToldBeforeServed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoBadPieceAccepted => "no_bad_piece_accepted",
            Self::OnlyTruthOnDiskIsClaimed => "only_truth_on_disk_is_claimed",
            Self::EverybodyFinishes => "everybody_finishes",
            Self::JobsAreOrderly => "jobs_are_orderly",
            Self::RequestsAreLegal => "requests_are_legal",
            Self::ServesAreLegal => "serves_are_legal",
            Self::QueuesAreBounded => "queues_are_bounded",
            Self::HonestPeersAreNotBanned => "honest_peers_are_not_banned",
            Self::TimersMoveOn => "timers_move_on",
            Self::KeysAreAlive => "keys_are_alive",
            Self::PeerExchangeIsPolite => "peer_exchange_is_polite",
            Self::EveryStallHasACause => "every_stall_has_a_cause",
            Self::ToldBeforeServed => "told_before_served",
        }
    }
}

impl Oracle {
    /// What must hold, for a reader who is new here.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NoBadPieceAccepted => "no peer calls a piece done whose bytes are wrong",
            Self::OnlyTruthOnDiskIsClaimed => {
                "whatever is announced, served or called complete is on the virtual disk"
            }
            Self::EverybodyFinishes => "everybody who should finish does",
            Self::JobsAreOrderly => "a disk job has a number of its own, and its turn",
            Self::RequestsAreLegal => {
                "only blocks that the peer has and allows are requested, each once"
            }
            Self::ServesAreLegal => "only blocks that were asked for are served, to unchoked peers",
            Self::QueuesAreBounded => "requests, buffers and dials stay below their limits",
            Self::HonestPeersAreNotBanned => "no honest peer is banned or accused",
            Self::TimersMoveOn => "a timer that rang does not ring again at the same moment",
            Self::KeysAreAlive => "a session names only connections that are open",
            Self::PeerExchangeIsPolite => {
                "peers are told of first hand, once a minute, never for private torrents"
            }
            Self::EveryStallHasACause => {
                "sessions give one cause for each second in which the wire brought them nothing"
            }
            Self::ToldBeforeServed => "a seed serves no piece that it did not tell that peer of",
        }
    }
}

/// The first violation of each oracle and how many there were.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    failed: BTreeMap<Oracle, (String, u64)>,
}

impl Verdicts {
    pub fn fail(&mut self, oracle: Oracle, detail: impl FnOnce() -> String) {
        self.failed
            .entry(oracle)
            .and_modify(|(_, times)| *times += 1)
            .or_insert_with(|| (detail(), 1));
    }

    pub fn expect(&mut self, holds: bool, oracle: Oracle, detail: impl FnOnce() -> String) {
        if !holds {
            self.fail(oracle, detail);
        }
    }

    pub fn all_pass(&self) -> bool {
        self.failed.is_empty()
    }

    /// `None` when it holds, else the first violation.
    pub fn of(&self, oracle: Oracle) -> Option<String> {
        self.failed
            .get(&oracle)
            .map(|(detail, times)| format!("{detail} ({times} in all)"))
    }
}

/// One connection as its owner may know it: what the wire told and what the owner asked for.
#[derive(Debug)]
pub struct Watch {
    /// Both sides speak BEP 6.
    fast: bool,
    peer_choking: bool,
    pub peer_interested: bool,
    peer_has: Bitfield,
    allowed_fast: Vec<u32>,
    /// Blocks that the owner asked for and the stream still expects, oldest first.
    wanted: VecDeque<Wanted>,
    /// Blocks that the peer asked for and the owner did not answer.
    asked: BTreeMap<(u32, u16), u32>,
    /// Bytes in `Serve`s that are not answered.
    pub serving: u64,
    pub runs_serving: Vec<Run>,
    /// When the owner last told the peer of others.
    pub last_pex: Option<Instant>,
    /// The owner said that it has everything.
    told_all: bool,
    /// What the owner said piece by piece to this peer alone, or in a bitfield.
    told: Option<Bitfield>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    piece: u32,
    block: u16,
    cancelled: bool,
}

impl Watch {
    pub fn new(pieces: u32, fast: bool) -> Self {
        Self {
            fast,
            peer_choking: true,
            peer_interested: false,
            peer_has: Bitfield::new(pieces),
            allowed_fast: Vec::new(),
            wanted: VecDeque::new(),
            asked: BTreeMap::new(),
            serving: 0,
            runs_serving: Vec::new(),
            last_pex: None,
            told_all: false,
            told: None,
        }
    }

    /// Blocks asked for and not cancelled.
    pub fn open_requests(&self) -> usize {
        self.wanted
            .iter()
            .filter(|wanted| !wanted.cancelled)
            .count()
    }

    /// The owner asks for a run. Says what is wrong with that.
    pub fn on_request(&mut self, run: Run) -> Result<(), String> {
        let piece = run.piece().get();
        let mut verdict = Ok(());
        if !self.peer_has.get(piece) {
            verdict = Err(format!("asked for piece {piece} that the peer has not"));
        } else if self.peer_choking && !self.allowed_fast.contains(&piece) {
            verdict = Err(format!("asked for piece {piece} while choked"));
        }
        for block in run.blocks() {
            let twice = self
                .wanted
                .iter()
                .any(|w| !w.cancelled && (w.piece, w.block) == (piece, block));
            if twice {
                verdict = Err(format!("asked twice for block {block} of piece {piece}"));
            }
            // The production decoder expects a block once, however often it is asked for.
            self.wanted.retain(|w| (w.piece, w.block) != (piece, block));
            self.wanted.push_back(Wanted {
                piece,
                block,
                cancelled: false,
            });
        }
        verdict
    }

    /// Says how many of them were open.
    pub fn on_cancel(&mut self, run: Run) -> usize {
        let mut open = 0;
        for block in run.blocks() {
            let wanted = self
                .wanted
                .iter_mut()
                .find(|w| !w.cancelled && (w.piece, w.block) == (run.piece().get(), block));
            if let Some(wanted) = wanted {
                wanted.cancelled = true;
                open += 1;
            }
        }
        open
    }

    /// A block arrives: was it asked for, and was the request still open?
    pub fn on_block(&mut self, piece: u32, block: u16) -> (bool, bool) {
        let at = self
            .wanted
            .iter()
            .position(|w| (w.piece, w.block) == (piece, block));
        match at.and_then(|at| self.wanted.remove(at)) {
            Some(wanted) => (true, !wanted.cancelled),
            None => (false, false),
        }
    }

    /// A message arrives. Says how many open requests that ends.
    pub fn on_arrival(&mut self, message: &Message, layout: &Layout) -> usize {
        match message {
            Message::Choke => {
                self.peer_choking = true;
                // Without BEP 6 a choke voids every request; with it each is still answered, but the
                // owner may already ask others for the blocks.
                let open = self.open_requests();
                self.wanted.iter_mut().for_each(|w| w.cancelled = true);
                return open;
            }
            Message::Unchoke => self.peer_choking = false,
            Message::Interested => self.peer_interested = true,
            Message::NotInterested => self.peer_interested = false,
            Message::Have { piece } => {
                if *piece < self.peer_has.len() {
                    self.peer_has.set(*piece);
                }
            }
            Message::Bitfield(bytes) => {
                if let Some(bits) = Bitfield::from_wire(bytes, self.peer_has.len()) {
                    self.peer_has = bits;
                }
            }
            Message::HaveAll => self.peer_has = Bitfield::full(self.peer_has.len()),
            Message::AllowedFast { piece } => self.allowed_fast.push(*piece),
            Message::RejectRequest(request) => {
                if let Some(block) = hostile::block(layout, *request) {
                    let (_, open) = self.on_block(request.piece, block.index());
                    return usize::from(open);
                }
            }
            Message::Request(request) => {
                if let Some(block) = hostile::block(layout, *request) {
                    *self
                        .asked
                        .entry((request.piece, block.index()))
                        .or_default() += 1;
                }
            }
            Message::KeepAlive
            | Message::HaveNone
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::SuggestPiece { .. }
            | Message::Extended { .. } => {}
        }
        0
    }

    /// The owner sends a message.
    pub fn on_send(&mut self, message: &Message, layout: &Layout) {
        match message {
            Message::Choke if !self.fast => self.asked.clear(),
            Message::RejectRequest(request) => self.answer(*request, layout),
            Message::HaveAll => self.told_all = true,
            Message::Bitfield(bytes) => {
                self.told = Bitfield::from_wire(bytes, self.peer_has.len());
            }
            Message::Have { piece } if *piece < self.peer_has.len() => {
                let none = || Bitfield::new(self.peer_has.len());
                self.told.get_or_insert_with(none).set(*piece);
            }
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Have { .. }
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::SuggestPiece { .. }
            | Message::HaveNone
            | Message::AllowedFast { .. }
            | Message::Extended { .. } => {}
        }
    }

    /// The owner serves a run: was every block of it asked for?
    pub fn on_serve(&mut self, run: Run) -> bool {
        let mut all = true;
        for block in run.blocks() {
            all &= self.take_asked(run.piece().get(), block);
        }
        all
    }

    /// Whether the owner, a seed from the start, ever told the peer that it has the piece.
    pub fn was_told(&self, piece: u32) -> bool {
        let told = self.told.as_ref();
        self.told_all || told.is_some_and(|told| told.get(piece))
    }

    /// What was to be served is waiting for an answer again.
    pub fn on_unserved(&mut self, run: Run) {
        for block in run.blocks() {
            *self.asked.entry((run.piece().get(), block)).or_default() += 1;
        }
    }

    fn answer(&mut self, request: Request, layout: &Layout) {
        if let Some(block) = hostile::block(layout, request) {
            self.take_asked(request.piece, block.index());
        }
    }

    /// One request is answered; a peer may have sent several for the same block.
    fn take_asked(&mut self, piece: u32, block: u16) -> bool {
        let Some(times) = self.asked.get_mut(&(piece, block)) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.asked.remove(&(piece, block));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;

    fn run(content: &Content, piece: u32, first: u16, count: u16) -> Run {
        let piece = content.layout.piece(piece).unwrap();
        content.layout.run(piece, first, count).unwrap()
    }

    #[test]
    fn a_request_is_legal_only_for_what_the_peer_has_and_gives() {
        let content = Content::new(4, 1 << 16);
        let mut watch = Watch::new(4, true);
        let blocks = run(&content, 2, 0, 2);
        assert!(watch.on_request(blocks).is_err());
        watch.on_arrival(&Message::Have { piece: 2 }, &content.layout);
        assert!(Watch::on_request(&mut watch, run(&content, 2, 2, 1)).is_err());
        watch.on_arrival(&Message::Unchoke, &content.layout);
        assert!(watch.on_request(run(&content, 2, 3, 1)).is_ok());
        assert!(watch.on_request(run(&content, 2, 3, 1)).is_err());
    }

    #[test]
    fn a_cancelled_block_may_still_come_once() {
        let content = Content::new(4, 1 << 16);
        let mut watch = Watch::new(4, true);
        let _ = watch.on_request(run(&content, 0, 0, 2));
        assert_eq!(watch.on_cancel(run(&content, 0, 0, 1)), 1);
        assert_eq!(watch.open_requests(), 1);
        assert_eq!(watch.on_block(0, 0), (true, false));
        assert_eq!(watch.on_block(0, 0), (false, false));
        assert_eq!(watch.on_block(0, 1), (true, true));
    }

    #[test]
    fn only_the_first_violation_is_told() {
        let mut verdicts = Verdicts::default();
        verdicts.fail(Oracle::KeysAreAlive, || "first".to_owned());
        verdicts.fail(Oracle::KeysAreAlive, || "second".to_owned());
        assert!(!verdicts.all_pass());
        assert_eq!(
            verdicts.of(Oracle::KeysAreAlive).unwrap(),
            "first (2 in all)"
        );
        assert_eq!(verdicts.of(Oracle::TimersMoveOn), None);
    }
}
