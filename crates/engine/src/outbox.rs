//! What waits to be sent to one peer: small messages and blocks, in order.
//!
//! Runs to be served queue here without their payload. It is read from the disk one stretch at a
//! time, as the socket drains, so a slow reader holds few buffers. All blocks of a run are sent
//! or none: a run is forgotten only while no byte of it is in the socket's hands.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use dunlin_metainfo::{BLOCK_LEN, Block, Layout, Run};
use dunlin_proto::buf::{BlockBuf, BufPool};
use dunlin_proto::peer::Message;
use dunlin_proto::peer::message::{PIECE_HEADER_LEN, extended_header, piece_header};
use dunlin_proto::peer::ut_metadata::{self, METADATA_PIECE_LEN};

#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    sent: usize,
    /// Runs to be served whose blocks are not all in `segments` yet.
    serves: VecDeque<Serve>,
    /// The stretch that is being read for the first of them.
    reading: Option<Run>,
    /// Bytes of small messages in `segments`.
    message_bytes: usize,
    /// Blocks in `segments`.
    blocks: usize,
}

/// Something that the session waits for is in the socket's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All blocks of it.
    Run(Run),
    /// A piece of the info dictionary.
    Metadata,
}

#[derive(Debug)]
enum Segment {
    /// Encoded messages.
    Messages(Vec<u8>),
    /// A piece of the info dictionary, which stays where it is.
    Metadata {
        header: Vec<u8>,
        info: Arc<[u8]>,
        range: Range<usize>,
    },
    Block {
        header: [u8; PIECE_HEADER_LEN],
        buf: BlockBuf,
        run: Run,
        /// It is the last block of its run.
        last: bool,
    },
}

#[derive(Debug)]
struct Serve {
    run: Run,
    /// Blocks of it that are in `segments` or sent.
    delivered: u16,
}

impl Serve {
    fn rest(&self) -> Range<u16> {
        self.run.first() + self.delivered..self.run.first() + self.run.count()
    }
}

impl Outbox {
    pub fn push(&mut self, message: &Message) {
        let bytes = self.tail();
        let before = bytes.len();
        message.encode(bytes);
        let added = bytes.len() - before;
        self.message_bytes += added;
    }

    /// Messages that are encoded already.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tail().extend_from_slice(bytes);
            self.message_bytes += bytes.len();
        }
    }

    /// Read this run from the disk and send it, after those that were given before.
    pub fn serve(&mut self, run: Run) {
        self.serves.push_back(Serve { run, delivered: 0 });
    }

    /// Sends a piece of the info dictionary (BEP 9) under the peer's `id`. A piece that is not
    /// there is sent empty: the session checked it.
    pub fn serve_metadata(&mut self, id: u8, piece: u32, info: &Arc<[u8]>) {
        let size = u32::try_from(info.len()).unwrap_or_default();
        let len = ut_metadata::piece_len(size, piece).unwrap_or_default();
        let start = (u64::from(piece) * u64::from(METADATA_PIECE_LEN)) as usize;
        let head = ut_metadata::data_header(piece, size);
        let header = extended_header(id, &head, len as usize);
        self.segments.push_back(Segment::Metadata {
            header,
            info: Arc::clone(info),
            range: start..start + len as usize,
        });
    }

    /// Forgets the run if no byte of it was sent; whether it did. What is being read for it
    /// is dropped when it arrives.
    pub fn unserve(&mut self, run: Run, pool: &mut BufPool) -> bool {
        let queued = self.serves.iter().position(|serve| serve.run == run);
        let delivered = match queued.and_then(|at| self.serves.get(at)) {
            Some(serve) => serve.delivered,
            None => run.count(),
        };
        let first_is_partly_sent = self.sent > 0;
        let unsent = self.segments.iter().skip(usize::from(first_is_partly_sent));
        let unsent = unsent.filter(|segment| segment.run() == Some(run)).count();
        if unsent < usize::from(delivered) {
            return false;
        }
        if let Some(at) = queued {
            self.serves.remove(at);
        }
        if delivered > 0 {
            let segments = std::mem::take(&mut self.segments);
            for segment in segments {
                match segment {
                    Segment::Block { buf, run: of, .. } if of == run => {
                        self.blocks -= 1;
                        pool.give(buf);
                    }
                    Segment::Block { .. } | Segment::Messages(_) | Segment::Metadata { .. } => {
                        self.segments.push_back(segment);
                    }
                }
            }
        }
        true
    }

    /// The next stretch to be read, if it is time for one: of at most `free` blocks, and so that
    /// at most `held_max` are held. It may span several runs that follow each other in a piece.
    pub fn next_read(&mut self, layout: &Layout, held_max: usize, free: usize) -> Option<Run> {
        if self.reading.is_some() || self.blocks > held_max / 2 {
            return None;
        }
        let max = (held_max - self.blocks).min(free).min(READ_BLOCKS_MAX) as u16;
        let mut serves = self.serves.iter();
        let first = serves.next()?;
        let piece = first.run.piece();
        let mut stretch = first.rest();
        for serve in serves {
            if serve.run.piece() != piece || serve.run.first() != stretch.end {
                break;
            }
            stretch.end += serve.run.count();
        }
        let count = (stretch.end - stretch.start).min(max);
        self.reading = layout.run(piece, stretch.start, count);
        self.reading
    }

    /// The stretch that was asked for is here. Blocks whose run was forgotten meanwhile go back.
    pub fn read_done(&mut self, layout: &Layout, bufs: Vec<BlockBuf>, pool: &mut BufPool) {
        let Some(run) = self.reading.take() else {
            debug_assert!(false, "nothing was being read");
            bufs.into_iter().for_each(|buf| pool.give(buf));
            return;
        };
        debug_assert_eq!(bufs.len(), usize::from(run.count()));
        for (block, buf) in layout.run_blocks(run).zip(bufs) {
            self.push_block(block, buf, pool);
        }
    }

    /// The stretch that was asked for cannot be read. Returns the run that fails with it.
    pub fn read_failed(&mut self) -> Option<Run> {
        let stretch = self.reading.take()?;
        let first = self.serves.front()?;
        let same = first.run.piece() == stretch.piece() && first.rest().start == stretch.first();
        if same {
            self.serves.pop_front().map(|serve| serve.run)
        } else {
            None
        }
    }

    /// What to send next, at most as much as fits `slices`. Returns how many of them are filled.
    pub fn outgoing<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut skip = self.sent;
        let parts = self.segments.iter().flat_map(Segment::parts);
        for part in parts.filter(|part| !part.is_empty()) {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let Some(slice) = slices.get_mut(filled) else {
                break;
            };
            *slice = IoSlice::new(part.get(skip..).unwrap_or_default());
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// `n` bytes of what [`outgoing`](Self::outgoing) named are in the socket's hands. Adds what
    /// is now sent to `served`.
    pub fn sent(&mut self, n: usize, pool: &mut BufPool, served: &mut Vec<Sent>) {
        self.sent += n;
        while let Some(first) = self.segments.front() {
            let len = first.len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            match self.segments.pop_front() {
                Some(Segment::Messages(bytes)) => self.message_bytes -= bytes.len(),
                Some(Segment::Block { buf, run, last, .. }) => {
                    self.blocks -= 1;
                    pool.give(buf);
                    if last {
                        served.push(Sent::Run(run));
                    }
                }
                Some(Segment::Metadata { .. }) => served.push(Sent::Metadata),
                None => {}
            }
        }
        debug_assert_eq!(self.sent, 0, "more was sent than there is");
    }

    /// The connection is gone: the buffers go home. A stretch that is being read comes back
    /// to whoever asked for it.
    pub fn release(&mut self, pool: &mut BufPool) {
        for segment in std::mem::take(self).segments {
            match segment {
                Segment::Block { buf, .. } => pool.give(buf),
                Segment::Messages(_) | Segment::Metadata { .. } => {}
            }
        }
    }

    /// Nothing can be sent now.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes of messages that the peer has not taken yet.
    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Whether a run waits to be read.
    pub fn has_serves(&self) -> bool {
        !self.serves.is_empty()
    }

    /// Whether it holds or will need buffers.
    pub fn is_serving(&self) -> bool {
        self.blocks > 0 || self.reading.is_some() || self.has_serves()
    }

    fn push_block(&mut self, block: Block, buf: BlockBuf, pool: &mut BufPool) {
        let expected = self.serves.front_mut().filter(|serve| {
            serve.run.piece() == block.piece() && serve.rest().start == block.index()
        });
        let Some(serve) = expected else {
            pool.give(buf);
            return;
        };
        debug_assert_eq!(buf.len(), block.len());
        serve.delivered += 1;
        let (run, last) = (serve.run, serve.rest().is_empty());
        if last {
            self.serves.pop_front();
        }
        self.blocks += 1;
        self.segments.push_back(Segment::Block {
            header: piece_header(block),
            buf,
            run,
            last,
        });
    }

    /// The segment that small messages are appended to.
    fn tail(&mut self) -> &mut Vec<u8> {
        let open = match self.segments.back() {
            Some(Segment::Messages(bytes)) => bytes.len() < MESSAGES_LEN,
            Some(Segment::Block { .. } | Segment::Metadata { .. }) | None => false,
        };
        if !open {
            self.segments.push_back(Segment::Messages(Vec::new()));
        }
        match self.segments.back_mut() {
            Some(Segment::Messages(bytes)) => bytes,
            Some(Segment::Block { .. } | Segment::Metadata { .. }) | None => {
                unreachable!("a segment of messages was pushed")
            }
        }
    }
}

impl Segment {
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Messages(bytes) => [bytes, &[]],
            Self::Block { header, buf, .. } => [header, buf.bytes()],
            Self::Metadata {
                header,
                info,
                range,
            } => [header, info.get(range.clone()).unwrap_or_default()],
        }
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn run(&self) -> Option<Run> {
        match self {
            Self::Messages(_) | Self::Metadata { .. } => None,
            Self::Block { run, .. } => Some(*run),
        }
    }
}

/// Blocks read from the disk at once: a megabyte.
pub const READ_BLOCKS_MAX: usize = (1024 * 1024 / BLOCK_LEN) as usize;

/// A segment of messages that is longer than this is not appended to.
const MESSAGES_LEN: usize = 16 * 1024;

#[cfg(test)]
mod tests;
