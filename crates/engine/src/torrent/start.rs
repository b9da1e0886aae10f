//! The beginning of a torrent: what it is with an info hash alone, and what its content adds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_proto::time::Instant;

use super::magnet::unknown_layout;
use super::{ResumeKeeper, Shared, Stats, Torrent};
use crate::announcer::Announcer;
use crate::choker::Choker;
use crate::command::{AddMagnet, AddTorrent, Priority};
use crate::config::{Config, PieceOrder};
use crate::event::{PeerKey, PeerSource, TorrentKey};
use crate::explain::StallClock;
use crate::key_map::KeyMap;
use crate::peer_list::PeerList;
use crate::picker::{Picker, PickerConfig};
use crate::rate_limit::RateLimiter;
use crate::resume::Resume;
use crate::snapshot::TorrentState;
use crate::stats::RateMeter;
use crate::verify::Verify;

impl Torrent {
    pub(crate) fn new(
        key: TorrentKey,
        mut params: AddTorrent,
        shared: &mut Shared,
        now: Instant,
    ) -> Self {
        let known = AddMagnet {
            info_hash: params.info_hash,
            trackers: std::mem::take(&mut params.trackers),
            peers: std::mem::take(&mut params.peers),
            limits: params.limits,
        };
        let mut torrent = Self::bare(key, known, shared, now);
        torrent.take_content(params, shared, now);
        torrent
    }

    /// A torrent of nothing.
    pub(super) fn bare(
        key: TorrentKey,
        params: AddMagnet,
        shared: &mut Shared,
        now: Instant,
    ) -> Self {
        let config = &shared.config;
        let mut peer_list = PeerList::new(config.known_peers_max);
        peer_list.set_address_cap(config.max_peers_per_address);
        for &addr in &params.peers {
            peer_list.add(addr, PeerSource::User, now);
        }
        let choker = Choker::new(
            config.preferred_neighbors,
            config.unchoking_interval,
            config.optimistic_interval,
            now,
        );
        let (layout, resume) = (unknown_layout(), Resume::empty(0));
        let picker_config = picker_config(config, PieceOrder::default());
        Self {
            key,
            info_hash: params.info_hash,
            state: TorrentState::Downloading,
            seed_when_complete: false,
            super_seed: None,
            picker: Picker::new(Arc::clone(&layout), &resume.written, picker_config),
            verify: Verify::default(),
            choker,
            peer_list,
            announcer: Announcer::new(params.trackers, &mut shared.rng, now),
            announcing: String::new(),
            tracker_id: None,
            announce_key: shared.rng.next_u64() as u32,
            // Nobody knows yet whether it is, and BEP 27 cannot be made up for.
            private: true,
            peers: KeyMap::default(),
            connections_version: 0,
            closing: BTreeSet::new(),
            dialling: 0,
            last_replacement: now,
            jobs: BTreeMap::new(),
            unnamed_files: BTreeSet::new(),
            priorities: Vec::new(),
            down: RateLimiter::new(params.limits.down, now),
            up: RateLimiter::new(params.limits.up, now),
            serve_after: PeerKey(0),
            request_after: PeerKey(0),
            requests_are_held_back: false,
            somebody_waits_for_a_verdict: false,
            unjudged_bytes: 0,
            stats: Stats::new(now),
            stalls: StallClock::default(),
            resume: ResumeKeeper::new(resume, now),
            complete_is_told: false,
            stop_deadline: None,
            next_housekeeping: now,
            next_serving: None,
            next_requesting: None,
            piece_digests: Arc::from([]),
            info: Arc::from([]),
            magnet: None,
            layout,
        }
    }

    /// What there is to transfer, and what of it is here already.
    pub(super) fn take_content(&mut self, params: AddTorrent, shared: &mut Shared, now: Instant) {
        let AddTorrent { layout, resume, .. } = params;
        let config = picker_config(&shared.config, params.order);
        self.picker = Picker::new(Arc::clone(&layout), &resume.written, config);
        self.resume = ResumeKeeper::new(resume, now);
        self.piece_digests = params.piece_digests;
        self.info = params.info;
        self.layout = layout;
        self.private = params.private;
        self.seed_when_complete = params.seed_when_complete;
        let is_normal = |&priority: &Priority| priority == Priority::Normal;
        if !params.priorities.iter().all(is_normal) {
            self.set_priorities(params.priorities);
        }
        self.complete_ready_files(shared);
        // Nobody sends padding: such pieces only wait for their verdict.
        for piece in self.picker.padding_pieces().collect::<Vec<_>>() {
            self.finish(shared, piece);
        }
        self.check_completion(shared, now);
    }
}

impl Stats {
    fn new(now: Instant) -> Self {
        Self {
            started_at: now,
            downloaded: 0,
            uploaded: 0,
            duplicate: 0,
            failed_hash: 0,
            down: RateMeter::new(now),
            up: RateMeter::new(now),
            peak_rate: 0,
            givers: BTreeMap::new(),
        }
    }
}

impl ResumeKeeper {
    fn new(resume: Resume, now: Instant) -> Self {
        Self {
            synced: resume.synced,
            syncing: VecDeque::new(),
            last_sync: now,
            sync_has_failed: false,
            unsaved_bytes: 0,
            last_saved: now,
            is_saving: false,
            downloaded_before: resume.downloaded,
            uploaded_before: resume.uploaded,
        }
    }
}

fn picker_config(config: &Config, order: PieceOrder) -> PickerConfig {
    PickerConfig {
        order,
        started_pieces_max: config.started_pieces_max,
        random_first_pieces: config.random_first_pieces,
    }
}
