//! Reports out, results in.

use super::reports::{InFlight, Sent};
use super::state_machine::Agent;
use super::types::Effect;
use crate::channel::Down;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::WorkerMessage;
use outlive_core::report::{ErrorReport, Failure, Item, Op};
use outlive_core::{LeaseRef, Reason};

impl Agent {
    /// Puts an attempt into the row of those that have something to say.
    pub(super) fn speaks(&mut self, lease: LeaseRef) {
        if let Some(run) = self.runs.get_mut(&lease)
            && !run.outbound.queued
            && run.outbound.next().is_some()
        {
            run.outbound.queued = true;
            self.speakers.push_back(lease);
        }
    }

    /// Says what may be said now: the replay first, alone; then one report of as much as fits.
    pub(super) fn say_reports(&mut self) {
        let Some(conn) = self.link.current.as_ref().filter(|open| open.greeted).map(|open| open.conn) else { return };
        if let Some(items) = self.replay.next(self.in_flight.next_seq()) {
            let report_seq = self.in_flight.sent(Vec::new());
            let message = WorkerMessage::Report { report_seq, items, replay: true };
            self.out.push(Effect::Send { conn, message });
        }
        let (mut items, mut sent) = (Vec::new(), Vec::new());
        while let Some(lease) = self.speakers.front().copied() {
            let Some(run) = self.runs.get_mut(&lease) else {
                self.speakers.pop_front();
                continue;
            };
            if !speak(lease, &mut run.outbound, &mut self.in_flight, &mut items, &mut sent) {
                break;
            }
            run.outbound.queued = false;
            self.speakers.pop_front();
        }
        if !items.is_empty() {
            let report_seq = self.in_flight.sent(sent);
            self.out.push(Effect::Send { conn, message: WorkerMessage::Report { report_seq, items, replay: false } });
        }
    }

    /// The answers to a report.
    pub(super) fn results(&mut self, report_seq: u64, results: &[WireResult]) {
        if let Some(settled) = self.replay.answered(report_seq) {
            self.in_flight.answered(report_seq);
            self.out.extend(settled.into_iter().map(Effect::Forget));
            return;
        }
        for (sent, result) in self.in_flight.answered(report_seq).iter().zip(results) {
            self.result(sent, result);
        }
    }

    fn result(&mut self, sent: &Sent, result: &WireResult) {
        let lease = sent.lease;
        let Some(run) = self.runs.get_mut(&lease) else { return };
        match result {
            WireResult::Ok => self.settled(sent, result),
            WireResult::Fenced { .. } | WireResult::Terminal { .. } => {
                if !run.has_ended() {
                    self.doom(lease);
                } else if run.outbound.is_end(sent.id) {
                    self.settled(sent, result);
                } else if run.outbound.is_current(sent) {
                    // Only its end can still count, as a salvage: the frames go inside it.
                    run.outbound.fold();
                    self.settled(sent, result);
                }
            }
            WireResult::Gap { expected } => {
                if !run.outbound.is_current(sent) {
                    return;
                }
                if run.outbound.rewind_to(*expected) {
                    self.speaks(lease);
                } else {
                    self.give_up(lease);
                }
            }
            WireResult::Invalid { detail } => self.invalid(sent, result, detail),
        }
    }

    /// An item is answered for good.
    fn settled(&mut self, sent: &Sent, result: &WireResult) {
        let lease = sent.lease;
        let Some(run) = self.runs.get_mut(&lease) else { return };
        let Some(entry) = run.outbound.settle(sent.id) else {
            self.speaks(lease);
            return;
        };
        if entry.item.op == OpName::Output {
            self.out.push(Effect::Window(lease, entry.bytes));
        }
        if let Some(reference) = entry.reference {
            self.out.push(Effect::Tell(lease, Down::Answer { reference, result: result.clone() }));
        }
        if entry.is_end() {
            self.forget(lease);
        } else {
            self.speaks(lease);
        }
    }

    /// The server will never take this item. If it is the attempt's end, another end must say so.
    fn invalid(&mut self, sent: &Sent, result: &WireResult, detail: &str) {
        let Some(run) = self.runs.get_mut(&sent.lease) else { return };
        if !run.outbound.is_end(sent.id) {
            self.settled(sent, result);
            return;
        }
        let Some(refused) = run.outbound.settle(sent.id) else { return };
        if refused.item.op == OpName::Fail {
            self.forget(sent.lease);
            return;
        }
        let failure = Failure {
            reason: Reason::OutputInvalid,
            error: Some(ErrorReport { message: detail.to_owned(), ..ErrorReport::default() }),
            exit: refused.item.exit,
            retry_after: None,
            permanent: false,
            last_output_seq: None,
        };
        self.say_end(sent.lease, Op::Fail(failure));
    }

    /// The attempt's last word: into the outbox first, then to the server.
    pub(super) fn say_end(&mut self, lease: LeaseRef, op: Op) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        run.outbound.stored = false;
        run.outbound.push(WireItem::from(Item { lease, op }), 0, None);
        let record = crate::outbox::Record { lease, items: run.outbound.to_keep() };
        self.out.push(Effect::Store(Box::new(record)));
    }

    /// Says something that is not the end.
    pub(super) fn say(&mut self, lease: LeaseRef, op: Op, bytes: usize, reference: Option<u64>) {
        if let Some(run) = self.runs.get_mut(&lease) {
            run.outbound.push(WireItem::from(Item { lease, op }), bytes, reference);
            self.speaks(lease);
        }
    }
}

/// Says as much of one attempt as fits. False: the wire is full.
fn speak(
    lease: LeaseRef,
    outbound: &mut super::reports::Outbound,
    in_flight: &mut InFlight,
    items: &mut Vec<WireItem>,
    sent: &mut Vec<Sent>,
) -> bool {
    while let Some(entry) = outbound.next() {
        if !in_flight.fits(entry) {
            return false;
        }
        items.extend(in_flight.take(lease, outbound, sent));
    }
    true
}
