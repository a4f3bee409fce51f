//! One verb, one spelling: each CLI verb has its page in the runbook, and each page its verb.
//!
//! `crates/strongroom/src/cli/restore.rs` ↔ `docs/runbook/restore.md`. Checked from the first of each on.

use std::collections::BTreeSet;

use super::Finding;
use crate::rust::Source;
use crate::tree::Tree;

const CLI: &str = "crates/strongroom/src/cli/";
const PAGES: &str = "docs/runbook/";

/// Names every verb without a page and every page without a verb.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let verbs: BTreeSet<&str> = tree.rust_files().filter_map(|(path, text)| verb(path, text)).collect();
    let pages: BTreeSet<&str> = tree.files().filter_map(|(path, _)| stem(path, PAGES, ".md")).collect();
    let pages: BTreeSet<&str> = pages.into_iter().filter(|page| *page != "README").collect();
    if verbs.is_empty() || pages.is_empty() {
        return Vec::new();
    }
    let silent = verbs.difference(&pages).map(|verb| {
        let mend = format!("write {PAGES}{verb}.md");
        Finding::new(&format!("{CLI}{verb}.rs"), 1, format!("the verb {verb} has no page"), mend)
    });
    let stray = pages.difference(&verbs).map(|page| {
        let mend = format!("name it after a file in {CLI}, or move it out of {PAGES}");
        Finding::new(&format!("{PAGES}{page}.md"), 1, format!("no verb is called {page}"), mend)
    });
    silent.chain(stray).collect()
}

/// The verb a file of the CLI holds: one that declares its arguments (`derive(Args)`), not one the verbs share.
fn verb<'a>(path: &'a str, text: &str) -> Option<&'a str> {
    let name = stem(path, CLI, ".rs")?;
    let source = Source::read(text).without_tests();
    let derives = |index: usize| {
        source.reads(index, &["derive", "("])
            && (index..source.closing(index + 1))
                .any(|at| matches!(source.text(at), "Args" | "Subcommand" | "Parser"))
    };
    (0..source.tokens.len()).any(derives).then_some(name)
}

fn stem<'a>(path: &'a str, folder: &str, ending: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_suffix(ending).filter(|name| !name.contains('/') && *name != "mod")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn verbs_and_pages_pair_up() {
        let verb = "#[derive(Debug, clap::Args)]\nstruct Arguments;";
        let cli = [
            ("crates/strongroom/src/cli/backup.rs", verb),
            ("crates/strongroom/src/cli/restore.rs", verb),
            ("crates/strongroom/src/cli/output.rs", "fn print() {}"),
        ];
        assert_eq!(seen(check, &cli), [""; 0]);
        let mut both = cli.to_vec();
        both.extend([
            ("docs/runbook/restore.md", ""),
            ("docs/runbook/recover.md", ""),
            ("docs/runbook/README.md", ""),
        ]);
        assert_eq!(
            seen(check, &both),
            [
                "crates/strongroom/src/cli/backup.rs:1: the verb backup has no page",
                "docs/runbook/recover.md:1: no verb is called recover"
            ]
        );
    }
}
