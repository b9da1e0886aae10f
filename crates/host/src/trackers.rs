//! Announces on helper threads: a few a tracker host, `stopped` first, and never in the way of
//! the loop.
//!
//! [`Queue`] decides what runs; [`Trackers`] runs it. A thread that hangs (in the resolver, say)
//! holds its place but nothing else; at exit it is left behind.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use dunlin_engine::TorrentKey;
use dunlin_engine::event::{TrackerFailure, TrackerKey};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use crate::http::{self, Tls};
use crate::poller::Wake;

#[derive(Debug)]
pub(crate) struct Announce {
    pub(crate) torrent: TorrentKey,
    pub(crate) tracker: TrackerKey,
    pub(crate) url: String,
    pub(crate) request: AnnounceRequest,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) torrent: TorrentKey,
    pub(crate) tracker: TrackerKey,
    pub(crate) result: Result<AnnounceResponse, TrackerFailure>,
    host: String,
}

pub(crate) struct Trackers {
    queue: Queue,
    /// The address that we come from, if it is a certain one.
    from: Option<IpAddr>,
    tls: Arc<Tls>,
    outbox: Outbox,
    replies: Receiver<Reply>,
}

/// Where helper threads put their answers.
#[derive(Clone)]
struct Outbox {
    replies: Sender<Reply>,
    wake: Wake,
}

impl Trackers {
    pub(crate) fn new(from: Option<IpAddr>, wake: Wake) -> Self {
        let (sender, replies) = mpsc::channel();
        Self {
            queue: Queue::default(),
            from,
            tls: Arc::default(),
            outbox: Outbox {
                replies: sender,
                wake,
            },
            replies,
        }
    }

    pub(crate) fn announce(&mut self, announce: Announce) {
        if let Some(announce) = self.queue.push(announce) {
            let why = "too many announces wait already";
            self.outbox.fail(&announce, String::new(), why);
        }
        self.start();
    }

    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.try_recv().ok()?;
        self.queue.finished(&reply.host);
        self.start();
        Some(reply)
    }

    /// Starts what may run now.
    fn start(&mut self) {
        while let Some((host, announce)) = self.queue.pop() {
            let announce = Arc::new(announce);
            let (outbox, asked, asked_host) = (self.outbox.clone(), announce.clone(), host.clone());
            let (from, tls) = (self.from, Arc::clone(&self.tls));
            let ask = move || {
                let result = http::announce(&asked.url, &asked.request, from, &tls);
                outbox.send(&asked, asked_host, result);
            };
            let thread = thread::Builder::new().name("tracker".to_owned());
            if let Err(error) = thread.stack_size(STACK_LEN).spawn(ask) {
                self.outbox.fail(&announce, host, &crate::words(&error));
            }
        }
    }
}

impl Outbox {
    fn send(
        &self,
        asked: &Announce,
        host: String,
        result: Result<AnnounceResponse, TrackerFailure>,
    ) {
        let reply = Reply {
            torrent: asked.torrent,
            tracker: asked.tracker,
            result,
            host,
        };
        // Nobody listens any more when the program is about to end.
        if self.replies.send(reply).is_ok() {
            (self.wake)();
        }
    }

    fn fail(&self, asked: &Announce, host: String, why: &str) {
        let failure = TrackerFailure {
            message: why.to_owned(),
            refused: false,
        };
        self.send(asked, host, Err(failure));
    }
}

/// Which announces wait, and how many of each host are under way.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(String, Announce)>,
    running: BTreeMap<String, usize>,
}

impl Queue {
    /// Gives the announce back if too many wait.
    fn push(&mut self, announce: Announce) -> Option<Announce> {
        if self.waiting.len() >= WAITING_MAX {
            return Some(announce);
        }
        let host = http::host_of(&announce.url);
        match announce.request.event {
            // Whoever waits for us to exit waits for this.
            AnnounceEvent::Stopped => self.waiting.push_front((host, announce)),
            AnnounceEvent::None
            | AnnounceEvent::Started
            | AnnounceEvent::Completed
            | AnnounceEvent::Paused => {
                self.waiting.push_back((host, announce));
            }
        }
        None
    }

    /// The next announce that may run, and its host.
    fn pop(&mut self) -> Option<(String, Announce)> {
        if self.running.values().sum::<usize>() >= RUNNING_MAX {
            return None;
        }
        let running = |host: &str| self.running.get(host).copied().unwrap_or(0);
        let at = self
            .waiting
            .iter()
            .position(|(host, _)| running(host) < RUNNING_PER_HOST_MAX)?;
        let (host, announce) = self.waiting.remove(at)?;
        *self.running.entry(host.clone()).or_default() += 1;
        Some((host, announce))
    }

    fn finished(&mut self, host: &str) {
        if let Some(running) = self.running.get_mut(host) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(host);
            }
        }
    }
}

const RUNNING_PER_HOST_MAX: usize = 2;
const RUNNING_MAX: usize = 32;
const WAITING_MAX: usize = 10_000;
/// The response and its parser live on the heap.
const STACK_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use dunlin_metainfo::{InfoHash, PeerId};

    use super::*;

    fn announce(url: &str, event: AnnounceEvent) -> Announce {
        Announce {
            torrent: TorrentKey(0),
            tracker: TrackerKey { tier: 0, index: 0 },
            url: url.to_owned(),
            request: AnnounceRequest {
                info_hash: InfoHash::new([0; 20]),
                peer_id: PeerId::new([0; 20]),
                port: 1,
                uploaded: 0,
                downloaded: 0,
                left: 0,
                event,
                num_want: 0,
                key: 0,
                tracker_id: None,
            },
        }
    }

    #[test]
    fn one_slow_host_does_not_hold_up_the_others() {
        let mut queue = Queue::default();
        for _ in 0..5 {
            queue.push(announce("http://slow/announce", AnnounceEvent::None));
        }
        queue.push(announce("http://other/announce", AnnounceEvent::None));
        let hosts: Vec<String> = std::iter::from_fn(|| queue.pop())
            .map(|(host, _)| host)
            .collect();
        assert_eq!(hosts, ["slow", "slow", "other"]);
        queue.finished("slow");
        assert_eq!(queue.pop().unwrap().0, "slow");
        assert!(queue.pop().is_none());
    }

    #[test]
    fn stopped_goes_first() {
        let mut queue = Queue::default();
        queue.push(announce("http://t/announce", AnnounceEvent::Started));
        queue.push(announce("http://t/announce", AnnounceEvent::Stopped));
        assert_eq!(queue.pop().unwrap().1.request.event, AnnounceEvent::Stopped);
    }

    #[test]
    fn the_number_of_threads_is_bounded() {
        let mut queue = Queue::default();
        for host in 0..100 {
            queue.push(announce(
                &format!("http://t{host}/announce"),
                AnnounceEvent::None,
            ));
        }
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), RUNNING_MAX);
    }
}
