//! Canonical peer priority (BEP 40): an order of connections on which both ends agree.
//!
//! Everybody keeps and dials those with the highest priority, so nobody gains by being early or
//! by dialling again and again. It says nothing about how useful a peer is.

use std::net::{IpAddr, SocketAddr};

/// The priority of a connection between these two, each as the other sees it: whichever comes
/// first, it is the same. `None` for an IPv4 and an IPv6 address.
pub fn priority(a: SocketAddr, b: SocketAddr) -> Option<u32> {
    let of_ips = match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (x, y) if x == y => {
            let (low, high) = (a.port().min(b.port()), a.port().max(b.port()));
            return Some(crc32c(&[low.to_be_bytes(), high.to_be_bytes()].concat()));
        }
        (IpAddr::V4(x), IpAddr::V4(y)) => of_octets(x.octets(), y.octets(), V4_BYTES),
        (IpAddr::V6(x), IpAddr::V6(y)) => of_octets(x.octets(), y.octets(), V6_BYTES),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    Some(of_ips)
}

/// The first `whole` bytes count whole, and so does one more for each byte from there on that the
/// addresses begin with in common; of the rest, every second bit.
fn of_octets<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = if common < whole { whole } else { common + 1 };
    let masked = |octets: [u8; N]| {
        let mut octets = octets;
        octets.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
        octets
    };
    let (a, b) = (masked(a), masked(b));
    crc32c(&[a.min(b), a.max(b)].concat())
}

/// CRC-32C (Castagnoli), reflected, as iSCSI has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = (crc & 1).wrapping_neg();
            crc = (crc >> 1) ^ (CASTAGNOLI & is_odd);
        }
    }
    !crc
}

const CASTAGNOLI: u32 = 0x82f6_3b78;

/// Bytes that always count whole: a /16 and a /48.
const V4_BYTES: usize = 2;
const V6_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(a: &str, b: &str) -> Option<u32> {
        let addr = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        priority(addr(a, 6881), addr(b, 51413))
    }

    fn crc_of(hex: &str) -> u32 {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        crc32c(&bytes.collect::<Vec<u8>>())
    }

    #[test]
    fn the_checksum_is_the_one_of_iscsi() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn the_examples_of_bep_40() {
        assert_eq!(of("123.213.32.10", "98.76.54.32"), Some(0xec2d_7224));
        assert_eq!(of("123.213.32.10", "123.213.32.234"), Some(0x9956_8189));
    }

    #[test]
    fn the_nearer_the_addresses_the_more_of_them_counts() {
        assert_eq!(
            of("10.1.255.255", "10.2.255.3"),
            Some(crc_of("0a015555 0a025501"))
        );
        assert_eq!(
            of("10.1.255.255", "10.1.254.3"),
            Some(crc_of("0a01fe01 0a01ff55"))
        );
        assert_eq!(
            of("10.1.255.255", "10.1.255.3"),
            Some(crc_of("0a01ff03 0a01ffff"))
        );
    }

    #[test]
    fn ipv6_counts_in_the_same_way_from_a_48_on() {
        assert_eq!(
            of("2001:db8:1:ffff::ff", "2001:db8:2:ffff::ff"),
            Some(crc_of(
                "20010db8 00015555 00000000 00000055 20010db8 00025555 00000000 00000055"
            ))
        );
        // One /48: its next byte counts. One /56: the byte after that.
        assert_eq!(
            of("2001:db8:1:ffff::ff", "2001:db8:1:feff::ff"),
            Some(crc_of(
                "20010db8 0001fe55 00000000 00000055 20010db8 0001ff55 00000000 00000055"
            ))
        );
        assert_eq!(
            of("2001:db8:1:ffff::ff", "2001:db8:1:fffe::ff"),
            Some(crc_of(
                "20010db8 0001fffe 00000000 00000055 20010db8 0001ffff 00000000 00000055"
            ))
        );
        let last = of("2001:db8::ff", "2001:db8::fe");
        assert_ne!(last, of("2001:db8::ff", "2001:db8::fd"));
    }

    #[test]
    fn of_one_address_the_ports_count() {
        assert_eq!(of("1.2.3.4", "1.2.3.4"), Some(crc_of("1ae1 c8d5")));
        assert_eq!(of("::ffff:1.2.3.4", "1.2.3.4"), Some(crc_of("1ae1 c8d5")));
    }

    #[test]
    fn two_kinds_of_addresses_have_no_priority() {
        assert_eq!(of("1.2.3.4", "2001:db8::1"), None);
    }

    proptest! {
        #[test]
        fn both_ends_agree(a in any::<SocketAddr>(), b in any::<SocketAddr>()) {
            prop_assert_eq!(priority(a, b), priority(b, a));
        }
    }
}
