//! `dunlin link`: the magnet link of a torrent.

use crate::args::Link;
use crate::failure::Failure;
use crate::source::{self, Found};
use crate::{Context, screen, settings};

pub fn run(args: &Link, mut context: Context) -> Result<(), Failure> {
    args.way.add_to(&mut context.config)?;
    let network = settings::network(&context.config);
    let magnet = match source::find(&args.source, None, &network)? {
        Found::Torrent(torrent) => torrent.magnet(),
        Found::V2Only(torrent) => torrent.magnet(),
        Found::Link(magnet) => *magnet,
    };
    screen::out(&magnet.to_string())
}
