use super::*;
use proptest::prelude::*;

const HEX: &str = "0123456789abcdef0123456789abcdef01234567";
const HEX_V2: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parse(query: &str) -> Result<Magnet, MagnetError> {
    Magnet::parse(&format!("magnet:?{query}"))
}

/// A link to the torrent [`HEX`] with more parameters.
fn link(query: &str) -> Magnet {
    parse(&format!("xt=urn:btih:{HEX}&{query}")).unwrap()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn a_v1_hash_is_read_in_hexadecimal_and_in_base32() {
    let hash: InfoHash = HEX.parse().unwrap();
    assert_eq!(link("").info_hash, Some(hash));
    // `base64.b32encode(bytes.fromhex(HEX))` of Python.
    let base32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";
    for text in [base32.to_owned(), base32.to_lowercase(), HEX.to_uppercase()] {
        let magnet = parse(&format!("xt=urn:btih:{text}")).unwrap();
        assert_eq!(magnet.info_hash, Some(hash), "{text}");
        assert_eq!(magnet.info_hash_v2, None);
    }
}

#[test]
fn a_v2_hash_is_a_multihash_and_both_make_a_hybrid() {
    let v2 = parse(&format!("xt=urn:btmh:1220{HEX_V2}")).unwrap();
    assert_eq!(v2.info_hash, None);
    assert_eq!(v2.info_hash_v2, Some(HEX_V2.parse().unwrap()));
    let hybrid = link(&format!("xt=urn:btmh:1220{HEX_V2}"));
    assert!(hybrid.info_hash.is_some() && hybrid.info_hash_v2.is_some());
    let numbered = parse(&format!(
        "xt.1=urn:btih:{HEX}&xt.2=urn:btmh:1220{HEX_V2}&xt.3=urn:sha1:ABC"
    ));
    assert_eq!(numbered.unwrap(), hybrid);
}

#[test]
fn every_parameter_is_read() {
    let magnet = link(
        "dn=a%20b+c%2B%C3%A9&xl=123&tr=http%3A%2F%2Ft%3A80%2Fannounce%3Fk%3Dv%2B1&tr.1=udp://u:1\
         &ws=http%3a%2f%2fw%2f&x.pe=10.0.0.5:6881&x.pe=[2001:db8::1]:1&x.pe=%5B::1%5D%3A2\
         &x.pe=host.example:65535&so=0,2,4-6&unknown=1&&novalue",
    );
    let expected = Magnet {
        info_hash: Some(HEX.parse().unwrap()),
        info_hash_v2: None,
        name: Some("a b c+é".to_owned()),
        length: Some(123),
        trackers: owned(&["http://t:80/announce?k=v+1", "udp://u:1"]),
        web_seeds: owned(&["http://w/"]),
        peers: vec![
            ("10.0.0.5".to_owned(), 6_881),
            ("2001:db8::1".to_owned(), 1),
            ("::1".to_owned(), 2),
            ("host.example".to_owned(), 65_535),
        ],
        select: vec![0..=0, 2..=2, 4..=6],
    };
    assert_eq!(magnet, expected);
}

#[test]
fn scheme_and_keys_are_read_in_either_case_and_out_of_html() {
    let text = format!(" MAGNET:?XT=URN:BTIH:{HEX}&amp;DN=name&amp;tr=udp://u:1\n");
    let magnet = Magnet::parse(&text).unwrap();
    assert_eq!(magnet, link("dn=name&tr=udp://u:1"));
}

#[test]
fn what_names_no_torrent_is_refused() {
    for text in [
        "",
        "magnet:",
        "magnet",
        "http://a/?xt=urn:btih:00",
        "magnet?:",
    ] {
        assert_eq!(Magnet::parse(text), Err(MagnetError::NotAMagnet), "{text}");
    }
    for query in ["", "dn=a", "xt=", "xt=urn:sha1:ABC", "xt=urn:btih"] {
        assert_eq!(parse(query), Err(MagnetError::NoHash), "{query}");
    }
}

#[test]
fn bad_hashes_are_refused() {
    let short = &HEX[1..];
    let bad = [
        "".to_owned(),
        short.to_owned(),
        format!("{HEX}0"),
        format!("g{short}"),
        HEX_V2.to_owned(),
        "A".repeat(31),
        // 0, 1 and 8 are no digits of base32.
        "1".repeat(32),
        "é".repeat(16),
    ];
    for text in bad {
        let error = parse(&format!("xt=urn:btih:{text}")).unwrap_err();
        assert_eq!(error, MagnetError::Hash(text));
    }
    for text in [
        HEX,
        HEX_V2,
        &format!("1120{HEX_V2}"),
        &format!("1220{HEX}"),
        "1220",
    ] {
        let error = parse(&format!("xt=urn:btmh:{text}")).unwrap_err();
        assert_eq!(error, MagnetError::HashV2(text.to_owned()));
    }
}

#[test]
fn more_than_one_hash_of_a_kind_is_refused() {
    let other = "f".repeat(40);
    for second in [HEX, &other] {
        let query = format!("xt=urn:btih:{HEX}&xt=urn:btih:{second}");
        assert_eq!(parse(&query), Err(MagnetError::Ambiguous("v1")));
    }
    let query = format!("xt=urn:btmh:1220{HEX_V2}&xt.1=urn:btmh:1220{HEX_V2}");
    let error = parse(&query).unwrap_err();
    assert_eq!(
        error.to_string(),
        "magnet link with more than one v2 hash: which torrent is meant?"
    );
}

#[test]
fn a_huge_link_is_refused() {
    let fits = format!("magnet:?xt=urn:btih:{HEX}&x=");
    let fits = format!("{fits}{}", "a".repeat(LINK_LEN_MAX - fits.len()));
    assert!(Magnet::parse(&fits).is_ok());
    assert_eq!(
        Magnet::parse(&format!("{fits}a")),
        Err(MagnetError::TooLong(LINK_LEN_MAX + 1))
    );
}

#[test]
fn many_trackers_web_seeds_and_peers_are_cut_down() {
    let repeated = |key: &str, value: &dyn Fn(usize) -> String| {
        let all = (0..ADDRESSES_MAX + 10).map(|at| format!("&{key}={}", value(at)));
        all.collect::<String>()
    };
    let query = repeated("tr", &|at| format!("udp://t{at}"))
        + &repeated("ws", &|at| format!("http://w{at}"))
        + &repeated("x.pe", &|at| format!("h{at}:1"));
    let magnet = link(&query);
    assert_eq!(magnet.trackers.len(), ADDRESSES_MAX);
    assert_eq!(magnet.web_seeds.len(), ADDRESSES_MAX);
    assert_eq!(magnet.peers.len(), ADDRESSES_MAX);
    let magnet = link("tr=udp://a&tr=udp://a&tr=&tr&x.pe=h:1&x.pe=h:1");
    assert_eq!((magnet.trackers.len(), magnet.peers.len()), (1, 1));
}

#[test]
fn peers_that_cannot_be_read_are_left_out() {
    let bad = [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:+1",
        "::1:6881",
        "[host]:1",
        "[::1]",
        "[::1:1",
        "a b:1",
        "a/b:1",
        "a%0Ab:1",
        "h%C3%A9:1",
        &format!("{}:1", "a".repeat(HOST_LEN_MAX + 1)),
    ];
    for text in bad {
        assert_eq!(link(&format!("x.pe={text}")).peers, [], "{text}");
    }
}

#[test]
fn a_selection_that_cannot_be_read_is_refused() {
    assert_eq!(link("so=").select, []);
    assert_eq!(link("so=3-3,1%2C0").select, [3..=3, 1..=1, 0..=0]);
    for text in ["a", "-1", "1-", "2-1", "1-2-3", "4294967296", "+1", "1;2"] {
        let query = format!("xt=urn:btih:{HEX}&so={text}");
        assert_eq!(parse(&query), Err(MagnetError::Select(text.to_owned())));
    }
    let many = "1,".repeat(SELECT_MAX + 1);
    assert_eq!(
        parse(&format!("xt=urn:btih:{HEX}&so={many}")),
        Err(MagnetError::SelectTooLong)
    );
}

#[test]
fn broken_escapes_stand_for_themselves() {
    assert_eq!(link("dn=100%").name.as_deref(), Some("100%"));
    assert_eq!(link("dn=%zz%4").name.as_deref(), Some("%zz%4"));
    assert_eq!(link("dn=%ff%41").name.as_deref(), Some("\u{fffd}A"));
    assert_eq!(link("dn=%25%32%30").name.as_deref(), Some("%20"));
}

#[test]
fn a_link_is_written_as_libtorrent_reads_it() {
    let magnet = link(
        "dn=a b%26c&tr=http://t/announce&ws=http://w/&x.pe=[::1]:1&x.pe=10.0.0.5:2&so=1,3-4&xl=9",
    );
    assert_eq!(
        magnet.to_string(),
        format!(
            "magnet:?xt=urn:btih:{HEX}&dn=a%20b%26c&xl=9&so=1,3-4&x.pe=[::1]:1&x.pe=10.0.0.5:2\
             &tr=http%3A%2F%2Ft%2Fannounce&ws=http%3A%2F%2Fw%2F"
        )
    );
}

#[test]
fn a_written_link_is_never_too_long_to_read() {
    let long = "\u{1}".repeat(LINK_LEN_MAX / 6);
    let mut magnet = link("");
    magnet.trackers = vec![long.clone(), "udp://t".to_owned(), long.clone(), long];
    let read = Magnet::parse(&magnet.to_string()).unwrap();
    assert_eq!(read.trackers.len(), 2);
    assert_eq!(read.trackers[1], "udp://t");
}

fn a_magnet() -> impl Strategy<Value = Magnet> {
    let hashes = prop_oneof![
        any::<[u8; 20]>().prop_map(|v1| (Some(v1), None)),
        any::<[u8; 32]>().prop_map(|v2| (None, Some(v2))),
        any::<([u8; 20], [u8; 32])>().prop_map(|(v1, v2)| (Some(v1), Some(v2))),
    ];
    let texts = || prop::collection::btree_set("[^\\s]([^\n]{0,20}[^\\s])?", 0..4);
    let hosts = prop_oneof![
        any::<Ipv6Addr>().prop_map(|address| address.to_string()),
        "[a-z0-9._-]{1,10}",
    ];
    let peers = prop::collection::btree_set((hosts, 1u16..), 0..4);
    let ranges = prop::collection::vec((any::<u32>(), any::<u32>()), 0..4);
    let optional = (
        prop::option::of("\\PC{1,20}"),
        prop::option::of(any::<u64>()),
    );
    (hashes, optional, texts(), texts(), peers, ranges).prop_map(
        |((v1, v2), (name, length), trackers, web_seeds, peers, ranges)| Magnet {
            info_hash: v1.map(InfoHash::new),
            info_hash_v2: v2.map(InfoHashV2::new),
            name,
            length,
            trackers: trackers.into_iter().collect(),
            web_seeds: web_seeds.into_iter().collect(),
            peers: peers.into_iter().collect(),
            select: ranges
                .into_iter()
                .map(|(a, b)| a.min(b)..=a.max(b))
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(magnet in a_magnet()) {
        let link = magnet.to_string();
        prop_assert!(link.is_ascii());
        prop_assert_eq!(Magnet::parse(&link), Ok(magnet));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(
        parameters in prop::collection::vec(
            ("(xt|xt\\.1|dn|xl|tr|ws|x\\.pe|so|\\PC{0,3})", ".{0,50}"), 0..6),
        text in ".{0,100}",
    ) {
        let _ = Magnet::parse(&text);
        let query: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if let Ok(magnet) = parse(&format!("xt=urn:btih:{HEX}&{}", query.join("&"))) {
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }
    }

    #[test]
    fn a_changed_link_is_read_or_refused_without_a_panic(
        magnet in a_magnet(),
        at in any::<prop::sample::Index>(),
        put in ".{0,3}",
    ) {
        let mut link = magnet.to_string();
        let at = at.index(link.len());
        link.replace_range(at..=at, &put);
        let _ = Magnet::parse(&link);
    }
}
