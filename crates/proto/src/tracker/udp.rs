//! The words of a UDP tracker (BEP 15, 41), from either side.
//!
//! [`client`] and [`server`] turn datagrams into values and back; [`exchange`] is one question of a
//! client with everything that belongs to it: the connection id, repeating, giving up. Sockets and
//! the check where a datagram came from belong to the caller.

pub mod client;
pub mod exchange;
mod reader;
pub mod server;

use std::net::IpAddr;

pub use exchange::{Answer, Connection, Exchange, ExchangeError, Patience, Question};

/// Which addresses the peers of a reply have: those of the protocol that carried it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family that datagrams from and to this address have.
    pub fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// In the place of the connection id of a connect request.
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// Torrents in one scrape, so that the request fits a packet (BEP 15).
pub const SCRAPE_HASHES_MAX: usize = 74;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Numbers of the events; `paused` (BEP 21) is in no proposal for UDP, this is libtorrent's.
const COMPLETED: u32 = 1;
const STARTED: u32 = 2;
const STOPPED: u32 = 3;
const PAUSED: u32 = 4;

/// Options after an announce (BEP 41).
const END_OF_OPTIONS: u8 = 0;
const NOP: u8 = 1;
const URL_DATA: u8 = 2;
