//! A host of its own: a network namespace with one cable to this one. Set down, nothing comes through, and nobody is told: no
//! FIN, no RST. The same as a host that lost its power.

use crate::rng::Rng;
use std::process::{Command, Stdio};

#[derive(Debug)]
pub(in super::super) struct Namespace {
    name: String,
    /// This machine, as the host inside sees it.
    pub(in super::super) gateway: String,
}

impl Namespace {
    /// # Errors
    /// If it is not permitted. It cannot be left out: what it proves, nothing else proves.
    pub(in super::super) fn new(rng: &mut Rng) -> Result<Self, String> {
        let number = rng.below(1 << 20);
        let net = format!("10.213.{}", rng.below(256));
        let cell = rng.below(64) * 4;
        let (gateway, host) = (format!("{net}.{}", cell + 1), format!("{net}.{}", cell + 2));
        let name = format!("chaos{number:x}");
        let (outside, inside) = (format!("co{number:x}"), format!("ci{number:x}"));
        let namespace = Self { name: name.clone(), gateway: gateway.clone() };
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {outside} type veth peer name {inside} netns {name}"))?;
        ip(&format!("addr add {gateway}/30 dev {outside}"))?;
        ip(&format!("link set {outside} up"))?;
        ip(&format!("-n {name} addr add {host}/30 dev {inside}"))?;
        ip(&format!("-n {name} link set {inside} up"))?;
        Ok(namespace)
    }

    /// What a process is started through to be inside.
    pub(in super::super) fn through(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name), "--".to_owned()]
    }

    /// Nothing comes through any more, or again.
    pub(in super::super) fn cable(&self, up: bool) -> Result<(), String> {
        let inside = self.name.replacen("chaos", "ci", 1);
        ip(&format!("-n {} link set {inside} {}", self.name, if up { "up" } else { "down" }))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end of the cable goes with it, and so does ours.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("`ip` cannot be run ({e}): install iproute2"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "`ip {args}` failed, and a silent host cannot be had without it (run this as root): {}",
            said.trim()
        ))
    }
}
