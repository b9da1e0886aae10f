//! A TCP connection that never makes anybody wait for longer than it may.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::net::Paths;
use crate::tcp;

/// Every read and write ends after [`STEP_TIMEOUT`], and all of them together at the deadline, so
/// that a server which sends a byte now and then gains nothing.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    deadline: Deadline,
}

/// When everything ends, and how long that was from the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    total: Duration,
}

impl Deadline {
    pub(super) fn after(total: Duration) -> Self {
        let at = Instant::now() + total;
        Self { at, total }
    }

    pub(super) fn total(self) -> Duration {
        self.total
    }

    /// Time for the next step; `None` when there is none left.
    pub(super) fn step(self) -> Option<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(STEP_TIMEOUT))
    }
}

impl Stream {
    /// Tries one address after the other.
    pub(super) fn connect(
        addrs: &[SocketAddr],
        paths: &Paths,
        deadline: Deadline,
    ) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for &addr in addrs {
            let step = deadline.step().ok_or(io::ErrorKind::TimedOut)?;
            match tcp::connect(addr, paths, step) {
                Ok(tcp) => return Ok(Self { tcp, deadline }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn step(&self) -> io::Result<Option<Duration>> {
        let step = self.deadline.step().ok_or(io::ErrorKind::TimedOut)?;
        Ok(Some(step))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.step()?)?;
        self.tcp.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.step()?)?;
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// For connecting, and for each wait for more bytes.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(15);
