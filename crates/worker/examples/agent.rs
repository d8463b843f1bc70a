//! The smallest agent: `agent <server,server…> <state folder> [slots] [memory limit]`, and `agent guard`, which it starts by itself.
//!
//! The first SIGTERM drains, the second hands back. Tests use it as the agent that they stop and kill.

use outlive_api::clock::SystemClock;
use outlive_core::resources::Resources;
use outlive_worker::{AgentConfig, AgentStatus, Shutdown};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_default();
    if server == "guard" {
        return outlive_worker::guard_main();
    }
    let state_dir = arguments.next().unwrap_or_default().into();
    let slots = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(4);
    let limits = Resources { memory: arguments.next().and_then(|n| n.parse().ok()), pids: None };
    let this = std::env::current_exe().unwrap_or_default().to_string_lossy().into_owned();
    let config = AgentConfig {
        servers: server.split(',').map(str::to_owned).collect(),
        namespace: "default".into(),
        name: None,
        queues: vec!["default".into()],
        labels: BTreeMap::new(),
        slots,
        allow_exec: true,
        limits,
        state_dir,
        takeover: false,
        guard: vec![this, "guard".into()],
        handlers: BTreeMap::new(),
        version: "example".into(),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(run(config))
}

async fn run(config: AgentConfig) -> ExitCode {
    let (wanted, shutdown) = watch::channel(Shutdown::No);
    let (status, _) = watch::channel(AgentStatus::Starting);
    tokio::spawn(async move {
        let Ok(mut terms) = signal(SignalKind::terminate()) else { return };
        for wish in [Shutdown::Drain, Shutdown::HandBack] {
            terms.recv().await;
            wanted.send_replace(wish);
        }
        std::future::pending::<()>().await;
    });
    match outlive_worker::run(config, Arc::new(SystemClock), shutdown, status).await {
        Ok(exit) => {
            println!("{exit:?}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
