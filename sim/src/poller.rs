//! Workers without sessions: they poll over plain HTTP, or do not beat at all.
//!
//! What a few lines of any language do: register, claim with a request id until it is answered, report what was done, name what
//! is held in a beat. Nothing here is frozen: for these workers the fence alone protects, so that an old attempt may still be at
//! work while a new one is. No invariant of *overlap* is checked for their runs, all others are.

use crate::queue::Owner;
use crate::rng::Rng;
use crate::server::polls::{self, Order};
use crate::server::routes::{self, RegisterAnswer};
use crate::world::World;
use outlive_api::report::WireResult;
use outlive_api::session::Lease;
use outlive_core::class::WorkerProfile;
use outlive_core::engine::HeldInfo;
use outlive_core::report::{Completion, ExitReport, Item, Op};
use outlive_core::{Holder, LeaseRef, Millis};
use outlive_store::{Presence, Registration};
use std::collections::BTreeMap;
use uuid::Uuid;

/// An answer that has not come by then does not come.
const PATIENCE: u64 = 2_500;
/// How long a poll for work stays open.
const WAIT: u64 = 2_000;

/// What it does for a lease.
#[derive(Clone, Copy, Debug)]
struct Job {
    since: u64,
    takes: u64,
    told_start: bool,
    /// Asked to end.
    cancelled: bool,
}

/// A worker without a session.
pub(crate) struct Poller {
    index: usize,
    /// Which of its processes this is.
    start: u32,
    pub alive: bool,
    /// Nothing passes between it and any server before this.
    pub silent_until: u64,
    presence: Presence,
    /// It names what it holds in its reports.
    beats: bool,
    interval: u64,
    pub profile: WorkerProfile,
    pub holder: Option<Holder>,
    instance: Uuid,
    jobs: BTreeMap<LeaseRef, Job>,
    /// The claim that has not been answered.
    claim: Option<Uuid>,
    /// The number of the last request: an answer to an earlier one comes too late.
    asked: u64,
    rng: Rng,
}

impl Poller {
    /// Every third does not beat; half of those name their runs in a beat all the same.
    pub(crate) fn new(index: usize, mut rng: Rng, profile: WorkerProfile, all_poll: bool) -> Self {
        let interval = rng.between(1_000, 4_000);
        let declared = rng.chance(50).then_some(Millis(interval));
        let quiet = !all_poll && index % 3 == 2;
        Self {
            index,
            start: 0,
            alive: false,
            silent_until: 0,
            presence: if quiet { Presence::None(declared) } else { Presence::Poll(Millis(interval)) },
            beats: !quiet || rng.chance(50),
            interval,
            profile,
            holder: None,
            instance: Uuid::nil(),
            jobs: BTreeMap::new(),
            claim: None,
            asked: 0,
            rng,
        }
    }

    pub(crate) const fn presence(&self) -> Presence {
        self.presence
    }

    /// Whether it lives and has this lease.
    pub(crate) fn works_at(&self, lease: LeaseRef) -> bool {
        self.alive && self.jobs.contains_key(&lease)
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.wide().to_be_bytes()).into_uuid()
    }

    /// What it says of each of its jobs now.
    fn news(&mut self, now: u64) -> Vec<Item> {
        let mut items = Vec::new();
        // Of what it names in beats it says nothing else while it is at work.
        let names_only = self.beats && matches!(self.presence, Presence::None(_));
        for (&lease, job) in &mut self.jobs {
            let op = if job.cancelled {
                Op::Cancelled { exit: None }
            } else if !job.told_start {
                job.told_start = true;
                Op::Start
            } else if now >= job.since + job.takes {
                let exit = Some(ExitReport { code: Some(0), ..ExitReport::default() });
                Op::Complete(Completion { exit, ..Completion::default() })
            } else if names_only {
                continue;
            } else {
                Op::Progress { fraction: None, note: Some("at work".to_owned()) }
            };
            items.push(Item { lease, op });
        }
        items
    }
}

impl World {
    /// A process begins; what an earlier one did is forgotten.
    pub(crate) fn start_poller(&mut self, index: usize) {
        let p = &mut self.pollers[index];
        if p.alive {
            return;
        }
        p.start += 1;
        p.alive = true;
        p.instance = p.uuid();
        (p.holder, p.claim) = (None, None);
        p.jobs.clear();
        let start = p.start;
        self.log(format_args!("p{index} starts process {start}"));
        self.poller_turn(index, start);
    }

    pub(crate) fn kill_poller(&mut self, index: usize) {
        if std::mem::take(&mut self.pollers[index].alive) {
            self.log(format_args!("p{index} is gone"));
            if let Some(holder) = self.pollers[index].holder {
                self.hang_up(holder);
            }
        }
    }

    /// Its requests end with it.
    fn hang_up(&mut self, holder: Holder) {
        let owners: Vec<_> = self.replicas().filter(|r| r.up).map(crate::server::Server::owner).collect();
        for owner in owners {
            let soon = self.latency();
            self.after(soon, owner, move |w| polls::hangs_up(w, holder));
        }
    }

    fn lives(&self, index: usize, start: u32) -> bool {
        let p = &self.pollers[index];
        p.alive && p.start == start
    }

    /// Asks something of a server; the answer comes in time, or is taken for lost. One request at a time.
    fn poller_asks<A: 'static>(
        &mut self,
        index: usize,
        start: u32,
        patience: u64,
        to: impl FnOnce(&mut Self, Box<dyn FnOnce(&mut Self, A)>) + 'static,
        then: impl FnOnce(&mut Self, Option<A>) + 'static,
    ) {
        let p = &mut self.pollers[index];
        p.asked += 1;
        let number = p.asked;
        let slot = std::rc::Rc::new(std::cell::RefCell::new(Some(then)));
        let late = std::rc::Rc::clone(&slot);
        self.after(patience, Owner::World, move |w| {
            if let Some(then) = late.borrow_mut().take().filter(|_| w.lives(index, start)) {
                then(w, None);
            }
        });
        let open = move |w: &Self| w.pollers[index].silent_until <= w.now;
        if !open(self) || self.chance.chance(2) {
            return;
        }
        self.request(move |w| {
            let answer = move |w: &mut Self, answer: A| {
                let back = w.latency();
                w.after(back, Owner::World, move |w| {
                    let heard = w.lives(index, start) && open(w) && w.pollers[index].asked == number;
                    if heard
                        && !w.chance.chance(2)
                        && let Some(then) = slot.borrow_mut().take()
                    {
                        then(w, Some(answer));
                    }
                });
            };
            to(w, Box::new(answer));
        });
    }

    /// What it does next: registers, reports, asks for work.
    fn poller_turn(&mut self, index: usize, start: u32) {
        if !self.lives(index, start) {
            return;
        }
        let now = self.now;
        let p = &mut self.pollers[index];
        let Some(holder) = p.holder else { return self.poller_registers(index, start) };
        let items = p.news(now);
        let held = p.jobs.keys().map(|&lease| HeldInfo { lease, frozen: Millis::ZERO }).collect();
        let beat: Option<Vec<HeldInfo>> = p.beats.then_some(held);
        if items.is_empty() && beat.is_none() {
            return self.poller_claims(index, start);
        }
        let said = items.clone();
        self.poller_asks(
            index,
            start,
            PATIENCE,
            move |w, answer| polls::report(w, holder, items, beat, answer),
            move |w, answer: Option<polls::Answer>| {
                if let Some(answer) = answer {
                    w.poller_hears(index, &said, answer);
                }
                w.poller_claims(index, start);
            },
        );
    }

    fn poller_hears(&mut self, index: usize, said: &[Item], answer: polls::Answer) {
        let Ok((results, orders)) = answer else {
            // It is not the current start of its name: it begins anew.
            self.pollers[index].holder = None;
            return self.pollers[index].jobs.clear();
        };
        let jobs = &mut self.pollers[index].jobs;
        for (item, result) in said.iter().zip(results) {
            if item.op.ends_attempt() || result != WireResult::Ok {
                jobs.remove(&item.lease);
            }
        }
        for order in orders {
            match order {
                Order::Lost(lease) => drop(jobs.remove(&lease)),
                Order::Cancel(lease) => {
                    if let Some(job) = jobs.get_mut(&lease) {
                        job.cancelled = true;
                    }
                }
            }
        }
    }

    fn poller_registers(&mut self, index: usize, start: u32) {
        let p = &self.pollers[index];
        let registration = Registration {
            profile: p.profile.clone(),
            instance: p.instance,
            outbox_key: format!("poller-{index}"),
            presence: p.presence,
            version: "sim".to_owned(),
            host: format!("p{}", p.index),
            pid: i64::from(start),
            may_replace: false,
        };
        self.poller_asks(
            index,
            start,
            PATIENCE,
            move |w, answer| routes::register(w, registration, false, answer),
            move |w, answer| {
                if let Some(RegisterAnswer::Done { holder, .. }) = answer {
                    w.log(format_args!("p{index} is {holder}"));
                    w.pollers[index].holder = Some(holder);
                    w.truth.polls(holder, index);
                }
                w.poller_again(index, start);
            },
        );
    }

    fn poller_claims(&mut self, index: usize, start: u32) {
        let p = &mut self.pollers[index];
        let room = (p.profile.slots as usize).saturating_sub(p.jobs.len());
        let Some(holder) = p.holder.filter(|_| room > 0) else { return self.poller_again(index, start) };
        let request = p.claim.unwrap_or_else(|| p.uuid());
        p.claim = Some(request);
        let max = u32::try_from(room).unwrap_or(1);
        self.poller_asks(
            index,
            start,
            PATIENCE + WAIT,
            move |w, answer| polls::claim(w, holder, request, max, WAIT, answer),
            move |w, leases: Option<Vec<Lease>>| {
                let now = w.now;
                let p = &mut w.pollers[index];
                if let Some(leases) = leases {
                    // The next claim is another one.
                    p.claim = None;
                    for lease in leases {
                        let takes = lease.input.read().map_or(100, |work: crate::host::Work| work.ms);
                        let job = Job { since: now, takes, told_start: false, cancelled: false };
                        p.jobs.insert(lease.lease(), job);
                    }
                }
                w.poller_again(index, start);
            },
        );
    }

    fn poller_again(&mut self, index: usize, start: u32) {
        let p = &mut self.pollers[index];
        let pause = p.rng.between(p.interval / 4, p.interval * 3 / 4);
        self.after(pause, Owner::World, move |w| w.poller_turn(index, start));
    }
}
