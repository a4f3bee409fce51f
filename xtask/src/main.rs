//! Strongroom's own checks, run as `cargo xtask tidy`.
//!
//! A development tool: it reads the project's files, prints one line per finding and changes nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a development tool: it reads files, runs git and prints"
)]

use std::path::Path;
use std::process::ExitCode;

mod rust;
mod tree;
mod tidy;

const HELP: &str = "\
Usage: cargo xtask tidy

tidy    checks what rustfmt and clippy cannot: crate edges, module order, names, sizes, headers, reasons.
        Each finding is `path:line: what: how to mend`. The rules are the files of xtask/src/tidy.
        Exit: 0 nothing found, 1 findings, 2 could not look.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy(),
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = match tree::Tree::read(&root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: {error}");
            return ExitCode::from(2);
        }
    };
    let findings = tidy::check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing found", tree.len());
        ExitCode::SUCCESS
    } else {
        eprintln!("tidy: {} to mend", findings.len());
        ExitCode::FAILURE
    }
}
