//! The peer protocol as the tests speak it: written out by hand, so that it shares no mistake with
//! the program. [`Wire`] is one peer that a test plays line by line; [`Content`] is what is shared.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::fixture::{PATIENCE, Sandbox, random_bytes};

pub const BLOCK: u32 = 16 * 1024;

pub const UNCHOKE: u8 = 1;
pub const INTERESTED: u8 = 2;
pub const NOT_INTERESTED: u8 = 3;
pub const HAVE: u8 = 4;
pub const BITFIELD: u8 = 5;
pub const REQUEST: u8 = 6;
pub const PIECE: u8 = 7;
pub const CANCEL: u8 = 8;
pub const EXTENDED: u8 = 20;

/// BEP 10.
pub const EXTENSIONS: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0];
/// BEP 6 and BEP 10.
pub const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0x04];

/// A torrent, and every byte of it in memory.
#[derive(Clone, Debug)]
pub struct Content {
    pub torrent: PathBuf,
    /// The file, if it was kept.
    pub file: PathBuf,
    pub info_hash: [u8; 20],
    pub piece_len: u32,
    pub pieces: u32,
    /// Of the whole torrent, or of the one piece that it repeats.
    bytes: Vec<u8>,
}

impl Content {
    /// A file in `data/`, each piece different.
    pub fn new(sandbox: &Sandbox, name: &str, piece_len: u32, pieces: u32) -> Self {
        let bytes = random_bytes((piece_len * pieces) as usize, 11);
        let file = sandbox.write(&format!("data/{name}"), &bytes);
        let piece = format!("{}", piece_len / 1024) + "K";
        let torrent = sandbox.create(&file, &[&"--piece-length", &piece]);
        let info_hash = info_hash(sandbox, &torrent);
        Self {
            torrent,
            file,
            info_hash,
            piece_len,
            pieces,
            bytes,
        }
    }

    /// One piece, repeated: as large as one likes, and hardly any memory. There is no file of it.
    pub fn repeated(sandbox: &Sandbox, name: &str, piece_len: u32, pieces: u32) -> Self {
        let once = Self::new(sandbox, name, piece_len, 1);
        std::fs::remove_file(&once.file).unwrap();
        let meta = std::fs::read(&once.torrent).unwrap();
        let digest = &meta[meta.len() - 22..meta.len() - 2];
        let len = u64::from(piece_len) * u64::from(pieces);
        let name_len = name.len();
        let mut long = format!("d4:infod6:lengthi{len}e4:name{name_len}:{name}").into_bytes();
        let digests = digest.repeat(pieces as usize);
        long.extend(format!("12:piece lengthi{piece_len}e6:pieces{}:", digests.len()).bytes());
        long.extend(digests);
        long.extend(b"ee");
        std::fs::write(&once.torrent, long).unwrap();
        let info_hash = info_hash(sandbox, &once.torrent);
        Self {
            info_hash,
            pieces,
            ..once
        }
    }

    pub fn block(&self, piece: u32, begin: u32, len: u32) -> &[u8] {
        let at = piece as usize * self.piece_len as usize + begin as usize;
        let at = at % self.bytes.len();
        &self.bytes[at..at + len as usize]
    }

    pub fn blocks(&self) -> u32 {
        self.pieces * (self.piece_len / BLOCK)
    }

    /// Piece and offset of a block of the whole torrent.
    pub fn at(&self, block: u32) -> (u32, u32) {
        let in_piece = self.piece_len / BLOCK;
        (block / in_piece, block % in_piece * BLOCK)
    }

    /// The payload of the bitfield of somebody who has these pieces.
    pub fn bitfield(&self, has: impl Fn(u32) -> bool) -> Vec<u8> {
        let mut bits = vec![0; self.pieces.div_ceil(8) as usize];
        for piece in (0..self.pieces).filter(|&piece| has(piece)) {
            bits[piece as usize / 8] |= 0x80 >> (piece % 8);
        }
        bits
    }

    pub fn handshake(&self, reserved: [u8; 8], peer_id: [u8; 20]) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            b"\x13BitTorrent protocol",
            &reserved,
            &self.info_hash,
            &peer_id,
        ];
        parts.concat()
    }
}

fn info_hash(sandbox: &Sandbox, torrent: &Path) -> [u8; 20] {
    let shown = sandbox.run("show", &[&torrent, &"--json"]).expect(0).json();
    let hex = shown["info_hash_v1"].as_str().unwrap();
    let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
    std::array::from_fn(byte)
}

/// An id that no other peer of the tests has.
pub fn peer_id(n: u32) -> [u8; 20] {
    let mut id = *b"-XX0001-000000000000";
    id[8..18].copy_from_slice(format!("{n:010}").as_bytes());
    id
}

pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(id);
    bytes.extend(payload);
    bytes
}

/// A `request` or a `cancel`.
pub fn request(id: u8, piece: u32, begin: u32, len: u32) -> Vec<u8> {
    let numbers = [piece, begin, len].map(u32::to_be_bytes).concat();
    message(id, &numbers)
}

pub fn block_message(piece: u32, begin: u32, payload: &[u8]) -> Vec<u8> {
    let mut body = [piece, begin].map(u32::to_be_bytes).concat();
    body.extend(payload);
    message(PIECE, &body)
}

pub fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// One connection to a dunlin.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
}

impl Wire {
    /// Connects and says nothing.
    pub fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Connects and exchanges handshakes.
    pub fn open(addr: &str, content: &Content, reserved: [u8; 8], id: u32) -> Self {
        let mut wire = Self::connect(addr);
        wire.say(&content.handshake(reserved, peer_id(id)));
        let mut theirs = [0; 68];
        wire.stream.read_exact(&mut theirs).unwrap();
        assert_eq!(theirs[28..48], content.info_hash);
        wire
    }

    /// It may have closed: whoever cares reads.
    pub fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message: id and payload. `None` at the end of the connection.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut len = [0; 4];
            self.fill(&mut len)?;
            let mut body = vec![0; word(&len) as usize];
            self.fill(&mut body)?;
            if let Some((&id, payload)) = body.split_first() {
                return Some((id, payload.to_vec()));
            }
        }
    }

    /// The next message of this id.
    #[track_caller]
    pub fn wait_for(&mut self, id: u8) -> Vec<u8> {
        loop {
            match self.next() {
                Some((of, payload)) if of == id => return payload,
                Some(_) => {}
                None => panic!("closed while message {id} was waited for"),
            }
        }
    }

    /// Waits until the other side hangs up.
    pub fn wait_for_end(&mut self) {
        while self.next().is_some() {}
    }

    /// `None` at the end; silence for longer than patience lasts fails the test.
    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
            {
                panic!("neither a message nor the end came")
            }
            Err(_) => None,
        }
    }
}
