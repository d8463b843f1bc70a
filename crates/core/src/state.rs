//! States, outcomes and reasons: three separate closed sets.
//!
//! ```text
//!            ┌────────┐ release   ┌────────┐ claim   ┌─────────┐ start   ┌─────────┐
//!   create ─►│ held   │──────────►│ queued │────────►│ claimed │────────►│ running │──► terminal
//!            └────────┘           └────────┘         └─────────┘         └─────────┘
//!            ┌───────────┐  due     ▲    ▲ loss, release  │   cancel  ┌────────────┐
//!            │ scheduled │──────────┘    └────────────────┴──────────►│ cancelling │──► terminal
//!            └───────────┘                                            └────────────┘
//! ```
//!
//! Every non-terminal state has a clock and an exit (invariant I5). Terminal states never change (I6).

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every member.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The stable number in a row.
            #[must_use]
            pub const fn number(self) -> i64 {
                self as i64
            }

            /// Reads a row's number.
            #[must_use]
            pub const fn from_number(n: i64) -> Option<Self> {
                match n { $($number => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownName(text.to_owned())) }
            }
        }
    };
}

/// A name that is not in its closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a known name")]
pub struct UnknownName(pub String);

closed_set! {
    /// Where a run is in its life. The numbers are in rows and in the predicates of partial indexes; they never change.
    State {
        /// Waits for a release, within a limit.
        Held = 0 "held",
        /// Waits for a time.
        Scheduled = 1 "scheduled",
        /// Waits for a worker.
        Queued = 2 "queued",
        /// Leased, not started.
        Claimed = 3 "claimed",
        /// Leased and started.
        Running = 4 "running",
        /// Leased, and somebody asked for its end.
        Cancelling = 5 "cancelling",
        /// The work is done.
        Succeeded = 6 "succeeded",
        /// The work said no, for the last time.
        Failed = 7 "failed",
        /// Ended on request.
        Cancelled = 8 "cancelled",
        /// Ended by a limit on its own length.
        TimedOut = 9 "timed_out",
        /// Ended by the loss of its workers.
        Lost = 10 "lost",
        /// Ended without ever being claimed, or never released.
        Expired = 11 "expired",
    }
}

impl State {
    /// Whether the run has ended for good.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self as u8 >= Self::Succeeded as u8
    }

    /// Whether a lease is open: somebody may act for the run.
    #[must_use]
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Claimed | Self::Running | Self::Cancelling)
    }

    /// Whether the run waits for a claim, a time or a release.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Held | Self::Scheduled | Self::Queued)
    }

    /// Whether a run may go from here to `to` in one step.
    #[must_use]
    pub const fn may_become(self, to: Self) -> bool {
        use State::{Cancelled, Cancelling, Claimed, Expired, Held, Lost, Queued, Running, Scheduled};
        match self {
            Held => matches!(to, Queued | Cancelled | Expired | Scheduled),
            Scheduled => matches!(to, Queued | Cancelled | Held),
            Queued => matches!(to, Claimed | Cancelled | Expired | Held | Lost) || matches!(to, Self::Succeeded),
            Claimed => matches!(to, Running | Cancelling | Queued | Scheduled | Held) || to.is_terminal(),
            Running => matches!(to, Cancelling | Queued | Scheduled | Held) || to.is_terminal(),
            Cancelling => matches!(to, Cancelled | Self::Succeeded),
            _ => false,
        }
    }
}

closed_set! {
    /// Whose doing an end was.
    Outcome {
        /// The work's, and it went well.
        Success = 0 "success",
        /// The work's own failure.
        User = 1 "user",
        /// The worker's or its host's.
        Infrastructure = 2 "infrastructure",
        /// Nobody ever took it.
        Dispatch = 3 "dispatch",
        /// Somebody asked.
        Cancelled = 4 "cancelled",
    }
}

closed_set! {
    /// Why, as a stable code.
    Reason {
        /// The agent said that it exits without the work's end.
        WorkerExited = 0 "worker_exited",
        /// Somebody outside killed the child process.
        ProcessKilled = 1 "process_killed",
        /// A newer incarnation of the same worker started.
        WorkerReplaced = 2 "worker_replaced",
        /// The session ended by EOF or RST and did not come back.
        WorkerDisconnected = 3 "worker_disconnected",
        /// Nothing was heard for `lease_ttl` of observed time.
        WorkerHeartbeatLost = 4 "worker_heartbeat_lost",
        /// The worker said goodbye.
        WorkerLeft = 5 "worker_left",
        /// Handed back on purpose.
        LeaseReleased = 6 "lease_released",
        /// Claimed and not started in time.
        StartTimeout = 7 "start_timeout",
        /// A worker that does not beat gave no sign of life for `claim_ttl`.
        ClaimTtlExceeded = 8 "claim_ttl_exceeded",
        /// No progress, output or checkpoint for `progress_timeout`.
        ProgressTimeout = 9 "progress_timeout",
        /// One attempt ran longer than `run_timeout`.
        RunTimeout = 10 "run_timeout",
        /// The process ended with a code that is not 0.
        ExitCode = 11 "exit_code",
        /// The process ended by a signal of its own making.
        Signal = 12 "signal",
        /// The run's own memory limit.
        OomKilled = 13 "oom_killed",
        /// The output is not of the declared format.
        OutputInvalid = 14 "output_invalid",
        /// The handler reported an error.
        HandlerError = 15 "handler_error",
        /// The worker could not even begin (no such command, no such directory).
        Rejected = 16 "rejected",
        /// Queued longer than `queue_ttl` and never claimed.
        QueueTtlExpired = 17 "queue_ttl_expired",
        /// Held longer than `hold_ttl`.
        HoldExpired = 18 "hold_expired",
        /// A person or a parent cancelled it.
        Cancelled = 19 "cancelled",
        /// A newer run took its business key.
        Superseded = 20 "superseded",
        /// It lost too many workers in a row.
        CrashLoop = 21 "crash_loop",
        /// A person declared the worker lost.
        Evicted = 22 "evicted",
    }
}

impl Reason {
    /// Whether the work itself failed, and not what ran it.
    #[must_use]
    pub const fn is_of_work(self) -> bool {
        matches!(
            self,
            Self::ExitCode
                | Self::HandlerError
                | Self::OomKilled
                | Self::OutputInvalid
                | Self::ProgressTimeout
                | Self::Rejected
                | Self::RunTimeout
                | Self::Signal
        )
    }

    /// One sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::WorkerExited => "the worker's process went away before the work was done",
            Self::ProcessKilled => "somebody outside killed the process",
            Self::WorkerReplaced => "the worker was started again and the earlier process is gone",
            Self::WorkerDisconnected => "the worker's connection ended and it did not come back",
            Self::WorkerHeartbeatLost => "nothing was heard from the worker for the lease's length",
            Self::WorkerLeft => "the worker said goodbye",
            Self::LeaseReleased => "the worker handed the run back",
            Self::StartTimeout => "the worker took the run and did not start it in time",
            Self::ClaimTtlExceeded => "the worker, which does not beat, gave no sign of life in time",
            Self::ProgressTimeout => "the work made no progress in time",
            Self::RunTimeout => "the attempt ran longer than allowed",
            Self::ExitCode => "the process ended with a code other than 0",
            Self::Signal => "the process ended by a signal of its own making",
            Self::OomKilled => "the process used more memory than the run allows",
            Self::OutputInvalid => "the output is not of the declared format",
            Self::HandlerError => "the handler reported an error",
            Self::Rejected => "the worker could not begin the work",
            Self::QueueTtlExpired => "no worker took the run in time",
            Self::HoldExpired => "nobody released the run in time",
            Self::Cancelled => "somebody cancelled it",
            Self::Superseded => "a newer run took its key",
            Self::CrashLoop => "it lost too many workers without a new checkpoint",
            Self::Evicted => "a person declared the worker lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_read_back() {
        for &state in State::ALL {
            assert_eq!(State::from_number(state.number()), Some(state));
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }

    #[test]
    fn a_terminal_state_never_changes() {
        for &from in State::ALL.iter().filter(|s| s.is_terminal()) {
            assert!(State::ALL.iter().all(|&to| !from.may_become(to)), "{from} is terminal");
        }
    }

    #[test]
    fn every_state_that_is_not_terminal_has_an_exit() {
        for &from in State::ALL.iter().filter(|s| !s.is_terminal()) {
            assert!(State::ALL.iter().any(|&to| from.may_become(to)), "{from} has no exit");
        }
    }
}
