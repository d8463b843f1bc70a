//! The lines between agent and guard.

use crate::agent::GuardEvent;
use crate::reach::limits::Limiter;
use crate::reach::{Domain, name, parse_name};
use outlive_core::policy::OnIsolation;
use outlive_core::{LeaseRef, Mono};
use std::fmt;
use std::path::{Path, PathBuf};

/// The first line: which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(pub Domain);

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Domain { prefix, session, cgroup, limiter } = &self.0;
        write!(f, "domain {prefix} {session} ")?;
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let cgroup = cgroup.as_ref().map_or("-".into(), |c| path(c));
        // Paths may hold spaces.
        match limiter {
            Limiter::V1 { memory, pids } => writeln!(f, "{cgroup}\tv1\t{}\t{}", path(memory), path(pids)),
            Limiter::V2 => writeln!(f, "{cgroup}\tv2"),
            Limiter::Rlimits => writeln!(f, "{cgroup}\trlimits"),
        }
    }
}

impl Header {
    /// Reads it.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("domain ")?.splitn(3, ' ');
        let (prefix, session) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        let mut paths = parts.next()?.split('\t');
        let cgroup = paths.next().filter(|&path| path != "-").map(PathBuf::from);
        let limiter = match paths.next()? {
            "v1" => Limiter::V1 { memory: paths.next()?.into(), pids: paths.next()?.into() },
            "v2" => Limiter::V2,
            _ => Limiter::Rlimits,
        };
        Some(Self(Domain { prefix, session, cgroup, limiter }))
    }
}

/// What the agent tells the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A lease that may have processes from now on.
    Track {
        /// Which.
        lease: LeaseRef,
        /// What to do at its deadline.
        isolation: OnIsolation,
        /// On the clock that counts suspend.
        deadline: Mono,
    },
    /// A lease that an earlier guard watched: whether its work stands still is not known.
    Adopt {
        /// Which.
        lease: LeaseRef,
        /// What to do at its deadline.
        isolation: OnIsolation,
        /// On the clock that counts suspend.
        deadline: Mono,
        /// Its process group, if it has one already.
        group: Option<i32>,
    },
    /// Its process group.
    Group {
        /// Whose.
        lease: LeaseRef,
        /// The number of its leader.
        group: i32,
    },
    /// A deadline moves.
    Trust {
        /// To this.
        at: Mono,
        /// Of these.
        leases: Vec<LeaseRef>,
    },
    /// Nothing of it is left.
    Untrack {
        /// Which.
        lease: LeaseRef,
    },
}

const ISOLATIONS: [OnIsolation; 3] = [OnIsolation::Freeze, OnIsolation::Continue, OnIsolation::Stop];

const fn word(isolation: OnIsolation) -> &'static str {
    match isolation {
        OnIsolation::Freeze => "freeze",
        OnIsolation::Continue => "continue",
        OnIsolation::Stop => "stop",
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Track { lease, isolation, deadline } => {
                writeln!(f, "track {} {} {}", name(*lease), word(*isolation), deadline.0)
            }
            Self::Adopt { lease, isolation, deadline, group } => {
                let group = group.unwrap_or(0);
                writeln!(f, "adopt {} {} {} {group}", name(*lease), word(*isolation), deadline.0)
            }
            Self::Group { lease, group } => writeln!(f, "group {} {group}", name(*lease)),
            Self::Trust { at, leases } => {
                write!(f, "trust {}", at.0)?;
                leases.iter().try_for_each(|lease| write!(f, " {}", name(*lease)))?;
                writeln!(f)
            }
            Self::Untrack { lease } => writeln!(f, "untrack {}", name(*lease)),
        }
    }
}

impl Command {
    /// Reads a line without its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        Some(match verb {
            "track" | "adopt" => {
                let lease = parse_name(words.next()?)?;
                let given = words.next()?;
                let isolation = ISOLATIONS.into_iter().find(|&known| word(known) == given)?;
                let deadline = Mono(words.next()?.parse().ok()?);
                match words.next() {
                    None => Self::Track { lease, isolation, deadline },
                    Some(group) => {
                        let group = group.parse().ok().filter(|&g| g > 1);
                        Self::Adopt { lease, isolation, deadline, group }
                    }
                }
            }
            "group" => {
                let lease = parse_name(words.next()?)?;
                Self::Group { lease, group: words.next()?.parse().ok().filter(|&g| g > 1)? }
            }
            "trust" => {
                let at = Mono(words.next()?.parse().ok()?);
                Self::Trust { at, leases: words.filter_map(parse_name).collect() }
            }
            "untrack" => Self::Untrack { lease: parse_name(words.next()?)? },
            _ => return None,
        })
    }
}

/// What the guard tells the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It watches.
    Ready,
    /// It acted on a lease, at this time on the clock that counts suspend.
    Did(LeaseRef, GuardEvent, Mono),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => writeln!(f, "ready"),
            Self::Did(lease, event, at) => {
                let word = match event {
                    GuardEvent::Frozen => "frozen",
                    GuardEvent::Thawed => "thawed",
                    GuardEvent::Stopped => "stopped",
                };
                writeln!(f, "{word} {} {}", name(*lease), at.0)
            }
        }
    }
}

impl Reply {
    /// Reads a line without its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        if line == "ready" {
            return Some(Self::Ready);
        }
        let mut words = line.split(' ');
        let (word, lease, at) = (words.next()?, words.next()?, words.next()?);
        let event = match word {
            "frozen" => GuardEvent::Frozen,
            "thawed" => GuardEvent::Thawed,
            "stopped" => GuardEvent::Stopped,
            _ => return None,
        };
        Some(Self::Did(parse_name(lease)?, event, Mono(at.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::{Epoch, RunId, Wall};

    #[test]
    fn lines_read_back_as_written() {
        let lease = LeaseRef { run_id: RunId::from_parts(Wall(5), 6), epoch: Epoch(7) };
        let commands = [
            Command::Track { lease, isolation: OnIsolation::Stop, deadline: Mono(5) },
            Command::Adopt { lease, isolation: OnIsolation::Freeze, deadline: Mono(5), group: Some(77) },
            Command::Adopt { lease, isolation: OnIsolation::Continue, deadline: Mono(5), group: None },
            Command::Group { lease, group: 55 },
            Command::Trust { at: Mono(9), leases: vec![lease, lease] },
            Command::Untrack { lease },
        ];
        for command in commands {
            assert_eq!(Command::parse(command.to_string().trim_end()), Some(command));
        }
        for reply in [Reply::Ready, Reply::Did(lease, GuardEvent::Thawed, Mono(77))] {
            assert_eq!(Reply::parse(reply.to_string().trim_end()), Some(reply));
        }
        let v1 = Limiter::V1 { memory: "/m m/x".into(), pids: "/p/x".into() };
        for (cgroup, limiter) in [(Some("/with a space/x"), Limiter::V2), (None, v1), (None, Limiter::Rlimits)] {
            let domain = Domain { prefix: "a.b".into(), session: 3, cgroup: cgroup.map(PathBuf::from), limiter };
            assert_eq!(Header::parse(Header(domain.clone()).to_string().trim_end()), Some(Header(domain)));
        }
    }

    #[test]
    fn no_line_can_mean_the_first_process_or_every_process() {
        let lease = LeaseRef { run_id: RunId::from_parts(Wall(5), 6), epoch: Epoch(7) };
        for group in ["1", "0", "-1", "x"] {
            assert_eq!(Command::parse(&format!("group {} {group}", name(lease))), None);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_line_makes_the_guard_panic(words in proptest::collection::vec(word(), 0..7), any in "\\PC*") {
            let line = words.join(" ");
            for line in [line.as_str(), &any] {
                drop((Command::parse(line), Reply::parse(line), Header::parse(line)));
            }
        }

        #[test]
        fn what_is_written_reads_back(id: u128, epoch: i64, at: u64, group in 2..i32::MAX, many in 0..50_usize) {
            let lease = LeaseRef { run_id: RunId(uuid::Uuid::from_u128(id)), epoch: Epoch(epoch) };
            for command in [
                Command::Track { lease, isolation: OnIsolation::Freeze, deadline: Mono(at) },
                Command::Adopt { lease, isolation: OnIsolation::Stop, deadline: Mono(at), group: Some(group) },
                Command::Group { lease, group },
                Command::Trust { at: Mono(at), leases: vec![lease; many] },
                Command::Untrack { lease },
            ] {
                proptest::prop_assert_eq!(Command::parse(command.to_string().trim_end()), Some(command));
            }
        }
    }

    /// Words of real lines, and others.
    fn word() -> impl proptest::strategy::Strategy<Value = String> {
        let known =
            ["track", "adopt", "group", "trust", "untrack", "frozen", "domain", "freeze", "-1", "0", "1", "7", "-"];
        let lease = name(LeaseRef { run_id: RunId::from_parts(Wall(5), 6), epoch: Epoch(7) });
        let known: Vec<_> = known.into_iter().map(str::to_owned).chain([lease]).collect();
        proptest::prop_oneof![proptest::sample::select(known), "\\PC{0,9}"]
    }
}
