//! Shards that talk to each other through byte queues, with disks in memory.

use std::net::SocketAddr;

use dunlin_metainfo::{FileSpan, InfoHash, PeerId, Sha1Digest};
use dunlin_proto::peer::Request;
use dunlin_proto::peer::message::piece_header;
use proptest::prelude::*;

use super::*;
use crate::alert::Alert;
use crate::command::AddTorrent;
use crate::config::{PieceOrder, RateLimits};
use crate::event::{ConnKey, DiskError, DiskJob, DiskOp, PeerAddr};
use crate::hub::{Hub, Step};
use crate::resume::Resume;

const HASH: InfoHash = InfoHash::new([7; 20]);
const TORRENT: TorrentKey = TorrentKey(1);
const PIECE_LEN: u64 = 4 * BLOCK_LEN as u64;

/// A shard with its hub, its end of one connection, and its disk.
struct Node {
    shard: Shard,
    hub: Hub,
    layout: Arc<Layout>,
    disk: Vec<u8>,
    /// Bytes for the other side.
    wire: VecDeque<u8>,
    is_peer: bool,
    open: bool,
    complete: bool,
    serve_failures: usize,
}

const CONN: ConnKey = ConnKey(5);
const PEER: PeerKey = PeerKey(5);

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

impl Node {
    fn new(name: u8, len: usize, is_seed: bool, config: &Config) -> Self {
        let file = FileSpan {
            len: len as u64,
            pad: false,
        };
        let layout = Arc::new(Layout::new(PIECE_LEN, [file]).unwrap());
        let mut id = *b"-DL0100-000000000000";
        id[19] = name;
        let peer_id = PeerId::new(id);
        let config = Config {
            peer_id,
            ..config.clone()
        };
        let mut shard = Shard::new(
            config,
            dunlin_proto::rng::Rng::new(u64::from(name)),
            Instant::START,
        );
        let mut resume = Resume::empty(layout.pieces());
        if is_seed {
            resume.written = dunlin_metainfo::Bitfield::full(layout.pieces());
            resume.synced = resume.written.clone();
        }
        let params = AddTorrent {
            info_hash: HASH,
            layout: layout.clone(),
            piece_digests: vec![Sha1Digest::new([0; 20]); layout.pieces() as usize].into(),
            private: false,
            info: Arc::from([]),
            trackers: Vec::new(),
            resume,
            priorities: Vec::new(),
            peers: BTreeSet::new(),
            order: PieceOrder::RarestFirst,
            limits: RateLimits::default(),
            seed_when_complete: true,
        };
        let command = Command::Add {
            torrent: TORRENT,
            params: Box::new(params),
        };
        shard.handle(Instant::START, Event::Command(command));
        Self {
            shard,
            hub: Hub::new(peer_id),
            layout,
            disk: if is_seed { content(len) } else { vec![0; len] },
            wire: VecDeque::new(),
            is_peer: false,
            open: false,
            complete: is_seed,
            serve_failures: 0,
        }
    }

    fn run_tasks(&mut self, now: Instant) {
        while let Some(task) = self.shard.poll_task() {
            match task {
                Task::Accept { conn, torrent } => {
                    let established = self.hub.accept(conn, torrent).unwrap();
                    self.is_peer = true;
                    self.shard.connected(now, PEER, established);
                }
                Task::Close { .. } | Task::Refuse { .. } => self.open = false,
                Task::Disk(job) => self.do_job(now, job),
                Task::Read(read) => self.do_read(now, read),
                Task::Alert(Alert::Complete { .. }) => self.complete = true,
                Task::Alert(_) => {}
                task @ (Task::Dial { .. }
                | Task::Announce { .. }
                | Task::Metadata { .. }
                | Task::TorrentGone { .. }) => {
                    panic!("nobody asked for {task:?}");
                }
            }
        }
    }

    fn do_job(&mut self, now: Instant, job: DiskJob) {
        let mut home = Vec::new();
        let result = match job.op {
            DiskOp::Write { run, bufs } => {
                let mut bytes = 0;
                for (block, buf) in self.layout.run_blocks(run).zip(&bufs) {
                    let at = run.piece().index() * PIECE_LEN as usize + block.offset() as usize;
                    self.disk[at..at + buf.bytes().len()].copy_from_slice(buf.bytes());
                    bytes += buf.len();
                }
                home = bufs;
                DiskResult::Written { bytes }
            }
            DiskOp::Finish { piece, .. } => DiskResult::Good {
                piece,
                block_digests: Vec::new(),
            },
            DiskOp::Forget { piece } => DiskResult::Forgotten { piece },
            DiskOp::CompleteFile { file } => DiskResult::FileCompleted { file },
            DiskOp::Sync => DiskResult::Synced,
            DiskOp::SaveResume(_) => DiskResult::ResumeSaved,
            DiskOp::RemoveResume => DiskResult::ResumeRemoved,
        };
        self.shard.disk_done(now, TORRENT, job.id, result, home);
    }

    fn do_read(&mut self, now: Instant, mut read: Read) {
        let blocks = self.layout.run_blocks(read.run);
        for (block, buf) in blocks.zip(&mut read.bufs) {
            let at = read.run.piece().index() * PIECE_LEN as usize + block.offset() as usize;
            let len = block.len() as usize;
            buf.bytes_mut().copy_from_slice(&self.disk[at..at + len]);
        }
        let result = if self.serve_failures > 0 {
            self.serve_failures -= 1;
            Err(DiskError {
                kind: crate::event::DiskErrorKind::Other,
                path: "file".into(),
                message: "input/output error".to_owned(),
            })
        } else {
            Ok(())
        };
        self.shard.read_done(now, read.peer, read.bufs, result);
    }

    /// Moves everything that may be sent to the wire, in writes of at most `n` bytes.
    fn send(&mut self, now: Instant, n: usize) {
        loop {
            self.shard.flush(now);
            self.run_tasks(now);
            while self.shard.poll_dirty().is_some() {}
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.shard.outgoing(PEER, &mut slices);
            let bytes: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|s| s.iter().copied())
                .collect();
            let count = bytes.len().min(n);
            if count == 0 || !self.open {
                return;
            }
            self.wire.extend(&bytes[..count]);
            self.shard.sent(now, PEER, count, false);
        }
    }

    /// Takes what the other side sent.
    fn receive(&mut self, now: Instant, from: &mut VecDeque<u8>) {
        let mut shared = vec![0; 64 * 1024];
        while self.open && !from.is_empty() {
            if self.is_peer {
                let Some(mut slots) = self.shard.space(PEER, &mut shared) else {
                    return;
                };
                let mut n = 0;
                for slot in &mut slots {
                    let count = slot.len().min(from.len());
                    let bytes: Vec<u8> = from.drain(..count).collect();
                    slot[..count].copy_from_slice(&bytes);
                    n += count;
                }
                self.shard.filled(now, PEER, n, &shared);
            } else {
                let bytes: Vec<u8> = from.drain(..).collect();
                match self.hub.received(CONN, &bytes) {
                    Step::Wait => {}
                    Step::Incoming { remote, handshake } => {
                        let event = Event::Incoming {
                            conn: CONN,
                            remote,
                            handshake,
                        };
                        self.shard.handle(now, event);
                    }
                    Step::Established(established) => {
                        self.is_peer = true;
                        self.shard.connected(now, PEER, *established);
                    }
                    Step::Failed(failure) => panic!("{failure:?}"),
                }
            }
            self.run_tasks(now);
        }
    }
}

/// `a` dials `b`; then both run until nothing moves, for `secs` seconds at most.
struct Pair {
    a: Node,
    b: Node,
    now: Instant,
}

impl Pair {
    fn connect(mut a: Node, mut b: Node) -> Self {
        let remote = |port| PeerAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let now = Instant::START;
        a.hub.dialling(now, CONN, TORRENT, HASH, remote(1));
        a.hub.connected(now, CONN);
        let hello = a.hub.outgoing(CONN).to_vec();
        a.hub.sent(CONN, hello.len());
        a.wire.extend(hello);
        assert!(b.hub.accepted(now, CONN, remote(2)).is_none());
        (a.open, b.open) = (true, true);
        Self { a, b, now }
    }

    fn step(&mut self, n: usize) {
        let Self { a, b, now } = self;
        b.receive(*now, &mut a.wire);
        b.send(*now, n);
        a.receive(*now, &mut b.wire);
        a.send(*now, n);
        *now += Duration::from_millis(10);
        for node in [a, b] {
            if node.shard.deadline().is_some_and(|at| at <= *now) {
                node.shard.tick(*now);
            }
            node.run_tasks(*now);
            node.shard.session().check_invariants();
        }
    }

    fn run(&mut self, n: usize, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while self.now < end && !(self.a.complete && self.b.complete) {
            self.step(n);
        }
    }
}

const LEN: usize = 40 * PIECE_LEN as usize + 12_345;

#[test]
fn a_leech_gets_every_byte_from_a_seed_whoever_dials() {
    for (seed_dials, n) in [(true, 1_000_000), (false, 5_000)] {
        let seed = Node::new(1, LEN, true, &Config::default());
        let leech = Node::new(2, LEN, false, &Config::default());
        let mut pair = if seed_dials {
            Pair::connect(seed, leech)
        } else {
            Pair::connect(leech, seed)
        };
        pair.run(n, 60);
        for node in [&pair.a, &pair.b] {
            assert!(
                node.complete,
                "not complete after {} s",
                pair.now.as_secs_f64()
            );
            assert!(node.disk == content(LEN));
        }
        for _ in 0..10 {
            pair.step(n);
        }
        assert_eq!(pair.a.shard.buffer_bytes() + pair.b.shard.buffer_bytes(), 0);
    }
}

#[test]
fn a_low_ceiling_slows_down_and_loses_nothing() {
    let config = || Config {
        buffer_bytes_max: 4 * u64::from(BLOCK_LEN),
        ..Config::default()
    };
    let seed = Node::new(1, LEN, true, &config());
    let leech = Node::new(2, LEN, false, &config());
    let mut pair = Pair::connect(leech, seed);
    pair.run(100_000, 300);
    assert!(pair.a.complete);
    assert!(pair.a.disk == content(LEN));
}

#[test]
fn a_failed_read_costs_a_request_not_the_connection() {
    let mut seed = Node::new(1, LEN, true, &Config::default());
    seed.serve_failures = 3;
    let leech = Node::new(2, LEN, false, &Config::default());
    let mut pair = Pair::connect(leech, seed);
    pair.run(100_000, 30);
    assert_eq!(pair.b.serve_failures, 0);
    for _ in 0..10 {
        pair.step(100_000);
    }
    assert_eq!(pair.b.shard.sending.out(), 0);
}

#[test]
fn garbage_ends_the_connection_and_the_session_hears_of_it() {
    let seed = Node::new(1, LEN, true, &Config::default());
    let leech = Node::new(2, LEN, false, &Config::default());
    let mut pair = Pair::connect(leech, seed);
    while !pair.b.is_peer {
        pair.step(1000);
    }
    pair.a.wire.clear();
    pair.a.wire.extend([0xff; 100]);
    let mut garbage = std::mem::take(&mut pair.a.wire);
    pair.b.receive(pair.now, &mut garbage);
    assert!(!pair.b.open);
    let snapshot = pair.b.shard.snapshot(TORRENT, pair.now).unwrap();
    assert!(snapshot.peers.is_empty());
    assert_eq!(pair.b.shard.buffer_bytes(), 0);
}

#[test]
fn a_peer_that_asks_and_never_reads_does_not_keep_its_buffers() {
    let seed = Node::new(1, LEN, true, &Config::default());
    let leech = Node::new(2, LEN, false, &Config::default());
    let mut pair = Pair::connect(leech, seed);
    for _ in 0..4 {
        pair.step(40_000);
    }
    let Pair { b, now, .. } = &mut pair;
    let mut said = Vec::new();
    for piece in 0..8 {
        let (begin, len) = (0, BLOCK_LEN);
        Message::Request(Request { piece, begin, len }).encode(&mut said);
    }
    for second in 0.. {
        Message::KeepAlive.encode(&mut said);
        b.receive(*now, &mut said.drain(..).collect());
        b.shard.flush(*now);
        b.run_tasks(*now);
        b.shard.tick(*now);
        b.run_tasks(*now);
        if second == 1 {
            assert!(b.shard.sending.out() > 0);
        }
        if !b.open {
            assert!((100..=130).contains(&second), "closed after {second} s");
            break;
        }
        assert!(second < 200, "it still holds {}", b.shard.buffer_bytes());
        *now += Duration::from_secs(1);
    }
    assert_eq!(b.shard.sending.out(), 0);
}

#[test]
fn buffers_come_home_when_the_socket_dies_midway() {
    let seed = Node::new(1, LEN, true, &Config::default());
    let leech = Node::new(2, LEN, false, &Config::default());
    let mut pair = Pair::connect(leech, seed);
    for _ in 0..4 {
        pair.step(40_000);
    }
    for node in [&mut pair.a, &mut pair.b] {
        node.shard.closed(pair.now, PEER, CloseReason::RemoteClosed);
        node.run_tasks(pair.now);
        assert_eq!(node.shard.sending.out(), 0);
        assert!(
            node.shard
                .snapshot(TORRENT, pair.now)
                .unwrap()
                .peers
                .is_empty()
        );
        node.shard.session().check_invariants();
    }
}

/// Any message, with numbers that are often right.
fn message() -> impl Strategy<Value = Message> {
    let piece = prop_oneof![0u32..42, any::<u32>()];
    let request = (
        piece.clone(),
        0u32..5,
        prop_oneof![Just(BLOCK_LEN), any::<u32>()],
    )
        .prop_map(|(piece, block, len)| Request {
            piece,
            begin: block * BLOCK_LEN,
            len,
        });
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        piece.clone().prop_map(|piece| Message::Have { piece }),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Message::Bitfield),
        request.clone().prop_map(Message::Request),
        request.clone().prop_map(Message::Cancel),
        request.prop_map(Message::RejectRequest),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        piece.prop_map(|piece| Message::AllowedFast { piece }),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(id, payload)| Message::Extended { id, payload }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_a_peer_sends_nothing_breaks_and_every_buffer_comes_home(
        messages in prop::collection::vec(message(), 0..60),
        blocks in prop::collection::vec((0u32..42, 0u32..5), 0..10),
        garbage in prop::collection::vec(any::<u8>(), 0..40),
        is_seed in any::<bool>(),
        step in 1usize..500,
    ) {
        let node = Node::new(1, LEN, is_seed, &Config::default());
        let mut pair = Pair::connect(Node::new(2, LEN, false, &Config::default()), node);
        while !pair.b.is_peer {
            pair.step(100_000);
        }
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        for (piece, block) in blocks {
            if let Some(block) = pair.b.layout.block(piece, block * BLOCK_LEN, BLOCK_LEN) {
                bytes.extend(piece_header(block));
                bytes.resize(bytes.len() + BLOCK_LEN as usize, 7);
            }
        }
        bytes.extend(garbage);
        for part in bytes.chunks(step * 50) {
            let mut wire = part.iter().copied().collect();
            pair.b.receive(pair.now, &mut wire);
            pair.b.send(pair.now, step * 100);
            pair.b.shard.session().check_invariants();
            pair.now += Duration::from_millis(20);
        }
        pair.b.shard.closed(pair.now, PEER, CloseReason::RemoteClosed);
        pair.b.run_tasks(pair.now);
        prop_assert_eq!(pair.b.shard.buffer_bytes(), 0);
        pair.b.shard.session().check_invariants();
    }
}

#[test]
fn an_idle_peer_costs_little() {
    assert!(size_of::<Peer>() <= 512, "{} bytes", size_of::<Peer>());
}
