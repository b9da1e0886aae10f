//! The piece layers beside `info`.

use super::*;

/// A .torrent file of one file "f" of `data`, with these piece layers.
fn with_layers(
    data: &[u8],
    piece_len: i64,
    layers: Bencode<'_>,
) -> Result<Metainfo, MetainfoError> {
    let tree = Bencode::dict([("f", leaf(data))]);
    let info = v2(tree, vec![("piece length", piece_len.into())]);
    Metainfo::parse(&Bencode::dict([("info", info), ("piece layers", layers)]).encode())
}

#[test]
fn good_piece_layers_are_accepted() {
    let data: Vec<u8> = (0..300_000u64).map(|i| (i * i % 251) as u8).collect();
    // What libtorrent 2.1.1 makes of the same bytes.
    let root = "3827b1913f99c8a97c01ee459e98f90ddd43512c08c8372175e7d653b00e83fb";
    assert_eq!(merkle::root(&leaves(&data), 0).unwrap().to_string(), root);
    for piece_len in [16_384, 32_768, 65_536, 131_072] {
        let layers = raw_dict([(root_of(&data), layer(&data, piece_len).into())]);
        assert!(with_layers(&data, piece_len, layers).is_ok(), "{piece_len}");
    }
}

#[test]
fn missing_piece_layers_are_not_known_yet() {
    let data = vec![1; 40_000];
    let tree = Bencode::dict([("f", leaf(&data))]);
    assert!(parse(v2(tree, vec![])).is_ok());
    assert!(with_layers(&data, PIECE, Bencode::dict::<&str>([])).is_ok());
}

#[test]
fn bad_piece_layers_are_refused() {
    let data: Vec<u8> = (0..40_000u64).map(|i| (i % 251) as u8).collect();
    let root = root_of(&data);
    let good = layer(&data, PIECE);
    assert_eq!(good.len(), 96);
    let refused = |key: Vec<u8>, layer: Bencode<'static>| {
        with_layers(&data, PIECE, raw_dict([(key, layer)])).unwrap_err()
    };
    let bad = MetainfoError::PieceLayer("f".to_owned());
    let mut flipped = good.clone();
    flipped[50] ^= 1;
    let padded = [&good[..], &[0; 32]].concat();
    let swapped = [&good[32..64], &good[..32], &good[64..]].concat();
    for layer in [
        flipped,
        padded,
        swapped,
        good[..64].to_vec(),
        good[1..].to_vec(),
        vec![],
    ] {
        assert_eq!(refused(root.clone(), layer.into()), bad);
    }
    assert_eq!(refused(root.clone(), 5i64.into()), bad);
    // Of the leaves where the layer of two blocks belongs.
    let layers = raw_dict([(root.clone(), good.clone().into())]);
    assert_eq!(with_layers(&data, 2 * PIECE, layers).unwrap_err(), bad);
    let mut other = root.clone();
    other[0] ^= 1;
    for key in [other, root[1..].to_vec(), vec![]] {
        assert_eq!(
            refused(key, good.clone().into()),
            MetainfoError::UnknownLayer
        );
    }
    // A file of one piece has no layer.
    let small = vec![1; 16_384];
    let layers = raw_dict([(root_of(&small), root_of(&small).into())]);
    assert_eq!(
        with_layers(&small, PIECE, layers).unwrap_err(),
        MetainfoError::UnknownLayer
    );
    assert!(matches!(
        with_layers(&data, PIECE, Bencode::list([])),
        Err(MetainfoError::Type { .. })
    ));
}

#[test]
fn equal_files_share_a_layer_only_if_it_fits_both() {
    let data = vec![9; 40_000];
    let with_lens = |first: i64, second: i64| {
        let file = |len: i64| {
            let properties = [
                ("length", len.into()),
                ("pieces root", root_of(&data).into()),
            ];
            Bencode::dict([("", Bencode::dict(properties))])
        };
        let tree = Bencode::dict([("a", file(first)), ("b", file(second))]);
        let layers = raw_dict([(root_of(&data), layer(&data, PIECE).into())]);
        let file = [("info", v2(tree, vec![])), ("piece layers", layers)];
        Metainfo::parse(&Bencode::dict(file).encode())
    };
    assert!(with_lens(40_000, 40_000).is_ok());
    for (first, second) in [(40_000, 70_000), (70_000, 40_000)] {
        assert!(matches!(
            with_lens(first, second),
            Err(MetainfoError::PieceLayer(_))
        ));
    }
}
