//! What a commit believes: nothing but what the store gives back.
//!
//! The faults of `faults.rs` are those of stores that fail. Here a store acknowledges what it did not do, or did otherwise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_codec::keys::{Keyring, VaultKey};
use strongroom_codec::manifest::ManifestReader;
use strongroom_codec::stream::StreamScope;
use strongroom_model::point::Summary;
use strongroom_model::{Cx, PointId};
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_sim::{SimStore, ToyEngine, world as surroundings};
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::{Suite, Unlock, Vault, VaultError};
use world::{request, restore, ship, source, take, toy};

/// What a store does with the objects it lies about.
#[derive(Clone, Debug)]
enum Lie {
    /// Acknowledges them and keeps none.
    Forgets,
    /// Acknowledges them and keeps all but the last byte.
    Cuts,
    /// Acknowledges them and keeps these bytes instead.
    Keeps(Bytes),
    /// Keeps them, and does not answer how long they are.
    IsSilent,
}

/// A store that lies about objects whose keys contain `about`.
#[derive(Debug)]
struct Liar {
    store: Arc<SimStore>,
    about: &'static str,
    lie: Lie,
}

#[async_trait::async_trait]
impl Store for Liar {
    fn place(&self) -> String {
        self.store.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let bytes: Bytes = body.parts().concat().into();
        let kept = match &self.lie {
            lie if !key.as_str().contains(self.about) || matches!(lie, Lie::IsSilent) => bytes,
            Lie::Cuts => bytes.slice(..bytes.len() - 1),
            Lie::Keeps(instead) => instead.clone(),
            _ => return Ok(()),
        };
        self.store.put_new(key, kept.into()).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.store.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        if key.as_str().contains(self.about) && matches!(self.lie, Lie::IsSilent) {
            let (key, source) = (key.to_string(), std::io::Error::other("silent").into());
            return Err(StoreError::Passing { operation: "read", key, place: self.place(), source });
        }
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        self.store.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

async fn open(store: Arc<dyn Store>) -> Arc<Vault> {
    Arc::new(Vault::open(store, &Unlock::default()).await.unwrap())
}

/// A vault with the WAL of a backup of the toy, and nothing else.
async fn prepared() -> BTreeMap<Key, Bytes> {
    let (cx, store) = (surroundings(1), Arc::new(SimStore::default()));
    Vault::create(&cx, store.clone(), Suite::Plain, &[], "test").await.unwrap();
    ship(&cx, &*open(store.clone()).await, &toy()).await.unwrap();
    store.objects()
}

async fn back_up(store: Arc<dyn Store>, engine: &ToyEngine) -> Result<Summary, OpsError> {
    backup(&surroundings(2), &open(store).await, engine, &request()).await
}

async fn is_listed(store: &Arc<SimStore>) -> bool {
    open(store.clone()).await.points(&source()).await.unwrap().iter().any(|row| row.restorable().is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_lost_or_cut_is_found_out_before_the_decision() {
    for about in ["/packs/", "/manifest"] {
        for lie in [Lie::Forgets, Lie::Cuts] {
            let store = Arc::new(SimStore::holding(prepared().await));
            let liar = Liar { store: store.clone(), about, lie: lie.clone() };
            let error = back_up(Arc::new(liar), &toy()).await.unwrap_err();
            let found = match (&lie, &error) {
                (Lie::Forgets, OpsError::Vault(VaultError::Missing { key, .. })) => key,
                (Lie::Cuts, OpsError::Vault(VaultError::Damaged { key, .. })) => key,
                _ => panic!("{lie:?} {about}: {error}"),
            };
            assert!(found.contains(about), "{found}");
            assert!(!store.objects().keys().any(|key| key.last_segment() == "decision"), "{lie:?} {about}");
        }
    }
}

/// That it is lost, only the store says with authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_has_lost_nothing() {
    let store = Arc::new(SimStore::holding(prepared().await));
    let liar = Liar { store: store.clone(), about: "/manifest", lie: Lie::IsSilent };
    let error = back_up(Arc::new(liar), &toy()).await.unwrap_err();
    assert!(matches!(error, OpsError::Vault(VaultError::Store(StoreError::Passing { .. }))), "{error}");
    assert!(!is_listed(&store).await);
}

fn changed(n: u8) -> ToyEngine {
    let mut engine = toy();
    engine.files.get_mut("big").unwrap()[..100].fill(n);
    engine
}

fn part(point: &PointId, name: &str) -> Key {
    Key::new(format!("sources/toy/points/{point}/{name}")).unwrap()
}

/// Two histories of one vault, as after a split: the same point of the same surroundings, with other content.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_history_says_of_a_point_is_not_taken_for_our_own() {
    let (mine, prepared) = (Arc::new(SimStore::default()), prepared().await);
    prepared.iter().for_each(|(key, object)| mine.tamper(key, object.clone()));
    let point = back_up(mine.clone(), &toy()).await.unwrap();
    let (decision, manifest) = (part(&point.point, "decision"), part(&point.point, "manifest"));
    let mut of_one_length = 0;
    for n in 0..30 {
        let theirs = Arc::new(SimStore::holding(prepared.clone()));
        assert_eq!(back_up(theirs.clone(), &changed(n)).await.unwrap().point, point.point);
        let theirs = theirs.objects();
        assert_ne!(theirs[&decision], mine.objects()[&decision]);

        // Their decision lies where ours was acknowledged.
        let store = Arc::new(SimStore::holding(prepared.clone()));
        let lie = Lie::Keeps(theirs[&decision].clone());
        let error = back_up(Arc::new(Liar { store, about: "/decision", lie }), &toy()).await.unwrap_err();
        assert!(error.to_string().contains(decision.as_str()), "{error}");

        // Their manifest lies under our decision.
        let store = Arc::new(SimStore::holding(mine.objects()));
        of_one_length += u32::from(theirs[&manifest].len() == mine.objects()[&manifest].len());
        store.tamper(&manifest, theirs[&manifest].clone());
        let opened = open(store).await.open_point(&source(), &point.point).await;
        assert!(matches!(opened, Err(VaultError::Damaged { .. })), "manifest {n} of another history opened");
    }
    assert!(of_one_length > 0, "that none was as long as ours was enough to tell them apart");
}

/// The owners that a point's manifest holds keys of.
fn owners(store: &SimStore, vault: &Vault, point: &Summary) -> Vec<PointId> {
    let keys = Keyring::whole(Suite::Plain, VaultKey::public());
    let (path, objects) = (part(&point.point, "manifest"), store.objects());
    let scope =
        StreamScope { suite: vault.suite(), key: keys.append_key(), vault: vault.id(), path: path.as_str() };
    let reader = ManifestReader::new(scope, &objects[&path]).unwrap();
    reader.owners().iter().map(|(owner, _)| owner.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_counts_what_was_stored_and_a_manifest_holds_only_the_keys_it_needs() {
    let cx: Cx = surroundings(3);
    let store = Arc::new(SimStore::holding(prepared().await));
    let vault = open(store.clone()).await;
    let first = take(&cx, &vault, &toy()).await.unwrap();
    let second = take(&cx, &vault, &changed(1)).await.unwrap();
    let upload = UploadOptions { rebase_after: std::time::Duration::ZERO, ..request().upload };
    let afresh = backup(&cx, &vault, &toy(), &BackupRequest { upload, ..request() }).await.unwrap();
    assert_eq!(owners(&store, &vault, &first), std::slice::from_ref(&first.point));
    assert_eq!(owners(&store, &vault, &second), [second.point.clone(), first.point.clone()]);
    assert_eq!(afresh.parent.as_ref(), Some(&second.point));
    assert_eq!(owners(&store, &vault, &afresh), std::slice::from_ref(&afresh.point));

    for point in [&first, &second, &afresh] {
        let folder = format!("sources/toy/points/{}/", point.point);
        let own = |key: &Key| key.as_str().contains("/packs/") || key.last_segment() == "manifest";
        let objects = store.objects();
        let of_point = objects.iter().filter(|(key, _)| key.as_str().starts_with(&folder) && own(key));
        assert_eq!(point.stored, of_point.map(|(_, object)| object.len() as u64).sum::<u64>());
        assert_eq!(point.bytes, toy().expected().values().map(|file| file.len() as u64).sum::<u64>());
        restore(&cx, &vault, point).await.unwrap();
    }
    let rows: Vec<PointRow> = vault.points(&source()).await.unwrap();
    assert_eq!(rows.iter().filter_map(PointRow::restorable).count(), 3);
}
