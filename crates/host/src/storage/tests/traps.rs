use super::*;

#[test]
fn a_link_in_the_place_of_a_file_is_never_followed_nor_replaced() {
    for name in ["f", "f.part"] {
        let fixture = single();
        std::fs::create_dir_all(fixture.dir()).unwrap();
        let target = fixture.outside();
        std::fs::write(&target, fixture.file(0)).unwrap();
        symlink(&target, fixture.path(name)).unwrap();
        for mode in [KEEP, OVERWRITE] {
            let (path, reason) = conflict(fixture.prepare(mode, &[]));
            assert_eq!(
                (path, reason),
                (fixture.path(name), ConflictReason::NotAFile)
            );
        }
        assert_eq!(std::fs::read(&target).unwrap(), fixture.file(0));
        assert!(fixture.path(name).is_symlink());
    }
}

#[test]
fn a_link_in_the_place_of_a_folder_is_an_error_that_names_it() {
    for link in ["t", "t/sub"] {
        let fixture = folder();
        std::fs::create_dir_all(fixture.outside()).unwrap();
        std::fs::create_dir_all(fixture.path(link).parent().unwrap()).unwrap();
        symlink(fixture.outside(), fixture.path(link)).unwrap();
        for mode in [KEEP, OVERWRITE] {
            let error = fixture.prepare(mode, &[]).unwrap_err();
            let StorageError::Disk(error) = error else {
                panic!("{error}")
            };
            assert_eq!(error.path, fixture.path(link));
        }
        assert_eq!(std::fs::read_dir(fixture.outside()).unwrap().count(), 0);
    }
}

#[test]
fn a_link_that_comes_later_leads_nowhere_either() {
    let fixture = folder();
    let prepared = fixture.download().unwrap();
    std::fs::create_dir_all(fixture.outside()).unwrap();
    symlink(fixture.outside(), fixture.path("t/sub")).unwrap();
    prepared.storage.open_write(2).unwrap_err();
    let secret = fixture.outside().join("b.part");
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, fixture.path("t/a.part")).unwrap();
    prepared.storage.open_write(0).unwrap_err();
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(fixture.outside()).unwrap().count(), 1);
}

#[test]
fn the_download_folder_itself_may_be_reached_through_a_link() {
    let fixture = folder();
    std::fs::create_dir_all(fixture.outside()).unwrap();
    symlink(fixture.outside(), fixture.dir()).unwrap();
    let mut prepared = fixture.download().unwrap();
    write(&fixture, &mut prepared, &[0]);
    assert!(fixture.outside().join("t/a.part").exists());
}

#[test]
fn a_linked_resume_file_is_not_followed() {
    let fixture = single();
    std::fs::create_dir_all(fixture.dir()).unwrap();
    std::fs::write(fixture.outside(), "secret").unwrap();
    symlink(fixture.outside(), state_path(&fixture)).unwrap();
    fixture.download().unwrap_err();
    assert_eq!(std::fs::read(fixture.outside()).unwrap(), b"secret");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_a_conflict() {
    let fixture = single();
    std::fs::create_dir_all(fixture.path("f/inside")).unwrap();
    for mode in [KEEP, OVERWRITE] {
        let (path, reason) = conflict(fixture.prepare(mode, &[]));
        assert_eq!(
            (path, reason),
            (fixture.path("f"), ConflictReason::NotAFile)
        );
    }
    assert!(fixture.path("f/inside").is_dir());
}

#[test]
fn two_files_of_the_torrent_that_are_one_here_are_a_conflict() {
    let fixture = Fixture::new(16 * 1024, &[("t/a", 100), ("t/A", 100)]);
    fixture.put("t/a", b"x");
    std::fs::hard_link(fixture.path("t/a"), fixture.path("t/A")).unwrap();
    let (path, reason) = conflict(fixture.overwrite());
    assert_eq!(
        (path, reason),
        (fixture.path("t/A"), ConflictReason::SameFile)
    );
}

#[test]
fn a_file_in_the_place_of_the_download_folder_is_an_error() {
    let fixture = single();
    std::fs::write(fixture.dir(), "a file").unwrap();
    assert!(matches!(fixture.download(), Err(StorageError::Disk(_))));
    assert_eq!(std::fs::read(fixture.dir()).unwrap(), b"a file");
}
