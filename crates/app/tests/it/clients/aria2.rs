//! aria2, driven by JSON-RPC.

use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::Sandbox;

use super::daemon::{Daemon, Request, base64, free_port, installed};
use super::{Client, Limits, Look, Place, Source, Transfer};

#[derive(Debug)]
pub struct Aria2 {
    daemon: Daemon,
    rpc: u16,
    /// The id of each transfer.
    gids: Vec<String>,
}

impl Aria2 {
    pub fn start(test: &str, sandbox: &Sandbox, place: &Place) -> Option<Self> {
        if !installed(test, "aria2c") {
            return None;
        }
        let (rpc, port) = (free_port(), free_port());
        let prepare = |_: &Path, command: &mut std::process::Command| {
            command
                .arg("--no-conf")
                .arg("--enable-rpc")
                .arg(format!("--rpc-listen-port={rpc}"))
                .arg(format!("--listen-port={port}"))
                .arg(format!("--stop-with-process={}", std::process::id()))
                // Its default, 1.0, ends a seed that gave one copy at once: the last blocks are
                // counted, but never leave.
                .arg("--seed-ratio=0")
                .arg("--console-log-level=info");
            if place.is_loopback() {
                command.args(["--enable-dht=false", "--interface=127.0.0.1"]);
            }
        };
        let daemon = Daemon::start("aria2", sandbox, place, prepare, "aria2c");
        let mut aria2 = Self {
            daemon,
            rpc,
            gids: Vec::new(),
        };
        aria2.call("aria2.getVersion", &json!([]));
        Some(aria2)
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: &Value) -> Value {
        let body =
            json!({"jsonrpc": "2.0", "id": "it", "method": method, "params": params}).to_string();
        let request = Request {
            path: "/jsonrpc",
            headers: "",
            body: Some(body.as_bytes()),
        };
        let document = self.daemon.await_reply(self.rpc, &request, |_| true).json();
        assert!(document["error"].is_null(), "{method}: {document}");
        document["result"].clone()
    }

    fn status(&mut self, gid: &str) -> Value {
        self.call("aria2.tellStatus", &json!([gid]))
    }
}

impl Client for Aria2 {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        let mut options = json!({"dir": folder});
        if let Some(up) = limits.up {
            options["max-upload-limit"] = json!(up.to_string());
        }
        // It adopts what is there only when told to look.
        options["check-integrity"] = json!("true");
        let gid = match source {
            Source::Torrent(path) => {
                let torrent = base64(&std::fs::read(path).unwrap());
                self.call("aria2.addTorrent", &json!([torrent, [], options]))
            }
            Source::Magnet(uri) | Source::Url(uri) => {
                self.call("aria2.addUri", &json!([[uri], options]))
            }
        };
        self.gids
            .push(gid.as_str().expect("a gid is text").to_owned());
        Transfer(self.gids.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let mut status = self.status(&self.gids[transfer.0].clone());
        // A magnet is a download of its metadata, which another one follows.
        if let Some(next) = status["followedBy"][0].as_str() {
            status = self.status(next);
        }
        let count = |field: &str| {
            let digits = status[field].as_str().unwrap_or("0");
            digits.parse::<u64>().expect("counts are digits")
        };
        let (bytes, total) = (count("completedLength"), count("totalLength"));
        let named = status["bittorrent"]["info"]["name"].is_string();
        let error = status["errorMessage"]
            .as_str()
            .filter(|text| !text.is_empty());
        Look {
            complete: named && bytes == total && status["verifyIntegrityPending"].is_null(),
            bytes,
            uploaded: count("uploadLength"),
            peers: count("connections") as usize,
            duplicate: None,
            state: status.to_string(),
            error: error.map(str::to_owned),
        }
    }

    fn log(&self) -> String {
        self.daemon.log()
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }
}
