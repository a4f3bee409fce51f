//! A bucket as it was: what is read are the versions that counted then. Nothing can be written.
//!
//! Whoever may write can forge a tombstone, and who may overwrite or delete can hide an object behind a newer version or a
//! deletion. In a bucket with versions both are additions: before them, everything is as it was.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::custody::{Custody, Version, VersionsFrom};
use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};

/// Objects of a page at least, if there are as many.
const PAGE: usize = 1000;

/// A store that gives what it had at an earlier time.
#[derive(Debug)]
pub struct AsOf {
    custody: Arc<dyn Custody>,
    place: String,
    at: Timestamp,
    /// Whether it was made sure that the bucket remembers at all.
    remembers: OnceCell<()>,
    /// The version of each object that was asked for: a pack is read in many ranges.
    known: Mutex<BTreeMap<Key, Version>>,
}

impl AsOf {
    /// The store behind `custody`, called `place`, as it was at `at` by its own clock.
    pub fn new(custody: Arc<dyn Custody>, place: String, at: Timestamp) -> AsOf {
        AsOf { custody, place, at, remembers: OnceCell::new(), known: Mutex::default() }
    }

    /// A bucket without versions shows what is still there as if that were what there was.
    async fn expect_memory(&self) -> Result<(), StoreError> {
        match self.custody.habits().await {
            Ok(habits) if !habits.was_versioned => {
                let source =
                    "this bucket never kept versions: what was overwritten or deleted is gone".into();
                let (operation, key) = ("read", "vault".to_owned());
                Err(StoreError::Broken { operation, key, place: self.place(), source })
            }
            // Who may not ask for it may still read versions.
            Ok(_) | Err(StoreError::Denied { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Of the objects whose keys begin with these letters the versions that counted then, deletions among them; and whether
    /// there is more behind the last of them.
    async fn counting(
        &self,
        letters: &str,
        after: Option<&Key>,
    ) -> Result<(BTreeMap<Key, Version>, bool), StoreError> {
        self.remembers.get_or_try_init(|| self.expect_memory()).await?;
        let mut counting = BTreeMap::<Key, Version>::new();
        let mut from = after.cloned().map(VersionsFrom::Behind);
        loop {
            let page = self.custody.versions(letters, from.as_ref()).await?;
            let last = page.versions.last().map(|last| last.key.clone());
            // Of each object the newest comes first: the first that is old enough is the one.
            for version in page.versions.into_iter().filter(|version| version.at <= self.at) {
                counting.entry(version.key.clone()).or_insert(version);
            }
            if page.next.is_none() {
                return Ok((counting, false));
            }
            if counting.len() > PAGE {
                // Its versions may go on behind the page.
                last.map(|last| counting.remove(&last));
                return Ok((counting, true));
            }
            from = page.next;
        }
    }

    /// The object's version then.
    async fn version(&self, key: &Key) -> Result<Version, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.counting(key.as_str(), None).await?.0.remove(key);
        let missing = || StoreError::NotFound { key: key.to_string(), place: self.place() };
        let found = found.filter(|version| version.size.is_some()).ok_or_else(missing)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), found.clone());
        Ok(found)
    }

    fn unwritable(&self, operation: &'static str, key: &Key) -> StoreError {
        let source = "what was cannot be changed: leave out --as-of".into();
        StoreError::Broken { operation, key: key.to_string(), place: self.place(), source }
    }
}

#[async_trait::async_trait]
impl Store for AsOf {
    fn place(&self) -> String {
        format!("{} as of {}", self.place, self.at)
    }

    async fn put_new(&self, key: &Key, _body: Body) -> Result<(), PutError> {
        Err(self.unwritable("write", key).into())
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let version = self.version(key).await?;
        self.custody.get_version(key, &version.id, None).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let version = self.version(key).await?;
        let size = version.size.unwrap_or(0);
        if range.start > range.end || range.end > size {
            let source = format!("range {range:?} of {size} bytes").into();
            let (operation, key, place) = ("read", key.to_string(), self.place());
            return Err(StoreError::Broken { operation, key, place, source });
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.custody.get_version(key, &version.id, Some(range)).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let version = self.version(key).await?;
        Ok(Head { key: key.clone(), size: version.size.unwrap_or(0) })
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let letters = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (counting, more) = self.counting(&letters, after).await?;
        let next = counting.keys().next_back().cloned().filter(|_| more);
        let there = |version: Version| version.size.map(|size| Head { key: version.key, size });
        Ok(Page { objects: counting.into_values().filter_map(there).collect(), next })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        Err(self.unwritable("delete", key))
    }
}
