//! `outlive worker`: takes runs and does them.

use super::{Done, pair};
use crate::children;
use crate::config;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logs;
use crate::render::say;
use outlive_api::clock::SystemClock;
use outlive_core::resources::{Bytes, Resources};
use outlive_worker::{AgentConfig, AgentError, AgentExit, AgentStatus, Shutdown};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Start a worker
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive worker --allow-exec
  outlive worker --allow-exec --name gpu-7 --label gpu=a100 --queues training,default --slots 2
",
    after_help = "The first SIGTERM or Ctrl-C drains: it takes nothing new and finishes what it has. The second hands its work back at once;
its checkpoints stay, and another worker goes on. kill -9 is fine too."
)]
pub(crate) struct Args {
    /// Stable name; default: one made at the first start and kept in the state folder
    #[arg(long, env = "OUTLIVE_WORKER_NAME", value_name = "NAME", hide_env_values = true)]
    name: Option<String>,
    /// Queues that it takes from, separated by commas
    #[arg(
        long,
        env = "OUTLIVE_QUEUES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "default",
        hide_env_values = true
    )]
    queues: Vec<String>,
    /// What it has, for runs that require it; may be repeated
    #[arg(long = "label", env = "OUTLIVE_LABELS", value_name = "LABEL=VALUE", value_delimiter = ',', value_parser = pair, hide_env_values = true)]
    labels: Vec<(String, String)>,
    /// Runs at once
    #[arg(long, env = "OUTLIVE_SLOTS", value_name = "N", default_value_t = 4, hide_env_values = true)]
    slots: u32,
    /// Run commands: whoever may create runs may then run programs as this user
    #[arg(long, env = "OUTLIVE_ALLOW_EXEC", hide_env_values = true)]
    allow_exec: bool,
    /// The most memory of one attempt, such as 2GiB; a run may ask for less
    #[arg(long, env = "OUTLIVE_MEMORY_LIMIT", value_name = "SIZE", hide_env_values = true)]
    memory_limit: Option<Bytes>,
    /// The most processes of one attempt at once; a run may ask for less
    #[arg(long, env = "OUTLIVE_PIDS_LIMIT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..), hide_env_values = true)]
    pids_limit: Option<u64>,
    /// Where its name, its secret and reports not yet sent are kept; one worker each
    #[arg(
        long,
        env = "OUTLIVE_STATE_DIR",
        value_name = "DIR",
        default_value = ".outlive-worker",
        hide_env_values = true
    )]
    state_dir: PathBuf,
    /// Take the name from a worker that still answers
    #[arg(long, env = "OUTLIVE_TAKEOVER", hide_env_values = true)]
    takeover: bool,
    /// What to log: error, warn, info, debug
    #[arg(long, env = "OUTLIVE_LOG", value_name = "FILTER", default_value = "info", hide_env_values = true)]
    log: String,
    #[arg(long, hide = true)]
    supervised: bool,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    if args.supervised {
        children::end_with_parent()?;
    }
    logs::start(&args.log)?;
    if !args.allow_exec {
        return Err(Failure::usage("this worker would have nothing to do: it may not run commands")
            .hint("add --allow-exec; whoever may create runs may then run programs as this user"));
    }
    let config = AgentConfig {
        servers: cx.global.server.clone(),
        namespace: cx.global.namespace.clone(),
        name: args.name,
        queues: args.queues,
        labels: args.labels.into_iter().collect(),
        slots: args.slots,
        allow_exec: args.allow_exec,
        limits: Resources { memory: args.memory_limit, pids: args.pids_limit },
        state_dir: args.state_dir,
        takeover: args.takeover,
        guard: guard()?,
        handlers: BTreeMap::new(),
        version: crate::VERSION.to_owned(),
    };
    let (ask, asked) = watch::channel(Shutdown::No);
    let (tell, told) = watch::channel(AgentStatus::Starting);
    tokio::spawn(listen(ask));
    tokio::spawn(announce(told));
    end(outlive_worker::run(config, Arc::new(SystemClock), asked, tell).await)
}

/// The command line that starts the guard.
pub(crate) fn guard() -> Result<Vec<String>, Failure> {
    let binary = config::this_binary()?.into_os_string().into_string();
    let binary =
        binary.map_err(|path| Failure::failed(format!("this program's path is not UTF-8: {}", path.display())))?;
    Ok(vec![binary, "guard".to_owned()])
}

async fn listen(ask: watch::Sender<Shutdown>) {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    for wish in [Shutdown::Drain, Shutdown::HandBack] {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        say(match wish {
            Shutdown::Drain => "draining: finishing what is here, taking nothing new; once more to hand it back",
            _ => "handing the work back; other workers go on with it",
        });
        ask.send_replace(wish);
    }
}

/// One line at each change that a person wants to know.
async fn announce(mut told: watch::Receiver<AgentStatus>) {
    while told.changed().await.is_ok() {
        match &*told.borrow_and_update() {
            AgentStatus::Starting | AgentStatus::Connecting { problem: None } => {}
            AgentStatus::Connecting { problem: Some(problem) } => {
                say(&format!("not connected: {problem}. Trying again…"));
            }
            AgentStatus::Connected { worker, name, incarnation, server } => {
                say(&format!("worker {name} ({worker}, start {incarnation}) is online at {server}"));
            }
        }
    }
}

fn end(ended: Result<AgentExit, AgentError>) -> Done {
    match ended {
        Ok(AgentExit::Left) => Ok(Exit::Ok),
        Ok(AgentExit::Unsent) => {
            Err(Failure::new(Exit::Unreachable, "the server could not be told about finished work")
                .hint("the reports are kept in the state folder and sent at the next start"))
        }
        Ok(AgentExit::Replaced) => {
            Err(Failure::new(Exit::Conflict, "a newer worker has this name; its work here was ended")
                .hint("give each worker a name of its own with --name and a folder of its own with --state-dir"))
        }
        Err(e) => Err(Failure::new(exit(&e), e.to_string())),
    }
}

fn exit(e: &AgentError) -> Exit {
    match e {
        AgentError::NameInUse { .. } | AgentError::StateLocked(_) => Exit::Conflict,
        AgentError::Config(_) => Exit::Usage,
        AgentError::Refused(_) => Exit::NotAllowed,
        _ => Exit::Failed,
    }
}
