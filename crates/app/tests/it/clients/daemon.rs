//! A client's process, its log, and plain HTTP to its control port.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{PATIENCE, Sandbox};

use super::{Place, missing};

/// A client's process. Killed when dropped.
pub struct Daemon {
    name: &'static str,
    child: Child,
    /// Its home: settings, and a log of what it said.
    pub home: PathBuf,
    place: Place,
}

impl Daemon {
    /// Starts `program` at `place` with an empty home of its own, which `prepare` may furnish.
    pub fn start(
        name: &'static str,
        sandbox: &Sandbox,
        place: &Place,
        prepare: impl FnOnce(&Path, &mut Command),
        program: &str,
    ) -> Self {
        Self::start_in(sandbox.fresh_dir(name), name, place, prepare, program)
    }

    /// As [`Self::start`], with a home that is there.
    pub fn start_in(
        home: PathBuf,
        name: &'static str,
        place: &Place,
        prepare: impl FnOnce(&Path, &mut Command),
        program: &str,
    ) -> Self {
        let mut command = Command::new(program);
        command.current_dir(&home).env("HOME", &home);
        for name in ["CACHE", "CONFIG", "DATA"] {
            command.env_remove(format!("XDG_{name}_HOME"));
        }
        prepare(&home, &mut command);
        let log = File::create(home.join(LOG)).unwrap();
        let child = place
            .enter(&command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self {
            name,
            child,
            home,
            place: place.clone(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.home.join(LOG)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    /// Asks its control port. `None` while it does not answer.
    pub fn ask(&self, port: u16, request: &Request<'_>) -> Option<Reply> {
        ask(&self.place, (Ipv4Addr::LOCALHOST, port), request)
    }

    /// Asks until it answers in the way that `right` wants.
    #[track_caller]
    pub fn await_reply(
        &self,
        port: u16,
        request: &Request<'_>,
        right: impl Fn(&Reply) -> bool,
    ) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(port, request);
            if let Some(reply) = &reply
                && right(reply)
            {
                return reply.clone();
            }
            assert!(
                Instant::now() < deadline,
                "{}: no good reply from port {port}: {reply:?}\nit said:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.place.ip())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOG: &str = "said.log";
const LOG_TAIL_BYTES: usize = 4_000;

/// One HTTP request: `GET` without a body, `POST` with one.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub path: &'a str,
    /// Each line ends with CRLF.
    pub headers: &'a str,
    pub body: Option<&'a [u8]>,
}

impl Request<'_> {
    fn bytes(&self, (ip, port): (Ipv4Addr, u16)) -> Vec<u8> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let body = self.body.unwrap_or_default();
        let mut bytes = format!(
            "{method} {} HTTP/1.1\r\nHost: {ip}:{port}\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n",
            self.path,
            self.headers,
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    }
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    /// The body, and the same as text.
    pub bytes: Vec<u8>,
    pub body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let head = text(&bytes[..end]);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let bytes = bytes[end + 4..].to_vec();
        let body = text(&bytes);
        Some(Self {
            status,
            head,
            bytes,
            body,
        })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let json = serde_json::from_str(&self.body);
        json.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Asks a server that the place can reach. `None` if it does not answer.
pub fn ask(place: &Place, server: (Ipv4Addr, u16), request: &Request<'_>) -> Option<Reply> {
    let bytes = exchange(place, server, &request.bytes(server)).ok()?;
    Reply::parse(&bytes)
}

fn exchange(place: &Place, server: (Ipv4Addr, u16), request: &[u8]) -> std::io::Result<Vec<u8>> {
    if place.is_loopback() {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(REPLY_TIME))?;
        stream.write_all(request)?;
        return read_reply(&mut stream);
    }
    // A thread of ours cannot step into the namespace, a process can.
    let mut pipe = place
        .command("bash")
        .args([
            "-c",
            PIPE,
            "bash",
            &server.0.to_string(),
            &server.1.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = pipe.stdin.take().expect("it is piped");
    let sent = stdin.write_all(request);
    drop(stdin);
    let reply = read_reply(pipe.stdout.as_mut().expect("it is piped"));
    pipe.kill()?;
    pipe.wait()?;
    sent.and(reply)
}

/// Not every server closes when it is asked to.
fn read_reply(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut some = [0; 16 << 10];
    loop {
        let count = stream.read(&mut some)?;
        bytes.extend(&some[..count]);
        let whole = Reply::parse(&bytes).is_some_and(|reply| {
            let len = reply
                .header("content-length")
                .and_then(|len| len.parse().ok());
            len.is_some_and(|len: usize| reply.bytes.len() >= len)
        });
        if whole || count == 0 {
            return Ok(bytes);
        }
    }
}

const REPLY_TIME: Duration = Duration::from_secs(20);
const PIPE: &str = "exec 3<>/dev/tcp/$1/$2; cat >&3; exec timeout 20 cat <&3";

/// Whether `program` is there; if not, `test` was skipped.
pub fn installed(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !there {
        missing(test, &format!("{program} is not installed"));
    }
    there
}

/// A port that nobody has, for programs that must be told one. It lies below those that the
/// system gives to others.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 997) as u16 * 12;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + own.wrapping_add(step) % COUNT;
        let any = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok() {
            return port;
        }
    }
}

/// For what JSON cannot carry.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for index in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * index) & 63) as usize] as char;
            text.push(if index <= three.len() { digit } else { '=' });
        }
    }
    text
}
