//! A store in memory that counts its operations and fails the one it is told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and says so.
    Before,
    /// It is done, and the reply is lost.
    ReplyLost,
    /// From this operation on nothing works any more: the process died, or the network went.
    Dead,
    /// A read returns a flipped bit; other operations work.
    BitFlip,
    /// A put is acknowledged and not done; other operations work.
    PutForgotten,
}

/// The place every error names.
const PLACE: &str = "sim:";

/// A store in memory.
#[derive(Debug, Default)]
pub struct SimStore {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    operations: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
}

impl SimStore {
    /// Fails operation number `at` (counted from 0 over all operations from now on).
    pub fn fail_at(&self, at: usize, fault: Fault) {
        self.operations.store(0, Ordering::Relaxed);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, fault));
    }

    /// Works from now on, and counts from 0 again.
    pub fn heal(&self) {
        self.operations.store(0, Ordering::Relaxed);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Operations since the last [`SimStore::fail_at`] or [`SimStore::heal`].
    pub fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// Every object, by key.
    pub fn objects(&self) -> BTreeMap<Key, Bytes> {
        self.lock().clone()
    }

    /// Replaces an object's bytes behind the vault's back, as rot or an attacker would.
    pub fn tamper(&self, key: &Key, bytes: Bytes) {
        self.lock().insert(key.clone(), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and says whether and how it fails.
    fn step(&self) -> Option<Fault> {
        let now = self.operations.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.and_then(|(at, fault)| (now == at || (now > at && fault == Fault::Dead)).then_some(fault))
    }

    fn read(&self, key: &Key) -> Result<(Bytes, Option<Fault>), StoreError> {
        let fault = self.step();
        if let Some(Fault::Before | Fault::ReplyLost | Fault::Dead) = fault {
            return Err(gone("read", key.as_str()));
        }
        let found = self.lock().get(key).cloned();
        let missing = || StoreError::NotFound { key: key.to_string(), place: PLACE.into() };
        found.map(|bytes| (bytes, fault)).ok_or_else(missing)
    }
}

fn gone(operation: &'static str, key: &str) -> StoreError {
    let source = std::io::Error::other("a simulated fault").into();
    StoreError::Passing { operation, key: key.to_owned(), place: PLACE.into(), source }
}

fn flip(bytes: Bytes, fault: Option<Fault>) -> Bytes {
    if fault != Some(Fault::BitFlip) || bytes.is_empty() {
        return bytes;
    }
    let mut flipped = bytes.to_vec();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    flipped.into()
}

#[async_trait::async_trait]
impl Store for SimStore {
    fn place(&self) -> String {
        PLACE.into()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let fault = self.step();
        if let Some(Fault::Before | Fault::Dead) = fault {
            return Err(gone("write", key.as_str()).into());
        }
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Err(PutError::Exists { key: key.to_string(), place: PLACE.into() });
        }
        if fault != Some(Fault::PutForgotten) {
            objects.insert(key.clone(), body.parts().concat().into());
        }
        if fault == Some(Fault::ReplyLost) { Err(gone("write", key.as_str()).into()) } else { Ok(()) }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.read(key).map(|(bytes, fault)| flip(bytes, fault))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (bytes, fault) = self.read(key)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            let source = std::io::Error::other("a range beyond the end").into();
            return Err(StoreError::Broken {
                operation: "read",
                key: key.to_string(),
                place: PLACE.into(),
                source,
            });
        }
        Ok(flip(bytes.slice(range.start as usize..range.end as usize), fault))
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.read(key).map(|(bytes, _)| Head { key: key.clone(), size: bytes.len() as u64 })
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        if let Some(Fault::Before | Fault::ReplyLost | Fault::Dead) = self.step() {
            return Err(gone("list", prefix));
        }
        // Short pages, so that every listing of more than a few objects goes on to a second one.
        let below = |key: &Key| {
            prefix.is_empty() || key.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let objects = self.lock();
        let mut found =
            objects.iter().filter(|(key, _)| below(key) && after.is_none_or(|after| *key > after));
        let page: Vec<Head> = found
            .by_ref()
            .take(3)
            .map(|(key, bytes)| Head { key: key.clone(), size: bytes.len() as u64 })
            .collect();
        let next = found.next().and_then(|_| page.last().map(|head| head.key.clone()));
        Ok(Page { objects: page, next })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        if let Some(Fault::Before | Fault::Dead) = self.step() {
            return Err(gone("delete", key.as_str()));
        }
        self.lock().remove(key);
        Ok(())
    }
}
