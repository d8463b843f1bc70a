//! `outlive workers`: who is there, and who should go.

use super::Done;
use crate::context::Context;
use crate::exit::Exit;
use crate::ids;
use crate::render::table::{Field, card};
use crate::render::{Format, Look, list, one, say, text};
use clap::Subcommand;
use outlive_api::workers::Worker;

const EXAMPLES: &str = "Examples:
  outlive workers list
  outlive workers show gpu-7
  outlive workers drain gpu-7        finish what it has, take nothing new
  outlive workers evict gpu-7        declare it lost: its runs go to others now
";

/// List, drain and evict workers
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Workers that are there or were lost; --all: also those that left
    List {
        /// Also those that left
        #[arg(short, long)]
        all: bool,
    },
    /// One worker: status, slots, the runs that it has
    Show(NameArgs),
    /// It takes nothing new and finishes or hands back what it has
    Drain(NameArgs),
    /// It takes work again
    Undrain(NameArgs),
    /// Declare it lost: its runs go to other workers
    Evict(NameArgs),
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// A worker's name or id
    worker: String,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    match args.command {
        Command::List { all } => {
            let mut workers = cx.client()?.workers().await?.workers;
            workers.retain(|w| all || w.status != "left");
            workers.sort_by(|a, b| a.name.cmp(&b.name));
            list(&cx.look, &workers, "no workers. Start one: outlive worker --allow-exec")?;
            Ok(Exit::Ok)
        }
        Command::Show(args) => {
            let worker = ids::worker(&cx.client()?, &args.worker).await?;
            one(&cx.look, &worker, &worker.id.to_string(), || card(&cx.look, &fields(&cx.look, &worker)))?;
            Ok(Exit::Ok)
        }
        Command::Drain(args) => act(cx, &args, "drain", "takes nothing new").await,
        Command::Undrain(args) => act(cx, &args, "undrain", "takes work again").await,
        Command::Evict(args) => act(cx, &args, "evict", "is declared lost; its runs go to others").await,
    }
}

async fn act(cx: &Context, args: &NameArgs, action: &str, done: &str) -> Done {
    let client = cx.client()?;
    let worker = ids::worker(&client, &args.worker).await?;
    let after = client.worker_action(worker.id, action).await?;
    match cx.look.format {
        Format::Table => say(&format!("{} {done}", after.name)),
        _ => list(&cx.look, &[after], "")?,
    }
    Ok(Exit::Ok)
}

fn fields(look: &Look, w: &Worker) -> Vec<(&'static str, Field)> {
    let held: Vec<_> = w.held.iter().map(|h| format!("{} (epoch {})", text::run_id(look, h.run_id), h.epoch)).collect();
    let heard = w
        .last_heard_age_ms
        .map(|age| format!("{} ago, written off after {}", text::ms(Some(age)), text::ms(Some(w.lease_ttl_ms))));
    vec![
        ("worker", w.name.clone().into()),
        ("id", w.id.to_string().into()),
        ("status", text::status(&w.status)),
        ("heard", heard.unwrap_or_default().into()),
        ("slots", format!("{} of {} taken", w.held.len(), w.slots).into()),
        ("runs", held.join("\n").into()),
        ("queues", w.queues.join(", ").into()),
        ("kinds", w.kinds.join(", ").into()),
        ("labels", text::pairs(&w.labels).into()),
        ("losses", w.losses.to_string().into()),
        ("process", format!("{} on {}", w.pid, w.host).into()),
        ("version", w.version.clone().into()),
        ("starts", format!("{}, the last {} ago", w.incarnation, text::age(look, w.registered_at)).into()),
        ("first seen", outlive_api::time::text(w.first_seen_at).into()),
    ]
}
