use super::*;
use crate::content::Content;

const RATE: u64 = 1 << 20;
const RTT: Duration = Duration::from_millis(50);

struct Bench {
    net: Net,
    content: Content,
    log: Vec<(u64, NetEvent)>,
}

impl Bench {
    fn new(nodes: u32, rates: Rates) -> Self {
        let content = Content::new(8, 64 * BLOCK_LEN);
        let mut net = Net::new(NetSpec::default(), Arc::clone(&content.layout));
        for _ in 0..nodes {
            net.add_node(rates, RTT / 4);
        }
        let log = Vec::new();
        Self { net, content, log }
    }

    fn connect(&mut self, from: u32, to: u32) -> EndId {
        let end = self.net.add_connection(NodeId(from), NodeId(to));
        self.net.open(end, Instant::START);
        self.net.open(end.other(), Instant::START);
        end
    }

    fn run(&self, piece: u32, first: u16, count: u16) -> Run {
        let piece = self.content.layout.piece(piece).unwrap();
        self.content.layout.run(piece, first, count).unwrap()
    }

    /// Lets everything happen; arrivals go to the log.
    fn play(&mut self) -> Vec<Handed> {
        let mut waiting: Vec<(Instant, NetEvent)> = Vec::new();
        let mut handed = Vec::new();
        loop {
            waiting.extend(self.net.take_events());
            let Some(first) = (0..waiting.len()).min_by_key(|&at| (waiting[at].0, at)) else {
                return handed;
            };
            let (now, event) = waiting.remove(first);
            match event {
                NetEvent::Sent(node) => self.net.sent(now, node, &mut handed),
                NetEvent::QuantumArrived(end, mut items) => {
                    self.net.arrived(now, end, &items);
                    for wire in items.drain(..) {
                        let arrived = NetEvent::Arrived(end, wire);
                        self.log.push((now.as_micros(), arrived));
                    }
                    self.net.recycle(items);
                }
                NetEvent::Arrived(end, wire) => {
                    self.log
                        .push((now.as_micros(), NetEvent::Arrived(end, wire)));
                }
                NetEvent::HaveArrived(..) => self.log.push((now.as_micros(), event)),
            }
        }
    }

    fn last_block_at(&self, at_end: EndId) -> u64 {
        let mut at = 0;
        for (time, event) in &self.log {
            if let NetEvent::Arrived(end, Wire::Blocks { .. }) = event
                && *end == at_end
            {
                at = *time;
            }
        }
        at
    }
}

fn slow_up() -> Rates {
    Rates {
        up: Some(RATE),
        down: None,
    }
}

#[test]
fn a_message_takes_one_way_of_the_round_trip() {
    let mut bench = Bench::new(2, slow_up());
    let end = bench.connect(0, 1);
    bench.net.send(Instant::START, end, Message::Interested);
    bench.play();
    let (at, NetEvent::Arrived(to, Wire::Message(Message::Interested))) = &bench.log[0] else {
        panic!("{:?}", bench.log);
    };
    assert_eq!((*at, *to), (25_000, end.other()));
}

#[test]
fn an_uplink_is_shared_evenly_between_its_connections() {
    let mut bench = Bench::new(3, slow_up());
    let (first, second) = (bench.connect(0, 1), bench.connect(0, 2));
    for (end, piece) in [(first, 0), (second, 1)] {
        let run = bench.run(piece, 0, 64);
        bench.net.serve(Instant::START, end, run, None);
    }
    let handed = bench.play();
    assert_eq!(handed.len(), 2);
    assert_eq!(bench.net.payload_up(NodeId(0)), 2 << 20);
    // 2 MiB and headers at 1 MiB/s: both end at about 2 s, a quantum apart.
    for end in [first, second] {
        let at = bench.last_block_at(end.other());
        assert!((2_000_000..2_050_000).contains(&at), "{at}");
    }
}

#[test]
fn a_have_behind_blocks_waits_for_them() {
    let mut bench = Bench::new(3, slow_up());
    let (busy, idle) = (bench.connect(0, 1), bench.connect(0, 2));
    let run = bench.run(0, 0, 64);
    bench.net.serve(Instant::START, busy, run, None);
    let piece = run.piece();
    bench.net.broadcast_have(Instant::START, NodeId(0), piece);
    bench.play();
    let blocks_at = bench.last_block_at(busy.other());
    let mut haves = Vec::new();
    for (at, event) in &bench.log {
        match event {
            NetEvent::Arrived(end, Wire::Message(Message::Have { .. })) => haves.push((*end, *at)),
            NetEvent::HaveArrived(_, ends) => haves.extend(ends.iter().map(|&end| (end, *at))),
            NetEvent::Arrived(..) | NetEvent::QuantumArrived(..) | NetEvent::Sent(_) => {}
        }
    }
    haves.sort_unstable();
    assert_eq!(haves, [(busy.other(), blocks_at), (idle.other(), 25_000)]);
}

#[test]
fn a_slow_downlink_is_shared_and_holds_the_sender_back() {
    let rates = Rates {
        up: None,
        down: Some(RATE),
    };
    let mut bench = Bench::new(3, rates);
    let (first, second) = (bench.connect(0, 2), bench.connect(1, 2));
    for (end, pieces) in [(first, [0, 1, 2, 3]), (second, [4, 5, 6, 7])] {
        for piece in pieces {
            let run = bench.run(piece, 0, 64);
            bench.net.serve(Instant::START, end, run, None);
        }
    }
    // What is under way never exceeds the window, however fast the uplink.
    let window = NetSpec::default().window;
    assert!(bench.net.ends[first.index()].in_flight <= window);
    bench.play();
    let at = bench
        .last_block_at(first.other())
        .max(bench.last_block_at(second.other()));
    assert!((8_000_000..8_200_000).contains(&at), "{at}");
}

#[test]
fn what_is_not_sent_yet_can_be_taken_back() {
    let mut bench = Bench::new(2, slow_up());
    let end = bench.connect(0, 1);
    let (first, second) = (bench.run(0, 0, 2), bench.run(0, 2, 2));
    bench.net.serve(Instant::START, end, first, None);
    bench.net.serve(Instant::START, end, second, None);
    assert!(!bench.net.unserve(end, first), "it is under way");
    assert!(bench.net.unserve(end, second));
    assert_eq!(bench.play().len(), 1);
}

#[test]
fn jitter_is_late_by_up_to_its_bound_and_keeps_the_order() {
    let mut bench = Bench::new(2, slow_up());
    let end = bench.connect(0, 1);
    let jitter = Duration::from_millis(30);
    bench.net.set_jitter(NodeId(1), jitter);
    let mut late = Vec::new();
    for nth in 0..100 {
        let now = Instant::from_micros(nth * 100_000);
        bench
            .net
            .send(now, end, Message::Have { piece: nth as u32 });
        bench.play();
        late.push(bench.log[nth as usize].0 - now.as_micros() - 25_000);
    }
    assert!(late.iter().all(|&late| late <= 30_000), "{late:?}");
    assert!(late.iter().any(|&late| late > 20_000), "{late:?}");
    for nth in 0..100 {
        let now = Instant::from_micros(20_000_000 + nth);
        bench
            .net
            .send(now, end, Message::Have { piece: nth as u32 });
    }
    bench.log.clear();
    bench.play();
    let order = bench.log.iter().map(|(_, event)| match event {
        NetEvent::Arrived(_, Wire::Message(Message::Have { piece })) => *piece,
        NetEvent::Arrived(..)
        | NetEvent::QuantumArrived(..)
        | NetEvent::Sent(_)
        | NetEvent::HaveArrived(..) => {
            panic!("{event:?}")
        }
    });
    assert!(order.eq(0..100));
}

#[test]
fn a_stalled_link_delivers_everything_when_it_goes_on() {
    let mut bench = Bench::new(3, slow_up());
    let (stalled, free) = (bench.connect(0, 2), bench.connect(1, 2));
    bench.net.stall(NodeId(0), Instant::from_micros(5_000_000));
    for (end, piece) in [(stalled, 0), (free, 1)] {
        let run = bench.run(piece, 0, 64);
        bench.net.serve(Instant::START, end, run, None);
    }
    bench.play();
    let (late, soon) = (
        bench.last_block_at(stalled.other()),
        bench.last_block_at(free.other()),
    );
    assert!((6_000_000..6_100_000).contains(&late), "{late}");
    assert!((1_000_000..1_100_000).contains(&soon), "{soon}");
}

#[test]
fn a_close_is_heard_after_what_was_under_way() {
    let mut bench = Bench::new(2, slow_up());
    let end = bench.connect(0, 1);
    bench.net.send(Instant::START, end, Message::Interested);
    bench.net.close(Instant::START, end);
    bench.net.close(Instant::START, end);
    bench.net.send(Instant::START, end, Message::Choke);
    bench.play();
    assert!(!bench.net.is_open(end));
    assert_eq!(bench.log.len(), 2);
    let (_, NetEvent::Arrived(to, Wire::Hangup)) = &bench.log[1] else {
        panic!("{:?}", bench.log);
    };
    assert_eq!(*to, end.other());
}

#[test]
fn a_coarse_quantum_arrives_at_once_and_in_order() {
    let mut bench = Bench::new(2, slow_up());
    bench.net.spec.quantum = COARSE;
    let end = bench.connect(0, 1);
    let (first, second) = (bench.run(0, 0, 10), bench.run(1, 0, 10));
    bench.net.serve(Instant::START, end, first, None);
    bench.net.send(Instant::START, end, Message::Unchoke);
    bench.net.serve(Instant::START, end, second, None);
    // The uplink was free, so the first run alone is a quantum.
    assert_eq!(bench.play().len(), 2);
    let (first_at, NetEvent::Arrived(_, Wire::Blocks { run, .. })) = &bench.log[0] else {
        panic!("{:?}", bench.log);
    };
    assert_eq!(*run, first);
    let (at, NetEvent::Arrived(_, Wire::Message(Message::Unchoke))) = &bench.log[1] else {
        panic!("{:?}", bench.log);
    };
    assert_eq!(at, first_at);
    let (at, NetEvent::Arrived(_, Wire::Blocks { run, .. })) = &bench.log[2] else {
        panic!("{:?}", bench.log);
    };
    assert_eq!(*run, second);
    assert!(at > first_at);
}

#[test]
fn a_coarse_quantum_ends_inside_a_run() {
    let mut bench = Bench::new(2, slow_up());
    bench.net.spec.quantum = COARSE;
    let end = bench.connect(0, 1);
    let run = bench.run(0, 0, 20);
    bench.net.serve(Instant::START, end, run, None);
    assert_eq!(bench.play().len(), 1);
    let parts: Vec<Run> = bench
        .log
        .iter()
        .filter_map(|(_, event)| match event {
            NetEvent::Arrived(_, Wire::Blocks { run, .. }) => Some(*run),
            NetEvent::Arrived(..)
            | NetEvent::QuantumArrived(..)
            | NetEvent::HaveArrived(..)
            | NetEvent::Sent(_) => None,
        })
        .collect();
    assert_eq!(parts, [bench.run(0, 0, 16), bench.run(0, 16, 4)]);
}
