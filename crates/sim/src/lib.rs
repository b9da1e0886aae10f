//! An imaginary computer for the engine: whole swarms in virtual time.
//!
//! The production `Session` runs here unchanged, one a peer, driven by events alone. The same seed
//! gives the same run to the last event.

pub mod catalogue;
pub mod content;
pub mod disk;
pub mod figures;
pub mod hostile;
pub mod net;
pub mod oracles;
pub mod page;
pub mod plan;
pub mod record;
pub mod report;
pub mod scenario;
pub mod stats;
pub mod sweep;
pub mod trace;
pub mod tracker;
mod world;

pub use content::Content;
pub use hostile::Hostile;
pub use net::NodeId;
pub use plan::{Do, When};
pub use report::Report;
pub use scenario::Swarm;
