//! A crowd of peers that the tests play themselves: real sockets, one thread, no thread a peer.
//!
//! Each peer dials the dunlin under test and behaves by its [`Manner`]. Every byte of payload that
//! an honest one receives is compared with what it should be, and everything that moves is noted
//! with its time.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wire::{
    BITFIELD, BLOCK, Content, INTERESTED, PIECE, REQUEST, UNCHOKE, block_message, message, peer_id,
    request, word,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Has nothing and takes whatever it gets, over and over, as fast as it comes.
    Leech,
    /// Has everything and gives it as fast as it is taken.
    Seed,
    /// Connects and says nothing.
    Silent,
    /// Stops in the middle of its handshake.
    HalfHandshake,
    /// Says nothing after its handshake.
    Mute,
    /// Asks for as much as it may and then reads nothing.
    Deaf,
    /// Asks, and reads a kilobyte ten times a second.
    SlowReader,
    /// Says that it has everything, unchokes, and never answers.
    Withholder,
}

/// What moved, and when: seconds since the crowd began, bytes of payload.
pub type Moved = (f64, u32);

#[derive(Debug)]
pub struct Crowd {
    pub content: Content,
    pub moved: Vec<Moved>,
    pub fakes: Vec<Fake>,
    /// Requests that a leech keeps open.
    pub depth: usize,
    /// Bytes a second that each seed gives at most.
    pub pace: Option<u32>,
    poll: Poll,
    start: Instant,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Fake {
    pub manner: Manner,
    /// Payload bytes that it received or gave.
    pub bytes: u64,
    pub is_closed: bool,
    stream: TcpStream,
    inbox: Vec<u8>,
    greeted: bool,
    /// Small messages to be sent.
    outbox: Vec<u8>,
    /// Blocks to be sent, and how much of the first is.
    answers: VecDeque<(u32, u32, u32)>,
    answered: usize,
    unchoked: bool,
    open: usize,
    next_block: u32,
    next_read: Instant,
    since: Instant,
}

impl Crowd {
    pub fn new(content: &Content) -> Self {
        Self {
            content: content.clone(),
            moved: Vec::new(),
            fakes: Vec::new(),
            depth: 64,
            pace: None,
            poll: Poll::new().unwrap(),
            start: Instant::now(),
            buffer: vec![0; 256 * 1024],
        }
    }

    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// `count` peers of this manner dial `addr`.
    pub fn add(&mut self, addr: &str, manner: Manner, count: usize) {
        let addr: SocketAddr = addr.parse().unwrap();
        for _ in 0..count {
            let n = self.fakes.len();
            let mut stream = TcpStream::connect(addr).unwrap();
            let both = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut stream, Token(n), both).unwrap();
            let outbox = opening(&self.content, manner, n as u32);
            self.fakes.push(Fake {
                manner,
                bytes: 0,
                is_closed: false,
                stream,
                inbox: Vec::new(),
                greeted: false,
                outbox,
                answers: VecDeque::new(),
                answered: 0,
                unchoked: false,
                open: 0,
                // Each begins elsewhere.
                next_block: (n as u32).wrapping_mul(97) % self.content.blocks(),
                next_read: Instant::now(),
                since: Instant::now(),
            });
        }
    }

    /// Plays until `enough` says so; whether it did before `patience` was over.
    pub fn run(&mut self, patience: Duration, mut enough: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut events = Events::with_capacity(1024);
        while !enough(self) {
            if Instant::now() >= deadline {
                return false;
            }
            let wait = Some(Duration::from_millis(10));
            self.poll.poll(&mut events, wait).unwrap();
            for event in &events {
                self.play(event.token().0);
            }
            self.play_the_slow();
        }
        true
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// Payload of all peers of this manner.
    pub fn bytes_of(&self, manner: Manner) -> u64 {
        let fakes = self.fakes.iter().filter(|fake| fake.manner == manner);
        fakes.map(|fake| fake.bytes).sum()
    }

    fn play(&mut self, n: usize) {
        let now = self.start.elapsed().as_secs_f64();
        let fake = &mut self.fakes[n];
        if fake.is_closed {
            return;
        }
        let before = fake.bytes;
        fake.read_all(&self.content, self.depth, &mut self.buffer);
        fake.write_all(&self.content, self.pace);
        let moved = (fake.bytes - before) as u32;
        if moved > 0 {
            self.moved.push((now, moved));
        }
    }

    fn play_the_slow(&mut self) {
        if self.pace.is_some() {
            for n in 0..self.fakes.len() {
                if !self.fakes[n].answers.is_empty() {
                    self.play(n);
                }
            }
        }
        let now = Instant::now();
        for fake in &mut self.fakes {
            if fake.manner == Manner::SlowReader && fake.unchoked && fake.next_read <= now {
                fake.next_read = now + Duration::from_millis(100);
                let mut little = [0; 1024];
                let _ = fake.stream.read(&mut little);
            }
        }
    }
}

/// What a peer says unasked.
fn opening(content: &Content, manner: Manner, n: u32) -> Vec<u8> {
    let mut bytes = content.handshake([0; 8], peer_id(n));
    match manner {
        Manner::Leech | Manner::Deaf | Manner::SlowReader => {
            bytes.extend(message(INTERESTED, &[]));
        }
        Manner::Seed | Manner::Withholder => {
            bytes.extend(message(BITFIELD, &content.bitfield(|_| true)));
            bytes.extend(message(UNCHOKE, &[]));
        }
        Manner::Silent => bytes.clear(),
        Manner::HalfHandshake => bytes.truncate(30),
        Manner::Mute => {}
    }
    bytes
}

impl Fake {
    fn reads(&self) -> bool {
        match self.manner {
            Manner::Leech | Manner::Seed | Manner::Withholder => true,
            // Until it knows that it may ask.
            Manner::Deaf | Manner::SlowReader => !self.unchoked,
            Manner::Silent | Manner::HalfHandshake | Manner::Mute => false,
        }
    }

    fn read_all(&mut self, content: &Content, depth: usize, buffer: &mut [u8]) {
        while self.reads() {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.is_closed = true;
                    return;
                }
                Ok(n) => {
                    self.inbox.extend_from_slice(&buffer[..n]);
                    self.take_messages(content, depth);
                }
                Err(error) => {
                    self.is_closed |= is_end(&error);
                    return;
                }
            }
        }
    }

    fn take_messages(&mut self, content: &Content, depth: usize) {
        let mut at = 0;
        if !self.greeted && self.inbox.len() >= 68 {
            assert_eq!(self.inbox[28..48], content.info_hash);
            self.greeted = true;
            at = 68;
        }
        while self.greeted && self.inbox.len() >= at + 4 {
            let len = word(&self.inbox[at..]) as usize;
            if self.inbox.len() < at + 4 + len {
                break;
            }
            let body = at + 4..at + 4 + len;
            at = body.end;
            if len > 0 {
                self.on_message(content, body);
            }
        }
        self.inbox.drain(..at);
        self.ask(content, depth);
    }

    fn on_message(&mut self, content: &Content, body: std::ops::Range<usize>) {
        let body = &self.inbox[body];
        match body[0] {
            0 => {
                self.unchoked = false;
                self.open = 0;
            }
            UNCHOKE => self.unchoked = true,
            REQUEST => {
                self.answers
                    .push_back((word(&body[1..]), word(&body[5..]), word(&body[9..])))
            }
            PIECE => {
                let (piece, begin, payload) = (word(&body[1..]), word(&body[5..]), &body[9..]);
                let right = content.block(piece, begin, payload.len() as u32);
                assert!(payload == right, "wrong bytes at {piece}:{begin}");
                self.bytes += payload.len() as u64;
                self.open = self.open.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn ask(&mut self, content: &Content, depth: usize) {
        let depth = match self.manner {
            Manner::Leech => depth,
            Manner::Deaf | Manner::SlowReader => 500,
            Manner::Seed
            | Manner::Withholder
            | Manner::Silent
            | Manner::HalfHandshake
            | Manner::Mute => 0,
        };
        while self.unchoked && self.open < depth {
            let (piece, begin) = content.at(self.next_block);
            self.next_block = (self.next_block + 1) % content.blocks();
            self.open += 1;
            self.outbox.extend(request(REQUEST, piece, begin, BLOCK));
        }
    }

    fn write_all(&mut self, content: &Content, pace: Option<u32>) {
        loop {
            let early = pace.is_some_and(|pace| {
                self.bytes as f64 > f64::from(pace) * self.since.elapsed().as_secs_f64()
            });
            let result = if !self.outbox.is_empty() && self.answered == 0 {
                let result = self.stream.write(&self.outbox);
                result.map(|n| drop(self.outbox.drain(..n)))
            } else if self.manner == Manner::Seed && !self.answers.is_empty() && !early {
                let count = if pace.is_some() { 1 } else { 32 };
                self.write_answers(content, count)
            } else {
                return;
            };
            if let Err(error) = result {
                self.is_closed |= is_end(&error);
                return;
            }
        }
    }

    fn write_answers(&mut self, content: &Content, count: usize) -> std::io::Result<()> {
        let first: Vec<(u32, u32, u32)> = self.answers.iter().copied().take(count).collect();
        let heads: Vec<Vec<u8>> = first
            .iter()
            .map(|&(piece, begin, len)| {
                let mut head = block_message(piece, begin, &[]);
                head[..4].copy_from_slice(&(len + 9).to_be_bytes());
                head
            })
            .collect();
        let mut slices = Vec::new();
        for (head, &(piece, begin, len)) in heads.iter().zip(&first) {
            slices.push(IoSlice::new(head));
            slices.push(IoSlice::new(content.block(piece, begin, len)));
        }
        let mut slices = &mut slices[..];
        IoSlice::advance_slices(&mut slices, self.answered);
        self.answered += self.stream.write_vectored(slices)?;
        for (.., len) in first {
            let whole = len as usize + 13;
            if self.answered < whole {
                break;
            }
            self.answered -= whole;
            self.answers.pop_front();
            self.bytes += u64::from(len);
        }
        Ok(())
    }
}

fn is_end(error: &std::io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
