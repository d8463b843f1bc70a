//! `run_timeout`, `progress_timeout` and the grace between TERM and KILL.
//!
//! The earliest of them is remembered, so that a turn in which nothing is due looks at no attempt.

use super::run::{Due, Phase, Why};
use super::state_machine::Agent;
use super::types::{Effect, Now, Stop};
use outlive_core::LeaseRef;

impl Agent {
    /// A limit of this attempt may be earlier than before.
    pub(super) fn limit_changed(&mut self, lease: LeaseRef, now: Now) {
        let due = self.runs.get(&lease).and_then(|run| run.next_limit(now)).map(|(at, _)| at);
        self.limits_at = self.limits_at.into_iter().chain(due).min();
    }

    /// All limits are looked at again.
    pub(super) fn limits_changed(&mut self, now: Now) {
        self.limits_at = Some(now.mono);
    }

    /// Carries out what is due.
    pub(super) fn check_limits(&mut self, now: Now) {
        if self.limits_at.is_none_or(|at| now.mono < at) {
            return;
        }
        self.limits_at = None;
        let leases: Vec<LeaseRef> = self.runs.keys().copied().collect();
        for lease in leases {
            let due = self.runs.get(&lease).and_then(|run| run.next_limit(now));
            match due {
                Some((at, due)) if now.mono >= at => self.over(lease, due, now),
                _ => self.limit_changed(lease, now),
            }
        }
    }

    fn over(&mut self, lease: LeaseRef, due: Due, now: Now) {
        if let Due::Stop(reason) = due {
            self.stop(lease, Why::Limit(reason), now);
            return;
        }
        let grace = self.grace(lease);
        let Some(run) = self.runs.get_mut(&lease) else { return };
        let Phase::Stopping { kill_at, termed, .. } = &mut run.phase else { return };
        let how = if *termed { Stop::Kill } else { Stop::Term };
        *kill_at = (!*termed).then_some(now.mono + grace);
        *termed = true;
        self.out.push(Effect::Stop(lease, how));
        self.limit_changed(lease, now);
    }
}
