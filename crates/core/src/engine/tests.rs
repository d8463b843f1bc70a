//! The engine, input by input. The simulation plays the same engine against a whole world.

use super::*;
use crate::class::{MatchClass, WorkerProfile};
use crate::options::AttemptLimits;
use crate::policy::{QueuePolicy, Takeover};
use crate::run::Evidence;
use crate::{ClassId, Epoch, HomeSeq, Incarnation, QueueId, RunId, Wall, WorkerId};
use std::sync::Arc;

mod breaker;
mod evidence;
mod grace;
mod limits;
mod matching;
mod reconcile;
mod replicas;
mod work;

const Q: QueueId = QueueId(1);
const C: ClassId = ClassId(1);

fn holder(n: i64) -> Holder {
    Holder { worker: WorkerId(n), incarnation: Incarnation(1) }
}

fn lease(n: u128) -> LeaseRef {
    LeaseRef { run_id: RunId::from_parts(Wall(1), n << 100), epoch: Epoch(1) }
}

fn policy() -> Liveness {
    QueuePolicy::default().liveness()
}

fn info(n: u128, liveness: Liveness) -> LeaseInfo {
    let limits = AttemptLimits { run_timeout: Millis::hours(24), progress_timeout: None };
    let (begun, since) = (Observed(0), Observed(0));
    LeaseInfo { lease: lease(n), liveness, started: true, cancelling: false, begun, since, limits }
}

fn named(queue: &str) -> (String, String) {
    ("default".to_owned(), queue.to_owned())
}

struct World {
    engine: Engine,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { engine: Engine::new(Observed(0), Mono(0)), now: 0 };
        world.put(Input::Queue(Q, named("q"), policy()));
        let class = MatchClass {
            namespace: "default".into(),
            queue: "q".into(),
            kind: "exec".into(),
            requires: std::collections::BTreeMap::new(),
            pin: None,
        };
        world.put(Input::Class(C, Arc::new(class)));
        world.pass(500);
        world
    }

    fn put(&mut self, input: Input) -> Vec<Effect> {
        self.engine.handle(input, Mono(self.now))
    }

    /// Lets time pass with a punctual judge; everything that came out.
    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..ms / TICK.0 {
            self.now += TICK.0;
            let senses = Senses { self_beat_sent: Some(Mono(self.now)), ..Senses::default() };
            effects.extend(self.put(Input::Tick(senses)));
        }
        effects
    }

    fn session(&mut self, n: i64, leases: Vec<LeaseInfo>) -> Vec<Effect> {
        let profile = WorkerProfile {
            namespace: "default".into(),
            name: format!("w-{n}"),
            queues: ["q".to_owned()].into(),
            kinds: ["exec".to_owned()].into(),
            labels: std::collections::BTreeMap::new(),
            slots: 4,
        };
        let info = SessionInfo {
            holder: holder(n),
            profile,
            presence: Presence::Session,
            home_seq: HomeSeq(n),
            draining: false,
            leases,
            rearmed: 0,
            armed: Observed(0),
        };
        self.put(Input::Open(info, Some(conn(n)), false))
    }

    fn beat(&mut self, n: i64, seq: u64, credit: u64, held: &[u128]) -> Vec<Effect> {
        let held = held.iter().map(|&n| HeldInfo { lease: lease(n), frozen: Millis::ZERO }).collect();
        let beat = BeatInfo { beat_seq: seq, credit, seen_push_seq: 99, timer: true, held };
        self.put(Input::Beat(holder(n), conn(n), beat))
    }
}

fn conn(n: i64) -> ConnId {
    ConnId(n.unsigned_abs())
}

fn verdicts(effects: &[Effect]) -> Vec<&VerdictWanted> {
    effects.iter().filter_map(|e| if let Effect::Verdict(v) = e { Some(v) } else { None }).collect()
}

fn said(effects: &[Effect]) -> Vec<&Say> {
    effects.iter().filter_map(|e| if let Effect::Say(_, _, s) = e { Some(s) } else { None }).collect()
}

fn claims(effects: &[Effect]) -> Vec<&ClaimWanted> {
    effects.iter().filter_map(|e| if let Effect::Claim(c) = e { Some(c) } else { None }).collect()
}

fn opened(effects: &[Effect]) -> Vec<Option<Opened>> {
    effects.iter().filter_map(|e| if let Effect::Breaker(b) = e { Some(*b) } else { None }).collect()
}
