//! Blocks for peers: read from the disk in turn, within the share of the buffers that is for
//! sending.

use dunlin_metainfo::Run;
use dunlin_proto::buf::BlockBuf;
use dunlin_proto::time::Instant;

use super::{Read, Shard, Task, give_all};
use crate::event::{DiskError, Event, PeerKey};
use crate::outbox::READ_BLOCKS_MAX;

impl Shard {
    /// The blocks of a [`Task::Read`]. The peer may be gone.
    pub fn read_done(
        &mut self,
        now: Instant,
        peer: PeerKey,
        bufs: Vec<BlockBuf>,
        result: Result<(), DiskError>,
    ) {
        match (self.peers.get_mut(&peer), result) {
            (Some(entry), Ok(())) => {
                entry.stream.read_done(bufs, &mut self.sending);
                self.dirty.insert(peer);
                self.queue_read(peer);
            }
            (Some(entry), Err(error)) => {
                let failed = entry.stream.read_failed();
                give_all(&mut self.sending, bufs);
                self.queue_read(peer);
                if let Some(run) = failed {
                    self.tell(now, Event::ServeFailed { peer, run, error });
                }
            }
            (None, _) => give_all(&mut self.sending, bufs),
        }
    }

    pub(super) fn queue_read(&mut self, peer: PeerKey) {
        if let Some(entry) = self.peers.get_mut(&peer)
            && !entry.is_reader
            && !entry.blocked
            && entry.stream.has_serves()
        {
            entry.is_reader = true;
            self.readers.push_back(peer);
        }
    }

    pub(super) fn unserve(&mut self, peer: PeerKey, run: Run) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if entry.stream.unserve(run, &mut self.sending) {
            self.events.push_back(Event::Served {
                peer,
                run,
                bytes: 0,
            });
        }
    }

    /// Starts reads while there are buffers, one a peer in turn.
    pub(super) fn start_reads(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let share = self.sending.free() + self.sending.out();
        let serving = self
            .peers
            .values()
            .filter(|peer| peer.stream.is_serving())
            .count();
        let held_max = (share / serving.max(1)).clamp(1, 2 * READ_BLOCKS_MAX);
        for _ in 0..self.readers.len() {
            let free = self.sending.free();
            if free == 0 {
                return;
            }
            let Some(peer) = self.readers.pop_front() else {
                return;
            };
            if let Some(read) = self.next_read(peer, held_max, free) {
                self.tasks.push_back(Task::Read(read));
            }
        }
    }

    fn next_read(&mut self, peer: PeerKey, held_max: usize, free: usize) -> Option<Read> {
        let entry = self.peers.get_mut(&peer)?;
        entry.is_reader = false;
        if entry.blocked {
            return None;
        }
        let run = entry.stream.next_read(held_max, free)?;
        let blocks = entry.stream.layout().run_blocks(run);
        let bufs = blocks
            .filter_map(|block| self.sending.take(block.len()))
            .collect();
        Some(Read {
            peer,
            torrent: entry.torrent,
            run,
            bufs,
        })
    }
}
