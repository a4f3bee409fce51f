//! Unfinished work does not land: no promise to do it later, no stub, no skipped test, no debugging left over.

use super::Finding;
use crate::rust::{Kind, Source};
use crate::tree::Tree;

const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
const PROMISES: &[&str] = &["TODO", "FIXME", "XXX"];

/// Names every stub, promise, skipped test and debugging print in Rust files, and every promise in scripts.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let rust = tree.rust_files().flat_map(|(path, text)| in_rust(path, text));
    let scripts = tree.files().filter(|(_, text)| text.starts_with("#!/"));
    rust.chain(scripts.flat_map(|(path, text)| promises(path, text, 1))).collect()
}

fn in_rust(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::read(text);
    let mut findings: Vec<Finding> =
        source.comments.iter().flat_map(|comment| promises(path, comment.text, comment.line)).collect();
    for (index, token) in source.tokens.iter().enumerate() {
        let called = source.text(index + 1) == "!" && matches!(source.text(index + 2), "(" | "[" | "{");
        if token.kind == Kind::Word && MACROS.contains(&token.text) && called {
            findings.push(Finding::new(
                path,
                token.line,
                format!("{}!", token.text),
                "finish it, or take it out",
            ));
        }
        if source.reads(index, &["#", "[", "ignore"]) {
            findings.push(Finding::new(
                path,
                token.line,
                "a skipped test",
                "run it, printing the reason where it cannot",
            ));
        }
    }
    findings
}

/// Promises in `text`, which starts on line `first`.
fn promises(path: &str, text: &str, first: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (offset, line) in text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| PROMISES.contains(word)) {
            findings.push(Finding::new(
                path,
                first + offset,
                word,
                "do it now, or open an issue and say what is so today",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn unfinished_work_is_found_in_code_and_comments_only() {
        let code = "fn a() { todo!() }\nfn b() { dbg!(1); unimplemented!(); }\n#[test]\n#[ignore = \"slow\"]\nfn c() {}\n/* x\nFIXME */\n//TODO: y";
        let lines: Vec<String> = seen(check, &[("crates/x/src/a.rs", code)]);
        assert_eq!(lines.len(), 6, "{lines:?}");
        let quiet = "fn ignore() { let todo = \"TODO\"; s.ignore(todo != 1); } // a to-do list; MASTODON";
        assert_eq!(seen(check, &[("crates/x/src/a.rs", quiet)]), [""; 0]);
    }

    #[test]
    fn scripts_are_looked_at_too() {
        let found = seen(check, &[("test", "#!/bin/bash\n# TODO: more\n"), ("README.md", "TODO")]);
        assert_eq!(found, ["test:2: TODO"]);
    }
}
