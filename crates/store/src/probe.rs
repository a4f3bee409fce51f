//! Testing a store's promises with real objects, on the user's own store.

use std::sync::Arc;

use crate::key::Key;
use crate::port::{Body, PutError, Store, StoreError};

/// A promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise; stable, for scripts.
    pub check: &'static str,
    /// Whether it was kept.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// Writers that race for one key.
const RACERS: usize = 4;

/// Tests the promises of [`crate::port`] under `probe/<nonce>/` and removes what it wrote. `nonce` must be new.
pub async fn probe(store: &Arc<dyn Store>, nonce: &str) -> Vec<Finding> {
    let (Ok(first), Ok(raced), Ok(absent)) = (key(nonce, "first"), key(nonce, "raced"), key(nonce, "absent"))
    else {
        return vec![finding("probe", false, format!("'{nonce}' cannot be part of a key"))];
    };
    let mut findings = vec![once(store, &first).await];
    if findings[0].ok {
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
    Finding { check, ok, detail: detail.into() }
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
    finding(CHECK, true, "probe objects were removed; a writer needs no right to delete")
}
