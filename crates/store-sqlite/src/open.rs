//! Opening a file: who may, what it is brought to, and how its connections are set.

use crate::catalog::REPLICA;
use crate::fault::Fault;
use crate::rows::{execute, single};
use crate::sql;
use outlive_core::clock::Clock;
use outlive_store::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock, statfs};
use std::fs::File;
use std::path::{Path, PathBuf};

pub(crate) mod embedded {
    refinery::embed_migrations!("migrations");

    /// The newest schema that this version knows.
    pub(crate) fn newest() -> i64 {
        migrations::runner().get_migrations().iter().map(|m| i64::from(m.version())).max().unwrap_or(0)
    }
}

/// File systems on which locks or `fsync` are not what SQLite needs: numbers of `statfs(2)`.
const NETWORK: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0BD0_0BD0, "Lustre"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
];

/// Prepared statements that a connection keeps: all of them.
const STATEMENTS: usize = 192;

/// Held for as long as the store is open; the system releases it with the process.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, not left to the close: a child between its fork and its exec has the file open, too, and would keep the lock.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

pub(crate) fn refused(why: impl Into<String>) -> StoreError {
    StoreError::Refused(why.into())
}

/// Takes the file for this process.
pub(crate) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let stat = statfs(folder).map_err(|error| {
        let folder = folder.display();
        refused(format!("the folder {folder} cannot be read ({}); make it, or name another", said(&error.into())))
    })?;
    let kind = stat.f_type & 0xFFFF_FFFF;
    if let Some((_, name)) = NETWORK.iter().find(|(magic, _)| *magic == kind) {
        let folder = folder.display();
        return Err(refused(format!("{folder} is on {name}, which cannot hold a SQLite file; use a local disk")));
    }
    let beside = beside(path, "lock");
    let file = File::options().create(true).truncate(false).write(true).open(&beside);
    let file = file.map_err(|error| {
        let (folder, why) = (folder.display(), said(&error));
        refused(format!(
            "the folder {folder} takes no new files ({why}), and a store keeps its lock and its log beside it; make the \
             folder writable, or name another"
        ))
    })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let path = path.display();
        refused(format!("another process has {path} open; stop it, or choose another file"))
    })?;
    Ok(Lock(file))
}

pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// What the system said, without its number.
fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Why a file cannot be opened, and what to do.
pub(crate) fn unusable(path: &Path, fault: &Fault) -> StoreError {
    let path = path.display();
    refused(match fault {
        Fault::Corrupt(why) | Fault::Damaged(why) => format!(
            "{path} is damaged, or is no store of this program ({why}); nothing was changed. Restore a copy, or name another file"
        ),
        Fault::ReadOnly(_) => format!("{path} is read-only; make it writable, or name another file"),
        Fault::Full(why) => format!("the disk of {path} is full ({why}); make room, then start again"),
        Fault::Io(why) | Fault::Other(why) => format!("{path}: {why}"),
    })
}

/// Larger files are not read through at the start, which must be quick; a damaged page is met when it is read.
const CHECKED: u64 = 32 << 20;

/// Reads a small file through.
fn check(conn: &Connection, path: &Path) -> Result<(), Fault> {
    if std::fs::metadata(path).map_or(0, |m| m.len()) > CHECKED {
        return Ok(());
    }
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::Corrupt(found)) }
}

/// The writing connection, with the schema that this version needs.
pub(crate) fn writer(path: &Path, clock: &dyn Clock) -> Result<Connection, StoreError> {
    let mut conn = Connection::open(path).map_err(|error| unusable(path, &error.into()))?;
    if conn.is_readonly("main").unwrap_or(false) {
        return Err(unusable(path, &Fault::ReadOnly(String::new())));
    }
    (|| {
        conn.pragma_update(None, "journal_mode", "wal")?;
        configure(&conn)?;
        // A checkpoint each 16 MiB: larger ones stall the writer, smaller ones write hot pages more often than needed.
        conn.pragma_update(None, "wal_autocheckpoint", 4_096)?;
        check(&conn, path)
    })()
    .map_err(|fault: Fault| unusable(path, &fault))?;
    migrate(&mut conn, Some(path))?;
    prepare(&conn, clock, None).map_err(|fault| unusable(path, &fault))?;
    Ok(conn)
}

/// A connection to nothing but memory. Its identity is fixed, so that a simulation repeats itself byte by byte.
pub(crate) fn in_memory(clock: &dyn Clock) -> Result<Connection, StoreError> {
    let mut conn = Connection::open_in_memory().map_err(|error| refused(error.to_string()))?;
    configure(&conn).map_err(|error| refused(error.to_string()))?;
    migrate(&mut conn, None)?;
    prepare(&conn, clock, Some([7; 32])).map_err(|fault| fault.refused())?;
    Ok(conn)
}

/// A reading connection.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        configure(&conn)?;
        conn.pragma_update(None, "query_only", true)?;
        Ok::<_, rusqlite::Error>(conn)
    };
    open().map_err(|error| refused(format!("{}: {error}", path.display())))
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans are the ones that the test of plans saw. Without this, SQLite plans again whenever a value is bound that a
    // partial index might depend on: for every claim and report.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "cache_size", -65_536)?;
    conn.pragma_update(None, "mmap_size", 268_435_456)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // Another connection of this process holds the write lock only while it recovers or closes.
    conn.busy_timeout(std::time::Duration::from_secs(10))
}

/// The version of the schema; 0: none yet.
pub(crate) fn schema_version(conn: &Connection) -> Result<i64, Fault> {
    let exists = "SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'";
    if conn.query_row(exists, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(0);
    }
    Ok(conn.query_row("SELECT coalesce(max(version), 0) FROM refinery_schema_history", [], |row| row.get(0))?)
}

fn migrate(conn: &mut Connection, path: Option<&Path>) -> Result<(), StoreError> {
    let runner = embedded::migrations::runner();
    let newest = embedded::newest();
    let place = path.unwrap_or(Path::new("memory"));
    let found = schema_version(conn).map_err(|fault| unusable(place, &fault))?;
    if found > newest {
        return Err(refused(format!(
            "{} was written by a newer version (schema {found}; this one knows {newest}) and was left alone; start the \
             newer version, or restore a copy",
            place.display()
        )));
    }
    if found == newest {
        return Ok(());
    }
    if let (Some(path), 1..) = (path, found) {
        copy(conn, &beside(path, &format!("schema-{found}")))?;
    }
    runner.run(conn).map_err(|error| refused(format!("the migration failed: {error}")))?;
    Ok(())
}

/// Saves the whole store in one file, complete without its log. A copy that is there already is older and stays.
fn copy(conn: &Connection, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        return Ok(());
    }
    let saved = conn.execute("VACUUM INTO ?1", [to.to_string_lossy()]);
    saved.map(drop).map_err(|error| refused(format!("no copy could be made at {}: {error}", to.display())))
}

/// The rows that every store has.
fn prepare(conn: &Connection, clock: &dyn Clock, fixed: Option<[u8; 32]>) -> Result<(), Fault> {
    if single::<Vec<u8>>(conn, sql::META_GET, &[])?.is_none() {
        let random = |bytes: u32| single::<Vec<u8>>(conn, sql::RANDOM_BYTES, &[&bytes]).map(Option::unwrap_or_default);
        let (generation, secret) = match fixed {
            Some(bytes) => (bytes[..16].to_vec(), bytes.to_vec()),
            None => (random(16)?, random(32)?),
        };
        execute(conn, sql::META_INSERT, &[&generation, &secret])?;
    }
    execute(conn, sql::REPLICA_START, &[&REPLICA.0, &clock.wall().0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::clock::SimClock;

    #[test]
    fn the_copy_before_a_migration_is_a_store_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (path, saved) = (folder.path().join("a.db"), folder.path().join("a.db.schema-1"));
        let conn = writer(&path, &SimClock::default()).unwrap();
        copy(&conn, &saved).unwrap();
        let read = |conn: &Connection| single::<Vec<u8>>(conn, sql::META_GET, &[]).unwrap().unwrap();
        let again = writer(&saved, &SimClock::default()).unwrap();
        assert_eq!(read(&again), read(&conn));
        copy(&conn, &saved).unwrap();
    }

    /// A store as the first version left it: two runs about the same agent, one of another tenant, one ended.
    fn first_version(path: &Path) {
        let mut conn = Connection::open(path).unwrap();
        let first = refinery::Target::Version(1);
        embedded::migrations::runner().set_target(first).run(&mut conn).unwrap();
        let rows = r#"
            INSERT INTO match_class VALUES (1, 1, '{"namespace":"default","queue":"a","kind":"exec"}', 0),
                                           (2, 2, '{"namespace":"other","queue":"a","kind":"exec"}', 0);
            INSERT INTO queue VALUES (1, 'default', 'a', '{}', 0, 0), (2, 'other', 'a', '{}', 0, 0);
            INSERT INTO run_subject VALUES ('agent', 1), ('agent', 2), ('agent', 3);"#;
        conn.execute_batch(rows).unwrap();
        for (seq, class, state) in [(1, 1, 4), (2, 1, 6), (3, 2, 2), (4, 1, 2)] {
            let run = "INSERT INTO run (seq, id, class, queue, state, blocked, rank, priority, epoch, failures, losses,
                losses_in_row, created_at, lease_observed, closed_by, output_next, output_seq, output_bytes, output_marker,
                terms) VALUES (?1, randomblob(16), ?2, ?2, ?3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)";
            conn.execute(run, [seq, class, state]).unwrap();
            conn.execute("INSERT INTO run_input VALUES (?1, '{}', NULL, NULL)", [seq]).unwrap();
        }
    }

    #[test]
    fn a_store_of_the_first_version_gets_its_subjects_by_namespace_with_their_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        first_version(&path);
        let conn = writer(&path, &SimClock::default()).unwrap();
        assert_eq!(schema_version(&conn).unwrap(), embedded::newest());
        let counts = |namespace: &str| -> (i64, i64) {
            let name = crate::rows::slot_of(namespace, "agent");
            let mut get = conn.prepare(sql::SUBJECT_GET).unwrap();
            get.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        assert_eq!((counts("default"), counts("other")), ((1, 1), (1, 0)));
        let links = "SELECT seq, active FROM run_subject ORDER BY seq";
        let links: Vec<(i64, i64)> = conn
            .prepare(links)
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(links, [(1, 1), (2, 0), (3, 1)]);
        let flags: Vec<i64> = crate::rows::column(&conn, "SELECT subjects FROM run ORDER BY seq", &[]).unwrap();
        assert_eq!(flags, [1, 1, 1, 0]);
        assert!(path.with_file_name("a.db.schema-1").exists(), "the old file is kept beside it");
    }
}
