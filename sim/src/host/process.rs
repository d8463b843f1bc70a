//! A process that pretends to work: it writes, saves, ends, can be stopped in place, and is known to execute or not at every
//! moment.

use crate::queue::Owner;
use crate::rng::Rng;
use crate::world::World;
use outlive_api::session::Lease;
use outlive_core::report::{ExitReport, Op};
use outlive_core::{Json, LeaseRef};
use outlive_worker::agent::{ChildEvent, End, Input, Parsed};
use serde::{Deserialize, Serialize};

/// What a run asks of its process: the input.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    /// How long it executes.
    pub ms: u64,
    /// Frames of output, spread over that time.
    pub frames: u64,
    /// Checkpoints, likewise.
    pub checkpoints: u64,
    /// It fails with code 1 in its first attempts.
    pub fails: u32,
}

/// A process group of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    start: u32,
    serial: Option<String>,
    work: Work,
    attempt: u32,
    /// Executed up to `since`.
    done: u64,
    since: u64,
    frozen: bool,
    /// Steps done, of `frames + checkpoints + 1`.
    step: u64,
    /// Rises whenever what was planned is void.
    plan: u64,
    /// When SIGTERM came.
    termed: bool,
    /// It does not listen to SIGTERM.
    stubborn: bool,
}

impl Process {
    pub(super) const fn asked_to_end(&self) -> bool {
        self.termed
    }

    const fn executes(&self) -> bool {
        !self.frozen
    }

    const fn steps(&self) -> u64 {
        self.work.frames + self.work.checkpoints + 1
    }

    /// When the next step is due, in executed time.
    const fn next(&self) -> u64 {
        self.work.ms * (self.step + 1) / self.steps()
    }
}

impl World {
    pub(super) fn spawn(&mut self, host: usize, lease: &Lease) {
        let name = lease.lease();
        let work = lease.input.read().unwrap_or(Work { ms: 10, frames: 0, checkpoints: 0, fails: 0 });
        let h = &mut self.hosts[host];
        let process = Process {
            start: h.start,
            serial: self.truth.serial_key(name.run_id),
            work,
            attempt: lease.attempt,
            done: 0,
            since: self.now,
            frozen: false,
            step: 0,
            plan: 0,
            termed: false,
            stubborn: h.rng.chance(10),
        };
        h.processes.insert(name, process);
        let (start, run, soon) = (h.start, self.name(name.run_id), self.chance.between(1, 8));
        self.log(format_args!("h{host} runs r{run} epoch {}", name.epoch));
        self.executes(host, name);
        let group = i32::try_from(run + 1_000).ok();
        self.child(soon, host, start, name, ChildEvent::Started(group));
        self.plan(host, name);
    }

    fn child(&mut self, after: u64, host: usize, start: u32, lease: LeaseRef, event: ChildEvent) {
        self.after(after, Owner::Agent(host, start), move |w| w.agent(host, Input::Child { lease, event }));
    }

    /// The process begins, or goes on, to execute: no newer attempt may have begun, and no older one may execute.
    fn executes(&mut self, host: usize, lease: LeaseRef) {
        let serial = self.hosts[host].processes.get(&lease).and_then(|p| p.serial.clone());
        let mut others = Vec::new();
        for h in &self.hosts {
            for (other, process) in h.processes.iter().filter(|(other, p)| p.executes() && **other != lease) {
                if other.run_id == lease.run_id || (serial.is_some() && process.serial == serial) {
                    others.push(*other);
                }
            }
        }
        let check = self.truth.executes(lease, &others);
        self.check(check);
    }

    fn plan(&mut self, host: usize, lease: LeaseRef) {
        let now = self.now;
        let Some(process) = self.hosts[host].processes.get_mut(&lease) else { return };
        process.plan += 1;
        let (plan, at) = (process.plan, now + process.next().saturating_sub(process.done).max(1));
        self.at(at, Owner::World, move |w| w.step_of(host, lease, plan));
    }

    fn step_of(&mut self, host: usize, lease: LeaseRef, plan: u64) {
        let now = self.now;
        let Some(p) = self.hosts[host].processes.get_mut(&lease).filter(|p| p.plan == plan && !p.frozen) else {
            return;
        };
        p.done += now - p.since;
        p.since = now;
        p.step += 1;
        let (step, start, steps) = (p.step, p.start, p.steps());
        if step >= steps {
            let code = i32::from(p.attempt <= p.work.fails);
            return self.ends(host, lease, ExitReport { code: Some(code), ..ExitReport::default() });
        }
        let event = if step.is_multiple_of(3) && p.work.checkpoints > 0 {
            let data = Json::parse(format!("{{\"step\":{step}}}")).unwrap_or_else(|_| Json::null());
            ChildEvent::Said { reference: None, op: Op::Checkpoint(data) }
        } else {
            ChildEvent::Output { channel: "stdout".to_owned(), bytes: format!("{}:{step}\n", lease.epoch).into_bytes() }
        };
        self.child(0, host, start, lease, event);
        self.plan(host, lease);
    }

    fn ends(&mut self, host: usize, lease: LeaseRef, exit: ExitReport) {
        let Some(process) = self.hosts[host].processes.remove(&lease) else { return };
        let reaped = self.chance.between(0, 3);
        if self.hosts[host].agent.is_some() && self.hosts[host].start == process.start {
            self.truth.exited(lease, self.now, host);
        }
        let end = End::Exit { exit, output: Parsed::Log };
        self.child(reaped, host, process.start, lease, ChildEvent::Ended(end));
    }

    pub(super) fn term_process(&mut self, host: usize, lease: LeaseRef) {
        let react = self.chance.between(1, 400);
        let Some(process) = self.hosts[host].processes.get_mut(&lease) else { return };
        process.termed = true;
        if !process.stubborn {
            self.after(react, Owner::World, move |w| w.obeys(host, lease));
        }
    }

    fn obeys(&mut self, host: usize, lease: LeaseRef) {
        if self.hosts[host].processes.get(&lease).is_some_and(|p| !p.frozen) {
            self.ends(host, lease, signal("SIGTERM"));
        }
    }

    /// SIGKILL. `start`: only if it is of this start of the agent.
    pub(crate) fn kill_process(&mut self, host: usize, lease: LeaseRef, start: Option<u32>) {
        let fits = self.hosts[host].processes.get(&lease).is_some_and(|p| start.is_none_or(|s| s == p.start));
        if fits {
            self.ends(host, lease, signal("SIGKILL"));
        }
    }

    pub(super) fn freeze_process(&mut self, host: usize, lease: LeaseRef) {
        let now = self.now;
        let Some(p) = self.hosts[host].processes.get_mut(&lease).filter(|p| !p.frozen) else { return };
        p.frozen = true;
        p.plan += 1;
        p.done += now - p.since;
        p.since = now;
        let run = self.name(lease.run_id);
        self.log(format_args!("h{host} freezes r{run} epoch {}", lease.epoch));
    }

    pub(super) fn thaw_process(&mut self, host: usize, lease: LeaseRef) {
        let now = self.now;
        let Some(p) = self.hosts[host].processes.get_mut(&lease).filter(|p| p.frozen) else { return };
        p.frozen = false;
        p.since = now;
        let obeys = p.termed && !p.stubborn;
        let run = self.name(lease.run_id);
        self.log(format_args!("h{host} thaws r{run} epoch {}", lease.epoch));
        self.executes(host, lease);
        if obeys {
            self.after(1, Owner::World, move |w| w.obeys(host, lease));
        } else {
            self.plan(host, lease);
        }
    }

    /// A child of a host, killed from outside.
    pub(crate) fn kill_some_child(&mut self, rng: &mut Rng) {
        let all = self.hosts.iter().flat_map(|h| h.processes.keys().map(|lease| (h.index, *lease)));
        let all: Vec<_> = all.collect();
        if !all.is_empty() {
            let (host, lease) = all[rng.index(all.len())];
            let run = self.name(lease.run_id);
            self.log(format_args!("h{host} child of r{run} epoch {} is killed", lease.epoch));
            self.kill_process(host, lease, None);
        }
    }
}

fn signal(name: &str) -> ExitReport {
    ExitReport { signal: Some(name.to_owned()), ..ExitReport::default() }
}
