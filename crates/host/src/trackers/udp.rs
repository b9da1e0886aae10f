//! An announce over UDP (BEP 15): sockets and waiting. What is said is the business of
//! [`Exchange`].
//!
//! A socket is connected, so that only the address that was asked is heard. It is kept with the
//! connection id that the tracker gave to it, for a minute, and used again.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dunlin_engine::event::TrackerFailure;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::client::{REPLY_LEN_MAX, UrlData};
use dunlin_proto::tracker::udp::{Answer, Connection, Exchange, ExchangeError, Patience, Question};
use dunlin_proto::tracker::{AnnounceRequest, AnnounceResponse};

use crate::http::Url;
use crate::net::Paths;

/// Sockets with connection ids that may still be valid.
#[derive(Debug)]
pub(super) struct Pool {
    start: std::time::Instant,
    patience: Patience,
    idle: Mutex<Vec<Leave>>,
}

/// A tracker's leave to ask it, and the socket that has it.
#[derive(Debug)]
struct Leave {
    tracker: SocketAddr,
    socket: UdpSocket,
    connection: Connection,
}

impl Pool {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            start: std::time::Instant::now(),
            patience,
            idle: Mutex::default(),
        }
    }

    /// Asks one of the addresses, all of one family, and waits.
    pub(super) fn announce(
        &self,
        url: &Url,
        addrs: &[SocketAddr],
        request: &AnnounceRequest,
        paths: &Paths,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let target = if url.target == "/" { "" } else { &url.target };
        let question = Question::Announce {
            request: Box::new(request.clone()),
            url_data: UrlData::new(target).map_err(|error| super::failure(&error))?,
        };
        let mut last = super::failure(&"no address");
        for &tracker in addrs {
            match self.ask(tracker, question.clone(), paths) {
                Ok(Answer::Announce(response)) => return Ok(response),
                Ok(Answer::Scrape(_)) => return Err(super::failure(&ExchangeError::WrongAction)),
                // The next address may be of a machine that is up.
                Err(Error::Io(error)) => last = super::failure(&io_words(&error)),
                Err(Error::Exchange(error)) => return Err(exchange_failure(&error)),
            }
        }
        Err(last)
    }

    fn ask(&self, tracker: SocketAddr, question: Question, paths: &Paths) -> Result<Answer, Error> {
        let (socket, known) = match self.take(tracker) {
            Some(leave) => (leave.socket, Some(leave.connection)),
            None => (paths.udp(tracker)?, None),
        };
        // Ids of questions are what keeps others from answering them: no guessing from one to the
        // next.
        let mut rng = Rng::new(getrandom::u64().map_err(io::Error::other)?);
        let ip = tracker.ip();
        let mut exchange = Exchange::new(self.now(), &mut rng, ip, question, known, self.patience);
        let mut buffer = vec![0; REPLY_LEN_MAX + 1];
        let result = loop {
            while let Some(datagram) = exchange.poll_transmit() {
                socket.send(&datagram)?;
            }
            let now = self.now();
            let Some(deadline) = exchange.deadline() else {
                break Err(ExchangeError::WrongAction);
            };
            if deadline <= now {
                match exchange.on_time(now, &mut rng) {
                    Some(result) => break result,
                    None => continue,
                }
            }
            // A time-out of zero would mean none at all.
            let wait = deadline.since(now).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(wait))?;
            let Some(len) = receive(&socket, &mut buffer)? else {
                continue;
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            if let Some(result) = exchange.on_datagram(self.now(), &mut rng, datagram) {
                break result;
            }
        };
        if let Some(connection) = exchange.connection() {
            self.put(Leave {
                tracker,
                socket,
                connection,
            });
        }
        Ok(result?)
    }

    fn now(&self) -> Instant {
        let micros = self.start.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn take(&self, tracker: SocketAddr) -> Option<Leave> {
        let now = self.now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|leave| leave.connection.is_valid(now));
        let at = idle.iter().position(|leave| leave.tracker == tracker)?;
        Some(idle.swap_remove(at))
    }

    fn put(&self, leave: Leave) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push(leave);
    }
}

#[derive(Debug)]
enum Error {
    Io(io::Error),
    Exchange(ExchangeError),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ExchangeError> for Error {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

/// The length of a datagram; `None` if none came in time.
#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match socket.recv(buffer) {
        Ok(len) => Ok(Some(len)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

fn io_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "connection refused".to_owned();
    }
    crate::words(error)
}

fn exchange_failure(error: &ExchangeError) -> TrackerFailure {
    match error {
        ExchangeError::TimedOut(waited) => {
            super::failure(&format!("no answer within {} s", waited.as_secs()))
        }
        ExchangeError::Refused(message) => TrackerFailure {
            message: message.clone(),
            refused: true,
        },
        ExchangeError::Malformed(_)
        | ExchangeError::WrongAction
        | ExchangeError::WrongCount { .. } => super::failure(error),
    }
}

/// Sockets that wait for their next use; each is thrown away after a minute.
const IDLE_MAX: usize = 32;

#[cfg(test)]
mod tests;
