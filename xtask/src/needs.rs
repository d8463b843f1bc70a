//! What tests and lints need of a machine: one table. A service that a later test needs (PostgreSQL, Redis, …) is a row: it
//! is started privately and found by nobody else.

use crate::shell::{Cargo, Done, cargo, first_line, root, stage};
use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// Building the runner may take this long; then `cargo test` does its work.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);

/// Who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Test,
    Lint,
}

/// Both.
pub(crate) const ALL: &[Of] = &[Of::Test, Of::Lint];

/// What happens if it cannot be provided.
enum Without {
    /// Nothing works.
    Stop,
    /// This happens instead.
    Go(&'static str),
}

/// One row.
struct Need {
    name: &'static str,
    of: &'static [Of],
    /// Its version, if it is there.
    found: fn() -> Option<String>,
    /// Provides it.
    provide: fn() -> Done,
    without: Without,
}

const NEEDS: &[Need] = &[
    Need {
        name: "a C compiler",
        of: ALL,
        found: c_compiler,
        provide: || Err("install one (Debian and Ubuntu: `apt-get install gcc libc6-dev`), or name it in CC".to_owned()),
        without: Without::Stop,
    },
    Need {
        name: "cargo-nextest",
        of: &[Of::Test],
        found: nextest,
        provide: install_nextest,
        without: Without::Go("`cargo test` runs the tests"),
    },
    Need {
        name: "unshare and mount",
        of: &[Of::Test],
        found: || first_line("unshare", &["--version"]).filter(|_| first_line("mount", &["--version"]).is_some()),
        provide: || apt(&["util-linux", "mount"]),
        without: Without::Stop,
    },
    Need {
        name: "ip and nsenter",
        of: &[Of::Test],
        found: || first_line("ip", &["-Version"]).filter(|_| first_line("nsenter", &["--version"]).is_some()),
        provide: || apt(&["iproute2", "util-linux"]),
        without: Without::Stop,
    },
    Need {
        name: "faketime",
        of: &[Of::Test],
        found: || first_line("faketime", &["--version"]),
        provide: || apt(&["faketime"]),
        without: Without::Stop,
    },
    Need {
        name: "python3 with venv",
        of: &[Of::Test],
        found: python,
        provide: || apt(&["python3", "python3-venv"]),
        without: Without::Stop,
    },
    Need {
        name: "schemathesis",
        of: &[Of::Test],
        found: || {
            first_line(tools().join("schemathesis/bin/st"), &["--version"])
                .filter(|v| is_pinned(SCHEMATHESIS, "schemathesis", v))
        },
        provide: || venv("schemathesis", "schemathesis.txt"),
        without: Without::Stop,
    },
    Need {
        name: "schemas of compose and Kubernetes",
        of: &[Of::Test],
        found: || {
            first_line(tools().join("schemas/bin/check-jsonschema"), &["--version"])
                .filter(|v| is_pinned(SCHEMAS, "check-jsonschema", v))
        },
        provide: || venv("schemas", "schemas.txt"),
        without: Without::Stop,
    },
    Need {
        name: "systemd-analyze",
        of: &[Of::Test],
        found: || first_line("systemd-analyze", &["--version"]),
        provide: || apt(&["systemd"]),
        without: Without::Stop,
    },
    Need {
        name: "nginx",
        of: &[Of::Test],
        found: || first_line("sh", &["-c", "\"$0\" -v 2>&1", &unpacked("usr/sbin/nginx").to_string_lossy()]),
        provide: || unpack("nginx", "usr/sbin/nginx"),
        without: Without::Stop,
    },
    Need {
        name: "promtool",
        of: &[Of::Test],
        found: || first_line(unpacked("usr/bin/promtool"), &["--version"]),
        provide: || unpack("prometheus", "usr/bin/promtool"),
        without: Without::Stop,
    },
    Need {
        name: "curl",
        of: &[Of::Test],
        found: || first_line("curl", &["--version"]),
        provide: || apt(&["curl"]),
        without: Without::Stop,
    },
    Need {
        name: "jq",
        of: &[Of::Test],
        found: || first_line("jq", &["--version"]),
        provide: || apt(&["jq"]),
        without: Without::Stop,
    },
    Need {
        name: "perl",
        of: &[Of::Test],
        found: || first_line("perl", &["-e", "print $^V"]),
        provide: || apt(&["perl-base"]),
        without: Without::Stop,
    },
    Need {
        name: "PostgreSQL's server",
        of: &[Of::Test],
        found: postgres,
        provide: || apt(&["postgresql"]),
        without: Without::Stop,
    },
    Need {
        name: "pgbouncer",
        of: &[Of::Test],
        found: || ["/usr/sbin/pgbouncer", "pgbouncer"].iter().find_map(|name| first_line(name, &["--version"])),
        provide: || apt(&["pgbouncer"]),
        without: Without::Stop,
    },
    Need {
        name: "Redis",
        of: &[Of::Test],
        found: || first_line("redis-server", &["--version"]),
        provide: || apt(&["redis-server"]),
        without: Without::Stop,
    },
    Need {
        name: "rustfmt",
        of: &[Of::Lint],
        found: || first_line(cargo(), &["fmt", "--version"]),
        provide: || component("rustfmt"),
        without: Without::Stop,
    },
    Need {
        name: "clippy",
        of: &[Of::Lint],
        found: || first_line(cargo(), &["clippy", "--version"]),
        provide: || component("clippy"),
        without: Without::Stop,
    },
    Need {
        name: "cargo-deny",
        of: &[Of::Lint],
        found: deny,
        provide: || Err("optional: `cargo install --locked cargo-deny`".to_owned()),
        without: Without::Go("licences and advisories are not checked"),
    },
];

/// Provides what is missing.
pub(crate) fn provide(of: &[Of]) -> Done {
    stage("set-up", || NEEDS.iter().filter(|need| need.of.iter().any(|o| of.contains(o))).try_for_each(provide_one))
}

fn provide_one(need: &Need) -> Done {
    if let Some(version) = (need.found)() {
        eprintln!("   {}: {version}", need.name);
        return Ok(());
    }
    eprintln!("   {}: missing", need.name);
    match ((need.provide)(), &need.without) {
        (Ok(()), _) => Ok(()),
        (Err(why), Without::Stop) => Err(format!("{} is needed: {why}", need.name)),
        (Err(why), Without::Go(instead)) => {
            eprintln!("   {}: {why}; {instead}", need.name);
            Ok(())
        }
    }
}

fn c_compiler() -> Option<String> {
    let named = env::var_os("CC");
    named.into_iter().chain(["cc", "gcc", "clang"].map(Into::into)).find_map(|c| first_line(c, &["--version"]))
}

/// The newest server that Debian has installed, or the one in `PATH`; whether one runs does not matter.
fn postgres() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<PathBuf> = versions.map(|version| version.path().join("bin/postgres")).collect();
    programs.sort();
    programs.push("postgres".into());
    programs.iter().rev().find_map(|program| first_line(program, &["--version"]))
}

/// Debian has the language and its `venv` in packages of their own.
fn python() -> Option<String> {
    first_line("python3", &["-c", "import ensurepip, sys; print(sys.version)"])
}

/// What is installed of Python's, with all that it needs, each with its version. The tests look for it in the same places
/// (`crates/cli/tests/cli/contract.rs`, `deploy.rs`).
const SCHEMATHESIS: &str = include_str!("../../crates/cli/tests/schemathesis.txt");
const SCHEMAS: &str = include_str!("../../crates/cli/tests/schemas.txt");

/// What a program says of itself, `st, version 4.32.5`, against the list's line of its package.
fn is_pinned(list: &str, package: &str, said: &str) -> bool {
    let number = said.rsplit(' ').next().unwrap_or_default().trim_start_matches('v');
    list.lines().any(|line| line.split_once("==") == Some((package, number)))
}

/// Programs of Python in a folder of their own, from a list in `crates/cli/tests`.
fn venv(name: &str, list: &str) -> Done {
    let folder = tools().join(name);
    let run = |program: PathBuf, args: &[&str]| {
        first_line(&program, args).map(drop).ok_or_else(|| format!("`{} {}` failed", program.display(), args.join(" ")))
    };
    run("python3".into(), &["-m", "venv", "--clear", &folder.to_string_lossy()])?;
    let list = root().join("crates/cli/tests").join(list);
    run(folder.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "-r", &list.to_string_lossy()])
}

/// A file of a package that was unpacked.
fn unpacked(file: &str) -> PathBuf {
    tools().join("debian").join(file)
}

/// One file of a Debian package, beside what is built: nothing is installed, and no service starts.
fn unpack(package: &str, file: &str) -> Done {
    let folder = tools().join("debian");
    let script = "mkdir -p \"$0\" && cd \"$0\" && rm -f \"$1\"_*.deb && { apt-get download \"$1\" || \
                  { apt-get update && apt-get download \"$1\"; }; } && \
                  dpkg-deb --fsys-tarfile \"$1\"_*.deb | tar -x \"./$2\" && rm \"$1\"_*.deb";
    match first_line("sh", &["-ec", script, &folder.to_string_lossy(), package, file]) {
        Some(_) => Ok(()),
        None => Err(format!("`apt-get download {package}` failed")),
    }
}

/// The runner's version, if there is one: an installed one, or our own.
pub(crate) fn nextest() -> Option<String> {
    first_line(cargo(), &["nextest", "--version"]).or_else(|| first_line(own_nextest(), &["nextest", "--version"]))
}

/// cargo-deny's version.
pub(crate) fn deny() -> Option<String> {
    first_line(cargo(), &["deny", "--version"])
}

/// A cargo command of the runner.
pub(crate) fn nextest_command() -> Cargo {
    let path = env::join_paths(std::iter::once(tools().join("bin")).chain(env::split_paths(&search_path())));
    let cargo = Cargo::new(["nextest", "run", "--workspace"]);
    match path {
        Ok(path) => cargo.env("PATH", path),
        Err(_) => cargo,
    }
}

fn search_path() -> std::ffi::OsString {
    env::var_os("PATH").unwrap_or_default()
}

fn own_nextest() -> PathBuf {
    tools().join("bin").join("cargo-nextest")
}

/// Tools are kept beside what is built, not in the home of whoever builds.
fn tools() -> PathBuf {
    target().join("tools")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn install_nextest() -> Done {
    Cargo::new(["install", "--locked", "--quiet", "cargo-nextest", "--root"]).args([tools()]).run_for(INSTALL_LIMIT)
}

fn apt(packages: &[&str]) -> Done {
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    match first_line("apt-get", &["update"]).and_then(|_| first_line("apt-get", &install)) {
        Some(_) => Ok(()),
        None => Err(format!("`apt-get install {}` failed", packages.join(" "))),
    }
}

fn component(name: &str) -> Done {
    match first_line("rustup", &["component", "add", name]) {
        Some(_) => Ok(()),
        None => Err(format!("`rustup component add {name}` failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_another_version_is_not_the_pinned_one() {
        let pinned = SCHEMAS.lines().find_map(|line| line.strip_prefix("check-jsonschema==")).unwrap();
        assert!(is_pinned(SCHEMAS, "check-jsonschema", &format!("it, version {pinned}")));
        for other in ["it, version 0.0.1", ""] {
            assert!(!is_pinned(SCHEMAS, "check-jsonschema", other));
        }
    }

    const MISSING: Need = Need {
        name: "a thing",
        of: ALL,
        found: || None,
        provide: || Err("it cannot be had".to_owned()),
        without: Without::Stop,
    };

    #[test]
    fn what_cannot_be_provided_stops_with_its_name_and_what_to_do() {
        assert_eq!(provide_one(&MISSING), Err("a thing is needed: it cannot be had".to_owned()));
    }

    #[test]
    fn what_can_be_done_without_stops_nothing() {
        assert_eq!(provide_one(&Need { without: Without::Go("something else happens"), ..MISSING }), Ok(()));
    }

    #[test]
    fn what_is_there_is_not_provided_again() {
        let present = Need { found: || Some("1.0".to_owned()), provide: || panic!("it was there"), ..MISSING };
        assert_eq!(provide_one(&present), Ok(()));
    }
}
