//! Leases come, attempts begin and end, orders are carried out.

use super::ending;
use super::run::{Phase, Run, Why};
use super::state_machine::Agent;
use super::types::{ChildEvent, Effect, End, Now, Stop};
use crate::channel::Down;
use crate::guard::Command;
use outlive_api::report::WireResult;
use outlive_api::session::Lease;
use outlive_core::report::{Frame, Op, Wait};
use outlive_core::{Epoch, Json, LeaseRef, Millis, Reason, RunId, State};

/// Leases that are remembered after their end: more than end while an answer is on its way.
const OVER: usize = 1_024;

impl Agent {
    /// Leases that the server pushes; `push_seq` 0: what this worker holds and did not name.
    pub(super) fn leases(&mut self, push_seq: u64, leases: Vec<Lease>, now: Now) {
        for lease in leases {
            let name = lease.lease();
            if self.over.contains(&name) || self.siblings(name.run_id).any(|(known, _)| known.epoch >= name.epoch) {
                // Here already, or older than what is here: its slot is as free as before.
                if push_seq > 0 {
                    self.grant();
                }
                continue;
            }
            self.doom_older(name);
            let guarded = !self.in_process.contains(&lease.kind);
            let mut run = Run::new(Box::new(lease), guarded);
            run.deadline = self.first_trust(run.terms);
            self.runs.insert(name, run);
            if self.is_leaving() {
                self.end(name, Op::Release(Wait::Nothing));
            } else {
                self.waiting.insert(name);
            }
        }
        if let Some(open) = &mut self.link.current {
            open.seen_push_seq = open.seen_push_seq.max(push_seq);
        }
        if push_seq == 0 {
            self.count_slots();
        }
        self.start_waiting(now);
    }

    /// Attempts of the same run.
    pub(super) fn siblings(&self, run_id: RunId) -> impl Iterator<Item = (LeaseRef, &Run)> {
        let (from, to) = (LeaseRef { run_id, epoch: Epoch(i64::MIN) }, LeaseRef { run_id, epoch: Epoch(i64::MAX) });
        self.runs.range(from..=to).map(|(&lease, run)| (lease, run))
    }

    /// A newer lease of the same run is proof that the older one is not ours any more.
    fn doom_older(&mut self, newer: LeaseRef) {
        let older: Vec<_> = self.siblings(newer.run_id).filter(|(_, run)| !run.has_ended()).map(|(l, _)| l).collect();
        for lease in older {
            self.doom(lease);
        }
    }

    pub(super) fn start(&mut self, lease: LeaseRef, now: Now) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        if !matches!(run.phase, Phase::Waiting(_)) {
            return;
        }
        let Phase::Waiting(body) = std::mem::replace(&mut run.phase, Phase::Starting) else { return };
        run.begins(now);
        if run.guarded {
            let (isolation, deadline) = (run.isolation, run.deadline);
            self.out.push(Effect::Guard(Command::Track { lease, isolation, deadline }));
        }
        self.out.push(Effect::Spawn(body));
        self.limit_changed(lease, now);
    }

    /// Something happened to an attempt.
    pub(super) fn child(&mut self, lease: LeaseRef, event: ChildEvent, now: Now) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        match event {
            ChildEvent::Started(group) => {
                if let Some(group) = group {
                    run.group = Some(group);
                    self.out.push(Effect::Guard(Command::Group { lease, group }));
                }
                let Some(run) = self.runs.get_mut(&lease) else { return };
                if matches!(run.phase, Phase::Starting) {
                    run.phase = Phase::Running;
                }
                if run.is_wanted() {
                    self.say(lease, Op::Start, 0, None);
                }
            }
            ChildEvent::Output { channel, bytes } => {
                if !run.is_wanted() || run.has_ended() {
                    self.out.push(Effect::Window(lease, bytes.len()));
                    return;
                }
                run.progresses(now);
                run.outbound.seq += 1;
                let (seq, size) = (run.outbound.seq, bytes.len());
                self.say(lease, Op::Output(Frame { seq, channel, bytes }), size, None);
            }
            ChildEvent::Said { reference, op } => self.said(lease, reference, op, now),
            ChildEvent::Ended(end) => self.child_ended(lease, end),
        }
    }

    fn said(&mut self, lease: LeaseRef, reference: Option<u64>, op: Op, now: Now) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        if !run.is_wanted() || run.has_ended() {
            let result = WireResult::Fenced { state: State::Queued, epoch: lease.epoch };
            self.answer(lease, reference, result);
            return;
        }
        run.progresses(now);
        match op {
            Op::Checkpoint(_) => self.say(lease, op, 0, reference),
            Op::Progress { .. } => {
                self.say(lease, op, 0, None);
                self.answer(lease, reference, WireResult::Ok);
            }
            Op::Release(wait) => {
                // The run may go elsewhere only when nothing of this attempt is left: it is given a grace to end by itself.
                let grace = run.cancel_grace;
                if matches!(run.phase, Phase::Starting | Phase::Running) {
                    run.phase =
                        Phase::Stopping { why: Why::Release(wait), kill_at: Some(now.mono + grace), termed: false };
                    self.limit_changed(lease, now);
                }
                self.answer(lease, reference, WireResult::Ok);
            }
            Op::Start => self.answer(lease, reference, WireResult::Ok),
            _ => {
                let detail = "the end of its process ends an attempt; exit, or release it".to_owned();
                self.answer(lease, reference, WireResult::Invalid { detail });
            }
        }
    }

    fn answer(&mut self, lease: LeaseRef, reference: Option<u64>, result: WireResult) {
        if let Some(reference) = reference {
            self.out.push(Effect::Tell(lease, Down::Answer { reference, result }));
        }
    }

    fn child_ended(&mut self, lease: LeaseRef, end: End) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        if run.reaped {
            return;
        }
        run.reaped = true;
        let op = ending::last_word(&run.phase, end, run.outbound.seq);
        if run.guarded {
            self.out.push(Effect::Guard(Command::Untrack { lease }));
        }
        self.free_slot(lease);
        match op {
            Some(op) => self.end(lease, op),
            None => self.forget(lease),
        }
    }

    /// Over: the last word is said.
    fn end(&mut self, lease: LeaseRef, op: Op) {
        if let Some(run) = self.runs.get_mut(&lease) {
            run.phase = Phase::Ended;
            self.say_end(lease, op);
        }
    }

    /// What has ended here never starts again under the same epoch, whoever pushes it: a session that opens at another replica
    /// may be told of a lease that a report, on its way by the old connection, has closed since.
    fn remember(&mut self, lease: LeaseRef) {
        self.over.push_back(lease);
        if self.over.len() > OVER {
            self.over.pop_front();
        }
    }

    /// The server has answered, or nobody wants to know: nothing more is kept.
    pub(super) fn forget(&mut self, lease: LeaseRef) {
        self.free_slot(lease);
        if let Some(run) = self.runs.remove(&lease)
            && run.has_ended()
        {
            self.out.push(Effect::Forget(lease));
            self.remember(lease);
        }
        self.waiting.remove(&lease);
    }

    /// Not ours any more. An end that is said already stands; the server's answer to it decides.
    pub(super) fn lost(&mut self, lease: LeaseRef) {
        if self.runs.get(&lease).is_some_and(|run| !run.has_ended()) {
            self.doom(lease);
        }
    }

    /// Kills it, without thawing, and says nothing more about it.
    pub(super) fn doom(&mut self, lease: LeaseRef) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        let was_there = !run.reaped;
        let was_doomed = !run.is_wanted();
        let unanswered = run.outbound.abandon();
        if !was_there {
            self.forget(lease);
            return;
        }
        run.phase = Phase::Doomed;
        if !was_doomed {
            for reference in unanswered {
                let result = WireResult::Fenced { state: State::Queued, epoch: lease.epoch };
                self.answer(lease, Some(reference), result);
            }
            self.out.push(Effect::Stop(lease, Stop::Kill));
        }
    }

    /// What the server wants to hear cannot be said any more: the run must be taken back.
    pub(super) fn give_up(&mut self, lease: LeaseRef) {
        match self.runs.get(&lease) {
            Some(run) if run.has_ended() => self.forget(lease),
            Some(_) => self.doom(lease),
            None => {}
        }
    }

    pub(super) fn cancel(&mut self, lease: LeaseRef, reason: Reason, now: Now) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        match &mut run.phase {
            Phase::Waiting(_) => self.end(lease, Op::Cancelled { exit: None }),
            Phase::Starting | Phase::Running => {
                self.out.push(Effect::Tell(lease, Down::Cancel { reason }));
                self.stop(lease, Why::Cancel, now);
            }
            Phase::Stopping { why, termed, .. } => {
                let already = *why == Why::Cancel || matches!(why, Why::Limit(_));
                if !already && *termed {
                    *why = Why::Cancel;
                } else if !already {
                    self.stop(lease, Why::Cancel, now);
                }
            }
            Phase::Doomed | Phase::Ended => {}
        }
    }

    /// TERM now, KILL when patience ends.
    pub(super) fn stop(&mut self, lease: LeaseRef, why: Why, now: Now) {
        if let Some(run) = self.runs.get_mut(&lease) {
            run.phase = Phase::Stopping { why, kill_at: Some(now.mono + run.cancel_grace), termed: true };
            self.out.push(Effect::Stop(lease, Stop::Term));
            self.limit_changed(lease, now);
        }
    }

    /// The guard killed it at its deadline.
    pub(super) fn isolated(&mut self, lease: LeaseRef) {
        if let Some(run) = self.runs.get_mut(&lease)
            && !run.reaped
            && run.is_wanted()
        {
            run.phase = Phase::Stopping { why: Why::Isolation, kill_at: None, termed: true };
        }
    }

    pub(super) fn signal(&mut self, lease: LeaseRef, name: String, data: Json) {
        if self.runs.get(&lease).is_some_and(|run| !run.reaped && run.is_wanted()) {
            self.out.push(Effect::Tell(lease, Down::Signal { name, data }));
        }
    }

    pub(super) fn tell_drain(&mut self) {
        let there = self.runs.iter().filter(|(_, run)| !run.reaped && run.is_wanted());
        let leases: Vec<_> = there.map(|(&lease, _)| lease).collect();
        self.out.extend(leases.into_iter().map(|lease| Effect::Tell(lease, Down::Drain)));
    }

    /// What has not started goes back, without cost.
    pub(super) fn release_waiting(&mut self) {
        for lease in std::mem::take(&mut self.waiting) {
            self.end(lease, Op::Release(Wait::Nothing));
        }
    }

    /// What has started goes back too: TERM, grace, KILL, release.
    pub(super) fn hand_back(&mut self, now: Now) {
        let running = |run: &Run| matches!(run.phase, Phase::Starting | Phase::Running);
        let leases: Vec<_> = self.runs.iter().filter(|(_, run)| running(run)).map(|(&lease, _)| lease).collect();
        for lease in leases {
            self.stop(lease, Why::HandBack, now);
        }
    }

    /// Patience with an attempt, at least.
    pub(super) fn grace(&self, lease: LeaseRef) -> Millis {
        self.runs.get(&lease).map_or(Millis::ZERO, |run| run.cancel_grace)
    }
}
