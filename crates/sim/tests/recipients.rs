//! Who can open a vault: added, removed, proven, and forged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_model::Cx;
use strongroom_ops::key::{check, rotate};
use strongroom_sim::{Fault, SimStore, Turns, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::recipients::{Proof, Scope};
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};
use world::{Keys, create, keys, open, take, toy};

fn passphrase(text: &str) -> (Recipient, Unlock) {
    let unlock = Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() };
    (Recipient::Passphrase(text.to_owned().into()), unlock)
}

async fn vault(seed: u64) -> (Cx, Arc<Vault>, Arc<SimStore>, Keys) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    (cx, vault, store, keys)
}

async fn opens(store: &Arc<SimStore>, unlock: &Unlock) -> bool {
    Vault::open(store.clone() as Arc<dyn Store>, unlock).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_come_and_go_and_no_data_is_rewritten() {
    let (cx, vault, store, first) = vault(1).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let before = store.objects();
    let (recipient, second) = passphrase("correct horse");
    assert!(!opens(&store, &second).await);
    assert_eq!(vault.add_recipient(&cx, (&recipient, Scope::Whole), Some("safe".into())).await.unwrap(), 2);
    assert!(opens(&store, &second).await && opens(&store, &first.unlock).await);
    assert_eq!(vault.key_slots().await.unwrap(), 2);
    let other = keys();
    assert_eq!(rotate(&cx, &vault, 1, (&other.recipient, None)).await.unwrap(), 3);
    assert!(!opens(&store, &first.unlock).await && opens(&store, &other.unlock).await);
    vault.remove_recipient(&cx, 2, (&other.unlock, None)).await.unwrap();
    assert!(!opens(&store, &second).await);
    for unlock in [&other.unlock, &first.unlock, &Unlock::default()] {
        let last = vault.remove_recipient(&cx, 3, (unlock, None)).await;
        assert!(matches!(last, Err(VaultError::LastRecipient { number: 3 })), "{last:?}");
    }
    let gone = vault.remove_recipient(&cx, 1, (&other.unlock, None)).await;
    assert!(gone.is_err(), "what was removed is no recipient");
    let after = store.objects();
    assert!(before.iter().all(|(key, object)| after.get(key) == Some(object)));
    let numbers: Vec<u32> = vault.recipients().await.unwrap().iter().map(|row| row.number).collect();
    assert_eq!(numbers, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drill_says_what_was_proven_and_what_was_not() {
    let (cx, vault, _, first) = vault(2).await;
    vault.add_recipient(&cx, (&passphrase("correct horse").0, Scope::Whole), None).await.unwrap();
    assert!(!check(&vault, &first.unlock).await.unwrap().is_passed(), "nothing was read that proves the key");
    take(&cx, &vault, &toy()).await.unwrap();
    let proofs = async |unlock: &Unlock| {
        let drill = check(&vault, unlock).await.unwrap();
        let proofs: Vec<Proof> = drill.recipients.iter().map(|(_, proof)| *proof).collect();
        (proofs, drill.is_passed())
    };
    assert_eq!(proofs(&first.unlock).await, (vec![Proof::Proven, Proof::NotTried], true));
    assert_eq!(proofs(&passphrase("guess").1).await, (vec![Proof::NotTried, Proof::DoesNotOpen], false));
    let both = Unlock { identities: first.unlock.identities.clone(), ..passphrase("correct horse").1 };
    assert_eq!(proofs(&both).await, (vec![Proof::Proven, Proof::Proven], true));
}

/// Whoever may write knows our age recipient, which is public, and wraps a key of theirs for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_key_is_not_sealed_with() {
    for suite in [Suite::Aes256Gcm, Suite::Aes256GcmX25519] {
        let (cx, mine) = (surroundings(3), keys());
        let store = Arc::new(SimStore::default());
        let both = [mine.recipient_again(), passphrase("correct horse").0];
        Vault::create(&cx, store.clone(), suite, &both, "test").await.unwrap();
        take(&cx, &open(&store, &mine).await.unwrap(), &toy()).await.unwrap();
        // Another vault of the same recipient: its wrapped key is as good a forgery as any.
        let forger = Arc::new(SimStore::default());
        Vault::create(&cx, forger.clone(), suite, &[mine.recipient_again()], "evil").await.unwrap();
        let wrapped = |store: &SimStore| {
            store.objects().into_iter().find(|(key, _)| key.as_str().starts_with("keys/")).unwrap()
        };
        let ((_, forged), (slot, _)) = (wrapped(&forger), wrapped(&store));
        for name in ["0", "9"] {
            let place = Key::new(format!("{}/{name}", slot.as_str().rsplit_once('/').unwrap().0)).unwrap();
            store.put_new(&place, forged.clone().into()).await.unwrap();
            let opened = Vault::open(store.clone() as Arc<dyn Store>, &mine.unlock).await;
            match suite.divides_keys() {
                // `vault.json` tells which keys are the vault's.
                true => assert!(opened.unwrap().reads_a_sealed_object().await.unwrap().is_some()),
                false => assert!(matches!(opened, Err(VaultError::Damaged { .. })), "{name}: {opened:?}"),
            }
            // A passphrase cannot be forged without knowing it: by it the vault opens, and the forgery is seen.
            let unlock = passphrase("correct horse").1;
            let vault = Vault::open(store.clone() as Arc<dyn Store>, &unlock).await.unwrap();
            let both = Unlock { identities: mine.unlock.identities.clone(), ..unlock };
            let drill = check(&vault, &both).await.unwrap();
            assert!(
                !drill.is_passed() && drill.recipients.iter().any(|(_, proof)| *proof == Proof::Worthless)
            );
            // It opens, and it is a whole key: not this vault's.
            let last = vault.remove_recipient(&cx, 1, (&mine.unlock, None)).await;
            assert!(matches!(last, Err(VaultError::LastRecipient { number: 1 })), "{name}: {last:?}");
            store.delete(&place).await.unwrap();
        }
        assert!(opens(&store, &mine.unlock).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_breaks_off_leaves_a_vault_that_opens() {
    for fault in [Fault::Before, Fault::ReplyLost, Fault::Dead, Fault::PutForgotten] {
        for at in 0..12 {
            let (cx, vault, store, first) = vault(100 + at as u64).await;
            let second = keys();
            store.fail_at(at, fault);
            let outcome = rotate(&cx, &vault, 1, (&second.recipient, None)).await;
            store.heal();
            let (old, new) = (opens(&store, &first.unlock).await, opens(&store, &second.unlock).await);
            // A store that acknowledges what it does not do can lose the new one: then the removal must not have counted.
            assert!(old || new, "{fault:?} at {at}: {outcome:?}");
            assert!(
                outcome.is_err() || new || fault == Fault::PutForgotten,
                "{fault:?} at {at}: {outcome:?}"
            );
        }
    }
}

/// A wrapped key that a stranger put there is no reason to let the last real one go.
#[tokio::test(flavor = "multi_thread")]
async fn a_worthless_copy_does_not_count_as_another() {
    let (cx, vault, store, mine) = vault(4).await;
    let forger = Arc::new(SimStore::default());
    Vault::create(&cx, forger.clone(), Suite::Aes256GcmX25519, &[keys().recipient], "evil").await.unwrap();
    let (_, forged) =
        forger.objects().into_iter().find(|(key, _)| key.as_str().starts_with("keys/")).unwrap();
    let (slot, _) = store.objects().into_iter().find(|(key, _)| key.as_str().starts_with("keys/")).unwrap();
    let folder = slot.as_str().rsplit_once('/').unwrap().0;
    for name in ["2", "4294967295"] {
        store.put_new(&Key::new(format!("{folder}/{name}")).unwrap(), forged.clone().into()).await.unwrap();
    }
    let last = vault.remove_recipient(&cx, 1, (&mine.unlock, None)).await;
    assert!(matches!(last, Err(VaultError::LastRecipient { number: 1 })), "{last:?}");
    // Nor does a number at the end of all numbers stand in the way.
    assert_eq!(
        vault.add_recipient(&cx, (&passphrase("correct horse").0, Scope::Whole), None).await.unwrap(),
        3
    );
    vault.remove_recipient(&cx, 2, (&mine.unlock, None)).await.unwrap();
    assert!(opens(&store, &mine.unlock).await);
}

/// Two hosts remove each other's recipient at once, in many orders of their operations.
#[tokio::test(flavor = "multi_thread")]
async fn two_removals_at_once_leave_somebody() {
    for seed in 0..100 {
        let (cx, vault, store, first) = vault(1000 + seed).await;
        let second = keys();
        vault.add_recipient(&cx, (&second.recipient, Scope::Whole), None).await.unwrap();
        let turns = Turns::new(2, surroundings(!seed).entropy);
        let (keep_first, keep_second) = (clone(&first.unlock), clone(&second.unlock));
        let tasks = [(0, 2, keep_first), (1, 1, keep_second)].map(|(actor, number, unlock)| {
            let (cx, turns, seen) = (cx.clone(), turns.clone(), turns.of(actor, store.clone()));
            tokio::spawn(async move {
                if let Ok(vault) = Vault::open(seen, &unlock).await {
                    // Which of the two is told that it was the last depends on the order.
                    let _ = vault.remove_recipient(&cx, number, (&unlock, None)).await;
                }
                turns.leave(actor);
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        let left = opens(&store, &first.unlock).await || opens(&store, &second.unlock).await;
        assert!(left, "seed {seed}: nobody can open the vault any more");
    }
}

fn clone(unlock: &Unlock) -> Unlock {
    Unlock { passphrase: unlock.passphrase.clone(), identities: unlock.identities.clone(), kms: Vec::new() }
}
