//! Subjects: what runs are about. Every transition of a run moves the rows of its subjects, in the same transaction.
//!
//! Runs of many subjects may move in one batch, and replicas share subjects. So what moved is taken down and settled when the
//! batch has run: all rows are locked in the order of their names, and each follows its runs.

use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::list::run_rows;
use crate::reader::Reader;
use crate::rows::{known, runs_by_seq, slot_of};
use crate::sql;
use crate::tx::Tx;
use crate::value::{column, execute, get, query, small_opt, values_of};
use async_trait::async_trait;
use outlive_core::feed::FeedEvent;
use outlive_core::run::Run;
use outlive_core::subject::{LastRun, Subject};
use outlive_core::{Outcome, Reason, RunId, State, Wall};
use outlive_store::{StoreError, SubjectRow, Swept};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// Active runs of a subject that are shown, at most.
const SHOWN: u32 = 1_000;
/// How often rows are made: a deletion may take one before it is locked.
const TRIES: u32 = 4;

/// A run that came from another state (`None`: it is new) into the one that it has.
pub(crate) struct Moved {
    name: String,
    namespace: String,
    subject: String,
    run: Run,
    before: Option<State>,
}

fn read_row(row: &Row) -> Done<(String, Subject)> {
    let last = match (get::<Option<uuid::Uuid>>(row, 3)?, small_opt(row, 4)?, get::<Option<i64>>(row, 7)?) {
        (Some(run), Some(state), Some(at)) => Some(LastRun {
            run: RunId(run),
            state: known(State::from_number(state), "subject.last_state")?,
            outcome: small_opt(row, 5)?.map(|n| known(Outcome::from_number(n), "subject.last_outcome")).transpose()?,
            reason: small_opt(row, 6)?.map(|n| known(Reason::from_number(n), "subject.last_reason")).transpose()?,
            at: Wall(at),
        }),
        _ => None,
    };
    Ok((get(row, 0)?, Subject { active: get(row, 1)?, working: get(row, 2)?, last }))
}

/// The names as they count: each once.
fn distinct(subjects: &[String]) -> impl Iterator<Item = &String> {
    subjects.iter().enumerate().filter(|(i, name)| !subjects[..*i].contains(name)).map(|(_, name)| name)
}

/// A new run of these subjects.
pub(crate) async fn created(tx: &mut Tx<'_>, run: &Run, subjects: &[String]) -> Done<()> {
    let namespace = tx.class(run.class).await?.class.namespace.clone();
    for subject in distinct(subjects) {
        tx.pending.subjects.push((slot_of(&namespace, subject), run.seq, !run.state.is_terminal()));
    }
    take_down(tx, &namespace, run, None, subjects);
    Ok(())
}

/// A run came from another state into the one that it has.
pub(crate) async fn moved(tx: &mut Tx<'_>, run: &Run, before: State) -> Done<()> {
    let subjects = tx.means(run.seq).await?.options.subjects;
    let namespace = tx.class(run.class).await?.class.namespace.clone();
    take_down(tx, &namespace, run, Some(before), &subjects);
    Ok(())
}

fn take_down(tx: &mut Tx<'_>, namespace: &str, run: &Run, before: Option<State>, subjects: &[String]) {
    for subject in distinct(subjects) {
        tx.moved.push(Moved {
            name: slot_of(namespace, subject),
            namespace: namespace.to_owned(),
            subject: subject.clone(),
            run: run.clone(),
            before,
        });
    }
}

/// Lets the rows of subjects follow all runs that moved.
pub(crate) async fn settle(tx: &mut Tx<'_>) -> Done<()> {
    let moved = std::mem::take(&mut tx.moved);
    if moved.is_empty() {
        return Ok(());
    }
    tx.flush().await?;
    let names: BTreeSet<&str> = moved.iter().map(|moved| moved.name.as_str()).collect();
    let mut rows = lock(tx, &names.into_iter().collect::<Vec<_>>(), true).await?;
    let before = rows.clone();
    let (mut closed, mut closed_seqs) = (Vec::new(), Vec::new());
    for Moved { name, namespace, subject, run, before } in &moved {
        let Some(row) = rows.get_mut(name) else { continue };
        let change = row.follow(*before, run);
        if run.state.is_terminal() {
            closed.push(name.as_str());
            closed_seqs.push(run.seq);
        }
        if let Some(change) = change {
            let (namespace, subject) = (namespace.clone(), subject.clone());
            tx.pending.feed.push(&FeedEvent::Subject { at: tx.now, namespace, subject, run: run.id, change });
        }
    }
    if !closed.is_empty() {
        execute(tx.conn, sql::SUBJECT_CLOSE, values_of![closed, closed_seqs]).await?;
    }
    rows.retain(|name, row| before.get(name) != Some(row));
    put(tx, &rows).await
}

async fn put(tx: &Tx<'_>, rows: &BTreeMap<String, Subject>) -> Done<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let last = |value: fn(&LastRun) -> Option<i64>| -> Vec<Option<i64>> {
        rows.values().map(|row| row.last.as_ref().and_then(value)).collect()
    };
    let values = values_of![
        rows.keys().map(String::as_str).collect::<Vec<_>>(),
        rows.values().map(|row| row.active).collect::<Vec<_>>(),
        rows.values().map(|row| row.working).collect::<Vec<_>>(),
        rows.values().map(|row| row.last.as_ref().map(|last| last.run.0)).collect::<Vec<_>>(),
        last(|last| Some(last.state.number())),
        last(|last| last.outcome.map(Outcome::number)),
        last(|last| last.reason.map(Reason::number)),
        last(|last| Some(last.at.0)),
    ];
    execute(tx.conn, sql::SUBJECT_PUT, values).await.map(drop)
}

/// Rows of subjects, locked; those that are missing are made if `make`.
async fn lock(tx: &Tx<'_>, names: &[&str], make: bool) -> Done<BTreeMap<String, Subject>> {
    let names: Vec<&str> = names.to_vec();
    for _ in 0..TRIES {
        if make {
            execute(tx.conn, sql::SUBJECT_MAKE, values_of![names]).await?;
        }
        let rows = query(tx.conn, sql::SUBJECT_LOCK, values_of![names]).await?;
        let rows = rows.iter().map(read_row).collect::<Done<BTreeMap<_, _>>>()?;
        if rows.len() == names.len() || !make {
            return Ok(rows);
        }
    }
    Err(Fault::Race("a subject was forgotten at the same time".to_owned()))
}

/// A run is deleted: it is about nothing any more. A subject that no run is about is forgotten.
pub(crate) async fn removed(tx: &mut Tx<'_>, run: &Run, subjects: &[String]) -> Done<()> {
    let namespace = tx.class(run.class).await?.class.namespace.clone();
    for subject in distinct(subjects) {
        let name = slot_of(&namespace, subject);
        tx.execute(sql::SUBJECT_DELETE, values_of![name.as_str(), run.seq]).await?;
        lock(tx, &[name.as_str()], false).await?;
        let any: Vec<bool> = column(tx.conn, sql::SUBJECT_ANY, values_of![name.as_str()]).await?;
        if any == [false] {
            tx.execute(sql::SUBJECT_FORGET, values_of![name.as_str()]).await?;
        }
    }
    Ok(())
}

/// A subject for people.
pub(crate) async fn read(reader: &Reader<'_>, namespace: &str, subject: &str, limit: u32) -> Done<SubjectRow> {
    let name = slot_of(namespace, subject);
    let rows = query(reader.conn(), sql::SUBJECT_GET, values_of![name.as_str()]).await?;
    let subject = rows.first().map(read_row).transpose()?.map(|(_, subject)| subject).unwrap_or_default();
    let most = i64::from(limit.min(SHOWN));
    let rows = column(reader.conn(), sql::SUBJECT_ACTIVE, values_of![name.as_str(), most]).await?;
    let runs = runs_by_seq(reader.conn(), rows).await?;
    let active = run_rows(reader, runs).await?.into_iter().collect::<Done<_>>()?;
    Ok(SubjectRow { subject, active })
}

/// The audit's look at one active run: whether a row of its subjects did not know of it.
pub(crate) async fn audit_run(tx: &mut Tx<'_>, run: &Run) -> Done<bool> {
    if !run.has_subjects {
        return Ok(false);
    }
    let Some(run) = tx.run_by_seq(run.seq).await?.filter(|run| !run.state.is_terminal()) else { return Ok(false) };
    let subjects = tx.means(run.seq).await?.options.subjects;
    let namespace = tx.class(run.class).await?.class.namespace.clone();
    let mut changed = false;
    for subject in distinct(&subjects) {
        let name = slot_of(&namespace, subject);
        let values = values_of![vec![name.as_str()], vec![run.seq], vec![true]];
        changed |= tx.execute(sql::SUBJECT_INSERT, values).await? > 0;
        changed |= tx.execute(sql::SUBJECT_MAKE, values_of![vec![name.as_str()]]).await? > 0;
    }
    Ok(changed)
}

/// Counts the runs of the next page of subjects again. Active runs of one subject are few: an agent, an issue, a feed.
pub(crate) struct AuditSubjects(pub(crate) u32);

#[async_trait]
impl Op for AuditSubjects {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.0 as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        // What this batch has moved is in the runs' rows, and must be in the subjects' before they are counted again.
        settle(tx).await?;
        let after = std::mem::take(&mut tx.cache.cursors.subject);
        let rows = tx.query(sql::SUBJECT_NAMES, values_of![after, i64::from(self.0)]).await?;
        let names = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<String>>>()?;
        let mut swept = Swept { more: names.len() == self.0 as usize, ..Swept::default() };
        let rows = lock(tx, &names.iter().map(String::as_str).collect::<Vec<_>>(), false).await?;
        for (name, row) in rows {
            if recount(tx, &name, row).await? {
                swept.found += 1;
                swept.acted += 1;
            }
        }
        if swept.more {
            tx.cache.cursors.subject = names.into_iter().next_back().unwrap_or_default();
        }
        Ok(Ok(swept))
    }
}

/// Under the lock of the subject's row: whoever moves a run of it waits, or has committed.
async fn recount(tx: &mut Tx<'_>, name: &str, row: Subject) -> Done<bool> {
    // Flags of runs that have ended, or are gone, would make every later count longer.
    let mut changed = false;
    let seqs: Vec<i64> = column(tx.conn, sql::SUBJECT_ACTIVE, values_of![name, i64::from(SHOWN)]).await?;
    let open: BTreeSet<i64> = runs_by_seq(tx.conn, seqs.clone())
        .await?
        .iter()
        .filter(|run| !run.state.is_terminal())
        .map(|run| run.seq)
        .collect();
    let ended: Vec<i64> = seqs.into_iter().filter(|seq| !open.contains(seq)).collect();
    if !ended.is_empty() {
        let names = vec![name; ended.len()];
        changed |= execute(tx.conn, sql::SUBJECT_CLOSE, values_of![names, ended]).await? > 0;
    }
    let rows = query(tx.conn, sql::SUBJECT_COUNT, values_of![name]).await?;
    let counted = rows.first().ok_or_else(|| Fault::damaged("a count has no row"))?;
    let (active, working) = (get(counted, 0)?, get(counted, 1)?);
    if (row.active, row.working) != (active, working) {
        put(tx, &BTreeMap::from([(name.to_owned(), Subject { active, working, last: row.last })])).await?;
        changed = true;
    }
    Ok(changed)
}
