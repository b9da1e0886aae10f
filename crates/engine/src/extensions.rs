//! What we say in the handshake of the extension protocol (BEP 10), to peers of torrents and of
//! magnets alike.

use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::{Message, ut_metadata};

use crate::config::Config;
use crate::event::PeerAddr;

/// The ids that we want to see on messages of each extension.
pub const UT_PEX: u8 = 1;
pub const UT_METADATA: u8 = 2;

/// Our handshake for a peer at `remote`. `metadata_size` is the length of the info dictionary, if
/// we hand it on.
pub(crate) fn our_handshake(
    config: &Config,
    remote: PeerAddr,
    metadata_size: Option<u32>,
) -> Message {
    let handshake = ExtendedHandshake {
        m: [(ut_metadata::NAME.to_owned(), UT_METADATA)].into(),
        v: Some(concat!("dunlin/", env!("CARGO_PKG_VERSION")).to_owned()),
        reqq: Some(config.peer_requests_max as u32),
        p: Some(config.listen_port),
        yourip: Some(remote.socket_addr().ip()),
        metadata_size,
        ..ExtendedHandshake::default()
    };
    Message::Extended {
        id: 0,
        payload: handshake.encode(),
    }
}
