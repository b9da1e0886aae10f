//! Magnet links: BEP 9, `x.pe` for peers, `btmh` of BEP 52, `so` of BEP 53.
//!
//! [`Magnet::parse`] reads a link from anywhere; writing one ([`Magnet`] is `Display`) gives it
//! back. What the link names must be clear (one hash of each kind at most, a selection that can be
//! read), or it is refused. What only helps (trackers, web seeds, peers) is kept up to a limit, and
//! left out where it cannot be read. Unknown parameters are ignored.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use crate::ids::{InfoHash, InfoHashV2};
use crate::torrent_file::ADDRESSES_MAX;

/// Length of a link in bytes: what Linux takes as one argument of a command.
pub const LINK_LEN_MAX: usize = 128 << 10;

/// Ranges in a selection of files (BEP 53).
pub const SELECT_MAX: usize = 1_000;

/// Length of a host name (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// 0x12 0x20: SHA-256, 32 bytes, as a multihash (BEP 52).
const MULTIHASH_SHA256: &str = "1220";

/// What a magnet link says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// Never `None` together with `info_hash_v2`.
    pub info_hash: Option<InfoHash>,
    pub info_hash_v2: Option<InfoHashV2>,
    /// What to call the torrent until its metadata is there.
    pub name: Option<String>,
    /// In bytes, as the link claims.
    pub length: Option<u64>,
    pub trackers: Vec<String>,
    pub web_seeds: Vec<String>,
    /// Host (an address without brackets, or a name) and port.
    pub peers: Vec<(String, u16)>,
    /// The files that are wanted, by their number from 0; empty for all.
    pub select: Vec<RangeInclusive<u32>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    #[error("this is no magnet link: it does not start with \"magnet:?\"")]
    NotAMagnet,
    #[error("magnet link of {0} bytes, more than {LINK_LEN_MAX}")]
    TooLong(usize),
    #[error("magnet link without a BitTorrent hash (xt=urn:btih:... or xt=urn:btmh:...)")]
    NoHash,
    #[error(
        "magnet link with the v1 hash {0:?}, which is neither 40 hexadecimal nor 32 base32 digits"
    )]
    Hash(String),
    #[error(
        "magnet link with the v2 hash {0:?}, which is not 1220 and 64 hexadecimal digits (SHA-256)"
    )]
    HashV2(String),
    #[error("magnet link with more than one {0} hash: which torrent is meant?")]
    Ambiguous(&'static str),
    #[error("magnet link with the file selection {0:?}, which is not like so=0,2,4-6")]
    Select(String),
    #[error("magnet link whose file selection has more than {SELECT_MAX} ranges")]
    SelectTooLong,
}

impl Magnet {
    /// Reads a link. Blanks around it are dropped.
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        let link = link.trim();
        if link.len() > LINK_LEN_MAX {
            return Err(MagnetError::TooLong(link.len()));
        }
        let query = strip_scheme(link).ok_or(MagnetError::NotAMagnet)?;
        let mut reader = Reader::default();
        for parameter in query.split('&') {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            reader.parameter(key, value)?;
        }
        let magnet = reader.magnet;
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoHash);
        }
        Ok(magnet)
    }
}

/// Writes the link, as much of it as [`LINK_LEN_MAX`] has room for.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters = Vec::new();
        if let Some(hash) = self.info_hash {
            parameters.push(format!("xt=urn:btih:{hash}"));
        }
        if let Some(hash) = self.info_hash_v2 {
            parameters.push(format!("xt=urn:btmh:{MULTIHASH_SHA256}{hash}"));
        }
        if let Some(name) = &self.name {
            parameters.push(format!("dn={}", escaped(name)));
        }
        if let Some(length) = self.length {
            parameters.push(format!("xl={length}"));
        }
        if !self.select.is_empty() {
            parameters.push(format!("so={}", written_ranges(&self.select)));
        }
        // libtorrent reads peers as they stand, without decoding escapes.
        parameters.extend(self.peers.iter().map(|(host, port)| {
            if host.contains(':') {
                format!("x.pe=[{host}]:{port}")
            } else {
                format!("x.pe={host}:{port}")
            }
        }));
        let trackers = self.trackers.iter();
        parameters.extend(trackers.map(|url| format!("tr={}", escaped(url))));
        let web_seeds = self.web_seeds.iter();
        parameters.extend(web_seeds.map(|url| format!("ws={}", escaped(url))));

        f.write_str("magnet:?")?;
        let mut len = "magnet:?".len();
        let mut separator = "";
        for parameter in parameters {
            if len + 1 + parameter.len() > LINK_LEN_MAX {
                continue;
            }
            write!(f, "{separator}{parameter}")?;
            len += separator.len() + parameter.len();
            separator = "&";
        }
        Ok(())
    }
}

#[derive(Default)]
struct Reader {
    magnet: Magnet,
    seen: BTreeSet<(&'static str, String)>,
}

impl Reader {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        // Copied out of the source of a page, `&` is `&amp;`.
        let key = key.strip_prefix("amp;").unwrap_or(key);
        let key = key.to_ascii_lowercase();
        match without_number(&key) {
            "xt" => return self.topic(&unescaped(value)),
            "dn" if self.magnet.name.is_none() => {
                // Forms write a blank as `+`. A `+` itself is escaped.
                self.magnet.name = non_empty(unescaped(&value.replace('+', " ")));
            }
            "xl" if self.magnet.length.is_none() => {
                self.magnet.length = value.parse().ok();
            }
            "tr" => {
                if let Some(url) = self.fresh("tr", value, self.magnet.trackers.len()) {
                    self.magnet.trackers.push(url);
                }
            }
            "ws" => {
                if let Some(url) = self.fresh("ws", value, self.magnet.web_seeds.len()) {
                    self.magnet.web_seeds.push(url);
                }
            }
            "x.pe" => {
                if let Some(text) = self.fresh("x.pe", value, self.magnet.peers.len()) {
                    self.magnet.peers.extend(peer(&text));
                }
            }
            "so" => return self.select(&unescaped(value)),
            _ => {}
        }
        Ok(())
    }

    /// What the link names. Hashes of other networks are ignored.
    fn topic(&mut self, urn: &str) -> Result<(), MagnetError> {
        let (v1, v2) = (
            strip_prefix_no_case(urn, "urn:btih:"),
            strip_prefix_no_case(urn, "urn:btmh:"),
        );
        if let Some(text) = v1 {
            let hash = hash_v1(text).ok_or_else(|| MagnetError::Hash(excerpt(text)))?;
            if self.magnet.info_hash.replace(hash).is_some() {
                return Err(MagnetError::Ambiguous("v1"));
            }
        }
        if let Some(text) = v2 {
            let hash = text.strip_prefix(MULTIHASH_SHA256);
            let hash = hash.and_then(|digits| digits.parse().ok());
            let hash = hash.ok_or_else(|| MagnetError::HashV2(excerpt(text)))?;
            if self.magnet.info_hash_v2.replace(hash).is_some() {
                return Err(MagnetError::Ambiguous("v2"));
            }
        }
        Ok(())
    }

    /// The value, unless it is empty, was there before, or is one too many.
    fn fresh(&mut self, key: &'static str, value: &str, kept: usize) -> Option<String> {
        if kept >= ADDRESSES_MAX {
            return None;
        }
        let text = non_empty(unescaped(value).trim().to_owned())?;
        self.seen.insert((key, text.clone())).then_some(text)
    }

    fn select(&mut self, text: &str) -> Result<(), MagnetError> {
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let range = number(first).zip(number(last));
            match range {
                Some((first, last)) if first <= last => self.magnet.select.push(first..=last),
                Some(_) | None => return Err(MagnetError::Select(excerpt(text))),
            }
            if self.magnet.select.len() > SELECT_MAX {
                return Err(MagnetError::SelectTooLong);
            }
        }
        Ok(())
    }
}

/// What follows `magnet:?`.
fn strip_scheme(link: &str) -> Option<&str> {
    strip_prefix_no_case(link, "magnet:?")
}

fn strip_prefix_no_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// A key that occurs more than once may be numbered: `tr.1`.
fn without_number(key: &str) -> &str {
    match key.split_once('.') {
        Some((name, number))
            if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        Some(_) | None => key,
    }
}

/// 40 hexadecimal digits, or 32 of base32 (RFC 4648, either case) in old links.
fn hash_v1(text: &str) -> Option<InfoHash> {
    if text.len() != 32 {
        return text.parse().ok();
    }
    let mut bytes = [0; InfoHash::LEN];
    for (out, digits) in bytes
        .chunks_exact_mut(5)
        .zip(text.as_bytes().chunks_exact(8))
    {
        let mut bits: u64 = 0;
        for digit in digits {
            let value = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                number @ b'2'..=b'7' => number - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        // 8 digits of 5 bits are the low 40 bits.
        let [_, _, _, group @ ..] = bits.to_be_bytes();
        out.copy_from_slice(&group);
    }
    Some(InfoHash::new(bytes))
}

/// `host:port`, or `[v6 address]:port`.
fn peer(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(port)?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
        None => {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            let is_host = !host.is_empty() && host.len() <= HOST_LEN_MAX;
            (is_host && host.bytes().all(is_name)).then(|| host.to_owned())?
        }
    };
    Some((host, port))
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn written_ranges(ranges: &[RangeInclusive<u32>]) -> String {
    let range = |range: &RangeInclusive<u32>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Decodes `%xx`; a `%` without two digits stands for itself, as in browsers.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escape = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match escape {
            Some(((high, low), after)) => {
                bytes.push(high << 4 | low);
                rest = after;
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The beginning of a value, short enough for an error message.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
