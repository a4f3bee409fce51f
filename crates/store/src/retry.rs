//! Asking again: passing errors are retried, and a put whose reply was lost is recognised as our own.
//!
//! A put that timed out may have been done. Asked again, the store says that the key is taken: by us. Every object of a
//! vault has 128 random bits of its writer's near its front (`docs/format.md` §3; `vault.json` in its text), so whether
//! what is there is ours can be seen: same size, same front. That comparison is made on every `Exists`, also the
//! first: a store's own client may have asked twice without telling.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};

/// Bytes compared: the header of a binary object, and all of a small JSON one.
const FRONT: usize = 4096;

/// How often and how long to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all. Eight, waiting up to 20 s between two, bridge about a minute: a store's restart or failover.
    pub tries: u32,
    /// The first wait; it doubles each time.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            tries: 8,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(20),
        }
    }
}

/// A store that asks again.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
    count: AtomicU64,
}

impl Retry {
    /// Asks `inner` again by the usual policy.
    pub fn new(inner: Arc<dyn Store>) -> Retry {
        Retry::with_policy(inner, RetryPolicy::default())
    }

    /// Asks `inner` again by this policy.
    pub fn with_policy(inner: Arc<dyn Store>, policy: RetryPolicy) -> Retry {
        Retry { inner, policy, count: AtomicU64::new(0) }
    }

    /// Waits before try `next` (from 1), or gives `error` back when there were enough tries.
    #[allow(
        clippy::disallowed_methods,
        reason = "waiting is the policy: bounded, spread, and nothing tells of recovery"
    )]
    async fn again(&self, next: u32, error: StoreError) -> Result<(), StoreError> {
        if !error.is_passing() || next >= self.policy.tries {
            return Err(error);
        }
        let wait = (self.policy.first_wait * 2u32.saturating_pow(next - 1)).min(self.policy.longest_wait);
        // Half fixed, half spread, so that many workers that failed together do not ask together again. Spread by a
        // multiplicative hash of a count: good enough for timing, and needs no randomness.
        let spread = self.count.fetch_add(0x9e37_79b9, Ordering::Relaxed) % 1024;
        let wait = wait / 2 + wait / 2 * spread as u32 / 1024;
        tracing::warn!("{error}; asking again in {wait:.1?}");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Whether what lies under `key` is this body. `Err` if that cannot be found out.
    async fn is_ours(&self, key: &Key, body: &Body) -> Result<bool, StoreError> {
        let head = self.head(key).await?;
        if head.size != body.len() {
            return Ok(false);
        }
        let front = body.prefix(FRONT);
        Ok(self.get_range(key, 0..front.len() as u64).await? == front)
    }
}

/// Runs an operation until it succeeds, fails for good, or was tried often enough.
macro_rules! retried {
    ($self:ident, $operation:expr) => {{
        let mut tries = 0;
        loop {
            match $operation.await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    tries += 1;
                    $self.again(tries, error).await?;
                }
            }
        }
    }};
}

#[async_trait::async_trait]
impl Store for Retry {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let mut tries = 0;
        loop {
            let passing = match self.inner.put_new(key, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(PutError::Exists { key: text, place }) => match self.is_ours(key, &body).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(PutError::Exists { key: text, place }),
                    // Taken and not there: a conflict between writers that is still being settled. Ask again.
                    Err(error) if error.is_not_found() => {
                        StoreError::Passing { operation: "write", key: text, place, source: error.into() }
                    }
                    Err(error) => return Err(error.into()),
                },
                Err(PutError::Store(error)) => error,
            };
            tries += 1;
            self.again(tries, passing).await?;
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        retried!(self, self.inner.get(key))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        retried!(self, self.inner.get_range(key, range.clone()))
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        retried!(self, self.inner.head(key))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        retried!(self, self.inner.list(prefix, after))
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        retried!(self, self.inner.delete(key))
    }
}
