//! `dunlin link`: the magnet link of a torrent.

use dunlin_host::Network;

use crate::args::Link;
use crate::failure::Failure;
use crate::screen;
use crate::source::{self, Found};

pub fn run(args: &Link) -> Result<(), Failure> {
    let magnet = match source::find(&args.source, None, &Network::default())? {
        Found::Torrent(torrent) => torrent.magnet(),
        Found::V2Only(torrent) => torrent.magnet(),
        Found::Link(magnet) => *magnet,
    };
    screen::out(&magnet.to_string())
}
