//! webtorrent-cli: a process of `webtorrent download` for each transfer, read from its screen.
//! `DUNLIN_WEBTORRENT` names the folder where `cargo xtask interop --all` installed it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::Sandbox;

use super::daemon::{Daemon, free_port};
use super::{Client, Limits, Look, Place, Source, Transfer, by_hand};

#[derive(Debug)]
pub struct Webtorrent {
    /// Of its processes.
    home: PathBuf,
    place: Place,
    processes: Vec<Daemon>,
}

impl Webtorrent {
    pub fn start(test: &str, sandbox: &Sandbox, place: &Place) -> Option<Self> {
        by_hand(test, FOLDER)?;
        Some(Self {
            home: sandbox.fresh_dir("webtorrent"),
            place: place.clone(),
            processes: Vec::new(),
        })
    }
}

const FOLDER: &str = "DUNLIN_WEBTORRENT";
const NODE: &str = "node";
const SCRIPT: &str = "node_modules/webtorrent-cli/bin/cmd.js";

pub fn command() -> Command {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap_or_default());
    let mut command = Command::new(folder.join(NODE));
    command.arg(folder.join(SCRIPT));
    command
}

impl Client for Webtorrent {
    fn add(&mut self, source: &Source<'_>, folder: &Path, limits: Limits) -> Transfer {
        assert_eq!(limits, Limits::NONE, "its limits are of a whole process");
        let home = self.home.join(self.processes.len().to_string());
        std::fs::create_dir(&home).unwrap();
        let source = match source {
            Source::Torrent(path) => path.as_os_str(),
            Source::Magnet(uri) | Source::Url(uri) => uri.as_ref(),
        };
        let prepare = |_: &Path, own: &mut Command| {
            own.args(command().get_args())
                .args(["download".as_ref(), source, "--out".as_ref()])
                .arg(folder)
                .arg("--keep-seeding");
            // The first is of a web server for players.
            for port in ["--port", "--torrent-port", "--dht-port"] {
                own.arg(port).arg(free_port().to_string());
            }
        };
        let node = command();
        let node = node.get_program().to_str().expect("its path is text");
        let process = Daemon::start_in(home, "webtorrent", &self.place, prepare, node);
        self.processes.push(process);
        Transfer(self.processes.len() - 1)
    }

    fn look(&mut self, transfer: Transfer) -> Look {
        let screen = self.processes[transfer.0].log();
        Look {
            // It draws a new screen every second.
            complete: screen.contains("torrent downloaded successfully")
                || screen.contains("Seeding: "),
            error: screen.contains("Error:").then(|| screen.clone()),
            state: screen,
            ..Look::default()
        }
    }

    fn log(&self) -> String {
        let logs: Vec<String> = self.processes.iter().map(Daemon::log).collect();
        logs.join("\n")
    }

    fn processes(&self) -> Vec<u32> {
        self.processes.iter().map(Daemon::pid).collect()
    }
}
