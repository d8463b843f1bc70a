//! The scenarios. Each is a value; what they share is in [`super::stage`].

use super::checks::{self, Check};
use super::facts::Facts;
use super::fault::Fault;

/// What happens, and what must hold afterwards.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Server processes over one store.
    pub(super) servers: u8,
    /// Worker processes, if nobody says how many.
    pub(super) workers: u8,
    /// How many of so many workers are struck.
    pub(super) victims: fn(usize) -> usize,
    pub(super) fault: Fault,
    pub(super) claims: &'static [fn(&Facts) -> Check],
}

pub(super) const CRASH: Scenario = Scenario {
    name: "crash",
    servers: 1,
    workers: 3,
    victims: |_| 1,
    fault: Fault::Kill,
    claims: &[
        checks::all_succeeded,
        checks::lost_ones_recovered,
        checks::outputs_are_whole,
        checks::outputs_are_fenced,
        checks::nothing_ran_twice_at_once,
        checks::nothing_is_left,
    ],
};

pub(super) const STORM: Scenario = Scenario { name: "storm", workers: 6, victims: |workers| workers / 2, ..CRASH };

pub(super) const FREEZE: Scenario = Scenario {
    name: "freeze",
    servers: 1,
    workers: 3,
    victims: |_| 1,
    fault: Fault::Stop,
    claims: &[
        checks::all_succeeded,
        checks::lost_ones_recovered,
        checks::frozen_before_the_takeover,
        checks::nothing_ran_twice_at_once,
        checks::outputs_are_whole,
        checks::outputs_are_fenced,
        checks::nothing_is_left,
        checks::back_by_themselves,
    ],
};

pub(super) const RESTART: Scenario = Scenario {
    name: "restart",
    servers: 1,
    workers: 3,
    victims: |_| 0,
    fault: Fault::Restart,
    claims: &[
        checks::all_succeeded,
        checks::nothing_was_spent,
        checks::nobody_began_again,
        checks::outputs_are_whole,
        checks::nothing_ran_twice_at_once,
        checks::back_by_themselves,
    ],
};

pub(super) const REPLICA: Scenario = Scenario {
    name: "replica",
    servers: 3,
    workers: 3,
    victims: |_| 0,
    fault: Fault::KillReplica,
    claims: &[
        checks::all_succeeded,
        checks::nothing_was_spent,
        checks::nobody_began_again,
        checks::homes_found,
        checks::outputs_are_whole,
        checks::nothing_ran_twice_at_once,
        checks::back_by_themselves,
    ],
};

pub(super) const DRAIN: Scenario = Scenario {
    name: "drain",
    servers: 1,
    workers: 3,
    victims: |_| 1,
    fault: Fault::Drain,
    claims: &[
        checks::all_succeeded,
        checks::nothing_was_spent,
        checks::handed_over,
        checks::outputs_are_whole,
        checks::outputs_are_fenced,
        checks::nothing_ran_twice_at_once,
        checks::nothing_is_left,
    ],
};
