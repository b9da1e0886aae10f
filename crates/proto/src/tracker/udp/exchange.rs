//! One question to one address of a UDP tracker, until it is answered or given up.
//!
//! The caller sends what [`Exchange::poll_transmit`] yields, passes in the datagrams that came
//! from the tracker's address and no other, and calls [`Exchange::on_time`] at the
//! [`Exchange::deadline`]. Here it is judged whether a datagram answers what was asked, by its
//! transaction id. The caller keeps the [`Connection`] for the next exchange with the address.

use std::net::IpAddr;
use std::time::Duration;

use dunlin_metainfo::InfoHash;

use crate::rng::Rng;
use crate::time::Instant;
use crate::tracker::{AnnounceRequest, AnnounceResponse, ScrapeEntry};

use super::client::{self, Reply, ReplyError, UrlData};
use super::{Family, SCRAPE_HASHES_MAX};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    Announce {
        request: Box<AnnounceRequest>,
        url_data: UrlData,
    },
    /// Torrents beyond [`SCRAPE_HASHES_MAX`] are not asked for.
    Scrape(Vec<InfoHash>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Announce(AnnounceResponse),
    /// In the order of the question; zeros may mean that the tracker does not know the torrent.
    Scrape(Vec<(InfoHash, ScrapeEntry)>),
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("no answer in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The tracker said no, in its own words.
    #[error("{0}")]
    Refused(String),
    #[error("not an answer of a tracker: {0}")]
    Malformed(#[from] ReplyError),
    #[error("not an answer of a tracker: it answers something else")]
    WrongAction,
    #[error("not an answer of a tracker: {got} torrents of {asked}")]
    WrongCount { asked: usize, got: usize },
}

/// The tracker's leave to ask, given to our address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    id: u64,
    received: Instant,
}

impl Connection {
    pub fn is_valid(&self, now: Instant) -> bool {
        now.since(self.received) < CONNECTION_LIFETIME
    }
}

/// How long a question waits before it is repeated, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Waiting for the first reply; each time doubles it.
    pub timeout: Duration,
    pub repeats: u32,
}

impl Patience {
    /// 15 s x 2^n up to n = 8, more than two hours in all.
    pub const BEP_15: Self = Self {
        timeout: Duration::from_secs(15),
        repeats: 8,
    };

    fn after(&self, timeouts: u32) -> Duration {
        self.timeout.saturating_mul(1 << timeouts.min(REPEATS_MAX))
    }
}

impl Default for Patience {
    /// One repeat, 45 s in all: whoever waits for a dead tracker does not ask the next one of its
    /// tier, and is not shown that it is dead. Who announces comes back anyway.
    fn default() -> Self {
        Self {
            repeats: 1,
            ..Self::BEP_15
        }
    }
}

#[derive(Debug)]
pub struct Exchange {
    question: Question,
    family: Family,
    patience: Patience,
    state: State,
    /// What the next reply has to repeat. Kept while the same datagram is repeated, for a late
    /// reply is as good.
    transaction: u32,
    /// Waits that were in vain, in both states together: a tracker that answers nothing but
    /// connects is given up too.
    timeouts: u32,
    started: Instant,
    deadline: Instant,
    has_to_send: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Connecting,
    Asking {
        connection: Connection,
        /// From an earlier exchange: the tracker may have forgotten it since.
        is_old: bool,
    },
    Over {
        connection: Option<Connection>,
    },
}

impl Exchange {
    /// `tracker` is the address that is asked, `known` what an earlier exchange with it left.
    pub fn new(
        now: Instant,
        rng: &mut Rng,
        tracker: IpAddr,
        question: Question,
        known: Option<Connection>,
        patience: Patience,
    ) -> Self {
        let state = match known {
            Some(connection) if connection.is_valid(now) => State::Asking {
                connection,
                is_old: true,
            },
            Some(_) | None => State::Connecting,
        };
        let mut exchange = Self {
            question,
            family: Family::of(tracker),
            patience,
            state,
            transaction: 0,
            timeouts: 0,
            started: now,
            deadline: now,
            has_to_send: false,
        };
        exchange.enter(now, rng, state);
        exchange
    }

    /// A datagram to send, if there is one.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.has_to_send) {
            return None;
        }
        match self.state {
            State::Connecting => Some(client::encode_connect(self.transaction)),
            State::Asking { connection, .. } => Some(match &self.question {
                Question::Announce { request, url_data } => {
                    client::encode_announce(connection.id, self.transaction, request, url_data)
                }
                Question::Scrape(info_hashes) => {
                    client::encode_scrape(connection.id, self.transaction, info_hashes)
                }
            }),
            State::Over { .. } => None,
        }
    }

    /// A datagram came from the tracker's address. What answers no question of ours, like a
    /// forged one, changes nothing.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        datagram: &[u8],
    ) -> Option<Result<Answer, ExchangeError>> {
        if client::transaction_of(datagram) != Some(self.transaction) {
            return None;
        }
        let reply = client::parse_reply(datagram, self.family);
        match (self.state, reply) {
            (State::Over { .. }, _) => None,
            (State::Connecting, Ok(Reply::Connect { connection })) => {
                let connection = Connection {
                    id: connection,
                    received: now,
                };
                let is_old = false;
                self.enter(now, rng, State::Asking { connection, is_old });
                None
            }
            (State::Asking { is_old: true, .. }, Ok(Reply::Error(_))) => {
                // Likely about the connection id. The next refusal counts.
                self.enter(now, rng, State::Connecting);
                None
            }
            (State::Connecting, Ok(Reply::Announce(_) | Reply::Scrape(_)))
            | (State::Asking { .. }, Ok(Reply::Connect { .. })) => {
                Some(self.end(now, Err(ExchangeError::WrongAction)))
            }
            (_, Ok(Reply::Error(text))) => Some(self.end(now, Err(ExchangeError::Refused(text)))),
            (State::Asking { .. }, Ok(reply @ (Reply::Announce(_) | Reply::Scrape(_)))) => {
                let answer = self.answer(reply);
                Some(self.end(now, answer))
            }
            (_, Err(error)) => Some(self.end(now, Err(error.into()))),
        }
    }

    /// The deadline has come: repeats the question or gives up.
    pub fn on_time(
        &mut self,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Result<Answer, ExchangeError>> {
        if now < self.deadline || matches!(self.state, State::Over { .. }) {
            return None;
        }
        if self.timeouts >= self.patience.repeats.min(REPEATS_MAX) {
            let waited = now.since(self.started);
            return Some(self.end(now, Err(ExchangeError::TimedOut(waited))));
        }
        self.timeouts += 1;
        match self.state {
            State::Asking { connection, is_old } if is_old || !connection.is_valid(now) => {
                self.enter(now, rng, State::Connecting);
            }
            State::Connecting | State::Asking { .. } | State::Over { .. } => self.send(now),
        }
        None
    }

    /// When [`Exchange::on_time`] has something to do; `None` when all is over.
    pub fn deadline(&self) -> Option<Instant> {
        (!matches!(self.state, State::Over { .. })).then_some(self.deadline)
    }

    /// For the next exchange with this address.
    pub fn connection(&self) -> Option<Connection> {
        match self.state {
            State::Connecting => None,
            State::Asking { connection, .. } => Some(connection),
            State::Over { connection } => connection,
        }
    }

    fn enter(&mut self, now: Instant, rng: &mut Rng, state: State) {
        self.state = state;
        // The upper half, which is the better one of xoshiro256++.
        self.transaction = (rng.next_u64() >> 32) as u32;
        self.send(now);
    }

    fn send(&mut self, now: Instant) {
        self.deadline = now + self.patience.after(self.timeouts);
        self.has_to_send = true;
    }

    fn answer(&mut self, reply: Reply) -> Result<Answer, ExchangeError> {
        match (&self.question, reply) {
            (Question::Announce { .. }, Reply::Announce(response)) => {
                Ok(Answer::Announce(response))
            }
            (Question::Scrape(info_hashes), Reply::Scrape(entries)) => {
                let asked = info_hashes.len().min(SCRAPE_HASHES_MAX);
                let got = entries.len();
                if got < asked {
                    return Err(ExchangeError::WrongCount { asked, got });
                }
                let entries = info_hashes.iter().copied().zip(entries);
                Ok(Answer::Scrape(entries.take(asked).collect()))
            }
            (Question::Announce { .. } | Question::Scrape(_), _) => Err(ExchangeError::WrongAction),
        }
    }

    fn end(
        &mut self,
        now: Instant,
        result: Result<Answer, ExchangeError>,
    ) -> Result<Answer, ExchangeError> {
        // After a failure the id may be what was wrong.
        let connection = self
            .connection()
            .filter(|c| result.is_ok() && c.is_valid(now));
        self.state = State::Over { connection };
        result
    }
}

/// How long a client may use a connection id (BEP 15).
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// The largest n in BEP 15's 15 x 2^n seconds.
const REPEATS_MAX: u32 = 8;

#[cfg(test)]
mod tests;
