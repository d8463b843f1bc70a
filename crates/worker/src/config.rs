//! What an agent is given, how it tells where it is, and how it ends.

use crate::runtime::Handler;
use outlive_core::resources::Resources;
use outlive_core::{Incarnation, WorkerId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// An agent's settings.
pub struct AgentConfig {
    /// Addresses of replicas, tried in this order; at least one.
    pub servers: Vec<String>,
    /// The tenant.
    pub namespace: String,
    /// Its stable name; none: the one in the state folder, made as `<hostname>-<4 random>` at the first start.
    pub name: Option<String>,
    /// Lanes that it takes from.
    pub queues: Vec<String>,
    /// What it has.
    pub labels: BTreeMap<String, String>,
    /// Runs at once.
    pub slots: u32,
    /// Whether it runs commands (kind `exec`).
    pub allow_exec: bool,
    /// The most that one attempt of a command gets; a run may ask for less.
    pub limits: Resources,
    /// Where name, secret, outbox and the folders of attempts live. Locked while the agent runs.
    pub state_dir: PathBuf,
    /// Take the name from a worker that still answers.
    pub takeover: bool,
    /// The command line that starts the guard; normally this binary and `guard`.
    pub guard: Vec<String>,
    /// Kinds that are handled inside this process.
    pub handlers: BTreeMap<String, Arc<dyn Handler>>,
    /// The version that it registers with.
    pub version: String,
}

impl AgentConfig {
    /// The kinds that it registers with.
    #[must_use]
    pub fn kinds(&self) -> Vec<String> {
        let exec = self.allow_exec.then(|| crate::runtime::EXEC.to_owned());
        exec.into_iter().chain(self.handlers.keys().cloned()).collect()
    }
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig")
            .field("servers", &self.servers)
            .field("name", &self.name)
            .field("queues", &self.queues)
            .field("slots", &self.slots)
            .field("state_dir", &self.state_dir)
            .field("kinds", &self.kinds())
            .finish_non_exhaustive()
    }
}

/// What an agent is asked for. It only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// Nothing: go on.
    #[default]
    No,
    /// The first SIGTERM: take nothing new, finish what is there, leave.
    Drain,
    /// The second one, or the end of somebody's patience: end what is there (TERM, grace, KILL), hand it back without cost, leave.
    HandBack,
}

/// Where an agent is; watched by whoever prints readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AgentStatus {
    /// State folder, guard and sweep.
    #[default]
    Starting,
    /// No session is open. Work goes on for as long as it is trusted.
    Connecting {
        /// The last thing that went wrong, if something did.
        problem: Option<String>,
    },
    /// A session is open and its first beat has been answered.
    Connected {
        /// Its row at the server.
        worker: WorkerId,
        /// Its stable name.
        name: String,
        /// Which of its starts this is.
        incarnation: Incarnation,
        /// Where.
        server: String,
    },
}

/// How an agent ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentExit {
    /// It drained and said goodbye; everything that it held is reported.
    Left,
    /// It handed work back but could not tell anybody: the outbox holds it until the next start.
    Unsent,
    /// A newer incarnation has its name. Its work has been killed.
    Replaced,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another worker answers under this name.
    #[error(
        "the name \"{name}\" is in use by a worker that answers: {detail}. Choose another with --name, or take it with --takeover"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// In the server's words.
        detail: String,
    },
    /// Another agent runs on this state folder.
    #[error("the state folder {0} is locked by another agent; give this one a folder of its own with --state-dir")]
    StateLocked(PathBuf),
    /// The state folder cannot be used.
    #[error("the state folder {path} cannot be used: {source}")]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The guard did not start; without it no process may be started.
    #[error("the guard process cannot be started with {command:?}: {detail}")]
    Guard {
        /// Its command line.
        command: Vec<String>,
        /// Why.
        detail: String,
    },
    /// The server refuses this build or this registration.
    #[error("{0}")]
    Refused(String),
    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),
    /// A thread could not be started, or ended without a word.
    #[error("the agent cannot go on: {0}")]
    Internal(String),
}
