//! What a scripted leech knows of its peers, and what it asks them for.
//!
//! Rarest first over all that its peers have, a fixed number of open requests at each: enough to
//! take part, and nothing that a script could not do by hand.

use std::collections::{BTreeMap, VecDeque};

use dunlin_engine::PeerKey;
use dunlin_metainfo::{Bitfield, Block, Layout};
use dunlin_proto::peer::{Message, Request};

use super::{Act, Io, block, request};

/// Requests open at one peer.
const PIPELINE: usize = 64;

/// Requests of a peer that wait for us, beyond which they are dropped.
const ASKED_US_MAX: usize = 2000;

#[derive(Debug)]
pub(super) struct Download {
    pub(super) have: Bitfield,
    /// Blocks of pieces in progress that are here.
    started: BTreeMap<u32, Vec<bool>>,
    /// Who is to send a block.
    asked: BTreeMap<(u32, u16), PeerKey>,
    /// Peers that have each piece.
    copies: Vec<u32>,
    pub(super) peers: BTreeMap<PeerKey, Neighbour>,
}

#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) has: Bitfield,
    pub(super) is_choking_us: bool,
    pub(super) is_interested: bool,
    open: usize,
    /// What it wants of us, oldest first.
    pub(super) asked_us: VecDeque<Request>,
    /// Bytes that it gave.
    pub(super) received: u64,
    /// Pieces that it announced one by one.
    pub(super) announced: u64,
}

impl Download {
    pub(super) fn new() -> Self {
        Self {
            have: Bitfield::new(0),
            started: BTreeMap::new(),
            asked: BTreeMap::new(),
            copies: Vec::new(),
            peers: BTreeMap::new(),
        }
    }

    /// A new connection: tells what it is told to tell, and that it wants something.
    pub(super) fn connected(&mut self, peer: PeerKey, announced: &Bitfield, io: &mut Io<'_>) {
        let pieces = io.layout.pieces();
        if self.have.len() != pieces {
            self.have = Bitfield::new(pieces);
            self.copies = vec![0; pieces as usize];
        }
        let neighbour = Neighbour {
            has: Bitfield::new(pieces),
            is_choking_us: true,
            is_interested: false,
            open: 0,
            asked_us: VecDeque::new(),
            received: 0,
            announced: 0,
        };
        self.peers.insert(peer, neighbour);
        // Without BEP 6 there is no HaveNone: who has nothing says nothing.
        if announced.count_ones() > 0 {
            let shown = Message::Bitfield(announced.to_wire());
            io.acts.push(Act::Send(peer, shown));
        }
        io.acts.push(Act::Send(peer, Message::Interested));
    }

    pub(super) fn gone(&mut self, peer: PeerKey) {
        if let Some(neighbour) = self.peers.remove(&peer) {
            for piece in neighbour.has.iter_ones() {
                self.copies[piece as usize] -= 1;
            }
        }
        self.asked.retain(|_, asked| *asked != peer);
    }

    pub(super) fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>) {
        let Some(neighbour) = self.peers.get_mut(&peer) else {
            return;
        };
        let mut has = None;
        match message {
            Message::Choke => {
                neighbour.is_choking_us = true;
                neighbour.open = 0;
                self.asked.retain(|_, asked| *asked != peer);
            }
            Message::Unchoke => neighbour.is_choking_us = false,
            Message::Interested => neighbour.is_interested = true,
            Message::NotInterested => {
                neighbour.is_interested = false;
                neighbour.asked_us.clear();
            }
            Message::Have { piece } if *piece < neighbour.has.len() => {
                neighbour.announced += 1;
                if neighbour.has.set(*piece) {
                    self.copies[*piece as usize] += 1;
                }
            }
            Message::HaveAll => has = Some(Bitfield::full(neighbour.has.len())),
            Message::Bitfield(bytes) => has = Bitfield::from_wire(bytes, neighbour.has.len()),
            Message::Request(request) if neighbour.asked_us.len() < ASKED_US_MAX => {
                neighbour.asked_us.push_back(*request);
            }
            Message::Cancel(request) => neighbour.asked_us.retain(|other| other != request),
            Message::RejectRequest(request) => {
                if let Some(block) = block(io.layout, *request) {
                    let key = (request.piece, block.index());
                    if self.asked.get(&key) == Some(&peer) {
                        self.asked.remove(&key);
                        neighbour.open = neighbour.open.saturating_sub(1);
                    }
                }
            }
            Message::KeepAlive
            | Message::Have { .. }
            | Message::Request(_)
            | Message::Port(_)
            | Message::SuggestPiece { .. }
            | Message::HaveNone
            | Message::AllowedFast { .. }
            | Message::Extended { .. } => {}
        }
        if let Some(has) = has {
            for piece in has.iter_ones() {
                self.copies[piece as usize] += u32::from(neighbour.has.set(piece));
            }
        }
        self.ask(peer, io);
    }

    /// Says which piece is whole by that.
    pub(super) fn block(&mut self, peer: PeerKey, block: Block, io: &mut Io<'_>) -> Option<u32> {
        let piece = block.piece().get();
        if let Some(neighbour) = self.peers.get_mut(&peer) {
            neighbour.received += u64::from(block.len());
            neighbour.open = neighbour.open.saturating_sub(1);
        }
        self.asked.remove(&(piece, block.index()));
        let whole = self.started.get_mut(&piece).is_some_and(|blocks| {
            blocks[usize::from(block.index())] = true;
            blocks.iter().all(|&here| here)
        });
        if whole {
            self.started.remove(&piece);
            self.have.set(piece);
        }
        self.ask(peer, io);
        whole.then_some(piece)
    }

    /// Everything is wanted once more.
    pub(super) fn forget_all(&mut self) {
        self.have = Bitfield::new(self.have.len());
    }

    fn ask(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        while let Some(neighbour) = self.peers.get(&peer)
            && !neighbour.is_choking_us
            && neighbour.open < PIPELINE
            && let Some(next) = self.next_block(peer, io)
        {
            self.asked.insert((next.piece().get(), next.index()), peer);
            if let Some(neighbour) = self.peers.get_mut(&peer) {
                neighbour.open += 1;
            }
            io.acts
                .push(Act::Send(peer, Message::Request(request(next))));
        }
    }

    fn next_block(&mut self, peer: PeerKey, io: &mut Io<'_>) -> Option<Block> {
        let has = &self.peers.get(&peer)?.has;
        let in_progress = self
            .started
            .iter()
            .filter(|(piece, _)| has.get(**piece))
            .find_map(|(&piece, blocks)| {
                (0..blocks.len() as u16)
                    .find(|&block| {
                        !blocks[usize::from(block)] && !self.asked.contains_key(&(piece, block))
                    })
                    .map(|block| (piece, block))
            });
        let (piece, block) = match in_progress {
            Some(found) => found,
            None => (self.start_rarest(peer, io)?, 0),
        };
        io.layout.block_at(io.layout.piece(piece)?, block)
    }

    /// The rarest piece that the peer has, equals at random.
    fn start_rarest(&mut self, peer: PeerKey, io: &mut Io<'_>) -> Option<u32> {
        let has = &self.peers.get(&peer)?.has;
        let wanted = has
            .iter_ones()
            .filter(|&piece| !self.have.get(piece) && !self.started.contains_key(&piece));
        let piece = wanted.min_by_key(|&piece| (self.copies[piece as usize], io.rng.next_u64()))?;
        self.started.insert(piece, no_blocks(io.layout, piece));
        Some(piece)
    }
}

fn no_blocks(layout: &Layout, piece: u32) -> Vec<bool> {
    let blocks = layout
        .piece(piece)
        .map_or(0, |piece| layout.blocks_in(piece));
    vec![false; usize::from(blocks)]
}
