//! `cargo xtask chaos`: builds the binary and what kills it, optimised, and starts that.

use crate::needs::target;
use crate::shell::{Cargo, Done};
use std::ffi::OsString;

pub(crate) fn run(args: &[OsString]) -> Done {
    Cargo::new(["build", "--release", "--package", "outlive-cli", "--package", "outlive-chaos"]).run()?;
    let binary = target().join("release").join("outlive");
    let mut args = args.to_vec();
    // Behind the name of what is done, if there is one; its help needs no binary.
    if !args.is_empty() && !args.iter().any(|arg| arg == "--help") {
        args.splice(1..1, ["--binary".into(), binary.into_os_string()]);
    }
    Cargo::new(["run", "--quiet", "--release", "--package", "outlive-chaos", "--"]).args(args).run()
}
