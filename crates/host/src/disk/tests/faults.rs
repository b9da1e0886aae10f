use super::*;

#[test]
fn a_write_that_fails_answers_every_job_and_the_piece_begins_anew_after_the_repair() {
    let block = BLOCK_LEN as usize;
    let mut rig = Rig::new(Fixture::new(4 * BLOCK_LEN, &[("t/sub/a", 8 * block)]));
    std::fs::create_dir(rig.fixture.outside()).unwrap();
    let link = rig.fixture.path("t/sub");
    std::os::unix::fs::symlink(rig.fixture.outside(), &link).unwrap();
    let jobs = rig.give_all(0);
    let finish = rig.finish(0, false);
    let DiskResult::Failed { error, bytes: 0 } = rig.result(finish) else {
        panic!()
    };
    assert_eq!(error.path, link);
    for job in jobs {
        assert!(matches!(
            rig.result(job),
            DiskResult::Failed {
                bytes: BLOCK_LEN,
                ..
            }
        ));
    }
    assert_eq!(rig.pool.out(), 0);
    assert_eq!(std::fs::read_dir(rig.fixture.outside()).unwrap().count(), 0);
    std::fs::remove_file(link).unwrap();
    let piece = rig.index(0);
    rig.submit(DiskOp::Forget { piece });
    rig.give_all(0);
    rig.expect_good(0);
    assert_eq!(rig.on_disk("t/sub/a.part"), rig.fixture.piece(0));
}

#[test]
fn a_spill_that_fails_fails_the_spilled_piece_and_its_finish_not_the_other() {
    let block = BLOCK_LEN as usize;
    let fixture = Fixture::new(4 * BLOCK_LEN, &[("t/sub/a", 4 * block), ("t/b", 4 * block)]);
    let mut rig = Rig::with(fixture, 1, 4 * u64::from(BLOCK_LEN));
    std::fs::write(rig.fixture.path("t/sub"), "in the way").unwrap();
    let spilled = rig.give(0, 0, 3, 0);
    let other = rig.give(1, 0, 3, 0);
    assert!(matches!(
        rig.result(spilled),
        DiskResult::Failed { bytes: 49_152, .. }
    ));
    let message = {
        let finish = rig.finish(0, false);
        let DiskResult::Failed { error, .. } = rig.result(finish) else {
            panic!()
        };
        error.to_string()
    };
    assert!(message.contains("t/sub: not a folder"), "{message}");
    assert!(!rig.is_done(other));
    rig.give(1, 3, 1, 0);
    rig.expect_good(1);
}

#[test]
fn reading_what_somebody_cut_or_replaced_is_an_error_not_wrong_bytes() {
    let block = BLOCK_LEN as usize;
    let fixture = one_file(4 * block, 4 * block);
    fixture.put_all();
    let mut rig = Rig::new(fixture);
    assert_eq!(
        rig.read(0, 1, 2).unwrap(),
        rig.fixture.bytes[block..3 * block]
    );
    let path = rig.fixture.path("f");
    let opened = std::fs::File::options().write(true).open(&path).unwrap();
    opened.set_len(2 * block as u64).unwrap();
    let error = rig.read(0, 1, 2).unwrap_err();
    assert_eq!((error.kind, &error.path), (DiskErrorKind::Changed, &path));
    assert_eq!(rig.pool.out(), 0);

    let fixture = one_file(4 * block, 4 * block);
    fixture.put_all();
    let mut rig = Rig::new(fixture);
    rig.fixture.put("g", &rig.fixture.bytes);
    std::fs::rename(rig.fixture.path("g"), rig.fixture.path("f")).unwrap();
    let error = rig.read(0, 0, 1).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Changed);
}

#[test]
fn what_was_never_written_is_not_read_as_zeros() {
    let block = BLOCK_LEN as usize;
    let mut rig = Rig::new(one_file(4 * block, 8 * block));
    let error = rig.read(1, 0, 1).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Changed);
}

#[test]
fn seeding_reads_and_refuses_to_write() {
    let block = BLOCK_LEN as usize;
    let mut rig = Rig::new(one_file(4 * block, 4 * block));
    rig.disk.remove(TORRENT);
    let fixture = one_file(4 * block, 4 * block);
    fixture.put_all();
    let seed = PrepareMode::Seed { check: true };
    let Prepared { storage, .. } = fixture.prepare(seed, &[]).unwrap();
    rig.disk.add(TORRENT, storage);
    assert_eq!(rig.read(0, 0, 4).unwrap(), fixture.bytes);
    let jobs = rig.give_all(0);
    let finish = rig.finish(0, false);
    assert!(matches!(rig.result(finish), DiskResult::Failed { .. }));
    assert!(matches!(rig.result(jobs[0]), DiskResult::Failed { .. }));
}

// Claims.

#[test]
fn what_resume_data_claim_is_in_the_files_when_they_are_saved() {
    let block = BLOCK_LEN as usize;
    let fixture = Fixture::new(
        4 * BLOCK_LEN,
        &[("t/a", 21 * block), ("t/b", 11 * block + 5)],
    );
    let mut rig = Rig::with(fixture, 2, 12 * u64::from(BLOCK_LEN));
    let pieces = rig.fixture.content.layout.pieces();
    let mut resume = Resume::empty(pieces);
    for piece in 0..pieces - 1 {
        // Half of the next piece is under way, and must not be claimed.
        rig.give(piece + 1, 0, 1, 0);
        let begun = if piece == 0 { 0 } else { 1 };
        rig.give(piece, begun, 4 - begun, 0);
        rig.expect_good(piece);
        resume.written.set(piece);
        let save = rig.submit(DiskOp::SaveResume(Box::new(resume.clone())));
        assert!(matches!(rig.result(save), DiskResult::ResumeSaved));
        let lens = (0..2).map(|file| rig.fixture.file(file).len());
        let mut all = Vec::new();
        for (name, len) in ["t/a.part", "t/b.part"].into_iter().zip(lens) {
            let mut bytes = std::fs::read(rig.fixture.path(name)).unwrap_or_default();
            bytes.resize(len, 0);
            all.extend(bytes);
        }
        for claimed in resume.written.iter_ones() {
            let start = claimed as usize * 4 * block;
            let end = all.len().min(start + 4 * block);
            assert_eq!(
                all[start..end],
                *rig.fixture.piece(claimed),
                "piece {claimed}"
            );
        }
    }
    // The process dies with a piece in memory.
    let Rig { disk, fixture, .. } = rig;
    drop(disk);
    let prepared = fixture.download().unwrap();
    assert_eq!(prepared.resume.written, resume.written);
}

#[test]
fn a_full_disk_is_an_error_with_the_bytes_wanted_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$TMPDIR\" && exec \"$0\" --exact \
                  disk::tests::faults::on_a_disk_of_one_mebibyte";
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("TMPDIR", temp.path())
        .env(SMALL_DISK, "yes")
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            assert!(output.status.success(), "{output:?}");
        }
        other => eprintln!("SKIPPED: no small file system can be mounted here: {other:?}"),
    }
}

/// Only in the process that the test above starts.
#[test]
fn on_a_disk_of_one_mebibyte() {
    if std::env::var_os(SMALL_DISK).is_none() {
        return;
    }
    let mut rig = Rig::with(one_file(128 * 1024, 4 * MIB), 1, 0);
    let ballast = rig.fixture.put("ballast", &vec![0; 512 * 1024]);
    let mut resume = Resume::empty(32);
    let mut failed = None;
    for piece in 0..32 {
        let job = rig.give(piece, 0, 8, 0);
        let result = rig.result(job);
        if let DiskResult::Failed { error, bytes } = result {
            assert_eq!(*bytes, 128 * 1024);
            failed = Some((piece, error.clone()));
            break;
        }
        rig.expect_good(piece);
        resume.written.set(piece);
        let save = rig.submit(DiskOp::SaveResume(Box::new(resume.clone())));
        if let DiskResult::Failed { error, .. } = rig.result(save) {
            assert_eq!(error.kind, DiskErrorKind::Full);
            resume.written.clear(piece);
        }
    }
    let (piece, error) = failed.expect("4 MiB do not fit in 1 MiB");
    assert!((2..8).contains(&piece), "{piece}");
    assert_eq!(error.kind, DiskErrorKind::Full);
    assert_eq!(error.path, rig.fixture.path("f.part"));
    assert!(
        error.message.contains("131072 bytes were wanted"),
        "{error}"
    );
    std::fs::remove_file(ballast).unwrap();
    let index = rig.index(piece);
    rig.submit(DiskOp::Forget { piece: index });
    rig.give_all(piece);
    rig.expect_good(piece);
    // In no resume data, but in the file.
    resume.written.set(piece);
    let Rig { disk, fixture, .. } = rig;
    drop(disk);
    let prepared = fixture.download().unwrap();
    assert_eq!(prepared.resume.written, resume.written);
}

/// Says that the temporary folder is on a disk of 1 MiB.
const SMALL_DISK: &str = "DUNLIN_TEST_SMALL_DISK";
