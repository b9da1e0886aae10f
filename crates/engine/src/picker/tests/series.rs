//! Random series of events: picker and model must end in the same state, and every block that the
//! picker chose must be one that the rules allow at that moment.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_metainfo::FileSpan;
use dunlin_proto::rng::Rng;
use proptest::prelude::*;

use super::super::model::{Model, ModelPeer, RANDOM_FIRST, STARTED_MAX, Verdict};
use super::*;

const PEERS: u64 = 5;

/// What happens next; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Join {
        peer: u64,
        bits: u16,
        is_seed: bool,
    },
    Leave {
        peer: u64,
    },
    Have {
        peer: u64,
        piece: u32,
    },
    Pick {
        peer: u64,
        blocks: usize,
        snubbed: bool,
        rate: u64,
        only: Option<u16>,
    },
    Deliver {
        nth: usize,
    },
    DeliverLate {
        peer: u64,
        nth: usize,
    },
    Abandon {
        nth: usize,
    },
    Release {
        peer: u64,
    },
    Judge {
        nth: usize,
        verdict: Verdict,
    },
    Lose {
        piece: u32,
    },
    SetPriority {
        piece: u32,
        priority: Priority,
    },
    SetOrder(PieceOrder),
}

/// Model and picker side by side.
struct Pair {
    model: Model,
    picker: Picker,
    rng: Rng,
}

impl Pair {
    fn new(order: PieceOrder, have: u16, seed: u64) -> Self {
        // Blocks: 3 of data; data, pad, pad; 3 of pad; then data, the last piece short.
        let files = [(4, false), (5, true), (10, false)].map(|(blocks, pad)| FileSpan {
            len: blocks * 16_384 - u64::from(blocks == 10),
            pad,
        });
        let layout = Arc::new(Layout::new(3 * 16_384, files).unwrap());
        let config = PickerConfig {
            order,
            started_pieces_max: STARTED_MAX,
            random_first_pieces: RANDOM_FIRST,
        };
        let have = pieces_of(&layout, have);
        let picker = Picker::new(Arc::clone(&layout), &bits_of(&layout, &have), config);
        let priorities = layout
            .all_pieces()
            .map(|piece| (piece, Priority::Normal))
            .collect();
        let model = Model {
            layout,
            order,
            have,
            priorities,
            peers: BTreeMap::new(),
            received: BTreeSet::new(),
            requests: Vec::new(),
            suspects: BTreeSet::new(),
            owners: BTreeMap::new(),
            rates: BTreeMap::new(),
            current: BTreeMap::new(),
        };
        Self {
            model,
            picker,
            rng: Rng::new(seed),
        }
    }

    fn apply(&mut self, step: &Step) {
        let pieces = self.model.layout.pieces();
        let piece = |index: u32| self.model.layout.piece(index % pieces).unwrap();
        match *step {
            Step::Join {
                peer,
                bits,
                is_seed,
            } => self.join(PeerKey(peer), bits, is_seed),
            Step::Leave { peer } => self.leave(PeerKey(peer)),
            Step::Have { peer, piece: index } => {
                let piece = piece(index);
                if let Some(peer) = self.model.peers.get_mut(&PeerKey(peer))
                    && !peer.is_seed
                    && peer.has.insert(piece)
                {
                    self.picker.on_peer_have(piece);
                }
            }
            Step::Pick {
                peer,
                blocks,
                snubbed,
                rate,
                only,
            } => {
                self.pick(PeerKey(peer), blocks, snubbed, rate, only);
            }
            Step::Deliver { nth } => {
                if let Some((block, peer)) = self.request(nth) {
                    self.deliver(block, peer);
                }
            }
            Step::DeliverLate { peer, nth } => {
                let layout = Arc::clone(&self.model.layout);
                let all: Vec<_> = layout.all_pieces().flat_map(|p| layout.blocks(p)).collect();
                self.deliver(all[nth % all.len()], PeerKey(peer));
            }
            Step::Abandon { nth } => {
                if let Some((block, peer)) = self.request(nth) {
                    self.picker.on_abandoned(block, peer);
                    self.model.on_abandoned(block, peer);
                }
            }
            Step::Release { peer } => self.release(PeerKey(peer)),
            Step::Judge { nth, verdict } => {
                let full = self.model.full_pieces();
                if !full.is_empty() {
                    self.judge(full[nth % full.len()], verdict);
                }
            }
            Step::Lose { piece: index } => self.judge(piece(index), Verdict::Lost),
            Step::SetPriority {
                piece: index,
                priority,
            } => {
                let piece = piece(index);
                self.picker.set_piece_priority(piece, priority);
                if self.model.priorities.insert(piece, priority) != Some(priority) {
                    self.model.current.clear();
                }
            }
            Step::SetOrder(order) => {
                self.picker.set_order(order);
                self.model.order = order;
                self.model.current.clear();
            }
        }
    }

    fn join(&mut self, peer: PeerKey, bits: u16, is_seed: bool) {
        if self.model.peers.contains_key(&peer) {
            return;
        }
        let has = pieces_of(&self.model.layout, bits);
        if is_seed {
            self.picker.on_seed();
        } else {
            self.picker.on_peer_bits(&bits_of(&self.model.layout, &has));
        }
        self.model.peers.insert(peer, ModelPeer { has, is_seed });
    }

    fn leave(&mut self, peer: PeerKey) {
        let Some(gone) = self.model.peers.remove(&peer) else {
            return;
        };
        if gone.is_seed {
            self.picker.on_seed_gone();
        } else {
            self.picker
                .on_peer_bits_gone(&bits_of(&self.model.layout, &gone.has));
        }
        let requests = self.model.requests.clone();
        for (block, peer) in requests.into_iter().filter(|request| request.1 == peer) {
            self.picker.on_abandoned(block, peer);
            self.model.on_abandoned(block, peer);
        }
        self.release(peer);
    }

    fn release(&mut self, peer: PeerKey) {
        assert_eq!(self.picker.release(peer), self.model.release(peer));
    }

    fn request(&self, nth: usize) -> Option<(Block, PeerKey)> {
        let requests = &self.model.requests;
        (!requests.is_empty()).then(|| requests[nth % requests.len()])
    }

    fn deliver(&mut self, block: Block, from: PeerKey) {
        let arrival = self.picker.on_block(block, from);
        assert_eq!(
            arrival,
            self.model.on_block(block, from),
            "{block:?} from {from:?}"
        );
    }

    fn judge(&mut self, piece: PieceIndex, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.picker.on_piece_good(piece),
            Verdict::Bad => self.picker.on_piece_bad(piece),
            Verdict::Lost => self.picker.on_piece_lost(piece),
        }
        self.model.judge(piece, verdict);
    }

    fn pick(&mut self, key: PeerKey, blocks: usize, snubbed: bool, rate: u64, only: Option<u16>) {
        let Some(peer) = self.model.peers.get(&key) else {
            return;
        };
        let has = bits_of(&self.model.layout, &peer.has);
        let only = only.map(|bits| Vec::from_iter(pieces_of(&self.model.layout, bits)));
        let asker = Asker {
            peer: key,
            has: &has,
            is_seed: peer.is_seed,
            only: only.as_deref(),
            snubbed,
            rate,
        };
        let mut runs = Vec::new();
        self.picker.pick(&asker, blocks, &mut self.rng, &mut runs);
        let layout = Arc::clone(&self.model.layout);
        let picked: Vec<_> = runs
            .into_iter()
            .flat_map(|run| layout.run_blocks(run))
            .collect();
        self.model.check_pick(&asker, blocks, &picked);
    }
}

fn pieces_of(layout: &Layout, bits: u16) -> BTreeSet<PieceIndex> {
    let has = |piece: &PieceIndex| bits >> piece.get() & 1 == 1;
    layout.all_pieces().filter(has).collect()
}

fn bits_of(layout: &Layout, pieces: &BTreeSet<PieceIndex>) -> Bitfield {
    let mut bits = Bitfield::new(layout.pieces());
    for piece in pieces {
        bits.set(piece.get());
    }
    bits
}

fn orders() -> impl Strategy<Value = PieceOrder> {
    prop_oneof![
        3 => Just(PieceOrder::RarestFirst),
        1 => Just(PieceOrder::Random),
        1 => Just(PieceOrder::Sequential),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let peer = || 0..PEERS;
    let priority = prop_oneof![
        Just(Priority::Skip),
        Just(Priority::Low),
        Just(Priority::Normal),
        Just(Priority::High),
    ];
    let verdict = prop_oneof![
        3 => Just(Verdict::Good),
        2 => Just(Verdict::Bad),
        1 => Just(Verdict::Lost),
    ];
    let only = prop_oneof![8 => Just(None), 1 => any::<u16>().prop_map(Some)];
    let pick = (peer(), 0..12usize, prop::bool::weighted(0.1), 0..4u64, only);
    prop_oneof![
        3 => (peer(), any::<u16>(), prop::bool::weighted(0.4))
            .prop_map(|(peer, bits, is_seed)| Step::Join { peer, bits, is_seed }),
        1 => peer().prop_map(|peer| Step::Leave { peer }),
        2 => (peer(), any::<u32>()).prop_map(|(peer, piece)| Step::Have { peer, piece }),
        10 => pick.prop_map(|(peer, blocks, snubbed, rate, only)| {
            Step::Pick { peer, blocks, snubbed, rate, only }
        }),
        12 => any::<usize>().prop_map(|nth| Step::Deliver { nth }),
        1 => (peer(), any::<usize>()).prop_map(|(peer, nth)| Step::DeliverLate { peer, nth }),
        3 => any::<usize>().prop_map(|nth| Step::Abandon { nth }),
        1 => peer().prop_map(|peer| Step::Release { peer }),
        4 => (any::<usize>(), verdict).prop_map(|(nth, verdict)| Step::Judge { nth, verdict }),
        1 => any::<u32>().prop_map(|piece| Step::Lose { piece }),
        1 => (any::<u32>(), priority)
            .prop_map(|(piece, priority)| Step::SetPriority { piece, priority }),
        1 => orders().prop_map(Step::SetOrder),
    ]
}

proptest! {
    // A failure prints its steps: nothing is written beside the sources.
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_series_of_events_ends_as_the_model_says(
        order in orders(),
        have in prop_oneof![Just(0), any::<u16>()],
        seed in any::<u64>(),
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let mut pair = Pair::new(order, have, seed);
        pair.model.compare(&pair.picker);
        for step in &steps {
            pair.apply(step);
            pair.model.compare(&pair.picker);
        }
    }

    #[test]
    fn the_scan_finds_what_a_naive_search_finds(
        copies in prop::collection::vec((0u32..5, 0u8..8, any::<bool>()), 1..300),
        is_seed in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let len = copies.len() as u32;
        let layout = Layout::new(1, [FileSpan { len: u64::from(len), pad: false }]).unwrap();
        let (mut rarity, mut has) = (Rarity::new(len), Bitfield::new(len));
        let mut offered = Vec::new();
        for (piece, &(copies, priority, is_offered)) in layout.all_pieces().zip(&copies) {
            let priority = match priority {
                0 => Priority::High,
                1 => Priority::Low,
                2..4 => Priority::Normal,
                _ => Priority::Skip,
            };
            (0..copies).for_each(|_| rarity.add_copy(piece.get()));
            rarity.set_class(piece, Class::of(priority));
            if is_offered {
                has.set(piece.get());
            }
            if let Some(class) = Class::of(priority) && (is_offered || is_seed) {
                offered.push((class, copies, piece.get()));
            }
        }
        rarity.check_invariants();
        let mut rng = Rng::new(seed);
        let bits = (!is_seed).then_some(&has);
        let pieces = || layout.all_pieces().filter(|piece| is_seed || has.get(piece.get()));
        for rule in [Rule::Rarest, Rule::Random, Rule::Lowest] {
            let rank = |&(class, copies, index): &(Class, u32, u32)| match rule {
                Rule::Rarest => (class, copies),
                Rule::Random => (class, 0),
                Rule::Lowest => (class, index),
            };
            let found = [
                rarity.first(bits, rule, &mut rng),
                rarity.first_of(pieces(), rule, &mut rng),
            ];
            for found in found.map(|found| found.map(|w| (w.class, w.copies, w.index))) {
                prop_assert!(found.is_none_or(|found| offered.contains(&found)));
                prop_assert_eq!(found.as_ref().map(rank), offered.iter().map(rank).min());
            }
        }
    }
}
