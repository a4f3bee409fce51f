//! Files that vanish and shrink, lineages that must not mix, journals that must not differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_model::point::PointState;
use strongroom_model::{SegmentSize, SystemId, Timeline, WalFile, WalSegment};
use strongroom_ops::OpsError;
use strongroom_ops::backup::backup;
use strongroom_ops::lineage::NewLineage;
use strongroom_sim::{SimStore, ToyEngine, world as surroundings};
use strongroom_vault::journal::JournalFacts;
use strongroom_vault::{Vault, VaultError};
use world::{create, files, keys, open, request, restore, ship, source, take, toy};

async fn vault(seed: u64) -> (strongroom_model::Cx, Arc<Vault>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    (cx, open(&store, &keys).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_18_files_vanish_and_shrink_while_they_are_copied() {
    let (cx, vault) = vault(1).await;
    let mut engine = toy();
    engine.vanishing = vec!["big".into(), "small03".into()];
    engine.shrinking = [("hole".into(), 8192 * 4 + 100), ("short".into(), 0)].into();
    let point = take(&cx, &vault, &engine).await.unwrap();
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), engine.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files_are_restored_with_few_open_at_a_time() {
    let (cx, vault) = vault(8).await;
    let mut engine = toy();
    engine.files.extend((0..1500).map(|n| (format!("many{n:04}"), n.to_string().into_bytes())));
    let point = take(&cx, &vault, &engine).await.unwrap();
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), engine.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_without_its_journal_is_not_committed() {
    let (cx, vault) = vault(2).await;
    let error = backup(&cx, &vault, &toy(), &request()).await.unwrap_err();
    assert!(matches!(error, OpsError::JournalMissing { .. }), "{error}");
    let points = vault.points(&source()).await.unwrap();
    assert!(matches!(points[0].state, PointState::Abandoned { .. }), "{points:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_28_another_cluster_under_the_same_name_is_refused_until_accepted() {
    let (cx, vault) = vault(3).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let other = ToyEngine::new(43, files(9));
    assert!(matches!(ship(&cx, &vault, &other).await, Err(OpsError::OtherLineage { .. })));
    let refused = backup(&cx, &vault, &other, &request()).await;
    assert!(matches!(
        refused,
        Err(OpsError::OtherLineage { registered: SystemId(42), found: SystemId(43), .. })
    ));
    let accepting = strongroom_ops::backup::BackupRequest { new_lineage: NewLineage::Accept, ..request() };
    // Accepted, but its journal is not there yet; from now on it can be shipped, and the old one's still can.
    assert!(matches!(backup(&cx, &vault, &other, &accepting).await, Err(OpsError::JournalMissing { .. })));
    ship(&cx, &vault, &other).await.unwrap();
    ship(&cx, &vault, &toy()).await.unwrap();
    let point = backup(&cx, &vault, &other, &request()).await.unwrap();
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), other.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_1_the_same_name_takes_the_same_bytes_and_no_others() {
    use strongroom_ops::wal_push::{WalInput, wal_push};
    use strongroom_vault::journal::Shipped;
    use strongroom_vault::lineage::Lineage;
    let (cx, vault) = vault(4).await;
    let lineage = Lineage {
        system_id: SystemId(42),
        segment_size: SegmentSize::DEFAULT,
        product: "Toy".into(),
        registered_at: cx.now(),
    };
    let push = async |content: Vec<u8>| {
        let file = WalFile::parse("000000010000000000000001").unwrap();
        wal_push(
            &cx,
            &vault,
            &source(),
            &WalInput { file, content, lineage: lineage.clone(), transactions: None },
        )
        .await
    };
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at >> 3) as u8).collect();
    assert!(matches!(push(content.clone()).await, Ok(Shipped::Stored { .. })));
    assert!(matches!(push(content.clone()).await, Ok(Shipped::AlreadyThere)));
    for wrong in [vec![], content[1..].to_vec(), [&content[..], &[0]].concat()] {
        assert!(matches!(push(wrong).await, Err(OpsError::Vault(VaultError::JournalDiffers { .. }))));
    }
    let file = WalFile::parse("000000010000000000000001").unwrap();
    let (_, there) = vault.fetch(&source(), SystemId(42), file).await.unwrap().unwrap();
    assert_eq!(there, content);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_clusters_that_race_for_a_name_one_wins() {
    let (cx, vault) = vault(5).await;
    let (one, two) = (toy(), ToyEngine::new(43, files(9)));
    let (first, second) = tokio::join!(ship(&cx, &vault, &one), ship(&cx, &vault, &two));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

/// What a store's own hold is put on, and what is thawed: all that a restore reads of the point, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn the_objects_of_a_point_are_those_that_its_restore_needs() {
    let (cx, vault) = vault(6).await;
    let engine = |segment: u64| {
        let mut engine = ToyEngine { segment, ..toy() };
        engine.files.insert("short".into(), vec![segment as u8; 40]);
        engine
    };
    let mut points = Vec::new();
    for segment in [1, 2, 3] {
        points.push(take(&cx, &vault, &engine(segment)).await.unwrap());
    }
    for name in ["00000001.history", "00000002.history", "000000010000000000000002.partial"] {
        let file = WalFile::parse(name).unwrap();
        let facts = JournalFacts { name: name.into(), size: 4, shipped_at: cx.now(), transactions: None };
        vault.ship(&cx, &source(), SystemId(42), (file, &facts), b"some").await.unwrap();
    }
    let objects = vault.objects_of(&source(), &points[1].point).await.unwrap();
    let own = objects.iter().filter(|key| key.as_str().contains(&points[1].point.to_string()));
    let mut parts: Vec<&str> = own.clone().map(|key| key.last_segment()).collect();
    parts.retain(|part| !part.contains('-'));
    assert_eq!(parts, ["intent", "manifest", "decision"]);
    let others = objects.iter().filter(|key| key.as_str().contains("/points/")).count() - own.count();
    assert_eq!(others, 1, "the first point's pack: {objects:?}");
    let wal = objects.iter().filter(|key| key.as_str().contains("/wal/"));
    let wal: Vec<&str> = wal.map(|key| key.last_segment()).collect();
    assert_eq!(wal, ["00000001.history", "000000010000000000000002"]);

    let absent = vault.objects_of(&source(), &"20261120T120000Z-1f2e3d4c".parse().unwrap()).await;
    assert!(matches!(absent, Err(VaultError::NoSuchPoint { .. })), "{absent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_whose_facts_are_anothers_is_not_given_out() {
    let (cx, vault) = vault(7).await;
    for (number, name, size) in [(1, "000000010000000000000001", 5), (2, "000000010000000000000009", 4)] {
        let file = WalFile::Segment(WalSegment::numbered(Timeline::FIRST, number, SegmentSize::DEFAULT));
        let facts = JournalFacts { name: name.into(), size, shipped_at: cx.now(), transactions: None };
        vault.ship(&cx, &source(), SystemId(42), (file, &facts), b"some").await.unwrap();
        let fetched = vault.fetch(&source(), SystemId(42), file).await;
        assert!(matches!(fetched, Err(VaultError::Damaged { .. })), "{fetched:?}");
    }
}
