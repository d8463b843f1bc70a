//! The event queue: what happens next, in order of time and, at the same time, in order of asking.

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
    /// The server process that was started as this one.
    Server(u32),
    /// The agent process on a host that was started as this one.
    Agent(usize, u32),
}

struct Entry {
    at: u64,
    seq: u64,
    owner: Owner,
    action: Action,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
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
        (self.at, self.seq).cmp(&(other.at, other.seq))
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
        self.heap.push(Reverse(Entry { at, seq: self.seq, owner, action }));
    }

    /// The next event that is due until `until`.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, Owner, Action)> {
        if self.heap.peek().is_none_or(|Reverse(e)| e.at > until) {
            return None;
        }
        self.heap.pop().map(|Reverse(e)| (e.at, e.owner, e.action))
    }
}
