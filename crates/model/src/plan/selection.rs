//! Which sources a plan is for: by name, kind and tag; and which it is not for, and who answers for that.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::source::{Protected, SourceKind};

/// A name with `*` for any letters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Text that fits no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' fits no source: use a name, with * for any letters and ? for one")]
pub struct PatternError(String);

impl Pattern {
    /// Whether it fits this name.
    pub fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut letter) = (0, 0);
        // Where the last star stands, and up to where it has eaten: going back to it is enough.
        let mut star: Option<(usize, usize)> = None;
        while letter < name.len() {
            match (pattern.get(at), star) {
                (Some(b'*'), _) => {
                    star = Some((at, letter));
                    at += 1;
                }
                (Some(here), _) if *here == b'?' || *here == name[letter] => {
                    (at, letter) = (at + 1, letter + 1)
                }
                (_, Some((of_star, eaten))) => {
                    (at, letter) = (of_star + 1, eaten + 1);
                    star = Some((of_star, eaten + 1));
                }
                (_, None) => return false,
            }
        }
        pattern[at..].iter().all(|left| *left == b'*')
    }

    /// Whether it is one name, and no more.
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Pattern, PatternError> {
        let fits = |letter: char| {
            letter.is_ascii_lowercase()
                || letter.is_ascii_digit()
                || matches!(letter, '-' | '_' | '.' | '*' | '?')
        };
        if !text.is_empty() && text.chars().all(fits) { Ok(Pattern(text)) } else { Err(PatternError(text)) }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

/// `select` of a plan. What is said must all hold; of a list, one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// By name.
    pub sources: Vec<Pattern>,
    /// By what they are.
    pub kinds: Vec<SourceKind>,
    /// By tags, each with one value.
    pub tags: BTreeMap<String, String>,
}

impl Selection {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.kinds.is_empty() && self.tags.is_empty()
    }

    /// Whether a source is meant. Nothing said means no source.
    pub fn holds(&self, source: &Protected) -> bool {
        let by_name =
            self.sources.is_empty() || self.sources.iter().any(|name| name.fits(source.name.as_str()));
        let by_kind = self.kinds.is_empty() || self.kinds.contains(&source.kind);
        let by_tags = self.tags.iter().all(|(tag, value)| source.tags.get(tag) == Some(value));
        !self.is_empty() && by_name && by_kind && by_tags
    }
}

/// `[[plan.NAME.exclude]]`: nobody is left out without a reason, a name, and a day to look again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Which.
    pub source: Pattern,
    /// Why.
    #[serde(deserialize_with = "said")]
    pub reason: String,
    /// Who answers for it.
    #[serde(deserialize_with = "said")]
    pub owner: String,
    /// By when somebody looks whether it is still right.
    #[serde(deserialize_with = "day")]
    pub review: Date,
}

fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.trim() {
        "" => Err(serde::de::Error::custom("it must say something")),
        said => Ok(said.to_owned()),
    }
}

/// `2027-06-01`, as text or as a date of TOML's own, which comes as a map of one text.
fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    struct Day;
    impl<'de> serde::de::Visitor<'de> for Day {
        type Value = Date;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a day such as 2027-06-01")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Date, E> {
            let wrong = |_| E::custom(format!("'{text}' is no day: write it as 2027-06-01"));
            text.parse().map_err(wrong)
        }
        fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Date, M::Error> {
            let wrong = || serde::de::Error::custom("it must be a day such as 2027-06-01");
            let (_, text) = map.next_entry::<serde::de::IgnoredAny, String>()?.ok_or_else(wrong)?;
            self.visit_str(&text)
        }
    }
    deserializer.deserialize_any(Day)
}
