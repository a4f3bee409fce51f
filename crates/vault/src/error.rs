//! Why a vault could not do what it was asked.

use strongroom_codec::header::HeaderError;
use strongroom_codec::manifest::ManifestError;
use strongroom_codec::pack::PackError;
use strongroom_codec::stream::StreamError;
use strongroom_model::{Cancelled, PointId, SourceName, WalFile};
use strongroom_store::{PutError, StoreError};

/// Why a service did not wrap or unwrap a key.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// It was asked, and refused: another key wrapped it, or these credentials may not use it.
    #[error("{service} refused: {said}")]
    Refused {
        /// Which service and key.
        service: String,
        /// What it said.
        said: String,
    },
    /// It cannot be asked.
    #[error("{service} did not answer as it should")]
    Silent {
        /// Which service and key.
        service: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What went wrong with a vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no vault at this place.
    #[error("{place} holds no vault: it has no vault.json")]
    NotAVault {
        /// Where.
        place: String,
    },
    /// There is one already.
    #[error("{place} already holds a vault")]
    AlreadyAVault {
        /// Where.
        place: String,
    },
    /// `vault.json` does not read.
    #[error("read vault.json in {place}: {why}")]
    VaultFile {
        /// Where.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a later Strongroom.
    #[error("{object} in {place} is written in format {format}; this build reads format 1")]
    Newer {
        /// Which object.
        object: String,
        /// Where.
        place: String,
        /// Its format.
        format: u16,
    },
    /// The vault is encrypted and no passphrase or identity was given.
    #[error("the vault in {place} is encrypted, and no passphrase or age identity was given")]
    Locked {
        /// Where.
        place: String,
    },
    /// No wrapped key opens with what was given.
    #[error("{what} the vault in {place}")]
    WrongKey {
        /// `this passphrase does not open`, `none of these age identities opens`.
        what: &'static str,
        /// Where.
        place: String,
    },
    /// What was given opens the append key alone, and content was to be read.
    #[error("what opens the vault in {place} here may only append: nothing it holds can be read with it")]
    AppendOnly {
        /// Where.
        place: String,
    },
    /// A recipient or identity that cannot be used.
    #[error("{0}")]
    Recipient(String),
    /// A key management service was asked in vain.
    #[error("ask a key management service")]
    Kms(#[from] KmsError),
    /// Without this recipient nobody may be left who can open the vault.
    #[error("recipient {number} is the only one that is proven to open the vault")]
    LastRecipient {
        /// Its number.
        number: u32,
    },
    /// An object does not read: damaged, truncated, forged, or moved.
    #[error("{key} in {place} is damaged: {why}")]
    Damaged {
        /// The object.
        key: String,
        /// Where.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// An object that must be there is not.
    #[error("{key} is missing from {place}")]
    Missing {
        /// The object.
        key: String,
        /// Where.
        place: String,
    },
    /// A different object of this name is there: two writers that should not share this place.
    #[error("{key} in {place} was written by someone else")]
    Taken {
        /// The object.
        key: String,
        /// Where.
        place: String,
    },
    /// A WAL file of this name but with other content is there already.
    #[error("ship {file} of source {source_name}: {place} already has a different file of this name")]
    JournalDiffers {
        /// The WAL file.
        file: WalFile,
        /// Whose.
        source_name: SourceName,
        /// Where.
        place: String,
    },
    /// A sweep, or someone else, decided this point before its writer did.
    #[error("recovery point {point} was {what} before it was committed")]
    LostDecision {
        /// The point.
        point: PointId,
        /// `revoked by …`, `abandoned`.
        what: String,
    },
    /// No such point.
    #[error("source {source_name} has no recovery point {point}")]
    NoSuchPoint {
        /// Whose.
        source_name: SourceName,
        /// Which.
        point: PointId,
    },
    /// The point exists and is not restorable.
    #[error("recovery point {point} is {state}")]
    NotCommitted {
        /// Which.
        point: PointId,
        /// `unfinished`, `abandoned`, `revoked`, `expired`.
        state: &'static str,
    },
    /// A sweep does not know for certain what may go.
    #[error("sweep {source_name} in {place}: {why}; nothing was deleted on its account")]
    SweepStopped {
        /// Whose packs.
        source_name: SourceName,
        /// Where.
        place: String,
        /// What it does not know.
        why: String,
    },
    /// More pages, files or packs than the format can count.
    #[error("{0}")]
    TooLarge(String),
    /// Two vaults between which nothing can travel: every object is sealed for one id and key.
    #[error("{place} is no replica of the vault in {of}: {why}")]
    NotAReplica {
        /// The vault that is no replica.
        place: String,
        /// Of which one.
        of: String,
        /// `it is another vault (…)`, `it has another key`.
        why: String,
    },
    /// Two names for one vault.
    #[error("{place} and {other} are the same vault at the same place")]
    SamePlace {
        /// One name.
        place: String,
        /// The other.
        other: String,
    },
    /// A sweep that has not ended names packs that a copy would rely on.
    #[error("a sweep of {place} is removing packs of {point}")]
    Condemned {
        /// Where.
        place: String,
        /// The point that was to be copied there.
        point: PointId,
    },
    /// Others took each number of the audit log first.
    #[error("write to the audit log in {place}: {tries} times another writer took the next number first")]
    Crowded {
        /// Where.
        place: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl VaultError {
    /// Whether a replica may have what this vault could not give.
    pub fn is_of_this_place(&self) -> bool {
        matches!(self, VaultError::Store(_) | VaultError::Damaged { .. } | VaultError::Missing { .. })
    }
}

/// Why an object does not read, in words; newer formats keep their own error.
pub(crate) fn damaged(key: impl ToString, place: String, error: impl Into<Unreadable>) -> VaultError {
    match error.into() {
        Unreadable::Newer(format) => VaultError::Newer { object: key.to_string(), place, format },
        Unreadable::Damaged(why) => VaultError::Damaged { key: key.to_string(), place, why },
    }
}

/// A codec's error, sorted by what the user can do about it.
pub(crate) enum Unreadable {
    Newer(u16),
    Damaged(String),
}

impl From<HeaderError> for Unreadable {
    fn from(error: HeaderError) -> Unreadable {
        match error {
            HeaderError::Newer(format) => Unreadable::Newer(format),
            HeaderError::NotOurs | HeaderError::OtherKind | HeaderError::OtherSuite => {
                Unreadable::Damaged(error.to_string())
            }
        }
    }
}

impl From<StreamError> for Unreadable {
    fn from(error: StreamError) -> Unreadable {
        match error {
            StreamError::Header(header) => header.into(),
            StreamError::Malformed(_) | StreamError::NotAuthentic(_) => {
                Unreadable::Damaged(error.to_string())
            }
        }
    }
}

impl From<ManifestError> for Unreadable {
    fn from(error: ManifestError) -> Unreadable {
        match error {
            ManifestError::Stream(stream) => stream.into(),
            ManifestError::Malformed(_) | ManifestError::Facts(_) => Unreadable::Damaged(error.to_string()),
        }
    }
}

impl From<PackError> for Unreadable {
    fn from(error: PackError) -> Unreadable {
        match error {
            PackError::Header(header) => header.into(),
            PackError::Malformed(_) | PackError::NotAuthentic(_) | PackError::Fingerprint { .. } => {
                Unreadable::Damaged(error.to_string())
            }
        }
    }
}

impl From<String> for Unreadable {
    fn from(why: String) -> Unreadable {
        Unreadable::Damaged(why)
    }
}

/// A put whose key is taken is, for the vault's own random names, somebody else's object.
pub(crate) fn written(result: Result<(), PutError>) -> Result<(), VaultError> {
    result.map_err(|error| match error {
        PutError::Exists { key, place } => VaultError::Taken { key, place },
        PutError::Store(error) => error.into(),
    })
}
