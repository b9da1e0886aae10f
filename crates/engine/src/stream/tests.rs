use dunlin_metainfo::{BLOCK_LEN, FileSpan};
use proptest::prelude::*;

use super::*;

fn layout() -> Arc<Layout> {
    let file = FileSpan {
        len: 20 * u64::from(BLOCK_LEN) + 100,
        pad: false,
    };
    Arc::new(Layout::new(8 * u64::from(BLOCK_LEN), [file]).unwrap())
}

fn run(layout: &Layout, piece: u32, first: u16, count: u16) -> Run {
    layout
        .run(layout.piece(piece).unwrap(), first, count)
        .unwrap()
}

fn pattern(run: Run, at: usize) -> u8 {
    (run.piece().get() as u8)
        .wrapping_mul(31)
        .wrapping_add(run.first() as u8 + at as u8)
}

/// Everything that waits to be sent.
fn wire(stream: &mut PeerStream, pool: &mut BufPool) -> (Vec<u8>, Vec<Sent>) {
    let (mut bytes, mut served) = (Vec::new(), Vec::new());
    while !stream.is_flushed() {
        let mut slices = [IoSlice::new(&[]); 7];
        let filled = stream.outgoing(&mut slices);
        let part: Vec<u8> = slices[..filled]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        stream.sent(part.len(), pool, &mut served);
        bytes.extend(part);
    }
    (bytes, served)
}

/// Reads `bytes` as a socket would, at most `step` at once.
fn read(stream: &mut PeerStream, bytes: &[u8], step: usize, pool: &mut BufPool) -> Vec<Item> {
    let (mut rest, mut items) = (bytes, Vec::new());
    let mut shared = vec![0; 64 * 1024];
    while !rest.is_empty() {
        let mut slots = stream
            .space(pool, &mut shared)
            .expect("the pool is large enough");
        let mut n = 0;
        for slot in &mut slots {
            let count = slot.len().min(rest.len()).min(step - n);
            let (now, later) = rest.split_at(count);
            slot[..count].copy_from_slice(now);
            rest = later;
            n += count;
        }
        stream.filled(n, &shared, pool, &mut items).unwrap();
    }
    items
}

/// Serves `runs` with a pattern and returns the bytes.
fn serve(runs: &[Run], between: &[Message], pool: &mut BufPool) -> Vec<u8> {
    let layout = layout();
    let mut stream = PeerStream::new(layout.clone());
    for (at, &run) in runs.iter().enumerate() {
        if let Some(message) = between.get(at) {
            stream.send(message);
        }
        stream.serve(run);
        let stretch = stream.next_read(128, 128).unwrap();
        assert_eq!(stretch, run);
        let bufs = layout.run_blocks(run).enumerate().map(|(at, block)| {
            let mut buf = pool.take(block.len()).unwrap();
            buf.bytes_mut().fill(pattern(run, at));
            buf
        });
        let bufs = bufs.collect();
        stream.read_done(bufs, pool);
    }
    let (bytes, served) = wire(&mut stream, pool);
    let runs: Vec<Sent> = runs.iter().copied().map(Sent::Run).collect();
    assert_eq!(served, runs);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_one_stream_serves_the_other_receives_in_any_split(step in 1usize..200_000) {
        let layout = layout();
        let runs = [run(&layout, 0, 0, 5), run(&layout, 1, 3, 1), run(&layout, 2, 0, 5)];
        let between = [Message::Unchoke, Message::Have { piece: 2 }];
        let (mut sending, mut receiving) = (BufPool::new(64), BufPool::new(64));
        let bytes = serve(&runs, &between, &mut sending);
        prop_assert_eq!(sending.out(), 0);

        let mut stream = PeerStream::new(layout.clone());
        runs.into_iter().for_each(|run| stream.request(run));
        let (mut messages, mut blocks) = (Vec::new(), 0);
        for item in read(&mut stream, &bytes, step, &mut receiving) {
            match item {
                Item::Message(message) => messages.push(message),
                Item::Received { run, bufs } => {
                    prop_assert_eq!(bufs.len(), usize::from(run.count()));
                    blocks += bufs.len();
                    let of = runs.iter().find(|of| of.piece() == run.piece()).unwrap();
                    for (block, buf) in layout.run_blocks(run).zip(bufs) {
                        prop_assert_eq!(buf.len(), block.len());
                        let expect = pattern(*of, usize::from(block.index() - of.first()));
                        prop_assert!(buf.bytes().iter().all(|&byte| byte == expect));
                        receiving.give(buf);
                    }
                }
                Item::Unrequested { .. } => prop_assert!(false, "everything was requested"),
            }
        }
        prop_assert_eq!(&messages, &between);
        prop_assert_eq!(blocks, 11);
        prop_assert_eq!(receiving.out(), 0);
    }
}

#[test]
fn blocks_that_follow_each_other_arrive_as_one_run() {
    let layout = layout();
    let (mut sending, mut receiving) = (BufPool::new(64), BufPool::new(64));
    let runs = [
        run(&layout, 0, 0, 3),
        run(&layout, 0, 3, 2),
        run(&layout, 1, 5, 1),
    ];
    let bytes = serve(&runs, &[], &mut sending);
    let mut stream = PeerStream::new(layout.clone());
    runs.into_iter().for_each(|run| stream.request(run));
    let mut items = Vec::new();
    stream.feed(&bytes, &mut receiving, &mut items).unwrap();
    let received: Vec<Run> = items
        .iter()
        .map(|item| match item {
            Item::Received { run, .. } => *run,
            Item::Message(_) | Item::Unrequested { .. } => panic!("{item:?}"),
        })
        .collect();
    assert_eq!(received, [run(&layout, 0, 0, 5), run(&layout, 1, 5, 1)]);
}

#[test]
fn requests_go_out_block_by_block_and_cancels_too() {
    let layout = layout();
    let mut stream = PeerStream::new(layout.clone());
    stream.request(run(&layout, 2, 3, 2));
    stream.cancel(run(&layout, 2, 4, 1));
    let (bytes, _) = wire(&mut stream, &mut BufPool::new(0));
    let mut expected = Vec::new();
    let last = layout.block(2, 4 * BLOCK_LEN, 100).unwrap();
    Message::Request(layout.block(2, 3 * BLOCK_LEN, BLOCK_LEN).unwrap().into())
        .encode(&mut expected);
    Message::Request(last.into()).encode(&mut expected);
    Message::Cancel(last.into()).encode(&mut expected);
    assert_eq!(bytes, expected);
}

#[test]
fn what_nobody_asked_for_is_dropped_and_told() {
    let layout = layout();
    let (mut sending, mut receiving) = (BufPool::new(64), BufPool::new(64));
    let bytes = serve(&[run(&layout, 0, 0, 1)], &[], &mut sending);
    let mut stream = PeerStream::new(layout);
    let items = read(&mut stream, &bytes, 1000, &mut receiving);
    assert!(
        matches!(items[..], [Item::Unrequested { len: BLOCK_LEN }]),
        "{items:?}"
    );
    assert_eq!(receiving.out(), 0);
}

#[test]
fn a_peer_that_never_reads_is_clogged_in_the_end() {
    let mut stream = PeerStream::new(layout());
    let haves = MESSAGE_BYTES_MAX / 9;
    for piece in 0..haves as u32 {
        stream.send(&Message::Have { piece });
    }
    assert!(!stream.is_clogged());
    stream.send(&Message::Have { piece: 0 });
    stream.send(&Message::Have { piece: 0 });
    assert!(stream.is_clogged());
}
