use super::*;
use proptest::prelude::*;

fn new_file(path: &[&str], len: u64) -> NewFile {
    NewFile {
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        len,
    }
}

fn auto(bytes: u64) -> PieceLen {
    PieceLen::auto(&Content::file("f", bytes).unwrap()).unwrap()
}

fn digests(pieces: u64) -> Vec<Sha1Digest> {
    (0..pieces)
        .map(|at| Sha1Digest::new([at as u8; 20]))
        .collect()
}

fn info_len(bytes: &[u8]) -> u64 {
    let document = crate::bencode::decode(bytes).unwrap();
    document.root().get("info").unwrap().raw().len() as u64
}

#[test]
fn ordinary_sizes_make_one_to_two_thousand_pieces() {
    for bytes in [
        32 << 20,
        100_000_000,
        700 << 20,
        1 << 30,
        5_000_000_000,
        30 << 30,
    ] {
        let PieceLen {
            len,
            pieces,
            reason,
        } = auto(bytes);
        assert!((1_000..=2_000).contains(&pieces), "{bytes}: {reason}");
        assert!(len.is_power_of_two() && reason.contains("1,000 to 2,000"));
    }
}

#[test]
fn the_choice_at_the_edges_is_explained() {
    let cases = [
        (0, PIECE_LEN_MIN, "16 KiB, 0 pieces: the smallest"),
        (1, PIECE_LEN_MIN, "16 KiB, 1 piece: the smallest"),
        (
            2_000 * 16_384,
            PIECE_LEN_MIN,
            "16 KiB, 2000 pieces: the smallest",
        ),
        (
            2_000 * 16_384 + 1,
            32 << 10,
            "32 KiB, 1001 pieces: with 1,000",
        ),
        (
            1 << 40,
            16 << 20,
            "16 MiB, 65536 pieces: the largest pieces that",
        ),
        (
            4 << 40,
            64 << 20,
            "64 MiB, 65536 pieces: with smaller pieces",
        ),
    ];
    for (bytes, len, start) in cases {
        let choice = auto(bytes);
        assert_eq!(choice.len, len);
        assert!(choice.reason.starts_with(start), "{}", choice.reason);
    }
}

#[test]
fn the_info_dictionary_stays_under_two_mebibytes() {
    let files = (0..10_000)
        .map(|at| new_file(&["some", "folder", &format!("file-{at}")], 1 << 28))
        .collect();
    let content = Content::folder("many", files).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    let (bytes, _) = build(
        &content,
        &choice,
        &digests(choice.pieces),
        &Details::default(),
    )
    .unwrap();
    assert!(info_len(&bytes) < INFO_LEN_MAX);
    assert!(choice.len > PIECE_LEN_ORDINARY_MAX, "{}", choice.reason);
}

#[test]
fn a_list_of_files_beyond_two_mebibytes_still_makes_a_torrent() {
    let files = (0..60_000)
        .map(|at| new_file(&[&format!("a-rather-long-file-name-{at:08}")], 1_000))
        .collect();
    let content = Content::folder("many", files).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    assert_eq!(choice.len, 32 << 10);
    assert!(
        build(
            &content,
            &choice,
            &digests(choice.pieces),
            &Details::default()
        )
        .is_ok()
    );
}

#[test]
fn asked_piece_lengths_are_checked() {
    let content = Content::file("f", 1 << 40).unwrap();
    for len in [0, 1, 8_192, 16_385, 100_000, 1 << 30, 1 << 40] {
        assert_eq!(
            PieceLen::exactly(len, &content),
            Err(CreateError::PieceLength(len))
        );
    }
    assert!(matches!(
        PieceLen::exactly(16_384, &content),
        Err(CreateError::TooManyPieces { .. })
    ));
    assert!(matches!(
        PieceLen::exactly(1 << 20, &content),
        Err(CreateError::TooLong("take larger pieces"))
    ));
    assert_eq!(
        PieceLen::exactly(1 << 22, &content).unwrap().pieces,
        1 << 18
    );
}

#[test]
fn names_that_would_change_are_refused_before_anything_is_hashed() {
    let long = "n".repeat(241);
    for name in ["..", "a/b", &long, "", "."] {
        assert!(Content::file(name, 1).is_err(), "{name:?}");
        let files = vec![new_file(&["sub", name], 1)];
        assert!(Content::folder("dir", files).is_err(), "{name:?}");
    }
    let twice = vec![new_file(&["a"], 1), new_file(&["a"], 2)];
    assert!(matches!(
        Content::folder("d", twice),
        Err(CreateError::Name(_))
    ));
    let clash = vec![new_file(&["a"], 1), new_file(&["a", "b"], 2)];
    assert!(matches!(
        Content::folder("d", clash),
        Err(CreateError::Name(_))
    ));
    assert!(matches!(
        Content::folder("d", vec![]),
        Err(CreateError::NoFiles(_))
    ));
    let huge = vec![new_file(&["a"], u64::MAX), new_file(&["b"], 1)];
    assert!(matches!(
        Content::folder("d", huge),
        Err(CreateError::Layout(_))
    ));
}

#[test]
fn files_are_sorted_component_by_component() {
    let files = [
        &["b"][..],
        &["a-"],
        &["a", "z"],
        &["B"],
        &["a", "b", "c"],
        &["é"],
    ];
    let files = files.iter().map(|path| new_file(path, 1)).collect();
    let content = Content::folder("d", files).unwrap();
    let order: Vec<_> = content
        .files()
        .iter()
        .map(|file| file.path.join("/"))
        .collect();
    assert_eq!(order, ["B", "a/b/c", "a/z", "a-", "b", "é"]);
}

#[test]
fn the_bytes_are_exact_and_reproducible() {
    let content = Content::file("a.bin", 40_000).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    let bytes = || {
        build(
            &content,
            &choice,
            &[Sha1Digest::new([7; 20]); 3],
            &Details::default(),
        )
        .unwrap()
        .0
    };
    let expected = [
        b"d4:infod6:lengthi40000e4:name5:a.bin12:piece lengthi16384e6:pieces60:".to_vec(),
        vec![7; 60],
        b"ee".to_vec(),
    ]
    .concat();
    assert_eq!(bytes(), expected);
    assert_eq!(bytes(), bytes());
}

#[test]
fn every_detail_is_read_back() {
    let url = |text: &str| text.to_owned();
    let details = Details {
        trackers: vec![
            vec![url("http://a/announce"), url("http://b/announce")],
            vec![],
            vec![url("udp://c:1")],
        ],
        web_seeds: vec![url("http://w/")],
        private: true,
        source: Some(url("SRC")),
        comment: Some(url("hello")),
        created_by: Some(url("dunlin/0.1.0")),
        created: Some(1_700_000_000),
    };
    let content = Content::folder("d", vec![new_file(&["x"], 1)]).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    let (bytes, torrent) = build(&content, &choice, &digests(1), &details).unwrap();
    assert!(bytes.starts_with(b"d8:announce17:http://a/announce13:announce-listll"));
    assert_eq!(
        torrent.trackers,
        [&details.trackers[0][..], &details.trackers[2]]
    );
    assert_eq!(torrent.web_seeds, details.web_seeds);
    assert!(torrent.private && !torrent.single_file);
    assert_eq!(torrent.source, details.source);
    assert_eq!(torrent.comment, details.comment);
    assert_eq!(torrent.created_by, details.created_by);
    assert_eq!(torrent.created, details.created);
    let public = Details {
        private: false,
        ..details.clone()
    };
    let (_, public) = build(&content, &choice, &digests(1), &public).unwrap();
    assert_ne!(public.info_hash, torrent.info_hash);
}

#[test]
fn one_tracker_needs_no_list() {
    let details = Details {
        trackers: vec![vec!["http://a/announce".to_owned()]],
        ..Details::default()
    };
    let content = Content::file("f", 1).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    let (bytes, _) = build(&content, &choice, &digests(1), &details).unwrap();
    assert!(bytes.starts_with(b"d8:announce17:http://a/announce4:info"));
}

#[test]
fn a_wrong_number_of_digests_is_refused() {
    let content = Content::file("f", 100_000).unwrap();
    let choice = PieceLen::auto(&content).unwrap();
    assert!(matches!(
        build(
            &content,
            &choice,
            &digests(choice.pieces + 1),
            &Details::default()
        ),
        Err(CreateError::Torrent(MetainfoError::DigestCount { .. }))
    ));
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(
        lens in prop::collection::btree_map("[a-c]{1,3}/[a-zé .]{1,5}x", 0u64..1 << 30, 1..10),
    ) {
        let files = lens
            .iter()
            .map(|(path, &len)| new_file(&path.split('/').collect::<Vec<_>>(), len))
            .collect();
        let content = Content::folder("top", files).unwrap();
        let choice = PieceLen::auto(&content).unwrap();
        let (bytes, torrent) =
            build(&content, &choice, &digests(choice.pieces), &Details::default()).unwrap();
        prop_assert_eq!(torrent.layout.bytes(), content.bytes());
        prop_assert_eq!(torrent.files.len(), content.files().len());
        for (file, new) in torrent.files.iter().zip(content.files()) {
            prop_assert_eq!(file.path.to_string(), format!("top/{}", new.path.join("/")));
            prop_assert_eq!(file.len, new.len);
        }
        prop_assert!(info_len(&bytes) < INFO_LEN_MAX);
    }

    #[test]
    fn every_size_up_to_ten_tebibytes_gets_a_small_description(bytes in 0u64..10 << 40) {
        let choice = auto(bytes);
        prop_assert!(choice.pieces * 20 < INFO_LEN_MAX);
        prop_assert_eq!(choice.pieces, bytes.div_ceil(choice.len.into()));
        prop_assert!(choice.len >= PIECE_LEN_MIN && choice.len.is_power_of_two());
    }
}
