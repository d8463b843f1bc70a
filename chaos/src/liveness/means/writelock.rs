//! A store in which nobody else can commit: somebody holds SQLite's write lock, as a forgotten transaction in an operator's
//! shell does. Commits of the server wait, and then fail.

use rusqlite::{Connection, ErrorCode};
use std::path::Path;
use std::time::Duration;

/// Until it is dropped.
#[derive(Debug)]
pub(in super::super) struct WriteLock {
    holder: Connection,
    path: std::path::PathBuf,
}

impl WriteLock {
    /// Takes it; the server's commits are over quickly.
    pub(in super::super) fn take(path: &Path) -> Result<Self, String> {
        let failed = |e: rusqlite::Error| format!("the write lock cannot be taken: {e}");
        let holder = Connection::open(path).map_err(failed)?;
        holder.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
        holder.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        Ok(Self { holder, path: path.to_owned() })
    }

    /// Whether it truly keeps others from writing: asked by trying.
    pub(in super::super) fn holds(&self) -> bool {
        let other = Connection::open(&self.path);
        let refused =
            other.and_then(|c| c.busy_timeout(Duration::ZERO).and_then(|()| c.execute_batch("BEGIN IMMEDIATE")));
        refused.is_err_and(|e| e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        let _ = self.holder.execute_batch("ROLLBACK");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_held_nobody_else_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "journal_mode", "wal").unwrap();
        conn.busy_timeout(Duration::ZERO).unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let lock = WriteLock::take(&path).unwrap();
        assert!(lock.holds() && conn.execute_batch("INSERT INTO t VALUES (1)").is_err());
        drop(lock);
        conn.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    }
}
