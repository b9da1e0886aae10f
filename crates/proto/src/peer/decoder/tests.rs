use super::*;
use proptest::prelude::*;

fn request(piece: u32, begin: u32, len: u32) -> Request {
    Request { piece, begin, len }
}

/// Bytes that differ from block to block.
fn payload(request: Request) -> Vec<u8> {
    (0..request.len)
        .map(|at| (at ^ (request.piece * 31) ^ (request.begin >> 8)) as u8)
        .collect()
}

fn put_block(out: &mut Vec<u8>, request: Request) {
    out.extend_from_slice(&(9 + request.len).to_be_bytes());
    out.push(message::PIECE);
    out.extend_from_slice(&request.piece.to_be_bytes());
    out.extend_from_slice(&request.begin.to_be_bytes());
    out.extend_from_slice(&payload(request));
}

fn head(len: u32, id: u8) -> Vec<u8> {
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.push(id);
    bytes
}

/// An item by value; its buffer goes home.
#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Message(Message),
    Block(Request, Vec<u8>),
    Unrequested(u32),
}

fn seen(items: &mut Vec<Item>, pool: &mut BufPool) -> Vec<Seen> {
    let see = |item| match item {
        Item::Message(message) => Seen::Message(message),
        Item::Block { request, buf } => {
            let bytes = buf.bytes().to_vec();
            pool.give(buf);
            Seen::Block(request, bytes)
        }
        Item::Unrequested { len } => Seen::Unrequested(len),
    };
    items.drain(..).map(see).collect()
}

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Seen>, Violation> {
    let (mut pool, mut items) = (BufPool::new(1000), Vec::new());
    let taken = decoder.feed(bytes, &mut pool, &mut items)?;
    assert_eq!(taken, bytes.len());
    Ok(seen(&mut items, &mut pool))
}

/// Reads `stream` as a loop would: at most `read_max` bytes a read, through `shared_len` bytes.
/// Buffers come home only when the decoder has no space left.
fn read_all(
    decoder: &mut Decoder,
    stream: &[u8],
    reads: &[usize],
    shared_len: usize,
    pool: &mut BufPool,
) -> Result<Vec<Seen>, Violation> {
    let mut shared = vec![0; shared_len];
    let (mut items, mut out) = (Vec::new(), Vec::new());
    let (mut rest, mut sizes) = (stream, reads.iter().cycle());
    while !rest.is_empty() {
        let read_max = *sizes.next().unwrap();
        let Some(mut slots) = decoder.space(pool, &mut shared) else {
            assert!(
                pool.out() > 0,
                "no space although every buffer is at home: a deadlock"
            );
            out.append(&mut seen(&mut items, pool));
            continue;
        };
        let mut n = 0;
        for slot in &mut slots {
            let bytes = take(&mut rest, slot.len().min(read_max - n));
            slot[..bytes.len()].copy_from_slice(bytes);
            n += bytes.len();
            if bytes.len() < slot.len() {
                break;
            }
        }
        decoder.filled(n, &shared, pool, &mut items)?;
    }
    out.append(&mut seen(&mut items, pool));
    Ok(out)
}

#[test]
fn every_message_survives_the_wire() {
    let request = request(1, 16384, 16384);
    let messages = vec![
        Message::KeepAlive,
        Message::Choke,
        Message::Unchoke,
        Message::Interested,
        Message::NotInterested,
        Message::Have { piece: 7 },
        Message::Bitfield(vec![0xff, 0x80]),
        Message::Bitfield(Vec::new()),
        Message::Request(request),
        Message::Cancel(request),
        Message::Port(6881),
        Message::SuggestPiece { piece: 8 },
        Message::HaveAll,
        Message::HaveNone,
        Message::RejectRequest(request),
        Message::AllowedFast { piece: 9 },
        Message::Extended {
            id: 3,
            payload: b"d1:ai1ee".to_vec(),
        },
        Message::Extended {
            id: 0,
            payload: Vec::new(),
        },
    ];
    let mut bytes = Vec::new();
    messages
        .iter()
        .for_each(|message| message.encode(&mut bytes));
    let expected: Vec<Seen> = messages.into_iter().map(Seen::Message).collect();
    assert_eq!(decode(&mut Decoder::new(), &bytes), Ok(expected));
}

#[test]
fn only_requested_blocks_are_stored() {
    let (wanted, other) = (request(3, 0, 100), request(3, 100, 50));
    let mut bytes = Vec::new();
    for block in [other, wanted, wanted] {
        put_block(&mut bytes, block);
    }
    Message::HaveAll.encode(&mut bytes);
    let mut decoder = Decoder::new();
    decoder.expect(wanted);
    decoder.expect(wanted);
    assert_eq!(
        decode(&mut decoder, &bytes).unwrap(),
        [
            Seen::Unrequested(50),
            Seen::Block(wanted, payload(wanted)),
            Seen::Unrequested(100),
            Seen::Message(Message::HaveAll),
        ]
    );
}

#[test]
fn a_block_of_another_length_is_not_the_requested_one() {
    let mut bytes = Vec::new();
    put_block(&mut bytes, request(3, 0, 99));
    put_block(&mut bytes, request(3, 0, 0));
    let mut decoder = Decoder::new();
    decoder.expect(request(3, 0, 100));
    assert_eq!(
        decode(&mut decoder, &bytes).unwrap(),
        [Seen::Unrequested(99), Seen::Unrequested(0)]
    );
    assert_eq!(decoder.expected(), 1);
}

#[test]
fn a_rejected_request_is_no_longer_expected() {
    let wanted = request(0, 0, 10);
    let mut bytes = Vec::new();
    Message::RejectRequest(wanted).encode(&mut bytes);
    put_block(&mut bytes, wanted);
    let mut decoder = Decoder::new();
    decoder.expect(wanted);
    let items = decode(&mut decoder, &bytes).unwrap();
    assert_eq!(items[1], Seen::Unrequested(10));
}

#[test]
fn the_oldest_request_is_forgotten_at_the_limit() {
    let mut decoder = Decoder::new();
    for piece in 0..=EXPECTED_MAX as u32 {
        decoder.expect(request(piece, 0, 1));
    }
    assert_eq!(decoder.expected(), EXPECTED_MAX);
    let mut bytes = Vec::new();
    put_block(&mut bytes, request(0, 0, 1));
    put_block(&mut bytes, request(1, 0, 1));
    assert_eq!(
        decode(&mut decoder, &bytes).unwrap()[0],
        Seen::Unrequested(1)
    );
    assert_eq!(decoder.expected(), EXPECTED_MAX - 1);
}

#[test]
fn unknown_messages_are_skipped_without_keeping_them() {
    let mut bytes = head(60_000, 77);
    bytes.resize(4 + 60_000, 0);
    Message::Choke.encode(&mut bytes);
    let items = decode(&mut Decoder::new(), &bytes).unwrap();
    assert_eq!(items, [Seen::Message(Message::Choke)]);
}

#[test]
fn a_wrong_length_is_refused_as_soon_as_the_id_is_known() {
    for (len, id, violation) in [
        (
            BLOCK_LEN + 10,
            message::PIECE,
            Violation::MessageTooLong {
                id: 7,
                len: BLOCK_LEN + 10,
            },
        ),
        (
            u32::MAX,
            message::EXTENDED,
            Violation::MessageTooLong {
                id: 20,
                len: u32::MAX,
            },
        ),
        (
            u32::MAX,
            message::BITFIELD,
            Violation::MessageTooLong {
                id: 5,
                len: u32::MAX,
            },
        ),
        (
            65_537,
            200,
            Violation::MessageTooLong {
                id: 200,
                len: 65_537,
            },
        ),
        (
            2,
            message::CHOKE,
            Violation::MessageLength { id: 0, len: 2 },
        ),
        (
            u32::MAX,
            message::HAVE,
            Violation::MessageLength {
                id: 4,
                len: u32::MAX,
            },
        ),
    ] {
        let result = decode(&mut Decoder::new(), &head(len, id));
        assert_eq!(result, Err(violation));
    }
}

#[test]
fn a_bitfield_longer_than_the_torrent_needs_is_refused_before_it_comes() {
    for (pieces, bytes) in [(1, 1), (8, 1), (9, 2), (1000, 125)] {
        let mut decoder = Decoder::new();
        decoder.set_pieces(pieces);
        let longer = decode(&mut decoder, &head(1 + bytes + 1, message::BITFIELD));
        assert_eq!(longer, Err(Violation::Bitfield), "{pieces} pieces");
        let mut decoder = Decoder::new();
        decoder.set_pieces(pieces);
        let right = decode(&mut decoder, &head(1 + bytes, message::BITFIELD));
        assert_eq!(right, Ok(vec![]), "{pieces} pieces");
    }
}

#[test]
fn what_came_before_a_violation_is_kept() {
    let mut bytes = Vec::new();
    Message::Unchoke.encode(&mut bytes);
    bytes.extend(head(2, message::CHOKE));
    let (mut pool, mut items) = (BufPool::new(1), Vec::new());
    let result = Decoder::new().feed(&bytes, &mut pool, &mut items);
    assert!(result.is_err());
    assert_eq!(
        seen(&mut items, &mut pool),
        [Seen::Message(Message::Unchoke)]
    );
}

#[test]
fn the_rest_of_a_block_is_read_into_its_own_buffer() {
    let (first, second) = (request(0, 0, BLOCK_LEN), request(0, BLOCK_LEN, BLOCK_LEN));
    let mut stream = Vec::new();
    put_block(&mut stream, first);
    put_block(&mut stream, second);
    let mut decoder = Decoder::new();
    decoder.expect(first);
    decoder.expect(second);
    let (mut pool, mut items) = (BufPool::new(4), Vec::new());
    decoder
        .feed(&stream[..1000], &mut pool, &mut items)
        .unwrap();
    let mut shared = [0; 64];
    let slots = decoder.space(&pool, &mut shared).unwrap();
    assert_eq!(slots[0].len(), PIECE_HEADER_LEN + 16384 - 1000);
    assert_eq!(slots[1].len(), 64);
    let items = read_all(&mut decoder, &stream[1000..], &[usize::MAX], 64, &mut pool).unwrap();
    assert_eq!(
        items,
        [
            Seen::Block(first, payload(first)),
            Seen::Block(second, payload(second))
        ]
    );
    assert_eq!(pool.out(), 0);
}

#[test]
fn without_buffers_an_idle_connection_is_read_and_a_busy_one_waits() {
    let mut pool = BufPool::new(1);
    let held = pool.take(1).unwrap();
    let mut shared = [0; 1000];
    let mut decoder = Decoder::new();
    assert!(decoder.space(&pool, &mut shared).is_some());
    decoder.expect(request(0, 0, 100));
    assert!(decoder.space(&pool, &mut shared).is_none());
    pool.give(held);
    assert!(decoder.space(&pool, &mut shared).is_some());
}

#[test]
fn feeding_stops_at_a_block_without_a_buffer_and_goes_on_later() {
    let wanted = request(5, 0, 300);
    let mut bytes = Vec::new();
    put_block(&mut bytes, wanted);
    let mut decoder = Decoder::new();
    decoder.expect(wanted);
    let (mut pool, mut items) = (BufPool::new(1), Vec::new());
    let held = pool.take(1).unwrap();
    let taken = decoder.feed(&bytes, &mut pool, &mut items).unwrap();
    assert_eq!((taken, items.len()), (PIECE_HEADER_LEN, 0));
    pool.give(held);
    let rest = &bytes[taken..];
    assert_eq!(decoder.feed(rest, &mut pool, &mut items), Ok(rest.len()));
    assert_eq!(
        seen(&mut items, &mut pool),
        [Seen::Block(wanted, payload(wanted))]
    );
}

#[test]
fn a_closed_connection_gives_its_buffer_back() {
    let wanted = request(5, 0, 300);
    let mut bytes = Vec::new();
    put_block(&mut bytes, wanted);
    let mut decoder = Decoder::new();
    decoder.expect(wanted);
    let (mut pool, mut items) = (BufPool::new(1), Vec::new());
    decoder.feed(&bytes[..50], &mut pool, &mut items).unwrap();
    assert_eq!(pool.out(), 1);
    decoder.release(&mut pool);
    assert_eq!(pool.out(), 0);
}

#[test]
fn an_idle_connection_keeps_almost_nothing() {
    assert!(size_of::<Decoder>() <= 128, "{}", size_of::<Decoder>());
    let mut decoder = Decoder::new();
    let mut bytes = Vec::new();
    for piece in 0..500 {
        decoder.expect(request(piece, 0, 20));
        put_block(&mut bytes, request(piece, 0, 20));
    }
    Message::Bitfield(vec![0; 10_000]).encode(&mut bytes);
    decode(&mut decoder, &bytes).unwrap();
    assert!(kept(&decoder) <= 200, "{}", kept(&decoder));
}

/// Bytes on the heap that belong to the decoder, pool buffers excepted.
fn kept(decoder: &Decoder) -> usize {
    let body = match &decoder.state {
        State::Body { bytes, .. } => bytes.capacity(),
        State::Head | State::Block { .. } | State::Skip { .. } => 0,
    };
    decoder.expected.capacity() * size_of::<Request>() + body
}

#[derive(Clone, Debug)]
enum Part {
    Message(Message),
    Wanted(Request),
    Unwanted(Request),
    Unknown(u8, usize),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let block = (0u32..4, 0u32..4, 1u32..600);
    let block = block.prop_map(|(piece, begin, len)| request(piece, begin * 16384, len));
    let words = (any::<u32>(), any::<u32>(), any::<u32>());
    let words = words.prop_map(|(piece, begin, len)| request(piece, begin, len));
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let message = prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Unchoke),
        Just(Message::HaveNone),
        any::<u16>().prop_map(Message::Port),
        any::<u32>().prop_map(|piece| Message::Have { piece }),
        any::<u32>().prop_map(|piece| Message::AllowedFast { piece }),
        words.clone().prop_map(Message::Request),
        words.prop_map(Message::Cancel),
        bytes.clone().prop_map(Message::Bitfield),
        (any::<u8>(), bytes).prop_map(|(id, payload)| Message::Extended { id, payload }),
    ];
    let part = prop_oneof![
        3 => message.prop_map(Part::Message),
        3 => block.clone().prop_map(Part::Wanted),
        1 => block.prop_map(|block| Part::Unwanted(request(9, block.begin, block.len))),
        1 => (21u8..=255, 0usize..300).prop_map(|(id, len)| Part::Unknown(id, len)),
    ];
    prop::collection::vec(part, 0..20)
}

/// The stream, what must come out, and what is expected beforehand.
fn stream_of(parts: Vec<Part>) -> (Vec<u8>, Vec<Seen>, Vec<Request>) {
    let (mut bytes, mut out, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Message(message) => {
                message.encode(&mut bytes);
                out.push(Seen::Message(message));
            }
            Part::Wanted(block) if !wanted.contains(&block) => {
                put_block(&mut bytes, block);
                wanted.push(block);
                out.push(Seen::Block(block, payload(block)));
            }
            Part::Wanted(block) | Part::Unwanted(block) => {
                put_block(&mut bytes, block);
                out.push(Seen::Unrequested(block.len));
            }
            Part::Unknown(id, len) => {
                bytes.extend(head(1 + len as u32, id));
                bytes.resize(bytes.len() + len, id);
            }
        }
    }
    (bytes, out, wanted)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_items(
        parts in parts(),
        reads in prop::collection::vec(1usize..900, 1..8),
        shared_len in 1usize..2000,
        buffers in 1usize..6,
    ) {
        let (stream, expected, wanted) = stream_of(parts);
        let mut decoder = Decoder::new();
        // Late in the list is late in the stream: expecting in reverse order must not matter.
        wanted.iter().rev().for_each(|&block| decoder.expect(block));
        let mut pool = BufPool::new(buffers);
        let items = read_all(&mut decoder, &stream, &reads, shared_len, &mut pool);
        prop_assert_eq!(items, Ok(expected));
        prop_assert_eq!(pool.out(), 0);
        prop_assert_eq!(decoder.expected(), 0);
    }

    #[test]
    fn random_bytes_never_panic_and_keep_little(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..24, any::<u8>()], 0..3000),
        cut in 1usize..100,
    ) {
        let mut decoder = Decoder::new();
        for piece in 0..4 {
            decoder.expect(request(0, piece, piece + 1));
        }
        let (mut pool, mut items) = (BufPool::new(2), Vec::new());
        let before = kept(&decoder);
        for portion in bytes.chunks(cut) {
            if decoder.feed(portion, &mut pool, &mut items).is_err() {
                break;
            }
            prop_assert!(kept(&decoder) <= before + 2 * bytes.len() + 8);
            seen(&mut items, &mut pool);
        }
    }
}
