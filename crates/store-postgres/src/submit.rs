//! Runs that applications enqueue in their own transactions with `outlive.submit`: rows that a replica makes runs of, by the
//! same rules as for any creation.

use crate::catalog::intern;
use crate::create::create;
use crate::fault::Done;
use crate::sql;
use crate::tx::Tx;
use crate::value::{get, values_of};
use outlive_core::class::MatchClass;
use outlive_core::options::RunOptions;
use outlive_core::run::begin::NewRun;
use outlive_core::{Json, RunId, Wall};
use outlive_store::{CreateRequest, CreateRun, OnConflict};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// What an application asked for, as `outlive.submit` has checked it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    queue: Option<String>,
    priority: i16,
    /// Milliseconds of the epoch.
    run_at: Option<i64>,
    hold: bool,
    key: Option<String>,
    on_conflict: Conflict,
    serial_key: Option<String>,
    requires: BTreeMap<String, String>,
    pin: Option<String>,
    #[serde(flatten)]
    options: RunOptions,
}

/// A key that was free when it was submitted and is taken now was taken over HTTP meanwhile: its run stands.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Conflict {
    #[default]
    Reject,
    Return,
    Replace,
}

/// What became of submissions.
pub(crate) struct Taken {
    /// There may be more.
    pub(crate) more: bool,
    /// Of which no run was made, since somebody else was first.
    pub(crate) not_made: u64,
}

/// Makes runs of what was submitted, oldest first, at most `limit`.
pub(crate) async fn take(tx: &mut Tx<'_>, limit: u32) -> Done<Taken> {
    let mut not_made = 0;
    let rows = tx.query(sql::SUBMISSION_TAKE, values_of![i64::from(limit)]).await?;
    for row in &rows {
        let id = RunId(get(row, 0)?);
        match read(tx, row).await? {
            Ok(request) => match create(tx, &request).await? {
                Ok(created) => {
                    let instead = created.runs.first().map(|one| one.run.id).filter(|made| *made != id);
                    if let Some(instead) = instead {
                        not_made += 1;
                        tracing::warn!(%id, %instead, "a submitted run was not made: its key was taken meanwhile");
                    }
                }
                Err(refused) => {
                    not_made += 1;
                    tracing::warn!(%id, %refused, "a submitted run was not made");
                }
            },
            Err(why) => tracing::error!(%id, %why, "a submitted run cannot be read and was not made"),
        }
    }
    Ok(Taken { more: rows.len() == limit as usize, not_made })
}

async fn read(tx: &mut Tx<'_>, row: &Row) -> Done<Result<CreateRequest, serde_json::Error>> {
    let (namespace, kind): (String, String) = (get(row, 1)?, get(row, 2)?);
    let (input, asked): (String, &str) = (get(row, 3)?, get(row, 4)?);
    let (input, asked) = match (Json::parse(input), serde_json::from_str::<Asked>(asked)) {
        (Ok(input), Ok(asked)) => (input, asked),
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
    };
    let class = MatchClass {
        namespace: namespace.clone(),
        queue: asked.queue.unwrap_or_else(|| "default".to_owned()),
        kind,
        requires: asked.requires,
        pin: asked.pin,
    };
    let class = intern(tx, &class).await?;
    let new = NewRun {
        id: RunId(get(row, 0)?),
        class: class.id,
        queue: class.queue,
        priority: asked.priority,
        run_at: asked.run_at.map(Wall),
        hold: asked.hold,
        serial_key: asked.serial_key,
        key: asked.key,
        queue_ttl: asked.options.queue_ttl,
    };
    let on_conflict = match asked.on_conflict {
        Conflict::Reject | Conflict::Return => OnConflict::Return,
        Conflict::Replace => OnConflict::Replace,
    };
    let run = CreateRun { new, id_chosen: true, on_conflict, input, options: asked.options, checkpoint: None };
    Ok(Ok(CreateRequest { namespace, runs: vec![run], idempotency: None, claims: Vec::new(), only_known: false }))
}
