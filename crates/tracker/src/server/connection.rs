//! One connection: collect a request, answer it, send the answer, begin again.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Instant;

use dunlin_proto::rng::Rng;
use mio::net::TcpStream;

use crate::http::{self, Progress, REQUEST_LEN_MAX};
use crate::table::Table;

pub(super) struct Connection {
    stream: TcpStream,
    from: IpAddr,
    /// Bytes that came and are not answered, at most [`REQUEST_LEN_MAX`].
    request: Vec<u8>,
    /// The response that is being sent.
    response: Vec<u8>,
    sent: usize,
    keep_open: bool,
    /// When the connection ends if nothing more is achieved.
    deadline: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Wait,
    /// Its turn is over, but there may be more to read.
    GoOn,
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, from: IpAddr, deadline: Instant) -> Self {
        Self {
            stream,
            from,
            request: Vec::new(),
            response: Vec::new(),
            sent: 0,
            keep_open: true,
            deadline,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Goes on until the socket has nothing to give or takes nothing more, or until it is another
    /// connection's turn. An answered request
    /// moves the deadline; single bytes of one do not.
    pub(super) fn advance(
        &mut self,
        table: &mut Table,
        now: dunlin_proto::time::Instant,
        rng: &mut Rng,
        deadline: Instant,
    ) -> Fate {
        for _ in 0..STEPS_PER_TURN {
            match self.send() {
                Ok(true) if !self.keep_open => return Fate::Close,
                Ok(true) => {}
                Ok(false) => return Fate::Wait,
                Err(_) => return Fate::Close,
            }
            let mut response = Vec::new();
            match http::respond(table, now, rng, self.from, &self.request, &mut response) {
                Progress::Answered { used, keep_open } => {
                    self.request.drain(..used.min(self.request.len()));
                    self.response = response;
                    self.keep_open = keep_open;
                    self.deadline = deadline;
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
        while let Some(rest @ [_, ..]) = self.response.get(self.sent..) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.response = Vec::new();
        self.sent = 0;
        Ok(true)
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

/// Steps of one connection in one turn: a request takes two.
const STEPS_PER_TURN: usize = 64;
