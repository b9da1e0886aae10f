//! The program as its users meet it: every test here runs the real binary.
//!
//! Nothing outside the build folder is touched and nothing but loopback is spoken to. Read
//! [`fixture`] first: sandboxes, processes; then [`libtorrent`], the other client.

#![allow(unreachable_pub, reason = "a test binary: there is no outside")]

mod classic;
mod cli;
mod demo;
mod fixture;
mod interop;
mod keys;
mod libtorrent;
mod peer;
mod peer_log;
mod sources;
mod transfer;
