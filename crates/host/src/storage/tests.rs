use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use dunlin_engine::event::DiskErrorKind;
use dunlin_metainfo::{Bitfield, Torrent};

use super::fixture::{Fixture, patiently};
use super::prepare::prepare_content;
use super::*;
use crate::check::Checking;
use crate::state::Saved;

mod foreign;
mod going_on;
mod traps;

const KIB: usize = 1024;
const OVERWRITE: PrepareMode = PrepareMode::Download { overwrite: true };
const KEEP: PrepareMode = PrepareMode::Download { overwrite: false };

/// Three files over pieces 0..=2, 2..=4 and 4, and an empty one.
fn folder() -> Fixture {
    Fixture::new(
        16 * 1024,
        &[
            ("t/a", 40 * KIB),
            ("t/empty", 0),
            ("t/sub/b", 30 * KIB),
            ("t/c", 4 * KIB),
        ],
    )
}

fn single() -> Fixture {
    Fixture::new(16 * 1024, &[("f", 50 * KIB)])
}

fn conflict(result: Result<Prepared, StorageError>) -> (PathBuf, ConflictReason) {
    match result {
        Err(StorageError::Conflict { path, reason }) => (path, reason),
        Err(error) => panic!("{error}"),
        Ok(prepared) => panic!("no conflict: {:?}", prepared.resume),
    }
}

fn pieces(bits: &Bitfield) -> Vec<u32> {
    bits.iter_ones().collect()
}

/// Writes whole pieces through the storage, as a worker would.
fn write(fixture: &Fixture, prepared: &mut Prepared, pieces: &[u32]) {
    use dunlin_metainfo::Slice;
    use std::os::unix::fs::FileExt;
    let layout = &fixture.content.layout;
    for &piece in pieces {
        let index = layout.piece(piece).unwrap();
        let mut rest = fixture.piece(piece);
        for slice in layout.slices(index, 0, layout.piece_len(index)) {
            let (Slice::File { len, .. } | Slice::Pad { len }) = slice;
            let (bytes, after) = rest.split_at(len as usize);
            rest = after;
            if let Slice::File { file, offset, .. } = slice {
                let opened = prepared.storage.open_write(file).unwrap();
                opened.write_all_at(bytes, offset).unwrap();
                prepared
                    .storage
                    .on_written(file, offset + bytes.len() as u64);
            }
        }
        prepared.resume.written.set(piece);
    }
    prepared.storage.save(&prepared.resume).unwrap();
}

/// Prepares again and counts the bytes that were checked.
fn prepare_counting(fixture: &Fixture) -> (Prepared, u64) {
    let mut checked = 0;
    let options = PrepareOptions {
        mode: KEEP,
        wanted: Vec::new(),
        threads: 2,
    };
    let prepared = patiently(&mut || {
        let checking = Checking {
            threads: 2,
            progress: &mut |progress| checked = progress.total_bytes,
            cancel: &AtomicBool::new(false),
        };
        let content = fixture.content.clone();
        prepare_content(content, &fixture.dir(), &options, checking)
    });
    let prepared = prepared.unwrap();
    (prepared, checked)
}

fn state_path(fixture: &Fixture) -> PathBuf {
    let root = fixture.content.root();
    let name = crate::state::file_name(root.to_str().unwrap(), &fixture.content.info_hash);
    fixture.dir().join(name)
}

/// Changes the resume data on the disk, as another boot or another program would leave it.
fn edit_state(fixture: &Fixture, edit: impl FnOnce(&mut Saved)) {
    let path = state_path(fixture);
    let mut saved = Saved::decode(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut saved);
    std::fs::write(&path, saved.encode()).unwrap();
}

/// Name, bytes, time and inode of everything in a folder.
fn picture(folder: &Path) -> Vec<(PathBuf, Vec<u8>, SystemTime, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            all.extend(picture(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            all.push((path, bytes, meta.modified().unwrap(), meta.ino()));
        }
    }
    all.sort();
    all
}

// A fresh start.

#[test]
fn a_fresh_download_has_folders_empty_files_and_its_resume_file() {
    let fixture = folder();
    let prepared = fixture.download().unwrap();
    assert_eq!(fixture.visible(), ["t/empty 0"]);
    assert_eq!(fixture.listing().len(), 2);
    assert!(!prepared.adopted);
    assert_eq!(prepared.resume, Resume::empty(5));
    assert_eq!(prepared.storage.root_path(), fixture.path("t"));
    assert_eq!(prepared.storage.file_path(2), Some(fixture.path("t/sub/b")));
}

#[test]
fn an_empty_torrent_is_complete_at_once_and_leaves_nothing_hidden() {
    let fixture = Fixture::new(16 * 1024, &[("zero", 0)]);
    let prepared = fixture.download().unwrap();
    assert!(prepared.resume.written.is_full());
    drop(prepared);
    assert_eq!(fixture.listing(), ["zero 0"]);
    fixture.download().unwrap();
    assert_eq!(fixture.listing(), ["zero 0"]);
}

#[test]
fn what_is_executable_in_the_torrent_is_executable_here() {
    let fixture = Fixture::new(16 * 1024, &[("t/run.sh", 10), ("t/data", 10)]);
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    let mode = |name: &str| {
        let meta = std::fs::metadata(fixture.path(name)).unwrap();
        meta.permissions().mode() & 0o111
    };
    assert_ne!(mode("t/run.sh.part"), 0);
    assert_eq!(mode("t/data.part"), 0);
}

#[test]
fn a_file_that_is_not_wanted_is_made_only_for_shared_pieces() {
    let fixture = folder();
    let mut prepared = fixture.prepare(KEEP, &[false, false, true, false]).unwrap();
    assert_eq!(fixture.visible(), Vec::<String>::new());
    write(&fixture, &mut prepared, &[2, 3]);
    assert_eq!(fixture.visible(), ["t/a.part 40960", "t/sub/b.part 24576"]);
}

// Locks.

#[test]
fn a_second_download_of_the_same_data_is_locked_out_until_the_first_ends() {
    for fixture in [single(), folder()] {
        let first = fixture.download().unwrap();
        let locked = fixture.download().unwrap_err();
        let root = fixture.dir().join(fixture.content.root());
        assert_eq!(locked, StorageError::Locked { path: root });
        // Saving replaces the file that carries the lock.
        first.storage.save(&first.resume).unwrap();
        let locked = fixture.download().unwrap_err();
        assert!(matches!(locked, StorageError::Locked { .. }), "{locked}");
        first.storage.remove_resume().unwrap();
        let locked = fixture.download().unwrap_err();
        assert!(matches!(locked, StorageError::Locked { .. }), "{locked}");
        first.storage.save(&first.resume).unwrap();
        drop(first);
        fixture.download().unwrap();
    }
}

#[test]
fn a_crash_while_the_files_are_made_is_no_conflict_later() {
    for fixture in [single(), folder()] {
        drop(fixture.download().unwrap());
        // As if the process had died right after it made a file: nobody noted which one it is.
        edit_state(&fixture, |saved| saved.files.fill(None));
        fixture.put(
            if fixture.path("t").exists() {
                "t/a.part"
            } else {
                "f.part"
            },
            b"",
        );
        fixture.download().unwrap();
    }
}

#[test]
fn another_torrent_with_the_same_name_is_locked_out_too() {
    for mut fixture in [single(), folder()] {
        let _first = fixture.download().unwrap();
        fixture.content.info_hash = dunlin_metainfo::InfoHash::new([8; 20]);
        let locked = fixture.download().unwrap_err();
        assert!(matches!(locked, StorageError::Locked { .. }), "{locked}");
    }
}

// Resume data that is not what it should be.

#[test]
fn damaged_resume_data_is_set_aside_and_everything_is_checked() {
    let fixture = folder();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0, 3]);
    drop(prepared);
    let mut bytes = std::fs::read(state_path(&fixture)).unwrap();
    bytes[40] ^= 1;
    std::fs::write(state_path(&fixture), &bytes).unwrap();
    let prepared = fixture.download().unwrap();
    assert_eq!(pieces(&prepared.resume.written), [0, 3]);
    let mut aside = state_path(&fixture).into_os_string();
    aside.push(".bad");
    assert_eq!(std::fs::read(&aside).unwrap(), bytes);
    drop(prepared);
    let (prepared, checked) = prepare_counting(&fixture);
    assert_eq!((pieces(&prepared.resume.written), checked), (vec![0, 3], 0));
}

#[test]
fn a_download_whose_resume_data_is_damaged_goes_on_even_without_a_whole_piece() {
    let fixture = single();
    drop(fixture.download().unwrap());
    std::fs::write(fixture.path("f.part"), [1; 100]).unwrap();
    for _ in 0..2 {
        std::fs::write(state_path(&fixture), "garbage").unwrap();
        fixture.download().unwrap();
    }
    assert_eq!(
        fixture
            .listing()
            .iter()
            .filter(|name| name.contains(".bad"))
            .count(),
        2
    );
}

#[test]
fn resume_data_of_another_torrent_is_set_aside() {
    let fixture = single();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    drop(prepared);
    edit_state(&fixture, |saved| {
        saved.info_hash = dunlin_metainfo::InfoHash::new([8; 20]);
        saved.resume.written = Bitfield::full(4);
    });
    let prepared = fixture.download().unwrap();
    assert_eq!(pieces(&prepared.resume.written), [0]);
}

#[test]
fn resume_data_of_a_newer_version_is_not_touched() {
    let fixture = single();
    drop(fixture.download().unwrap());
    let mut bytes = std::fs::read(state_path(&fixture)).unwrap();
    let version = b"dunlin resume\n".len() + 3;
    bytes[version] = 9;
    std::fs::write(state_path(&fixture), &bytes).unwrap();
    let before = picture(&fixture.dir());
    let error = fixture.download().unwrap_err();
    assert!(matches!(error, StorageError::NewerState { version: 9, .. }));
    assert_eq!(picture(&fixture.dir()), before);
}

// Seeding and verifying.

#[test]
fn seeding_makes_and_changes_nothing() {
    let fixture = folder();
    fixture.put_all();
    let before = picture(&fixture.dir());
    for check in [false, true] {
        let prepared = fixture.prepare(PrepareMode::Seed { check }, &[]).unwrap();
        assert!(prepared.resume.written.is_full());
        prepared.storage.save(&prepared.resume).unwrap();
        prepared.storage.sync().unwrap();
        prepared.storage.complete_file(0).unwrap();
        prepared.storage.open_read(0).unwrap();
        prepared.storage.open_write(0).unwrap_err();
        prepared.storage.remove_resume().unwrap();
    }
    assert_eq!(picture(&fixture.dir()), before);
}

#[test]
fn seeding_what_is_not_there_names_the_path_that_was_expected() {
    let seed = PrepareMode::Seed { check: true };
    let fixture = folder();
    fixture.put_all();
    std::fs::remove_file(fixture.path("t/sub/b")).unwrap();
    let line = fixture.prepare(seed, &[]).unwrap_err().to_string();
    assert!(line.contains("in/t/sub/b: not there"), "{line}");
    fixture.put("t/sub/b", b"short");
    let line = fixture.prepare(seed, &[]).unwrap_err().to_string();
    assert!(
        line.contains("in/t/sub/b: 5 bytes, 30720 expected"),
        "{line}"
    );
}

#[test]
fn seeding_damaged_data_fails_with_a_report() {
    let fixture = folder();
    fixture.put_all();
    let mut bytes = fixture.file(0).to_vec();
    bytes[0] ^= 1;
    fixture.put("t/a", &bytes);
    let seed = PrepareMode::Seed { check: true };
    let Err(StorageError::Incomplete(report)) = fixture.prepare(seed, &[]) else {
        panic!()
    };
    assert_eq!((report.ok_pieces, report.bad_pieces), (4, 1));
    assert_eq!(report.files[0].ok_bytes, 24 * KIB as u64);
    assert_eq!(report.files[2].ok_bytes, 30 * KIB as u64);
}

#[test]
fn a_complete_file_that_changes_while_it_is_seeded_is_noticed() {
    let fixture = single();
    fixture.put_all();
    let prepared = fixture
        .prepare(PrepareMode::Seed { check: true }, &[])
        .unwrap();
    prepared.storage.revisit(0).unwrap();
    let opened = File::options().write(true).open(fixture.path("f")).unwrap();
    opened.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    for error in [
        prepared.storage.revisit(0).unwrap_err(),
        prepared.storage.open_read(0).unwrap_err(),
    ] {
        assert_eq!(error.kind, DiskErrorKind::Changed);
    }
    std::fs::remove_file(fixture.path("f")).unwrap();
    let error = prepared.storage.revisit(0).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::NotFound);
}

#[test]
fn verifying_reads_both_names_and_counts_what_is_missing_as_bad() {
    let fixture = folder();
    fixture.put_all();
    std::fs::rename(fixture.path("t/a"), fixture.path("t/a.part")).unwrap();
    std::fs::remove_file(fixture.path("t/c")).unwrap();
    let before = picture(&fixture.dir());
    let checking = Checking {
        threads: 2,
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    let report = seed::verify(&fixture.content, &fixture.dir(), checking).unwrap();
    assert_eq!((report.ok_pieces, report.bad_pieces), (4, 1));
    assert_eq!(report.files.len(), 4);
    assert_eq!(report.files[0].ok_bytes, 40 * KIB as u64);
    assert_eq!(report.files[3].ok_bytes, 0);
    assert_eq!(picture(&fixture.dir()), before);
}

#[test]
fn a_parsed_torrent_is_prepared_under_its_own_names() {
    let temp = tempfile::tempdir().unwrap();
    let digests = "x".repeat(20);
    let torrent = format!(
        "d4:infod5:filesld6:lengthi5e4:pathl3:sub1:aeed4:attr1:p6:lengthi3e4:pathl4:.pad1:3eee\
         4:name1:t12:piece lengthi16384e6:pieces20:{digests}ee"
    );
    let torrent = Arc::new(Torrent::parse(torrent.as_bytes()).unwrap());
    let options = PrepareOptions {
        mode: KEEP,
        wanted: Vec::new(),
        threads: 1,
    };
    let cancel = AtomicBool::new(false);
    let prepared = prepare(&torrent, temp.path(), &options, &mut |_| {}, &cancel).unwrap();
    prepared.storage.open_write(0).unwrap();
    assert!(temp.path().join("t/sub/a.part").exists());
    drop(prepared);
    let report = verify(&torrent, temp.path(), 1, &mut |_| {}, &cancel).unwrap();
    assert_eq!(report.bad_pieces, 1);
    assert_eq!(report.files.len(), 1, "pads are not reported");
}
