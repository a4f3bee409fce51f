//! A lint is silenced only with its reason: `reason = "…"` inside, or a comment on the same line or the one above.

use super::Finding;
use crate::rust::{Kind, Source};
use crate::tree::Tree;

/// Names every `allow(…)` and `expect(…)` attribute without a reason.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust_files().flat_map(|(path, text)| in_file(path, text)).collect()
}

fn in_file(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::read(text);
    let mut findings = Vec::new();
    for open in attribute_starts(&source) {
        let close = source.closing(open);
        for index in open..close {
            let silences = matches!(source.text(index), "allow" | "expect") && source.text(index + 1) == "(";
            if !silences || source.tokens[index].kind != Kind::Word {
                continue;
            }
            let inside = index + 1..source.closing(index + 1);
            let line = source.tokens[index].line;
            let reasoned = inside.clone().any(|at| source.reads(at, &["reason", "="]));
            let explained = source.comments.iter().any(|comment| {
                !comment.text.starts_with("//!") && (comment.line == line || comment.last_line() + 1 == line)
            });
            if !reasoned && !explained {
                let lint: String = inside.skip(1).map(|at| source.text(at)).collect();
                let mend = "add `reason = \"…\"`, or mend what the lint found";
                findings.push(Finding::new(path, line, format!("{lint} is silenced without a reason"), mend));
            }
        }
    }
    findings
}

/// The indices of the `[` of every `#[…]` and `#![…]`.
fn attribute_starts(source: &Source<'_>) -> Vec<usize> {
    let at = |index: usize| match (source.text(index), source.text(index + 1), source.text(index + 2)) {
        ("#", "[", _) => Some(index + 1),
        ("#", "!", "[") => Some(index + 2),
        _ => None,
    };
    (0..source.tokens.len()).filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    fn count(text: &str) -> usize {
        seen(check, &[("crates/x/src/a.rs", text)]).len()
    }

    #[test]
    fn a_silenced_lint_needs_a_reason() {
        for bare in [
            "#[allow(dead_code)]",
            "#![allow(clippy::unwrap_used)]",
            "#![cfg_attr(test, allow(x))]",
            "//! Header.\n#![allow(x)]",
            "#[expect(x)]",
        ] {
            assert_eq!(count(bare), 1, "{bare}");
        }
        for good in [
            "#[allow(x, reason = \"so\")]",
            "#![cfg_attr(test, allow(x, reason = \"so\"))]",
            "// because\n#[allow(x)]",
            "#[allow(x)] // because",
            "fn f() { y.allow(x); z.expect(\"a\"); }",
            "// #[allow(x)]",
        ] {
            assert_eq!(count(good), 0, "{good}");
        }
    }
}
