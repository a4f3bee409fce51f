//! Strongroom's own checks, run as `cargo xtask tidy` and `cargo xtask matrix`.
//!
//! A development tool: it reads the project's files, prints one line per finding and changes nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a development tool: it reads files, runs git and prints"
)]

use std::path::Path;
use std::process::ExitCode;

use crate::matrix::Outcome;

mod rust;
mod tree;
mod tidy;
mod matrix;

const HELP: &str = "\
Usage: cargo xtask tidy
       cargo xtask matrix [VERSION...]

tidy    checks what rustfmt and clippy cannot: crate edges, module order, names, sizes, headers, reasons.
        Each finding is `path:line: what: how to mend`. The rules are the files of xtask/src/tidy.
        Exit: 0 nothing found, 1 findings, 2 could not look.

matrix  runs the tests against real servers once per PostgreSQL version: on this host, or in a chroot
        that .ci/chroot makes (13 bullseye, 15 bookworm, 17 trixie, 18 sid; root needed). About 5 minutes each.
        Exit: 0 all passed, 1 some did not, 2 a version that was asked for cannot be had.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy(),
        ["matrix", ref versions @ ..] => run_matrix(versions),
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

fn run_matrix(versions: &[&str]) -> ExitCode {
    let Ok(wanted) = versions.iter().map(|version| version.parse()).collect::<Result<Vec<u32>, _>>() else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    let outcomes = match matrix::run(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &wanted) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            eprintln!("matrix: {error}");
            return ExitCode::from(2);
        }
    };
    let mut code = ExitCode::SUCCESS;
    for (version, outcome) in outcomes {
        match outcome {
            Outcome::Passed(took) => println!("PostgreSQL {version}: passed, {} s", took.as_secs()),
            Outcome::Failed(took, failed) => {
                println!("PostgreSQL {version}: FAILED, {} s\n{failed}", took.as_secs());
                code = ExitCode::FAILURE;
            }
            Outcome::Absent(reason) => {
                println!("PostgreSQL {version}: not run: {reason}");
                if !wanted.is_empty() {
                    code = ExitCode::from(2);
                }
            }
        }
    }
    code
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
