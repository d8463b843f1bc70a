//! The store's handle: threads over a file, or the same core inline.

use crate::db::{Db, NOTHING, Write};
use crate::fault::{Answer, Done};
use crate::reader::{Reader, read};
use crate::readers::{Readers, THREADS};
use crate::tx::Tx;
use crate::writer::Writer;
use crate::{db, open};
use outlive_core::clock::Clock;
use outlive_core::run::Run;
use outlive_core::{Millis, Mono, RunId, Wall};
use outlive_store::{Pulse, StoreError};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// A store in one SQLite file, or in memory.
pub struct SqliteStore {
    mode: Mode,
    signs: Arc<db::Signs>,
    clock: Arc<dyn Clock>,
    path: Option<PathBuf>,
    // Last: released when the connections are closed.
    _lock: Option<open::Lock>,
}

enum Mode {
    // The writer goes last: it then folds the log into the file.
    Threads { readers: Readers, writer: Writer },
    Inline(Box<Mutex<Db>>),
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens (or creates) the file and takes it for this process. Starts one writer and a few readers.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: another process has it, it is of a newer version, or its file system cannot hold it.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = open::lock(path)?;
        let conn = open::writer(path, &*clock)?;
        let connections = (0..THREADS).map(|_| open::reader(path)).collect::<Result<_, _>>()?;
        let db = Db::new(conn, clock.clone()).map_err(|fault| open::unusable(path, &fault))?;
        let signs = db.signs();
        let readers = Readers::start(connections, &signs).map_err(|fault| fault.refused())?;
        let writer = Writer::start(db, clock.clone()).map_err(|fault| fault.refused())?;
        let mode = Mode::Threads { readers, writer };
        Ok(Self { mode, signs, clock, path: Some(path.to_owned()), _lock: Some(lock) })
    }

    /// A store without file and threads: each call runs when it is first polled, and is then complete.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let conn = open::in_memory(&*clock)?;
        let db = Db::new(conn, clock.clone()).map_err(|fault| fault.refused())?;
        let signs = db.signs();
        Ok(Self { mode: Mode::Inline(Box::new(Mutex::new(db))), signs, clock, path: None, _lock: None })
    }

    /// The hot row of a run alone, of whatever namespace: what checks compare after every write.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn run_row(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        self.read(move |reader| crate::rows::run_by_id(reader.conn(), id)).await
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The store's wall clock.
    pub(crate) fn wall(&self) -> Wall {
        self.clock.wall()
    }

    pub(crate) fn pulse_now(&self) -> Pulse {
        let now = self.clock.mono();
        let since = |at: u64| now.since(Mono(at));
        let pending = self.signs.pending.load(Ordering::Acquire);
        let since_commit: Millis = since(self.signs.committed.load(Ordering::Relaxed));
        Pulse {
            since_commit,
            pending: (pending != NOTHING).then(|| since(pending)),
            broken: self.signs.broken.load(Ordering::Acquire),
            trouble: self.signs.trouble(),
        }
    }

    /// Runs a command in a transaction. `weight`: how many runs, items or leases are in it.
    pub(crate) async fn write<T, E>(
        &self,
        weight: usize,
        work: impl FnMut(&mut Tx<'_>) -> Answer<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match &self.mode {
            Mode::Inline(db) => {
                let (reply, answer) = std::sync::mpsc::sync_channel(1);
                let command = Write::new(work, move |value| drop(reply.send(value)));
                lock(db).transact(vec![Box::new(command)]);
                let missing = |_| Err(StoreError::Unavailable("the command was not carried out".to_owned()).into());
                answer.try_recv().unwrap_or_else(missing)
            }
            Mode::Threads { writer, .. } => {
                let (reply, answer) = oneshot::channel();
                let command = Write::new(work, move |value| drop(reply.send(value)));
                writer.send(Box::new(command), weight).await?;
                let gone = |_| Err(StoreError::Unknown("the writer stopped while it worked".to_owned()).into());
                answer.await.unwrap_or_else(gone)
            }
        }
    }

    /// Reads one snapshot of committed rows.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Reader<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.mode {
            Mode::Inline(db) => {
                let db = lock(db);
                read(&db.conn, &db.classes, f).map_err(|fault| fault.refused())
            }
            Mode::Threads { readers, .. } => readers.read(f).await,
        }
    }
}

/// A panic while the lock was held was caught inside; what it left was rolled back.
fn lock(db: &Mutex<Db>) -> std::sync::MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}
