//! Testing a store's promises with real objects, on the user's own store.

use std::sync::Arc;

use jiff::Timestamp;

use crate::custody::{Bypass, Custody, Habits, LockMode};
use crate::key::Key;
use crate::port::{Body, PutError, Store, StoreError};

/// A promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise; stable, for scripts.
    pub check: &'static str,
    /// Whether it was kept.
    pub ok: bool,
    /// Kept, and yet somebody should know.
    pub warning: bool,
    /// What was seen.
    pub detail: String,
}

/// Writers that race for one key.
const RACERS: usize = 4;

/// Tests the promises of [`crate::port`], and of [`crate::Retry`] over it, under `probe/<nonce>/` and removes what it wrote. `nonce` must be new.
pub async fn probe(store: &Arc<dyn Store>, nonce: &str) -> Vec<Finding> {
    let (Ok(first), Ok(raced), Ok(absent)) = (key(nonce, "first"), key(nonce, "raced"), key(nonce, "absent"))
    else {
        return vec![finding("probe", false, format!("'{nonce}' cannot be part of a key"))];
    };
    let mut findings = vec![once(store, &first).await];
    if findings[0].ok {
        findings.push(again(store, &first).await);
        findings.push(race(store, &raced).await);
        findings.push(read(store, &first, &absent).await);
        findings.push(listed(store, &first, nonce).await);
        findings.push(deleted(store, [&first, &raced]).await);
    }
    findings
}

fn key(nonce: &str, name: &str) -> Result<Key, crate::key::KeyError> {
    Key::new(format!("probe/{nonce}/{name}"))
}

fn finding(check: &'static str, ok: bool, detail: impl Into<String>) -> Finding {
    Finding { check, ok, warning: false, detail: detail.into() }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

async fn once(store: &Arc<dyn Store>, key: &Key) -> Finding {
    const CHECK: &str = "store: write once";
    if let Err(error) = store.put_new(key, Body::from(b"first".to_vec())).await {
        return finding(CHECK, false, chain(&error));
    }
    match store.put_new(key, Body::from(b"second".to_vec())).await {
        Err(PutError::Exists { .. }) => finding(CHECK, true, "a key that is taken is refused"),
        Err(PutError::Store(error)) => finding(CHECK, false, chain(&error)),
        Ok(()) => finding(CHECK, false, "it overwrote an object that was there"),
    }
}

/// A put whose reply was lost is made again: what is there must be known for our own.
async fn again(store: &Arc<dyn Store>, key: &Key) -> Finding {
    const CHECK: &str = "store: asked again";
    match store.put_new(key, Body::from(b"first".to_vec())).await {
        Ok(()) => finding(CHECK, true, "a put that is made twice finds its own object"),
        Err(error) => finding(CHECK, false, chain(&error)),
    }
}

async fn race(store: &Arc<dyn Store>, key: &Key) -> Finding {
    const CHECK: &str = "store: one winner";
    let racers = (0..RACERS).map(|racer| {
        let (store, key) = (Arc::clone(store), key.clone());
        tokio::spawn(
            async move { store.put_new(&key, Body::from(format!("racer {racer}").into_bytes())).await },
        )
    });
    let mut winners = Vec::new();
    for (racer, task) in racers.collect::<Vec<_>>().into_iter().enumerate() {
        match task.await {
            Ok(Ok(())) => winners.push(racer),
            Ok(Err(PutError::Exists { .. })) => {}
            Ok(Err(PutError::Store(error))) => return finding(CHECK, false, chain(&error)),
            Err(error) => return finding(CHECK, false, error.to_string()),
        }
    }
    match (&winners[..], store.get(key).await) {
        ([winner], Ok(there)) if there == format!("racer {winner}").as_bytes() => {
            finding(CHECK, true, format!("of {RACERS} writers at once one won"))
        }
        (_, Err(error)) => finding(CHECK, false, chain(&error)),
        (winners, Ok(_)) => finding(
            CHECK,
            false,
            format!("of {RACERS} writers at once {} were told that they won", winners.len()),
        ),
    }
}

async fn read(store: &Arc<dyn Store>, key: &Key, absent: &Key) -> Finding {
    const CHECK: &str = "store: read";
    let read = async {
        let whole = store.get(key).await?;
        let part = store.get_range(key, 1..4).await?;
        let size = store.head(key).await?.size;
        Ok::<_, StoreError>((whole, part, size))
    };
    match (read.await, store.get(absent).await) {
        (Err(error), _) => finding(CHECK, false, chain(&error)),
        (Ok(_), Ok(_)) => finding(CHECK, false, "it gave an object that was never written"),
        (Ok(_), Err(error)) if !error.is_not_found() => finding(CHECK, false, chain(&error)),
        (Ok((whole, part, size)), Err(_)) => {
            let right = whole == b"first"[..] && part == b"irs"[..] && size == 5;
            finding(
                CHECK,
                right,
                if right { "whole, in part, and absent" } else { "it gave other bytes than were written" },
            )
        }
    }
}

async fn listed(store: &Arc<dyn Store>, key: &Key, nonce: &str) -> Finding {
    const CHECK: &str = "store: list";
    match store.list(&format!("probe/{nonce}"), None).await {
        Err(error) => finding(CHECK, false, chain(&error)),
        Ok(page) if page.objects.iter().any(|object| object.key == *key) => {
            finding(CHECK, true, "what was written is listed")
        }
        Ok(_) => finding(CHECK, false, "what was just written is not listed"),
    }
}

/// A writer that cannot delete is as it should be under object lock: that is said, not blamed.
async fn deleted(store: &Arc<dyn Store>, keys: [&Key; 2]) -> Finding {
    const CHECK: &str = "store: delete";
    for key in keys {
        match store.delete(key).await {
            Ok(()) => {}
            Err(StoreError::Denied { .. }) => {
                return finding(CHECK, true, "denied to these credentials: objects under probe/ stay");
            }
            Err(error) => return finding(CHECK, false, chain(&error)),
        }
    }
    let detail = "probe objects were removed; a writer needs no right to delete";
    // In a folder whoever writes can delete.
    Finding { warning: store.place().contains("://"), ..finding(CHECK, true, detail) }
}

/// Tests what a bucket does by itself: `locking` puts locked objects, for a minute, and `now` is this host's clock.
pub async fn probe_custody(
    locking: Option<&Arc<dyn Store>>,
    custody: &dyn Custody,
    (nonce, now): (&str, Timestamp),
) -> Vec<Finding> {
    let Ok(key) = key(nonce, "locked") else { return Vec::new() };
    let habits = match custody.habits().await {
        Ok(habits) => habits,
        Err(error) => return vec![finding("bucket: versions", false, chain(&error))],
    };
    let mut findings = vec![versions(&habits)];
    match locking {
        None => findings.push(Finding {
            warning: true,
            ..finding("bucket: lock", true, "objects are not locked: who may delete can delete the vault")
        }),
        Some(_) if !habits.locks => {
            findings.push(finding("bucket: lock", false, "the bucket was made without object lock"));
        }
        Some(store) => findings.extend(locked(store, custody, (&key, now)).await),
    }
    findings
}

fn versions(habits: &Habits) -> Finding {
    const CHECK: &str = "bucket: versions";
    match habits.versioned {
        true => finding(CHECK, true, "what is overwritten or deleted stays as an older version (--as-of)"),
        false => Finding {
            warning: true,
            ..finding(CHECK, true, "older versions are not kept: what is overwritten or deleted is gone")
        },
    }
}

/// Whether a lock is there after the PUT, keeps the object from being deleted, and keeps these credentials from doing so.
async fn locked(
    store: &Arc<dyn Store>,
    custody: &dyn Custody,
    (key, now): (&Key, Timestamp),
) -> Vec<Finding> {
    const CHECK: &str = "bucket: lock";
    if let Err(error) = store.put_new(key, Body::from(b"locked".to_vec())).await {
        return vec![finding(CHECK, false, chain(&error))];
    }
    let keeping = match custody.keeping(key).await {
        Ok(keeping) => keeping,
        Err(error) => return vec![finding(CHECK, false, chain(&error))],
    };
    let mut findings = Vec::new();
    findings.extend(keeping.at.map(|at| clock(at, now)));
    let (Some((mode, until)), Some(version)) = (keeping.lock, &keeping.version) else {
        findings.push(finding(CHECK, false, "an object that was put with a lock has none"));
        return findings;
    };
    findings.push(match custody.delete_version(key, version, Bypass::No).await {
        Err(StoreError::Denied { .. }) => finding(
            CHECK,
            true,
            format!("a probe is locked until {until} ({}), and cannot be deleted", mode.as_str()),
        ),
        Err(error) => finding(CHECK, false, chain(&error)),
        Ok(()) => finding(CHECK, false, "a locked object was deleted before its time"),
    });
    if mode == LockMode::Governance && custody.delete_version(key, version, Bypass::Governance).await.is_ok()
    {
        findings.push(Finding {
            warning: true,
            ..finding("bucket: bypass", true, "these credentials may lift governance locks")
        });
    }
    findings
}

/// Clocks that differ end in requests that are refused, and in locks that are shorter than they look.
fn clock(at: Timestamp, now: Timestamp) -> Finding {
    const CHECK: &str = "bucket: clock";
    let apart = at.duration_since(now).unsigned_abs().as_secs();
    let detail = format!("the store's clock and this host's are {apart} s apart");
    match apart {
        // The header is in whole seconds, and an answer takes its time.
        0..=5 => finding(CHECK, true, "the store's clock and this host's agree"),
        6..=300 => Finding { warning: true, ..finding(CHECK, true, detail) },
        _ => finding(CHECK, false, detail),
    }
}
