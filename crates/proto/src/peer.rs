//! The peer wire protocol: what two peers say to each other over one stream.

pub mod allowed_fast;
pub mod decoder;
pub mod extension;
pub mod handshake;
pub mod message;
pub mod priority;
pub mod ut_metadata;
pub mod ut_pex;

pub use allowed_fast::allowed_fast;
pub use decoder::{Decoder, Item};
pub use extension::ExtendedHandshake;
pub use handshake::{Handshake, HandshakeDecoder, Reserved};
pub use message::{Message, Request, Violation};
pub use priority::priority;
pub use ut_metadata::MetadataMessage;
pub use ut_pex::{PexFlags, PexMessage, PexPeer};
