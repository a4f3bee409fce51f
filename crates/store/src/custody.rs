//! What a store does by itself to keep objects: locks, legal holds, older versions, storage classes, its clock.
//!
//! The port needs none of it, and a vault is whole without. Where a store has it, an object that its writer overwrote or
//! deleted can still be read as it was, and what nobody may delete can be told from what is merely still there.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::tier::ThawSpeed;

use crate::key::Key;
use crate::port::StoreError;

/// Who may lift a lock before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, the account's owner included.
    Compliance,
}

impl LockMode {
    /// As S3 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        }
    }

    /// As S3 writes it, in whatever case.
    pub fn parse(text: &str) -> Option<LockMode> {
        [LockMode::Governance, LockMode::Compliance]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
    }
}

/// Whether an object can be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thaw {
    /// At once.
    Ready,
    /// Only after it was asked to be.
    Frozen,
    /// It was asked for, and takes its time.
    Thawing,
    /// A thawed copy can be read until then.
    Until(Option<Timestamp>),
}

/// How a store keeps one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Its length in bytes.
    pub size: u64,
    /// The version that is read without naming one, where the bucket has versions.
    pub version: Option<String>,
    /// Its storage class, as the store writes it.
    pub class: String,
    /// Whether it can be read.
    pub thaw: Thaw,
    /// Until when it cannot be deleted, and who may all the same.
    pub lock: Option<(LockMode, Timestamp)>,
    /// Whether it is held until somebody releases it.
    pub legal_hold: bool,
    /// The store's clock when it answered.
    pub at: Option<Timestamp>,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object.
    pub key: Key,
    /// Its name among the object's versions.
    pub id: String,
    /// When it came about, by the store's clock.
    pub at: Timestamp,
    /// Its length in bytes; `None` if from here on the object counts as deleted.
    pub size: Option<u64>,
    /// Its storage class; empty for a deletion.
    pub class: String,
}

/// A stretch of a listing of versions: by key, and of each key the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The versions.
    pub versions: Vec<Version>,
    /// Where to go on; `None` when the listing is complete.
    pub next: Option<VersionsFrom>,
}

/// Where a listing of versions begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionsFrom {
    /// Behind every version of this object.
    Behind(Key),
    /// Behind this version, as the store spells key and version.
    Mark {
        /// Its key.
        key: String,
        /// Its name; of all versions of the key if empty.
        id: String,
    },
}

/// How a bucket treats all of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Whether what is overwritten or deleted stays as an older version.
    pub versioned: bool,
    /// Whether there may be older versions, of a time when they were kept.
    pub was_versioned: bool,
    /// Whether objects can be locked.
    pub locks: bool,
    /// How long it locks what is put without a word about it, in days.
    pub lock_by_default: Option<(LockMode, u32)>,
}

/// Whether to lift a lock that the mode lets some users lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// A locked object stays.
    No,
    /// Governance gives way, if the credentials have the right.
    Governance,
}

/// A store that keeps objects by itself. Errors are those of the port.
#[async_trait::async_trait]
pub trait Custody: fmt::Debug + Send + Sync {
    /// How it keeps one object.
    async fn keeping(&self, key: &Key) -> Result<Keeping, StoreError>;

    /// Holds an object, or no longer.
    async fn set_legal_hold(&self, key: &Key, on: bool) -> Result<(), StoreError>;

    /// Versions of the objects whose keys begin with these letters.
    async fn versions(&self, letters: &str, from: Option<&VersionsFrom>) -> Result<Versions, StoreError>;

    /// One version, whole or in part.
    async fn get_version(&self, key: &Key, id: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// Removes one version for good.
    async fn delete_version(&self, key: &Key, id: &str, bypass: Bypass) -> Result<(), StoreError>;

    /// Asks for a copy that can be read for `days`. That it was asked for before is fine.
    async fn thaw(&self, key: &Key, days: u32, speed: ThawSpeed) -> Result<(), StoreError>;

    /// How it treats all objects.
    async fn habits(&self) -> Result<Habits, StoreError>;

    /// What it does to objects as they age, as it says it itself; `None` if nothing.
    async fn lifecycle(&self) -> Result<Option<String>, StoreError>;

    /// Replaces what it does to objects as they age; empty: nothing any more.
    async fn set_lifecycle(&self, rules: &str) -> Result<(), StoreError>;
}
