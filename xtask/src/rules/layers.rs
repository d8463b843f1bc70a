//! Which crate may know which.

use super::Finding;
use crate::house::House;

/// A crate of ours, and which others of ours it may name, in tests too. What is not listed is not allowed.
const LAYERS: &[(&str, &[&str])] = &[
    ("outlive-core", &[]),
    ("outlive-store", &["outlive-core"]),
    ("outlive-store-tests", &["outlive-core", "outlive-store"]),
    ("outlive-store-sqlite", &["outlive-core", "outlive-store", "outlive-store-tests"]),
    ("outlive-pg-private", &[]),
    (
        "outlive-store-postgres",
        &["outlive-core", "outlive-pg-private", "outlive-store", "outlive-store-sqlite", "outlive-store-tests"],
    ),
    ("outlive-liveness-redis", &["outlive-core", "outlive-pg-private", "outlive-store"]),
    ("outlive-api", &["outlive-core"]),
    (
        "outlive-server",
        &[
            "outlive-api",
            "outlive-core",
            "outlive-liveness-redis",
            "outlive-pg-private",
            "outlive-store",
            "outlive-store-postgres",
            "outlive-store-sqlite",
        ],
    ),
    ("outlive-worker", &["outlive-api", "outlive-core"]),
    ("outlive-acceptance", &["outlive-api", "outlive-core"]),
    ("outlive-chaos", &["outlive-api", "outlive-core", "outlive-pg-private"]),
    (
        "outlive-cli",
        &[
            "outlive-acceptance",
            "outlive-api",
            "outlive-chaos",
            "outlive-core",
            "outlive-pg-private",
            "outlive-server",
            "outlive-worker",
        ],
    ),
    ("outlive-sim", &["outlive-api", "outlive-core", "outlive-store", "outlive-store-sqlite", "outlive-worker"]),
    ("xtask", &[]),
];

/// What a crate must not reach, not even through others.
const NEVER: &[(&str, &[&str])] = &[
    ("outlive-core", &["tokio", "rusqlite", "hyper", "axum", "async-trait", "rustix", "jiff"]),
    ("outlive-store", &["rusqlite", "hyper", "axum"]),
    ("outlive-worker", &["rusqlite", "axum"]),
];

pub(crate) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, needs) in house.packages.iter().filter(|(name, _)| is_ours(name)) {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| layer == name) else {
            findings.push(format!("{name} has no row in the table of layers (xtask/src/rules/layers.rs)"));
            continue;
        };
        for need in needs.iter().filter(|n| is_ours(n) && !allowed.contains(&n.as_str())) {
            findings.push(format!("{name} must not depend on {need}"));
        }
    }
    for (name, never) in NEVER {
        let reach = house.reach(name);
        for library in never.iter().filter(|l| reach.contains(*l)) {
            findings.push(format!("{name} must not reach {library}, not even through others"));
        }
    }
    findings
}

fn is_ours(name: &str) -> bool {
    name.starts_with("outlive-") || name == "xtask"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(edges: &[(&str, &[&str])]) -> House {
        let packages = edges.iter().map(|(name, needs)| {
            let needs = needs.iter().map(|n| (*n).to_owned()).collect();
            ((*name).to_owned(), needs)
        });
        House { packages: packages.collect(), ..House::default() }
    }

    #[test]
    fn the_layers_as_designed_are_allowed() {
        assert_eq!(check(&house(LAYERS)), Vec::<Finding>::new());
    }

    #[test]
    fn core_that_knows_somebody_is_found() {
        let found = check(&house(&[("outlive-core", &["outlive-store"])]));
        assert_eq!(found, ["outlive-core must not depend on outlive-store"]);
    }

    #[test]
    fn a_library_that_brings_a_runtime_into_core_is_found() {
        let found = check(&house(&[("outlive-core", &["helper"]), ("helper", &["tokio"])]));
        assert_eq!(found, ["outlive-core must not reach tokio, not even through others"]);
    }

    #[test]
    fn a_store_that_knows_more_than_core_is_found() {
        let found = check(&house(&[("outlive-store", &["outlive-core", "outlive-api"])]));
        assert_eq!(found, ["outlive-store must not depend on outlive-api"]);
    }

    #[test]
    fn a_worker_or_command_line_that_sees_a_store_is_found() {
        for (name, store) in [
            ("outlive-worker", "outlive-store"),
            ("outlive-worker", "outlive-store-sqlite"),
            ("outlive-cli", "outlive-store"),
            ("outlive-cli", "outlive-store-sqlite"),
        ] {
            assert_eq!(check(&house(&[(name, &[store])])), [format!("{name} must not depend on {store}")]);
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(check(&house(&[("outlive-new", &[])])).len(), 1);
    }
}
