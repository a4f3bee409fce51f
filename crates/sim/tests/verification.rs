//! Verification by budget, and the evidence it leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use strongroom_model::{Cx, PointId};
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::verify::{Verdict, VerifyRequest, verify};
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_vault::verify::{Budget, Depth};
use strongroom_vault::{Suite, Unlock, Vault};
use world::{create, keys, open, request, ship, source, take, toy, verification};

/// Five points that share nothing, so that there are some packs.
async fn vault(seed: u64) -> (Cx, Arc<Vault>, Arc<SimStore>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    ship(&cx, &vault, &toy()).await.unwrap();
    for _ in 0..5 {
        let request = BackupRequest { afresh: true, ..request() };
        backup(&cx, &vault, &toy(), &request).await.unwrap();
    }
    (cx, vault, store)
}

async fn within(cx: &Cx, vault: &Arc<Vault>, budget: Budget) -> Verdict {
    let request = VerifyRequest { budget, workers: 1, ..verification(Some(source()), Depth::Data) };
    verify(cx, vault, &request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_begins_with_what_was_never_verified_and_comes_to_everything() {
    let (cx, vault, _) = vault(1).await;
    let few = Budget { bytes: Some(1), time: None };
    let (mut seen, mut runs) = (BTreeSet::<(PointId, u32)>::new(), 0);
    loop {
        runs += 1;
        let verdict = within(&cx, &vault, few).await;
        assert!(verdict.sound && verdict.bytes > 0);
        let last = vault.evidence().await.unwrap().pop().unwrap().verification;
        let good: Vec<(PointId, u32)> = last
            .good
            .iter()
            .flat_map(|(owner, ranges)| ranges.iter().map(|range| (owner.clone(), range.0)))
            .collect();
        assert_eq!(good.len(), 1, "a run with the smallest budget reads one pack");
        if !seen.insert(good[0].clone()) {
            // The first to come again is the one that was verified first.
            break;
        }
    }
    let everything = within(&cx, &vault, Budget::default()).await;
    assert_eq!((everything.left, seen.len() + 1), (0, runs));
    let packs: u64 = everything.points.iter().map(|point| point.packs).sum();
    assert_eq!(packs, seen.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_time_is_kept() {
    let (cx, vault, _) = vault(2).await;
    // The simulated clock advances a second with every look.
    let verdict = within(&cx, &vault, Budget { bytes: None, time: Some(Duration::from_secs(3)) }).await;
    assert!(verdict.left > 0 && verdict.bytes > 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_many_points_refer_to_is_read_once() {
    let (cx, keys) = (surroundings(3), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    for _ in 0..4 {
        take(&cx, &vault, &toy()).await.unwrap();
    }
    store.heal();
    verify(&cx, &vault, &verification(None, Depth::Data)).await.unwrap();
    let log = store.log();
    let reads: Vec<&String> = log.iter().filter(|line| line.contains("/packs/")).collect();
    let different: BTreeSet<&str> = reads.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(reads.len(), different.len(), "{reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_signed_and_a_changed_statement_is_seen() {
    let (cx, vault, _) = vault(4).await;
    within(&cx, &vault, Budget::default()).await;
    let record = vault.evidence().await.unwrap().pop().unwrap();
    assert!(record.signed && record.verification.damage.is_empty());
    // What an auditor does with a record that was handed out.
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let (public, signature) = (bytes(&record.public_key), bytes(&record.signature));
    let holds =
        |statement: &str| strongroom_codec::sign::is_signed(&public, statement.as_bytes(), &signature);
    assert!(holds(&record.statement));
    assert!(!holds(&record.statement.replace("\"damage\":[]", "\"damage\":[\"x\"]")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_everybody_can_write_does_not_sign() {
    let cx = surroundings(5);
    let store = Arc::new(SimStore::default());
    Vault::create(&cx, store.clone(), Suite::Plain, &[], "test").await.unwrap();
    let vault = Arc::new(Vault::open(store, &Unlock::default()).await.unwrap());
    take(&cx, &vault, &toy()).await.unwrap();
    within(&cx, &vault, Budget::default()).await;
    let record = vault.evidence().await.unwrap().pop().unwrap();
    assert!(!record.signed && record.signature.is_empty());
}
