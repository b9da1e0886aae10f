//! `dunlin link`: the magnet link of a torrent.

use crate::args::Link;
use crate::failure::Failure;
use crate::{screen, source};

pub fn run(args: &Link) -> Result<(), Failure> {
    let torrent = source::load(&args.source)?;
    screen::out(&torrent.magnet().to_string())
}
