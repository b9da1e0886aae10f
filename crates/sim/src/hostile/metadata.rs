//! Peers that offer the metadata of a magnet and give something else (BEP 9).

use dunlin_engine::PeerKey;
use dunlin_engine::extensions::UT_METADATA;
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::ut_metadata::{self, piece_len};
use dunlin_proto::peer::{Message, MetadataMessage};

use super::{Act, Io, Script};

/// What such a peer does with those who ask it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataLie {
    /// Other bytes of the right length.
    WrongBytes,
    /// Bytes of another length.
    WrongLength,
    /// Rejects every request.
    Reject,
    /// Never answers.
    Silence,
    /// Answers nothing, and asks for all of it again and again.
    Flood,
}

impl MetadataLie {
    pub const ALL: [Self; 5] = [
        Self::WrongBytes,
        Self::WrongLength,
        Self::Reject,
        Self::Silence,
        Self::Flood,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WrongBytes => "metadata-wrong-bytes",
            Self::WrongLength => "metadata-wrong-length",
            Self::Reject => "metadata-rejecter",
            Self::Silence => "metadata-silent",
            Self::Flood => "metadata-flood",
        }
    }
}

/// Has no piece of the content, and says that it has all of the metadata.
#[derive(Debug)]
pub(super) struct FalseSource {
    pub(super) lie: MetadataLie,
}

/// Requests a second of the flooder.
const FLOOD: u32 = 200;

impl FalseSource {
    fn claims(&self, len: u32) -> u32 {
        match self.lie {
            MetadataLie::WrongLength => len + 1,
            MetadataLie::WrongBytes
            | MetadataLie::Reject
            | MetadataLie::Silence
            | MetadataLie::Flood => len,
        }
    }

    fn answer(&self, piece: u32, len: u32) -> Option<MetadataMessage> {
        match self.lie {
            MetadataLie::WrongBytes | MetadataLie::WrongLength => {
                let total_size = self.claims(len);
                Some(MetadataMessage::Data {
                    piece,
                    total_size,
                    bytes: vec![0x55; piece_len(total_size, piece)? as usize],
                })
            }
            MetadataLie::Reject => Some(MetadataMessage::Reject { piece }),
            MetadataLie::Silence | MetadataLie::Flood => None,
        }
    }
}

impl Script for FalseSource {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        let handshake = ExtendedHandshake {
            m: [(ut_metadata::NAME.to_owned(), UT_METADATA)].into(),
            metadata_size: Some(self.claims(io.metadata_len)),
            ..ExtendedHandshake::default()
        };
        let payload = handshake.encode();
        io.acts
            .push(Act::Send(peer, Message::Extended { id: 0, payload }));
        io.acts.push(Act::Send(peer, Message::HaveNone));
    }

    fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>) {
        if let Some(piece) = metadata_asked(message)
            && let Some(answer) = self.answer(piece, io.metadata_len)
        {
            io.acts.push(Act::Send(peer, extended(&answer)));
        }
    }

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        if self.lie == MetadataLie::Flood {
            let pieces = ut_metadata::pieces(io.metadata_len).max(1);
            for nth in 0..FLOOD {
                let piece = nth % pieces;
                let request = MetadataMessage::Request { piece };
                io.acts.push(Act::Send(peer, extended(&request)));
            }
        }
    }

    fn dials(&self) -> bool {
        true
    }
}

/// The piece of metadata that a message asks for. Everybody here wants such messages under one id.
pub(crate) fn metadata_asked(message: &Message) -> Option<u32> {
    let Message::Extended {
        id: UT_METADATA,
        payload,
    } = message
    else {
        return None;
    };
    match MetadataMessage::decode(payload) {
        Ok(Some(MetadataMessage::Request { piece })) => Some(piece),
        Ok(_) | Err(_) => None,
    }
}

fn extended(message: &MetadataMessage) -> Message {
    Message::Extended {
        id: UT_METADATA,
        payload: message.encode(),
    }
}
