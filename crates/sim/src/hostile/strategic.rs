//! A peer that spends its uplink where it returns most (BitTyrant, NSDI 2007).
//!
//! For each peer it keeps an estimate of what that gives when it reciprocates and of the price of
//! its reciprocation, unchokes in the order of their ratio until its uplink is sold, and gives each
//! no more than the price. Peers that reciprocate become cheaper, others dearer.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_engine::PeerKey;
use dunlin_metainfo::Block;
use dunlin_proto::peer::Message;
use dunlin_proto::time::Instant;

use super::download::Download;
use super::{Act, Io, Script, block};
use crate::content::honest_tag;

/// Time between two choices, as everybody else's.
const ROUND: Duration = Duration::from_secs(10);

/// The price of a peer that does not reciprocate rises by this (the paper's delta).
const DEARER: f64 = 1.2;

/// The price of a peer that reciprocated for `PATIENCE` rounds falls by this (the paper's gamma).
const CHEAPER: f64 = 0.9;

/// Rounds (the paper's r).
const PATIENCE: u32 = 3;

/// Shares of the uplink that a peer is thought to cost, and to give, before anything is known.
const FIRST_SLOTS: f64 = 5.0;

#[derive(Debug)]
pub(super) struct Strategic {
    download: Download,
    /// Bytes per second.
    up: f64,
    deals: BTreeMap<PeerKey, Deal>,
    next_round: Instant,
}

#[derive(Debug)]
struct Deal {
    /// Bytes per second that it gives when it reciprocates.
    gain: f64,
    /// Bytes per second that it wants for that.
    price: f64,
    since: Instant,
    unchoked: bool,
    /// Rounds in a row in which it reciprocated.
    faithful: u32,
    received_before: u64,
    /// Bytes that it may be sent now.
    credit: f64,
    /// It said itself what it gives.
    is_known: bool,
}

impl Strategic {
    pub(super) fn new(up: u64) -> Self {
        Self {
            download: Download::new(),
            up: up as f64,
            deals: BTreeMap::new(),
            next_round: Instant::START,
        }
    }

    fn round(&mut self, io: &mut Io<'_>) {
        self.next_round = io.now + ROUND;
        self.learn(io);
        let mut offers: Vec<(PeerKey, f64, f64)> = self
            .deals
            .iter()
            .filter(|(peer, _)| self.wants_something(**peer))
            .map(|(&peer, deal)| (peer, deal.gain / deal.price, deal.price))
            .collect();
        offers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut left = self.up;
        let bought: Vec<PeerKey> = offers
            .into_iter()
            .take_while(|(_, _, price)| {
                left -= price;
                left >= 0.0
            })
            .map(|(peer, _, _)| peer)
            .collect();
        for (peer, deal) in &mut self.deals {
            let unchoke = bought.contains(peer);
            if unchoke != deal.unchoked {
                deal.unchoked = unchoke;
                deal.credit = 0.0;
                let message = if unchoke {
                    Message::Unchoke
                } else {
                    Message::Choke
                };
                io.acts.push(Act::Send(*peer, message));
            }
        }
    }

    fn wants_something(&self, peer: PeerKey) -> bool {
        let neighbour = self.download.peers.get(&peer);
        neighbour.is_some_and(|neighbour| neighbour.is_interested)
    }

    /// What the last round says about gains and prices.
    fn learn(&mut self, io: &Io<'_>) {
        let piece_len = f64::from(io.layout.piece_length());
        for (peer, deal) in &mut self.deals {
            let Some(neighbour) = self.download.peers.get(peer) else {
                continue;
            };
            let received = neighbour.received - deal.received_before;
            deal.received_before = neighbour.received;
            let rate = received as f64 / ROUND.as_secs_f64();
            if !neighbour.is_choking_us && received > 0 {
                deal.gain = rate;
                deal.is_known = true;
                deal.faithful += 1;
                if deal.faithful >= PATIENCE {
                    deal.price *= CHEAPER;
                }
                continue;
            }
            deal.faithful = 0;
            if deal.unchoked {
                deal.price *= DEARER;
            }
            if !deal.is_known {
                // What it downloads is what those like it upload, spread over their slots.
                let age = io.now.since(deal.since).as_secs_f64().max(1.0);
                let downloads = neighbour.announced as f64 * piece_len / age;
                deal.gain = (downloads / FIRST_SLOTS).max(1.0);
            }
        }
    }

    fn serve(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        let (Some(deal), Some(neighbour)) = (
            self.deals.get_mut(&peer),
            self.download.peers.get_mut(&peer),
        ) else {
            return;
        };
        if !deal.unchoked {
            neighbour.asked_us.clear();
            return;
        }
        // Two seconds' worth at once, at most.
        deal.credit = (deal.credit + deal.price).min(2.0 * deal.price + BLOCK_SLACK);
        while let Some(&request) = neighbour.asked_us.front()
            && deal.credit >= f64::from(request.len)
        {
            neighbour.asked_us.pop_front();
            let Some(block) = block(io.layout, request) else {
                continue;
            };
            if self.download.have.get(request.piece) {
                deal.credit -= f64::from(request.len);
                let tag = honest_tag(request.piece, block.index());
                io.acts.push(Act::Block(peer, io.layout.run_of(block), tag));
            }
        }
    }
}

/// One block can always be saved for.
const BLOCK_SLACK: f64 = 16_384.0;

impl Script for Strategic {
    fn connected(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        let have = self.download.have.clone();
        self.download.connected(peer, &have, io);
        let deal = Deal {
            gain: self.up / FIRST_SLOTS,
            price: self.up / FIRST_SLOTS,
            since: io.now,
            unchoked: false,
            faithful: 0,
            received_before: 0,
            credit: 0.0,
            is_known: false,
        };
        self.deals.insert(peer, deal);
    }

    fn message(&mut self, peer: PeerKey, message: &Message, io: &mut Io<'_>) {
        self.download.message(peer, message, io);
    }

    fn block(&mut self, peer: PeerKey, block: Block, io: &mut Io<'_>) {
        if let Some(piece) = self.download.block(peer, block, io) {
            for &other in self.download.peers.keys() {
                io.acts.push(Act::Send(other, Message::Have { piece }));
            }
        }
    }

    fn gone(&mut self, peer: PeerKey, _: &mut Io<'_>) {
        self.download.gone(peer);
        self.deals.remove(&peer);
    }

    fn second(&mut self, peer: PeerKey, io: &mut Io<'_>) {
        if io.now >= self.next_round {
            self.round(io);
        }
        self.serve(peer, io);
    }

    fn dials(&self) -> bool {
        true
    }
}
