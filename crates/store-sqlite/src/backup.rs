//! A copy of a store, made while a server goes on writing it.
//!
//! The copy is one read transaction of a connection of its own: everything that was committed, and so everything that was
//! acknowledged, before it began, and nothing half. The server's writer is not held up; its log grows meanwhile.
//!
//! ```text
//!   FILE.part ◄─ VACUUM INTO ─ store        read through ─► fsync ─► renamed to FILE ─► fsync of the folder
//! ```
//!
//! So a file under that name is always a whole one, whatever ends the program half-way.

use crate::fault::{Done, Fault};
use crate::open::{beside, refused, schema_version};
use crate::rows::single;
use crate::sql;
use outlive_store::{Backup, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Saves the store at `path` in a file that is not there yet, unless `overwrite`.
///
/// # Errors
/// [`StoreError::Refused`], in words that say what to do; nothing was left behind.
pub fn backup(path: &Path, to: &Path, overwrite: bool) -> Result<Backup, StoreError> {
    if !path.exists() {
        return Err(refused(format!(
            "there is no store at {}; name it with --store sqlite:PATH (outlive dev keeps its own at .outlive/outlive.db)",
            path.display()
        )));
    }
    if !overwrite && to.exists() {
        return Err(exists(to));
    }
    let part = Part::new(to)?;
    copy(path, &part.0).map_err(|fault| failed(to, &fault))?;
    let saved = examine(&part.0, to).map_err(|fault| failed(to, &fault))?;
    part.becomes(to, overwrite)?;
    Ok(saved)
}

pub(crate) fn exists(file: &Path) -> StoreError {
    refused(format!("{} is there already; name another file, or add --overwrite", file.display()))
}

fn failed(to: &Path, fault: &Fault) -> StoreError {
    let why = match fault {
        Fault::Full(why) => format!("its disk is full ({why})"),
        Fault::Corrupt(why) | Fault::Damaged(why) => format!("the store is damaged ({why})"),
        Fault::ReadOnly(why) | Fault::Io(why) | Fault::Other(why) => why.clone(),
    };
    refused(format!("no copy could be made at {}: {why}", to.display()))
}

fn read_only(path: &Path) -> Done<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // A server that starts, stops or folds its log has the file to itself for a moment.
    conn.busy_timeout(std::time::Duration::from_secs(10))?;
    if schema_version(&conn)? == 0 {
        return Err(Fault::damaged("it has no schema"));
    }
    Ok(conn)
}

/// Everything that is committed when this begins.
pub(crate) fn copy(from: &Path, part: &Path) -> Done<()> {
    read_only(from)?.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
    Ok(())
}

/// Reads a copy through, and says what is in it. `name`: what it will be called.
pub(crate) fn examine(copy: &Path, name: &Path) -> Done<Backup> {
    let conn = read_only(copy)?;
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Fault::Corrupt(found));
    }
    let schema = schema_version(&conn)?;
    let generation =
        single::<Uuid>(&conn, sql::META_GET, &[])?.ok_or_else(|| Fault::damaged("it has no generation"))?;
    let (runs, leased): (i64, i64) = conn.query_row(sql::RUN_TOTALS, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (runs, leased) = (runs.unsigned_abs(), leased.unsigned_abs());
    let bytes = std::fs::metadata(copy).map_or(0, |meta| meta.len());
    Ok(Backup { file: name.to_owned(), bytes, runs, leased, generation, schema })
}

/// A file that is being written, under a name of its own. Gone again unless it becomes what it should.
pub(crate) struct Part(pub(crate) PathBuf);

impl Part {
    /// Readable by its owner alone: a store holds the secret that signs tokens.
    pub(crate) fn new(to: &Path) -> Result<Self, StoreError> {
        let part = beside(to, "part");
        let _ = std::fs::remove_file(&part);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        made.map_err(|e| refused(format!("{} cannot be written: {e}", part.display())))?;
        Ok(Self(part))
    }

    /// On its disk, under the name.
    pub(crate) fn becomes(self, to: &Path, overwrite: bool) -> Result<(), StoreError> {
        let failed = |e: &std::io::Error| refused(format!("{} cannot be written: {e}", to.display()));
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(|e| failed(&e))?;
        let flags = if overwrite { rustix::fs::RenameFlags::empty() } else { rustix::fs::RenameFlags::NOREPLACE };
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &self.0, cwd, to, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(to)),
            // Not every file system can refuse a name that is taken; it was not taken a moment ago.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::rename(&self.0, to).map_err(|e| failed(&e))?;
            }
            Err(e) => return Err(failed(&e.into())),
        }
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| failed(&e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for ending in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.0.clone().into_os_string();
            name.push(ending);
            let _ = std::fs::remove_file(name);
        }
    }
}
