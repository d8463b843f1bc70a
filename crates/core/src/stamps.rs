//! What attempts stamp into a file of their run, and whether two of them ever executed at once.
//!
//! Each attempt appends its epoch, its process and the machine's monotonic time, over and over while it executes. A stamp of an
//! epoch after the first one of a higher epoch is overlap: both did something, and the older one had no right to. Nobody's
//! word is in it: not the server's, not the agent's.

use crate::ids::Epoch;
use std::collections::BTreeMap;

/// One stamp: a line `epoch pid nanoseconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the attempt.
    pub epoch: Epoch,
    /// The process that stamped.
    pub pid: u32,
    /// When, in nanoseconds of the machine's monotonic clock.
    pub at: u64,
}

impl Stamp {
    /// Its line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.epoch.0, self.pid, self.at)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        Some(Self {
            epoch: Epoch(parts.next()?.parse().ok()?),
            pid: parts.next()?.parse().ok()?,
            at: parts.next()?.parse().ok()?,
        })
    }
}

/// The stamps of a file. A line that is not whole yet is none.
#[must_use]
pub fn read(text: &str) -> Vec<Stamp> {
    text.split_inclusive('\n').filter_map(|line| Stamp::parse(line.strip_suffix('\n')?)).collect()
}

/// When one attempt executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its process.
    pub pid: u32,
    /// Its first stamp.
    pub first: u64,
    /// Its last one.
    pub last: u64,
    /// The longest time between two of them: it stood still, or the machine was busy.
    pub longest_gap: u64,
    /// How many there are.
    pub count: usize,
}

/// When each attempt executed.
#[must_use]
pub fn spans(stamps: &[Stamp]) -> BTreeMap<Epoch, Span> {
    let mut spans: BTreeMap<Epoch, Span> = BTreeMap::new();
    for stamp in stamps {
        let new = Span { pid: stamp.pid, first: stamp.at, last: stamp.at, longest_gap: 0, count: 0 };
        let span = spans.entry(stamp.epoch).or_insert(new);
        span.longest_gap = span.longest_gap.max(stamp.at.saturating_sub(span.last));
        span.first = span.first.min(stamp.at);
        span.last = span.last.max(stamp.at);
        span.count += 1;
    }
    spans
}

/// Two processes of one run executed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The attempt that should have stood still.
    pub older: Epoch,
    /// The attempt that had begun. The same one if two processes stamped for it.
    pub newer: Epoch,
    /// How long after that beginning the older one still stamped, in nanoseconds.
    pub by: u64,
}

/// The worst overlap, if there is any.
#[must_use]
pub fn overlap(stamps: &[Stamp]) -> Option<Overlap> {
    let spans = spans(stamps);
    let late = |stamp: &Stamp| {
        let (&newer, begun) = spans.range(stamp.epoch..).skip(1).min_by_key(|(_, span)| span.first)?;
        let by = stamp.at.checked_sub(begun.first)?;
        Some(Overlap { older: stamp.epoch, newer, by })
    };
    let second = |stamp: &Stamp| {
        let own = spans.get(&stamp.epoch).filter(|span| span.pid != stamp.pid)?;
        Some(Overlap { older: stamp.epoch, newer: stamp.epoch, by: stamp.at.saturating_sub(own.first) })
    };
    stamps.iter().filter_map(|stamp| late(stamp).or_else(|| second(stamp))).max_by_key(|overlap| overlap.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: i64, at: u64) -> Stamp {
        Stamp { epoch: Epoch(epoch), pid: u32::try_from(epoch).unwrap(), at }
    }

    #[test]
    fn stamps_read_back_and_a_torn_line_is_not_one() {
        let stamps = [stamp(1, 1000), stamp(2, 2000)];
        let text = stamps.map(|s| s.line()).concat() + "3 7";
        assert_eq!(read(&text), stamps);
        assert_eq!(read("3 7 8"), [], "a time may go on");
    }

    #[test]
    fn attempts_one_after_the_other_do_not_overlap_and_their_pauses_are_known() {
        let stamps = [stamp(1, 10), stamp(1, 15), stamp(1, 40), stamp(2, 41), stamp(4, 60)];
        assert_eq!(overlap(&stamps), None);
        let spans = spans(&stamps);
        assert_eq!(spans[&Epoch(1)], Span { pid: 1, first: 10, last: 40, longest_gap: 25, count: 3 });
    }

    #[test]
    fn a_stamp_after_the_first_of_a_higher_epoch_is_overlap() {
        let stamps = [stamp(1, 10), stamp(3, 20), stamp(1, 24), stamp(2, 25), stamp(1, 22)];
        assert_eq!(overlap(&stamps), Some(Overlap { older: Epoch(2), newer: Epoch(3), by: 5 }));
        assert_eq!(overlap(&stamps[..3]), Some(Overlap { older: Epoch(1), newer: Epoch(3), by: 4 }));
        assert_eq!(overlap(&[stamp(1, 20), stamp(2, 20)]).map(|o| o.by), Some(0), "at the same moment is at once");
    }

    #[test]
    fn two_processes_of_one_attempt_are_overlap() {
        let stamps = [stamp(1, 10), Stamp { pid: 9, ..stamp(1, 12) }];
        assert_eq!(overlap(&stamps), Some(Overlap { older: Epoch(1), newer: Epoch(1), by: 2 }));
    }
}
