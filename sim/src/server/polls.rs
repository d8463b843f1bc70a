//! Workers without connections: `routes/claim.rs`, `routes/report.rs`, and what the driver keeps for them.

use super::driver::{Claim, input, lease_info, session_info, wire_lease};
use super::session;
use crate::store;
use crate::world::World;
use outlive_api::report::{WireItem, WireResult};
use outlive_api::session::Lease;
use outlive_core::engine::{HeldInfo, Input, Say};
use outlive_core::report::Item;
use outlive_core::{Holder, LeaseRef};
use outlive_store::{Leases as _, Workers as _};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// While it is open, a poll counts as presence this often.
const PRESENCE: u64 = 1_000;

/// How long a poll whose time is over waits for a claim that is under way.
const UNDER_WAY: u64 = 2_000;

/// What a worker is told with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Lost(LeaseRef),
    Cancel(LeaseRef),
}

/// The answer to a report; an error: it is not the current start of its name.
pub(crate) type Answer = Result<(Vec<WireResult>, Vec<Order>), ()>;

type Deliver = Box<dyn FnOnce(&mut World, Vec<Lease>)>;
type Then = Box<dyn FnOnce(&mut World, Answer)>;

/// A poll that is open.
struct Waiter {
    number: u64,
    request: Uuid,
    deliver: Deliver,
    /// Its time is over: it waits for what is under way.
    leaving: bool,
}

/// What the driver keeps for workers without connections.
#[derive(Default)]
pub(crate) struct Polls {
    waiting: BTreeMap<Holder, Waiter>,
    given: BTreeMap<Holder, BTreeSet<LeaseRef>>,
    orders: BTreeMap<Holder, Vec<LeaseRef>>,
    last: u64,
}

impl Polls {
    /// The request for which a claim is made.
    pub(super) fn request(&self, holder: Holder) -> Option<Uuid> {
        self.waiting.get(&holder).map(|waiter| waiter.request)
    }

    pub(super) fn order(&mut self, holder: Holder, say: &Say) {
        if let Say::Lost(lease, _) = say {
            self.orders.entry(holder).or_default().push(*lease);
        }
    }
}

/// What no connection took goes to the poll for which it was claimed, or back.
pub(super) fn deliver(w: &mut World, claim: &Claim, mut leases: Vec<Lease>) {
    let holder = claim.holder;
    let given = w.server.polls.given.get(&holder);
    leases.retain(|lease| given.is_none_or(|given| !given.contains(&lease.lease())));
    if !w.server.engine.polls(holder) {
        return;
    }
    let more = w.server.engine.claims(holder);
    let takes =
        |waiter: &Waiter| Some(waiter.request) == claim.request && (!leases.is_empty() || (waiter.leaving && !more));
    if w.server.polls.waiting.get(&holder).is_some_and(takes) {
        if let Some(waiter) = w.server.polls.waiting.remove(&holder) {
            gave(w, holder, &leases);
            (waiter.deliver)(w, leases);
        }
    } else if !leases.is_empty() {
        input(w, Input::Undelivered(holder, leases.iter().map(Lease::lease).collect()));
    }
}

fn gave(w: &mut World, holder: Holder, leases: &[Lease]) {
    let engine = &w.server.engine;
    let given = w.server.polls.given.entry(holder).or_default();
    given.retain(|lease| engine.is_watched(holder, *lease).is_some());
    given.extend(leases.iter().map(Lease::lease));
}

/// A call that needs the worker's home to be here: after a loss, a restart or a move it opens its presence again.
pub(super) fn polls_here(w: &mut World, holder: Holder, then: impl FnOnce(&mut World, bool) + 'static) {
    if w.server.engine.session(holder, w.mono()).is_some() {
        input(w, Input::Heard(holder, None));
        return then(w, true);
    }
    w.job(move |w| {
        let result = store::now(w.server.db.store.open_session(holder, w.server.replica));
        w.reply(move |w| {
            let opened = match result {
                Ok(Some(opened)) => opened,
                // Refused, or not known: the caller tries again. Not current: it begins anew.
                Ok(None) => return then(w, false),
                Err(_) => return,
            };
            let leases = opened.leases.iter().filter_map(|row| lease_info(w, row)).collect();
            input(w, Input::Open(session_info(&opened.worker, opened.home_seq, leases), None, false));
            input(w, Input::Heard(holder, None));
            then(w, true);
        });
    });
}

/// A long poll for work.
pub(crate) fn claim(w: &mut World, holder: Holder, request: Uuid, max: u32, wait: u64, then: Deliver) {
    polls_here(w, holder, move |w, current| {
        if !current {
            return then(w, Vec::new());
        }
        w.job(move |w| {
            let known = store::now(w.server.db.store.claim_request(holder, request));
            w.reply(move |w| {
                let Ok(known) = known else { return };
                let engine = &w.server.engine;
                let claiming = engine.claims(holder);
                let asked = known.is_some();
                let mut rows = known.unwrap_or_default();
                let empty = rows.is_empty();
                rows.retain(|row| {
                    let lease = LeaseRef { run_id: row.run.id, epoch: row.run.epoch };
                    engine.is_watched(holder, lease).unwrap_or(!claiming)
                });
                if !asked || (!empty && rows.is_empty() && claiming) {
                    return waits(w, holder, request, max, wait, then);
                }
                let leases: Vec<_> = rows.into_iter().map(|row| wire_lease(w, row).1).collect();
                if !leases.is_empty() {
                    gave(w, holder, &leases);
                }
                then(w, leases);
            });
        });
    });
}

fn waits(w: &mut World, holder: Holder, request: Uuid, max: u32, wait: u64, deliver: Deliver) {
    w.server.polls.last += 1;
    let number = w.server.polls.last;
    w.server.polls.waiting.insert(holder, Waiter { number, request, deliver, leaving: false });
    input(w, Input::PollWants(holder, max));
    presence(w, holder, number);
    w.after(wait, w.server.owner(), move |w| {
        let Some(waiter) = w.server.polls.waiting.get_mut(&holder).filter(|waiter| waiter.number == number) else {
            return;
        };
        waiter.leaving = true;
        input(w, Input::PollWants(holder, 0));
        let wait = if w.server.engine.claims(holder) { UNDER_WAY } else { 0 };
        w.after(wait, w.server.owner(), move |w| {
            if let Some(waiter) = stops(w, holder, Some(number)) {
                (waiter.deliver)(w, Vec::new());
            }
        });
    });
}

fn presence(w: &mut World, holder: Holder, number: u64) {
    w.after(PRESENCE, w.server.owner(), move |w| {
        if w.server.polls.waiting.get(&holder).is_some_and(|waiter| waiter.number == number) {
            input(w, Input::Heard(holder, None));
            presence(w, holder, number);
        }
    });
}

fn stops(w: &mut World, holder: Holder, number: Option<u64>) -> Option<Waiter> {
    let is_newest = |waiter: &Waiter| number.is_none_or(|number| waiter.number == number);
    w.server.polls.waiting.get(&holder).filter(|waiter| is_newest(waiter))?;
    let waiter = w.server.polls.waiting.remove(&holder);
    input(w, Input::PollWants(holder, 0));
    waiter
}

/// The other side hung up.
pub(crate) fn hangs_up(w: &mut World, holder: Holder) {
    drop(stops(w, holder, None));
}

/// A batch of items, and a beat with it.
pub(crate) fn report(w: &mut World, holder: Holder, items: Vec<Item>, beat: Option<Vec<HeldInfo>>, then: Then) {
    let here = w.server.engine.session(holder, w.mono()).is_some();
    if here || !w.is_cluster() {
        return polls_here(w, holder, move |w, current| {
            if current { reported(w, holder, items, beat, false, then) } else { then(w, Err(())) }
        });
    }
    w.job(move |w| {
        let row = store::now(w.server.db.store.worker(holder.worker));
        w.reply(move |w| {
            let Ok(row) = row else { return };
            let elsewhere = row.is_some_and(|row| {
                row.holder() == holder && row.session_open && w.server.engine.hears_replica(row.replica)
            });
            if elsewhere {
                input(w, Input::Heard(holder, None));
                return reported(w, holder, items, beat, true, then);
            }
            polls_here(w, holder, move |w, current| {
                if current { reported(w, holder, items, beat, false, then) } else { then(w, Err(())) }
            });
        });
    });
}

/// `elsewhere`: its home is another replica, which is told what it holds.
fn reported(w: &mut World, holder: Holder, items: Vec<Item>, beat: Option<Vec<HeldInfo>>, elsewhere: bool, then: Then) {
    let items: Vec<WireItem> = items.into_iter().map(WireItem::from).collect();
    session::report(w, holder, items, false, move |w, results| {
        let held = beat.clone().unwrap_or_default();
        if let Some(held) = beat {
            input(w, Input::PollHeld(holder, held));
        }
        let known = w.server.engine.leases(holder);
        if elsewhere || held.iter().any(|info| !known.contains(&info.lease)) {
            return from_rows(w, holder, held, results, then);
        }
        let lost = w.server.polls.orders.remove(&holder).unwrap_or_default();
        let standing = w.server.engine.standing_orders(holder);
        let cancels =
            standing.iter().filter_map(|say| if let Say::Cancel(lease, _) = say { Some(*lease) } else { None });
        let orders = lost.into_iter().map(Order::Lost).chain(cancels.map(Order::Cancel)).collect();
        then(w, Ok((results, orders)));
    });
}

/// What a worker whose home is another replica should be told, by the rows alone; its home is told what it holds.
fn from_rows(w: &mut World, holder: Holder, held: Vec<HeldInfo>, results: Vec<WireResult>, then: Then) {
    w.job(move |w| {
        let rows = store::now(w.server.db.store.leases_of(holder));
        w.reply(move |w| {
            let Ok(rows) = rows else { return };
            let has =
                |lease: LeaseRef| rows.iter().any(|row| (row.run.id, row.run.epoch) == (lease.run_id, lease.epoch));
            let lost = held.iter().filter(|info| !has(info.lease)).map(|info| Order::Lost(info.lease));
            let cancelling = rows.iter().filter(|row| row.run.state == outlive_core::State::Cancelling);
            let cancels = cancelling.map(|row| Order::Cancel(LeaseRef { run_id: row.run.id, epoch: row.run.epoch }));
            let orders = lost.chain(cancels).collect();
            then(w, Ok((results, orders)));
        });
    });
}
