//! One torrent of a session: its peers, and the policies that decide about them.
//!
//! This file holds the state, the clockwork and the end of a torrent's life. Peers that come and go
//! are in `torrent/connections.rs`, what they say in `messages.rs`, blocks that come in
//! `download.rs`, choking and blocks that go out in `upload.rs`, extensions (BEP 10) in
//! `extensions.rs`, fetching the info dictionary in `magnet.rs`, super-seeding in `superseeding.rs`,
//! and what all of it adds up to in `completion.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dunlin_metainfo::{Bitfield, InfoHash, Layout, PieceIndex, Sha1Digest};
use dunlin_proto::rng::Rng;
use dunlin_proto::time::Instant;
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use crate::alert::Alert;
use crate::announcer::Announcer;
use crate::choker::Choker;
use crate::command::Priority;
use crate::config::Config;
use crate::event::{
    Action, DiskError, DiskJob, DiskOp, JobId, PeerAddr, PeerKey, PeerSource, TorrentKey,
    TrackerFailure, TrackerKey,
};
use crate::explain::StallClock;
use crate::external::{External, Voter};
use crate::key_map::KeyMap;
use crate::peer::Peer;
use crate::peer_list::PeerList;
use crate::picker::Picker;
use crate::rate_limit::{RateLimiter, Turns};
use crate::reason::CloseReason;
use crate::snapshot::{PeerSnapshot, TorrentSnapshot, TorrentState};
use crate::stats::RateMeter;
use crate::verify::Verify;

mod asking;
mod completion;
mod connections;
mod download;
mod extensions;
mod magnet;
mod messages;
mod pex;
mod stall;
mod start;
mod superseeding;
mod upload;

pub(crate) use magnet::unknown_layout;

use magnet::Magnet;
use superseeding::SuperSeeding;

/// A removed torrent waits this long for its `stopped` announce and its last disk jobs.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Peers whose gifts are remembered for the summary.
const GIVERS_MAX: usize = 256;

/// What every torrent of a session shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) down: RateLimiter,
    pub(crate) up: RateLimiter,
    pub(crate) down_turns: Turns,
    pub(crate) up_turns: Turns,
    /// Bytes requested, or received and not yet written: bounded by `buffer_bytes_max`.
    pub(crate) buffered: u64,
    pub(crate) next_job: u64,
    /// Peers that we unchoke, over all torrents.
    pub(crate) unchoked: usize,
    /// Torrents that would ask for more if there were memory.
    pub(crate) starved: BTreeSet<TorrentKey>,
    pub(crate) dropped_events: u64,
    /// Our own address as others see it.
    pub(crate) external: External,
}

impl Shared {
    pub(crate) fn alert(&mut self, alert: Alert) {
        self.actions.push_back(Action::Alert(alert));
    }
}

#[derive(Debug)]
pub struct Torrent {
    key: TorrentKey,
    info_hash: InfoHash,
    layout: Arc<Layout>,
    piece_digests: Arc<[Sha1Digest]>,
    /// The info dictionary, for peers that lack it. Empty if it is not handed on.
    info: Arc<[u8]>,
    /// While the info dictionary is not here. Then the layout is one of nothing.
    magnet: Option<Box<Magnet>>,
    state: TorrentState,
    seed_when_complete: bool,
    /// While some peer does not know everything that we have (BEP 16).
    super_seed: Option<Box<SuperSeeding>>,

    picker: Picker,
    verify: Verify,
    choker: Choker,
    peer_list: PeerList,
    announcer: Announcer,
    /// The URL of the announce in flight.
    announcing: String,
    tracker_id: Option<Vec<u8>>,
    announce_key: u32,

    /// Trackers alone name peers (BEP 27).
    private: bool,
    peers: KeyMap<Box<Peer>>,
    /// Counts the changes of who is connected and where they listen.
    connections_version: u64,
    /// Closed by us, not yet confirmed by the host.
    closing: BTreeSet<PeerKey>,
    dialling: usize,
    last_replacement: Instant,

    jobs: BTreeMap<JobId, Job>,
    /// Files that are whole and wait for their final name.
    unnamed_files: BTreeSet<usize>,
    priorities: Vec<Priority>,
    down: RateLimiter,
    up: RateLimiter,
    /// Who is served next while an upload limit holds.
    serve_after: PeerKey,
    /// Who asks next while a download limit or the memory ceiling holds.
    request_after: PeerKey,
    requests_are_held_back: bool,
    /// Some peer may not be asked for more before a piece is judged.
    somebody_waits_for_a_verdict: bool,
    /// Bytes of full pieces that the disk has not judged yet.
    unjudged_bytes: u64,

    stats: Stats,
    stalls: StallClock,
    resume: ResumeKeeper,
    complete_is_told: bool,
    stop_deadline: Option<Instant>,
    next_housekeeping: Instant,
    /// When upload limits let the next block pass, if one waits.
    next_serving: Option<Instant>,
    /// When download limits or a refusing peer let the next request pass, if one waits.
    next_requesting: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Write { piece: PieceIndex },
    Finish { piece: PieceIndex },
    Forget,
    CompleteFile { file: usize },
    Sync { clean_up: bool },
    SaveResume,
    RemoveResume,
}

#[derive(Debug)]
struct Stats {
    started_at: Instant,
    downloaded: u64,
    uploaded: u64,
    duplicate: u64,
    failed_hash: u64,
    down: RateMeter,
    up: RateMeter,
    peak_rate: u64,
    /// Bytes that peers gave us, and how long they were connected.
    givers: BTreeMap<PeerAddr, (u64, Duration)>,
}

/// Decides when resume data is due, and knows what it may claim.
#[derive(Debug)]
struct ResumeKeeper {
    synced: Bitfield,
    /// What the syncs under way will have made durable, oldest first: one of its time, one of the
    /// end.
    syncing: VecDeque<Bitfield>,
    last_sync: Instant,
    /// The sync of a complete torrent failed: it is due again when the disk is repaired.
    sync_has_failed: bool,
    unsaved_bytes: u64,
    last_saved: Instant,
    is_saving: bool,
    downloaded_before: u64,
    uploaded_before: u64,
}

impl Torrent {
    pub(crate) fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// Whether it waits for its info dictionary.
    pub(crate) fn is_magnet(&self) -> bool {
        self.magnet.is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop_deadline.is_some()
    }

    /// The earliest time at which [`Torrent::tick`] has something to do.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if let Some(stop) = self.stop_deadline {
            // After that only the disk is waited for, and its answer is an event.
            return (stop > now).then_some(stop);
        }
        // Who lacks something accounts for every second of it.
        let busy = self.is_busy() || self.is_incomplete();
        let dial = if self.may_transfer() {
            self.peer_list.next_deadline()
        } else {
            None
        };
        let deadlines = [
            self.next_serving,
            self.next_requesting,
            self.announcer.deadline(),
            busy.then_some(self.next_housekeeping),
            (!self.peers.is_empty()).then(|| self.choker.deadline()),
            self.magnet.as_ref().and_then(|magnet| magnet.deadline()),
            dial.map(|at| at.max(self.next_housekeeping)),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn is_busy(&self) -> bool {
        !self.peers.is_empty() || self.dialling > 0 || self.resume.unsaved_bytes > 0
    }

    pub(crate) fn tick(&mut self, shared: &mut Shared, now: Instant) {
        if self.next_serving.take_if(|at| *at <= now).is_some() {
            self.serve_metadata_to_all(shared, now);
            self.serve_all(shared, now);
        }
        if self.next_requesting.take_if(|at| *at <= now).is_some() {
            self.request_all(shared, now);
        }
        if self.choker.deadline() <= now {
            self.rechoke(shared, now);
        }
        self.tick_magnet(shared, now);
        if self.next_housekeeping <= now {
            self.next_housekeeping = self.stats.down.next_second(now);
            self.keep_house(shared, now);
        }
        self.announce(shared, now);
    }

    fn keep_house(&mut self, shared: &mut Shared, now: Instant) {
        self.account_for_seconds(shared, now);
        self.stats.peak_rate = self.stats.peak_rate.max(self.stats.down.rate_over(now, 5));
        self.check_timeouts(shared, now);
        self.admit_newcomers(shared, now);
        if self.is_busy()
            && matches!(
                self.state,
                TorrentState::Downloading | TorrentState::FetchingMetadata { .. }
            )
            && !self.peers.values().any(|peer| peer.interesting > 0)
        {
            // Nobody connected has what we lack: without new peers we would wait for ever.
            self.announcer.want_peers(now);
        }
        self.tell_of_peers(shared, now);
        self.reveal_to_all(shared, now);
        self.replace_least_useful(shared, now);
        self.dial(shared, now);
        self.request_all(shared, now);
        self.save_resume_if_due(shared, now);
        self.sync_if_due(shared, now);
    }

    // The end of a torrent.

    /// Ends everything: peers at once, the tracker and the disk within [`STOP_TIMEOUT`].
    pub(crate) fn stop(&mut self, shared: &mut Shared, now: Instant) {
        if self.is_stopping() {
            return;
        }
        self.account_for_seconds(shared, now);
        self.end_stall(shared);
        self.stop_deadline = Some(now + STOP_TIMEOUT);
        shared.down_turns.go(self.key);
        shared.up_turns.go(self.key);
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.close(shared, key, CloseReason::TorrentStopped, now);
        }
        self.forget_unfinished(shared);
        if self.resume.unsaved_bytes > 0 {
            self.save_resume(shared, now);
        }
        self.announcer.stop(now);
        self.announce(shared, now);
        self.state = TorrentState::Stopping;
    }

    /// Nothing is left to wait for.
    pub(crate) fn is_gone(&self, now: Instant) -> bool {
        let Some(deadline) = self.stop_deadline else {
            return false;
        };
        let is_quiet = self.closing.is_empty() && self.announcer.is_stopped();
        // A key may not be reused while its jobs are out, so these have no deadline.
        self.jobs.is_empty() && (is_quiet || now >= deadline)
    }

    // Trackers.

    fn announce(&mut self, shared: &mut Shared, now: Instant) {
        let Some((tracker, url, event)) = self.announcer.poll(now) else {
            return;
        };
        let is_partial_seed = self.is_upload_only() && !self.picker.have_bits().is_full();
        let event = if event == AnnounceEvent::None && is_partial_seed {
            // BEP 21: wants no more, and is no seed.
            AnnounceEvent::Paused
        } else {
            event
        };
        let wants_peers = event != AnnounceEvent::Stopped && !self.is_stopping();
        let request = AnnounceRequest {
            info_hash: self.info_hash,
            peer_id: shared.config.peer_id,
            port: shared.config.listen_port,
            uploaded: self.stats.uploaded,
            downloaded: self.stats.downloaded,
            left: self.left_bytes(),
            event,
            num_want: if wants_peers {
                shared.config.num_want
            } else {
                0
            },
            key: self.announce_key,
            tracker_id: self.tracker_id.clone(),
        };
        self.announcing.clone_from(&url);
        shared.actions.push_back(Action::Announce {
            torrent: self.key,
            tracker,
            url,
            request,
        });
    }

    pub(crate) fn on_tracker_reply(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        tracker: TrackerKey,
        result: Result<AnnounceResponse, TrackerFailure>,
    ) {
        let torrent = self.key;
        let url = std::mem::take(&mut self.announcing);
        match result {
            Ok(response) => {
                self.on_seeds_counted(shared, response.complete);
                let interval = Duration::from_secs(u64::from(response.interval_s));
                let min = response
                    .min_interval_s
                    .map(|s| Duration::from_secs(u64::from(s)));
                self.announcer.on_reply(now, tracker, interval, min);
                if response.tracker_id.is_some() {
                    self.tracker_id = response.tracker_id;
                }
                if let Some(ip) = response.external_ip {
                    shared.external.on_vote(Voter::Tracker(url.clone()), ip);
                }
                if let Some(message) = response.warning {
                    shared.alert(Alert::TrackerWarning {
                        torrent,
                        url: url.clone(),
                        message,
                    });
                }
                let peers = response.peers.len();
                if !self.is_stopping() {
                    let found = response.peers.into_iter().map(PeerAddr::Tcp).collect();
                    self.on_peers_found(shared, now, PeerSource::Tracker, found);
                }
                let next = self.next_announce_in(now);
                shared.alert(Alert::Announced {
                    torrent,
                    url,
                    peers,
                    next,
                });
            }
            Err(failure) => {
                self.announcer.on_failure(now, tracker);
                let next = self.next_announce_in(now);
                let message = failure.message;
                shared.alert(Alert::AnnounceFailed {
                    torrent,
                    url,
                    message,
                    next,
                });
            }
        }
        self.announce(shared, now);
    }

    fn next_announce_in(&self, now: Instant) -> Duration {
        self.announcer
            .deadline()
            .map_or(Duration::ZERO, |at| at.since(now))
    }

    fn disk(&mut self, shared: &mut Shared, job: Job, op: DiskOp) {
        let id = JobId(shared.next_job);
        shared.next_job += 1;
        self.jobs.insert(id, job);
        shared.actions.push_back(Action::Disk(DiskJob {
            id,
            torrent: self.key,
            op,
        }));
    }

    /// Stops the transfer until a [`Command::Resume`](crate::command::Command::Resume). While it
    /// ends anyway there is only something to tell: what was complete may not be durable.
    fn fail(&mut self, shared: &mut Shared, now: Instant, error: DiskError) {
        if matches!(self.state, TorrentState::Failed(_)) {
            return;
        }
        shared.alert(Alert::DiskFailed {
            torrent: self.key,
            error: error.clone(),
        });
        if self.is_stopping() {
            return;
        }
        self.state = TorrentState::Failed(error);
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.cancel_requests(shared, key);
            self.take_back_requests(shared, key);
            self.update_interest(shared, key, now);
        }
    }

    pub(crate) fn retry(&mut self, shared: &mut Shared, now: Instant) {
        if !matches!(self.state, TorrentState::Failed(_)) {
            return;
        }
        self.go_on();
        for file in self.unnamed_files.clone() {
            let job = Job::CompleteFile { file };
            if !self.jobs.values().any(|&under_way| under_way == job) {
                self.disk(shared, job, DiskOp::CompleteFile { file });
            }
        }
        if self.resume.sync_has_failed {
            self.sync(shared, now);
        }
        self.check_completion(shared, now);
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.update_interest(shared, key, now);
        }
        self.request_all(shared, now);
    }

    // For whoever shows it.

    pub(crate) fn snapshot(&self, shared: &Shared, now: Instant) -> TorrentSnapshot {
        let wanted = |piece: &PieceIndex| self.picker.have(*piece) || self.picker.is_wanted(*piece);
        let len = |piece: PieceIndex| u64::from(self.layout.piece_len(piece));
        let wanted_pieces = self.layout.all_pieces().filter(wanted);
        let (have_bytes, wanted_bytes) = wanted_pieces.fold((0, 0), |(have, all), piece| {
            let has = if self.picker.have(piece) {
                len(piece)
            } else {
                0
            };
            (have + has, all + len(piece))
        });
        TorrentSnapshot {
            state: self.shown_state(),
            have_bytes,
            wanted_bytes,
            pieces_have: self.picker.have_bits().count_ones(),
            pieces: self.layout.pieces(),
            downloaded: self.stats.downloaded,
            uploaded: self.stats.uploaded,
            duplicate: self.stats.duplicate,
            failed_hash: self.stats.failed_hash,
            down_rate: self.stats.down.rate(now),
            up_rate: self.stats.up.rate(now),
            peers: self
                .peers
                .iter()
                .map(|(key, peer)| self.peer_snapshot(*key, peer, now))
                .collect(),
            known_peers: self.peer_list.idle_len(),
            stall: self.stall(),
            stalled_s: self.stalls.run(),
            stalls: self.stall_counts(shared, now),
        }
    }

    pub(crate) fn shown_state(&self) -> TorrentState {
        let fetching = self.magnet.as_ref().filter(|_| !self.is_stopping());
        fetching.map_or_else(|| self.state.clone(), |magnet| magnet.state())
    }

    fn peer_snapshot(&self, key: PeerKey, peer: &Peer, now: Instant) -> PeerSnapshot {
        PeerSnapshot {
            addr: peer.addr,
            direction: peer.direction,
            client: peer.client.clone(),
            pieces_have: if peer.is_seed {
                self.layout.pieces()
            } else {
                peer.has.count_ones()
            },
            is_seed: peer.is_giver_only(),
            am_choking: peer.am_choking,
            am_interested: peer.am_interested,
            peer_choking: peer.peer_choking,
            peer_interested: peer.peer_interested,
            preferred: !peer.am_choking && self.choker.is_preferred(key),
            optimistic: self.choker.optimistic() == Some(key),
            snubbed: peer.snubbed,
            downloaded: peer.down.total(),
            uploaded: peer.up.total(),
            down_rate: peer.down.rate(now),
            up_rate: peer.up.rate(now),
        }
    }

    /// Panics if the state contradicts itself: a bug, whatever the network did.
    pub(crate) fn check_invariants(&self) {
        self.picker.check_invariants();
        if let Some(magnet) = &self.magnet {
            magnet.check_invariants();
        }
        if let Some(seeding) = &self.super_seed {
            seeding.check_invariants();
        }
        for (key, peer) in self.peers.iter() {
            assert!(
                !self.closing.contains(key),
                "a closing peer is still connected"
            );
            assert_eq!(
                peer.serving_bytes,
                peer.serving
                    .iter()
                    .map(|&run| u64::from(self.layout.run_len(run)))
                    .sum::<u64>()
            );
            let interesting = self.layout.all_pieces().filter(|&piece| {
                self.picker.is_wanted(piece) && (peer.is_seed || peer.has.get(piece.get()))
            });
            assert_eq!(
                peer.interesting as usize,
                interesting.count(),
                "interest of {}",
                peer.addr
            );
            // Of an allowed piece that it rejected, it owes an answer to each request.
            let may_be_open = |piece| {
                !peer.peer_choking
                    || peer.allowed_in.contains(&piece)
                    || peer.rejected_in.contains(&piece)
            };
            assert!(
                peer.requests
                    .blocks()
                    .all(|block| may_be_open(block.piece())),
                "requests open at a peer that chokes us"
            );
        }
        for job in self.jobs.values() {
            if let Job::CompleteFile { file } = job {
                assert!(self.unnamed_files.contains(file), "file {file} has a name");
            }
        }
    }

    pub(crate) fn unchoked(&self) -> usize {
        self.peers.values().filter(|peer| !peer.am_choking).count()
    }

    pub(crate) fn open_request_bytes(&self) -> u64 {
        self.peers.values().map(|peer| peer.requests.bytes()).sum()
    }
}

/// The earlier of two times, if there is one.
fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}
