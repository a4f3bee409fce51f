//! Dumps: what was dumped is restored byte for byte, what did not change is not stored again, and what cannot be had is named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::point::Summary;
use strongroom_model::restore_plan::PlanError;
use strongroom_model::retention::Retention;
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_model::{Cx, PointId, WalFile};
use strongroom_ops::OpsError;
use strongroom_ops::backup::backup;
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::dump::DumpRequest;
use strongroom_ops::hand::Hand;
use strongroom_ops::list::{list, show};
use strongroom_ops::repair::repair;
use strongroom_ops::restore_dump::choose;
use strongroom_ops::status::status;
use strongroom_ops::verify::verify;
use strongroom_ops::wal_fetch::wal_fetch;
use strongroom_ops::wal_status::wal_status;
use strongroom_sim::{SimStore, ToyDatabase, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::copy::{CopyOptions, Copying};
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Vault, VaultError};
use world::dumps::{dump, dump_with, dumping, load, load_into, rows, small, toy};
use world::{create, keys, open, ship, source, verification};

async fn vault(seed: u64) -> (Cx, Arc<Vault>, Arc<SimStore>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    (cx, open(&store, &keys).await.unwrap(), store)
}

async fn packed(store: &SimStore, point: &Summary) -> u64 {
    let folder = format!("sources/{}/points/{}/packs", point.source, point.point);
    store.list(&folder, None).await.unwrap().objects.iter().map(|pack| pack.size).sum()
}

fn immediate() -> RestoreRequest {
    RestoreRequest {
        target: RecoveryTarget::Immediate,
        inclusive: true,
        timeline: TimelineChoice::Latest,
        action: TargetAction::Promote,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restores_byte_for_byte_whatever_its_parts_and_pieces() {
    for (seed, (workers, piece)) in (0..).zip([(1, 1), (1, 8192), (2, 100), (3, 1 << 20), (9, 65_536)]) {
        let (cx, vault, _) = vault(seed).await;
        let mut engine = toy(1);
        if piece == 1 {
            engine.parts.retain(|name, _| name != "orders");
        }
        engine.piece = piece;
        let request = DumpRequest { workers, ..dumping() };
        let point = dump_with(&cx, &vault, &engine, &request).await.unwrap();
        assert_eq!(point.entries as usize, engine.parts.len());
        assert_eq!(point.bytes, engine.parts.values().map(|part| part.len() as u64).sum::<u64>());
        assert_eq!((point.journal, point.started_at), (None, point.stopped_at));
        assert_eq!(load(&cx, &vault, &point).await.unwrap(), engine.parts, "{workers} workers, {piece}");
        let verdict = verify(&cx, &vault, &verification(Some(source()), Depth::Pages)).await.unwrap();
        assert!(verdict.points.iter().all(|point| point.damage.is_empty()), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_dump_stores_its_changes() {
    let (cx, vault, store) = vault(10).await;
    let mut engine = toy(1);
    let first = dump(&cx, &vault, &engine).await.unwrap();
    let same = dump(&cx, &vault, &engine).await.unwrap();
    assert_eq!((same.parent.as_ref(), packed(&store, &same).await), (Some(&first.point), 0));
    assert_eq!(load(&cx, &vault, &same).await.unwrap(), engine.parts);
    // A hundredth of the rows, in stretches of a hundred; and rows that were not there before, in front of all others.
    let changed: Vec<u64> = (0..40_000).filter(|row| row % 10_000 < 100).collect();
    engine.parts.insert("orders".into(), rows(0..40_000, &changed));
    let mut longer = rows(50_000..50_003, &[]);
    longer.extend_from_slice(&engine.parts["items"]);
    engine.parts.insert("items".into(), longer);
    let third = dump(&cx, &vault, &engine).await.unwrap();
    assert_eq!(load(&cx, &vault, &third).await.unwrap(), engine.parts);
    let (all, new) = (packed(&store, &first).await, packed(&store, &third).await);
    assert!(new > 0 && new * 10 <= all, "{new} bytes were packed, and {all} the first time");
    // Each restores on its own.
    assert_eq!(load(&cx, &vault, &first).await.unwrap(), toy(1).parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_taken_afresh_and_one_whose_parent_is_old_share_nothing() {
    let (cx, vault, _) = vault(11).await;
    dump(&cx, &vault, &toy(1)).await.unwrap();
    let afresh = DumpRequest { afresh: true, ..dumping() };
    let upload = UploadOptions { rebase_after: Duration::ZERO, ..dumping().upload };
    for request in [afresh, DumpRequest { upload, ..dumping() }] {
        let point = dump_with(&cx, &vault, &toy(1), &request).await.unwrap();
        let opened = vault.open_point(&point.source, &point.point).await.unwrap();
        assert!(opened.packs().all().iter().all(|pack| pack.owner == point.point));
        assert_eq!(load(&cx, &vault, &point).await.unwrap(), toy(1).parts);
    }
}

/// Ever other rows change: what a restore would have to read for the few that stay is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_many_dumps_wrote_is_stored_afresh() {
    let (cx, vault, _) = vault(12).await;
    let (mut engine, mut most) = (toy(1), 0);
    for n in 0..30u64 {
        let changed: Vec<u64> = (0..40_000).filter(|row| row % 1000 < 40 * n).collect();
        engine.parts.insert("orders".into(), rows(0..40_000, &changed));
        let point = dump(&cx, &vault, &engine).await.unwrap();
        assert_eq!(load(&cx, &vault, &point).await.unwrap(), engine.parts, "dump {n}");
        let opened = vault.open_point(&point.source, &point.point).await.unwrap();
        most = most.max(opened.packs().all().len());
    }
    assert!((3..20).contains(&most), "a dump refers to {most} packs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_leaves_no_point() {
    let (cx, vault, _) = vault(13).await;
    for (pieces, workers) in [(0, 1), (3, 1), (40, 3)] {
        let mut engine = toy(1);
        engine.breaks_after = Some(pieces);
        let error = dump_with(&cx, &vault, &engine, &DumpRequest { workers, ..dumping() }).await.unwrap_err();
        assert!(matches!(error, OpsError::Engine(EngineError::Unreachable { .. })), "{error}");
    }
    let cancelled = surroundings(14);
    cancelled.cancel();
    assert!(matches!(dump(&cancelled, &vault, &toy(1)).await, Err(OpsError::Cancelled(_))));
    assert!(vault.points(&source()).await.unwrap().iter().all(|row| row.restorable().is_none()));
    assert_eq!(load(&cx, &vault, &dump(&cx, &vault, &toy(1)).await.unwrap()).await.unwrap(), toy(1).parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_leaves_nothing_under_the_name() {
    let (cx, vault, store) = vault(15).await;
    let point = dump(&cx, &vault, &toy(1)).await.unwrap();
    let lacking = ToyDatabase::only(&["orders", "nowhere"]);
    let error = load_into(&cx, slice::from_ref(&vault), &point, &lacking).await.unwrap_err();
    assert!(matches!(&error, OpsError::PartMissing { part, .. } if part.is("nowhere")), "{error}");
    let breaking = ToyDatabase::breaking_after(2);
    let error = load_into(&cx, slice::from_ref(&vault), &point, &breaking).await.unwrap_err();
    assert!(error.to_string().contains("the toy takes no more"), "{error}");
    // One table of many: nothing else is fetched.
    let one = ToyDatabase::only(&["tiny"]);
    let restored = load_into(&cx, slice::from_ref(&vault), &point, &one).await.unwrap();
    assert_eq!(one.parts().unwrap()["tiny"], toy(1).parts["tiny"]);
    assert!(restored.fetched < point.stored, "{} of {}", restored.fetched, point.stored);
    // A flipped bit in a frame: named, and nothing of it is left.
    let opened = vault.open_point(&source(), &point.point).await.unwrap();
    let pack = &opened.packs().all()[0];
    let folder = format!("sources/toy/points/{}/packs", pack.owner);
    let key = store.list(&folder, None).await.unwrap().objects[0].key.clone();
    let mut object = store.objects()[&key].to_vec();
    object[100] ^= 1;
    store.tamper(&key, object.into());
    let target = ToyDatabase::default();
    let error = load_into(&cx, slice::from_ref(&vault), &point, &target).await.unwrap_err();
    assert!(
        matches!(&error, OpsError::Vault(VaultError::Damaged { why, .. }) if why.contains("stream ")),
        "{error}"
    );
    assert_eq!((lacking.parts(), breaking.parts(), target.parts()), (None, None, None));
    let verdict = verify(&cx, &vault, &verification(Some(source()), Depth::Data)).await.unwrap();
    assert_eq!(verdict.points[0].damage[0].lost.len(), 1, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_helps_out_and_gets_dumps_like_any_point() {
    let (cx, keys) = (surroundings(16), keys());
    let (here, there) = (Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    create(&cx, &here, &keys).await.unwrap();
    let vault = open(&here, &keys).await.unwrap();
    let replica = Arc::new(vault.replicate(&cx, there.clone(), &[], "test").await.unwrap());
    let first = dump(&cx, &vault, &toy(1)).await.unwrap();
    let second = dump(&cx, &vault, &toy(2)).await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let copying = Copying::new(vault.clone(), replica.clone(), options).unwrap();
    for point in [&first, &second] {
        copying.point(&cx, &source(), &point.point).await.unwrap();
        assert_eq!(load(&cx, &replica, point).await.unwrap(), toy(if point == &first { 1 } else { 2 }).parts);
    }
    // Rot in one pack, the other gone: the replica has both.
    let packs: Vec<Key> =
        here.objects().keys().filter(|key| key.as_str().contains("/packs/")).cloned().collect();
    let mut object = here.objects()[&packs[0]].to_vec();
    object[100] ^= 1;
    here.tamper(&packs[0], object.into());
    here.delete(&packs[1]).await.unwrap();
    let target = ToyDatabase::default();
    let restored = load_into(&cx, &[vault.clone(), replica], &second, &target).await.unwrap();
    assert_eq!(target.parts().unwrap(), toy(2).parts);
    assert_eq!(restored.from_replicas.values().sum::<usize>(), 2, "{restored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_damaged_is_mended_from_a_replica() {
    let (cx, keys) = (surroundings(22), keys());
    let (here, there) = (Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    create(&cx, &here, &keys).await.unwrap();
    let vault = open(&here, &keys).await.unwrap();
    let points = [small(1), small(2)];
    let mut summaries = Vec::new();
    for engine in &points {
        summaries.push(dump(&cx, &vault, engine).await.unwrap());
    }
    vault.replicate(&cx, there.clone(), &[], "test").await.unwrap();
    let replica = open(&there, &keys).await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let request = CopyRequest { source: None, choice: Choice::All, options };
    assert!(copy(&cx, &vault, &replica, &request).await.unwrap().is_complete());
    let is_of_points = |key: &Key| key.as_str().contains("/packs/") || key.as_str().ends_with("/manifest");
    for (key, object) in here.objects().into_iter().filter(|(key, _)| is_of_points(key)) {
        let mut flipped = object.to_vec();
        flipped[object.len() / 2] ^= 1;
        here.tamper(&key, flipped.into());
        let request = verification(None, Depth::Data);
        let mut verdict = verify(&cx, &vault, &request).await.unwrap();
        assert!(!verdict.sound, "{key} was spoiled, and nobody saw it");
        repair(&cx, (&vault, &replica), (&mut verdict, &request), true).await.unwrap();
        for (summary, engine) in summaries.iter().zip(&points) {
            assert_eq!(load(&cx, &vault, summary).await.unwrap(), engine.parts, "after {key}");
        }
    }
    let verdict = verify(&cx, &vault, &verification(None, Depth::Pages)).await.unwrap();
    assert!(verdict.sound, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dumps_at_once_are_two_points() {
    let (cx, vault, _) = vault(17).await;
    dump(&cx, &vault, &toy(1)).await.unwrap();
    let (two, three) = (toy(2), toy(3));
    let (second, third) = tokio::join!(dump(&cx, &vault, &two), dump(&cx, &vault, &three));
    assert_eq!(load(&cx, &vault, &second.unwrap()).await.unwrap(), toy(2).parts);
    assert_eq!(load(&cx, &vault, &third.unwrap()).await.unwrap(), toy(3).parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_points_shows_dumps_without_a_journal() {
    let (cx, vault, _) = vault(18).await;
    let point = dump(&cx, &vault, &toy(1)).await.unwrap();
    let listing = list(&vault, None).await.unwrap().remove(0);
    assert!(listing.points[0].restorable().is_some() && listing.windows.is_empty());
    let view = show(&vault, &point.point).await.unwrap();
    assert_eq!((view.wal, view.streams.len()), (None, toy(1).parts.len()));
    let status = status(&cx, &vault, None).await.unwrap().remove(0);
    assert!(status.dumped && status.problems.is_empty(), "{status:?}");
    assert_eq!((status.recoverable_to, status.journal_age_s), (Some(point.stopped_at), None));
    let objects = vault.objects_of(&source(), &point.point).await.unwrap();
    assert_eq!(objects.len(), 3 + point.packs as usize);
    // It is not mentioned where there is none: builds before dumps knew no other points.
    assert!(!serde_json::to_string(&point).unwrap().contains("journal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_takes_no_wal_and_is_no_folder() {
    let (cx, vault, _) = vault(19).await;
    let point = dump(&cx, &vault, &toy(1)).await.unwrap();
    let refused = |error: OpsError| assert!(matches!(error, OpsError::Dumped { .. }), "{error}");
    refused(ship(&cx, &vault, &world::toy()).await.unwrap_err());
    refused(backup(&cx, &vault, &world::toy(), &world::request()).await.unwrap_err());
    refused(wal_status(&cx, &vault, &source()).await.unwrap_err());
    let file = WalFile::parse("000000010000000000000001").unwrap();
    refused(wal_fetch(&vault, &source(), None, file).await.unwrap_err());
    for only in [None, Some(&point.point)] {
        let plan = strongroom_ops::restore::plan(&vault, &source(), &immediate(), only).await;
        assert!(matches!(plan, Err(OpsError::Plan(PlanError::Dump(_)))), "{plan:?}");
    }
    let export = strongroom_ops::export::plan(&vault, &source(), None).await;
    assert!(matches!(export, Err(OpsError::Plan(PlanError::Dump(_)))));
    let chosen = choose(&vault, &source(), &RecoveryTarget::Xid(7), None).await;
    assert!(matches!(chosen, Err(OpsError::Plan(PlanError::NoJournal { .. }))), "{chosen:?}");
    assert_eq!(choose(&vault, &source(), &RecoveryTarget::Latest, None).await.unwrap(), point);

    let (cx, vault, _) = self::vault(20).await;
    let files = world::take(&cx, &vault, &world::toy()).await.unwrap();
    let error = dump(&cx, &vault, &toy(1)).await.unwrap_err();
    assert!(matches!(error, OpsError::NotDumped { .. }), "{error}");
    let chosen = choose(&vault, &source(), &RecoveryTarget::Latest, Some(&files.point)).await;
    assert!(matches!(chosen, Err(OpsError::Plan(PlanError::NotADump(_)))), "{chosen:?}");
}

/// What expired is swept, but for what a later dump refers to.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_expire_and_what_they_shared_stays() {
    let (cx, vault, store) = vault(21).await;
    let mut points = Vec::new();
    for n in 1..4 {
        points.push(dump(&cx, &vault, &toy(n)).await.unwrap());
    }
    let retention = Retention { keep_last: 1, pitr_days: 30, ..Retention::default() };
    let hand = Hand { host: "sim".into(), tool: "test".into() };
    let plan = strongroom_ops::expire::plan(&vault, &source(), &retention, cx.now()).await.unwrap();
    let expired =
        strongroom_ops::expire::expire(&cx, &vault, &source(), (&plan, &retention, &hand)).await.unwrap();
    let first: Vec<PointId> = points[..2].iter().map(|point| point.point.clone()).collect();
    assert_eq!(expired.points, first);
    let options =
        SweepOptions { stale_after: Duration::ZERO, dry_run: false, host: "sim".into(), tool: "test".into() };
    vault.sweep(&cx, &source(), &options).await.unwrap();
    let truth = [(points[2].point.clone(), toy(3).parts)].into();
    world::expect_no_garbage(&store, &vault, &truth, "after a sweep").await;
    assert_eq!(load(&cx, &vault, &points[2]).await.unwrap(), toy(3).parts);
}
