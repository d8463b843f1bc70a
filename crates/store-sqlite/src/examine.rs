//! A look at a file that is to be opened, or that could not be: read only, and changed in nothing.

use crate::fault::Fault;
use crate::open::{beside, embedded, schema_version};
use outlive_store::StoreState;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// What the file is like. Reads all of it: seconds for gigabytes.
///
/// # Errors
/// Why it cannot be looked at.
pub fn examine(path: &Path) -> Result<StoreState, String> {
    let Ok(found) = path.metadata() else { return Ok(StoreState::None) };
    let lock = File::open(beside(path, "lock"));
    if lock.as_ref().is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_err()) {
        return Ok(StoreState::InUse);
    }
    // Not kept while the file is read: a server that starts meanwhile must find it free.
    drop(lock);
    let failed = |fault: Fault| match fault {
        Fault::Corrupt(how) => Ok(StoreState::Damaged(how)),
        other => Err(format!("{}: {}", path.display(), other.refused())),
    };
    look(path, found.len()).or_else(failed)
}

fn look(path: &Path, bytes: u64) -> Result<StoreState, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    let check: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Ok(StoreState::Damaged(check));
    }
    let schema = schema_version(&conn)?;
    let known = embedded::newest();
    Ok(if schema > known { StoreState::Newer { schema, known } } else { StoreState::Sound { bytes, schema } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;
    use outlive_core::clock::SimClock;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::sync::Arc;

    fn made(path: &Path) {
        drop(SqliteStore::open(path, Arc::new(SimClock::default())).unwrap());
    }

    #[test]
    fn a_file_is_none_sound_in_use_newer_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert_eq!(examine(&path), Ok(StoreState::None));
        let store = SqliteStore::open(&path, Arc::new(SimClock::default())).unwrap();
        assert_eq!(examine(&path), Ok(StoreState::InUse));
        drop(store);
        assert!(matches!(examine(&path), Ok(StoreState::Sound { schema: 1.., .. })));
        made(&path);
        let conn = Connection::open(&path).unwrap();
        conn.execute("UPDATE refinery_schema_history SET version = 99 WHERE version = (SELECT max(version) FROM refinery_schema_history)", []).unwrap();
        drop(conn);
        assert!(matches!(examine(&path), Ok(StoreState::Newer { schema: 98.., .. })));
        let mut file = File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(4_096)).unwrap();
        file.write_all(&[0xFF; 8_192]).unwrap();
        assert!(matches!(examine(&path), Ok(StoreState::Damaged(_))));
        std::fs::write(&path, "not a database, by any means; and long enough to be read as one").unwrap();
        assert!(matches!(examine(&path), Ok(StoreState::Damaged(_))));
    }
}
