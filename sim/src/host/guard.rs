//! The guard: the real watch, with a clock and hands. It is a process of its own and goes on while the agent is stopped.

use crate::queue::Owner;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::LeaseRef;
use outlive_worker::agent::Input;
use outlive_worker::guard::{Act, Command};

impl World {
    pub(super) fn guard_hears(&mut self, host: usize, command: Command) {
        if self.twin == Twin::DeafGuard {
            return;
        }
        self.hosts[host].guard.command(command);
        self.guard_looks(host);
    }

    fn guard_looks(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        let now = h.clocks(self.now).boot;
        let (acts, start) = (h.guard.due(now), h.start);
        for act in acts {
            self.guard_acts(host, &act);
            for (lease, event) in act.told() {
                let pipe = self.chance.between(0, 2);
                self.after(pipe, Owner::Agent(host, start), move |w| {
                    w.agent(host, Input::Guard { lease, event, at: now });
                });
            }
        }
        let h = &self.hosts[host];
        let next = h.guard.next().map(|at| self.now + at.since(now).0);
        if let Some(at) = next
            && h.guard_timer.is_none_or(|timer| at < timer)
        {
            // A timer, and a process that has to get the processor.
            let late = self.chance.between(0, 5);
            self.hosts[host].guard_timer = Some(at);
            self.at(at + late, Owner::World, move |w| {
                if w.hosts[host].start == start && w.hosts[host].guard_timer == Some(at) {
                    w.hosts[host].guard_timer = None;
                    if w.hosts[host].agent.is_some() {
                        w.guard_looks(host);
                    }
                }
            });
        }
    }

    fn guard_acts(&mut self, host: usize, act: &Act) {
        let all =
            |leases: &std::collections::BTreeMap<LeaseRef, Option<i32>>| leases.keys().copied().collect::<Vec<_>>();
        match act {
            Act::Freeze(new, again) => {
                for lease in all(new).into_iter().chain(all(again)) {
                    self.freeze_process(host, lease);
                }
            }
            Act::Thaw(leases) => {
                for lease in all(leases) {
                    self.thaw_process(host, lease);
                }
            }
            Act::Kill(new, again) => {
                for lease in all(new).into_iter().chain(all(again)) {
                    self.kill_process(host, lease, None);
                    self.hosts[host].guard.gone([lease]);
                }
            }
        }
    }
}
