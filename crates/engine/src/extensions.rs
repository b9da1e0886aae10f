//! What we say in the handshake of the extension protocol (BEP 10), to peers of torrents and of
//! magnets alike.

use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, ut_metadata, ut_pex};

use crate::config::Config;
use crate::event::PeerAddr;

/// The ids that we want to see on messages of each extension.
pub const UT_PEX: u8 = 1;
pub const UT_METADATA: u8 = 2;

/// What changes from torrent to torrent, and from time to time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Introduction {
    /// Length of the info dictionary, if we hand it on.
    pub(crate) metadata_size: Option<u32>,
    /// We want to hear of other peers (BEP 11).
    pub(crate) pex: bool,
    /// Whether we download no more (BEP 21), if that is to be said.
    pub(crate) upload_only: Option<bool>,
}

/// Our handshake for a peer at `remote`.
pub(crate) fn our_handshake(
    config: &Config,
    remote: PeerAddr,
    introduction: Introduction,
) -> Message {
    let pex = introduction.pex.then(|| (ut_pex::NAME.to_owned(), UT_PEX));
    let metadata = (ut_metadata::NAME.to_owned(), UT_METADATA);
    let handshake = ExtendedHandshake {
        m: pex.into_iter().chain([metadata]).collect(),
        v: Some(concat!("dunlin/", env!("CARGO_PKG_VERSION")).to_owned()),
        reqq: Some(config.peer_requests_max as u32),
        p: Some(config.listen_port),
        yourip: Some(remote.socket_addr().ip()),
        metadata_size: introduction.metadata_size,
        upload_only: introduction.upload_only,
    };
    Message::Extended {
        id: 0,
        payload: handshake.encode(),
    }
}
