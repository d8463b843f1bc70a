//! The version after this one, as the test of an upgrade needs it: the same sources with the feature `next`, which adds a
//! migration, a protocol, and a message that nobody knows. It lies beside this version and shares what both are made of.

use crate::shell::{Cargo, Done};
use std::path::PathBuf;

/// The whole workspace is selected, and an example that is built already: so every library outside has the features that the
/// build of all targets gave it, and none of them is built again.
const ARGS: &[&str] = &[
    "build",
    "--quiet",
    "--workspace",
    "--features",
    "outlive-cli/next",
    "--bin",
    "outlive-next",
    "--example",
    "lives",
];

/// Builds it; where it is.
pub(crate) fn build() -> Done<PathBuf> {
    Cargo::new(ARGS.iter().copied()).run()?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(own.with_file_name("outlive-next"))
}
