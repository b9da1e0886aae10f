//! One connection: collect a request, answer it, send the answer, begin again.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::http::{self, Progress, REQUEST_LEN_MAX, Response};
use crate::service::{Service, Way};

pub(super) struct Connection {
    stream: TcpStream,
    way: Way,
    /// Bytes that came and are not answered, at most [`REQUEST_LEN_MAX`].
    request: Vec<u8>,
    /// The response that is being sent.
    response: Response,
    sent: usize,
    keep_open: bool,
    /// When the connection ends if nothing more is achieved, and after how long that is.
    deadline: Instant,
    timeout: Duration,
    /// Bytes of the response that were sent since the deadline was set.
    sent_since: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Wait,
    /// Its turn is over, but there may be more to read.
    GoOn,
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, way: Way, timeout: Duration) -> Self {
        Self {
            stream,
            way,
            request: Vec::new(),
            response: Response::default(),
            sent: 0,
            keep_open: true,
            deadline: Instant::now() + timeout,
            timeout,
            sent_since: 0,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Goes on until the socket has nothing to give or takes nothing more, or until it is another
    /// connection's turn. An answered request moves the deadline, and so does a good part of a
    /// response; single bytes do not.
    pub(super) fn advance(
        &mut self,
        service: &mut Service,
        now: dunlin_proto::time::Instant,
    ) -> Fate {
        for _ in 0..STEPS_PER_TURN {
            match self.send() {
                Ok(true) if !self.keep_open => return Fate::Close,
                Ok(true) => {}
                Ok(false) => return Fate::Wait,
                Err(_) => return Fate::Close,
            }
            let mut response = Response::default();
            match http::respond(service, now, self.way, &self.request, &mut response) {
                Progress::Answered { used, keep_open } => {
                    self.request.drain(..used.min(self.request.len()));
                    self.response = response;
                    self.keep_open = keep_open;
                    self.move_deadline();
                }
                Progress::NeedsMore => match self.receive() {
                    Ok(true) => {}
                    Ok(false) => return Fate::Wait,
                    Err(_) => return Fate::Close,
                },
            }
        }
        // Somebody whose next request is always there already must not keep the thread.
        Fate::GoOn
    }

    /// True when no response is left to send.
    fn send(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.response.rest(self.sent) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent += n;
                    self.sent_since += n;
                    if self.sent_since >= SENT_MIN {
                        self.move_deadline();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.response = Response::default();
        self.sent = 0;
        Ok(true)
    }

    fn move_deadline(&mut self) {
        self.deadline = Instant::now() + self.timeout;
        self.sent_since = 0;
    }

    /// True when something came.
    fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = [0; REQUEST_LEN_MAX];
        let room = REQUEST_LEN_MAX.saturating_sub(self.request.len());
        loop {
            match self.stream.read(&mut bytes[..room]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.request.extend_from_slice(&bytes[..n]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Bytes of a long response that a client has to take in a timeout: a modem's 1.6 kB/s.
const SENT_MIN: usize = 16 * 1024;

/// Steps of one connection in one turn: a request takes two.
const STEPS_PER_TURN: usize = 64;
