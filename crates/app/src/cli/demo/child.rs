//! The processes of a demo: started, listened to, stopped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Code, Failure, system_words};

use super::Plan;

/// Intervals short enough that a demo of some seconds shows several choices.
const UNCHOKING_INTERVAL: &str = "2s";
const OPTIMISTIC_INTERVAL: &str = "6s";

/// One peer as its events tell it.
#[derive(Debug)]
pub struct Child {
    pub name: String,
    pub folder: PathBuf,
    process: std::process::Child,
    peer_id: String,
    /// Who is behind an address that its events name.
    ids: BTreeMap<String, String>,
    unchoked: BTreeMap<String, bool>,
    size: u64,
    pub have_bytes: u64,
    pub uploaded: u64,
    pub down_rate: u64,
    pub up_rate: u64,
    pub completed: Option<Instant>,
    has_ended: bool,
}

/// What a row shows of the choice that one peer made about another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Choked,
    Preferred,
    Optimistic,
}

/// The seed first, then the leeches.
#[derive(Debug)]
pub struct Children {
    list: Vec<Child>,
    said: Receiver<(usize, Said)>,
}

#[derive(Debug)]
enum Said {
    Event(Value),
    End,
}

impl Children {
    pub fn start(plan: &Plan, folder: &Path, torrent: &Path) -> Result<Self, Failure> {
        let (sender, said) = mpsc::channel();
        let mut children = Self {
            list: Vec::new(),
            said,
        };
        for index in 0..=plan.peers {
            let child = start_one(plan, index, folder, torrent, &sender)?;
            children.list.push(child);
        }
        Ok(children)
    }

    pub fn list(&self) -> &[Child] {
        &self.list
    }

    /// Waits a moment for events and takes all there are.
    pub fn take_events(&mut self, wait: Duration) -> Result<(), Failure> {
        let mut next = self.said.recv_timeout(wait).ok();
        while let Some((index, said)) = next {
            let child = &mut self.list[index];
            match said {
                Said::Event(event) => child.on_event(&event),
                Said::End => {
                    child.has_ended = true;
                    return Err(child.died());
                }
            }
            next = self.said.try_recv().ok();
        }
        Ok(())
    }

    pub fn are_complete(&self) -> bool {
        self.list
            .iter()
            .skip(1)
            .all(|leech| leech.completed.is_some())
    }

    pub fn last_completion(&self) -> Option<Instant> {
        self.list.iter().filter_map(|leech| leech.completed).max()
    }

    /// Ends all of them, and hears what they have to say until then.
    pub fn stop(mut self, patience: Duration) -> Vec<Child> {
        for child in &mut self.list {
            // The end of its stdin tells it to go.
            drop(child.process.stdin.take());
        }
        let deadline = Instant::now() + patience;
        while self.list.iter().any(|child| !child.has_ended) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((index, Said::Event(event))) => self.list[index].on_event(&event),
                Ok((index, Said::End)) => self.list[index].has_ended = true,
                Err(_) => break,
            }
        }
        for child in &mut self.list {
            child.kill();
        }
        std::mem::take(&mut self.list)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.list {
            child.kill();
        }
    }
}

impl Child {
    /// The mark for what this one does to `other`.
    pub fn mark(&self, other: &Self) -> Mark {
        let address = self.ids.iter().find(|(_, id)| **id == other.peer_id);
        match address.and_then(|(address, _)| self.unchoked.get(address)) {
            None => Mark::Choked,
            Some(false) => Mark::Preferred,
            Some(true) => Mark::Optimistic,
        }
    }

    fn on_event(&mut self, event: &Value) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        match event["event"].as_str().unwrap_or_default() {
            "listening" => self.peer_id = text("peer_id"),
            "connected" => {
                self.ids.insert(text("peer"), text("peer_id"));
            }
            "disconnected" => {
                self.ids.remove(&text("peer"));
                self.unchoked.remove(&text("peer"));
            }
            "unchoked" if event["by"] == "us" => {
                let is_optimistic = text("reason").starts_with("optimistic");
                self.unchoked.insert(text("peer"), is_optimistic);
            }
            "choked" if event["by"] == "us" => {
                self.unchoked.remove(&text("peer"));
            }
            "preferred" => {
                let optimistic = text("optimistic");
                for (peer, is_optimistic) in &mut self.unchoked {
                    *is_optimistic = *peer == optimistic;
                }
            }
            "progress" => {
                self.have_bytes = number("have_bytes");
                self.uploaded = number("uploaded");
                self.down_rate = number("down_rate");
                self.up_rate = number("up_rate");
            }
            "piece" => {
                let share = number("have") as f64 / number("total").max(1) as f64;
                self.have_bytes = (share * self.size as f64) as u64;
            }
            "complete" => {
                self.have_bytes = self.size;
                self.down_rate = 0;
                self.completed = Some(Instant::now());
            }
            _ => {}
        }
    }

    /// Its last words.
    fn died(&mut self) -> Failure {
        self.kill();
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let words = log
            .lines()
            .rfind(|line| !line.is_empty())
            .unwrap_or("it said nothing");
        Failure::new(
            Code::Other,
            format!("{} ended too early: {words}", self.name),
        )
    }

    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn kill(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_one(
    plan: &Plan,
    index: usize,
    folder: &Path,
    torrent: &Path,
    sender: &Sender<(usize, Said)>,
) -> Result<Child, Failure> {
    let name = if index == 0 {
        "seed".to_owned()
    } else {
        format!("peer {index}")
    };
    let own = folder.join(name.replace(' ', "-"));
    let fail = |error: &std::io::Error| {
        Failure::new(
            Code::Other,
            format!("{name} does not start: {}", system_words(error)),
        )
    };
    let mut command = command(plan, index, folder, torrent, &own).map_err(|error| fail(&error))?;
    let mut process = command.spawn().map_err(|error| fail(&error))?;
    if let Some(stdout) = process.stdout.take() {
        listen(index, stdout, sender.clone());
    }
    Ok(Child {
        size: plan.size,
        have_bytes: if index == 0 { plan.size } else { 0 },
        name,
        folder: own,
        process,
        peer_id: String::new(),
        ids: BTreeMap::new(),
        unchoked: BTreeMap::new(),
        uploaded: 0,
        down_rate: 0,
        up_rate: 0,
        completed: None,
        has_ended: false,
    })
}

/// What the child is asked to do, without options of ours or of the user.
fn command(
    plan: &Plan,
    index: usize,
    folder: &Path,
    torrent: &Path,
    own: &Path,
) -> std::io::Result<Command> {
    let log = File::create(own.with_extension("log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("DUNLIN_") {
            command.env_remove(variable);
        }
    }
    command.env("XDG_CONFIG_HOME", folder);
    if index == 0 {
        command
            .arg("seed")
            .arg(torrent)
            .arg(own)
            .arg("--skip-check");
    } else {
        command.arg("get").arg(torrent).arg("--dir").arg(own);
        command.args(["--seed", "forever"]);
    }
    command.args(["--listen", "127.0.0.1:0", "--json-lines", "--while-stdin"]);
    command.args(["--unchoking-interval", UNCHOKING_INTERVAL]);
    command.args(["--optimistic-interval", OPTIMISTIC_INTERVAL]);
    if let Some(up) = plan.up {
        command.args(["--up", &up.to_string()]);
    }
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped());
    command.stderr(log);
    Ok(command)
}

fn listen(
    index: usize,
    stdout: impl std::io::Read + Send + 'static,
    sender: Sender<(usize, Said)>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str(&line)
                && sender.send((index, Said::Event(event))).is_err()
            {
                return;
            }
        }
        // The receiver is gone when nobody wants to know any more.
        let _ = sender.send((index, Said::End));
    });
}
