//! Transmission's daemon, driven by its RPC. It refuses peers on 127.0.0.0/8: give it a host of a
//! [`Network`](super::Network).

use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::Sandbox;

use super::daemon::{Daemon, Request, base64, free_port, installed};
use super::{Client, Limits, Look, Place, Source, Transfer};

#[derive(Debug)]
pub struct Transmission {
    daemon: Daemon,
    rpc: u16,
    /// Against requests that a web page makes a browser send.
    session: String,
    /// Its number of each transfer.
    ids: Vec<Value>,
}

impl Transmission {
    pub fn start(test: &str, sandbox: &Sandbox, place: &Place) -> Option<Self> {
        if !installed(test, "transmission-daemon") {
            return None;
        }
        assert!(
            !place.is_loopback(),
            "Transmission has no peers on loopback"
        );
        let (rpc, port) = (free_port(), free_port());
        let prepare = |home: &Path, command: &mut std::process::Command| {
            let settings = json!({"rpc-port": rpc, "peer-port": port, "lpd-enabled": false});
            std::fs::write(home.join("settings.json"), settings.to_string()).unwrap();
            command
                .args(["--foreground", "--log-debug", "--config-dir"])
                .arg(home);
        };
        let daemon = Daemon::start(
            "transmission",
            sandbox,
            place,
            prepare,
            "transmission-daemon",
        );
        let first = daemon.await_reply(rpc, &request("", b"{}"), |reply| reply.status == 409);
        let session = first
            .header("x-transmission-session-id")
            .expect("it names a session");
        Some(Self {
            session: format!("X-Transmission-Session-Id: {session}\r\n"),
            daemon,
            rpc,
            ids: Vec::new(),
        })
    }

    #[track_caller]
    fn call(&mut self, method: &str, arguments: &Value) -> Value {
        let body = json!({"method": method, "arguments": arguments}).to_string();
        let request = request(&self.session, body.as_bytes());
        let reply = self
            .daemon
            .await_reply(self.rpc, &request, |reply| reply.status == 200);
        let document = reply.json();
        assert_eq!(document["result"], "success", "{method}: {document}");
        document["arguments"].clone()
    }
}

fn request<'a>(headers: &'a str, body: &'a [u8]) -> Request<'a> {
    Request {
        path: "/transmission/rpc",
        headers,
        body: Some(body),
    }
}

impl Client for Transmission {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        let mut arguments = json!({"download-dir": folder});
        match source {
            Source::Torrent(path) => {
                arguments["metainfo"] = json!(base64(&std::fs::read(path).unwrap()));
            }
            Source::Magnet(uri) | Source::Url(uri) => arguments["filename"] = json!(uri),
        }
        let added = self.call("torrent-add", &arguments);
        let id = added["torrent-added"]["id"].clone();
        if let Some(up) = limits.up {
            // Its kB are 1000 bytes.
            let limit = json!({"ids": [id], "uploadLimit": up / 1000, "uploadLimited": true});
            self.call("torrent-set", &limit);
        }
        self.ids.push(id);
        Transfer(self.ids.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        const SEEDING: u64 = 6;
        let fields = [
            "status",
            "haveValid",
            "leftUntilDone",
            "uploadedEver",
            "downloadedEver",
            "peersConnected",
            "errorString",
            "metadataPercentComplete",
            "percentDone",
            "peersFrom",
            "trackerStats",
        ];
        let wanted = json!({"ids": [self.ids[transfer.0]], "fields": fields});
        let torrent = self.call("torrent-get", &wanted)["torrents"][0].clone();
        let count = |field: &str| torrent[field].as_u64().unwrap_or(0);
        let error = torrent["errorString"]
            .as_str()
            .filter(|text| !text.is_empty());
        Look {
            complete: count("status") == SEEDING && count("leftUntilDone") == 0,
            bytes: count("haveValid"),
            uploaded: count("uploadedEver"),
            peers: count("peersConnected") as usize,
            duplicate: Some(count("downloadedEver").saturating_sub(count("haveValid"))),
            state: torrent.to_string(),
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
