//! `outlive queues`: lanes and their policies.

use super::{Done, pair};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::table::{Field, Tone, card};
use crate::render::{Format, Look, list, one, say};
use clap::Subcommand;
use outlive_api::queues::Queue;
use outlive_core::effective::{self, Effective, Origin};
use outlive_core::given::{GivenPolicy, PolicyFile};
use outlive_core::policy::QueuePolicy;
use serde_json::Value;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  outlive queues list
  outlive queues set nightly lease_ttl=5s max_running=10 retention.output=1d
  outlive queues set nightly max_running=default        back to the default
  outlive queues set -f examples/policies/multica.toml  every queue of a file, as the file says
  outlive queues pause nightly
";

/// List queues, set their policies, pause and resume them
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Queues with what waits and runs in them
    List,
    /// One queue with its whole policy
    Show {
        /// Queue
        queue: String,
    },
    /// Change some values of a queue's policy, the others stay; or set queues as a file says. Creates queues that are not there
    Set {
        /// Queue; with --file: only this one of the file
        #[arg(required_unless_present = "file")]
        queue: Option<String>,
        /// A value of the policy, as outlive queues show lists them; "none" takes a limit away, "default" takes back what was set
        #[arg(value_name = "NAME=VALUE", required_unless_present = "file", value_parser = pair)]
        values: Vec<(String, String)>,
        /// A TOML file with a table [queues.NAME] for each queue. What it does not name has its default: the file is the policy
        #[arg(short, long, value_name = "FILE", conflicts_with = "values")]
        file: Option<PathBuf>,
    },
    /// Give nothing of this queue to workers
    Pause {
        /// Queue
        queue: String,
    },
    /// Give it to workers again
    Resume {
        /// Queue
        queue: String,
    },
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let client = cx.client()?;
    match args.command {
        Command::List => {
            list(&cx.look, &client.queues().await?.queues, "no queues yet; the first run creates its own")?;
        }
        Command::Show { queue } => show(cx, &client.queue(&queue).await?)?,
        Command::Set { queue, file: Some(file), .. } => {
            let mut put = Vec::new();
            for (name, policy) in of_file(&file, queue.as_deref())? {
                put.push(client.put_queue(&name, policy).await?);
            }
            list(&cx.look, &put, "the file names no queue")?;
        }
        Command::Set { queue, values, .. } => {
            let queue = queue.unwrap_or_default();
            let now = match client.queue(&queue).await {
                Ok(queue) => GivenPolicy::of(&queue.policy, &queue.set),
                Err(e) if e.code() == Some("queue_not_found") => GivenPolicy::default(),
                Err(e) => return Err(e.into()),
            };
            show(cx, &client.put_queue(&queue, merged(&now, &values)?).await?)?;
        }
        Command::Pause { queue } => {
            said(cx, &client.queue_action(&queue, "pause").await?, "is paused; what runs, goes on")?;
        }
        Command::Resume { queue } => said(cx, &client.queue_action(&queue, "resume").await?, "is open")?,
    }
    Ok(Exit::Ok)
}

fn said(cx: &Context, queue: &Queue, what: &str) -> Result<(), Failure> {
    if cx.look.format == Format::Table {
        say(&format!("queue {} {what}", queue.name));
        return Ok(());
    }
    list(&cx.look, std::slice::from_ref(queue), "")
}

fn show(cx: &Context, queue: &Queue) -> Result<(), Failure> {
    let policy = flat(queue);
    one(&cx.look, queue, &queue.name, || card(&cx.look, &fields(&cx.look, queue, &policy)))
}

fn fields<'a>(_: &Look, queue: &'a Queue, policy: &'a [(String, String)]) -> Vec<(&'a str, Field)> {
    let c = &queue.counts;
    let open = if queue.paused { Field::toned("paused", Tone::Doubt) } else { Field::toned("open", Tone::Good) };
    let counts = format!("{} queued, {} running, {} scheduled, {} held", c.queued, c.running, c.scheduled, c.held);
    let head = [("queue", queue.name.clone().into()), ("status", open), ("runs", counts.into())];
    head.into_iter().chain(policy.iter().map(|(k, v)| (k.as_str(), v.clone().into()))).collect()
}

/// A policy as `name`, `outer.inner` and texts, and where each value comes from.
fn flat(queue: &Queue) -> Vec<(String, String)> {
    let given = GivenPolicy::of(&queue.policy, &queue.set);
    let row = |row: Effective| {
        let origin = if row.origin == Origin::Policy { "set" } else { "default" };
        (row.name.trim_start_matches("queue.").to_owned(), format!("{} ({origin})", row.value))
    };
    effective::policy(&given).into_iter().map(row).collect()
}

/// The policy with these values changed. What is refused, is refused by the server's own rules.
fn merged(given: &GivenPolicy, values: &[(String, String)]) -> Result<GivenPolicy, Failure> {
    let values = values.iter().map(|(name, value)| (name.as_str(), (value != "default").then(|| scalar(value))));
    let given = given.with(values).map_err(|e| {
        let Ok(Value::Object(known)) = serde_json::to_value(QueuePolicy::default()) else {
            return Failure::usage(e.to_string());
        };
        let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Failure::usage(e.to_string()).hint(format!("there are: {known}"))
    })?;
    given.validate().map_err(|e| Failure::usage(e.to_string()))?;
    Ok(given)
}

/// The queues of a file, each checked before the first is set.
fn of_file(path: &Path, only: Option<&str>) -> Result<Vec<(String, GivenPolicy)>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("{} cannot be read: {e}", path.display())))?;
    let file: PolicyFile = toml::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    let queues: Vec<_> = file.queues.into_iter().filter(|(name, _)| only.is_none_or(|only| only == name)).collect();
    for (name, policy) in &queues {
        let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: queue {name}: {e}", path.display()));
        outlive_core::names::check(name).map_err(|e| wrong(&e))?;
        policy.validate().map_err(|e| wrong(&e))?;
    }
    if queues.is_empty() {
        let what = only.map_or_else(|| "no queue".to_owned(), |name| format!("no queue {name}"));
        return Err(Failure::usage(format!("{} names {what}", path.display()))
            .hint("one looks like: [queues.nightly] and below it lease_ttl = \"30s\""));
    }
    Ok(queues)
}

fn scalar(text: &str) -> Value {
    match text {
        "none" | "off" => Value::Null,
        "" => Value::String(String::new()),
        _ if text.starts_with('{') || text.parse::<f64>().is_ok() => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::Millis;

    fn set(values: &[&str]) -> Result<GivenPolicy, Failure> {
        let values: Vec<_> = values.iter().map(|v| pair(v).unwrap()).collect();
        merged(&QueuePolicy { max_attempts: 7, ..QueuePolicy::default() }.into(), &values)
    }

    #[test]
    fn setting_some_values_keeps_the_others() {
        let given = set(&["lease_ttl=5s", "max_running=10", "backoff.factor=3", "takeover=strict"]).unwrap();
        let policy = given.policy();
        assert_eq!((policy.lease_ttl, policy.max_running, policy.max_attempts), (Millis::secs(5), Some(10), 7));
        assert!((policy.backoff.factor - 3.0).abs() < f64::EPSILON);
        assert_eq!(given.set(), ["backoff.factor", "lease_ttl", "max_attempts", "max_running", "takeover"]);
        assert_eq!(set(&["max_running=10", "max_running=none"]).unwrap().policy().max_running, None);
        assert_eq!(set(&["max_attempts=default"]).unwrap(), GivenPolicy::default());
        assert_eq!(set(&["rate.limit=5", "rate.per=1s"]).unwrap().policy().rate.unwrap().limit, 5);
    }

    #[test]
    fn a_typo_and_an_impossible_value_are_refused_with_what_would_do() {
        let typo = set(&["leese_ttl=5s"]).unwrap_err();
        assert!(typo.hint.unwrap().contains("lease_ttl"));
        let never = set(&["claim_ttl=2h", "run_timeout=10m"]).unwrap_err();
        assert!(never.message.contains("claim_ttl <= run_timeout"), "{never}");
        let short = set(&["lease_ttl=500ms"]).unwrap_err();
        assert!(short.message.contains("lease_ttl + offline_grace >= reconnect_window"), "{short}");
    }

    #[test]
    fn a_file_sets_its_queues_and_nothing_of_one_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("policies.toml");
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = file("[queues.a]\nlease_ttl = \"30s\"\nbackoff.factor = 3\n[queues.b]\nmax_losses = 2\n");
        let queues = of_file(&good, None).unwrap();
        assert_eq!(queues.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(queues[0].1.set(), ["backoff.factor", "lease_ttl"]);
        assert_eq!(of_file(&good, Some("b")).unwrap().len(), 1);
        assert!(of_file(&good, Some("c")).is_err());
        for (text, says) in [
            (
                "[queues.a]\nlease_ttl = \"500ms\"\n",
                "queue a: lease_ttl: lease_ttl + offline_grace >= reconnect_window",
            ),
            ("[queues.a]\nleese_ttl = \"5s\"\n", "leese_ttl"),
            ("[queue.a]\nlease_ttl = \"5s\"\n", "queue"),
            ("[queues.a]\n[queues.\" b\"]\n", "queue  b: must have 1 to 200 characters"),
            (
                "[queues.a]\nprogress_timeout = \"2h\"\nrun_timeout = \"1h\"\n",
                "progress_timeout <= run_timeout must hold; 2h > 1h",
            ),
            ("[queues.a]\non_loss = \"fail\"\nmax_losses = 2\n", "on_loss = retry must hold for max_losses to act"),
        ] {
            let refused = of_file(&file(text), None).unwrap_err();
            assert!(refused.message.contains(says), "{refused}");
        }
    }
}
