//! What rustfmt and clippy cannot check: the shape of the project.
//!
//! One rule a file, each a plain function from the tree to its findings; [`check`] runs them all. A rule is changed
//! by a reviewed line in its file: there is no switch to turn one off.

use std::fmt;

use crate::tree::Tree;

mod edges;
mod reasons;
mod order;
mod names;
mod words;
mod sizes;
mod headers;
mod allows;
mod paths;
mod runbook;

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
    mend: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.what, self.mend)
    }
}

/// Everything that breaks a rule, in order of path.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let rules = [
        edges::check,
        reasons::check,
        order::check,
        names::check,
        words::check,
        sizes::check,
        headers::check,
        allows::check,
        paths::check,
        runbook::check,
    ];
    let mut findings: Vec<Finding> = rules.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings
}

/// What a rule says of a tree, as text: how the rules' own tests compare.
#[cfg(test)]
fn seen(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::of(files))
        .iter()
        .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.what))
        .collect()
}
