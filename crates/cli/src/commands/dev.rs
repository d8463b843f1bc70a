//! `outlive dev`: a server and workers on this machine, with one command and no configuration.
//!
//! The server runs in this process; each worker is a process of its own, so that it can be killed. A worker that dies is
//! started again, in the same state folder.

use super::Done;
use super::server::{asked_to_stop, start};
use crate::children::{Child, how};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::LOOK;
use crate::logs;
use crate::render::table::{Tone, paint};
use crate::render::{Look, say, text};
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_api::ops::Setting;
use outlive_core::Millis;
use outlive_server::{Config, StoreLocation};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Start a server and workers here, for trying things out and for development
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  outlive dev
  outlive dev --workers 4 --listen 127.0.0.1:7071
  outlive dev --ephemeral                          in a temporary folder, removed at the end
")]
pub(crate) struct Args {
    /// Worker processes
    #[arg(long, env = "OUTLIVE_WORKERS", value_name = "N", default_value_t = 2, hide_env_values = true)]
    workers: u32,
    /// Runs at once, of each worker
    #[arg(long, env = "OUTLIVE_SLOTS", value_name = "N", default_value_t = 4, hide_env_values = true)]
    slots: u32,
    /// Queues that the workers take from, separated by commas
    #[arg(long, env = "OUTLIVE_QUEUES", value_name = "NAMES", default_value = "default", hide_env_values = true)]
    queues: String,
    /// Address and port; port 0 takes a free one
    #[arg(long, env = "OUTLIVE_LISTEN", value_name = "ADDRESS", default_value = outlive_api::DEFAULT_ADDRESS, hide_env_values = true)]
    listen: String,
    /// Where everything is kept
    #[arg(long, env = "OUTLIVE_DATA", value_name = "DIR", default_value = ".outlive", hide_env_values = true)]
    data: PathBuf,
    /// Keep everything in a temporary folder that is removed at the end
    #[arg(long, env = "OUTLIVE_EPHEMERAL", conflicts_with = "data", hide_env_values = true)]
    ephemeral: bool,
    /// Free space on the store's disk below which no new run is admitted (reports go on); 0: never
    #[arg(long, env = "OUTLIVE_LOW_DISK", value_name = "BYTES", default_value = "512MiB", value_parser = crate::bytes::parse, hide_env_values = true)]
    low_disk: u64,
    /// What the server logs: error, warn, info, debug
    #[arg(long, env = "OUTLIVE_LOG", value_name = "FILTER", default_value = "warn", hide_env_values = true)]
    log: String,
}

/// Where everything lies; a temporary folder goes when this goes.
struct Place {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    fn open(args: &Args) -> Result<Self, Failure> {
        if args.ephemeral {
            let folder = tempfile::Builder::new().prefix("outlive-dev-").tempdir()?;
            return Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) });
        }
        let path = std::path::absolute(&args.data)?;
        let made = std::fs::create_dir_all(path.join("workers"));
        made.map_err(|e| Failure::failed(format!("{} cannot be made: {e}", path.display())))?;
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(ignore, "*\n")?;
        }
        Ok(Self { path, temporary: None })
    }
}

pub(crate) async fn run(cx: &Context, args: Args, settings: Vec<Setting>) -> Done {
    let began = nanos();
    logs::start(&args.log)?;
    let place = Place::open(&args)?;
    std::fs::create_dir_all(place.path.join("workers"))?;
    let server = start(Config {
        listen: super::server::address(&args.listen)?,
        store: StoreLocation::Sqlite(place.path.join("outlive.db")),
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk: args.low_disk,
        liveness: None,
        settings,
        version: crate::VERSION.to_owned(),
    })
    .await?;
    let url = format!("http://{}", server.address());
    let (stop, stopping) = watch::channel(false);
    let mut workers = JoinSet::new();
    for number in 1..=args.workers {
        let post = Post::new(&args, &place.path, &url, number);
        workers.spawn(keep(post, stopping.clone()));
    }
    let client = Client::new(&url, &cx.global.namespace)?;
    let online = tokio::time::timeout(Duration::from_secs(10), online(&client, args.workers as usize)).await;
    let ready = Millis((nanos() - began) / 1_000_000);
    let look = Look { color: cx.look.color, ..cx.look };
    say(&block(&look, &args, &place, &url, &online.unwrap_or_default(), ready));
    let fatal = tokio::select! {
        () = asked_to_stop() => None,
        failure = super::server::broken(&server) => Some(failure),
    };
    let kept = if args.ephemeral { "the folder is removed" } else { "it goes on at the next start" };
    say(&format!("\nstopping: workers hand back what they have; {kept}"));
    stop.send_replace(true);
    let stopped = async { while workers.join_next().await.is_some() {} };
    tokio::select! {
        () = stopped => {}
        () = asked_to_stop() => say("not waiting for the workers"),
    }
    if let Some(fatal) = fatal {
        return Err(fatal);
    }
    server.stop().await;
    if let Some(folder) = place.temporary {
        folder.close()?;
    }
    Ok(Exit::Ok)
}

/// Waits until the workers are there; their names and processes.
async fn online(client: &Client, count: usize) -> Vec<(String, i64)> {
    loop {
        if let Ok(found) = client.workers().await {
            let mut online: Vec<_> = found.workers.into_iter().filter(|w| w.status == "online").collect();
            if online.len() >= count {
                online.sort_by(|a, b| a.name.cmp(&b.name));
                return online.into_iter().map(|w| (w.name, w.pid)).collect();
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn block(look: &Look, args: &Args, place: &Place, url: &str, workers: &[(String, i64)], ready: Millis) -> String {
    let quiet = |text: &str| paint(look, Tone::Quiet, text);
    let line = |title: &str, text: &str| format!("  {} {text}", quiet(&format!("{title:8}")));
    let names: Vec<_> = workers.iter().map(|(name, pid)| format!("{name} (pid {pid})")).collect();
    let names =
        if names.is_empty() { "not online yet; see the logs in the data folder".to_owned() } else { names.join(", ") };
    let kept = if args.ephemeral { "removed at the end" } else { "kept; delete the folder to start afresh" };
    let here = url == format!("http://{}", outlive_api::DEFAULT_ADDRESS);
    let export = if here { String::new() } else { format!("    export OUTLIVE_SERVER={url}\n") };
    let kill = workers.first().map_or(0, |(_, pid)| *pid);
    [
        format!("outlive {} is ready, {} after its start", crate::VERSION, text::span(ready)),
        line("server", &paint(look, Tone::Good, url)),
        line("workers", &names),
        line("data", &format!("{} ({kept})", place.path.display())),
        format!(
            "\n  {}\n{export}    outlive run -- sh -c 'for i in 1 2 3 4 5 6 7 8; do echo tick $i; sleep 1; done'",
            quiet("in another terminal")
        ),
        format!(
            "    outlive runs list\n    kill -9 {kill}                {}",
            quiet("# the run moves to the other worker; the first is started again")
        ),
        format!("\n  {}", quiet("Ctrl-C stops everything in order")),
    ]
    .join("\n")
}

/// The post of one worker: who stands there changes, name and folder stay.
struct Post {
    name: String,
    args: Vec<String>,
    log: PathBuf,
}

impl Post {
    fn new(args: &Args, data: &Path, url: &str, number: u32) -> Self {
        let name = format!("dev-{number}");
        let state = data.join("workers").join(&name).display().to_string();
        let slots = args.slots.to_string();
        let line = [
            "worker",
            "--server",
            url,
            "--name",
            &name,
            "--slots",
            &slots,
            "--queues",
            &args.queues,
            "--state-dir",
            &state,
            "--allow-exec",
            "--takeover",
        ];
        Self { args: line.map(str::to_owned).to_vec(), log: data.join("workers").join(format!("{name}.log")), name }
    }
}

/// Between two starts of a worker that keeps dying.
const RESTART: [u64; 5] = [0, 100, 500, 2_000, 5_000];
/// A worker that lived this long did not die of its start.
const LIVED: u64 = 5_000_000_000;

/// Keeps one worker running until everything stops.
async fn keep(post: Post, mut stopping: watch::Receiver<bool>) {
    let mut deaths = 0;
    loop {
        let began = nanos();
        let mut child = match Child::start(&post.name, &post.args, &post.log) {
            Ok(child) => child,
            Err(e) => return say(&format!("{e}")),
        };
        if deaths > 0 {
            say(&format!("{} is back as process {}", post.name, child.pid));
        }
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                child.stop(Duration::from_millis(300)).await;
                return;
            }
        };
        let Ok(status) = ended else { return };
        deaths = if nanos() - began > LIVED { 1 } else { deaths + 1 };
        let wait = Duration::from_millis(RESTART[(deaths - 1).min(RESTART.len() - 1)]);
        let log = if deaths > 2 { format!(" (see {})", post.log.display()) } else { String::new() };
        say(&format!("{} (process {}) {}; starting it again{log}", post.name, child.pid, how(status)));
        tokio::time::sleep(wait).await;
    }
}
