//! `outlive config explain`: every setting and limit, where it came from, and what follows from `lease_ttl`.

use super::Done;
use super::server::shown;
use crate::config;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{Format, Look, list, print, say};
use clap::{ArgMatches, Command as Tree, Subcommand};
use outlive_api::ops::Setting;
use outlive_core::Millis;
use outlive_core::effective::{self, Effective, Origin};
use outlive_core::given::GivenPolicy;

const EXAMPLES: &str = "Examples:
  outlive config explain
  outlive config explain --lease-ttl 3s         what would follow from it
  outlive config explain --queue nightly        what follows for a queue of the server
  outlive config explain --all                  the settings of single commands too
";

/// Where settings come from
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every setting with its value and origin, and every value that is derived, with its rule
    #[command(before_help = EXAMPLES)]
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
struct ExplainArgs {
    /// The policy of this queue of the server, instead of the defaults
    #[arg(long, value_name = "NAME", conflicts_with = "lease_ttl")]
    queue: Option<String>,
    #[arg(long, value_name = "TIME", help = "What would follow from this lease_ttl")]
    lease_ttl: Option<Millis>,
    /// The settings of single commands too
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn run(cx: &Context, args: Args, tree: &Tree, file: &config::File, used: &ArgMatches) -> Done {
    let Command::Explain(args) = args.command;
    let (given, said) = match (&args.queue, args.lease_ttl) {
        (Some(queue), _) => {
            let queue = cx.client()?.queue(queue).await?;
            (GivenPolicy::of(&queue.policy, &queue.set), format!("queue policy {}", queue.name))
        }
        (None, Some(ttl)) => {
            let given = GivenPolicy::default().with([("lease_ttl", Some(ttl.to_string().into()))]);
            (given.map_err(|e| Failure::usage(e.to_string()))?, "flag".to_owned())
        }
        (None, None) => (GivenPolicy::default(), String::new()),
    };
    given.validate().map_err(|e| Failure::usage(e.to_string()))?;
    let own: Vec<_> = config::settings(tree, file, Some(used), args.all).into_iter().map(shown).collect();
    let groups = [own, policy(&given, &said), rows(effective::derived(given.policy())), rows(effective::fixed())];
    if matches!(cx.look.format, Format::Table | Format::Wide) {
        let look = Look { width: None, ..cx.look };
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                print("")?;
            }
            list(&look, group, "")?;
        }
        say("\nA queue's policy is set with outlive queues set NAME lease_ttl=…; the rest follows from it.");
    } else {
        list(&cx.look, &groups.concat(), "")?;
    }
    Ok(Exit::Ok)
}

fn rows(effective: Vec<Effective>) -> Vec<Setting> {
    effective.into_iter().map(Setting::from).collect()
}

/// A policy's values; `said` tells where those come from that somebody set.
fn policy(given: &GivenPolicy, said: &str) -> Vec<Setting> {
    let origin = |row: Effective| match row.origin {
        Origin::Policy => Setting { origin: said.to_owned(), ..row.into() },
        _ => row.into(),
    };
    effective::policy(given).into_iter().map(origin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_set_says_where_and_the_others_that_nobody_did() {
        let given: GivenPolicy = serde_json::from_str(r#"{"lease_ttl":"3s"}"#).unwrap();
        let rows = policy(&given, "queue policy nightly");
        let find = |name: &str| rows.iter().find(|r| r.name == name).map(|r| (r.value.as_str(), r.origin.as_str()));
        assert_eq!(find("queue.lease_ttl"), Some(("3s", "queue policy nightly")));
        assert_eq!(find("queue.takeover"), Some(("fast", "default")));
        assert_eq!(find("queue.start_timeout"), Some(("1m", "default")));
    }
}
