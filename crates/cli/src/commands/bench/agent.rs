//! A worker whose handler does nothing, in a process of its own, so that its processor time can be told from the load's.

use super::super::Done;
use super::super::worker::guard;
use crate::children;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logs;
use outlive_api::clock::{SystemClock, nanos};
use outlive_api::session::Lease;
use outlive_worker::{AgentConfig, AgentStatus, Attempt, Handler, Shutdown};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Runs that do nothing.
pub(super) const KIND: &str = "bench.noop";
/// Runs whose handler prints the run's id and the monotonic time of its start.
pub(super) const KIND_STAMPED: &str = "bench.stamp";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(long, hide = true)]
    name: String,
    #[arg(long, hide = true)]
    slots: u32,
    #[arg(long, hide = true)]
    state_dir: PathBuf,
    #[arg(long, hide = true)]
    supervised: bool,
}

struct Noop;

impl Handler for Noop {
    fn start(&self, _: Lease, attempt: Attempt) {
        attempt.complete(None);
    }
}

struct Stamped;

impl Handler for Stamped {
    fn start(&self, lease: Lease, attempt: Attempt) {
        let at = nanos();
        drop(writeln!(std::io::stdout().lock(), "{} {at}", lease.run_id));
        attempt.complete(None);
    }
}

pub(super) async fn run(cx: &Context, args: Args) -> Done {
    if args.supervised {
        children::end_with_parent()?;
    }
    logs::start("warn")?;
    let mut handlers: BTreeMap<String, Arc<dyn Handler>> = BTreeMap::new();
    handlers.insert(KIND.to_owned(), Arc::new(Noop));
    handlers.insert(KIND_STAMPED.to_owned(), Arc::new(Stamped));
    let config = AgentConfig {
        servers: cx.global.server.clone(),
        namespace: cx.global.namespace.clone(),
        name: Some(args.name),
        queues: vec!["default".to_owned()],
        labels: BTreeMap::new(),
        slots: args.slots,
        allow_exec: false,
        limits: outlive_core::resources::Resources::default(),
        state_dir: args.state_dir,
        takeover: false,
        guard: guard()?,
        handlers,
        version: crate::VERSION.to_owned(),
    };
    let (ask, asked) = watch::channel(Shutdown::No);
    let (tell, _told) = watch::channel(AgentStatus::Starting);
    tokio::spawn(async move {
        super::super::server::asked_to_stop().await;
        ask.send_replace(Shutdown::HandBack);
    });
    let ended = outlive_worker::run(config, Arc::new(SystemClock), asked, tell).await;
    ended.map(|_| Exit::Ok).map_err(|e| Failure::failed(e.to_string()))
}
