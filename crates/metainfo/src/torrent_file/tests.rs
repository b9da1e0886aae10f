use super::*;
use crate::bencode::{Bencode, DecodeError, Problem};
use crate::layout::{FileSpan, LayoutError};
use crate::safe_path::PathError;
use proptest::prelude::*;

type Entries<'a> = Vec<(&'a str, Bencode<'a>)>;

fn list<'a>(items: &[&'a str]) -> Bencode<'a> {
    Bencode::list(items.iter().map(|&item| item.into()))
}

/// The dictionary with some entries replaced or added; `None` removes one.
fn with<'a>(
    mut entries: Entries<'a>,
    changes: impl IntoIterator<Item = (&'a str, Option<Bencode<'a>>)>,
) -> Entries<'a> {
    for (key, value) in changes {
        entries.retain(|(old, _)| *old != key);
        entries.extend(value.map(|value| (key, value)));
    }
    entries
}

fn single() -> Entries<'static> {
    vec![
        ("name", "a.bin".into()),
        ("length", 40_000i64.into()),
        ("piece length", 16_384i64.into()),
        ("pieces", vec![7; 60].into()),
    ]
}

fn file<'a>(path: &[&'a str], len: i64) -> Bencode<'a> {
    Bencode::dict([("path", list(path)), ("length", len.into())])
}

/// Two pieces of 16 KiB, less one byte.
fn several(files: Vec<Bencode<'_>>) -> Entries<'_> {
    vec![
        ("name", "dir".into()),
        ("files", Bencode::List(files)),
        ("piece length", 16_384i64.into()),
        ("pieces", vec![7; 40].into()),
    ]
}

fn torrent(info: Entries<'_>) -> Vec<u8> {
    Bencode::dict([("info", Bencode::dict(info))]).encode()
}

fn parse(info: Entries<'_>) -> Result<Torrent, MetainfoError> {
    Torrent::parse(&torrent(info))
}

fn paths(torrent: &Torrent) -> Vec<&str> {
    torrent
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

#[test]
fn a_single_file_is_read() {
    let torrent = parse(single()).unwrap();
    assert!(torrent.single_file);
    assert_eq!(torrent.name, "a.bin");
    assert_eq!(paths(&torrent), ["a.bin"]);
    assert_eq!(torrent.layout.bytes(), 40_000);
    assert_eq!(torrent.layout.pieces(), 3);
    assert_eq!(torrent.piece_digests[..], [Sha1Digest::new([7; 20]); 3]);
    assert!(!torrent.private && torrent.trackers.is_empty());
    // sha1sum of the same bytes.
    assert_eq!(
        torrent.info_hash.to_string(),
        "0c9418140c57d4b181aebdb5a1ecb586d43c0290"
    );
}

#[test]
fn every_field_is_read() {
    let info = with(
        several(vec![file(&["x"], 32_767)]),
        [
            ("private", Some(1i64.into())),
            ("source", Some("SRC".into())),
        ],
    );
    let bytes = Bencode::dict([
        ("info", Bencode::dict(info)),
        ("announce", "http://ignored/announce".into()),
        (
            "announce-list",
            Bencode::list([
                list(&["http://a/announce", " udp://b:1 ", "http://a/announce", ""]),
                list(&[]),
                list(&["http://c/announce", "udp://b:1"]),
            ]),
        ),
        (
            "url-list",
            list(&["http://w/1", "http://w/2", "http://w/1"]),
        ),
        (
            "nodes",
            Bencode::list([
                Bencode::list(["router.example".into(), 6_881i64.into()]),
                Bencode::list(["bad port".into(), 65_536i64.into()]),
                Bencode::list(["no port".into()]),
            ]),
        ),
        ("comment", vec![b'c', 0xff].into()),
        ("created by", "someone".into()),
        ("creation date", 1_700_000_000i64.into()),
        ("encoding", "UTF-8".into()),
    ])
    .encode();
    let torrent = Torrent::parse(&bytes).unwrap();
    assert!(torrent.private && !torrent.single_file);
    assert_eq!(
        torrent.trackers,
        [
            vec!["http://a/announce".to_owned(), "udp://b:1".to_owned()],
            vec!["http://c/announce".to_owned()]
        ]
    );
    assert_eq!(torrent.web_seeds, ["http://w/1", "http://w/2"]);
    assert_eq!(torrent.nodes, [("router.example".to_owned(), 6_881)]);
    assert_eq!(torrent.comment.as_deref(), Some("c\u{fffd}"));
    assert_eq!(torrent.created_by.as_deref(), Some("someone"));
    assert_eq!(torrent.created, Some(1_700_000_000));
    assert_eq!(torrent.source.as_deref(), Some("SRC"));
    assert_eq!(torrent.encoding.as_deref(), Some("UTF-8"));
    assert_eq!(paths(&torrent), ["dir/x"]);
}

#[test]
fn announce_counts_where_the_list_is_empty() {
    let bytes = Bencode::dict([
        ("info", Bencode::dict(single())),
        ("announce", "http://a/announce".into()),
        ("announce-list", Bencode::list([list(&[""])])),
        ("url-list", "http://w/".into()),
    ])
    .encode();
    let torrent = Torrent::parse(&bytes).unwrap();
    assert_eq!(torrent.trackers, [["http://a/announce".to_owned()]]);
    assert_eq!(torrent.web_seeds, ["http://w/"]);
}

#[test]
fn ten_thousand_trackers_are_cut_down() {
    let urls: Vec<String> = (0..10_000).map(|at| format!("http://t{at}/")).collect();
    let tiers = urls.iter().map(|url| list(&[url]));
    let bytes = Bencode::dict([
        ("info", Bencode::dict(single())),
        ("announce-list", Bencode::list(tiers)),
    ])
    .encode();
    let torrent = Torrent::parse(&bytes).unwrap();
    assert_eq!(torrent.trackers.len(), ADDRESSES_MAX);
}

#[test]
fn the_info_hash_is_over_the_raw_bytes() {
    let sorted = b"d4:infod6:lengthi0e4:name1:a12:piece lengthi1e6:pieces0:ee";
    let unsorted = b"d4:infod4:name1:a6:lengthi0e12:piece lengthi1e6:pieces0:ee";
    let doubled = b"d4:infod6:lengthi0e4:name1:a4:name1:b12:piece lengthi1e6:pieces0:ee";
    let torrents = [&sorted[..], unsorted, doubled].map(|bytes| Torrent::parse(bytes).unwrap());
    assert!(torrents.iter().all(|torrent| torrent.name == "a"));
    assert_ne!(torrents[0].info_hash, torrents[1].info_hash);
    assert_ne!(torrents[0].info_hash, torrents[2].info_hash);
}

#[test]
fn attributes_and_pads_are_read() {
    let with_attr = |path: &[&'static str], len: i64, attr: &'static str| {
        Bencode::dict([
            ("path", list(path)),
            ("length", len.into()),
            ("attr", attr.into()),
        ])
    };
    let link = Bencode::dict([
        ("path", list(&["link"])),
        ("attr", "l".into()),
        ("symlink path", list(&["sub", "x"])),
        ("length", 99i64.into()),
    ]);
    let files = vec![
        with_attr(&["sub", "x"], 100, "xhz"),
        with_attr(&[".pad", "16284"], 16_284, "p"),
        link,
        with_attr(&["y"], 383, ""),
        with_attr(&[".pad", "16284"], 16_000, "p"),
        Bencode::dict([("length", 0i64.into()), ("attr", "p".into())]),
    ];
    let torrent = parse(several(files)).unwrap();
    let attributes: Vec<_> = torrent.files.iter().map(|file| &file.attributes).collect();
    assert!(attributes[0].executable && attributes[0].hidden && !attributes[0].pad);
    assert!(attributes[1].pad && attributes[4].pad && attributes[5].pad);
    let target = attributes[2].symlink.as_ref().unwrap();
    assert_eq!(target.as_str(), "dir/sub/x");
    assert_eq!(torrent.files[2].len, 0);
    assert_eq!(*attributes[3], Attributes::default());
    // Pads may share a path: they are never stored.
    assert_eq!(torrent.files[1].path, torrent.files[4].path);
    assert!(torrent.layout.is_pad_file(1) && !torrent.layout.is_pad_file(3));
    assert_eq!(torrent.layout.files(), torrent.files.len());
}

#[test]
fn links_out_of_the_torrent_are_refused() {
    for target in [&["..", "x"][..], &["/etc", "passwd"], &[]] {
        let link = Bencode::dict([
            ("path", list(&["link"])),
            ("attr", "l".into()),
            ("symlink path", list(target)),
        ]);
        let result = parse(several(vec![link, file(&["x"], 32_767)]));
        assert!(matches!(result, Err(MetainfoError::Path(_))), "{target:?}");
    }
}

#[test]
fn utf8_names_are_preferred() {
    let entry = Bencode::dict([
        ("path", Bencode::list([vec![0xe9].into()])),
        ("path.utf-8", list(&["é"])),
        ("length", 32_767i64.into()),
    ]);
    let info = with(
        several(vec![entry]),
        [("name.utf-8", Some("détente".into()))],
    );
    assert_eq!(paths(&parse(info).unwrap()), ["détente/é"]);
}

#[test]
fn hostile_paths_are_refused_or_made_safe() {
    for path in [
        &["..", "x"][..],
        &["a", "..", "..", "x"],
        &["/etc/passwd"],
        &["a\0b"],
        &[],
        &[""],
    ] {
        let result = parse(several(vec![file(path, 32_767)]));
        assert!(matches!(result, Err(MetainfoError::Path(_))), "{path:?}");
    }
    for name in ["..", "/etc/passwd", "", ".", "\0"] {
        let result = parse(with(single(), [("name", Some(name.into()))]));
        assert!(matches!(result, Err(MetainfoError::Path(_))), "{name:?}");
    }
    let name = parse(with(single(), [("name", Some("x/../../y".into()))])).unwrap();
    assert_eq!(name.name, "x_.._.._y");
    let deep = vec!["d"; 200];
    let error = parse(several(vec![file(&deep, 32_767)])).unwrap_err();
    assert!(matches!(error, MetainfoError::Path(PathError::TooDeep(_))));
}

#[test]
fn colliding_files_are_renamed() {
    let files = vec![
        file(&["a"], 1),
        file(&["a"], 2),
        file(&["b"], 3),
        file(&["b", "c"], 32_761),
    ];
    let torrent = parse(several(files)).unwrap();
    assert_eq!(paths(&torrent), ["dir/a", "dir/a.1", "dir/b.1", "dir/b/c"]);
}

#[test]
fn nothing_lies_below_a_link() {
    let link = Bencode::dict([
        ("path", list(&["b"])),
        ("attr", "l".into()),
        ("symlink path", list(&["x"])),
    ]);
    let files = vec![link, file(&["b", "c"], 32_767)];
    let torrent = parse(several(files)).unwrap();
    assert_eq!(paths(&torrent), ["dir/b.1", "dir/b/c"]);
    assert!(torrent.files[0].attributes.symlink.is_some());
}

#[test]
fn wrong_file_types_are_named() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (b" \n", "an empty file"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\n\n <html>", "HTML"),
        (b"\xef\xbb\xbf<?xml version", "XML"),
        (b"\x1f\x8b\x08\0", "gzip data (unpack it first)"),
        (b"PK\x03\x04", "a ZIP archive (unpack it first)"),
        (b"magnet:?xt=urn:btih:", "a magnet link"),
        (b"\x7fELF", "another kind of file"),
    ];
    for (bytes, what) in cases {
        let error = Torrent::parse(bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("this is {what}, no torrent"));
    }
    assert!(matches!(
        Torrent::parse(&vec![b'd'; TORRENT_FILE_LEN_MAX + 1]),
        Err(MetainfoError::TooLarge(_))
    ));
}

#[test]
fn truncation_is_named_at_every_byte() {
    let bytes = torrent(single());
    for len in 1..bytes.len() {
        let error = Torrent::parse(&bytes[..len]).unwrap_err();
        assert!(matches!(error, MetainfoError::Bencode(_)), "{len}: {error}");
    }
    let mut longer = bytes;
    longer.push(b'\n');
    assert_eq!(
        Torrent::parse(&longer).unwrap_err(),
        MetainfoError::Bencode(DecodeError {
            at: longer.len() - 1,
            problem: Problem::Trailing
        })
    );
}

#[test]
fn missing_and_mistyped_fields_are_named() {
    for key in ["name", "length", "piece length", "pieces"] {
        let error = parse(with(single(), [(key, None)])).unwrap_err();
        assert_eq!(error, MetainfoError::Missing(key));
        let error = parse(with(single(), [(key, Some(Bencode::list([])))])).unwrap_err();
        assert!(matches!(error, MetainfoError::Type { key: found, .. } if found == key));
    }
    let error = Torrent::parse(b"de").unwrap_err();
    assert_eq!(error.to_string(), r#"torrent without "info""#);
    let error = Torrent::parse(b"d4:infolee").unwrap_err();
    assert_eq!(error.to_string(), r#""info" is not a dictionary"#);
    assert_eq!(parse(several(vec![])).unwrap_err(), MetainfoError::NoFiles);
    let error = parse(several(vec![1i64.into()])).unwrap_err();
    assert_eq!(error.to_string(), r#""files" is not a dictionary"#);
}

#[test]
fn impossible_numbers_are_refused() {
    let piece_len = |value: i64| parse(with(single(), [("piece length", Some(value.into()))]));
    assert_eq!(
        piece_len(0).unwrap_err(),
        LayoutError::PieceLength(0).into()
    );
    assert!(matches!(piece_len(-1), Err(MetainfoError::Range { .. })));
    assert!(matches!(piece_len(i64::MAX), Err(MetainfoError::Layout(_))));
    assert!(matches!(
        piece_len(1),
        Err(MetainfoError::DigestCount { .. })
    ));
    let len = |value: i64| parse(with(single(), [("length", Some(value.into()))]));
    assert!(matches!(len(-1), Err(MetainfoError::Range { .. })));
    assert!(matches!(
        len(i64::MAX),
        Err(MetainfoError::Layout(LayoutError::TooManyPieces(_)))
    ));
    let sum = several(vec![file(&["a"], i64::MAX), file(&["b"], i64::MAX)]);
    assert_eq!(parse(sum).unwrap_err(), LayoutError::TooLarge.into());
}

#[test]
fn digests_must_match_the_size() {
    let pieces = |len: usize| parse(with(single(), [("pieces", Some(vec![7; len].into()))]));
    assert!(pieces(60).is_ok());
    assert_eq!(pieces(59).unwrap_err(), MetainfoError::DigestsLength(59));
    for len in [0, 40, 80] {
        assert!(matches!(
            pieces(len),
            Err(MetainfoError::DigestCount { .. })
        ));
    }
    let empty = with(
        single(),
        [("length", Some(0i64.into())), ("pieces", Some("".into()))],
    );
    assert_eq!(parse(empty).unwrap().layout.pieces(), 0);
}

#[test]
fn too_many_files_and_multiplied_names_are_refused() {
    let entry = b"d6:lengthi0e4:pathl1:aee";
    let build = |name: &str, count: usize| {
        let mut bytes = b"d4:infod5:filesl".to_vec();
        (0..count).for_each(|_| bytes.extend_from_slice(entry));
        let rest = format!("e4:name{}:{name}12:piece lengthi1e6:pieces0:ee", name.len());
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    };
    assert!(Torrent::parse(&build("d", 1_000)).is_ok());
    assert_eq!(
        Torrent::parse(&build("d", FILES_MAX + 1)).unwrap_err(),
        MetainfoError::TooManyFiles
    );
    assert_eq!(
        Torrent::parse(&build(&"n".repeat(240), 100_000)).unwrap_err(),
        MetainfoError::PathsTooLong
    );
}

#[test]
fn the_magnet_link_carries_name_trackers_and_web_seeds() {
    let bytes = Bencode::dict([
        (
            "info",
            Bencode::dict(with(single(), [("name", Some("a b&é.bin".into()))])),
        ),
        ("announce", "http://t:80/announce?k=v".into()),
        ("url-list", "http://w/".into()),
    ])
    .encode();
    let torrent = Torrent::parse(&bytes).unwrap();
    assert_eq!(
        torrent.magnet().to_string(),
        format!(
            "magnet:?xt=urn:btih:{}&dn=a%20b%26%C3%A9.bin\
             &tr=http%3A%2F%2Ft%3A80%2Fannounce%3Fk%3Dv&ws=http%3A%2F%2Fw%2F",
            torrent.info_hash
        )
    );
}

#[test]
fn a_bare_info_dictionary_is_a_torrent_without_trackers() {
    let bytes = Bencode::dict([
        ("info", Bencode::dict(single())),
        ("announce", "http://t/announce".into()),
    ])
    .encode();
    let torrent = Torrent::parse(&bytes).unwrap();
    assert_eq!(&*torrent.info, Bencode::dict(single()).encode());
    let bare = Torrent::from_info(&torrent.info).unwrap();
    assert_eq!(bare.info_hash, torrent.info_hash);
    assert_eq!((&bare.files, &bare.info), (&torrent.files, &torrent.info));
    assert!(bare.trackers.is_empty());
    // The whole file is no info dictionary, nor is part of one.
    let error = Torrent::from_info(&bytes).unwrap_err();
    assert!(matches!(error, MetainfoError::Missing(_)));
    let error = Torrent::from_info(&torrent.info[..50]).unwrap_err();
    assert!(matches!(error, MetainfoError::Bencode(_)));
    let huge = vec![b'0'; TORRENT_FILE_LEN_MAX + 1];
    let error = Torrent::from_info(&huge).unwrap_err();
    assert!(matches!(error, MetainfoError::TooLarge(_)));
}

/// What the rest of the program relies on.
fn check(torrent: &Torrent) {
    let spans = torrent.files.iter().map(|file| FileSpan {
        len: file.len,
        pad: file.attributes.pad,
    });
    let piece_len = u64::from(torrent.layout.piece_length());
    assert_eq!(Layout::new(piece_len, spans).unwrap(), *torrent.layout);
    assert_eq!(
        torrent.piece_digests.len(),
        torrent.layout.pieces() as usize
    );
    for file in &torrent.files {
        assert_eq!(file.path.components().next(), Some(&*torrent.name));
        assert_eq!(file.path.components().count() == 1, torrent.single_file);
    }
    assert!(torrent.magnet().to_string().is_ascii());
    let bare = Torrent::from_info(&torrent.info).unwrap();
    assert_eq!(bare.info_hash, torrent.info_hash);
    assert_eq!(bare.files, torrent.files);
}

proptest! {
    #[test]
    fn mutated_torrents_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        is_single in any::<bool>(),
    ) {
        let files = vec![
            file(&["sub", "a"], 100),
            Bencode::dict([("path", list(&["p"])), ("length", 16_284i64.into()), ("attr", "p".into())]),
            file(&["b"], 16_383),
        ];
        let mut bytes = torrent(if is_single { single() } else { several(files) });
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(torrent) = Torrent::parse(&bytes) {
            check(&torrent);
        }
    }

    #[test]
    fn random_files_never_panic(
        names in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 1..4), 1..6),
        lens in prop::collection::vec(0i64..40_000, 6),
        attrs in prop::collection::vec("[plxh]{0,2}", 6),
        wrong in prop::bool::weighted(0.1),
    ) {
        let bytes = names.iter().zip(&lens).zip(&attrs).map(|((_, &len), attr)| match attr {
            attr if attr.contains('l') => 0,
            _ => len.max(0) as usize,
        });
        let digests = bytes.sum::<usize>().div_ceil(16_384) + usize::from(wrong);
        let files = names.iter().zip(&lens).zip(&attrs).map(|((path, &len), attr)| Bencode::dict([
            ("path", Bencode::list(path.iter().map(|name| name[..].into()))),
            ("symlink path", Bencode::list(path.iter().rev().map(|name| name[..].into()))),
            ("length", len.into()),
            ("attr", attr[..].into()),
        ]));
        let pieces = vec![7; digests * 20];
        let info = with(several(files.collect()), [("pieces", Some(pieces.into()))]);
        if let Ok(torrent) = parse(info) {
            check(&torrent);
        }
    }
}
