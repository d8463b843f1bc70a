//! `outlive recoveries`: what was lost, and how fast it was back.

use super::Done;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ids;
use crate::render::table::Field;
use crate::render::{Format, Look, Row, list, say};
use crate::stats::{Spread, figure};
use clap::Subcommand;
use outlive_api::client::Client;
use outlive_api::ops::Recovery;
use outlive_core::RunId;
use serde::Serialize;
use std::collections::BTreeMap;

const EXAMPLES: &str = "Examples:
  outlive recoveries list
  outlive recoveries report          detect, requeue, claim, resume, redo per kind of evidence
";

/// What was lost, and how fast it was running again
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Recoveries, newest first, each with its five durations
    List(Which),
    /// Their distributions per kind of evidence
    Report(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Of this run alone
    #[arg(long, value_name = "RUN", help = ids::RUN_HELP)]
    run: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let client = cx.client()?;
    let (which, report) = match &args.command {
        Command::List(which) => (which, false),
        Command::Report(which) => (which, true),
    };
    let run = match &which.run {
        Some(name) => Some(ids::run(&client, name).await?),
        None => None,
    };
    let found = fetch(&client, run, which.limit).await?;
    let empty = "nothing was lost so far. To see it happen: outlive demo";
    if report {
        show_report(&cx.look, &found, empty)?;
    } else {
        list(&cx.look, &found, empty)?;
    }
    Ok(Exit::Ok)
}

/// Up to `limit` recoveries, over as many pages as it takes.
pub(crate) async fn fetch(client: &Client, run: Option<RunId>, limit: usize) -> Result<Vec<Recovery>, Failure> {
    const PAGE: usize = 200;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let wanted = (limit - found.len()).min(PAGE);
        let page = client.recoveries(run, u32::try_from(wanted).unwrap_or(200), &cursor).await?;
        found.extend(page.recoveries);
        match page.next_cursor {
            Some(next) if found.len() < limit => cursor = next,
            _ => return Ok(found),
        }
    }
}

/// One step of a recovery over all of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct ReportLine {
    evidence: String,
    step: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

impl Row for ReportLine {
    const COLUMNS: (&'static [&'static str], usize) =
        (&["EVIDENCE", "STEP", "P50", "P90", "P99", "MAX", "MEASURED"], 7);

    fn cells(&self, _: &Look) -> Vec<Field> {
        let s = &self.spread;
        let mut cells = vec![self.evidence.clone().into(), self.step.into()];
        cells.extend([s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms].map(|v| figure(v).into()));
        cells.push(s.count.to_string().into());
        cells
    }

    fn id(&self) -> String {
        format!("{}.{}", self.evidence, self.step)
    }
}

type Step = (&'static str, fn(&Recovery) -> Option<u64>);

const STEPS: [Step; 5] = [
    ("detect", |r| Some(r.detect_ms)),
    ("requeue", |r| r.requeue_ms),
    ("claim", |r| r.claim_ms),
    ("resume", |r| r.resume_ms),
    ("redo", |r| r.redo_ms),
];

/// The distributions per evidence.
pub(crate) fn report(recoveries: &[Recovery]) -> Vec<ReportLine> {
    let mut by_evidence: BTreeMap<&str, Vec<&Recovery>> = BTreeMap::new();
    for recovery in recoveries {
        by_evidence.entry(&recovery.evidence).or_default().push(recovery);
    }
    let mut lines = Vec::new();
    for (evidence, of_it) in by_evidence {
        for (step, value) in STEPS {
            let values: Vec<u64> = of_it.iter().filter_map(|r| value(r)).collect();
            if !values.is_empty() {
                lines.push(ReportLine { evidence: evidence.to_owned(), step, spread: Spread::of_millis(&values) });
            }
        }
    }
    lines
}

fn show_report(look: &Look, recoveries: &[Recovery], empty: &str) -> Result<(), Failure> {
    list(look, &report(recoveries), empty)?;
    if look.format == Format::Table && !recoveries.is_empty() {
        let back = recoveries.iter().filter(|r| r.outcome == "recovered").count();
        say(&format!(
            "{back} of {} recovered. detect: last heard to lost · requeue: to queued · claim: to another worker · resume: to started · redo: to where it was",
            recoveries.len()
        ));
    }
    Ok(())
}
