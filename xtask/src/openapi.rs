//! `cargo xtask openapi`: the committed document is what the code says.

use crate::shell::{Cargo, Done, root};
use std::fs;

/// Where it is committed.
const DOCUMENT: &str = "openapi/v1.json";

/// Writes it, or only compares.
pub(crate) fn write(check: bool) -> Done {
    let text = Cargo::new(["run", "--quiet", "--package", "outlive-cli", "--", "openapi"]).text()?;
    let path = root().join(DOCUMENT);
    if fs::read_to_string(&path).is_ok_and(|committed| committed == text) {
        eprintln!("{DOCUMENT} is what the code says");
        return Ok(());
    }
    if check {
        return Err(format!("{DOCUMENT} is not what the code says: run `cargo xtask openapi` and commit it"));
    }
    fs::write(&path, text).map_err(|e| format!("{DOCUMENT} cannot be written: {e}"))?;
    eprintln!("{DOCUMENT} is written");
    Ok(())
}
