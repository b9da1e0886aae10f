//! One file and a folder of a thousand files, from libtorrent and to it, each side dialling.

use std::path::{Path, PathBuf};

use crate::fixture::{Running, Sandbox};
use crate::libtorrent::Libtorrent;

use super::trees::{Data, assert_same, thousand_files};
use super::{create, get, number, seed};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialler {
    Us,
    Libtorrent,
}

/// Something to share, and room for its copy.
#[derive(Debug)]
struct Share {
    sandbox: Sandbox,
    name: &'static str,
    source: PathBuf,
    target: PathBuf,
    torrent: PathBuf,
    bytes: u64,
}

impl Share {
    fn new(name: &'static str, make: impl FnOnce(&Path)) -> Self {
        let sandbox = Sandbox::new();
        let (source, target) = (sandbox.dir("source"), sandbox.dir("target"));
        let torrent = sandbox.path("it.torrent");
        make(&source.join(name));
        let bytes = number(
            &create(&sandbox, &source.join(name), &torrent, &[]),
            "bytes",
        );
        Self {
            sandbox,
            name,
            source,
            target,
            torrent,
            bytes,
        }
    }

    fn file() -> Self {
        // Ends in the middle of a piece and of a block.
        Self::new("one file.iso", |path| Data::new(11).file(path, 40_000_123))
    }

    fn folder() -> Self {
        Self::new("a thousand", |path| thousand_files(path, 12))
    }

    fn get(&self, words: &[&str]) -> Running {
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
        get(&self.sandbox, &self.torrent, &self.target, &words)
    }

    fn assert_same(&self) {
        assert_same(&self.source.join(self.name), &self.target.join(self.name));
    }

    fn comes_from(&self, libtorrent: &Libtorrent, dialler: Dialler) {
        let (get, _seed) = match dialler {
            Dialler::Us => {
                let mut seed = libtorrent.seed(&self.torrent, &self.source, &[]);
                seed.wait_for("ready");
                (self.get(&["--peer", &seed.addr()]), seed)
            }
            Dialler::Libtorrent => {
                let mut get = self.get(&[]);
                let words: &[&dyn AsRef<_>] = &[&"--peer", &get.addr()];
                (get, libtorrent.seed(&self.torrent, &self.source, words))
            }
        };
        self.finish(get);
    }

    fn finish(&self, mut get: Running) {
        let complete = get.finish().expect(0).last_event("complete");
        assert_eq!(number(&complete, "bytes"), self.bytes);
        assert_eq!(
            number(&complete, "downloaded"),
            self.bytes,
            "one seed sends everything once"
        );
        assert_eq!(number(&complete, "failed_hash"), 0);
        self.assert_same();
    }

    fn goes_to(&self, libtorrent: &Libtorrent, dialler: Dialler) {
        let (mut seed, mut leech) = match dialler {
            Dialler::Us => {
                let mut leech = libtorrent.leech(&self.torrent, &self.target, &[]);
                leech.wait_for("ready");
                let words: &[&dyn AsRef<_>] = &[&"--peer", &leech.addr()];
                (
                    seed(&self.sandbox, &self.torrent, &self.source, words),
                    leech,
                )
            }
            Dialler::Libtorrent => {
                let mut seed = seed(&self.sandbox, &self.torrent, &self.source, &[]);
                let words: &[&dyn AsRef<_>] = &[&"--peer", &seed.addr()];
                (seed, libtorrent.leech(&self.torrent, &self.target, words))
            }
        };
        let finished = leech.wait_for("finished");
        assert_eq!(number(&finished, "bytes"), self.bytes);
        assert_eq!(
            number(&finished, "failed"),
            0,
            "libtorrent got a piece that is wrong"
        );
        leech.interrupt().expect(0);
        seed.interrupt().expect(0);
        self.assert_same();
    }
}

#[test]
fn a_file_comes_from_a_libtorrent_that_we_dial() {
    let Some(libtorrent) = Libtorrent::find("a file from libtorrent, we dial") else {
        return;
    };
    Share::file().comes_from(&libtorrent, Dialler::Us);
}

#[test]
fn a_file_comes_from_a_libtorrent_that_dials_us() {
    let Some(libtorrent) = Libtorrent::find("a file from libtorrent, it dials") else {
        return;
    };
    Share::file().comes_from(&libtorrent, Dialler::Libtorrent);
}

#[test]
fn a_file_goes_to_a_libtorrent_that_we_dial() {
    let Some(libtorrent) = Libtorrent::find("a file to libtorrent, we dial") else {
        return;
    };
    Share::file().goes_to(&libtorrent, Dialler::Us);
}

#[test]
fn a_file_goes_to_a_libtorrent_that_dials_us() {
    let Some(libtorrent) = Libtorrent::find("a file to libtorrent, it dials") else {
        return;
    };
    Share::file().goes_to(&libtorrent, Dialler::Libtorrent);
}

#[test]
fn a_thousand_files_come_from_a_libtorrent_that_we_dial() {
    let Some(libtorrent) = Libtorrent::find("a folder from libtorrent, we dial") else {
        return;
    };
    Share::folder().comes_from(&libtorrent, Dialler::Us);
}

#[test]
fn a_thousand_files_come_from_a_libtorrent_that_dials_us() {
    let Some(libtorrent) = Libtorrent::find("a folder from libtorrent, it dials") else {
        return;
    };
    Share::folder().comes_from(&libtorrent, Dialler::Libtorrent);
}

#[test]
fn a_thousand_files_go_to_a_libtorrent_that_we_dial() {
    let Some(libtorrent) = Libtorrent::find("a folder to libtorrent, we dial") else {
        return;
    };
    Share::folder().goes_to(&libtorrent, Dialler::Us);
}

#[test]
fn a_thousand_files_go_to_a_libtorrent_that_dials_us() {
    let Some(libtorrent) = Libtorrent::find("a folder to libtorrent, it dials") else {
        return;
    };
    Share::folder().goes_to(&libtorrent, Dialler::Libtorrent);
}

#[test]
fn a_folder_of_empty_files_needs_nobody() {
    let share = Share::new("nothings", |path| {
        for name in ["a", "b/c", "b/d"] {
            Data::new(14).file(&path.join(name), 0);
        }
    });
    share.finish(share.get(&[]));
}
