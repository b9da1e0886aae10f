use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use dunlin_engine::event::DiskErrorKind;
use dunlin_engine::resume::Resume;
use dunlin_hash::sha1;
use dunlin_metainfo::{BLOCK_LEN, Block, PieceIndex, Sha1Digest};
use dunlin_proto::buf::BufPool;

use super::*;
use crate::storage::fixture::Fixture;
use crate::storage::{PrepareMode, Prepared};

mod any_order;
mod faults;

const TORRENT: TorrentKey = TorrentKey(3);
const MIB: usize = 1024 * 1024;

/// A disk with one torrent, driven by hand.
struct Rig {
    fixture: Fixture,
    disk: Disk,
    pool: BufPool,
    wakes: Arc<(Mutex<u32>, Condvar)>,
    next_job: u64,
    done: BTreeMap<JobId, DiskResult>,
    /// The order in which jobs were answered.
    order: Vec<JobId>,
}

impl Rig {
    fn new(fixture: Fixture) -> Self {
        Self::with(fixture, 1, 64 * MIB as u64)
    }

    fn with(fixture: Fixture, workers: usize, hold_bytes_max: u64) -> Self {
        let Prepared { storage, .. } = fixture.download().unwrap();
        let wakes = Arc::new((Mutex::new(0), Condvar::new()));
        let wake = Arc::clone(&wakes);
        let config = DiskConfig {
            workers,
            hold_bytes_max,
        };
        let mut disk = Disk::start(
            config,
            Arc::new(move || {
                *wake.0.lock().unwrap() += 1;
                wake.1.notify_all();
            }),
        )
        .unwrap();
        disk.add(TORRENT, storage);
        Self {
            fixture,
            disk,
            pool: BufPool::new(100_000),
            wakes,
            next_job: 0,
            done: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn index(&self, piece: u32) -> PieceIndex {
        self.fixture.content.layout.piece(piece).unwrap()
    }

    fn blocks(&self, piece: u32) -> Vec<Block> {
        let layout = &self.fixture.content.layout;
        layout.blocks(self.index(piece)).collect()
    }

    fn submit(&mut self, op: DiskOp) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.disk.submit(DiskJob {
            id,
            torrent: TORRENT,
            op,
        });
        id
    }

    /// Gives blocks as one run; `lie` is xored into every byte.
    fn give(&mut self, piece: u32, first: u16, count: u16, lie: u8) -> JobId {
        let layout = Arc::clone(&self.fixture.content.layout);
        let run = layout.run(self.index(piece), first, count).unwrap();
        let bufs = layout
            .run_blocks(run)
            .map(|block| {
                let mut buf = self.pool.take(block.len()).unwrap();
                let at = block.offset() as usize;
                let bytes = &self.fixture.piece(piece)[at..at + block.len() as usize];
                for (to, from) in buf.bytes_mut().iter_mut().zip(bytes) {
                    *to = from ^ lie;
                }
                buf
            })
            .collect();
        self.submit(DiskOp::Write { run, bufs })
    }

    fn give_all(&mut self, piece: u32) -> Vec<JobId> {
        let count = self.blocks(piece).len() as u16;
        (0..count).map(|at| self.give(piece, at, 1, 0)).collect()
    }

    fn finish(&mut self, piece: u32, block_digests: bool) -> JobId {
        let expect = self.fixture.content.digests[piece as usize];
        let piece = self.index(piece);
        self.submit(DiskOp::Finish {
            piece,
            expect,
            block_digests,
        })
    }

    /// Waits for the next reply of any kind.
    fn receive(&mut self) -> DiskReply {
        loop {
            let before = *self.wakes.0.lock().unwrap();
            if let Some(reply) = self.disk.try_recv() {
                return reply;
            }
            let wakes = self.wakes.0.lock().unwrap();
            let (_wakes, timeout) = self
                .wakes
                .1
                .wait_timeout_while(wakes, Duration::from_secs(60), |wakes| *wakes == before)
                .unwrap();
            assert!(!timeout.timed_out(), "no reply came");
        }
    }

    fn note(&mut self, reply: DiskReply) {
        match reply {
            DiskReply::Done {
                job,
                torrent,
                result,
                bufs,
            } => {
                assert_eq!(torrent, TORRENT);
                bufs.into_iter().for_each(|buf| self.pool.give(buf));
                assert!(self.done.insert(job, result).is_none(), "{job:?} twice");
                self.order.push(job);
            }
            DiskReply::Read { .. } => panic!("nobody reads"),
        }
    }

    /// The result of a job, waited for.
    fn result(&mut self, job: JobId) -> &DiskResult {
        while !self.done.contains_key(&job) {
            let reply = self.receive();
            self.note(reply);
        }
        &self.done[&job]
    }

    /// Waits until everything submitted before is worked on, by a job that holds nothing up.
    fn settle(&mut self, piece: u32) {
        let piece = self.index(piece + 1);
        let job = self.submit(DiskOp::Forget { piece });
        assert!(matches!(self.result(job), DiskResult::Forgotten { .. }));
    }

    fn is_done(&self, job: JobId) -> bool {
        self.done.contains_key(&job)
    }

    fn expect_good(&mut self, piece: u32) -> Vec<Sha1Digest> {
        let job = self.finish(piece, false);
        let DiskResult::Good { block_digests, .. } = self.result(job) else {
            panic!("{:?}", self.done[&job]);
        };
        block_digests.clone()
    }

    fn read(&mut self, piece: u32, first: u16, count: u16) -> Result<Vec<u8>, DiskError> {
        let layout = Arc::clone(&self.fixture.content.layout);
        let run = layout.run(self.index(piece), first, count).unwrap();
        let bufs = layout
            .run_blocks(run)
            .map(|block| self.pool.take(block.len()).unwrap())
            .collect();
        self.disk.read(ReadJob {
            torrent: TORRENT,
            run,
            tag: 99,
            bufs,
        });
        loop {
            match self.receive() {
                DiskReply::Read {
                    tag, bufs, result, ..
                } => {
                    assert_eq!(tag, 99);
                    let bytes = bufs.iter().flat_map(|buf| buf.bytes().to_vec()).collect();
                    bufs.into_iter().for_each(|buf| self.pool.give(buf));
                    return result.map(|()| bytes);
                }
                reply => self.note(reply),
            }
        }
    }

    /// The bytes of a file of the torrent as they lie on the disk.
    fn on_disk(&self, relative: &str) -> Vec<u8> {
        std::fs::read(self.fixture.path(relative)).unwrap()
    }
}

fn one_file(piece_len: usize, len: usize) -> Fixture {
    Fixture::new(piece_len as u32, &[("f", len)])
}

#[test]
fn a_whole_torrent_is_written_named_and_read_back() {
    let fixture = Fixture::new(
        32 * 1024,
        &[("t/a", 100_000), ("t/empty", 0), ("t/sub/b.sh", 40_001)],
    );
    let mut rig = Rig::with(fixture, 2, 64 * MIB as u64);
    let pieces = rig.fixture.content.layout.pieces();
    for piece in (0..pieces).rev() {
        rig.give_all(piece);
        rig.expect_good(piece);
    }
    assert_eq!(
        rig.fixture.visible(),
        ["t/a.part 100000", "t/empty 0", "t/sub/b.sh.part 40001"]
    );
    for file in 0..3 {
        let job = rig.submit(DiskOp::CompleteFile { file });
        assert!(matches!(rig.result(job), DiskResult::FileCompleted { .. }));
    }
    assert_eq!(
        rig.fixture.visible(),
        ["t/a 100000", "t/empty 0", "t/sub/b.sh 40001"]
    );
    for piece in 0..pieces {
        let count = rig.blocks(piece).len() as u16;
        assert_eq!(rig.read(piece, 0, count).unwrap(), rig.fixture.piece(piece));
    }
    assert_eq!(rig.pool.out(), 0, "every buffer came home");
    let job = rig.submit(DiskOp::Sync);
    assert!(matches!(rig.result(job), DiskResult::Synced));
    let job = rig.submit(DiskOp::RemoveResume);
    assert!(matches!(rig.result(job), DiskResult::ResumeRemoved));
    assert_eq!(rig.fixture.listing(), rig.fixture.visible());
}

#[test]
fn a_short_piece_is_not_written_before_it_verified() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 10 * BLOCK_LEN as usize));
    let jobs = rig.give_all(0);
    rig.settle(0);
    assert!(jobs.iter().all(|&job| !rig.is_done(job)));
    assert_eq!(rig.on_disk("f.part"), b"");
    rig.expect_good(0);
    let last = rig.order.len() - 1;
    assert!(jobs.iter().all(|job| rig.order[..last].contains(job)));
    assert_eq!(rig.on_disk("f.part"), rig.fixture.piece(0));
}

#[test]
fn a_bad_piece_leaves_the_disk_as_it_was_and_names_the_wrong_block() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 4 * BLOCK_LEN as usize));
    let mut jobs = vec![rig.give(0, 0, 2, 0)];
    jobs.push(rig.give(0, 3, 1, 0));
    jobs.push(rig.give(0, 2, 1, 0x40));
    let finish = rig.finish(0, false);
    let DiskResult::Bad { block_digests, .. } = rig.result(finish) else {
        panic!()
    };
    let block_digests = block_digests.clone();
    assert_eq!(block_digests.len(), 4);
    let right: Vec<Sha1Digest> = rig
        .fixture
        .piece(0)
        .chunks(BLOCK_LEN as usize)
        .map(sha1)
        .collect();
    let wrong: Vec<usize> = (0..4)
        .filter(|&at| right[at] != block_digests[at])
        .collect();
    assert_eq!(wrong, [2]);
    for job in jobs {
        assert!(matches!(rig.done[&job], DiskResult::Written { .. }));
    }
    assert_eq!(rig.on_disk("f.part"), b"");
    assert_eq!(rig.pool.out(), 0);
    rig.give_all(0);
    let finish = rig.finish(0, true);
    let DiskResult::Good { block_digests, .. } = rig.result(finish) else {
        panic!()
    };
    assert_eq!(*block_digests, right);
}

// Long pieces and the memory budget.

#[test]
fn a_long_piece_is_written_as_the_hash_passes_over_it() {
    let mut rig = Rig::new(one_file(2 * MIB, 3 * MIB));
    let early = rig.give(0, 8, 2, 0);
    let three = rig.give(0, 0, 3, 0);
    rig.settle(0);
    assert!(!rig.is_done(early) && !rig.is_done(three));
    let fourth = rig.give(0, 3, 1, 0);
    rig.settle(0);
    assert!(rig.is_done(three) && rig.is_done(fourth) && !rig.is_done(early));
    let on_disk = rig.on_disk("f.part");
    assert_eq!(on_disk, &rig.fixture.piece(0)[..4 * BLOCK_LEN as usize]);
    rig.give(0, 4, 4, 0);
    for first in (10..128).step_by(2) {
        rig.give(0, first, 2, 0);
    }
    rig.expect_good(0);
    assert_eq!(rig.on_disk("f.part"), rig.fixture.piece(0));
    assert_eq!(rig.pool.out(), 0);
}

#[test]
fn a_long_bad_piece_names_its_wrong_blocks_although_they_are_written() {
    let mut rig = Rig::new(one_file(2 * MIB, 2 * MIB));
    for first in (0..128).step_by(16) {
        rig.give(0, first, 16, if first == 32 { 1 } else { 0 });
    }
    let finish = rig.finish(0, false);
    let DiskResult::Bad { block_digests, .. } = rig.result(finish) else {
        panic!()
    };
    let block_digests = block_digests.clone();
    let right = rig.fixture.piece(0).chunks(BLOCK_LEN as usize).map(sha1);
    let wrong: Vec<usize> = right
        .zip(&block_digests)
        .enumerate()
        .filter_map(|(at, (right, got))| (right != *got).then_some(at))
        .collect();
    assert_eq!(wrong, (32..48).collect::<Vec<_>>());
    rig.give_all(0);
    rig.expect_good(0);
    assert_eq!(rig.on_disk("f.part"), rig.fixture.piece(0));
}

#[test]
fn above_the_budget_the_oldest_piece_is_written_and_read_back() {
    let block = BLOCK_LEN as usize;
    let mut rig = Rig::with(one_file(4 * block, 16 * block), 1, 5 * u64::from(BLOCK_LEN));
    // Out of order, so that the hash has not reached what is spilled.
    let oldest = [rig.give(0, 1, 1, 0), rig.give(0, 3, 1, 0)];
    let newer = rig.give(1, 0, 3, 0);
    rig.settle(2);
    assert!(oldest.iter().all(|&job| !rig.is_done(job)));
    let last = rig.give(2, 0, 2, 0);
    rig.settle(2);
    assert!(oldest.iter().all(|&job| rig.is_done(job)));
    assert!(!rig.is_done(newer) && !rig.is_done(last));
    assert_eq!(rig.on_disk("f.part").len(), 4 * block);
    assert_eq!(
        rig.on_disk("f.part")[3 * block..],
        rig.fixture.piece(0)[3 * block..]
    );
    rig.give(0, 0, 1, 0);
    rig.give(0, 2, 1, 0);
    rig.expect_good(0);
    rig.give(1, 3, 1, 0);
    rig.expect_good(1);
    rig.give(2, 2, 2, 0);
    rig.expect_good(2);
    assert_eq!(rig.on_disk("f.part"), rig.fixture.bytes[..12 * block]);
    assert_eq!(rig.pool.out(), 0);
}

#[test]
fn what_was_spilled_and_spoiled_on_the_disk_does_not_verify() {
    let block = BLOCK_LEN as usize;
    let mut rig = Rig::with(one_file(4 * block, 8 * block), 1, 0);
    rig.give(0, 1, 3, 0);
    rig.settle(0);
    let path = rig.fixture.path("f.part");
    let opened = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&opened, b"spoiled", 2 * block as u64).unwrap();
    rig.give(0, 0, 1, 0);
    let finish = rig.finish(0, false);
    assert!(matches!(rig.result(finish), DiskResult::Bad { .. }));
}

// Odd orders.

#[test]
fn forgetting_a_piece_answers_its_writes_and_lets_it_begin_anew() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 8 * BLOCK_LEN as usize));
    let given = rig.give(0, 0, 3, 1);
    let piece = rig.index(0);
    let forget = rig.submit(DiskOp::Forget { piece });
    assert!(matches!(rig.result(forget), DiskResult::Forgotten { .. }));
    let bytes = 3 * BLOCK_LEN;
    assert!(matches!(rig.result(given), DiskResult::Written { bytes: b } if *b == bytes));
    assert_eq!(rig.pool.out(), 0);
    rig.give_all(0);
    rig.expect_good(0);
}

#[test]
fn of_a_block_that_comes_twice_the_first_counts() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 4 * BLOCK_LEN as usize));
    rig.give(0, 0, 2, 0);
    let again = rig.give(0, 1, 1, 0xff);
    assert!(matches!(rig.result(again), DiskResult::Written { .. }));
    let overlap = rig.give(0, 1, 3, 0);
    rig.expect_good(0);
    assert!(rig.is_done(overlap));
    assert_eq!(rig.on_disk("f.part"), rig.fixture.bytes);
    assert_eq!(rig.pool.out(), 0);
}

#[test]
fn finishing_a_piece_that_is_not_whole_fails_and_forgets_it() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 4 * BLOCK_LEN as usize));
    let given = rig.give(0, 0, 3, 0);
    let finish = rig.finish(0, false);
    assert!(matches!(rig.result(finish), DiskResult::Failed { .. }));
    assert!(matches!(
        rig.result(given),
        DiskResult::Failed { bytes: 49_152, .. }
    ));
    assert_eq!(rig.pool.out(), 0);
    rig.give_all(0);
    rig.expect_good(0);
}

#[test]
fn jobs_of_a_removed_torrent_are_answered_and_its_data_is_free() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 8 * BLOCK_LEN as usize));
    let held = rig.give(0, 0, 2, 0);
    rig.settle(0);
    rig.disk.remove(TORRENT);
    assert!(matches!(rig.result(held), DiskResult::Written { .. }));
    let late = rig.give(0, 2, 1, 0);
    assert!(matches!(
        rig.result(late),
        DiskResult::Failed { bytes: 16_384, .. }
    ));
    rig.read(0, 0, 1).unwrap_err();
    assert_eq!(rig.pool.out(), 0);
    let Rig { disk, fixture, .. } = rig;
    drop(disk);
    fixture.download().unwrap();
}

#[test]
fn what_was_submitted_is_done_before_the_disk_goes() {
    let mut rig = Rig::new(one_file(4 * BLOCK_LEN as usize, 4 * BLOCK_LEN as usize));
    rig.give_all(0);
    rig.finish(0, false);
    let Rig { disk, fixture, .. } = rig;
    drop(disk);
    assert_eq!(
        std::fs::read(fixture.path("f.part")).unwrap(),
        fixture.bytes
    );
}

// Padding and many files.

#[test]
fn padding_counts_as_zeros_and_is_never_written() {
    let block = BLOCK_LEN as usize;
    let fixture = || {
        let pad = ("t/.pad/1", 3 * block - 100);
        Fixture::new(4 * BLOCK_LEN, &[("t/a", block + 100), pad, ("t/b", 10)])
    };
    for budget in [0, 64 * MIB as u64] {
        let mut rig = Rig::with(fixture(), 2, budget);
        // Only what holds bytes of a file is sent by peers.
        rig.give(0, 1, 1, 0);
        rig.give(0, 0, 1, 0);
        let finish = rig.finish(0, true);
        let DiskResult::Good { block_digests, .. } = rig.result(finish) else {
            panic!()
        };
        let right: Vec<Sha1Digest> = fixture().piece(0).chunks(block).map(sha1).collect();
        assert_eq!(*block_digests, right);
        rig.give_all(1);
        rig.expect_good(1);
        let on_disk = [
            format!("t/a.part {}", block + 100),
            String::from("t/b.part 10"),
        ];
        assert_eq!(rig.fixture.visible(), on_disk);
        assert_eq!(rig.read(0, 0, 4).unwrap(), fixture().piece(0));
    }
}

#[test]
fn nonzero_padding_from_a_peer_does_not_verify() {
    let block = BLOCK_LEN as usize;
    let fixture = Fixture::new(
        2 * BLOCK_LEN,
        &[("t/a", 100), ("t/.pad/1", 2 * block - 100)],
    );
    let mut rig = Rig::new(fixture);
    rig.give(0, 0, 1, 1);
    let finish = rig.finish(0, false);
    assert!(matches!(rig.result(finish), DiskResult::Bad { .. }));
}

#[test]
fn a_piece_of_many_files_is_written_with_few_files_open() {
    let names: Vec<String> = (0..300).map(|file| format!("t/{file:03}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    let mut rig = Rig::new(Fixture::new(256 * 1024, &files));
    for piece in 0..2 {
        rig.give_all(piece);
        rig.expect_good(piece);
    }
    let dir = rig.fixture.dir().join("t");
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(&dir) && *target != dir)
        .count();
    assert!((1..=64).contains(&open), "{open} files are open");
    for file in [0, 299] {
        let bytes = rig.on_disk(&format!("t/{file:03}.part"));
        assert_eq!(bytes, rig.fixture.file(file));
    }
}
