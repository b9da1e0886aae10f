//! Runs transfers until they are done: the heart of `get`, `seed` and `peer`.
//!
//! One loop waits for what the host tells, for prepared storage and for time. It never blocks on
//! anything else: hashing what is on the disk happens on a thread of its own.

mod item;
mod named;
mod notices;
mod outcome;
mod prepare;
mod work;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use dunlin_engine::alert::Alert;
use dunlin_engine::command::Priority;
use dunlin_engine::config::RateLimits;
use dunlin_engine::{Command, PeerAddr, TorrentKey};
use dunlin_host::storage::Prepared;
use dunlin_host::{AddRequest, Handle, HostConfig, Listen, MagnetRequest, Notice};
use serde_json::json;

use crate::data::cores;
use crate::events::Events;
use crate::failure::{Code, Failure, disk_failure};
use crate::invitation::Invitation;
use crate::options::SeedGoal;
use crate::peers::{self, Answer};
use crate::progress::Progress;
use crate::quantity::show_duration;
use crate::screen;
use crate::settings::Settings;
use crate::signals::Interrupt;

pub use item::Item;
use item::Subject;
use named::Peers;
pub use outcome::first_of;
use prepare::{Preparing, Step};
use work::{Stage, Work};

/// What is asked of this run.
#[derive(Debug)]
pub struct Plan {
    pub settings: Settings,
    pub listen: Listen,
    /// Where we listen, if the peers may name us too.
    pub own: Option<SocketAddr>,
    pub goal: SeedGoal,
    /// A seed ends when a peer has everything.
    pub once: bool,
    /// Told when the port is known.
    pub invitation: Option<Invitation>,
    pub timeout: Option<Duration>,
    pub stall_timeout: Option<Duration>,
    /// Tell the whole story at `info`.
    pub loud: bool,
    pub quiet: bool,
    /// End when stdin does.
    pub while_stdin: bool,
    pub events: Events,
}

/// How long the loop waits for the host at most.
const TICK: Duration = Duration::from_millis(50);

/// The same while torrents are prepared, which the host does not tell.
const SHORT_TICK: Duration = Duration::from_millis(5);

/// Time between two looks at the state of a transfer.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two `progress` events.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two lines that say how far a transfer is, where no bar does.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Time without any peer after which the reason is told.
const LONELY_AFTER: Duration = Duration::from_secs(10);

/// Alerts that are told before the loop looks at anything else.
const NOTICES_A_TURN: usize = 1000;

/// Takes every item as far as it goes. `failed` are sources that did not become items.
pub fn run(mut plan: Plan, items: Vec<Item>, failed: Vec<Failure>) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let config = HostConfig {
        engine: plan.settings.engine.clone(),
        listen: plan.listen,
        network: plan.settings.network.clone(),
        disk_workers: cores(),
    };
    let started_at = plan.events.now();
    let (host, notices) = dunlin_host::start(config).map_err(outcome::host_failure)?;
    let addr = host.listen_addr();
    let id = crate::story::shown_id(host.peer_id().as_bytes());
    let line = format!("listening on {addr}, peer id {id}");
    let is_moved = matches!(plan.listen, Listen::Auto(port) if port != addr.port());
    // An invitation says where we are.
    let is_seed = plan.invitation.is_none() && items.iter().any(|item| !item.is_download());
    // Whoever is to name us to others must know the port.
    if plan.loud || is_moved || is_seed {
        tracing::info!(target: "dunlin", "{line}");
    } else {
        tracing::debug!(target: "dunlin", "{line}");
    }
    plan.events.emit(
        "listening",
        None,
        || json!({ "addr": addr.to_string(), "peer_id": id }),
    )?;
    if let Some(invitation) = plan.invitation.take() {
        invitation.tell(addr.port(), plan.once, plan.quiet, &plan.events)?;
    }
    let prefixed = items.len() > 1;
    let works: Vec<Work> = items
        .into_iter()
        .map(|item| Work::new(item, plan.loud, prefixed))
        .collect();
    let peers = Peers::start(&plan, &works)?;
    let stdin_gone = Arc::new(AtomicBool::new(false));
    if plan.while_stdin {
        watch_stdin(Arc::clone(&stdin_gone));
    }
    let now = Instant::now();
    let mut transfer = Transfer {
        progress: Progress::new(plan.quiet),
        plan,
        host,
        host_started_at: started_at,
        works,
        by_key: BTreeMap::new(),
        failed,
        peers,
        preparing: Preparing::start(&interrupt)?,
        started: now,
        last_byte: now,
        bytes_seen: 0,
        next_look: now,
        next_progress: now,
        next_log: now + LOG_INTERVAL,
        interrupt,
        stdin_gone,
    };
    let end = match transfer.begin() {
        Ok(()) => transfer.drive(&notices),
        Err(failure) => End::Failed(failure),
    };
    transfer.finish(end, &notices)
}

/// Why the loop ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    /// Everything that was asked for is done, or cannot be.
    Done,
    Interrupted,
    Timeout,
    Stalled,
    Failed(Failure),
}

struct Transfer {
    plan: Plan,
    host: Handle,
    /// On the clock of the events.
    host_started_at: Duration,
    works: Vec<Work>,
    by_key: BTreeMap<TorrentKey, usize>,
    failed: Vec<Failure>,
    peers: Peers,
    preparing: Preparing,
    progress: Progress,
    started: Instant,
    /// When the last payload byte came, or something else that is no stall.
    last_byte: Instant,
    bytes_seen: u64,
    next_look: Instant,
    next_progress: Instant,
    next_log: Instant,
    interrupt: Interrupt,
    stdin_gone: Arc<AtomicBool>,
}

impl Transfer {
    /// Torrents are looked for on the disk, the metadata of links in the swarm.
    fn begin(&mut self) -> Result<(), Failure> {
        for (index, work) in self.works.iter_mut().enumerate() {
            work.has_peers = self.peers.names_some(index);
            let Some(magnet) = work.item.magnet() else {
                work.tell_metadata(&self.plan.events)?;
                self.preparing.begin(index, &work.item);
                continue;
            };
            let mut trackers = item::tiers(magnet);
            trackers.extend(self.plan.settings.trackers.iter().cloned());
            work.has_trackers = !trackers.is_empty();
            let key = self.host.add_magnet(MagnetRequest {
                info_hash: work.item.info_hash,
                trackers,
                peers: self.peers.known(index),
                limits: RateLimits::default(),
            });
            work.story.say("asking peers for the metadata");
            work.stage = Stage::Metadata {
                key,
                since: Instant::now(),
            };
            self.by_key.insert(key, index);
        }
        Ok(())
    }

    fn drive(&mut self, notices: &Receiver<Notice>) -> End {
        loop {
            let turn = self
                .take_steps()
                .and_then(|()| self.take_peers())
                .and_then(|()| self.take_notices(notices))
                .and_then(|()| self.look());
            if let Err(failure) = turn {
                return End::Failed(failure);
            }
            if self.interrupt.is_set() || self.stdin_gone.load(Ordering::Relaxed) {
                return End::Interrupted;
            }
            if let Some(end) = self.over() {
                return end;
            }
        }
    }

    /// Adds what is prepared to the host.
    fn take_steps(&mut self) -> Result<(), Failure> {
        let steps: Vec<(usize, Step)> = self.preparing.steps().collect();
        for (index, step) in steps {
            self.last_byte = Instant::now();
            let work = &mut self.works[index];
            match step {
                Step::Checking(at) => {
                    work.checking = Some(at);
                }
                Step::Failed(failure) => self.fail(index, failure),
                Step::Ready(prepared) => self.add(index, *prepared)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, index: usize, prepared: Prepared) -> Result<(), Failure> {
        let work = &mut self.works[index];
        if let Some(at) = &mut work.checking {
            // However short it was, a check is told at least once.
            at.done_bytes = at.total_bytes;
            work.tell_progress(&self.plan.events)?;
            work.checking = None;
        }
        let Subject::Torrent { torrent, wanted } = &work.item.subject else {
            return Ok(());
        };
        let torrent = Arc::clone(torrent);
        let have = prepared.resume.written.count_ones();
        let total = torrent.layout.pieces();
        if work.item.is_download() && have > 0 {
            let how = if prepared.adopted {
                "found"
            } else {
                "continuing with"
            };
            work.story
                .say_aloud(&format!("{how} {have} of {total} pieces"));
        }
        let mut trackers = torrent.trackers.clone();
        trackers.extend(self.plan.settings.trackers.iter().cloned());
        work.has_trackers = trackers.iter().any(|tier| !tier.is_empty());
        work.path = Some(prepared.storage.root_path());
        let priority = |&wanted: &bool| {
            if wanted {
                Priority::Normal
            } else {
                Priority::Skip
            }
        };
        let request = AddRequest {
            priorities: wanted.iter().map(priority).collect(),
            torrent,
            prepared,
            peers: self.peers.known(index),
            trackers,
            order: self.plan.settings.order,
            limits: RateLimits::default(),
            seed_when_complete: true,
        };
        let key = match work.key() {
            Some(key) => {
                self.host.promote(key, request);
                key
            }
            None => self.host.add(request),
        };
        work.stage = Stage::Running {
            key,
            since: Instant::now(),
        };
        self.by_key.insert(key, index);
        Ok(())
    }

    /// Peers whose names are looked up by now.
    fn take_peers(&mut self) -> Result<(), Failure> {
        for found in self.peers.take() {
            let works = self.works.iter().enumerate();
            let meant: Vec<usize> = works
                .filter(|(index, _)| found.work.is_none_or(|work| work == *index))
                .map(|(index, _)| index)
                .collect();
            for index in meant {
                self.on_peers(index, &found)?;
            }
        }
        Ok(())
    }

    fn on_peers(&mut self, index: usize, found: &Answer) -> Result<(), Failure> {
        let work = &self.works[index];
        match (&found.found, work.key()) {
            (Ok(addresses), Some(torrent)) => {
                let peers = addresses.iter().copied().map(PeerAddr::Tcp).collect();
                self.host.command(Command::AddPeers { torrent, peers });
            }
            // They are asked for when it is added.
            (Ok(_), None) => {}
            (Err(why), _) => {
                let name = peers::show(&found.name);
                let line = format!("peer {name}: no such host ({why}); check the name");
                if work.is_unfinished() && !work.has_trackers && !self.peers.names_some(index) {
                    self.fail(index, Failure::new(Code::NotFound, line));
                } else {
                    work.story.warn(&self.plan.events, "peer", &line)?;
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        // The only failure of a run is told when the run ends.
        if self.works.len() + self.failed.len() > 1 {
            let info_hash = self.works[index].item.info_hash;
            self.plan.events.error(Some(&info_hash), &failure);
            screen::note(&format!("error: {failure}"));
        }
        self.works[index].stage = Stage::Ended;
        self.failed.push(failure);
    }

    /// Looks at every transfer: events, bars, what is worth a warning.
    fn look(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK_INTERVAL;
        let tell = now >= self.next_progress;
        if tell {
            self.next_progress = (self.next_progress + PROGRESS_INTERVAL).max(now);
        }
        let mut bytes = 0;
        for work in &mut self.works {
            if let Some(key) = work.key() {
                work.snapshot = self.host.snapshot(key).or(work.snapshot.take());
            }
            bytes += work
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.downloaded);
            if tell {
                work.tell_progress(&self.plan.events)?;
                work.tell_if_lonely(&self.plan.events, LONELY_AFTER)?;
            }
        }
        if bytes > self.bytes_seen {
            self.bytes_seen = bytes;
            self.last_byte = now;
        }
        let works = &self.works;
        self.progress.update(|| work::bars(works), Vec::new);
        if now >= self.next_log {
            self.next_log = now + LOG_INTERVAL;
            self.log_progress();
        }
        Ok(())
    }

    fn log_progress(&self) {
        let is_shown = screen::look().live && !self.plan.loud;
        for line in work::lines(&self.works) {
            if is_shown {
                tracing::debug!(target: "dunlin", "{line}");
            } else {
                tracing::info!(target: "dunlin", "{line}");
            }
        }
    }

    fn over(&self) -> Option<End> {
        let is_settled = |work: &Work| match work.stage {
            Stage::Ended => true,
            Stage::Metadata { .. } | Stage::Preparing { .. } => false,
            Stage::Running { .. } if self.plan.once => work.served.is_some(),
            Stage::Running { .. } => work
                .complete
                .is_some_and(|since| self.goal_is_reached(work, since)),
        };
        if self.works.iter().all(is_settled) {
            return Some(End::Done);
        }
        if self
            .plan
            .timeout
            .is_some_and(|limit| self.started.elapsed() >= limit)
        {
            return Some(End::Timeout);
        }
        let downloads = self.works.iter().any(Work::is_unfinished);
        let stalled = self
            .plan
            .stall_timeout
            .is_some_and(|limit| self.last_byte.elapsed() >= limit);
        (downloads && stalled).then_some(End::Stalled)
    }

    fn goal_is_reached(&self, work: &Work, since: Instant) -> bool {
        match self.plan.goal {
            SeedGoal::None => true,
            SeedGoal::Forever => false,
            SeedGoal::Time(time) => since.elapsed() >= time,
            SeedGoal::Ratio(ratio) => work.ratio() >= ratio,
        }
    }

    /// Says goodbye to everybody, then says how it went.
    fn finish(mut self, end: End, notices: &Receiver<Notice>) -> Result<(), Failure> {
        for work in &mut self.works {
            if let Some(key) = work.key() {
                work.snapshot = self.host.snapshot(key).or(work.snapshot.take());
            }
        }
        while let Ok(notice) = notices.try_recv() {
            self.on_notice(&notice)?;
        }
        drop(self.progress);
        for work in &mut self.works {
            work.tell_progress(&self.plan.events)?;
        }
        self.host.shutdown();
        for notice in notices.try_iter() {
            // What was complete may turn out not to be durable.
            if let Notice::Alert { alert, .. } = notice
                && let Alert::DiskFailed { error, .. } = alert
                && self.failed.is_empty()
            {
                self.failed.push(disk_failure(&error));
            }
        }
        outcome::tell(&self.plan, &self.works)?;
        let unfinished: Vec<&Work> = self.works.iter().filter(|w| w.is_unfinished()).collect();
        let why = match end {
            End::Failed(failure) => return Err(failure),
            End::Done => return first_of(self.failed),
            End::Interrupted => "interrupted".to_owned(),
            End::Timeout => format!("not done after {}", after(self.plan.timeout)),
            End::Stalled => format!("no byte for {}", after(self.plan.stall_timeout)),
        };
        let mut states: Vec<String> = unfinished.iter().map(|work| work.state()).collect();
        if self.plan.once {
            states.push("nobody has everything yet".to_owned());
        }
        if states.is_empty() {
            return first_of(self.failed);
        }
        let failure = Failure::new(
            Code::Unfinished,
            format!(
                "{why}: {}; run the same command again to continue",
                states.join(", ")
            ),
        );
        self.failed.push(failure);
        first_of(self.failed)
    }
}

fn after(limit: Option<Duration>) -> String {
    show_duration(limit.unwrap_or_default())
}

/// Sets the flag when stdin ends: whoever started us is gone. Should the end take long, it is made
/// short.
fn watch_stdin(gone: Arc<AtomicBool>) {
    const GRACE: Duration = Duration::from_secs(3);
    std::thread::spawn(move || {
        let mut rest = [0; 64];
        while matches!(std::io::stdin().read(&mut rest), Ok(1..)) {}
        gone.store(true, Ordering::Relaxed);
        std::thread::sleep(GRACE);
        std::process::exit(i32::from(crate::failure::INTERRUPTED_TWICE));
    });
}
