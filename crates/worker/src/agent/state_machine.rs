//! The agent as a state machine: one way in, a turn at a time.

use super::link::Link;
use super::replay::Replay;
use super::reports::InFlight;
use super::run::Run;
use super::types::{Call, Conn, Effect, GuardEvent, Input, Now};
use crate::config::{AgentExit, Shutdown};
use crate::guard::Command;
use crate::outbox::Record;
use outlive_api::session::{CloseReason, Held, ServerMessage};
use outlive_core::limits::sizes;
use outlive_core::{LeaseRef, Millis, Mono};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long an agent that hands back waits for answers, beyond the longest grace of what it ends.
const LAST_WORDS: Millis = Millis::secs(5);

/// What the decisions depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses, at least one.
    pub servers: Vec<String>,
    /// Runs at once.
    pub slots: u32,
    /// Kinds that are handled inside the agent: the guard has nothing to watch.
    pub in_process: BTreeSet<String>,
    /// Spreads reconnects.
    pub seed: u64,
}

/// The agent.
#[derive(Clone, Debug)]
pub struct Agent {
    pub(super) slots: u32,
    pub(super) in_process: BTreeSet<String>,
    pub(super) link: Link,
    pub(super) runs: BTreeMap<LeaseRef, Run>,
    /// Leases that wait to be started.
    pub(super) waiting: BTreeSet<LeaseRef>,
    /// Leases that ended here a while ago, oldest first.
    pub(super) over: VecDeque<LeaseRef>,
    /// Attempts that have something to say, in the order of their turns.
    pub(super) speakers: VecDeque<LeaseRef>,
    pub(super) in_flight: InFlight,
    pub(super) replay: Replay,
    /// No limit is due before this.
    pub(super) limits_at: Option<Mono>,
    shutdown: Shutdown,
    replaced: bool,
    give_up_at: Option<Mono>,
    done: bool,
    pub(super) out: Vec<Effect>,
}

impl Agent {
    /// An agent without a connection. `replay`: what the outbox holds.
    #[must_use]
    pub fn new(settings: Settings, replay: Vec<Record>) -> Self {
        Self {
            slots: settings.slots.clamp(1, sizes::SLOTS),
            in_process: settings.in_process,
            link: Link::new(&settings.servers, settings.seed),
            runs: BTreeMap::new(),
            waiting: BTreeSet::new(),
            over: VecDeque::new(),
            speakers: VecDeque::new(),
            in_flight: InFlight::default(),
            replay: Replay::of(replay),
            limits_at: None,
            shutdown: Shutdown::No,
            replaced: false,
            give_up_at: None,
            done: false,
            out: Vec::new(),
        }
    }

    /// One input. The same as a turn with it alone.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        self.turn([input], now)
    }

    /// Everything that happened since the last turn, then everything that is due. What to do, in order.
    ///
    /// Reports and changes of credit are gathered over a turn: the more has happened, the fewer messages each of it costs.
    pub fn turn(&mut self, inputs: impl IntoIterator<Item = Input>, now: Now) -> Vec<Effect> {
        for input in inputs {
            self.input(input, now);
        }
        self.check_limits(now);
        self.start_waiting(now);
        self.check_link(now);
        self.say_reports();
        self.say_beats(now);
        self.check_exit(now);
        std::mem::take(&mut self.out)
    }

    /// What the agent holds: every lease whose process, or whose unanswered end, is there.
    #[must_use]
    pub fn held(&self, now: Now) -> Vec<Held> {
        self.runs.iter().map(|(&lease, run)| run.held(lease, now)).collect()
    }

    /// Ends of earlier incarnations that the server has not answered yet.
    #[must_use]
    pub fn outbox_pending(&self) -> u64 {
        u64::try_from(self.replay.pending()).unwrap_or(u64::MAX)
    }

    /// Addresses of all replicas that are known; the one that answers, or is tried next, first.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.link.servers()
    }

    /// The number of attempts of which something is left.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.runs.values().filter(|run| !run.reaped).count()
    }

    /// How long nothing is due if nothing happens; none: for ever.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Millis> {
        if self.done {
            return None;
        }
        // Once patience is over, what is waited for is not a time.
        let give_up = self.give_up_at.filter(|&at| at > now.boot);
        let boot = self.link_deadline().into_iter().chain(give_up).map(|at| at.since(now.boot));
        let mono = self.limits_at.map(|at| at.since(now.mono));
        boot.chain(mono).min()
    }

    fn input(&mut self, input: Input, now: Now) {
        match input {
            Input::Connected { conn, heartbeat, window } => self.connected(conn, heartbeat, window, now),
            Input::Disconnected { conn } => self.disconnected(conn, now),
            Input::Server { conn, message } => self.server(conn, message, now),
            Input::Child { lease, event } => self.child(lease, event, now),
            Input::Stored(lease) => {
                if let Some(run) = self.runs.get_mut(&lease) {
                    run.outbound.stored = true;
                    self.speaks(lease);
                }
            }
            Input::Guard { lease, event, at } => self.guard_event(lease, event, at, now),
            Input::GuardReplaced => self.guard_replaced(),
            Input::Shutdown(wanted) => self.shut_down(wanted, now),
            Input::Replaced => self.replaced(),
        }
    }

    fn server(&mut self, conn: Conn, message: ServerMessage, now: Now) {
        if self.link.current.as_ref().is_none_or(|open| open.conn != conn) {
            return;
        }
        let lease = |run_id, epoch| LeaseRef { run_id, epoch };
        match message {
            ServerMessage::Hello(hello) => self.greeted(&hello, now),
            ServerMessage::Leases { push_seq, leases } => self.leases(push_seq, leases, now),
            ServerMessage::Lost { run_id, epoch, .. } => self.lost(lease(run_id, epoch)),
            ServerMessage::Cancel { run_id, epoch, reason } => self.cancel(lease(run_id, epoch), reason, now),
            ServerMessage::Signal { run_id, epoch, name, data } => self.signal(lease(run_id, epoch), name, data),
            ServerMessage::Drain => self.tell_drain(),
            ServerMessage::BeatAck { beat_seq, home_unsure } => self.beat_ack(beat_seq, home_unsure, now),
            ServerMessage::Results { report_seq, results } => self.results(report_seq, &results),
            ServerMessage::Close { why: CloseReason::SessionReplaced, .. } => self.replaced(),
            ServerMessage::Close { keep_trust_ms, r#try, .. } => self.closed(conn, Millis(keep_trust_ms), &r#try, now),
        }
    }

    fn guard_event(&mut self, lease: LeaseRef, event: GuardEvent, at: Mono, now: Now) {
        let Some(run) = self.runs.get_mut(&lease) else { return };
        match event {
            GuardEvent::Frozen => run.freezes(now.back_to(at)),
            GuardEvent::Thawed => {
                run.thaws(now.back_to(at));
                self.limits_changed(now);
            }
            GuardEvent::Stopped => self.isolated(lease),
        }
    }

    fn guard_replaced(&mut self) {
        let there = self.runs.iter().filter(|(_, run)| run.guarded && !run.reaped);
        for (&lease, run) in there {
            let (isolation, deadline, group) = (run.isolation, run.deadline, run.group);
            self.out.push(Effect::Guard(Command::Adopt { lease, isolation, deadline, group }));
        }
    }

    /// Whether nothing new is started.
    pub(super) fn is_leaving(&self) -> bool {
        self.replaced || self.shutdown > Shutdown::No
    }

    fn shut_down(&mut self, wanted: Shutdown, now: Now) {
        if wanted <= self.shutdown {
            return;
        }
        if self.shutdown == Shutdown::No {
            self.out.push(Effect::Call(Call::Drain));
            self.tell_drain();
            self.release_waiting();
        }
        self.shutdown = wanted;
        if wanted == Shutdown::HandBack {
            let grace = self.runs.values().map(|run| run.cancel_grace).max().unwrap_or_default();
            self.give_up_at = Some(now.boot + grace + LAST_WORDS);
            self.hand_back(now);
        }
    }

    fn replaced(&mut self) {
        self.replaced = true;
        // What has ended stays in the outbox: a later start may still tell it.
        let there: Vec<_> = self.runs.iter().filter(|(_, run)| !run.has_ended()).map(|(&lease, _)| lease).collect();
        for lease in there {
            self.doom(lease);
        }
    }

    fn check_exit(&mut self, now: Now) {
        let exit = if self.done {
            return;
        } else if self.replaced {
            self.runs.values().all(|run| run.reaped).then_some(AgentExit::Replaced)
        } else if self.shutdown > Shutdown::No && self.runs.is_empty() {
            Some(AgentExit::Left)
        } else {
            let over = self.give_up_at.is_some_and(|at| now.boot >= at);
            let safe = self.runs.values().all(|run| run.reaped && (run.outbound.stored || !run.outbound.has_end()));
            (over && safe).then_some(AgentExit::Unsent)
        };
        if let Some(exit) = exit {
            self.done = true;
            self.out.push(Effect::Exit(exit));
        }
    }
}
