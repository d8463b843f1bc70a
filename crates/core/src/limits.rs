//! The limits table: what each limit counts on, what it does, and what it costs. Values are per queue; effects are fixed here.

use crate::policy::QueuePolicy;
use crate::state::{Reason, State};
use crate::time::Millis;

/// What a limit's time is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitClock {
    /// Observed time: it stands still while the judge could not have heard.
    Observed,
    /// The store's wall clock.
    Store,
    /// The agent's monotonic clock, frozen time not counted.
    Agent,
}

/// What happens when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitEffect {
    /// The lease is revoked (or, from a worker that does not beat, taken) and the run is queued.
    Requeue,
    /// TERM, grace, KILL, then as a failure of the work.
    Stop,
    /// The run ends.
    Expire,
}

/// Which budget it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// `max_losses`.
    Losses,
    /// `max_attempts`.
    Attempts,
    /// None.
    Free,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The field of the policy.
    pub name: &'static str,
    /// What it counts on.
    pub clock: LimitClock,
    /// What it does.
    pub effect: LimitEffect,
    /// What it costs.
    pub budget: Budget,
    /// What the attempt or run carries afterwards.
    pub reason: Reason,
    /// The state it ends in when it is final.
    pub end: Option<State>,
    /// The value in a policy; none is off.
    pub value: fn(&QueuePolicy) -> Option<Millis>,
}

/// Every limit.
pub const LIMITS: &[Limit] = &[
    Limit {
        name: "start_timeout",
        clock: LimitClock::Observed,
        effect: LimitEffect::Requeue,
        budget: Budget::Losses,
        reason: Reason::StartTimeout,
        end: None,
        value: |p| Some(p.start_timeout),
    },
    Limit {
        name: "claim_ttl",
        clock: LimitClock::Observed,
        effect: LimitEffect::Requeue,
        budget: Budget::Losses,
        reason: Reason::ClaimTtlExceeded,
        end: None,
        value: |p| Some(p.claim_ttl),
    },
    Limit {
        name: "progress_timeout",
        clock: LimitClock::Observed,
        effect: LimitEffect::Stop,
        budget: Budget::Attempts,
        reason: Reason::ProgressTimeout,
        end: Some(State::TimedOut),
        value: |p| p.progress_timeout,
    },
    Limit {
        name: "run_timeout",
        clock: LimitClock::Agent,
        effect: LimitEffect::Stop,
        budget: Budget::Free,
        reason: Reason::RunTimeout,
        end: Some(State::TimedOut),
        value: |p| Some(p.run_timeout),
    },
    Limit {
        name: "queue_ttl",
        clock: LimitClock::Store,
        effect: LimitEffect::Expire,
        budget: Budget::Free,
        reason: Reason::QueueTtlExpired,
        end: Some(State::Expired),
        value: |p| p.queue_ttl,
    },
    Limit {
        name: "hold_ttl",
        clock: LimitClock::Store,
        effect: LimitEffect::Expire,
        budget: Budget::Free,
        reason: Reason::HoldExpired,
        end: Some(State::Expired),
        value: |p| Some(p.hold_ttl),
    },
];

/// The row of a reason that a limit gives.
#[must_use]
pub fn by_reason(reason: Reason) -> Option<&'static Limit> {
    LIMITS.iter().find(|limit| limit.reason == reason)
}

/// Sizes that every implementation enforces and names in its refusals. In bytes unless said.
pub mod sizes {
    use crate::time::Millis;

    /// An HTTP body.
    pub const BODY: usize = 4 << 20;
    /// A run's input.
    pub const INPUT: usize = 1 << 20;
    /// How deep arrays and objects of an input, result, checkpoint or message may lie in each other (a count): readers in
    /// many languages end the process beyond some such limit.
    pub const DEPTH: usize = 120;
    /// A run's result.
    pub const RESULT: usize = 1 << 20;
    /// A checkpoint.
    pub const CHECKPOINT: usize = 64 << 10;
    /// One frame of output.
    pub const FRAME: usize = 256 << 10;
    /// Runs in one batch, items in one report (a count).
    pub const BATCH: usize = 1_000;
    /// Output kept per run: half from its head, half from its tail.
    pub const RUN_OUTPUT: i64 = 64 << 20;
    /// The view of stdout and stderr in a run.
    pub const STREAM_VIEW: usize = 64 << 10;
    /// Unacknowledged output that one worker keeps in flight.
    pub const OUTPUT_IN_FLIGHT: usize = 1 << 20;
    /// Frames in an outbox.
    pub const OUTBOX: u64 = 64 << 20;
    /// Names of queues, workers, kinds, labels, keys, tags (characters).
    pub const NAME: usize = 200;
    /// Labels, tags (a count).
    pub const LABELS: usize = 32;
    /// Subjects of a run (a count).
    pub const SUBJECTS: usize = 4;
    /// A wait that a worker may ask for: a year, so that no sum of times leaves its range.
    pub const LONGEST_WAIT: Millis = Millis::hours(366 * 24);
    /// Slots of one worker (a count).
    pub const SLOTS: u32 = 10_000;
}
