//! Every adapter, alone and through `Retry`, against the one suite; and what each does when its ground gives way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests make and break files"
)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use strongroom_store::conformance::{azurite::AzuriteServer, check, moto::MotoServer};
use strongroom_store::{
    Body, Bucket, BucketOptions, Folder, Key, Memory, Provider, PutError, Retry, Store, StoreError,
};

/// A folder that is a vault's: with the marker in it.
async fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path().join("vault"));
    folder.put_new(&key("vault.json"), Body::from(b"{}".to_vec())).await.unwrap();
    (dir, folder)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_its_promises() {
    check(Arc::new(Memory::default())).await;
    check(Arc::new(Retry::new(Arc::new(Memory::default())))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_its_promises() {
    let (_dir, store) = folder().await;
    check(Arc::new(store)).await;
    let (_dir, store) = folder().await;
    check(Arc::new(Retry::new(Arc::new(store)))).await;
}

fn bucket(server: &MotoServer, name: &str, prefix: &str) -> Bucket {
    let options = BucketOptions {
        bucket: name.into(),
        prefix: prefix.into(),
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        path_style: true,
        allow_http: true,
        ..BucketOptions::default()
    };
    // The server takes any key; an unsigned request would be taken for a browser's.
    Bucket::with_keys(options, "test", "test").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_its_promises() {
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("vaults");
    check(Arc::new(bucket(&server, "vaults", ""))).await;
    check(Arc::new(Retry::new(Arc::new(bucket(&server, "vaults", "some/prefix"))))).await;
}

fn container(server: &AzuriteServer, name: &str, prefix: &str) -> Bucket {
    let options = BucketOptions {
        provider: Provider::Azure,
        bucket: name.into(),
        prefix: prefix.into(),
        endpoint: Some(server.endpoint()),
        allow_http: true,
        ..BucketOptions::default()
    };
    Bucket::of_emulator(options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_keeps_its_promises() {
    let Some(server) = AzuriteServer::start() else { return };
    server.make_container("vaults");
    check(Arc::new(container(&server, "vaults", ""))).await;
    check(Arc::new(Retry::new(Arc::new(container(&server, "vaults", "some/prefix"))))).await;
}

/// Nothing here answers as Google does (its own testbench lists and deletes in another API than the client speaks): a server
/// that takes no notice of Google's condition is what the probe must find out, before anybody trusts a vault to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_overwrites_is_found_out() {
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("vaults");
    let options = BucketOptions {
        provider: Provider::Google,
        bucket: "vaults".into(),
        endpoint: Some(server.endpoint()),
        allow_http: true,
        ..BucketOptions::default()
    };
    let store: Arc<dyn Store> = Arc::new(Bucket::of_emulator(options).unwrap());
    assert_eq!(store.place(), "gs://vaults");
    store.put_new(&key("a/b"), Body::from(b"content".to_vec())).await.unwrap();
    assert_eq!(store.get_range(&key("a/b"), 1..4).await.unwrap(), "ont");
    assert_eq!(store.list("a", None).await.unwrap().objects[0].key, key("a/b"));
    assert!(store.get(&key("a/c")).await.unwrap_err().is_not_found());
    let found = strongroom_store::probe::probe(&store, "nonce").await;
    let once = found.iter().find(|finding| finding.check == "store: write once").unwrap();
    assert!(!once.ok && once.detail.contains("overwrote"), "{once:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_not_there_is_never_an_absent_object() {
    let Some(mut server) = AzuriteServer::start() else { return };
    server.make_container("here");
    let stores = [container(&server, "nowhere", ""), container(&server, "here", "")];
    is_never_an_absent_object(&stores, || server.kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_never_an_absent_object() {
    let Some(mut server) = MotoServer::start() else { return };
    server.make_bucket("here");
    let stores = [bucket(&server, "nowhere", ""), bucket(&server, "here", "")];
    is_never_an_absent_object(&stores, || server.kill()).await;
}

/// What is nowhere, and what is there until its server is ended.
async fn is_never_an_absent_object([nowhere, here]: &[Bucket; 2], kill: impl FnOnce()) {
    for (operation, error) in refusals(nowhere).await {
        assert!(matches!(error, StoreError::Broken { .. }), "{operation}: {error:?}");
    }
    assert!(here.get(&key("a")).await.unwrap_err().is_not_found());
    kill();
    for (operation, error) in refusals(here).await {
        assert!(error.is_passing(), "{operation}, and the server is down: {error:?}");
    }
}

/// What each operation says of a store where none can succeed.
async fn refusals(store: &Bucket) -> [(&'static str, StoreError); 6] {
    let put = match store.put_new(&key("a"), Body::default()).await {
        Err(PutError::Store(error)) => error,
        outcome => panic!("put_new: {outcome:?}"),
    };
    [
        ("put_new", put),
        ("get", store.get(&key("a")).await.unwrap_err()),
        ("get_range", store.get_range(&key("a"), 0..1).await.unwrap_err()),
        ("head", store.head(&key("a")).await.unwrap_err()),
        ("list", store.list("a", None).await.unwrap_err()),
        ("delete", store.delete(&key("a")).await.unwrap_err()),
    ]
}

#[tokio::test]
async fn behaviour_2_leftovers_of_dead_writers_do_no_harm() {
    let (dir, store) = folder().await;
    let temporary = dir.path().join("vault/.tmp");
    for name in ["1-0-0", "half-written"] {
        std::fs::write(temporary.join(name), b"half").unwrap();
    }
    store.put_new(&key("a/b"), Body::from(b"whole".to_vec())).await.unwrap();
    assert_eq!(store.get(&key("a/b")).await.unwrap(), "whole");
    let listed = store.list("", None).await.unwrap().objects;
    assert_eq!(listed.iter().map(|head| head.key.as_str()).collect::<Vec<_>>(), ["a/b", "vault.json"]);
}

#[tokio::test]
async fn an_unmounted_vault_is_an_error_and_never_an_absent_object() {
    let (dir, store) = folder().await;
    assert!(store.get(&key("wal")).await.unwrap_err().is_not_found());
    // The mount point stays, what was mounted there is gone.
    std::fs::rename(dir.path().join("vault"), dir.path().join("elsewhere")).unwrap();
    std::fs::create_dir(dir.path().join("vault")).unwrap();
    for gone in [false, true] {
        if gone {
            std::fs::remove_dir(dir.path().join("vault")).unwrap();
        }
        for error in [store.get(&key("wal")).await.unwrap_err(), store.head(&key("wal")).await.unwrap_err()] {
            assert!(!error.is_not_found(), "{error:?}");
        }
        assert!(store.list("wal", None).await.is_err());
    }
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_says_so() {
    let (dir, store) = folder().await;
    std::fs::set_permissions(dir.path().join("vault/.tmp"), std::fs::Permissions::from_mode(0o500)).unwrap();
    let outcome = store.put_new(&key("a"), Body::default()).await;
    match std::fs::write(dir.path().join("vault/.tmp/probe"), b"") {
        Ok(()) => println!("skipped: this user may write anywhere"),
        Err(_) => assert!(matches!(outcome, Err(PutError::Store(StoreError::Denied { .. }))), "{outcome:?}"),
    }
}
