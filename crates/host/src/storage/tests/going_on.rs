use super::*;

#[test]
fn after_a_crash_in_the_same_boot_what_was_saved_is_trusted_without_reading() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 3]);
    drop(prepared);
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0, 3]);
    assert_eq!(pieces(&prepared.resume.synced), Vec::<u32>::new());
    assert_eq!(checked, 0);
}

#[test]
fn what_was_written_after_the_last_save_is_checked_and_the_rest_is_not_read() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    // As if the process were killed between the write and the save.
    let saved = std::fs::read(state_path(&fixture)).unwrap();
    write(&fixture, &mut prepared, &[1]);
    drop(prepared);
    std::fs::write(state_path(&fixture), saved).unwrap();
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0, 1]);
    assert_eq!(checked, 16 * KIB as u64);
}

#[test]
fn what_was_half_written_after_the_last_save_is_not_believed() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    let saved = std::fs::read(state_path(&fixture)).unwrap();
    write(&fixture, &mut prepared, &[1]);
    drop(prepared);
    std::fs::write(state_path(&fixture), saved).unwrap();
    let opened = File::options().write(true).open(fixture.path("t/a.part"));
    std::os::unix::fs::FileExt::write_all_at(&opened.unwrap(), &[0; KIB], 20 * KIB as u64).unwrap();
    let (prepared, _) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0]);
}

#[test]
fn after_another_boot_only_what_was_synced_is_trusted_and_the_rest_is_checked() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 3]);
    drop(prepared);
    edit_state(&fixture, |saved| {
        saved.boot_id = String::from("another");
        saved.resume.synced.set(0);
        saved.resume.downloaded = 17;
    });
    // The power cut took the bytes of piece 1.
    let mut bytes = std::fs::read(fixture.path("t/a.part")).unwrap();
    bytes[20 * KIB] ^= 1;
    let opened = File::options().write(true).open(fixture.path("t/a.part"));
    std::os::unix::fs::FileExt::write_all_at(&opened.unwrap(), &bytes, 0).unwrap();
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0, 3]);
    assert_eq!(pieces(&prepared.resume.synced), [0]);
    assert_eq!(prepared.resume.downloaded, 17);
    assert_eq!(checked, 32 * KIB as u64);
}

#[test]
fn a_file_that_lost_its_unsynced_tail_keeps_its_synced_pieces() {
    let fixture = single();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2]);
    drop(prepared);
    edit_state(&fixture, |saved| {
        saved.boot_id = String::from("another");
        saved.resume.synced.set(0);
    });
    let opened = File::options().write(true).open(fixture.path("f.part"));
    opened.unwrap().set_len(20 * KIB as u64).unwrap();
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0]);
    assert_eq!(checked, 32 * KIB as u64);
}

#[test]
fn a_file_that_is_gone_loses_its_pieces() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2, 3]);
    drop(prepared);
    std::fs::remove_file(fixture.path("t/a.part")).unwrap();
    let (prepared, _) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [3]);
}

#[test]
fn a_file_that_was_cut_is_checked_again() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2, 3]);
    drop(prepared);
    let opened = File::options().write(true).open(fixture.path("t/a.part"));
    opened.unwrap().set_len(20 * KIB as u64).unwrap();
    let (prepared, _) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0, 3]);
}

#[test]
fn a_file_that_was_replaced_is_checked_again() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2, 3]);
    drop(prepared);
    let path = fixture.path("t/a.part");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(fixture.path("other"), bytes).unwrap();
    std::fs::rename(fixture.path("other"), &path).unwrap();
    let (prepared, _) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [1, 2, 3]);
}

#[test]
fn a_complete_file_that_somebody_edited_is_checked_again_and_loses_its_final_name() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2]);
    prepared.storage.complete_file(0).unwrap();
    prepared.storage.save(&prepared.resume).unwrap();
    drop(prepared);
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(
        (pieces(&prepared.resume.written), checked),
        (vec![0, 1, 2], 0)
    );
    drop(prepared);
    let mut bytes = fixture.file(0).to_vec();
    bytes[0] ^= 1;
    let opened = File::options().write(true).open(fixture.path("t/a"));
    let opened = opened.unwrap();
    std::os::unix::fs::FileExt::write_all_at(&opened, &bytes, 0).unwrap();
    opened.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (prepared, _) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [1, 2]);
    assert_eq!(fixture.visible()[0], "t/a.part 40960");
}

#[test]
fn a_crash_between_the_rename_and_the_save_loses_nothing() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2]);
    drop(prepared);
    std::fs::rename(fixture.path("t/a.part"), fixture.path("t/a")).unwrap();
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(
        (pieces(&prepared.resume.written), checked),
        (vec![0, 1, 2], 0)
    );
}

#[test]
fn a_crash_before_the_rename_is_made_up_for() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2]);
    drop(prepared);
    fixture.download().unwrap();
    let names = fixture.visible();
    assert_eq!(names, ["t/a 40960", "t/empty 0", "t/sub/b.part 8192"]);
}

#[test]
fn a_started_download_without_one_whole_piece_goes_on() {
    let fixture = single();
    drop(fixture.download().unwrap());
    std::fs::write(fixture.path("f.part"), [1; 100]).unwrap();
    let prepared = fixture.download().unwrap();
    assert_eq!(prepared.resume.written.count_ones(), 0);
}

#[test]
fn bytes_of_an_earlier_run_are_synced_before_they_are_called_synced() {
    let fixture = single();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    drop(prepared);
    let prepared = fixture.download().unwrap();
    assert!(prepared.storage.stored(0).dirty);
    prepared.storage.sync().unwrap();
    assert!(!prepared.storage.stored(0).dirty);
}

#[test]
fn a_process_that_is_killed_leaves_no_lock_and_nothing_to_check() {
    let temp = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::tests::going_on::dies_with_half_of_it"])
        .env(KILLED_IN, temp.path())
        .output()
        .unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&output.status),
        Some(9)
    );
    let fixture = to_be_killed(temp.path());
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!(pieces(&prepared.resume.written), [0, 1, 5]);
    assert_eq!(checked, 0);
}

/// Only in the process that the test above starts.
#[test]
fn dies_with_half_of_it() {
    let Some(top) = std::env::var_os(KILLED_IN) else {
        return;
    };
    let fixture = to_be_killed(Path::new(&top));
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 5]);
    let locked = fixture.download().unwrap_err();
    assert!(matches!(locked, StorageError::Locked { .. }));
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

fn to_be_killed(top: &Path) -> Fixture {
    Fixture::at(top, 16 * 1024, &[("t/a", 70 * KIB), ("t/b", 70 * KIB)])
}

/// Tells the process that is killed where to work.
const KILLED_IN: &str = "DUNLIN_TEST_KILLED_IN";
