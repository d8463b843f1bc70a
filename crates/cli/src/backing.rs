//! Where a fleet of the demo or a benchmark keeps its runs: a file in its folder, or a database of its own on PostgreSQL, which
//! goes with it.

use crate::exit::Failure;
use outlive_pg_private::{Database, Options, Server};
use std::path::Path;
use std::str::FromStr;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A file.
    #[default]
    Sqlite,
    /// A database on a server of its own, with PostgreSQL's defaults.
    OwnServer,
    /// A database of its own on the server with this URL.
    Server(String),
}

impl FromStr for Backing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::OwnServer),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Self::Server(url.into())),
            _ => Err("sqlite, postgres (a server of its own), or the URL of a PostgreSQL server".to_owned()),
        }
    }
}

impl std::fmt::Display for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::OwnServer => "postgres",
            // Its password is nobody's business.
            Self::Server(_) => "postgres://…",
        })
    }
}

/// The option.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArg {
    /// Where runs are kept: sqlite, postgres (a server of its own for the time), or the URL of a server on which a database is
    /// made for the time
    #[arg(long, value_name = "STORE", default_value = "sqlite")]
    pub(crate) store: Backing,
}

/// What is there. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    /// For `--store`; it may hold a password, so it is given by the environment.
    pub(crate) location: String,
    // The database before its server.
    database: Option<Database>,
    server: Option<Server>,
}

/// One statement, as `pg_stat_statements` counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) text: String,
    pub(crate) calls: u64,
}

impl Kept {
    pub(crate) fn make(backing: &Backing, folder: &Path) -> Result<Self, Failure> {
        let (server, admin) = match backing {
            Backing::Sqlite => {
                let location = format!("sqlite:{}", folder.join("outlive.db").display());
                return Ok(Self { location, database: None, server: None });
            }
            Backing::OwnServer => {
                let settings = vec!["shared_preload_libraries = 'pg_stat_statements'".to_owned()];
                let server = Server::start(&Options { settings, tls: None }).map_err(Failure::failed)?;
                let url = server.url("postgres");
                (Some(server), url)
            }
            Backing::Server(url) => (None, url.clone()),
        };
        let database = Database::empty(&admin).map_err(Failure::failed)?;
        Ok(Self { location: database.url(), database: Some(database), server })
    }

    /// The process of a server of its own.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    fn ask(&self, statement: &str) -> Result<String, Failure> {
        let database = self.database.as_ref().ok_or_else(|| Failure::failed("this store is no PostgreSQL database"))?;
        database.sql(statement).map_err(Failure::failed)
    }

    /// Begins to count statements.
    pub(crate) fn count_statements(&self) -> Result<(), Failure> {
        let made = self.ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()");
        made.map(drop).map_err(|_| {
            Failure::failed("this server does not count statements: shared_preload_libraries needs pg_stat_statements")
        })
    }

    /// What was counted in this database since: texts on one line each, the most frequent first.
    pub(crate) fn statements(&self) -> Result<Vec<Counted>, Failure> {
        let counted = self.ask(
            "SELECT calls || ' ' || regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND query NOT LIKE '%pg_stat_statements%' ORDER BY calls DESC",
        )?;
        Ok(counted.lines().filter_map(read_counted).collect())
    }
}

fn read_counted(line: &str) -> Option<Counted> {
    let (calls, text) = line.split_once(' ')?;
    Some(Counted { text: text.to_owned(), calls: calls.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backing_is_named_by_word_or_url_and_shows_no_password() {
        assert_eq!("sqlite".parse(), Ok(Backing::Sqlite));
        assert_eq!("postgres".parse(), Ok(Backing::OwnServer));
        let url: Backing = "postgres://u:secret@h/d".parse().unwrap();
        assert!(!url.to_string().contains("secret"));
        assert!("mysql://h/d".parse::<Backing>().is_err());
    }

    #[test]
    fn a_counted_statement_is_read() {
        let counted = Counted { text: "UPDATE replica SET n = $1".into(), calls: 7 };
        assert_eq!(read_counted("7 UPDATE replica SET n = $1"), Some(counted));
        assert_eq!(read_counted("nonsense"), None);
    }
}
