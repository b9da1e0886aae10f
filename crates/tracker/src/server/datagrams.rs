//! A UDP socket of the tracker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::server::REQUEST_LEN_MAX;
use mio::net::UdpSocket;

use crate::connection_id::ConnectionIds;
use crate::service::Service;
use crate::udp;

use super::own_address::OwnAddress;

pub(super) struct Datagrams {
    socket: UdpSocket,
    ids: ConnectionIds,
    /// What the socket is bound to, if that is one address.
    bound: Option<IpAddr>,
    own_address: OwnAddress,
}

impl Datagrams {
    pub(super) fn new(socket: UdpSocket, ids: ConnectionIds) -> io::Result<Self> {
        let bound = socket.local_addr()?.ip();
        Ok(Self {
            socket,
            ids,
            bound: (!bound.is_unspecified()).then(|| bound.to_canonical()),
            own_address: OwnAddress::default(),
        })
    }

    pub(super) fn socket(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Answers what waits; true when its turn is over but more may wait. However many come, the
    /// connections get their turn in between.
    pub(super) fn serve(&mut self, service: &mut Service, now: Instant) -> bool {
        // What is cut off is not looked at anyway.
        let mut buffer = [0; REQUEST_LEN_MAX];
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.answer(service, now, from, &buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An earlier reply could not be delivered: some systems tell it here.
                Err(error) if is_of_the_past(error.kind()) => {}
                Err(error) => {
                    tracing::debug!(%error, "tracker cannot receive");
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn sweep(&mut self) {
        self.own_address.forget();
    }

    fn answer(&mut self, service: &mut Service, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let ip = from.ip().to_canonical();
        if from.port() == 0 {
            return;
        }
        let own_address = &mut self.own_address;
        let reached_at = || self.bound.or_else(|| own_address.towards(ip));
        let reply = udp::respond(service, &self.ids, now, ip, reached_at, datagram);
        // A reply that the socket does not take at once is lost, as any may be.
        if let Some(reply) = reply
            && let Err(error) = self.socket.send_to(&reply, from)
        {
            tracing::debug!(%error, "tracker cannot send a datagram");
        }
    }
}

fn is_of_the_past(error: io::ErrorKind) -> bool {
    [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::Interrupted,
    ]
    .contains(&error)
}

/// Sockets for the address, in the way of the HTTP listeners.
pub(super) fn bind(addr: SocketAddr) -> io::Result<Vec<UdpSocket>> {
    if addr.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return Ok(vec![UdpSocket::bind(addr)?]);
    }
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    let v6 = match UdpSocket::bind(everywhere) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        // No IPv6 on this machine.
        Err(_) => return Ok(vec![UdpSocket::bind(addr)?]),
    };
    let v4 = SocketAddr::new(addr.ip(), v6.local_addr()?.port());
    Ok(match UdpSocket::bind(v4) {
        Ok(v4) => vec![v4, v6],
        Err(_) => vec![v6],
    })
}

/// About a millisecond.
const DATAGRAMS_PER_TURN: usize = 64;
