//! Who is here, and who is to be looked at when.
//!
//! A beat moves no timer. Each session has one entry, at the earliest moment at which anything about it could be due when the entry was
//! made; when that moment comes it is computed again from what has been heard since, and usually moved. So a beat costs nothing
//! here, and a tick what is due; each session is looked at about once in its TTL. Lists of equal TTLs would spare that look and
//! pay with a move at each beat, of which there are five in a TTL.

use super::session::Session;
use super::work::{Work, done};
use crate::Holder;
use crate::time::Observed;
use std::collections::{BTreeMap, BTreeSet};

/// All sessions of this home, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(BTreeMap<Holder, Session>);

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains_key(&self, holder: &Holder) -> bool {
        self.0.contains_key(holder)
    }

    pub(super) fn get(&self, holder: &Holder) -> Option<&Session> {
        done(Work::Session);
        self.0.get(holder)
    }

    pub(super) fn get_mut(&mut self, holder: &Holder) -> Option<&mut Session> {
        done(Work::Session);
        self.0.get_mut(holder)
    }

    pub(super) fn insert(&mut self, session: Session) {
        self.0.insert(session.holder, session);
    }

    pub(super) fn remove(&mut self, holder: &Holder) -> Option<Session> {
        self.0.remove(holder)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Session> {
        self.0.values().inspect(|_| done(Work::Session))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.0.values_mut().inspect(|_| done(Work::Session))
    }
}

/// When each session is to be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers(BTreeSet<(Observed, Holder)>);

impl Timers {
    pub(super) fn insert(&mut self, due: Observed, holder: Holder) {
        done(Work::Timer);
        self.0.insert((due, holder));
    }

    pub(super) fn remove(&mut self, due: Observed, holder: Holder) {
        done(Work::Timer);
        self.0.remove(&(due, holder));
    }

    /// One whose moment has come.
    pub(super) fn pop_due(&mut self, now: Observed) -> Option<Holder> {
        self.0.first().filter(|(due, _)| *due <= now)?;
        done(Work::Timer);
        self.0.pop_first().map(|(_, holder)| holder)
    }
}
