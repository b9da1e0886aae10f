//! The program as its users meet it: every test here runs the real binary.
//!
//! Nothing outside the build folder is touched, and nothing is spoken to but loopback and networks
//! that a test makes for itself. Read [`fixture`] first: sandboxes, processes; then [`clients`] and
//! [`libtorrent`], the other clients.

#![allow(unreachable_pub, reason = "a test binary: there is no outside")]

mod classic;
mod cli;
mod clients;
mod crowd;
mod demo;
mod errors;
mod example;
mod exchange;
mod explain;
mod fixture;
mod hostile;
mod interop;
mod ipv6;
mod keys;
mod libtorrent;
mod limits;
mod magnet;
mod peer;
mod peer_log;
mod real;
mod share;
mod sources;
mod stalls;
mod transfer;
mod wire;
