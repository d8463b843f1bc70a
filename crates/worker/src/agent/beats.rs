//! Beats, their acknowledgements, credit, and the trust that follows.
//!
//! Two kinds of beat: those of the timer (and the first one of a connection) name all that is held, and confirm it when they
//! are acknowledged; those that only tell a new credit name nothing, and their acknowledgement proves no more than that the
//! server is there.

use super::run::{Phase, Run};
use super::state_machine::Agent;
use super::types::{Effect, Now};
use crate::guard::Command;
use outlive_api::session::{Beat, WorkerMessage};
use outlive_core::engine::trust;
use outlive_core::policy::OnIsolation;
use outlive_core::{LeaseRef, Millis, Mono};
use std::collections::BTreeMap;

/// The least time between two beats that only tell credit: what changes meanwhile is told together.
const CREDIT_GAP: Millis = Millis(2);
/// A deadline that moves by less than this is not told to the guard, unless work stands still.
const TRUST_STEP: Millis = Millis(50);
/// Beats without an answer that are remembered; older ones can no longer give trust.
const UNANSWERED: usize = 64;

impl Agent {
    /// The worker speaks first, with all that it holds. Credit follows when the server has said what else is held.
    pub(super) fn first_beat(&mut self, now: Now) {
        self.beat(true, now);
    }

    fn beat(&mut self, timer: bool, now: Now) {
        let held = if timer { self.held(now) } else { Vec::new() };
        let heartbeat = self.link.heartbeat;
        let Some(open) = &mut self.link.current else { return };
        open.beat_seq += 1;
        let beat_seq = open.beat_seq;
        if timer {
            open.next_beat = now.boot + heartbeat;
            self.runs.values_mut().for_each(|run| run.named_from = run.named_from.or(Some(beat_seq)));
        }
        (open.credit_told, open.credit_told_at) = (open.credit, now.boot);
        if open.unanswered.len() < UNANSWERED {
            open.unanswered.push_back((beat_seq, now.boot, timer));
        }
        let (credit, seen_push_seq) = (open.credit, open.seen_push_seq);
        let message = WorkerMessage::Beat(Beat { beat_seq, credit, seen_push_seq, timer, held });
        self.out.push(Effect::Send { conn: open.conn, message });
    }

    /// What is due of both kinds.
    pub(super) fn say_beats(&mut self, now: Now) {
        let Some(open) = &self.link.current else { return };
        if now.boot >= open.next_beat {
            self.beat(true, now);
        } else if self.credit_due().is_some_and(|at| now.boot >= at) {
            self.beat(false, now);
        }
    }

    pub(super) fn credit_due(&self) -> Option<Mono> {
        let open = self.link.current.as_ref()?;
        (open.credit != open.credit_told).then_some(open.credit_told_at + CREDIT_GAP)
    }

    /// The server has said what is held here; all other slots are free. Credit counts from the opening of the connection.
    pub(super) fn count_slots(&mut self) {
        let held = u64::try_from(self.runs.values().filter(|run| run.slot).count()).unwrap_or(u64::MAX);
        let free = if self.is_leaving() { 0 } else { u64::from(self.slots).saturating_sub(held) };
        if let Some(open) = &mut self.link.current {
            open.credit = free;
        }
    }

    /// A slot is free again: once for each lease.
    pub(super) fn free_slot(&mut self, lease: LeaseRef) {
        if let Some(run) = self.runs.get_mut(&lease).filter(|run| run.slot) {
            run.slot = false;
            self.grant();
        }
    }

    /// One lease more may be pushed, unless the agent is leaving.
    pub(super) fn grant(&mut self) {
        let leaving = self.is_leaving();
        if let Some(open) = self.link.current.as_mut().filter(|_| !leaving) {
            open.credit += 1;
        }
    }

    /// Every lease named in that beat is confirmed, unless a `lost` came first.
    pub(super) fn beat_ack(&mut self, beat_seq: u64, home_unsure: bool, now: Now) {
        let Some(open) = &mut self.link.current else { return };
        let Some(at) = open.unanswered.iter().position(|(seq, ..)| *seq == beat_seq) else { return };
        let Some((_, sent, timer)) = open.unanswered.drain(..=at).next_back() else { return };
        if home_unsure {
            self.link.leave_address(now);
            return;
        }
        self.link.answers(sent);
        // A beat that named nothing confirms nothing: a verdict that is under way holds back the answer to a timer's beat, not
        // the answer to this one.
        if !timer {
            return;
        }
        let hides_ends = self.link.hides_ends();
        self.set_trust(now, |run| {
            let named = run.named_from.is_some_and(|from| from <= beat_seq);
            (named && run.is_wanted()).then(|| run.deadline.max(trust::after_ack(run.terms, sent, hides_ends)))
        });
    }

    /// The trust of a lease that has just come: the server said so after it had heard this connection's first beat.
    pub(super) fn first_trust(&self, terms: trust::Terms) -> Mono {
        let opened = self.link.current.as_ref().map_or(Mono(0), |open| open.first_beat);
        trust::after_ack(terms, self.link.last_heard.max(opened), self.link.hides_ends())
    }

    /// Moves deadlines and tells the guard, one line for each deadline.
    pub(super) fn set_trust(&mut self, now: Now, deadline: impl Fn(&Run) -> Option<Mono>) {
        let mut told: BTreeMap<Mono, Vec<LeaseRef>> = BTreeMap::new();
        let mut goes_on = false;
        for (&lease, run) in &mut self.runs {
            let Some(new) = deadline(run).filter(|new| *new != run.deadline) else { continue };
            let small = new > run.deadline && new.since(run.deadline) < TRUST_STEP && !run.is_frozen();
            if small {
                continue;
            }
            goes_on |= trust::is_over(run.deadline, now.boot) && !trust::is_over(new, now.boot);
            run.deadline = new;
            if run.guarded && !run.reaped && run.isolation != OnIsolation::Continue {
                told.entry(new).or_default().push(lease);
            }
        }
        if goes_on {
            self.limits_changed(now);
        }
        self.out.extend(told.into_iter().map(|(at, leases)| Effect::Guard(Command::Trust { at, leases })));
    }

    /// Starts what waits, if no older attempt of the same run has a process here and its lease is still believed.
    pub(super) fn start_waiting(&mut self, now: Now) {
        if self.waiting.is_empty() {
            return;
        }
        for lease in std::mem::take(&mut self.waiting) {
            let blocked = self.siblings(lease.run_id).any(|(other, run)| other != lease && !run.reaped);
            let Some(run) = self.runs.get_mut(&lease) else { continue };
            if !matches!(run.phase, Phase::Waiting(_)) {
                continue;
            }
            let trusted = run.isolation == OnIsolation::Continue || !trust::is_over(run.deadline, now.boot);
            if blocked || !trusted {
                self.waiting.insert(lease);
                continue;
            }
            self.start(lease, now);
        }
    }
}
