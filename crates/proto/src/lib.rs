//! Bytes to messages and back: one module a protocol, none of them owns a socket.
//!
//! The protocol modules do not import each other. Time and randomness are arguments.

pub mod buf;
pub mod peer;
pub mod rng;
pub mod time;
pub mod tracker;
