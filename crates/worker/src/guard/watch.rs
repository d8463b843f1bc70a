//! What the guard knows and what is due: no I/O, time as an argument.

use super::protocol::Command;
use crate::agent::GuardEvent;
use outlive_core::engine::trust;
use outlive_core::policy::OnIsolation;
use outlive_core::{LeaseRef, Millis, Mono};
use std::collections::BTreeMap;

/// A process that was being started when the work of its lease was stopped may appear after that: work that stands still is
/// stopped again, first after this, then after twice as long each time.
const STOP_AGAIN: Millis = Millis(25);
/// The longest time between two such passes.
const STOP_AGAIN_AT_LEAST: Millis = Millis::secs(1);
/// What was killed is looked for again after this, then after twice as long each time, until a pass finds nothing.
const KILL_AGAIN: Millis = Millis(1);
/// The longest time between two such passes: a process that waits for a disk cannot be hurried.
const KILL_AGAIN_AT_LEAST: Millis = Millis(20);

/// A lease.
#[derive(Clone, Copy, Debug)]
struct Watched {
    isolation: OnIsolation,
    deadline: Mono,
    group: Option<i32>,
    level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// What an earlier guard left is not known.
    Unknown,
    Running,
    Frozen {
        again: Mono,
        pause: Millis,
    },
    /// A pass has killed something: another one looks whether anything is left.
    Killing {
        again: Mono,
        pause: Millis,
    },
    Stopped,
}

/// What is due, with the process groups of the leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Stop it, or stop it again, in which case nobody is told.
    Freeze(BTreeMap<LeaseRef, Option<i32>>, BTreeMap<LeaseRef, Option<i32>>),
    /// Let it go on.
    Thaw(BTreeMap<LeaseRef, Option<i32>>),
    /// Kill it, or kill again what a pass has found, in which case nobody is told.
    Kill(BTreeMap<LeaseRef, Option<i32>>, BTreeMap<LeaseRef, Option<i32>>),
}

/// Everything that is watched.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    leases: BTreeMap<LeaseRef, Watched>,
}

impl Watch {
    /// Takes a line in.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Track { lease, isolation, deadline } => {
                self.leases.insert(lease, Watched { isolation, deadline, group: None, level: Level::Running });
            }
            Command::Adopt { lease, isolation, deadline, group } => {
                self.leases.insert(lease, Watched { isolation, deadline, group, level: Level::Unknown });
            }
            Command::Group { lease, group } => {
                if let Some(watched) = self.leases.get_mut(&lease) {
                    watched.group = Some(group);
                }
            }
            Command::Trust { at, leases } => {
                for lease in leases {
                    if let Some(watched) = self.leases.get_mut(&lease) {
                        watched.deadline = at;
                    }
                }
            }
            Command::Untrack { lease } => {
                self.leases.remove(&lease);
            }
        }
    }

    /// Brings every lease to its level. What must be done for that, in order.
    pub fn due(&mut self, now: Mono) -> Vec<Act> {
        let (mut freeze, mut again, mut thaw) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut kill, mut kill_again) = (BTreeMap::new(), BTreeMap::new());
        for (&lease, watched) in &mut self.leases {
            let over = trust::is_over(watched.deadline, now);
            let into = match (watched.isolation, over, watched.level) {
                (OnIsolation::Continue, ..) | (_, _, Level::Stopped) | (_, false, Level::Running) => continue,
                (OnIsolation::Freeze, true, Level::Frozen { again: at, .. })
                | (_, _, Level::Killing { again: at, .. })
                    if now < at =>
                {
                    continue;
                }
                (_, _, Level::Killing { pause, .. }) => {
                    let pause = Millis(pause.0 * 2).min(KILL_AGAIN_AT_LEAST);
                    watched.level = Level::Killing { again: now + pause, pause };
                    &mut kill_again
                }
                (OnIsolation::Freeze, true, level) => {
                    let (pause, into) = match level {
                        Level::Frozen { pause, .. } => (Millis(pause.0 * 2).min(STOP_AGAIN_AT_LEAST), &mut again),
                        _ => (STOP_AGAIN, &mut freeze),
                    };
                    watched.level = Level::Frozen { again: now + pause, pause };
                    into
                }
                (OnIsolation::Stop, true, _) => {
                    watched.level = Level::Killing { again: now + KILL_AGAIN, pause: KILL_AGAIN };
                    &mut kill
                }
                (_, false, _) => {
                    watched.level = Level::Running;
                    &mut thaw
                }
            };
            into.insert(lease, watched.group);
        }
        let mut acts = Vec::new();
        if !kill.is_empty() || !kill_again.is_empty() {
            acts.push(Act::Kill(kill, kill_again));
        }
        if !freeze.is_empty() || !again.is_empty() {
            acts.push(Act::Freeze(freeze, again));
        }
        if !thaw.is_empty() {
            acts.push(Act::Thaw(thaw));
        }
        acts
    }

    /// A pass found nothing of these any more.
    pub fn gone(&mut self, leases: impl IntoIterator<Item = LeaseRef>) {
        for lease in leases {
            if let Some(watched) = self.leases.get_mut(&lease) {
                watched.level = Level::Stopped;
            }
        }
    }

    /// When to look again if no line comes.
    #[must_use]
    pub fn next(&self) -> Option<Mono> {
        let due = |w: &Watched| match (w.isolation, w.level) {
            (OnIsolation::Continue, _) | (_, Level::Stopped) => None,
            (_, Level::Unknown) => Some(Mono(0)),
            (_, Level::Running) => Some(w.deadline),
            (_, Level::Frozen { again, .. } | Level::Killing { again, .. }) => Some(again),
        };
        self.leases.values().filter_map(due).min()
    }
}

impl Act {
    /// What to tell the agent afterwards.
    #[must_use]
    pub fn told(&self) -> Vec<(LeaseRef, GuardEvent)> {
        let (leases, event) = match self {
            Self::Freeze(new, _) => (new, GuardEvent::Frozen),
            Self::Thaw(leases) => (leases, GuardEvent::Thawed),
            Self::Kill(new, _) => (new, GuardEvent::Stopped),
        };
        leases.keys().map(|&lease| (lease, event)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::{Epoch, RunId, Wall};

    fn lease(n: u128) -> LeaseRef {
        LeaseRef { run_id: RunId::from_parts(Wall(1), n << 64), epoch: Epoch(1) }
    }

    fn watching(isolation: OnIsolation) -> Watch {
        let mut watch = Watch::default();
        watch.command(Command::Track { lease: lease(1), isolation, deadline: Mono(100) });
        watch
    }

    fn told(acts: &[Act]) -> Vec<(LeaseRef, GuardEvent)> {
        acts.iter().flat_map(Act::told).collect()
    }

    #[test]
    fn work_stands_still_exactly_while_its_deadline_is_over() {
        let mut watch = watching(OnIsolation::Freeze);
        assert_eq!((watch.due(Mono(99)), watch.next()), (vec![], Some(Mono(100))));
        assert_eq!(told(&watch.due(Mono(100))), [(lease(1), GuardEvent::Frozen)]);
        assert_eq!(watch.due(Mono(101)), []);
        assert_eq!(watch.next(), Some(Mono(125)));
        assert_eq!(told(&watch.due(Mono(125))), [], "stopped again, and nobody is told");
        assert_eq!(watch.next(), Some(Mono(175)));
        watch.command(Command::Trust { at: Mono(400), leases: vec![lease(1)] });
        assert_eq!(told(&watch.due(Mono(310))), [(lease(1), GuardEvent::Thawed)]);
        watch.command(Command::Trust { at: Mono(320), leases: vec![lease(1)] });
        assert_eq!(told(&watch.due(Mono(320))), [(lease(1), GuardEvent::Frozen)], "a deadline may move back");
    }

    #[test]
    fn a_deadline_that_moves_within_the_past_thaws_nothing() {
        let mut watch = watching(OnIsolation::Freeze);
        watch.due(Mono(500));
        watch.command(Command::Trust { at: Mono(400), leases: vec![lease(1)] });
        assert!(told(&watch.due(Mono(501))).is_empty());
    }

    #[test]
    fn on_isolation_continue_is_left_alone_and_stop_is_killed_once() {
        let mut watch = watching(OnIsolation::Continue);
        assert_eq!((watch.due(Mono(900)), watch.next()), (vec![], None));
        let mut watch = watching(OnIsolation::Stop);
        assert_eq!(told(&watch.due(Mono(100))), [(lease(1), GuardEvent::Stopped)]);
        watch.gone([lease(1)]);
        assert_eq!((watch.due(Mono(900)), watch.next()), (vec![], None));
    }

    #[test]
    fn work_that_does_not_die_at_once_keeps_nobody_waiting() {
        let mut watch = watching(OnIsolation::Stop);
        watch.command(Command::Track { lease: lease(2), isolation: OnIsolation::Freeze, deadline: Mono(103) });
        watch.due(Mono(100));
        assert_eq!(
            (watch.due(Mono(100)), watch.next()),
            (vec![], Some(Mono(101))),
            "one pass, then others have a turn"
        );
        watch.command(Command::Trust { at: Mono(900), leases: vec![lease(1)] });
        let again = watch.due(Mono(101));
        assert!(matches!(&again[..], [Act::Kill(new, again)] if new.is_empty() && again.contains_key(&lease(1))));
        let both = watch.due(Mono(103));
        assert_eq!(both.len(), 2, "a kill goes on whatever its deadline does, and a freeze is not late");
        assert_eq!(told(&both), [(lease(2), GuardEvent::Frozen)]);
        assert_eq!(watch.next(), Some(Mono(107)));
        watch.gone([lease(1)]);
        assert_eq!(watch.next(), Some(Mono(128)));
    }

    #[test]
    fn a_new_guard_brings_what_it_finds_to_its_level() {
        let mut watch = Watch::default();
        let found =
            Command::Adopt { lease: lease(1), isolation: OnIsolation::Freeze, deadline: Mono(100), group: Some(9) };
        watch.command(found);
        assert_eq!(watch.next(), Some(Mono(0)));
        assert_eq!(told(&watch.due(Mono(50))), [(lease(1), GuardEvent::Thawed)]);
    }

    #[test]
    fn what_is_untracked_is_never_touched_again() {
        let mut watch = watching(OnIsolation::Freeze);
        watch.command(Command::Untrack { lease: lease(1) });
        watch.command(Command::Trust { at: Mono(1), leases: vec![lease(1)] });
        assert_eq!((watch.due(Mono(900)), watch.next()), (vec![], None));
    }
}
