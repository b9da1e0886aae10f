use super::*;

#[test]
fn a_foreign_file_is_a_conflict_and_stays_as_it_was() {
    for name in ["f", "f.part"] {
        for size in [1, 50 * KIB, 60 * KIB] {
            let fixture = single();
            fixture.put(name, &vec![9; size]);
            let before = picture(&fixture.dir());
            let (path, _) = conflict(fixture.download());
            assert_eq!(path, fixture.path(name));
            assert_eq!(picture(&fixture.dir()), before);
        }
    }
}

#[test]
fn the_message_of_a_conflict_names_the_way_out() {
    let fixture = single();
    fixture.put("f", b"mine");
    let line = fixture.download().unwrap_err().to_string();
    assert!(line.contains("/in/f: "), "{line}");
    assert!(line.contains("--overwrite"), "{line}");
}

#[test]
fn one_foreign_file_of_a_folder_keeps_all_others_untouched() {
    let fixture = folder();
    fixture.put("t/a", fixture.file(0));
    fixture.put("t/sub/b", b"mine");
    let before = picture(&fixture.dir());
    let (path, reason) = conflict(fixture.download());
    assert_eq!(
        (path, reason),
        (fixture.path("t/sub/b"), ConflictReason::Foreign)
    );
    assert_eq!(picture(&fixture.dir()), before);
}

#[test]
fn complete_data_is_adopted_as_it_is() {
    let fixture = folder();
    fixture.put_all();
    let before = picture(&fixture.dir());
    let prepared = fixture.download().unwrap();
    assert!(prepared.adopted);
    assert!(prepared.resume.written.is_full());
    drop(prepared);
    assert_eq!(picture(&fixture.dir()), before);
}

#[test]
fn a_file_with_one_right_piece_is_adopted_and_goes_on_as_unfinished() {
    for name in ["f", "f.part"] {
        let fixture = single();
        let mut bytes = fixture.file(0)[..40 * KIB].to_vec();
        bytes[0] ^= 1;
        fixture.put(name, &bytes);
        let mut prepared = fixture.download().unwrap();
        assert!(prepared.adopted);
        assert_eq!(pieces(&prepared.resume.written), [1]);
        assert_eq!(fixture.visible(), ["f.part 40960"]);
        write(&fixture, &mut prepared, &[0, 2, 3]);
        prepared.storage.complete_file(0).unwrap();
        assert_eq!(std::fs::read(fixture.path("f")).unwrap(), fixture.file(0));
    }
}

#[test]
fn a_longer_file_is_never_cut_even_if_it_begins_right() {
    for name in ["f", "f.part"] {
        let fixture = single();
        let mut bytes = fixture.file(0).to_vec();
        bytes.push(1);
        fixture.put(name, &bytes);
        let before = picture(&fixture.dir());
        let expected = 50 * KIB as u64;
        let (path, reason) = conflict(fixture.download());
        assert_eq!(path, fixture.path(name));
        assert_eq!(reason, ConflictReason::TooLong { expected });
        assert_eq!(picture(&fixture.dir()), before);
    }
}

#[test]
fn overwriting_keeps_the_old_file_until_the_new_one_is_complete() {
    for size in [10, 50 * KIB, 70 * KIB] {
        let fixture = single();
        let old = vec![9; size];
        fixture.put("f", &old);
        let mut prepared = fixture.overwrite().unwrap();
        write(&fixture, &mut prepared, &[0, 1, 2]);
        assert_eq!(std::fs::read(fixture.path("f")).unwrap(), old);
        write(&fixture, &mut prepared, &[3]);
        prepared.storage.complete_file(0).unwrap();
        assert_eq!(fixture.visible(), ["f 51200"]);
        assert_eq!(std::fs::read(fixture.path("f")).unwrap(), fixture.file(0));
    }
}

#[test]
fn overwriting_cuts_an_unfinished_file_that_is_too_long_and_keeps_what_is_right() {
    let fixture = single();
    let mut bytes = fixture.file(0).to_vec();
    bytes[0] ^= 1;
    bytes.extend([1; 1000]);
    fixture.put("f.part", &bytes);
    let prepared = fixture.overwrite().unwrap();
    assert_eq!(pieces(&prepared.resume.written), [1, 2, 3]);
    assert_eq!(fixture.visible(), ["f.part 51200"]);
}

#[test]
fn overwriting_an_empty_file_of_the_torrent_replaces_what_is_there() {
    let fixture = folder();
    fixture.put("t/empty", b"not empty");
    let before = picture(&fixture.dir());
    conflict(fixture.download());
    assert_eq!(picture(&fixture.dir()), before);
    fixture.overwrite().unwrap();
    assert_eq!(fixture.visible(), ["t/empty 0"]);
}

#[test]
fn both_names_at_once_are_a_conflict() {
    let fixture = single();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    drop(prepared);
    fixture.put("f", b"mine");
    let (path, reason) = conflict(fixture.download());
    assert_eq!(
        (path, reason),
        (fixture.path("f"), ConflictReason::BothNames)
    );
    let prepared = fixture.overwrite().unwrap();
    assert_eq!(pieces(&prepared.resume.written), [0]);
    drop(prepared);

    let fixture = single();
    fixture.put("f", &fixture.file(0)[..20 * KIB]);
    fixture.put("f.part", b"mine");
    let (path, _) = conflict(fixture.download());
    assert_eq!(path, fixture.path("f.part"));
    assert_eq!(fixture.visible(), ["f 20480", "f.part 4"]);
}

#[test]
fn a_foreign_file_that_is_not_wanted_is_left_alone_and_not_written_to() {
    let fixture = folder();
    let mine = fixture.put("t/a", b"mine");
    let mut prepared = fixture.prepare(KEEP, &[false, false, true, false]).unwrap();
    write(&fixture, &mut prepared, &[2]);
    assert_eq!(std::fs::read(mine).unwrap(), b"mine");
    assert!(fixture.path("t/a.part").exists());
}

#[test]
fn a_rename_never_takes_the_place_of_a_file_that_came_meanwhile() {
    let fixture = single();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 1, 2, 3]);
    fixture.put("f", b"mine");
    let error = prepared.storage.complete_file(0).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Exists);
    assert_eq!(std::fs::read(fixture.path("f")).unwrap(), b"mine");
    std::fs::remove_file(fixture.path("f")).unwrap();
    prepared.storage.complete_file(0).unwrap();
    prepared.storage.complete_file(0).unwrap();
    assert_eq!(fixture.visible(), ["f 51200"]);
}

#[test]
fn a_file_that_came_meanwhile_is_not_written_to() {
    let fixture = folder();
    let prepared = fixture.download().unwrap();
    fixture.put("t/a.part", b"mine");
    let error = prepared.storage.open_write(0).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Exists);
    assert_eq!(std::fs::read(fixture.path("t/a.part")).unwrap(), b"mine");
}

#[test]
fn a_file_that_changes_while_it_is_checked_is_not_adopted() {
    let fixture = single();
    let path = fixture.put("f", fixture.file(0));
    let options = PrepareOptions {
        mode: KEEP,
        wanted: Vec::new(),
        threads: 1,
    };
    let checking = Checking {
        threads: 1,
        progress: &mut |_| {
            let opened = File::options().write(true).open(&path).unwrap();
            opened.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        },
        cancel: &AtomicBool::new(false),
    };
    let content = fixture.content.clone();
    let error = prepare_content(content, &fixture.dir(), &options, checking).unwrap_err();
    let StorageError::Disk(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind, DiskErrorKind::Changed);
}

#[test]
fn an_interrupted_check_changes_nothing() {
    let fixture = single();
    fixture.put("f", &fixture.file(0)[..30 * KIB]);
    let before = picture(&fixture.dir());
    let options = PrepareOptions {
        mode: KEEP,
        wanted: Vec::new(),
        threads: 1,
    };
    let checking = Checking {
        threads: 1,
        progress: &mut |_| {},
        cancel: &AtomicBool::new(true),
    };
    let content = fixture.content.clone();
    let error = prepare_content(content, &fixture.dir(), &options, checking).unwrap_err();
    assert_eq!(error, StorageError::Cancelled);
    assert_eq!(picture(&fixture.dir()), before);
}
