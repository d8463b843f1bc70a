//! A host: an agent process around the real agent, a guard around the real watch, and processes that only pretend.

mod carry;
mod guard;
mod process;

use crate::net::{Up, Way};
use crate::queue::{Owner, Waiting};
use crate::rng::Rng;
use crate::server::routes::{self, RegisterAnswer};
use crate::world::World;
use outlive_core::class::WorkerProfile;
use outlive_core::{Holder, LeaseRef, Millis, Mono};
use outlive_store::{Presence, Registration};
use outlive_worker::agent::{Agent, Conn, Input, Now, Settings};
use outlive_worker::outbox::Record;
use process::Process;
pub(crate) use process::Work;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A host.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the host, which the faults change one by one"
)]
pub(crate) struct Host {
    pub index: usize,
    /// Its clocks show world time and this: no two hosts agree.
    offset: u64,
    /// Which of its agent's starts this is.
    pub start: u32,
    pub agent: Option<Box<Agent>>,
    pub paused: bool,
    pub waiting: Vec<Waiting>,
    pub profile: WorkerProfile,
    instance: Uuid,
    pub holder: Option<Holder>,
    /// What the registration said: beat, window.
    pub registered: (Millis, Millis),
    pub links: BTreeMap<Conn, usize>,
    pub connecting: BTreeSet<Conn>,
    /// What survives the agent.
    pub outbox: BTreeMap<LeaseRef, Record>,
    pub way: Way,
    /// A proxy stands between it and every server.
    pub proxied: bool,
    /// The proxy opens nothing before this.
    pub refused_until: u64,
    timer: Option<u64>,
    guard: outlive_worker::guard::Watch,
    guard_timer: Option<u64>,
    pub processes: BTreeMap<LeaseRef, Process>,
    /// Since when its agent has lived, run, and had a way to the server.
    pub blameless_since: Option<u64>,
    /// When something last dropped a connection of it.
    pub dropped_at: Option<u64>,
    pub online: bool,
    /// Since when it has been, without a break.
    pub online_since: Option<u64>,
    /// It drains, or was asked to stop.
    pub leaving: bool,
    /// What the last input told it to give up.
    told: bool,
    rng: Rng,
}

impl Host {
    pub(crate) fn new(index: usize, mut rng: Rng, profile: WorkerProfile) -> Self {
        Self {
            index,
            offset: rng.between(1, 1_000_000),
            start: 0,
            agent: None,
            paused: false,
            waiting: Vec::new(),
            profile,
            instance: Uuid::nil(),
            holder: None,
            registered: (Millis(1_000), Millis(1_000)),
            links: BTreeMap::new(),
            connecting: BTreeSet::new(),
            outbox: BTreeMap::new(),
            way: Way::default(),
            proxied: false,
            refused_until: 0,
            timer: None,
            guard: outlive_worker::guard::Watch::default(),
            guard_timer: None,
            processes: BTreeMap::new(),
            blameless_since: None,
            dropped_at: None,
            online: false,
            online_since: None,
            leaving: false,
            told: false,
            rng,
        }
    }

    fn clocks(&self, now: u64) -> Now {
        Now { boot: Mono(now + self.offset), mono: Mono(now + self.offset) }
    }

    /// The number of attempts with processes.
    pub(crate) fn busy(&self) -> usize {
        self.agent.as_ref().map_or(0, |agent| agent.held(Now::default()).len())
    }

    /// Whether it could take a run now, as far as the world can see.
    pub(crate) fn could_take(&self) -> bool {
        self.agent.is_some()
            && self.online
            && !self.paused
            && !self.leaving
            && self.busy() < self.profile.slots as usize
    }
}

impl World {
    /// Starts an agent process: leftovers are gone, the outbox is read.
    pub(crate) fn start_agent(&mut self, host: usize) {
        let (now, scenario) = (self.now, self.scenario);
        let h = &mut self.hosts[host];
        if h.agent.is_some() || h.way.gone {
            return;
        }
        h.start += 1;
        let servers = if scenario.balanced {
            vec!["balancer".to_owned()]
        } else {
            (0..scenario.replicas).map(|n| format!("r{}", (n + host) % scenario.replicas)).collect()
        };
        h.instance = uuid::Builder::from_random_bytes(h.rng.wide().to_be_bytes()).into_uuid();
        let settings = Settings { servers, slots: h.profile.slots, in_process: BTreeSet::new(), seed: h.rng.bits() };
        let replay = h.outbox.values().cloned().collect();
        h.agent = Some(Box::new(Agent::new(settings, replay)));
        (h.holder, h.timer, h.guard_timer, h.online, h.leaving, h.paused) = (None, None, None, false, false, false);
        h.guard = outlive_worker::guard::Watch::default();
        h.blameless_since = (h.refused_until <= now).then_some(now);
        let (start, outbox) = (h.start, h.outbox.len());
        self.log(format_args!("h{host} starts agent {start} with {outbox} reports in its outbox"));
        self.turn(host, Vec::new());
    }

    /// SIGKILL to the agent: its guard kills what it ran, the kernel closes its connections.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        if self.hosts[host].agent.take().is_none() {
            return;
        }
        self.log(format_args!("h{host} agent is gone"));
        self.agent_is_gone(host);
    }

    pub(crate) fn agent_is_gone(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        h.agent = None;
        h.waiting.clear();
        h.paused = false;
        (h.online, h.online_since) = (false, None);
        h.blameless_since = None;
        h.connecting.clear();
        let links: Vec<_> = std::mem::take(&mut h.links).into_values().collect();
        let reaction = h.rng.between(0, 15);
        for link in links {
            self.agent_closes(link);
        }
        let leases: Vec<_> = self.hosts[host].processes.keys().copied().collect();
        self.after(reaction, Owner::World, move |w| {
            for lease in leases {
                w.kill_process(host, lease, None);
            }
        });
    }

    /// The host's power is gone: its processes with it, and what was not yet on its disk.
    pub(crate) fn lose_memory(&mut self, host: usize) {
        self.hosts[host].processes.clear();
        self.hosts[host].outbox.clear();
    }

    pub(crate) fn pause_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            self.hosts[host].paused = true;
            self.hosts[host].blameless_since = None;
            self.log(format_args!("h{host} agent stopped (SIGSTOP)"));
        }
    }

    pub(crate) fn wake_agent(&mut self, host: usize) {
        let now = self.now;
        let h = &mut self.hosts[host];
        if std::mem::take(&mut h.paused) {
            let waiting = std::mem::take(&mut h.waiting);
            let owner = Owner::Agent(host, h.start);
            h.blameless_since = (!h.way.is_silent(now) && h.refused_until <= now).then_some(now);
            self.log(format_args!("h{host} agent goes on"));
            self.resume(owner, waiting);
        }
    }

    /// One input for an agent.
    pub(crate) fn agent(&mut self, host: usize, input: Input) {
        self.turn(host, vec![input]);
    }

    /// A turn of an agent: what it wants is carried out, and it is woken when something is due.
    pub(crate) fn turn(&mut self, host: usize, inputs: Vec<Input>) {
        let h = &mut self.hosts[host];
        let now = h.clocks(self.now);
        h.told = inputs.iter().any(carry::tells);
        let Some(agent) = &mut h.agent else { return };
        let effects = agent.turn(inputs, now);
        for effect in effects {
            self.carry_out(host, effect);
        }
        let h = &mut self.hosts[host];
        let (timer, start) = (h.timer, h.start);
        let due = h.agent.as_ref().and_then(|agent| agent.next_deadline(now)).map(|wait| self.now + wait.0.max(1));
        if let Some(at) = due
            && timer.is_none_or(|timer| at < timer)
        {
            self.hosts[host].timer = Some(at);
            self.at(at, Owner::Agent(host, start), move |w| {
                if w.hosts[host].timer == Some(at) {
                    w.hosts[host].timer = None;
                    w.turn(host, Vec::new());
                }
            });
        }
    }

    /// Registers, unless that is done, and asks for a session.
    fn connect(&mut self, host: usize, conn: Conn, address: &str, within: Millis) {
        let named = address.strip_prefix('r').and_then(|n| n.parse().ok());
        let replica = named.unwrap_or_else(|| self.balanced());
        let start = self.hosts[host].start;
        self.hosts[host].connecting.insert(conn);
        self.after(within.0, Owner::Agent(host, start), move |w| w.gives_up(host, conn));
        if !self.replica(replica).up {
            let latency = self.latency();
            return self.after(latency, Owner::Agent(host, start), move |w| w.gives_up(host, conn));
        }
        if self.hosts[host].refused_until > self.now {
            let latency = self.latency();
            return self.after(latency, Owner::Agent(host, start), move |w| w.gives_up(host, conn));
        }
        if let Some(holder) = self.hosts[host].holder {
            let link = self.link(host, conn, replica);
            return self.up(link, Up::Open(holder));
        }
        self.register(host, conn, replica);
    }

    fn gives_up(&mut self, host: usize, conn: Conn) {
        if self.hosts[host].connecting.remove(&conn) {
            if let Some(link) = self.hosts[host].links.remove(&conn) {
                self.agent_closes(link);
            }
            self.agent(host, Input::Disconnected { conn });
        }
    }

    fn register(&mut self, host: usize, conn: Conn, replica: usize) {
        let (h, way) = (&self.hosts[host], &self.ways[replica]);
        let (up, down) = (h.way.up_until.max(way.up_until), h.way.down_until.max(way.down_until));
        if h.way.gone || up > self.now || down > self.now {
            return; // lost on the way: the time-out ends it
        }
        let registration = Registration {
            profile: h.profile.clone(),
            instance: h.instance,
            outbox_key: format!("key-{host}"),
            presence: Presence::Session,
            version: "sim".to_owned(),
            host: format!("h{host}"),
            pid: i64::from(h.start),
            may_replace: false,
        };
        let (start, pending) = (h.start, h.agent.as_ref().is_some_and(|agent| agent.outbox_pending() > 0));
        let latency = self.latency();
        self.after(latency, self.replica(replica).owner(), move |w| {
            routes::register(w, registration, pending, move |w, answer| {
                let latency = w.latency();
                w.after(latency, Owner::Agent(host, start), move |w| w.registered(host, conn, replica, &answer));
            });
        });
    }

    fn registered(&mut self, host: usize, conn: Conn, replica: usize, answer: &RegisterAnswer) {
        if !self.hosts[host].connecting.contains(&conn) {
            return;
        }
        match answer {
            RegisterAnswer::Done { holder, heartbeat, window } => {
                self.log(format_args!("h{host} is {holder}"));
                self.hosts[host].holder = Some(*holder);
                self.hosts[host].registered = (*heartbeat, *window);
                self.truth.registered(*holder, host);
                // Behind a balancer the session goes wherever the next request is brought.
                let replica = if self.scenario.balanced { self.balanced() } else { replica };
                let link = self.link(host, conn, replica);
                self.up(link, Up::Open(*holder));
            }
            // The name is still its predecessor's; a supervisor would start it again.
            RegisterAnswer::NotNow | RegisterAnswer::InUse => self.gives_up(host, conn),
        }
    }
}
