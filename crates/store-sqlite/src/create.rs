//! Creation: first every lookup and every refusal ([`plan`]), then the writes. So a refused batch wrote nothing.
//!
//! Plain runs stay in memory ([`Newborn`]) until the claims of the request have been made, and are then inserted as they
//! are. Runs with a serial key, or that replace a leased run, depend on other rows and are inserted first.

use crate::claim::claim_among;
use crate::edit::{Edit, put_detail, record};
use crate::fault::{Answer, Done, Fault};
use crate::rows::{execute, prepared, run_by_id, run_by_seq, single, to_text};
use crate::tx::Tx;
use crate::{keys, serial, sql, subject};
use outlive_core::options::RunOptions;
use outlive_core::run::{DetailPatch, Run, derive};
use outlive_core::{Json, Millis, QueueId, Reason, RunId, State, Wall};
use outlive_store::{Changed, CreateError, CreateRequest, CreateRun, Created, CreatedRun, Idempotency, OnConflict};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// How long an idempotency key is remembered.
pub(crate) const IDEMPOTENCY_KEPT: Millis = Millis::hours(24);

/// A run that will be inserted at the end of its request.
pub(crate) struct Newborn {
    pub(crate) run: Run,
    pub(crate) input: Json,
    pub(crate) options: RunOptions,
    pub(crate) checkpoint: Option<Json>,
    index: usize,
    queued_as: State,
}

/// What becomes of one item.
enum Plan {
    /// It is this run already.
    Existing(Box<Run>),
    /// It is what an earlier item of the request becomes.
    SameAs(usize),
    /// A new run, which may take a business key from another one.
    New(Option<Victim>),
}

/// Who has the business key now.
#[derive(Clone, Copy)]
enum Victim {
    Row(i64),
    Item(usize),
}

pub(crate) fn create(tx: &mut Tx<'_>, request: &CreateRequest) -> Answer<Created, CreateError> {
    let repeated = match repeated(tx, request)? {
        Ok(repeated) => repeated,
        Err(refused) => return Ok(Err(refused)),
    };
    let runs = if let Some(runs) = repeated {
        let claimed = claims(tx, request, &mut Vec::new())?;
        let runs = runs.into_iter().map(|run| CreatedRun { run, existed: true }).collect();
        return Ok(Ok(Created { runs, claimed, commit: tx.take_hints() }));
    } else {
        match plan(tx, request)? {
            Ok(plans) => plans,
            Err(refused) => return Ok(Err(refused)),
        }
    };
    if request.only_known && runs.iter().any(|plan| matches!(plan, Plan::New(_))) {
        return Ok(Err(CreateError::WouldBeNew));
    }
    let (mut results, mut newborn) = insert_dependent(tx, request, &runs)?;
    let claimed = claims(tx, request, &mut newborn)?;
    for one in newborn {
        insert_newborn(tx, request, &one)?;
        results.insert(one.index, CreatedRun { run: one.run, existed: false });
    }
    let mut created = Vec::with_capacity(runs.len());
    for (i, plan) in runs.iter().enumerate() {
        let of = if let Plan::SameAs(of) = plan { *of } else { i };
        let mut result = results.get(&of).cloned().ok_or_else(|| Fault::damaged("an item of a creation was lost"))?;
        result.existed |= of != i;
        created.push(result);
    }
    if let Some(idempotency) = &request.idempotency {
        let ids: Vec<RunId> = created.iter().map(|one| one.run.id).collect();
        remember(tx, &request.namespace, idempotency, &ids)?;
    }
    Ok(Ok(Created { runs: created, claimed, commit: tx.take_hints() }))
}

fn claims(tx: &mut Tx<'_>, request: &CreateRequest, newborn: &mut [Newborn]) -> Done<Vec<outlive_store::Claimed>> {
    request.claims.iter().map(|order| claim_among(tx, order, newborn)).collect()
}

/// The runs that the same idempotency key made, if all of them are there still.
fn repeated(tx: &Tx<'_>, request: &CreateRequest) -> Answer<Option<Vec<Run>>, CreateError> {
    let Some(Idempotency { key, body_hash }) = &request.idempotency else { return Ok(Ok(None)) };
    let Some((hash, ids)) = remembered(tx, &request.namespace, key)? else { return Ok(Ok(None)) };
    if hash != body_hash {
        return Ok(Err(CreateError::IdempotencyMismatch));
    }
    let mut runs = Vec::with_capacity(ids.len() / 16);
    for id in ids.chunks_exact(16) {
        let id = Uuid::from_slice(id).map_err(|_| Fault::damaged("idempotency.runs holds no ids"))?;
        match run_by_id(tx.conn, RunId(id))? {
            Some(run) => runs.push(run),
            None => return Ok(Ok(None)),
        }
    }
    Ok(Ok(Some(runs)))
}

/// The hash and the runs of the request for which a key was used, while that counts.
pub(crate) fn remembered(tx: &Tx<'_>, namespace: &str, key: &str) -> Done<Option<(Vec<u8>, Vec<u8>)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(Vec<u8>, Vec<u8>, i64)> =
        prepared(tx.conn, sql::IDEMPOTENCY_GET)?.query_row(params![namespace, key], read).optional()?;
    Ok(found.filter(|(.., at)| Wall(*at) + IDEMPOTENCY_KEPT > tx.now).map(|(hash, ids, _)| (hash, ids)))
}

/// Remembers for which request a key was used, and what it made or changed.
pub(crate) fn remember(tx: &Tx<'_>, namespace: &str, idempotency: &Idempotency, runs: &[RunId]) -> Done<()> {
    let ids: Vec<u8> = runs.iter().flat_map(|id| *id.0.as_bytes()).collect();
    let values: [&dyn rusqlite::ToSql; 5] =
        [&namespace, &idempotency.key, &&idempotency.body_hash[..], &ids, &tx.now.0];
    execute(tx.conn, sql::IDEMPOTENCY_PUT, &values)?;
    Ok(())
}

/// Decides what becomes of every item, or refuses the request. Reads only.
fn plan(tx: &Tx<'_>, request: &CreateRequest) -> Answer<Vec<Plan>, CreateError> {
    let mut plans = Vec::with_capacity(request.runs.len());
    let mut ids: HashMap<RunId, usize> = HashMap::new();
    let mut keys: HashMap<(QueueId, &str), usize> = HashMap::new();
    let many = request.runs.len() > 1;
    for (i, item) in request.runs.iter().enumerate() {
        let class = tx.class(item.new.class)?;
        if *class.namespace != *request.namespace || class.row.queue != item.new.queue {
            return Err(Fault::damaged(format!("match class {} is not of this namespace and queue", item.new.class)));
        }
        match same_id(tx, request, &ids, i, item)? {
            Err(refused) => return Ok(Err(refused)),
            Ok(Some(plan)) => {
                plans.push(plan);
                continue;
            }
            Ok(None) => {}
        }
        for id in [item.options.parent, item.options.retry_of].into_iter().flatten() {
            if !ids.contains_key(&id) && tx.run_in(&request.namespace, id)?.is_none() {
                return Ok(Err(CreateError::RunNotFound { index: i, id }));
            }
        }
        let planned = match &item.new.key {
            None => Plan::New(None),
            Some(key) => match same_key(tx, request, &keys, i, key)? {
                Ok(plan) => plan,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        if let (Plan::New(_), Some(key)) = (&planned, &item.new.key) {
            keys.insert((item.new.queue, key), i);
        }
        if many || item.id_chosen {
            ids.insert(item.new.id, i);
        }
        plans.push(planned);
    }
    Ok(Ok(plans))
}

/// An item whose id is taken is a repetition or a conflict.
fn same_id(
    tx: &Tx<'_>,
    request: &CreateRequest,
    ids: &HashMap<RunId, usize>,
    index: usize,
    item: &CreateRun,
) -> Answer<Option<Plan>, CreateError> {
    let id = item.new.id;
    if !item.id_chosen {
        return Ok(Ok(None));
    }
    let conflict = Ok(Err(CreateError::IdConflict { index, id }));
    if let Some(&earlier) = ids.get(&id) {
        let other = &request.runs[earlier];
        let same = (other.new.class, &other.input, &other.options) == (item.new.class, &item.input, &item.options);
        return if same { Ok(Ok(Some(Plan::SameAs(earlier)))) } else { conflict };
    }
    let Some(run) = run_by_id(tx.conn, id)? else { return Ok(Ok(None)) };
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let stored: (String, Option<String>) = prepared(tx.conn, sql::INPUT_GET)?.query_row([run.seq], read)?;
    let options: RunOptions = crate::rows::from_text(stored.1)?.unwrap_or_default();
    let same = run.class == item.new.class && stored.0 == item.input.text() && options == item.options;
    if same { Ok(Ok(Some(Plan::Existing(Box::new(run))))) } else { conflict }
}

/// An item whose business key is taken.
fn same_key(
    tx: &Tx<'_>,
    request: &CreateRequest,
    keys: &HashMap<(QueueId, &str), usize>,
    index: usize,
    key: &str,
) -> Answer<Plan, CreateError> {
    let item = &request.runs[index];
    let owner = match keys.get(&(item.new.queue, key)) {
        Some(&earlier) => Some(Victim::Item(earlier)),
        None => single(tx.conn, sql::RUN_BY_KEY, &[&item.new.queue.0, &key])?.map(Victim::Row),
    };
    let Some(owner) = owner else { return Ok(Ok(Plan::New(None))) };
    let row = match owner {
        Victim::Row(seq) => run_by_seq(tx.conn, seq)?,
        Victim::Item(_) => None,
    };
    Ok(match (item.on_conflict, owner) {
        (OnConflict::Replace, owner) => Ok(Plan::New(Some(owner))),
        (OnConflict::Return, Victim::Item(earlier)) => Ok(Plan::SameAs(earlier)),
        (OnConflict::Return, Victim::Row(_)) => {
            let run = row.ok_or_else(|| Fault::damaged("the index of keys names no row"))?;
            Ok(Plan::Existing(Box::new(run)))
        }
        (OnConflict::Reject, owner) => {
            let by = match owner {
                Victim::Item(earlier) => request.runs[earlier].new.id,
                Victim::Row(_) => row.ok_or_else(|| Fault::damaged("the index of keys names no row"))?.id,
            };
            Err(CreateError::KeyConflict { index, key: key.to_owned(), by })
        }
    })
}

type Results = BTreeMap<usize, CreatedRun>;

/// Inserts what depends on other rows; the rest comes back, to be inserted after the claims.
fn insert_dependent(tx: &mut Tx<'_>, request: &CreateRequest, plans: &[Plan]) -> Done<(Results, Vec<Newborn>)> {
    let mut results = Results::new();
    let mut newborn: Vec<Newborn> = Vec::with_capacity(plans.len());
    let replaced_here =
        |i: usize| plans.iter().any(|plan| matches!(plan, Plan::New(Some(Victim::Item(of))) if *of == i));
    let mut rows: BTreeMap<usize, i64> = BTreeMap::new();
    for (i, plan) in plans.iter().enumerate() {
        let victim = match plan {
            Plan::Existing(run) => {
                results.insert(i, CreatedRun { run: (**run).clone(), existed: true });
                continue;
            }
            Plan::SameAs(_) => continue,
            Plan::New(victim) => victim,
        };
        let one = born(tx, &request.runs[i], i)?;
        let dependent = victim.is_some() || one.run.serial_key.is_some() || (one.run.key.is_some() && replaced_here(i));
        if !dependent {
            newborn.push(one);
            continue;
        }
        let seq = one.run.seq;
        rows.insert(i, seq);
        let victim = victim.and_then(|victim| match victim {
            Victim::Row(seq) => Some(seq),
            Victim::Item(of) => rows.get(&of).copied(),
        });
        insert_after(tx, request, one, victim)?;
    }
    for (i, seq) in rows {
        let run = run_by_seq(tx.conn, seq)?.ok_or_else(|| Fault::damaged("a new row is not there"))?;
        results.insert(i, CreatedRun { run, existed: false });
    }
    Ok((results, newborn))
}

fn born(tx: &mut Tx<'_>, item: &CreateRun, index: usize) -> Done<Newborn> {
    let policy = tx.policy(item.new.queue)?;
    let mut run = Run::create(item.new.clone(), &policy, tx.now);
    run.seq = tx.cache.next_seq();
    run.has_subjects = !item.options.subjects.is_empty();
    tx.cache.count(&run, None, Some(run.state));
    let event = derive::created(&run);
    record(tx, &run, &event)?;
    let (input, options, checkpoint) = (item.input.clone(), item.options.clone(), item.checkpoint.clone());
    Ok(Newborn { queued_as: run.state, run, input, options, checkpoint, index })
}

/// Inserts a run behind those that it depends on.
fn insert_after(tx: &mut Tx<'_>, request: &CreateRequest, mut one: Newborn, victim: Option<i64>) -> Done<()> {
    if let Some(victim) = victim {
        take_key(tx, one.run.seq, victim)?;
    }
    if one.run.state == State::Queued {
        one.run.blocked = one.run.serial_key.is_some() || keys::waits(tx, one.run.seq);
    }
    insert_newborn(tx, request, &one)?;
    if one.run.state == State::Queued && one.run.serial_key.is_some() {
        serial::moved(tx, &one.run, false)?;
    }
    Ok(())
}

/// Takes the business key from the run that has it: a waiting one ends, a leased one is cancelled and `seq` waits for it.
fn take_key(tx: &mut Tx<'_>, seq: i64, victim: i64) -> Done<()> {
    let run = run_by_seq(tx.conn, victim)?.ok_or_else(|| Fault::damaged("the index of keys names no row"))?;
    let inherited = keys::waits_for(tx, victim);
    let mut edit = Edit::new(run);
    let Some(change) = edit.run.cancel(Reason::Superseded, None, tx.now) else { return Ok(()) };
    edit.apply(tx, change)?;
    let leased = edit.run.state.is_leased();
    if leased {
        edit.run.key = None;
    }
    edit.save(tx)?;
    match inherited.or(leased.then_some(victim)) {
        Some(waits_for) => keys::wait_for(tx, seq, waits_for),
        None => Ok(()),
    }
}

fn insert_newborn(tx: &mut Tx<'_>, request: &CreateRequest, one: &Newborn) -> Done<()> {
    let run = &one.run;
    tx.insert_run(run, &request.namespace)?;
    let options = if one.options.is_default() { None } else { to_text(Some(&one.options))? };
    let parent = one.options.parent.map(|id| id.0);
    prepared(tx.conn, sql::INPUT_INSERT)?.execute(params![run.seq, one.input.text(), options, parent])?;
    if one.checkpoint.is_some() {
        let patch = DetailPatch { checkpoint: one.checkpoint.clone(), ..DetailPatch::default() };
        put_detail(tx, run.seq, &patch)?;
    }
    for (name, value) in &one.options.tags {
        execute(tx.conn, sql::TAG_INSERT, &[name, value, &run.seq])?;
    }
    if run.has_subjects {
        subject::created(tx, run, &one.options.subjects)?;
    }
    if run.is_ready() {
        tx.hint_ready(run.class);
    }
    tx.hints.changed.push(Changed {
        id: run.id,
        queue: run.queue,
        from: one.queued_as,
        to: run.state,
        epoch: run.epoch,
        reason: run.reason,
        output_next: run.output.next,
        freed: None,
        took: run.claimed_at.map(|at| at.since(run.created_at)),
    });
    Ok(())
}
