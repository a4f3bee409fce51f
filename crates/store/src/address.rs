//! A vault's address, as a person types it, and the store behind it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::as_of::AsOf;
use crate::bucket::{Bucket, BucketOptions, Lock, Manner, Provider};
use crate::custody::{Custody, LockMode};
use crate::folder::Folder;
use crate::key::Key;
use crate::port::{Store, StoreError};
use crate::retry::Retry;

/// Where a vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A local or mounted folder.
    Folder(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`
    Bucket {
        /// Whose it is.
        provider: Provider,
        /// The bucket.
        bucket: String,
        /// Before every key; may be empty.
        prefix: String,
    },
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreAddress::Folder(path) => write!(f, "{}", path.display()),
            StoreAddress::Bucket { provider, bucket, prefix } => {
                write!(f, "{}://{bucket}", provider.scheme())?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
        }
    }
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a vault's address: use a folder such as /var/backups/vault, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
)]
pub struct AddressError(String);

impl StoreAddress {
    /// Reads `/folder`, `file:///folder`, or `s3://`, `gs://` or `az://` with bucket and prefix.
    pub fn parse(text: &str) -> Result<StoreAddress, AddressError> {
        // What stands before an '@' may be a secret, which must not be repeated.
        let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
        let wrong = || AddressError(shown.clone());
        match text.split_once("://") {
            None if text.is_empty() => Err(wrong()),
            None => Ok(StoreAddress::Folder(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(StoreAddress::Folder(path.into())),
            Some((scheme, rest)) if Provider::of(scheme).is_some() => {
                let provider = Provider::of(scheme).unwrap_or_default();
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/');
                // A bucket's name keeps to what a key's segment may be made of, and becomes part of a host name.
                let sound = Key::new(bucket).is_ok() && (prefix.is_empty() || Key::new(prefix).is_ok());
                let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
                let address = StoreAddress::Bucket { provider, bucket, prefix };
                sound.then_some(address).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }
}

/// How to reach a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Its endpoint; AWS if `None`.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// Plain HTTP.
    pub allow_http: bool,
    /// Azure's storage account; what the environment says if `None`.
    pub account: Option<String>,
    /// A profile of the shared AWS files; what the environment says if `None`.
    pub profile: Option<String>,
    /// How each new object is put. A folder has locks that root can lift, and no classes.
    pub manner: Manner,
}

/// What the store at `address` does by itself to keep objects; `None` for a folder.
pub fn custody(
    address: &StoreAddress,
    options: &StoreOptions,
) -> Result<Option<Arc<dyn Custody>>, StoreError> {
    match address {
        StoreAddress::Folder(_) => Ok(None),
        // Google and Azure keep objects in words of their own, which nobody speaks here yet.
        StoreAddress::Bucket { provider: Provider::Google | Provider::Azure, .. } => Ok(None),
        StoreAddress::Bucket { .. } => Ok(Some(Arc::new(bucket(address, options)?))),
    }
}

/// The store at `address` as it was at `at`; only a bucket with versions remembers.
pub fn open_as_of(
    address: &StoreAddress,
    options: &StoreOptions,
    at: Timestamp,
) -> Result<Arc<dyn Store>, StoreError> {
    let Some(custody) = custody(address, options)? else {
        return Err(StoreError::Broken {
            operation: "open",
            key: "vault".into(),
            place: address.to_string(),
            source: "it does not remember what it was: --as-of is for S3 buckets with versions".into(),
        });
    };
    Ok(Arc::new(Retry::new(Arc::new(AsOf::new(custody, address.to_string(), at)))))
}

/// A folder locks by making files immutable, which root can lift: it promises no more than that.
fn folder(path: &Path, manner: &Manner) -> Result<Folder, StoreError> {
    let refused = |why: &str| StoreError::Broken {
        operation: "open",
        key: "vault".into(),
        place: path.display().to_string(),
        source: why.into(),
    };
    match manner {
        Manner { lock: None, packs: None, wal: None, tagged: false } => Ok(Folder::open(path)),
        Manner { lock: Some(Lock { mode: LockMode::Compliance, .. }), .. } => Err(refused(
            "root can lift the lock of a folder's files: say mode = \"governance\" in [vault.lock], or use a bucket",
        )),
        Manner { lock: Some(lock), packs: None, wal: None, tagged: false } => {
            Ok(Folder::locking(path, lock.keep))
        }
        Manner { .. } => Err(refused(
            "a folder has no classes or lifecycle: remove [vault.classes] and [vault.lifecycle], or use a bucket",
        )),
    }
}

fn bucket(address: &StoreAddress, options: &StoreOptions) -> Result<Bucket, StoreError> {
    let StoreAddress::Bucket { provider, bucket, prefix } = address else {
        unreachable!("a folder was opened as a bucket")
    };
    Bucket::open(BucketOptions {
        provider: *provider,
        account: options.account.clone(),
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        endpoint: options.endpoint.clone(),
        region: options.region.clone(),
        path_style: options.path_style,
        allow_http: options.allow_http,
        profile: options.profile.clone(),
        manner: options.manner,
    })
}

/// The store at `address`, which asks again when something passing goes wrong.
pub fn open(address: &StoreAddress, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match address {
        StoreAddress::Folder(path) => Arc::new(folder(path, &options.manner)?),
        StoreAddress::Bucket { .. } => Arc::new(bucket(address, options)?),
    };
    Ok(Arc::new(Retry::new(store)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read() {
        let bucket = |bucket: &str, prefix: &str| StoreAddress::Bucket {
            provider: Provider::S3,
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        let of = |provider, bucket: &str, prefix: &str| StoreAddress::Bucket {
            provider,
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, address) in [
            ("/var/vault", Some(StoreAddress::Folder("/var/vault".into()))),
            ("vault", Some(StoreAddress::Folder("vault".into()))),
            ("file:///var/vault", Some(StoreAddress::Folder("/var/vault".into()))),
            ("s3://b", Some(bucket("b", ""))),
            ("s3://b/", Some(bucket("b", ""))),
            ("s3://b/p/q/", Some(bucket("b", "p/q"))),
            ("gs://b/p", Some(of(Provider::Google, "b", "p"))),
            ("az://c/p/q", Some(of(Provider::Azure, "c", "p/q"))),
            ("s3:///p", None),
            ("s3://..", None),
            ("s3://user@host/p", None),
            ("s3://b?region=x", None),
            ("s3://b/../c", None),
            ("ftp://b/c", None),
            ("", None),
        ] {
            assert_eq!(StoreAddress::parse(text).ok(), address, "{text}");
        }
        let error = StoreAddress::parse("s3://KEY:canary@bucket").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
