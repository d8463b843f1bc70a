//! Logs of processes that serve: to stderr, coloured only on a terminal.

use crate::config;
use crate::exit::Failure;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

pub(crate) fn start(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|e| Failure::usage(format!("--log {filter}: {e}")))?;
    let color = std::io::stderr().is_terminal() && !config::no_color();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(std::io::stderr).try_init();
    Ok(())
}
