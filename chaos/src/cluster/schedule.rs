//! What is done and to whom, from a seed. Pure: the same seed gives the same blows in the same order; when each comes depends on
//! the machine, because the next one waits for the one before.
//!
//! Everything in the table is dealt once, in an order of the seed's; then again, with other victims, and so on. Some are dealt
//! two at a time.

use crate::rng::Rng;

/// Replicas of the cluster.
pub const REPLICAS: usize = 3;
/// Its workers with sessions.
pub const AGENTS: usize = 20;
/// At most so many workers are struck at once: below the share of a home, or of all, at which the breaker opens for certain.
const STRUCK: u64 = 3;

/// One blow. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to a replica, which is started again after a while: before or after the others have adopted its sessions.
    KillReplica {
        /// Which.
        seat: usize,
        /// For so long there is none.
        away: u64,
    },
    /// SIGSTOP to a replica, and SIGCONT.
    StopReplica {
        /// Which.
        seat: usize,
        /// For so long.
        stands: u64,
    },
    /// SIGKILL to agents, which are started again after a while.
    KillAgents {
        /// Which.
        who: Vec<usize>,
        /// For so long there are none.
        away: u64,
    },
    /// SIGSTOP to agents, for less than a lease: nothing may be taken from them.
    PauseAgents {
        /// Which.
        who: Vec<usize>,
        /// For so long.
        stands: u64,
    },
    /// SIGSTOP to agents, for longer than a lease: their runs go on elsewhere, and what wakes has lost them.
    StopAgents {
        /// Which.
        who: Vec<usize>,
        /// For so long.
        stands: u64,
    },
    /// The database ends as in a crash, and starts again: `pg_ctl restart -m immediate`.
    CrashDatabase,
    /// Connections of the database are ended by it (`pg_terminate_backend`), all or some, again and again.
    KillBackends {
        /// How often.
        times: u32,
        /// Each so-manieth backend.
        share: u64,
    },
    /// Strangers take every connection that the database, or the pgbouncer before it, has to give; those of the replicas end.
    ExhaustConnections {
        /// For so long.
        lasts: u64,
    },
    /// A replica is cut off from the database, but not from its workers.
    CutStore {
        /// Which.
        seat: usize,
        /// Its connections stay open and carry nothing; or they end, and new ones are refused.
        dark: bool,
        /// For so long.
        lasts: u64,
    },
    /// Connections between a replica and the agents that reach it over a link stay open and carry nothing.
    HalfOpen {
        /// Which.
        seat: usize,
        /// For so long.
        lasts: u64,
        /// What was kept comes through at the end; or the connections are cut.
        heals: bool,
    },
    /// Everything between replicas and database comes later.
    SlowStore {
        /// Each piece by so much.
        late: u64,
        /// For so long.
        lasts: u64,
    },
    /// The Redis beside the replicas' rows is killed, and started again with nothing in it.
    KillRedis {
        /// For so long there is none.
        away: u64,
    },
    /// It stands still, with all its connections.
    StallRedis {
        /// For so long.
        stands: u64,
    },
    /// It forgets everything, again and again.
    FlushRedis {
        /// How often.
        times: u32,
    },
    /// Replica after replica is stopped in order and started again, then the agents, five at a time, which hand back what
    /// they have.
    Roll,
}

/// How a kind of blow is dealt.
type Deal = fn(&mut Rng) -> Blow;

/// All kinds.
const TABLE: &[Deal] = &[
    |rng| Blow::KillReplica { seat: seat(rng), away: rng.below(8_000) },
    |rng| Blow::StopReplica { seat: seat(rng), stands: 1_000 + rng.below(11_000) },
    |rng| Blow::KillAgents { who: agents(rng), away: rng.below(4_000) },
    |rng| Blow::KillAgents { who: agents(rng), away: 0 },
    |rng| Blow::PauseAgents { who: agents(rng), stands: 500 + rng.below(3_000) },
    |rng| Blow::StopAgents { who: agents(rng), stands: 14_000 + rng.below(4_000) },
    |_| Blow::CrashDatabase,
    |rng| Blow::KillBackends { times: 1 + u32::try_from(rng.below(4)).unwrap_or(0), share: 1 + rng.below(3) },
    |rng| Blow::ExhaustConnections { lasts: 1_000 + rng.below(6_000) },
    |rng| Blow::CutStore { seat: seat(rng), dark: true, lasts: 1_000 + rng.below(11_000) },
    |rng| Blow::CutStore { seat: seat(rng), dark: false, lasts: 1_000 + rng.below(11_000) },
    |rng| Blow::HalfOpen { seat: seat(rng), lasts: 3_000 + rng.below(9_000), heals: rng.below(2) == 0 },
    |rng| Blow::SlowStore { late: 2 + rng.below(60), lasts: 2_000 + rng.below(6_000) },
    |rng| Blow::KillRedis { away: rng.below(6_000) },
    |rng| Blow::StallRedis { stands: 1_000 + rng.below(6_000) },
    |rng| Blow::FlushRedis { times: 1 + u32::try_from(rng.below(5)).unwrap_or(0) },
    |_| Blow::Roll,
];

fn seat(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(REPLICAS as u64)).unwrap_or(0)
}

/// Some agents.
fn agents(rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..AGENTS).collect();
    rng.shuffle(&mut all);
    all.truncate(usize::try_from(1 + rng.below(STRUCK)).unwrap_or(1));
    all
}

/// Blows that are dealt together, and the pause after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// One or two.
    pub blows: Vec<Blow>,
    /// Milliseconds until the next step, after everything answers again.
    pub pause: u64,
}

/// Deals for ever.
#[derive(Clone, Debug)]
pub struct Dealer {
    rng: Rng,
    left: Vec<Deal>,
    /// One in so many steps has two blows; 0: none.
    pairs: u64,
}

impl Dealer {
    /// One in `pairs` steps has two blows; 0: none has.
    #[must_use]
    pub const fn new(seed: u64, pairs: u64) -> Self {
        Self { rng: Rng::new(seed), left: Vec::new(), pairs }
    }

    /// How many steps deal everything once, if none has two blows.
    #[must_use]
    pub const fn round() -> usize {
        TABLE.len()
    }

    fn deal(&mut self) -> Option<Blow> {
        if self.left.is_empty() {
            self.left = TABLE.to_vec();
            self.rng.shuffle(&mut self.left);
        }
        self.left.pop().map(|deal| deal(&mut self.rng))
    }
}

impl Iterator for Dealer {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut blows: Vec<Blow> = self.deal().into_iter().collect();
        if self.pairs > 0 && self.rng.below(self.pairs) == 0 {
            blows.extend(self.deal().filter(|second| blows.iter().all(|first| are_apart(first, second))));
        }
        Some(Step { blows, pause: 200 + self.rng.below(2_500) })
    }
}

/// Whether two blows can be dealt at once: no process gets both.
fn are_apart(one: &Blow, other: &Blow) -> bool {
    let alone = |blow: &Blow| *blow == Blow::Roll;
    !alone(one)
        && !alone(other)
        && one.agents().iter().all(|agent| !other.agents().contains(agent))
        && (one.seat().is_none() || one.seat() != other.seat())
        && std::mem::discriminant(one) != std::mem::discriminant(other)
}

impl Blow {
    /// Whom it strikes, of the workers.
    #[must_use]
    pub fn agents(&self) -> &[usize] {
        match self {
            Self::KillAgents { who, .. } | Self::PauseAgents { who, .. } | Self::StopAgents { who, .. } => who,
            _ => &[],
        }
    }

    const fn seat(&self) -> Option<usize> {
        match self {
            Self::KillReplica { seat, .. }
            | Self::StopReplica { seat, .. }
            | Self::CutStore { seat, .. }
            | Self::HalfOpen { seat, .. } => Some(*seat),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_deals_the_same_blows_each_time_and_another_seed_others() {
        let deal = |seed| Dealer::new(seed, 3).take(50).collect::<Vec<_>>();
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
    }

    #[test]
    fn one_round_deals_everything() {
        for seed in 0..20 {
            let round: Vec<Blow> = Dealer::new(seed, 0).take(Dealer::round()).flat_map(|step| step.blows).collect();
            let kinds: HashSet<_> = round.iter().map(std::mem::discriminant).collect();
            assert_eq!(round.len(), TABLE.len());
            assert_eq!(kinds.len(), TABLE.len() - 2, "agents are killed twice, and stores cut off in two ways");
        }
    }

    #[test]
    fn no_process_gets_two_blows_at_once() {
        let mut pairs = 0;
        for step in Dealer::new(7, 1).take(500) {
            if let [one, other] = &step.blows[..] {
                pairs += 1;
                assert!(are_apart(one, other), "{step:?}");
            }
        }
        assert!(pairs > 200, "{pairs}");
    }
}
