//! Host names to addresses, with the system's resolver. Blocking: only helper threads call it.
//!
//! `getaddrinfo` has no deadline of its own but those of the system's configuration (about 30 s at
//! worst), so whoever waits for a helper thread waits with a limit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Why a name has no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error("host not found: {0}")]
    NotFound(String),
    #[error("host not found: {0} ({1})")]
    Failed(String, String),
}

/// The addresses of a host, canonical (no IPv4 inside IPv6), at most [`ADDRESSES_MAX`] a family.
pub(crate) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DnsError> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| dns_error(host, &error))?;
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in found {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let same = addrs
            .iter()
            .filter(|known| known.is_ipv4() == addr.is_ipv4());
        if same.count() < ADDRESSES_MAX && !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() {
        return Err(DnsError::NotFound(host.to_owned()));
    }
    Ok(addrs)
}

fn dns_error(host: &str, error: &io::Error) -> DnsError {
    let words = crate::words(error);
    // getaddrinfo's own words stand behind those of the library.
    let words = words.rsplit(": ").next().unwrap_or_default();
    if words.starts_with("Name or service not known") {
        return DnsError::NotFound(host.to_owned());
    }
    DnsError::Failed(host.to_owned(), words.to_lowercase())
}

/// An address that leads here. Linux takes "no address" for loopback.
pub(crate) fn is_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
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

/// Tried one after the other: more of them would only prolong the wait for a dead host.
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
