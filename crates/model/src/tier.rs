//! Storage classes of S3: what each demands, and what reading from it takes.
//!
//! Facts from the Amazon S3 User Guide ("Understanding and managing storage classes", "Archive retrieval options") and the list
//! prices of us-east-1, looked up in November 2025: they date, and are for judging, not for accounting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A storage class that objects can be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StorageClass {
    /// Where everything begins.
    Standard,
    /// Moves objects by itself as they are read or not.
    IntelligentTiering,
    /// Cheaper to keep, dearer to read.
    StandardIa,
    /// The same in one zone only: gone with it.
    OnezoneIa,
    /// Archive that is read at once.
    GlacierIr,
    /// Archive that takes minutes to hours.
    Glacier,
    /// Archive that takes half a day and more.
    DeepArchive,
}

/// How fast to thaw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThawSpeed {
    /// Minutes, at a price; not from the deepest class.
    Expedited,
    /// Hours.
    #[default]
    Standard,
    /// Half a day or two days; cheapest.
    Bulk,
}

impl ThawSpeed {
    /// As S3 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ThawSpeed::Expedited => "Expedited",
            ThawSpeed::Standard => "Standard",
            ThawSpeed::Bulk => "Bulk",
        }
    }
}

/// What thawing takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThawCost {
    /// The longest it usually takes, in hours.
    pub hours: f64,
    /// For each GiB, in US dollars.
    pub per_gib: f64,
    /// For each thousand objects, in US dollars.
    pub per_thousand: f64,
}

const CLASSES: [(StorageClass, &str); 7] = [
    (StorageClass::Standard, "STANDARD"),
    (StorageClass::IntelligentTiering, "INTELLIGENT_TIERING"),
    (StorageClass::StandardIa, "STANDARD_IA"),
    (StorageClass::OnezoneIa, "ONEZONE_IA"),
    (StorageClass::GlacierIr, "GLACIER_IR"),
    (StorageClass::Glacier, "GLACIER"),
    (StorageClass::DeepArchive, "DEEP_ARCHIVE"),
];

impl StorageClass {
    /// As S3 writes it.
    pub fn as_str(self) -> &'static str {
        CLASSES.iter().find(|(class, _)| *class == self).map_or("STANDARD", |(_, name)| name)
    }

    /// Days for which an object pays, however soon it goes.
    pub fn minimum_days(self) -> u32 {
        match self {
            StorageClass::Standard | StorageClass::IntelligentTiering => 0,
            StorageClass::StandardIa | StorageClass::OnezoneIa => 30,
            StorageClass::GlacierIr | StorageClass::Glacier => 90,
            StorageClass::DeepArchive => 180,
        }
    }

    /// Whether an object must be thawed before it can be read.
    pub fn is_frozen(self) -> bool {
        matches!(self, StorageClass::Glacier | StorageClass::DeepArchive)
    }

    /// What thawing from it takes; `None` if it cannot be thawed at this speed, or need not.
    pub fn thaw(self, speed: ThawSpeed) -> Option<ThawCost> {
        let (hours, per_gib, per_thousand) = match (self, speed) {
            (StorageClass::Glacier, ThawSpeed::Expedited) => (5.0 / 60.0, 0.03, 10.0),
            (StorageClass::Glacier, ThawSpeed::Standard) => (5.0, 0.01, 0.05),
            (StorageClass::Glacier, ThawSpeed::Bulk) => (12.0, 0.0, 0.025),
            (StorageClass::DeepArchive, ThawSpeed::Standard) => (12.0, 0.02, 0.10),
            (StorageClass::DeepArchive, ThawSpeed::Bulk) => (48.0, 0.0025, 0.025),
            _ => return None,
        };
        Some(ThawCost { hours, per_gib, per_thousand })
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no storage class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no storage class: STANDARD, INTELLIGENT_TIERING, STANDARD_IA, ONEZONE_IA, GLACIER_IR, GLACIER or DEEP_ARCHIVE"
)]
pub struct ClassError(String);

impl FromStr for StorageClass {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<StorageClass, ClassError> {
        let found = CLASSES.iter().find(|(_, name)| *name == text);
        found.map(|(class, _)| *class).ok_or_else(|| ClassError(text.to_owned()))
    }
}

impl FromStr for ThawSpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<ThawSpeed, String> {
        match text {
            "expedited" => Ok(ThawSpeed::Expedited),
            "standard" => Ok(ThawSpeed::Standard),
            "bulk" => Ok(ThawSpeed::Bulk),
            _ => Err("choose expedited, standard or bulk".to_owned()),
        }
    }
}
