//! One history: a seed, a scenario, simulated time.

use crate::check;
use crate::clients;
use crate::faults;
use crate::host::Host;
use crate::poller::Poller;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server::routes::NAMESPACE;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::class::WorkerProfile;
use outlive_core::invariants::Violation;
use std::collections::BTreeMap;

/// After the last fault everything must have ended within this.
const QUIESCE: u64 = 300_000;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From which everything follows.
    pub seed: u64,
    /// Which faults.
    pub scenario: &'static Scenario,
    /// Whether a rule is missing.
    pub twin: Twin,
    /// How long faults strike and clients create, in simulated milliseconds.
    pub duration: u64,
    /// Keep the whole log.
    pub keep_log: bool,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was played.
    pub seed: u64,
    /// By name.
    pub scenario: &'static str,
    /// What did not hold.
    pub failure: Option<Violation>,
    /// Of the event log.
    pub digest: u64,
    /// Simulated milliseconds, quiescence included.
    pub simulated: u64,
    /// Events.
    pub steps: u64,
    /// Runs created.
    pub runs: usize,
    /// What happened.
    pub counts: check::Counts,
    /// The end of the log, or all of it.
    pub log: Vec<String>,
}

impl Report {
    /// For people: what, where, and how to see it again.
    #[must_use]
    pub fn explain(&self) -> String {
        let tail = self.log.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n");
        let what = self.failure.as_ref().map_or_else(|| "nothing failed".to_owned(), ToString::to_string);
        let (seed, scenario) = (self.seed, self.scenario);
        format!(
            "{tail}\n\nseed {seed}, scenario {scenario}: {what}\nagain: cargo run -p outlive-sim -- --seed {seed} --scenario {scenario} --log"
        )
    }
}

/// Plays a history.
#[must_use]
pub fn play(options: Options) -> Report {
    let mut w = World::new(options.seed, options.scenario, options.twin, options.keep_log);
    for index in 0..options.scenario.hosts {
        let mut rng = Rng::new(options.seed).part(&format!("host {index}"));
        let slots = u32::try_from(rng.between(1, 3)).unwrap_or(1);
        w.hosts.push(Host::new(index, rng, profile(options.seed, index, slots)));
        w.hosts[index].proxied = options.scenario.proxied && index.is_multiple_of(2);
    }
    clients::start(&mut w);
    (0..options.scenario.replicas).for_each(|replica| w.start_server(replica));
    for host in 0..w.hosts.len() {
        w.start_agent(host);
    }
    for index in 0..options.scenario.pollers {
        let rng = Rng::new(options.seed).part(&format!("poller {index}"));
        let (queue, _) = clients::polled();
        let profile = WorkerProfile {
            name: format!("p-{index}"),
            queues: [queue.to_owned()].into(),
            kinds: ["task".to_owned()].into(),
            ..profile(options.seed, index, 3)
        };
        w.pollers.push(Poller::new(index, rng, profile, options.scenario.at_once > 0));
        w.start_poller(index);
    }
    faults::start(&mut w, options.duration);
    check::look(&mut w);
    while w.step(options.duration) {}
    w.clients.stopped = true;
    w.log(format_args!("no more faults"));
    faults::heal(&mut w);
    faults::tend(&mut w);
    let mut until = w.now;
    while w.failed.is_none() && until < options.duration + QUIESCE {
        until += 1_000;
        while w.step(until) {}
        if w.truth.active.is_empty() && w.clients.all_answered() {
            break;
        }
    }
    w.truth.counts.shortened += w.replicas().filter(|r| r.up).map(|r| r.engine.shortened_graces()).sum::<u64>();
    check::at_the_end(&mut w);
    let recordings = w.replicas().flat_map(|r| &r.recordings);
    let replays = check::replays(recordings, &mut Rng::new(options.seed).part("replay"));
    w.check(replays);
    Report {
        seed: options.seed,
        scenario: options.scenario.name,
        failure: w.failed.clone(),
        digest: w.log.digest(),
        simulated: w.now,
        steps: w.steps,
        runs: w.clients.created.len(),
        counts: w.truth.counts,
        log: w.log.lines().map(str::to_owned).collect(),
    }
}

fn profile(seed: u64, index: usize, slots: u32) -> WorkerProfile {
    WorkerProfile {
        namespace: NAMESPACE.to_owned(),
        name: format!("w-{index}"),
        queues: clients::queues(seed).iter().map(|(name, _)| (*name).to_owned()).collect(),
        kinds: ["exec".to_owned()].into(),
        labels: BTreeMap::new(),
        slots,
    }
}
