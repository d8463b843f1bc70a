//! The table of scenarios, and how large they are played.

use super::fault::Fault;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// By which it is asked for.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// Workers. Enough that one or two of them are no mass failure.
    pub(super) workers: usize,
    /// How many of them may go; the others have slots for everything.
    pub(super) go: usize,
    pub(super) setting: Setting,
    pub(super) fault: Fault,
}

/// What is around the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Plain,
    /// Workers reach the server through a proxy.
    Proxied,
    /// The first worker is on a host of its own.
    OwnHost,
    /// Server and workers have a wall clock that can jump.
    OwnClock,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "server-stopped",
        what: "the server is stopped (SIGSTOP), for less and for longer than a lease",
        workers: 4,
        go: 0,
        setting: Setting::Plain,
        fault: Fault::StopServer,
    },
    Scenario {
        name: "agents-stopped",
        what: "some agents are stopped for less than a lease, one for longer, and they wake",
        workers: 5,
        go: 1,
        setting: Setting::Plain,
        fault: Fault::StopAgents,
    },
    Scenario {
        name: "cut",
        what: "all connections of all agents end at once, again and again",
        workers: 4,
        go: 0,
        setting: Setting::Plain,
        fault: Fault::Cut,
    },
    Scenario {
        name: "cut-proxied",
        what: "the same through a proxy, which then refuses everybody for a while",
        workers: 4,
        go: 0,
        setting: Setting::Proxied,
        fault: Fault::CutProxied,
    },
    Scenario {
        name: "clock",
        what: "the wall clock of server and agents jumps by a day, both ways",
        workers: 4,
        go: 0,
        setting: Setting::OwnClock,
        fault: Fault::Clock,
    },
    Scenario {
        name: "starved",
        what: "the server gets 5 % of a core",
        workers: 4,
        go: 0,
        setting: Setting::Plain,
        fault: Fault::Starve,
    },
    Scenario {
        name: "store",
        what: "no commit succeeds, for longer than a lease",
        workers: 4,
        go: 0,
        setting: Setting::Plain,
        fault: Fault::Store,
    },
    Scenario {
        name: "storm",
        what: "half of the workers are killed at once",
        workers: 6,
        go: 3,
        setting: Setting::Plain,
        fault: Fault::Storm,
    },
    Scenario {
        name: "silent-host",
        what: "the network of a host is set down, and up again when its work is elsewhere",
        workers: 4,
        go: 1,
        setting: Setting::OwnHost,
        fault: Fault::SilentHost,
    },
];

/// The scenario of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Runs that are running all the time.
    pub runs: usize,
    /// Each stamps so often, in milliseconds. Many that stamp each 5 ms would themselves fill two cores.
    pub every_ms: u64,
    /// A stopped server stands still for these times, in seconds.
    pub stops: &'static [u64],
    /// A starved server, an unwritable store, and clocks that are wrong take this long, in seconds.
    pub outage: u64,
    /// A proxy refuses everybody for this long, in seconds. After 30 s of silence from all, absence is believed again.
    pub refusal: u64,
    /// Cuts, and agents that are stopped.
    pub rounds: u32,
    /// After it all, a verdict that was wrong has this long to show itself, in seconds.
    pub hold: u64,
}

/// As the design asks for it.
pub const LONG: Scale =
    Scale { runs: 200, every_ms: 20, stops: &[1, 10, 60], outage: 60, refusal: 20, rounds: 5, hold: 25 };

/// For every test run: everything still takes longer than a lease (10 s) where that matters.
pub const SHORT: Scale = Scale { runs: 16, every_ms: 5, stops: &[1, 11], outage: 12, refusal: 7, rounds: 1, hold: 2 };
