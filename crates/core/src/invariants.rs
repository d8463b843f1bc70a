//! The invariants I1 to I12 as functions of values: rows, answers, log entries, measured times.
//!
//! Simulation, store tests and debug builds call the same ones. Each takes what it compares and answers `Ok` or a
//! [`Violation`] that says what is wrong; none reads anything by itself.
//!
//! | | says | function |
//! |---|---|---|
//! | I1 | one open lease per run, epochs strictly rising | [`epochs`] |
//! | I2 | no stale write is ever accepted | [`write()`] |
//! | I3 | no run is taken without evidence, a limit or a person | [`evidence`], [`silence`], [`own_kill`], [`limit`], [`takeback`] |
//! | I4 | a pause of the control plane only delays verdicts | [`only_later`] |
//! | I5 | every run that has not ended has a clock | [`has_a_clock`], [`watched`] |
//! | I6 | terminal is final, told once, last in the output | [`final_state`], [`told_once`] |
//! | I7 | output is a gap-free total order with one marker per attempt | [`output`] |
//! | I8 | breaker open: no verdict by absence | [`breaker`] |
//! | I9 | re-queues per second are bounded | [`reap_rate`] |
//! | I10 | losses never use `max_attempts` | [`budgets`] |
//! | I11 | a lost run is claimed again within the bound | [`bound`], [`within`] |
//! | I12 | caps and serial keys hold at every moment | [`cap`], [`serial`] |
//! | overlap | two attempts of one `exec` run never execute at once | [`overlap`] |
//!

use crate::policy::{Liveness, derive};
use crate::report::{Item, ItemResult, Op};
use crate::run::{ClosedBy, Event, EventKind, Evidence, Run};
use crate::{Epoch, Holder, LeaseRef, Millis, Outcome, Reason, RunId, State};
use std::collections::BTreeMap;

/// What does not hold, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} does not hold: {detail}")]
pub struct Violation {
    /// `I1` to `I12`, or `overlap`.
    pub invariant: &'static str,
    /// With the values.
    pub detail: String,
}

/// What a check answers.
pub type Check = Result<(), Violation>;

fn check(holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// Everything that one step of one row may not do: I1, I5, I6, I10.
///
/// # Errors
/// The first that does not hold.
pub fn step(before: Option<&Run>, after: &Run) -> Check {
    has_a_clock(after)?;
    let Some(before) = before else { return epochs_of_new(after) };
    final_state(before, after)?;
    epochs(before, after)?;
    budgets(before, after)
}

fn epochs_of_new(run: &Run) -> Check {
    check(run.epoch.0 <= 1 && (run.epoch.0 == 1) >= run.state.is_leased(), "I1", || {
        format!("a new run {} has epoch {} in state {}", run.id, run.epoch, run.state)
    })
}

/// I1: the epoch never falls; an open lease keeps its epoch and its holder, and has one.
///
/// `before` and `after` may be several steps apart.
///
/// # Errors
/// If it does not hold.
pub fn epochs(before: &Run, after: &Run) -> Check {
    let (b, a) = (before, after);
    check(a.epoch >= b.epoch, "I1", || format!("the epoch of {} fell from {} to {}", a.id, b.epoch, a.epoch))?;
    check(!a.state.is_leased() || (a.holder.is_some() && a.closed_by == ClosedBy::Open), "I1", || {
        format!("{} is {} without an open lease of anybody", a.id, a.state)
    })?;
    check(a.epoch > b.epoch || a.holder == b.holder, "I1", || {
        format!("the lease {} of {} changed hands without a claim", a.epoch, a.id)
    })?;
    let reopened = a.epoch == b.epoch && a.state.is_leased() && !b.state.is_leased();
    check(!reopened, "I1", || format!("the closed lease {} of {} is open again", a.epoch, a.id))
}

/// I2: what one statement by `sender` changed. `before` is the row before it, `after` the row after it.
///
/// # Errors
/// If the row changed although the lease was not open for the sender, and it was no salvage.
pub fn write(before: &Run, after: &Run, sender: Holder, item: &Item, result: &ItemResult) -> Check {
    let last = before.epoch == item.lease.epoch && before.holder == Some(sender);
    let open = last && before.state.is_leased();
    let salvage = last
        && before.state.is_waiting()
        && before.closed_by == ClosedBy::Loss
        && matches!(item.op, Op::Complete(_))
        && after.state == State::Succeeded;
    check(open || salvage || before == after, "I2", || {
        format!(
            "{} by {sender} under epoch {} changed {} at epoch {}",
            item.op.name(),
            item.lease.epoch,
            before.id,
            before.epoch
        )
    })?;
    let repeated = *result == ItemResult::Ok && item.op.ends_attempt();
    check(open || salvage || repeated || *result != ItemResult::Ok, "I2", || {
        format!(
            "{} by {sender} under the closed epoch {} of {} was accepted",
            item.op.name(),
            item.lease.epoch,
            before.id
        )
    })
}

/// I3: what was true of a worker when a verdict over it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// How long its agent has lived, run, and had a way to the server without a break.
    pub blameless_for: Option<Millis>,
    /// How long it may take to open another session.
    pub window: Millis,
    /// Whether it has an open session with a newer home than the one that judges.
    pub newer_session: bool,
}

/// I3: no verdict by absence over a worker that was alive, connected and beating.
///
/// # Errors
/// If it was.
pub fn evidence(lease: LeaseRef, evidence: Evidence, terms: &Liveness, truth: Truth) -> Check {
    let enough = match evidence {
        Evidence::Silence => terms.lease_ttl + terms.offline_grace,
        Evidence::SessionClosed => truth.window + terms.offline_grace,
        _ => return Ok(()),
    };
    let blameless = truth.blameless_for.is_some_and(|blameless| blameless >= enough);
    check(!blameless && !truth.newer_session, "I3", || {
        format!("false kill of {} epoch {}: {} against {truth:?}", lease.run_id, lease.epoch, evidence.as_str())
    })
}

/// I3: silence counts by the TTL of each lease, not by the least of its session's.
///
/// # Errors
/// If it has not lasted for so long.
pub fn silence(lease: LeaseRef, silent_for: Millis, patience: Millis) -> Check {
    check(silent_for >= patience, "I3", || {
        format!("{} epoch {} is lost after {silent_for} of silence; its TTL is {patience}", lease.run_id, lease.epoch)
    })
}

/// I3: `claim_ttl` is for workers that do not beat.
///
/// # Errors
/// If a worker that beats lost its lease to it.
pub fn limit(lease: LeaseRef, reason: Option<Reason>, beats: bool) -> Check {
    check(!beats || reason != Some(Reason::ClaimTtlExceeded), "I3", || {
        format!("a limit for workers that do not beat took {} epoch {} from one that does", lease.run_id, lease.epoch)
    })
}

/// I3: a lease is not taken back, for not being named, while it is on its way; nor as undelivered from a worker that has it.
///
/// # Errors
/// If it is.
pub fn takeback(lease: LeaseRef, reason: Option<Reason>, in_flight: bool) -> Check {
    check(!in_flight || reason != Some(Reason::LeaseReleased), "I3", || {
        format!("{} epoch {} was taken back while it was on its way to its worker, or there", lease.run_id, lease.epoch)
    })
}

/// I3: an agent kills its own work only when it was told to, or when a limit says so.
///
/// # Errors
/// If it did without a word.
pub fn own_kill(lease: LeaseRef, told: bool) -> Check {
    check(told, "I3", || format!("the agent killed {} epoch {} without being told", lease.run_id, lease.epoch))
}

/// The places, in events, at which sessions' leases were judged by absence for the first time.
pub type Verdicts = BTreeMap<(Holder, LeaseRef), usize>;

/// I4: with a pause inserted, no verdict comes earlier (in events), and none comes that did not come without.
///
/// # Errors
/// The first that does.
pub fn only_later(plain: &Verdicts, paused: &Verdicts) -> Check {
    for ((holder, lease), at) in paused {
        let before = plain.get(&(*holder, *lease));
        check(before.is_some_and(|plain| plain <= at), "I4", || {
            format!(
                "with a pause {holder} loses {} epoch {} at event {at}; without, at {before:?}",
                lease.run_id, lease.epoch
            )
        })?;
    }
    Ok(())
}

/// I5 of a row: what waits for a time, or for a person, has a limit.
///
/// # Errors
/// If it has none.
pub fn has_a_clock(run: &Run) -> Check {
    let holds = match run.state {
        State::Held | State::Scheduled => run.due_at.is_some(),
        State::Queued => run.queued_at.is_some(),
        State::Claimed | State::Running | State::Cancelling => run.holder.is_some() && run.claimed_at.is_some(),
        _ => run.finished_at.is_some() && run.due_at.is_none(),
    };
    check(holds, "I5", || format!("{} is {} without a clock", run.id, run.state))
}

/// I5 of a lease: it is under a judge's countdown, or was not for less than one round of the audit.
///
/// # Errors
/// If nobody has watched it for longer.
pub fn watched(lease: LeaseRef, unwatched_for: Millis, audit: Millis) -> Check {
    check(unwatched_for <= audit, "I5", || {
        format!("nobody has watched {} epoch {} for {unwatched_for}", lease.run_id, lease.epoch)
    })
}

/// I5 of a worker: where its row says that it is at home, it is known; or it was not for less than one round of the audit.
///
/// # Errors
/// If it was not known there for longer.
pub fn at_home(holder: Holder, astray_for: Millis, audit: Millis) -> Check {
    check(astray_for <= audit, "I5", || format!("{holder} is at home where nobody has known it for {astray_for}"))
}

/// I6: a terminal row never changes.
///
/// # Errors
/// If it did.
pub fn final_state(before: &Run, after: &Run) -> Check {
    check(!before.state.is_terminal() || before == after, "I6", || {
        format!("{} was {} and changed to {}", before.id, before.state, after.state)
    })
}

/// I6: a history has one end, if the run has ended, and none otherwise; nothing comes after it.
///
/// # Errors
/// If not.
pub fn told_once(run: &Run, events: &[Event]) -> Check {
    let ends = events.iter().filter(|e| e.kind == EventKind::Finished).count();
    check(ends == usize::from(run.state.is_terminal()), "I6", || format!("{} ended {ends} times", run.id))
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An attempt begins.
    Attempt(Epoch),
    /// An attempt was lost.
    Lost(Epoch),
    /// A frame of an attempt, with its number.
    Frame(Epoch, i64),
    /// What was here up to this offset has been removed.
    Gap(i64),
}

/// I7: offsets without gaps from 1; one marker before the frames of each attempt, which count from 1; nothing of an attempt
/// after the marker of a later one, nor after its own loss (a salvage apart: a success may bring frames that were missing).
///
/// # Errors
/// The first entry that does not fit.
pub fn output(run: &Run, entries: &[(i64, Entry)]) -> Check {
    let (mut next, mut epoch, mut seq, mut cut) = (1, Epoch(0), 0, false);
    for &(offset, entry) in entries {
        let (expected, in_epoch, after) = (next, epoch, seq);
        let fits = match entry {
            Entry::Attempt(e) => {
                (epoch, seq, cut) = (e, 0, false);
                e > in_epoch
            }
            // An attempt that never said a word has no marker of its own, only the mark of its loss.
            Entry::Lost(e) => e >= epoch,
            Entry::Frame(e, s) => {
                seq = s;
                e == epoch && (s == after + 1 || cut)
            }
            Entry::Gap(to) => {
                cut = true;
                to >= offset
            }
        };
        next = if let Entry::Gap(to) = entry { to + 1 } else { offset + 1 };
        check(fits && offset == expected, "I7", || {
            format!(
                "in the log of {} {entry:?} is at {offset}; expected {expected} in epoch {in_epoch} after frame {after}",
                run.id
            )
        })?;
    }
    check(next == run.output.next, "I7", || {
        format!("the log of {} ends before {next}; its row says {}", run.id, run.output.next)
    })
}

/// I8: while the breaker is open nobody is judged by absence.
///
/// # Errors
/// If somebody is.
pub fn breaker(open: bool, evidence: Evidence) -> Check {
    check(!(open && evidence.by_absence()), "I8", || {
        format!("a verdict by {} while the breaker is open", evidence.as_str())
    })
}

/// I9: re-queues by absence within one second. `most` is the reap rate and one batch; none: no rate exists.
///
/// # Errors
/// If there are more.
pub fn reap_rate(in_one_second: u64, most: Option<u64>) -> Check {
    check(most.is_none_or(|most| in_one_second <= most), "I9", || format!("{in_one_second} re-queues in a second"))
}

/// I10: what ends by its worker's fault or absence costs no attempt. (A lease that is taken because the work itself did not keep
/// a limit does.)
///
/// # Errors
/// If it did.
pub fn budgets(before: &Run, after: &Run) -> Check {
    let one_step = after.epoch == before.epoch;
    let lost =
        after.closed_by == ClosedBy::Loss && before.closed_by == ClosedBy::Open && after.outcome != Some(Outcome::User);
    check(!(one_step && lost) || after.failures == before.failures, "I10", || {
        format!("the loss of {} epoch {} used an attempt", after.id, after.epoch)
    })?;
    check(after.failures >= before.failures && after.losses >= before.losses, "I10", || {
        format!("the counts of {} fell", after.id)
    })
}

/// What made a recovery slower than it usually is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// The lease was armed again: a start, an adoption, or the store came back.
    pub rearmed: bool,
    /// The breaker opened.
    pub breaker: bool,
    /// … and no other worker was heard.
    pub alone: bool,
    /// The agent is behind a proxy.
    pub proxied: bool,
}

/// I11: within how much time a lost run is claimed again, a healthy replica and a free slot given. `queued` over a reap rate
/// comes on top.
#[must_use]
pub fn bound(evidence: Evidence, terms: &Liveness, delays: Delays) -> Millis {
    let window = derive::reconnect_window(derive::heartbeat(terms.lease_ttl), delays.proxied);
    let seen = match evidence {
        Evidence::SessionClosed => window + Millis(200) + terms.offline_grace,
        Evidence::Silence => terms.lease_ttl + Millis::secs(1) + terms.offline_grace,
        Evidence::Limit | Evidence::Person => terms.lease_ttl + terms.offline_grace,
        Evidence::ExitReport | Evidence::Goodbye | Evidence::NewerIncarnation => Millis(100),
    };
    let rearmed = if delays.rearmed { Millis(2 * terms.lease_ttl.0) } else { Millis::ZERO };
    let breaker = match (delays.breaker, delays.alone) {
        (true, true) => Millis::secs(30) + Millis(terms.lease_ttl.0 / 2),
        (true, false) => Millis::secs(3) + Millis(terms.lease_ttl.0 / 2),
        (false, _) => Millis::ZERO,
    };
    seen + rearmed + breaker + AUDIT
}

/// Whatever hint was lost, the audit finds out within this.
pub const AUDIT: Millis = Millis::secs(10);

/// I11: `what` has lasted for no longer than it may.
///
/// # Errors
/// If it has.
pub fn within(run: RunId, what: &str, lasted: Millis, most: Millis) -> Check {
    check(lasted <= most, "I11", || format!("{run} {what} for {lasted}, more than {most}"))
}

/// I12 of a queue.
///
/// # Errors
/// If more runs are leased than it allows.
pub fn cap(queue: &str, leased: usize, max_running: Option<u32>) -> Check {
    let most = max_running.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    check(most.is_none_or(|most| leased <= most), "I12", || {
        format!("queue {queue} has {leased} leased runs, more than {max_running:?}")
    })
}

/// I12 of a serial key.
///
/// # Errors
/// If two runs of it are leased at once.
pub fn serial(key: &str, leased: &[RunId]) -> Check {
    check(leased.len() <= 1, "I12", || format!("the serial key {key} is held by {leased:?}"))
}

/// Overlap: an attempt executes after the first moment of a later one.
///
/// # Errors
/// If it does.
pub fn overlap(run: RunId, executing: Epoch, newest: Epoch) -> Check {
    check(executing >= newest, "overlap", || format!("epoch {executing} of {run} executes although {newest} has begun"))
}

/// I3: only these reasons may close a lease as a loss.
///
/// # Errors
/// If it was another.
pub fn reason_of_loss(run: &Run, reason: Option<Reason>) -> Check {
    use Reason::{
        Cancelled, ClaimTtlExceeded, CrashLoop, Evicted, LeaseReleased, ProcessKilled, StartTimeout, Superseded,
        WorkerDisconnected, WorkerExited, WorkerHeartbeatLost, WorkerLeft, WorkerReplaced,
    };
    let known = matches!(
        reason,
        Some(
            WorkerExited
                | ProcessKilled
                | WorkerReplaced
                | WorkerDisconnected
                | WorkerHeartbeatLost
                | WorkerLeft
                | LeaseReleased
                | StartTimeout
                | ClaimTtlExceeded
                | Evicted
                | CrashLoop
                | Cancelled
                | Superseded
        )
    );
    check(known, "I3", || format!("{} was taken because of {reason:?}", run.id))
}
