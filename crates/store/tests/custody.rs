//! What a real S3 server does to keep objects: locks and holds read back, older versions, thawing, and a bucket as it was.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use strongroom_model::tier::ThawSpeed;
use strongroom_store::conformance::moto::MotoServer;
use strongroom_store::custody::Thaw;
use strongroom_store::{
    AsOf, Body, Bucket, BucketOptions, Custody, Key, Lock, LockMode, Manner, PutError, Store, StoreError,
};

fn open(server: &MotoServer, bucket: &str, prefix: &str, lock: Option<Lock>) -> Arc<Bucket> {
    let options = BucketOptions {
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint: Some(server.endpoint()),
        path_style: true,
        allow_http: true,
        manner: Manner { lock, ..Manner::default() },
        ..BucketOptions::default()
    };
    Arc::new(Bucket::with_keys(options, "test", "test").unwrap())
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn body(text: &str) -> Body {
    Body::from(text.as_bytes().to_vec())
}

/// S3 counts in seconds: goes on when its clock shows a later one.
async fn until_later_than(bucket: &Bucket, then: Timestamp) {
    for n in 0.. {
        let tick = key(&format!("ticks/{n:06}"));
        bucket.put_new(&tick, body("x")).await.unwrap();
        let versions = bucket.versions(tick.as_str(), None).await.unwrap().versions;
        if versions[0].at > then {
            return;
        }
    }
}

const WEEK: Lock = Lock { mode: LockMode::Governance, keep: Duration::from_secs(7 * 86_400) };

#[tokio::test]
async fn a_lock_and_a_hold_are_read_back() {
    let Some(server) = MotoServer::start() else { return };
    server.make_locking_bucket("locked");
    let bucket = open(&server, "locked", "vault", Some(WEEK));
    bucket.put_new(&key("a/b"), body("content")).await.unwrap();
    let keeping = bucket.keeping(&key("a/b")).await.unwrap();
    assert_eq!((keeping.size, keeping.class.as_str(), keeping.thaw), (7, "STANDARD", Thaw::Ready));
    let (mode, until) = keeping.lock.unwrap();
    let days = (until - Timestamp::now()).get_seconds() as f64 / 86_400.0;
    assert!(mode == LockMode::Governance && (6.9..7.1).contains(&days), "{mode:?} for {days} days");
    assert!(keeping.version.is_some() && keeping.at.is_some() && !keeping.legal_hold);
    for on in [true, false] {
        bucket.set_legal_hold(&key("a/b"), on).await.unwrap();
        assert_eq!(bucket.keeping(&key("a/b")).await.unwrap().legal_hold, on);
    }
    let habits = bucket.habits().await.unwrap();
    assert!(habits.versioned && habits.locks && habits.lock_by_default.is_none(), "{habits:?}");
    assert!(bucket.keeping(&key("a/c")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_plain_bucket_says_that_it_keeps_nothing() {
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("plain");
    let bucket = open(&server, "plain", "", None);
    let habits = bucket.habits().await.unwrap();
    assert!(!habits.versioned && !habits.locks, "{habits:?}");
    assert_eq!(bucket.lifecycle().await.unwrap(), None);
    let was = AsOf::new(bucket.clone(), bucket.place(), Timestamp::now());
    let refused = was.list("", None).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Broken { source, .. } if source.to_string().contains("never kept versions"))
    );
    let missing = open(&server, "missing", "", None);
    for error in [missing.habits().await.unwrap_err(), missing.versions("", None).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn what_was_overwritten_or_deleted_is_read_as_it_was() {
    let Some(server) = MotoServer::start() else { return };
    server.make_locking_bucket("versions");
    let bucket = open(&server, "versions", "some/vault", None);
    for name in ["p/kept", "p/overwritten", "p/deleted", "p-other"] {
        bucket.put_new(&key(name), body(name)).await.unwrap();
    }
    let written = bucket.versions("", None).await.unwrap().versions;
    let then = written.iter().map(|version| version.at).max().unwrap();
    until_later_than(&bucket, then).await;
    // Whoever may write and delete.
    server.put_empty("versions/some/vault/p/overwritten");
    bucket.delete(&key("p/deleted")).await.unwrap();
    bucket.put_new(&key("p/forged"), body("a tombstone")).await.unwrap();
    assert!(bucket.get(&key("p/deleted")).await.unwrap_err().is_not_found());
    assert_eq!(bucket.get(&key("p/overwritten")).await.unwrap(), "");

    let was = AsOf::new(bucket.clone(), bucket.place(), then);
    let listed: Vec<String> =
        was.list("p", None).await.unwrap().objects.iter().map(|head| head.key.to_string()).collect();
    assert_eq!(listed, ["p/deleted", "p/kept", "p/overwritten"]);
    for name in ["p/kept", "p/overwritten", "p/deleted", "p-other"] {
        assert_eq!(was.get(&key(name)).await.unwrap(), name);
        assert_eq!(was.get_range(&key(name), 1..4).await.unwrap(), name[1..4]);
        assert_eq!(was.head(&key(name)).await.unwrap().size, name.len() as u64);
    }
    assert_eq!(was.get_range(&key("p/kept"), 2..2).await.unwrap(), "");
    assert!(matches!(was.get_range(&key("p/kept"), 2..20).await, Err(StoreError::Broken { .. })));
    assert!(was.get(&key("p/forged")).await.unwrap_err().is_not_found());
    assert!(was.get(&key("p")).await.unwrap_err().is_not_found());
    assert!(matches!(was.put_new(&key("p/new"), body("x")).await, Err(PutError::Store(_))));
    assert!(was.delete(&key("p/kept")).await.is_err());
    // Before anything was written there was nothing.
    let before = AsOf::new(bucket, "s3://versions".into(), then - jiff::SignedDuration::from_hours(1));
    assert!(before.list("", None).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn a_long_listing_as_it_was_is_complete_and_in_order() {
    let Some(server) = MotoServer::start() else { return };
    server.make_locking_bucket("many");
    let bucket = open(&server, "many", "v", None);
    let keys: Vec<Key> = (0..2300).map(|n| key(&format!("d/{n:05}"))).collect();
    for chunk in keys.chunks(16) {
        let puts = chunk.iter().map(|key| bucket.put_new(key, body("x")));
        futures::future::try_join_all(puts).await.unwrap();
    }
    let mut then = Timestamp::MIN;
    let mut from = None;
    loop {
        let page = bucket.versions("", from.as_ref()).await.unwrap();
        then = page.versions.iter().map(|version| version.at).max().unwrap().max(then);
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    until_later_than(&bucket, then).await;
    for key in keys.iter().step_by(2) {
        bucket.delete(key).await.unwrap();
    }
    for (at, expected) in
        [(then, keys.clone()), (Timestamp::now(), keys.iter().skip(1).step_by(2).cloned().collect())]
    {
        let was = AsOf::new(bucket.clone(), bucket.place(), at);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = was.list("d", after.as_ref()).await.unwrap();
            found.extend(page.objects.into_iter().map(|head| head.key));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found.len(), expected.len(), "as of {at}");
        assert!(found == expected);
    }
}

#[tokio::test]
async fn what_is_frozen_is_thawed_on_request() {
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("cold");
    let bucket = open(&server, "cold", "", None);
    server.put_frozen("cold/a", "DEEP_ARCHIVE");
    let keeping = bucket.keeping(&key("a")).await.unwrap();
    assert_eq!((keeping.class.as_str(), keeping.thaw), ("DEEP_ARCHIVE", Thaw::Frozen));
    let listed = bucket.versions("", None).await.unwrap().versions;
    assert_eq!(listed[0].class, "DEEP_ARCHIVE");
    assert!(bucket.get(&key("a")).await.is_err(), "a frozen object was read");
    bucket.thaw(&key("a"), 3, ThawSpeed::Bulk).await.unwrap();
    bucket.thaw(&key("a"), 3, ThawSpeed::Bulk).await.unwrap();
    let thaw = bucket.keeping(&key("a")).await.unwrap().thaw;
    assert!(matches!(thaw, Thaw::Thawing | Thaw::Until(_)), "{thaw:?}");
}
