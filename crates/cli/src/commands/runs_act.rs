//! `outlive runs cancel|retry|release|signal|delete`: on named runs, or on all that match.

use super::Done;
use super::runs::Several;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ids::spoken;
use crate::render::{Format, list, print, say, text};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outlive_api::client::ClientError;
use outlive_api::runs::{CancelBody, ReleaseBody, RetryBody, Run, SignalBody};
use outlive_core::{Json, RunId};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    several: Several,
    /// Why, for people
    #[arg(long = "because", value_name = "TEXT")]
    reason_text: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    several: Several,
    /// Start from the old run's last checkpoint
    #[arg(long)]
    from_checkpoint: bool,
    /// Another input, as JSON
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    several: Several,
    /// Reaches the next attempt as its resume data, as JSON
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SignalArgs {
    /// The message's name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Its content, as JSON (at most 64 KiB)
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    #[command(flatten)]
    several: Several,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    several: Several,
}

pub(crate) async fn cancel(cx: &Context, args: &CancelArgs) -> Done {
    let client = cx.client()?;
    let body = CancelBody { reason: args.reason_text.clone() };
    let ids = args.several.resolve(&client, "cancel").await?;
    let done = each(&ids, "cancelling", async |id| client.cancel_run(id, &body).await).await;
    finish(cx, done, |run| {
        if run.state.is_terminal() {
            format!("{} is {}", spoken(run.id), run.state)
        } else {
            format!("{} is told to stop (TERM, then KILL after its grace)", spoken(run.id))
        }
    })
}

pub(crate) async fn retry(cx: &Context, args: &RetryArgs) -> Done {
    let client = cx.client()?;
    let input = json(args.input.as_deref(), "--input")?;
    let body = RetryBody { input, from_checkpoint: args.from_checkpoint };
    let ids = args.several.resolve(&client, "retry").await?;
    let done = each(&ids, "starting", async |id| client.retry_run(id, &body).await).await;
    finish(cx, done, |run| {
        let old = run.retry_of.map(text::short).unwrap_or_default();
        format!(
            "{} is a new try of {old}. Follow it: outlive runs output {} --follow",
            spoken(run.id),
            text::short(run.id)
        )
    })
}

pub(crate) async fn release(cx: &Context, args: &ReleaseArgs) -> Done {
    let client = cx.client()?;
    let body = ReleaseBody { data: json(args.data.as_deref(), "--data")? };
    let ids = args.several.resolve(&client, "release").await?;
    let done = each(&ids, "releasing", async |id| client.release_run(id, &body).await).await;
    finish(cx, done, |run| format!("{} is {}", spoken(run.id), run.state))
}

pub(crate) async fn signal(cx: &Context, args: &SignalArgs) -> Done {
    let client = cx.client()?;
    let body = SignalBody { name: args.name.clone(), data: json(args.data.as_deref(), "--data")? };
    let ids = args.several.resolve(&client, "signal").await?;
    let done = each(&ids, "signalling", async |id| client.signal_run(id, &body).await).await;
    finish(cx, done, |run| {
        let worker = run.lease.as_ref().map_or_else(String::new, |l| format!(" at {}", l.worker_name));
        format!("{} is told \"{}\"{worker} (epoch {})", spoken(run.id), body.name, run.epoch)
    })
}

pub(crate) async fn delete(cx: &Context, args: &DeleteArgs) -> Done {
    let client = cx.client()?;
    let ids = args.several.resolve(&client, "delete").await?;
    let (gone, failures) = each(&ids, "deleting", async |id| client.delete_run(id).await.map(|()| id)).await;
    if matches!(cx.look.format, Format::Table | Format::Wide) {
        say(&format!("deleted {}", text::count(gone.len(), "run")));
    } else {
        gone.iter().try_for_each(|id| print(&id.to_string()))?;
    }
    outcome(failures)
}

fn json(text: Option<&str>, flag: &str) -> Result<Option<Json>, Failure> {
    let parse = |t: &str| Json::parse(t.to_owned()).map_err(|e| Failure::usage(format!("{flag} is not JSON: {e}")));
    text.map(parse).transpose()
}

/// From this many on, a bar shows how far it is.
const BAR_FROM: usize = 20;

async fn each<T>(
    ids: &[RunId],
    verb: &str,
    act: impl AsyncFn(RunId) -> Result<T, ClientError>,
) -> (Vec<T>, Vec<(RunId, ClientError)>) {
    let shown = ids.len() >= BAR_FROM && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(ids.len() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_message(verb.to_owned());
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for &id in ids {
        match act(id).await {
            Ok(value) => done.push(value),
            Err(e) => failed.push((id, e)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    (done, failed)
}

fn finish(
    cx: &Context,
    (runs, failures): (Vec<Run>, Vec<(RunId, ClientError)>),
    line: impl Fn(&Run) -> String,
) -> Done {
    match cx.look.format {
        Format::Table if runs.len() <= BAR_FROM => runs.iter().for_each(|run| say(&line(run))),
        Format::Table => say(&format!("done: {}", text::count(runs.len(), "run"))),
        _ => list(&cx.look, &runs, "no run")?,
    }
    if runs.is_empty() && failures.is_empty() {
        say("no run matches");
    }
    outcome(failures)
}

/// One failure is the command's; of several, each is named and the last decides.
fn outcome(mut failures: Vec<(RunId, ClientError)>) -> Done {
    let Some((last, error)) = failures.pop() else { return Ok(Exit::Ok) };
    for (id, error) in failures {
        say(&format!("{}: {error}", spoken(id)));
    }
    let failure = Failure::from(error);
    Err(Failure { message: format!("{}: {}", spoken(last), failure.message), ..failure })
}

/// Asks before acting on many; without a terminal there is nobody to ask.
pub(crate) fn confirm(verb: &str, count: usize) -> Result<(), Failure> {
    let runs = text::count(count, "run");
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("this would {verb} {runs}")).hint("say --yes to do it without being asked"));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{verb} {runs}? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(Failure::new(Exit::Failed, "nothing done")) }
}
