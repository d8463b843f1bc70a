//! What must hold when everything is over: each claim is a function of the facts.

use super::facts::Facts;
use super::log::{is_fenced, is_whole};
use super::stage::LINES;
use crate::render::text;
use outlive_core::stamps::{overlap, spans};
use outlive_core::{Epoch, Millis, Reason, State};
use serde::Serialize;

/// One thing that must hold.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) ok: bool,
    pub(super) text: String,
}

/// Of so many, so many are as they must be.
fn all_of(good: usize, all: usize, what: &str) -> Check {
    Check { ok: good == all, text: format!("{good} of {all} {what}") }
}

pub(super) fn all_succeeded(facts: &Facts) -> Check {
    let good = facts.runs.iter().filter(|r| r.state == State::Succeeded).count();
    all_of(good, facts.runs.len(), "runs succeeded")
}

pub(super) fn lost_ones_recovered(facts: &Facts) -> Check {
    let had = &facts.struck.had;
    let good = facts.recoveries.iter().filter(|r| r.outcome == "recovered" && had.contains_key(&r.run_id)).count();
    let check = all_of(good, had.len(), "lost runs recovered, no other run was touched");
    Check { ok: check.ok && facts.recoveries.len() == had.len(), ..check }
}

/// Neither a loss nor a failure.
pub(super) fn nothing_was_spent(facts: &Facts) -> Check {
    let good = facts.runs.iter().filter(|r| r.losses == 0 && r.failures == 0).count();
    let check = all_of(good, facts.runs.len(), "runs spent nothing of their budgets; nothing was reaped");
    Check { ok: check.ok && facts.recoveries.is_empty(), ..check }
}

pub(super) fn nobody_began_again(facts: &Facts) -> Check {
    let one = |run: &outlive_core::RunId| spans(&facts.stamps[run]).keys().eq([&Epoch(1)]);
    let good = facts.runs.iter().filter(|r| r.epoch == Epoch(1) && one(&r.id)).count();
    all_of(good, facts.runs.len(), "runs were executed by their first attempt, without a new start")
}

pub(super) fn handed_over(facts: &Facts) -> Check {
    let handed = |(run, epoch): (&outlive_core::RunId, &Epoch)| {
        let attempts = &facts.attempts[run];
        let at = attempts.iter().position(|a| a.epoch == *epoch);
        at.is_some_and(|at| {
            attempts[at].reason == Some(Reason::LeaseReleased)
                && attempts.get(at + 1).is_some_and(|next| next.worker_name != attempts[at].worker_name)
        })
    };
    let good = facts.struck.had.iter().filter(|had| handed(*had)).count();
    let well = facts.struck.ends.iter().filter(|end| end.success()).count();
    let check = all_of(good, facts.struck.had.len(), "runs of the drained worker were handed over, and it ended well");
    Check { ok: check.ok && well == facts.struck.names.len(), ..check }
}

pub(super) fn outputs_are_whole(facts: &Facts) -> Check {
    let good = facts.logs.iter().filter(|log| is_whole(log, LINES)).count();
    all_of(good, facts.runs.len(), "outputs have every line of their last attempt exactly once")
}

pub(super) fn outputs_are_fenced(facts: &Facts) -> Check {
    let good = facts.logs.iter().filter(|log| is_fenced(log)).count();
    all_of(good, facts.runs.len(), "outputs have nothing of a dead attempt after its successor's start")
}

/// By the stamps of the attempts themselves; each attempt must have some.
pub(super) fn nothing_ran_twice_at_once(facts: &Facts) -> Check {
    let stamped = |run: &&outlive_api::runs::Run| {
        let stamps = &facts.stamps[&run.id];
        let begun = facts.attempts[&run.id].iter().filter(|a| a.started_at.is_some()).count();
        spans(stamps).len() == begun && overlap(stamps).is_none()
    };
    let good = facts.runs.iter().filter(stamped).count();
    let stamps: usize = facts.stamps.values().map(Vec::len).sum();
    all_of(good, facts.runs.len(), &format!("runs were never executed by two attempts at once ({stamps} stamps)"))
}

/// Frozen, not killed, and before anybody else began.
pub(super) fn frozen_before_the_takeover(facts: &Facts) -> Check {
    let struck = &facts.struck;
    let between = |(run, epoch): (&outlive_core::RunId, &Epoch)| {
        let spans = spans(&facts.stamps[run]);
        let (old, new) = (spans.get(epoch)?, spans.range(Epoch(epoch.0 + 1)..).next()?.1);
        let still = new.first.checked_sub(old.last)?;
        struck.frozen.contains(run).then_some(still)
    };
    let still: Vec<_> = struck.had.iter().filter_map(between).collect();
    let least = text::span(Millis(still.iter().min().copied().unwrap_or(0) / 1_000_000));
    let what = format!("runs of the stopped worker were frozen by its guard, {least} or more before another began");
    all_of(still.len(), struck.had.len(), &what)
}

pub(super) fn nothing_is_left(facts: &Facts) -> Check {
    let before = facts.struck.processes.len();
    let before = if before == 0 {
        String::new()
    } else {
        format!(" ({} before)", text::count(before, "process").replace("processs", "processes"))
    };
    let text = if facts.left.is_empty() {
        format!("no process of a lost or released attempt is left{before}")
    } else {
        format!("processes of lost or released attempts are left: {:?}", facts.left)
    };
    Check { ok: facts.left.is_empty(), text }
}

/// What a killed server's workers may need to have another home.
const HOMELESS: Millis = Millis::secs(2);

pub(super) fn homes_found(facts: &Facts) -> Check {
    let took = &facts.struck.homeless;
    let good = took.values().filter(|took| **took <= HOMELESS).count();
    let most = text::span(took.values().copied().max().unwrap_or(Millis(0)));
    let what =
        format!("workers of the killed server had another home within {}, the last after {most}", text::span(HOMELESS));
    let check = all_of(good, took.len(), &what);
    Check { ok: check.ok && !took.is_empty(), ..check }
}

pub(super) fn back_by_themselves(facts: &Facts) -> Check {
    let back = &facts.struck.back;
    let good = back.iter().filter(|name| facts.online.contains(*name)).count();
    all_of(good, back.len(), "workers are online again, by themselves")
}
