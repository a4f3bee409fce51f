//! Places in a PostgreSQL journal.
//!
//! `Lsn` and `Timeline` order places within one lineage (one system identifier). Comparing places of different
//! lineages is a mistake the types cannot make for you: a lineage is its own namespace everywhere.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A position that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not an LSN.
    #[error("'{0}' is not an LSN: it looks like 16/B374D848")]
    Lsn(String),
    /// Not a timeline.
    #[error("'{0}' is not a timeline: it is a number from 1")]
    Timeline(String),
    /// Not a system identifier.
    #[error("'{0}' is not a system identifier: it is a number such as 7301234567890123456")]
    SystemId(String),
}

/// A byte position in WAL (PostgreSQL `XLogRecPtr`), printed `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 as u32))
    }
}

impl FromStr for Lsn {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let half = |digits: &str| match digits.len() {
            1..=8 if digits.bytes().all(|c| c.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
            _ => None,
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| PositionError::Lsn(text.to_owned()))
    }
}

/// A timeline id (PostgreSQL `TimeLineID`), never zero. Prints in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(NonZeroU32);

impl Timeline {
    /// The first timeline of every cluster.
    pub const FIRST: Timeline = Timeline(NonZeroU32::MIN);

    /// Timeline `id`; `None` for zero.
    pub fn new(id: u32) -> Option<Timeline> {
        NonZeroU32::new(id).map(Timeline)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timeline {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        text.parse().map(Timeline).map_err(|_| PositionError::Timeline(text.to_owned()))
    }
}

/// A cluster's system identifier, which names its lineage. JSON: a string, for it does not fit a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        text.parse().map(SystemId).map_err(|_| PositionError::SystemId(text.to_owned()))
    }
}

/// Serde as text, for the types whose text is their one spelling.
macro_rules! serde_as_text {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = PositionError;

            fn try_from(text: String) -> Result<Self, PositionError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    )*};
}

serde_as_text!(Lsn, SystemId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsns_read_back() {
        for (text, value) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)] {
            assert_eq!(text.parse(), Ok(Lsn(value)));
            assert_eq!(Lsn(value).to_string(), text);
        }
        for bad in ["", "0", "/", "0/", "g/0", "+1/0", "123456789/0", "0/0/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timeline_zero_is_none() {
        assert!(Timeline::new(0).is_none());
        assert!("0".parse::<Timeline>().is_err());
        assert_eq!("10".parse(), Ok(Timeline::new(10).unwrap()));
    }
}
