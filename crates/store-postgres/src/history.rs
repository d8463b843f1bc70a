//! What was: attempts, events, recoveries.

use crate::fault::Done;
use crate::list::{exit, run_in};
use crate::reader::Reader;
use crate::rows::{attempts as closed_attempts, events as kept_events};
use crate::value::{query, values_of};
use crate::{recovery, sql};
use outlive_core::RunId;
use outlive_core::run::{Event, derive};
use outlive_store::{AttemptRow, Page, RecoveryQuery, RecoveryRow};

/// Rows of a page, at most.
const PAGE: u32 = 1_000;

pub(crate) async fn attempts(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<Vec<AttemptRow>>> {
    let Some(run) = run_in(reader, namespace, id).await? else { return Ok(None) };
    let views = derive::attempts(&run, closed_attempts(reader.conn(), run.seq).await?, exit(reader, run.seq).await?);
    let mut named = Vec::with_capacity(views.len());
    for view in views {
        let worker_name = reader.worker_name(view.attempt.holder.worker).await?;
        named.push(AttemptRow { view, worker_name });
    }
    Ok(Some(named))
}

pub(crate) async fn events(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<Vec<Event>>> {
    let Some(run) = run_in(reader, namespace, id).await? else { return Ok(None) };
    let views = derive::attempts(&run, closed_attempts(reader.conn(), run.seq).await?, None);
    Ok(Some(derive::history(&run, &views, kept_events(reader.conn(), run.seq).await?)))
}

pub(crate) async fn recoveries(reader: &Reader<'_>, wanted: &RecoveryQuery) -> Done<Page<RecoveryRow>> {
    let before = wanted.cursor.unwrap_or(i64::MAX);
    let limit = wanted.limit.clamp(1, PAGE);
    let (namespace, most) = (wanted.namespace.as_str(), i64::from(limit));
    let found = match wanted.run {
        Some(run) => {
            let values = values_of![run.0, namespace, before, most];
            query(reader.conn(), sql::RECOVERY_OF_RUN, values).await?
        }
        None => query(reader.conn(), sql::RECOVERY_PAGE, values_of![namespace, before, most]).await?,
    };
    let rows = found.iter().map(recovery::read).collect::<Done<Vec<_>>>()?;
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() == limit as usize);
    Ok(Page { rows, next })
}
