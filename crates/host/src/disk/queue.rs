//! The work of one thread, in two classes: what somebody waits for goes first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// A peer waits for it.
    Read,
    Write,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Lanes<T> {
    reads: VecDeque<T>,
    writes: VecDeque<T>,
    reads_in_a_row: u32,
    is_closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            lanes: Mutex::new(Lanes {
                reads: VecDeque::new(),
                writes: VecDeque::new(),
                reads_in_a_row: 0,
                is_closed: false,
            }),
            filled: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&self, class: Class, item: T) {
        let mut lanes = self.lanes();
        match class {
            Class::Read => lanes.reads.push_back(item),
            Class::Write => lanes.writes.push_back(item),
        }
        drop(lanes);
        self.filled.notify_one();
    }

    /// The next item, waited for. `None` when the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut lanes = self.lanes();
        loop {
            if let Some(item) = lanes.pop() {
                return Some(item);
            }
            if lanes.is_closed {
                return None;
            }
            lanes = self
                .filled
                .wait(lanes)
                .unwrap_or_else(|broken| broken.into_inner());
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lanes().is_closed = true;
        self.filled.notify_all();
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        // A thread that panicked elsewhere leaves a whole queue: pushes and pops are one step.
        self.lanes
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

impl<T> Lanes<T> {
    fn pop(&mut self) -> Option<T> {
        let writes_wait_too_long =
            self.reads_in_a_row >= READS_IN_A_ROW_MAX && !self.writes.is_empty();
        if !writes_wait_too_long && let Some(read) = self.reads.pop_front() {
            self.reads_in_a_row += 1;
            return Some(read);
        }
        self.reads_in_a_row = 0;
        self.writes.pop_front()
    }
}

/// A write is done after this many reads, or busy seeding would stop a download.
const READS_IN_A_ROW_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_first_but_do_not_starve_writes() {
        let queue = Queue::default();
        for write in 0..2 {
            queue.push(Class::Write, write);
        }
        for read in 0..40 {
            queue.push(Class::Read, 100 + read);
        }
        queue.close();
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len(), 42);
        assert_eq!(order[..16], (100..116).collect::<Vec<_>>());
        assert_eq!(order[16], 0);
        assert_eq!(order[33], 1);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_holds_and_ends() {
        let queue = Queue::default();
        queue.push(Class::Write, 1);
        queue.close();
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), None);
    }
}
