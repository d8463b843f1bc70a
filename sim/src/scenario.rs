//! The scenarios: which faults strike, and how often. Everything else is chosen by the seed.

use crate::faults::Fault;

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Hosts with agents.
    pub(crate) hosts: usize,
    /// The longest pause between two creations, in milliseconds.
    pub(crate) between_runs: u64,
    /// What strikes, with the least and the longest time between two strikes, in milliseconds.
    pub(crate) faults: &'static [(Fault, u64, u64)],
}

const fn scenario(name: &'static str, about: &'static str, faults: &'static [(Fault, u64, u64)]) -> Scenario {
    Scenario { name, about, hosts: 4, between_runs: 2_000, faults }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    scenario("calm", "nothing happens; nothing may be lost", &[]),
    scenario("worker_killed", "agents are killed and started again", &[(Fault::KillAgent, 4_000, 20_000)]),
    scenario(
        "worker_paused_and_woken",
        "agents stand still around the length of their trust, and wake as zombies",
        &[(Fault::PauseAgent, 3_000, 12_000)],
    ),
    scenario("child_killed", "commands are killed from outside", &[(Fault::KillChild, 500, 5_000)]),
    scenario("server_paused", "the server stands still for 1 to 60 s", &[(Fault::PauseServer, 5_000, 30_000)]),
    scenario(
        "server_restarted",
        "the server is killed, or stopped on purpose, and started again",
        &[(Fault::KillServer, 8_000, 40_000), (Fault::StopServer, 15_000, 60_000)],
    ),
    scenario("store_outage", "the store refuses for up to 20 s", &[(Fault::StoreOutage, 8_000, 30_000)]),
    scenario(
        "lost_replies",
        "commits whose replies are lost, torn or late, while agents come and go",
        &[
            (Fault::LostReplies, 4_000, 12_000),
            (Fault::SlowStore, 10_000, 30_000),
            (Fault::KillAgent, 15_000, 40_000),
            (Fault::PauseAgent, 6_000, 20_000),
        ],
    ),
    Scenario {
        name: "uncertain_verdicts",
        about: "nobody knows for seconds whether a verdict was written, while the worker that it is about comes back",
        // So many that the few which are silent at the same time do not open the breaker.
        hosts: 10,
        between_runs: 1_000,
        faults: &[
            (Fault::Uncertain, 5_000, 20_000),
            (Fault::PauseAgent, 4_000, 15_000),
            (Fault::Silence, 4_000, 12_000),
            (Fault::OneWay, 4_000, 12_000),
        ],
    },
    scenario(
        "connections_cut",
        "something between drops connections",
        &[(Fault::CutOne, 500, 6_000), (Fault::CutAll, 5_000, 30_000), (Fault::SlowStore, 10_000, 40_000)],
    ),
    scenario(
        "silent_host",
        "hosts that nothing reaches, one way or both, and hosts without power",
        &[(Fault::Silence, 5_000, 20_000), (Fault::OneWay, 8_000, 30_000), (Fault::PowerLoss, 30_000, 90_000)],
    ),
    Scenario {
        name: "network_down",
        about: "nothing reaches the server for up to 28 s; nothing may be lost",
        hosts: 6,
        between_runs: 1_500,
        faults: &[(Fault::NetworkDown, 45_000, 60_000)],
    },
    scenario(
        "drain",
        "agents drain, leave and come again",
        &[(Fault::Drain, 4_000, 15_000), (Fault::Evict, 20_000, 60_000)],
    ),
    scenario(
        "cancel_storm",
        "people change their minds",
        &[(Fault::Cancel, 100, 1_500), (Fault::KillAgent, 20_000, 60_000), (Fault::CutOne, 5_000, 20_000)],
    ),
    scenario(
        "clock_jumps",
        "the wall clock jumps by up to a day",
        &[(Fault::WallJump, 3_000, 20_000), (Fault::KillAgent, 15_000, 40_000)],
    ),
    Scenario {
        name: "everything",
        about: "all of it",
        hosts: 5,
        between_runs: 1_500,
        faults: &[
            (Fault::KillAgent, 10_000, 40_000),
            (Fault::PauseAgent, 10_000, 40_000),
            (Fault::KillChild, 5_000, 20_000),
            (Fault::PauseServer, 20_000, 60_000),
            (Fault::KillServer, 20_000, 90_000),
            (Fault::StopServer, 30_000, 90_000),
            (Fault::StoreOutage, 20_000, 60_000),
            (Fault::LostReplies, 10_000, 30_000),
            (Fault::SlowStore, 10_000, 40_000),
            (Fault::CutOne, 3_000, 15_000),
            (Fault::CutAll, 15_000, 60_000),
            (Fault::Silence, 15_000, 60_000),
            (Fault::OneWay, 15_000, 60_000),
            (Fault::Drain, 20_000, 60_000),
            (Fault::Evict, 30_000, 90_000),
            (Fault::Cancel, 1_000, 10_000),
            (Fault::WallJump, 20_000, 60_000),
        ],
    },
];

/// The scenario of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|s| s.name == name)
}
