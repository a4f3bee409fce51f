//! Names that say nothing are refused, in files and in types: if no name fits, the concept is not understood yet.

use super::Finding;
use crate::rust::{Kind, Source};
use crate::tree::{Tree, is_ours};

/// Whole words of a name, in the singular.
const EMPTY_WORDS: &[&str] = &[
    "util",
    "utility",
    "helper",
    "common",
    "misc",
    "manager",
    "handler",
    "processor",
    "service",
    "data",
    "info",
    "base",
    "impl",
];

/// Names of things outside the project that end in 2.
const FOREIGN: &[&str] = &["argon2", "sha2", "http2", "oauth2", "ec2", "h2"];

const MEND: &str = "say what it is; docs/glossary.md has the words";

/// Names every file, folder and type whose name has an empty word in it, or ends in `2`.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_ours(path)) {
        let names = path.split('/').map(|name| name.split('.').next().unwrap_or(name));
        let named = names.filter_map(|name| Some((name, empty_word(name)?)));
        findings.extend(named.map(|(name, word)| Finding::new(path, 1, says_nothing(name, word), MEND)));
        if path.ends_with(".rs") {
            let types = type_names(&Source::read(text)).into_iter();
            let empty = types.filter_map(|(name, line)| Some((name, line, empty_word(name)?)));
            findings.extend(
                empty.map(|(name, line, word)| Finding::new(path, line, says_nothing(name, word), MEND)),
            );
        }
    }
    findings
}

fn says_nothing(name: &str, word: &str) -> String {
    format!("the name {name} says nothing ({word})")
}

/// The word in `name` that says nothing.
fn empty_word(name: &str) -> Option<&'static str> {
    let words = words_of(name);
    let stripped: Vec<&str> = words.iter().map(|word| word.strip_suffix('s').unwrap_or(word)).collect();
    let empty =
        EMPTY_WORDS.iter().find(|empty| words.iter().any(|word| word == *empty) || stripped.contains(empty));
    let numbered = words.last().is_some_and(|last| {
        let before = last.strip_suffix('2').map(|rest| rest.chars().next_back());
        before.is_some_and(|before| before.is_none_or(|c| !c.is_ascii_digit()))
            && !FOREIGN.contains(&last.as_str())
    });
    empty.copied().or(numbered.then_some("2"))
}

/// `PackReader`, `pack_reader` and `pack-reader` are `["pack", "reader"]`; `PGControl` is `["pg", "control"]`.
fn words_of(name: &str) -> Vec<String> {
    let characters: Vec<char> = name.chars().collect();
    let mut words = Vec::new();
    let mut word = String::new();
    for (index, c) in characters.iter().enumerate() {
        let was_small = index > 0 && !characters[index - 1].is_uppercase();
        let turns_small = characters.get(index + 1).is_some_and(|next| next.is_lowercase());
        let starts = c.is_uppercase() && (was_small || turns_small);
        if starts || !c.is_alphanumeric() {
            words.push(std::mem::take(&mut word));
        }
        word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The types, traits and modules a file declares, with their lines. An associated type inside `impl` is the trait's
/// name, not ours.
fn type_names<'a>(source: &Source<'a>) -> Vec<(&'a str, usize)> {
    let (mut found, mut inside_impl, mut impl_ahead) = (Vec::new(), Vec::new(), false);
    for (index, token) in source.tokens.iter().enumerate() {
        match token.text {
            "impl" => impl_ahead = true,
            "{" => inside_impl.push(std::mem::take(&mut impl_ahead)),
            "}" => drop(inside_impl.pop()),
            ";" => impl_ahead = false,
            "struct" | "enum" | "trait" | "union" | "type" | "mod" => {
                let foreign = token.text == "type" && inside_impl.last() == Some(&true);
                let name = source.tokens.get(index + 1).filter(|next| next.kind == Kind::Word && !foreign);
                found.extend(name.map(|name| (name.text, name.line)));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn empty_words_are_found_whole() {
        for name in [
            "util",
            "file_utils",
            "PackHelper",
            "RestoreManager",
            "StoreImpl",
            "PGInfo",
            "UserData",
            "backup2",
            "Backup2",
        ] {
            assert!(empty_word(name).is_some(), "{name}");
        }
        for name in [
            "utilisation",
            "Metadata",
            "testdata",
            "Database",
            "Information",
            "Crc32",
            "V12",
            "Argon2",
            "implied",
            "dataset",
        ] {
            assert_eq!(empty_word(name), None, "{name}");
        }
    }

    #[test]
    fn files_folders_and_types_are_looked_at() {
        let found = seen(
            check,
            &[
                ("crates/x/src/helpers/a.rs", "impl Service for A { type Data = u8; type Future = (); }"),
                (
                    "crates/x/src/b.rs",
                    "// struct Info\nstruct Info;\ntype BaseMap = u8;\nfn f() -> impl T { struct Helper; }",
                ),
                ("docs/data/info.md", ""),
            ],
        );
        let lines: Vec<&str> = found.iter().filter_map(|text| text.split(": ").next()).collect();
        assert_eq!(
            lines,
            [
                "crates/x/src/b.rs:2",
                "crates/x/src/b.rs:3",
                "crates/x/src/b.rs:4",
                "crates/x/src/helpers/a.rs:1"
            ]
        );
    }
}
