//! Peer exchange with one peer (BEP 11): what it was told, and how often each side speaks.
//!
//! What is told is the difference between who is connected now and what this peer was told before,
//! so a peer that comes and goes between two messages is never mentioned. The limits of the
//! proposal hold both ways: once a minute, 50 added and 50 dropped. Which addresses are worth
//! taking decides the peer list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_proto::peer::ut_pex::{ENTRIES_MAX, PexFlags, PexMessage, PexPeer};
use dunlin_proto::time::Instant;

use crate::reach::Reach;

/// Our side and theirs of one connection.
#[derive(Clone, Debug)]
pub struct PexLink {
    /// The id that they want on our messages (BEP 10); 0 for none.
    pub their_id: u8,
    /// Whom they believe to be connected with us.
    told: BTreeSet<SocketAddr>,
    /// Nothing is sent before.
    next_at: Instant,
    /// Which state of our connections was told.
    told_version: Option<u64>,
    last_taken: Option<Instant>,
    strikes: u32,
}

/// What to do with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Take,
    Ignore,
    /// It goes on like this: no use to talk to it.
    HangUp,
}

impl PexLink {
    pub fn new(now: Instant) -> Self {
        Self {
            their_id: 0,
            told: BTreeSet::new(),
            next_at: now + FIRST_WAIT,
            told_version: None,
            last_taken: None,
            strikes: 0,
        }
    }

    /// Whether something may be told that was not. `version` counts the changes of `connected`.
    pub fn is_due(&self, now: Instant, version: u64) -> bool {
        self.their_id != 0 && now >= self.next_at && self.told_version != Some(version)
    }

    /// What to tell a peer at `to` now, if anything. `connected` are those whose listening address
    /// we know, each once; itself and whom it cannot reach are left out.
    pub fn next_message(
        &mut self,
        to: SocketAddr,
        connected: &BTreeMap<SocketAddr, PexFlags>,
        version: u64,
        now: Instant,
    ) -> Option<PexMessage> {
        let reach = Reach::of(to.ip());
        let is_news = |addr: &SocketAddr| *addr != to && Reach::of(addr.ip()) >= reach;
        let mut dropped: Vec<SocketAddr> = self
            .told
            .iter()
            .filter(|addr| !connected.contains_key(addr))
            .copied()
            .collect();
        let mut added: Vec<PexPeer> = connected
            .iter()
            .filter(|(addr, _)| is_news(addr) && !self.told.contains(addr))
            .map(|(&addr, &flags)| PexPeer { addr, flags })
            .collect();
        let is_all = added.len() <= ENTRIES_MAX && dropped.len() <= ENTRIES_MAX;
        dropped.truncate(ENTRIES_MAX);
        let room = (TOLD_MAX + dropped.len()).saturating_sub(self.told.len());
        added.truncate(ENTRIES_MAX.min(room));
        self.told_version = is_all.then_some(version);
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        for addr in &dropped {
            self.told.remove(addr);
        }
        self.told.extend(added.iter().map(|peer| peer.addr));
        self.next_at = now + INTERVAL;
        Some(PexMessage { added, dropped })
    }

    /// A message begins to arrive: is it time for one?
    pub fn on_message(&mut self, now: Instant) -> Verdict {
        let is_early = self
            .last_taken
            .is_some_and(|last| now.since(last) < INTERVAL - TOLERANCE);
        if is_early {
            return self.strike();
        }
        self.last_taken = Some(now);
        self.strikes = self.strikes.saturating_sub(1);
        Verdict::Take
    }

    fn strike(&mut self) -> Verdict {
        self.strikes += 1;
        if self.strikes > STRIKES_MAX {
            Verdict::HangUp
        } else {
            Verdict::Ignore
        }
    }
}

/// Between two messages (BEP 11).
pub const INTERVAL: Duration = Duration::from_secs(60);

/// A message may come so much earlier: timers are not exact, and what was sent late is followed
/// early.
const TOLERANCE: Duration = Duration::from_secs(15);

/// A new connection hears nothing for so long: by then there is more to tell than one peer.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// Messages that come too early until we hang up; one that is right takes one back.
const STRIKES_MAX: u32 = 10;

/// Addresses that we remember to have told one peer.
const TOLD_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn link() -> PexLink {
        let mut link = PexLink::new(at(0));
        link.their_id = 3;
        link
    }

    fn crowd(ports: impl IntoIterator<Item = u16>) -> BTreeMap<SocketAddr, PexFlags> {
        let addrs = ports.into_iter().map(|n| {
            let [high, low] = n.to_be_bytes();
            SocketAddr::from(([9, high, low, 1], 6881))
        });
        addrs.map(|addr| (addr, PexFlags::REACHABLE)).collect()
    }

    /// Tells as a torrent does once a second, and says how many were added and dropped, and when.
    fn tell(
        link: &mut PexLink,
        crowd: &BTreeMap<SocketAddr, PexFlags>,
        version: u64,
        seconds: std::ops::Range<u64>,
    ) -> Vec<(u64, usize, usize)> {
        let mut told = Vec::new();
        for second in seconds {
            if !link.is_due(at(second), version) {
                continue;
            }
            let message = link.next_message(addr("8.1.1.1:1"), crowd, version, at(second));
            told.extend(message.map(|m| (second, m.added.len(), m.dropped.len())));
        }
        told
    }

    #[test]
    fn a_crowd_is_told_fifty_a_minute_and_once() {
        let mut link = link();
        let told = tell(&mut link, &crowd(0..120), 1, 0..600);
        assert_eq!(told, [(5, 50, 0), (65, 50, 0), (125, 20, 0)]);
    }

    #[test]
    fn who_left_is_dropped_and_who_came_and_went_in_between_is_never_mentioned() {
        let mut link = link();
        assert_eq!(tell(&mut link, &crowd(0..10), 1, 0..20), [(5, 10, 0)]);
        assert!(tell(&mut link, &crowd(0..20), 2, 20..30).is_empty());
        assert_eq!(tell(&mut link, &crowd(4..12), 3, 30..300), [(65, 2, 4)]);
    }

    #[test]
    fn news_after_a_quiet_time_are_told_at_once() {
        let mut link = link();
        tell(&mut link, &crowd(0..10), 1, 0..300);
        assert_eq!(tell(&mut link, &crowd(0..11), 2, 300..400), [(300, 1, 0)]);
    }

    #[test]
    fn a_peer_is_not_told_of_itself_nor_of_whom_it_cannot_reach() {
        let addrs = ["8.1.1.1:1", "10.0.0.9:1", "127.0.0.1:1", "9.1.1.1:1"];
        let all = addrs.map(|text| (addr(text), PexFlags::default())).into();
        let told_to = |to: &str| {
            let message = link().next_message(addr(to), &all, 1, at(10)).unwrap();
            message.added.len()
        };
        assert_eq!(told_to("8.1.1.1:1"), 1);
        assert_eq!(told_to("10.0.0.9:1"), 2);
        assert_eq!(told_to("127.0.0.1:1"), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_dropped_makes_room() {
        let mut link = link();
        let told = tell(&mut link, &crowd(0..1000), 1, 0..3000);
        assert_eq!(
            told.iter().map(|(_, added, _)| added).sum::<usize>(),
            TOLD_MAX
        );
        let told = tell(&mut link, &crowd(0..150), 2, 3000..3060);
        assert_eq!(told, [(3000, 0, 50)]);
        assert_eq!(link.told.len(), 150);
    }

    #[test]
    fn who_has_no_id_for_it_is_told_nothing() {
        let link = PexLink::new(at(0));
        assert!(!link.is_due(at(1000), 1));
    }

    #[test]
    fn once_a_minute_is_listened_to_and_a_little_haste_is_forgiven() {
        let mut link = PexLink::new(at(0));
        for n in 0..100 {
            assert_eq!(link.on_message(at(n * 50)), Verdict::Take);
            assert_eq!(link.on_message(at(n * 50 + 25)), Verdict::Ignore);
        }
    }

    #[test]
    fn who_floods_is_ignored_and_then_left() {
        let mut link = PexLink::new(at(0));
        let verdicts: Vec<Verdict> = (0..30).map(|n| link.on_message(at(n))).collect();
        assert_eq!(verdicts[0], Verdict::Take);
        assert!(verdicts[1..=10].iter().all(|v| *v == Verdict::Ignore));
        assert!(verdicts[11..].iter().all(|v| *v == Verdict::HangUp));
    }
}
