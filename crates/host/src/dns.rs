//! Host names to addresses, with the system's resolver. Blocking: only helper threads call it.
//!
//! `getaddrinfo` has no deadline of its own but those of the system's configuration (about 30 s at
//! worst), so whoever waits for a helper thread waits with a limit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// The addresses of a host, canonical (no IPv4 inside IPv6), at most [`ADDRESSES_MAX`].
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addrs = (host, port).to_socket_addrs()?;
    Ok(addrs
        .map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()))
        .take(ADDRESSES_MAX)
        .collect())
}

/// An address that only this machine or its own network can reach.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: shared by the customers of a provider.
            let is_shared = a == 100 && b & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || a == 0 || is_shared
        }
        IpAddr::V6(ip) => {
            // RFC 6052: a gateway would lead to the IPv4 address at the end.
            let behind_gateway = match ip.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, a, b] => {
                    is_local(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)).into())
                }
                _ => false,
            };
            behind_gateway
                || ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
        }
    }
}

/// Tried one after the other: more would only prolong the wait for a dead host.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_need_no_resolver_and_are_canonical() {
        let v4 = "127.0.0.1:80".parse().unwrap();
        assert_eq!(resolve("127.0.0.1", 80).unwrap(), [v4]);
        assert_eq!(resolve("::ffff:127.0.0.1", 80).unwrap(), [v4]);
    }

    #[test]
    fn local_addresses_are_known() {
        for local in [
            "127.9.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for global in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "64:ff9b::101:101",
        ] {
            assert!(!is_local(global.parse().unwrap()), "{global}");
        }
    }
}
