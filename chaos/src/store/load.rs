//! The clients of this load, and how many there are of everybody.

use crate::load::watcher::{WATCHERS, watcher};
use crate::load::{Load, poller};
use crate::rng::Rng;
use outlive_api::runs::NewRun;
use outlive_core::{Json, Millis, RunId};
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_local};

/// Clients that ask for runs, and polling workers.
const CLIENTS: u64 = 3;
const POLLERS: u64 = 3;
/// How often the polling workers say that they are heard.
const POLLING: Millis = Millis::secs(5);
/// Runs that one client has open at most: the load follows what the server can do.
const OPEN: usize = 24;
/// Runs that one client asks for per kill, at most.
const RUNS_PER_KILL: u64 = 40;
/// Lines of a command.
pub(super) const LINES: u64 = 4;

pub(super) fn start(load: &Arc<Load>, rng: &mut Rng, kills: u32) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let most = RUNS_PER_KILL * u64::from(kills.max(1));
    for _ in 0..CLIENTS {
        tasks.push(spawn_local(client(Arc::clone(load), rng.fork(), most)));
    }
    for n in 0..POLLERS {
        tasks.push(spawn_local(poller::poller(Arc::clone(load), rng.fork(), n, POLLING)));
    }
    for n in 0..WATCHERS {
        tasks.push(spawn_local(watcher(Arc::clone(load), rng.fork(), n)));
    }
    tasks
}

/// Asks for runs, `most` of them.
async fn client(load: Arc<Load>, mut rng: Rng, most: u64) {
    let mut mine: Vec<RunId> = Vec::new();
    let mut asked = 0;
    while !load.is_closed() && asked < most {
        asked += 1;
        let mut run = new_run(&mut rng);
        // Half of the callers choose the id, half send a key.
        let key = (rng.below(2) == 0).then(|| format!("ask-{}", rng.next()));
        if key.is_none() {
            run.id = Some(rng.run_id());
        }
        mine.extend(load.create(load.next_ask(), run, key.as_deref()).await);
        if load.is_over() {
            return;
        }
        if rng.below(12) == 0 && !mine.is_empty() {
            let id = mine[usize::try_from(rng.below(mine.len() as u64)).unwrap_or(0)];
            load.cancel(id).await;
        }
        while mine.len() >= OPEN && !load.is_over() {
            let oldest = mine[0];
            match load.until_answered(async || load.client.run_wait(oldest, Millis::secs(1)).await).await {
                None => return,
                Some(Ok(run)) if !run.state.is_terminal() => {}
                Some(_) => drop(mine.remove(0)),
            }
        }
    }
}

fn new_run(rng: &mut Rng) -> NewRun {
    if rng.below(8) == 0 {
        let script = format!("for i in $(seq {LINES}); do echo \"$OUTLIVE_EPOCH.$i\"; done");
        let input = Json::of(&serde_json::json!({"command": ["sh", "-c", script]}));
        NewRun::of("exec", input.unwrap_or_else(|_| Json::null()))
    } else {
        let input = Json::of(&"x".repeat(usize::try_from(rng.below(4_000)).unwrap_or(0)));
        NewRun::of(poller::KIND, input.unwrap_or_else(|_| Json::null()))
    }
}
