//! What drills found: kept, carried by copies, and out of reach of sweeps and of what else is evidence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::Cx;
use strongroom_model::drill::{Drill, DrillOutcome, SHAPE};
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::report::rto_rpo::{Concern, Promise, rto_rpo};
use strongroom_ops::status::status;
use strongroom_ops::sweep::sweep;
use strongroom_ops::verify::verify;
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_store::Store;
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault};
use world::{create, drill_of, keys, open, source, take, toy, verification};

fn drill(cx: &Cx, vault: &Vault, seconds: f64, outcome: DrillOutcome) -> Drill {
    let point = "20261120T120000Z-1f2e3d4c".parse().unwrap();
    Drill { rto_seconds: Some(seconds), outcome, ..drill_of(cx, (vault, &source()), &point) }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_drills_travel_stay_and_are_what_reports_are_made_of() {
    let (cx, keys, store) = (surroundings(1), keys(), Arc::new(SimStore::default()));
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    take(&cx, &vault, &toy()).await.unwrap();
    let promise =
        Promise { rpo: None, rto: Some(Duration::from_secs(2)), drilled_within: Duration::from_secs(86_400) };
    let promises = [(source(), promise)].into();
    let line = async |vault: &Vault| rto_rpo(&cx, vault, &promises, None).await.unwrap().remove(0);
    assert_eq!(line(&vault).await.concerns, [Concern::NeverDrilled].into());
    assert!(status(&cx, &vault, None).await.unwrap()[0].drill.is_none());

    for (seconds, outcome) in [(1.0, DrillOutcome::Passed), (3.0, DrillOutcome::Failed)] {
        vault.keep_drill(&cx, &drill(&cx, &vault, seconds, outcome)).await.unwrap();
    }
    let told = line(&vault).await;
    assert_eq!((told.drills.drills, told.drills.passed, told.drills.worst_seconds), (2, 1, Some(3.0)));
    assert_eq!(told.concerns, [Concern::RtoBroken, Concern::LastFailed].into());
    assert_eq!((told.evidence.len(), told.discounted.len()), (2, 0));
    let last = status(&cx, &vault, None).await.unwrap().remove(0).drill.unwrap();
    assert_eq!((last.outcome, last.rto_seconds), (DrillOutcome::Failed, Some(3.0)));
    assert_eq!(vault.drills(&source(), 1).await.unwrap().len(), 1);
    assert!(vault.drills(&"other".parse().unwrap(), 9).await.unwrap().is_empty());

    // Neither verifications nor measures, and sound.
    assert!(vault.evidence().await.unwrap().is_empty());
    assert!(vault.measures(&source(), 9).await.unwrap().is_empty());
    let verdict = verify(&cx, &vault, &verification(None, Depth::Structure)).await.unwrap();
    assert!(verdict.sound, "{:?}", verdict.records);
    // A replica has them, and no sweep takes them.
    let to = Arc::new(SimStore::default());
    vault.replicate(&cx, to.clone() as Arc<dyn Store>, &[], "test").await.unwrap();
    let replica = open(&to, &keys).await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let everything = CopyRequest { source: None, choice: Choice::All, options };
    copy(&cx, &vault, &replica, &everything).await.unwrap();
    let (host, tool) = ("sim".into(), "test".into());
    let sweeping = SweepOptions { stale_after: Duration::ZERO, dry_run: false, host, tool };
    sweep(&cx, &vault, Some(&source()), &sweeping).await.unwrap();
    let kept = vault.drills(&source(), 9).await.unwrap();
    assert_eq!((kept.len(), &kept), (2, &replica.drills(&source(), 9).await.unwrap()));
    assert!(kept.iter().all(|record| record.wrong.is_none() && !record.signature.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_drill_is_overdue_and_a_statement_of_a_newer_shape_does_not_count() {
    let (cx, keys, store) = (surroundings(2), keys(), Arc::new(SimStore::default()));
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    take(&cx, &vault, &toy()).await.unwrap();
    let newer = Drill { drill: SHAPE + 1, ..drill(&cx, &vault, 1.0, DrillOutcome::Passed) };
    vault.keep_drill(&cx, &newer).await.unwrap();
    vault.keep_drill(&cx, &drill(&cx, &vault, 1.0, DrillOutcome::Passed)).await.unwrap();
    // The simulated clock advances with every look.
    let promise = Promise { rpo: None, rto: None, drilled_within: Duration::ZERO };
    let told = rto_rpo(&cx, &vault, &[(source(), promise)].into(), Some(&source())).await.unwrap().remove(0);
    assert_eq!(told.concerns, [Concern::Overdue, Concern::FalseEvidence].into());
    assert_eq!(told.discounted.into_values().collect::<Vec<_>>(), ["the statement is of a newer build"]);
    // What was promised for a source that is not there is reported, too.
    let gone: strongroom_model::SourceName = "gone".parse().unwrap();
    let told = rto_rpo(&cx, &vault, &[(gone.clone(), promise)].into(), Some(&gone)).await.unwrap().remove(0);
    assert_eq!(told.concerns, [Concern::NoPoint, Concern::NeverDrilled].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_vault_that_does_not_sign_records_count_unsigned() {
    let (cx, store) = (surroundings(3), Arc::new(SimStore::default()));
    Vault::create(&cx, store.clone(), Suite::Plain, &[], "test").await.unwrap();
    let vault = Vault::open(store, &Unlock::default()).await.unwrap();
    vault.keep_drill(&cx, &drill(&cx, &vault, 1.0, DrillOutcome::Passed)).await.unwrap();
    let record = vault.drills(&source(), 9).await.unwrap().remove(0);
    assert!(record.drill.is_some() && record.signature.is_empty() && record.wrong.is_none());
}
