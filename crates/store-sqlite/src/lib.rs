//! The store contract on SQLite.
//!
//! One file, one process, one writer. Every mutation is a command; the writer runs all that wait in one transaction and
//! answers them after its `fsync` (*group commit*), so what was answered survives `kill -9` and power loss. Reads have
//! connections of their own and see committed rows. The same code runs without threads ([`SqliteStore::in_memory`]): a
//! call then runs to its end when it is first polled, which is how the simulation plays it.
//!
//! ```text
//!  callers ──► commands ──► [writer thread] Db::transact ──► BEGIN … COMMIT ──► answers, hints
//!          └─► reads ─────► [reader threads] snapshot ─────► answers
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `open` | the lock, refused file systems, migrations, pragmas |
//! | `examine`, `backup`, `restore` | a file that no server of this process has open |
//! | `db`, `writer`, `readers`, `reader` | transactions and threads |
//! | `tx`, `cache`, `feed` | what a command sees; what the writer knows; the feed |
//! | `edit`, `rows`, `sql` | a run under change; rows to values; every statement |
//! | `create`, `claim`, `report`, `lose`, `control` | operations on runs |
//! | `serial`, `keys`, `recovery`, `output`, `lease`, `subject` | what follows from them in other rows |
//! | `catalog`, `workers`, `list`, `history`, `sweeps`, `replicas` | the rest of the contract |
//!
//! Decisions are `outlive-core`'s. What happens to a run is an [`edit`]: load, decide, write side rows, save the row.

mod backup;
mod cache;
mod catalog;
mod claim;
mod contract;
mod control;
mod create;
mod db;
mod edit;
mod examine;
mod fault;
mod feed;
mod history;
mod keys;
mod lease;
mod leased;
mod list;
mod lose;
mod open;
mod output;
mod reader;
mod readers;
mod recovery;
mod replicas;
mod report;
mod restore;
mod rows;
mod serial;
mod sql;
mod store;
mod subject;
mod sweeps;
mod tx;
mod workers;
mod writer;

#[cfg(test)]
mod plans;

pub use backup::backup;
pub use examine::examine;
pub use restore::Restoring;
pub use store::SqliteStore;
