//! One attempt, as the agent sees it.

use super::reports::Outbound;
use super::types::Now;
use outlive_api::session::{Held, Lease};
use outlive_core::engine::trust::{self, Terms};
use outlive_core::policy::OnIsolation;
use outlive_core::report::Wait;
use outlive_core::{LeaseRef, Millis, Mono, Reason};

/// Where it is in its life.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Not started yet: an older attempt of the run has a process here, or trust is over.
    Waiting(Box<Lease>),
    /// Asked for.
    Starting,
    /// There.
    Running,
    /// Asked to end.
    Stopping {
        /// By whom.
        why: Why,
        /// When patience ends; none once it has.
        kill_at: Option<Mono>,
        /// Whether TERM has been sent.
        termed: bool,
    },
    /// Not ours any more: it is being killed, and nothing more is said about it.
    Doomed,
    /// Over; the server has not answered its end yet.
    Ended,
}

/// Why an attempt is being ended from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked.
    Cancel,
    /// A limit.
    Limit(Reason),
    /// It asked to be handed back.
    Release(Wait),
    /// The agent goes.
    HandBack,
    /// Trust is over and the queue prefers a kill.
    Isolation,
}

/// An attempt.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub phase: Phase,
    pub terms: Terms,
    pub isolation: OnIsolation,
    pub cancel_grace: Millis,
    timeout: Millis,
    progress_timeout: Option<Millis>,
    /// Whether the guard watches it: it has processes.
    pub guarded: bool,
    /// Whether it still takes a slot on this connection.
    pub slot: bool,
    /// Whether nothing of it is left.
    pub reaped: bool,
    /// Until when the lease is believed.
    pub deadline: Mono,
    /// The first beat of this connection that named it.
    pub named_from: Option<u64>,
    /// Its process group, for a new guard.
    pub group: Option<i32>,
    frozen_since: Option<Now>,
    frozen: Millis,
    active_since: Option<Mono>,
    active: Millis,
    progress_at: Mono,
    pub outbound: Outbound,
}

impl Run {
    pub(super) fn new(lease: Box<Lease>, guarded: bool) -> Self {
        let terms = Terms::new(Millis(lease.lease_ttl_ms), Millis(lease.offline_grace_ms), lease.takeover);
        Self {
            terms,
            isolation: lease.on_isolation,
            cancel_grace: Millis(lease.cancel_grace_ms),
            timeout: Millis(lease.run_timeout_ms),
            progress_timeout: lease.progress_timeout_ms.map(Millis),
            phase: Phase::Waiting(lease),
            guarded,
            slot: true,
            reaped: true,
            deadline: Mono(0),
            named_from: None,
            group: None,
            frozen_since: None,
            frozen: Millis::ZERO,
            active_since: None,
            active: Millis::ZERO,
            progress_at: Mono(0),
            outbound: Outbound::default(),
        }
    }

    /// It is being started: from here on its limits count.
    pub(super) fn begins(&mut self, now: Now) {
        self.phase = Phase::Starting;
        self.reaped = false;
        self.active_since = Some(now.mono);
        self.progress_at = now.mono;
    }

    /// It did something.
    pub(super) fn progresses(&mut self, now: Now) {
        self.progress_at = now.mono;
    }

    /// Whether its lease may still be confirmed.
    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.phase, Phase::Doomed)
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub(super) fn freezes(&mut self, now: Now) {
        if self.frozen_since.is_none() {
            self.active = self.active + self.active_since.take().map_or(Millis::ZERO, |since| now.mono.since(since));
            self.frozen_since = Some(now);
        }
    }

    /// Time allowed for progress, and the patience with a stop, start again.
    pub(super) fn thaws(&mut self, now: Now) {
        if let Some(since) = self.frozen_since.take() {
            self.frozen = self.frozen + now.boot.since(since.boot);
            self.active_since = Some(now.mono);
            self.progress_at = now.mono;
            if let Phase::Stopping { kill_at: Some(at), .. } = &mut self.phase {
                *at = (*at).max(now.mono + self.cancel_grace);
            }
        }
    }

    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen_since.is_some()
    }

    pub(super) fn held(&self, lease: LeaseRef, now: Now) -> Held {
        let frozen = self.frozen + self.frozen_since.map_or(Millis::ZERO, |since| now.boot.since(since.boot));
        Held { run_id: lease.run_id, epoch: lease.epoch, frozen_ms: frozen.0 }
    }

    /// Whether the work stands still: the guard said so, or will say so, since its rule is known.
    fn stands_still(&self, now: Now) -> bool {
        let freezes = self.guarded && self.isolation == OnIsolation::Freeze;
        self.is_frozen() || (freezes && trust::is_over(self.deadline, now.boot))
    }

    /// The next limit, and what it is: none while the work stands still, for then nothing is killed by a limit.
    pub(super) fn next_limit(&self, now: Now) -> Option<(Mono, Due)> {
        let still = self.stands_still(now);
        match &self.phase {
            Phase::Stopping { kill_at, why, .. } => {
                let holds = still && matches!(why, Why::Limit(_) | Why::Release(_));
                kill_at.filter(|_| !holds).map(|at| (at, Due::Kill))
            }
            Phase::Starting | Phase::Running if !still => {
                let since = self.active_since?;
                let left = Millis(self.timeout.0.saturating_sub(self.active.0));
                let run = (since + left, Due::Stop(Reason::RunTimeout));
                let progress =
                    self.progress_timeout.map(|t| (self.progress_at + t, Due::Stop(Reason::ProgressTimeout)));
                Some(progress.filter(|p| p.0 < run.0).unwrap_or(run))
            }
            _ => None,
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// TERM, for this reason.
    Stop(Reason),
    /// The end of patience.
    Kill,
}
