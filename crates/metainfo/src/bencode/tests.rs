use super::*;
use proptest::prelude::*;

fn owned(value: Value<'_>) -> Bencode<'_> {
    match value.kind() {
        Kind::Integer => Bencode::Integer(value.as_int().unwrap()),
        Kind::Bytes => value.as_bytes().unwrap().into(),
        Kind::List => Bencode::list(value.as_list().unwrap().map(owned)),
        Kind::Dict => Bencode::Dict(
            value
                .as_dict()
                .unwrap()
                .map(|(key, value)| (Cow::Borrowed(key), owned(value)))
                .collect(),
        ),
    }
}

fn problem(bytes: &[u8]) -> (Problem, usize) {
    let error = decode(bytes).expect_err("must be refused");
    (error.problem, error.at)
}

fn tree() -> impl Strategy<Value = Bencode<'static>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Bencode::Integer),
        bytes.clone().prop_map(Bencode::from),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        let entry = (bytes.clone().prop_map(Cow::Owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Bencode::List),
            prop::collection::vec(entry, 0..8)
                .prop_map(|entries| Bencode::Dict(entries.into_iter().collect())),
        ]
    })
}

/// Reads every value in every way.
fn walk(value: Value<'_>, whole: &[u8]) {
    assert_eq!(&whole[value.span()], value.raw());
    let ways = [
        value.as_int().is_some(),
        value.as_bytes().is_some(),
        value.as_list().is_some(),
        value.as_dict().is_some(),
    ];
    assert_eq!(ways.iter().filter(|&&way| way).count(), 1);
    for item in value.as_list().into_iter().flatten() {
        walk(item, whole);
    }
    for (key, item) in value.as_dict().into_iter().flatten() {
        assert!(value.get(key).is_some());
        walk(item, whole);
    }
}

#[test]
fn values_are_read_where_they_stand() {
    let bytes = b"d1:ai-7e1:bl0:3:xyzlee1:cd1:di0eee";
    let document = decode(bytes).unwrap();
    let root = document.root();
    assert_eq!(root.get("a").unwrap().as_int(), Some(-7));
    let list: Vec<_> = root.get("b").unwrap().as_list().unwrap().collect();
    assert_eq!(list[0].as_bytes(), Some(&b""[..]));
    assert_eq!(list[1].as_str(), Some("xyz"));
    assert_eq!(list[2].as_list().unwrap().count(), 0);
    assert_eq!(root.get("c").unwrap().raw(), b"d1:di0ee");
    assert_eq!(root.get("c").unwrap().span(), 25..33);
    assert!(root.get("d").is_none());
    assert!(list[1].get("a").is_none());
    assert_eq!(list[1].as_int(), None);
}

#[test]
fn the_first_of_two_equal_keys_counts_and_order_does_not_matter() {
    let document = decode(b"d1:bi1e1:ai2e1:bi3ee").unwrap();
    assert_eq!(document.root().get("b").unwrap().as_int(), Some(1));
    assert_eq!(document.root().get("a").unwrap().as_int(), Some(2));
}

#[test]
fn encoding_sorts_keys_as_bytes() {
    let value = Bencode::dict([("b", 1i64.into()), ("a", "x".into()), ("B", vec![0].into())]);
    assert_eq!(value.encode(), b"d1:B1:\x001:a1:x1:bi1ee");
}

#[test]
fn the_limits_of_integers_are_exact() {
    for text in ["i9223372036854775807e", "i-9223372036854775808e", "i0e"] {
        let document = decode(text.as_bytes()).unwrap();
        let number = document.root().as_int().unwrap();
        assert_eq!(format!("i{number}e"), text);
    }
    assert_eq!(problem(b"i9223372036854775808e").0, Problem::IntegerRange);
    assert_eq!(problem(b"i-9223372036854775809e").0, Problem::IntegerRange);
    assert_eq!(
        problem(b"i99999999999999999999999e").0,
        Problem::IntegerRange
    );
}

#[test]
fn malformed_documents_are_refused_with_the_place() {
    let cases: [(&[u8], Problem, usize); 26] = [
        (b"", Problem::End, 0),
        (b"i", Problem::End, 1),
        (b"i12", Problem::End, 3),
        (b"ie", Problem::Integer, 0),
        (b"i-e", Problem::Integer, 0),
        (b"i-0e", Problem::Integer, 0),
        (b"i03e", Problem::Integer, 0),
        (b"i-03e", Problem::Integer, 0),
        (b"i+3e", Problem::Integer, 0),
        (b"i 3e", Problem::Integer, 0),
        (b"i1-e", Problem::Integer, 0),
        (b"i1x", Problem::Integer, 2),
        (b"3", Problem::End, 1),
        (b"3:ab", Problem::StringTooLong, 0),
        (b"03:abc", Problem::StringLength, 0),
        (b"00:", Problem::StringLength, 0),
        (b"3x", Problem::StringLength, 1),
        (b"99999999999999999999999:a", Problem::StringTooLong, 0),
        (b"-1:a", Problem::Byte(b'-'), 0),
        (b"l", Problem::End, 1),
        (b"d1:a", Problem::End, 4),
        (b"d1:ae", Problem::NoValue, 4),
        (b"di1e1:ae", Problem::Key, 1),
        (b"e", Problem::Byte(b'e'), 0),
        (b"i1ei2e", Problem::Trailing, 3),
        (b"de\n", Problem::Trailing, 2),
    ];
    for (bytes, what, at) in cases {
        assert_eq!(
            problem(bytes),
            (what, at),
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn depth_is_limited_and_a_million_levels_do_no_harm() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert!(decode(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(problem(&nested(DEPTH_MAX + 1)).0, Problem::TooDeep);
    assert_eq!(problem(&vec![b'l'; 1_000_000]).0, Problem::TooDeep);
    assert_eq!(problem(&b"d1:a".repeat(1_000_000)).0, Problem::TooDeep);
}

#[test]
fn tokens_are_limited() {
    let flat = |count: usize| [b"l".to_vec(), b"0:".repeat(count), b"e".to_vec()].concat();
    let most = flat(TOKENS_MAX - 1);
    let document = decode(&most).unwrap();
    assert_eq!(document.root().as_list().unwrap().count(), TOKENS_MAX - 1);
    assert_eq!(problem(&flat(TOKENS_MAX)).0, Problem::TooManyTokens);
}

#[test]
fn what_follows_a_value_comes_back_unread() {
    let (document, rest) = decode_prefix(b"d1:ai1ee3:abc").unwrap();
    assert_eq!(document.root().raw(), b"d1:ai1ee");
    assert_eq!(rest, b"3:abc");
    assert_eq!(problem(b"d1:ai1ee3:abc"), (Problem::Trailing, 8));
    assert!(decode_prefix(b"d1:a").is_err());
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_it_back(tree in tree()) {
        let bytes = tree.encode();
        let document = decode(&bytes).unwrap();
        prop_assert_eq!(owned(document.root()), tree);
        prop_assert_eq!(document.root().raw(), &bytes[..]);
        walk(document.root(), &bytes);
    }

    #[test]
    fn every_truncation_is_refused(tree in tree(), cut in 0usize..1_000) {
        let bytes = tree.encode();
        prop_assert!(decode(&bytes[..cut % bytes.len()]).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(document) = decode(&bytes) {
            walk(document.root(), &bytes);
        }
    }

    #[test]
    fn random_bencode_letters_never_panic(
        bytes in prop::collection::vec(prop::sample::select(&b"ilde0123:-a"[..]), 0..60),
    ) {
        if let Ok(document) = decode(&bytes) {
            walk(document.root(), &bytes);
        }
    }

    #[test]
    fn mutated_documents_never_panic(
        tree in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = tree.encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(document) = decode(&bytes) {
            walk(document.root(), &bytes);
        }
    }
}
