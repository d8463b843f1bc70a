//! A store made from a copy: in a file of its own until it is whole, then under the store's name.
//!
//! What ran after the copy was made is not in it, and its workers do not know that. So nothing of the lost store may be taken
//! for something of the new one, and nothing may run twice at once:
//!
//! - the *generation* changes: session tokens of any other are void, workers register anew;
//! - the *epochs* of all runs that have not ended jump by 2^20, and nobody holds them: whatever is said under an older epoch is
//!   fenced, and the worker that says it kills that attempt;
//! - what was leased is queued again, from its last checkpoint, at no cost. That happens only when no worker can believe in an
//!   old lease any more, which is what [`Restoring::trusted`] is for: whoever waits that long starts nothing twice.
//!
//! ```text
//!   begin  lock ─► read the copy through ─► copy to STORE.part ─► migrate
//!   (wait)
//!   finish renew, in one transaction ─► fold the log ─► fsync ─► STORE kept as STORE.replaced-N ─► renamed
//! ```

use crate::backup::{self, Part};
use crate::db::{Db, Write};
use crate::fault::{Answer, Done, Fault};
use crate::lose::lose;
use crate::open::{self, Lock, embedded, refused, unusable};
use crate::rows::{column, execute, runs_by_seq, single};
use crate::sql;
use crate::tx::Tx;
use outlive_core::clock::Clock;
use outlive_core::policy::{LeaseTerms, QueuePolicy};
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Epoch, Holder, Millis, Reason, State};
use outlive_store::{Backup, Restored, StoreError, Verdict};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// A store that is being restored. Its name is locked; dropping this leaves everything as it was.
pub struct Restoring {
    to: PathBuf,
    part: Part,
    copy: Backup,
    db: Db,
    trusted: Millis,
    _lock: Lock,
}

impl std::fmt::Debug for Restoring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restoring").field("to", &self.to).field("copy", &self.copy).finish_non_exhaustive()
    }
}

impl Restoring {
    /// Reads the copy through and brings it to the schema of this version, beside the store. The store itself is not touched.
    ///
    /// # Errors
    /// [`StoreError::Refused`], in words that say what to do: the copy is none, a server has the store open, or there is a store
    /// and `overwrite` is false.
    pub fn begin(from: &Path, to: &Path, overwrite: bool, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        if !from.exists() {
            return Err(refused(format!("there is no copy at {}", from.display())));
        }
        let lock = open::lock(to)?;
        if !overwrite && to.exists() {
            return Err(backup::exists(to));
        }
        let no_copy = |fault: Fault| match fault {
            Fault::Corrupt(why) | Fault::Damaged(why) => {
                refused(format!("{} is damaged, or is no copy of a store ({why})", from.display()))
            }
            other => unusable(from, &other),
        };
        let copy = backup::examine(from, from).map_err(no_copy)?;
        if copy.schema > embedded::newest() {
            let (schema, known) = (copy.schema, embedded::newest());
            return Err(refused(format!(
                "{} was made by a newer version (schema {schema}; this one knows {known}); restore it with that version",
                from.display()
            )));
        }
        let part = Part::new(to)?;
        backup::copy(from, &part.0).map_err(no_copy)?;
        let conn = open::writer(&part.0, &*clock)?;
        let _ = std::fs::remove_file(open::beside(&part.0, &format!("schema-{}", copy.schema)));
        let trusted = trusted(&conn).map_err(|fault| fault.refused())?;
        let db = Db::new(conn, clock).map_err(|fault| fault.refused())?;
        Ok(Self { to: to.to_owned(), part, copy, db, trusted, _lock: lock })
    }

    /// What the copy holds.
    #[must_use]
    pub const fn copy(&self) -> &Backup {
        &self.copy
    }

    /// How long workers may go on believing in a lease of the lost store after its server last answered them: the longest TTL
    /// and grace of any queue that has something to do. Nothing if there is nothing to do.
    #[must_use]
    pub const fn trusted(&self) -> Millis {
        self.trusted
    }

    /// Puts the restored store in its place.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: what was there before is still there.
    pub fn finish(self) -> Result<Restored, StoreError> {
        let Self { to, part, copy, mut db, trusted: _, _lock } = self;
        let renewed = within(&mut db, renew)?;
        let unusable = |fault| unusable(&part.0, &fault);
        fold_log(&db.conn).map_err(unusable)?;
        drop(db);
        backup::examine(&part.0, &to).map_err(unusable)?;
        let replaced = set_aside(&to)?;
        part.becomes(&to, true)?;
        let Renewed { requeued, cancelled, generation } = renewed;
        Ok(Restored { file: to, replaced, runs: copy.runs, requeued, cancelled, generation })
    }
}

/// The longest trust that a lease given out of this store may still have.
fn trusted(conn: &Connection) -> Done<Millis> {
    let open = column::<i64>(conn, sql::TERMS_OPEN, &[])?.into_iter().map(LeaseTerms::from_number);
    let mut longest = open.map(|terms| terms.lease_ttl + terms.offline_grace).max().unwrap_or_default();
    // What waits here may have been claimed since.
    for policy in column::<String>(conn, sql::POLICY_UNFINISHED, &[])? {
        let policy: QueuePolicy = serde_json::from_str(&policy)?;
        longest = longest.max(policy.lease_ttl + policy.offline_grace);
    }
    Ok(longest)
}

struct Renewed {
    requeued: u64,
    cancelled: u64,
    generation: Uuid,
}

/// Everything that makes it another store than the one that was lost.
fn renew(tx: &mut Tx<'_>) -> Answer<Renewed, StoreError> {
    let leased = runs_by_seq(tx.conn, column(tx.conn, sql::LEASED_PAGE, &[&i64::MAX, &i64::MAX])?)?;
    let cancelled = leased.iter().filter(|run| run.state == State::Cancelling).count() as u64;
    let holders: BTreeSet<Holder> = leased.iter().filter_map(|run| run.holder).collect();
    let mut lost = 0;
    for holder in holders {
        let verdict = Verdict {
            holder,
            guard: None,
            leases: None,
            reason: Reason::LeaseReleased,
            evidence: Evidence::Person,
            last_heard_at: tx.now,
            budget: LossBudget::Free,
            end_session: true,
        };
        lost += lose(tx, &verdict)?.lost.len() as u64;
    }
    let random = single::<Vec<u8>>(tx.conn, sql::RANDOM_BYTES, &[&16])?.unwrap_or_default();
    let generation = Uuid::from_slice(&random).map_err(|e| Fault::Other(e.to_string()))?;
    execute(tx.conn, sql::META_RENEW, &[&generation])?;
    execute(tx.conn, sql::RUN_RENEW, &[&Epoch::JUMP])?;
    execute(tx.conn, sql::WORKER_RENEW, &[])?;
    execute(tx.conn, sql::REQUEST_RENEW, &[])?;
    Ok(Ok(Renewed { requeued: lost - cancelled, cancelled, generation }))
}

/// One command in a transaction of its own, at once.
fn within<T: Send + 'static>(db: &mut Db, work: fn(&mut Tx<'_>) -> Answer<T, StoreError>) -> Result<T, StoreError> {
    let (reply, answer) = std::sync::mpsc::sync_channel(1);
    db.transact(vec![Box::new(Write::new(work, move |value| drop(reply.send(value))))]);
    answer.try_recv().unwrap_or_else(|_| Err(StoreError::Unavailable("the restore was not carried out".to_owned())))
}

/// Everything into the file itself, so that it is complete without its log.
fn fold_log(conn: &Connection) -> Done<()> {
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.flush_prepared_statement_cache();
    Ok(conn.pragma_update(None, "journal_mode", "delete")?)
}

/// Keeps what is there under another name, complete, and leaves no log that SQLite would take for the new file's.
fn set_aside(to: &Path) -> Result<Option<PathBuf>, StoreError> {
    let folded = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(Fault::from);
    if let Err(fault) = folded.and_then(|conn| fold_log(&conn))
        && to.exists()
    {
        tracing::warn!(?fault, "the log of the store that is replaced could not be folded; it is kept beside it");
    }
    let failed = |e: std::io::Error| refused(format!("{} cannot be kept: {e}", to.display()));
    let (kept, is_there) = keep(to).map_err(failed)?;
    for ending in ["-wal", "-shm"] {
        match std::fs::rename(with(to, ending), with(&kept, ending)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(is_there.then_some(kept))
}

/// The first free name of the kind, and whether there was something to keep.
fn keep(to: &Path) -> std::io::Result<(PathBuf, bool)> {
    for n in 1_u32.. {
        let kept = open::beside(to, &format!("replaced-{n}"));
        match std::fs::hard_link(to, &kept) {
            Ok(()) => return Ok((kept, true)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((kept, false)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            // Not every file system can give a file two names.
            Err(_) => return std::fs::copy(to, &kept).map(|_| (kept, true)),
        }
    }
    Err(std::io::Error::other("too many stores were replaced here"))
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
