//! One peer's connection, between its bytes and the session's messages.
//!
//! Below: the proto decoder, which lends out where bytes belong, and the [`Outbox`]. Above:
//! [`Item`]s with validated runs. Neither direction decides anything, and no payload is read.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use dunlin_metainfo::{Block, Layout, Run};
use dunlin_proto::buf::{BlockBuf, BufPool};
use dunlin_proto::peer::decoder;
use dunlin_proto::peer::{Decoder, Message, Violation};

use crate::outbox::{Outbox, Sent};

/// One peer's connection after the handshakes.
#[derive(Debug)]
pub struct PeerStream {
    layout: Arc<Layout>,
    decoder: Decoder,
    outbox: Outbox,
}

/// What came out of a connection, as the session wants to hear it.
#[derive(Debug)]
pub enum Item {
    Message(Message),
    /// Blocks that were asked for, one buffer each, as many as follow each other.
    Received {
        run: Run,
        bufs: Vec<BlockBuf>,
    },
    /// Payload bytes that nobody asked for, thrown away.
    Unrequested {
        len: u32,
    },
}

impl PeerStream {
    pub fn new(layout: Arc<Layout>) -> Self {
        let mut stream = Self {
            layout: Arc::clone(&layout),
            decoder: Decoder::new(),
            outbox: Outbox::default(),
        };
        stream.set_layout(layout);
        stream
    }

    /// The layout of a magnet's torrent is known now. Before, it has no pieces, and a bitfield may
    /// be as long as that of any torrent.
    pub fn set_layout(&mut self, layout: Arc<Layout>) {
        if layout.pieces() > 0 {
            self.decoder.set_pieces(layout.pieces());
        }
        self.layout = layout;
    }

    /// Where the next bytes belong; see [`Decoder::space`].
    pub fn space<'a>(
        &'a mut self,
        pool: &BufPool,
        shared: &'a mut [u8],
    ) -> Option<[IoSliceMut<'a>; 2]> {
        self.decoder.space(pool, shared)
    }

    /// The first `n` bytes of what [`space`](Self::space) lent are filled. Items that came before
    /// a violation are in `items`.
    pub fn filled(
        &mut self,
        n: usize,
        shared: &[u8],
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Result<(), Violation> {
        let mut decoded = Vec::new();
        let result = self.decoder.filled(n, shared, pool, &mut decoded);
        self.collect(decoded, pool, items);
        result
    }

    /// Bytes that are in memory already: what followed the handshake. A block cannot be among
    /// them, because nothing was asked for yet, so no buffer is needed.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        pool: &mut BufPool,
        items: &mut Vec<Item>,
    ) -> Result<(), Violation> {
        let mut decoded = Vec::new();
        let result = self.decoder.feed(bytes, pool, &mut decoded);
        self.collect(decoded, pool, items);
        result.map(|taken| debug_assert_eq!(taken, bytes.len(), "no block can be expected yet"))
    }

    pub fn send(&mut self, message: &Message) {
        self.outbox.push(message);
    }

    /// Messages that are encoded already.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.outbox.push_bytes(bytes);
    }

    /// Asks for each block of the run.
    pub fn request(&mut self, run: Run) {
        for block in self.layout.run_blocks(run) {
            self.decoder.expect(block.into());
            self.outbox.push(&Message::Request(block.into()));
        }
    }

    /// Takes requests back. Their blocks are still welcome: they may be under way.
    pub fn cancel(&mut self, run: Run) {
        for block in self.layout.run_blocks(run) {
            self.outbox.push(&Message::Cancel(block.into()));
        }
    }

    pub fn serve(&mut self, run: Run) {
        self.outbox.serve(run);
    }

    /// Sends a piece of the info dictionary (BEP 9) under the peer's `id`.
    pub fn serve_metadata(&mut self, id: u8, piece: u32, info: &Arc<[u8]>) {
        self.outbox.serve_metadata(id, piece, info);
    }

    /// See [`Outbox::unserve`].
    pub fn unserve(&mut self, run: Run, pool: &mut BufPool) -> bool {
        self.outbox.unserve(run, pool)
    }

    /// See [`Outbox::next_read`].
    pub fn next_read(&mut self, held_max: usize, free: usize) -> Option<Run> {
        self.outbox.next_read(&self.layout, held_max, free)
    }

    pub fn read_done(&mut self, bufs: Vec<BlockBuf>, pool: &mut BufPool) {
        self.outbox.read_done(&self.layout, bufs, pool);
    }

    /// See [`Outbox::read_failed`].
    pub fn read_failed(&mut self) -> Option<Run> {
        self.outbox.read_failed()
    }

    /// See [`Outbox::outgoing`].
    pub fn outgoing<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.outgoing(slices)
    }

    /// See [`Outbox::sent`].
    pub fn sent(&mut self, n: usize, pool: &mut BufPool, served: &mut Vec<Sent>) {
        self.outbox.sent(n, pool, served);
    }

    /// Nothing can be sent now.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether a run waits to be read from the disk.
    pub fn has_serves(&self) -> bool {
        self.outbox.has_serves()
    }

    /// Whether it holds or will need buffers to send.
    pub fn is_serving(&self) -> bool {
        self.outbox.is_serving()
    }

    /// The peer lets more small messages pile up than anybody who reads would.
    pub fn is_clogged(&self) -> bool {
        self.outbox.message_bytes() > MESSAGE_BYTES_MAX
    }

    /// The connection is gone: buffers go home, to the pools that they came from.
    pub fn release(&mut self, received: &mut BufPool, sending: &mut BufPool) {
        self.decoder.release(received);
        self.outbox.release(sending);
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Merges blocks that follow each other into runs.
    fn collect(&self, decoded: Vec<decoder::Item>, pool: &mut BufPool, items: &mut Vec<Item>) {
        let mut run = RunBuilder::default();
        for item in decoded {
            let item = match item {
                decoder::Item::Block { request, buf } => {
                    match self.layout.block(request.piece, request.begin, request.len) {
                        Some(block) => {
                            if !run.continues(block) {
                                run.finish(&self.layout, items);
                            }
                            run.push(block, buf);
                            continue;
                        }
                        // Never true: what is expected came from the layout.
                        None => {
                            pool.give(buf);
                            Item::Unrequested { len: request.len }
                        }
                    }
                }
                decoder::Item::Message(message) => Item::Message(message),
                decoder::Item::Unrequested { len } => Item::Unrequested { len },
            };
            run.finish(&self.layout, items);
            items.push(item);
        }
        run.finish(&self.layout, items);
    }
}

#[derive(Debug, Default)]
struct RunBuilder {
    first: Option<Block>,
    bufs: Vec<BlockBuf>,
}

impl RunBuilder {
    fn continues(&self, block: Block) -> bool {
        self.bufs.len() < RUN_BLOCKS_MAX
            && self.first.is_some_and(|first| {
                first.piece() == block.piece()
                    && usize::from(first.index()) + self.bufs.len() == usize::from(block.index())
            })
    }

    fn push(&mut self, block: Block, buf: BlockBuf) {
        self.first.get_or_insert(block);
        self.bufs.push(buf);
    }

    fn finish(&mut self, layout: &Layout, items: &mut Vec<Item>) {
        let (Some(first), bufs) = (self.first.take(), std::mem::take(&mut self.bufs)) else {
            return;
        };
        let run = layout
            .run(first.piece(), first.index(), bufs.len() as u16)
            .expect("consecutive blocks of a piece are a run");
        items.push(Item::Received { run, bufs });
    }
}

/// The longest run that crosses the border (architecture: 1 ..= 64 blocks).
const RUN_BLOCKS_MAX: usize = 64;

/// A bitfield of the largest torrent and a `have` for each of thousands of pieces fit.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
