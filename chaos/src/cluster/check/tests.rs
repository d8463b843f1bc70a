//! Each rule, by one run that keeps them all, changed in one place.

use super::*;
use crate::cluster::ledger::{Deed, Line};
use outlive_core::print;

fn id() -> RunId {
    RunId::from_parts(Wall(1), 7 << 64)
}

fn stamp(epoch: i64, at: u64) -> Stamp {
    Stamp { epoch: Epoch(epoch), pid: u32::try_from(epoch).unwrap(), at }
}

fn tried(epoch: i64, worker: &str, claimed: i64, ended: i64, reason: Option<Reason>) -> Tried {
    let (claimed, ended) = (Wall(claimed), Some(Wall(ended)));
    Tried { epoch: Epoch(epoch), worker: worker.to_owned(), incarnation: Incarnation(1), claimed, ended, reason }
}

fn printed(epoch: i64, lines: std::ops::RangeInclusive<u64>) -> Entry {
    Entry::Bytes(Epoch(epoch), lines.flat_map(|seq| print::line(4, Epoch(epoch), seq)).collect())
}

/// A run whose first worker was killed when it had saved its second line; another printed the rest.
fn well() -> (Facts, Seen) {
    let seen = Seen {
        run: id(),
        ask: 3,
        order: Some(Order { seed: 4, lines: 6, failures: 0, capped: false, serial: None }),
        state: State::Succeeded,
        epoch: Epoch(2),
        failures: 0,
        checkpoint: Some(4),
        attempts: vec![
            tried(1, "dead", 1_000, 3_200, Some(Reason::WorkerDisconnected)),
            tried(2, "alive", 3_300, 9_000, None),
        ],
        log: vec![Entry::Marker(Epoch(1)), printed(1, 1..=3), Entry::Marker(Epoch(2)), printed(2, 3..=6), Entry::End],
        stamps: vec![stamp(1, 10), stamp(1, 20), stamp(2, 30), stamp(2, 40)],
        notes: Notes {
            from: [(Epoch(1), 0), (Epoch(2), 2)].into(),
            saved: vec![(Epoch(1), 2), (Epoch(2), 4)],
            done: [Epoch(2)].into(),
        },
        ends_told: 1,
    };
    let killed = Line {
        deed: Deed::Killed,
        worker: "dead".to_owned(),
        incarnation: Incarnation(1),
        linked: false,
        from: Wall(2_000),
        to: Some(Wall(4_000)),
    };
    let recovered = Recovered {
        run: id(),
        epoch: Epoch(1),
        lost: Wall(3_200),
        queued: Some(Wall(3_200)),
        claimed: Some(Wall(3_300)),
    };
    let facts = Facts {
        history: History { created: [(3, id())].into(), ..History::default() },
        ledger: Ledger { deeds: vec![killed], troubles: Vec::new() },
        feed: [(id(), vec![State::Succeeded])].into(),
        followed: vec![(id(), seen.log.clone())],
        recoveries: vec![recovered],
        excesses: Vec::new(),
        lease_ttl: Millis::secs(10),
        cap: 1,
    };
    (facts, seen)
}

fn with(change: impl FnOnce(&mut Facts, &mut Seen)) -> Vec<Finding> {
    let (mut facts, mut seen) = well();
    change(&mut facts, &mut seen);
    check(&facts, &[seen]).0
}

#[test]
fn a_run_that_was_moved_from_a_dead_worker_has_no_findings() {
    assert_eq!(with(|_, _| {}), []);
    let (facts, seen) = well();
    assert_eq!(check(&facts, &[seen]).1.calm.map(|(took, _)| took), Some(Millis(1_300)));
}

#[test]
fn a_run_that_is_gone_or_ends_badly_or_twice_is_found() {
    let (facts, _) = well();
    let lost = Finding::Told(history::Finding::RunLost(3, id()));
    assert!(check(&facts, &[]).0.contains(&lost));
    assert!(with(|_, seen| seen.state = State::Failed).contains(&Finding::EndedAs(id(), State::Failed)));
    assert_eq!(with(|_, seen| seen.ends_told = 2), [Finding::FinishedNotOnce(id(), 2, "events")]);
    let twice = with(|facts, _| facts.feed.get_mut(&id()).unwrap().push(State::Succeeded));
    assert_eq!(twice, [Finding::FinishedNotOnce(id(), 2, "feed")]);
    let untold = with(|facts, _| facts.feed.clear());
    assert_eq!(untold, [Finding::FinishedNotOnce(id(), 0, "feed")]);
}

#[test]
fn an_attempt_that_was_taken_without_a_reason_is_found() {
    let found = with(|facts, _| facts.ledger.deeds.clear());
    assert!(matches!(found[..], [Finding::FalseKill(_, Epoch(1), _)]), "{found:?}");
    let found = with(|_, seen| seen.failures = 1);
    assert_eq!(found, [Finding::Failures(id(), 1, 0)]);
}

#[test]
fn a_byte_that_differs_and_one_that_is_missing_are_found() {
    let found = with(|_, seen| seen.log[3] = printed(2, 3..=5));
    assert!(found.iter().any(|f| matches!(f, Finding::Bytes(_, Epoch(2), _))), "{found:?}");
    let found = with(|facts, seen| {
        if let Entry::Bytes(_, bytes) = &mut seen.log[1] {
            bytes[9] ^= 1;
        }
        facts.followed.clear();
    });
    assert_eq!(found, [Finding::Bytes(id(), Epoch(1), 9)]);
    let found = with(|facts, _| drop(facts.followed[0].1.pop()));
    assert!(matches!(found[..], [Finding::ReaderSaw(..)]), "{found:?}");
}

#[test]
fn a_stale_write_and_overlap_are_found() {
    let found = with(|_, seen| seen.log.insert(3, Entry::Bytes(Epoch(1), b"1.4".to_vec())));
    assert!(found.contains(&Finding::StaleWrite(id(), Epoch(1), Epoch(2))), "{found:?}");
    let found = with(|_, seen| seen.stamps.push(stamp(1, 35)));
    assert!(matches!(found[..], [Finding::Overlap(..)]), "{found:?}");
}

#[test]
fn a_checkpoint_that_was_acknowledged_and_is_gone_is_found() {
    let found = with(|_, seen| _ = seen.notes.from.insert(Epoch(2), 0));
    assert!(found.contains(&Finding::CheckpointLost(id(), Epoch(2), 2, 0)), "{found:?}");
    assert!(!with(|_, seen| seen.checkpoint = None).is_empty());
}

#[test]
fn limits_and_serial_keys_that_are_broken_are_found() {
    let other = RunId::from_parts(Wall(1), 8 << 64);
    let both = |change: fn(&mut Order)| {
        let (mut facts, mut seen) = well();
        change(seen.order.as_mut().unwrap());
        let second = Seen { run: other, ask: 4, ..seen.clone() };
        facts.feed.insert(other, vec![State::Succeeded]);
        check(&facts, &[seen, second]).0
    };
    let found = both(|order| order.capped = true);
    assert!(found.iter().any(|f| matches!(f, Finding::CapExceeded(2, _))), "{found:?}");
    let found = both(|order| order.serial = Some("k".to_owned()));
    assert!(found.iter().any(|f| matches!(f, Finding::SerialBroken(..))), "{found:?}");
    let found = with(|facts, _| facts.excesses.push("too much".to_owned()));
    assert_eq!(found, [Finding::Excess("too much".to_owned())]);
}

#[test]
fn a_recovery_that_took_too_long_is_found() {
    let found = with(|facts, seen| {
        seen.attempts[0].ended = Some(Wall(14_000));
        facts.recoveries[0].lost = Wall(14_000);
    });
    assert_eq!(found, [Finding::TooSlow(id(), Epoch(1), Millis(12_100), Millis(11_200))]);
}
