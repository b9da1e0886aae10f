use super::*;
use crate::content::Content;
use dunlin_engine::TorrentKey;
use dunlin_metainfo::BLOCK_LEN;

struct Bench {
    content: Content,
    disk: Disk,
    next: u64,
}

impl Bench {
    fn new(write: WritePolicy) -> Self {
        let content = Content::new(4, 2 * BLOCK_LEN);
        let spec = DiskSpec {
            write,
            ..DiskSpec::default()
        };
        let disk = Disk::new(&content.layout, spec);
        Self {
            content,
            disk,
            next: 0,
        }
    }

    fn job(&mut self, op: DiskOp) -> Vec<(JobId, DiskResult)> {
        let id = JobId(self.next);
        self.next += 1;
        let torrent = TorrentKey(0);
        self.disk
            .submit(Instant::START, DiskJob { id, torrent, op });
        let mut done = Vec::new();
        self.disk.complete(&mut done);
        done
    }

    fn write(&mut self, piece: u32, block: u16, tag: u64) -> Vec<(JobId, DiskResult)> {
        let piece = self.content.layout.piece(piece).unwrap();
        let run = self.content.layout.run(piece, block, 1).unwrap();
        let bufs = vec![BlockBuf::phantom(BLOCK_LEN, tag)];
        self.job(DiskOp::Write { run, bufs })
    }

    fn finish(&mut self, piece: u32) -> Vec<(JobId, DiskResult)> {
        let index = self.content.layout.piece(piece).unwrap();
        self.job(DiskOp::Finish {
            piece: index,
            expect: self.content.piece_digests[piece as usize],
            block_digests: false,
        })
    }
}

#[test]
fn a_piece_of_honest_blocks_is_good_and_stays() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    for block in 0..2 {
        let done = bench.write(1, block, honest_tag(1, block));
        assert!(matches!(
            done[..],
            [(_, DiskResult::Written { bytes: BLOCK_LEN })]
        ));
    }
    assert!(!bench.disk.has_piece(1));
    assert!(matches!(
        bench.finish(1)[..],
        [(_, DiskResult::Good { .. })]
    ));
    assert!(bench.disk.has_piece(1));
    bench.disk.crash();
    assert!(bench.disk.has_piece(1));
    let mut rng = Rng::new(1);
    bench.disk.power_cut(&mut rng);
    assert!(!bench.disk.has_piece(1));
    bench.disk.power_cut(&mut rng);
    assert!(!bench.disk.has_piece(1), "what is torn stays torn");
}

#[test]
fn a_power_cut_loses_tears_and_keeps_blocks_but_touches_nothing_synced() {
    let (mut kept, mut torn, mut lost) = (0, 0, 0);
    for seed in 0..30 {
        let mut bench = Bench::new(WritePolicy::AtOnce);
        for piece in [0, 1] {
            bench.write(piece, 0, honest_tag(piece, 0));
            bench.write(piece, 1, honest_tag(piece, 1));
            bench.finish(piece);
            if piece == 0 {
                bench.job(DiskOp::Sync);
            }
        }
        bench.disk.power_cut(&mut Rng::new(seed));
        assert!(bench.disk.has_piece(0));
        for block in [0, 1] {
            match bench.disk.tag(1, block) {
                Some(tag) if tag == honest_tag(1, block) => kept += 1,
                Some(_) => torn += 1,
                None => lost += 1,
            }
        }
    }
    assert!(kept > 5 && torn > 5 && lost > 5, "{kept} {torn} {lost}");
}

#[test]
fn a_flipped_bit_is_read_until_the_block_is_written_again() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    bench.write(0, 0, honest_tag(0, 0));
    bench.write(0, 1, honest_tag(0, 1));
    bench.finish(0);
    bench.disk.flip_bit(0, 1);
    assert!(bench.disk.has_piece(0), "nobody noticed");
    assert!(!bench.disk.reads_true(0));
    assert_eq!(bench.disk.tag(0, 0), Some(honest_tag(0, 0)));
    assert_ne!(bench.disk.tag(0, 1), Some(honest_tag(0, 1)));
    bench.write(0, 1, honest_tag(0, 1));
    assert!(bench.disk.reads_true(0));
}

#[test]
fn a_lie_is_bad_and_the_digests_name_its_block() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    bench.write(0, 0, honest_tag(0, 0));
    bench.write(0, 1, 4711);
    let done = bench.finish(0);
    let [(_, DiskResult::Bad { block_digests, .. })] = &done[..] else {
        panic!("{done:?}");
    };
    assert_eq!(block_digests[0], block_digest(honest_tag(0, 0)));
    assert_eq!(block_digests[1], block_digest(4711));
    assert!(!bench.disk.has_piece(0));
}

#[test]
fn held_writes_are_answered_when_their_piece_ends() {
    let mut bench = Bench::new(WritePolicy::AtFinish);
    assert!(bench.write(2, 0, honest_tag(2, 0)).is_empty());
    assert!(bench.write(2, 1, honest_tag(2, 1)).is_empty());
    assert_eq!(bench.disk.jobs_waiting(), 2);
    let done = bench.finish(2);
    assert!(matches!(
        done[..],
        [
            (JobId(0), DiskResult::Written { .. }),
            (JobId(1), DiskResult::Written { .. }),
            (JobId(2), DiskResult::Good { .. })
        ]
    ));
    assert!(bench.write(3, 0, 1).is_empty());
    let piece = bench.content.layout.piece(3).unwrap();
    assert_eq!(bench.job(DiskOp::Forget { piece }).len(), 2);
}

#[test]
fn a_claim_that_is_not_on_the_disk_is_a_complaint() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    let mut resume = Resume::empty(4);
    resume.written.set(3);
    bench.job(DiskOp::SaveResume(Box::new(resume)));
    bench.job(DiskOp::CompleteFile { file: 0 });
    assert!(bench.disk.complaints.len() >= 2);
}

#[test]
fn a_fault_fails_its_jobs_and_no_others() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    bench.disk.set_fault(Some(Fault {
        kind: DiskErrorKind::Full,
        from: 1,
        until: 2,
    }));
    let failed = |done: &[(JobId, DiskResult)]| matches!(done, [(_, DiskResult::Failed { .. })]);
    assert!(!failed(&bench.write(0, 0, honest_tag(0, 0))));
    assert!(failed(&bench.write(0, 1, honest_tag(0, 1))));
    assert!(failed(&bench.finish(0)), "its piece is lost");
    for block in 0..2 {
        assert!(!failed(&bench.write(0, block, honest_tag(0, block))));
    }
    assert!(!failed(&bench.finish(0)));
    assert!(bench.disk.has_piece(0));
}

#[test]
fn jobs_take_their_time_one_after_the_other() {
    let mut bench = Bench::new(WritePolicy::AtOnce);
    let job = |id| DiskJob {
        id: JobId(id),
        torrent: TorrentKey(0),
        op: DiskOp::Sync,
    };
    let first = bench.disk.submit(Instant::START, job(1));
    let second = bench.disk.submit(Instant::START, job(2));
    assert_eq!(first.as_micros(), 5_100);
    assert_eq!(second.as_micros(), 10_200);
}
