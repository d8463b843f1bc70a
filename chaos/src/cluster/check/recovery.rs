//! How long each recovery took, from the blow itself, against the bound I11.
//!
//! ```text
//!   bound = E + audit                          E: 1.2 s for a closed connection, 5.2 s over a link, TTL + 1 s for silence
//!         + breaker                            if others were struck at the same time
//!         + trouble + 2 TTL                    if replicas or database were in trouble meanwhile: I11 speaks of a healthy one
//! ```
//!
//! What a run waits for its turn after that (a limit, a serial key, a later loss's back-off) is not the recovery's: time is
//! counted until the loss, and from the queue to the claim only where nothing else is in the way.

use super::run::loss;
use super::{Facts, Finding, Seen};
use crate::cluster::ledger::{Deed, Line};
use outlive_core::policy::derive::{PROXIED_WINDOW_MIN, RECONNECT_WINDOW};
use outlive_core::{Epoch, Millis, RunId, Wall};
use std::collections::BTreeMap;

/// One recovery, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which run.
    pub run: RunId,
    /// The lost attempt.
    pub epoch: Epoch,
    /// The verdict.
    pub lost: Wall,
    /// Queued again.
    pub queued: Option<Wall>,
    /// Claimed again.
    pub claimed: Option<Wall>,
}

/// The slowest, where nothing else was in trouble, and where something was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Recoveries that were measured.
    pub many: usize,
    /// The one that came nearest to its bound while everything else was well: how long it took, and how long it might have.
    pub calm: Option<(Millis, Millis)>,
    /// The same while something else was in trouble.
    pub troubled: Option<(Millis, Millis)>,
}

/// A window, a tick and the store's turn.
const TURN: Millis = Millis(200);
/// What silence may take beyond the TTL.
const SILENCE: Millis = Millis::secs(1);
/// A missed push or verdict is found by the audit.
const AUDIT: Millis = Millis::secs(10);
/// The breaker's doubt while others are heard; TTL/2 comes to it.
const BREAKER: Millis = Millis::secs(3);

pub(super) fn check(facts: &Facts, seen: &[Seen], findings: &mut Vec<Finding>) -> Worst {
    let runs: BTreeMap<RunId, &Seen> = seen.iter().map(|one| (one.run, one)).collect();
    let mut worst = Worst::default();
    for recovery in &facts.recoveries {
        let Some(one) = runs.get(&recovery.run) else { continue };
        let lost = one.attempts.iter().find(|tried| tried.epoch == recovery.epoch).and_then(loss);
        let Some(line) = lost.as_ref().and_then(|loss| facts.ledger.explains(loss, facts.lease_ttl)) else { continue };
        if line.deed == Deed::Released {
            continue;
        }
        // A lease that was under way to the dead was claimed after the blow.
        let begun = lost.as_ref().map_or(line.from, |loss| loss.claimed).max(line.from);
        let is_free = one.order.as_ref().is_some_and(|order| !order.capped && order.serial.is_none());
        let waited = match (recovery.queued, recovery.claimed) {
            (Some(queued), Some(claimed)) if is_free => claimed.since(queued),
            _ => Millis::ZERO,
        };
        let took = recovery.lost.since(begun) + waited;
        let until = recovery.claimed.unwrap_or(recovery.lost);
        let (allowed, is_calm) = bound(facts, line, begun, until);
        if took > allowed {
            findings.push(Finding::TooSlow(recovery.run, recovery.epoch, took, allowed));
        }
        worst.many += 1;
        let place = if is_calm { &mut worst.calm } else { &mut worst.troubled };
        // By how near it came to its bound.
        let share = |(took, allowed): (Millis, Millis)| took.0 * 1_000 / allowed.0.max(1);
        if place.is_none_or(|before| share(before) < share((took, allowed))) {
            *place = Some((took, allowed));
        }
    }
    worst
}

/// How long it may take, and whether everything else was well meanwhile.
fn bound(facts: &Facts, line: &Line, begun: Wall, until: Wall) -> (Millis, bool) {
    let ttl = facts.lease_ttl;
    let evidence = match (line.deed, line.linked) {
        (Deed::Killed, false) => RECONNECT_WINDOW + TURN,
        (Deed::Killed, true) => PROXIED_WINDOW_MIN + TURN,
        (Deed::Stopped | Deed::Released, _) => ttl + SILENCE,
    };
    let others = facts.ledger.beside(line);
    let breaker = if others >= 2 { BREAKER + Millis(ttl.0 / 2) } else { Millis::ZERO };
    let (trouble, many) = facts.ledger.troubled(begun, until);
    if many == 0 {
        return (evidence + AUDIT + breaker, true);
    }
    // The end of a connection that is read after a stall is silence; a lease that was adopted has a full TTL again.
    let silence = ttl + SILENCE;
    (silence + AUDIT + breaker + trouble + Millis(2 * ttl.0), false)
}
