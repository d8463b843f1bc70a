//! Several runs at once: what executed when, by what the commands stamped themselves.

use super::{Facts, Finding, Seen};
use outlive_core::RunId;
use outlive_core::stamps::spans;
use std::collections::BTreeMap;

/// When one attempt executed, in nanoseconds of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub run: RunId,
    /// Its first stamp.
    pub first: u64,
    /// Its last one.
    pub last: u64,
}

pub(super) fn check(facts: &Facts, seen: &[Seen], findings: &mut Vec<Finding>) {
    findings.extend(facts.excesses.iter().cloned().map(Finding::Excess));
    let mut capped = Vec::new();
    let mut serial: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for one in seen {
        let Some(order) = &one.order else { continue };
        let executed = spans(&one.stamps).into_values().map(|s| Span { run: one.run, first: s.first, last: s.last });
        if order.capped {
            capped.extend(executed);
        } else if let Some(key) = &order.serial {
            serial.entry(key).or_default().extend(executed);
        }
    }
    let (most, at) = most_at_once(&capped);
    if most > facts.cap as usize {
        findings.push(Finding::CapExceeded(most, at));
    }
    for (key, mut spans) in serial {
        spans.sort_by_key(|span| span.first);
        let broken = spans.windows(2).filter(|pair| pair[1].first <= pair[0].last && pair[0].run != pair[1].run);
        findings.extend(broken.map(|pair| Finding::SerialBroken(key.to_owned(), pair[0].run, pair[1].run)));
    }
}

/// How many executed at once at most, and when.
fn most_at_once(spans: &[Span]) -> (usize, u64) {
    // At one reading of the clock, what ends is still there.
    let mut edges: Vec<(u64, bool)> = spans.iter().flat_map(|s| [(s.first, false), (s.last, true)]).collect();
    edges.sort_unstable();
    let (mut now, mut most) = (0_usize, (0, 0));
    for (at, ends) in edges {
        now = if ends { now - 1 } else { now + 1 };
        most = most.max((now, at));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::Wall;

    fn span(run: u128, first: u64, last: u64) -> Span {
        Span { run: RunId::from_parts(Wall(1), run << 64), first, last }
    }

    #[test]
    fn what_executes_at_once_is_counted_by_stamps() {
        assert_eq!(most_at_once(&[]).0, 0);
        assert_eq!(most_at_once(&[span(1, 0, 9), span(2, 10, 19), span(3, 5, 12)]).0, 2);
        assert_eq!(most_at_once(&[span(1, 0, 10), span(2, 10, 19), span(3, 5, 12)]), (3, 10));
    }
}
