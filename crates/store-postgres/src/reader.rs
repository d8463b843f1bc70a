//! Reads: a connection of the pool, in a transaction that sees one snapshot and writes nothing.

use crate::cache::Known;
use crate::fault::Done;
use outlive_core::{ClassId, WorkerId};
use outlive_store::ClassRow;
use tokio_postgres::Client;

/// One read: a snapshot of committed rows.
pub(crate) struct Reader<'a> {
    conn: &'a Client,
    known: &'a Known,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(conn: &'a Client, known: &'a Known) -> Self {
        Self { conn, known }
    }

    pub(crate) const fn conn(&self) -> &'a Client {
        self.conn
    }

    /// A match class that a row names.
    pub(crate) async fn class(&self, id: ClassId) -> Done<ClassRow> {
        self.known.find_class(self.conn, id).await
    }

    /// A worker's name, also after its deletion.
    pub(crate) async fn worker_name(&self, id: WorkerId) -> Done<String> {
        self.known.worker_name(self.conn, id).await
    }
}
