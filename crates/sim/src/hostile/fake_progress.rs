//! A leech that never announces more than a twentieth of the torrent, and takes all it can get.
//!
//! A seed that favours newcomers serves it for ever; it gives nothing to anybody.

use dunlin_engine::PeerKey;
use dunlin_metainfo::{Bitfield, Block};
use dunlin_proto::peer::Message;

use super::download::Download;
use super::{Act, Io, Script};

/// It announces one piece of so many, at most.
const ANNOUNCED_SHARE: u32 = 20;

#[derive(Debug)]
pub(super) struct FakeProgress {
    download: Download,
    announced: Bitfield,
}

impl FakeProgress {
    pub(super) fn new() -> Self {
        Self {
            download: Download::new(),
            announced: Bitfield::new(0),
        }
    }
}

impl Script for FakeProgress {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        if self.announced.len() != io.layout.pieces() {
            self.announced = Bitfield::new(io.layout.pieces());
        }
        self.download.connected(peer, &self.announced, io);
    }

    fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>) {
        self.download.message(peer, message, io);
    }

    fn block(&mut self, peer: PeerKey, block: Block, io: &mut Io<'_>) {
        let Some(piece) = self.download.block(peer, block, io) else {
            return;
        };
        let may_announce = (self.announced.count_ones() + 1) * ANNOUNCED_SHARE;
        if may_announce <= self.announced.len() && self.announced.set(piece) {
            for &other in self.download.peers.keys() {
                io.acts.push(Act::Send(other, Message::Have { piece }));
            }
        }
        if self.download.have.is_full() {
            self.download.forget_all();
        }
    }

    fn gone(&mut self, peer: PeerKey, _: &mut Io<'_>) {
        self.download.gone(peer);
    }

    fn dials(&self) -> bool {
        true
    }
}
