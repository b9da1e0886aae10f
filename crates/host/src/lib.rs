//! A real computer for the engine: sockets, files, threads, clock.

pub mod check;
pub mod disk;
mod state;
pub mod storage;
