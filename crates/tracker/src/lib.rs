//! A BitTorrent tracker: tells the peers of a torrent about each other.
//!
//! [`table`] is the tracker as a value, without clock or socket; [`http`] turns a request into
//! the bytes of a response; [`server`] gives both a thread and real connections.

pub mod config;
pub mod http;
pub mod server;
pub mod table;

pub use config::{Config, Limits};
pub use server::{Error, Server};
