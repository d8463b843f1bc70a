//! `outlive config explain`: every setting, where it came from, and what follows from `lease_ttl`.

use super::Done;
use crate::config;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{Format, Look, list, print, say};
use clap::{ArgMatches, Command as Tree, Subcommand};
use outlive_api::ops::Setting;
use outlive_core::Millis;
use outlive_core::policy::{QueuePolicy, derive};

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
    let mut policy = QueuePolicy::default();
    if let Some(queue) = &args.queue {
        policy = cx.client()?.queue(queue).await?.policy;
    }
    if let Some(ttl) = args.lease_ttl {
        policy.lease_ttl = ttl;
        policy.validate().map_err(|e| Failure::usage(e.to_string()))?;
    }
    let own = config::settings(tree, file, Some(used), args.all);
    let origin = match (&args.queue, args.lease_ttl) {
        (Some(queue), _) => format!("queue {queue}"),
        (None, Some(_)) => "flag".to_owned(),
        _ => "default".to_owned(),
    };
    let derived = liveness(&policy, &origin);
    if matches!(cx.look.format, Format::Table | Format::Wide) {
        let look = Look { width: None, ..cx.look };
        list(&look, &own, "")?;
        print("")?;
        list(&look, &derived, "")?;
        say("\nA queue's policy is set with outlive queues set NAME lease_ttl=…; the rest follows from it.");
    } else {
        let all: Vec<_> = own.into_iter().chain(derived).collect();
        list(&cx.look, &all, "")?;
    }
    Ok(Exit::Ok)
}

/// The one setting for liveness, and what follows from it.
fn liveness(policy: &QueuePolicy, origin: &str) -> Vec<Setting> {
    let beat = derive::heartbeat(policy.lease_ttl);
    let window = derive::reconnect_window(beat, false);
    let proxied = derive::reconnect_window(beat, true);
    let grace = policy.offline_grace;
    let row = |name: &str, value: String, origin: &str| Setting { name: name.into(), value, origin: origin.into() };
    let derived = |name: &str, value: Millis, rule: &str| row(name, value.to_string(), &format!("derived: {rule}"));
    let fast = policy.takeover == outlive_core::policy::Takeover::Fast;
    let takeover = if fast { "fast" } else { "strict" };
    vec![
        row("queue.lease_ttl", policy.lease_ttl.to_string(), origin),
        row("queue.offline_grace", grace.to_string(), origin),
        row("queue.takeover", takeover.to_owned(), origin),
        derived("heartbeat", beat, "lease_ttl / 5, of the least lease_ttl of the worker's queues"),
        derived(
            "trust",
            derive::trusted(policy.lease_ttl) + grace,
            "0.8 × lease_ttl + offline_grace after the last acknowledged beat; then its work is frozen",
        ),
        derived("reconnect_window", window, "1s; the end of a connection is a loss after it"),
        derived("reconnect_window_proxied", proxied, "2.5 × heartbeat, at least 5s, where a proxy stands between"),
        derived(
            "trust_disconnected",
            derive::trusted(window) + grace,
            "0.8 × reconnect_window + offline_grace after the connection ended",
        ),
        derived(
            "lost_after_disconnect",
            if fast { window + grace } else { policy.lease_ttl + grace },
            if fast { "reconnect_window + offline_grace" } else { "takeover = strict: lease_ttl + offline_grace" },
        ),
        derived("lost_after_silence", policy.lease_ttl + grace, "lease_ttl + offline_grace, in observed time"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_values_carry_their_rule() {
        let rows = liveness(&QueuePolicy { lease_ttl: Millis::secs(3), ..QueuePolicy::default() }, "flag");
        let find = |name: &str| rows.iter().find(|r| r.name == name).unwrap();
        assert_eq!(find("heartbeat").value, "600ms");
        assert!(find("heartbeat").origin.starts_with("derived: lease_ttl / 5"));
        assert_eq!(find("trust").value, "2400ms");
        assert_eq!(find("lost_after_disconnect").value, "1s");
        assert_eq!(find("reconnect_window_proxied").value, "5s");
    }
}
