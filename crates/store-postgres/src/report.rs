//! What workers say: each item takes its run, asks `outlive-core`, and takes down what it decided. One item never blocks
//! another.

use crate::db::Op;
use crate::edit::Edit;
use crate::fault::{Answer, Done};
use crate::needs::Needs;
use crate::rows::attempt;
use crate::serial;
use crate::tx::Tx;
use async_trait::async_trait;
use outlive_core::options::RunOptions;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{Item, ItemResult};
use outlive_core::run::{ReportContext, Run};
use outlive_core::{Holder, RunId};
use outlive_store::{Commit, Reported, StoreError};

/// Items of one sender, in order.
pub(crate) struct Report {
    pub(crate) sender: Holder,
    pub(crate) items: Vec<Item>,
}

#[async_trait]
impl Op for Report {
    type Answer = Reported;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.items.len()
    }

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        for item in &self.items {
            let said = (self.sender, item.lease);
            if *needs.reported.entry(item.lease.run_id).or_insert(said) != said {
                needs.ids.insert(item.lease.run_id);
            }
        }
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Reported, StoreError> {
        let namespace = tx.namespace_of(self.sender.worker).await?;
        let mut results = Vec::with_capacity(self.items.len());
        // Consecutive items of one run (its frames, then its end) share one load and one save.
        let mut open: Option<Edit> = None;
        for item in &self.items {
            if open.as_ref().is_none_or(|edit| edit.run.id != item.lease.run_id) {
                if let Some(edit) = open.take() {
                    edit.save(tx).await?;
                }
                open = load(tx, namespace.as_deref(), item.lease.run_id).await?.map(Edit::new);
            }
            results.push(match &mut open {
                Some(edit) => say(tx, edit, self.sender, item).await?,
                None => ItemResult::Invalid { detail: "no such run".to_owned() },
            });
        }
        if let Some(edit) = open {
            edit.save(tx).await?;
        }
        Ok(Ok(Reported { results, commit: Commit::default() }))
    }

    fn finish(&self, answer: &mut Reported, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

async fn load(tx: &mut Tx<'_>, namespace: Option<&str>, id: RunId) -> Done<Option<Run>> {
    match namespace {
        Some(namespace) => tx.run_in(namespace, id).await,
        None => Ok(None),
    }
}

async fn say(tx: &mut Tx<'_>, edit: &mut Edit, sender: Holder, item: &Item) -> Done<ItemResult> {
    let policy = tx.policy(edit.run.queue)?;
    let is_open = edit.run.lease() == Some((sender, item.lease));
    let attempt = if is_open {
        None
    } else {
        tx.flush().await?;
        attempt(tx.conn, edit.run.seq, item.lease.epoch).await?
    };
    let serial_key_moved_on = !is_open && serial::moved_on(tx, &edit.run).await?;
    let options = if item.needs_budgets() { tx.means(edit.run.seq).await?.options } else { RunOptions::default() };
    let context = ReportContext {
        sender,
        now: tx.now,
        observed: tx.observed,
        policy: &policy,
        budgets: options.budgets(&policy),
        attempt: attempt.as_ref(),
        serial_key_moved_on,
    };
    match edit.run.report(item.clone(), &context) {
        Ok(change) => {
            edit.apply(tx, change).await?;
            Ok(ItemResult::Ok)
        }
        Err(answer) => Ok(answer),
    }
}

/// How long the run may wait in its queue before its first claim.
pub(crate) async fn queue_ttl(tx: &mut Tx<'_>, run: &Run, policy: &QueuePolicy) -> Done<Option<outlive_core::Millis>> {
    Ok(tx.means(run.seq).await?.options.queue_ttl.or(policy.queue_ttl))
}
