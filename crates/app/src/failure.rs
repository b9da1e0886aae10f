//! How a run ends: the exit codes of the contract and the one line that goes with each.
//!
//! A [`Failure`] says what, where and what to do. `main` prints it and exits with its code; nothing
//! below `main` ends the process.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use dunlin_engine::event::{DiskError, DiskErrorKind};

use crate::clean::steers;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    Other,
    Usage,
    NotFound,
    Refused,
    Disk,
    BadInput,
    Unfinished,
    VerifyFailed,
    Conflict,
}

impl Code {
    pub fn number(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Disk => 5,
            Self::BadInput => 6,
            Self::Unfinished => 7,
            Self::VerifyFailed => 8,
            Self::Conflict => 10,
        }
    }

    /// The `code` of an `error` event.
    pub fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Disk => "disk",
            Self::BadInput => "bad_input",
            Self::Unfinished => "unfinished",
            Self::VerifyFailed => "verify_failed",
            Self::Conflict => "conflict",
        }
    }
}

/// The exit code after a second interrupt: 128 + SIGINT.
pub const INTERRUPTED_TWICE: u8 = 130;

/// Why a command did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    /// Line breaks and whatever steers a terminal (file names may hold it) become spaces: one line.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        let message = message
            .to_string()
            .chars()
            .map(|c| if steers(c) { ' ' } else { c })
            .collect();
        Self { code, message }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    /// An error of the file system, at `path`.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        let known = [
            (
                ErrorKind::NotFound,
                Code::NotFound,
                "no such file or folder; check the name",
            ),
            (
                ErrorKind::AlreadyExists,
                Code::Conflict,
                "exists already; choose another name",
            ),
            (
                ErrorKind::IsADirectory,
                Code::BadInput,
                "is a folder; name a file",
            ),
            (
                ErrorKind::PermissionDenied,
                Code::Disk,
                "permission denied; choose another place or change its mode",
            ),
            (
                ErrorKind::InvalidFilename,
                Code::Disk,
                "the name is too long for this file system; choose a shorter one",
            ),
            (
                ErrorKind::StorageFull,
                Code::Disk,
                "the disk is full; free some space",
            ),
        ];
        let (code, words) = known
            .into_iter()
            .find(|(kind, ..)| *kind == error.kind())
            .map_or_else(
                || (Code::Disk, system_words(error)),
                |(_, code, words)| (code, words.to_owned()),
            );
        Self::new(code, format!("{}: {words}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What the disk of a torrent said.
pub fn disk_failure(error: &DiskError) -> Failure {
    let advice = match error.kind {
        DiskErrorKind::Full => "; free some space and run the same command again",
        DiskErrorKind::Permission => "; choose another folder or change its mode",
        DiskErrorKind::Exists => {
            "; move it away and run the same command again, or replace it with --overwrite"
        }
        DiskErrorKind::NotFound | DiskErrorKind::Changed => {
            "; run the same command again, which checks what is there"
        }
        DiskErrorKind::Other => "",
    };
    let code = match error.kind {
        DiskErrorKind::Exists => Code::Conflict,
        // Nothing that the user named: it vanished while we used it.
        DiskErrorKind::NotFound
        | DiskErrorKind::Full
        | DiskErrorKind::Permission
        | DiskErrorKind::Changed
        | DiskErrorKind::Other => Code::Disk,
    };
    Failure::new(code, format!("{error}{advice}"))
}

/// What the system said, lower case, without its number.
pub fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_a_file_is_called() {
        let failure = Failure::new(Code::Disk, "evil\nname\x1b[31m\u{202e}: gone");
        assert_eq!(failure.message, "evil name [31m : gone");
    }

    #[test]
    fn a_name_that_is_too_long_says_what_to_do() {
        let error = io::Error::from_raw_os_error(36);
        let failure = Failure::io(Path::new("x"), &error);
        assert!(
            failure.message.ends_with("choose a shorter one"),
            "{failure}"
        );
        assert_eq!(failure.code, Code::Disk);
    }

    #[test]
    fn the_system_speaks_lower_case_and_without_numbers() {
        let error = io::Error::from_raw_os_error(28);
        assert_eq!(system_words(&error), "no space left on device");
    }
}
