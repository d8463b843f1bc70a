//! This replica's end of the way to the others: hints are notices, errands are rows.

use crate::cache::ready_classes;
use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::reader::Reader;
use crate::sql;
use crate::store::PostgresStore;
use crate::tx::Tx;
use crate::value::{get, query, values_of};
use async_trait::async_trait;
use outlive_core::{ClassId, ReplicaId};
use outlive_store::{Errand, Exchange, Hints, StoreError};
use std::sync::atomic::Ordering;

/// Writes an errand.
struct Tell {
    to: ReplicaId,
    errand: Errand,
}

#[async_trait]
impl Op for Tell {
    type Answer = ();
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<(), StoreError> {
        let (now, body) = (tx.now.0, serde_json::to_string(&self.errand)?);
        tx.execute(sql::ERRAND_PUT, values_of![self.to.0, now, body]).await?;
        tx.hints_errands = true;
        Ok(Ok(()))
    }
}

/// Takes errands.
struct Take {
    replica: ReplicaId,
    limit: u32,
}

#[async_trait]
impl Op for Take {
    type Answer = Vec<Errand>;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Vec<Errand>, StoreError> {
        let rows = tx.query(sql::ERRAND_TAKE, values_of![self.replica.0, i64::from(self.limit)]).await?;
        // One of a newer version that is not known here is passed over: behind each stands a level.
        let read = |text: &str| serde_json::from_str(text).ok();
        let errands = rows.iter().map(|row| get::<&str>(row, 0).map(read)).collect::<Done<Vec<_>>>()?;
        Ok(Ok(errands.into_iter().flatten().collect()))
    }
}

/// Ready classes, a number that is another one whenever queues or classes have changed, and whether errands wait.
async fn levels(reader: &Reader<'_>, replica: ReplicaId) -> Done<(Vec<ClassId>, i64, bool)> {
    let rows = query(reader.conn(), sql::LEVELS, values_of![replica.0]).await?;
    let row = rows.first().ok_or_else(|| Fault::damaged("outlive.meta has no row"))?;
    Ok((ready_classes(reader.conn()).await?, get(row, 0)?, get(row, 1)?))
}

#[async_trait]
impl Exchange for PostgresStore {
    async fn hints(&self) -> Hints {
        let notices = self.notices.clone();
        let waited = self.here(async move { notices.wait().await }).await;
        let (mut hints, look) = waited.unwrap_or_default();
        // Comes at least each second, and then says again what can be read as a level.
        if look || hints.is_empty() {
            let replica = self.replica;
            let levels = self.read(move |reader| Box::pin(levels(reader, replica))).await;
            // What cannot be read now is read at the next look.
            if let Ok((ready, catalog, errands)) = levels {
                let catalog = self.catalog.swap(catalog, Ordering::AcqRel) != catalog;
                hints.merge(Hints { ready, catalog, errands, ..Hints::default() });
            }
        }
        hints
    }

    async fn tell(&self, to: ReplicaId, errand: Errand) -> Result<(), StoreError> {
        self.write(Tell { to, errand }).await
    }

    async fn errands(&self, limit: u32) -> Result<Vec<Errand>, StoreError> {
        self.write(Take { replica: self.replica, limit }).await
    }
}
