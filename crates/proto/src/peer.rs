//! The peer wire protocol: what two peers say to each other over one stream.

pub mod handshake;
pub mod message;

pub use handshake::{Handshake, Reserved};
pub use message::{Message, Request, Violation};
