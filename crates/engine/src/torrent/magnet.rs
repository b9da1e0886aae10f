//! A torrent of which only the info hash is known: its info dictionary is fetched (BEP 9) while
//! connections, trackers and time-outs work as for any other. What peers say about pieces is kept,
//! and judged when the layout is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dunlin_metainfo::layout::PIECES_MAX;
use dunlin_metainfo::{BLOCK_LEN, Bitfield, Layout};
use dunlin_proto::peer::{Message, MetadataMessage, Violation};
use dunlin_proto::time::Instant;

use super::upload::REFUSED_MAX;
use super::{Shared, Torrent};
use crate::alert::Alert;
use crate::command::{AddMagnet, AddTorrent};
use crate::event::{Action, PeerAddr, PeerKey, PeerSource};
use crate::metadata::{Fetch, Outcome, TICK};
use crate::reason::CloseReason;
use crate::snapshot::TorrentState;

/// What a magnet has instead of a layout.
#[derive(Debug)]
pub(super) struct Magnet {
    fetch: Fetch,
    /// Length of the info dictionary, once it is here and waits for its promotion.
    done: Option<u32>,
    said: BTreeMap<PeerKey, Said>,
    next_tick: Option<Instant>,
}

/// What a peer said about pieces that nobody can name yet.
#[derive(Debug, Default)]
struct Said {
    /// `bitfield`, `have all` or `have none`.
    first: Option<Message>,
    haves: BTreeSet<u32>,
    allowed: Vec<u32>,
    /// The id under which it wants to hear of other peers.
    pex_id: u8,
}

impl Said {
    fn cost(&self) -> usize {
        let first = match &self.first {
            Some(Message::Bitfield(bits)) => bits.len(),
            Some(_) | None => 0,
        };
        first + self.haves.len() * HAVE_COST
    }

    /// aria2 sends a bitfield in place of many haves: what it said before holds all the same.
    fn add_bits(&mut self, more: Message) {
        match (&mut self.first, more) {
            (Some(Message::HaveAll), _) => {}
            (Some(Message::Bitfield(bits)), Message::Bitfield(more))
                if bits.len() == more.len() =>
            {
                bits.iter_mut()
                    .zip(more)
                    .for_each(|(bits, more)| *bits |= more);
            }
            (first, more) => *first = Some(more),
        }
    }

    /// The messages again, in an order that is legal.
    fn into_messages(self) -> impl Iterator<Item = Message> {
        let haves = self.haves.into_iter().map(|piece| Message::Have { piece });
        let allowed = self.allowed.into_iter();
        let allowed = allowed.map(|piece| Message::AllowedFast { piece });
        self.first.into_iter().chain(haves).chain(allowed)
    }
}

impl Magnet {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    pub(super) fn on_gone(&mut self, key: PeerKey) {
        self.said.remove(&key);
        self.fetch.on_gone(key);
    }

    /// The info dictionary is here and waits for its promotion.
    pub(super) fn is_fetched(&self) -> bool {
        self.done.is_some()
    }

    pub(super) fn state(&self) -> TorrentState {
        let (have, size) = match self.done {
            Some(len) => (len, Some(len)),
            None => self.fetch.progress(),
        };
        TorrentState::FetchingMetadata { have, size }
    }

    pub(super) fn check_invariants(&self) {
        self.fetch.check_invariants();
        let said: usize = self.said.values().map(Said::cost).sum();
        assert!(said <= SAID_MAX, "{said} bytes kept of what peers said");
    }
}

impl Torrent {
    pub(crate) fn magnet(
        key: super::TorrentKey,
        params: AddMagnet,
        shared: &mut Shared,
        now: Instant,
    ) -> Self {
        let magnet = Magnet {
            fetch: Fetch::new(params.info_hash),
            done: None,
            said: BTreeMap::new(),
            next_tick: None,
        };
        let mut torrent = Self::bare(key, params, shared, now);
        torrent.state = magnet.state();
        torrent.magnet = Some(Box::new(magnet));
        torrent
    }

    /// The info dictionary is here and describes a torrent: from now on it is one like any other,
    /// and the peers that are connected are its peers.
    pub(crate) fn promote(&mut self, mut params: AddTorrent, shared: &mut Shared, now: Instant) {
        let Some(magnet) = self.magnet.take() else {
            debug_assert!(false, "only a magnet is promoted");
            return;
        };
        for addr in std::mem::take(&mut params.peers) {
            self.peer_list.add(addr, PeerSource::User, now);
        }
        let trackers = std::mem::take(&mut params.trackers);
        self.announcer.add(trackers, now);
        self.down.set(params.limits.down, now);
        self.up.set(params.limits.up, now);
        let pieces = params.layout.pieces();
        for peer in self.peers.values_mut() {
            peer.has = Bitfield::new(pieces);
            peer.has_is_known = false;
        }
        self.state = TorrentState::Downloading;
        self.take_content(params, shared, now);
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.catch_up(shared, key, now);
        }
        for (key, said) in magnet.said {
            self.on_pex_id(shared, now, key, said.pex_id);
            for message in said.into_messages() {
                if let Err(violation) = self.follow_message(shared, now, key, message) {
                    self.close(shared, key, CloseReason::Violation(violation), now);
                }
            }
        }
        self.dial(shared, now);
    }

    /// Tells a peer that was told of nothing what is here already, and that we hand on metadata.
    fn catch_up(&mut self, shared: &mut Shared, key: PeerKey, now: Instant) {
        let have = self.picker.have_bits();
        // `have none` was said at the start (BEP 6), and there is no second bitfield.
        if have.count_ones() > CATCH_UP_HAVES_MAX {
            self.close(shared, key, CloseReason::LeastUseful, now);
            return;
        }
        for piece in have.iter_ones() {
            let message = Message::Have { piece };
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
        if self.peers.get(&key).is_some_and(|p| p.reserved.extended()) {
            self.introduce(shared, key);
        }
    }

    /// Messages that mean nothing without a layout end here; the others come back.
    pub(super) fn keep_for_later(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        message: Message,
    ) -> Result<Option<Message>, Violation> {
        match message {
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Port(_)
            | Message::Extended { .. } => return Ok(Some(message)),
            Message::Cancel(_) | Message::RejectRequest(_) | Message::SuggestPiece { .. } => {}
            Message::Request(request) => self.refuse_request(shared, now, key, request),
            Message::Have { piece } if piece >= PIECES_MAX => {
                return Err(Violation::PieceIndex(piece));
            }
            Message::Have { piece } => {
                self.keep(shared, now, key, |said| {
                    said.haves.insert(piece);
                });
                self.note_that_has_is_known(key);
            }
            Message::AllowedFast { piece } => {
                self.keep(shared, now, key, |said| {
                    if said.allowed.len() < ALLOWED_MAX {
                        said.allowed.push(piece);
                    }
                });
            }
            Message::HaveNone if self.note_that_has_is_known(key) => {
                return Err(Violation::HaveNoneLate);
            }
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                self.note_that_has_is_known(key);
                self.keep(shared, now, key, |said| said.add_bits(message));
            }
        }
        Ok(None)
    }

    /// Whether the peer had told us before what it has.
    fn note_that_has_is_known(&mut self, key: PeerKey) -> bool {
        let peer = self.peers.get_mut(&key);
        peer.is_some_and(|peer| std::mem::replace(&mut peer.has_is_known, true))
    }

    fn keep(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        note: impl FnOnce(&mut Said),
    ) {
        let Some(magnet) = &mut self.magnet else {
            return;
        };
        note(magnet.said.entry(key).or_default());
        // Whoever has said most goes first: that is nobody who speaks of a torrent of usual size.
        while let Some(magnet) = &self.magnet
            && magnet.said.values().map(Said::cost).sum::<usize>() > SAID_MAX
            && let Some((&longest, _)) = magnet.said.iter().max_by_key(|(_, said)| said.cost())
        {
            self.close(shared, longest, CloseReason::SaysTooMuch, now);
        }
    }

    /// Whether peers may be exchanged is not known before the metadata is (BEP 27).
    pub(super) fn keep_pex_id(&mut self, key: PeerKey, id: u8) {
        if let Some(magnet) = &mut self.magnet
            && self.peers.contains_key(&key)
        {
            magnet.said.entry(key).or_default().pex_id = id;
        }
    }

    fn refuse_request(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        request: dunlin_proto::peer::Request,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.refused_requests += 1;
        if peer.refused_requests > REFUSED_MAX {
            self.close(shared, key, CloseReason::RequestFlood, now);
        } else if peer.reserved.fast() {
            let message = Message::RejectRequest(request);
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
    }

    // Fetching.

    pub(super) fn is_metadata_source(&self, key: PeerKey) -> bool {
        let magnet = self.magnet.as_ref();
        magnet.is_some_and(|magnet| magnet.fetch.is_source(key))
    }

    /// A peer introduced itself: perhaps it has the metadata.
    pub(super) fn on_metadata_source(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        size: Option<u32>,
    ) {
        let (Some(magnet), Some(peer)) = (&mut self.magnet, self.peers.get(&key)) else {
            return;
        };
        if peer.metadata.their_id == 0 {
            magnet.fetch.on_gone(key);
        } else {
            magnet.fetch.on_source(now, key, peer.addr, size);
        }
        self.ask_for_metadata(shared, now);
    }

    pub(super) fn on_metadata_data(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        piece: u32,
        total_size: u32,
        bytes: Vec<u8>,
    ) -> Result<(), Violation> {
        let Some(magnet) = self.magnet.as_mut().filter(|m| m.done.is_none()) else {
            return Ok(());
        };
        match magnet.fetch.on_data(now, key, piece, total_size, bytes) {
            Outcome::Pending => {}
            Outcome::Nonsense => return Err(Violation::Metadata),
            Outcome::Done { info, from } => self.on_metadata(shared, info, from),
            Outcome::Failed { from } => self.on_wrong_metadata(shared, now, from),
        }
        self.ask_for_metadata(shared, now);
        Ok(())
    }

    pub(super) fn on_metadata_reject(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: PeerKey,
        piece: u32,
    ) {
        if let Some(magnet) = &mut self.magnet {
            magnet.fetch.on_reject(now, key, piece);
            self.ask_for_metadata(shared, now);
        }
    }

    pub(super) fn tick_magnet(&mut self, shared: &mut Shared, now: Instant) {
        let Some(magnet) = &mut self.magnet else {
            return;
        };
        if magnet.next_tick.take_if(|at| *at <= now).is_some() {
            magnet.fetch.tick(now);
            self.ask_for_metadata(shared, now);
        }
    }

    pub(super) fn ask_for_metadata(&mut self, shared: &mut Shared, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let Some(magnet) = self.magnet.as_mut().filter(|m| m.done.is_none()) else {
            return;
        };
        while let Some((key, piece)) = magnet.fetch.poll(now) {
            let Some(peer) = self.peers.get_mut(&key) else {
                debug_assert!(false, "a source that is not connected");
                magnet.fetch.on_gone(key);
                continue;
            };
            peer.last_sent = now;
            let message = Message::Extended {
                id: peer.metadata.their_id,
                payload: MetadataMessage::Request { piece }.encode(),
            };
            shared
                .actions
                .push_back(Action::Send { peer: key, message });
        }
        let is_active = magnet.fetch.is_active();
        magnet.next_tick = is_active.then(|| magnet.next_tick.unwrap_or(now + TICK));
    }

    fn on_metadata(&mut self, shared: &mut Shared, info: Arc<[u8]>, from: Vec<PeerAddr>) {
        let Some(magnet) = &mut self.magnet else {
            return;
        };
        let bytes = info.len() as u32;
        magnet.done = Some(bytes);
        magnet.fetch = Fetch::new(self.info_hash);
        magnet.next_tick = None;
        let torrent = self.key;
        shared.alert(Alert::MetadataDone {
            torrent,
            bytes,
            from,
        });
        shared.actions.push_back(Action::Metadata { torrent, info });
    }

    fn on_wrong_metadata(&mut self, shared: &mut Shared, now: Instant, from: Vec<PeerAddr>) {
        let liar = match from[..] {
            [liar] => Some(liar),
            _ => None,
        };
        shared.alert(Alert::MetadataFailed {
            torrent: self.key,
            from,
            banned: liar.is_some(),
        });
        if let Some(liar) = liar {
            self.peer_list.ban(liar);
            self.close_banned(shared, now);
        }
    }
}

/// The layout of a torrent that nobody knows: no pieces, no files.
pub(crate) fn unknown_layout() -> Arc<Layout> {
    let layout = Layout::new(u64::from(BLOCK_LEN), []);
    Arc::new(layout.expect("a layout of nothing is valid"))
}

/// Bytes kept of what all peers of a magnet say about pieces: the bitfields of 80 peers of a torrent
/// of 400,000 pieces.
const SAID_MAX: usize = 4 * 1024 * 1024;

/// Bytes that one `have` costs us.
const HAVE_COST: usize = 8;

/// The most pieces that we note as allowed by a peer.
const ALLOWED_MAX: usize = 64;

/// Pieces that we tell a connected peer of one by one; beyond that it has to connect again.
const CATCH_UP_HAVES_MAX: u32 = 50_000;
