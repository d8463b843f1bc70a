//! `outlive runs show|attempts|events|explain`: one run from all sides.

use super::Done;
use super::run::verdict;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ids;
use crate::render::table::{Field, Tone, card};
use crate::render::{Format, Look, list, one, rows, text};
use outlive_api::runs::Run;
use outlive_api::time;
use outlive_core::{Json, Wall};

#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    #[arg(value_name = "RUN", help = ids::RUN_HELP)]
    run: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "RUN", help = ids::RUN_HELP)]
    run: String,
}

pub(crate) async fn show(cx: &Context, args: &ShowArgs) -> Done {
    let client = cx.client()?;
    let run = client.run(ids::run(&client, &args.run).await?).await?;
    show_run(cx, &run)?;
    Ok(Exit::Ok)
}

/// One run in the format that was asked for.
pub(crate) fn show_run(cx: &Context, run: &Run) -> Result<(), Failure> {
    one(&cx.look, run, &run.id.to_string(), || card(&cx.look, &fields(&cx.look, run)))
}

fn fields(look: &Look, run: &Run) -> Vec<(&'static str, Field)> {
    let at = |t: Option<Wall>| t.map(|t| format!("{} ({} ago)", time::text(t), text::age(look, t))).unwrap_or_default();
    let json = |j: &Option<Json>| j.as_ref().map(|j| j.text().to_owned()).unwrap_or_default();
    let opt = |t: &Option<String>| t.clone().unwrap_or_default();
    let worker = run.lease.as_ref().map(|l| format!("{} (start {} of it)", l.worker_name, l.incarnation));
    let stuck = run.stuck.as_ref().map(|s| format!("{}: {}", s.kind, s.why)).unwrap_or_default();
    let end = if run.state.is_terminal() { verdict(run) } else { String::new() };
    let took = run.started_at.map(|s| text::span(run.finished_at.unwrap_or(look.now).since(s)));
    let losses = if run.losses > 0 { format!(", {} lost", run.losses) } else { String::new() };
    let last = |t: &Option<String>| t.as_deref().map(|t| t.trim_end().to_owned()).unwrap_or_default();
    vec![
        ("run", run.id.to_string().into()),
        ("state", text::state(run.state)),
        ("end", end.trim_start_matches("── ").to_owned().into()),
        ("stuck", Field::toned(stuck, Tone::Bad)),
        ("reason", run.reason_text.clone().filter(|_| !run.state.is_terminal()).unwrap_or_default().into()),
        ("worker", worker.unwrap_or_default().into()),
        ("what", rows::what(run).into()),
        ("queue", run.queue.clone().into()),
        ("attempt", format!("{} of {}{losses} (epoch {})", run.attempt, run.max_attempts, run.epoch).into()),
        ("progress", rows::note(run).into()),
        ("checkpoint", json(&run.checkpoint).into()),
        ("created", at(Some(run.created_at)).into()),
        ("not before", at(run.run_at).into()),
        ("started", at(run.started_at).into()),
        ("finished", at(run.finished_at).into()),
        ("took", took.unwrap_or_default().into()),
        ("key", opt(&run.key).into()),
        ("serial key", opt(&run.serial_key).into()),
        ("pin", opt(&run.pin).into()),
        ("requires", text::pairs(&run.requires).into()),
        ("tags", text::pairs(&run.tags).into()),
        ("subjects", run.subjects.join(", ").into()),
        ("parent", run.parent.map(|p| p.to_string()).unwrap_or_default().into()),
        ("retry of", run.retry_of.map(|p| p.to_string()).unwrap_or_default().into()),
        ("warnings", run.warnings.join("; ").into()),
        ("result", json(&run.result).into()),
        ("stdout", tail(&last(&run.stdout)).into()),
        ("stderr", tail(&last(&run.stderr)).into()),
    ]
}

/// The last lines of a text; all of it is what `runs output` is for.
fn tail(text: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<_> = text.lines().collect();
    let more = lines.len().saturating_sub(LINES);
    let shown = lines[more..].join("\n");
    if more > 0 { format!("… {} before\n{shown}", text::count(more, "line")) } else { shown }
}

pub(crate) async fn attempts(cx: &Context, args: &IdArgs) -> Done {
    let client = cx.client()?;
    let found = client.attempts(ids::run(&client, &args.run).await?).await?;
    list(&cx.look, &found.attempts, "no worker has taken it yet. Why: outlive runs explain RUN")?;
    Ok(Exit::Ok)
}

pub(crate) async fn events(cx: &Context, args: &IdArgs) -> Done {
    let client = cx.client()?;
    let found = client.run_events(ids::run(&client, &args.run).await?).await?;
    list(&cx.look, &found.events, "nothing has happened to it yet")?;
    Ok(Exit::Ok)
}

pub(crate) async fn explain(cx: &Context, args: &IdArgs) -> Done {
    let client = cx.client()?;
    explain_run(cx, &client, &args.run).await
}

/// Why a run is where it is.
pub(crate) async fn explain_run(cx: &Context, client: &outlive_api::client::Client, name: &str) -> Done {
    let id = ids::run(client, name).await?;
    let explanation = client.explain(id).await?;
    one(&cx.look, &explanation, &id.to_string(), || {
        let mut lines = vec![format!("{} is {}", ids::spoken(id), explanation.state)];
        for because in &explanation.because {
            lines.push(format!("  {}: {}", because.code, because.detail));
        }
        if explanation.because.is_empty() && cx.look.format == Format::Table {
            lines.push("  nothing keeps it there".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(Exit::Ok)
}
