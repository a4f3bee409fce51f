//! The audit log over a store that fails, with writers that meet, and with whoever may write to the store and has no key.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_model::audit::{Act, Actor, ActorKind, Head, Stage, Texts, Voucher, name};
use strongroom_model::{Cx, SourceName};
use strongroom_ops::OpsError;
use strongroom_ops::audit::{Filter, Record, head, list, record, verify, verify_copies};
use strongroom_sim::{Fault, SimStore, Turns, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::recipients::Scope;
use strongroom_vault::{Suite, Unlock, Vault};
use world::{Keys, create, keys, open};

fn act(verb: &str, source: Option<&str>, stage: Stage) -> Record {
    let actor = Actor {
        kind: ActorKind::User,
        name: "ada".into(),
        host: "db1".into(),
        user: "ada".into(),
        sudo: None,
    };
    let source: Option<SourceName> = source.map(|name| name.parse().unwrap());
    let texts: Texts = [("reason".to_owned(), "case 4711".to_owned())].into();
    Record { actor, act: Act { verb: verb.into(), source, point: None }, stage, texts }
}

fn ended(of: Option<u64>) -> Stage {
    Stage::Ended { of, outcome: "ok".into(), exit_code: 0 }
}

async fn keep(cx: &Cx, vault: &Vault, verb: &str) -> Result<Head, OpsError> {
    record(cx, vault, &act(verb, None, ended(None)), "test").await
}

async fn vault(seed: u64) -> (Cx, Arc<Vault>, Arc<SimStore>, Keys) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    (cx, open(&store, &keys).await.unwrap(), store, keys)
}

/// The log's objects, as somebody copies them who has no key.
fn copies(store: &SimStore) -> Vec<(String, Vec<u8>)> {
    let of_log = |(key, object): (Key, bytes::Bytes)| {
        key.as_str().strip_prefix("audit/").map(|name| (name.to_owned(), object.to_vec()))
    };
    store.objects().into_iter().filter_map(of_log).collect()
}

fn key(number: u64) -> Key {
    Key::new(format!("audit/{}", name(number))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_listed_proven_and_provable_by_a_stranger() {
    let (cx, vault, store, keys) = vault(1).await;
    assert!(head(&vault).await.unwrap().head.is_none());
    assert!(list(&vault, &Filter::default(), 9).await.unwrap().is_empty());
    let begun = record(&cx, &vault, &act("restore", Some("orders"), Stage::Begun), "test").await.unwrap();
    keep(&cx, &vault, "backup").await.unwrap();
    record(&cx, &vault, &act("restore", Some("orders"), ended(Some(begun.number))), "test").await.unwrap();
    for verb in ["hold place", "hold release"] {
        keep(&cx, &vault, verb).await.unwrap();
    }
    record(&cx, &vault, &act("expire", None, Stage::Begun), "test").await.unwrap();

    let of = async |filter: Filter| {
        let lines = list(&vault, &filter, 100).await.unwrap();
        lines.into_iter().map(|line| (line.number, line.act.verb, line.exit_code)).collect::<Vec<_>>()
    };
    let all = of(Filter::default()).await;
    let told: Vec<(u64, &str, Option<u8>)> =
        all.iter().map(|(number, verb, code)| (*number, verb.as_str(), *code)).collect();
    let expected = [
        (1, "restore", Some(0)),
        (2, "backup", Some(0)),
        (4, "hold place", Some(0)),
        (5, "hold release", Some(0)),
        (6, "expire", None),
    ];
    assert_eq!(told, expected);
    assert_eq!(of(Filter { verb: Some("hold".into()), ..Filter::default() }).await.len(), 2);
    assert_eq!(of(Filter { source: Some("orders".parse().unwrap()), ..Filter::default() }).await.len(), 1);
    assert_eq!(of(Filter { actor: Some("eve".into()), ..Filter::default() }).await.len(), 0);
    assert_eq!(list(&vault, &Filter::default(), 2).await.unwrap().len(), 2);
    let restore = list(&vault, &Filter::default(), 9).await.unwrap().remove(0);
    assert_eq!((restore.voucher, restore.ended_at.is_some()), (Voucher::Signed, true));
    assert_eq!(restore.texts.get("reason").map(String::as_str), Some("case 4711"));

    let newest = head(&vault).await.unwrap();
    let noted = newest.head.unwrap();
    let verdict = verify(&vault, std::slice::from_ref(&noted)).await.unwrap();
    assert!(verdict.sound && verdict.signed == 6 && verdict.head.as_ref() == Some(&noted));
    // Texts are sealed; who, what and when is not.
    let plain = copies(&store);
    let clear = String::from_utf8(plain.iter().flat_map(|(_, object)| object.clone()).collect()).unwrap();
    assert!(!clear.contains("4711") && clear.contains("ada") && clear.contains("orders"));
    let verdict = verify_copies(&plain, std::slice::from_ref(&noted), None);
    assert!(verdict.sound && verdict.unknown == 6);
    let signer = strongroom_codec::manifest::hex_bytes(&newest.public_key.unwrap()).unwrap();
    assert_eq!(verify_copies(&plain, &[], Some(&signer)).signed, 6);
    assert!(!verify_copies(&plain, &[], Some(&[0; 32])).sound);
    // Another process finds the same head, and goes on from there.
    let other = open(&store, &keys).await.unwrap();
    assert_eq!(head(&other).await.unwrap().head, Some(noted));
    assert_eq!(keep(&cx, &other, "sweep").await.unwrap().number, 7);
    assert_eq!(keep(&cx, &vault, "sweep").await.unwrap().number, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_and_every_missing_object_is_found_without_a_key() {
    let (cx, vault, store, _) = vault(2).await;
    for verb in ["init", "backup", "expire"] {
        keep(&cx, &vault, verb).await.unwrap();
    }
    let noted = [head(&vault).await.unwrap().head.unwrap()];
    let whole = copies(&store);
    for at in 0..whole.len() {
        for byte in 0..whole[at].1.len() {
            let mut spoilt = whole.clone();
            spoilt[at].1[byte] ^= 1;
            assert!(!verify_copies(&spoilt, &noted, None).sound, "entry {at}, byte {byte}");
        }
        let mut cut = whole.clone();
        cut.remove(at);
        assert!(!verify_copies(&cut, &noted, None).sound, "entry {at}");
    }
    assert!(verify_copies(&whole, &noted, None).sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_the_log_stays_sound_and_goes_on() {
    let mut met = 0;
    for fault in Fault::ALL {
        for at in 0.. {
            let (cx, vault, store, keys) = vault(300).await;
            keep(&cx, &vault, "init").await.unwrap();
            keep(&cx, &vault, "backup").await.unwrap();
            // A process of its own, which does not know the head.
            let process = open(&store, &keys).await.unwrap();
            store.fail_at(at, fault);
            let outcome = keep(&cx, &process, "expire").await;
            let (operations, hit) = (store.operations(), store.met());
            store.heal();
            met += hit;
            let verdict = verify(&vault, &[]).await.unwrap();
            assert!(verdict.sound, "{fault:?} at {at}: {:?}", verdict.findings);
            assert!(verdict.entries <= 3, "{fault:?} at {at}: an entry was written twice");
            let is_there = verdict.entries == 3;
            assert!(outcome.is_err() || is_there || fault == Fault::PutForgotten, "{fault:?} at {at}");
            let next = keep(&cx, &open(&store, &keys).await.unwrap(), "sweep").await.unwrap();
            assert_eq!(next.number, verdict.entries as u64 + 1, "{fault:?} at {at}");
            assert!(verify(&vault, &[next]).await.unwrap().sound, "{fault:?} at {at}");
            if at >= operations {
                break;
            }
        }
    }
    assert!(met > 50, "only {met} faults met anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_meet_get_a_number_each() {
    for seed in 0..40 {
        let (cx, vault, store, keys) = vault(1000 + seed).await;
        let turns = Turns::new(3, surroundings(!seed).entropy);
        let tasks: Vec<_> = (0..3)
            .map(|actor| {
                let (cx, turns, seen) = (cx.clone(), turns.clone(), turns.of(actor, store.clone()));
                let unlock = Unlock { identities: keys.unlock.identities.clone(), ..Unlock::default() };
                tokio::spawn(async move {
                    let vault = Vault::open(seen, &unlock).await.unwrap();
                    let mut numbers = Vec::new();
                    for _ in 0..3 {
                        numbers.push(keep(&cx, &vault, "backup").await.unwrap().number);
                    }
                    turns.leave(actor);
                    numbers
                })
            })
            .collect();
        let mut numbers = BTreeSet::new();
        for task in tasks {
            numbers.extend(task.await.unwrap());
        }
        assert_eq!(numbers, (1..=9).collect(), "seed {seed}");
        let verdict = verify(&vault, &[]).await.unwrap();
        assert!(verdict.sound && verdict.entries == 9, "seed {seed}: {:?}", verdict.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_the_head_of_a_long_log_lists_nothing() {
    let (cx, vault, store, keys) = vault(4).await;
    keep(&cx, &vault, "init").await.unwrap();
    let object = store.get(&key(1)).await.unwrap();
    // What they say does not matter here, only where they end.
    for (from, to) in [(2, 40), (41, 300), (301, 5000)] {
        for number in from..=to {
            store.put_new(&key(number), object.clone().into()).await.unwrap();
        }
        let process = open(&store, &keys).await.unwrap();
        store.heal();
        assert_eq!(head(&process).await.unwrap().head.unwrap().number, to);
        let log = store.log();
        assert!(log.iter().all(|line| !line.contains("List")), "{log:?}");
        assert!(log.len() <= 6 + 15 * 4 + 2, "{} requests for {to} entries", log.len());
        // Who knows the head asks once more in one round.
        store.heal();
        head(&process).await.unwrap();
        assert_eq!(store.operations(), 6);
    }
    // A hole hides nothing that is behind it for long, and whoever fills it is found out.
    store.delete(&key(4000)).await.unwrap();
    assert!(!verify(&vault, &[]).await.unwrap().sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_can_add_rubbish_that_is_named_and_stop_nothing() {
    let (cx, vault, store, keys) = vault(5).await;
    keep(&cx, &vault, "init").await.unwrap();
    let entry = store.get(&key(1)).await.unwrap();
    // An entry in our name, chained as it should be, with a seal from elsewhere.
    let text = String::from_utf8(entry.to_vec()).unwrap();
    let hash = head(&vault).await.unwrap().head.unwrap().hash;
    let forged =
        text.replace("\\\"number\\\":1,", &format!("\\\"number\\\":2,\\\"previous\\\":\\\"{hash}\\\","));
    assert_ne!(forged, text);
    store.put_new(&key(2), forged.into_bytes().into()).await.unwrap();
    store.put_new(&key(3), b"rubbish".to_vec().into()).await.unwrap();
    let process = open(&store, &keys).await.unwrap();
    assert_eq!(keep(&cx, &process, "backup").await.unwrap().number, 4);
    let told: Vec<String> =
        verify(&vault, &[]).await.unwrap().findings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("entry 2 is forged: its sealed part"), "{told:?}");
    assert!(told[1].starts_with("entry 3 does not read"), "{told:?}");
    let lines = list(&vault, &Filter::default(), 9).await.unwrap();
    let forged: Vec<u64> = lines
        .iter()
        .filter(|line| matches!(line.voucher, Voucher::Forged(_)))
        .map(|line| line.number)
        .collect();
    assert_eq!((lines.len(), forged), (3, vec![2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_may_only_append_write_unsigned_and_plain_vaults_vouch_for_nobody() {
    let (cx, vault, store, _) = vault(6).await;
    let host = keys();
    vault.add_recipient(&cx, (&host.recipient, Scope::AppendOnly), None).await.unwrap();
    let appending = open(&store, &host).await.unwrap();
    assert!(!appending.may_read() && head(&appending).await.unwrap().public_key.is_none());
    keep(&cx, &vault, "key add").await.unwrap();
    keep(&cx, &appending, "backup").await.unwrap();
    let verdict = verify(&vault, &[]).await.unwrap();
    assert_eq!((verdict.sound, verdict.signed, verdict.sealed), (true, 1, 1));
    assert_eq!(verify(&appending, &[]).await.unwrap().sealed, 2);

    let plain = Arc::new(SimStore::default());
    Vault::create(&cx, plain.clone(), Suite::Plain, &[], "test").await.unwrap();
    let plain = Vault::open(plain, &Unlock::default()).await.unwrap();
    keep(&cx, &plain, "init").await.unwrap();
    let verdict = verify(&plain, &[]).await.unwrap();
    assert_eq!((verdict.sound, verdict.unknown), (true, 1));
    let texts = list(&plain, &Filter::default(), 9).await.unwrap().remove(0).texts;
    assert_eq!(texts.get("reason").map(String::as_str), Some("case 4711"));
}
