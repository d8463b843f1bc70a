//! The agent's decisions, without a process, a socket or a clock.

mod attempts;
mod beats;
mod connections;
mod leaving;
mod reports;

use super::*;
use crate::channel::Down;
use crate::config::Shutdown;
use crate::guard::Command;
use crate::outbox::Record;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::{Beat, CloseReason, Hello, Lease, ServerMessage, WorkerMessage};
use outlive_core::policy::{OnIsolation, Takeover};
use outlive_core::report::ExitReport;
use outlive_core::{Epoch, HomeSeq, Json, LeaseRef, Millis, Mono, RunId, Wall};

/// An agent with a world around it that does what it is told at once.
pub(super) struct World {
    pub agent: Agent,
    pub at: u64,
    pub conn: Conn,
    /// Everything since the last look.
    pub effects: Vec<Effect>,
    /// Whether the outbox answers by itself.
    pub stores: bool,
    /// Whether the server acknowledges beats by itself.
    pub acks: bool,
}

pub(super) const START: u64 = 1_000_000;

impl World {
    pub(super) fn new(slots: u32) -> Self {
        Self::replaying(slots, Vec::new())
    }

    pub(super) fn replaying(slots: u32, records: Vec<Record>) -> Self {
        let settings =
            Settings { servers: vec!["a:1".into(), "b:1".into()], slots, in_process: ["noop".into()].into(), seed: 7 };
        let agent = Agent::new(settings, records);
        Self { agent, at: START, conn: 0, effects: Vec::new(), stores: true, acks: false }
    }

    pub(super) fn connected(slots: u32) -> Self {
        let mut world = Self::new(slots);
        world.connect();
        world
    }

    pub(super) fn now(&self) -> Now {
        Now { boot: Mono(self.at), mono: Mono(self.at) }
    }

    pub(super) fn give(&mut self, input: Input) {
        self.give_all([input]);
    }

    pub(super) fn give_all(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let effects = self.agent.turn(inputs, self.now());
        let answer = |e: &Effect| match e {
            Effect::Store(record) if self.stores => Some(Input::Stored(record.lease)),
            Effect::Send { conn, message: WorkerMessage::Beat(beat) } if self.acks => {
                let message = ServerMessage::BeatAck { beat_seq: beat.beat_seq, home_unsure: false };
                Some(Input::Server { conn: *conn, message })
            }
            _ => None,
        };
        let answers: Vec<_> = effects.iter().filter_map(answer).collect();
        self.effects.extend(effects);
        if !answers.is_empty() {
            self.give_all(answers);
        }
    }

    /// Time passes; the agent is woken whenever it asked to be.
    pub(super) fn pass(&mut self, millis: u64) {
        let until = self.at + millis;
        loop {
            let wait = self.agent.next_deadline(self.now()).map_or(u64::MAX, |m| m.0.max(1));
            if self.at.saturating_add(wait) > until {
                break;
            }
            self.at += wait;
            self.give_all([]);
        }
        self.at = until;
        self.give_all([]);
    }

    /// Opens the session that is asked for, and greets it.
    pub(super) fn connect(&mut self) {
        self.open();
        self.greet(vec![]);
    }

    pub(super) fn open(&mut self) {
        self.pass(0);
        for _ in 0..10_000 {
            if let Some(conn) = self.effects.iter().find_map(|e| match e {
                Effect::Connect { conn, .. } if *conn > self.conn => Some(*conn),
                _ => None,
            }) {
                self.conn = conn;
                self.give(Input::Connected { conn, heartbeat: Millis(2_000), window: Millis(1_000) });
                return;
            }
            self.pass(1);
        }
        panic!("the agent does not want to connect");
    }

    pub(super) fn greet(&mut self, held: Vec<Lease>) {
        let hello = Hello {
            home_seq: HomeSeq(1),
            heartbeat_ms: 2_000,
            reconnect_window_ms: 1_000,
            proxied: false,
            sole: true,
            replicas: vec![],
        };
        let answers = [ServerMessage::Hello(hello), ServerMessage::Leases { push_seq: 0, leases: held }]
            .map(|message| Input::Server { conn: self.conn, message });
        self.give_all(answers);
        self.ack_beats();
    }

    pub(super) fn say(&mut self, message: ServerMessage) {
        self.give(Input::Server { conn: self.conn, message });
    }

    pub(super) fn push(&mut self, push_seq: u64, leases: Vec<Lease>) {
        self.say(ServerMessage::Leases { push_seq, leases });
    }

    pub(super) fn lost(&mut self, lease: LeaseRef) {
        let LeaseRef { run_id, epoch } = lease;
        self.say(ServerMessage::Lost { run_id, epoch, reason: outlive_core::Reason::LeaseReleased });
    }

    pub(super) fn cancel(&mut self, lease: LeaseRef) {
        let LeaseRef { run_id, epoch } = lease;
        self.say(ServerMessage::Cancel { run_id, epoch, reason: outlive_core::Reason::Cancelled });
    }

    /// Acknowledges every beat of the current connection that has been sent.
    pub(super) fn ack_beats(&mut self) {
        let last = self.beats().last().map_or(0, |beat| beat.beat_seq);
        self.say(ServerMessage::BeatAck { beat_seq: last, home_unsure: false });
    }

    pub(super) fn child(&mut self, lease: LeaseRef, event: ChildEvent) {
        self.give(Input::Child { lease, event });
    }

    pub(super) fn guard(&mut self, lease: LeaseRef, event: GuardEvent) {
        let at = Mono(self.at);
        self.give(Input::Guard { lease, event, at });
    }

    /// Starts a lease and takes its start's acknowledgement away.
    pub(super) fn running(&mut self, n: u64) -> LeaseRef {
        let body = lease(n, 1);
        let name = body.lease();
        self.push(n, vec![body]);
        self.child(name, ChildEvent::Started(Some(100)));
        self.answer_all();
        self.effects.clear();
        name
    }

    pub(super) fn exits(&mut self, lease: LeaseRef, exit: ExitReport) {
        self.child(lease, ChildEvent::Ended(End::Exit { exit, output: Parsed::Log }));
    }

    pub(super) fn outputs(&mut self, lease: LeaseRef, text: &str) {
        self.child(lease, ChildEvent::Output { channel: "stdout".into(), bytes: text.as_bytes().to_vec() });
    }

    /// Reports of the current connection since the last look.
    pub(super) fn reports(&self) -> Vec<(u64, Vec<WireItem>)> {
        let sent = self.effects.iter().filter_map(|e| match e {
            Effect::Send { conn, message: WorkerMessage::Report { report_seq, items, .. } } if *conn == self.conn => {
                Some((*report_seq, items.clone()))
            }
            _ => None,
        });
        sent.collect()
    }

    pub(super) fn items(&self) -> Vec<WireItem> {
        self.reports().into_iter().flat_map(|(_, items)| items).collect()
    }

    pub(super) fn ops(&self) -> Vec<OpName> {
        self.items().iter().map(|item| item.op).collect()
    }

    pub(super) fn answer(&mut self, report_seq: u64, results: Vec<WireResult>) {
        self.say(ServerMessage::Results { report_seq, results });
    }

    /// `ok` to everything that has been reported since the last look.
    pub(super) fn answer_all(&mut self) {
        for (seq, items) in self.reports() {
            self.answer(seq, vec![WireResult::Ok; items.len()]);
        }
    }

    pub(super) fn beats(&self) -> Vec<Beat> {
        let sent = self.effects.iter().filter_map(|e| match e {
            Effect::Send { conn, message: WorkerMessage::Beat(beat) } if *conn == self.conn => Some(beat.clone()),
            _ => None,
        });
        sent.collect()
    }

    pub(super) fn has(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }

    pub(super) fn stopped(&self, lease: LeaseRef) -> Vec<Stop> {
        let stops = self.effects.iter().filter_map(|e| match e {
            Effect::Stop(of, how) if *of == lease => Some(*how),
            _ => None,
        });
        stops.collect()
    }

    /// The last deadline that the guard was told of a lease.
    pub(super) fn deadline(&self, lease: LeaseRef) -> Option<u64> {
        let told = self.effects.iter().rev().find_map(|e| match e {
            Effect::Guard(Command::Track { lease: of, deadline, .. }) if *of == lease => Some(*deadline),
            Effect::Guard(Command::Trust { at, leases }) if leases.contains(&lease) => Some(*at),
            _ => None,
        });
        told.map(|at| at.0)
    }

    pub(super) fn exit(&self) -> Option<crate::config::AgentExit> {
        self.effects.iter().find_map(|e| match e {
            Effect::Exit(exit) => Some(*exit),
            _ => None,
        })
    }
}

pub(super) fn name(n: u64, epoch: i64) -> LeaseRef {
    LeaseRef { run_id: RunId::from_parts(Wall(1), u128::from(n) << 64), epoch: Epoch(epoch) }
}

pub(super) fn lease(n: u64, epoch: i64) -> Lease {
    let LeaseRef { run_id, epoch } = name(n, epoch);
    Lease {
        run_id,
        epoch,
        kind: "exec".into(),
        queue: "default".into(),
        input: Json::null(),
        attempt: 1,
        recovered: false,
        checkpoint: None,
        resume_data: None,
        lease_ttl_ms: 10_000,
        offline_grace_ms: 0,
        run_timeout_ms: 3_600_000,
        progress_timeout_ms: None,
        cancel_grace_ms: 10_000,
        on_isolation: OnIsolation::Freeze,
        takeover: Takeover::Fast,
        traceparent: None,
    }
}

pub(super) fn code(code: i32) -> ExitReport {
    ExitReport { code: Some(code), ..ExitReport::default() }
}

pub(super) fn by_signal(name: &str) -> ExitReport {
    ExitReport { signal: Some(name.into()), ..ExitReport::default() }
}
