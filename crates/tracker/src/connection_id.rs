//! Connection ids of UDP clients (BEP 15): proof that somebody receives what is sent to his
//! address.
//!
//! An id is a keyed digest of the address and the time, so nothing has to be remembered, and
//! nobody who does not receive at an address can have its id. HMAC-SHA-256 (RFC 2104), cut to the
//! 64 bits that the packet has room for: guessing one takes 2^63 packets on average, and an id is
//! good for [`SLOT`] at least and twice that at most, as BEP 15 asks.

use std::net::IpAddr;
use std::time::Duration;

use dunlin_proto::time::Instant;
use dunlin_proto::tracker::udp::PROTOCOL_ID;
use sha2::{Digest, Sha256};

/// Makes and checks ids. The key has to be secret and new with every start.
#[derive(Clone)]
pub struct ConnectionIds {
    /// The two digests of HMAC after the key, which is all that an id needs of it.
    inner: Sha256,
    outer: Sha256,
}

impl ConnectionIds {
    pub fn new(key: &[u8; 32]) -> Self {
        let padded = |pad: u8| {
            let mut block = [pad; SHA256_BLOCK_LEN];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            Sha256::new_with_prefix(block)
        };
        Self {
            inner: padded(0x36),
            outer: padded(0x5c),
        }
    }

    pub fn issue(&self, now: Instant, ip: IpAddr) -> u64 {
        self.id(slot(now), ip)
    }

    pub fn is_valid(&self, now: Instant, ip: IpAddr, id: u64) -> bool {
        let slot = slot(now);
        // Timing tells nothing: both are computed, and a guess is right or wrong as a whole.
        let ids = [Some(slot), slot.checked_sub(1)].map(|slot| slot.map(|slot| self.id(slot, ip)));
        ids.contains(&Some(id))
    }

    fn id(&self, slot: u64, ip: IpAddr) -> u64 {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let inner = self.inner.clone();
        let inner = inner
            .chain_update(slot.to_be_bytes())
            .chain_update(ip.octets());
        let digest = self.outer.clone().chain_update(inner.finalize()).finalize();
        let first = digest.first_chunk().expect("a digest has 32 bytes");
        let id = u64::from_be_bytes(*first);
        // What stands in the place of an id in a connect must never be one.
        if id == PROTOCOL_ID { !id } else { id }
    }
}

impl std::fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionIds(..)")
    }
}

fn slot(now: Instant) -> u64 {
    now.as_micros() / SLOT.as_micros() as u64
}

const SHA256_BLOCK_LEN: usize = 64;

/// An id of this slot and of the one before is taken.
pub const SLOT: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    #[test]
    fn an_id_is_for_one_address_one_time_and_one_key() {
        let (ids, others) = (ConnectionIds::new(&[1; 32]), ConnectionIds::new(&[2; 32]));
        let (here, there) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let id = ids.issue(at(0), here);
        assert!(ids.is_valid(at(0), here, id));
        assert!(ids.is_valid(at(0), ip("::ffff:10.0.0.1"), id));
        assert!(!ids.is_valid(at(0), there, id));
        assert!(!others.is_valid(at(0), here, id));
        for bit in 0..64 {
            assert!(!ids.is_valid(at(0), here, id ^ (1 << bit)));
        }
        assert!(!ids.is_valid(at(0), here, PROTOCOL_ID));
    }

    #[test]
    fn an_id_is_good_for_two_minutes_and_not_for_more_than_four() {
        let (ids, here) = (ConnectionIds::new(&[1; 32]), ip("2001:db8::1"));
        for start in [0, 1, 119, 120, 1000] {
            let id = ids.issue(at(start), here);
            assert!(ids.is_valid(at(start + 120), here, id), "{start}");
            assert!(!ids.is_valid(at(start + 240), here, id), "{start}");
        }
    }

    /// Computed with another implementation of HMAC:
    /// `hmac.new(b"\x01"*32, struct.pack(">Q",0)+b"\0"*10+b"\xff\xff\x0a\0\0\x01", "sha256")`.
    #[test]
    fn an_id_is_the_start_of_the_hmac() {
        let ids = ConnectionIds::new(&[1; 32]);
        assert_eq!(ids.issue(at(0), ip("10.0.0.1")), VECTOR);
    }

    const VECTOR: u64 = 0x6095_4a8a_5f46_5273;
}
