//! What every command has at hand: a client of the server, and how to draw.

use crate::exit::Failure;
use crate::render::{Format, Look};
use outlive_api::client::Client;
use std::net::IpAddr;

/// What every command can be given.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Address of the server; several, separated by commas, for a cluster: the first that answers is used
    #[arg(
        long,
        global = true,
        env = "OUTLIVE_SERVER",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7070",
        hide_env_values = true
    )]
    pub(crate) server: Vec<String>,
    /// Tenant whose runs, workers and queues are meant
    #[arg(
        long,
        global = true,
        env = "OUTLIVE_NAMESPACE",
        value_name = "NAME",
        default_value = "default",
        hide_env_values = true
    )]
    pub(crate) namespace: String,
    /// Form of the data on stdout
    #[arg(
        short,
        long,
        global = true,
        env = "OUTLIVE_OUTPUT",
        value_name = "FORMAT",
        value_enum,
        default_value = "table",
        hide_env_values = true,
        hide_possible_values = true
    )]
    #[arg(help = "Form of the data on stdout: table, wide, json, jsonl, yaml or id")]
    pub(crate) output: Format,
    /// Settings file instead of ./outlive.toml; - for none
    #[arg(long, global = true, env = "OUTLIVE_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) config: Option<String>,
}

/// At hand in every command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) look: Look,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let look = Look::of(global.output);
        Self { global, look }
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::of(self.global.server.iter().map(String::as_str), &self.global.namespace)?)
    }
}

/// Whether every server is on this machine, so that directories mean the same to all.
pub(crate) fn is_local(client: &Client) -> bool {
    client.authorities().all(|authority| {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_local() {
        let local = |address| is_local(&Client::new(address, "default").unwrap());
        assert!(local("127.0.0.1:7070") && local("http://localhost:1") && local("http://[::1]:7070"));
        assert!(!local("10.0.0.1:7070") && !local("example.org"));
        assert!(!is_local(&Client::of(["127.0.0.1:7070", "10.0.0.1:7070"], "default").unwrap()));
    }
}
