//! Looks at what is on the disk, on a thread of its own, one torrent after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use dunlin_host::check::CheckProgress;
use dunlin_host::storage::{PrepareMode, PrepareOptions, Prepared, StorageError, prepare, verify};
use dunlin_metainfo::Torrent;

use crate::data::{self, cores};
use crate::failure::{Code, Failure};
use crate::signals::Interrupt;

use super::Item;

/// Time between two reports of how far a check is.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

pub enum Step {
    Checking(CheckProgress),
    Ready(Box<Prepared>),
    Failed(Failure),
}

/// The thread, and what it tells.
pub struct Preparing {
    orders: Sender<Order>,
    steps: Receiver<(usize, Step)>,
}

struct Order {
    index: usize,
    torrent: Arc<Torrent>,
    dir: PathBuf,
    options: PrepareOptions,
}

impl Preparing {
    pub fn start(interrupt: &Interrupt) -> Result<Self, Failure> {
        let cancel = interrupt.shared_flag();
        let (orders, inbox) = mpsc::channel::<Order>();
        let (sender, steps) = mpsc::channel();
        std::thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || {
                for order in inbox {
                    let index = order.index;
                    let step = prepare_one(order, &sender, &cancel);
                    if cancel.load(Ordering::Relaxed) || sender.send((index, step)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Failure::new(Code::Other, format!("no thread: {error}")))?;
        Ok(Self { orders, steps })
    }

    /// Looks at the data of an item that is a torrent. One after the other.
    pub fn begin(&self, index: usize, item: &Item) {
        let Some(torrent) = item.torrent() else {
            return;
        };
        let order = Order {
            index,
            torrent: Arc::clone(torrent),
            dir: item.dir.clone(),
            options: PrepareOptions {
                mode: item.mode,
                wanted: item.wanted().to_vec(),
                threads: cores(),
            },
        };
        // The thread only ends before us when everything is interrupted.
        let _ = self.orders.send(order);
    }

    pub fn steps(&self) -> impl Iterator<Item = (usize, Step)> + '_ {
        self.steps.try_iter()
    }
}

fn prepare_one(order: Order, sender: &Sender<(usize, Step)>, cancel: &AtomicBool) -> Step {
    let Order {
        index,
        torrent,
        dir,
        options,
    } = order;
    let mut last = None::<Instant>;
    let mut report = |at: CheckProgress| {
        if last.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            last = Some(Instant::now());
            // A receiver that is gone has no use for progress either.
            let _ = sender.send((index, Step::Checking(at)));
        }
    };
    match prepare(&torrent, &dir, &options, &mut report, cancel) {
        Ok(prepared) => Step::Ready(Box::new(prepared)),
        Err(StorageError::Missing { .. } | StorageError::Size { .. })
            if options.mode == (PrepareMode::Seed { check: true }) =>
        {
            // Something is missing: say what of all of it.
            match verify(&torrent, &dir, options.threads, &mut report, cancel) {
                Ok(found) => Step::Failed(data::incomplete(&torrent, &found)),
                Err(error) => Step::Failed(data::storage_failure(&torrent, &error)),
            }
        }
        Err(error) => Step::Failed(data::storage_failure(&torrent, &error)),
    }
}
