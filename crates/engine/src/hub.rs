//! Connections that are not peers yet: dialling, and the two handshakes, as state machines.
//!
//! The hub owns no socket. It is told what arrived and what time it is, and answers with a
//! [`Step`]. A connection leaves it in exactly one way: established, failed, or refused.
//! When too many strangers wait, a new one displaces the one that has been silent for longest,
//! so that idle connections never lock others out.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_metainfo::{InfoHash, PeerId};
use dunlin_proto::peer::{Handshake, HandshakeDecoder, Reserved};
use dunlin_proto::time::Instant;

use crate::event::{ConnKey, Direction, PeerAddr, TorrentKey};
use crate::reason::CloseReason;

/// Every connection from its first byte to the end of its handshake.
#[derive(Debug)]
pub struct Hub {
    peer_id: PeerId,
    conns: BTreeMap<ConnKey, Conn>,
    incoming: usize,
}

/// What to do after bytes arrived.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    Wait,
    /// A stranger showed its handshake: ask the session, then call [`Hub::accept`] or
    /// [`Hub::refuse`].
    Incoming {
        remote: PeerAddr,
        handshake: Handshake,
    },
    Established(Box<Established>),
    Failed(Failure),
}

/// A connection that both sides agreed on.
#[derive(Debug)]
pub struct Established {
    pub torrent: TorrentKey,
    pub remote: PeerAddr,
    pub direction: Direction,
    pub handshake: Handshake,
    /// What is left to be sent of our handshake.
    pub outgoing: Vec<u8>,
    /// What the peer sent after its handshake.
    pub residual: Vec<u8>,
}

/// A connection that came to nothing: its socket is to be closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub conn: ConnKey,
    /// What we dialled, and for which torrent.
    pub dialled: Option<(TorrentKey, PeerAddr)>,
    pub reason: CloseReason,
}

#[derive(Debug)]
struct Conn {
    remote: PeerAddr,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Accepted(HandshakeDecoder),
    /// The session is asked.
    Asked {
        handshake: Handshake,
        residual: Vec<u8>,
    },
    /// We dialled ourselves. The other end is told who we are, and hangs up.
    Mirror {
        outgoing: Vec<u8>,
    },
    Dialling {
        torrent: TorrentKey,
        info_hash: InfoHash,
    },
    Dialled {
        torrent: TorrentKey,
        info_hash: InfoHash,
        outgoing: Vec<u8>,
        decoder: HandshakeDecoder,
    },
}

impl Hub {
    pub fn new(peer_id: PeerId) -> Self {
        Self {
            peer_id,
            conns: BTreeMap::new(),
            incoming: 0,
        }
    }

    /// Somebody connected. Returns the connection that has to go for it, if any.
    pub fn accepted(&mut self, now: Instant, conn: ConnKey, remote: PeerAddr) -> Option<Failure> {
        let is_full = self.incoming >= INCOMING_MAX;
        let displaced = if is_full { self.displace() } else { None };
        self.insert(
            conn,
            remote,
            now + HANDSHAKE_TIMEOUT,
            State::Accepted(HandshakeDecoder::new()),
        );
        self.incoming += 1;
        displaced
    }

    /// Gives up the stranger that waits longest, to make room for another.
    pub fn displace(&mut self) -> Option<Failure> {
        let mut conns = self.conns.iter();
        let (&conn, _) = conns.find(|(_, conn)| conn.is_incoming())?;
        self.closed(conn, CloseReason::TimedOut)
    }

    /// Whether [`displace`](Self::displace) would find one.
    pub fn has_strangers(&self) -> bool {
        self.incoming > 0
    }

    /// A connection attempt began.
    pub fn dialling(
        &mut self,
        now: Instant,
        conn: ConnKey,
        torrent: TorrentKey,
        info_hash: InfoHash,
        remote: PeerAddr,
    ) {
        let state = State::Dialling { torrent, info_hash };
        self.insert(conn, remote, now + DIAL_TIMEOUT, state);
    }

    /// Whether another connection may be dialled.
    pub fn may_dial(&self) -> bool {
        self.conns.len() - self.incoming < OUTGOING_MAX
    }

    /// The attempt succeeded: our handshake is to be sent.
    pub fn connected(&mut self, now: Instant, conn: ConnKey) {
        let Some(entry) = self.conns.get_mut(&conn) else {
            return;
        };
        let State::Dialling { torrent, info_hash } = entry.state else {
            return;
        };
        entry.deadline = now + HANDSHAKE_TIMEOUT;
        entry.state = State::Dialled {
            torrent,
            info_hash,
            outgoing: ours(info_hash, self.peer_id).encode().to_vec(),
            decoder: HandshakeDecoder::new(),
        };
    }

    /// Bytes that wait to be sent.
    pub fn outgoing(&self, conn: ConnKey) -> &[u8] {
        match self.conns.get(&conn).map(|conn| &conn.state) {
            Some(State::Dialled { outgoing, .. } | State::Mirror { outgoing }) => outgoing,
            Some(State::Accepted(_) | State::Asked { .. } | State::Dialling { .. }) | None => &[],
        }
    }

    pub fn sent(&mut self, conn: ConnKey, n: usize) {
        if let Some(State::Dialled { outgoing, .. } | State::Mirror { outgoing }) =
            self.conns.get_mut(&conn).map(|conn| &mut conn.state)
        {
            outgoing.drain(..n.min(outgoing.len()));
        }
    }

    /// Bytes arrived.
    pub fn received(&mut self, conn: ConnKey, bytes: &[u8]) -> Step {
        let mut rest = bytes;
        let Some(entry) = self.conns.get_mut(&conn) else {
            return Step::Wait;
        };
        let decoder = match &mut entry.state {
            State::Accepted(decoder) | State::Dialled { decoder, .. } => decoder,
            State::Asked { residual, .. } => {
                residual.extend_from_slice(rest);
                return if residual.len() > RESIDUAL_MAX {
                    self.fail(conn, CloseReason::Unrequested)
                } else {
                    Step::Wait
                };
            }
            State::Dialling { .. } | State::Mirror { .. } => return Step::Wait,
        };
        match decoder.feed(&mut rest) {
            Ok(None) => Step::Wait,
            Ok(Some(handshake)) if handshake.peer_id == self.peer_id => {
                self.on_self(conn, handshake.info_hash)
            }
            Ok(Some(handshake)) => self.on_handshake(conn, handshake, rest),
            Err(violation) => self.fail(conn, CloseReason::Violation(violation)),
        }
    }

    /// The session lets the stranger in.
    pub fn accept(&mut self, conn: ConnKey, torrent: TorrentKey) -> Option<Established> {
        let Conn { remote, state, .. } = self.remove(conn)?;
        let State::Asked {
            handshake,
            residual,
        } = state
        else {
            return None;
        };
        Some(Established {
            torrent,
            remote,
            direction: Direction::Incoming,
            handshake,
            outgoing: ours(handshake.info_hash, self.peer_id).encode().to_vec(),
            residual,
        })
    }

    /// The session does not want the stranger: its socket is to be closed.
    pub fn refuse(&mut self, conn: ConnKey) {
        self.remove(conn);
    }

    /// The socket failed or was closed.
    pub fn closed(&mut self, conn: ConnKey, reason: CloseReason) -> Option<Failure> {
        let entry = self.remove(conn)?;
        let dialled = match entry.state {
            State::Accepted(_) | State::Asked { .. } | State::Mirror { .. } => None,
            State::Dialling { torrent, .. } | State::Dialled { torrent, .. } => {
                Some((torrent, entry.remote))
            }
        };
        Some(Failure {
            conn,
            dialled,
            reason,
        })
    }

    /// One connection whose time is over; call again until there is none.
    pub fn expired(&mut self, now: Instant) -> Option<Failure> {
        let late = self.conns.iter().find(|(_, conn)| conn.deadline <= now);
        let (&conn, _) = late?;
        self.closed(conn, CloseReason::TimedOut)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.conns.values().map(|conn| conn.deadline).min()
    }

    /// The connections of a torrent that is gone.
    pub fn dials_of(&self, gone: TorrentKey) -> Vec<ConnKey> {
        let of_torrent = |conn: &Conn| match conn.state {
            State::Dialling { torrent, .. } | State::Dialled { torrent, .. } => torrent == gone,
            State::Accepted(_) | State::Asked { .. } | State::Mirror { .. } => false,
        };
        let dials = self.conns.iter().filter(|(_, conn)| of_torrent(conn));
        dials.map(|(&conn, _)| conn).collect()
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    fn on_handshake(&mut self, conn: ConnKey, theirs: Handshake, rest: &[u8]) -> Step {
        let Some(mut entry) = self.remove(conn) else {
            return Step::Wait;
        };
        let residual = rest.to_vec();
        match entry.state {
            State::Dialled {
                torrent,
                info_hash,
                outgoing,
                ..
            } if theirs.info_hash == info_hash => Step::Established(Box::new(Established {
                torrent,
                remote: entry.remote,
                direction: Direction::Outgoing,
                handshake: theirs,
                outgoing,
                residual,
            })),
            State::Dialled { torrent, .. } | State::Dialling { torrent, .. } => {
                Step::Failed(Failure {
                    conn,
                    dialled: Some((torrent, entry.remote)),
                    reason: CloseReason::WrongInfoHash,
                })
            }
            State::Accepted(_) | State::Asked { .. } | State::Mirror { .. } => {
                let remote = entry.remote;
                entry.state = State::Asked {
                    handshake: theirs,
                    residual,
                };
                self.incoming += 1;
                self.conns.insert(conn, entry);
                Step::Incoming {
                    remote,
                    handshake: theirs,
                }
            }
        }
    }

    fn on_self(&mut self, conn: ConnKey, info_hash: InfoHash) -> Step {
        let peer_id = self.peer_id;
        match self.conns.get_mut(&conn) {
            Some(entry) if entry.is_incoming() => {
                entry.state = State::Mirror {
                    outgoing: ours(info_hash, peer_id).encode().to_vec(),
                };
                Step::Wait
            }
            Some(_) | None => self.fail(conn, CloseReason::SelfConnection),
        }
    }

    fn fail(&mut self, conn: ConnKey, reason: CloseReason) -> Step {
        self.closed(conn, reason).map_or(Step::Wait, Step::Failed)
    }

    fn insert(&mut self, conn: ConnKey, remote: PeerAddr, deadline: Instant, state: State) {
        let entry = Conn {
            remote,
            deadline,
            state,
        };
        let before = self.conns.insert(conn, entry);
        debug_assert!(
            before.is_none(),
            "a connection key names one connection for ever"
        );
    }

    fn remove(&mut self, conn: ConnKey) -> Option<Conn> {
        let entry = self.conns.remove(&conn)?;
        if entry.is_incoming() {
            self.incoming -= 1;
        }
        Some(entry)
    }
}

impl Conn {
    fn is_incoming(&self) -> bool {
        match self.state {
            State::Accepted(_) | State::Asked { .. } | State::Mirror { .. } => true,
            State::Dialling { .. } | State::Dialled { .. } => false,
        }
    }
}

fn ours(info_hash: InfoHash, peer_id: PeerId) -> Handshake {
    Handshake {
        info_hash,
        peer_id,
        reserved: Reserved::OURS,
    }
}

/// As in libtorrent: connect 15 s, handshake 10 s.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Strangers that have not finished their handshake. The oldest gives way.
pub const INCOMING_MAX: usize = 128;

/// Connections that we are opening, over all torrents.
pub const OUTGOING_MAX: usize = 256;

/// Bytes that may follow a handshake before the session has answered: one read of the host.
pub const RESIDUAL_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
