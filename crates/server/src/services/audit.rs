//! I5, by level: every open lease is under somebody's watch, every ready run is known to be ready, whatever hint was lost.

use super::{Tick, swept};
use crate::app::App;
use crate::start::{ghost, session_info};
use outlive_core::engine::{Input, LeaseInfo};
use outlive_core::{Holder, Reason, State, WorkerId};
use outlive_store::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Leases per page.
const PAGE: u32 = 1_000;

/// One tick: parts of which none keeps another from its work.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let leases = leases(&app).await;
    let ready = ready(&app).await;
    let waiting = app.store.audit_waiting(PAGE).await.map(|page| swept(&app, page));
    let subjects = app.store.audit_subjects(PAGE).await.map(|page| swept(&app, page));
    let all = leases?.and(ready?).and(waiting?).and(subjects?);
    Ok(Tick { more: false, ..all })
}

/// Every open lease is watched; what nobody watches is, from now on.
async fn leases(app: &Arc<App>) -> Result<Tick, StoreError> {
    let mut tick = Tick::default();
    let foreign = foreign(app).await?;
    let mut cursor = None;
    loop {
        let page = app.store.leases_after(cursor, PAGE).await?;
        let mut unwatched: BTreeMap<Holder, Vec<LeaseInfo>> = BTreeMap::new();
        let mut cancels = Vec::new();
        let mut watched: BTreeMap<Holder, BTreeSet<_>> = BTreeMap::new();
        for row in &page.rows {
            let Some((holder, lease)) = row.run.lease() else { continue };
            tick.found += 1;
            if row.run.state == State::Cancelling {
                // The order may have been lost on its way; an agent that has it already does nothing more.
                cancels.push(Input::Cancel(holder, lease, row.run.reason.unwrap_or(Reason::Cancelled)));
            }
            let known = watched
                .entry(holder)
                .or_insert_with(|| app.driver.look(|engine| engine.leases(holder)).into_iter().collect());
            if !known.contains(&lease) {
                unwatched.entry(holder).or_default().extend(app.lease_info(row));
            }
        }
        let seen = page.rows.iter().filter_map(|row| Some((row.run.lease()?.0, app.lease_info(row)?))).collect();
        app.input(Input::Seen(seen));
        for (holder, leases) in unwatched.into_iter().filter(|(holder, _)| !foreign.contains(&holder.worker)) {
            tick.acted += leases.len() as u64;
            let row = app.store.worker(holder.worker).await?;
            let info = match row.filter(|row| row.holder() == holder && row.session_open) {
                Some(row) => session_info(&row, row.home_seq, leases),
                None => ghost(holder, leases),
            };
            app.input(Input::Audit(info));
        }
        app.inputs(cancels);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(tick)
}

/// Every ready run is known to be ready.
async fn ready(app: &Arc<App>) -> Result<Tick, StoreError> {
    let ready = app.store.ready_classes().await?;
    if !ready.is_empty() {
        app.input(Input::Ready(ready));
    }
    Ok(Tick::default())
}

/// Workers whose home is another replica: that one watches, or loses what it has to one that does.
async fn foreign(app: &Arc<App>) -> Result<BTreeSet<WorkerId>, StoreError> {
    let (mut foreign, mut after) = (BTreeSet::new(), None);
    while app.cluster.is_some() {
        let rows = app.store.workers(None, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        foreign.extend(rows.iter().filter(|row| row.replica != app.replica).map(|row| row.id));
    }
    Ok(foreign)
}
