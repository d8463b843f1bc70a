//! What an earlier incarnation could not say any more: said first on every connection, until it is answered.

use super::reports::{ends_attempt, weight};
use crate::outbox::Record;
use outlive_api::report::{OpName, WireItem};
use outlive_core::LeaseRef;
use outlive_core::limits::sizes;
use std::collections::VecDeque;

/// The replay of an outbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    /// Unanswered items, in order; the last one is `outbox_done`.
    items: VecDeque<WireItem>,
    /// How many of them are on the wire, and in which report.
    in_flight: Option<(u64, usize)>,
}

impl Replay {
    pub(super) fn of(records: Vec<Record>) -> Self {
        let mut items: VecDeque<_> = records.into_iter().flat_map(|r| r.items).collect();
        if !items.is_empty() {
            items.push_back(WireItem::bare(OpName::OutboxDone, None));
        }
        Self { items, in_flight: None }
    }

    /// Ends that are not answered yet.
    pub(super) fn pending(&self) -> usize {
        self.items.iter().filter(|item| ends_attempt(item.op)).count()
    }

    /// A new connection: what was on the wire is said again.
    pub(super) fn rewind(&mut self) {
        self.in_flight = None;
    }

    /// The next report, unless one is on the wire.
    pub(super) fn next(&mut self, report_seq: u64) -> Option<Vec<WireItem>> {
        if self.items.is_empty() || self.in_flight.is_some() {
            return None;
        }
        let (mut report, mut bytes) = (Vec::new(), 0);
        for item in &self.items {
            bytes += weight(item);
            if !report.is_empty() && (report.len() == sizes::BATCH || bytes > sizes::OUTPUT_IN_FLIGHT) {
                break;
            }
            report.push(item.clone());
        }
        self.in_flight = Some((report_seq, report.len()));
        Some(report)
    }

    /// A report has been answered; the leases whose end is settled, if it was one of these.
    pub(super) fn answered(&mut self, report_seq: u64) -> Option<Vec<LeaseRef>> {
        let (seq, count) = self.in_flight?;
        if seq != report_seq {
            return None;
        }
        self.in_flight = None;
        let ends = self.items.drain(..count).filter(|item| ends_attempt(item.op));
        Some(ends.filter_map(|item| Some(LeaseRef { run_id: item.run_id?, epoch: item.epoch? })).collect())
    }
}
