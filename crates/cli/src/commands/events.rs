//! `outlive events`: everything that happens, as it happens; over restarts of the server, without a gap.

use super::Done;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::table::paint;
use crate::render::{Format, Look, Row, list, print, say};
use outlive_api::client::events::{EventQuery, EventStream, FeedItem};
use outlive_api::client::{Client, ClientError};
use outlive_api::events::FeedEvent;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Between attempts to reach a server that went away.
const RETRY: Duration = Duration::from_millis(200);
/// How many of the newest the server begins with; who wants more reads all that is kept.
const RECENT: u32 = 10_000;
/// Columns of a line before its details.
const WIDTHS: [usize; 3] = [12, 18, 24];

/// What happened: runs, attempts, workers, subjects, queues, the server itself
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  outlive events                                     the last 100
  outlive events --follow
  outlive events --follow --types worker.*,attempt.lost
  outlive events --follow -o jsonl --after 5f3a9c12-1042-3      every one since that id, then what comes
")]
pub(crate) struct Args {
    /// Stay, and show what comes; goes on over restarts of the server
    #[arg(short, long)]
    follow: bool,
    /// Only these types: names or groups, separated by commas
    #[arg(long, value_name = "TYPES", default_value = "")]
    types: String,
    /// Only what came after this event: an id, as -o jsonl shows them. Events are kept for 7 days
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Begin with this many of the newest; with --follow 0, else 100, unless --after says where to begin
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u32>,
}

/// An event with its place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    id: Option<String>,
    #[serde(flatten)]
    pub(crate) event: FeedEvent,
}

impl Told {
    /// The place to resume from.
    pub(crate) fn place(&self) -> String {
        self.id.clone().unwrap_or_default()
    }
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let client = cx.client()?;
    if !args.follow {
        list(&cx.look, &stored(&client, &args).await?, "no event so far")?;
        return Ok(Exit::Ok);
    }
    tokio::select! {
        shown = follow(&client, &args, &cx.look) => shown,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

/// What is kept, or the newest of it.
async fn stored(client: &Client, args: &Args) -> Result<Vec<Told>, Failure> {
    let most = args.limit.or(if args.after.is_some() { None } else { Some(100) });
    // The server counts events of all types, so who wants some of them has to look at all.
    let recent = most.filter(|n| *n <= RECENT && args.types.is_empty() && args.after.is_none());
    let what = EventQuery { types: &args.types, after: args.after.as_deref(), recent, stored_only: true };
    let mut stream = client.events(what).await?;
    let mut found = VecDeque::new();
    while let Some(item) = stream.next().await? {
        found.extend(told(&stream, item));
        if most.is_some_and(|most| found.len() > most as usize) {
            found.pop_front();
        }
    }
    Ok(found.into())
}

/// The event of an item. A gap is told to people.
fn told(stream: &EventStream, item: FeedItem) -> Option<Told> {
    match item {
        FeedItem::Event(event) => Some(Told { id: stream.last_id().map(str::to_owned), event: *event }),
        FeedItem::Gap(gap) => {
            let why =
                if gap.why == "restored" { "the store was restored from a copy" } else { "they are not kept any more" };
            say(&format!("events after {} are missing here: {why}", gap.after));
            None
        }
        FeedItem::Place => None,
    }
}

async fn follow(client: &Client, args: &Args, look: &Look) -> Done {
    let mut after = args.after.clone();
    let (mut connected, mut away) = (false, false);
    loop {
        let recent = args.limit.filter(|_| after.is_none());
        let what = EventQuery { types: &args.types, after: after.as_deref(), recent, stored_only: false };
        match client.events(what).await {
            Ok(mut stream) => {
                if std::mem::take(&mut away) {
                    say("the server is back; going on where it was left");
                }
                connected = true;
                loop {
                    let item = stream.next().await;
                    after = stream.last_id().map(str::to_owned).or(after);
                    match item {
                        Ok(Some(item)) => told(&stream, item).map_or(Ok(()), |told| line(look, &told))?,
                        Ok(None) | Err(ClientError::Unreachable { .. }) => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(ClientError::Unreachable { .. }) if connected => {}
            Err(ClientError::Problem(p)) if connected && p.status == 503 => {}
            Err(error) => return Err(error.into()),
        }
        if !std::mem::replace(&mut away, true) {
            say("the server went away; nothing is missed. Trying again…");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One event as it comes.
fn line(look: &Look, told: &Told) -> Result<(), Failure> {
    match look.format {
        Format::Table | Format::Wide => {
            let mut text = String::new();
            for (n, field) in told.cells(look).into_iter().take(WIDTHS.len() + 1).enumerate() {
                let width = WIDTHS.get(n).copied().unwrap_or(0);
                let padded = format!("{:width$}", field.text);
                text.push_str(&paint(look, field.tone, &padded));
                text.push_str("  ");
            }
            print(text.trim_end())
        }
        Format::Id => print(&told.place()),
        _ => print(&serde_json::to_string(told)?),
    }
}
