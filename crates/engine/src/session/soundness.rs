//! Any sequence of events, from honest to absurd, leaves the session sound.

use std::time::Duration;

use dunlin_metainfo::Sha1Digest;
use dunlin_proto::peer::extension::ExtendedHandshake;
use dunlin_proto::peer::ut_metadata::{METADATA_PIECE_LEN, piece_len};
use dunlin_proto::peer::{Message, MetadataMessage, Request, Reserved};
use proptest::prelude::*;

use super::rig::{BLOCK, MAGNET, Rig, TORRENT};
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{Direction, DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerKey};
use crate::extensions::UT_METADATA;
use crate::reason::CloseReason;
use crate::resume::Resume;

#[derive(Clone, Debug)]
enum Move {
    Connect { id: u8, fast: bool, outgoing: bool },
    Say { peer: u64, message: Message },
    Deliver { peer: u64, piece: u32, index: u32 },
    AnswerRequests { peer: u64 },
    Served { peer: u64, whole: bool },
    Close { peer: u64 },
    Disk { verdict: u8 },
    Wait { millis: u64 },
    Retry,
}

fn messages() -> impl Strategy<Value = Message> {
    let index = 0u32..12;
    let request = (0u32..12, 0u32..6, 1u32..3).prop_map(|(piece, block, len)| Request {
        piece,
        begin: block * BLOCK,
        len: len * BLOCK,
    });
    prop_oneof![
        1 => Just(Message::KeepAlive),
        1 => Just(Message::Choke),
        3 => Just(Message::Unchoke),
        2 => Just(Message::Interested),
        1 => Just(Message::NotInterested),
        1 => index.clone().prop_map(|piece| Message::Have { piece }),
        1 => any::<u16>().prop_map(|bits| Message::Bitfield(vec![(bits >> 8) as u8, bits as u8 & 0xc0])),
        1 => Just(Message::HaveAll),
        1 => Just(Message::HaveNone),
        3 => request.clone().prop_map(Message::Request),
        1 => request.clone().prop_map(Message::Cancel),
        1 => request.prop_map(Message::RejectRequest),
        1 => index.clone().prop_map(|piece| Message::SuggestPiece { piece }),
        1 => index.prop_map(|piece| Message::AllowedFast { piece }),
        1 => (0u8..3, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(id, payload)| Message::Extended { id, payload }),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let peer = 1u64..8;
    prop_oneof![
        2 => (1u8..6, any::<bool>(), any::<bool>())
            .prop_map(|(id, fast, outgoing)| Move::Connect { id, fast, outgoing }),
        6 => (peer.clone(), messages()).prop_map(|(peer, message)| Move::Say { peer, message }),
        1 => (peer.clone(), 0u32..10, 0u32..4)
            .prop_map(|(peer, piece, index)| Move::Deliver { peer, piece, index }),
        6 => peer.clone().prop_map(|peer| Move::AnswerRequests { peer }),
        2 => (peer.clone(), any::<bool>()).prop_map(|(peer, whole)| Move::Served { peer, whole }),
        1 => peer.prop_map(|peer| Move::Close { peer }),
        6 => (0u8..8).prop_map(|verdict| Move::Disk { verdict }),
        2 => (1u64..70_000).prop_map(|millis| Move::Wait { millis }),
        1 => Just(Move::Retry),
    ]
}

fn play(rig: &mut Rig, step: Move) {
    match step {
        Move::Connect { id, fast, outgoing } => {
            let direction = if outgoing {
                Direction::Outgoing
            } else {
                Direction::Incoming
            };
            rig.connect(
                id,
                if fast {
                    Reserved::OURS
                } else {
                    Reserved::default()
                },
                direction,
            );
        }
        Move::Say { peer, message } => rig.hear(PeerKey(peer), message),
        Move::Deliver { peer, piece, index } => {
            let block = rig.block(piece, index);
            rig.receive(PeerKey(peer), block);
        }
        Move::AnswerRequests { peer } => {
            for block in rig.requested(PeerKey(peer)) {
                rig.receive(PeerKey(peer), block);
            }
        }
        Move::Served { peer, whole } => {
            let peer = PeerKey(peer);
            for run in rig.served(peer) {
                let bytes = if whole { rig.layout.run_len(run) } else { 0 };
                rig.tell(Event::Served { peer, run, bytes });
            }
        }
        Move::Close { peer } => {
            let reason = CloseReason::RemoteClosed;
            rig.tell(Event::PeerClosed {
                peer: PeerKey(peer),
                reason,
            });
        }
        Move::Disk { verdict } => answer_somehow(rig, verdict),
        Move::Wait { millis } => rig.wait(Duration::from_millis(millis)),
        Move::Retry => rig.tell(Event::Command(Command::Resume { torrent: TORRENT })),
    }
}

/// Answers what the disk was asked: well, badly, or not at all.
fn answer_somehow(rig: &mut Rig, verdict: u8) {
    for job in std::mem::take(&mut rig.jobs) {
        let error = DiskError {
            kind: DiskErrorKind::Other,
            path: "data".into(),
            message: "input/output error".into(),
        };
        match (verdict, &job.op) {
            (0, DiskOp::Finish { piece, .. }) => {
                let result = DiskResult::Bad {
                    piece: *piece,
                    block_digests: vec![Sha1Digest::new([1; 20]); 4],
                };
                rig.answer(job.id, result);
            }
            (1, DiskOp::Write { bufs, .. }) => {
                let bytes = bufs.iter().map(dunlin_proto::buf::BlockBuf::len).sum();
                rig.answer(job.id, DiskResult::Failed { error, bytes });
            }
            (1, _) => rig.answer(job.id, DiskResult::Failed { error, bytes: 0 }),
            (_, _) => rig.answer_well(job),
        }
    }
}

/// What happens to a magnet.
#[derive(Clone, Debug)]
enum MagnetMove {
    Any(Move),
    Introduce {
        peer: u64,
        id: u8,
        size: u32,
    },
    Data {
        peer: u64,
        piece: u32,
        size: u32,
        honest: bool,
    },
    Reject {
        peer: u64,
        piece: u32,
    },
    Promote {
        written: u16,
    },
    Remove,
}

fn magnet_moves() -> impl Strategy<Value = MagnetMove> {
    let peer = 1u64..8;
    let size = prop_oneof![3 => Just(INFO_LEN), 1 => 0u32..70_000, 1 => any::<u32>()];
    prop_oneof![
        8 => moves().prop_map(MagnetMove::Any),
        4 => (peer.clone(), 0u8..3, size.clone())
            .prop_map(|(peer, id, size)| MagnetMove::Introduce { peer, id, size }),
        6 => (peer.clone(), 0u32..5, size, any::<bool>())
            .prop_map(|(peer, piece, size, honest)| MagnetMove::Data { peer, piece, size, honest }),
        1 => (peer, 0u32..5).prop_map(|(peer, piece)| MagnetMove::Reject { peer, piece }),
        1 => any::<u16>().prop_map(|written| MagnetMove::Promote { written }),
        1 => Just(MagnetMove::Remove),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Unknown,
    Known,
    Removed,
}

const INFO_LEN: u32 = 40_000;

fn play_magnet(rig: &mut Rig, info: &[u8], stage: &mut Stage, step: MagnetMove) {
    let extended = |message: MetadataMessage| Message::Extended {
        id: UT_METADATA,
        payload: message.encode(),
    };
    match step {
        // Streams bring blocks only when the layout is known.
        MagnetMove::Any(Move::Deliver { .. }) if *stage != Stage::Known => {}
        MagnetMove::Any(step) => play(rig, step),
        MagnetMove::Introduce { peer, id, size } => {
            let handshake = ExtendedHandshake {
                m: [("ut_metadata".to_owned(), id)].into(),
                metadata_size: Some(size).filter(|&size| size > 0),
                ..ExtendedHandshake::default()
            };
            let payload = handshake.encode();
            rig.hear(PeerKey(peer), Message::Extended { id: 0, payload });
        }
        MagnetMove::Data {
            peer,
            piece,
            size,
            honest,
        } => {
            let len = piece_len(size, piece).unwrap_or(3) as usize;
            let start = (piece * METADATA_PIECE_LEN) as usize;
            let right = info.get(start..start + len).filter(|_| honest);
            let bytes = right.map_or_else(|| vec![7; len], <[u8]>::to_vec);
            let data = MetadataMessage::Data {
                piece,
                total_size: size,
                bytes,
            };
            rig.hear(PeerKey(peer), extended(data));
        }
        MagnetMove::Reject { peer, piece } => {
            rig.hear(PeerKey(peer), extended(MetadataMessage::Reject { piece }));
        }
        MagnetMove::Promote { written } => {
            let mut resume = Resume::empty(10);
            for piece in (0..10).filter(|piece| written >> piece & 1 == 1) {
                resume.written.set(piece);
            }
            if *stage == Stage::Unknown {
                *stage = Stage::Known;
                rig.promote(info, resume);
            }
        }
        MagnetMove::Remove => {
            *stage = Stage::Removed;
            rig.tell(Event::Command(Command::Remove { torrent: MAGNET }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_magnet_the_session_stays_sound(
        steps in prop::collection::vec(magnet_moves(), 1..150),
    ) {
        let info: Vec<u8> = (0..INFO_LEN).map(|at| (at >> 6) as u8).collect();
        let config = Config { max_peers: 5, ..Config::default() };
        let mut rig = Rig::magnet(&info, 10, config, Vec::new());
        let mut stage = Stage::Unknown;
        for step in steps {
            play_magnet(&mut rig, &info, &mut stage, step);
        }
        for peer in 1..200 {
            let reason = CloseReason::RemoteClosed;
            rig.tell(Event::PeerClosed { peer: PeerKey(peer), reason });
        }
        prop_assert_eq!(rig.session.buffered_bytes(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// The rig checks every invariant after every event.
    #[test]
    fn whatever_happens_the_session_stays_sound(
        steps in prop::collection::vec(moves(), 1..120),
        limited in any::<bool>(),
        seeding in any::<bool>(),
    ) {
        let limits = if limited {
            RateLimits { down: Some(200_000), up: Some(100_000) }
        } else {
            RateLimits::default()
        };
        let config = Config { limits, max_peers: 5, ..Config::default() };
        let mut rig = if seeding { Rig::seed(10, config) } else { Rig::new(10, config) };
        rig.disk_is_honest = false;
        for step in steps {
            play(&mut rig, step);
        }
        // In the end every connection closes and the disk answers: nothing stays behind.
        for peer in 1..200 {
            let reason = CloseReason::RemoteClosed;
            rig.tell(Event::PeerClosed { peer: PeerKey(peer), reason });
        }
        rig.disk_is_honest = true;
        while !rig.jobs.is_empty() {
            for job in std::mem::take(&mut rig.jobs) {
                rig.answer_well(job);
            }
        }
        prop_assert_eq!(rig.session.buffered_bytes(), 0);
    }
}
