//! What goes into the agent's decisions and what comes out.

use crate::channel::Down;
use crate::config::{AgentExit, Shutdown};
use crate::guard::Command;
use crate::outbox::Record;
use outlive_api::session::{Lease, ServerMessage, WorkerMessage};
use outlive_core::report::{ExitReport, Op};
use outlive_core::resources::Bytes;
use outlive_core::{Json, LeaseRef, Millis, Mono};

/// One instant on the two clocks that matter to an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Counts suspend: beats, trust, connections.
    pub boot: Mono,
    /// Does not: what the work is allowed to use (`run_timeout`, `progress_timeout`, graces).
    pub mono: Mono,
}

impl Now {
    /// The earlier instant at which the clock that counts suspend showed `boot`.
    #[must_use]
    pub fn back_to(self, boot: Mono) -> Self {
        let ago = self.boot.since(boot);
        Self { boot: self.boot.min(boot), mono: Mono(self.mono.0.saturating_sub(ago.0)) }
    }
}

/// A connection, numbered by the agent in the order in which it asks for them.
pub type Conn = u64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The session that was asked for is open. The worker speaks first.
    Connected {
        /// Which.
        conn: Conn,
        /// How often to beat, from the registration; `hello` may say otherwise.
        heartbeat: Millis,
        /// How long a reconnect may take, from the registration.
        window: Millis,
    },
    /// It could not be opened, or it ended by EOF or RST.
    Disconnected {
        /// Which.
        conn: Conn,
    },
    /// A message came.
    Server {
        /// On which connection.
        conn: Conn,
        /// What it says.
        message: ServerMessage,
    },
    /// Something happened to an attempt.
    Child {
        /// Which.
        lease: LeaseRef,
        /// What.
        event: ChildEvent,
    },
    /// The outbox has the terminal report of this lease.
    Stored(LeaseRef),
    /// The guard acted.
    Guard {
        /// On which attempt.
        lease: LeaseRef,
        /// What it did.
        event: GuardEvent,
        /// When, on the clock that counts suspend: an agent that stood still hears of it much later.
        at: Mono,
    },
    /// There is a new guard that knows of nothing.
    GuardReplaced,
    /// Somebody asks the agent to stop.
    Shutdown(Shutdown),
    /// A newer incarnation has the name.
    Replaced,
}

/// What an attempt did.
#[derive(Clone, Debug)]
pub enum ChildEvent {
    /// Its process, whose group has this number, or its handler, runs.
    Started(Option<i32>),
    /// At most 256 KiB on a channel. The sender has used that much of its window.
    Output {
        /// `stdout`, `stderr` or a name.
        channel: String,
        /// Any bytes.
        bytes: Vec<u8>,
    },
    /// It said something over its channel.
    Said {
        /// To be answered under this number.
        reference: Option<u64>,
        /// What.
        op: Op,
    },
    /// It is over: no process of it is left, and its slot is free.
    Ended(End),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// A process ended.
    Exit {
        /// How.
        exit: ExitReport,
        /// What became of its output.
        output: Parsed,
    },
    /// A process ended because the attempt had reached its own limit of memory.
    OverMemory {
        /// How; `oom_killed` is set.
        exit: ExitReport,
        /// The limit.
        limit: Bytes,
    },
    /// The work could not begin: something about it must be changed first.
    Rejected {
        /// What to change.
        message: String,
    },
    /// The host could not start it now.
    HostFailed {
        /// How.
        message: String,
    },
    /// A handler's own words; an op that ends an attempt.
    Said(Op),
    /// A handler went away without a word.
    Vanished,
}

/// A process's stdout.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Parsed {
    /// In the log, or nowhere.
    #[default]
    Log,
    /// The result.
    Value(Json),
    /// Not of its format; it is in the log.
    Invalid {
        /// With line and column.
        message: String,
    },
}

/// What the guard did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardEvent {
    /// Its work stands still.
    Frozen,
    /// Its work goes on.
    Thawed,
    /// Its work was killed at its deadline (`on_isolation: stop`).
    Stopped,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Open a session; answered by `Connected` or `Disconnected`.
    Connect {
        /// Under this number.
        conn: Conn,
        /// At this address.
        address: String,
        /// Not longer than this; then it is `Disconnected`.
        within: Millis,
    },
    /// Drop a connection; not answered.
    Close(Conn),
    /// Say it.
    Send {
        /// On this connection.
        conn: Conn,
        /// What.
        message: WorkerMessage,
    },
    /// Start it.
    Spawn(Box<Lease>),
    /// End it; `Ended` follows.
    Stop(LeaseRef, Stop),
    /// To the attempt, over its channel.
    Tell(LeaseRef, Down),
    /// The attempt may have this many bytes more in hand.
    Window(LeaseRef, usize),
    /// To the guard.
    Guard(Command),
    /// Into the outbox; `Stored` follows.
    Store(Box<Record>),
    /// Out of the outbox.
    Forget(LeaseRef),
    /// A request over HTTP whose answer does not matter.
    Call(Call),
    /// The session has been greeted, or has ended.
    Online(bool),
    /// The agent is done.
    Exit(AgentExit),
}

/// A request over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Take nothing new.
    Drain,
}

/// How to end an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// SIGTERM to its group; handlers are asked.
    Term,
    /// SIGKILL to everything that it started.
    Kill,
}
