//! `outlive run`: any command as a durable run.

use super::{Done, pair};
use crate::config;
use crate::context::{Context, is_local};
use crate::exit::{Exit, Failure, of_state};
use crate::follow::{Follow, Followed, follow, say_detached};
use crate::ids::{new_run as new_run_id, spoken};
use crate::render::{Format, one, print, say, text};
use outlive_api::client::output::OutputQuery;
use outlive_api::client::{Client, ClientError};
use outlive_api::clock::SystemClock;
use outlive_api::runs::{ExecInput, NewRun, OnConflict, OutputFormat, Run};
use outlive_core::clock::Clock as _;
use outlive_core::resources::{Bytes, Resources};
use outlive_core::{Json, Millis, RunId, Wall};
use std::io::Read as _;
use std::path::Path;

const EXAMPLES: &str = "Examples:
  outlive run -- sh -c 'for i in 1 2 3; do echo tick $i; sleep 1; done'
  outlive run --detach --key nightly --on-conflict return -- ./sync.sh
  outlive run --require gpu=a100 --timeout 2h --env TOKEN -- python train.py
  outlive run --wait=30s -o json -- ./report --last-month
";

/// Run a command that survives its worker
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, after_help = "Exit code: 0 succeeded, 10 failed, 11 cancelled, 12 lost or timed out, 7 the wait was over first.
Ctrl-C detaches; the run goes on. Every flag has a variable, OUTLIVE_RUN_<FLAG>, and a key in [run] of outlive.toml.")]
pub(crate) struct Args {
    /// Print the id and do not wait
    #[arg(short, long, conflicts_with = "wait")]
    detach: bool,
    /// Wait for the end without live output, at most TIME, then print the run
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "forever")]
    wait: Option<String>,
    /// Only the run's own output; no talk
    #[arg(short, long)]
    quiet: bool,
    /// Queue
    #[arg(long, value_name = "NAME", default_value = "default", help_heading = "Where and when")]
    queue: String,
    /// Only the worker of this name
    #[arg(long, value_name = "WORKER", help_heading = "Where and when")]
    pin: Option<String>,
    /// Only workers with this label; may be repeated
    #[arg(long, value_name = "LABEL=VALUE", value_parser = pair, help_heading = "Where and when")]
    require: Vec<(String, String)>,
    /// -100 to 100; one step is worth a minute of waiting
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, help_heading = "Where and when",
          value_parser = clap::value_parser!(i16).range(-100..=100))]
    priority: i16,
    /// Unique among the active runs of the queue
    #[arg(long, value_name = "KEY", help_heading = "Where and when")]
    key: Option<String>,
    /// What a taken key does: reject, return or replace
    #[arg(long, value_name = "HOW", default_value = "reject", value_parser = ["reject", "return", "replace"], hide_possible_values = true, help_heading = "Where and when")]
    on_conflict: String,
    /// Runs with the same one never run at the same time
    #[arg(long, value_name = "KEY", help_heading = "Where and when")]
    serial_key: Option<String>,
    /// What the run is about, as outlive subjects shows it: an agent, an issue; up to four
    #[arg(long, value_name = "NAME", help_heading = "Where and when")]
    subject: Vec<String>,
    /// Not before: a time (RFC 3339), or how long from now
    #[arg(long, value_name = "TIME", value_parser = point_in_time, conflicts_with = "hold", help_heading = "Where and when")]
    run_at: Option<Wall>,
    /// Not before somebody says: outlive runs release RUN
    #[arg(long, help_heading = "Where and when")]
    hold: bool,
    /// A variable: NAME=VALUE, or NAME to pass the caller's; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "The process")]
    env: Vec<String>,
    /// Directory; default: the caller's if the server is on this machine, else a private temporary one
    #[arg(long, value_name = "DIR", help_heading = "The process")]
    cwd: Option<String>,
    /// File for its standard input; - for the caller's
    #[arg(long, value_name = "FILE", help_heading = "The process")]
    stdin: Option<String>,
    /// What its stdout is: text, or json, yaml, jsonl to make it the run's result
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json", "yaml", "jsonl"], hide_possible_values = true, help_heading = "The process")]
    output_format: String,
    /// One attempt's longest run (queue's default: 24h)
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    timeout: Option<Millis>,
    /// Longest time without progress, output or checkpoint (queue's default: off)
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    progress_timeout: Option<Millis>,
    /// Longest wait for its first worker; then it expires (queue's default: off)
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    queue_ttl: Option<Millis>,
    /// Memory of one attempt, such as 512MiB; who uses more is killed, and the attempt fails
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    memory: Option<Bytes>,
    /// Processes of one attempt at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pids: Option<u64>,
    /// Failures of the command before the run fails (queue's default: 3)
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_attempts: Option<u32>,
    /// For filters; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, help_heading = "Limits")]
    tag: Vec<(String, String)>,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let wait = args.wait.as_deref().map(limit).transpose()?;
    let client = cx.client()?;
    let new = new_run(&client, &args)?;
    let run = client.create_run(&new, None).await?;
    if !args.quiet {
        run.warnings.iter().for_each(|w| say(&format!("note: {w}")));
    }
    if args.detach {
        return detached(cx, &run, args.quiet);
    }
    if let Some(limit) = wait {
        return waited(cx, &client, run.id, limit).await;
    }
    let what = Follow { id: run.id, what: OutputQuery::default(), talk: !args.quiet };
    if let Followed::Ended(_) = follow(&client, what, &cx.look, None).await? {
        return ended(&client, run.id, args.quiet).await;
    }
    say_detached(run.id);
    Ok(Exit::Ok)
}

fn limit(text: &str) -> Result<Option<Millis>, Failure> {
    if text == "forever" {
        Ok(None)
    } else {
        text.parse().map(Some).map_err(|e| Failure::usage(format!("--wait: {e}")))
    }
}

fn new_run(client: &Client, args: &Args) -> Result<NewRun, Failure> {
    let here = config::current_dir().filter(|_| is_local(client));
    let cwd = match (&args.cwd, here) {
        (Some(dir), Some(here)) => Some(Path::new(&here).join(dir).to_string_lossy().into_owned()),
        (Some(dir), None) => Some(dir.clone()),
        (None, here) => here,
    };
    let (on_conflict, output_format) =
        (named::<OnConflict>(&args.on_conflict)?, named::<OutputFormat>(&args.output_format)?);
    let limits = Resources { memory: args.memory, pids: args.pids };
    let input = ExecInput {
        command: args.command.clone(),
        cwd,
        env: args.env.iter().map(|e| variable(e)).collect::<Result<_, _>>()?,
        stdin: args.stdin.as_deref().map(read_stdin).transpose()?,
        output_format,
        strict_output: true,
        limits: (!limits.is_unlimited()).then(|| limits.into()),
    };
    Ok(NewRun {
        id: Some(new_run_id()),
        queue: args.queue.clone(),
        pin: args.pin.clone(),
        requires: args.require.iter().cloned().collect(),
        priority: args.priority,
        key: args.key.clone(),
        on_conflict,
        serial_key: args.serial_key.clone(),
        subjects: args.subject.clone(),
        run_at: args.run_at,
        hold: args.hold,
        run_timeout: args.timeout,
        progress_timeout: args.progress_timeout,
        queue_ttl: args.queue_ttl,
        max_attempts: args.max_attempts,
        tags: args.tag.iter().cloned().collect(),
        ..NewRun::of("exec", Json::of(&input)?)
    })
}

/// `2026-11-22T10:00:00Z`, or `10m` from now.
fn point_in_time(text: &str) -> Result<Wall, String> {
    match text.parse::<Millis>() {
        Ok(wait) => Ok(SystemClock.wall() + wait),
        Err(_) => outlive_api::time::parse(text).map_err(|e| format!("{e}, nor a duration like 10m")),
    }
}

fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, Failure> {
    Ok(serde_json::from_value(serde_json::Value::String(name.to_owned()))?)
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    if let Ok(pair) = pair(text) {
        return Ok(pair);
    }
    match config::variable(text) {
        Some(value) => Ok((text.to_owned(), value)),
        None => Err(Failure::usage(format!("--env {text}: the variable is not set here"))
            .hint(format!("set it, or write --env {text}=VALUE"))),
    }
}

fn read_stdin(file: &str) -> Result<String, Failure> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    let bytes = bytes.map_err(|e| Failure::usage(format!("--stdin {file}: {e}")))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("--stdin {file}: not UTF-8; pass a file's path instead")))
}

fn detached(cx: &Context, run: &Run, quiet: bool) -> Done {
    let short = text::short(run.id);
    match cx.look.format {
        Format::Table | Format::Wide | Format::Id => print(&run.id.to_string())?,
        _ => one(&cx.look, run, &short, String::new)?,
    }
    if !quiet && cx.look.is_live() {
        say(&format!("follow it with: outlive runs output {short} --follow"));
    }
    Ok(Exit::Ok)
}

/// The server answers a wait after at most this long.
const ONE_WAIT: Millis = Millis::secs(30);

async fn waited(cx: &Context, client: &Client, id: RunId, limit: Option<Millis>) -> Done {
    let wait = async {
        loop {
            match client.run_wait(id, ONE_WAIT).await {
                Ok(run) if run.state.is_terminal() => return Ok::<_, ClientError>(run),
                Ok(_) => {}
                Err(ClientError::Unreachable { .. }) => tokio::time::sleep(std::time::Duration::from_millis(500)).await,
                Err(e) => return Err(e),
            }
        }
    };
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit.duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        run = wait => {
            let run = run?;
            super::runs_show::show_run(cx, &run)?;
            Ok(of_state(run.state))
        }
        () = over => {
            let after = limit.unwrap_or_default();
            Err(Failure::new(Exit::WaitTimedOut, format!("{} has not ended after {after}; it goes on", spoken(id)))
                .hint(format!("follow it with: outlive runs output {} --follow", text::short(id))))
        }
        _ = tokio::signal::ctrl_c() => {
            say_detached(id);
            Ok(Exit::Ok)
        }
    }
}

/// What is left to say when the output is over.
async fn ended(client: &Client, id: RunId, quiet: bool) -> Done {
    let run = client.run(id).await?;
    if let Some(result) = &run.result {
        print(result.text())?;
    }
    if !quiet {
        say(&verdict(&run));
    }
    Ok(of_state(run.state))
}

/// One sentence about a run's end.
pub(crate) fn verdict(run: &Run) -> String {
    let name = spoken(run.id);
    let state = run.state.as_str().replace('_', " ");
    if run.state == outlive_core::State::Succeeded {
        let lost = text::count(run.losses as usize, "lost attempt");
        return if run.losses > 0 {
            format!("── {name} {state} after {lost}")
        } else {
            format!("── {name} {state}")
        };
    }
    let exit = run.exit.as_ref().and_then(|e| match (&e.signal, e.code) {
        (Some(signal), _) => Some(format!("ended by {signal}")),
        (None, Some(code)) if code != 0 => Some(format!("exit code {code}")),
        _ => None,
    });
    let said = run.error.as_ref().map(|e| e.message.clone()).filter(|m| !m.is_empty());
    let why = said.or(exit).or_else(|| run.reason_text.clone()).unwrap_or_default();
    let tries =
        if run.failures > 1 { format!(" (attempt {} of {})", run.failures, run.max_attempts) } else { String::new() };
    let colon = if why.is_empty() { "" } else { ": " };
    format!("── {name} {state}{tries}{colon}{why}")
}
