//! libtorrent as one of the clients: a process of `libtorrent_peer.py` for each transfer.

use std::path::Path;

use crate::fixture::{Running, Words};
use crate::libtorrent::Libtorrent;

use super::daemon::free_port;
use super::{Client, Limits, Look, Place, Source, Transfer};

#[derive(Debug)]
pub struct LibtorrentClient {
    libtorrent: Libtorrent,
    place: Place,
    peers: Vec<Running>,
}

impl LibtorrentClient {
    pub fn start(test: &str, place: &Place) -> Option<Self> {
        Some(Self {
            libtorrent: Libtorrent::find(test)?,
            place: place.clone(),
            peers: Vec::new(),
        })
    }
}

impl Client for LibtorrentClient {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        let listen = format!("{}:{}", self.place.ip(), free_port());
        let up = limits.up.unwrap_or(0).to_string();
        // Swarms have dozens of them: looking costs.
        let seldom: Words<'_> = &[&"--seconds", &"600", &"--tick", &"0.25"];
        let words: Words<'_> = &[&"--listen", &listen, &"--up", &up];
        let words = &[words, seldom].concat();
        let source = match source {
            Source::Torrent(path) => path.as_os_str(),
            Source::Magnet(uri) => uri.as_ref(),
            Source::Url(_) => panic!("libtorrent 2.1 opens no URLs"),
        };
        let peer = self
            .libtorrent
            .peer_at(&self.place, "leech", source, folder, words);
        self.peers.push(peer);
        Transfer(self.peers.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let events = self.peers[transfer.0].events_so_far();
        let last = |name: &str| events.iter().rfind(|event| event["event"] == name);
        let Some(progress) = last("progress") else {
            return Look::default();
        };
        let count = |field: &str| progress[field].as_u64().unwrap_or(0);
        let error = last("error").map(ToString::to_string);
        Look {
            complete: last("finished").is_some(),
            bytes: count("bytes"),
            uploaded: count("uploaded"),
            peers: count("peers") as usize,
            duplicate: last("finished").and_then(|event| event["redundant"].as_u64()),
            state: progress.to_string(),
            error,
        }
    }

    fn log(&self) -> String {
        let mut text = String::new();
        for peer in &self.peers {
            for event in peer
                .events
                .iter()
                .filter(|event| event["event"] != "progress")
            {
                text.push_str(&format!("{event}\n"));
            }
        }
        text
    }

    fn processes(&self) -> Vec<u32> {
        self.peers.iter().map(Running::pid).collect()
    }
}

pub fn version() -> String {
    Libtorrent::find("the version of libtorrent").map_or_else(String::new, |own| own.version())
}
