//! Asking again: passing errors are retried, and a put whose reply was lost is recognised as our own.
//!
//! A put that timed out may have been done. Asked again, the store says that the key is taken: by us. Every object of a
//! vault has 128 random bits of its writer's near its front (`docs/format.md` §3; `vault.json` in its text), so whether
//! what is there is ours can be seen: same size, same front. That comparison is made on every `Exists`, also the
//! first: a store's own client, or a proxy on the way, may have asked twice without telling.
//!
//! **Invariants**
//! - `Ok` of a put means that these bytes are there; which try wrote them does not matter.
//! - Only passing errors are asked again. No new try begins after [`RetryPolicy::total`], so an operation ends at most
//!   one request's own time limit later.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};

/// Bytes compared: the header of a binary object, and all of a small JSON one.
const FRONT: usize = 4096;

/// How often and how long to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all. Ten, with the waits below, bridge 33 to 65 s: a store's restart or failover.
    pub tries: u32,
    /// The first wait; it doubles each time. 0.2 s: a dropped connection is back by then, an overloaded store is spared.
    pub first_wait: Duration,
    /// The longest wait. 20 s: longer would only leave a store unused that is back.
    pub longest_wait: Duration,
    /// No try begins later than this after the first. Five minutes: for a store that answers nothing, so that every
    /// try lasts as long as a request may, and somebody should hear of it.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            tries: 10,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(20),
            total: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after `tries` tries (from 1). `chance` spreads it over the upper half, so that many writers that
    /// failed together do not ask together again.
    fn wait(&self, tries: u32, chance: u64) -> Duration {
        let doubled = self.first_wait.saturating_mul(2u32.saturating_pow(tries.saturating_sub(1)));
        let wait = doubled.min(self.longest_wait);
        wait / 2 + wait / 2 * (chance % 1024) as u32 / 1024
    }
}

/// A store that asks again.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
}

impl Retry {
    /// Asks `inner` again by the usual policy.
    pub fn new(inner: Arc<dyn Store>) -> Retry {
        Retry::with_policy(inner, RetryPolicy::default())
    }

    /// Asks `inner` again by this policy.
    pub fn with_policy(inner: Arc<dyn Store>, policy: RetryPolicy) -> Retry {
        Retry { inner, policy }
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

/// The tries of one operation.
pub(crate) struct Tries {
    policy: RetryPolicy,
    begun: Instant,
    made: u32,
}

#[allow(
    clippy::disallowed_methods,
    reason = "waiting is the policy: bounded, spread, and nothing tells of recovery"
)]
impl Tries {
    pub(crate) fn new(policy: RetryPolicy) -> Tries {
        Tries { policy, begun: Instant::now(), made: 0 }
    }

    /// Waits before the next try, or gives `error` back where another would not help or was tried often enough.
    pub(crate) async fn again(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.made += 1;
        // Seeded by the system for every process, which a count would not be: hosts that failed together differ.
        let wait = self.policy.wait(self.made, RandomState::new().hash_one(self.made));
        let late = self.begun.elapsed().saturating_add(wait) > self.policy.total;
        if !error.is_passing() || self.made >= self.policy.tries || late {
            return Err(error);
        }
        tracing::warn!("{error}; asking again in {wait:.1?}");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Runs an operation until it succeeds, fails for good, or was tried often enough.
macro_rules! retried {
    ($self:ident, $operation:expr) => {{
        let mut tries = Tries::new($self.policy);
        loop {
            match $operation.await {
                Ok(done) => return Ok(done),
                Err(error) => tries.again(error).await?,
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
        let mut tries = Tries::new(self.policy);
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
            tries.again(passing).await?;
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

    async fn names(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        retried!(self, self.inner.names(prefix, after))
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        retried!(self, self.inner.delete(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let policy = RetryPolicy::default();
        let seconds = |tries, chance| policy.wait(tries, chance).as_secs_f64();
        for (tries, least, most) in
            [(1, 0.1, 0.2), (2, 0.2, 0.4), (7, 6.4, 12.8), (8, 10.0, 20.0), (99, 10.0, 20.0)]
        {
            assert_eq!(seconds(tries, 0), least, "{tries}");
            assert!(seconds(tries, 1023) > most * 0.99 && seconds(tries, 1023) < most, "{tries}");
        }
        let bridged = |chance| (1..policy.tries).map(|tries| seconds(tries, chance)).sum::<f64>();
        assert!(
            (32.0..34.0).contains(&bridged(0)) && (64.0..66.0).contains(&bridged(1023)),
            "as its comment says"
        );
    }
}
