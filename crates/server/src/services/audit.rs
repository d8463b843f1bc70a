//! I5, by level: every open lease is under somebody's watch, every worker is known where it is at home, every ready run is known
//! to be ready, whatever hint was lost.

use super::{Tick, swept};
use crate::app::App;
use crate::cluster::Cluster;
use crate::start::{ghost, session_info};
use outlive_core::engine::{Engine, Input, LeaseInfo};
use outlive_core::home::{Has, Homing};
use outlive_core::{Holder, Reason, ReplicaId, State, WorkerId};
use outlive_store::{StoreError, WorkerRow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Leases per page.
const PAGE: u32 = 1_000;
/// The home of a worker that never opened a session.
const NO_HOME: ReplicaId = ReplicaId(0);

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
    let Elsewhere { workers: foreign, mut nobody } = homes(app, &mut tick).await?;
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
            let info = match row.filter(|row| row.holder() == holder) {
                Some(row) if row.replica != app.replica => {
                    nobody.insert(row.replica);
                    continue;
                }
                // Also without an open session: the verdict is guarded by the row as it is.
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
    for replica in nobody {
        tick.acted += app.adopt_from_nobody(replica).await? as u64;
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

/// What is not at home here.
#[derive(Default)]
struct Elsewhere {
    /// Workers whose home is another replica: that one watches, or loses what it has to one that does.
    workers: BTreeSet<WorkerId>,
    /// Homes of workers that are no replica's.
    nobody: BTreeSet<ReplicaId>,
}

/// Where the store has workers at home: what the engine does not know of that, it learns.
async fn homes(app: &Arc<App>, tick: &mut Tick) -> Result<Elsewhere, StoreError> {
    let (mut elsewhere, mut after) = (Elsewhere::default(), None);
    let replicas = app.cluster.as_ref().map(Cluster::rows).unwrap_or_default();
    let known: BTreeSet<_> = replicas.into_iter().map(|row| row.row.replica).collect();
    loop {
        let rows = app.store.workers(None, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(elsewhere) };
        after = Some(last.id);
        let has = |row: &WorkerRow, engine: &Engine| engine.home_seq(row.holder()).map_or(Has::Nothing, Has::Session);
        let has: Vec<_> = app.driver.look(|engine| rows.iter().map(|row| has(row, engine)).collect());
        for (row, has) in rows.iter().zip(has) {
            let holder = row.holder();
            // What is done follows from the row as it is after that look: of what ended before it, this one may be older.
            if row.home().at(app.replica, holder, has) != Homing::Stay {
                tracing::info!(%holder, ?has, home = %row.replica, home_seq = %row.home_seq, "its home was not known");
                app.follow_home(holder, has).await;
                tick.acted += 1;
            }
        }
        if app.cluster.is_some() {
            for row in rows.iter().filter(|row| row.replica != app.replica && row.replica != NO_HOME) {
                elsewhere.workers.insert(row.id);
                if !known.is_empty() && !known.contains(&row.replica) {
                    elsewhere.nobody.insert(row.replica);
                }
            }
        }
    }
}
