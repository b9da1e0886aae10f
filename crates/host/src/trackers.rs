//! Announces on helper threads: a few a tracker host, `stopped` first, and never in the way of
//! the loop.
//!
//! [`Queue`] decides what runs; [`Trackers`] runs it. A tracker that has addresses of both families
//! is asked over both (BEP 7), for each shows only the peers of its own: the first answer is the
//! answer, what the other one adds are more peers. A thread that hangs (in the resolver, say) holds
//! its place but nothing else; at exit it is left behind.

mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use dunlin_engine::TorrentKey;
use dunlin_engine::event::{TrackerFailure, TrackerKey};
use dunlin_proto::tracker::udp::{Family, Patience};
use dunlin_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse};

use crate::dns;
use crate::http::{self, Scheme, Tls, Url};
use crate::net::Paths;
use crate::poller::Wake;

#[derive(Debug)]
pub(crate) struct Announce {
    pub(crate) torrent: TorrentKey,
    pub(crate) tracker: TrackerKey,
    pub(crate) url: String,
    pub(crate) request: AnnounceRequest,
}

/// What comes of an announce.
#[derive(Debug)]
pub(crate) enum News {
    /// One for each announce.
    Reply {
        torrent: TorrentKey,
        tracker: TrackerKey,
        result: Result<AnnounceResponse, TrackerFailure>,
    },
    /// The other family's answer.
    MorePeers {
        torrent: TorrentKey,
        peers: Vec<SocketAddr>,
    },
}

pub(crate) struct Trackers {
    queue: Queue,
    net: Arc<Net>,
    outbox: Outbox,
    answers: Receiver<Answer>,
    under_way: BTreeMap<u64, UnderWay>,
    next_id: u64,
}

/// What helper threads need of the machine.
#[derive(Debug)]
struct Net {
    paths: Paths,
    /// Where we can be reached: nobody else should be told of us.
    listening: Vec<IpAddr>,
    tls: Tls,
    udp: udp::Pool,
}

/// What a helper thread heard over one family.
#[derive(Debug)]
struct Answer {
    id: u64,
    /// So many answers belong to the announce.
    of: usize,
    result: Result<AnnounceResponse, TrackerFailure>,
}

/// Where helper threads put what they hear.
#[derive(Clone)]
struct Outbox {
    answers: Sender<Answer>,
    wake: Wake,
}

/// An announce that helper threads work on.
#[derive(Debug)]
struct UnderWay {
    host: String,
    torrent: TorrentKey,
    tracker: TrackerKey,
    heard: usize,
    is_answered: bool,
    failure: Option<TrackerFailure>,
}

impl Trackers {
    /// `listening` are the addresses that peers reach us at, unspecified ones among them.
    pub(crate) fn new(paths: Paths, listening: Vec<IpAddr>, wake: Wake) -> Self {
        let (sender, answers) = mpsc::channel();
        Self {
            queue: Queue::default(),
            net: Arc::new(Net {
                paths,
                listening,
                tls: Tls::default(),
                udp: udp::Pool::new(Patience::default()),
            }),
            outbox: Outbox {
                answers: sender,
                wake,
            },
            answers,
            under_way: BTreeMap::new(),
            next_id: 0,
        }
    }

    pub(crate) fn announce(&mut self, announce: Announce) {
        if let Some(announce) = self.queue.push(announce) {
            let id = self.begin(String::new(), &announce);
            let why = failure(&"too many announces wait already");
            self.outbox.send(id, 1, Err(why));
        }
        self.start();
    }

    pub(crate) fn try_news(&mut self) -> Option<News> {
        loop {
            let answer = self.answers.try_recv().ok()?;
            if let Some(news) = self.take(answer) {
                return Some(news);
            }
        }
    }

    fn take(&mut self, answer: Answer) -> Option<News> {
        let Answer { id, of, result } = answer;
        let asked = self.under_way.get_mut(&id)?;
        asked.heard += 1;
        let is_last = asked.heard >= of;
        let news = asked.hear(result, is_last);
        if is_last && let Some(asked) = self.under_way.remove(&id) {
            self.queue.finished(&asked.host);
            self.start();
        }
        news
    }

    fn begin(&mut self, host: String, announce: &Announce) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let asked = UnderWay {
            host,
            torrent: announce.torrent,
            tracker: announce.tracker,
            heard: 0,
            is_answered: false,
            failure: None,
        };
        self.under_way.insert(id, asked);
        id
    }

    /// Starts what may run now.
    fn start(&mut self) {
        while let Some((host, announce)) = self.queue.pop() {
            let id = self.begin(host, &announce);
            let (net, outbox) = (Arc::clone(&self.net), self.outbox.clone());
            let ask = move || net.announce(&announce, &|of, result| outbox.send(id, of, result));
            if let Err(error) = helper().spawn(ask) {
                let why = failure(&crate::words(&error));
                self.outbox.send(id, 1, Err(why));
            }
        }
    }
}

impl UnderWay {
    fn hear(
        &mut self,
        result: Result<AnnounceResponse, TrackerFailure>,
        is_last: bool,
    ) -> Option<News> {
        let torrent = self.torrent;
        match result {
            Ok(AnnounceResponse { peers, .. }) if self.is_answered => {
                (!peers.is_empty()).then_some(News::MorePeers { torrent, peers })
            }
            Ok(response) => {
                self.is_answered = true;
                Some(self.reply(Ok(response)))
            }
            Err(failure) => {
                // The words of a tracker say more than those of the network.
                if failure.refused || self.failure.is_none() {
                    self.failure = Some(failure);
                }
                let failure = self.failure.take_if(|_| is_last && !self.is_answered)?;
                Some(self.reply(Err(failure)))
            }
        }
    }

    fn reply(&self, result: Result<AnnounceResponse, TrackerFailure>) -> News {
        News::Reply {
            torrent: self.torrent,
            tracker: self.tracker,
            result,
        }
    }
}

type Say<'a> = &'a (dyn Fn(usize, Result<AnnounceResponse, TrackerFailure>) + Sync);

impl Net {
    /// Asks over each family and passes on how many answers there will be, with each of them.
    fn announce(&self, announce: &Announce, say: Say<'_>) {
        let (url, groups) = match self.addresses(&announce.url) {
            Ok(found) => found,
            Err(failure) => return say(1, Err(failure)),
        };
        let of = groups.len();
        let ask = |addrs: &[SocketAddr]| say(of, self.ask(&url, addrs, &announce.request));
        thread::scope(|scope| {
            let Some((first, others)) = groups.split_first() else {
                return;
            };
            for addrs in others {
                if let Err(error) = helper().spawn_scoped(scope, move || ask(addrs)) {
                    say(of, Err(failure(&crate::words(&error))));
                }
            }
            ask(first);
        });
    }

    fn ask(
        &self,
        url: &Url,
        addrs: &[SocketAddr],
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let mut response = match url.scheme {
            Scheme::Http | Scheme::Https => {
                http::announce(url, addrs, request, &self.paths, &self.tls)
            }
            Scheme::Udp => self.udp.announce(url, addrs, request, &self.paths),
        }?;
        drop_what_it_cannot_know(&mut response.peers, addrs);
        Ok(response)
    }

    /// The tracker's addresses, a list a family: of those that may be used the ones that could
    /// reach us, and of these the ones that a way leads to.
    fn addresses(&self, url: &str) -> Result<(Url, Vec<Vec<SocketAddr>>), TrackerFailure> {
        let url = Url::parse(url).map_err(|error| failure(&error))?;
        let mut addrs = dns::resolve(&url.host, url.port).map_err(|error| failure(&error))?;
        addrs.retain(|addr| self.paths.is_open(addr.ip()));
        if addrs.is_empty() {
            let why = format!("{} has no address of a family that is used", url.host);
            return Err(failure(&why));
        }
        let of = |family| move |addr: &SocketAddr| Family::of(addr.ip()) == family;
        keep_if_any(&mut addrs, |addr| {
            let family = Family::of(addr.ip());
            self.listening.iter().any(|ip| Family::of(*ip) == family)
        });
        keep_if_any(&mut addrs, |addr| self.paths.udp(*addr).is_ok());
        let groups = [Family::V6, Family::V4]
            .map(|family| addrs.iter().copied().filter(of(family)).collect::<Vec<_>>());
        let groups = groups.into_iter().filter(|group| !group.is_empty());
        Ok((url, groups.collect()))
    }
}

/// A tracker elsewhere cannot know who listens on our loopback: whatever it names there is a
/// service that it wants us to knock at.
fn drop_what_it_cannot_know(peers: &mut Vec<SocketAddr>, tracker: &[SocketAddr]) {
    if !tracker.iter().any(|addr| dns::is_local(addr.ip())) {
        peers.retain(|peer| !peer.ip().is_loopback());
    }
}

/// Drops what is not right, unless nothing is.
fn keep_if_any<T>(list: &mut Vec<T>, is_right: impl Fn(&T) -> bool) {
    if list.iter().any(&is_right) {
        list.retain(is_right);
    }
}

fn helper() -> thread::Builder {
    let name = "tracker".to_owned();
    thread::Builder::new().name(name).stack_size(STACK_LEN)
}

fn failure(why: &dyn ToString) -> TrackerFailure {
    TrackerFailure {
        message: why.to_string(),
        refused: false,
    }
}

impl Outbox {
    fn send(&self, id: u64, of: usize, result: Result<AnnounceResponse, TrackerFailure>) {
        // Nobody listens any more when the program is about to end.
        if self.answers.send(Answer { id, of, result }).is_ok() {
            (self.wake)();
        }
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
/// Announces under way; each has at most two threads, one a family.
const RUNNING_MAX: usize = 32;
const WAITING_MAX: usize = 10_000;
/// Answers and their parsers live on the heap; the arithmetic of TLS does not.
const STACK_LEN: usize = 512 * 1024;

#[cfg(test)]
mod tests;
