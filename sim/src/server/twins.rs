//! What broken twins do that the real server does not.

use super::driver::input;
use super::verdicts;
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::clock::Clock as _;
use outlive_core::engine::{BeatInfo, Input, VerdictWanted};
use outlive_core::report::Item;
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Holder, LeaseRef, Millis, Reason};
use outlive_store::{Runs as _, Sweeps as _, Verdict, Workers as _};

/// Silence for which a twin with a clock of its own judges: more than any queue asks for.
const SILENT: u64 = 11_000;
/// A run may not be held longer than this, says a limit that nobody asked for.
const HELD: Millis = Millis::secs(6);

/// What the engine is told instead.
pub(super) fn told(w: &mut World, input: Input) -> Input {
    if let Input::Heard(holder, _)
    | Input::Beat(holder, ..)
    | Input::PollHeld(holder, _)
    | Input::Open(outlive_core::engine::SessionInfo { holder, .. }, ..) = &input
    {
        let (holder, now) = (*holder, clock(w));
        w.server.heard.insert(holder, now);
    }
    match input {
        Input::Beat(holder, conn, beat) if w.twin == Twin::EarlyTakeback => {
            Input::Beat(holder, conn, BeatInfo { seen_push_seq: u64::MAX, ..beat })
        }
        Input::PollHeld(holder, _) if w.twin == Twin::ForgetsNames => Input::PollHeld(holder, Vec::new()),
        input => input,
    }
}

/// What is judged instead.
pub(super) fn judged(w: &World, wanted: VerdictWanted) -> VerdictWanted {
    if w.twin == Twin::LeastTtlForAll && wanted.evidence == Evidence::Silence {
        return VerdictWanted { leases: w.server.engine.leases(wanted.holder), ..wanted };
    }
    wanted
}

/// As soon as one is judged, all that have been silent for as long are.
fn no_rate(w: &mut World) {
    let now = w.mono();
    if w.server.reaped.back().is_none_or(|(at, _)| *at + 100 < w.now) {
        return;
    }
    let silent = |(holder, at): (&Holder, &u64)| {
        let here = w.server.engine.session(*holder, now).is_some();
        (here && w.now.saturating_sub(*at) > SILENT + 4_000).then_some(*holder)
    };
    let silent: Vec<_> = w.server.heard.iter().filter_map(silent).collect();
    for holder in silent {
        w.server.heard.remove(&holder);
        let leases = w.server.engine.leases(holder);
        let Some(home_seq) = w.home_of(holder).filter(|_| !leases.is_empty()) else { continue };
        let (reason, evidence, silent_for) = (Reason::WorkerHeartbeatLost, Evidence::Silence, Millis(15_000));
        let wanted =
            VerdictWanted { holder, home_seq, leases, reason, evidence, silent_for, end_session: false, again: false };
        w.judges(&wanted);
        verdicts::write(w, wanted);
    }
}

fn clock(w: &World) -> u64 {
    if w.twin == Twin::WallClockAges { w.clock.wall().0.unsigned_abs() } else { w.now }
}

/// Beside the judge's tick.
pub(super) fn tick(w: &mut World) {
    match w.twin {
        Twin::WallClockAges | Twin::VerdictAfterStall => {
            let now = clock(w);
            let silent = |(holder, at): (&Holder, &u64)| (now.saturating_sub(*at) > SILENT).then_some(*holder);
            let silent: Vec<_> = w.server.heard.iter().filter_map(silent).collect();
            for holder in silent {
                w.server.heard.remove(&holder);
                judge(w, holder);
            }
        }
        Twin::NoRate => no_rate(w),
        Twin::ShortRest => short_rest(w),
        Twin::CoarseLimit if w.now.is_multiple_of(5_000) => coarse_limit(w),
        _ => {}
    }
}

impl World {
    fn home_of(&self, holder: Holder) -> Option<outlive_core::HomeSeq> {
        let row = || store::now(self.truth_db.worker(holder.worker)).ok().flatten().map(|row| row.home_seq);
        self.truth.home_of(holder).or_else(row)
    }
}

fn judge(w: &mut World, holder: Holder) {
    let leases = w.server.engine.leases(holder);
    let Some(home_seq) = w.home_of(holder).filter(|_| !leases.is_empty()) else { return };
    let silent_for = Millis(SILENT);
    let (reason, evidence) = (Reason::WorkerHeartbeatLost, Evidence::Silence);
    let wanted =
        VerdictWanted { holder, home_seq, leases, reason, evidence, silent_for, end_session: false, again: false };
    verdicts::write(w, wanted);
}

fn coarse_limit(w: &mut World) {
    w.job(|w| {
        let Ok(page) = store::now(w.server.db.store.leases_after(None, 1_000)) else { return };
        let now = w.clock.wall();
        w.reply(move |w| {
            let old = |run: &outlive_core::run::Run| run.claimed_at.is_some_and(|at| at + HELD < now);
            for (holder, lease) in page.rows.iter().filter(|row| old(&row.run)).filter_map(|row| row.run.lease()) {
                let verdict = Verdict {
                    holder,
                    guard: None,
                    leases: Some(vec![lease]),
                    reason: Reason::ClaimTtlExceeded,
                    evidence: Evidence::Limit,
                    last_heard_at: now,
                    budget: LossBudget::Losses,
                    end_session: false,
                };
                verdicts::lose(w, verdict, None, |_, _| {});
            }
        });
    });
}

/// Of 20 workers or more 95 % have been heard since they were awaited, and 5 s have passed: the others are judged.
fn short_rest(w: &mut World) {
    let Some((since, back)) = w.server.awaits else { return };
    let now = w.mono();
    let here: Vec<_> = w.truth.holders().into_iter().filter(|h| w.server.engine.session(*h, now).is_some()).collect();
    let heard = |w: &World, holder: &Holder| w.server.heard.get(holder).is_some_and(|at| *at >= since);
    match back {
        None => {
            let returned = here.iter().filter(|holder| heard(w, holder)).count();
            if here.len() >= 20 && returned * 100 >= here.len() * 95 {
                w.server.awaits = Some((since, Some(w.now)));
            }
        }
        Some(at) if at + 5_000 <= w.now => {
            w.server.awaits = None;
            let silent: Vec<_> = here.into_iter().filter(|holder| !heard(w, holder)).collect();
            silent.into_iter().for_each(|holder| judge(w, holder));
        }
        Some(_) => {}
    }
}

/// The store came back: everybody is taken to have been heard.
pub(crate) fn store_is_back(w: &mut World) {
    w.server.awaits = Some((w.now, None));
    if w.twin == Twin::RearmsForEver {
        if !w.server.runs() {
            return;
        }
        for holder in w.truth.holders() {
            input(w, Input::Heard(holder, None));
        }
    }
}

/// Whether a report must wait.
pub(super) fn report_waits(w: &World) -> bool {
    w.twin == Twin::BreakerStopsReports && w.server.engine.breaker().is_some()
}

/// By whom, and under which leases, the store is told that something was reported.
pub(super) fn reported(w: &World, sender: Holder, items: &[Item]) -> (Holder, Vec<Item>) {
    let mut items = items.to_vec();
    let row = items.first().and_then(|item| w.truth.rows.get(&item.lease.run_id));
    let Some((holder, lease)) = row.and_then(outlive_core::run::Run::lease) else { return (sender, items) };
    match w.twin {
        Twin::NoOwnerCheck if items[0].lease == lease => (holder, items),
        Twin::NoOpenLeaseCheck => {
            for item in items.iter_mut().filter(|item| item.lease.run_id == lease.run_id) {
                item.lease = lease;
            }
            (holder, items)
        }
        _ => (sender, items),
    }
}

/// The second step of a loss.
pub(super) fn second_step(w: &mut World, lost: &[LeaseRef]) {
    for lease in lost.iter().filter(|_| w.twin == Twin::TwoSteps).copied().collect::<Vec<_>>() {
        let soon = w.chance.between(20, 500);
        w.after(soon, w.server.owner(), move |w| {
            w.job(move |w| {
                let result = store::now(w.server.db.store.release(super::routes::NAMESPACE, lease.run_id, None, None));
                w.saw(result.as_ref().ok());
                w.reply(move |w| {
                    if let Ok(commit) = result {
                        super::driver::committed(w, commit);
                    }
                });
            });
        });
    }
}
