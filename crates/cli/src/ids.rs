//! Names that people type: a run by a part of its id, a worker by name or id.
//!
//! A run's id begins with the time of its creation and ends with random digits. Lists show the last eight digits, and that
//! is what people type. Any unique **end** of an id is accepted (four digits or more), and any unique **beginning** (eight
//! or more: all runs of one minute share the first seven), and the whole.

use crate::exit::{Exit, Failure};
use crate::render::text;
use outlive_api::client::Client;
use outlive_api::client::calls::RunFilter;
use outlive_api::clock::SystemClock;
use outlive_api::runs::Run;
use outlive_api::workers::Worker;
use outlive_core::RunId;
use outlive_core::clock::Clock as _;
use uuid::Uuid;

/// For the help of every command that takes a run.
pub(crate) const RUN_HELP: &str =
    "A run: the 8 digits that lists show, any unique end or beginning of its id, or all of it";
/// Fewer digits are more often a mistake than a name.
const LEAST_END: usize = 4;
/// The beginning is a time: fewer digits name every run of an hour.
const LEAST_BEGINNING: usize = 8;
/// Enough to say that it is not unique, and to show a few.
const CANDIDATES: u32 = 5;

fn is_part(text: &str) -> bool {
    text.len() <= 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The run that `text` names.
pub(crate) async fn run(client: &Client, text: &str) -> Result<RunId, Failure> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if !is_part(&text) || text.len() < LEAST_END {
        return Err(Failure::usage(format!("\"{text}\" is not a run id"))
            .hint("a run is named by the last 8 digits of its id, as outlive runs list shows them"));
    }
    let by_end = RunFilter { id_suffix: text.clone(), limit: Some(CANDIDATES), ..RunFilter::default() };
    if let Some(id) = only(&text, "end", &client.runs(&by_end).await?.runs)? {
        return Ok(id);
    }
    if text.len() >= LEAST_BEGINNING {
        let by_beginning = RunFilter { id_prefix: text.clone(), limit: Some(CANDIDATES), ..RunFilter::default() };
        if let Some(id) = only(&text, "begin", &client.runs(&by_beginning).await?.runs)? {
            return Ok(id);
        }
    }
    Err(Failure::new(Exit::NotFound, format!("no run has an id that ends or begins with {text}"))
        .hint("the runs that there are: outlive runs list"))
}

fn only(text: &str, how: &str, found: &[Run]) -> Result<Option<RunId>, Failure> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
        many => {
            let mut message = format!("several runs have an id that {how}s with {text}; name one with more digits:");
            let line = |run: &Run| format!("\n  {}  {:10} {}", run.id, run.state, crate::render::rows::what(run));
            message.extend(many.iter().map(line));
            Err(Failure::usage(message))
        }
    }
}

/// An id for a new run; choosing it here makes the call that creates the run safe to repeat.
pub(crate) fn new_run() -> RunId {
    // The ten bytes of a version 4 UUID that are random throughout come first after this.
    RunId::from_parts(SystemClock.wall(), Uuid::new_v4().as_u128().rotate_left(80))
}

/// The worker that `text` names.
pub(crate) async fn worker(client: &Client, text: &str) -> Result<Worker, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(client.worker(id).await?);
    }
    let workers = client.workers().await?.workers;
    if let Some(worker) = workers.iter().find(|w| w.name == text) {
        return Ok(worker.clone());
    }
    let near: Vec<_> = workers.iter().filter(|w| w.name.contains(text)).map(|w| w.name.as_str()).take(5).collect();
    let hint = if near.is_empty() { "outlive workers list".to_owned() } else { near.join(", ") };
    Err(Failure::new(Exit::NotFound, format!("no worker is named \"{text}\"")).hint(format!("there are: {hint}")))
}

/// A run as talk names it.
pub(crate) fn spoken(id: RunId) -> String {
    format!("run {}", text::short(id))
}
