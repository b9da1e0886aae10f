use std::sync::Arc;

use dunlin_metainfo::FileSpan;
use dunlin_proto::peer::MetadataMessage;
use dunlin_proto::peer::message::PIECE_HEADER_LEN;

use super::*;

/// Two pieces of eight blocks, the last one short.
fn layout() -> Arc<Layout> {
    let file = FileSpan {
        len: 16 * u64::from(BLOCK_LEN) - 5000,
        pad: false,
    };
    Arc::new(Layout::new(8 * u64::from(BLOCK_LEN), [file]).unwrap())
}

fn run(layout: &Layout, piece: u32, first: u16, count: u16) -> Run {
    layout
        .run(layout.piece(piece).unwrap(), first, count)
        .unwrap()
}

struct Bench {
    layout: Arc<Layout>,
    outbox: Outbox,
    pool: BufPool,
    served: Vec<Sent>,
}

impl Bench {
    fn new() -> Self {
        Self {
            layout: layout(),
            outbox: Outbox::default(),
            pool: BufPool::new(100),
            served: Vec::new(),
        }
    }

    fn next_read(&mut self, held_max: usize) -> Option<Run> {
        self.outbox.next_read(&self.layout, held_max, usize::MAX)
    }

    fn deliver(&mut self, run: Run) {
        let lens = self.layout.run_blocks(run).map(Block::len);
        let bufs = lens.map(|len| self.pool.take(len).unwrap()).collect();
        self.outbox.read_done(&self.layout, bufs, &mut self.pool);
    }

    /// Reads whatever is asked for until nothing is.
    fn deliver_all(&mut self) {
        while let Some(run) = self.next_read(128) {
            self.deliver(run);
        }
    }

    /// Sends at most `n` bytes and returns how many there were.
    fn send(&mut self, n: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = self.outbox.outgoing(&mut slices);
        let len: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        self.outbox
            .sent(len.min(n), &mut self.pool, &mut self.served);
        len.min(n)
    }
}

#[test]
fn small_messages_share_one_segment() {
    let mut bench = Bench::new();
    for piece in 0..5 {
        bench.outbox.push(&Message::Have { piece });
    }
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(bench.outbox.outgoing(&mut slices), 1);
    assert_eq!(bench.outbox.message_bytes(), 45);
    assert_eq!(bench.send(usize::MAX), 45);
    assert_eq!(bench.outbox.message_bytes(), 0);
    assert!(bench.outbox.is_empty());
}

#[test]
fn a_run_is_served_when_its_last_byte_is_sent() {
    let mut bench = Bench::new();
    let run = run(&bench.layout, 1, 6, 2);
    bench.outbox.serve(run);
    bench.deliver_all();
    let bytes = bench.layout.run_len(run) as usize + 2 * PIECE_HEADER_LEN;
    assert_eq!(bench.send(bytes - 1), bytes - 1);
    assert!(bench.served.is_empty());
    assert_eq!(bench.send(usize::MAX), 1);
    assert_eq!(bench.served, [Sent::Run(run)]);
    assert_eq!(bench.pool.out(), 0);
}

#[test]
fn runs_that_follow_each_other_are_read_at_once() {
    let mut bench = Bench::new();
    for first in 0..4 {
        bench.outbox.serve(run(&bench.layout, 0, first, 1));
    }
    bench.outbox.serve(run(&bench.layout, 1, 4, 1));
    assert_eq!(bench.next_read(128), Some(run(&bench.layout, 0, 0, 4)));
    assert_eq!(
        bench.next_read(128),
        None,
        "one read at a time keeps the order"
    );
    bench.deliver(run(&bench.layout, 0, 0, 4));
    assert_eq!(bench.next_read(128), Some(run(&bench.layout, 1, 4, 1)));
}

#[test]
fn a_slow_reader_holds_no_more_than_its_share() {
    let mut bench = Bench::new();
    bench.outbox.serve(run(&bench.layout, 0, 0, 8));
    let first = bench.next_read(3).unwrap();
    assert_eq!(first, run(&bench.layout, 0, 0, 3));
    bench.deliver(first);
    assert_eq!(bench.next_read(3), None);
    assert_eq!(bench.pool.out(), 3);
    bench.send(2 * (PIECE_HEADER_LEN + BLOCK_LEN as usize));
    assert_eq!(bench.next_read(3), Some(run(&bench.layout, 0, 3, 2)));
}

#[test]
fn a_run_is_forgotten_only_while_no_byte_of_it_is_sent() {
    let mut bench = Bench::new();
    let (a, b, c) = (
        run(&bench.layout, 0, 0, 2),
        run(&bench.layout, 0, 4, 2),
        run(&bench.layout, 1, 0, 1),
    );
    [a, b, c]
        .into_iter()
        .for_each(|run| bench.outbox.serve(run));
    bench.deliver_all();
    bench.send(10);
    assert!(
        !bench.outbox.unserve(a, &mut bench.pool),
        "its first bytes are out"
    );
    assert!(bench.outbox.unserve(b, &mut bench.pool));
    assert_eq!(bench.pool.out(), 3);
    while bench.send(usize::MAX) > 0 {}
    assert_eq!(bench.served, [Sent::Run(a), Sent::Run(c)]);
    assert!(!bench.outbox.unserve(c, &mut bench.pool), "it is sent");
    assert_eq!(bench.pool.out(), 0);
}

#[test]
fn what_is_read_for_a_forgotten_run_goes_back() {
    let mut bench = Bench::new();
    let (a, b) = (run(&bench.layout, 0, 0, 2), run(&bench.layout, 0, 2, 2));
    bench.outbox.serve(a);
    bench.outbox.serve(b);
    let reading = bench.next_read(128).unwrap();
    assert!(bench.outbox.unserve(a, &mut bench.pool));
    bench.deliver(reading);
    assert_eq!(bench.pool.out(), 2);
    while bench.send(usize::MAX) > 0 {}
    assert_eq!(bench.served, [Sent::Run(b)]);
    assert!(!bench.outbox.is_serving());
}

#[test]
fn a_failed_read_fails_the_first_run_only() {
    let mut bench = Bench::new();
    let (a, b) = (run(&bench.layout, 0, 0, 2), run(&bench.layout, 0, 2, 2));
    bench.outbox.serve(a);
    bench.outbox.serve(b);
    bench.next_read(128).unwrap();
    assert_eq!(bench.outbox.read_failed(), Some(a));
    assert_eq!(bench.next_read(128), Some(b));
}

#[test]
fn buffers_go_home_when_the_connection_ends() {
    let mut bench = Bench::new();
    bench.outbox.serve(run(&bench.layout, 0, 0, 8));
    bench.deliver_all();
    bench.send(100_000);
    bench.outbox.release(&mut bench.pool);
    assert_eq!(bench.pool.out(), 0);
}

#[test]
fn metadata_is_sent_from_where_it_lies() {
    let mut bench = Bench::new();
    let info: Arc<[u8]> = (0..20_000u32).map(|at| at as u8).collect();
    bench.outbox.push(&Message::Unchoke);
    bench.outbox.serve_metadata(3, 1, &info);
    assert_eq!(bench.outbox.message_bytes(), 5);
    let mut expected = Vec::new();
    Message::Unchoke.encode(&mut expected);
    Message::Extended {
        id: 3,
        payload: MetadataMessage::Data {
            piece: 1,
            total_size: 20_000,
            bytes: info[16_384..].to_vec(),
        }
        .encode(),
    }
    .encode(&mut expected);
    let mut slices = [IoSlice::new(&[]); 16];
    let filled = bench.outbox.outgoing(&mut slices);
    let wire: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
    assert_eq!(wire, expected);
    bench.send(wire.len() - 1);
    assert!(bench.served.is_empty());
    bench.send(1);
    assert_eq!(bench.served, [Sent::Metadata]);
    assert!(bench.outbox.is_empty());
}
