//! What an address can be used for: who can reach it, and which others are the same machine's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// From where an address can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// No single machine: unspecified, multicast, broadcast, "this network" (RFC 1122).
    Nobody,
    /// This machine only.
    Loopback,
    /// Our own network only: private (RFC 1918, 4193), shared (RFC 6598), link-local.
    Local,
    Global,
}

impl Reach {
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Self::Loopback;
        }
        if ip.is_unspecified() || ip.is_multicast() {
            return Self::Nobody;
        }
        match ip {
            IpAddr::V4(v4) => match v4.octets() {
                [0, ..] => Self::Nobody,
                [100, second, ..] if second & 0xc0 == 64 => Self::Local,
                [first, ..] if first >= 240 => Self::Nobody,
                _ if v4.is_private() || v4.is_link_local() => Self::Local,
                _ => Self::Global,
            },
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => Self::Local,
            IpAddr::V6(_) => Self::Global,
        }
    }
}

/// Whether somebody can listen there.
pub fn is_dialable(addr: SocketAddr) -> bool {
    addr.port() != 0 && Reach::of(addr.ip()) != Reach::Nobody
}

/// What one machine has: an IPv4 address, or an IPv6 /64.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// What counts as one network: an IPv4 /24, an IPv6 /48. A network of our own is small anyway.
pub fn site(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    if Reach::of(ip) != Reach::Global {
        return None;
    }
    Some(match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_the_registries_say() {
        let cases = [
            ("0.0.0.0", Reach::Nobody),
            ("0.1.2.3", Reach::Nobody),
            ("224.0.0.1", Reach::Nobody),
            ("255.255.255.255", Reach::Nobody),
            ("245.0.0.1", Reach::Nobody),
            ("::", Reach::Nobody),
            ("ff02::1", Reach::Nobody),
            ("127.0.0.1", Reach::Loopback),
            ("127.8.0.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("10.1.2.3", Reach::Local),
            ("172.16.0.1", Reach::Local),
            ("192.168.0.1", Reach::Local),
            ("169.254.0.1", Reach::Local),
            ("100.64.0.1", Reach::Local),
            ("fe80::1", Reach::Local),
            ("fd00::1", Reach::Local),
            ("100.128.0.1", Reach::Global),
            ("172.32.0.1", Reach::Global),
            ("8.8.8.8", Reach::Global),
            ("2001:db8::1", Reach::Global),
        ];
        for (text, reach) in cases {
            assert_eq!(Reach::of(text.parse().unwrap()), reach, "{text}");
        }
    }
}
