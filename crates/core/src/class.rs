//! Match classes: what a run needs of a worker, interned to one number.
//!
//! Ready rows are found by (class, rank). A worker's claim looks only into the classes that it can take, so a backlog that
//! it cannot take is never scanned.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything about a run that decides which workers may take it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MatchClass {
    /// The tenant.
    pub namespace: String,
    /// The lane.
    pub queue: String,
    /// What handles it.
    pub kind: String,
    /// Labels that the worker must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, String>,
    /// The one worker name that may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

/// What a worker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerProfile {
    /// The tenant it works for.
    pub namespace: String,
    /// Its stable name.
    pub name: String,
    /// Lanes that it takes from.
    pub queues: BTreeSet<String>,
    /// Kinds that it handles.
    pub kinds: BTreeSet<String>,
    /// What it has.
    pub labels: BTreeMap<String, String>,
    /// Runs at once.
    pub slots: u32,
}

/// Why a worker cannot take a class: the first thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Another tenant, or not this lane.
    Queue,
    /// Not this kind.
    Kind,
    /// A label is missing or different.
    Label(String, String),
    /// Another worker is named.
    Pin,
}

impl WorkerProfile {
    /// Whether this worker may take runs of `class`.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn can_take(&self, class: &MatchClass) -> Result<(), Mismatch> {
        if self.namespace != class.namespace || !self.queues.contains(&class.queue) {
            return Err(Mismatch::Queue);
        }
        if class.pin.as_ref().is_some_and(|pin| *pin != self.name) {
            return Err(Mismatch::Pin);
        }
        if !self.kinds.contains(&class.kind) {
            return Err(Mismatch::Kind);
        }
        match class.requires.iter().find(|(k, v)| self.labels.get(*k) != Some(v)) {
            Some((k, v)) => Err(Mismatch::Label(k.clone(), v.clone())),
            None => Ok(()),
        }
    }
}

/// Milliseconds by which one step of priority goes before.
pub const RANK_PER_PRIORITY_MS: i64 = 60_000;
/// Priorities are −100 to 100.
pub const PRIORITY: std::ops::RangeInclusive<i16> = -100..=100;

/// The static place in the order of claims: lower goes first. Fixed at queueing, so that nothing is overtaken by a run
/// that was queued more than 60 s × Δpriority later.
#[must_use]
pub fn rank(queued_at: crate::Wall, priority: i16) -> i64 {
    queued_at.0.saturating_sub(i64::from(priority) * RANK_PER_PRIORITY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> WorkerProfile {
        WorkerProfile {
            namespace: "default".into(),
            name: "w-1".into(),
            queues: ["a".to_owned()].into(),
            kinds: ["exec".to_owned()].into(),
            labels: [("gpu".to_owned(), "a100".to_owned())].into(),
            slots: 1,
        }
    }

    fn class() -> MatchClass {
        MatchClass {
            namespace: "default".into(),
            queue: "a".into(),
            kind: "exec".into(),
            requires: BTreeMap::new(),
            pin: None,
        }
    }

    #[test]
    fn a_worker_takes_what_it_offers_and_names_what_it_lacks() {
        let w = worker();
        assert_eq!(w.can_take(&class()), Ok(()));
        assert_eq!(w.can_take(&MatchClass { queue: "b".into(), ..class() }), Err(Mismatch::Queue));
        assert_eq!(w.can_take(&MatchClass { namespace: "other".into(), ..class() }), Err(Mismatch::Queue));
        assert_eq!(w.can_take(&MatchClass { kind: "action".into(), ..class() }), Err(Mismatch::Kind));
        assert_eq!(w.can_take(&MatchClass { pin: Some("w-2".into()), ..class() }), Err(Mismatch::Pin));
        let gpu = |v: &str| MatchClass { requires: [("gpu".to_owned(), v.to_owned())].into(), ..class() };
        assert_eq!(w.can_take(&gpu("a100")), Ok(()));
        assert_eq!(w.can_take(&gpu("h100")), Err(Mismatch::Label("gpu".into(), "h100".into())));
    }

    #[test]
    fn a_step_of_priority_is_worth_a_minute_and_no_more() {
        let t = |s: i64| crate::Wall(s * 1_000);
        assert!(rank(t(59), 1) < rank(t(0), 0));
        assert!(rank(t(61), 1) > rank(t(0), 0));
    }
}
