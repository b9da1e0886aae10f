//! How far an address can be reached, and who may hear of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Scope {
    /// From the machine itself: `127.0.0.0/8`, `::1`.
    Machine,
    /// From the same wire: `169.254.0.0/16`, `fe80::/10`.
    Link,
    /// From the same private network: RFC 1918, RFC 6598 (`100.64.0.0/10`, behind a provider's
    /// NAT), `fc00::/7`.
    Private,
    Global,
}

impl Scope {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Machine,
            IpAddr::V4(ip) if ip.is_link_local() => Self::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self::Link,
            IpAddr::V4(ip) if ip.is_private() || is_shared(ip) => Self::Private,
            IpAddr::V6(ip) if ip.is_unique_local() => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Global,
        }
    }

    /// Whether somebody here may hear of a peer there.
    pub(super) fn may_hear_of(self, peer: Self) -> bool {
        match (self, peer) {
            (Self::Machine, _) | (_, Self::Global) | (Self::Link, Self::Link) => true,
            (Self::Link | Self::Private, Self::Private) => true,
            // A link-local address means another machine on every wire.
            (Self::Private, Self::Link) => false,
            (Self::Link | Self::Private, Self::Machine) => false,
            (Self::Global, Self::Machine | Self::Link | Self::Private) => false,
        }
    }
}

/// The addresses that one customer has: one in IPv4, a /64 in IPv6.
pub(super) fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_scope() {
        for (scope, texts) in [
            (
                Scope::Machine,
                &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"][..],
            ),
            (Scope::Link, &["169.254.0.1", "fe80::1", "febf::1"]),
            (
                Scope::Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "100.64.0.1",
                    "100.127.255.255",
                    "fc00::1",
                    "fdff::1",
                    "::ffff:10.0.0.1",
                ],
            ),
            (
                Scope::Global,
                &[
                    "9.255.255.255",
                    "11.0.0.0",
                    "172.15.0.1",
                    "172.32.0.1",
                    "192.167.0.1",
                    "100.63.0.1",
                    "100.128.0.1",
                    "169.253.0.1",
                    "2001:db8::1",
                    "fec0::1",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(Scope::of(text.parse().unwrap()), scope, "{text}");
            }
        }
    }

    #[test]
    fn an_ipv6_subscriber_is_a_64() {
        let of = |text: &str| subscriber(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("10.1.2.3"), "10.1.2.3");
    }
}
