//! dunlin as one of the clients: a process of `dunlin get` for each transfer, which lingers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Running, Sandbox, Words};

use super::{Client, Limits, Look, Place, Source, Transfer};

#[derive(Debug)]
pub struct Dunlin {
    place: Place,
    /// To be copied for each transfer.
    get: Command,
    peers: Vec<Running>,
}

impl Dunlin {
    /// `words` go to each `dunlin get`.
    pub fn new(sandbox: &Sandbox, place: &Place, words: Words<'_>) -> Self {
        let home = sandbox.fresh_dir("dunlin");
        let mut get = sandbox.dunlin("get", &[&"--seed", &"forever", &"--json-lines"]);
        get.args(words.iter().map(AsRef::as_ref));
        get.env("HOME", &home).current_dir(home);
        Self {
            place: place.clone(),
            get,
            peers: Vec::new(),
        }
    }
}

impl Client for Dunlin {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        let source: &OsStr = match source {
            Source::Torrent(path) => path.as_os_str(),
            Source::Magnet(text) | Source::Url(text) => text.as_ref(),
        };
        let mut get = self.place.enter(&self.get);
        get.args([source, "-d".as_ref(), folder.as_os_str()]);
        if let Some(up) = limits.up {
            get.arg("--up").arg(up.to_string());
        }
        self.peers.push(Running::spawn(get));
        Transfer(self.peers.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let events = self.peers[transfer.0].events_so_far();
        let last = |name: &str| events.iter().rfind(|event| event["event"] == name);
        let complete = last("complete");
        let Some(progress) = last("progress") else {
            return Look::default();
        };
        let count = |field: &str| progress[field].as_u64().unwrap_or(0);
        Look {
            complete: complete.is_some() || count("have_bytes") == count("total_bytes"),
            bytes: count("have_bytes"),
            uploaded: count("uploaded"),
            peers: count("peers") as usize,
            duplicate: complete.and_then(|event| event["duplicate"].as_u64()),
            state: progress.to_string(),
            error: last("error").map(ToString::to_string),
        }
    }

    fn log(&self) -> String {
        let mut text = String::new();
        for event in self.peers.iter().flat_map(|peer| &peer.events) {
            if event["event"] != "piece" {
                text.push_str(&format!("{event}\n"));
            }
        }
        text
    }

    fn processes(&self) -> Vec<u32> {
        self.peers.iter().map(Running::pid).collect()
    }
}
