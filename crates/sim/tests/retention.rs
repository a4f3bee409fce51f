//! Retention, holds and the sweep that follows: what goes, what stays, and who is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::point::Summary;
use strongroom_model::retention::Retention;
use strongroom_model::{Cx, PointId, Timestamp};
use strongroom_ops::OpsError;
use strongroom_ops::backup::backup;
use strongroom_ops::expire::{expire, let_go_lost, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place, release};
use strongroom_ops::list::list;
use strongroom_sim::{SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::sweep::{SweepOptions, Swept};
use strongroom_vault::{Vault, VaultError};
use world::{create, keys, open, request, restore, ship, source, take, toy};

fn hand() -> Hand {
    Hand { host: "sim".into(), tool: "test".into() }
}

fn keep_last(keep_last: u32) -> Retention {
    Retention { keep_last, ..Retention::default() }
}

fn why(until: Option<Timestamp>) -> HoldRequest {
    HoldRequest { reason: "case 4711".into(), owner: "legal".into(), until }
}

/// A toy that begins its backups in this segment, with content of its own.
fn engine(segment: u64) -> ToyEngine {
    let mut engine = toy();
    engine.segment = segment;
    engine.files.insert("short".into(), vec![segment as u8; 40]);
    engine
}

/// A vault with a point in every third segment from 1 on, and all segments up to the last point's.
async fn chain(seed: u64, points: u64) -> (Cx, Arc<Vault>, Arc<SimStore>, Vec<Summary>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let mut taken = Vec::new();
    for n in 0..points {
        for segment in 3 * n..=3 * n + 3 {
            ship(&cx, &vault, &engine(segment)).await.unwrap();
        }
        taken.push(take(&cx, &vault, &engine(3 * n + 1)).await.unwrap());
    }
    (cx, vault, store, taken)
}

async fn sweep(cx: &Cx, vault: &Arc<Vault>) -> Swept {
    try_sweep(cx, vault).await.unwrap()
}

async fn try_sweep(cx: &Cx, vault: &Arc<Vault>) -> Result<Swept, VaultError> {
    let options = SweepOptions {
        stale_after: Duration::from_secs(1 << 30),
        dry_run: false,
        host: "sim".into(),
        tool: "test".into(),
    };
    vault.sweep(cx, &source(), &options).await
}

async fn let_go(cx: &Cx, vault: &Arc<Vault>, retention: &Retention) -> Vec<PointId> {
    let plan = plan(vault, &source(), retention, cx.now()).await.unwrap();
    expire(cx, vault, &source(), (&plan, retention, &hand())).await.unwrap().points
}

fn segments(store: &SimStore) -> Vec<u64> {
    let objects = store.objects();
    let wal = objects.keys().filter(|key| key.as_str().contains("/wal/"));
    wal.map(|key| u64::from_str_radix(&key.last_segment()[16..], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_what_was_planned_and_the_sweep_follows() {
    let (cx, vault, store, points) = chain(1, 4).await;
    let gone = let_go(&cx, &vault, &keep_last(2)).await;
    assert_eq!(gone, [points[0].point.clone(), points[1].point.clone()]);
    assert!(segments(&store).contains(&0), "expire deletes nothing");
    sweep(&cx, &vault).await;
    // The oldest kept point begins in segment 7; its pages lie in packs of the points that went.
    assert_eq!(segments(&store), (7..=12).collect::<Vec<_>>());
    for (n, point) in (2..).zip(&points[2..]) {
        assert_eq!(restore(&cx, &vault, point).await.unwrap(), engine(3 * n + 1).expected());
    }
    let gone: Result<_, OpsError> = restore(&cx, &vault, &points[0]).await;
    assert!(gone.is_err());
    assert!(let_go(&cx, &vault, &keep_last(2)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn older_points_keep_the_wal_they_need_for_themselves() {
    let (cx, vault, store, points) = chain(2, 4).await;
    // A week later: the window begins with the newest point, the year's point is another's.
    let later = world_at(3, 7 * 24 * 3600);
    let hold = place(&cx, &vault, &points[1].point, &why(None)).await.unwrap();
    let_go(&later, &vault, &Retention { pitr_days: 1, ..Retention::default() }).await;
    sweep(&later, &vault).await;
    assert_eq!(segments(&store), [4, 10, 11, 12]);
    assert_eq!(restore(&cx, &vault, &points[1]).await.unwrap(), engine(4).expected());
    // It restores to its own end, and that is no gap.
    let listing = list(&vault, None).await.unwrap().remove(0);
    let window = listing.windows.iter().find(|window| window.point == hold.point).unwrap();
    assert_eq!((window.gap.clone(), window.to), (None, Some(points[1].stopped_at)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_point_stays_until_it_is_released() {
    let (cx, vault, _, points) = chain(4, 3).await;
    place(&cx, &vault, &points[0].point, &why(None)).await.unwrap();
    assert_eq!(let_go(&cx, &vault, &keep_last(1)).await, [points[1].point.clone()]);
    sweep(&cx, &vault).await;
    assert_eq!(restore(&cx, &vault, &points[0]).await.unwrap(), engine(1).expected());
    assert_eq!(release(&cx, &vault, &points[0].point, &why(None)).await.unwrap(), 1);
    assert_eq!(release(&cx, &vault, &points[0].point, &why(None)).await.unwrap(), 0);
    assert_eq!(let_go(&cx, &vault, &keep_last(1)).await, [points[0].point.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_with_an_end_ends_by_itself() {
    let (cx, vault, _, points) = chain(5, 2).await;
    let until = Some(Timestamp::from_unix_seconds(cx.now().unix_seconds() + 3600).unwrap());
    place(&cx, &vault, &points[0].point, &why(until)).await.unwrap();
    assert!(let_go(&cx, &vault, &keep_last(1)).await.is_empty());
    let later = world_at(6, 7200);
    assert_eq!(let_go(&later, &vault, &keep_last(1)).await, [points[0].point.clone()]);
    let swept = sweep(&later, &vault).await;
    assert!(!swept.garbage.is_empty(), "a hold past its end still spares its point");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_is_said() {
    let (cx, vault, _, points) = chain(7, 2).await;
    let_go(&cx, &vault, &keep_last(1)).await;
    let expired = place(&cx, &vault, &points[0].point, &why(None)).await;
    assert!(matches!(expired, Err(OpsError::Vault(VaultError::NotCommitted { state: "expired", .. }))));
    // The hold that was tried and taken back holds nothing.
    assert!(!sweep(&cx, &vault).await.garbage.is_empty());
    let unknown = "20200101T000000Z-00000000".parse().unwrap();
    let unknown = place(&cx, &vault, &unknown, &why(None)).await;
    assert!(matches!(unknown, Err(OpsError::Vault(VaultError::NoSuchPoint { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_met_its_tombstone_and_won_spares_the_point() {
    let (cx, vault, store, points) = chain(8, 3).await;
    place(&cx, &vault, &points[0].point, &why(None)).await.unwrap();
    // Retention had looked for holds before this one was there.
    let tombstone = Key::new(format!("sources/toy/points/{}/expired", points[0].point)).unwrap();
    store.put_new(&tombstone, b"gone".to_vec().into()).await.unwrap();
    sweep(&cx, &vault).await;
    assert_eq!(restore(&cx, &vault, &points[0]).await.unwrap(), engine(1).expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_no_longer_holds_is_not_carried_out() {
    let (cx, vault, _, points) = chain(9, 3).await;
    let retention = keep_last(1);
    let plan = plan(&vault, &source(), &retention, cx.now()).await.unwrap();
    place(&cx, &vault, &points[0].point, &why(None)).await.unwrap();
    let refused = expire(&cx, &vault, &source(), (&plan, &retention, &hand())).await;
    assert!(matches!(refused, Err(OpsError::PlanChanged { .. })), "{refused:?}");
    assert!(vault.points(&source()).await.unwrap().iter().all(|row| !row.expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_wal_was_let_go_is_refused() {
    let (cx, vault, _, _) = chain(10, 4).await;
    let_go(&cx, &vault, &keep_last(1)).await;
    // An old primary that was left behind comes back.
    let refused = backup(&cx, &vault, &engine(2), &request()).await;
    assert!(matches!(refused, Err(OpsError::BelowFloor { .. })), "{refused:?}");
    take(&cx, &vault, &engine(11)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_lost_stops_sweeps_until_it_is_let_go_by_name() {
    for part in ["manifest", "decision"] {
        for gone in [false, true] {
            let (cx, vault, store, taken) = chain(31, 3).await;
            let lost = &taken[1].point;
            let key = Key::new(format!("sources/toy/points/{lost}/{part}")).unwrap();
            match (gone, part) {
                // A decision that is not there is a point that is being written: that is the next sweeps' business.
                (true, "decision") => continue,
                (true, _) => store.delete(&key).await.unwrap(),
                (false, _) => store.tamper(&key, vec![1; 50].into()),
            }
            let context = format!("{part}, gone {gone}");
            let stopped = try_sweep(&cx, &vault).await;
            assert!(matches!(stopped, Err(VaultError::SweepStopped { .. })), "{context}: {stopped:?}");
            for sound in [&taken[0], &taken[2]] {
                let refused = let_go_lost(&cx, &vault, (&source(), &sound.point), &hand()).await;
                assert!(matches!(refused, Err(OpsError::NotToLetGo { .. })), "{context}: {refused:?}");
            }
            let_go_lost(&cx, &vault, (&source(), lost), &hand()).await.unwrap();
            sweep(&cx, &vault).await;
            for (n, kept) in [(0, &taken[0]), (2, &taken[2])] {
                let files = restore(&cx, &vault, kept).await.unwrap();
                assert_eq!(files, engine(3 * n + 1).expected(), "{context}");
            }
            let rows = list(&vault, Some(&source())).await.unwrap();
            assert_eq!(
                rows[0].points.iter().filter(|row| row.restorable().is_some()).count(),
                2,
                "{context}"
            );
        }
    }
}
