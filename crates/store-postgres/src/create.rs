//! Creation: first every lookup and every refusal ([`plan`]), then the writes. So a refused batch wrote nothing.
//!
//! Plain runs stay in memory ([`Newborn`]) until the claims of the request have been made, and are then written as they
//! are. Runs with a serial key, or that replace a leased run, depend on other rows and are written first.

use crate::claim::claim_among;
use crate::db::Op;
use crate::edit::{Edit, note, record};
use crate::fault::{Answer, Done, Fault};
use crate::needs::Needs;
use crate::pending::Input;
use crate::rows::{from_text, read_ids, to_text};
use crate::tx::Tx;
use crate::value::{get, plain, values_of};
use crate::{keys, serial, sql, subject};
use async_trait::async_trait;
use outlive_core::options::RunOptions;
use outlive_core::run::{DetailPatch, Run, derive};
use outlive_core::{Json, Millis, QueueId, Reason, RunId, State, Wall};
use outlive_store::{
    Changed, Commit, CreateError, CreateRequest, CreateRun, Created, CreatedRun, Idempotency, OnConflict,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How long an idempotency key is remembered.
pub(crate) const IDEMPOTENCY_KEPT: Millis = Millis::hours(24);

/// What creations of a batch look for.
#[derive(Default)]
pub(crate) struct Lookups<'c> {
    pub(crate) chosen: BTreeSet<RunId>,
    pub(crate) keys: BTreeSet<(QueueId, &'c str)>,
    pub(crate) idempotency: BTreeSet<(&'c str, &'c str)>,
}

/// A run that will be written at the end of its request.
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

#[async_trait]
impl Op for CreateRequest {
    type Answer = Created;
    type Refusal = CreateError;

    fn weight(&self) -> usize {
        self.runs.len()
    }

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.new_runs += self.runs.len();
        for item in &self.runs {
            if item.id_chosen {
                needs.lookups.chosen.insert(item.new.id);
            }
            if let Some(key) = &item.new.key {
                needs.lookups.keys.insert((item.new.queue, key));
            }
            needs.lookups.chosen.extend([item.options.parent, item.options.retry_of].into_iter().flatten());
        }
        if let Some(idempotency) = &self.idempotency {
            needs.lookups.idempotency.insert((&self.namespace, &idempotency.key));
        }
        for order in &self.claims {
            needs.claiming.insert(order.holder.worker);
            needs.orders.push(order);
        }
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Created, CreateError> {
        create(tx, self).await
    }

    /// Runs as they are at the end of the transaction.
    fn finish(&self, answer: &mut Created, tx: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
        for one in answer.runs.iter_mut().filter(|one| !one.existed) {
            if let Some(run) = tx.loaded.runs.get(&one.run.seq) {
                one.run.blocked = run.blocked;
            }
        }
    }
}

/// Creates runs, and claims for sessions that have free slots.
pub(crate) async fn create(tx: &mut Tx<'_>, request: &CreateRequest) -> Answer<Created, CreateError> {
    let repeated = match repeated(tx, request).await? {
        Ok(repeated) => repeated,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(runs) = repeated {
        let claimed = claims(tx, request, &mut Vec::new()).await?;
        let runs = runs.into_iter().map(|run| CreatedRun { run, existed: true }).collect();
        return Ok(Ok(Created { runs, claimed, commit: Commit::default() }));
    }
    let plans = match plan(tx, request).await? {
        Ok(plans) => plans,
        Err(refused) => return Ok(Err(refused)),
    };
    if request.only_known && plans.iter().any(|plan| matches!(plan, Plan::New(_))) {
        return Ok(Err(CreateError::WouldBeNew));
    }
    let (mut results, mut newborn) = insert_dependent(tx, request, &plans).await?;
    let claimed = claims(tx, request, &mut newborn).await?;
    for one in newborn {
        let (index, run) = (one.index, one.run.clone());
        insert_newborn(tx, one).await?;
        results.insert(index, CreatedRun { run, existed: false });
    }
    let mut created = Vec::with_capacity(plans.len());
    for (i, plan) in plans.iter().enumerate() {
        let of = if let Plan::SameAs(of) = plan { *of } else { i };
        let mut result = results.get(&of).cloned().ok_or_else(|| Fault::damaged("an item of a creation was lost"))?;
        result.existed |= of != i;
        created.push(result);
    }
    if let Some(idempotency) = &request.idempotency {
        let ids: Vec<RunId> = created.iter().map(|one| one.run.id).collect();
        remember(tx, &request.namespace, idempotency, &ids);
    }
    Ok(Ok(Created { runs: created, claimed, commit: Commit::default() }))
}

async fn claims(
    tx: &mut Tx<'_>,
    request: &CreateRequest,
    newborn: &mut [Newborn],
) -> Done<Vec<outlive_store::Claimed>> {
    let mut claimed = Vec::with_capacity(request.claims.len());
    for order in &request.claims {
        claimed.push(claim_among(tx, order, newborn).await?);
    }
    Ok(claimed)
}

/// The runs that the same idempotency key made, if all of them are there still.
async fn repeated(tx: &mut Tx<'_>, request: &CreateRequest) -> Answer<Option<Vec<Run>>, CreateError> {
    let Some(Idempotency { key, body_hash }) = &request.idempotency else { return Ok(Ok(None)) };
    let Some((hash, ids)) = remembered(tx, &request.namespace, key).await? else { return Ok(Ok(None)) };
    if hash != body_hash {
        return Ok(Err(CreateError::IdempotencyMismatch));
    }
    let mut runs = Vec::with_capacity(ids.len() / 16);
    for id in read_ids(&ids)? {
        match tx.look_at(id).await? {
            Some(run) => runs.push(run),
            None => return Ok(Ok(None)),
        }
    }
    Ok(Ok(Some(runs)))
}

/// The hash and the runs of the request for which a key was used, while that counts.
pub(crate) async fn remembered(tx: &mut Tx<'_>, namespace: &str, key: &str) -> Done<Option<(Vec<u8>, Vec<u8>)>> {
    let name = (namespace.to_owned(), plain(key).into_owned());
    if !tx.loaded.idempotency.contains_key(&name) {
        let values = values_of![vec![namespace], vec![name.1.as_str()]];
        let rows = tx.query(sql::IDEMPOTENCY_GET, values).await?;
        let kept = rows.first().map(|row| Done::Ok((get(row, 2)?, get(row, 3)?, get(row, 4)?))).transpose()?;
        tx.loaded.idempotency.insert(name.clone(), kept);
    }
    let kept = tx.loaded.idempotency.get(&name).cloned().flatten();
    Ok(kept.filter(|(.., at)| Wall(*at) + IDEMPOTENCY_KEPT > tx.now).map(|(hash, ids, _)| (hash, ids)))
}

/// Remembers for which request a key was used, and what it made or changed.
pub(crate) fn remember(tx: &mut Tx<'_>, namespace: &str, idempotency: &Idempotency, runs: &[RunId]) {
    let ids: Vec<u8> = runs.iter().flat_map(|id| *id.0.as_bytes()).collect();
    let name = (namespace.to_owned(), plain(&idempotency.key).into_owned());
    let hash = idempotency.body_hash.to_vec();
    tx.loaded.idempotency.insert(name.clone(), Some((hash.clone(), ids.clone(), tx.now.0)));
    tx.pending.idempotency.insert(name, (hash, ids));
}

/// Decides what becomes of every item, or refuses the request. Reads only.
async fn plan(tx: &mut Tx<'_>, request: &CreateRequest) -> Answer<Vec<Plan>, CreateError> {
    let mut plans = Vec::with_capacity(request.runs.len());
    let mut ids: HashMap<RunId, usize> = HashMap::new();
    let mut keys: HashMap<(QueueId, &str), usize> = HashMap::new();
    let many = request.runs.len() > 1;
    for (i, item) in request.runs.iter().enumerate() {
        let class = tx.class(item.new.class).await?;
        if class.class.namespace != request.namespace || class.queue != item.new.queue {
            return Err(Fault::damaged(format!("match class {} is not of this namespace and queue", item.new.class)));
        }
        match same_id(tx, request, &ids, i, item).await? {
            Err(refused) => return Ok(Err(refused)),
            Ok(Some(plan)) => {
                plans.push(plan);
                continue;
            }
            Ok(None) => {}
        }
        for id in [item.options.parent, item.options.retry_of].into_iter().flatten() {
            if !ids.contains_key(&id) && !is_in(tx, &request.namespace, id).await? {
                return Ok(Err(CreateError::RunNotFound { index: i, id }));
            }
        }
        let planned = match &item.new.key {
            None => Plan::New(None),
            Some(key) => match same_key(tx, request, &keys, i, key).await? {
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

async fn is_in(tx: &mut Tx<'_>, namespace: &str, id: RunId) -> Done<bool> {
    match tx.look_at(id).await? {
        Some(run) => Ok(tx.class(run.class).await?.class.namespace == namespace),
        None => Ok(false),
    }
}

/// An item whose id is taken is a repetition or a conflict.
async fn same_id(
    tx: &mut Tx<'_>,
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
    let Some(run) = tx.look_at(id).await? else { return Ok(Ok(None)) };
    let rows = tx.query(sql::INPUT_GET, values_of![run.seq]).await?;
    let row = rows.first().ok_or_else(|| Fault::damaged(format!("run {id} has no input")))?;
    let (input, options): (&str, Option<String>) = (get(row, 0)?, get(row, 1)?);
    let options: RunOptions = from_text(options)?.unwrap_or_default();
    let same = run.class == item.new.class && input == item.input.text() && options == item.options;
    if same { Ok(Ok(Some(Plan::Existing(Box::new(run))))) } else { conflict }
}

/// An item whose business key is taken.
async fn same_key(
    tx: &mut Tx<'_>,
    request: &CreateRequest,
    keys: &HashMap<(QueueId, &str), usize>,
    index: usize,
    key: &str,
) -> Answer<Plan, CreateError> {
    let item = &request.runs[index];
    let owner = match keys.get(&(item.new.queue, key)) {
        Some(&earlier) => Some(Victim::Item(earlier)),
        None => owner_of(tx, item.new.queue, key).await?.map(Victim::Row),
    };
    let Some(owner) = owner else { return Ok(Ok(Plan::New(None))) };
    let row = match owner {
        // Locked: whatever it is now it stays until this request has been carried out.
        Victim::Row(seq) => tx.run_by_seq(seq).await?,
        Victim::Item(_) => None,
    };
    let gone = || Fault::Race("the run that had the key has just ended".to_owned());
    if let (Victim::Row(_), Some(run)) = (owner, &row)
        && (run.state.is_terminal() || run.key.as_deref() != Some(&*plain(key)))
    {
        return Err(gone());
    }
    Ok(match (item.on_conflict, owner) {
        (OnConflict::Replace, owner) => Ok(Plan::New(Some(owner))),
        (OnConflict::Return, Victim::Item(earlier)) => Ok(Plan::SameAs(earlier)),
        (OnConflict::Return, Victim::Row(_)) => Ok(Plan::Existing(Box::new(row.ok_or_else(gone)?))),
        (OnConflict::Reject, owner) => {
            let by = match owner {
                Victim::Item(earlier) => request.runs[earlier].new.id,
                Victim::Row(_) => row.ok_or_else(gone)?.id,
            };
            Err(CreateError::KeyConflict { index, key: key.to_owned(), by })
        }
    })
}

/// Who has a business key: as looked for beforehand, or as this transaction has changed it.
async fn owner_of(tx: &mut Tx<'_>, queue: QueueId, key: &str) -> Done<Option<i64>> {
    let name = (queue, plain(key).into_owned());
    if let Some(owner) = tx.loaded.keys.get(&name) {
        return Ok(*owner);
    }
    let rows = tx.query(sql::RUN_BY_KEY, values_of![vec![queue.0], vec![name.1.as_str()]]).await?;
    let owner = rows.first().map(|row| get(row, 2)).transpose()?;
    tx.loaded.keys.insert(name, owner);
    Ok(owner)
}

type Results = BTreeMap<usize, CreatedRun>;

/// Writes what depends on other rows; the rest comes back, to be written after the claims.
async fn insert_dependent(tx: &mut Tx<'_>, request: &CreateRequest, plans: &[Plan]) -> Done<(Results, Vec<Newborn>)> {
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
        let one = born(tx, &request.runs[i], i).await?;
        let dependent = victim.is_some() || one.run.serial_key.is_some() || (one.run.key.is_some() && replaced_here(i));
        if !dependent {
            newborn.push(one);
            continue;
        }
        rows.insert(i, one.run.seq);
        let victim = victim.and_then(|victim| match victim {
            Victim::Row(seq) => Some(seq),
            Victim::Item(of) => rows.get(&of).copied(),
        });
        insert_after(tx, one, victim).await?;
    }
    for (i, seq) in rows {
        let run = tx.run_by_seq(seq).await?.ok_or_else(|| Fault::damaged("a new row is not there"))?;
        results.insert(i, CreatedRun { run, existed: false });
    }
    Ok((results, newborn))
}

async fn born(tx: &mut Tx<'_>, item: &CreateRun, index: usize) -> Done<Newborn> {
    let policy = tx.policy(item.new.queue)?;
    let mut run = Run::create(item.new.clone(), &policy, tx.now);
    run.seq = tx.next_seq().await?;
    run.has_subjects = !item.options.subjects.is_empty();
    tx.count(&run, None, Some(run.state)).await?;
    record(tx, &run, derive::created(&run));
    let (input, options, checkpoint) = (item.input.clone(), item.options.clone(), item.checkpoint.clone());
    Ok(Newborn { queued_as: run.state, run, input, options, checkpoint, index })
}

/// Writes a run behind those that it depends on.
async fn insert_after(tx: &mut Tx<'_>, mut one: Newborn, victim: Option<i64>) -> Done<()> {
    let waits = match victim {
        Some(victim) => take_key(tx, one.run.seq, victim).await?,
        None => false,
    };
    if one.run.state == State::Queued {
        one.run.blocked = one.run.serial_key.is_some() || waits;
    }
    let run = one.run.clone();
    insert_newborn(tx, one).await?;
    if run.state == State::Queued && run.serial_key.is_some() {
        serial::moved(tx, &run, false).await?;
    }
    Ok(())
}

/// Takes the business key from the run that has it: a waiting one ends, a leased one is cancelled and `seq` waits for it.
/// Whether it does.
async fn take_key(tx: &mut Tx<'_>, seq: i64, victim: i64) -> Done<bool> {
    let run = tx.run_by_seq(victim).await?.ok_or_else(|| Fault::damaged("the index of keys names no row"))?;
    let inherited = keys::waits_for(tx, &run).await?;
    let mut edit = Edit::new(run);
    let Some(change) = edit.run.cancel(Reason::Superseded, None, tx.now) else { return Ok(false) };
    edit.apply(tx, change).await?;
    let leased = edit.run.state.is_leased();
    if leased {
        edit.run.key = None;
    }
    edit.save(tx).await?;
    match inherited.or(leased.then_some(victim)) {
        Some(waits_for) => keys::wait_for(tx, seq, waits_for).await.map(|()| true),
        None => Ok(false),
    }
}

async fn insert_newborn(tx: &mut Tx<'_>, one: Newborn) -> Done<()> {
    let Newborn { run, input, options, checkpoint, queued_as, .. } = one;
    tx.pending.inserts.insert(run.seq);
    if let Some(key) = &run.key {
        tx.loaded.keys.insert((run.queue, plain(key).into_owned()), Some(run.seq));
    }
    let options_text = if options.is_default() { None } else { to_text(Some(&options))? };
    let parent = options.parent.map(|id| id.0);
    tx.pending.inputs.push(Input { seq: run.seq, text: input.text().to_owned(), options: options_text, parent });
    if checkpoint.is_some() {
        let patch = DetailPatch { checkpoint, ..DetailPatch::default() };
        tx.pending.put_detail(&mut tx.loaded, run.seq, patch);
    }
    tx.pending.tags.extend(options.tags.into_iter().map(|(name, value)| (name, value, run.seq)));
    if run.has_subjects {
        subject::created(tx, &run, &options.subjects).await?;
    }
    note(tx, None, &run).await?;
    if run.is_ready() {
        tx.hint_ready(run.class);
    }
    tx.hints().changed.push(Changed {
        id: run.id,
        queue: run.queue,
        from: queued_as,
        to: run.state,
        epoch: run.epoch,
        reason: run.reason,
        output_next: run.output.next,
        freed: None,
        took: run.claimed_at.map(|at| at.since(run.created_at)),
    });
    tx.loaded.put(run);
    Ok(())
}
