//! A BitTorrent tracker: tells the peers of a torrent about each other.
//!
//! [`table`] is the tracker as a value, without clock or socket; [`http`] and [`udp`] turn a
//! request into the bytes of a response; [`server`] gives all that a thread and real sockets.

pub mod config;
pub mod connection_id;
pub mod files;
pub mod http;
pub mod server;
pub mod service;
pub mod table;
pub mod udp;

pub use config::{Config, Limits, PORT};
pub use files::path_of;
pub use server::{Error, Protocol, Server};
