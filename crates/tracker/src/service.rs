//! What answers, whichever protocol carries the question.

use std::net::IpAddr;

use dunlin_proto::rng::Rng;

use crate::config::Limits;
use crate::files::Files;
use crate::table::Table;

#[derive(Debug)]
pub struct Service {
    pub table: Table,
    pub files: Files,
    pub rng: Rng,
}

impl Service {
    pub fn new(limits: Limits, files: Files, seed: u64) -> Self {
        Self {
            table: Table::new(limits),
            files,
            rng: Rng::new(seed),
        }
    }
}

/// The two ends of the way that a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    pub from: IpAddr,
    /// The tracker's own address as the asker reaches it, if that is known.
    pub reached_at: Option<IpAddr>,
}
