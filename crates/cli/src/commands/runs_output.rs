//! `outlive runs output`: what a run wrote.

use super::Done;
use crate::context::Context;
use crate::exit::{Exit, of_state};
use crate::follow::{Follow, Followed, follow, say_detached};
use crate::ids;
use crate::render::say;
use outlive_api::client::output::OutputQuery;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "RUN", help = ids::RUN_HELP)]
    run: String,
    /// Stay until the run ends; goes on over restarts of the server and takeovers of the run
    #[arg(short, long)]
    follow: bool,
    /// Every attempt, not only the current one
    #[arg(short, long)]
    all: bool,
    /// This channel alone, to stdout: stdout, stderr or a named stream
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Only the run's own output; no talk
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(cx: &Context, args: &Args) -> Done {
    let client = cx.client()?;
    let id = ids::run(&client, &args.run).await?;
    let what = OutputQuery { all: args.all, channel: args.channel.as_deref(), stored_only: !args.follow };
    let talk = !args.quiet && (args.follow || args.all);
    match follow(&client, Follow { id, what, talk }, &cx.look, None).await? {
        Followed::Ended(state) if args.follow => {
            let run = client.run(id).await?;
            if talk {
                say(&super::run::verdict(&run));
            }
            Ok(of_state(state))
        }
        Followed::Detached => {
            say_detached(id);
            Ok(Exit::Ok)
        }
        _ => Ok(Exit::Ok),
    }
}
