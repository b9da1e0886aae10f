//! dunlin as a stranger uses it: whole processes, with libtorrent, with bad input, killed midway.
//!
//! Data is compared by SHA-256. Everything waits with a limit and is killed, by its own process
//! id, when a test ends.

mod bad_input;
mod hybrid;
mod killed;
mod matrix;
mod mixed;
mod oracle;
mod shared;
mod shown;
mod sparse;
mod superseed;
mod swarm;
mod trackers;
mod transfers;
pub mod trees;

use std::path::Path;

use serde_json::Value;

use crate::fixture::{Running, Sandbox, Words};

const LISTEN: Words<'_> = &[&"--listen", &"127.0.0.1:0", &"-v"];

/// `dunlin get` into `folder`.
fn get(sandbox: &Sandbox, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
    let start: Words<'_> = &[&torrent, &"-d", &folder];
    sandbox.start("get", &[start, LISTEN, words].concat())
}

/// `dunlin seed` of what is in `folder`.
fn seed(sandbox: &Sandbox, torrent: &Path, folder: &Path, words: Words<'_>) -> Running {
    let start: Words<'_> = &[&torrent, &folder];
    sandbox.start("seed", &[start, LISTEN, words].concat())
}

/// Makes `torrent` of `content`. Returns what `create --json` says.
pub fn create(sandbox: &Sandbox, content: &Path, torrent: &Path, words: Words<'_>) -> Value {
    let start: Words<'_> = &[&content, &"-o", &torrent, &"--json", &"--no-date"];
    sandbox
        .run("create", &[start, words].concat())
        .expect(0)
        .json()
}

/// A number in an event or a document.
#[track_caller]
fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {field:?} in {value}"))
}
