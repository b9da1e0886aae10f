use super::*;
use proptest::prelude::*;

fn path(components: &[&str]) -> Result<SafePath, PathError> {
    SafePath::new(components.iter().map(|name| name.as_bytes()))
}

fn resolve(names: &[&str]) -> Vec<String> {
    let mut paths: Vec<SafePath> = names
        .iter()
        .map(|name| path(&name.split('/').collect::<Vec<_>>()).unwrap())
        .collect();
    resolve_collisions(&mut paths.iter_mut().collect::<Vec<_>>());
    paths.iter().map(ToString::to_string).collect()
}

#[test]
fn ordinary_names_stay_as_they_are() {
    for name in [
        "a",
        "..a",
        "a..",
        "...",
        "-rf",
        "~",
        "a b ",
        "été",
        "日本語",
        "CON",
        "a:b",
        "a\nb",
    ] {
        if !cfg!(windows) {
            assert_eq!(
                path(&["top", name]).unwrap().as_str(),
                format!("top/{name}")
            );
        }
    }
}

#[test]
fn what_leaves_the_folder_is_refused() {
    for components in [
        &["..", "x"][..],
        &["a", "..", "b"],
        &["a", ".."],
        &[".."],
        &["/etc", "passwd"],
        &["/etc/passwd"],
        &["a", "/etc/passwd"],
        &["", "..", "x"],
    ] {
        assert!(
            matches!(path(components), Err(PathError::Escapes(_))),
            "{components:?}"
        );
    }
    assert!(matches!(path(&["a\0b"]), Err(PathError::Nul(_))));
}

#[test]
fn separators_inside_a_component_separate_nothing() {
    assert_eq!(path(&["AC/DC", "x"]).unwrap().as_str(), "AC_DC/x");
    assert_eq!(path(&["a/../../b"]).unwrap().as_str(), "a_.._.._b");
    assert_eq!(path(&["./.."]).unwrap().as_str(), "._..");
}

#[test]
fn empty_components_and_dots_are_dropped() {
    assert_eq!(path(&["", "a", ".", "b", ""]).unwrap().as_str(), "a/b");
    assert_eq!(path(&["", "."]), Err(PathError::Empty));
    assert_eq!(path(&[]), Err(PathError::Empty));
}

#[test]
fn long_names_are_cut_at_a_character_before_the_extension() {
    let long = format!("{}.mkv", "é".repeat(200));
    let cut = path(&["dir", &long]).unwrap();
    assert!(cut.file_name().len() <= COMPONENT_LEN_MAX);
    assert!(cut.file_name().len() >= COMPONENT_LEN_MAX - 1);
    assert!(cut.file_name().ends_with("é.mkv"));
    let no_extension = path(&[&"x".repeat(1_000)]).unwrap();
    assert_eq!(no_extension.as_str(), "x".repeat(COMPONENT_LEN_MAX));
    let only_extension = path(&[&format!(".{}", "x".repeat(1_000))]).unwrap();
    assert_eq!(only_extension.as_str().len(), COMPONENT_LEN_MAX);
}

#[test]
fn deep_and_long_paths_are_refused() {
    assert!(path(&vec!["a"; DEPTH_MAX]).is_ok());
    assert!(matches!(
        path(&vec!["a"; DEPTH_MAX + 1]),
        Err(PathError::TooDeep(_))
    ));
    assert!(matches!(
        path(&vec!["a"; 1_000_000]),
        Err(PathError::TooDeep(_))
    ));
    let name = "n".repeat(200);
    assert!(matches!(
        path(&vec![&name[..]; 20]),
        Err(PathError::TooLong(_))
    ));
}

#[test]
fn error_messages_stay_short() {
    let error = path(&["a", "..", &"b".repeat(1_000_000)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"path "a/.." leaves the download folder"#
    );
    let error = path(&[&"\0\x1b".repeat(1_000_000)]).unwrap_err();
    assert!(error.to_string().len() < 1_000);
    assert!(!error.to_string().contains('\x1b'));
}

#[test]
fn invalid_utf8_loads_without_collisions() {
    let raw: [&[u8]; 3] = [b"caf\xe9.txt", b"caf\xe8.txt", b"caf\xff\xfe.txt"];
    let mut paths = raw.map(|name| SafePath::new([name]).unwrap());
    resolve_collisions(&mut paths.iter_mut().collect::<Vec<_>>());
    assert_eq!(paths[0].as_str(), "caf\u{fffd}.txt");
    assert_eq!(paths[1].as_str(), "caf\u{fffd}.1.txt");
    assert_eq!(paths[2].as_str(), "caf\u{fffd}\u{fffd}.txt");
}

#[test]
fn the_first_file_of_a_name_keeps_it() {
    assert_eq!(
        resolve(&["d/a.txt", "d/a.txt", "d/b", "d/a.txt", "d/a.1.txt", "d/b"]),
        [
            "d/a.txt",
            "d/a.2.txt",
            "d/b",
            "d/a.3.txt",
            "d/a.1.txt",
            "d/b.1"
        ]
    );
}

#[test]
fn a_file_yields_to_a_folder_of_its_name() {
    assert_eq!(resolve(&["d/a", "d/a/b"]), ["d/a.1", "d/a/b"]);
    assert_eq!(
        resolve(&["d/a/b/c", "d/a", "d/a.1/x"]),
        ["d/a/b/c", "d/a.2", "d/a.1/x"]
    );
    // `a-` sorts between `a` and `a/b` as bytes, not as components.
    assert_eq!(resolve(&["a", "a-", "a/b"]), ["a.1", "a-", "a/b"]);
}

#[test]
fn names_that_differ_by_case_or_normalisation_are_two_files_on_linux() {
    if cfg!(target_os = "linux") {
        assert_eq!(resolve(&["README", "readme"]), ["README", "readme"]);
        // The same letter in one character (NFC) and in two (NFD).
        assert_eq!(resolve(&["\u{e9}", "e\u{301}"]), ["\u{e9}", "e\u{301}"]);
    }
}

#[test]
fn windows_names_are_defused() {
    for (name, harmless) in [
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("COM0", "COM0"),
        ("common", "common"),
        ("a.", "a._"),
        ("a:b", "a_b"),
        ("a\\b", "a_b"),
        ("a\x07", "a_"),
    ] {
        assert_eq!(harmless_on_windows(name), harmless);
    }
}

#[test]
fn a_hundred_thousand_equal_names_are_told_apart_quickly() {
    // Quadratic work would be 5 * 10^9 comparisons here.
    let mut paths = vec![path(&["dir", "same.bin"]).unwrap(); 100_000];
    resolve_collisions(&mut paths.iter_mut().collect::<Vec<_>>());
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 100_000);
}

#[test]
fn twins_that_are_cut_to_the_same_text_share_a_counter() {
    let stem = "s".repeat(COMPONENT_LEN_MAX - 6);
    let mut paths: Vec<SafePath> = (0..20_000)
        .map(|at| path(&[&format!("{stem}{:06}", at / 2)]).unwrap())
        .collect();
    resolve_collisions(&mut paths.iter_mut().collect::<Vec<_>>());
    assert!(
        paths
            .iter()
            .all(|path| path.as_str().len() <= COMPONENT_LEN_MAX)
    );
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 20_000);
}

proptest! {
    #[test]
    fn every_path_that_is_accepted_stays_inside(
        components in prop::collection::vec(
            prop::collection::vec(prop::sample::select(&b"./\\a\0\xff"[..]), 0..5), 0..5),
    ) {
        if let Ok(path) = SafePath::new(components.iter().map(Vec::as_slice)) {
            prop_assert!(path.as_path().is_relative());
            for component in path.as_path().components() {
                prop_assert!(matches!(component, std::path::Component::Normal(_)));
            }
            prop_assert_eq!(path.as_path().components().count(), path.components().count());
            prop_assert!(!path.as_str().contains('\0'));
        }
    }

    #[test]
    fn resolved_paths_can_all_exist_together(
        names in prop::collection::vec("[ab](\\.[12])?(/[ab](\\.[12])?){0,2}", 0..40),
    ) {
        let resolved = resolve(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (at, one) in resolved.iter().enumerate() {
            for other in &resolved[at + 1..] {
                prop_assert_ne!(one, other);
                prop_assert!(!is_inside(one, other) && !is_inside(other, one), "{} {}", one, other);
            }
        }
        // Whoever had a name to himself keeps it.
        for (name, result) in names.iter().zip(&resolved) {
            let rivals = names.iter().filter(|rival| *rival == name || is_inside(rival, name));
            if rivals.count() == 1 {
                prop_assert_eq!(name, result);
            }
        }
    }
}
