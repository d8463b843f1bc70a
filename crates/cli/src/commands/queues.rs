//! `outlive queues`: lanes and their policies.

use super::{Done, pair};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::table::{Field, Tone, card};
use crate::render::{Format, Look, list, one, say};
use clap::Subcommand;
use outlive_api::queues::Queue;
use outlive_core::policy::QueuePolicy;
use serde_json::{Map, Value};

const EXAMPLES: &str = "Examples:
  outlive queues list
  outlive queues set nightly lease_ttl=5s max_running=10 retention.output=1d
  outlive queues set nightly max_running=none           back to no limit
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
    /// Change some values of a queue's policy; the others stay. Creates the queue if there is none
    Set {
        /// Queue
        queue: String,
        /// A value of the policy, as outlive queues show lists them; "none" takes a limit away
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = pair)]
        values: Vec<(String, String)>,
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
        Command::Set { queue, values } => {
            let now = match client.queue(&queue).await {
                Ok(queue) => queue.policy,
                Err(e) if e.code() == Some("queue_not_found") => QueuePolicy::default(),
                Err(e) => return Err(e.into()),
            };
            show(cx, &client.put_queue(&queue, &merged(&now, &values)?).await?)?;
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
    let policy = flat(&queue.policy)?;
    one(&cx.look, queue, &queue.name, || card(&cx.look, &fields(&cx.look, queue, &policy)))
}

fn fields<'a>(_: &Look, queue: &'a Queue, policy: &'a [(String, String)]) -> Vec<(&'a str, Field)> {
    let c = &queue.counts;
    let open = if queue.paused { Field::toned("paused", Tone::Doubt) } else { Field::toned("open", Tone::Good) };
    let counts = format!("{} queued, {} running, {} scheduled, {} held", c.queued, c.running, c.scheduled, c.held);
    let head = [("queue", queue.name.clone().into()), ("status", open), ("runs", counts.into())];
    head.into_iter().chain(policy.iter().map(|(k, v)| (k.as_str(), v.clone().into()))).collect()
}

/// A policy as `name`, `outer.inner` and texts.
fn flat(policy: &QueuePolicy) -> Result<Vec<(String, String)>, Failure> {
    let mut out = Vec::new();
    let Value::Object(map) = serde_json::to_value(policy)? else { return Ok(out) };
    for (name, value) in map {
        match value {
            Value::Object(inner) => out.extend(inner.iter().map(|(k, v)| (format!("{name}.{k}"), plain(v)))),
            other => out.push((name, plain(&other))),
        }
    }
    Ok(out)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// The policy with these values changed. What is refused, is refused by the server's own rules.
fn merged(now: &QueuePolicy, values: &[(String, String)]) -> Result<QueuePolicy, Failure> {
    let Value::Object(mut map) = serde_json::to_value(now)? else {
        return Err(Failure::failed("a policy is an object"));
    };
    for (name, value) in values {
        let (outer, inner) = name.split_once('.').map_or((name.as_str(), None), |(o, i)| (o, Some(i)));
        if !map.contains_key(outer) {
            let known = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("\"{outer}\" is not a value of a queue's policy"))
                .hint(format!("there are: {known}")));
        }
        let value = scalar(value);
        match inner {
            None => drop(map.insert(outer.to_owned(), value)),
            Some(inner) => {
                let slot = map.entry(outer.to_owned()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(object) = slot {
                    object.insert(inner.to_owned(), value);
                }
            }
        }
    }
    let policy: QueuePolicy = serde_json::from_value(Value::Object(map)).map_err(|e| Failure::usage(e.to_string()))?;
    policy.validate().map_err(|e| Failure::usage(e.to_string()))?;
    Ok(policy)
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

    fn set(values: &[&str]) -> Result<QueuePolicy, Failure> {
        let values: Vec<_> = values.iter().map(|v| pair(v).unwrap()).collect();
        merged(&QueuePolicy { max_attempts: 7, ..QueuePolicy::default() }, &values)
    }

    #[test]
    fn setting_some_values_keeps_the_others() {
        let policy = set(&["lease_ttl=5s", "max_running=10", "backoff.factor=3", "takeover=strict"]).unwrap();
        assert_eq!((policy.lease_ttl, policy.max_running, policy.max_attempts), (Millis::secs(5), Some(10), 7));
        assert!((policy.backoff.factor - 3.0).abs() < f64::EPSILON);
        assert_eq!(set(&["max_running=10", "max_running=none"]).unwrap().max_running, None);
        assert_eq!(set(&["rate.limit=5", "rate.per=1s"]).unwrap().rate.unwrap().limit, 5);
    }

    #[test]
    fn a_typo_and_an_impossible_value_are_refused_with_what_would_do() {
        let typo = set(&["leese_ttl=5s"]).unwrap_err();
        assert!(typo.hint.unwrap().contains("lease_ttl"));
        let short = set(&["lease_ttl=500ms"]).unwrap_err();
        assert!(short.message.contains("lease_ttl + offline_grace >= reconnect_window"), "{short}");
    }
}
