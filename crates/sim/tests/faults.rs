//! Every verb that writes, with every one of its store operations failing in every way.
//!
//! After each run the store is healed and the vault opened anew, as the next process would; then: what was reported
//! successful restores byte for byte, nothing that is listed as restorable fails to restore, and the next backup
//! succeeds (I1, I2, I10).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_sim::{Fault, SimStore, world as surroundings};
use strongroom_vault::catalog::PointRow;
use world::{create, files, keys, open, restore, source, take, toy};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_survives_any_fault_at_any_operation() {
    let keys = keys();
    let mut runs = 0;
    for fault in [Fault::Before, Fault::ReplyLost, Fault::Dead, Fault::BitFlip, Fault::PutForgotten] {
        for at in 0.. {
            let cx = surroundings(at as u64);
            let store = Arc::new(SimStore::default());
            create(&cx, &store, &keys).await.unwrap();
            let vault = open(&store, &keys).await.unwrap();
            let first = take(&cx, &vault, &toy()).await.unwrap();
            let mut second = toy();
            second.files = files(2);
            store.fail_at(at, fault);
            let outcome = take(&cx, &vault, &second).await;
            let reached = store.operations() > at;
            store.heal();

            let vault = open(&store, &keys).await.unwrap();
            let context = format!("{fault:?} at operation {at}: {outcome:?}");
            assert_eq!(restore(&cx, &vault, &first).await.unwrap(), toy().expected(), "{context}");
            let restorable: Vec<_> = vault
                .points(&source())
                .await
                .unwrap()
                .iter()
                .filter_map(PointRow::restorable)
                .cloned()
                .collect();
            if let Ok(summary) = &outcome {
                assert!(restorable.iter().any(|listed| listed.point == summary.point), "{context}");
            }
            for summary in restorable.iter().filter(|listed| listed.point != first.point) {
                assert_eq!(restore(&cx, &vault, summary).await.unwrap(), second.expected(), "{context}");
            }
            let next = take(&cx, &vault, &second).await.unwrap();
            assert_eq!(restore(&cx, &vault, &next).await.unwrap(), second.expected(), "{context}");
            runs += 1;
            if !reached {
                assert!(outcome.is_ok(), "no fault was met, and yet: {context}");
                break;
            }
        }
    }
    assert!(runs > 50, "only {runs} runs: the faults did not reach the operations");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_made_whole_or_not_at_all() {
    let keys = keys();
    for fault in [Fault::Before, Fault::ReplyLost, Fault::Dead] {
        for at in 0.. {
            let cx = surroundings(at as u64);
            let store = Arc::new(SimStore::default());
            store.fail_at(at, fault);
            let outcome = create(&cx, &store, &keys).await;
            let reached = store.operations() > at;
            store.heal();
            // Made, or made without our knowing, or not made: whichever it was, the next step works.
            if outcome.is_err() && open(&store, &keys).await.is_err() {
                create(&cx, &store, &keys).await.unwrap();
            }
            let vault = open(&store, &keys).await.unwrap();
            let point = take(&cx, &vault, &toy()).await.unwrap();
            assert_eq!(restore(&cx, &vault, &point).await.unwrap(), toy().expected());
            if !reached {
                break;
            }
        }
    }
}
