//! One connected peer: what it has, what is open between us, how fast it goes.
//!
//! Facts and counters only. What to request is decided by the picker, who is choked by the
//! choker, and both through [`Torrent`](crate::torrent::Torrent).

use std::collections::VecDeque;
use std::time::Duration;

use dunlin_metainfo::{BLOCK_LEN, Bitfield, Block, Layout, PeerId, PieceIndex, Run};
use dunlin_proto::peer::Reserved;
use dunlin_proto::time::Instant;

use crate::config::Config;
use crate::event::{Direction, PeerAddr};
use crate::pex::PexLink;
use crate::stats::RateMeter;
use crate::trust::Trust;

/// Time to the first retry after a refused request; doubles up to [`REFUSAL_BACKOFF_MAX`].
pub const REFUSAL_BACKOFF: Duration = Duration::from_millis(200);
const REFUSAL_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Requests that were taken back and may still be answered. Older ones are forgotten.
const RETIRED_MAX: usize = 512;

#[derive(Debug)]
pub struct Peer {
    pub addr: PeerAddr,
    pub direction: Direction,
    /// Where a peer that dialled us listens, by its own word (BEP 10 `p`).
    pub listens_at: Option<PeerAddr>,
    pub peer_id: PeerId,
    pub reserved: Reserved,
    /// How the peer names itself (BEP 10 `v`), else the first bytes of its peer id.
    pub client: String,
    pub connected_at: Instant,
    pub last_heard: Instant,
    pub last_sent: Instant,
    /// When either side was last interested.
    pub last_interest: Instant,

    pub has: Bitfield,
    /// It told us what it has: a bitfield from now on only adds to that.
    pub has_is_known: bool,
    pub is_seed: bool,
    /// It downloads no more, by its own word (BEP 21).
    pub upload_only: bool,
    /// It was told that we download no more.
    pub told_upload_only: bool,
    /// Wanted pieces that it has and we lack.
    pub interesting: u32,

    pub am_choking: bool,
    pub am_interested: bool,
    pub peer_choking: bool,
    pub peer_interested: bool,

    pub requests: OpenRequests,
    pub trust: Trust,
    /// Pieces that it lets us have while it chokes us (BEP 6).
    pub allowed_in: Vec<PieceIndex>,
    /// Pieces that it allowed, and rejected when we asked: not believed again.
    pub rejected_in: Vec<PieceIndex>,
    pub snubbed: bool,
    /// When we began to wait for a block: the last one's arrival, or the first request after a
    /// pause.
    pub waiting_since: Instant,
    /// A block came since it last unchoked us.
    pub gave_since_unchoke: bool,
    pub refusals_in_a_row: u32,
    pub no_requests_before: Instant,

    /// Blocks that it wants from us, oldest first.
    pub queue: VecDeque<Block>,
    /// Runs in the host's hands.
    pub serving: VecDeque<Run>,
    pub serving_bytes: u64,
    pub unchoked_at: Option<Instant>,
    pub uploaded_since_unchoke: u64,
    /// When it last took a block, or had none to take.
    pub took_at: Instant,
    /// Pieces that it may have while choked (BEP 6), each with the blocks granted so far.
    pub allowed_out: Vec<(PieceIndex, u16)>,
    pub unrequested_bytes: u64,
    /// Requests that it will queue (BEP 10 `reqq`); 250 is what clients assume unless told.
    pub requests_max: usize,
    pub refused_requests: u32,
    pub metadata: MetadataUpload,
    /// While peer exchange goes on between us (BEP 11).
    pub pex: Option<Box<PexLink>>,

    pub down: RateMeter,
    pub up: RateMeter,
}

/// A peer that never gave anything is not waited for as long as one that did: blocks that it owes
/// are asked of others. A link of 20 kB/s that serves five peers sends a block in 4 s.
const FIRST_BLOCK_TIMEOUT: Duration = Duration::from_secs(15);

/// An unchoked peer that wants something asks within a round trip.
const IDLE_WITHOUT_REQUESTS: Duration = Duration::from_secs(2);

/// A slow link takes a run of 256 KiB at 25 kB/s within this.
const IDLE_WITHOUT_READING: Duration = Duration::from_secs(10);

/// The most bytes of answers that the host holds for one peer: 250 ms of its rate, or this.
const CREDIT_MIN: u64 = 256 * 1024;

impl Peer {
    pub fn new(
        addr: PeerAddr,
        direction: Direction,
        peer_id: PeerId,
        reserved: Reserved,
        pieces: u32,
        now: Instant,
    ) -> Self {
        Self {
            addr,
            direction,
            listens_at: None,
            peer_id,
            reserved,
            client: client_of(peer_id),
            connected_at: now,
            last_heard: now,
            last_sent: now,
            last_interest: now,
            has: Bitfield::new(pieces),
            has_is_known: false,
            is_seed: false,
            upload_only: false,
            told_upload_only: false,
            interesting: 0,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            requests: OpenRequests::default(),
            allowed_in: Vec::new(),
            rejected_in: Vec::new(),
            snubbed: false,
            waiting_since: now,
            trust: Trust::default(),
            gave_since_unchoke: false,
            refusals_in_a_row: 0,
            no_requests_before: Instant::START,
            queue: VecDeque::new(),
            serving: VecDeque::new(),
            serving_bytes: 0,
            unchoked_at: None,
            uploaded_since_unchoke: 0,
            took_at: now,
            allowed_out: Vec::new(),
            unrequested_bytes: 0,
            requests_max: 250,
            refused_requests: 0,
            metadata: MetadataUpload::default(),
            pex: None,
            down: RateMeter::new(now),
            up: RateMeter::new(now),
        }
    }

    /// The address that the peer list knows it by.
    pub fn listed_as(&self) -> PeerAddr {
        self.listens_at.unwrap_or(self.addr)
    }

    /// Whether it will never want anything of us: it has everything, or all that it wants.
    pub fn is_giver_only(&self) -> bool {
        self.is_seed || self.upload_only
    }

    /// How many requests should be open now: one second of the link, or during slow start one
    /// more for each block that came. BEP 3 suggests five; fast links would idle between blocks.
    pub fn pipeline_depth(&self, config: &Config, now: Instant) -> usize {
        if self.snubbed {
            return 1;
        }
        let blocks_per_s = (self.down.rate_over(now, 5) / u64::from(BLOCK_LEN)) as usize;
        let depth = self.requests.slow_start.unwrap_or(0).max(blocks_per_s);
        depth
            .clamp(config.requests_min, config.requests_max)
            .min(self.requests_max)
    }

    /// It unchoked us, owes us blocks and sends none: as long as BEP 3 says, or less if it never
    /// sent any.
    pub fn keeps_us_waiting(&self, config: &Config, now: Instant) -> bool {
        let patience = if self.down.total() == 0 {
            config.snub_timeout.min(FIRST_BLOCK_TIMEOUT)
        } else {
            config.snub_timeout
        };
        !self.requests.is_empty() && now.since(self.waiting_since) >= patience
    }

    /// Whether so much more payload may be in the host's hands for this peer: enough to keep the socket busy,
    /// little enough that choke and cancel act on nearly everything.
    pub fn has_credit(&self, len: u32, now: Instant) -> bool {
        let handed = self.serving_bytes + u64::from(len);
        handed <= CREDIT_MIN || handed <= self.up.rate_over(now, 5) / 4
    }

    /// It is unchoked and takes nothing: it asks for nothing, or does not read what it asked for.
    /// Blocks that wait for an upload limit are no idleness.
    pub fn is_idle(&self, now: Instant) -> bool {
        let Some(since) = self.unchoked_at.filter(|_| !self.am_choking) else {
            return false;
        };
        let waits = now.since(self.took_at.max(since));
        match (self.queue.is_empty(), self.serving.is_empty()) {
            (true, true) => waits >= IDLE_WITHOUT_REQUESTS,
            (false, true) => false,
            (true | false, false) => waits >= IDLE_WITHOUT_READING,
        }
    }

    pub fn on_block(&mut self, bytes: u32, config: &Config, now: Instant) {
        self.down.add(now, u64::from(bytes));
        self.waiting_since = now;
        self.snubbed = false;
        self.gave_since_unchoke = true;
        self.refusals_in_a_row = 0;
        self.no_requests_before = Instant::START;
        if let Some(window) = &mut self.requests.slow_start {
            let blocks_per_s = (self.down.rate_over(now, 5) / u64::from(BLOCK_LEN)) as usize;
            *window += 1;
            let settled = now.since(self.requests.unchoked_at) >= Duration::from_secs(2);
            if *window >= config.requests_max || (settled && *window > 2 * blocks_per_s) {
                self.requests.slow_start = None;
            }
        }
    }

    /// It rejected a request, or choked us before it answered any. It is asked less and less
    /// often: no ping-pong at the speed of the link.
    pub fn on_refusal(&mut self, now: Instant) {
        self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
        let doublings = self.refusals_in_a_row.saturating_sub(1).min(5);
        let pause = (REFUSAL_BACKOFF * 2u32.pow(doublings)).min(REFUSAL_BACKOFF_MAX);
        self.no_requests_before = now + pause;
    }

    /// It chokes us and takes an allowed piece back.
    pub fn on_allowed_rejected(&mut self, piece: PieceIndex) {
        let before = self.allowed_in.len();
        self.allowed_in.retain(|&allowed| allowed != piece);
        if self.allowed_in.len() < before {
            self.rejected_in.push(piece);
        }
    }

    /// Whether one more block of the piece may go out although we choke the peer (BEP 6): of an
    /// allowed piece each block may be had twice, not over and over.
    pub fn spend_allowance(&mut self, layout: &Layout, piece: PieceIndex) -> bool {
        let Some((_, granted)) = self.allowed_out.iter_mut().find(|(of, _)| *of == piece) else {
            return false;
        };
        let may_go = *granted < layout.blocks_in(piece).saturating_mul(2);
        *granted += u16::from(may_go);
        may_go
    }

    /// Whether it may be asked for anything at all.
    pub fn may_request(&self, now: Instant) -> bool {
        self.am_interested
            && now >= self.no_requests_before
            && (!self.peer_choking || !self.allowed_in.is_empty())
    }
}

/// The info dictionary on its way to a peer (BEP 9).
#[derive(Debug, Default)]
pub struct MetadataUpload {
    /// The id that the peer wants to see on our messages; 0 if it does not speak the extension.
    pub their_id: u8,
    /// Pieces that it asked for, oldest first.
    pub queue: VecDeque<u32>,
    /// Pieces in the host's hands.
    pub serving: usize,
    /// Pieces that it was given or will be.
    pub granted: u32,
    /// Requests that were rejected.
    pub refused: u32,
}

/// What we asked of a peer.
#[derive(Debug, Default)]
pub struct OpenRequests {
    open: VecDeque<Block>,
    /// Taken back, but the block may be under way.
    retired: VecDeque<Block>,
    bytes: u64,
    /// The window of slow start, in blocks; `None` once the rate tells the depth.
    slow_start: Option<usize>,
    unchoked_at: Instant,
}

/// What a block that arrived was to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Open,
    /// We had taken the request back.
    Retired,
    Never,
}

impl OpenRequests {
    pub fn on_unchoked(&mut self, now: Instant, config: &Config) {
        self.unchoked_at = now;
        self.slow_start = Some(config.requests_min);
    }

    pub fn push(&mut self, block: Block) {
        self.open.push_back(block);
        self.bytes += u64::from(block.len());
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Open requests, oldest first.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.open.iter().copied()
    }

    /// Bytes of open requests.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn newest(&self) -> Option<Block> {
        self.open.back().copied()
    }

    /// The block arrived.
    pub fn on_block(&mut self, block: Block) -> Asked {
        if self.remove(block) {
            Asked::Open
        } else if let Some(at) = self.retired.iter().position(|&other| other == block) {
            self.retired.remove(at);
            Asked::Retired
        } else {
            Asked::Never
        }
    }

    /// The peer said that it will not come.
    pub fn on_reject(&mut self, block: Block) -> bool {
        self.retired.retain(|&other| other != block);
        self.remove(block)
    }

    /// Takes one request back.
    pub fn retire(&mut self, block: Block) -> bool {
        let was_open = self.remove(block);
        if was_open {
            self.remember_retired(block);
        }
        was_open
    }

    /// Takes all requests back and returns them.
    pub fn retire_all(&mut self) -> Vec<Block> {
        let blocks: Vec<Block> = self.open.drain(..).collect();
        self.bytes = 0;
        for &block in &blocks {
            self.remember_retired(block);
        }
        blocks
    }

    fn remember_retired(&mut self, block: Block) {
        if self.retired.len() == RETIRED_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(block);
    }

    fn remove(&mut self, block: Block) -> bool {
        // Answers come in order, so the block is nearly always the first.
        let Some(at) = self.open.iter().position(|&other| other == block) else {
            return false;
        };
        self.open.remove(at);
        self.bytes -= u64::from(block.len());
        true
    }
}

/// The name in an Azureus-style peer id (BEP 20), for peers that do not introduce themselves.
fn client_of(peer_id: PeerId) -> String {
    let bytes = peer_id.as_bytes();
    let name = match bytes {
        [b'-', name @ .., _, _, _, _, _, _, _, _, _, _, _, _] if name.len() == 7 => &name[..6],
        _ => &bytes[..8],
    };
    name.iter()
        .map(|&byte| {
            if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_metainfo::FileSpan;

    fn blocks(count: u16) -> Vec<Block> {
        let layout = Layout::new(
            1 << 20,
            [FileSpan {
                len: 1 << 20,
                pad: false,
            }],
        )
        .unwrap();
        layout
            .blocks(layout.piece(0).unwrap())
            .take(usize::from(count))
            .collect()
    }

    fn peer() -> Peer {
        let addr = PeerAddr::Tcp(([127, 0, 0, 1], 1).into());
        let id = PeerId::new(*b"-LT2110-abcdefghijkl");
        Peer::new(
            addr,
            Direction::Outgoing,
            id,
            Reserved::default(),
            10,
            Instant::START,
        )
    }

    #[test]
    fn a_peer_without_a_name_is_named_by_its_id() {
        assert_eq!(peer().client, "LT2110");
        assert_eq!(client_of(PeerId::new([0xff; 20])), "????????");
    }

    #[test]
    fn a_retired_request_is_still_recognised_once() {
        let mut requests = OpenRequests::default();
        let blocks = blocks(3);
        blocks.iter().for_each(|&block| requests.push(block));
        assert!(requests.retire(blocks[1]));
        assert_eq!(requests.on_block(blocks[1]), Asked::Retired);
        assert_eq!(requests.on_block(blocks[1]), Asked::Never);
        assert_eq!(requests.on_block(blocks[2]), Asked::Open);
        assert_eq!(requests.bytes(), u64::from(BLOCK_LEN));
    }

    #[test]
    fn slow_start_opens_one_more_request_a_block() {
        let (config, mut peer) = (Config::default(), peer());
        let now = Instant::from_micros(1);
        peer.requests.on_unchoked(now, &config);
        assert_eq!(peer.pipeline_depth(&config, now), config.requests_min);
        for _ in 0..10 {
            peer.on_block(BLOCK_LEN, &config, now);
        }
        assert_eq!(
            peer.pipeline_depth(&config, now),
            config.requests_min.max(10) + 4
        );
    }

    #[test]
    fn rejects_are_answered_by_ever_longer_pauses() {
        let mut peer = peer();
        peer.am_interested = true;
        peer.peer_choking = false;
        let now = Instant::from_micros(5_000_000);
        peer.on_refusal(now);
        assert!(!peer.may_request(now));
        assert!(peer.may_request(now + REFUSAL_BACKOFF));
        for _ in 0..40 {
            peer.on_refusal(now);
        }
        assert!(!peer.may_request(now + Duration::from_millis(4900)));
        assert!(peer.may_request(now + REFUSAL_BACKOFF_MAX));
    }

    #[test]
    fn an_idle_peer_is_small() {
        assert!(size_of::<Peer>() <= 2048, "{}", size_of::<Peer>());
    }
}
