//! Verdicts, with their guard and what follows: `write_verdict`, `replaced_meanwhile`, `lose`, `lose_replaced`.

use super::driver::{committed, input, lease_info, session_info};
use crate::check::Judging;
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::clock::Clock as _;
use outlive_core::engine::{Input, VerdictResult, VerdictWanted};
use outlive_core::home::{Has, Homing};
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Holder, HomeSeq, LeaseRef, Reason};
use outlive_store::{Leases as _, LoseOutcome, StoreError, Verdict, Workers as _};

/// Writes a verdict of the engine's.
pub(crate) fn write(w: &mut World, wanted: VerdictWanted) {
    let (replica, absent) = (w.server.replica, wanted.evidence.by_absence());
    let free = wanted.reason == Reason::LeaseReleased;
    let guard = (w.twin != Twin::NoHomeGuard).then_some((replica, wanted.home_seq));
    let verdict = Verdict {
        holder: wanted.holder,
        guard,
        leases: Some(wanted.leases.clone()),
        reason: wanted.reason,
        evidence: wanted.evidence,
        last_heard_at: w.clock.wall() - wanted.silent_for,
        budget: if free { LossBudget::Free } else { LossBudget::Losses },
        end_session: wanted.end_session,
    };
    w.log(format_args!(
        "verdict over {} by {}: {} leases, {} again={}",
        wanted.holder,
        wanted.evidence.as_str(),
        wanted.leases.len(),
        wanted.reason,
        wanted.again
    ));
    let home = absent.then_some(wanted.home_seq);
    lose(w, verdict, home, move |w, result| match result {
        Ok(outcome) if outcome.lost_race => replaced_meanwhile(w, wanted),
        Ok(outcome) => {
            super::twins::second_step(w, &outcome.lost);
            done(w, wanted, VerdictResult::Committed(outcome.lost));
        }
        Err(StoreError::Unknown(_)) => done(w, wanted, VerdictResult::Unknown),
        Err(_) => done(w, wanted, VerdictResult::Failed),
    });
}

fn done(w: &mut World, wanted: VerdictWanted, result: VerdictResult) {
    w.log(format_args!("verdict over {} is answered {result}", wanted.holder, result = Short(&result)));
    input(w, Input::VerdictDone(wanted, result));
}

struct Short<'a>(&'a VerdictResult);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            VerdictResult::Committed(lost) => write!(f, "committed, {} closed", lost.len()),
            VerdictResult::LostRace => f.write_str("lost race"),
            VerdictResult::Failed => f.write_str("failed"),
            VerdictResult::Unknown => f.write_str("unknown"),
        }
    }
}

/// The guard did not hold: what does the store say? A newer incarnation is evidence 3 and needs no home.
fn replaced_meanwhile(w: &mut World, wanted: VerdictWanted) {
    let holder = wanted.holder;
    w.job(move |w| {
        let row = store::now(w.server.db.store.worker(holder.worker)).ok().flatten();
        w.reply(move |w| {
            if row.is_none_or(|row| row.incarnation <= holder.incarnation) {
                let has = Has::Refused(wanted.home_seq);
                return follow_home(w, holder, has, move |w| done(w, wanted, VerdictResult::LostRace));
            }
            lose_replaced(w, holder, Some(wanted.leases.clone()), move |w, result| {
                let result = match result {
                    Ok(outcome) => VerdictResult::Committed(outcome.lost),
                    Err(StoreError::Unknown(_)) => VerdictResult::Unknown,
                    Err(_) => VerdictResult::Failed,
                };
                done(w, wanted, result);
            });
        });
    });
}

/// The store has another home for a session than the engine, or one of which the engine does not know.
pub(crate) fn follow_home(w: &mut World, holder: Holder, has: Has, then: impl FnOnce(&mut World) + 'static) {
    w.job(move |w| {
        let row = store::now(w.server.db.store.worker(holder.worker)).ok().flatten();
        let leases = store::now(w.server.db.store.leases_of(holder));
        w.reply(move |w| {
            if let Some(row) = row {
                match (row.home().at(w.server.replica, holder, has), leases) {
                    (Homing::Gone, _) => input(w, Input::Revoke(holder, Reason::WorkerReplaced)),
                    (Homing::Moved(home_seq), _) => input(w, Input::Moved(holder, home_seq)),
                    (Homing::Take, Ok(leases)) => {
                        let leases = leases.iter().filter_map(|row| lease_info(w, row)).collect();
                        input(w, Input::Adopt(session_info(&row, row.home_seq, leases)));
                    }
                    (Homing::Take | Homing::Stay, _) => {}
                }
            }
            then(w);
        });
    });
}

/// Writes a verdict, hands its hints on, then goes on.
pub(crate) fn lose(
    w: &mut World,
    verdict: Verdict,
    home: Option<HomeSeq>,
    then: impl FnOnce(&mut World, Result<LoseOutcome, StoreError>) + 'static,
) {
    w.job(move |w| {
        w.truth.judging = Some(Judging { holder: verdict.holder, evidence: verdict.evidence, home });
        let mut result = store::now(w.server.db.store.lose(verdict));
        w.saw(result.as_ref().ok().map(|o| &o.commit));
        w.truth.judging = None;
        w.reply(move |w| {
            if let Ok(outcome) = &mut result
                && !outcome.lost_race
            {
                committed(w, std::mem::take(&mut outcome.commit));
            }
            then(w, result);
        });
    });
}

/// Evidence 3: a newer incarnation of the name.
pub(crate) fn lose_replaced(
    w: &mut World,
    old: Holder,
    leases: Option<Vec<LeaseRef>>,
    then: impl FnOnce(&mut World, Result<LoseOutcome, StoreError>) + 'static,
) {
    let verdict = Verdict {
        holder: old,
        guard: None,
        leases,
        reason: Reason::WorkerReplaced,
        evidence: Evidence::NewerIncarnation,
        last_heard_at: w.clock.wall(),
        budget: LossBudget::Losses,
        end_session: false,
    };
    lose(w, verdict, None, then);
}
