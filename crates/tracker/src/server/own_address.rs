//! Our own address as others see it.
//!
//! A datagram does not say to which of our addresses it came. But the routes say from which one an
//! answer goes, and a socket that is connected shows it, without a packet being sent.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

#[derive(Debug, Default)]
pub(super) struct OwnAddress {
    known: BTreeMap<IpAddr, Option<IpAddr>>,
}

impl OwnAddress {
    /// The address from which answers go to `ip`.
    pub(super) fn towards(&mut self, ip: IpAddr) -> Option<IpAddr> {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        *self.known.entry(ip).or_insert_with(|| look_up(ip).ok())
    }

    /// Routes change.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

fn look_up(ip: IpAddr) -> io::Result<IpAddr> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((ip, ANY_PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// Addresses that are remembered.
const KNOWN_MAX: usize = 4096;

/// Nothing is sent there: the discard port.
const ANY_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let mut own_address = OwnAddress::default();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(own_address.towards(loopback), Some(loopback));
        assert_eq!(own_address.towards(loopback), Some(loopback));
        for host in 0..=KNOWN_MAX as u32 {
            own_address.known.insert(Ipv4Addr::from(host).into(), None);
        }
        own_address.towards(loopback);
        assert_eq!(own_address.known.len(), 1);
    }
}
