//! Every suite: points that share pages, a replica, evidence, and keys.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_codec::header::SUITES;
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::verify::verify;
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_store::Store;
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};
use world::{keys, restore, source, take, toy, verification};

fn unlock(text: &str) -> Unlock {
    Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_suite_keeps_points_copies_and_evidence() {
    for suite in SUITES.into_iter().filter(|suite| *suite != Suite::Plain) {
        let cx = surroundings(suite as u64);
        let stores: [Arc<SimStore>; 2] = Default::default();
        let passphrase = Recipient::Passphrase("correct horse".to_owned().into());
        Vault::create(&cx, stores[0].clone(), suite, &[passphrase], "test").await.unwrap();
        let open = async |store: &Arc<SimStore>, unlock: &Unlock| {
            Vault::open(store.clone() as Arc<dyn Store>, unlock).await.map(Arc::new)
        };
        let vault = open(&stores[0], &unlock("correct horse")).await.unwrap();
        let wrong = open(&stores[0], &unlock("correct horse ")).await;
        assert!(matches!(wrong, Err(VaultError::WrongKey { .. })), "{suite:?}");
        let mut later = toy();
        later.files.get_mut("big").unwrap()[8192..2 * 8192].fill(9);
        let points = [take(&cx, &vault, &toy()).await.unwrap(), take(&cx, &vault, &later).await.unwrap()];
        assert!(points[1].stored < points[0].stored / 2, "{suite:?}: fingerprints did not tell what changed");
        assert!(verify(&cx, &vault, &verification(None, Depth::Pages)).await.unwrap().sound, "{suite:?}");
        let record = vault.evidence().await.unwrap().pop().unwrap();
        assert!(record.signed, "{suite:?}");
        vault.replicate(&cx, stores[1].clone(), &[], "test").await.unwrap();
        let replica = open(&stores[1], &unlock("correct horse")).await.unwrap();
        let options = CopyOptions { in_flight: 2, read_back: true, limit: None };
        let request = CopyRequest { source: Some(source()), choice: Choice::All, options };
        assert!(copy(&cx, &vault, &replica, &request).await.unwrap().is_complete());
        for (point, engine) in points.iter().zip([toy(), later]) {
            assert_eq!(restore(&cx, &replica, point).await.unwrap(), engine.expected(), "{suite:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_fips_suite_has_no_age_recipient() {
    let cx = surroundings(7);
    let store = Arc::new(SimStore::default());
    let refused = Vault::create(&cx, store.clone(), Suite::FipsP256, &[keys().recipient], "test").await;
    assert!(matches!(refused, Err(VaultError::Recipient(_))), "{refused:?}");
    assert!(!store.objects().keys().any(|key| key.as_str() == "vault.json"));
}
