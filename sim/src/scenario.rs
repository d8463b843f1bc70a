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
    /// Server processes over the one store.
    pub(crate) replicas: usize,
    /// A balancer stands before them and brings each request and each connection to any of them.
    pub(crate) balanced: bool,
    /// Workers without sessions, beside the hosts.
    pub(crate) pollers: usize,
    /// Runs for them that are there from the beginning.
    pub(crate) at_once: usize,
    /// How long such a run takes at most.
    pub(crate) longest: u64,
    /// A proxy stands before each second host.
    pub(crate) proxied: bool,
    /// The longest pause between two creations, in milliseconds.
    pub(crate) between_runs: u64,
    /// It costs as much as several others: where all are played, it is with one of so many seeds.
    pub every: u64,
    /// What strikes, with the least and the longest time between two strikes, in milliseconds.
    pub(crate) faults: &'static [(Fault, u64, u64)],
}

const fn scenario(name: &'static str, about: &'static str, faults: &'static [(Fault, u64, u64)]) -> Scenario {
    Scenario {
        name,
        about,
        hosts: 4,
        replicas: 1,
        balanced: false,
        pollers: 0,
        at_once: 0,
        longest: 20_000,
        proxied: false,
        between_runs: 2_000,
        every: 1,
        faults,
    }
}

/// Three replicas.
const fn cluster(name: &'static str, about: &'static str, faults: &'static [(Fault, u64, u64)]) -> Scenario {
    Scenario { replicas: 3, hosts: 6, ..scenario(name, about, faults) }
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
        // So many that the few which are silent at the same time do not open the breaker.
        hosts: 10,
        between_runs: 1_000,
        ..scenario(
            "uncertain_verdicts",
            "nobody knows for seconds whether a verdict was written, while the worker that it is about comes back",
            &[
                (Fault::Uncertain, 5_000, 20_000),
                (Fault::PauseAgent, 4_000, 15_000),
                (Fault::Silence, 4_000, 12_000),
                (Fault::OneWay, 4_000, 12_000),
            ],
        )
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
        hosts: 6,
        between_runs: 1_500,
        ..scenario(
            "network_down",
            "nothing reaches the server for up to 28 s; nothing may be lost",
            &[(Fault::NetworkDown, 45_000, 60_000)],
        )
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
        hosts: 5,
        between_runs: 1_500,
        ..scenario(
            "everything",
            "all of it",
            &[
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
        )
    },
    scenario(
        "starved_judge",
        "the server gets the processor only now and then, for seconds",
        &[(Fault::Starve, 5_000, 20_000), (Fault::KillAgent, 15_000, 40_000), (Fault::CutOne, 5_000, 20_000)],
    ),
    Scenario {
        hosts: 8,
        ..scenario(
            "partition",
            "a third to two thirds of the hosts are silent for up to 28 s, the others are not",
            &[(Fault::Partition, 30_000, 60_000), (Fault::KillChild, 300, 2_000)],
        )
    },
    scenario(
        "confused_workers",
        "workers report under leases that are not theirs, or are not any more",
        &[(Fault::Confused, 200, 1_500), (Fault::KillAgent, 5_000, 20_000), (Fault::KillChild, 500, 4_000)],
    ),
    scenario(
        "flickering_store",
        "the store refuses for a moment, again and again, while hosts lose their power",
        &[(Fault::StoreBlip, 2_000, 4_000), (Fault::LongPowerLoss, 20_000, 100_000)],
    ),
    Scenario {
        hosts: 8,
        between_runs: 700,
        ..scenario(
            "power_cut",
            "half of the hosts lose their power at once, for longer than anybody waits",
            &[(Fault::PowerCut, 20_000, 30_000)],
        )
    },
    Scenario {
        hosts: 2,
        pollers: 9,
        between_runs: 1_000,
        ..scenario(
            "polling",
            "workers that poll, that do not beat, and that do although they said they would not",
            &[
                (Fault::KillPoller, 4_000, 15_000),
                (Fault::SilencePoller, 4_000, 15_000),
                (Fault::Cancel, 1_000, 5_000),
                (Fault::SlowStore, 10_000, 40_000),
                (Fault::StoreOutage, 20_000, 60_000),
                (Fault::KillServer, 25_000, 90_000),
                (Fault::PauseServer, 25_000, 90_000),
            ],
        )
    },
    Scenario {
        hosts: 1,
        pollers: 100,
        at_once: 300,
        longest: 200_000,
        between_runs: 20_000,
        every: 4,
        ..scenario(
            "mass_loss",
            "seventy of a hundred workers are gone at once; what they held comes back at a rate",
            &[(Fault::PollersPowerCut, 20_000, 40_000)],
        )
    },
    Scenario {
        proxied: true,
        hosts: 6,
        ..scenario(
            "proxies",
            "proxies end connections and tell the server alone, or late, and let nobody in for a while",
            &[
                (Fault::ProxyDrop, 1_500, 8_000),
                (Fault::PauseAgent, 6_000, 20_000),
                (Fault::KillAgent, 20_000, 60_000),
                (Fault::PauseServer, 20_000, 60_000),
                (Fault::StopServer, 30_000, 90_000),
            ],
        )
    },
    Scenario {
        hosts: 24,
        between_runs: 600,
        every: 4,
        ..scenario(
            "fleet",
            "two dozen workers, a few of them silent when the store comes back or the server starts again",
            &[(Fault::StoreOutage, 8_000, 20_000), (Fault::KillServer, 30_000, 90_000), (Fault::Silence, 3_000, 9_000)],
        )
    },
    cluster(
        "replica_and_worker_killed",
        "agents die while their home is away: others take over what nobody comes back for",
        &[(Fault::KillServer, 5_000, 25_000), (Fault::PowerLoss, 10_000, 30_000), (Fault::PauseAgent, 5_000, 20_000)],
    ),
    cluster(
        "replica_killed",
        "replicas are killed and started again; that takes nothing from anybody",
        &[(Fault::KillServer, 5_000, 25_000), (Fault::StopServer, 20_000, 60_000)],
    ),
    cluster(
        "replica_paused",
        "replicas stand still for up to a minute, and wake as homes of sessions that others have",
        &[(Fault::PauseServer, 4_000, 15_000), (Fault::PauseAgent, 8_000, 30_000)],
    ),
    cluster(
        "replica_cut_off",
        "one replica cannot reach the store, but its workers reach it",
        &[(Fault::StoreOutage, 4_000, 20_000), (Fault::KillAgent, 15_000, 40_000), (Fault::PauseAgent, 8_000, 30_000)],
    ),
    cluster(
        "replica_silent",
        "nothing passes between one replica and its workers, one way or both",
        &[(Fault::ReplicaSilent, 4_000, 20_000), (Fault::KillAgent, 15_000, 40_000)],
    ),
    Scenario {
        hosts: 16,
        between_runs: 12_000,
        ..cluster(
            "store_locked",
            "what all replicas ask of the store waits for seconds, as for a lock of one that stands still; few have work",
            &[(Fault::LockedStore, 20_000, 40_000), (Fault::CutOne, 5_000, 20_000)],
        )
    },
    Scenario {
        balanced: true,
        ..cluster(
            "balancer",
            "a balancer sprays requests: registered here, at home there, reports elsewhere",
            &[
                (Fault::CutOne, 1_000, 6_000),
                (Fault::KillAgent, 10_000, 30_000),
                (Fault::KillServer, 15_000, 50_000),
                (Fault::SlowStore, 10_000, 40_000),
                (Fault::Cancel, 1_000, 5_000),
                (Fault::Evict, 30_000, 90_000),
            ],
        )
    },
    Scenario {
        balanced: true,
        hosts: 2,
        pollers: 9,
        between_runs: 1_000,
        ..cluster(
            "polling_replicas",
            "workers without sessions whose requests a balancer brings to any of three replicas",
            &[
                (Fault::KillPoller, 4_000, 15_000),
                (Fault::SilencePoller, 4_000, 15_000),
                (Fault::Cancel, 1_000, 5_000),
                (Fault::KillServer, 15_000, 50_000),
                (Fault::PauseServer, 15_000, 60_000),
                (Fault::SlowStore, 10_000, 40_000),
            ],
        )
    },
    Scenario {
        hosts: 10,
        between_runs: 1_000,
        ..cluster(
            "moving_homes",
            "sessions move while nobody knows for seconds whether a verdict was written",
            &[
                (Fault::Uncertain, 5_000, 20_000),
                (Fault::PauseAgent, 4_000, 15_000),
                (Fault::Silence, 4_000, 12_000),
                (Fault::OneWay, 4_000, 12_000),
                (Fault::ReplicaSilent, 10_000, 30_000),
                (Fault::CutOne, 1_000, 6_000),
            ],
        )
    },
    Scenario {
        between_runs: 1_500,
        ..cluster(
            "cluster_everything",
            "all of it, with three replicas",
            &[
                (Fault::KillAgent, 10_000, 40_000),
                (Fault::PauseAgent, 10_000, 40_000),
                (Fault::KillChild, 5_000, 20_000),
                (Fault::PauseServer, 10_000, 40_000),
                (Fault::KillServer, 10_000, 60_000),
                (Fault::StopServer, 30_000, 90_000),
                (Fault::StoreOutage, 15_000, 60_000),
                (Fault::Starve, 20_000, 60_000),
                (Fault::ReplicaSilent, 15_000, 60_000),
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
        )
    },
];

/// The scenario of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|s| s.name == name)
}
