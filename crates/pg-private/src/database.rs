//! Databases of tests: each has one of its own, copied from a template whose schema is made once.

use crate::Failure;
use crate::server::{Options, Server, sql};
use std::sync::OnceLock;

/// Where `cargo xtask test` says that the server of this run of tests is: the URL of its database `postgres`.
pub const SHARED: &str = "OUTLIVE_TEST_POSTGRES";

/// The URL of a server for tests: the one of the run, or one that this process starts for itself.
///
/// # Errors
/// There is none, and none can be started.
pub fn shared() -> Result<&'static str, Failure> {
    static URL: OnceLock<Result<String, Failure>> = OnceLock::new();
    static OWN: OnceLock<Server> = OnceLock::new();
    let found = URL.get_or_init(|| match std::env::var(SHARED) {
        Ok(url) => Ok(url),
        // Never dropped: the kernel ends it with this process. Its folder is in the system's folder for such things.
        Err(_) => Server::start(&Options::default()).map(|server| OWN.get_or_init(|| server).url("postgres")),
    });
    found.as_deref().map_err(Clone::clone)
}

/// A database that others are copied from.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its name: another one for other contents, since a server may outlive a build.
    pub name: String,
    /// Fills it, given its URL. Called by one process of a run.
    pub fill: fn(&str) -> Result<(), Failure>,
}

/// A database of its own. Dropped with its value.
#[derive(Debug)]
pub struct Database {
    admin: String,
    name: String,
}

impl Database {
    /// An empty database on a server whose database `postgres` is at `admin`.
    ///
    /// # Errors
    /// What PostgreSQL said.
    pub fn empty(admin: &str) -> Result<Self, Failure> {
        Self::create(admin, "")
    }

    /// A copy of a template, which is made at its first use.
    ///
    /// # Errors
    /// What PostgreSQL said, or the template's maker.
    pub fn copy_of(admin: &str, template: &Template) -> Result<Self, Failure> {
        let name = &template.name;
        let exists = || sql(admin, &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"));
        if exists()?.is_empty() {
            // Filled under another name and then renamed: it is there only when it is complete. Whoever comes second finds
            // the name taken, and drops what it made.
            let made = Self::create(admin, "")?;
            (template.fill)(&made.url())?;
            let renamed = sql(admin, &format!("ALTER DATABASE {} RENAME TO {name}", made.name));
            if renamed.is_ok() {
                std::mem::forget(made);
            } else if exists()?.is_empty() {
                renamed?;
            }
        }
        Self::create(admin, &format!("TEMPLATE {name}"))
    }

    fn create(admin: &str, template: &str) -> Result<Self, Failure> {
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        sql(admin, &format!("CREATE DATABASE {name} {template}"))?;
        Ok(Self { admin: admin.to_owned(), name })
    }

    /// Where to connect to it.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(&self.admin, &self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements in it; what `psql` prints.
    ///
    /// # Errors
    /// What PostgreSQL said.
    pub fn sql(&self, statements: &str) -> Result<String, Failure> {
        sql(&self.url(), statements)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = sql(&self.admin, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// The same server's URL with another database, and the same options.
fn url_of(admin: &str, name: &str) -> String {
    let (place, options) = admin.split_once('?').map_or((admin, String::new()), |(place, o)| (place, format!("?{o}")));
    let (scheme, rest) = place.split_once("://").unwrap_or(("postgres", place));
    let server = rest.rsplit_once('/').map_or(rest, |(server, _)| server);
    format!("{scheme}://{server}/{name}{options}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_server_and_options() {
        assert_eq!(url_of("postgres://u:p@h:5/postgres", "x"), "postgres://u:p@h:5/x");
        assert_eq!(url_of("postgres://h?sslrootcert=/a/b", "x"), "postgres://h/x?sslrootcert=/a/b");
    }
}
