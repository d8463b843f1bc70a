//! The judge's tick, the self-beat and the background duties (`services/`).

use super::driver::{committed, ghost, input, lease_info, session_info};
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::engine::{Input, Senses, TICK};
use outlive_core::home::{Has, Homing};
use outlive_core::{Holder, LeaseRef, Millis, Mono};
use outlive_core::{Reason, State};
use outlive_store::{Sweeps as _, Workers as _};
use std::collections::{BTreeMap, BTreeSet};

const OBSERVED: u64 = 1_000;
const DUE: u64 = 100;
const AUDIT: u64 = 5_000;
const PAGE: u32 = 1_000;

pub(crate) fn start(w: &mut World) {
    self_beat(w);
    tick(w);
    observed(w);
    due(w);
    audit(w);
}

fn again(w: &mut World, after: u64, duty: fn(&mut World)) {
    w.after(after, w.server.owner(), duty);
}

/// A beat to itself, through its own listener.
fn self_beat(w: &mut World) {
    let (sent, owner, way) = (w.mono(), w.server.owner(), w.chance.between(0, 4));
    w.after(way, owner, move |w| w.server.self_beat = w.server.self_beat.max(Some(sent)));
    again(w, TICK.0, self_beat);
}

fn tick(w: &mut World) {
    if w.twin == Twin::CountsStalls {
        let mut missed = w.server.last_tick + TICK.0;
        while missed + TICK.0 <= w.now {
            let senses = Senses { since_commit: Millis(0), pending_write: None, self_beat_sent: Some(Mono(missed)) };
            let effects = w.server.engine.handle(Input::Tick(senses), Mono(missed));
            debug_assert!(effects.len() < usize::MAX, "a stalled judge that counts on");
            for effect in effects {
                if let outlive_core::engine::Effect::Verdict(wanted) = effect {
                    super::verdicts::write(w, wanted);
                }
            }
            missed += TICK.0;
        }
    }
    w.server.last_tick = w.now;
    super::twins::tick(w);
    let since_commit = w.mono().since(w.server.db.committed());
    let waited = w.server.oldest_call().map(|at| Millis(w.now - at));
    let senses = Senses { since_commit, pending_write: waited, self_beat_sent: w.server.self_beat };
    input(w, Input::Tick(senses));
    again(w, TICK.0, tick);
}

fn observed(w: &mut World) {
    let now = w.server.engine.store_observed();
    w.job(move |w| {
        let _ = store::now(w.server.db.store.advance_observed(now));
    });
    again(w, OBSERVED, observed);
}

fn due(w: &mut World) {
    w.job(|w| {
        let swept = store::now(w.server.db.store.due(500));
        w.saw(swept.as_ref().ok().map(|s| &s.commit));
        if let Ok(swept) = swept {
            w.reply(move |w| committed(w, swept.commit));
        }
    });
    again(w, DUE, due);
}

/// Homes, leases that nobody watches, ready classes, waiting runs: derived again from rows.
fn audit(w: &mut World) {
    homes(w);
    w.job(|w| {
        let page = store::now(w.server.db.store.leases_after(None, PAGE));
        let Ok(page) = page else { return };
        w.reply(move |w| {
            let seen = page.rows.iter().filter_map(|row| Some((row.run.lease()?.0, lease_info(w, row)?))).collect();
            input(w, Input::Seen(seen));
            let mut unwatched: BTreeMap<Holder, Vec<_>> = BTreeMap::new();
            for row in &page.rows {
                let Some((holder, lease)) = row.run.lease() else { continue };
                if row.run.state == State::Cancelling {
                    // The order may have been lost on its way.
                    input(w, Input::Cancel(holder, lease, row.run.reason.unwrap_or(Reason::Cancelled)));
                }
                if !watched(w, holder).contains(&lease) {
                    unwatched.entry(holder).or_default().extend(lease_info(w, row));
                }
            }
            for (holder, leases) in unwatched {
                take_watch(w, holder, leases);
            }
            rest_of_audit(w);
        });
    });
    again(w, AUDIT, audit);
}

/// Where the store has workers at home, beside where the engine has them.
fn homes(w: &mut World) {
    w.job(|w| {
        let Ok(rows) = store::now(w.server.db.store.workers(None, None, PAGE)) else { return };
        w.reply(move |w| {
            for row in rows {
                let (me, holder) = (w.server.replica, row.holder());
                let has = w.server.engine.home_seq(holder).map_or(Has::Nothing, Has::Session);
                if row.home().at(me, holder, has) != Homing::Stay {
                    super::verdicts::follow_home(w, holder, has, |_| {});
                }
            }
        });
    });
}

/// What the engine has under its watch for a holder.
pub(crate) fn watched(w: &World, holder: Holder) -> BTreeSet<LeaseRef> {
    w.server.engine.leases(holder).into_iter().collect()
}

fn take_watch(w: &mut World, holder: Holder, leases: Vec<outlive_core::engine::LeaseInfo>) {
    w.job(move |w| {
        let Ok(row) = store::now(w.server.db.store.worker(holder.worker)) else { return };
        // Another replica's: that one watches, or loses what it has to one that does.
        if w.is_cluster() && row.as_ref().is_none_or(|row| row.replica != w.server.replica) {
            return;
        }
        w.reply(move |w| {
            w.log(format_args!("audit: {} leases of {holder} had nobody's watch", leases.len()));
            let info = match row.filter(|row| row.holder() == holder && row.session_open) {
                Some(row) => session_info(&row, row.home_seq, leases),
                None => ghost(holder, leases),
            };
            input(w, Input::Audit(info));
        });
    });
}

fn rest_of_audit(w: &mut World) {
    w.job(|w| {
        let ready = store::now(w.server.db.store.ready_classes());
        let waiting = store::now(w.server.db.store.audit_waiting(PAGE));
        w.saw(waiting.as_ref().ok().map(|s| &s.commit));
        w.reply(move |w| {
            if let Ok(ready) = ready
                && !ready.is_empty()
            {
                input(w, Input::Ready(ready));
            }
            if let Ok(swept) = waiting {
                committed(w, swept.commit);
            }
        });
    });
}
