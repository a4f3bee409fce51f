//! Every dependency has a reason, in `deny.toml`, and a use.
//!
//! Versions stand once, in `[workspace.dependencies]`; crates take them from there.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::tree::Tree;

const ROOT: &str = "Cargo.toml";
const REASONS: &str = "deny.toml";

/// Names every dependency without a reason or without a use, every reason without a dependency, and every version that
/// a crate has for itself.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let (Some(root), Some(reasons)) = (tree.get(ROOT), tree.get(REASONS)) else { return Vec::new() };
    let offered = offered(root);
    let reasoned = reasoned(reasons);
    let (mut used, mut findings) = (BTreeSet::new(), Vec::new());
    // A manifest that is a workspace of its own takes nothing from this one: the fuzz targets, which need another compiler.
    let ours = |(path, text): &(&str, &str)| {
        path.ends_with("/Cargo.toml") && !text.lines().any(|line| line == "[workspace]")
    };
    for (path, text) in tree.files().filter(ours) {
        for (name, own_version) in dependencies(text) {
            if own_version {
                let mend = format!("write `{name} = {{ workspace = true }}`, and the version in {ROOT}");
                findings.push(Finding::new(
                    path,
                    line_of(text, &name),
                    format!("{name} has its own version here"),
                    mend,
                ));
            }
            used.insert(name);
        }
    }
    for name in &offered {
        if !reasoned.contains_key(name.as_str()) {
            let mend = format!("add `# {name}: what it is for` to {REASONS}");
            findings.push(Finding::new(ROOT, line_of(root, name), format!("{name} has no reason"), mend));
        }
        if !used.contains(name) {
            findings.push(Finding::new(
                ROOT,
                line_of(root, name),
                format!("no crate uses {name}"),
                "take it out",
            ));
        }
    }
    let stray = reasoned.iter().filter(|(name, _)| !offered.contains(**name));
    findings.extend(stray.map(|(name, line)| {
        Finding::new(REASONS, *line, format!("{name} is no dependency"), "take the line out")
    }));
    findings
}

/// The dependencies from outside that the workspace offers its crates.
fn offered(root: &str) -> BTreeSet<String> {
    let manifest: toml::Table = root.parse().unwrap_or_default();
    let offered = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let rows = offered.and_then(toml::Value::as_table).into_iter().flatten();
    rows.filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name.clone()).collect()
}

/// `# name: reason` lines, with their line numbers.
fn reasoned(text: &str) -> BTreeMap<&str, usize> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let (name, _) = line.strip_prefix("# ")?.split_once(": ")?;
        is_name(name).then_some((name, index + 1))
    });
    lines.collect()
}

/// What a crate depends on, and whether with a version of its own.
fn dependencies(text: &str) -> Vec<(String, bool)> {
    let manifest: toml::Table = text.parse().unwrap_or_default();
    let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(|t| t.values());
    let holders: Vec<&toml::Table> = targets.filter_map(toml::Value::as_table).chain([&manifest]).collect();
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"];
    let rows =
        holders.iter().flat_map(|holder| tables.iter().filter_map(|table| holder.get(*table)?.as_table()));
    rows.flatten()
        .map(|(name, value)| (name.clone(), value.is_str() || value.get("version").is_some()))
        .collect()
}

fn line_of(text: &str, name: &str) -> usize {
    let names = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '=', '.']));
    text.lines().position(names).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    const OFFERED: &str = "[workspace.dependencies]\nstrongroom-model = { path = \"crates/model\" }\nbytes = \"1\"\nserde = { version = \"1\" }";
    const USED: &str = "[dependencies]\nbytes = { workspace = true }\n[target.'cfg(unix)'.dev-dependencies]\nserde.workspace = true";

    fn check_both(reasons: &str, user: &str) -> Vec<String> {
        seen(check, &[(ROOT, OFFERED), (REASONS, reasons), ("crates/x/Cargo.toml", user)])
    }

    #[test]
    fn a_dependency_has_a_reason_and_a_use() {
        assert_eq!(check_both("# bytes: shared\n# serde: values", USED), [""; 0]);
        assert_eq!(check_both("# bytes: shared", USED), ["Cargo.toml:4: serde has no reason"]);
        assert_eq!(
            check_both("# bytes: a\n# serde: b\n# gone: c\n# A note: d", USED),
            ["deny.toml:3: gone is no dependency"]
        );
        let unused = check_both("# bytes: a\n# serde: b", "[dependencies]\nbytes.workspace = true");
        assert_eq!(unused, ["Cargo.toml:4: no crate uses serde"]);
    }

    #[test]
    fn versions_stand_in_one_place() {
        let own = "[dependencies]\nbytes = \"1\"\nserde = { version = \"1\", optional = true }";
        let found = check_both("# bytes: a\n# serde: b", own);
        let said =
            |line: usize, name: &str| format!("crates/x/Cargo.toml:{line}: {name} has its own version here");
        assert_eq!(found, [said(2, "bytes"), said(3, "serde")]);
    }
}
