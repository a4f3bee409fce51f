//! Words of others as names and text of TOML.

use std::str::FromStr;

use crate::name::{PlanName, RuleName};

/// A name that can be made of any text, and has a word for where none can be.
pub trait Named: FromStr {
    /// What it is called when nothing of the text can be used.
    const OTHERWISE: &'static str;
}

impl Named for PlanName {
    const OTHERWISE: &'static str = "imported";
}

impl Named for RuleName {
    const OTHERWISE: &'static str = "rule";
}

/// The text in small letters, with `-` for what may not stand in a name.
pub fn named<N: Named>(text: &str) -> N
where
    N::Err: std::fmt::Debug,
{
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '_') => letter,
        _ => '-',
    };
    let name: String = text.chars().map(letter).take(63).collect();
    let name = name.trim_matches(['-', '_']);
    match name.parse() {
        Ok(name) => name,
        // The word is one of ours, and a name.
        Err(_) => N::OTHERWISE.parse().unwrap_or_else(|error| panic!("{}: {error:?}", N::OTHERWISE)),
    }
}

/// A basic string of TOML.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out + "\""
}

/// A name as part of a table's header: one with dots would be several.
pub fn table(name: &PlanName) -> String {
    if name.as_str().contains('.') { quoted(name.as_str()) } else { name.to_string() }
}
