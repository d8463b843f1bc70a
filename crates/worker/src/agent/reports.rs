//! What is said about attempts, and kept until it is answered.
//!
//! Each attempt has a queue of entries, all of them unacknowledged; the first `sent` of them are on the wire. A new connection,
//! or a `gap`, moves that mark back: everything after it is said again, in order. Answers to what was said before the mark
//! moved carry an older `round` and are believed only when they are final.
//!
//! At most [`sizes::BATCH`] items and [`sizes::OUTPUT_IN_FLIGHT`] bytes of output, results and checkpoints are on the wire; the
//! rest waits here, each attempt's share being bounded by its window (see [`crate::runtime`]), so that a command that writes
//! faster than the server reads is stopped by its own pipe.

use outlive_api::report::{OpName, WireFrame, WireItem};
use outlive_core::limits::sizes;
use outlive_core::{Json, LeaseRef};
use std::collections::VecDeque;

/// Frames that may travel inside an end; a message must stay below the session's limit even as base64.
const CARRIED_FRAMES: usize = 4 << 20;

/// Something to be said.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: u64,
    pub item: WireItem,
    /// Bytes of the attempt's window that it uses.
    pub bytes: usize,
    /// Its size on the wire, without what all items have.
    weight: usize,
    /// To be answered to the attempt.
    pub reference: Option<u64>,
}

impl Entry {
    pub(super) const fn is_end(&self) -> bool {
        ends_attempt(self.item.op)
    }
}

/// Whether an op ends its attempt.
pub(crate) const fn ends_attempt(op: OpName) -> bool {
    matches!(op, OpName::Complete | OpName::Fail | OpName::Lost | OpName::Release | OpName::Cancelled)
}

/// What one attempt has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbound {
    entries: VecDeque<Entry>,
    sent: usize,
    round: u32,
    next_id: u64,
    /// The last frame's number.
    pub seq: i64,
    /// Whether the outbox has its end.
    pub stored: bool,
    /// Whether it waits for its turn to speak.
    pub queued: bool,
}

impl Outbound {
    pub(super) fn push(&mut self, item: WireItem, bytes: usize, reference: Option<u64>) {
        let weight = weight(&item);
        // The end implies the start, and the newest progress is the progress.
        let superseded = |e: &Entry| match e.item.op {
            OpName::Start => true,
            OpName::Progress => item.op == OpName::Progress,
            _ => false,
        };
        if self.entries.len() > self.sent && self.entries.back().is_some_and(superseded) {
            self.entries.pop_back();
        }
        self.entries.push_back(Entry { id: self.next_id, item, bytes, weight, reference });
        self.next_id += 1;
    }

    /// What comes next, if it may be said now.
    pub(super) fn next(&self) -> Option<&Entry> {
        self.entries.get(self.sent).filter(|e| !e.is_end() || self.stored)
    }

    pub(super) fn has_end(&self) -> bool {
        self.entries.back().is_some_and(Entry::is_end)
    }

    fn send(&mut self, lease: LeaseRef) -> Option<(WireItem, Sent)> {
        let entry = self.entries.get(self.sent)?;
        let sent = Sent { lease, id: entry.id, round: self.round, weight: entry.weight };
        let item = entry.item.clone();
        self.sent += 1;
        Some((item, sent))
    }

    /// It has been answered for good.
    pub(super) fn settle(&mut self, id: u64) -> Option<Entry> {
        let at = self.entries.iter().position(|e| e.id == id)?;
        self.sent -= usize::from(at < self.sent);
        self.entries.remove(at)
    }

    pub(super) fn is_end(&self, id: u64) -> bool {
        self.entries.back().is_some_and(|e| e.id == id && e.is_end())
    }

    pub(super) fn is_current(&self, sent: &Sent) -> bool {
        sent.round == self.round
    }

    /// Says everything again, on a new connection. The frames travel inside a success, so that it can be salvaged.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.round += 1;
        self.fold();
    }

    /// Says again what comes from frame `expected` on. False: that frame is not here any more.
    pub(super) fn rewind_to(&mut self, expected: i64) -> bool {
        let wanted = self.entries.iter().position(|e| e.item.op == OpName::Output && e.item.seq >= Some(expected));
        let found = wanted.filter(|&at| self.entries[at].item.seq == Some(expected));
        if let Some(at) = found {
            self.sent = at;
            self.round += 1;
        }
        found.is_some()
    }

    /// Moves unacknowledged frames into the success that follows them. Whether the queue changed.
    pub(super) fn fold(&mut self) -> bool {
        let total: usize = self.entries.iter().map(|e| e.bytes).sum();
        let is_complete = self.entries.back().is_some_and(|e| e.item.op == OpName::Complete);
        if !is_complete || total == 0 || total > CARRIED_FRAMES {
            return false;
        }
        let Some(mut end) = self.entries.pop_back() else { return false };
        end.item.frames = self.entries.drain(..).filter_map(|e| carried(e.item)).collect();
        end.weight += total;
        self.entries.push_back(end);
        self.sent = 0;
        self.round += 1;
        true
    }

    /// All of it that an outbox must keep: what is unanswered, the end last.
    pub(super) fn to_keep(&self) -> Vec<WireItem> {
        let mut kept = self.clone();
        kept.fold();
        let said = kept.entries.into_iter().filter(|e| e.item.op == OpName::Output || e.is_end());
        said.map(|e| e.item).collect()
    }

    /// Nothing more is said; who waits for an answer.
    pub(super) fn abandon(&mut self) -> Vec<u64> {
        self.sent = 0;
        self.round += 1;
        std::mem::take(&mut self.entries).into_iter().filter_map(|e| e.reference).collect()
    }
}

/// What an item weighs on the wire beside its fixed fields.
pub(super) fn weight(item: &WireItem) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.text().len());
    let frames: usize = item.frames.iter().map(|f| length(&f.text) + length(&f.base64)).sum();
    let error = item.error.as_ref().map_or(0, |e| e.message.len() + length(&e.code) + length(&e.stack));
    let texts: usize = [&item.text, &item.base64, &item.stdout, &item.note].into_iter().map(length).sum();
    texts + json(&item.data) + json(&item.result) + frames + error
}

fn carried(item: WireItem) -> Option<WireFrame> {
    let (seq, channel) = (item.seq?, item.channel?);
    Some(WireFrame { seq, channel, text: item.text, base64: item.base64 })
}

/// An item on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub lease: LeaseRef,
    pub id: u64,
    round: u32,
    weight: usize,
}

/// What is on the wire of the current connection.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight {
    reports: VecDeque<(u64, Vec<Sent>)>,
    last_seq: u64,
    items: usize,
    weight: usize,
}

impl InFlight {
    /// Whether one more item fits. What alone is over the limit goes alone.
    pub(super) const fn fits(&self, entry: &Entry) -> bool {
        let is_light = entry.weight == 0 || self.weight == 0;
        self.items < sizes::BATCH && (is_light || self.weight + entry.weight <= sizes::OUTPUT_IN_FLIGHT)
    }

    /// Takes the attempt's next item.
    pub(super) fn take(
        &mut self,
        lease: LeaseRef,
        outbound: &mut Outbound,
        report: &mut Vec<Sent>,
    ) -> Option<WireItem> {
        let (item, sent) = outbound.send(lease)?;
        self.items += 1;
        self.weight += sent.weight;
        report.push(sent);
        Some(item)
    }

    /// The number of the next report.
    pub(super) const fn next_seq(&self) -> u64 {
        self.last_seq + 1
    }

    /// A report is on its way; its number.
    pub(super) fn sent(&mut self, report: Vec<Sent>) -> u64 {
        self.last_seq += 1;
        self.reports.push_back((self.last_seq, report));
        self.last_seq
    }

    /// The items of an answered report, in their order.
    pub(super) fn answered(&mut self, report_seq: u64) -> Vec<Sent> {
        let Some(at) = self.reports.iter().position(|(seq, _)| *seq == report_seq) else { return Vec::new() };
        let (_, sent) = self.reports.remove(at).unwrap_or_default();
        self.items -= sent.len();
        self.weight -= sent.iter().map(|s| s.weight).sum::<usize>();
        sent
    }
}
