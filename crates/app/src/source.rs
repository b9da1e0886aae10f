//! SOURCE: what a user may name to mean a torrent.
//!
//! A path, `-` for stdin, an http(s) URL, a magnet link or a bare info hash. A file of that name
//! wins over every other meaning. [`find`] says which it is and reads what there is to read; only
//! a URL is asked for over the network.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use dunlin_host::fetch::{FetchErrorKind, FetchOptions, fetch};
use dunlin_host::{Network, shown_url};
use dunlin_metainfo::{Magnet, Metainfo, MetainfoError, Torrent, TorrentV2};

use crate::failure::{Code, Failure};
use crate::signals::Interrupt;

/// The largest .torrent that is read (libtorrent's limit too), in bytes.
const TORRENT_BYTES_MAX: u64 = 10_000_000;

/// Time between two looks at the interrupt while a server is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a SOURCE turned out to be.
#[derive(Debug)]
pub enum Found {
    Torrent(Box<Torrent>),
    /// It can be shown, and linked to.
    V2Only(Box<TorrentV2>),
    /// The hash of a torrent, and perhaps where to ask for it.
    Link(Box<Magnet>),
}

/// 40 hexadecimal digits (v1) or 64 (v2).
pub fn is_info_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads and checks the torrent that `source` names. A link is not enough.
pub fn load(source: &str, network: &Network) -> Result<Torrent, Failure> {
    match find(source, None, network)? {
        Found::Torrent(torrent) => Ok(*torrent),
        Found::V2Only(_) => Err(v2_only(source)),
        Found::Link(_) => Err(Failure::usage(format!(
            "{source}: a link does not tell what is in the torrent; name the .torrent file, or \
             download it: dunlin get"
        ))),
    }
}

/// `patience` is how long a server may take at most, `network` where it is reached from.
pub fn find(source: &str, patience: Option<Duration>, network: &Network) -> Result<Found, Failure> {
    if source == "-" {
        let bytes = read_some(std::io::stdin().lock(), Path::new("stdin"))?;
        return parse(&bytes, "stdin");
    }
    let path = PathBuf::from(source);
    if !path.exists() {
        if starts_with(source, "magnet:") {
            return link(source).map(|magnet| Found::Link(Box::new(magnet)));
        }
        if starts_with(source, "http://") || starts_with(source, "https://") {
            let bytes = download(source, patience, network)?;
            return parse(&bytes, &shown_url(source));
        }
        if is_info_hash(source) {
            return Ok(Found::Link(Box::new(bare(source))));
        }
    }
    if path.is_dir() {
        return Err(Failure::new(
            Code::BadInput,
            format!("{source}: is a folder, no .torrent file; name the file in it"),
        ));
    }
    let file = std::fs::File::open(&path).map_err(|error| Failure::io(&path, &error))?;
    parse(&read_some(file, &path)?, source)
}

/// A .torrent, or a magnet link that somebody saved.
fn parse(bytes: &[u8], shown: &str) -> Result<Found, Failure> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && starts_with(text.trim_start(), "magnet:")
    {
        return link(text).map(|magnet| Found::Link(Box::new(magnet)));
    }
    match Metainfo::parse(bytes) {
        Ok(Metainfo::Torrent(torrent)) => Ok(Found::Torrent(torrent)),
        Ok(Metainfo::V2Only(torrent)) => Ok(Found::V2Only(torrent)),
        Err(error) => {
            let advice = how_to_mend(&error);
            Err(Failure::new(
                Code::BadInput,
                format!("{shown}: {error}{advice}"),
            ))
        }
    }
}

fn how_to_mend(error: &MetainfoError) -> &'static str {
    if matches!(error, MetainfoError::NotATorrent(_)) {
        "; name the .torrent file itself"
    } else if matches!(error, MetainfoError::Bencode(_)) {
        "; get it again"
    } else if matches!(error, MetainfoError::V2Only | MetainfoError::MetaVersion(_)) {
        // It says so itself.
        ""
    } else {
        "; it was made wrong, get another one"
    }
}

/// A torrent that there is no transferring yet.
pub fn v2_only(source: &str) -> Failure {
    let shown = if source == "-" { "stdin" } else { source };
    Failure::new(
        Code::BadInput,
        format!("{shown}: {}", MetainfoError::V2Only),
    )
}

pub fn link(text: &str) -> Result<Magnet, Failure> {
    Magnet::parse(text).map_err(|error| {
        let line = format!("{error}; copy the whole link again");
        Failure::new(Code::BadInput, line)
    })
}

fn bare(digits: &str) -> Magnet {
    Magnet {
        info_hash: digits.parse().ok(),
        info_hash_v2: digits.parse().ok(),
        ..Magnet::default()
    }
}

fn starts_with(source: &str, start: &str) -> bool {
    source
        .get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Asks the server on a thread of its own: an interrupt need not wait for it.
fn download(url: &str, patience: Option<Duration>, network: &Network) -> Result<Vec<u8>, Failure> {
    let interrupt = Interrupt::install()?;
    let options = FetchOptions::default();
    let options = FetchOptions {
        bytes_max: TORRENT_BYTES_MAX as usize,
        timeout: patience.unwrap_or(options.timeout).min(options.timeout),
        network: network.clone(),
    };
    let (sender, answer) = mpsc::sync_channel(1);
    let (asked, url) = (url.to_owned(), shown_url(url));
    std::thread::Builder::new()
        .name("fetch".to_owned())
        .spawn(move || sender.send(fetch(&asked, &options)))
        .map_err(|error| Failure::new(Code::Other, format!("no thread: {error}")))?;
    loop {
        match answer.recv_timeout(LOOK_INTERVAL) {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(error)) => {
                let (code, advice) = advice(error.kind);
                return Err(Failure::new(code, format!("{url}: {error}{advice}")));
            }
            Err(RecvTimeoutError::Timeout) if interrupt.is_set() => {
                return Err(Failure::new(
                    Code::Unfinished,
                    format!("{url}: interrupted"),
                ));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(Code::Other, format!("{url}: no answer")));
            }
        }
    }
}

fn advice(kind: FetchErrorKind) -> (Code, &'static str) {
    match kind {
        FetchErrorKind::Url | FetchErrorKind::Network => (Code::Usage, ""),
        FetchErrorKind::NotFound => (Code::NotFound, "; check the address"),
        FetchErrorKind::Unreachable => (
            Code::NotFound,
            "; check the address, and that the server is running",
        ),
        FetchErrorKind::Refused => (
            Code::Refused,
            "; download it with a browser that is logged in, and name the file",
        ),
        FetchErrorKind::TooLarge => (Code::BadInput, "; this is no .torrent file"),
        FetchErrorKind::TimedOut => (Code::Unfinished, "; try again later"),
        FetchErrorKind::Tls => (
            Code::Other,
            "; the server may be an impostor, or this machine's clock or certificates are wrong",
        ),
        FetchErrorKind::Other => (Code::Other, ""),
    }
}

fn read_some(reader: impl Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(TORRENT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io(path, &error))?;
    if bytes.len() as u64 > TORRENT_BYTES_MAX {
        return Err(Failure::new(
            Code::BadInput,
            format!(
                "{}: larger than {TORRENT_BYTES_MAX} bytes: this is no .torrent file; name that",
                path.display()
            ),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_hash_is_40_or_64_digits() {
        assert!(is_info_hash(&"aB".repeat(20)));
        assert!(is_info_hash(&"0".repeat(64)));
        assert!(!is_info_hash(&"0".repeat(41)));
        assert!(!is_info_hash(&"g".repeat(40)));
    }

    #[test]
    fn a_hash_alone_is_a_link_of_its_kind() {
        for (digits, v1) in [("aB".repeat(20), true), ("aB".repeat(32), false)] {
            let Found::Link(magnet) = find(&digits, None, &Network::default()).unwrap() else {
                panic!("{digits}");
            };
            assert_eq!(magnet.info_hash.is_some(), v1);
            assert_eq!(magnet.info_hash_v2.is_some(), !v1);
        }
    }

    #[test]
    fn each_kind_of_bad_source_has_its_code() {
        let code = |source: &str| find(source, None, &Network::default()).unwrap_err().code;
        assert_eq!(code("/nowhere/at/all.torrent"), Code::NotFound);
        assert_eq!(code("/"), Code::BadInput);
        assert_eq!(code("magnet:?xt=urn:btih:00"), Code::BadInput);
        assert_eq!(code("MAGNET:?dn=x"), Code::BadInput);
        assert_eq!(code("HTTP://127.0.0.1:1/x.torrent"), Code::NotFound);
        assert_eq!(code("http://"), Code::Usage);
        assert_eq!(code("/dev/zero"), Code::BadInput);
        assert_eq!(
            load(&"0".repeat(40), &Network::default()).unwrap_err().code,
            Code::Usage
        );
    }
}
