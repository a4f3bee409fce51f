//! Restoring over what is there: the end is the point, whatever was there, and what is right is not fetched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use strongroom_model::Cx;
use strongroom_model::point::Summary;
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, ToyEngine, ToyTarget, world as surroundings};
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};
use strongroom_vault::Vault;
use world::{create, keys, open, restore_into, take};

const PAGE: usize = 8192;

/// A vault with a point of these files and one child of it, in which every third page differs.
async fn scene(cx: &Cx, files: Files) -> (Arc<SimStore>, Arc<Vault>, Summary, Files) {
    let (store, keys) = (Arc::new(SimStore::default()), keys());
    create(cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let mut engine = ToyEngine::new(42, files);
    take(cx, &vault, &engine).await.unwrap();
    for content in engine.files.values_mut() {
        content.chunks_mut(PAGE).step_by(3).for_each(|page| page[0] ^= 0x80);
    }
    let point = take(cx, &vault, &engine).await.unwrap();
    (store, vault, point, engine.expected())
}

/// Forty pages that no two are alike, some zeros between, and a short one at the end.
fn pages() -> Files {
    let noise = |page: usize| (0..PAGE).map(move |at| (at * 31 + page * 7) as u8 ^ (at >> 5) as u8);
    let mut content: Vec<u8> = (0..40).flat_map(noise).collect();
    content[5 * PAGE + 1..6 * PAGE].fill(0);
    content[10 * PAGE..14 * PAGE].fill(0);
    content.truncate(40 * PAGE - 100);
    BTreeMap::from([("a".to_owned(), content), ("b".to_owned(), vec![0; 3 * PAGE]), ("c".to_owned(), vec![])])
}

/// What was there, and how many of the bytes are right.
fn before(expected: &Files) -> Vec<(&'static str, Files)> {
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = expected.clone();
        files.values_mut().for_each(change);
        files
    };
    vec![
        ("as it is", expected.clone()),
        ("nothing", Files::new()),
        ("zeros", changed(&|content| content.fill(0))),
        ("other content", changed(&|content| content.fill(9))),
        (
            "one bit",
            changed(&|content| content.iter_mut().skip(20 * PAGE).take(1).for_each(|byte| *byte ^= 1)),
        ),
        ("the last byte", changed(&|content| content.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1))),
        ("cut within a page", changed(&|content| content.truncate(PAGE * 7 + 5))),
        ("cut at a page", changed(&|content| content.truncate(PAGE * 7))),
        ("grown", changed(&|content| content.extend_from_slice(&[7; 3 * PAGE]))),
        (
            "pages that changed places",
            changed(&|content| {
                if content.len() > 4 * PAGE {
                    content.rotate_left(PAGE);
                }
            }),
        ),
        (
            "of its parent",
            changed(&|content| {
                content.chunks_mut(PAGE).step_by(3).for_each(|page| page[0] ^= 0x80);
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_there_it_ends_as_the_point() {
    let cx = surroundings(1);
    let (_, vault, point, expected) = scene(&cx, pages()).await;
    let vaults = [vault];
    let (fresh, from_nothing) =
        restore_into(&cx, &vaults, &point, ToyTarget::default(), false).await.unwrap();
    assert_eq!((fresh, from_nothing.unchanged), (expected.clone(), 0));
    let bytes: usize = expected.values().map(Vec::len).sum();
    for (case, files) in before(&expected) {
        let target = ToyTarget::over(files);
        let (files, restored) = restore_into(&cx, &vaults, &point, target, false).await.unwrap();
        assert!(files == expected, "{case}");
        assert!(restored.fetched <= from_nothing.fetched, "{case}: {} fetched", restored.fetched);
        if case == "as it is" {
            assert_eq!(restored.unchanged, bytes as u64, "{case}");
            // The footers only, and those read from the packs' ends.
            let again = restore_into(&cx, &vaults, &point, ToyTarget::over(files), false).await.unwrap().1;
            assert_eq!(again.fetched, restored.fetched);
        }
        if case == "one bit" {
            assert_eq!(restored.unchanged, (bytes - PAGE) as u64, "{case}");
        }
    }
}

/// The first stored page's frame in every pack is damaged: what is there and right needs no vault.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_in_the_folder_is_not_lost_with_the_vaults_copy() {
    let cx = surroundings(2);
    let (store, vault, point, expected) = scene(&cx, pages()).await;
    // Of the smallest, of the late file only, that byte is the footer's.
    let is_large = |key: &Key, size: usize| key.as_str().contains("/packs/") && size > 4096;
    let packs: Vec<_> =
        store.objects().into_iter().filter(|(key, object)| is_large(key, object.len())).collect();
    assert_eq!(packs.len(), 2, "the point's and its parent's");
    for (key, object) in packs {
        let mut damaged = object.to_vec();
        damaged[100] ^= 1;
        store.tamper(&key, damaged.into());
    }
    let vaults = [vault];
    assert!(restore_into(&cx, &vaults, &point, ToyTarget::default(), false).await.is_err());
    let target = ToyTarget::over(expected.clone());
    let (files, restored) = restore_into(&cx, &vaults, &point, target, false).await.unwrap();
    assert!(files == expected && restored.lost.is_empty());

    // What is wrong there and lost in the vault becomes zeros, as in an empty folder, and is named.
    let mut wrong = expected.clone();
    wrong.values_mut().for_each(|content| content.fill(9));
    let (over, lost_over) = restore_into(&cx, &vaults, &point, ToyTarget::over(wrong), true).await.unwrap();
    let (fresh, lost) = restore_into(&cx, &vaults, &point, ToyTarget::default(), true).await.unwrap();
    assert!(!lost.lost.is_empty());
    assert_eq!(lost_over.lost, lost.lost);
    assert!(over == fresh, "a page that is lost is zeros, not what was there");
}

/// A distant store: it answers only once others had their turn, and remembers how many waited at a time.
#[derive(Debug)]
struct Distant {
    near: Arc<SimStore>,
    waiting: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Distant {
    fn place(&self) -> String {
        self.near.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        self.near.put_new(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.near.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.most.fetch_max(1 + self.waiting.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.near.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.near.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        self.near.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.near.delete(key).await
    }
}

/// What differs lies scattered: a store that is far away is asked for many small ranges at a time, and they still come in
/// their order.
#[tokio::test(flavor = "multi_thread")]
async fn small_ranges_are_under_way_together() {
    let (cx, keys) = (surroundings(3), keys());
    let near = Arc::new(SimStore::default());
    create(&cx, &near, &keys).await.unwrap();
    // Bytes that do not compress, so that the pages to be fetched lie far apart.
    let mut content = vec![0; 8 << 20];
    content.as_chunks_mut::<32>().0.iter_mut().for_each(|part| *part = cx.random());
    let files = BTreeMap::from([("a".to_owned(), content)]);
    let vault = open(&near, &keys).await.unwrap();
    let point = take(&cx, &vault, &ToyEngine::new(42, files.clone())).await.unwrap();
    let expected = ToyEngine::new(42, files).expected();

    let distant = Arc::new(Distant { near, waiting: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let vault = Arc::new(Vault::open(distant.clone(), &keys.unlock).await.unwrap());
    let mut wrong = expected.clone();
    wrong.values_mut().for_each(|content| {
        content.chunks_mut(PAGE).step_by(40).for_each(|page| page[0] ^= 1);
    });
    let (files, restored) = restore_into(&cx, &[vault], &point, ToyTarget::over(wrong), false).await.unwrap();
    assert!(files == expected);
    assert!(restored.fetched < 5 << 20, "{} fetched", restored.fetched);
    let most = distant.most.load(Ordering::SeqCst);
    assert!((8..=16).contains(&most), "{most} requests at a time");
}
