//! `outlive server`: the server alone.

use super::Done;
use crate::children;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logs;
use crate::render::{print, say};
use outlive_api::ops::Setting;
use outlive_server::{Config, Server, StartError, StoreLocation};
use std::net::{SocketAddr, ToSocketAddrs as _};
use tokio::signal::unix::{SignalKind, signal};

/// The store of a server that is told none.
pub(crate) const DEFAULT_STORE: &str = "sqlite:outlive.db";

/// Start a server
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive server --store sqlite:/var/lib/outlive/outlive.db
  outlive server --listen 127.0.0.1:7070
",
    after_help = "SIGTERM stops it in order: workers are told, nothing is taken from anybody, and their work goes on meanwhile."
)]
pub(crate) struct Args {
    /// Where runs are kept: sqlite:PATH, the URL of a PostgreSQL database that replicas share, or memory to keep nothing
    #[arg(long, env = "OUTLIVE_STORE", value_name = "STORE", default_value = DEFAULT_STORE, hide_env_values = true)]
    store: String,
    /// Address and port; port 0 takes a free one
    #[arg(long, env = "OUTLIVE_LISTEN", value_name = "ADDRESS", default_value = outlive_api::DEFAULT_ADDRESS, hide_env_values = true)]
    listen: String,
    /// Stable name of this replica, which each needs where several share a store; the name of its host or pod will do
    #[arg(
        long,
        env = "OUTLIVE_REPLICA",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    replica: String,
    /// Where workers reach this replica, if that is not the address that it listens on: told to those that look for another
    #[arg(
        long,
        env = "OUTLIVE_ADVERTISE",
        value_name = "HOST:PORT",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    advertise: String,
    /// Allow an address that is not loopback, without login: whoever reaches it can run commands
    #[arg(long, env = "OUTLIVE_INSECURE_LISTEN", hide_env_values = true)]
    insecure_listen: bool,
    /// Free space on the store's disk below which no new run is admitted (reports go on); 0: never
    #[arg(long, env = "OUTLIVE_LOW_DISK", value_name = "BYTES", default_value = "512MiB", value_parser = crate::bytes::parse, hide_env_values = true)]
    low_disk: u64,
    /// A Redis beside the rows of replicas, by which they tell each other whom they heard: an accelerator, never the truth
    #[arg(long, env = "OUTLIVE_LIVENESS", value_name = "URL", hide_env_values = true)]
    liveness: Option<String>,
    /// What to log: error, warn, info, debug, or a filter of tracing
    #[arg(long, env = "OUTLIVE_LOG", value_name = "FILTER", default_value = "info", hide_env_values = true)]
    log: String,
    #[arg(long, hide = true)]
    supervised: bool,
}

pub(crate) async fn run(_: &Context, args: Args, settings: Vec<Setting>) -> Done {
    if args.supervised {
        children::end_with_parent()?;
    }
    logs::start(&args.log)?;
    let config = Config {
        listen: address(&args.listen)?,
        store: store(&args.store)?,
        advertise: args.advertise,
        insecure_listen: args.insecure_listen,
        replica: args.replica,
        low_disk: args.low_disk,
        liveness: args.liveness,
        settings: settings.into_iter().map(shown).collect(),
        version: crate::VERSION.to_owned(),
    };
    let server = start(config).await?;
    print(&format!("http://{}", server.address()))?;
    say(&format!(
        "outlive server {}: ready, store {}. Ctrl-C or SIGTERM stops it in order",
        crate::VERSION,
        without_password(&args.store)
    ));
    tokio::select! {
        () = asked_to_stop() => {
            say("stopping: workers are told, nothing is taken from them");
            server.stop().await;
            Ok(Exit::Ok)
        }
        failure = broken(&server) => Err(failure),
    }
}

/// Starts a server, or says why not and what to do.
pub(crate) async fn start(config: Config) -> Result<Server, Failure> {
    outlive_server::start(config).await.map_err(|e| match &e {
        StartError::AddressTaken { address, free } => {
            let failure = Failure::failed(format!("{address} is taken by another program (perhaps another outlive)"));
            match free {
                Some(free) => failure.hint(format!("the next free one: --listen {free}")),
                None => failure.hint("choose another with --listen"),
            }
        }
        StartError::NotLoopback(_) | StartError::Replica(_) | StartError::Liveness(_) => Failure::usage(e.to_string()),
        _ => Failure::failed(format!("the server cannot start: {e}")),
    })
}

/// Resolves when the server can no longer serve.
pub(crate) async fn broken(server: &Server) -> Failure {
    server.stopped().await;
    Failure::failed("the server stopped: its store takes no more writes; see the log above")
        .hint("nothing that was acknowledged is lost. Look at the disk, then start it again")
}

/// `host:port`, names allowed.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Failure> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| {
        Failure::usage(format!("--listen {text}: not an address and port")).hint("one looks like 127.0.0.1:7070")
    })
}

/// `sqlite:PATH`, `postgres://…` or `memory`.
pub(crate) fn store(text: &str) -> Result<StoreLocation, Failure> {
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(StoreLocation::Sqlite(path.into())),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
            Ok(StoreLocation::Postgres(text.to_owned()))
        }
        None if text == "memory" => Ok(StoreLocation::Memory),
        _ => Err(Failure::usage(format!("--store {text}: not a store"))
            .hint("one looks like sqlite:/var/lib/outlive/outlive.db or postgres://user@host/database")),
    }
}

/// A store's place as it may be shown: the password of a URL stays with whoever wrote it.
pub(crate) fn without_password(store: &str) -> String {
    let Some((scheme, rest)) = store.split_once("://") else { return store.to_owned() };
    let Some((user, place)) = rest.rsplit_once('@') else { return store.to_owned() };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}://{user}@{place}")
}

/// A setting as others may see it.
pub(crate) fn shown(setting: Setting) -> Setting {
    if ["store", "liveness"].contains(&setting.name.as_str()) {
        Setting { value: without_password(&setting.value), ..setting }
    } else {
        setting
    }
}

/// Resolves at the first Ctrl-C or SIGTERM.
pub(crate) async fn asked_to_stop() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            without_password("postgres://u:se:c@r%40et@h:5/d?sslmode=require"),
            "postgres://u@h:5/d?sslmode=require"
        );
        for plain in ["postgres://u@h/d", "postgres://h/d", "sqlite:/x/y@z.db", "memory"] {
            assert_eq!(without_password(plain), plain);
        }
    }

    #[test]
    fn a_store_has_a_kind_and_a_place() {
        assert!(matches!(store("sqlite:/x/y.db"), Ok(StoreLocation::Sqlite(p)) if p.ends_with("y.db")));
        assert!(matches!(store("memory"), Ok(StoreLocation::Memory)));
        assert!(matches!(store("postgres://u@h/d"), Ok(StoreLocation::Postgres(url)) if url == "postgres://u@h/d"));
        for bad in ["sqlite:", "/x/y.db", "postgres:x", "mysql://x"] {
            assert_eq!(store(bad).err().map(|e| e.exit), Some(Exit::Usage), "{bad}");
        }
    }
}
