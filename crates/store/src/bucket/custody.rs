//! What S3 does by itself to keep objects, asked for in its own words (Amazon S3 API Reference: `HeadObject`,
//! `ListObjectVersions`, `PutObjectLegalHold`, `RestoreObject`, `GetBucketVersioning`, `GetObjectLockConfiguration`,
//! `GetBucketLifecycleConfiguration`).

use std::ops::Range;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strongroom_model::tier::ThawSpeed;

use super::request::{Answer, Asked};
use super::{Bucket, PAGE};
use crate::custody::{Bypass, Custody, Habits, Keeping, LockMode, Thaw, Version, Versions, VersionsFrom};
use crate::key::Key;
use crate::port::StoreError;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListVersionsResult {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default)]
    version: Vec<ListedVersion>,
    #[serde(default)]
    delete_marker: Vec<ListedVersion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedVersion {
    key: String,
    version_id: String,
    last_modified: Timestamp,
    size: Option<u64>,
    storage_class: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersioningConfiguration {
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectLockConfiguration {
    object_lock_enabled: Option<String>,
    rule: Option<LockRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockRule {
    default_retention: Option<DefaultRetention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DefaultRetention {
    mode: String,
    days: Option<u32>,
    years: Option<u32>,
}

impl Bucket {
    async fn ask(&self, asked: Asked<'_>) -> Result<Answer, StoreError> {
        match &self.requests {
            Some(requests) => requests.send(asked).await,
            None => Err(self.odd(asked.path, "only S3 is asked such things".into())),
        }
    }

    /// A request about the bucket itself.
    async fn ask_bucket(&self, what: &str) -> Result<Answer, StoreError> {
        let (operation, headers, query) = ("read the configuration of", Vec::new(), [(what, "")]);
        self.ask(Asked { operation, method: "GET", path: "", query: &query, headers, body: None }).await
    }

    /// A change, which S3 takes with a checksum only.
    async fn tell(
        &self,
        (method, path): (&'static str, &str),
        query: &[(&str, &str)],
        body: String,
    ) -> Result<(), StoreError> {
        let checksum = STANDARD.encode(digest(&SHA256, body.as_bytes()));
        let headers = vec![
            ("x-amz-checksum-sha256", checksum),
            ("x-amz-sdk-checksum-algorithm", "SHA256".to_owned()),
            ("content-type", "application/xml".to_owned()),
        ];
        let operation = "change the keeping of";
        self.ask(Asked { operation, method, path, query, headers, body: Some(body) }).await.map(|_| ())
    }

    fn parsed<T: DeserializeOwned>(&self, what: &str, answer: &Answer) -> Result<T, StoreError> {
        quick_xml::de::from_str(&answer.text()).map_err(|why| self.odd(what, why.into()))
    }

    fn odd(&self, what: &str, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        StoreError::Broken {
            operation: "read",
            key: what.to_owned(),
            place: super::place(&self.options),
            source,
        }
    }

    fn version_of(&self, listed: ListedVersion) -> Option<Version> {
        let head = self.head_of(&listed.key.as_str().into(), 0)?;
        Some(Version {
            key: head.key,
            id: listed.version_id,
            at: listed.last_modified,
            size: listed.size,
            class: listed.storage_class.unwrap_or_default(),
        })
    }
}

/// What an answer to HEAD says of an object.
fn keeping(answer: &Answer) -> Keeping {
    let class = answer.header("x-amz-storage-class").unwrap_or("STANDARD").to_owned();
    let archived = matches!(class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
        || answer.header("x-amz-archive-status").is_some();
    let thaw = match answer.header("x-amz-restore") {
        _ if !archived => Thaw::Ready,
        None => Thaw::Frozen,
        Some(text) if text.contains("ongoing-request=\"true\"") => Thaw::Thawing,
        Some(text) => {
            let until = text.split_once("expiry-date=\"").and_then(|(_, rest)| rest.split('"').next());
            Thaw::Until(until.and_then(http_date))
        }
    };
    let mode = answer.header("x-amz-object-lock-mode").and_then(LockMode::parse);
    let until = answer.header("x-amz-object-lock-retain-until-date").and_then(|text| text.parse().ok());
    Keeping {
        size: answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0),
        version: answer.header("x-amz-version-id").filter(|id| *id != "null").map(str::to_owned),
        class,
        thaw,
        lock: mode.zip(until),
        legal_hold: answer.header("x-amz-object-lock-legal-hold") == Some("ON"),
        at: answer.header("date").and_then(http_date),
    }
}

/// `Sat, 21 Nov 2026 05:00:00 GMT` (RFC 9110, IMF-fixdate).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

#[async_trait::async_trait]
impl Custody for Bucket {
    async fn keeping(&self, key: &Key) -> Result<Keeping, StoreError> {
        let path = self.path(key.as_str());
        let (path, headers) = (path.as_ref(), Vec::new());
        let asked = Asked { operation: "look at", method: "HEAD", path, query: &[], headers, body: None };
        self.ask(asked).await.map(|answer| keeping(&answer))
    }

    async fn set_legal_hold(&self, key: &Key, on: bool) -> Result<(), StoreError> {
        let status = if on { "ON" } else { "OFF" };
        let body = format!(
            "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></LegalHold>"
        );
        let path = self.path(key.as_str());
        self.tell(("PUT", path.as_ref()), &[("legal-hold", "")], body).await
    }

    async fn versions(&self, letters: &str, from: Option<&VersionsFrom>) -> Result<Versions, StoreError> {
        let (prefix, limit) = (self.spelled(letters), PAGE.to_string());
        let (key, id) = match from {
            None => (String::new(), String::new()),
            Some(VersionsFrom::Behind(key)) => (self.spelled(key.as_str()), String::new()),
            Some(VersionsFrom::Mark { key, id }) => (key.clone(), id.clone()),
        };
        let query = [
            ("key-marker", key.as_str()),
            ("max-keys", limit.as_str()),
            ("prefix", prefix.as_str()),
            ("version-id-marker", id.as_str()),
            ("versions", ""),
        ];
        let given = |(name, value): &(&str, &str)| !value.is_empty() || *name == "versions";
        let query: Vec<(&str, &str)> = query.into_iter().filter(given).collect();
        let headers = Vec::new();
        let asked = Asked { operation: "list", method: "GET", path: "", query: &query, headers, body: None };
        let found: ListVersionsResult = self.parsed(letters, &self.ask(asked).await?)?;
        let next = found.is_truncated.then(|| VersionsFrom::Mark {
            key: found.next_key_marker.unwrap_or_default(),
            id: found.next_version_id_marker.unwrap_or_default(),
        });
        if matches!(&next, Some(VersionsFrom::Mark { key, .. }) if key.is_empty()) {
            return Err(self.odd(letters, "a listing that goes on does not say where".into()));
        }
        let deleted = found.delete_marker.into_iter().map(|marker| ListedVersion { size: None, ..marker });
        let listed = found.version.into_iter().chain(deleted);
        let mut versions: Vec<Version> = listed.filter_map(|one| self.version_of(one)).collect();
        // Versions and deletions come in two lists. Of one second the store's own order is lost, and a deletion counts as
        // the newer: what is shown is then less, never what was not there.
        versions.sort_by(|left, right| {
            left.key
                .cmp(&right.key)
                .then(right.at.cmp(&left.at))
                .then(left.size.is_some().cmp(&right.size.is_some()))
        });
        Ok(Versions { versions, next })
    }

    async fn get_version(&self, key: &Key, id: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let path = self.path(key.as_str());
        let headers = match &range {
            Some(range) => vec![("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))],
            None => Vec::new(),
        };
        let (path, query) = (path.as_ref(), [("versionId", id)]);
        let asked = Asked { operation: "read", method: "GET", path, query: &query, headers, body: None };
        let bytes = self.ask(asked).await?.body;
        match range {
            Some(range) if bytes.len() as u64 != range.end - range.start => {
                Err(self.short(key, bytes.len(), range.end - range.start))
            }
            _ => Ok(bytes),
        }
    }

    async fn delete_version(&self, key: &Key, id: &str, bypass: Bypass) -> Result<(), StoreError> {
        let path = self.path(key.as_str());
        let headers = match bypass {
            Bypass::No => Vec::new(),
            Bypass::Governance => vec![("x-amz-bypass-governance-retention", "true".to_owned())],
        };
        let (path, query) = (path.as_ref(), [("versionId", id)]);
        let asked = Asked { operation: "delete", method: "DELETE", path, query: &query, headers, body: None };
        self.ask(asked).await.map(|_| ())
    }

    async fn thaw(&self, key: &Key, days: u32, speed: ThawSpeed) -> Result<(), StoreError> {
        let body = format!(
            "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{days}</Days>\
             <GlacierJobParameters><Tier>{}</Tier></GlacierJobParameters></RestoreRequest>",
            speed.as_str()
        );
        let path = self.path(key.as_str());
        match self.tell(("POST", path.as_ref()), &[("restore", "")], body).await {
            Err(StoreError::Passing { source, .. })
                if source.to_string().contains("RestoreAlreadyInProgress") =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn habits(&self) -> Result<Habits, StoreError> {
        let versioning: VersioningConfiguration =
            self.parsed("versioning", &self.ask_bucket("versioning").await?)?;
        let versioned = versioning.status.as_deref() == Some("Enabled");
        // Once switched on it can only be suspended.
        let was_versioned = versioning.status.is_some();
        let lock: Option<ObjectLockConfiguration> = match self.ask_bucket("object-lock").await {
            Ok(answer) => Some(self.parsed("object-lock", &answer)?),
            // Not every store knows the question, and one that has no locks says so with an error.
            Err(StoreError::NotFound { .. } | StoreError::Broken { .. }) => None,
            Err(error) => return Err(error),
        };
        let locks = lock.as_ref().is_some_and(|lock| lock.object_lock_enabled.as_deref() == Some("Enabled"));
        let default = lock.and_then(|lock| lock.rule?.default_retention);
        let lock_by_default = default.and_then(|default| {
            let days = default.days.or(default.years.map(|years| years * 365))?;
            Some((LockMode::parse(&default.mode)?, days))
        });
        Ok(Habits { versioned, was_versioned, locks, lock_by_default })
    }

    async fn lifecycle(&self) -> Result<Option<String>, StoreError> {
        match self.ask_bucket("lifecycle").await {
            Ok(answer) => Ok(Some(answer.text())),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_lifecycle(&self, rules: &str) -> Result<(), StoreError> {
        if rules.is_empty() {
            let (operation, headers, query) = ("change the keeping of", Vec::new(), [("lifecycle", "")]);
            let asked = Asked { operation, method: "DELETE", path: "", query: &query, headers, body: None };
            return self.ask(asked).await.map(|_| ());
        }
        self.tell(("PUT", ""), &[("lifecycle", "")], rules.to_owned()).await
    }
}
