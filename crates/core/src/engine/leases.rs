//! The leases of one session: in the order of their runs, and in the order in which they are to be looked at.
//!
//! ```text
//!   by run     [ run · epoch · times · … ][ … ][ … ]·     88 bytes each
//!   by moment  [ moment · run ][ … ][ … ]·                24 bytes each
//! ```
//!
//! One replica watches a million of them, so they are small and lie side by side with an eighth of room to spare at most: nodes
//! of a tree that is filled in order are half empty. What many leases share is in a [`Table`], once.
//!
//! Runs are numbered by time, and end in about that order: what comes is put at one end, and what goes is near the other. A
//! deque moves the shorter side, of the leases of one worker ([`crate::limits::sizes::SLOTS`] at most).

use super::input::LeaseInfo;
use super::work::{Work, done};
use crate::run::Evidence;
use crate::time::{Millis, Observed};
use crate::{Epoch, LeaseRef, Reason, RunId};
use std::collections::VecDeque;

/// A lease in the hands of a session.
#[derive(Clone, Debug)]
pub(super) struct HeldLease {
    /// Of which run.
    pub run: RunId,
    /// Its epoch.
    pub epoch: Epoch,
    /// By what it is judged, in the session's table.
    pub policy: u32,
    /// How long an attempt of it may take, in the session's table.
    pub limits: u32,
    /// The push that carried it; 0: known to the worker since the connection opened.
    pub push_seq: u64,
    /// The claim, then the start.
    pub begun: Observed,
    /// The last statement about it, or when it could say something again.
    pub moved: Observed,
    /// The last beat that named it: of a session, one that was acknowledged, or its beginning; of a worker that is not known to
    /// beat, none before the first.
    pub named: Maybe,
    /// For how long its work has stood still, as its worker says.
    pub frozen: Millis,
    /// Its place in the order of moments.
    look_at: Maybe,
    /// Timer beats in a row that saw the push and did not name it.
    pub absent_beats: u8,
    /// Somebody asked for its end.
    pub cancelling: bool,
    /// Something was said about it.
    pub started: bool,
    /// A verdict over it is being written.
    pub judged: bool,
    /// It is being taken from a worker that may be alive.
    pub revoked: Option<(Reason, Evidence)>,
}

const _: () = assert!(size_of::<HeldLease>() == 88, "there are a million of them");

impl HeldLease {
    /// As the store has it.
    pub(super) fn new(info: &LeaseInfo, policy: u32, limits: u32, push_seq: u64) -> Self {
        Self {
            run: info.lease.run_id,
            epoch: info.lease.epoch,
            policy,
            limits,
            push_seq,
            begun: info.begun,
            moved: info.since,
            named: Maybe::NONE,
            frozen: Millis::ZERO,
            look_at: Maybe::NONE,
            absent_beats: 0,
            cancelling: info.cancelling,
            started: info.started,
            judged: false,
            revoked: None,
        }
    }

    /// Its name.
    pub(super) const fn lease(&self) -> LeaseRef {
        LeaseRef { run_id: self.run, epoch: self.epoch }
    }

    /// When it is to be looked at, as last set.
    pub(super) fn looked_at(&self) -> Option<Observed> {
        self.look_at.get()
    }
}

/// A moment or none, in the eight bytes of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maybe(u64);

impl Maybe {
    pub(super) const NONE: Self = Self(u64::MAX);

    pub(super) const fn at(moment: Observed) -> Self {
        Self(moment.0)
    }

    pub(super) fn get(self) -> Option<Observed> {
        (self != Self::NONE).then_some(Observed(self.0))
    }
}

/// The leases of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    by_run: VecDeque<HeldLease>,
    by_moment: VecDeque<(Observed, RunId)>,
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.by_run.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_run.is_empty()
    }

    /// In the order of their runs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &HeldLease> {
        self.by_run.iter().inspect(|_| done(Work::Lease))
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut HeldLease> {
        self.by_run.iter_mut().inspect(|_| done(Work::Lease))
    }

    fn place(&self, run: RunId) -> Result<usize, usize> {
        done(Work::Lease);
        self.by_run.binary_search_by_key(&run, |held| held.run)
    }

    pub(super) fn get(&self, run: RunId) -> Option<&HeldLease> {
        self.place(run).ok().and_then(|at| self.by_run.get(at))
    }

    pub(super) fn get_mut(&mut self, run: RunId) -> Option<&mut HeldLease> {
        self.place(run).ok().and_then(|at| self.by_run.get_mut(at))
    }

    /// That very lease, and no other of its run.
    pub(super) fn exact(&mut self, lease: LeaseRef) -> Option<&mut HeldLease> {
        self.get_mut(lease.run_id).filter(|held| held.epoch == lease.epoch)
    }

    pub(super) fn contains(&self, run: RunId) -> bool {
        self.place(run).is_ok()
    }

    /// Room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        make_room(&mut self.by_run, more);
        make_room(&mut self.by_moment, more);
    }

    /// A lease of a run of which there is none.
    pub(super) fn put(&mut self, held: HeldLease) {
        if let Err(at) = self.place(held.run) {
            make_room(&mut self.by_run, 1);
            self.by_run.insert(at, held);
        }
    }

    pub(super) fn remove(&mut self, run: RunId) -> Option<HeldLease> {
        let at = self.place(run).ok()?;
        self.forget_moment(at);
        let held = self.by_run.remove(at);
        give_room_back(&mut self.by_run);
        give_room_back(&mut self.by_moment);
        held
    }

    /// It is to be looked at then, and at no other moment.
    pub(super) fn look_at(&mut self, run: RunId, moment: Observed) {
        let Ok(at) = self.place(run) else { return };
        self.forget_moment(at);
        self.by_run[at].look_at = Maybe::at(moment);
        if let Err(at) = self.by_moment.binary_search(&(moment, run)) {
            make_room(&mut self.by_moment, 1);
            self.by_moment.insert(at, (moment, run));
        }
    }

    fn forget_moment(&mut self, at: usize) {
        let held = &mut self.by_run[at];
        let Some(moment) = held.look_at.get() else { return };
        held.look_at = Maybe::NONE;
        if let Ok(at) = self.by_moment.binary_search(&(moment, held.run)) {
            self.by_moment.remove(at);
        }
    }

    /// The earliest moment at which one is to be looked at.
    pub(super) fn next_look(&self) -> Option<Observed> {
        self.by_moment.front().map(|(moment, _)| *moment)
    }

    /// One whose moment has come; its place in that order is given up.
    pub(super) fn pop_due(&mut self, now: Observed) -> Option<RunId> {
        let run = self.by_moment.front().filter(|(moment, _)| *moment <= now)?.1;
        self.by_moment.pop_front();
        if let Some(held) = self.get_mut(run) {
            held.look_at = Maybe::NONE;
        }
        Some(run)
    }
}

/// An eighth more where there is none left, not as much again.
fn make_room<T>(rows: &mut VecDeque<T>, more: usize) {
    if rows.capacity() - rows.len() < more {
        rows.reserve_exact(more.max(rows.len() / 8).max(4));
    }
}

/// Half and more of it is empty.
fn give_room_back<T>(rows: &mut VecDeque<T>) {
    if rows.capacity() > 8 && rows.len() * 2 < rows.capacity() {
        rows.shrink_to(rows.len() + rows.len() / 8);
    }
}

/// What many leases share, with how many do. A place where nobody does any more is used again.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(Vec<(T, u32)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + PartialEq> Table<T> {
    /// One more has this value; its place.
    pub(super) fn take(&mut self, value: T) -> u32 {
        let known = self.0.iter().position(|(known, n)| *n > 0 && *known == value);
        let at = known.or_else(|| self.0.iter().position(|(_, n)| *n == 0)).unwrap_or(self.0.len());
        match self.0.get_mut(at) {
            Some(row) => *row = (value, row.1 + 1),
            None => self.0.push((value, 1)),
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// One less has it.
    pub(super) fn give_back(&mut self, at: u32) {
        self.0[at as usize].1 -= 1;
    }

    pub(super) fn get(&self, at: u32) -> &T {
        &self.0[at as usize].0
    }

    /// What somebody has, with its place.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.0).filter(|(_, (_, n))| *n > 0).map(|(at, (value, _))| (at, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wall;
    use crate::options::AttemptLimits;
    use crate::policy::QueuePolicy;

    fn held(n: u128) -> HeldLease {
        let info = LeaseInfo {
            lease: LeaseRef { run_id: run(n), epoch: Epoch(1) },
            liveness: QueuePolicy::default().liveness(),
            started: false,
            cancelling: false,
            begun: Observed(0),
            since: Observed(0),
            limits: AttemptLimits { run_timeout: Millis::hours(1), progress_timeout: None },
        };
        HeldLease::new(&info, 0, 0, 0)
    }

    fn run(n: u128) -> RunId {
        RunId::from_parts(Wall(1), n << 64)
    }

    fn bytes_for_each(leases: &Leases) -> usize {
        let rows = leases.by_run.capacity() * size_of::<HeldLease>();
        let moments = leases.by_moment.capacity() * size_of::<(Observed, RunId)>();
        (rows + moments) / leases.len()
    }

    #[test]
    fn whatever_the_order_in_which_they_come_and_go_both_orders_hold() {
        let mut leases = Leases::default();
        for n in 0..500 {
            let n = n * 7 % 500;
            leases.put(held(n));
            leases.look_at(run(n), Observed(1_000 - u64::try_from(n).unwrap()));
        }
        leases.look_at(run(3), Observed(5));
        for n in (0..500).filter(|n| n % 3 == 1) {
            assert!(leases.remove(run(n)).is_some() && leases.remove(run(n)).is_none());
        }
        let left: Vec<_> = (0..500).filter(|n| n % 3 != 1).map(run).collect();
        assert_eq!(leases.iter().map(|held| held.run).collect::<Vec<_>>(), left);
        assert_eq!(leases.next_look(), Some(Observed(5)));
        let due: Vec<_> = std::iter::from_fn(|| leases.pop_due(Observed(600))).collect();
        assert_eq!(due.first(), Some(&run(3)));
        let expected: Vec<_> = (400..500).rev().filter(|n| n % 3 != 1).map(run).collect();
        assert_eq!(due[1..], expected);
        assert!(due.iter().all(|run| leases.get(*run).and_then(HeldLease::looked_at).is_none()));
    }

    #[test]
    fn a_lease_costs_no_more_than_126_bytes_however_many_there_were() {
        let mut leases = Leases::default();
        for n in 0..10_000 {
            leases.put(held(n));
            leases.look_at(run(n), Observed(u64::try_from(n).unwrap()));
        }
        assert!(bytes_for_each(&leases) <= 126, "{}", bytes_for_each(&leases));
        for n in (0..10_000).filter(|n| n % 100 != 0) {
            leases.remove(run(n));
        }
        assert!(bytes_for_each(&leases) <= 2 * 126, "{}", bytes_for_each(&leases));
    }

    #[test]
    fn a_place_that_nobody_uses_any_more_is_used_again() {
        let mut table = Table::default();
        let places = [table.take('a'), table.take('b'), table.take('a')];
        assert_eq!(places, [0, 1, 0]);
        table.give_back(0);
        assert_eq!(table.take('c'), 2, "one still has it");
        table.give_back(0);
        assert_eq!((table.take('d'), *table.get(0)), (0, 'd'));
        assert_eq!(table.in_use().collect::<Vec<_>>(), [(0, &'d'), (1, &'b'), (2, &'c')]);
    }
}
