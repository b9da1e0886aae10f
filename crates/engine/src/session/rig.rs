//! A session with one torrent and hand-driven peers, so that a test reads like a dialogue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{Bitfield, Block, FileSpan, InfoHash, Layout, PeerId, Run, Sha1Digest};
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::peer::{Handshake, Message, Request, Reserved};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use super::Session;
use crate::alert::Alert;
use crate::command::{AddMagnet, AddTorrent, Command};
use crate::config::{Config, PieceOrder, RateLimits, SuperSeeding};
use crate::event::{
    Action, Direction, DiskJob, DiskOp, DiskResult, Event, JobId, PeerAddr, PeerKey, TorrentKey,
};
use crate::resume::Resume;

pub(super) const TORRENT: TorrentKey = TorrentKey(1);
/// The one of a rig made by [`Rig::magnet`].
pub(super) const MAGNET: TorrentKey = TorrentKey(2);
pub(super) const PIECE_LEN: u64 = 64 * 1024;
pub(super) const BLOCK: u32 = 16 * 1024;
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) layout: Arc<Layout>,
    pub(super) now: Instant,
    /// Everything that the session wants done, but for disk jobs, which the rig answers.
    pub(super) actions: Vec<Action>,
    pub(super) alerts: Vec<Alert>,
    pub(super) jobs: Vec<DiskJob>,
    /// Disk jobs are answered as they come, with every piece good.
    pub(super) disk_is_honest: bool,
    /// Whose peers connect next.
    pub(super) torrent: TorrentKey,
    next_peer: u64,
}

impl Rig {
    pub(super) fn new(pieces: u32, config: Config) -> Self {
        Self::with(pieces, config, Resume::empty(pieces), Vec::new())
    }

    /// A seed that tells everybody everything.
    pub(super) fn seed(pieces: u32, mut config: Config) -> Self {
        config.super_seeding = SuperSeeding::Off;
        Self::super_seed(pieces, config)
    }

    /// A seed that super-seeds as the configuration says.
    pub(super) fn super_seed(pieces: u32, config: Config) -> Self {
        Self::with(pieces, config, full(pieces), Vec::new())
    }

    pub(super) fn with(
        pieces: u32,
        config: Config,
        resume: Resume,
        trackers: Vec<Vec<String>>,
    ) -> Self {
        let span = FileSpan {
            len: PIECE_LEN * u64::from(pieces),
            pad: false,
        };
        Self::with_files(&[span], config, resume, trackers)
    }

    pub(super) fn with_files(
        files: &[FileSpan],
        config: Config,
        resume: Resume,
        trackers: Vec<Vec<String>>,
    ) -> Self {
        let layout = Arc::new(Layout::new(PIECE_LEN, files.iter().copied()).unwrap());
        let now = Instant::from_micros(1_000_000);
        let mut rig = Self {
            session: Session::new(config, Rng::new(1), now),
            layout,
            now,
            actions: Vec::new(),
            alerts: Vec::new(),
            jobs: Vec::new(),
            disk_is_honest: true,
            torrent: TORRENT,
            next_peer: 1,
        };
        rig.add(TORRENT, resume, trackers);
        rig
    }

    /// A magnet whose metadata has this hash, and trackers. What it turns out to be is one file of
    /// so many pieces.
    pub(super) fn magnet(
        info: &[u8],
        pieces: u32,
        config: Config,
        trackers: Vec<Vec<String>>,
    ) -> Self {
        let mut rig = Self::new(pieces, config);
        rig.tell(Event::Command(Command::Remove { torrent: TORRENT }));
        rig.wait(Duration::from_secs(3));
        rig.torrent = MAGNET;
        rig.add_magnet_with(MAGNET, info, trackers);
        rig.actions.clear();
        rig
    }

    pub(super) fn add_magnet(&mut self, torrent: TorrentKey, info: &[u8]) {
        self.add_magnet_with(torrent, info, Vec::new());
    }

    fn add_magnet_with(&mut self, torrent: TorrentKey, info: &[u8], trackers: Vec<Vec<String>>) {
        let params = AddMagnet {
            info_hash: InfoHash::of(info),
            trackers,
            peers: BTreeSet::new(),
            limits: RateLimits::default(),
        };
        self.tell(Event::Command(Command::AddMagnet {
            torrent,
            params: Box::new(params),
        }));
    }

    /// The host finds that the metadata of the magnet is that of the rig's torrent.
    pub(super) fn promote(&mut self, info: &[u8], resume: Resume) {
        self.promote_with(info, |params| params.resume = resume);
    }

    pub(super) fn promote_with(&mut self, info: &[u8], change: impl FnOnce(&mut AddTorrent)) {
        let (hash, info) = (InfoHash::of(info), Arc::from(info));
        let resume = Resume::empty(self.layout.pieces());
        self.add_with(MAGNET, resume, |params| {
            params.info_hash = hash;
            params.info = info;
            change(params);
        });
    }

    /// One more torrent of the same layout. Its peers are those that connect from now on.
    pub(super) fn add(&mut self, torrent: TorrentKey, resume: Resume, trackers: Vec<Vec<String>>) {
        self.add_with(torrent, resume, |params| params.trackers = trackers);
    }

    pub(super) fn add_with(
        &mut self,
        torrent: TorrentKey,
        resume: Resume,
        change: impl FnOnce(&mut AddTorrent),
    ) {
        self.torrent = torrent;
        let mut params = AddTorrent {
            info_hash: info_hash(torrent),
            layout: Arc::clone(&self.layout),
            piece_digests: vec![Sha1Digest::new([0; 20]); self.layout.pieces() as usize].into(),
            private: false,
            info: Arc::from([]),
            trackers: Vec::new(),
            resume,
            priorities: Vec::new(),
            peers: BTreeSet::new(),
            order: PieceOrder::Sequential,
            limits: RateLimits::default(),
            seed_when_complete: true,
        };
        change(&mut params);
        self.tell(Event::Command(Command::Add {
            torrent,
            params: Box::new(params),
        }));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.session.handle(self.now, event);
        self.drain();
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.session.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Alert(alert) => self.alerts.push(alert),
                Action::Disk(job) if self.disk_is_honest => self.answer_well(job),
                Action::Disk(job) => self.jobs.push(job),
                other => self.actions.push(other),
            }
        }
        self.session.check_invariants();
    }

    pub(super) fn answer_well(&mut self, job: DiskJob) {
        let result = match job.op {
            DiskOp::Write { bufs, .. } => DiskResult::Written {
                bytes: bufs.iter().map(BlockBuf::len).sum(),
            },
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
        self.tell(Event::DiskDone {
            job: job.id,
            torrent: job.torrent,
            result,
        });
    }

    pub(super) fn answer(&mut self, job: JobId, result: DiskResult) {
        self.tell(Event::DiskDone {
            job,
            torrent: TORRENT,
            result,
        });
    }

    /// A peer with the fast extension connects and says what it has, `x` for a piece.
    pub(super) fn peer(&mut self, has: &str) -> PeerKey {
        self.peer_with(has, Reserved::OURS)
    }

    pub(super) fn peer_with(&mut self, has: &str, reserved: Reserved) -> PeerKey {
        let key = self.connect(self.next_peer as u8, reserved, Direction::Incoming);
        self.hear_bits(key, has);
        key
    }

    /// The peer says what it has in a bitfield, `x` for a piece.
    pub(super) fn hear_bits(&mut self, peer: PeerKey, has: &str) {
        let mut bits = Bitfield::new(self.layout.pieces());
        for (index, _) in has.chars().enumerate().filter(|(_, c)| *c == 'x') {
            bits.set(index as u32);
        }
        self.hear(peer, Message::Bitfield(bits.to_wire()));
    }

    pub(super) fn connect(&mut self, id: u8, reserved: Reserved, direction: Direction) -> PeerKey {
        let remote = addr(PeerKey(self.next_peer));
        self.connect_from(remote, id, reserved, direction)
    }

    pub(super) fn connect_from(
        &mut self,
        remote: PeerAddr,
        id: u8,
        reserved: Reserved,
        direction: Direction,
    ) -> PeerKey {
        let key = PeerKey(self.next_peer);
        self.next_peer += 1;
        let handshake = Handshake {
            info_hash: info_hash(self.torrent),
            peer_id: PeerId::new([id; 20]),
            reserved,
        };
        self.tell(Event::PeerConnected {
            peer: key,
            torrent: self.torrent,
            remote,
            direction,
            handshake,
        });
        key
    }

    pub(super) fn hear(&mut self, peer: PeerKey, message: Message) {
        self.tell(Event::PeerMessage { peer, message });
    }

    pub(super) fn block(&self, piece: u32, index: u32) -> Block {
        self.layout.block(piece, index * BLOCK, BLOCK).unwrap()
    }

    pub(super) fn receive(&mut self, peer: PeerKey, block: Block) {
        let run = self.layout.run_of(block);
        let bufs = vec![BlockBuf::phantom(block.len(), 1)];
        self.tell(Event::Received { peer, run, bufs });
    }

    /// Blocks requested from this peer since the last call, and not cancelled.
    pub(super) fn requested(&mut self, peer: PeerKey) -> Vec<Block> {
        let layout = Arc::clone(&self.layout);
        let runs = self.take(|action| match action {
            Action::Request { peer: to, run } if *to == peer => Some(*run),
            _ => None,
        });
        runs.into_iter()
            .flat_map(|run| layout.run_blocks(run).collect::<Vec<_>>())
            .collect()
    }

    pub(super) fn served(&mut self, peer: PeerKey) -> Vec<Run> {
        self.take(|action| match action {
            Action::Serve { peer: to, run } if *to == peer => Some(*run),
            _ => None,
        })
    }

    pub(super) fn sent(&mut self, peer: PeerKey) -> Vec<Message> {
        self.take(|action| match action {
            Action::Send { peer: to, message } if *to == peer => Some(message.clone()),
            _ => None,
        })
    }

    /// Removes the actions that `wanted` picks, and returns what it made of them.
    pub(super) fn take<T>(&mut self, wanted: impl Fn(&Action) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.actions.retain(|action| match wanted(action) {
            Some(value) => {
                taken.push(value);
                false
            }
            None => true,
        });
        taken
    }

    pub(super) fn is_closed(&self, peer: PeerKey) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Close { peer: closed, .. } if *closed == peer))
    }
}

fn info_hash(torrent: TorrentKey) -> InfoHash {
    InfoHash::new([torrent.0 as u8; 20])
}

pub(super) fn addr(peer: PeerKey) -> PeerAddr {
    PeerAddr::Tcp(([127, 0, 0, 1], 1000 + peer.0 as u16).into())
}

pub(super) fn request_of(block: Block) -> Request {
    Request {
        piece: block.piece().get(),
        begin: block.offset(),
        len: block.len(),
    }
}

/// Everything is here from the start.
pub(super) fn full(pieces: u32) -> Resume {
    Resume {
        written: Bitfield::full(pieces),
        ..Resume::empty(pieces)
    }
}

pub(super) fn unchoke(rig: &mut Rig, peer: PeerKey) {
    rig.hear(peer, Message::Unchoke);
}

/// Answers requests until the peer is asked for nothing more.
pub(super) fn deliver_everything(rig: &mut Rig, peer: PeerKey) {
    loop {
        let blocks = rig.requested(peer);
        if blocks.is_empty() {
            return;
        }
        blocks
            .into_iter()
            .for_each(|block| rig.receive(peer, block));
    }
}
