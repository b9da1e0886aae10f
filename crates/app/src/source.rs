//! SOURCE: what a user may name to mean a torrent.

use std::io::Read;
use std::path::{Path, PathBuf};

use dunlin_metainfo::Torrent;

use crate::failure::{Code, Failure};

/// The largest .torrent that is read (libtorrent's limit too), in bytes.
const TORRENT_BYTES_MAX: u64 = 10_000_000;

/// 40 hexadecimal digits (v1) or 64 (v2).
pub fn is_info_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads and checks the torrent that `source` names.
pub fn load(source: &str) -> Result<Torrent, Failure> {
    let (bytes, shown) = read(source)?;
    parse(&bytes, &shown)
}

pub fn parse(bytes: &[u8], shown: &str) -> Result<Torrent, Failure> {
    Torrent::parse(bytes).map_err(|error| Failure::new(Code::BadInput, format!("{shown}: {error}")))
}

/// The bytes of a .torrent, and how to call it.
pub fn read(source: &str) -> Result<(Vec<u8>, String), Failure> {
    if source == "-" {
        let bytes = read_some(std::io::stdin().lock(), Path::new("stdin"))?;
        return Ok((bytes, "stdin".to_owned()));
    }
    let path = PathBuf::from(source);
    if !path.exists() {
        if let Some(what) = not_built(source) {
            return Err(Failure::usage(format!(
                "{source}: {what} are not supported yet; get the .torrent file and name that"
            )));
        }
        if is_info_hash(source) {
            return Err(Failure::usage(format!(
                "{source}: a bare info-hash is not supported yet: there is no way to find a peer; \
                 get the .torrent file and name that"
            )));
        }
    }
    if path.is_dir() {
        return Err(Failure::new(
            Code::BadInput,
            format!("{source}: is a folder, no .torrent file"),
        ));
    }
    let file = std::fs::File::open(&path).map_err(|error| Failure::io(&path, &error))?;
    Ok((read_some(file, &path)?, source.to_owned()))
}

fn not_built(source: &str) -> Option<&'static str> {
    let starts = |start: &str| {
        source
            .get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    if starts("magnet:") {
        Some("magnet links")
    } else if starts("http://") || starts("https://") {
        Some("URLs")
    } else {
        None
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
                "{}: larger than {TORRENT_BYTES_MAX} bytes: this is no .torrent file",
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
    fn each_kind_of_bad_source_has_its_code() {
        let code = |source: &str| read(source).unwrap_err().code;
        assert_eq!(code("/nowhere/at/all.torrent"), Code::NotFound);
        assert_eq!(code("/"), Code::BadInput);
        assert_eq!(code("magnet:?xt=urn:btih:00"), Code::Usage);
        assert_eq!(code("HTTP://example.org/x.torrent"), Code::Usage);
        assert_eq!(code(&"0".repeat(40)), Code::Usage);
        assert_eq!(code("/dev/zero"), Code::BadInput);
    }
}
