use proptest::prelude::*;

use super::*;

fn saved(pieces: u32, written: &[u32], files: usize) -> Saved {
    let mut resume = Resume::empty(pieces);
    for &piece in written {
        resume.written.set(piece);
    }
    resume.downloaded = u64::MAX;
    resume.uploaded = 5;
    let stamp = Stamp {
        dev: 1,
        ino: u64::MAX,
        size: 3,
        mtime_ns: -1,
    };
    Saved {
        info_hash: InfoHash::new([7; 20]),
        boot_id: String::from("a boot"),
        resume,
        files: (0..files)
            .map(|file| {
                (file % 3 > 0).then_some(SavedFile {
                    stamp,
                    complete: file % 3 == 1,
                })
            })
            .collect(),
    }
}

#[test]
fn what_is_saved_is_loaded() {
    for saved in [saved(0, &[], 1), saved(9, &[0, 8], 4), saved(64, &[63], 0)] {
        assert_eq!(Saved::decode(&saved.encode()), Ok(saved));
    }
}

#[test]
fn no_cut_and_no_flipped_bit_goes_unnoticed() {
    let whole = saved(9, &[0, 8], 4).encode();
    for len in 0..whole.len() {
        assert_eq!(Saved::decode(&whole[..len]), Err(DecodeError::Unreadable));
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Saved::decode(&flipped).is_err(), "bit {bit}");
    }
    let mut longer = whole;
    longer.push(0);
    assert!(Saved::decode(&longer).is_err());
}

#[test]
fn a_later_version_is_told_from_garbage() {
    let mut bytes = saved(9, &[0], 1).encode();
    bytes[MAGIC.len() + 3] = 7;
    bytes.push(1);
    assert_eq!(Saved::decode(&bytes), Err(DecodeError::Newer(7)));
    assert_eq!(Saved::decode(b"d8:announce"), Err(DecodeError::Unreadable));
}

#[test]
fn the_name_is_hidden_and_short_enough_whatever_the_torrent_is_called() {
    let hash = InfoHash::new([0xab; 20]);
    assert_eq!(
        file_name("thing.iso", &hash),
        Path::new(".thing.iso.abababab.dunlin")
    );
    let long = file_name(&"ü".repeat(200), &hash);
    let aside = suffixed(&suffixed(&long, TEMPORARY, 0), BAD, BAD_MAX);
    assert!(aside.as_os_str().len() <= 255);
}

#[test]
fn a_save_that_fails_leaves_the_last_one() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::open(temp.path()).unwrap();
    let hash = InfoHash::new([7; 20]);
    let name = file_name("t", &hash);
    let (mut state, _) = StateFile::open(&folder, name.clone(), &hash, 9, 1).unwrap();
    let first = saved(9, &[1], 1);
    state.save(&folder, &first).unwrap();
    // A folder has the name of the new file, and cannot be removed like a file.
    std::fs::create_dir(folder.full_path(&suffixed(&name, TEMPORARY, 0))).unwrap();
    state.save(&folder, &saved(9, &[1, 2], 1)).unwrap_err();
    drop(state);
    let (_, loaded) = StateFile::open(&folder, name, &hash, 9, 1).unwrap();
    let Loaded::Saved(loaded) = loaded else {
        panic!("{loaded:?}")
    };
    assert_eq!(*loaded, first);
}

#[test]
fn what_a_crash_left_half_written_is_in_nobodys_way() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::open(temp.path()).unwrap();
    let hash = InfoHash::new([7; 20]);
    let name = file_name("t", &hash);
    std::fs::write(folder.full_path(&suffixed(&name, TEMPORARY, 0)), "half").unwrap();
    let (mut state, loaded) = StateFile::open(&folder, name, &hash, 9, 1).unwrap();
    assert!(matches!(loaded, Loaded::Nothing));
    state.save(&folder, &saved(9, &[1], 1)).unwrap();
    state.remove(&folder).unwrap();
    state.close(&folder);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn what_was_set_aside_goes_when_everything_is_complete() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::open(temp.path()).unwrap();
    let hash = InfoHash::new([7; 20]);
    let name = file_name("t", &hash);
    for _ in 0..3 {
        std::fs::write(folder.full_path(&name), "unreadable").unwrap();
        let (mut state, loaded) = StateFile::open(&folder, name.clone(), &hash, 9, 1).unwrap();
        assert!(matches!(loaded, Loaded::Quarantined));
        state.close(&folder);
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 3);
    let (mut state, _) = StateFile::open(&folder, name, &hash, 9, 1).unwrap();
    state.save(&folder, &saved(9, &[1], 1)).unwrap();
    state.remove(&folder).unwrap();
    state.close(&folder);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn this_machine_has_a_boot_id() {
    assert_eq!(boot_id(), boot_id());
    if cfg!(target_os = "linux") {
        assert!(!boot_id().is_empty());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_and_no_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        with_magic: bool,
    ) {
        let mut document = Vec::new();
        if with_magic {
            document.extend_from_slice(MAGIC);
            put_u32(&mut document, VERSION);
        }
        document.extend_from_slice(&bytes);
        let checksum = sha1(&document);
        document.extend_from_slice(checksum.as_bytes());
        let _ = Saved::decode(&document);
    }
}
