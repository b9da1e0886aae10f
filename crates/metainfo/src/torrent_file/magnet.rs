//! Magnet links (BEP 9, BEP 53 left out).

use std::fmt::Write;

use super::Torrent;

pub(super) fn magnet(torrent: &Torrent) -> String {
    let mut link = format!("magnet:?xt=urn:btih:{}", torrent.info_hash);
    if let Some(hash) = torrent.info_hash_v2 {
        // 0x12 0x20: SHA-256, 32 bytes, as a multihash (BEP 52).
        link.push_str(&format!("&xt=urn:btmh:1220{hash}"));
    }
    push(&mut link, "dn", &torrent.name);
    for tracker in torrent.trackers.iter().flatten() {
        push(&mut link, "tr", tracker);
    }
    for seed in &torrent.web_seeds {
        push(&mut link, "ws", seed);
    }
    link
}

fn push(link: &mut String, key: &str, value: &str) {
    link.push('&');
    link.push_str(key);
    link.push('=');
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                link.push(char::from(byte));
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(link, "%{byte:02X}");
            }
        }
    }
}
