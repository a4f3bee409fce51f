//! Names: each its own type, parsed once at the door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A name that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a source name.
    #[error(
        "'{0}' cannot name a source: use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Source(String),
    /// Not a recovery point's id.
    #[error(
        "'{0}' is not a recovery point: its id looks like 20261120T120000Z-1f2e3d4c (see `strongroom list`)"
    )]
    Point(String),
    /// Not a vault id.
    #[error("'{0}' is not a vault id: it is a UUID")]
    Vault(String),
    /// Not the name of a plan.
    #[error(
        "'{0}' cannot name a plan: use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Plan(String),
    /// Not the name of a plan's rule.
    #[error(
        "'{0}' cannot name a rule: use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Rule(String),
}

/// Derives the plumbing every name shares: text in, text out, serde as a string.
macro_rules! text_name {
    ($type:ident, $error:path) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if Self::is_valid(text) { Ok($type(text.to_owned())) } else { Err($error(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

/// What the user calls a source: `orders`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

text_name!(SourceName, NameError::Source);

impl SourceName {
    fn is_valid(text: &str) -> bool {
        is_word(text)
    }
}

/// What users call things by: safe in object keys, file names and addresses.
fn is_word(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !text.contains("..")
        && !text.ends_with('.')
}

/// What the user calls a plan: `production`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanName(String);
text_name!(PlanName, NameError::Plan);

impl PlanName {
    fn is_valid(text: &str) -> bool {
        is_word(text)
    }
}

/// What the user calls a rule of a plan: `nightly`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(String);
text_name!(RuleName, NameError::Rule);

impl RuleName {
    fn is_valid(text: &str) -> bool {
        is_word(text)
    }
}

/// A recovery point's id: the second it began and 32 random bits, `20261120T120000Z-1f2e3d4c`. Sorts by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointId(String);

text_name!(PointId, NameError::Point);

impl PointId {
    /// The id of a point begun at `at`.
    pub fn new(at: Timestamp, random: [u8; 4]) -> PointId {
        PointId(format!("{}-{:08x}", at.compact(), u32::from_be_bytes(random)))
    }

    /// The second at which the point was begun; `None` if it is none of the calendar's.
    pub fn begun(&self) -> Option<Timestamp> {
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", self.0.get(..15)?).ok()?;
        Some(Timestamp(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()))
    }

    fn is_valid(text: &str) -> bool {
        let shape = |(index, c): (usize, u8)| match index {
            8 => c == b'T',
            15 => c == b'Z',
            16 => c == b'-',
            0..=14 => c.is_ascii_digit(),
            _ => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        };
        text.len() == 25 && text.bytes().enumerate().all(shape)
    }
}

/// A vault's identity: a random UUID in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VaultId(String);

text_name!(VaultId, NameError::Vault);

impl VaultId {
    /// A version-4 UUID (RFC 9562 §5.4) from these random bits.
    pub fn new(mut random: [u8; 16]) -> VaultId {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        VaultId(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }

    fn is_valid(text: &str) -> bool {
        let shape = |(index, c): (usize, u8)| match index {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        };
        text.len() == 36 && text.bytes().enumerate().all(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_names() {
        for good in ["orders", "a", "pg-15.main_2", "0"] {
            assert!(good.parse::<SourceName>().is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "Orders", "a/b", "..", ".a", "-a", "a..b", "a.", "ö", "a b", &long] {
            assert!(bad.parse::<SourceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn point_ids_sort_by_time_and_read_back() {
        let early = PointId::new(Timestamp::from_unix_seconds(1_000).unwrap(), [0xff; 4]);
        let late = PointId::new(Timestamp::from_unix_seconds(1_001).unwrap(), [0; 4]);
        assert!(early < late);
        assert_eq!(early.as_str(), "19700101T001640Z-ffffffff");
        assert_eq!(early.begun(), Timestamp::from_unix_seconds(1_000));
        assert_eq!("19701301T001640Z-ffffffff".parse::<PointId>().unwrap().begun(), None);
        assert_eq!(early.as_str().parse(), Ok(early));
        assert!("19700101T001640Z-FFFFFFFF".parse::<PointId>().is_err());
        assert!("é9700101T001640Z-fffffff".parse::<PointId>().is_err());
    }

    #[test]
    fn vault_ids_are_uuids() {
        let id = VaultId::new([0xab; 16]);
        assert_eq!(id.as_str(), "abababab-abab-4bab-abab-abababababab");
        assert_eq!(id.as_str().parse(), Ok(id));
    }
}
