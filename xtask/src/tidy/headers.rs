//! Every source file says first what it is: a `//!` header on its first line.

use super::Finding;
use crate::tree::{Tree, in_source};

/// Names every file below a `src` folder that does not begin with `//!`.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let silent =
        tree.rust_files().filter(|(path, text)| in_source(path).is_some() && !text.starts_with("//! "));
    silent
        .map(|(path, _)| Finding::new(path, 1, "no header", "begin with `//! ` and what this file is"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn a_header_is_the_first_line_of_a_source_file() {
        let found = seen(
            check,
            &[
                ("crates/x/src/good.rs", "//! What it is.\n"),
                ("crates/x/src/late.rs", "#![allow(x)]\n//! What it is.\n"),
                ("crates/x/src/none.rs", ""),
                ("crates/x/tests/free.rs", ""),
            ],
        );
        assert_eq!(found, ["crates/x/src/late.rs:1: no header", "crates/x/src/none.rs:1: no header"]);
    }
}
