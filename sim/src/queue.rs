//! The event queue: what happens next, in order of time and, at the same time, in order of asking. What a stopped process
//! would have done keeps its place in that order: a pipe is read in the order in which it was written.

use crate::world::World;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens.
pub(crate) type Action = Box<dyn FnOnce(&mut World)>;

/// Whose doing an event is. A stopped process does nothing until it goes on; a dead one never does what it had in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nature, the kernel, a fault.
    World,
    /// The process of a replica that was started as this one.
    Server(usize, u32),
    /// The agent process on a host that was started as this one.
    Agent(usize, u32),
}

/// What a stopped process would have done, with its place in the order: it is done later, in the same order.
pub(crate) struct Waiting {
    due: u64,
    seq: u64,
    action: Action,
}

/// An event that is due.
pub(crate) struct Entry {
    pub at: u64,
    due: u64,
    seq: u64,
    pub owner: Owner,
    action: Action,
}

impl Entry {
    /// Happens.
    pub(crate) fn happen(self, w: &mut World) {
        (self.action)(w);
    }

    /// Does not happen yet.
    pub(crate) fn waits(self) -> Waiting {
        Waiting { due: self.due, seq: self.seq, action: self.action }
    }

    const fn key(&self) -> (u64, u64, u64) {
        (self.at, self.due, self.seq)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, owner: Owner, action: Action) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, due: at, seq: self.seq, owner, action }));
    }

    /// What has waited happens now: before whatever was due later.
    pub(crate) fn resume(&mut self, now: u64, owner: Owner, waiting: Vec<Waiting>) {
        for Waiting { due, seq, action } in waiting {
            self.heap.push(Reverse(Entry { at: now, due, seq, owner, action }));
        }
    }

    /// The next event that is due until `until`.
    pub(crate) fn pop(&mut self, until: u64) -> Option<Entry> {
        if self.heap.peek().is_none_or(|Reverse(e)| e.at > until) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
