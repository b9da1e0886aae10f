//! The threads that touch the disk, seen from the loop that owns the sockets: jobs go in, each
//! comes back exactly once.
//!
//! A piece always has the same worker, which keeps its state without sharing it. Reads for uploads
//! go before writes. Saving resume data and naming complete files happen on a thread of their own,
//! and so does syncing, which may take seconds: neither ever stands in front of payload.
//!
//! The queues have no limit of their own: the engine bounds what is given to the disk by
//! `buffer_bytes_max`, and what is read for uploads by the outboxes of the peers.

mod files;
mod piece;
mod queue;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use dunlin_engine::event::{DiskError, DiskJob, DiskOp, DiskResult, JobId, TorrentKey};
use dunlin_metainfo::Run;
use dunlin_proto::buf::BlockBuf;

use crate::storage::Storage;
use crate::storage::error::other;
use queue::{Class, Queue};
use worker::{Task, Worker};

/// How the disk's threads are set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// Threads that hash, write and read payload.
    pub workers: usize,
    /// Bytes of unfinished pieces that all workers together keep in memory. Must be less than the
    /// engine's `buffer_bytes_max`: else nothing would make them write, and nothing would come.
    pub hold_bytes_max: u64,
}

impl DiskConfig {
    /// Half of the engine's memory may wait for its piece to be complete; the rest is under way.
    pub fn new(workers: usize, buffer_bytes_max: u64) -> Self {
        Self {
            workers,
            hold_bytes_max: buffer_bytes_max / 2,
        }
    }
}

/// Blocks to be read for an upload.
#[derive(Debug)]
pub struct ReadJob {
    pub torrent: TorrentKey,
    pub run: Run,
    /// Comes back with the reply.
    pub tag: u64,
    /// One a block of the run, each as long as its block: where the bytes go.
    pub bufs: Vec<BlockBuf>,
}

#[derive(Debug)]
pub enum DiskReply {
    Done {
        job: JobId,
        torrent: TorrentKey,
        result: DiskResult,
        /// The buffers of a `Write`, which go home.
        bufs: Vec<BlockBuf>,
    },
    Read {
        torrent: TorrentKey,
        run: Run,
        tag: u64,
        /// Those of the job: filled if the result is `Ok`.
        bufs: Vec<BlockBuf>,
        result: Result<(), DiskError>,
    },
}

/// The disk's threads. When it is dropped, what was submitted is done first.
#[derive(Debug)]
pub struct Disk {
    torrents: BTreeMap<TorrentKey, Arc<Storage>>,
    workers: Vec<Arc<Queue<Task>>>,
    /// Names and resume data.
    keeper: Arc<Queue<Task>>,
    syncer: Arc<Queue<Task>>,
    threads: Vec<JoinHandle<()>>,
    replies: Arc<Replies>,
    inbox: Receiver<DiskReply>,
}

impl Disk {
    /// `wake` is called from other threads when there may be something to receive.
    pub fn start(config: DiskConfig, wake: Arc<dyn Fn() + Send + Sync>) -> std::io::Result<Self> {
        let (outbox, inbox) = mpsc::channel();
        let replies = Arc::new(Replies {
            outbox,
            is_woken: AtomicBool::new(false),
            wake,
        });
        let mut disk = Self {
            torrents: BTreeMap::new(),
            workers: Vec::new(),
            keeper: Arc::default(),
            syncer: Arc::default(),
            threads: Vec::new(),
            replies,
            inbox,
        };
        let workers = config.workers.clamp(1, WORKERS_MAX);
        let hold_bytes = config.hold_bytes_max / workers as u64;
        for number in 0..workers {
            let queue = Arc::<Queue<Task>>::default();
            let worker = Worker::new(Arc::clone(&disk.replies), hold_bytes, files::share(workers));
            disk.workers.push(Arc::clone(&queue));
            disk.spawn(format!("disk-{number}"), move || worker.run(&queue))?;
        }
        for (name, queue) in [("disk-names", &disk.keeper), ("disk-sync", &disk.syncer)]
            .map(|(name, queue)| (name, Arc::clone(queue)))
        {
            let replies = Arc::clone(&disk.replies);
            disk.spawn(String::from(name), move || keep(&queue, &replies))?;
        }
        Ok(disk)
    }

    /// Jobs of this torrent concern these files from now on.
    pub fn add(&mut self, torrent: TorrentKey, storage: Storage) {
        self.torrents.insert(torrent, Arc::new(storage));
    }

    /// Closes the torrent's files and drops what is held of it. To be called when no job of it is
    /// out; its locks are free when its last job is done.
    pub fn remove(&mut self, torrent: TorrentKey) {
        if self.torrents.remove(&torrent).is_some() {
            for worker in &self.workers {
                worker.push(Class::Write, Task::Remove { torrent });
            }
        }
    }

    pub fn storage(&self, torrent: TorrentKey) -> Option<&Storage> {
        self.torrents.get(&torrent).map(|storage| &**storage)
    }

    pub fn submit(&self, job: DiskJob) {
        let Some(storage) = self.torrents.get(&job.torrent) else {
            self.reject(job);
            return;
        };
        let queue = match &job.op {
            DiskOp::Write { run, .. } => self.worker(job.torrent, run.piece().get()),
            DiskOp::Finish { piece, .. } | DiskOp::Forget { piece } => {
                self.worker(job.torrent, piece.get())
            }
            DiskOp::Sync => &self.syncer,
            DiskOp::CompleteFile { .. } | DiskOp::SaveResume(_) | DiskOp::RemoveResume => {
                &self.keeper
            }
        };
        let storage = Arc::clone(storage);
        queue.push(Class::Write, Task::Job { storage, job });
    }

    pub fn read(&self, job: ReadJob) {
        let Some(storage) = self.torrents.get(&job.torrent) else {
            self.replies.send(DiskReply::Read {
                torrent: job.torrent,
                run: job.run,
                tag: job.tag,
                bufs: job.bufs,
                result: Err(gone()),
            });
            return;
        };
        let storage = Arc::clone(storage);
        self.worker(job.torrent, job.run.piece().get())
            .push(Class::Read, Task::Read { storage, job });
    }

    /// What is done since the last call. After `None`, `wake` is called before there is more.
    pub fn try_recv(&self) -> Option<DiskReply> {
        self.inbox.try_recv().ok().or_else(|| {
            self.replies.is_woken.store(false, Ordering::SeqCst);
            // What came before the flag was cleared woke nobody.
            self.inbox.try_recv().ok()
        })
    }

    fn worker(&self, torrent: TorrentKey, piece: u32) -> &Arc<Queue<Task>> {
        let number = u64::from(torrent.0) + u64::from(piece);
        &self.workers[(number % self.workers.len() as u64) as usize]
    }

    fn reject(&self, job: DiskJob) {
        let bufs = match job.op {
            DiskOp::Write { bufs, .. } => bufs,
            DiskOp::Finish { .. }
            | DiskOp::Forget { .. }
            | DiskOp::CompleteFile { .. }
            | DiskOp::Sync
            | DiskOp::SaveResume(_)
            | DiskOp::RemoveResume => Vec::new(),
        };
        let result = DiskResult::Failed {
            error: gone(),
            bytes: bufs.iter().map(BlockBuf::len).sum(),
        };
        self.replies.done(job.id, job.torrent, result, bufs);
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads
            .push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for queue in self.workers.iter().chain([&self.keeper, &self.syncer]) {
            queue.close();
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The way back to the loop.
struct Replies {
    outbox: Sender<DiskReply>,
    /// The loop was woken and has not found the inbox empty since.
    is_woken: AtomicBool,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Replies {
    fn send(&self, reply: DiskReply) {
        // Nobody listens any more while the disk is dropped.
        let _ = self.outbox.send(reply);
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    fn done(&self, job: JobId, torrent: TorrentKey, result: DiskResult, bufs: Vec<BlockBuf>) {
        self.send(DiskReply::Done {
            job,
            torrent,
            result,
            bufs,
        });
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

/// The life of the threads that touch no payload.
fn keep(queue: &Queue<Task>, replies: &Replies) {
    while let Some(task) = queue.pop() {
        let Task::Job { storage, job } = task else {
            debug_assert!(false, "only jobs of whole torrents come here");
            continue;
        };
        let result = match &job.op {
            DiskOp::Sync => storage.sync().map(|()| DiskResult::Synced),
            DiskOp::SaveResume(resume) => storage.save(resume).map(|()| DiskResult::ResumeSaved),
            DiskOp::RemoveResume => storage.remove_resume().map(|()| DiskResult::ResumeRemoved),
            DiskOp::CompleteFile { file } => storage
                .complete_file(*file)
                .map(|()| DiskResult::FileCompleted { file: *file }),
            DiskOp::Write { .. } | DiskOp::Finish { .. } | DiskOp::Forget { .. } => {
                unreachable!("jobs of a piece go to its worker")
            }
        };
        let result = result.unwrap_or_else(|error| DiskResult::Failed { error, bytes: 0 });
        drop(storage);
        replies.done(job.id, job.torrent, result, Vec::new());
    }
}

fn gone() -> DiskError {
    other(Path::new(""), "the torrent was removed")
}

/// More threads than this do not make a disk faster.
const WORKERS_MAX: usize = 32;

#[cfg(test)]
mod tests;
