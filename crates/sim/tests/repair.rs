//! Damage mended from a replica, and restores that go on without what no vault has.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(clippy::single_range_in_vec_init, reason = "lost pages are a list of ranges, mostly of one")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_model::Cx;
use strongroom_model::point::Summary;
use strongroom_ops::OpsError;
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::repair::{Repair, repair};
use strongroom_ops::restore::LOST_PAGES;
use strongroom_ops::verify::{Verdict, verify};
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::hold::HoldRecord;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Vault, VaultError};
use world::{Keys, create, keys, open, restore, restore_with, source, take, toy, verification};

/// Two replicas with the same two points, the second incremental, and a hold.
struct Pair {
    keys: Keys,
    here: Arc<SimStore>,
    there: Arc<SimStore>,
    points: Vec<Summary>,
}

fn later() -> ToyEngine {
    let mut engine = toy();
    engine.files.get_mut("big").unwrap()[8192..2 * 8192].fill(9);
    engine
}

async fn pair(cx: &Cx) -> Pair {
    let (keys, here, there) = (keys(), Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    create(cx, &here, &keys).await.unwrap();
    let vault = open(&here, &keys).await.unwrap();
    let points = vec![take(cx, &vault, &toy()).await.unwrap(), take(cx, &vault, &later()).await.unwrap()];
    let placed = HoldRecord { reason: "audit".into(), owner: "us".into(), at: cx.now(), until: None };
    vault.place_hold(cx, &source(), &points[0].point, placed).await.unwrap();
    verify(cx, &vault, &verification(None, Depth::Data)).await.unwrap();
    vault.replicate(cx, there.clone() as Arc<dyn Store>, &[], "test").await.unwrap();
    let replica = open(&there, &keys).await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let request = CopyRequest { source: None, choice: Choice::All, options };
    assert!(copy(cx, &vault, &replica, &request).await.unwrap().is_complete());
    here.heal();
    there.heal();
    Pair { keys, here, there, points }
}

impl Pair {
    async fn vaults(&self) -> Result<(Arc<Vault>, Arc<Vault>), VaultError> {
        Ok((open(&self.here, &self.keys).await?, open(&self.there, &self.keys).await?))
    }

    /// Verifies here and repairs from there.
    async fn repair(&self, cx: &Cx, carry_out: bool) -> Result<(Verdict, Option<Repair>), OpsError> {
        let (here, there) = self.vaults().await?;
        let mut request = verification(None, Depth::Data);
        request.hand = None;
        let mut verdict = verify(cx, &here, &request).await?;
        if verdict.sound {
            return Ok((verdict, None));
        }
        let repair = repair(cx, (&here, &there), (&mut verdict, &request), carry_out).await?;
        Ok((verdict, Some(repair)))
    }

    async fn expect_whole(&self, cx: &Cx, context: &str) {
        let (here, _) = self.vaults().await.unwrap();
        for (point, engine) in self.points.iter().zip([toy(), later()]) {
            let files = restore(cx, &here, point).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(files, engine.expected(), "{context}");
        }
        let verdict = verify(cx, &here, &verification(None, Depth::Pages)).await.unwrap();
        assert!(verdict.sound, "{context}: {verdict:?}");
    }
}

/// What a verification can miss: the others are there or they never were.
fn is_missed(key: &Key) -> bool {
    ["/manifest", "/intent"].iter().any(|part| key.as_str().ends_with(part))
        || key.as_str().contains("/packs/")
        || key.as_str().contains("/wal/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_that_is_damaged_or_missing_is_put_back() {
    let cx = surroundings(1);
    let pair = pair(&cx).await;
    let (mut kinds, mut mended) = (BTreeSet::new(), 0);
    for (key, object) in pair.here.objects() {
        if key.as_str() == "vault.json" || key.as_str().starts_with("keys/") {
            continue;
        }
        let mut flipped = object.to_vec();
        flipped[object.len() / 2] ^= 1;
        let damages = [Some(flipped), Some(object[..object.len() / 2].to_vec()), None];
        for damage in damages.into_iter().filter(|damage| damage.is_some() || is_missed(&key)) {
            let context = format!("{key}, {:?} bytes", damage.as_ref().map(Vec::len));
            match damage {
                Some(bytes) => pair.here.tamper(&key, bytes.into()),
                None => pair.here.delete(&key).await.unwrap(),
            }
            let before = pair.here.objects();
            let (verdict, rehearsed) = pair.repair(&cx, false).await.unwrap();
            let found = rehearsed.unwrap_or_else(|| panic!("{context} went unseen"));
            assert!(!verdict.sound && found.beyond.is_empty(), "{context}: {found:?}");
            assert_eq!(pair.here.objects(), before, "a rehearsal wrote: {context}");
            let (verdict, repair) = pair.repair(&cx, true).await.unwrap();
            assert!(verdict.sound, "{context}: {verdict:?} {repair:?}");
            assert_eq!(pair.here.objects().get(&key), pair.there.objects().get(&key), "{context}");
            pair.expect_whole(&cx, &context).await;
            // A copy marks its own intent.
            pair.here.tamper(&key, object.clone());
            mended += 1;
        }
        kinds.insert(strongroom_vault::layout::kind(&key).map(|kind| kind as u8));
    }
    assert!(mended > 30 && kinds.len() >= 8, "{mended} objects of {kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_survives_any_fault_at_any_operation_of_either_vault() {
    let faults =
        [Fault::Before, Fault::ReplyLost, Fault::Dead, Fault::BitFlip, Fault::ShortRead, Fault::PutForgotten];
    let mut runs = 0;
    for fault in faults {
        for of_replica in [true, false] {
            for at in (0..).step_by(3) {
                let cx = surroundings(at as u64);
                let pair = pair(&cx).await;
                for (nth, key) in pair.here.objects().into_keys().enumerate() {
                    match nth % 3 {
                        0 if is_missed(&key) => pair.here.delete(&key).await.unwrap(),
                        1 if is_missed(&key) => pair.here.tamper(&key, vec![0; 40].into()),
                        _ => {}
                    }
                }
                pair.here.heal();
                let faulty = if of_replica { &pair.there } else { &pair.here };
                faulty.fail_at(at, fault);
                let outcome = pair.repair(&cx, true).await;
                let reached = faulty.operations() > at;
                faulty.heal();
                let context = format!("{fault:?} at {at}, of the replica {of_replica}: {outcome:?}");
                let (verdict, _) = pair.repair(&cx, true).await.unwrap();
                assert!(verdict.sound, "{context}: {verdict:?}");
                pair.expect_whole(&cx, &context).await;
                runs += 1;
                if !reached {
                    assert!(outcome.unwrap().0.sound, "no fault was met");
                    break;
                }
            }
        }
    }
    assert!(runs > 100, "only {runs} runs: the faults did not reach the operations");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_replica_has_not_whole_is_left_as_it_is_and_named() {
    let cx = surroundings(3);
    let pair = pair(&cx).await;
    let packs: Vec<Key> =
        pair.here.objects().into_keys().filter(|key| key.as_str().contains("/packs/")).collect();
    for store in [&pair.here, &pair.there] {
        let mut object = store.objects()[&packs[0]].to_vec();
        object[40] ^= 1;
        store.tamper(&packs[0], object.into());
    }
    let before = pair.here.objects();
    let (verdict, repair) = pair.repair(&cx, true).await.unwrap();
    let repair = repair.unwrap();
    assert!(!verdict.sound && repair.repaired.is_empty());
    assert_eq!(repair.beyond[0].object, packs[0].as_str());
    assert_eq!(pair.here.objects(), before, "the damaged pack went before there was a whole one");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_pages_are_zeros_and_named_and_all_else_is_as_it_was() {
    let (cx, keys) = (surroundings(4), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let point = take(&cx, &vault, &toy()).await.unwrap();
    let vaults = std::slice::from_ref(&vault);
    let (whole, restored) = restore_with(&cx, vaults, &point, true).await.unwrap();
    assert!(restored.lost.is_empty() && whole == toy().expected(), "a sound point lost something");
    let (key, pack) = store.objects().into_iter().find(|(key, _)| key.as_str().contains("/packs/")).unwrap();
    let mut flipped = pack.to_vec();
    flipped[60] ^= 1;
    for damage in [Some(flipped), Some(pack[..pack.len() / 2].to_vec()), None] {
        match damage {
            Some(bytes) => store.tamper(&key, bytes.into()),
            None => store.delete(&key).await.unwrap(),
        }
        let error = restore_with(&cx, vaults, &point, false).await.unwrap_err();
        assert!(error.to_string().contains(key.as_str()), "{error}");
        let (mut files, restored) = restore_with(&cx, vaults, &point, true).await.unwrap();
        let report = String::from_utf8(files.remove(LOST_PAGES).unwrap()).unwrap();
        assert_eq!(report, serde_json::to_string_pretty(&restored.lost).unwrap());
        let mut expected = toy().expected();
        let mut lost = 0;
        for of_file in &restored.lost {
            let file = expected.get_mut(&of_file.path).unwrap();
            for page in of_file.pages.iter().flat_map(Clone::clone) {
                let (from, to) = (page as usize * 8192, file.len().min((page as usize + 1) * 8192));
                assert!(file[from..to].iter().any(|byte| *byte != 0), "a page of zeros cannot be lost");
                file[from..to].fill(0);
                lost += 1;
            }
        }
        assert!(files == expected && lost > 0, "{:?}", restored.lost);
    }
    // A store that does not answer is no loss.
    store.tamper(&key, pack);
    let operations = {
        store.heal();
        restore_with(&cx, vaults, &point, true).await.unwrap();
        store.operations()
    };
    for at in 0..operations {
        store.heal();
        store.fail_at(at, Fault::Before);
        assert!(restore_with(&cx, vaults, &point, true).await.is_err(), "operation {at} failed unnoticed");
    }
}
