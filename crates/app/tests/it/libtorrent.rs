//! libtorrent, driven by `libtorrent_peer.py`: as a peer, and as an oracle for .torrent files.
//!
//! It needs a Python that has the `libtorrent` wheel: the one that `DUNLIN_INTEROP_PYTHON` names,
//! or `target/interop-venv`, which `.ci/run` makes. Without it a test is skipped, loudly and
//! counted; with `DUNLIN_REQUIRE_CLIENTS=1` it fails instead.
//!
//! ```text
//! let Some(libtorrent) = Libtorrent::find("trades with libtorrent") else { return };
//! let mut seed = libtorrent.seed(&torrent, &folder, &[]);
//! let addr = seed.addr();                       // a Running, as for dunlin itself
//! seed.wait_for("ready");
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clients::{Place, missing};
use crate::fixture::{PATIENCE, Running, Words, wait};

/// A Python with libtorrent.
#[derive(Debug)]
pub struct Libtorrent {
    python: PathBuf,
}

impl Libtorrent {
    /// `None` means that the test `name` must end here: it was skipped.
    pub fn find(name: &str) -> Option<Self> {
        let python =
            std::env::var_os("DUNLIN_INTEROP_PYTHON").map_or_else(in_build_folder, PathBuf::from);
        let works = Command::new(&python)
            .args(["-c", "import libtorrent"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if works {
            return Some(Self { python });
        }
        let what = format!("{} cannot import libtorrent", python.display());
        missing(name, &what);
        None
    }

    pub fn version(&self) -> String {
        let script = "import libtorrent; print(libtorrent.__version__)";
        let output = Command::new(&self.python).args(["-c", script]).output();
        let stdout = output.expect("python starts").stdout;
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    /// Seeds `torrent`, whose content is in `folder`.
    pub fn seed(&self, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
        self.peer("seed", torrent, folder, words)
    }

    /// Downloads `torrent` into `folder` and goes on as a seed.
    pub fn leech(&self, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
        self.peer("leech", torrent, folder, words)
    }

    fn peer(&self, mode: &str, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
        self.peer_at(&Place::loopback(), mode, torrent.as_os_str(), folder, words)
    }

    /// A `mode` of `source`, a .torrent file or a magnet link, somewhere.
    pub fn peer_at(
        &self,
        place: &Place,
        mode: &str,
        source: &OsStr,
        folder: &Path,
        words: Words<'_>,
    ) -> Running {
        let mut peer = self.command(mode);
        peer.args([source, folder.as_os_str()])
            .args(words.iter().map(AsRef::as_ref));
        Running::new(piped(place.enter(&peer)).spawn().expect("python starts"))
    }

    /// What libtorrent reads in a .torrent file.
    pub fn info(&self, torrent: &Path) -> Value {
        self.document("info", &[&torrent])
    }

    /// Makes a v1 torrent of `path` with the files that `listed` lists, in that order.
    pub fn make(&self, path: &Path, out: &Path, piece_length: u64, listed: &Path) -> Value {
        let piece_length = piece_length.to_string();
        let words: Words<'_> = &[
            &path,
            &out,
            &"--piece-length",
            &piece_length,
            &"--files",
            &listed,
        ];
        self.document("make-torrent", words)
    }

    /// Makes a torrent of all that is in `path`: `version` is "v1", "v2" or "hybrid".
    pub fn make_all(&self, path: &Path, out: &Path, piece_length: u64, version: &str) -> Value {
        let piece_length = piece_length.to_string();
        let words: Words<'_> = &[
            &path,
            &out,
            &"--piece-length",
            &piece_length,
            &"--version",
            &version,
        ];
        self.document("make-torrent", words)
    }

    /// What libtorrent reads in a magnet link.
    pub fn magnet(&self, link: &str) -> Value {
        self.document("magnet", &[&link])
    }

    fn document(&self, mode: &str, words: Words<'_>) -> Value {
        let mut python = self.command(mode);
        python.args(words.iter().map(AsRef::as_ref));
        wait(python.spawn().expect("python starts"), PATIENCE)
            .expect(0)
            .json()
    }

    fn command(&self, mode: &str) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/libtorrent_peer.py");
        let mut command = Command::new(&self.python);
        let words: [&OsStr; 2] = [script.as_ref(), mode.as_ref()];
        command.args(words);
        piped(command)
    }
}

/// The end of stdin ends a peer whose test is gone.
fn piped(mut command: Command) -> Command {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Beside the folder for temporary files.
fn in_build_folder() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("interop-venv/bin/python")
}
