//! Peers that mean harm, against the real program: one row of [`CASES`] a misbehaviour, played
//! against a seed and against a leech that is half way.
//!
//! After each the program lives, its memory and descriptors are what they were, and an honest peer
//! gets right data from the seed and gives right data to the leech, while the hostile connections
//! are still open. What no single connection shows (who is blamed, how often a liar is asked) is
//! tested in the engine.

use std::net::Shutdown;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fixture::{PATIENCE, Running, Sandbox, Words, assert_same};
use crate::wire::{
    BITFIELD, BLOCK, CANCEL, Content, EXTENDED, EXTENSIONS, FAST, HAVE, INTERESTED, NOT_INTERESTED,
    PIECE, REQUEST, UNCHOKE, Wire, block_message, message, peer_id, request, word,
};

/// What a case may cost, in bytes of resident memory.
const GROWTH_MAX: u64 = 32 << 20;

/// Whom a case is played against.
struct Target<'a> {
    content: &'a Content,
    addr: &'a str,
    is_seed: bool,
    /// The peer ids of the case begin here.
    first_id: u32,
}

/// Plays it, and returns the connections that stay open while an honest peer comes.
type Play = fn(&Target<'_>) -> Vec<Wire>;

const CASES: &[(&str, Play)] = &[
    ("lengths that no message has", wrong_lengths),
    ("messages that begin and never end", unfinished_messages),
    ("ids that nobody knows", unknown_ids),
    ("bitfields that do not fit", wrong_bitfields),
    ("a bitfield twice, and late", late_bitfields),
    ("pieces that the torrent has not", wrong_indices),
    ("requests that are no blocks", wrong_requests),
    ("requests without end", request_flood),
    ("requests of somebody who reads nothing", deaf_readers),
    ("requests that are taken back at once", cancel_churn),
    ("blocks that nobody asked for", unsolicited_blocks),
    ("blocks that are too long", oversized_blocks),
    ("unchoking and choking by turns", choke_loop),
    ("interest that comes and goes", interest_flapping),
    ("connections that say nothing", silent_connections),
    ("handshakes drop by drop", slow_handshakes),
    ("handshakes of something else", foreign_handshakes),
    ("many connections at once", connection_storm),
    ("our own peer id", self_connection),
    ("one peer id twice", duplicate_ids),
    ("every reserved bit", every_reserved_bit),
    ("extension handshakes that are bombs", extension_bombs),
    ("extension messages that make no sense", extension_garbage),
    ("half a connection", half_closed),
];

#[test]
fn whatever_a_peer_does_the_program_lives_and_serves() {
    let mut stage = Stage::new();
    for (n, (name, play)) in (0..).zip(CASES) {
        println!("{name}");
        stage.play(n, name, *play);
    }
    stage.finish();
}

/// A seed, a leech without any other source, and what both share.
struct Stage {
    sandbox: Sandbox,
    content: Content,
    seed: Running,
    leech: Running,
    seed_addr: String,
    leech_addr: String,
}

impl Stage {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let content = Content::new(&sandbox, "besieged.bin", 2 * BLOCK, 2 * CASES.len() as u32);
        let listen: Words<'_> = &[&"--listen", &"127.0.0.1:0", &"-q"];
        let words: Words<'_> = &[&content.torrent, &content.file];
        let mut seed = sandbox.start("seed", &[words, listen].concat());
        let words: Words<'_> = &[&content.torrent, &"-d", &"out"];
        let mut leech = sandbox.start("get", &[words, listen].concat());
        let (seed_addr, leech_addr) = (seed.addr(), leech.addr());
        // Before that they do not know the torrent yet.
        seed.wait_for("progress");
        leech.wait_for("progress");
        Self {
            sandbox,
            content,
            seed,
            leech,
            seed_addr,
            leech_addr,
        }
    }

    fn play(&mut self, n: u32, name: &str, play: Play) {
        let first_id = 1000 * (n + 1);
        let before = [Usage::of(&self.seed), Usage::of(&self.leech)];
        let against = |addr, is_seed, first_id| {
            play(&Target {
                content: &self.content,
                addr,
                is_seed,
                first_id,
            })
        };
        let open = [
            against(&self.seed_addr, true, first_id),
            against(&self.leech_addr, false, first_id + 500),
        ];
        self.take_from_the_seed(n, first_id + 998);
        self.give_to_the_leech(n, first_id + 999);
        let during = [Usage::of(&self.seed), Usage::of(&self.leech)];
        drop(open);
        for ((before, during), of) in before.iter().zip(during).zip([&self.seed, &self.leech]) {
            let grown = during.rss.saturating_sub(before.rss);
            assert!(grown <= GROWTH_MAX, "{name}: {grown} bytes more");
            before.wait_until_files_are_closed(of, name);
        }
    }

    fn take_from_the_seed(&self, n: u32, id: u32) {
        let mut honest = Wire::open(&self.seed_addr, &self.content, [0; 8], id);
        honest.say(&message(INTERESTED, &[]));
        honest.wait_for(UNCHOKE);
        let piece = n % self.content.pieces;
        honest.say(&request(REQUEST, piece, BLOCK, BLOCK));
        let payload = honest.wait_for(PIECE);
        assert_eq!([word(&payload), word(&payload[4..])], [piece, BLOCK]);
        assert!(payload[8..] == *self.content.block(piece, BLOCK, BLOCK));
    }

    fn give_to_the_leech(&mut self, n: u32, id: u32) {
        let mut honest = Wire::open(&self.leech_addr, &self.content, [0; 8], id);
        let only = self.content.bitfield(|piece| piece == n);
        honest.say(&message(BITFIELD, &only));
        honest.wait_for(INTERESTED);
        honest.say(&message(UNCHOKE, &[]));
        for _ in 0..2 {
            let payload = honest.wait_for(REQUEST);
            let [piece, begin, len] = [0, 4, 8].map(|at| word(&payload[at..]));
            let block = self.content.block(piece, begin, len);
            honest.say(&block_message(piece, begin, block));
        }
        let is_it = |event: &serde_json::Value| event["index"] == n;
        self.leech.wait_until("piece", is_it);
    }

    /// The leech takes the rest from the seed, and both end as they should.
    fn finish(mut self) {
        let words: Words<'_> = &[
            &"besieged.bin.torrent",
            &"data",
            &"--peer",
            &self.leech_addr,
        ];
        let more: Words<'_> = &[&"--listen", &"127.0.0.1:0", &"-q"];
        let mut other = self.sandbox.start("seed", &[words, more].concat());
        let done = self.leech.finish().expect(0);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        assert_same(&self.content.file, &self.sandbox.path("out/besieged.bin"));
        let done = self.seed.interrupt().expect(0);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        other.kill();
    }
}

/// What a process takes of the machine.
#[derive(Debug)]
struct Usage {
    rss: u64,
    files: usize,
}

impl Usage {
    fn of(process: &Running) -> Self {
        let folder = PathBuf::from(format!("/proc/{}", process.pid()));
        let status = std::fs::read_to_string(folder.join("status")).expect("it is alive");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Self {
            rss: kib.expect("in KiB").parse::<u64>().unwrap() * 1024,
            files: std::fs::read_dir(folder.join("fd")).unwrap().count(),
        }
    }

    fn wait_until_files_are_closed(&self, process: &Running, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(process).files;
            if now <= self.files + 2 {
                return;
            }
            let files = self.files;
            assert!(
                Instant::now() < deadline,
                "{name}: {now} files, {files} before"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Target<'_> {
    fn open(&self, reserved: [u8; 8], n: u32) -> Wire {
        Wire::open(self.addr, self.content, reserved, self.first_id + n)
    }

    /// Each of these, on a connection of its own, ends the connection.
    #[track_caller]
    fn assert_closes(&self, reserved: [u8; 8], attacks: impl IntoIterator<Item = Vec<u8>>) {
        for (n, attack) in (0..).zip(attacks) {
            let mut wire = self.open(reserved, n);
            wire.say(&attack);
            wire.wait_for_end();
        }
    }

    /// Interested, and unchoked if it is the seed, which unchokes whoever comes first.
    fn served(&self, reserved: [u8; 8], n: u32) -> Wire {
        let mut wire = self.open(reserved, n);
        wire.say(&message(INTERESTED, &[]));
        if self.is_seed {
            wire.wait_for(UNCHOKE);
        }
        wire
    }
}

// Messages.

fn wrong_lengths(target: &Target<'_>) -> Vec<Wire> {
    let heads = [
        (u32::MAX, 0),
        (2, 0),
        (4, HAVE),
        (u32::MAX, BITFIELD),
        (1 << 20, BITFIELD),
        (12, REQUEST),
        (u32::MAX, PIECE),
        (8, PIECE),
        (1 << 20, EXTENDED),
        (1, EXTENDED),
        (0x7fff_ffff, 99),
    ];
    let head = |(len, id): (u32, u8)| [len.to_be_bytes().to_vec(), vec![id; 30]].concat();
    target.assert_closes(EXTENSIONS, heads.map(head));
    Vec::new()
}

/// As much as may be held back, on as many connections as there may be.
fn unfinished_messages(target: &Target<'_>) -> Vec<Wire> {
    let mut open = Vec::new();
    for n in 0..40 {
        let mut wire = target.open(EXTENSIONS, n);
        let len: u32 = 64 * 1024;
        wire.say(&len.to_be_bytes());
        wire.say(&[EXTENDED]);
        wire.say(&vec![7; len as usize - 2]);
        open.push(wire);
    }
    open
}

fn unknown_ids(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = target.open([0; 8], 0);
    for id in (21..=255).chain(10..13) {
        wire.say(&message(id, &[3; 100]));
    }
    // None of it is a reason to hang up, as BEP 10 asks.
    wire.say(&message(INTERESTED, &[]));
    if target.is_seed {
        wire.wait_for(UNCHOKE);
    }
    vec![wire]
}

fn wrong_bitfields(target: &Target<'_>) -> Vec<Wire> {
    let right = target.content.bitfield(|_| true);
    let long = [right.clone(), vec![0]].concat();
    let short = right[1..].to_vec();
    let attacks = [long, short, Vec::new(), vec![0xff; 1000]];
    target.assert_closes([0; 8], attacks.map(|bits| message(BITFIELD, &bits)));
    Vec::new()
}

fn late_bitfields(target: &Target<'_>) -> Vec<Wire> {
    let bits = message(BITFIELD, &target.content.bitfield(|piece| piece == 40));
    let have = message(HAVE, &41u32.to_be_bytes());
    let mut open = Vec::new();
    for (n, attack) in [
        [&bits[..], &bits].concat(),
        [&have[..], &bits, &have].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = target.open([0; 8], n as u32);
        wire.say(&attack);
        open.push(wire);
    }
    open
}

fn wrong_indices(target: &Target<'_>) -> Vec<Wire> {
    const SUGGEST: u8 = 0x0d;
    const ALLOWED: u8 = 0x11;
    let pieces = target.content.pieces;
    let with = |id, piece: u32| message(id, &piece.to_be_bytes());
    target.assert_closes(
        FAST,
        [HAVE, SUGGEST, ALLOWED]
            .into_iter()
            .flat_map(|id| [with(id, pieces), with(id, u32::MAX)]),
    );
    // Of the fast extension, without the fast extension.
    target.assert_closes([0; 8], [message(0x0e, &[]), with(ALLOWED, 0)]);
    Vec::new()
}

// Requests.

fn wrong_requests(target: &Target<'_>) -> Vec<Wire> {
    let (pieces, len) = (target.content.pieces, target.content.piece_len);
    let attacks = [
        (pieces, 0, BLOCK),
        (u32::MAX, 0, BLOCK),
        (0, len, BLOCK),
        (0, u32::MAX, BLOCK),
        (0, len - 1, 2),
        (0, 0, 0),
        (0, 0, u32::MAX),
        (0, u32::MAX - 100, 200),
    ];
    for (n, (piece, begin, len)) in (0..).zip(attacks) {
        let mut wire = target.served([0; 8], n);
        wire.say(&request(REQUEST, piece, begin, len));
        while let Some((id, _)) = wire.next() {
            assert_ne!(id, PIECE, "{piece} {begin} {len}");
        }
    }
    Vec::new()
}

fn request_flood(target: &Target<'_>) -> Vec<Wire> {
    let mut open = Vec::new();
    for n in 0..4 {
        let mut wire = target.served(FAST, n);
        wire.stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let blocks = (0..20_000).map(|n| target.content.at(n % target.content.blocks()));
        let flood = blocks.flat_map(|(piece, begin)| request(REQUEST, piece, begin, BLOCK));
        // It ends when the other side reads no more, or hangs up.
        wire.say(&flood.collect::<Vec<u8>>());
        open.push(wire);
    }
    open
}

/// All slots but one.
fn deaf_readers(target: &Target<'_>) -> Vec<Wire> {
    let mut open = Vec::new();
    for n in 0..4 {
        let mut wire = target.open([0; 8], n);
        wire.say(&message(INTERESTED, &[]));
        let blocks = (0..500).map(|n| target.content.at(n % target.content.blocks()));
        let all = blocks.flat_map(|(piece, begin)| request(REQUEST, piece, begin, BLOCK));
        wire.say(&all.collect::<Vec<u8>>());
        open.push(wire);
    }
    open
}

fn cancel_churn(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = target.served(FAST, 0);
    wire.stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    for _ in 0..2_000 {
        wire.say(&request(REQUEST, 0, 0, BLOCK));
        wire.say(&request(CANCEL, 0, 0, BLOCK));
    }
    vec![wire]
}

// Blocks.

fn unsolicited_blocks(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = target.open([0; 8], 0);
    let wrong = vec![9; BLOCK as usize];
    for n in 0..300 {
        let (piece, begin) = target.content.at(n % target.content.blocks());
        wire.say(&block_message(piece, begin, &wrong));
    }
    wire.wait_for_end();
    let mut wire = target.open([0; 8], 1);
    wire.say(&block_message(u32::MAX, u32::MAX, &wrong));
    wire.say(&block_message(0, 5, &[]));
    vec![wire]
}

fn oversized_blocks(target: &Target<'_>) -> Vec<Wire> {
    let long = vec![9; BLOCK as usize + 1];
    let longer = vec![9; 1 << 17];
    target.assert_closes(
        [0; 8],
        [long, longer].map(|long| block_message(0, 0, &long)),
    );
    Vec::new()
}

// Choking and interest.

fn choke_loop(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = target.open([0; 8], 0);
    wire.say(&message(HAVE, &45u32.to_be_bytes()));
    let turn = [message(UNCHOKE, &[]), message(0, &[])].concat();
    wire.say(&turn.repeat(1000));
    vec![wire]
}

fn interest_flapping(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = target.open([0; 8], 0);
    let turn = [message(INTERESTED, &[]), message(NOT_INTERESTED, &[])].concat();
    wire.say(&turn.repeat(2000));
    vec![wire]
}

// Connections and handshakes.

fn silent_connections(target: &Target<'_>) -> Vec<Wire> {
    (0..200).map(|_| Wire::connect(target.addr)).collect()
}

fn slow_handshakes(target: &Target<'_>) -> Vec<Wire> {
    let mut open: Vec<Wire> = (0..100).map(|_| Wire::connect(target.addr)).collect();
    let handshake = target.content.handshake([0; 8], peer_id(target.first_id));
    for at in 0..30 {
        for wire in &mut open {
            wire.say(&handshake[at..=at]);
        }
    }
    open
}

fn foreign_handshakes(target: &Target<'_>) -> Vec<Wire> {
    let mut other = target.content.handshake([0; 8], peer_id(target.first_id));
    other[28..48].fill(0xee);
    let web = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxx";
    let mut protocol = target.content.handshake([0; 8], peer_id(target.first_id));
    protocol[0] = 255;
    for attack in [&other[..], web, &protocol, &[0; 4096]] {
        let mut wire = Wire::connect(target.addr);
        wire.say(attack);
        assert_eq!(wire.next(), None);
    }
    Vec::new()
}

fn connection_storm(target: &Target<'_>) -> Vec<Wire> {
    for _ in 0..500 {
        drop(Wire::connect(target.addr));
    }
    (0..60).map(|n| target.open([0; 8], n)).collect()
}

fn self_connection(target: &Target<'_>) -> Vec<Wire> {
    let mut wire = Wire::connect(target.addr);
    wire.say(&target.content.handshake([0; 8], peer_id(target.first_id)));
    let mut theirs = [0; 68];
    std::io::Read::read_exact(&mut wire.stream, &mut theirs).unwrap();
    let own: [u8; 20] = theirs[48..].try_into().unwrap();
    let mut mirror = Wire::connect(target.addr);
    mirror.say(&target.content.handshake([0; 8], own));
    // It shows who it is, and no message follows.
    std::io::Read::read_exact(&mut mirror.stream, &mut theirs).unwrap();
    vec![wire, mirror]
}

fn duplicate_ids(target: &Target<'_>) -> Vec<Wire> {
    let first = target.open([0; 8], 0);
    let mut second = Wire::connect(target.addr);
    second.say(&target.content.handshake([0; 8], peer_id(target.first_id)));
    // Whether it shows its own handshake or not: it hangs up.
    let end = std::io::Read::read_to_end(&mut second.stream, &mut Vec::new());
    assert!(end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    vec![first]
}

/// Among them the bit for BEP 52, which crashed libtorrent 2.0.11 (issue 8692).
fn every_reserved_bit(target: &Target<'_>) -> Vec<Wire> {
    let mut wires: Vec<Wire> = (0..64)
        .map(|bit| {
            let mut reserved = [0; 8];
            reserved[bit as usize / 8] = 0x80 >> (bit % 8);
            target.open(reserved, bit)
        })
        .collect();
    wires.push(target.open([0xff; 8], 64));
    wires
}

/// A stream that is closed on one side only.
fn half_closed(target: &Target<'_>) -> Vec<Wire> {
    let mut wires = vec![target.open([0; 8], 0), Wire::connect(target.addr)];
    wires[0].say(&message(INTERESTED, &[]));
    for wire in &wires {
        wire.stream.shutdown(Shutdown::Write).unwrap();
    }
    wires
}

// Extensions.

fn extension_bombs(target: &Target<'_>) -> Vec<Wire> {
    let handshake = |dict: &[u8]| message(EXTENDED, &[&[0], dict].concat());
    let many: Vec<u8> = (0..5000)
        .flat_map(|n| format!("5:e{n:04}i1e").into_bytes())
        .collect();
    let many = [b"d1:md", &many[..], b"ee"].concat();
    let deep = [&b"d1:m"[..], &[b'l'; 30_000], &[b'e'; 30_000], b"e"].concat();
    let long = [b"d1:v60000:", &[b'v'; 60_000][..], b"e"].concat();
    let wide = b"d1:md6:ut_pexi99999999999999999999eee".to_vec();
    let liar = b"d1:md11:ut_metadatai255ee13:metadata_sizei4294967295ee".to_vec();
    let negative = b"d1:pi-1e4:reqqi-1e13:metadata_sizei-1ee".to_vec();
    let mut open = Vec::new();
    for (n, bomb) in [many, deep, long, wide, liar, negative].iter().enumerate() {
        let mut wire = target.open(EXTENSIONS, n as u32);
        for _ in 0..20 {
            wire.say(&handshake(bomb));
        }
        open.push(wire);
    }
    open
}

fn extension_garbage(target: &Target<'_>) -> Vec<Wire> {
    let mut open = Vec::new();
    let payloads: [&[u8]; 9] = [
        b"",
        b"x",
        b"d8:msg_typei0e5:piecei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei4294967295ee",
        b"d8:msg_typei1e5:piecei0e10:total_sizei1eexxxxxxxxx",
        b"d8:msg_typei99e5:piecei0ee",
        b"d5:added6:aaaaaae",
        b"d5:added7:aaaaaaa7:added.f1:xe",
    ];
    for (n, payload) in (0..).zip(payloads) {
        let mut wire = target.open(EXTENSIONS, n);
        wire.say(&message(EXTENDED, b"\0d1:md11:ut_metadatai9e6:ut_pexi8eee"));
        for id in [1, 2, 3, 4, 200, 255] {
            wire.say(&message(EXTENDED, &[&[id], payload].concat()));
        }
        open.push(wire);
    }
    open
}
