//! rqbit, driven by its HTTP API. `DUNLIN_RQBIT` names the program.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::Sandbox;

use super::daemon::{Daemon, Reply, Request, free_port};
use super::{Client, Limits, Look, Place, Source, Transfer, by_hand};

#[derive(Debug)]
pub struct Rqbit {
    daemon: Daemon,
    api: u16,
    /// Its number of each transfer.
    ids: Vec<Value>,
}

impl Rqbit {
    pub fn start(test: &str, sandbox: &Sandbox, place: &Place) -> Option<Self> {
        let program = by_hand(test, PROGRAM)?;
        let (api, port) = (free_port(), free_port());
        let prepare = |home: &Path, command: &mut Command| {
            command
                .arg(format!("--http-api-listen-addr=127.0.0.1:{api}"))
                .arg(format!("--listen-port={port}"))
                .arg("--disable-lsd");
            if place.is_loopback() {
                command.arg("--disable-dht");
            }
            command.args(["server", "start"]).arg(home);
        };
        let program = program.to_str().expect("the path of rqbit is text");
        let daemon = Daemon::start("rqbit", sandbox, place, prepare, program);
        let rqbit = Self {
            daemon,
            api,
            ids: Vec::new(),
        };
        rqbit.ask("/", None);
        Some(rqbit)
    }

    #[track_caller]
    fn ask(&self, path: &str, body: Option<&[u8]>) -> Reply {
        let request = Request {
            path,
            headers: "",
            body,
        };
        self.daemon.await_reply(self.api, &request, |_| true)
    }
}

const PROGRAM: &str = "DUNLIN_RQBIT";

pub fn command() -> Command {
    Command::new(std::env::var_os(PROGRAM).unwrap_or_default())
}

impl Client for Rqbit {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        assert_eq!(limits, Limits::NONE, "rqbit has no limit of one transfer");
        let body = match source {
            Source::Torrent(path) => std::fs::read(path).unwrap(),
            Source::Magnet(uri) | Source::Url(uri) => uri.as_bytes().to_vec(),
        };
        let folder = folder.to_str().expect("a test's path is text");
        // Without `overwrite` it takes no folder in which there is something.
        let path = format!(
            "/torrents?overwrite=true&output_folder={}",
            folder.replace(' ', "%20")
        );
        // A magnet is answered only once its metadata is there.
        let reply = self.ask(&path, Some(&body));
        assert_eq!(reply.status, 200, "{reply:?}\n{}", self.log());
        self.ids.push(reply.json()["id"].clone());
        Transfer(self.ids.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let path = format!("/torrents/{}/stats/v1", self.ids[transfer.0]);
        let stats = self.ask(&path, None).json();
        let live = &stats["live"]["snapshot"]["peer_stats"]["live"];
        Look {
            complete: stats["finished"] == json!(true) && stats["state"] == "live",
            bytes: stats["progress_bytes"].as_u64().unwrap_or(0),
            uploaded: stats["uploaded_bytes"].as_u64().unwrap_or(0),
            peers: live.as_u64().unwrap_or(0) as usize,
            duplicate: None,
            state: stats.to_string(),
            error: stats["error"].as_str().map(str::to_owned),
        }
    }

    fn log(&self) -> String {
        self.daemon.log()
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }
}
