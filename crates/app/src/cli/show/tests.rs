use dunlin_metainfo::bencode::Bencode;
use dunlin_metainfo::{Magnet, Torrent};

use super::*;

fn list<'a>(items: &[&'a str]) -> Bencode<'a> {
    Bencode::list(items.iter().map(|&item| item.into()))
}

fn facts(file: &Bencode<'_>) -> Facts {
    Facts::from(Torrent::parse(&file.encode()).unwrap())
}

/// Two files and a pad, with everything around them that there may be.
fn full<'a>(name: &'a str, text: &'a str, url: &'a str) -> Bencode<'a> {
    let file = |path: &'a str, len: i64, attr: &'a str| {
        Bencode::dict([
            ("path", list(&[path])),
            ("length", len.into()),
            ("attr", attr.into()),
        ])
    };
    let files = [
        file(name, 16_000, "x"),
        file("pad", 384, "p"),
        file("b", 100_000, ""),
    ];
    let info = Bencode::dict([
        ("name", name.into()),
        ("files", Bencode::list(files)),
        ("piece length", 16_384i64.into()),
        ("pieces", vec![7; 20 * 8].into()),
        ("private", 1i64.into()),
        ("source", text.into()),
    ]);
    Bencode::dict([
        ("info", info),
        (
            "announce-list",
            Bencode::list([list(&[url, "udp://b"]), list(&["udp://c"])]),
        ),
        ("url-list", url.into()),
        (
            "nodes",
            Bencode::list([Bencode::list([url.into(), 1i64.into()])]),
        ),
        ("comment", text.into()),
        ("created by", text.into()),
        ("creation date", 0i64.into()),
    ])
}

#[test]
fn a_page_tells_all_in_order() {
    let facts = facts(&full("name", "text", "http://a"));
    let hash = facts.magnet.info_hash.unwrap();
    let expected = format!(
        "name          name
info hash v1  {hash}
size          116.4 KB (116384 bytes), 384 B of it padding
pieces        8 of 16 KiB
private       peers come from its trackers only
tracker 1     http://a
tracker 1     udp://b
tracker 2     udp://c
web seed      http://a
DHT node      http://a:1
created       1970-01-01 00:00:00 UTC
created by    text
comment       text
source        text
magnet        magnet:?xt=urn:btih:{hash}&dn=name&tr=http%3A%2F%2Fa&tr=udp%3A%2F%2Fb&tr=udp%3A%2F%2Fc&ws=http%3A%2F%2Fa
files         2 (and 1 of padding, which are never stored)
     1    16.0 KB  name/name  (executable)
     3   100.0 KB  name/b"
    );
    assert_eq!(page::lines(&facts).join("\n"), expected);
}

#[test]
fn nothing_that_a_stranger_wrote_steers_the_terminal() {
    let evil = "a\x1b[2J\u{9b}31m\u{202e}\r\x07<script>";
    let facts = facts(&full(evil, evil, evil));
    let is_plain = |c: char| !c.is_control() && c != '\u{202e}';
    for line in page::lines(&facts) {
        assert!(line.chars().all(is_plain), "{line:?}");
    }
    let json = clean_json(&format!("{:#}", document(&facts)));
    assert!(json.chars().all(|c| is_plain(c) || c == '\n'), "{json:?}");
    let read: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["comment"], evil);
    assert_eq!(read["files"][0]["path"], format!("{evil}/{evil}"));
}

#[test]
fn long_texts_are_broken_to_fit_and_keep_their_lines() {
    let words = "words and more ".repeat(20);
    let text = format!("{words}\nsecond line {}", "ß".repeat(200));
    let name = "n".repeat(200);
    let facts = facts(&full(&name, &text, "http://a"));
    let lines = page::lines(&facts);
    let breakable = lines.iter().filter(|line| !line.contains("magnet:?"));
    for line in breakable {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let is_second = |line: &&String| line.starts_with("              second line");
    assert!(lines.iter().any(|line| is_second(&line)));
    let all: String = lines.concat();
    // In the comment, the source and the creator.
    assert_eq!(all.matches('ß').count(), 3 * 200);
}

#[test]
fn a_link_tells_the_same_keys() {
    let magnet = Magnet::parse(&format!(
        "magnet:?xt=urn:btih:{}&x.pe=[::1]:5&so=0,2-4&tr=udp://a&tr=udp://b",
        "ab".repeat(20)
    ));
    let link = Facts::from(magnet.unwrap());
    let torrent = facts(&full("name", "text", "http://a"));
    let keys = |facts: &Facts| -> Vec<String> {
        let document = document(facts);
        document.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&link), keys(&torrent));
    let document = document(&link);
    assert_eq!(document["peers"], json!([["::1", 5]]));
    assert_eq!(document["selected"], json!([[0, 0], [2, 4]]));
    assert_eq!(document["trackers"], json!([["udp://a"], ["udp://b"]]));
    for key in ["bytes", "files", "private", "pieces"] {
        assert!(document[key].is_null(), "{key}");
    }
}
