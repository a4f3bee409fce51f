//! A store in memory: for tests, and to try things out. Gone with the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};

const PLACE: &str = "memory:";

/// Objects of a page of a listing.
const PAGE: usize = 1000;

/// Objects in memory.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<Key, Bytes>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &Key) -> Result<Bytes, StoreError> {
        let missing = || StoreError::NotFound { key: key.to_string(), place: PLACE.into() };
        self.lock().get(key).cloned().ok_or_else(missing)
    }
}

#[async_trait::async_trait]
impl Store for Memory {
    fn place(&self) -> String {
        PLACE.into()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Err(PutError::Exists { key: key.to_string(), place: PLACE.into() });
        }
        objects.insert(key.clone(), body.parts().concat().into());
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.find(key)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.find(key)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            let source = format!("{} bytes are there, and {range:?} was asked for", bytes.len()).into();
            return Err(StoreError::Broken {
                operation: "read",
                key: key.to_string(),
                place: PLACE.into(),
                source,
            });
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.find(key).map(|bytes| Head { key: key.clone(), size: bytes.len() as u64 })
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let below = |key: &Key| {
            prefix.is_empty() || key.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.lock();
        let mut found = objects.range::<Key, _>((from, Bound::Unbounded)).filter(|(key, _)| below(key));
        let head = |(key, bytes): (&Key, &Bytes)| Head { key: key.clone(), size: bytes.len() as u64 };
        let page: Vec<Head> = found.by_ref().take(PAGE).map(head).collect();
        let next = found.next().and_then(|_| page.last().map(|last| last.key.clone()));
        Ok(Page { objects: page, next })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.lock().remove(key);
        Ok(())
    }
}
