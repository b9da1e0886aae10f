//! The addresses of a torrent: whom to dial next, whom to leave alone, whom never to talk to again.
//!
//! An address is in exactly one [`State`]; the queues only index the states, so that choosing
//! costs the logarithm of the list. A peer that dialled us comes from an ephemeral port that nobody
//! can dial: it is counted ([`PeerList::on_incoming`]) but never listed. Loopback is one machine
//! that plays many peers, so it is exempt from everything that goes by address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use dunlin_proto::peer::priority;
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;

use crate::event::{PeerAddr, PeerSource};
use crate::external::OwnAddresses;
use crate::reach::{is_dialable, network};
use crate::reason::DialReason;
use hearsay::Hearsay;
use known::{Known, Links, Machine, Rank, State, canonical};

mod hearsay;
mod known;

/// The known, the connected and the banned addresses of one torrent.
#[derive(Clone, Debug)]
pub struct PeerList {
    max: usize,
    address_cap: usize,
    /// We have everything: seeds are of no use to us, nor we to them.
    seeding: bool,
    known: BTreeMap<PeerAddr, Known>,
    /// Named by the user or tried before, and ready: users' first, then the oldest attempt.
    ready: BTreeSet<(Rank, Option<Instant>, PeerAddr)>,
    /// Ready, never tried, not named by the user.
    untried: Vec<PeerAddr>,
    /// In back-off until then.
    waiting: BTreeSet<(Instant, PeerAddr)>,
    /// Those who dialled us.
    incoming: BTreeSet<PeerAddr>,
    /// Links by address, loopback excepted.
    links: BTreeMap<IpAddr, Links>,
    hearsay: Hearsay,
    bans: BTreeSet<Machine>,
    /// Oldest first.
    ban_order: VecDeque<Machine>,
    /// Addresses that turned out to be ours.
    own: BTreeSet<PeerAddr>,
    /// How others see us, as far as we know, and where we listen.
    seen_as: OwnAddresses,
    listen_port: u16,
}

impl PeerList {
    /// A list of at most `max` dialable addresses.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            address_cap: usize::MAX,
            seeding: false,
            known: BTreeMap::new(),
            ready: BTreeSet::new(),
            untried: Vec::new(),
            waiting: BTreeSet::new(),
            incoming: BTreeSet::new(),
            links: BTreeMap::new(),
            hearsay: Hearsay::new(max / HEARSAY_SHARE),
            bans: BTreeSet::new(),
            ban_order: VecDeque::new(),
            own: BTreeSet::new(),
            seen_as: OwnAddresses::default(),
            listen_port: 0,
        }
    }

    /// Our own address, by which canonical priorities are made (BEP 40).
    pub fn set_own_addresses(&mut self, seen_as: OwnAddresses, listen_port: u16) {
        self.seen_as = seen_as;
        self.listen_port = listen_port;
    }

    /// The canonical priority of the connection with this peer (BEP 40), the highest first; 0
    /// while we do not know how it sees us.
    pub fn priority(&self, addr: PeerAddr) -> u32 {
        let peer = addr.socket_addr();
        self.seen_as
            .seen_from(peer.ip())
            .and_then(|own| priority(SocketAddr::new(own, self.listen_port), peer))
            .unwrap_or(0)
    }

    /// Addresses with so many links are not dialled; loopback always is. Unlimited at first.
    pub fn set_address_cap(&mut self, cap: usize) {
        self.address_cap = cap;
    }

    /// Learns an address. False if it cannot be dialled, is banned, ours or known, or if the list
    /// is full of better ones.
    pub fn add(&mut self, addr: PeerAddr, source: PeerSource, now: Instant) -> bool {
        let addr = canonical(addr);
        if !is_dialable(addr.socket_addr()) || self.is_banned(addr) || self.own.contains(&addr) {
            return false;
        }
        if let PeerSource::Pex(teller) = source {
            return self.add_hearsay(addr, canonical(teller), now);
        }
        let by_user = source == PeerSource::User;
        if let Some(known) = self.known.get_mut(&addr) {
            known.named_at = now;
            let is_news = by_user && !known.by_user;
            self.confirm(addr);
            if is_news {
                self.promote(addr);
            }
            return false;
        }
        if self.known.len() >= self.max && !self.evict(source) {
            return false;
        }
        self.insert(addr, by_user, now);
        true
    }

    /// A peer told of this one. Of one machine one address is enough, unless it was tried in vain.
    fn add_hearsay(&mut self, addr: PeerAddr, teller: PeerAddr, now: Instant) -> bool {
        let ip = addr.socket_addr().ip();
        let of_machine = |port| PeerAddr::Tcp(SocketAddr::new(ip, port));
        let mut others = self.known.range(of_machine(0)..=of_machine(u16::MAX));
        let is_another = ip.is_loopback() || others.all(|(_, known)| known.failures > 0);
        if self.known.contains_key(&addr)
            || !is_another
            || !self.hearsay.may_add(addr, teller)
            || (self.known.len() >= self.max && !self.evict(PeerSource::Pex(teller)))
        {
            return false;
        }
        self.hearsay.add(addr, teller);
        self.insert(addr, false, now);
        true
    }

    /// The peer that told us of this one lost it: it is forgotten, if that is all we know of it.
    pub fn on_dropped(&mut self, addr: PeerAddr, teller: PeerAddr) {
        let (addr, teller) = (canonical(addr), Machine::of(canonical(teller)));
        let untried = self
            .known
            .get(&addr)
            .is_some_and(|known| known.state.is_idle() && known.last_attempt.is_none());
        if untried && self.hearsay.teller_of(addr) == Some(teller) {
            self.remove(addr);
        }
    }

    /// It exists, by our own experience or by the word of somebody who has no reason to lie.
    fn confirm(&mut self, addr: PeerAddr) {
        if self.hearsay.remove(addr)
            && let Some(known) = self.known.get_mut(&addr)
        {
            known.is_seed = false;
            self.requeue(addr);
        }
    }

    /// Whom to dial now, if anybody: those whom the user named, then those never tried (hearsay last;
    /// by canonical priority; equals at random, or the whole swarm would dial the same ones), then
    /// the oldest attempt. It stays where it is until [`on_dialling`](Self::on_dialling).
    pub fn next_dial(&mut self, now: Instant, rng: &mut Rng) -> Option<PeerAddr> {
        while let Some(&(until, addr)) = self.waiting.first() {
            if until > now {
                break;
            }
            self.set_state(addr, State::Ready);
        }
        let may_dial = |addr: &PeerAddr| self.may_dial(*addr);
        let mut tried = self
            .ready
            .iter()
            .filter(|(.., addr)| may_dial(addr))
            .peekable();
        if let Some((Rank::User, _, addr)) = tried.peek() {
            return Some(*addr);
        }
        let tried = tried.next().map(|(.., addr)| *addr);
        self.next_untried(rng).or(tried)
    }

    fn next_untried(&self, rng: &mut Rng) -> Option<PeerAddr> {
        let start = rng.index(self.untried.len());
        let (before, after) = self.untried.split_at(start);
        let untried = after.iter().chain(before).copied();
        let best = untried
            .filter(|addr| self.may_dial(*addr))
            // Of equals, the first from the random start on.
            .min_by_key(|addr| {
                let priority = Reverse(self.priority(*addr));
                (self.hearsay.contains(*addr), priority)
            })?;
        if !self.hearsay.contains(best) {
            return Some(best);
        }
        self.next_hearsay(rng)
    }

    /// Nobody but other peers told of those that are left: each of those who did is as likely to
    /// be followed, however many addresses it told.
    fn next_hearsay(&self, rng: &mut Rng) -> Option<PeerAddr> {
        let teller_of = |addr: PeerAddr| self.hearsay.teller_of(addr);
        let dialable = || self.untried.iter().filter(|addr| self.may_dial(**addr));
        let tellers: BTreeSet<Machine> = dialable().filter_map(|addr| teller_of(*addr)).collect();
        let tellers: Vec<Machine> = tellers.into_iter().collect();
        let teller = rng.choose(&tellers)?;
        dialable()
            .filter(|addr| teller_of(**addr) == Some(*teller))
            .max_by_key(|addr| self.priority(**addr))
            .copied()
    }

    /// Why this address would be dialled now.
    pub fn dial_reason(&self, addr: PeerAddr) -> DialReason {
        let addr = canonical(addr);
        match self.known.get(&addr) {
            Some(known) if known.last_attempt.is_some() => DialReason::Retry,
            Some(known) if known.by_user => DialReason::User,
            Some(_) if self.hearsay.contains(addr) => DialReason::Pex,
            Some(_) | None => DialReason::Tracker,
        }
    }

    pub fn on_dialling(&mut self, addr: PeerAddr, now: Instant) {
        let addr = canonical(addr);
        if !self.known.contains_key(&addr) {
            self.insert(addr, false, now);
        }
        self.set_state(addr, State::Dialling);
        if let Some(known) = self.known.get_mut(&addr) {
            known.last_attempt = Some(now);
        }
    }

    /// A connection that we dialled is up.
    pub fn on_connected(&mut self, addr: PeerAddr, now: Instant) {
        self.on_dialling(addr, now);
        self.set_state(canonical(addr), State::Connected);
        self.confirm(canonical(addr));
    }

    /// A peer that dialled us is connected.
    pub fn on_incoming(&mut self, addr: PeerAddr) {
        let addr = canonical(addr);
        if self.incoming.insert(addr) {
            self.count(addr, |links| links.connected += 1);
        }
    }

    /// A peer that dialled us told where it listens: from now on the connection is one with that
    /// address, so that nobody dials a peer that is here already. False if that changes nothing.
    pub fn on_listens(&mut self, incoming: PeerAddr, listens: PeerAddr, now: Instant) -> bool {
        let (incoming, listens) = (canonical(incoming), canonical(listens));
        let state = self.known.get(&listens).map(|known| known.state);
        let is_free = !matches!(state, Some(State::Connected | State::Dialling));
        if !is_free || !self.incoming.contains(&incoming) {
            return false;
        }
        if state.is_none() && !self.add(listens, PeerSource::Incoming, now) {
            return false;
        }
        self.incoming.remove(&incoming);
        self.count(incoming, |links| {
            links.connected = links.connected.saturating_sub(1);
        });
        self.set_state(listens, State::Connected);
        self.confirm(listens);
        true
    }

    pub fn on_dial_failed(&mut self, addr: PeerAddr, now: Instant) {
        let addr = canonical(addr);
        match self.known.get(&addr).map(|known| known.state) {
            Some(State::Dialling) => self.retire(addr, now, false),
            Some(State::Ready | State::Waiting(_) | State::Parked | State::Connected) | None => {}
        }
    }

    /// A connection is gone, whoever dialled. It was `useful` if it brought or took a block: then
    /// it is worth dialling again soon.
    pub fn on_closed(&mut self, addr: PeerAddr, now: Instant, useful: bool) {
        let addr = canonical(addr);
        if self.incoming.remove(&addr) {
            self.count(addr, |links| {
                links.connected = links.connected.saturating_sub(1);
            });
            return;
        }
        match self.known.get(&addr).map(|known| known.state) {
            Some(State::Connected | State::Dialling) => self.retire(addr, now, useful),
            Some(State::Ready | State::Waiting(_) | State::Parked) | None => {}
        }
    }

    /// The peer has everything: not dialled while we have everything too.
    pub fn on_seed(&mut self, addr: PeerAddr) {
        let addr = canonical(addr);
        if let Some(known) = self.known.get_mut(&addr) {
            known.is_seed = true;
            self.requeue(addr);
        }
    }

    /// Whether we have everything that we want.
    pub fn set_seeding(&mut self, seeding: bool) {
        if self.seeding == seeding {
            return;
        }
        self.seeding = seeding;
        let seeds: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.is_seed)
            .map(|(addr, _)| *addr)
            .collect();
        for addr in seeds {
            self.requeue(addr);
        }
    }

    /// The address turned out to be our own: never dialled again.
    pub fn on_own(&mut self, addr: PeerAddr) {
        let addr = canonical(addr);
        self.remove(addr);
        if self.own.len() < OWN_MAX {
            self.own.insert(addr);
        }
    }

    /// Never again: the whole address (of IPv6, the /64 that one machine has), on loopback the
    /// exact socket. The oldest bans give way to new ones.
    pub fn ban(&mut self, addr: PeerAddr) {
        let ban = Machine::of(canonical(addr));
        if !self.bans.insert(ban) {
            return;
        }
        self.ban_order.push_back(ban);
        if self.ban_order.len() > BANS_MAX
            && let Some(oldest) = self.ban_order.pop_front()
        {
            self.bans.remove(&oldest);
        }
        let idle: Vec<_> = self
            .known
            .iter()
            .filter(|(addr, known)| Machine::of(**addr) == ban && known.state.is_idle())
            .map(|(addr, _)| *addr)
            .collect();
        for addr in idle {
            self.remove(addr);
        }
    }

    pub fn is_banned(&self, addr: PeerAddr) -> bool {
        self.bans.contains(&Machine::of(canonical(addr)))
    }

    pub fn ban_count(&self) -> usize {
        self.bans.len()
    }

    /// When the first back-off ends or ended, until [`next_dial`](Self::next_dial) has seen it.
    /// Who is ready needs no timer: call that whenever there is room.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first().map(|&(until, _)| until)
    }

    /// Connections with this address (of IPv6, with its /64), whoever dialled. 0 for loopback,
    /// which is exempt from the cap.
    pub fn connected_from(&self, ip: IpAddr) -> usize {
        self.links
            .get(&network(ip.to_canonical()))
            .map_or(0, |links| links.connected)
    }

    /// Somebody is ready to be dialled who was never tried.
    pub fn has_untried(&self) -> bool {
        self.untried.iter().any(|addr| self.may_dial(*addr))
            || matches!(self.ready.first(), Some((Rank::User, None, _)))
    }

    /// Dialable addresses, connected or not.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Dialable addresses that we are neither connected to nor dialling.
    pub fn idle_len(&self) -> usize {
        self.known
            .values()
            .filter(|known| known.state.is_idle())
            .count()
    }

    fn may_dial(&self, addr: PeerAddr) -> bool {
        let links = self
            .links
            .get(&network(addr.socket_addr().ip()))
            .map_or(0, |links| links.connected + links.dialling);
        links < self.address_cap && !self.incoming.contains(&addr)
    }

    fn insert(&mut self, addr: PeerAddr, by_user: bool, now: Instant) {
        self.known.insert(
            addr,
            Known {
                by_user,
                is_seed: false,
                state: State::Parked,
                failures: 0,
                named_at: now,
                last_attempt: None,
            },
        );
        self.set_state(addr, State::Ready);
    }

    fn remove(&mut self, addr: PeerAddr) {
        self.set_state(addr, State::Parked);
        self.known.remove(&addr);
        self.hearsay.remove(addr);
    }

    /// The user names an address that we know from elsewhere: it is tried at once.
    fn promote(&mut self, addr: PeerAddr) {
        self.leave_queue(addr);
        if let Some(known) = self.known.get_mut(&addr) {
            known.by_user = true;
            known.failures = 0;
            if known.state.is_idle() {
                known.state = State::Parked;
                self.requeue(addr);
            }
        }
    }

    /// Makes room: hearsay goes first, then who failed most, of equals the one not heard of for
    /// longest. For an address that the user names, anybody idle; for hearsay, only other hearsay.
    fn evict(&mut self, newcomer: PeerSource) -> bool {
        let may_go = |addr: PeerAddr, known: &Known| match newcomer {
            PeerSource::User => true,
            PeerSource::Tracker | PeerSource::Incoming => {
                known.failures > 0 || self.hearsay.contains(addr)
            }
            PeerSource::Pex(_) => known.failures > 0 && self.hearsay.contains(addr),
        };
        let victim = self
            .known
            .iter()
            .filter(|(_, known)| known.state.is_idle() && !known.by_user)
            .filter(|(addr, known)| may_go(**addr, known))
            .max_by_key(|(addr, known)| {
                let is_hearsay = self.hearsay.contains(**addr);
                (is_hearsay, known.failures, Reverse(known.named_at))
            })
            .map(|(addr, _)| *addr);
        if let Some(addr) = victim {
            self.remove(addr);
        }
        victim.is_some()
    }

    /// A link or an attempt ended: back-off, or forget it if it is banned.
    fn retire(&mut self, addr: PeerAddr, now: Instant, useful: bool) {
        if self.is_banned(addr) {
            self.remove(addr);
            return;
        }
        let Some(known) = self.known.get_mut(&addr) else {
            return;
        };
        known.failures = if useful {
            0
        } else {
            known.failures.saturating_add(1)
        };
        let until = now + known.back_off(addr);
        let parked = known.is_seed && self.seeding;
        self.set_state(
            addr,
            if parked {
                State::Parked
            } else {
                State::Waiting(until)
            },
        );
    }

    /// An idle address whose usefulness changed.
    fn requeue(&mut self, addr: PeerAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        match known.state {
            State::Ready | State::Waiting(_) if known.is_seed && self.seeding => {
                self.set_state(addr, State::Parked);
            }
            State::Parked if !(known.is_seed && self.seeding) => {
                self.set_state(addr, State::Ready);
            }
            State::Ready
            | State::Waiting(_)
            | State::Parked
            | State::Dialling
            | State::Connected => {}
        }
    }

    /// The only place where a state changes: the queues and counts follow it.
    fn set_state(&mut self, addr: PeerAddr, state: State) {
        self.leave_queue(addr);
        let Some(known) = self.known.get_mut(&addr) else {
            return;
        };
        let former = std::mem::replace(&mut known.state, state);
        let rank = if known.by_user {
            Rank::User
        } else {
            Rank::Other
        };
        let last_attempt = known.last_attempt;
        match former {
            State::Dialling => self.count(addr, |links| {
                links.dialling = links.dialling.saturating_sub(1);
            }),
            State::Connected => self.count(addr, |links| {
                links.connected = links.connected.saturating_sub(1);
            }),
            State::Ready | State::Waiting(_) | State::Parked => {}
        }
        match state {
            State::Ready if rank == Rank::Other && last_attempt.is_none() => {
                self.untried.push(addr);
            }
            State::Ready => {
                self.ready.insert((rank, last_attempt, addr));
            }
            State::Waiting(until) => {
                self.waiting.insert((until, addr));
            }
            State::Parked => {}
            State::Dialling => self.count(addr, |links| links.dialling += 1),
            State::Connected => self.count(addr, |links| links.connected += 1),
        }
    }

    fn leave_queue(&mut self, addr: PeerAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        match known.state {
            State::Ready if !known.by_user && known.last_attempt.is_none() => {
                self.untried.retain(|other| *other != addr);
            }
            State::Ready => {
                let rank = if known.by_user {
                    Rank::User
                } else {
                    Rank::Other
                };
                self.ready.remove(&(rank, known.last_attempt, addr));
            }
            State::Waiting(until) => {
                self.waiting.remove(&(until, addr));
            }
            State::Parked | State::Dialling | State::Connected => {}
        }
    }

    fn count(&mut self, addr: PeerAddr, change: impl FnOnce(&mut Links)) {
        let ip = addr.socket_addr().ip();
        if ip.is_loopback() {
            return;
        }
        let links = self.links.entry(network(ip)).or_default();
        change(links);
        if *links == Links::default() {
            self.links.remove(&network(ip));
        }
    }
}

/// This part of the list, at most, is hearsay.
const HEARSAY_SHARE: usize = 4;
/// Bans remembered.
const BANS_MAX: usize = 4096;
/// Own addresses remembered.
const OWN_MAX: usize = 64;

#[cfg(test)]
mod tests;
