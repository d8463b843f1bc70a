//! What people do to one run: cancel, release, delete.

use crate::create::{remember, remembered};
use crate::db::Op;
use crate::edit::Edit;
use crate::fault::{Answer, Done, Fault};
use crate::needs::Needs;
use crate::report::queue_ttl;
use crate::tx::Tx;
use crate::value::{get, plain, values_of};
use crate::{sql, subject};
use async_trait::async_trait;
use outlive_core::run::Run;
use outlive_core::{Json, Reason, RunId};
use outlive_store::{Cancelled, Commit, Idempotency, WriteError};

/// Descendants that one transaction cancels. A larger family takes several; the run itself is cancelled in the last, so that
/// an interrupted cancel is repeated by whoever asked.
pub(crate) const FAMILY: usize = 1_000;
/// Children that are looked for at once.
const CHILDREN: i64 = 100;

/// Cancels descendants, at most [`FAMILY`]; `true`: there may be more.
pub(crate) struct CancelFamily {
    pub(crate) namespace: String,
    pub(crate) id: RunId,
}

#[async_trait]
impl Op for CancelFamily {
    type Answer = (bool, Commit);
    type Refusal = WriteError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<(bool, Commit), WriteError> {
        let run = match find(tx, &self.namespace, self.id).await? {
            Ok(run) => run,
            Err(refused) => return Ok(Err(refused)),
        };
        if run.is_cancelled() {
            return Ok(Ok((false, Commit::default())));
        }
        if run.state.is_terminal() {
            return Ok(Err(WriteError::Terminal(run.state)));
        }
        let mut left = FAMILY;
        let mut parents = vec![run.id];
        while let Some(parent) = parents.pop() {
            let mut before = i64::MAX;
            loop {
                let rows = tx.query(sql::CHILDREN, values_of![parent.0, before, CHILDREN]).await?;
                let children = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
                tx.lock_seqs(&children).await?;
                for &seq in &children {
                    before = seq;
                    let Some(child) = tx.run_by_seq(seq).await? else { continue };
                    parents.push(child.id);
                    if child.state.is_terminal() || child.state == outlive_core::State::Cancelling {
                        continue;
                    }
                    cancel_run(tx, child, Reason::Cancelled, None).await?;
                    left -= 1;
                    if left == 0 {
                        return Ok(Ok((true, Commit::default())));
                    }
                }
                if i64::try_from(children.len()).unwrap_or(0) < CHILDREN {
                    break;
                }
            }
        }
        Ok(Ok((false, Commit::default())))
    }

    fn finish(&self, answer: &mut (bool, Commit), _: &Tx<'_>, hints: Commit) {
        answer.1 = hints;
    }
}

/// Cancels one run.
pub(crate) struct Cancel {
    pub(crate) namespace: String,
    pub(crate) id: RunId,
    pub(crate) reason: Reason,
    pub(crate) note: Option<String>,
}

#[async_trait]
impl Op for Cancel {
    type Answer = Cancelled;
    type Refusal = WriteError;

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.ids.insert(self.id);
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Cancelled, WriteError> {
        let run = match find(tx, &self.namespace, self.id).await? {
            Ok(run) => run,
            Err(refused) => return Ok(Err(refused)),
        };
        if run.is_cancelled() {
            return Ok(Ok(Cancelled { state: run.state, commit: Commit::default() }));
        }
        if run.state.is_terminal() {
            return Ok(Err(WriteError::Terminal(run.state)));
        }
        let run = cancel_run(tx, run, self.reason, self.note.clone()).await?;
        Ok(Ok(Cancelled { state: run.state, commit: Commit::default() }))
    }

    fn finish(&self, answer: &mut Cancelled, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

async fn cancel_run(tx: &mut Tx<'_>, run: Run, reason: Reason, note: Option<String>) -> Done<Run> {
    let mut edit = Edit::new(run);
    if let Some(change) = edit.run.cancel(reason, note, tx.now) {
        edit.apply(tx, change).await?;
    }
    edit.save(tx).await
}

/// Queues a held or scheduled run now.
pub(crate) struct Release {
    pub(crate) namespace: String,
    pub(crate) id: RunId,
    pub(crate) data: Option<Json>,
    pub(crate) key: Option<Idempotency>,
}

#[async_trait]
impl Op for Release {
    type Answer = Commit;
    type Refusal = WriteError;

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.ids.insert(self.id);
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Commit, WriteError> {
        if let Some(key) = &self.key
            && let Some((hash, _)) = remembered(tx, &self.namespace, &key.key).await?
        {
            let same = hash == key.body_hash;
            return Ok(if same { Ok(Commit::default()) } else { Err(WriteError::IdempotencyMismatch) });
        }
        let run = match find(tx, &self.namespace, self.id).await? {
            Ok(run) => run,
            Err(refused) => return Ok(Err(refused)),
        };
        let state = run.state;
        if state.is_terminal() {
            return Ok(Err(WriteError::Terminal(state)));
        }
        let policy = tx.policy(run.queue)?;
        let ttl = queue_ttl(tx, &run, &policy).await?;
        let mut edit = Edit::new(run);
        let Some(change) = edit.run.release(self.data.clone(), ttl, tx.now) else {
            return Ok(Err(WriteError::NotWaiting(state)));
        };
        edit.apply(tx, change).await?;
        edit.save(tx).await?;
        if let Some(key) = &self.key {
            remember(tx, &self.namespace, key, &[self.id]);
        }
        Ok(Ok(Commit::default()))
    }

    fn finish(&self, answer: &mut Commit, _: &Tx<'_>, hints: Commit) {
        *answer = hints;
    }
}

/// Removes a terminal run and what belongs to it. Recoveries stay: they measure workers, not runs.
pub(crate) struct Delete {
    pub(crate) namespace: String,
    pub(crate) id: RunId,
}

#[async_trait]
impl Op for Delete {
    type Answer = ();
    type Refusal = WriteError;

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.ids.insert(self.id);
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<(), WriteError> {
        let run = match find(tx, &self.namespace, self.id).await? {
            Ok(run) => run,
            Err(refused) => return Ok(Err(refused)),
        };
        if !run.state.is_terminal() {
            return Ok(Err(WriteError::NotTerminal(run.state)));
        }
        remove(tx, &[run]).await.map(Ok)
    }
}

/// Deletes every row of terminal runs.
pub(crate) async fn remove(tx: &mut Tx<'_>, runs: &[Run]) -> Done<()> {
    let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
    tx.load_means(&seqs).await?;
    for run in runs {
        if !run.state.is_terminal() {
            return Err(Fault::damaged("a run that has not ended cannot be removed"));
        }
        let options = tx.means(run.seq).await?.options;
        for (name, value) in &options.tags {
            tx.execute(sql::TAG_DELETE, values_of![plain(name), plain(value), run.seq]).await?;
        }
        if run.has_subjects {
            subject::removed(tx, run, &options.subjects).await?;
        }
    }
    for statement in [
        sql::OUTPUT_DELETE,
        sql::GAP_DELETE,
        sql::ATTEMPT_DELETE,
        sql::EVENT_DELETE,
        sql::DETAIL_DELETE,
        sql::INPUT_DELETE,
        sql::RUN_DELETE,
    ] {
        tx.execute(statement, values_of![seqs]).await?;
    }
    for run in runs {
        tx.loaded.remove(run);
    }
    Ok(())
}

async fn find(tx: &mut Tx<'_>, namespace: &str, id: RunId) -> Answer<Run, WriteError> {
    Ok(tx.run_in(namespace, id).await?.ok_or(WriteError::NotFound))
}
