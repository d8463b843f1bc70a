//! What workers say: each item loads its run, asks `outlive-core`, and writes what it decided. One item never blocks another.

use crate::edit::Edit;
use crate::fault::Done;
use crate::rows::{attempt, from_text, single};
use crate::tx::Tx;
use crate::{serial, sql};
use outlive_core::options::RunOptions;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{Item, ItemResult};
use outlive_core::run::{ReportContext, Run};
use outlive_core::{Holder, RunId};
use outlive_store::Reported;

/// Applies items in order.
pub(crate) fn report(tx: &mut Tx<'_>, sender: Holder, items: &[Item]) -> Done<Reported> {
    let namespace = tx.guard(sender.worker)?.map(|guard| guard.namespace);
    let mut results = Vec::with_capacity(items.len());
    // Consecutive items of one run (its frames, then its end) share one load and one save.
    let mut open: Option<Edit> = None;
    for item in items {
        if open.as_ref().is_none_or(|edit| edit.run.id != item.lease.run_id) {
            if let Some(edit) = open.take() {
                edit.save(tx)?;
            }
            open = load(tx, namespace.as_deref(), item.lease.run_id)?.map(Edit::new);
        }
        results.push(match &mut open {
            Some(edit) => say(tx, edit, sender, item)?,
            None => ItemResult::Invalid { detail: "no such run".to_owned() },
        });
    }
    if let Some(edit) = open {
        edit.save(tx)?;
    }
    Ok(Reported { results, commit: tx.take_hints() })
}

fn load(tx: &Tx<'_>, namespace: Option<&str>, id: RunId) -> Done<Option<Run>> {
    match tx.leased_run(id)? {
        Some(run) if namespace == Some(&*tx.class(run.class)?.namespace) => Ok(Some(run)),
        _ => Ok(None),
    }
}

fn say(tx: &mut Tx<'_>, edit: &mut Edit, sender: Holder, item: &Item) -> Done<ItemResult> {
    let run = &edit.run;
    let policy = tx.policy(run.queue)?;
    let is_open = run.lease() == Some((sender, item.lease));
    let attempt = if is_open { None } else { attempt(tx.conn, run.seq, item.lease.epoch)? };
    let serial_key_moved_on = !is_open && serial::moved_on(tx, run)?;
    let options = if item.needs_budgets() { options(tx, run)? } else { RunOptions::default() };
    let context = ReportContext {
        sender,
        now: tx.now,
        observed: tx.cache.observed,
        policy: &policy,
        budgets: options.budgets(&policy),
        attempt: attempt.as_ref(),
        serial_key_moved_on,
    };
    match edit.run.report(item.clone(), &context) {
        Ok(change) => {
            edit.apply(tx, change)?;
            Ok(ItemResult::Ok)
        }
        Err(answer) => Ok(answer),
    }
}

/// The run's own options.
pub(crate) fn options(tx: &Tx<'_>, run: &Run) -> Done<RunOptions> {
    let text = single::<Option<String>>(tx.conn, sql::INPUT_OPTIONS, &[&run.seq])?.flatten();
    Ok(from_text(text)?.unwrap_or_default())
}

/// How long the run may wait in its queue before its first claim.
pub(crate) fn queue_ttl(tx: &Tx<'_>, run: &Run, policy: &QueuePolicy) -> Done<Option<outlive_core::Millis>> {
    Ok(options(tx, run)?.queue_ttl.or(policy.queue_ttl))
}
