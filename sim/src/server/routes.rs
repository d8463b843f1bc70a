//! Requests over HTTP: creation, cancel, release, registration, drain, leave, evict (`routes/`).

use super::driver::{self, Claim, claimed, committed, input};
use super::verdicts::{lose, lose_replaced};
use crate::store;
use crate::world::World;
use outlive_core::clock::Clock as _;
use outlive_core::engine::{Effect, Input};
use outlive_core::policy::derive;
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Holder, Millis, Reason, RunId};
use outlive_store::{
    Claimed, CreateError, CreateRequest, CreateRun, Presence, Registered, Registration, Runs as _, Verdict, WorkerMark,
    Workers as _,
};

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "default";

impl World {
    /// A request: it reaches a server that is there then, or nobody.
    pub(crate) fn request(&mut self, to: impl FnOnce(&mut Self) + 'static) {
        let latency = self.latency();
        let replica = self.balanced();
        self.after(latency, self.replica(replica).owner(), to);
    }

    /// The replica to which a balancer brings a request: mostly one that is up.
    pub(crate) fn balanced(&mut self) -> usize {
        if !self.is_cluster() {
            return 0;
        }
        let up: Vec<_> = self.replicas().filter(|r| r.up).map(|r| r.index).collect();
        let any = self.chance.index(self.scenario.replicas);
        if up.is_empty() || self.chance.chance(5) { any } else { up[self.chance.index(up.len())] }
    }

    /// Something that the home of a session is to do, wherever that is.
    fn errand(&mut self, of: &Input) {
        input(self, of.clone());
        driver::tell_home(self, of);
    }
}

/// Creates one run and offers it to sessions with room, in one transaction.
pub(crate) fn create(w: &mut World, run: CreateRun, then: impl FnOnce(&mut World, Result<(), CreateError>) + 'static) {
    let ready = !run.new.hold && run.new.run_at.is_none();
    let offer = if ready { vec![(run.new.class, 1)] } else { Vec::new() };
    let now = w.mono();
    if let Some(recording) = w.server.recordings.last_mut() {
        recording.inputs.push((now, Input::Offer(offer.clone())));
    }
    let effects = w.server.engine.handle(Input::Offer(offer), now);
    let wanted: Vec<_> =
        effects.into_iter().filter_map(|e| if let Effect::Claim(c) = e { Some(c) } else { None }).collect();
    let claims: Vec<_> = wanted.iter().map(|c| driver::order(w, c)).collect();
    let wanted: Vec<_> = wanted.iter().zip(&claims).map(|(c, order)| Claim::of(order, c.token)).collect();
    let namespace = NAMESPACE.to_owned();
    let request = CreateRequest { namespace, runs: vec![run], idempotency: None, claims, only_known: false };
    w.job(move |w| {
        let result = store::now(w.server.db.store.create(request));
        w.saw(result.as_ref().ok().map(|c| &c.commit));
        w.reply(move |w| match result {
            Err(error) => {
                for claim in wanted {
                    claimed(w, &claim, Ok(Claimed::default()));
                }
                then(w, Err(error));
            }
            Ok(mut created) => {
                let mut claims = std::mem::take(&mut created.claimed).into_iter();
                for claim in wanted {
                    claimed(w, &claim, Ok(claims.next().unwrap_or_default()));
                }
                committed(w, created.commit);
                then(w, Ok(()));
            }
        });
    });
}

pub(crate) fn cancel(w: &mut World, run: RunId) {
    w.job(move |w| {
        let result = store::now(w.server.db.store.cancel(NAMESPACE, run, Reason::Cancelled, None));
        w.saw(result.as_ref().ok().map(|c| &c.commit));
        w.reply(move |w| {
            if let Ok(cancelled) = result {
                let name = w.name(run);
                w.log(format_args!("r{name} is asked to end: {}", cancelled.state));
                committed(w, cancelled.commit);
            }
        });
    });
}

pub(crate) fn release(w: &mut World, run: RunId) {
    w.job(move |w| {
        let result = store::now(w.server.db.store.release(NAMESPACE, run, None, None));
        w.saw(result.as_ref().ok());
        w.reply(move |w| {
            if let Ok(commit) = result {
                committed(w, commit);
            }
        });
    });
}

/// What registration answers.
pub(crate) enum RegisterAnswer {
    Done { holder: Holder, heartbeat: Millis, window: Millis },
    NotNow,
    InUse,
}

pub(crate) fn register(
    w: &mut World,
    registration: Registration,
    outbox_pending: bool,
    then: impl FnOnce(&mut World, RegisterAnswer) + 'static,
) {
    w.job(move |w| {
        let mut result = store::now(w.server.db.store.register(registration.clone()));
        if matches!(result, Err(outlive_store::RegisterError::NameInUse { .. })) {
            let taken = Registration { may_replace: true, ..registration.clone() };
            if name_answers(w, &registration.profile.name) {
                return w.reply(move |w| then(w, RegisterAnswer::InUse));
            }
            result = store::now(w.server.db.store.register(taken));
        }
        w.reply(move |w| match result {
            Err(_) => then(w, RegisterAnswer::NotNow),
            Ok(registered) => registered_now(w, registered, outbox_pending, then),
        });
    });
}

/// Whether the session that has a name is there: connected and heard within two beats.
fn name_answers(w: &World, name: &str) -> bool {
    let rows = store::now(w.server.db.store.workers(Some(NAMESPACE), None, 1_000)).unwrap_or_default();
    let Some(row) = rows.into_iter().find(|row| row.profile.name == name) else { return false };
    let now = w.mono();
    let sessions = w.replicas().filter(|r| r.up).filter_map(|r| r.engine.session(row.holder(), now));
    let Some(session) = sessions.min_by_key(|s| (!s.connected, s.heard_ago)) else { return false };
    match row.presence {
        Presence::Session => {}
        Presence::Poll(interval) => return session.heard_ago <= interval,
        Presence::None(_) => return false,
    }
    session.connected && session.heard_ago <= Millis(derive::heartbeat(session.least_ttl).0 * 2)
}

fn registered_now(
    w: &mut World,
    registered: Registered,
    outbox_pending: bool,
    then: impl FnOnce(&mut World, RegisterAnswer) + 'static,
) {
    let Registered { worker, replaced, same_state_folder, .. } = registered;
    let answer = move |w: &mut World| {
        let profile = &worker.profile;
        let least = w.server.engine.least_liveness(&profile.namespace, profile.queues.iter());
        let heartbeat = derive::heartbeat(least.lease_ttl);
        let window = derive::reconnect_window(heartbeat, false);
        let (holder, presence) = (worker.holder(), worker.presence);
        let done = RegisterAnswer::Done { holder, heartbeat, window };
        if presence == Presence::Session {
            return then(w, done);
        }
        super::polls::polls_here(w, holder, move |w, _| then(w, done));
    };
    let Some(old) = replaced else { return answer(w) };
    if !same_state_folder {
        w.errand(&Input::Revoke(old, Reason::WorkerReplaced));
        return answer(w);
    }
    if outbox_pending {
        w.errand(&Input::Gone(old, Reason::WorkerReplaced));
        return answer(w);
    }
    lose_replaced(w, old, None, move |w, result| {
        if result.is_ok() {
            w.errand(&Input::Gone(old, Reason::WorkerReplaced));
        }
        answer(w);
    });
}

pub(crate) fn drain(w: &mut World, holder: Holder, draining: bool) {
    w.job(move |w| {
        if store::now(w.server.db.store.mark_worker(holder.worker, WorkerMark::Draining(draining))).is_ok() {
            w.reply(move |w| w.errand(&Input::Drain(holder, draining)));
        }
    });
}

pub(crate) fn evict(w: &mut World, holder: Holder) {
    w.job(move |w| {
        if store::now(w.server.db.store.mark_worker(holder.worker, WorkerMark::Draining(true))).is_ok() {
            w.log(format_args!("{holder} is evicted"));
            w.reply(move |w| w.errand(&Input::Revoke(holder, Reason::Evicted)));
        }
    });
}

pub(crate) fn leave(w: &mut World, holder: Holder) {
    w.job(move |w| {
        let current = store::now(w.server.db.store.worker(holder.worker)).ok().flatten();
        if current.is_none_or(|row| row.holder() != holder) {
            return;
        }
        let marked = store::now(w.server.db.store.mark_worker(holder.worker, WorkerMark::Left));
        w.reply(move |w| {
            if marked.is_err() {
                return;
            }
            let verdict = Verdict {
                holder,
                guard: None,
                leases: None,
                reason: Reason::WorkerLeft,
                evidence: Evidence::Goodbye,
                last_heard_at: w.clock.wall(),
                budget: LossBudget::Free,
                end_session: true,
            };
            lose(w, verdict, None, move |w, result| {
                if result.is_ok() {
                    w.errand(&Input::Gone(holder, Reason::WorkerLeft));
                }
            });
        });
    });
}
