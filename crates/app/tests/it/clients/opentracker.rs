//! opentracker, on loopback. Debian builds it with a whitelist: it serves the torrents it was given.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::{PATIENCE, Sandbox};

use super::Place;
use super::daemon::{Daemon, Request, ask, free_port, installed};

#[derive(Debug)]
pub struct Opentracker {
    _daemon: Daemon,
    pub http: String,
    pub udp: String,
}

impl Opentracker {
    /// `None` means that `test` must end here: it was skipped.
    pub fn start(test: &str, sandbox: &Sandbox, info_hashes: &[&str]) -> Option<Self> {
        if !installed(test, "opentracker") {
            return None;
        }
        let port = free_port();
        let prepare = |home: &Path, command: &mut Command| {
            std::fs::write(home.join(WHITELIST), info_hashes.join("\n") + "\n").unwrap();
            // Started by root it becomes `nobody` and takes its home as the root of all paths.
            command
                .args(["-i", "127.0.0.1", "-u", "nobody", "-w", WHITELIST])
                .args(["-p", &port.to_string(), "-P", &port.to_string()])
                .arg("-d")
                .arg(home);
        };
        let place = Place::loopback();
        let daemon = Daemon::start("opentracker", sandbox, &place, prepare, "opentracker");
        let request = Request {
            path: "/scrape",
            headers: "",
            body: None,
        };
        let deadline = Instant::now() + PATIENCE;
        while ask(&place, (Ipv4Addr::LOCALHOST, port), &request).is_none() {
            let said = daemon.log();
            assert!(Instant::now() < deadline, "opentracker is silent: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            _daemon: daemon,
            http: format!("http://127.0.0.1:{port}/announce"),
            udp: format!("udp://127.0.0.1:{port}/announce"),
        })
    }
}

const WHITELIST: &str = "whitelist";
