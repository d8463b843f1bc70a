//! `outlive runs`: what runs there are, and the filters that name several of them.

use super::{Done, runs_act, runs_output, runs_show};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ids;
use crate::render::{list, say};
use clap::Subcommand;
use outlive_api::client::Client;
use outlive_api::client::calls::RunFilter;
use outlive_api::runs::Run;

const EXAMPLES: &str = "Examples:
  outlive runs list --state running,queued
  outlive runs list --stuck any -o wide
  outlive runs show 3fa9c1b2
  outlive runs output 3fa9c1b2 --follow
  outlive runs cancel --queue nightly --state queued
";

/// List, show, follow, cancel and repeat runs
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true,
          after_help = "A run is named by the 8 digits that lists show, by any unique end or beginning of its id, or by all of it.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs, newest first
    List(ListArgs),
    /// One run: state, worker, limits, result
    Show(runs_show::ShowArgs),
    /// What a run wrote, stored or as it comes
    Output(runs_output::Args),
    /// Every attempt with its worker, times and end
    Attempts(runs_show::IdArgs),
    /// What happened to a run, oldest first
    Events(runs_show::IdArgs),
    /// Why a run is where it is
    Explain(runs_show::IdArgs),
    /// End runs: TERM, grace, KILL
    Cancel(runs_act::CancelArgs),
    /// Start ended runs again, each as a new run
    Retry(runs_act::RetryArgs),
    /// Let held or scheduled runs go now
    Release(runs_act::ReleaseArgs),
    /// Send a message to running attempts
    Signal(runs_act::SignalArgs),
    /// Delete ended runs with their output
    Delete(runs_act::DeleteArgs),
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    match args.command {
        Command::List(args) => show_list(cx, &args).await,
        Command::Show(args) => runs_show::show(cx, &args).await,
        Command::Output(args) => runs_output::run(cx, &args).await,
        Command::Attempts(args) => runs_show::attempts(cx, &args).await,
        Command::Events(args) => runs_show::events(cx, &args).await,
        Command::Explain(args) => runs_show::explain(cx, &args).await,
        Command::Cancel(args) => runs_act::cancel(cx, &args).await,
        Command::Retry(args) => runs_act::retry(cx, &args).await,
        Command::Release(args) => runs_act::release(cx, &args).await,
        Command::Signal(args) => runs_act::signal(cx, &args).await,
        Command::Delete(args) => runs_act::delete(cx, &args).await,
    }
}

/// The API's filters, the same for every command that takes several runs.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// States, separated by commas; "active" and "ended" stand for many
    #[arg(long, value_name = "STATE", default_value = "", hide_default_value = true)]
    state: String,
    /// Queue
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    queue: String,
    /// Kind
    #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
    kind: String,
    /// Name of the worker that has it
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    worker: String,
    /// What it is about
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    subject: String,
    /// Serial key
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    serial_key: String,
    /// Run that it belongs to (whole id)
    #[arg(long, value_name = "RUN", default_value = "", hide_default_value = true)]
    parent: String,
    /// Tag, as name=value
    #[arg(long, value_name = "NAME=VALUE", default_value = "", hide_default_value = true)]
    tag: String,
    /// Kind of stuck, or any
    #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
    stuck: String,
    /// Reason code
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    reason: String,
}

const ACTIVE: &str = "held,scheduled,queued,claimed,running,cancelling";
const ENDED: &str = "succeeded,failed,cancelled,timed_out,lost,expired";

impl Filter {
    /// By states alone.
    pub(crate) fn states(states: &str) -> Self {
        Self { state: states.to_owned(), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let fields = [&self.state, &self.queue, &self.kind, &self.worker, &self.subject];
        let more = [&self.serial_key, &self.parent, &self.tag, &self.stuck, &self.reason];
        fields.iter().chain(&more).all(|f| f.is_empty())
    }

    fn query(&self) -> RunFilter {
        let state = self.state.split(',').map(|s| match s {
            "active" => ACTIVE,
            "ended" => ENDED,
            other => other,
        });
        RunFilter {
            state: state.collect::<Vec<_>>().join(","),
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            worker: self.worker.clone(),
            subject: self.subject.clone(),
            serial_key: self.serial_key.clone(),
            parent: self.parent.clone(),
            tag: self.tag.replacen('=', ":", 1),
            stuck: self.stuck.clone(),
            reason: self.reason.clone(),
            ..RunFilter::default()
        }
    }
}

/// Runs in one page of a list.
const PAGE: u32 = 200;

/// Up to `limit` runs that match, over as many pages as it takes; and whether there are more.
pub(crate) async fn matching(client: &Client, filter: &Filter, limit: usize) -> Result<(Vec<Run>, bool), Failure> {
    let mut query = filter.query();
    let mut found = Vec::new();
    loop {
        let wanted = u32::try_from(limit - found.len()).unwrap_or(PAGE).min(PAGE);
        query.limit = Some(wanted);
        let page = client.runs(&query).await?;
        found.extend(page.runs);
        match page.next_cursor {
            None => return Ok((found, false)),
            Some(_) if found.len() >= limit => return Ok((found, true)),
            Some(cursor) => query.cursor = cursor,
        }
    }
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

async fn show_list(cx: &Context, args: &ListArgs) -> Done {
    let client = cx.client()?;
    let (runs, more) = matching(&client, &args.filter, args.limit.max(1)).await?;
    let empty = if args.filter.is_empty() {
        "no runs yet. Start one: outlive run -- echo hello"
    } else {
        "no run matches these filters"
    };
    list(&cx.look, &runs, empty)?;
    if more && cx.look.width.is_some() {
        say(&format!("there are more; show them with --limit {}", args.limit * 10));
    }
    Ok(Exit::Ok)
}

/// The runs that a command names: by ids, or all that match.
#[derive(Debug, clap::Args)]
pub(crate) struct Several {
    #[arg(value_name = "RUN", help = ids::RUN_HELP)]
    runs: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask before acting on all runs that match
    #[arg(short, long)]
    yes: bool,
}

/// The most runs on which one command acts.
const BULK: usize = 10_000;

impl Several {
    /// Resolves the names; before acting on all matches a person is asked.
    pub(crate) async fn resolve(&self, client: &Client, verb: &str) -> Result<Vec<outlive_core::RunId>, Failure> {
        if self.runs.is_empty() == self.filter.is_empty() {
            return Err(Failure::usage(format!("name the runs to {verb}, or filters that select them (and not both)"))
                .hint(format!(
                    "outlive runs {verb} 3fa9c1b2     or     outlive runs {verb} --queue NAME --state STATE"
                )));
        }
        if !self.runs.is_empty() {
            let mut ids = Vec::with_capacity(self.runs.len());
            for text in &self.runs {
                ids.push(ids::run(client, text).await?);
            }
            return Ok(ids);
        }
        let (runs, more) = matching(client, &self.filter, BULK).await?;
        if more {
            say(&format!("more than {BULK} runs match; acting on the newest {BULK}"));
        }
        if !runs.is_empty() && !self.yes {
            runs_act::confirm(verb, runs.len())?;
        }
        Ok(runs.iter().map(|r| r.id).collect())
    }
}
