//! `outlive subjects`: what runs are about.

use super::Done;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::table::{Field, Tone, card};
use crate::render::{Format, Look, list, one, print, text};
use clap::Subcommand;
use outlive_api::events::{LastRun, Subject};

const EXAMPLES: &str = "Examples:
  outlive subjects show agent/7
  outlive events --follow --types subject.changed
  outlive runs list --subject agent/7
";

/// What runs are about: idle, queued or working
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One subject: its status, its active runs, how its last one ended
    Show {
        /// Subject
        subject: String,
    },
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let client = cx.client()?;
    let Command::Show { subject } = args.command;
    show(&cx.look, &client.subject(&subject).await?)?;
    Ok(Exit::Ok)
}

fn show(look: &Look, subject: &Subject) -> Result<(), Failure> {
    let last = subject.last.as_ref().map(|last| ended(look, last)).unwrap_or_default();
    let fields: [(&str, Field); 4] = [
        ("subject", subject.subject.clone().into()),
        ("status", status(&subject.status)),
        ("active", subject.active_count.to_string().into()),
        ("last", last.into()),
    ];
    one(look, subject, &subject.subject, || card(look, &fields))?;
    if matches!(look.format, Format::Table | Format::Wide) && !subject.active.is_empty() {
        print("")?;
        list(look, &subject.active, "")?;
    }
    Ok(())
}

fn ended(look: &Look, last: &LastRun) -> String {
    let reason = last.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{} {}{reason}, {} ago", text::run_id(look, last.run_id), last.state, text::age(look, last.at))
}

/// A subject's status with its colour.
pub(crate) fn status(status: &str) -> Field {
    let tone = match status {
        "working" => Tone::Busy,
        "queued" => Tone::Doubt,
        _ => Tone::Quiet,
    };
    Field::toned(status, tone)
}
