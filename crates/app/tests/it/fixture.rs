//! What the tests stand on: a folder of their own, and dunlin processes with a clean environment.
//!
//! ```text
//! let sandbox = Sandbox::new();
//! let file = sandbox.random("thing.bin", 1_000_000, 7);
//! let torrent = sandbox.create(&file, &[]);                       // runs `dunlin create`
//! let seed = sandbox.start("seed", &[&torrent, &"--listen", &"127.0.0.1:0"]);
//! let done = sandbox.run("get", &[&torrent, &"--peer", &seed.addr(), &"-d", &sandbox.dir("out")]);
//! done.expect(0);
//! assert_same(&file, &sandbox.path("out/thing.bin"));
//! ```
//! Ports are always 0: the system picks a free one, and the `listening` event tells it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::Place;

/// A wait that takes longer than this has failed: far above what the slowest machine needs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Words of a command line: paths and texts alike.
pub type Words<'a> = &'a [&'a dyn AsRef<OsStr>];

/// A temporary folder below the build folder, removed with everything in it at the end.
#[derive(Debug)]
pub struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("it-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self {
            folder: folder.expect("the build folder takes files"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a folder that nobody else has: `name 0`, `name 1` and so on.
    pub fn fresh_dir(&self, name: &str) -> PathBuf {
        let mut paths = (0..).map(|index| self.path(&format!("{name} {index}")));
        let path = paths.find(|path| !path.exists()).unwrap();
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a file, and the folders on the way.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes a file of bytes that look random and are the same for the same seed.
    pub fn random(&self, name: &str, len: usize, seed: u64) -> PathBuf {
        self.write(name, &random_bytes(len, seed))
    }

    /// Runs `dunlin create` and gives the .torrent file.
    pub fn create(&self, content: &Path, words: Words<'_>) -> PathBuf {
        let name = format!("{}.torrent", content.file_name().unwrap().to_string_lossy());
        let torrent = self.path(&name);
        let mut all: Vec<&dyn AsRef<OsStr>> = vec![&content, &"-o", &torrent];
        all.extend(words);
        self.run("create", &all).expect(0);
        torrent
    }

    /// A dunlin that knows nothing of this machine's user: to be adjusted and run.
    pub fn dunlin(&self, command: &str, words: Words<'_>) -> Command {
        let mut dunlin = Command::new(env!("CARGO_BIN_EXE_dunlin"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DUNLIN_", "XDG_", "RUST_", "CLICOLOR"]
                .iter()
                .any(|start| text.starts_with(start))
                || ["NO_COLOR", "TERM"].contains(&text.as_ref())
            {
                dunlin.env_remove(name);
            }
        }
        let mut dunlin = piped(dunlin);
        dunlin
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        if !command.is_empty() {
            dunlin.arg(command);
        }
        dunlin.args(words.iter().map(AsRef::as_ref));
        dunlin
    }

    /// Runs a command to its end, which must come within [`PATIENCE`].
    pub fn run(&self, command: &str, words: Words<'_>) -> Done {
        wait(self.dunlin(command, words).spawn().unwrap(), PATIENCE)
    }

    /// Starts a long-running command with `--json-lines`.
    pub fn start(&self, command: &str, words: Words<'_>) -> Running {
        let mut dunlin = self.dunlin(command, words);
        dunlin.arg("--json-lines");
        Running::new(dunlin.spawn().unwrap())
    }

    /// As [`Self::run`], at another place.
    pub fn run_at(&self, place: &Place, command: &str, words: Words<'_>) -> Done {
        let mut dunlin = piped(place.enter(&self.dunlin(command, words)));
        wait(dunlin.spawn().unwrap(), PATIENCE)
    }

    /// As [`Self::start`], at another place.
    pub fn start_at(&self, place: &Place, command: &str, words: Words<'_>) -> Running {
        let mut dunlin = place.enter(&self.dunlin(command, words));
        dunlin.arg("--json-lines");
        Running::spawn(dunlin)
    }

    /// A tracker on a free port of loopback, and its announce URL.
    pub fn tracker(&self) -> (Running, String) {
        self.tracker_at(&Place::loopback())
    }

    /// A tracker on a free port of the place, and its announce URL.
    pub fn tracker_at(&self, place: &Place) -> (Running, String) {
        let addr = format!("{}:0", place.ip());
        let words: Words<'_> = &[&"--http", &addr, &"--udp", &addr];
        let mut tracker = self.start_at(place, "tracker", words);
        let url = format!("http://{}/announce", tracker.addr());
        (tracker, url)
    }
}

/// A process that ended.
#[derive(Debug)]
pub struct Done {
    /// 128 + the signal's number for a process that was killed.
    pub code: i32,
    /// Without the lines that were waited over.
    pub stdout: String,
    pub stderr: String,
    /// Every event that it told.
    pub events: Vec<Value>,
}

impl Done {
    /// Fails with everything the process said unless it ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("stdout is one JSON document")
    }

    /// The last event of this name.
    #[track_caller]
    pub fn last_event(&self, name: &str) -> Value {
        let last = self.events.iter().rfind(|event| event["event"] == name);
        last.unwrap_or_else(|| panic!("no {name} event: {self:?}"))
            .clone()
    }

    /// The one line of an error, without `error: `.
    #[track_caller]
    pub fn error(&self) -> &str {
        let mut errors = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "));
        let first = errors
            .next()
            .unwrap_or_else(|| panic!("no error in: {}", self.stderr));
        assert_eq!(errors.next(), None, "more than one error: {}", self.stderr);
        first
    }
}

/// A process that tells events as JSON lines. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    lines: Receiver<String>,
    stderr: Receiver<String>,
    /// Every event so far that was waited over.
    pub events: Vec<Value>,
}

impl Running {
    pub fn new(mut child: Child) -> Self {
        let lines = read_lines(child.stdout.take().unwrap());
        let stderr = read_all(child.stderr.take().unwrap());
        Self {
            child: Some(child),
            lines,
            stderr,
            events: Vec::new(),
        }
    }

    /// Starts a process that tells events.
    pub fn spawn(command: Command) -> Self {
        Self::new(piped(command).spawn().expect("it starts"))
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The next event of this name.
    #[track_caller]
    pub fn wait_for(&mut self, event: &str) -> Value {
        self.wait_until(event, |_| true)
    }

    /// The next event of this name that is right.
    #[track_caller]
    pub fn wait_until(&mut self, event: &str, right: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let last = self.events.iter().rev().take(20).rev();
                let events: Vec<String> = last.map(Value::to_string).collect();
                let done = self.stop("KILL");
                panic!("no {event} event: {done:?}, events:\n{}", events.join("\n"));
            };
            let value: Value = serde_json::from_str(&line).expect("a line is a JSON object");
            self.events.push(value.clone());
            if value["event"] == event && right(&value) {
                return value;
            }
        }
    }

    /// Every event so far, without waiting for more.
    pub fn events_so_far(&mut self) -> &[Value] {
        let lines = self.lines.try_iter();
        let values =
            lines.map(|line| serde_json::from_str(&line).expect("a line is a JSON object"));
        self.events.extend(values);
        &self.events
    }

    /// Where it listens.
    #[track_caller]
    pub fn addr(&mut self) -> String {
        self.addr_of("addr")
    }

    /// Where a tracker listens for UDP.
    #[track_caller]
    pub fn udp_addr(&mut self) -> String {
        self.addr_of("udp")
    }

    #[track_caller]
    fn addr_of(&mut self, key: &str) -> String {
        let seen = self
            .events
            .iter()
            .find(|event| event["event"] == "listening")
            .cloned();
        let event = seen.unwrap_or_else(|| self.wait_for("listening"));
        event[key].as_str().unwrap().to_owned()
    }

    /// SIGINT, then the end.
    pub fn interrupt(&mut self) -> Done {
        self.stop("INT")
    }

    /// SIGKILL: no chance to save anything.
    pub fn kill(&mut self) -> Done {
        self.stop("KILL")
    }

    /// Waits until it ends by itself.
    pub fn finish(&mut self) -> Done {
        self.end()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Done> {
        let child = self.child.as_mut().expect("a process ends once");
        child.try_wait().unwrap()?;
        Some(self.end())
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.unwrap().success(), "kill -s {signal} {pid}");
    }

    fn stop(&mut self, signal: &str) -> Done {
        self.signal(signal);
        self.end()
    }

    fn end(&mut self) -> Done {
        let child = self.child.take().expect("a process ends once");
        let code = code(child, PATIENCE);
        let mut stdout = String::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            if let Ok(value) = serde_json::from_str(&line) {
                self.events.push(value);
            }
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let stderr = self
            .stderr
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_default();
        Done {
            code,
            stdout,
            stderr,
            events: self.events.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn piped(mut command: Command) -> Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Waits for the end of a process and takes what it said.
pub fn wait(mut child: Child, patience: Duration) -> Done {
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let code = code(child, patience);
    let text = |receiver: Receiver<String>| {
        receiver
            .recv_timeout(Duration::from_secs(10))
            .unwrap_or_default()
    };
    let stdout = text(stdout);
    Done {
        code,
        events: stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        stdout,
        stderr: text(stderr),
    }
}

fn code(mut child: Child, patience: Duration) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("a process did not end within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// xorshift64*: bytes that do not compress and repeat for the same seed.
pub fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Two files, or two folders with all that is in them, are byte for byte the same.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    if a.is_dir() {
        let (left, right) = (names(a), names(b));
        assert_eq!(
            left,
            right,
            "{} and {} hold other names",
            a.display(),
            b.display()
        );
        for name in left {
            assert_same(&a.join(&name), &b.join(&name));
        }
        return;
    }
    let read = |path: &Path| {
        std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    assert!(
        read(a) == read(b),
        "{} and {} differ",
        a.display(),
        b.display()
    );
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<OsString> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
