//! Workers that poll: who waits, and what each is given.
//!
//! A lease goes out with the answer to the poll for which it was claimed, or not at all: the store knows the request of each
//! claim, so that a repetition gets the same leases at any replica. When nobody waits for that answer any more, the lease goes
//! back to the queue at once: its worker does not know of it, and may ask another replica next.

use super::{Claim, Driver, Inner, Work};
use outlive_api::session::Lease;
use outlive_core::engine::{ClaimResult, Input};
use outlive_core::{Holder, LeaseRef, RunId};
use std::collections::HashMap;
use tokio::sync::mpsc;

/// A polling worker that waits for leases.
pub(crate) struct PollWaiter {
    pub(crate) request: uuid::Uuid,
    pub(crate) deliver: mpsc::Sender<Vec<Lease>>,
    /// Given by the driver: the newest one speaks for its worker, and only its end is the end of the waiting.
    number: u64,
    /// Its time is over: it waits for what is under way, even if that brings nothing.
    leaving: bool,
}

impl PollWaiter {
    pub(crate) const fn new(request: uuid::Uuid, deliver: mpsc::Sender<Vec<Lease>>) -> Self {
        Self { request, deliver, number: 0, leaving: false }
    }
}

impl Driver {
    /// A polling worker waits: its number.
    pub(crate) fn wait_for_leases(&self, holder: Holder, waiter: PollWaiter) -> u64 {
        let mut inner = self.lock();
        inner.last_waiter += 1;
        let number = inner.last_waiter;
        inner.polls.insert(holder, PollWaiter { number, ..waiter });
        number
    }

    /// It will not wait for anything new. Whether it speaks for its worker: an older call that ends late says nothing about the
    /// newer one.
    pub(crate) fn leaves(&self, holder: Holder, number: u64) -> bool {
        let mut inner = self.lock();
        let waiter = inner.polls.get_mut(&holder).filter(|waiter| waiter.number == number);
        waiter.map(|waiter| waiter.leaving = true).is_some()
    }

    /// It waits no more. Whether that leaves nobody waiting for this worker.
    pub(crate) fn stop_waiting(&self, holder: Holder, number: u64) -> bool {
        let mut inner = self.lock();
        let is_newest = inner.polls.get(&holder).is_some_and(|w| w.number == number);
        if is_newest {
            inner.polls.remove(&holder);
        }
        is_newest
    }

    /// Of the leases that the store has for a repeated request those that may be given out again: not what is being taken back,
    /// nor what has only just been claimed, which goes to whoever waits then.
    pub(crate) fn may_give(&self, holder: Holder, lease: LeaseRef) -> bool {
        self.look(|engine| match engine.is_watched(holder, lease) {
            Some(watched) => watched,
            None => !engine.claims(holder),
        })
    }

    /// These leases reach their worker in the answer to a repeated request.
    pub(crate) fn gives(&self, holder: Holder, leases: Vec<LeaseRef>) {
        self.lock().gave(holder, leases);
    }

    /// A claim was answered: what no connection takes goes to the poll for which it was made, or back.
    pub(super) fn claimed(
        &self,
        claim: &Claim,
        result: ClaimResult,
        order: &[RunId],
        staged: &mut HashMap<RunId, Lease>,
    ) -> Vec<Work> {
        let (now, holder) = (self.clock.boot(), claim.wanted.holder);
        let mut work = Vec::new();
        let mut inner = self.lock();
        inner.feed(Input::ClaimDone(claim.wanted.token, result), now, staged, &mut work);
        if inner.engine.polls(holder) {
            let mut leases: Vec<_> = order.iter().filter_map(|id| staged.remove(id)).collect();
            leases.retain(|lease| !inner.has_given(holder, lease.lease()));
            let back = inner.deliver(claim, leases);
            if !back.is_empty() {
                inner.feed(Input::Undelivered(holder, back), now, staged, &mut work);
            }
        }
        work
    }
}

impl Inner {
    /// Claims may be under way for one request at the same time, and the store answers each after the first with the leases of the
    /// first, however late: what is in a worker's hands is known until its lease is over.
    fn has_given(&self, holder: Holder, lease: LeaseRef) -> bool {
        self.given.get(&holder).is_some_and(|given| given.contains(&lease))
    }

    fn gave(&mut self, holder: Holder, leases: Vec<LeaseRef>) {
        let given = self.given.entry(holder).or_default();
        given.retain(|lease| self.engine.is_watched(holder, *lease).is_some());
        given.extend(leases);
    }

    /// Gives leases to the poll for which they were claimed; those that nobody takes.
    fn deliver(&mut self, claim: &Claim, leases: Vec<Lease>) -> Vec<LeaseRef> {
        let holder = claim.wanted.holder;
        let names: Vec<_> = leases.iter().map(Lease::lease).collect();
        let more = self.engine.claims(holder);
        let takes = |w: &PollWaiter| Some(w.request) == claim.request && (!leases.is_empty() || (w.leaving && !more));
        if !self.polls.get(&holder).is_some_and(takes) {
            return names;
        }
        let Some(waiter) = self.polls.remove(&holder) else { return names };
        if waiter.deliver.try_send(leases).is_err() {
            return names;
        }
        self.gave(holder, names);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::class::{MatchClass, WorkerProfile};
    use outlive_core::clock::SimClock;
    use outlive_core::engine::{Engine, LeaseInfo, Presence, SessionInfo, VerdictWanted};
    use outlive_core::options::AttemptLimits;
    use outlive_core::policy::QueuePolicy;
    use outlive_core::{ClassId, HomeSeq, Incarnation, Millis, Mono, Observed, QueueId, Reason, Wall, WorkerId};
    use std::sync::Arc;

    const CLASS: ClassId = ClassId(1);

    fn holder() -> Holder {
        Holder { worker: WorkerId(1), incarnation: Incarnation(1) }
    }

    fn lease(n: u128) -> Lease {
        serde_json::from_value(serde_json::json!({
            "run_id": RunId::from_parts(Wall(1), n << 100), "epoch": 1, "kind": "k", "queue": "q", "input": null, "attempt": 1,
            "recovered": false, "lease_ttl_ms": 10_000, "offline_grace_ms": 0, "run_timeout_ms": 60_000,
            "cancel_grace_ms": 1_000, "on_isolation": "freeze", "takeover": "fast",
        }))
        .unwrap()
    }

    /// A polling worker at its home, and a class that it takes.
    fn driver() -> Driver {
        let driver = Driver::new(Engine::new(Observed(0), Mono(0)), true, Arc::new(SimClock::starting_at(Wall(0))));
        let policy = QueuePolicy::default().liveness();
        let class = MatchClass {
            namespace: "default".into(),
            queue: "q".into(),
            kind: "k".into(),
            requires: std::collections::BTreeMap::new(),
            pin: None,
        };
        let profile = WorkerProfile {
            namespace: "default".into(),
            name: "p-1".into(),
            queues: ["q".to_owned()].into(),
            kinds: ["k".to_owned()].into(),
            slots: 2,
            ..WorkerProfile::default()
        };
        let session = SessionInfo {
            holder: holder(),
            profile,
            presence: Presence::Poll(Millis::secs(5)),
            home_seq: HomeSeq(1),
            draining: false,
            leases: Vec::new(),
            rearmed: 0,
            armed: Observed(0),
        };
        let inputs = vec![
            Input::Queue(QueueId(1), ("default".into(), "q".into()), policy),
            Input::Class(CLASS, Arc::new(class)),
            Input::Open(session, None, false),
        ];
        assert!(driver.handle(inputs, &mut HashMap::new()).is_empty());
        driver
    }

    fn waits(driver: &Driver, request: u128) -> (u64, mpsc::Receiver<Vec<Lease>>) {
        let (deliver, delivered) = mpsc::channel(1);
        let number = driver.wait_for_leases(holder(), PollWaiter::new(uuid::Uuid::from_u128(request), deliver));
        (number, delivered)
    }

    fn claims(driver: &Driver) -> Claim {
        let mut work =
            driver.handle(vec![Input::PollWants(holder(), 2), Input::Ready(vec![CLASS])], &mut HashMap::new());
        let Some(Work::Claim(claim)) = work.pop() else { panic!("nothing is claimed") };
        claim
    }

    fn answered(driver: &Driver, claim: &Claim, leases: Vec<Lease>) -> Vec<VerdictWanted> {
        let liveness = QueuePolicy::default().liveness();
        let limits = AttemptLimits { run_timeout: Millis::hours(1), progress_timeout: None };
        let (begun, since) = (Observed(0), Observed(0));
        let info = |l: &Lease| LeaseInfo {
            lease: l.lease(),
            liveness,
            started: false,
            cancelling: false,
            begun,
            since,
            limits,
        };
        let result = ClaimResult { leases: leases.iter().map(info).collect(), ..ClaimResult::default() };
        let order: Vec<_> = leases.iter().map(|l| l.run_id).collect();
        let mut staged: HashMap<_, _> = leases.into_iter().map(|l| (l.run_id, l)).collect();
        let work = driver.claimed(claim, result, &order, &mut staged).into_iter();
        work.filter_map(|w| if let Work::Verdict(v) = w { Some(v) } else { None }).collect()
    }

    #[test]
    fn a_lease_goes_out_with_the_answer_for_which_it_was_claimed() {
        let driver = driver();
        let (_, mut delivered) = waits(&driver, 1);
        let claim = claims(&driver);
        assert!(!driver.may_give(holder(), lease(7).lease()), "it is on its way to whoever waits");
        assert!(answered(&driver, &claim, vec![lease(7)]).is_empty());
        assert_eq!(delivered.try_recv().unwrap()[0].run_id, lease(7).run_id);
        assert!(driver.may_give(holder(), lease(7).lease()), "a repetition gets it again");
    }

    #[test]
    fn what_nobody_waits_for_any_more_goes_back_and_is_given_to_nobody() {
        for newer in [false, true] {
            let driver = driver();
            let (number, _) = waits(&driver, 1);
            let claim = claims(&driver);
            assert!(driver.stop_waiting(holder(), number));
            let other = newer.then(|| waits(&driver, 2));
            let back = answered(&driver, &claim, vec![lease(7)]);
            assert_eq!(back.len(), 1);
            assert_eq!((&back[0].leases, back[0].reason), (&vec![lease(7).lease()], Reason::LeaseReleased));
            assert!(!driver.may_give(holder(), lease(7).lease()));
            if let Some((_, mut delivered)) = other {
                assert!(delivered.try_recv().is_err(), "a repetition of the newer request would not find it");
            }
        }
    }

    /// Each offer may claim for the same poll; the store answers all of them with what the first took.
    #[test]
    fn what_was_given_already_is_not_taken_back_when_another_claim_of_the_same_request_names_it_again() {
        let driver = driver();
        let (_, mut delivered) = waits(&driver, 1);
        let claim = claims(&driver);
        assert!(answered(&driver, &claim, vec![lease(7)]).is_empty());
        assert_eq!(delivered.try_recv().unwrap().len(), 1);
        let (_, mut newer) = waits(&driver, 2);
        let next = claims(&driver);
        assert!(answered(&driver, &next, vec![lease(8)]).is_empty());
        assert_eq!(newer.try_recv().unwrap().len(), 1);
        assert!(answered(&driver, &claim, vec![lease(7)]).is_empty(), "also after a newer request was answered");
        assert!(driver.may_give(holder(), lease(7).lease()));
    }

    #[test]
    fn a_poll_whose_time_is_over_is_answered_when_nothing_more_is_under_way() {
        let driver = driver();
        let (number, mut delivered) = waits(&driver, 1);
        let claim = claims(&driver);
        assert!(driver.leaves(holder(), number));
        driver.handle(vec![Input::PollWants(holder(), 0)], &mut HashMap::new());
        assert!(answered(&driver, &claim, Vec::new()).is_empty());
        assert!(delivered.try_recv().unwrap().is_empty());
    }
}
