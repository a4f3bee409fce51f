//! Second copies: every store operation of both vaults failing in every way, followers that fail, restores that go on.
//!
//! After each run both stores are healed and the vaults opened anew. Then: whatever the target lists as restorable restores
//! byte for byte from there alone; the copy, run again, completes; and the target holds no pack the source has not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use strongroom_codec::header::Kind as StreamKind;
use strongroom_codec::keys::{Keyring, VaultKey};
use strongroom_codec::stream::{StreamScope, StreamWriter};
use strongroom_model::point::{PointState, Summary};
use strongroom_model::{Cx, Entropy, SystemId, WalFile};
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::copy_points::{Choice, Copied, CopyRequest, copy, plan};
use strongroom_ops::verify::verify;
use strongroom_sim::engine::Files;
use strongroom_sim::{Fault, SimStore, ToyEngine, Turns, world as surroundings, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};
use world::{Keys, create, files, keys, open, restore, restore_from, ship, source, take, toy, verification};

/// All but those of a listing that lies: nothing else tells a copy what there is.
const FAULTS: [Fault; 8] = [
    Fault::Before,
    Fault::ReplyLost,
    Fault::Dead,
    Fault::BitFlip,
    Fault::ShortRead,
    Fault::WrongRange,
    Fault::PutForgotten,
    Fault::PutRefused,
];

fn all() -> CopyRequest {
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    CopyRequest { source: None, choice: Choice::All, options }
}

/// Two replicas: the first with a full point and an incremental one.
struct Pair {
    keys: Keys,
    from: Arc<SimStore>,
    to: Arc<SimStore>,
    points: Vec<Summary>,
}

fn later() -> ToyEngine {
    let mut engine = toy();
    engine.files.insert("new".into(), (0..9 * 8192u32).map(|at| (at * 7 / 5) as u8).collect());
    engine.files.get_mut("big").unwrap()[8192..2 * 8192].fill(9);
    engine
}

fn expected() -> [Files; 2] {
    [toy().expected(), later().expected()]
}

async fn replicate(cx: &Cx, from: &Arc<Vault>, to: &Arc<SimStore>) -> Result<Vault, VaultError> {
    from.replicate(cx, to.clone() as Arc<dyn Store>, &[], "test").await
}

async fn pair(cx: &Cx) -> Pair {
    let (keys, from, to) = (keys(), Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    create(cx, &from, &keys).await.unwrap();
    let vault = open(&from, &keys).await.unwrap();
    let points = vec![take(cx, &vault, &toy()).await.unwrap(), take(cx, &vault, &later()).await.unwrap()];
    assert!(points[1].parent.is_some());
    replicate(cx, &vault, &to).await.unwrap();
    Pair { keys, from, to, points }
}

impl Pair {
    async fn vaults(&self) -> (Arc<Vault>, Arc<Vault>) {
        (open(&self.from, &self.keys).await.unwrap(), open(&self.to, &self.keys).await.unwrap())
    }

    async fn copy(&self, cx: &Cx) -> Result<Copied, OpsError> {
        let (from, to) = (open(&self.from, &self.keys).await?, open(&self.to, &self.keys).await?);
        copy(cx, &from, &to, &all()).await
    }

    /// Every point that the target lists restores from there; how many there are.
    async fn restorable(&self, cx: &Cx, context: &str) -> usize {
        let to = open(&self.to, &self.keys).await.unwrap();
        let rows = to.points(&source()).await.unwrap();
        let restorable: Vec<&Summary> = rows.iter().filter_map(PointRow::restorable).collect();
        for summary in &restorable {
            let at = self.points.iter().position(|point| point.point == summary.point).unwrap();
            assert_eq!(restore(cx, &to, summary).await.unwrap(), expected()[at], "{context}");
        }
        restorable.len()
    }

    fn packs(store: &SimStore) -> BTreeSet<Key> {
        store.objects().into_keys().filter(|key| key.as_str().contains("/packs/")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_survives_any_fault_at_any_operation_of_either_vault() {
    let mut runs = 0;
    for fault in FAULTS {
        for of_source in [true, false] {
            for at in 0.. {
                let cx = surroundings(at as u64);
                let pair = pair(&cx).await;
                let faulty = if of_source { &pair.from } else { &pair.to };
                faulty.fail_at(at, fault);
                let outcome = pair.copy(&cx).await;
                let reached = faulty.operations() > at;
                faulty.heal();

                let context = format!("{fault:?} at {at}, source {of_source}: {outcome:?}");
                let listed = pair.restorable(&cx, &context).await;
                if outcome.as_ref().is_ok_and(Copied::is_complete) {
                    assert_eq!(listed, 2, "{context}");
                }
                let again = pair.copy(&cx).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(again.is_complete(), "{context}: {again:?}");
                assert_eq!(pair.restorable(&cx, &context).await, 2, "{context}");
                assert_eq!(Pair::packs(&pair.to), Pair::packs(&pair.from), "{context}");
                let third = pair.copy(&cx).await.unwrap();
                assert!(third.sources.iter().all(|of| of.points.is_empty() && of.journal.objects == 0));
                runs += 1;
                if !reached {
                    assert!(outcome.unwrap().is_complete(), "no fault was met, and yet: {context}");
                    break;
                }
            }
        }
    }
    assert!(runs > 200, "only {runs} runs: the faults did not reach the operations");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_byte_identical_and_sound_without_its_source() {
    let cx = surroundings(1);
    let pair = pair(&cx).await;
    pair.copy(&cx).await.unwrap();
    for (key, object) in pair.from.objects() {
        let own = !key.as_str().starts_with("sources/") || key.last_segment() == "intent";
        assert!(own || pair.to.objects().get(&key) == Some(&object), "{key}");
    }
    let to = open(&pair.to, &pair.keys).await.unwrap();
    let request = verification(None, Depth::Data);
    assert!(verify(&cx, &to, &request).await.unwrap().sound);
    // It is a vault in its own right: a backup goes on from the copied points.
    let point = take(&cx, &to, &later()).await.unwrap();
    assert_eq!(point.parent.as_ref(), Some(&pair.points[1].point));
    assert_eq!(restore(&cx, &to, &point).await.unwrap(), later().expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_does_not_travel_and_keeps_nothing_else_from_it() {
    let cx = surroundings(2);
    let pair = pair(&cx).await;
    let own = format!("{}/packs/", pair.points[1].point);
    let (key, object) = pair.from.objects().into_iter().find(|(key, _)| key.as_str().contains(&own)).unwrap();
    let mut damaged = object.to_vec();
    damaged[object.len() / 2] ^= 1;
    pair.from.tamper(&key, damaged.into());
    let copied = pair.copy(&cx).await.unwrap();
    assert_eq!(copied.sources[0].points, [pair.points[0].point.clone()]);
    assert!(copied.sources[0].left_out[0].why.contains(key.as_str()), "{copied:?}");
    assert!(!pair.to.objects().contains_key(&key) && !copied.is_complete());
    pair.from.tamper(&key, object);
    assert!(pair.copy(&cx).await.unwrap().is_complete());
    assert_eq!(pair.restorable(&cx, "mended").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_another_id_key_or_place_is_refused_and_nothing_written() {
    let cx = surroundings(3);
    let pair = pair(&cx).await;
    let (from, to) = pair.vaults().await;
    let other_store = Arc::new(SimStore::default());
    create(&cx, &other_store, &pair.keys).await.unwrap();
    let other = open(&other_store, &pair.keys).await.unwrap();
    let before = other_store.objects();
    let refused = copy(&cx, &from, &other, &all()).await.unwrap_err();
    assert!(matches!(refused, OpsError::Vault(VaultError::NotAReplica { .. })), "{refused}");
    assert!(refused.to_string().contains("it is another vault"), "{refused}");
    let refused = copy(&cx, &from, &from, &all()).await.unwrap_err();
    assert!(matches!(refused, OpsError::Vault(VaultError::SamePlace { .. })), "{refused}");
    // The other vault's file, with the first one's id: the same id and another key.
    let json = Key::new("vault.json").unwrap();
    let text = String::from_utf8(before[&json].to_vec()).unwrap();
    other_store.tamper(&json, text.replace(other.id().as_str(), from.id().as_str()).into());
    let forged = open(&other_store, &pair.keys).await.unwrap();
    let refused = plan(&from, &forged, &all()).await.unwrap_err();
    assert!(refused.to_string().contains("another key"), "{refused}");
    other_store.tamper(&json, before[&json].clone());
    assert_eq!(other_store.objects(), before, "a refused copy wrote something");
    // A vault is not made where there is one.
    let taken = replicate(&cx, &from, &pair.to).await.unwrap_err();
    assert!(matches!(taken, VaultError::AlreadyAVault { .. }), "{taken}");
    to.check_replica(&from).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_made_whole_or_not_at_all_and_may_have_keys_of_its_own() {
    for fault in [Fault::Before, Fault::ReplyLost, Fault::Dead] {
        for at in 0.. {
            let cx = surroundings(at as u64);
            let pair = pair(&cx).await;
            let (from, _) = pair.vaults().await;
            let store = Arc::new(SimStore::default());
            let own = keys();
            let recipient = || match &own.recipient {
                Recipient::Age(text) => Recipient::Age(text.clone()),
                Recipient::Passphrase(_) | Recipient::Kms(_) => {
                    unreachable!("the world's keys are age identities")
                }
            };
            store.fail_at(at, fault);
            let outcome = from.replicate(&cx, store.clone() as Arc<dyn Store>, &[recipient()], "test").await;
            let reached = store.operations() > at;
            store.heal();
            if outcome.is_err() && open(&store, &own).await.is_err() {
                from.replicate(&cx, store.clone() as Arc<dyn Store>, &[recipient()], "test").await.unwrap();
            }
            let to = open(&store, &own).await.unwrap();
            assert!(copy(&cx, &from, &to, &all()).await.unwrap().is_complete());
            assert!(open(&store, &pair.keys).await.is_err(), "the first vault's identity opens it, too");
            if !reached {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_pushed_to_both_is_no_difference_and_other_wal_of_one_name_is() {
    let cx = surroundings(4);
    let pair = pair(&cx).await;
    let (_, to) = pair.vaults().await;
    ship(&cx, &to, &toy()).await.unwrap();
    let copied = pair.copy(&cx).await.unwrap();
    assert!(copied.is_complete() && copied.sources[0].journal.objects == 0, "{copied:?}");

    let other = self::pair(&cx).await;
    let (_, to) = other.vaults().await;
    // The same name, of the same cluster, with other content.
    world::ship_content(
        &cx,
        &to,
        &toy(),
        (0..1u32 << 16).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
    )
    .await
    .unwrap();
    let copied = other.copy(&cx).await.unwrap();
    assert_eq!(copied.sources[0].journal.differing.len(), 1, "{copied:?}");
    assert!(!copied.is_complete());
}

/// However it is stored: another build may cut and compress it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_wal_in_a_longer_object_is_no_difference() {
    let cx = surroundings(16);
    let (from, to) = (Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    Vault::create(&cx, from.clone(), Suite::Plain, &[], "test").await.unwrap();
    let vault = plain(from.clone()).await;
    take(&cx, &vault, &toy()).await.unwrap();
    replicate(&cx, &vault, &to).await.unwrap();

    let (path, object) = from.objects().into_iter().find(|(key, _)| key.as_str().contains("/wal/")).unwrap();
    let file = WalFile::parse(path.last_segment()).unwrap();
    let (facts, content) = vault.fetch(&source(), SystemId(42), file).await.unwrap().unwrap();
    let keys = Keyring::whole(Suite::Plain, VaultKey::public());
    let scope =
        StreamScope { suite: Suite::Plain, key: keys.append_key(), vault: vault.id(), path: path.as_str() };
    let mut writer = StreamWriter::new(scope, StreamKind::Journal, cx.random());
    writer.push(&serde_json::to_vec(&facts).unwrap());
    content.chunks(1000).for_each(|chunk| writer.push(chunk));
    let longer = writer.finish();
    assert!(longer.len() > object.len() + 1000);
    to.put_new(&path, longer.into()).await.unwrap();
    let copied = copy(&cx, &vault, &plain(to).await, &all()).await.unwrap();
    assert!(copied.is_complete() && copied.sources[0].journal.differing.is_empty(), "{copied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_fails_never_fails_the_backup_and_is_filled_later() {
    let mut runs = 0;
    for fault in FAULTS {
        for at in 0.. {
            let cx = surroundings(at as u64);
            let pair = pair(&cx).await;
            pair.copy(&cx).await.unwrap();
            let (from, to) = pair.vaults().await;
            let mut engine = later();
            engine.files = files(3);
            pair.to.fail_at(at, fault);
            let request = BackupRequest { followers: vec![to], ..world::request() };
            let point = backup(&cx, &from, &engine, &request).await.unwrap();
            let reached = pair.to.operations() > at;
            let context = format!("{fault:?} at {at}");
            let refused = matches!(fault, Fault::Before | Fault::ReplyLost | Fault::Dead | Fault::PutRefused);
            assert!(!refused || pair.to.operations() <= at + 1, "{context}: it was not left alone");
            // What the backup handed out need not be copied again.
            pair.to.heal();
            let followed = Pair::packs(&pair.to) == Pair::packs(&pair.from);
            assert!(followed || reached, "{context}: a follower without fault lacks packs");
            let copied = pair.copy(&cx).await.unwrap();
            assert!(copied.is_complete(), "{context}: {copied:?}");
            let (_, to) = pair.vaults().await;
            assert_eq!(restore(&cx, &to, &point).await.unwrap(), engine.expected(), "{context}");
            runs += 1;
            if !reached {
                break;
            }
        }
    }
    assert!(runs > 10, "only {runs} runs");
}

/// Whether its writer died, a replica cannot tell: a follower's point waits for a copy, as a copy's own does.
#[tokio::test(flavor = "multi_thread")]
async fn no_sweep_takes_what_a_writer_gave_a_follower_for_dead() {
    let cx = surroundings(14);
    let pair = pair(&cx).await;
    let rehearsal = Arc::new(SimStore::holding(pair.from.objects()));
    let vault = open(&rehearsal, &pair.keys).await.unwrap();
    rehearsal.heal();
    backup(&cx, &vault, &later(), &world::request()).await.unwrap();
    let is_manifest = |line: &String| line.contains(" Write ") && line.ends_with("/manifest");
    let manifest = rehearsal.log().iter().position(is_manifest).unwrap();

    let (from, to) = pair.vaults().await;
    pair.from.fail_at(manifest, Fault::Dead);
    let request = BackupRequest { followers: vec![to.clone()], ..world::request() };
    backup(&cx, &from, &later(), &request).await.unwrap_err();
    let rows = to.points(&source()).await.unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert!(matches!(row.state, PointState::Undecided { .. }));
    let packs = Pair::packs(&pair.to);
    let swept = to.sweep(&world_at(15, 365 * 24 * 3600), &source(), &sweeping()).await.unwrap();
    assert_eq!((swept.spared, swept.revoked), (vec![row.point.clone()], vec![]));
    assert!(!packs.is_empty() && Pair::packs(&pair.to) == packs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_given_up_at_its_source_is_given_up_in_the_replica() {
    let cx = surroundings(5);
    let pair = pair(&cx).await;
    let (from, to) = pair.vaults().await;
    // A backup without its journal fails; its follower hears of it at once, or by the next copy.
    let other = ToyEngine::new(43, files(3));
    let follow = |followers| BackupRequest {
        followers,
        new_lineage: strongroom_ops::lineage::NewLineage::Accept,
        ..world::request()
    };
    backup(&cx, &from, &other, &follow(vec![to.clone()])).await.unwrap_err();
    // Intent and pack arrive, the word that it was abandoned does not.
    pair.to.fail_at(2, Fault::Dead);
    backup(&cx, &from, &other, &follow(vec![to])).await.unwrap_err();
    pair.to.heal();
    let (_, to) = pair.vaults().await;
    let states = async || {
        let rows = to.points(&source()).await.unwrap();
        rows.into_iter().map(|row| row.state).collect::<Vec<_>>()
    };
    let undecided = |state: &PointState| matches!(state, PointState::Undecided { .. });
    let abandoned = |state: &PointState| matches!(state, PointState::Abandoned { .. });
    assert_eq!(states().await.iter().filter(|state| undecided(state)).count(), 1);
    pair.copy(&cx).await.unwrap();
    let states = states().await;
    assert_eq!(states.iter().filter(|state| abandoned(state)).count(), 2, "{states:?}");
    assert_eq!(states.iter().filter(|state| undecided(state)).count(), 0, "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_with_a_replica_pack_by_pack_and_frame_by_frame() {
    let cx = surroundings(6);
    let pair = pair(&cx).await;
    pair.copy(&cx).await.unwrap();
    let point = &pair.points[0];
    let own = format!("{}/packs/", point.point);
    let packs: Vec<(Key, Bytes)> =
        pair.from.objects().into_iter().filter(|(key, _)| key.as_str().contains(&own)).collect();
    assert!(packs.len() > 1);
    let restored = async || {
        let (from, to) = pair.vaults().await;
        restore_from(&cx, &[from, to], point).await
    };
    let flipped = |object: &Bytes, at: usize| {
        let mut bytes = object.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    assert!(restored().await.unwrap().1.from_replicas.is_empty());
    for (key, object) in &packs {
        // A frame, the footer, the trailer, the whole.
        for at in [60, object.len() - 60, object.len() - 4] {
            pair.from.tamper(key, flipped(object, at));
            let (files, report) = restored().await.unwrap();
            assert_eq!(files, toy().expected(), "byte {at} of {key}");
            assert_eq!(report.from_replicas.values().copied().collect::<Vec<_>>(), [1], "byte {at} of {key}");
        }
        pair.from.delete(key).await.unwrap();
        assert_eq!(restored().await.unwrap().0, toy().expected(), "{key} missing");
        // Lost in both: it fails, and names the object.
        pair.to.tamper(key, flipped(object, 60));
        let error = restored().await.unwrap_err().to_string();
        assert!(error.contains(key.as_str()), "{error}");
        pair.from.tamper(key, object.clone());
        pair.to.tamper(key, object.clone());
    }
    let manifest = format!("{}/manifest", point.point);
    let (key, object) =
        pair.from.objects().into_iter().find(|(key, _)| key.as_str().ends_with(&manifest)).unwrap();
    pair.from.tamper(&key, flipped(&object, 100));
    assert_eq!(restored().await.unwrap().0, toy().expected());
}

/// A store that is down is waited for minutes at a time: once, not at every range of every pack.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_falls_silent_during_a_restore_is_not_asked_for_every_pack() {
    let cx = surroundings(6);
    let pair = pair(&cx).await;
    pair.copy(&cx).await.unwrap();
    let (from, to) = pair.vaults().await;
    let vaults = [from, to];
    let of_packs = || pair.from.log().into_iter().filter(|line| line.contains("/packs/")).collect::<Vec<_>>();
    for point in &pair.points {
        pair.from.heal();
        let expected = restore_from(&cx, &vaults, point).await.unwrap().0;
        let (whole, asked) = (pair.from.log(), of_packs());
        let first = whole.iter().position(|line| *line == asked[0]).unwrap();
        pair.from.fail_at(first, Fault::Dead);
        let (files, report) = restore_from(&cx, &vaults, point).await.unwrap();
        assert_eq!(files, expected);
        assert!(report.from_replicas.values().sum::<usize>() > 1);
        assert!(asked.len() > 2 && of_packs().len() == 1, "{asked:?}, when down: {:?}", of_packs());
    }
}

/// One more point at its source, and in the replica all the others it shares packs with let go: a sweep there is about to
/// delete what a copy would leave out because it is there.
struct Crossing {
    from: Arc<SimStore>,
    to: std::collections::BTreeMap<Key, Bytes>,
    point: Summary,
    expected: Files,
}

async fn crossing() -> Crossing {
    let cx = world_at(1 << 40, 0);
    let (from, to) = (Arc::new(SimStore::default()), Arc::new(SimStore::default()));
    Vault::create(&cx, from.clone(), Suite::Plain, &[], "test").await.unwrap();
    let source_vault = plain(from.clone()).await;
    for engine in [toy(), later()] {
        take(&cx, &source_vault, &engine).await.unwrap();
    }
    replicate(&cx, &source_vault, &to).await.unwrap();
    let target = plain(to.clone()).await;
    assert!(copy(&cx, &source_vault, &target, &all()).await.unwrap().is_complete());
    for row in target.points(&source()).await.unwrap() {
        let key = Key::new(format!("sources/toy/points/{}/expired", row.point)).unwrap();
        to.tamper(&key, Bytes::from_static(b"gone"));
    }
    let mut engine = later();
    engine.files.get_mut("big").unwrap()[..8192].fill(77);
    let point = take(&cx, &source_vault, &engine).await.unwrap();
    let opened = source_vault.open_point(&source(), &point.point).await.unwrap();
    assert!(opened.packs().all().iter().any(|pack| pack.owner != point.point), "it shares nothing");
    Crossing { from, to: to.objects(), point, expected: engine.expected() }
}

async fn plain(store: Arc<dyn Store>) -> Arc<Vault> {
    Arc::new(Vault::open(store, &Unlock::default()).await.unwrap())
}

fn sweeping() -> SweepOptions {
    let stale_after = std::time::Duration::ZERO;
    SweepOptions { stale_after, dry_run: false, host: "sim".into(), tool: "test".into() }
}

impl Crossing {
    /// What is listed restores; the copy completes and stays, with nothing else beside it, after a sweep.
    async fn check(&self, cx: &Cx, to: &Arc<SimStore>, context: &str) {
        let (from, target) = (plain(self.from.clone()).await, plain(to.clone()).await);
        let listed = async || {
            let rows = target.points(&source()).await.unwrap();
            rows.iter().filter_map(PointRow::restorable).cloned().collect::<Vec<_>>()
        };
        for summary in listed().await {
            assert_eq!(restore(cx, &target, &summary).await.unwrap(), self.expected, "{context}");
        }
        let again = copy(cx, &from, &target, &all()).await.unwrap();
        assert!(again.is_complete(), "{context}: {again:?}");
        target.sweep(cx, &source(), &sweeping()).await.unwrap();
        assert_eq!(listed().await, std::slice::from_ref(&self.point), "{context}");
        assert_eq!(restore(cx, &target, &self.point).await.unwrap(), self.expected, "{context}");
        let truth = [(self.point.point.clone(), self.expected.clone())].into();
        world::expect_no_garbage(to, &target, &truth, context).await;
    }
}

/// The copy goes on for `before` operations, the sweep for so many, the copy for so many, then the sweep to its end.
struct Schedule {
    before: usize,
    sweep: usize,
    copy: usize,
    drawn: AtomicUsize,
}

impl Entropy for Schedule {
    fn fill(&self, out: &mut [u8]) {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        out.fill(0);
        // Actor 0 sweeps, actor 1 copies.
        let second = self.before + self.sweep;
        out[0] = u8::from(drawn < self.before || (second..second + self.copy).contains(&drawn));
    }
}

/// One sweep of the target and some copies into it, in the order that `chance` decides; what the copies came to.
async fn play(
    crossing: &Arc<Crossing>,
    cx: &Cx,
    copies: usize,
    chance: Arc<dyn Entropy>,
) -> (Arc<SimStore>, Vec<Copied>) {
    let to = Arc::new(SimStore::holding(crossing.to.clone()));
    let turns = Turns::new(1 + copies, chance);
    let mut tasks = Vec::new();
    for actor in 0..=copies {
        let (cx, turns, crossing) = (cx.clone(), Arc::clone(&turns), Arc::clone(crossing));
        let seen = turns.of(actor, to.clone());
        tasks.push(tokio::spawn(async move {
            let target = plain(seen).await;
            let copied = if actor == 0 {
                target.sweep(&cx, &source(), &sweeping()).await.unwrap();
                None
            } else {
                let from = plain(crossing.from.clone()).await;
                Some(copy(&cx, &from, &target, &all()).await.unwrap())
            };
            turns.leave(actor);
            copied
        }));
    }
    let mut copied = Vec::new();
    for task in tasks {
        copied.extend(task.await.unwrap());
    }
    (to, copied)
}

/// Whether the copy stepped aside; any other reason to leave something out is a failure.
fn stepped_aside(copied: &Copied, context: &str) -> bool {
    let left = copied.sources.iter().flat_map(|of| &of.left_out).map(|left| left.why.as_str());
    match left.collect::<Vec<_>>()[..] {
        [] => false,
        [why] if why.contains("a sweep of sim: is removing packs") => true,
        ref left => panic!("{context}: {left:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_a_sweep_of_the_target_loses_nothing_wherever_they_cross() {
    let crossing = Arc::new(crossing().await);
    // How many operations each takes by itself.
    let alone = Arc::new(SimStore::holding(crossing.to.clone()));
    let cx = world_at(1, 24 * 3600);
    plain(alone.clone()).await.sweep(&cx, &source(), &sweeping()).await.unwrap();
    let sweep_takes = alone.operations();
    let (mut aside, mut went_on) = (0, 0);
    for sweep in 0..=sweep_takes + 1 {
        // The copy interrupted once it has begun, and the copy interrupted by the sweep.
        let interrupted = (0..60).step_by(4).map(|copy| (0, copy));
        for (before, copy) in interrupted.chain((0..60).map(|before| (before, 1000))) {
            let cx = world_at(1, 24 * 3600);
            let schedule = Schedule { before, sweep, copy, drawn: AtomicUsize::new(0) };
            let (to, copied) = play(&crossing, &cx, 1, Arc::new(schedule)).await;
            let context = format!("copy {before}, sweep {sweep}, copy {copy}");
            match stepped_aside(&copied[0], &context) {
                true => aside += 1,
                false => went_on += 1,
            }
            crossing.check(&cx, &to, &context).await;
        }
    }
    assert!(aside > 10 && went_on > 100, "{aside} stepped aside, {went_on} went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_beside_a_sweep_lose_nothing_in_any_order() {
    let crossing = Arc::new(crossing().await);
    for seed in 0..200 {
        let cx = world_at(seed, 24 * 3600);
        let (to, copied) = play(&crossing, &cx, 2, world_at(!seed, 0).entropy).await;
        let context = format!("seed {seed}");
        for copied in &copied {
            stepped_aside(copied, &context);
        }
        crossing.check(&cx, &to, &context).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_died_holds_a_copy_up_until_it_is_forgotten() {
    let crossing = crossing().await;
    let mut held_up = 0;
    for at in 0.. {
        let to = Arc::new(SimStore::holding(crossing.to.clone()));
        let cx = world_at(at as u64, 24 * 3600);
        let (from, target) = (plain(crossing.from.clone()).await, plain(to.clone()).await);
        to.fail_at(at, Fault::Dead);
        let swept = target.sweep(&cx, &source(), &sweeping()).await;
        to.heal();
        let copied = copy(&cx, &from, &target, &all()).await.unwrap();
        if !copied.is_complete() {
            let why = &copied.sources[0].left_out[0].why;
            assert!(why.contains("is removing packs"), "at {at}: {why}");
            held_up += 1;
            for head in target.list("sources/toy/sweeps").await.unwrap() {
                let id = head.key.last_segment();
                target.forget_sweep(&cx, &source(), id).await.unwrap();
            }
        }
        crossing.check(&cx, &to, &format!("died at {at}")).await;
        if swept.is_ok() {
            break;
        }
    }
    assert!(held_up > 1, "no copy was ever held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_wal_stays_where_it_is_and_keeps_nothing_from_the_replica() {
    let cx = surroundings(7);
    let pair = pair(&cx).await;
    let (key, object) =
        pair.from.objects().into_iter().find(|(key, _)| key.as_str().contains("/wal/")).unwrap();
    let mut damaged = object.to_vec();
    damaged[object.len() / 2] ^= 1;
    pair.from.tamper(&key, damaged.into());
    let copied = pair.copy(&cx).await.unwrap();
    assert!(copied.sources[0].journal.damaged[0].contains(key.as_str()), "{copied:?}");
    assert!(copied.sources[0].points.len() == 2 && !copied.is_complete());
    assert!(!pair.to.objects().contains_key(&key));
    pair.from.tamper(&key, object);
    assert!(pair.copy(&cx).await.unwrap().is_complete());
    assert_eq!(pair.restorable(&cx, "mended").await, 2);
}
