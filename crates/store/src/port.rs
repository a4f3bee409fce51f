//! The port: what a store must do, in prose first.
//!
//! Every adapter promises, and the conformance suite checks:
//!
//! - **`put_new` is all or nothing and single-winner.** Of any number of concurrent calls for one key exactly one
//!   returns `Ok`; the others get [`PutError::Exists`]. `Ok` means durable: the bytes survive a power cut
//!   (local: file and folder fsynced; object store: acknowledged). An unfinished put is never visible.
//! - **`Exists` is an answer, not an accident**, but it may be an answer to our own earlier try whose reply was
//!   lost: `Retry` tells the two apart.
//! - **`NotFound` is authoritative.** It means the store answered "no such key", never "could not reach it".
//! - **`list` is in ascending byte order of key**, complete at the time of the call, and fails rather than
//!   returning less.
//! - **`delete` of a missing key is `Ok`.**
//! - Every error says whether asking again may help ([`StoreError::is_passing`]).

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::key::Key;

/// The bytes of an object to be written, in parts so that a pack needs no copy.
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Bytes>,
}

impl Body {
    /// Adds a part at the end.
    pub fn push(&mut self, part: Bytes) {
        self.parts.push(part);
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Total length in bytes.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `count` bytes (or all, if there are fewer).
    pub fn prefix(&self, count: usize) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.iter().copied()).take(count).collect()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body { parts: vec![bytes] }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::from(Bytes::from(bytes))
    }
}

/// What `head` and `list` tell of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its key.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
}

/// A stretch of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects in ascending order of key.
    pub objects: Vec<Head>,
    /// Where to go on (pass as `after`); `None` when the listing is complete. What follows may turn out to be nothing.
    pub next: Option<Key>,
}

/// Why a store could not do what it was asked. Carries the operation, the key and the place in its text.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store answered: no such object.
    #[error("{place} has no object {key}")]
    NotFound {
        /// What was asked for.
        key: String,
        /// Where.
        place: String,
    },
    /// The store refused: credentials or rights.
    #[error("{operation} {key}: {place} denied it")]
    Denied {
        /// `read`, `write`, `list` or `delete`.
        operation: &'static str,
        /// On which key.
        key: String,
        /// Where.
        place: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No room left, or a quota is used up.
    #[error("{operation} {key}: {place} is full")]
    Full {
        /// `write`.
        operation: &'static str,
        /// On which key.
        key: String,
        /// Where.
        place: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not work out this time: unreachable, timed out, busy. Asking again may help.
    #[error("{operation} {key}: {place} did not answer as it should")]
    Passing {
        /// `read`, `write`, `list` or `delete`.
        operation: &'static str,
        /// On which key.
        key: String,
        /// Where.
        place: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot work: wrong address, no such bucket, a range beyond the end, a broken disk.
    #[error("{operation} {key}: {place} cannot do it")]
    Broken {
        /// `read`, `write`, `list` or `delete`.
        operation: &'static str,
        /// On which key.
        key: String,
        /// Where.
        place: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether asking again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Passing { .. })
    }

    /// Whether the store answered, with authority, that the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }
}

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The key is taken. Its bytes are untouched.
    #[error("{place} already has an object {key}")]
    Exists {
        /// The key.
        key: String,
        /// Where.
        place: String,
    },
    /// The write did not succeed, or nobody knows whether it did.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A place that keeps objects under keys that are written once. See the module's promises.
#[async_trait::async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The place, as a person would type it (`s3://bucket/prefix`, `/var/backups/vault`); no secrets.
    fn place(&self) -> String;

    /// Writes `body` under `key` if and only if there is no such object.
    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError>;

    /// The whole object.
    async fn get(&self, key: &Key) -> Result<Bytes, StoreError>;

    /// Bytes `range` (half-open) of the object: exactly as many as asked for, or an error.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The object's size.
    async fn head(&self, key: &Key) -> Result<Head, StoreError>;

    /// Objects whose keys begin with `prefix` (a whole number of segments, or empty for all) and sort after
    /// `after`, in ascending order: one page of at most a few thousand.
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError>;

    /// As [`Store::list`], for who only wants to know what is there: sizes may be 0. A folder need not ask its file system about
    /// each of a million files.
    async fn names(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        self.list(prefix, after).await
    }

    /// Removes the object. Removing what is not there is `Ok`.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;
}
