//! What restores took: kept, and read as the next one's estimate.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::Cx;
use strongroom_model::estimate::Stretch;
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::hand::Hand;
use strongroom_ops::measure::{Took, expected, keep};
use strongroom_ops::restore::{Restored, plan};
use strongroom_ops::sweep::sweep;
use strongroom_ops::verify::verify;
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_store::Store;
use strongroom_vault::Vault;
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use world::{create, keys, open, restore_from, source, take, toy, verification};

fn hand(host: &str) -> Hand {
    Hand { host: host.into(), tool: "test".into() }
}

/// A plan, and a restore of it that took so long.
async fn restored(cx: &Cx, vault: &Arc<Vault>, seconds: f64) -> (RestorePlan, Restored) {
    let point = take(cx, vault, &toy()).await.unwrap();
    let request = RestoreRequest {
        target: RecoveryTarget::Immediate,
        inclusive: true,
        timeline: TimelineChoice::Latest,
        action: TargetAction::Promote,
    };
    let plan = plan(vault, &source(), &request, Some(&point.point)).await.unwrap();
    let (_, restored) = restore_from(cx, std::slice::from_ref(vault), &point).await.unwrap();
    (plan, Restored { seconds, ..restored })
}

fn took(restored: &Restored) -> Took<'_> {
    Took { restored, compared: false, held_up: false, replay: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_restores_of_a_source_say_how_long_the_next_takes() {
    let (cx, keys, store) = (surroundings(1), keys(), Arc::new(SimStore::default()));
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let (plan, whole) = restored(&cx, &vault, 4.0).await;
    let estimate = async |host: &str| expected(&vault, &plan, host, false).await.unwrap();
    assert_eq!(estimate("a").await.seconds(), None, "nothing was measured");

    // What says nothing of a whole restore at full speed is not kept as one.
    let partial = Restored { left_out: vec!["db".into()], ..again(&whole) };
    assert_eq!(keep(&cx, &vault, &plan, took(&partial), (&hand("a"), cx.now())).await, None);
    let slow = Took { held_up: true, ..took(&whole) };
    assert_eq!(keep(&cx, &vault, &plan, slow, (&hand("a"), cx.now())).await, None);
    assert_eq!(estimate("a").await.seconds(), None);

    let replay = Some(Stretch { bytes: plan.replays(), seconds: 2.0 });
    let began_at = cx.now();
    let first = Took { replay, ..took(&whole) };
    assert!(keep(&cx, &vault, &plan, first, (&hand("a"), began_at)).await.is_some());
    let [middle, ..] = estimate("a").await.seconds().unwrap();
    assert!((middle - 6.0).abs() < 1e-9, "{middle}");
    assert!(!estimate("b").await.pages.unwrap().here);
    // Seventeen more: the first is no longer looked at.
    let fast = Restored { seconds: 1.0, ..again(&whole) };
    for _ in 0..17 {
        keep(&cx, &vault, &plan, took(&fast), (&hand("b"), cx.now())).await.unwrap();
    }
    let pages = estimate("a").await.pages.unwrap();
    assert_eq!((pages.measures, pages.here), (16, false));
    assert!((pages.seconds - 1.0).abs() < 1e-9);
    assert!(vault.measures(&"other".parse().unwrap(), 16).await.unwrap().is_empty());

    // They are no verifications, are sound, travel with copies, and no sweep takes them.
    assert!(vault.evidence().await.unwrap().is_empty());
    let verdict = verify(&cx, &vault, &verification(None, Depth::Data)).await.unwrap();
    assert!(verdict.sound, "{:?}", verdict.records);
    assert_eq!(vault.evidence().await.unwrap().len(), 1);
    let to = Arc::new(SimStore::default());
    vault.replicate(&cx, to.clone() as Arc<dyn Store>, &[], "test").await.unwrap();
    let replica = open(&to, &keys).await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let everything = CopyRequest { source: None, choice: Choice::All, options };
    copy(&cx, &vault, &replica, &everything).await.unwrap();
    assert_eq!(replica.measures(&source(), 99).await.unwrap().len(), 18);
    let (host, tool) = ("sim".into(), "test".into());
    let sweeping = SweepOptions { stale_after: Duration::ZERO, dry_run: false, host, tool };
    sweep(&cx, &vault, Some(&source()), &sweeping).await.unwrap();
    assert_eq!(vault.measures(&source(), 99).await.unwrap(), replica.measures(&source(), 99).await.unwrap());
}

/// A restore like that one: a report is no value that one copies.
fn again(restored: &Restored) -> Restored {
    Restored {
        point: restored.point.clone(),
        entries: restored.entries,
        bytes: restored.bytes,
        unchanged: restored.unchanged,
        fetched: restored.fetched,
        left_out: Vec::new(),
        from_replicas: restored.from_replicas.clone(),
        lost: Vec::new(),
        seconds: restored.seconds,
    }
}
