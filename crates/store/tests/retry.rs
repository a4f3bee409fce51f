//! Asking again, and probing: on a store that is odd in one way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use strongroom_store::probe::probe;
use strongroom_store::retry::RetryPolicy;
use strongroom_store::{Body, Head, Key, Memory, Page, PutError, Retry, Store, StoreError};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn body(text: &str) -> Body {
    Body::from(text.as_bytes().to_vec())
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        tries: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(2),
        total: Duration::from_secs(60),
    }
}

/// What a store does to a put.
#[derive(Debug, Clone, Copy)]
enum Oddity {
    /// It is done, and the reply is lost.
    LosesReplies,
    /// It is not done, and said to be done already.
    SaysTaken,
    /// It is done whether or not the key is taken.
    Overwrites,
}

/// A store that is odd for some puts, then sound. Counts its puts.
#[derive(Debug)]
struct Odd {
    inner: Memory,
    oddity: Oddity,
    odd_puts: usize,
    puts: AtomicUsize,
}

impl Odd {
    fn new(oddity: Oddity, odd_puts: usize) -> Arc<Odd> {
        Arc::new(Odd { inner: Memory::default(), oddity, odd_puts, puts: AtomicUsize::new(0) })
    }

    fn puts(&self) -> usize {
        self.puts.load(Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl Store for Odd {
    fn place(&self) -> String {
        "odd:".into()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        if self.puts.fetch_add(1, Ordering::Relaxed) >= self.odd_puts {
            return self.inner.put_new(key, body).await;
        }
        let (key_text, place) = (key.to_string(), self.place());
        match self.oddity {
            Oddity::SaysTaken => Err(PutError::Exists { key: key_text, place }),
            Oddity::Overwrites => {
                self.inner.delete(key).await?;
                self.inner.put_new(key, body).await
            }
            Oddity::LosesReplies => {
                let _ = self.inner.put_new(key, body).await;
                let (operation, source) = ("write", "the reply was lost".into());
                Err(StoreError::Passing { operation, key: key_text, place, source }.into())
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

fn is_passing(outcome: &Result<(), PutError>) -> bool {
    matches!(outcome, Err(PutError::Store(StoreError::Passing { .. })))
}

#[tokio::test]
async fn a_put_whose_reply_was_lost_is_recognised_as_our_own() {
    let odd = Odd::new(Oddity::LosesReplies, 1);
    let store = Retry::with_policy(odd.clone(), quick());
    store.put_new(&key("a"), body("nonce of the first writer")).await.unwrap();
    assert_eq!(odd.puts(), 2);
}

#[tokio::test]
async fn a_put_whose_reply_was_lost_is_not_taken_for_another_writers() {
    for others in ["nonce of another writer", "nonce of a writer with more to say"] {
        let odd = Odd::new(Oddity::LosesReplies, 1);
        odd.inner.put_new(&key("a"), body(others)).await.unwrap();
        let store = Retry::with_policy(odd, quick());
        let outcome = store.put_new(&key("a"), body("nonce of the writer 007")).await;
        assert!(matches!(outcome, Err(PutError::Exists { .. })), "{outcome:?}");
        assert_eq!(store.get(&key("a")).await.unwrap(), others);
    }
}

#[tokio::test]
async fn behaviour_33_a_store_that_stays_away_is_given_up_on() {
    let odd = Odd::new(Oddity::LosesReplies, 100);
    let outcome = Retry::with_policy(odd.clone(), quick()).put_new(&key("a"), Body::default()).await;
    assert!(is_passing(&outcome), "{outcome:?}");
    assert_eq!(odd.puts(), 3, "three tries and no more");
}

#[tokio::test]
async fn a_store_is_not_asked_for_longer_than_the_policy_says() {
    let odd = Odd::new(Oddity::LosesReplies, 100);
    let policy = RetryPolicy { total: Duration::ZERO, ..quick() };
    let outcome = Retry::with_policy(odd.clone(), policy).put_new(&key("a"), Body::default()).await;
    assert!(is_passing(&outcome), "{outcome:?}");
    assert_eq!(odd.puts(), 1);
}

/// A conflict between writers that is still being settled: "taken" was no answer yet.
#[tokio::test]
async fn a_key_that_is_taken_and_not_there_is_asked_for_again() {
    let store = Retry::with_policy(Odd::new(Oddity::SaysTaken, 2), quick());
    store.put_new(&key("a"), body("ours")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), "ours");
    let outcome =
        Retry::with_policy(Odd::new(Oddity::SaysTaken, 3), quick()).put_new(&key("a"), body("ours")).await;
    assert!(is_passing(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn an_error_that_will_not_pass_is_given_at_once() {
    let store =
        Retry::with_policy(Arc::new(Memory::default()), RetryPolicy { first_wait: Duration::MAX, ..quick() });
    assert!(store.get(&key("absent")).await.unwrap_err().is_not_found());
    store.put_new(&key("a"), body("a")).await.unwrap();
    assert!(matches!(store.get_range(&key("a"), 0..9).await, Err(StoreError::Broken { .. })));
}

#[tokio::test]
async fn the_probe_finds_nothing_wrong_with_a_sound_store() {
    let store: Arc<dyn Store> = Arc::new(Retry::with_policy(Arc::new(Memory::default()), quick()));
    let findings = probe(&store, "00ff").await;
    assert_eq!(findings.len(), 6);
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
    assert!(store.list("", None).await.unwrap().objects.is_empty(), "it removes what it wrote");
}

#[tokio::test]
async fn the_probe_finds_a_store_that_overwrites() {
    let store: Arc<dyn Store> = Odd::new(Oddity::Overwrites, usize::MAX);
    let findings = probe(&store, "00ff").await;
    assert!(
        findings.iter().any(|finding| finding.check == "store: write once" && !finding.ok),
        "{findings:?}"
    );
    let findings = probe(&store, "not a key").await;
    assert!(!findings[0].ok, "{findings:?}");
}
