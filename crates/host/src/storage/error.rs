//! From what the system said to what the engine and the user are told.

use std::io;
use std::path::Path;

use dunlin_engine::event::{DiskError, DiskErrorKind};
use rustix::io::Errno;

/// An operation on `path` that the system refused.
pub(crate) fn disk_error(path: &Path, error: &io::Error) -> DiskError {
    let said = error.to_string();
    let said = said.split(" (os error").next().unwrap_or_default();
    let mut letters = said.chars();
    let message = match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::from("unknown error"),
    };
    DiskError {
        kind: kind(error),
        path: path.to_path_buf(),
        message,
    }
}

/// A write of `wanted` bytes that the system refused: for a full disk the message says how many.
pub(crate) fn write_error(path: &Path, error: &io::Error, wanted: u64) -> DiskError {
    let mut error = disk_error(path, error);
    if error.kind == DiskErrorKind::Full {
        error.message = format!("{}; {wanted} bytes were wanted", error.message);
    }
    error
}

/// A file that is not what we left there.
pub(crate) fn changed(path: &Path, message: impl Into<String>) -> DiskError {
    DiskError {
        kind: DiskErrorKind::Changed,
        path: path.to_path_buf(),
        message: message.into(),
    }
}

pub(crate) fn other(path: &Path, message: impl Into<String>) -> DiskError {
    DiskError {
        kind: DiskErrorKind::Other,
        path: path.to_path_buf(),
        message: message.into(),
    }
}

fn kind(error: &io::Error) -> DiskErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => DiskErrorKind::Full,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => DiskErrorKind::Permission,
        Some(Errno::NOENT) => DiskErrorKind::NotFound,
        Some(Errno::EXIST) => DiskErrorKind::Exists,
        Some(_) | None => DiskErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_that_a_user_can_cause_has_its_kind_and_plain_words() {
        for (errno, kind, words) in [
            (Errno::NOSPC, DiskErrorKind::Full, "no space left on device"),
            (Errno::DQUOT, DiskErrorKind::Full, "quota"),
            (Errno::ACCESS, DiskErrorKind::Permission, "permission"),
            (Errno::PERM, DiskErrorKind::Permission, "not permitted"),
            (Errno::ROFS, DiskErrorKind::Permission, "read-only"),
            (Errno::NOENT, DiskErrorKind::NotFound, "no such file"),
            (Errno::EXIST, DiskErrorKind::Exists, "exists"),
            (Errno::IO, DiskErrorKind::Other, "input/output error"),
        ] {
            let error = disk_error(Path::new("/a"), &io::Error::from(errno));
            assert_eq!(error.kind, kind);
            assert!(error.message.contains(words), "{}", error.message);
            assert!(!error.message.contains("os error"), "{}", error.message);
            assert!(error.message.starts_with(char::is_lowercase));
        }
    }

    #[test]
    fn a_full_disk_says_how_much_was_wanted_and_where() {
        let error = write_error(Path::new("/a/b.part"), &Errno::NOSPC.into(), 65_536);
        let line = error.to_string();
        assert_eq!(
            line,
            "/a/b.part: no space left on device; 65536 bytes were wanted"
        );
    }
}
