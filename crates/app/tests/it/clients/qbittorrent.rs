//! qBittorrent without a screen, driven by its web API.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::fixture::Sandbox;

use super::daemon::{Daemon, Reply, Request, free_port, installed};
use super::{Client, Limits, Look, Place, Source, Transfer};

#[derive(Debug)]
pub struct Qbittorrent {
    daemon: Daemon,
    web: u16,
    /// Each transfer has a folder of its own.
    folders: Vec<PathBuf>,
}

impl Qbittorrent {
    pub fn start(test: &str, sandbox: &Sandbox, place: &Place) -> Option<Self> {
        if !installed(test, "qbittorrent-nox") {
            return None;
        }
        let (web, port) = (free_port(), free_port());
        let dht = !place.is_loopback();
        let prepare = |home: &Path, command: &mut std::process::Command| {
            let settings = format!(
                "[LegalNotice]\nAccepted=true\n\
                 [BitTorrent]\nSession\\Port={port}\nSession\\LSDEnabled=false\nSession\\DHTEnabled={dht}\n\
                 [Preferences]\nWebUI\\LocalHostAuth=false\nWebUI\\Address=127.0.0.1\nWebUI\\Port={web}\n"
            );
            let folder = home.join("qBittorrent/config");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("qBittorrent.conf"), settings).unwrap();
            command.arg(format!("--profile={}", home.display()));
        };
        let daemon = Daemon::start("qbittorrent", sandbox, place, prepare, "qbittorrent-nox");
        let client = Self {
            daemon,
            web,
            folders: Vec::new(),
        };
        client.get("/api/v2/app/version");
        Some(client)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Reply {
        let request = Request {
            path,
            headers: "",
            body: None,
        };
        self.daemon
            .await_reply(self.web, &request, |reply| reply.status == 200)
    }
}

const BOUNDARY: &str = "a-line-that-no-torrent-has";

fn part(body: &mut Vec<u8>, disposition: &str, value: &[u8]) {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    body.extend(head.as_bytes());
    body.extend(value);
    body.extend(b"\r\n");
}

impl Client for Qbittorrent {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        let mut body = Vec::new();
        part(
            &mut body,
            "name=\"savepath\"",
            folder.display().to_string().as_bytes(),
        );
        if let Some(up) = limits.up {
            part(&mut body, "name=\"upLimit\"", up.to_string().as_bytes());
        }
        match source {
            Source::Torrent(path) => {
                let disposition = "name=\"torrents\"; filename=\"it.torrent\"\r\nContent-Type: application/x-bittorrent";
                part(&mut body, disposition, &std::fs::read(path).unwrap());
            }
            Source::Magnet(uri) | Source::Url(uri) => {
                part(&mut body, "name=\"urls\"", uri.as_bytes())
            }
        }
        body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
        let headers = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n");
        let request = Request {
            path: "/api/v2/torrents/add",
            headers: &headers,
            body: Some(&body),
        };
        let reply = self.daemon.await_reply(self.web, &request, |_| true);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, "Ok."),
            "{reply:?}"
        );
        self.folders.push(folder.to_owned());
        Transfer(self.folders.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let list = self.get("/api/v2/torrents/info").json();
        let folder = &self.folders[transfer.0];
        let torrents = list.as_array().expect("it lists torrents");
        let own = torrents.iter().find(|torrent| {
            torrent["save_path"]
                .as_str()
                .is_some_and(|path| Path::new(path) == folder)
        });
        // What it was given comes up a moment later.
        let Some(torrent) = own else {
            return Look::default();
        };
        let count = |field: &str| torrent[field].as_u64().unwrap_or(0);
        let state = torrent["state"].as_str().unwrap_or_default();
        let error = ["error", "missingFiles"].contains(&state);
        Look {
            complete: torrent["progress"] == json!(1)
                && ["uploading", "stalledUP"].contains(&state),
            bytes: count("completed"),
            uploaded: count("uploaded"),
            peers: (count("num_seeds") + count("num_leechs")) as usize,
            duplicate: None,
            state: torrent.to_string(),
            error: error.then(|| state.to_owned()),
        }
    }

    fn log(&self) -> String {
        let own = self
            .daemon
            .home
            .join("qBittorrent/data/logs/qbittorrent.log");
        let own = std::fs::read_to_string(own).unwrap_or_default();
        format!("{}\n{own}", self.daemon.log())
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }
}
