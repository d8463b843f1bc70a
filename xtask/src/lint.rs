//! `cargo xtask lint`: everything that can be said about the code without running it. Every check runs, whatever the ones
//! before it found.

use crate::house::House;
use crate::needs::{self, Of};
use crate::shell::{Cargo, Done, stage};
use crate::{rules, sizes};

pub(crate) fn all(quick: bool) -> Done {
    let mut failed = Vec::new();
    let mut check = |name: &'static str, work: &dyn Fn() -> Done| {
        if let Err(why) = stage(name, work) {
            eprintln!("   {why}");
            failed.push(name);
        }
    };
    check("layering rules", &layering);
    check("sizes", &size);
    if !quick {
        needs::provide(&[Of::Lint])?;
        check("rustfmt", &|| Cargo::new(["fmt", "--all", "--check"]).run());
        check("clippy", &|| Cargo::new(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run());
        check("rustdoc", &|| {
            // The readers are those who work here: private items are shown, so a link to one is no mistake.
            Cargo::new(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
                .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
                .run()
        });
        if needs::deny().is_some() {
            check("cargo-deny", &|| Cargo::new(["deny", "--workspace", "check", "--hide-inclusion-graph"]).run());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("lint failed: {}", failed.join(", "))) }
}

fn layering() -> Done {
    let house = House::read()?;
    report(&rules::check(&house))
}

fn size() -> Done {
    let (table, findings) = sizes::check(&House::read()?);
    eprint!("{table}");
    report(&findings)
}

fn report(findings: &[rules::Finding]) -> Done {
    for finding in findings {
        eprintln!("   {finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} to mend", findings.len())) }
}
