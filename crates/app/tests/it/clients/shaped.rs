//! A star of hosts with slow links: an uplink and a downlink each, as at home.
//!
//! Each host has one cable, `lan`, to the bridge of the hub, `to-i` there. `tbf` shapes what leaves
//! at either end, headers and all: on the host its uplink, on the hub its downlink. Nothing delays a
//! packet but these queues. Everybody uses cubic, whatever the machine prefers. Made and removed
//! like a [`Network`](super::Network).

use super::Place;
use super::network::{HOLD, Held, SPACES, counters};

/// Bytes per second on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub up: u64,
    pub down: u64,
}

/// `sh -c STAR sh HOSTS UP DOWN`: host 1 is the hub.
const STAR: &str = r#"
up=$2 down=$3
for i in $(seq 2 $n); do
  echo "link add lan netns $(pid $i $pids) type veth peer name to-$i netns $(pid 1 $pids)"
done | ip -batch -
{ echo "link set lo up"
  echo "link add lan type bridge"
  echo "addr add 10.77.0.1/24 dev lan"
  echo "link set lan up"
  for i in $(seq 2 $n); do echo "link set to-$i master lan up"; done
} | nsenter --target $(pid 1 $pids) --net ip -batch -
for i in $(seq 2 $n); do
  echo "qdisc add dev to-$i root tbf rate ${down}bps burst 64kb latency 50ms"
done | nsenter --target $(pid 1 $pids) --net tc -batch -
for i in $(seq 2 $n); do
  nsenter --target $(pid $i $pids) --net sh -ec "
    ip link set lo up
    ip addr add 10.77.0.$i/24 dev lan
    ip link set lan up
    ip route change 10.77.0.0/24 dev lan scope link src 10.77.0.$i congctl cubic
    tc qdisc add dev lan root tbf rate ${up}bps burst 32kb latency 200ms"
done
"#;

/// Hosts that reach each other through a hub and nobody else.
#[derive(Debug)]
pub struct Star {
    held: Held,
}

impl Star {
    /// `None` means that `test` must end here: it was skipped.
    pub fn new(test: &str, hosts: usize, rates: Rates) -> Option<Self> {
        let script = [SPACES, STAR, HOLD].concat();
        let words = [rates.up, rates.down].map(|rate| rate.to_string());
        let held = Held::start(test, &script, 1 + hosts, &words)?;
        Some(Self { held })
    }

    /// Its links are as fast as the machine.
    pub fn hub(&self) -> &Place {
        &self.held.hosts[0]
    }

    pub fn hosts(&self) -> &[Place] {
        &self.held.hosts[1..]
    }

    /// Bytes that each host sent and received, with the headers of every layer.
    pub fn moved(&self) -> Vec<(u64, u64)> {
        let counters = counters(self.hub());
        let host = |index: usize| {
            let name = format!("to-{}", index + 2);
            let found = counters.iter().find(|(other, ..)| *other == name);
            let (_, from, to) = found.expect("every host has a cable");
            (*from, *to)
        };
        (0..self.hosts().len()).map(host).collect()
    }
}
