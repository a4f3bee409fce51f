//! Which crate may name which: the drawing in ARCHITECTURE.md as a table.
//!
//! A new edge is a line here, and so is reviewed.

use super::Finding;
use crate::tree::Tree;

/// `[dependencies]` and `[build-dependencies]`: crate, and what it may name.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("store", &["model"]),
    ("codec", &["model"]),
    ("engine", &["model"]),
    ("vault", &["model", "codec", "store"]),
    ("kms", &["model", "store", "vault"]),
    // Its credentials for AWS are found as those of a store are.
    ("notify", &["model", "store"]),
    ("postgres", &["model", "engine"]),
    // It connects to a server as sources are connected to; it knows neither engine nor vault.
    ("catalog", &["model", "postgres"]),
    // The only crate that sees an engine and a vault.
    ("ops", &["model", "store", "vault", "engine", "postgres"]),
    ("strongroom", &["model", "store", "vault", "kms", "engine", "postgres", "ops", "catalog", "notify"]),
    ("sim", &["model", "codec", "store", "vault", "engine"]),
];

/// `[dev-dependencies]`: what tests may name beyond that.
const TEST_EDGES: &[(&str, &[&str])] = &[
    // The store's own suite, run against its adapters.
    ("store", &["store"]),
    ("vault", &["store"]),
    ("kms", &["store"]),
    // The throw-away cluster that its tests start.
    ("postgres", &["postgres"]),
    ("catalog", &["postgres"]),
    ("ops", &["sim", "store", "postgres"]),
    ("strongroom", &["sim", "store", "postgres"]),
    // Whole verbs under faults, and real files under the reader that backups use.
    ("sim", &["ops", "postgres"]),
];

const HERE: &str = "xtask/src/tidy/edges.rs";

/// Names every edge that the tables do not hold, and every crate they do not know.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().filter_map(|(path, text)| Some((path, text, crate_of(path)?))).flat_map(of_crate).collect()
}

fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml").filter(|name| !name.contains('/'))
}

fn of_crate((path, text, name): (&str, &str, &str)) -> Vec<Finding> {
    let Some(allowed) = row(EDGES, name) else {
        return vec![Finding::new(path, 1, format!("crate {name} has no row"), format!("add it to {HERE}"))];
    };
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 1, "not TOML", error.message())],
    };
    let named =
        |tables: &[&str]| tables.iter().flat_map(|table| dependencies(&manifest, table)).collect::<Vec<_>>();
    let shipped = named(&["dependencies", "build-dependencies"]);
    let tests = named(&["dev-dependencies"]);
    let in_tests =
        |to: &str| allowed.contains(&to) || row(TEST_EDGES, name).is_some_and(|row| row.contains(&to));

    let refused = shipped.iter().filter(|to| !allowed.contains(&to.as_str()));
    let refused = refused.chain(tests.iter().filter(|to| !in_tests(to)));
    refused
        .map(|to| {
            let package = format!("strongroom-{to}");
            let line = text.lines().position(|line| line.contains(&package)).map_or(1, |index| index + 1);
            let mend = format!("go through a crate it may name, or argue for the edge in {HERE}");
            Finding::new(path, line, format!("{name} may not name {to}"), mend)
        })
        .collect()
}

fn row<'a>(table: &'a [(&str, &[&str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(from, _)| *from == name).map(|(_, to)| *to)
}

/// Our crates named in `table`, also below `[target.….table]`, by folder name.
fn dependencies(manifest: &toml::Table, table: &str) -> Vec<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let below_targets =
        targets.into_iter().flat_map(|targets| targets.values()).filter_map(|target| target.get(table));
    let named = manifest.get(table).into_iter().chain(below_targets).filter_map(toml::Value::as_table);
    let packages = named.flat_map(|table| {
        table.iter().map(|(key, value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(key))
    });
    packages
        .filter_map(|package| match package {
            "strongroom" => Some("strongroom"),
            _ => package.strip_prefix("strongroom-"),
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn an_edge_outside_the_table_is_found_however_it_is_written() {
        for edge in [
            "[dependencies]\nstrongroom-vault = { workspace = true }",
            "[dependencies]\nstrongroom-vault.workspace = true",
            "[dependencies.strongroom-vault]\nworkspace = true",
            "[build-dependencies]\nstrongroom-vault.workspace = true",
            "[target.'cfg(unix)'.dependencies]\nstrongroom-vault.workspace = true",
            "[dependencies]\nv = { package = \"strongroom-vault\", path = \"../vault\" }",
            "[dev-dependencies]\nstrongroom-vault.workspace = true",
        ] {
            let found = seen(check, &[("crates/postgres/Cargo.toml", edge)]);
            assert_eq!(found.len(), 1, "{edge}: {found:?}");
            assert!(found[0].ends_with("postgres may not name vault"), "{found:?}");
        }
    }

    #[test]
    fn edges_of_the_table_pass_and_test_edges_only_in_tests() {
        let ops = "[dependencies]\nstrongroom-vault.workspace = true\n[dev-dependencies]\nstrongroom-sim.workspace = true";
        assert_eq!(seen(check, &[("crates/ops/Cargo.toml", ops)]), [""; 0]);
        let shipped = "[dependencies]\nserde = \"1\"\nstrongroom-sim.workspace = true";
        assert_eq!(
            seen(check, &[("crates/ops/Cargo.toml", shipped)]),
            ["crates/ops/Cargo.toml:3: ops may not name sim"]
        );
        assert_eq!(
            seen(check, &[("crates/extra/Cargo.toml", "")]),
            ["crates/extra/Cargo.toml:1: crate extra has no row"]
        );
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (from, to) in EDGES {
            let mut reached: Vec<&str> = to.to_vec();
            let mut index = 0;
            while index < reached.len() {
                assert_ne!(reached[index], *from, "{from} reaches itself");
                reached.extend(row(EDGES, reached[index]).unwrap_or_default());
                index += 1;
                assert!(index < 1000, "{from} reaches a cycle");
            }
        }
    }
}
