//! A libtorrent peer, for the tests that trade with it.
//!
//! It needs a Python that has the `libtorrent` wheel: the one that `DUNLIN_INTEROP_PYTHON` names,
//! or `target/interop-venv`, which `.ci/run` makes. Without it a test is skipped, loudly and
//! counted; with `DUNLIN_REQUIRE_CLIENTS=1` it fails instead.
//!
//! ```text
//! let Some(libtorrent) = Libtorrent::find("trades with libtorrent") else { return };
//! let mut seed = libtorrent.start(&torrent, &folder, &[&"--seed-mode"]);
//! let addr = seed.addr();                       // a Running, as for dunlin itself
//! seed.wait_for("complete");
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fixture::{Running, Words};

/// A Python with libtorrent.
#[derive(Debug)]
pub struct Libtorrent {
    pub python: PathBuf,
}

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

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
        let missing = format!(
            "libtorrent missing for {name}: {} cannot import it",
            python.display()
        );
        assert!(
            std::env::var_os("DUNLIN_REQUIRE_CLIENTS").is_none_or(|v| v != "1"),
            "{missing}"
        );
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Not println!, which the test harness would capture: a skip must be seen.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {count}: {missing}; .ci/run installs it"
        );
        None
    }

    /// Runs `libtorrent_peer.py`; see there for the words after the folder.
    pub fn start(&self, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/libtorrent_peer.py");
        let child = Command::new(&self.python)
            .arg("-u")
            .arg(script)
            .args([torrent, folder])
            .args(words.iter().map(|word| -> &OsStr { word.as_ref() }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python starts");
        Running::new(child)
    }
}

/// Beside the folder for temporary files.
fn in_build_folder() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("interop-venv/bin/python")
}
