//! Any sequence of events, from honest to absurd, leaves the session sound.

use std::time::Duration;

use dunlin_metainfo::Sha1Digest;
use dunlin_proto::peer::{Message, Request, Reserved};
use proptest::prelude::*;

use super::rig::{BLOCK, Rig, TORRENT};
use crate::command::Command;
use crate::config::{Config, RateLimits};
use crate::event::{Direction, DiskError, DiskErrorKind, DiskOp, DiskResult, Event, PeerKey};
use crate::reason::CloseReason;

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
