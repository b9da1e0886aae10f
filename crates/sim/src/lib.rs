//! An imaginary computer for the engine: whole swarms in virtual time.
//!
//! The production `Session` runs here unchanged, one a peer, driven by events alone. The same seed
//! gives the same run to the last event.

pub mod content;
pub mod disk;
pub mod net;
