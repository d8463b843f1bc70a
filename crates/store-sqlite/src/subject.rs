//! Subjects: what runs are about. Every transition of a run moves the rows of its subjects, in the same transaction.

use crate::fault::{Done, Fault};
use crate::list::run_row;
use crate::reader::Reader;
use crate::report::options;
use crate::rows::{column, execute, known, prepared, run_by_seq, runs_by_seq, single, slot_of};
use crate::sql;
use crate::tx::Tx;
use outlive_core::feed::FeedEvent;
use outlive_core::run::Run;
use outlive_core::subject::{LastRun, Subject};
use outlive_core::{Outcome, Reason, RunId, State, Wall};
use outlive_store::{SubjectRow, Swept};
use rusqlite::{Connection, params};

/// Active runs of a subject that are shown, at most.
const SHOWN: u32 = 1_000;

fn load(conn: &Connection, name: &str) -> Done<Option<Subject>> {
    let mut statement = prepared(conn, sql::SUBJECT_GET)?;
    let mut rows = statement.query([name])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let optional = |i: usize| row.get::<_, Option<i64>>(i);
    let last = match (row.get::<_, Option<uuid::Uuid>>(2)?, optional(3)?, optional(6)?) {
        (Some(run), Some(state), Some(at)) => Some(LastRun {
            run: RunId(run),
            state: known(State::from_number(state), "subject.last_state")?,
            outcome: optional(4)?.map(|n| known(Outcome::from_number(n), "subject.last_outcome")).transpose()?,
            reason: optional(5)?.map(|n| known(Reason::from_number(n), "subject.last_reason")).transpose()?,
            at: Wall(at),
        }),
        _ => None,
    };
    Ok(Some(Subject { active: row.get(0)?, working: row.get(1)?, last }))
}

fn put(conn: &Connection, name: &str, subject: &Subject) -> Done<()> {
    let last = subject.last.as_ref();
    prepared(conn, sql::SUBJECT_PUT)?.execute(params![
        name,
        subject.active,
        subject.working,
        last.map(|last| last.run.0),
        last.map(|last| last.state.number()),
        last.and_then(|last| last.outcome).map(Outcome::number),
        last.and_then(|last| last.reason).map(Reason::number),
        last.map(|last| last.at.0),
    ])?;
    Ok(())
}

/// The names as they count: each once.
fn distinct(subjects: &[String]) -> impl Iterator<Item = &String> {
    subjects.iter().enumerate().filter(|(i, name)| !subjects[..*i].contains(name)).map(|(_, name)| name)
}

/// A new run of these subjects.
pub(crate) fn created(tx: &mut Tx<'_>, run: &Run, subjects: &[String]) -> Done<()> {
    let namespace = tx.class(run.class)?.namespace.clone();
    for subject in distinct(subjects) {
        let name = slot_of(&namespace, subject);
        execute(tx.conn, sql::SUBJECT_INSERT, &[&name, &run.seq, &!run.state.is_terminal()])?;
    }
    follow(tx, run, None, subjects)
}

/// A run came from another state into the one that it has.
pub(crate) fn moved(tx: &mut Tx<'_>, run: &Run, before: State) -> Done<()> {
    let subjects = options(tx, run)?.subjects;
    follow(tx, run, Some(before), &subjects)
}

fn follow(tx: &mut Tx<'_>, run: &Run, before: Option<State>, subjects: &[String]) -> Done<()> {
    let namespace = tx.class(run.class)?.namespace.clone();
    for subject in distinct(subjects) {
        let name = slot_of(&namespace, subject);
        let was = load(tx.conn, &name)?;
        let mut row = was.clone().unwrap_or_default();
        let change = row.follow(before, run);
        if run.state.is_terminal() {
            execute(tx.conn, sql::SUBJECT_CLOSE, &[&name, &run.seq])?;
        }
        if was.as_ref() != Some(&row) {
            put(tx.conn, &name, &row)?;
        }
        if let Some(change) = change {
            let (namespace, subject) = (namespace.to_string(), subject.clone());
            tx.feed.push(&FeedEvent::Subject { at: tx.now, namespace, subject, run: run.id, change });
        }
    }
    Ok(())
}

/// A run is deleted: it is about nothing any more. A subject that no run is about is forgotten.
pub(crate) fn removed(tx: &Tx<'_>, run: &Run, subjects: &[String]) -> Done<()> {
    let namespace = &tx.class(run.class)?.namespace;
    for subject in distinct(subjects) {
        let name = slot_of(namespace, subject);
        execute(tx.conn, sql::SUBJECT_DELETE, &[&name, &run.seq])?;
        if single::<i64>(tx.conn, sql::SUBJECT_ANY, &[&name])?.is_none() {
            execute(tx.conn, sql::SUBJECT_FORGET, &[&name])?;
        }
    }
    Ok(())
}

/// A subject for people.
pub(crate) fn read(reader: &Reader<'_>, namespace: &str, subject: &str, limit: u32) -> Done<SubjectRow> {
    let name = slot_of(namespace, subject);
    let subject = load(reader.conn(), &name)?.unwrap_or_default();
    let rows = column(reader.conn(), sql::SUBJECT_ACTIVE, &[&name, &limit.min(SHOWN)])?;
    let active = runs_by_seq(reader.conn(), rows)?.into_iter().map(|run| run_row(reader, run)).collect::<Done<_>>()?;
    Ok(SubjectRow { subject, active })
}

/// The audit's look at one active run: whether a row of its subjects did not know of it.
pub(crate) fn audit_run(tx: &Tx<'_>, run: &Run) -> Done<bool> {
    if !run.has_subjects {
        return Ok(false);
    }
    let namespace = &tx.class(run.class)?.namespace;
    let mut changed = false;
    for subject in distinct(&options(tx, run)?.subjects) {
        let name = slot_of(namespace, subject);
        changed |= execute(tx.conn, sql::SUBJECT_INSERT, &[&name, &run.seq, &true])? > 0;
        if load(tx.conn, &name)?.is_none() {
            put(tx.conn, &name, &Subject::default())?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Counts the runs of the next page of subjects again. Active runs of one subject are few: an agent, an issue, a feed.
pub(crate) fn audit(tx: &mut Tx<'_>, limit: u32) -> Done<Swept> {
    let after = std::mem::take(&mut tx.cache.cursors.subject);
    let names: Vec<String> = column(tx.conn, sql::SUBJECT_NAMES, &[&after, &limit])?;
    let mut swept = Swept { more: names.len() == limit as usize, ..Swept::default() };
    for name in &names {
        if recount(tx.conn, name)? {
            swept.found += 1;
            swept.acted += 1;
        }
    }
    if swept.more {
        tx.cache.cursors.subject = names.into_iter().next_back().unwrap_or_default();
    }
    Ok(swept)
}

fn recount(conn: &Connection, name: &str) -> Done<bool> {
    // Flags of runs that have ended, or are gone, would make every later count longer.
    let mut changed = false;
    for seq in column::<i64>(conn, sql::SUBJECT_ACTIVE, &[&name, &SHOWN])? {
        if run_by_seq(conn, seq)?.is_none_or(|run| run.state.is_terminal()) {
            changed |= execute(conn, sql::SUBJECT_CLOSE, &[&name, &seq])? > 0;
        }
    }
    let row = load(conn, name)?.ok_or_else(|| Fault::damaged("a subject's row is not there after it was read"))?;
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (active, working) = prepared(conn, sql::SUBJECT_COUNT)?.query_row([name], counts)?;
    if (row.active, row.working) != (active, working) {
        put(conn, name, &Subject { active, working, last: row.last })?;
        changed = true;
    }
    Ok(changed)
}
