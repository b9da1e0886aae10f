//! Takes messages and blocks from the bytes of one connection.
//!
//! The decoder owns no socket: it lends out where the next bytes belong ([`Decoder::space`]) and
//! is told how many came ([`Decoder::filled`]). The rest of a block that is under way is read
//! straight into its buffer; all else goes through a linear buffer that every connection of a
//! loop shares. Only blocks that were asked for ([`Decoder::expect`]) are stored. It never lends
//! more than the free buffers of the pool can take, so a full pool slows the peer down and loses
//! nothing. Lengths are checked before anything is kept, and an idle connection keeps nothing.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use dunlin_metainfo::BLOCK_LEN;

use crate::buf::{BlockBuf, BufPool};

use super::message::{self, HEAD_LEN_MAX, Message, PIECE_HEADER_LEN, Request, Violation};

/// The receiving half of one connection, after the handshake.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Requests whose blocks may still come, oldest first. Blocks mostly come in this order.
    expected: VecDeque<Request>,
    /// The first bytes of the next message, while `state` is [`State::Head`].
    head: [u8; HEAD_LEN_MAX],
    head_len: u8,
    state: State,
    /// The longest bitfield, its id included; unknown while the number of pieces is.
    bitfield_len_max: Option<u32>,
}

/// What came out of the stream.
#[derive(Debug)]
pub enum Item {
    Message(Message),
    /// A block that was asked for.
    Block {
        request: Request,
        buf: BlockBuf,
    },
    /// A block that nobody asked for: its payload of `len` bytes is thrown away.
    Unrequested {
        len: u32,
    },
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// The torrent has so many pieces: a longer bitfield is refused before any byte of it is kept.
    pub fn set_pieces(&mut self, pieces: u32) {
        self.bitfield_len_max = Some(1 + pieces.div_ceil(8));
    }

    /// Be ready for this block. It stays expected until it comes or the peer rejects it: after a
    /// cancel it may be under way. The oldest are forgotten beyond [`EXPECTED_MAX`].
    pub fn expect(&mut self, request: Request) {
        debug_assert!((1..=BLOCK_LEN).contains(&request.len));
        self.forget(request);
        if self.expected.len() >= EXPECTED_MAX {
            self.expected.pop_front();
        }
        self.expected.push_back(request);
    }

    /// Where the next bytes of the stream belong: the rest of the block that is under way, then a
    /// part of `shared`. `None` while the pool has no buffer: ask again when one came home, and
    /// read nothing from this peer until then.
    ///
    /// Between this and [`filled`](Self::filled) neither the decoder nor the pool may be used.
    pub fn space<'a>(
        &'a mut self,
        pool: &BufPool,
        shared: &'a mut [u8],
    ) -> Option<[IoSliceMut<'a>; 2]> {
        let lent = self.bytes_that_fit(pool.free()).min(shared.len());
        let block = match &mut self.state {
            State::Block { buf, filled, .. } => buf.bytes_mut().get_mut(*filled as usize..),
            State::Head | State::Body { .. } | State::Skip { .. } => None,
        };
        let slots = [block.unwrap_or_default(), shared.get_mut(..lent)?];
        slots
            .iter()
            .any(|slot| !slot.is_empty())
            .then(|| slots.map(IoSliceMut::new))
    }

    /// The first `n` bytes of what [`space`](Self::space) lent are filled. `shared` must be the
    /// same buffer. A violation ends the stream; what came before it is in `items`.
    pub fn filled(
        &mut self,
        n: usize,
        shared: &[u8],
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Result<(), Violation> {
        let mut in_block = 0;
        if let State::Block { buf, filled, .. } = &mut self.state {
            in_block = n.min((buf.len() - *filled) as usize);
            *filled += in_block as u32;
        }
        let bytes = shared.get(..n - in_block).unwrap_or(shared);
        let taken = self.feed(bytes, pool, items)?;
        assert!(
            taken == bytes.len(),
            "space() lends only what the pool can take"
        );
        Ok(())
    }

    /// Takes bytes that are in memory already. Returns how many: fewer than all when a block
    /// comes and the pool has no buffer; the rest is to be fed again later.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Result<usize, Violation> {
        let mut rest = bytes;
        while self.step(&mut rest, pool, items)? {}
        Ok(bytes.len() - rest.len())
    }

    /// The connection is gone: the buffer of a block under way goes home.
    pub fn release(&mut self, pool: &mut BufPool) {
        if let State::Block { buf, .. } = std::mem::take(&mut self.state) {
            pool.give(buf);
        }
    }

    /// Requests whose blocks may still come.
    pub fn expected(&self) -> usize {
        self.expected.len()
    }

    /// Goes on as far as one state allows; false when more bytes or a buffer are needed.
    fn step(
        &mut self,
        rest: &mut &[u8],
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Result<bool, Violation> {
        match &mut self.state {
            State::Head => {
                if !self.take_head(rest)? {
                    return Ok(false);
                }
                return Ok(self.on_head(pool, items));
            }
            State::Body { id, len, bytes } => {
                bytes.extend_from_slice(take(rest, *len as usize - bytes.len()));
                if bytes.len() < *len as usize {
                    return Ok(false);
                }
                let bytes = std::mem::take(bytes);
                items.push(Item::Message(match *id {
                    BodyId::Bitfield => Message::Bitfield(bytes),
                    BodyId::Extended(id) => Message::Extended { id, payload: bytes },
                }));
            }
            State::Block { buf, filled, .. } => {
                let empty = buf.bytes_mut().get_mut(*filled as usize..);
                let empty = empty.unwrap_or_default();
                let bytes = take(rest, empty.len());
                let (now, later) = empty.split_at_mut(bytes.len());
                now.copy_from_slice(bytes);
                *filled += bytes.len() as u32;
                if !later.is_empty() {
                    return Ok(false);
                }
                if let State::Block { request, buf, .. } = std::mem::take(&mut self.state) {
                    items.push(Item::Block { request, buf });
                }
            }
            State::Skip { left } => {
                *left -= take(rest, *left as usize).len() as u32;
                if *left > 0 {
                    return Ok(false);
                }
            }
        }
        self.state = State::Head;
        Ok(true)
    }

    /// Collects the bytes that tell what message this is; true when they are all here.
    fn take_head(&mut self, rest: &mut &[u8]) -> Result<bool, Violation> {
        loop {
            let want = self.head_len_wanted()?;
            let have = usize::from(self.head_len);
            if have == want {
                return Ok(true);
            }
            let missing = self.head.get_mut(have..want).unwrap_or_default();
            let bytes = take(rest, missing.len());
            let (now, later) = missing.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            let done = later.is_empty();
            self.head_len += bytes.len() as u8;
            if !done {
                return Ok(false);
            }
        }
    }

    /// How long the head is, as far as its bytes tell so far.
    fn head_len_wanted(&self) -> Result<usize, Violation> {
        if self.head_len < 4 {
            return Ok(4);
        }
        let len = message::word(&self.head, 0);
        if len == 0 {
            return Ok(4);
        }
        if self.head_len < 5 {
            return Ok(5);
        }
        let id = self.head[4];
        message::check_len(id, len)?;
        if id == message::BITFIELD && self.bitfield_len_max.is_some_and(|max| len > max) {
            return Err(Violation::Bitfield);
        }
        Ok(match id {
            message::PIECE => PIECE_HEADER_LEN,
            message::EXTENDED => 6,
            _ if message::has_body(id) => 5,
            _ => 4 + len as usize,
        })
    }

    /// The head is complete; false if its block has to wait for a buffer.
    fn on_head(&mut self, pool: &mut BufPool, items: &mut Vec<Item>) -> bool {
        let len = message::word(&self.head, 0);
        let id = self.head[4];
        self.state = match id {
            _ if len == 0 => {
                items.push(Item::Message(Message::KeepAlive));
                State::Head
            }
            message::PIECE => {
                let request = Request {
                    piece: message::word(&self.head, 5),
                    begin: message::word(&self.head, 9),
                    len: len - 9,
                };
                let Some(state) = self.begin_block(request, pool, items) else {
                    return false;
                };
                state
            }
            message::BITFIELD => State::body(BodyId::Bitfield, len - 1),
            message::EXTENDED => State::body(BodyId::Extended(self.head[5]), len - 2),
            _ => match Message::from_head(&self.head) {
                Some(message) => {
                    if let Message::RejectRequest(request) = message {
                        self.forget(request);
                    }
                    items.push(Item::Message(message));
                    State::Head
                }
                None => State::Skip { left: len - 1 },
            },
        };
        self.head_len = 0;
        true
    }

    fn begin_block(
        &mut self,
        request: Request,
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Option<State> {
        if !self.expected.contains(&request) {
            items.push(Item::Unrequested { len: request.len });
            return Some(State::Skip { left: request.len });
        }
        let buf = pool.take(request.len)?;
        self.forget(request);
        Some(State::Block {
            request,
            buf,
            filled: 0,
        })
    }

    fn forget(&mut self, request: Request) {
        if let Some(at) = self.expected.iter().position(|&other| other == request) {
            self.expected.remove(at);
        }
        if self.expected.is_empty() {
            self.expected.shrink_to(EXPECTED_KEPT);
        }
    }

    /// How many bytes may come, after those that have their own buffer, before more than `free`
    /// blocks could have begun.
    fn bytes_that_fit(&self, free: usize) -> usize {
        if free >= self.expected.len() {
            return usize::MAX;
        }
        let shortest = self.expected.iter().map(|request| request.len as usize);
        let shortest = PIECE_HEADER_LEN + shortest.min().unwrap_or(0);
        // The head of the first block may be complete already, hence one byte less.
        let for_blocks = (free * shortest).saturating_sub(1);
        for_blocks + self.bytes_of_no_block()
    }

    /// How many bytes of the stream surely belong to something that needs no buffer.
    fn bytes_of_no_block(&self) -> usize {
        match &self.state {
            State::Head | State::Block { .. } => 0,
            State::Body { len, bytes, .. } => *len as usize - bytes.len(),
            State::Skip { left } => *left as usize,
        }
    }
}

/// What the next bytes are.
#[derive(Debug, Default)]
enum State {
    /// The first bytes of a message: those that tell what follows, or all of a short one.
    #[default]
    Head,
    /// The payload of a message that has a body of `len` bytes. It grows with what arrives.
    Body {
        id: BodyId,
        len: u32,
        bytes: Vec<u8>,
    },
    Block {
        request: Request,
        buf: BlockBuf,
        filled: u32,
    },
    /// Payload that nobody wants.
    Skip { left: u32 },
}

impl State {
    fn body(id: BodyId, len: u32) -> Self {
        Self::Body {
            id,
            len,
            bytes: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum BodyId {
    Bitfield,
    /// Which extension (BEP 10).
    Extended(u8),
}

/// Up to `n` bytes from the front.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, later) = rest.split_at(n.min(rest.len()));
    *rest = later;
    taken
}

/// Blocks that one peer may still send, requested or cancelled: 4 times the deepest pipeline.
pub const EXPECTED_MAX: usize = 1024;

/// Room for requests that a connection keeps while it has none.
const EXPECTED_KEPT: usize = 8;

#[cfg(test)]
mod tests;
