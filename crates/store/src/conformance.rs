//! One suite that every adapter passes: each promise of [`crate::port`], tried for real.
//!
//! For tests only (feature `conformance`). The suite panics at the first broken promise, naming it. It needs a store
//! with nothing under `suite/`; run it on your own adapter before you trust a vault to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a suite that cannot go on should stop")]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::key::Key;
use crate::port::{Body, Page, PutError, Store, StoreError};

mod server;
pub mod moto;
pub mod azurite;

/// More keys than any adapter gives in one page.
const MANY: usize = 1_100;

fn key(text: &str) -> Key {
    Key::new(format!("suite/{text}")).unwrap()
}

fn body(text: &str) -> Body {
    Body::from(text.as_bytes().to_vec())
}

/// Tries every promise on `store`.
pub async fn check(store: Arc<dyn Store>) {
    writes_once(&*store).await;
    races(&store).await;
    reads(&*store).await;
    misses(&*store).await;
    lists_in_byte_order(&*store).await;
    lists_page_after_page(&store).await;
    deletes(&*store).await;
    large(&*store).await;
}

async fn writes_once(store: &dyn Store) {
    store.put_new(&key("once"), body("first")).await.unwrap();
    for second in ["second", "first!", ""] {
        let outcome = store.put_new(&key("once"), body(second)).await;
        assert!(matches!(outcome, Err(PutError::Exists { .. })), "a taken key was written: {outcome:?}");
    }
    assert_eq!(store.get(&key("once")).await.unwrap(), "first", "a refused put changed the object");
    store.put_new(&key("empty"), Body::default()).await.unwrap();
    assert_eq!(store.get(&key("empty")).await.unwrap(), Bytes::new());
    assert_eq!(store.head(&key("empty")).await.unwrap().size, 0);
}

/// Eight writers, one key, other bytes each: one wins, and its bytes are there.
async fn races(store: &Arc<dyn Store>) {
    for round in 0..5 {
        let raced = key(&format!("race/{round}"));
        let racers = (0..8).map(|racer| {
            let (store, raced) = (Arc::clone(store), raced.clone());
            tokio::spawn(async move { store.put_new(&raced, body(&format!("racer {racer}"))).await })
        });
        let mut winners = Vec::new();
        for (racer, task) in racers.collect::<Vec<_>>().into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(()) => winners.push(racer),
                Err(PutError::Exists { .. }) => {}
                Err(error) => panic!("racer {racer} of round {round}: {error}"),
            }
        }
        let [winner] = winners[..] else { panic!("round {round} had the winners {winners:?}") };
        assert_eq!(
            store.get(&raced).await.unwrap(),
            format!("racer {winner}"),
            "the loser's bytes are there"
        );
    }
}

async fn reads(store: &dyn Store) {
    let mut parts = Body::default();
    ["0123", "", "456789"].iter().for_each(|part| parts.push(Bytes::from_static(part.as_bytes())));
    store.put_new(&key("parts"), parts).await.unwrap();
    assert_eq!(store.get(&key("parts")).await.unwrap(), "0123456789");
    for (range, content) in [(0..10, "0123456789"), (3..7, "3456"), (9..10, "9"), (0..0, ""), (10..10, "")] {
        assert_eq!(store.get_range(&key("parts"), range.clone()).await.unwrap(), content, "{range:?}");
    }
    let backwards = Range { start: 5, end: 2 };
    for beyond in [0..11, 10..11, 50..60, 11..11, backwards] {
        let outcome = store.get_range(&key("parts"), beyond.clone()).await;
        // Neither absent nor worth asking again.
        assert!(matches!(outcome, Err(StoreError::Broken { .. })), "range {beyond:?} gave {outcome:?}");
    }
    assert_eq!(store.head(&key("parts")).await.unwrap().size, 10);
}

async fn misses(store: &dyn Store) {
    let absent = key("absent");
    assert!(store.get(&absent).await.unwrap_err().is_not_found());
    assert!(store.get_range(&absent, 0..1).await.unwrap_err().is_not_found());
    assert!(store.head(&absent).await.unwrap_err().is_not_found());
    // A folder of keys is no key, and nothing is below one.
    for absent in [key("race"), key("once/below")] {
        assert!(store.get(&absent).await.unwrap_err().is_not_found(), "{absent}");
        assert!(store.get_range(&absent, 0..0).await.unwrap_err().is_not_found(), "{absent}");
        assert!(store.head(&absent).await.unwrap_err().is_not_found(), "{absent}");
        store.delete(&absent).await.unwrap();
    }
    assert_eq!(store.get(&key("once")).await.unwrap(), "first");
    assert!(store.list("suite/nowhere", None).await.unwrap().objects.is_empty());
}

/// Byte order of whole keys: '-' and '.' sort before '/', digits and letters after.
async fn lists_in_byte_order(store: &dyn Store) {
    let names = ["o/a", "o/a-b", "o/a.b", "o/a/b", "o/a/b/c", "o/a0", "o/aa/z", "o/b", "order"];
    for name in names.iter().rev() {
        // On a file system "a" cannot be both an object and a folder; a vault never asks for that.
        if !matches!(*name, "o/a" | "o/a/b") {
            store.put_new(&key(name), body(name)).await.unwrap();
        }
    }
    let listed = all(store, "suite/o").await;
    let expected: Vec<String> = ["o/a-b", "o/a.b", "o/a/b/c", "o/a0", "o/aa/z", "o/b"]
        .iter()
        .map(|name| format!("suite/{name}"))
        .collect();
    assert_eq!(listed, expected, "the order, or a prefix that is not a whole segment");
    assert_eq!(all(store, "suite/o/a").await, ["suite/o/a/b/c"]);
    for (at, after) in expected.iter().enumerate() {
        let rest = store.list("suite/o", Some(&Key::new(after.clone()).unwrap())).await.unwrap();
        let rest: Vec<String> = rest.objects.iter().map(|head| head.key.to_string()).collect();
        assert_eq!(rest, expected[at + 1..], "after {after}");
    }
    let between = store.list("suite/o", Some(&key("o/a/zzz"))).await.unwrap();
    assert_eq!(between.objects[0].key, key("o/a0"), "after a key that is not there");
    assert_eq!(between.objects[0].size, 4, "the size in a listing");
}

async fn lists_page_after_page(store: &Arc<dyn Store>) {
    let numbers: Vec<usize> = (0..MANY).collect();
    for chunk in numbers.chunks(16) {
        let puts = chunk.iter().map(|number| {
            let store = Arc::clone(store);
            let key = key(&format!("many/{number:05}"));
            tokio::spawn(async move { store.put_new(&key, body("x")).await })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap().unwrap();
        }
    }
    let listed = all(&**store, "suite/many").await;
    let expected: Vec<String> = numbers.iter().map(|number| format!("suite/many/{number:05}")).collect();
    assert_eq!(listed, expected);
}

async fn all(store: &dyn Store, prefix: &str) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_ref()).await.unwrap();
        let names = store.names(prefix, after.as_ref()).await.unwrap();
        let keys_of = |page: &Page| page.objects.iter().map(|head| head.key.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (keys_of(&page), &page.next),
            (keys_of(&names), &names.next),
            "names are those of a listing"
        );
        keys.extend(keys_of(&page));
        match page.next {
            Some(next) => after = Some(next),
            None => return keys,
        }
    }
}

async fn deletes(store: &dyn Store) {
    store.delete(&key("once")).await.unwrap();
    store.delete(&key("once")).await.unwrap();
    assert!(store.get(&key("once")).await.unwrap_err().is_not_found());
    store.put_new(&key("once"), body("again")).await.unwrap();
}

/// A pack: 33 MiB in parts of odd sizes.
async fn large(store: &dyn Store) {
    let content: Vec<u8> = (0..33 << 20).map(|at: u32| (at >> 12) as u8 ^ at as u8).collect();
    let content = Bytes::from(content);
    let mut packed = Body::default();
    let mut at = 0;
    for size in [1, 4095, 1 << 20, (16 << 20) + 7, usize::MAX] {
        let end = content.len().min(at + size.min(content.len()));
        packed.push(content.slice(at..end));
        at = end;
    }
    store.put_new(&key("large"), packed).await.unwrap();
    assert_eq!(store.head(&key("large")).await.unwrap().size, content.len() as u64);
    assert!(
        store.get(&key("large")).await.unwrap() == content,
        "a large object came back other than it went"
    );
    let range = (5 << 20) + 3..(6 << 20) + 11;
    let part = store.get_range(&key("large"), range.start as u64..range.end as u64).await.unwrap();
    assert!(part == content[range]);
}
