//! One file per command.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod openapi;
pub(crate) mod queues;
pub(crate) mod recoveries;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod runs_act;
pub(crate) mod runs_output;
pub(crate) mod runs_show;
pub(crate) mod server;
pub(crate) mod step;
pub(crate) mod stuck;
pub(crate) mod subjects;
pub(crate) mod worker;
pub(crate) mod workers;

use crate::exit::{Exit, Failure};

/// How a command ends.
pub(crate) type Done = Result<Exit, Failure>;

/// `k=v`
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.to_owned(), v.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}
