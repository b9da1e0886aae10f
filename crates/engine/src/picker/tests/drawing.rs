//! Swarms as drawings. Lines, all but the first optional: `availability` (copies of each piece),
//! `have` (`x` or `.`), `priority` (`h n l -`), `blocks` (of every piece), `started_max`,
//! `random_first`, `order`.

use dunlin_metainfo::FileSpan;

use super::*;

pub(super) struct Swarm {
    pub(super) picker: Picker,
    pub(super) rng: Rng,
    layout: Arc<Layout>,
}

pub(super) struct TestPeer {
    pub(super) key: PeerKey,
    pub(super) has: Bitfield,
    pub(super) is_seed: bool,
    pub(super) only: Option<Vec<PieceIndex>>,
    pub(super) snubbed: bool,
    pub(super) rate: u64,
}

pub(super) fn peer(key: u64, has: &str) -> TestPeer {
    TestPeer {
        key: PeerKey(key),
        has: bits(has),
        is_seed: false,
        only: None,
        snubbed: false,
        rate: 10,
    }
}

pub(super) fn seed(key: u64) -> TestPeer {
    TestPeer {
        is_seed: true,
        ..peer(key, "")
    }
}

pub(super) fn bits(drawing: &str) -> Bitfield {
    let marks: Vec<&str> = drawing.split_whitespace().collect();
    let mut bits = Bitfield::new(marks.len() as u32);
    for (index, mark) in (0..).zip(marks) {
        match mark {
            "x" => {
                bits.set(index);
            }
            "." => {}
            other => panic!("{other:?} is neither x nor ."),
        }
    }
    bits
}

pub(super) fn swarm(drawing: &str) -> Swarm {
    let mut config = PickerConfig {
        order: PieceOrder::RarestFirst,
        started_pieces_max: 20,
        random_first_pieces: 0,
    };
    let (mut availability, mut have, mut priorities) = (Vec::new(), None, Vec::new());
    let mut blocks = 2;
    for line in drawing.lines() {
        let (key, value) = line.trim().split_once(' ').expect("a key and a value");
        let value = value.trim();
        let number = || value.parse::<u32>().expect("a number");
        match key {
            "availability" => {
                availability = value
                    .split_whitespace()
                    .map(|n| n.parse().unwrap())
                    .collect();
            }
            "have" => have = Some(bits(value)),
            "priority" => priorities = value.split_whitespace().map(priority).collect(),
            "blocks" => blocks = number(),
            "started_max" => config.started_pieces_max = number() as usize,
            "random_first" => config.random_first_pieces = number(),
            "order" => config.order = order(value),
            other => panic!("no such line: {other:?}"),
        }
    }
    let pieces = availability.len() as u32;
    let piece_len = u64::from(blocks) * 16_384;
    let layout = layout(piece_len, &[(u64::from(pieces) * piece_len, false)]);
    let have = have.unwrap_or_else(|| Bitfield::new(pieces));
    let mut picker = Picker::new(Arc::clone(&layout), &have, config);
    for copy in 0..availability.iter().copied().max().unwrap_or(0) {
        let mut bits = Bitfield::new(pieces);
        for (index, _) in (0..)
            .zip(&availability)
            .filter(|&(_, &copies)| copies > copy)
        {
            bits.set(index);
        }
        picker.on_peer_bits(&bits);
    }
    for (piece, priority) in layout.all_pieces().zip(priorities) {
        picker.set_piece_priority(piece, priority);
    }
    Swarm {
        picker,
        rng: Rng::new(7),
        layout,
    }
}

impl Swarm {
    /// Files as (length, whether it is padding); one peer has everything.
    pub(super) fn of_layout(piece_len: u64, files: &[(u64, bool)]) -> Self {
        let layout = layout(piece_len, files);
        let config = PickerConfig {
            order: PieceOrder::RarestFirst,
            started_pieces_max: 20,
            random_first_pieces: 0,
        };
        let have = Bitfield::new(layout.pieces());
        Self {
            picker: Picker::new(Arc::clone(&layout), &have, config),
            rng: Rng::new(7),
            layout,
        }
    }

    /// What is picked, as `piece:first-last`.
    pub(super) fn pick(&mut self, peer: &TestPeer, blocks: usize) -> String {
        let mut out = Vec::new();
        let asker = Asker {
            peer: peer.key,
            has: &peer.has,
            is_seed: peer.is_seed,
            only: peer.only.as_deref(),
            snubbed: peer.snubbed,
            rate: peer.rate,
        };
        self.picker.pick(&asker, blocks, &mut self.rng, &mut out);
        self.picker.check_invariants();
        let runs: Vec<String> = out.into_iter().map(show).collect();
        runs.join(" ")
    }

    pub(super) fn receive(&mut self, block: &str, from: u64) -> Arrival {
        let arrival = self.picker.on_block(self.block(block), PeerKey(from));
        self.picker.check_invariants();
        arrival
    }

    pub(super) fn abandon(&mut self, block: &str, peer: u64) {
        self.picker.on_abandoned(self.block(block), PeerKey(peer));
        self.picker.check_invariants();
    }

    pub(super) fn release(&mut self, peer: u64) -> Vec<u32> {
        let pieces = self.picker.release(PeerKey(peer));
        self.picker.check_invariants();
        pieces.into_iter().map(PieceIndex::get).collect()
    }

    pub(super) fn requesters(&self, block: &str) -> Vec<u64> {
        self.picker
            .requesters(self.block(block))
            .map(|peer| peer.0)
            .collect()
    }

    pub(super) fn copies(&self) -> Vec<u32> {
        self.layout
            .all_pieces()
            .map(|piece| self.picker.copies(piece))
            .collect()
    }

    pub(super) fn piece(&self, index: u32) -> PieceIndex {
        self.layout.piece(index).expect("a piece of the drawing")
    }

    /// `piece:block`.
    pub(super) fn block(&self, name: &str) -> Block {
        let (piece, block) = name.split_once(':').expect("piece:block");
        let piece = self.piece(piece.parse().unwrap());
        let block = self.layout.block_at(piece, block.parse().unwrap());
        block.expect("a block of the drawing")
    }
}

fn show(run: Run) -> String {
    let (piece, first) = (run.piece(), run.first());
    match run.count() {
        1 => format!("{piece}:{first}"),
        count => format!("{piece}:{first}-{}", first + count - 1),
    }
}

fn layout(piece_len: u64, files: &[(u64, bool)]) -> Arc<Layout> {
    let files = files.iter().map(|&(len, pad)| FileSpan { len, pad });
    Arc::new(Layout::new(piece_len, files).expect("a layout that can be"))
}

fn priority(mark: &str) -> Priority {
    match mark {
        "-" => Priority::Skip,
        "l" => Priority::Low,
        "n" => Priority::Normal,
        "h" => Priority::High,
        other => panic!("no such priority: {other:?}"),
    }
}

fn order(name: &str) -> PieceOrder {
    match name {
        "rarest" => PieceOrder::RarestFirst,
        "random" => PieceOrder::Random,
        "sequential" => PieceOrder::Sequential,
        other => panic!("no such order: {other:?}"),
    }
}
