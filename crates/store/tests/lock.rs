//! Object lock, on a real server: what is put is locked by the same request.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use strongroom_model::tier::StorageClass;
use strongroom_store::conformance::moto::MotoServer;
use strongroom_store::{Body, Bucket, BucketOptions, Key, Lock, LockMode, Manner, PutError, Store};

fn open(server: &MotoServer, bucket: &str, mode: LockMode) -> Bucket {
    let options = BucketOptions {
        bucket: bucket.into(),
        endpoint: Some(server.endpoint()),
        path_style: true,
        allow_http: true,
        manner: Manner {
            lock: Some(Lock { mode, keep: Duration::from_secs(86_400) }),
            packs: Some(StorageClass::StandardIa),
            tagged: true,
            ..Manner::default()
        },
        ..BucketOptions::default()
    };
    Bucket::with_keys(options, "test", "test").unwrap()
}

#[tokio::test]
async fn what_is_put_is_locked() {
    let Some(server) = MotoServer::start() else { return };
    server.make_locking_bucket("locked");
    for (name, mode, says) in
        [("g", LockMode::Governance, "governance"), ("c", LockMode::Compliance, "compliance")]
    {
        let (store, key) = (open(&server, "locked", mode), Key::new(name).unwrap());
        let mut body = Body::from(b"first ".to_vec());
        body.push("second".into());
        store.put_new(&key, body.clone()).await.unwrap();
        assert_eq!(&store.get(&key).await.unwrap()[..], b"first second");
        let headers = server.headers(&format!("locked/{name}"));
        assert!(headers.contains(&format!("x-amz-object-lock-mode: {says}")), "{headers}");
        assert!(headers.contains("x-amz-object-lock-retain-until-date: 2"), "{headers}");
        assert!(matches!(store.put_new(&key, body).await, Err(PutError::Exists { .. })));
    }
}

#[tokio::test]
async fn packs_and_wal_get_their_class_and_tag() {
    let Some(server) = MotoServer::start() else { return };
    server.make_locking_bucket("classes");
    let store = open(&server, "classes", LockMode::Governance);
    for (name, class, tagged) in [
        ("sources/a/points/p/packs/000000-ab", Some("standard_ia"), true),
        ("sources/a/points/p/manifest", None, false),
        ("sources/a/wal/1/00000001/00000000/000000010000000000000001", None, true),
    ] {
        store.put_new(&Key::new(name).unwrap(), Body::from(b"x".to_vec())).await.unwrap();
        let headers = server.headers(&format!("classes/{name}"));
        let found = headers.lines().find_map(|line| line.strip_prefix("x-amz-storage-class: "));
        assert_eq!(found.filter(|class| *class != "standard"), class, "{name}: {headers}");
        assert_eq!(headers.contains("x-amz-tagging-count: 1"), tagged, "{name}: {headers}");
    }
}

#[tokio::test]
async fn a_bucket_without_locks_refuses_a_locked_object() {
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("plain");
    let (store, key) = (open(&server, "plain", LockMode::Governance), Key::new("a").unwrap());
    assert!(store.put_new(&key, Body::from(b"x".to_vec())).await.is_err());
    assert!(store.get(&key).await.unwrap_err().is_not_found());
}
