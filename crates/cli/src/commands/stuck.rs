//! `outlive stuck`: what does not move, and why.

use super::{Done, runs_show};
use crate::context::Context;
use crate::exit::Exit;
use crate::ids;
use crate::render::list;

/// What does not move, worst first, and why
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  outlive stuck
  outlive stuck --why 3fa9c1b2
")]
pub(crate) struct Args {
    /// Everything that keeps this run where it is
    #[arg(long, value_name = "RUN", help = ids::RUN_HELP)]
    why: Option<String>,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let client = cx.client()?;
    if let Some(name) = &args.why {
        return runs_show::explain_run(cx, &client, name).await;
    }
    list(&cx.look, &client.stuck().await?.runs, "nothing is stuck")?;
    Ok(Exit::Ok)
}
