use std::borrow::Cow;

use proptest::prelude::*;

use crate::bencode::Bencode;
use crate::ids::Sha256Digest;
use crate::layout::{LayoutError, PIECES_MAX};
use crate::merkle;
use crate::safe_path::PathError;
use crate::torrent_file::{Metainfo, MetainfoError, Torrent, TorrentFile, TorrentV2};

const PIECE: i64 = 16_384;

mod layers;

type Entries<'a> = Vec<(&'a str, Bencode<'a>)>;

fn list<'a>(items: &[&'a str]) -> Bencode<'a> {
    Bencode::list(items.iter().map(|&item| item.into()))
}

/// A dictionary whose keys need not be text.
fn raw_dict(entries: impl IntoIterator<Item = (Vec<u8>, Bencode<'static>)>) -> Bencode<'static> {
    let entries = entries.into_iter();
    Bencode::Dict(
        entries
            .map(|(key, value)| (Cow::Owned(key), value))
            .collect(),
    )
}

fn leaves(data: &[u8]) -> Vec<Sha256Digest> {
    data.chunks(16_384).map(merkle::leaf).collect()
}

fn root_of(data: &[u8]) -> Vec<u8> {
    let root = merkle::root(&leaves(data), 0).unwrap();
    root.as_bytes().to_vec()
}

/// A file in the tree with more properties.
fn leaf_with<'a>(data: &[u8], more: Entries<'a>) -> Bencode<'a> {
    let mut properties: Entries<'a> = vec![("length", (data.len() as i64).into())];
    if !data.is_empty() {
        properties.push(("pieces root", root_of(data).into()));
    }
    properties.extend(more);
    Bencode::dict([("", Bencode::dict(properties))])
}

fn leaf(data: &[u8]) -> Bencode<'static> {
    leaf_with(data, vec![])
}

/// A file of this length whose root is only a number.
fn claimed(len: i64) -> Bencode<'static> {
    let properties = [("length", len.into()), ("pieces root", vec![7; 32].into())];
    Bencode::dict([("", Bencode::dict(properties))])
}

fn v2<'a>(tree: Bencode<'a>, more: Entries<'a>) -> Bencode<'a> {
    let mut entries: Entries<'a> = vec![
        ("name", "t".into()),
        ("piece length", PIECE.into()),
        ("meta version", 2i64.into()),
        ("file tree", tree),
    ];
    for (key, value) in more {
        entries.retain(|(old, _)| *old != key);
        entries.push((key, value));
    }
    Bencode::dict(entries)
}

fn parse(info: Bencode<'_>) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(&Bencode::dict([("info", info)]).encode())
}

fn v2_only(info: Bencode<'_>) -> TorrentV2 {
    match parse(info).unwrap() {
        Metainfo::V2Only(torrent) => *torrent,
        Metainfo::Torrent(torrent) => panic!("{torrent:?} has a v1 half"),
    }
}

fn paths(files: &[TorrentFile]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

/// The tree of the torrents that libtorrent 2.1.1 made for these tests.
fn tree() -> Bencode<'static> {
    let link = [("attr", "l".into()), ("symlink path", list(&["sub", "c"]))];
    Bencode::dict([
        (
            "exe",
            leaf_with(&[b'e'; 20_000], vec![("attr", "x".into())]),
        ),
        ("hid", leaf_with(&[b'h'; 10], vec![("attr", "h".into())])),
        ("link", Bencode::dict([("", Bencode::dict(link))])),
        ("sub", Bencode::dict([("c", leaf(b"ccccc"))])),
    ])
}

/// The v1 half of the same.
fn v1_files() -> Vec<Bencode<'static>> {
    let file = |path: &[&'static str], len: i64, attr: &'static str| {
        let entries = [
            ("length", len.into()),
            ("path", list(path)),
            ("attr", attr.into()),
        ];
        let used = entries
            .into_iter()
            .filter(|(key, _)| *key != "attr" || !attr.is_empty());
        Bencode::dict(used)
    };
    let Bencode::Dict(mut link) = file(&["link"], 0, "l") else {
        unreachable!()
    };
    link.insert(b"symlink path".into(), list(&["sub", "c"]));
    vec![
        file(&["exe"], 20_000, "x"),
        file(&[".pad", "12768"], 12_768, "p"),
        file(&["hid"], 10, "h"),
        file(&[".pad", "16374"], 16_374, "p"),
        Bencode::Dict(link),
        file(&["sub", "c"], 5, ""),
        file(&[".pad", "16379"], 16_379, "p"),
    ]
}

fn hybrid(
    files: Vec<Bencode<'_>>,
    tree: Bencode<'_>,
    pieces: usize,
) -> Result<Torrent, MetainfoError> {
    let pieces = vec![7; 20 * pieces];
    let info = v2(
        tree,
        vec![("files", Bencode::List(files)), ("pieces", pieces.into())],
    );
    Torrent::parse(&Bencode::dict([("info", info)]).encode())
}

fn layer(data: &[u8], piece_len: i64) -> Vec<u8> {
    let mut level = leaves(data);
    for height in 0..(piece_len / 16_384).trailing_zeros() {
        level = merkle::parents(&level, height);
    }
    level.iter().flat_map(|digest| *digest.as_bytes()).collect()
}

#[test]
fn a_v2_torrent_is_read_as_libtorrent_made_it() {
    let torrent = v2_only(v2(tree(), vec![]));
    assert_eq!(
        torrent.info_hash.to_string(),
        "372c5e4831dcac17e80a607c6d501ee7c52702fcbb17fab4bfdb8b747d4ceb2e"
    );
    assert_eq!(
        paths(&torrent.files),
        ["t/exe", "t/hid", "t/link", "t/sub/c"]
    );
    assert_eq!((torrent.bytes, torrent.pieces), (20_015, 4));
    assert_eq!((torrent.piece_length, torrent.single_file), (16_384, false));
    let [exe, hid, link, _] = &torrent.files[..] else {
        unreachable!()
    };
    assert!(exe.attributes.executable && hid.attributes.hidden);
    let target = link.attributes.symlink.as_ref().map(|path| path.as_str());
    assert_eq!(
        (target, link.len, link.pieces_root),
        (Some("t/sub/c"), 0, None)
    );
    assert_eq!(
        exe.pieces_root.unwrap().to_string(),
        "9a451fbfe1ecd6669d2646d36d512ec719c33f84e2ad70779b314c898ec84d99"
    );
    assert!(torrent.magnet().to_string().starts_with(
        "magnet:?xt=urn:btmh:1220372c5e4831dcac17e80a607c6d501ee7c52702fcbb17fab4bfdb8b747d4ceb2e&dn=t"
    ));
}

#[test]
fn a_hybrid_is_read_as_libtorrent_made_it() {
    let digests = "1b2fc325b944544ed6b311e2db7ab25c92cf13a4c125ee45d767ba4178dadf3768940fca7f9179b0\
                   968250452d2010e549c2d314546ee0cb729ee08561daa69872b14d3d48bf5639b330dc679e62a6cc";
    let nibble = |digit: char| digit.to_digit(16).unwrap() as u8;
    let digits: Vec<u8> = digests.chars().map(nibble).collect();
    let digests: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    let files = Bencode::List(v1_files());
    let info = v2(tree(), vec![("files", files), ("pieces", digests.into())]);
    let torrent = Torrent::parse(&Bencode::dict([("info", info)]).encode()).unwrap();
    assert_eq!(
        torrent.info_hash.to_string(),
        "133b1f7def211a3423c5eb3928f4c2996900e107"
    );
    assert_eq!(
        torrent.info_hash_v2.unwrap().to_string(),
        "0095391e5e6017a5fe6830b04892c247169f92fe17ccc70db39a53699bd5cdee"
    );
    // Peers send no piece layers.
    let bare = Torrent::from_info(&torrent.info).unwrap();
    assert_eq!(
        (bare.info_hash_v2, &bare.files),
        (torrent.info_hash_v2, &torrent.files)
    );
    let has_root: Vec<bool> = torrent
        .files
        .iter()
        .map(|f| f.pieces_root.is_some())
        .collect();
    assert_eq!(has_root, [true, false, true, false, false, true, false]);
}

#[test]
fn a_torrent_without_a_v1_half_cannot_be_taken_for_one_that_can_be_transferred() {
    let info = v2(tree(), vec![]);
    let bytes = Bencode::dict([("info", info.clone())]).encode();
    assert_eq!(Torrent::parse(&bytes).unwrap_err(), MetainfoError::V2Only);
    assert_eq!(
        Torrent::from_info(&info.encode()).unwrap_err(),
        MetainfoError::V2Only
    );
    // A length without digests is no v1 half.
    let info = v2(
        Bencode::dict([("t", leaf(b"x"))]),
        vec![("length", 1i64.into())],
    );
    assert!(matches!(parse(info), Ok(Metainfo::V2Only(_))));
}

#[test]
fn one_file_at_the_top_is_the_torrent_and_gives_it_its_name() {
    let torrent = v2_only(v2(Bencode::dict([("f", leaf(b"x"))]), vec![]));
    assert!(torrent.single_file);
    assert_eq!((&*torrent.name, paths(&torrent.files)), ("f", vec!["f"]));
    let below = Bencode::dict([("f", Bencode::dict([("g", leaf(b"x"))]))]);
    let torrent = v2_only(v2(below, vec![]));
    assert!(!torrent.single_file);
    assert_eq!(paths(&torrent.files), ["t/f/g"]);
    // Folders without files are nothing.
    let empty = Bencode::dict::<&str>([]);
    let torrent = v2_only(v2(
        Bencode::dict([("f", leaf(b"x")), ("empty", empty.clone())]),
        vec![],
    ));
    assert_eq!(paths(&torrent.files), ["t/f"]);
    for tree in [empty.clone(), Bencode::dict([("a", empty)])] {
        assert_eq!(parse(v2(tree, vec![])).unwrap_err(), MetainfoError::NoFiles);
    }
}

#[test]
fn versions_are_told_apart() {
    let version = |version: i64| vec![("meta version", version.into())];
    let error = parse(v2(tree(), version(3))).unwrap_err();
    assert_eq!(error, MetainfoError::MetaVersion(3));
    for version in [-1i64, 0, 1] {
        let error = parse(v2(tree(), vec![("meta version", version.into())])).unwrap_err();
        assert_eq!(error, MetainfoError::Missing("meta version"));
    }
    let no_tree = Bencode::dict([
        ("name", "t".into()),
        ("piece length", PIECE.into()),
        ("meta version", 2i64.into()),
    ]);
    assert_eq!(
        parse(no_tree).unwrap_err(),
        MetainfoError::Missing("file tree")
    );
    // The v1 half of whatever comes is still v1.
    let later = v2(
        tree(),
        vec![
            ("meta version", 3i64.into()),
            ("pieces", vec![7; 20].into()),
            ("length", 1i64.into()),
        ],
    );
    let later = Torrent::parse(&Bencode::dict([("info", later)]).encode()).unwrap();
    assert_eq!(later.info_hash_v2, None);
}

#[test]
fn piece_lengths_are_powers_of_two() {
    let with = |len: i64| parse(v2(tree(), vec![("piece length", len.into())]));
    for len in [16_384, 32_768, 512 << 20] {
        assert!(with(len).is_ok(), "{len}");
    }
    for len in [0, 1, 8_192, 16_383, 16_385, 49_152, 1 << 30, i64::MAX] {
        let error = with(len).unwrap_err();
        assert_eq!(error, MetainfoError::PieceLengthV2(len as u64));
    }
    assert!(matches!(with(-16_384), Err(MetainfoError::Range { .. })));
}

#[test]
fn a_tree_has_one_meaning() {
    let raw = |tree: &str| {
        let file = |name: &str| format!("{}:{name}d0:d6:lengthi0eee", name.len());
        let tree = tree.replace("A", &file("a")).replace("B", &file("b"));
        let info = format!("d9:file tree{tree}12:meta versioni2e4:name1:t12:piece lengthi16384ee");
        Metainfo::parse(format!("d4:info{info}e").as_bytes())
    };
    assert!(raw("dABe").is_ok());
    for tree in ["dBAe", "dAAe", "d1:xdBAee"] {
        assert_eq!(
            raw(tree).unwrap_err().to_string(),
            "the file tree has names out of order",
            "{tree}"
        );
    }
    // A file that is a folder as well, in either order; a root that is a file.
    for tree in [
        "d1:ad0:d6:lengthi0ee1:xdeee",
        "d0:d6:lengthi0eee",
        "d0:deAe",
    ] {
        assert_eq!(
            raw(tree).unwrap_err().to_string(),
            "the file tree has a file with other files below it",
            "{tree}"
        );
    }
    for tree in ["le", "d1:ai5ee", "d1:ad0:i5eee", "d1:ad0:d6:lengthleeee"] {
        assert!(
            matches!(raw(tree), Err(MetainfoError::Type { .. })),
            "{tree}"
        );
    }
}

#[test]
fn a_file_needs_a_length_and_a_root() {
    let one = |properties: Entries<'static>| {
        let file = Bencode::dict([("", Bencode::dict(properties))]);
        parse(v2(Bencode::dict([("f", file)]), vec![])).unwrap_err()
    };
    let root = |bytes: Vec<u8>| ("pieces root", Bencode::from(bytes));
    let pieces_root = MetainfoError::PiecesRoot("f".to_owned());
    let length = |len: i64| ("length", Bencode::from(len));
    assert_eq!(one(vec![]), MetainfoError::Missing("length"));
    assert!(matches!(one(vec![length(-1)]), MetainfoError::Range { .. }));
    assert_eq!(one(vec![length(1)]), pieces_root);
    for bad in [vec![], vec![7; 31], vec![7; 33], vec![0; 32]] {
        assert_eq!(one(vec![length(1), root(bad)]), pieces_root);
    }
    assert_eq!(
        one(vec![length(1), ("pieces root", 5i64.into())]),
        pieces_root
    );
    let pad = one(vec![length(1), root(vec![7; 32]), ("attr", "p".into())]);
    assert_eq!(pad.to_string(), "the file tree lists a padding file");
    // An empty file has none.
    let empty = v2_only(v2(
        Bencode::dict([("f", leaf(b"")), ("g", claimed(0))]),
        vec![],
    ));
    assert_eq!((empty.bytes, empty.pieces), (0, 0));
    assert!(empty.files.iter().all(|file| file.pieces_root.is_none()));
}

#[test]
fn hostile_names_are_refused_or_made_safe() {
    for name in ["..", "/etc", "a\0b", "."] {
        for tree in [
            Bencode::dict([(name, leaf(b"x"))]),
            Bencode::dict([(name, leaf(b"x")), ("z", leaf(b"y"))]),
            Bencode::dict([("d", Bencode::dict([(name, leaf(b"x"))]))]),
            Bencode::dict([(name, Bencode::dict([("x", leaf(b"x"))]))]),
        ] {
            let result = parse(v2(tree, vec![]));
            assert!(matches!(result, Err(MetainfoError::Path(_))), "{name:?}");
        }
    }
    let link = |target: &[&'static str]| {
        let link = [("attr", "l".into()), ("symlink path", list(target))];
        let link = Bencode::dict([("", Bencode::dict(link))]);
        parse(v2(Bencode::dict([("l", link), ("x", leaf(b"x"))]), vec![]))
    };
    assert!(link(&["x"]).is_ok());
    for target in [&["..", "x"][..], &["/etc", "passwd"], &[]] {
        assert!(
            matches!(link(target), Err(MetainfoError::Path(_))),
            "{target:?}"
        );
    }
    // Names that are no UTF-8 load and stay apart.
    let odd = raw_dict([
        (vec![b'a', 0xfe], leaf(b"x")),
        (vec![b'a', 0xff], leaf(b"y")),
    ]);
    let odd = v2_only(v2(odd, vec![]));
    assert_eq!(paths(&odd.files), ["t/a\u{fffd}", "t/a\u{fffd}.1"]);
}

#[test]
fn a_deep_tree_is_refused_without_a_stack_overflow() {
    let nested = |depth: usize| {
        let mut bytes = b"d4:infod9:file tree".to_vec();
        bytes.extend(b"d1:a".repeat(depth));
        bytes.extend(b"d0:d6:lengthi0eee");
        bytes.extend(b"e".repeat(depth));
        bytes.extend(b"12:meta versioni2e4:name1:t12:piece lengthi16384eee");
        Metainfo::parse(&bytes)
    };
    assert!(nested(90).is_ok());
    assert!(matches!(nested(200), Err(MetainfoError::Bencode(_))));
    assert!(matches!(nested(1_000_000), Err(MetainfoError::Bencode(_))));
}

#[test]
fn a_long_folder_name_does_not_multiply() {
    let files = (0..50_000).map(|at| (format!("{at:05}"), leaf(b"")));
    let name = "n".repeat(5_000_000);
    let tree = Bencode::dict([(name, Bencode::dict(files))]);
    let bytes = Bencode::dict([("info", v2(tree, vec![]))]).encode();
    // Looking at the name again for each file would take minutes.
    let Metainfo::V2Only(torrent) = Metainfo::parse(&bytes).unwrap() else {
        panic!("it has no v1 half");
    };
    assert_eq!(torrent.files.len(), 50_000);
    let deep = (0..20).fold(
        Bencode::dict([("x", leaf(b"")), ("y", leaf(b""))]),
        |inner, _| Bencode::dict([("n".repeat(240), inner)]),
    );
    assert!(matches!(
        parse(v2(deep, vec![])),
        Err(MetainfoError::Path(PathError::TooLong(_)))
    ));
}

#[test]
fn sizes_that_overflow_are_refused() {
    let one = |len: i64| parse(v2(Bencode::dict([("f", claimed(len))]), vec![]));
    assert!(one(PIECE * i64::from(PIECES_MAX)).is_ok());
    for len in [PIECE * i64::from(PIECES_MAX) + 1, i64::MAX] {
        assert!(matches!(
            one(len),
            Err(MetainfoError::Layout(LayoutError::TooManyPieces(_)))
        ));
    }
    let two = Bencode::dict([("f", claimed(i64::MAX)), ("g", claimed(i64::MAX))]);
    assert!(matches!(
        parse(v2(two, vec![("piece length", (512i64 << 20).into())])),
        Err(MetainfoError::Layout(_))
    ));
}

#[test]
fn halves_that_disagree_are_refused() {
    let error = |files, tree, pieces| hybrid(files, tree, pieces).unwrap_err();
    let disagree = |about: &str| MetainfoError::Hybrid(about.to_owned());
    assert!(hybrid(v1_files(), tree(), 4).is_ok());
    // The pad at the end may be there or not.
    let mut no_tail = v1_files();
    no_tail.pop();
    assert!(hybrid(no_tail, tree(), 4).is_ok());

    let mut missing = v1_files();
    missing.remove(5);
    assert_eq!(error(missing, tree(), 4), disagree("t/sub/c"));
    let mut more = v1_files();
    let entry = |path: &'static str, len: i64| {
        Bencode::dict([("path", list(&[path])), ("length", len.into())])
    };
    more.push(entry("z", 0));
    assert_eq!(error(more, tree(), 4), disagree("t/z"));
    let mut swapped = v1_files();
    swapped.swap(0, 2);
    swapped.swap(1, 3);
    assert!(matches!(
        error(swapped, tree(), 4),
        MetainfoError::Hybrid(_)
    ));
    let mut shorter = v1_files();
    shorter[0] = entry("exe", 19_999);
    shorter[1] = Bencode::dict([("attr", "p".into()), ("length", 12_769i64.into())]);
    assert_eq!(error(shorter, tree(), 4), disagree("t/exe"));
    let mut renamed = v1_files();
    renamed[0] = entry("exf", 20_000);
    assert_eq!(error(renamed, tree(), 4), disagree("t/exf"));
    let mut no_link = v1_files();
    no_link[4] = entry("link", 0);
    assert_eq!(error(no_link, tree(), 4), disagree("t/link"));
}

#[test]
fn halves_that_place_files_differently_are_refused() {
    let tree = || Bencode::dict([("a", leaf(b"aaaaa")), ("b", leaf(b"bbbbbb"))]);
    let file = |path: &'static str, len: i64| {
        Bencode::dict([("path", list(&[path])), ("length", len.into())])
    };
    let pad = |len: i64| Bencode::dict([("attr", "p".into()), ("length", len.into())]);
    let with_pads = |before: i64, after: i64, pieces| {
        let files = vec![file("a", 5), pad(before), file("b", 6), pad(after)];
        hybrid(files, tree(), pieces)
    };
    assert!(with_pads(16_379, 0, 2).is_ok());
    assert!(with_pads(16_379, 16_378, 2).is_ok());
    let disagree = MetainfoError::Hybrid("t/b".to_owned());
    for (before, pieces) in [(0, 1), (16_378, 2), (16_380, 2), (16_379 + 16_384, 3)] {
        assert_eq!(
            with_pads(before, 0, pieces).unwrap_err(),
            disagree,
            "{before}"
        );
    }
    assert_eq!(
        with_pads(16_379, 16_379, 3).unwrap_err(),
        MetainfoError::HybridPieces { v1: 3, v2: 2 }
    );
    // One file: its name and length.
    let single = |name: &'static str, len: i64| {
        let pieces = vec![7; 20];
        let info = v2(
            Bencode::dict([("t", leaf(b"aaaaa"))]),
            vec![
                ("name", name.into()),
                ("length", len.into()),
                ("pieces", pieces.into()),
            ],
        );
        Torrent::parse(&Bencode::dict([("info", info)]).encode())
    };
    assert!(single("t", 5).is_ok());
    assert!(matches!(single("u", 5), Err(MetainfoError::Hybrid(_))));
    assert!(matches!(single("t", 6), Err(MetainfoError::Hybrid(_))));
}

/// Folders and files of up to three pieces.
fn a_tree() -> impl Strategy<Value = Bencode<'static>> {
    let file = (0usize..50_000).prop_map(|len| leaf(&vec![1; len]));
    file.prop_recursive(3, 20, 5, |inner| {
        prop::collection::btree_map("[a-c]{1,2}", inner, 0..5).prop_map(Bencode::dict)
    })
}

proptest! {
    #[test]
    fn changed_torrents_are_read_or_refused_without_a_panic(
        tree in a_tree(),
        is_hybrid in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let data = vec![1; 40_000];
        let more: Entries<'_> = if is_hybrid {
            vec![("files", Bencode::List(v1_files())), ("pieces", vec![7; 80].into())]
        } else {
            vec![]
        };
        let layers = raw_dict([(root_of(&data), layer(&data, PIECE).into())]);
        let tree = if is_hybrid { self::tree() } else { Bencode::dict([("d", tree)]) };
        let mut bytes = Bencode::dict([("info", v2(tree, more)), ("piece layers", layers)]).encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(Metainfo::V2Only(torrent)) = Metainfo::parse(&bytes) {
            prop_assert!(!torrent.files.is_empty());
            prop_assert_eq!(torrent.bytes, torrent.files.iter().map(|file| file.len).sum::<u64>());
            for file in &torrent.files {
                prop_assert_eq!(file.path.components().next(), Some(&*torrent.name));
                prop_assert_eq!(file.len == 0, file.pieces_root.is_none());
            }
        }
    }
}
