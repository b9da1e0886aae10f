//! A piece of which something was requested or received: who was asked for which block.

use dunlin_metainfo::{Block, Layout, PieceIndex, Run, Slice};

use crate::event::PeerKey;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// Neither requested nor received.
    Free,
    Requested,
    /// Here, or nothing but padding (BEP 47).
    Received,
}

/// A block that a peer was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) block: u16,
    pub(super) peer: PeerKey,
    /// Position in the order of all requests of the torrent.
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Started {
    pub(super) piece: PieceIndex,
    slots: Box<[Slot]>,
    free: u16,
    /// No slot below is free.
    free_from: u16,
    received: u16,
    pads: u16,
    /// By block, then by age. A received block may still be on its way from others.
    requests: Vec<Request>,
    /// The only peer that may deliver, after the piece failed its hash.
    pub(super) owner: Option<PeerKey>,
}

impl Started {
    pub(super) fn new(layout: &Layout, piece: PieceIndex, owner: Option<PeerKey>) -> Self {
        let count = layout.blocks_in(piece);
        let mut slots = vec![Slot::Free; usize::from(count)].into_boxed_slice();
        let mut pads = 0;
        if has_padding(layout, piece) {
            for block in layout.blocks(piece).filter(|&block| layout.is_pad(block)) {
                slots[usize::from(block.index())] = Slot::Received;
                pads += 1;
            }
        }
        Self {
            piece,
            slots,
            free: count - pads,
            free_from: 0,
            received: pads,
            pads,
            requests: Vec::new(),
            owner,
        }
    }

    /// Marks up to `limit` free blocks as requested from `peer`, lowest first, and appends them.
    pub(super) fn take(
        &mut self,
        layout: &Layout,
        peer: PeerKey,
        limit: usize,
        number: &mut u64,
        out: &mut Vec<Run>,
    ) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(first) = self.first_free()
        {
            let room = (limit - taken).min(usize::from(RUN_BLOCKS_MAX));
            let rest = &self.slots[usize::from(first)..];
            let count = rest
                .iter()
                .take(room)
                .take_while(|&&slot| slot == Slot::Free)
                .count();
            for block in first..first + count as u16 {
                self.slots[usize::from(block)] = Slot::Requested;
                self.free -= 1;
                self.add_request(block, peer, number);
            }
            self.free_from = first + count as u16;
            out.extend(layout.run(self.piece, first, count as u16));
            taken += count;
        }
        taken
    }

    /// One more peer is asked for a block that others were asked for.
    pub(super) fn add_request(&mut self, block: u16, peer: PeerKey, number: &mut u64) {
        let at = self
            .requests
            .partition_point(|request| request.block <= block);
        self.requests.insert(
            at,
            Request {
                block,
                peer,
                number: *number,
            },
        );
        *number += 1;
    }

    /// The block is here. False if it was already.
    pub(super) fn receive(&mut self, block: u16, from: PeerKey) -> bool {
        self.retire(block, from);
        let slot = &mut self.slots[usize::from(block)];
        match slot {
            Slot::Received => return false,
            Slot::Free => self.free -= 1,
            Slot::Requested => {}
        }
        *slot = Slot::Received;
        self.received += 1;
        true
    }

    /// The peer will not send the block.
    pub(super) fn abandon(&mut self, block: u16, peer: PeerKey) {
        if !self.retire(block, peer) {
            return;
        }
        let slot = self.slots[usize::from(block)];
        if slot == Slot::Requested && self.requests_of(block).is_empty() {
            self.slots[usize::from(block)] = Slot::Free;
            self.free += 1;
            self.free_from = self.free_from.min(block);
        }
    }

    /// What was received is gone; what was requested may still come.
    pub(super) fn lose(&mut self, layout: &Layout) {
        let requests = std::mem::take(&mut self.requests);
        *self = Self::new(layout, self.piece, self.owner);
        for request in &requests {
            let slot = &mut self.slots[usize::from(request.block)];
            if *slot == Slot::Free {
                *slot = Slot::Requested;
                self.free -= 1;
            }
        }
        self.requests = requests;
    }

    pub(super) fn has_free(&self) -> bool {
        self.free > 0
    }

    pub(super) fn free(&self) -> u16 {
        self.free
    }

    pub(super) fn is_full(&self) -> bool {
        usize::from(self.received) == self.slots.len()
    }

    pub(super) fn has_received(&self) -> bool {
        self.received > self.pads
    }

    /// Nothing requested, nothing received: as if it had never been started.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_received() && self.requests.is_empty()
    }

    pub(super) fn slot(&self, block: Block) -> Slot {
        self.slots[usize::from(block.index())]
    }

    /// Requests for blocks that are not here yet, grouped by block.
    pub(super) fn open_requests(&self) -> impl Iterator<Item = &[Request]> {
        self.requests
            .chunk_by(|a, b| a.block == b.block)
            .filter(|group| self.slots[usize::from(group[0].block)] == Slot::Requested)
    }

    /// Oldest first.
    pub(super) fn requests_of(&self, block: u16) -> &[Request] {
        let from = self
            .requests
            .partition_point(|request| request.block < block);
        let len = self.requests[from..].partition_point(|request| request.block == block);
        &self.requests[from..from + len]
    }

    pub(super) fn check_invariants(&self, layout: &Layout) {
        let count = |wanted| self.slots.iter().filter(|&&slot| slot == wanted).count();
        assert_eq!(self.slots.len(), usize::from(layout.blocks_in(self.piece)));
        assert_eq!(count(Slot::Free), usize::from(self.free));
        assert_eq!(count(Slot::Received), usize::from(self.received));
        assert!(self.pads <= self.received);
        assert!(
            self.requests
                .is_sorted_by_key(|request| (request.block, request.number))
        );
        for (at, slot) in (0u16..).zip(&self.slots) {
            let requests = self.requests_of(at);
            match slot {
                Slot::Free => {
                    assert!(requests.is_empty(), "block {at} is free and requested");
                    assert!(at >= self.free_from, "block {at} is free and overlooked");
                }
                Slot::Requested => assert!(!requests.is_empty(), "block {at} of nobody"),
                Slot::Received => {}
            }
            for (nth, request) in requests.iter().enumerate() {
                assert!(
                    requests[..nth]
                        .iter()
                        .all(|other| other.peer != request.peer),
                    "block {at} is requested twice from one peer"
                );
                assert!(
                    self.owner.is_none_or(|owner| owner == request.peer),
                    "a suspect piece is requested from one peer only"
                );
            }
        }
    }

    fn first_free(&self) -> Option<u16> {
        (self.free_from..)
            .zip(&self.slots[usize::from(self.free_from)..])
            .find_map(|(at, &slot)| (slot == Slot::Free).then_some(at))
    }

    fn retire(&mut self, block: u16, peer: PeerKey) -> bool {
        let from = self
            .requests
            .partition_point(|request| request.block < block);
        let nth = self
            .requests_of(block)
            .iter()
            .position(|request| request.peer == peer);
        if let Some(nth) = nth {
            self.requests.remove(from + nth);
        }
        nth.is_some()
    }
}

fn has_padding(layout: &Layout, piece: PieceIndex) -> bool {
    layout
        .slices(piece, 0, layout.piece_len(piece))
        .any(|slice| matches!(slice, Slice::Pad { .. }))
}

/// The longest run that crosses the border.
pub(crate) const RUN_BLOCKS_MAX: u16 = 64;
