//! The store contract on PostgreSQL, 14 and newer, for any number of replicas.
//!
//! It mirrors the store on SQLite file by file. There, one writer has the file for itself and asks it run by run; here others
//! write too, and each question is a round trip. So a batch of commands is a *unit of work*: what its commands need is locked
//! and read in a few statements, decided on in memory, and written in one statement for each table.
//!
//! ```text
//!  callers ──► commands ──► [writer] batch ──► BEGIN, needs ─► decide ─► flush ─► COMMIT ──► answers, hints ──► notices
//!          └─► reads ─────► [pool] a snapshot ─────────────────────────────────────────────► answers        (NOTIFY)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `open`, `renew`, `tls`, `pool` | what a database must be, migrations, the store's identity, another history; connections |
//! | `store`, `writer`, `db`, `reader`, `signs` | transactions and threads |
//! | `needs`, `loaded`, `pending`, `flush`, `ready`, `recent` | the unit of work: asked, known, to be written, written; ready runs; own leases |
//! | `tx`, `cache`, `feed`, `exchange`, `notice` | what a command sees; what a replica remembers; the feed; between replicas |
//! | `edit`, `rows`, `value`, `sql` | a run under change; rows to values; every statement |
//! | `create`, `submit`, `claim`, `report`, `lose`, `control` | operations on runs |
//! | `serial`, `keys`, `subject`, `recovery`, `output`, `lease` | what follows from them in other rows |
//! | `catalog`, `workers`, `list`, `history`, `sweeps`, `replicas` | the rest of the contract |
//!
//! Decisions are `outlive-core`'s. What happens to a run is an [`edit`]: locked, decided, taken down.

mod cache;
mod catalog;
mod claim;
mod contract;
mod control;
mod create;
mod db;
mod edit;
mod examine;
mod exchange;
mod fault;
mod feed;
mod flush;
mod history;
mod keys;
mod lease;
mod list;
mod loaded;
mod lose;
mod needs;
mod notice;
mod open;
mod output;
mod pending;
mod pool;
mod reader;
mod ready;
mod recent;
mod recovery;
mod renew;
mod replicas;
mod report;
mod rows;
mod serial;
mod signs;
mod sql;
mod store;
mod subject;
mod submit;
mod survey;
mod sweeps;
mod tls;
mod tx;
mod value;
mod workers;
mod writer;

#[cfg(test)]
mod plans;

pub use examine::examine;
pub use store::{Options, PostgresStore, Time};
pub use survey::{History, Survey, survey};
