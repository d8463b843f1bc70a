//! One run by itself.

use super::{Facts, Finding, Order, Seen, Tried};
use crate::cluster::ledger::Loss;
use crate::history::Found;
use crate::read::{Entry, out_of_place};
use outlive_core::stamps::overlap;
use outlive_core::{Epoch, Reason, RunId, State, print};
use std::collections::BTreeMap;

/// For the check of what was acknowledged. What commands print is checked byte by byte below; what polling workers report,
/// by what they were told.
pub(super) fn found(seen: &Seen) -> Found {
    Found {
        id: seen.run,
        ask: seen.ask,
        epoch: seen.epoch,
        state: seen.state,
        checkpoint: seen.checkpoint,
        lines: if seen.order.is_none() { crate::read::lines(&seen.log) } else { Vec::new() },
        ends: seen.log.iter().filter(|entry| **entry == Entry::End).count(),
        attempts: seen.attempts.iter().map(|tried| tried.epoch).collect(),
        expected: None,
    }
}

pub(super) fn check(facts: &Facts, seen: &Seen, findings: &mut Vec<Finding>) {
    let run = seen.run;
    // What is asked to end ends as cancelled, or as what it was about to become.
    let cancelled = seen.state == State::Cancelled && facts.history.cancels.contains(&run);
    if seen.state != State::Succeeded && !cancelled && seen.state.is_terminal() {
        findings.push(Finding::EndedAs(run, seen.state));
    }
    told_once(facts, seen, findings);
    for tried in &seen.attempts {
        findings.extend(false_kill(facts, seen, tried));
    }
    findings.extend(out_of_place(&seen.log).map(|(epoch, before)| Finding::StaleWrite(run, epoch, before)));
    findings.extend(overlap(&seen.stamps).map(|overlap| Finding::Overlap(run, overlap)));
    if let Some(order) = &seen.order {
        failures(seen, order, findings);
        bytes(seen, order, findings);
        checkpoints(seen, findings);
    }
}

fn told_once(facts: &Facts, seen: &Seen, findings: &mut Vec<Finding>) {
    if !seen.state.is_terminal() {
        return; // found by the check of what was acknowledged
    }
    if seen.ends_told != 1 {
        findings.push(Finding::FinishedNotOnce(seen.run, seen.ends_told, "events"));
    }
    match facts.feed.get(&seen.run).map_or(&[][..], Vec::as_slice) {
        [state] if *state == seen.state => {}
        [state] => findings.push(Finding::FeedDiffers(seen.run, vec![*state], seen.state)),
        states => findings.push(Finding::FinishedNotOnce(seen.run, states.len() as u64, "feed")),
    }
}

/// An attempt that was taken away, and nothing that was done explains it.
fn false_kill(facts: &Facts, seen: &Seen, tried: &Tried) -> Option<Finding> {
    let loss = loss(tried)?;
    if is_limit(seen, &loss) || never_arrived(seen, tried.epoch, &loss) {
        return None;
    }
    facts.ledger.explains(&loss, facts.lease_ttl).is_none().then_some(Finding::FalseKill(seen.run, tried.epoch, loss))
}

/// A lease whose way to a polling worker was lost: the poll went to another replica while it was being claimed. `start_timeout`
/// is what there is for that.
pub(super) fn is_limit(seen: &Seen, loss: &Loss) -> bool {
    seen.order.is_none() && loss.reason == Reason::StartTimeout
}

/// A lease that never came to its worker, so that the worker did not name it in two beats: it is given back, and nothing was
/// killed. Neither the log nor the run itself knows of a beginning.
fn never_arrived(seen: &Seen, epoch: Epoch, loss: &Loss) -> bool {
    loss.reason == Reason::LeaseReleased
        && !seen.log.contains(&Entry::Marker(epoch))
        && seen.stamps.iter().all(|stamp| stamp.epoch != epoch)
}

/// An attempt that was closed by its worker's fault or absence.
pub(super) fn loss(tried: &Tried) -> Option<Loss> {
    let reason = tried.reason.filter(|reason| !reason.is_of_work() && *reason != Reason::Cancelled)?;
    Some(Loss {
        worker: tried.worker.clone(),
        incarnation: tried.incarnation,
        claimed: tried.claimed,
        ended: tried.ended?,
        reason,
    })
}

fn failures(seen: &Seen, order: &Order, findings: &mut Vec<Finding>) {
    let enough = seen.state != State::Succeeded || seen.failures == order.failures;
    if !enough || seen.failures > order.failures {
        findings.push(Finding::Failures(seen.run, seen.failures, order.failures));
    }
}

/// What each attempt printed is the beginning of what it must print, and the whole of it if it succeeded.
fn bytes(seen: &Seen, order: &Order, findings: &mut Vec<Finding>) {
    let mut logged: BTreeMap<Epoch, Vec<u8>> = BTreeMap::new();
    for entry in &seen.log {
        if let Entry::Bytes(epoch, bytes) = entry {
            logged.entry(*epoch).or_default().extend(bytes);
        }
    }
    let succeeded = (seen.state == State::Succeeded).then_some(seen.epoch);
    if let Some(epoch) = succeeded {
        logged.entry(epoch).or_default();
    }
    for (&epoch, logged) in &logged {
        let from = seen.notes.from.get(&epoch).copied();
        let printed: Vec<u8> = from
            .map(|from| (from + 1..=order.lines).flat_map(|seq| print::line(order.seed, epoch, seq)).collect())
            .unwrap_or_default();
        let differs = logged.iter().zip(&printed).position(|(one, other)| one != other);
        let is_whole = logged.len() == printed.len() || succeeded != Some(epoch);
        if let Some(at) =
            differs.or_else(|| (logged.len() > printed.len() || !is_whole).then_some(printed.len().min(logged.len())))
        {
            findings.push(Finding::Bytes(seen.run, epoch, at));
        }
    }
    if let Some(epoch) = succeeded.filter(|epoch| !seen.notes.done.contains(epoch)) {
        findings.push(Finding::Bytes(seen.run, epoch, usize::MAX));
    }
}

/// Each attempt starts from what was acknowledged before it, and nothing acknowledged is gone at the end.
fn checkpoints(seen: &Seen, findings: &mut Vec<Finding>) {
    let saved_before =
        |epoch: Epoch| seen.notes.saved.iter().filter(move |(e, _)| *e < epoch).map(|(_, seq)| *seq).max();
    let mut look = |epoch, there: u64| {
        if let Some(saved) = saved_before(epoch).filter(|saved| *saved > there) {
            findings.push(Finding::CheckpointLost(seen.run, epoch, saved, there));
        }
    };
    seen.notes.from.iter().for_each(|(&epoch, &from)| look(epoch, from));
    look(Epoch(i64::MAX), seen.checkpoint.unwrap_or(0));
}

/// Who followed a run to its end has seen what is in its log.
pub(super) fn readers(facts: &Facts, seen: &[Seen], findings: &mut Vec<Finding>) {
    let logs: BTreeMap<RunId, &Seen> = seen.iter().map(|one| (one.run, one)).collect();
    for (run, saw) in &facts.followed {
        let Some(there) = logs.get(run) else { continue };
        if joined(saw) != joined(&there.log) {
            findings.push(Finding::ReaderSaw(*run, format!("{} entries of {}", saw.len(), there.log.len())));
        }
    }
}

/// Frames of one attempt that follow one another are one: where one ends and the next begins is nobody's promise.
fn joined(log: &[Entry]) -> Vec<Entry> {
    let mut joined: Vec<Entry> = Vec::new();
    for entry in log {
        match (joined.last_mut(), entry) {
            (Some(Entry::Bytes(epoch, before)), Entry::Bytes(next, bytes)) if epoch == next => before.extend(bytes),
            _ => joined.push(entry.clone()),
        }
    }
    joined
}
