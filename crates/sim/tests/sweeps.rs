//! What a sweep spares, whom it takes for dead, and what stops it: situation by situation.
//!
//! The orders in which sweeps meet others are tried in `interleavings.rs` and `copy.rs`. Here each rule is seen by itself, also
//! those that only matter when something else goes wrong at the same time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strongroom_model::point::{PackRef, PointState, Summary};
use strongroom_model::retention::Retention;
use strongroom_model::{Cx, PointId};
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place};
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::expire::LetGo;
use strongroom_vault::sweep::{SweepOptions, Swept};
use strongroom_vault::{Suite, Unlock, Vault, VaultError};
use world::{restore, ship, source, take, toy};

const HOUR: u64 = 3600;

type Objects = BTreeMap<Key, Bytes>;

fn engine(segment: u64) -> ToyEngine {
    let mut engine = toy();
    engine.segment = segment;
    engine.files.insert("short".into(), vec![segment as u8; 40]);
    engine
}

async fn open(store: &Arc<SimStore>) -> Arc<Vault> {
    Arc::new(Vault::open(store.clone() as Arc<dyn Store>, &Unlock::default()).await.unwrap())
}

/// A vault with points in segments 1, 4, 7, …, and all segments up to the last point's.
async fn chain(cx: &Cx, points: u64) -> (Arc<Vault>, Arc<SimStore>, Vec<Summary>) {
    let store = Arc::new(SimStore::default());
    Vault::create(cx, store.clone(), Suite::Plain, &[], "test").await.unwrap();
    let vault = open(&store).await;
    let mut taken = Vec::new();
    for n in 0..points {
        for segment in 3 * n..=3 * n + 1 {
            ship(cx, &vault, &engine(segment)).await.unwrap();
        }
        taken.push(take(cx, &vault, &engine(3 * n + 1)).await.unwrap());
    }
    (vault, store, taken)
}

async fn keep_one(cx: &Cx, vault: &Arc<Vault>) {
    let retention = Retention { keep_last: 1, ..Retention::default() };
    let hand = Hand { host: "sim".into(), tool: "test".into() };
    let plan = plan(vault, &source(), &retention, cx.now()).await.unwrap();
    expire(cx, vault, &source(), (&plan, &retention, &hand)).await.unwrap();
}

async fn let_go(cx: &Cx, vault: &Vault, point: &PointId) {
    let why = LetGo { why: "test".into(), at: cx.now(), host: "sim".into(), tool: "test".into() };
    assert!(vault.expire(cx, &source(), point, &why).await.unwrap());
}

/// A sweep that takes writers for dead after an hour.
async fn sweep(cx: &Cx, vault: &Arc<Vault>, dry_run: bool) -> Result<Swept, VaultError> {
    let stale_after = Duration::from_secs(HOUR);
    let options = SweepOptions { stale_after, dry_run, host: "sim".into(), tool: "test".into() };
    vault.sweep(cx, &source(), &options).await
}

/// The number of the last operation of this kind that `work` carries out on a vault with these objects.
async fn last(objects: Objects, kind: &str, work: impl AsyncFnOnce(Arc<Vault>)) -> usize {
    let store = Arc::new(SimStore::holding(objects));
    let vault = open(&store).await;
    store.heal();
    work(vault).await;
    store.log().iter().rposition(|line| line.contains(kind)).unwrap()
}

/// Begins a point in this segment and dies before its decision, the last write.
async fn die(cx: &Cx, (vault, store): (&Arc<Vault>, &Arc<SimStore>), segment: u64) -> PointId {
    let rehearse = async |vault| drop(take(cx, &vault, &engine(segment)).await.unwrap());
    let decision = last(store.objects(), " Write ", rehearse).await;
    store.fail_at(decision, Fault::Dead);
    take(cx, vault, &engine(segment)).await.unwrap_err();
    store.heal();
    let undecided: Vec<PointId> = vault
        .points(&source())
        .await
        .unwrap()
        .into_iter()
        .filter(|row| matches!(row.state, PointState::Undecided { .. }))
        .map(|row| row.point)
        .collect();
    let [point] = &undecided[..] else { panic!("{undecided:?}") };
    point.clone()
}

/// The objects whose keys contain one of these.
fn about(store: &SimStore, parts: &[&str]) -> BTreeSet<Key> {
    store.objects().into_keys().filter(|key| parts.iter().any(|part| key.as_str().contains(part))).collect()
}

/// Two points expired, with a floor; one expired after a writer had taken it for its parent, and the writer is gone.
async fn a_writer_and_its_expired_parent(cx: &Cx) -> (Arc<Vault>, Arc<SimStore>, PointId, Vec<Summary>) {
    let (vault, store, points) = chain(cx, 3).await;
    keep_one(cx, &vault).await;
    let writer = die(cx, (&vault, &store), 8).await;
    let_go(cx, &vault, &points[2].point).await;
    (vault, store, writer, points)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_may_need_is_spared_until_it_is_taken_for_dead() {
    let cx = surroundings(1);
    let (vault, store, writer, points) = a_writer_and_its_expired_parent(&cx).await;
    let (of_writer, of_parent) = (writer.to_string(), points[2].point.to_string());
    let needed = || about(&store, &["/wal/", &of_writer, &of_parent]);
    let before = needed();
    let swept = sweep(&cx, &vault, false).await.unwrap();
    assert_eq!((&swept.spared[..], &swept.revoked[..]), (&[writer.clone()][..], &[][..]));
    assert!(!swept.garbage.is_empty(), "what expired long ago goes");
    assert_eq!(needed(), before);

    // More than an hour later.
    let later = world_at(2, 2 * HOUR);
    let objects = store.objects();
    let said = sweep(&later, &vault, true).await.unwrap();
    assert_eq!(store.objects(), objects, "a dry run changed something");
    let swept = sweep(&later, &vault, false).await.unwrap();
    for swept in [&said, &swept] {
        assert_eq!((&swept.spared[..], &swept.revoked[..]), (&[][..], &[writer.clone()][..]));
    }
    let keys =
        |swept: &Swept| -> BTreeSet<Key> { swept.garbage.iter().map(|object| object.key.clone()).collect() };
    // A dry run revokes nothing, so the revoked point's manifest is only known to go afterwards.
    let manifest = Key::new(format!("sources/toy/points/{writer}/manifest")).unwrap();
    let only_then = keys(&swept).difference(&keys(&said)).cloned().collect::<Vec<_>>();
    assert!(keys(&said).is_subset(&keys(&swept)) && only_then == [manifest], "{only_then:?}");
    let why = |swept: &Swept| {
        let pack = swept.garbage.iter().find(|object| {
            object.key.as_str().contains(&of_writer) && object.key.as_str().contains("/packs/")
        });
        pack.unwrap().why
    };
    assert_eq!((why(&said), why(&swept)), ("its writer is taken for dead", "its point was revoked"));
    assert_eq!(about(&store, &["/packs/", "/manifest"]), BTreeSet::new());
    let left: Vec<String> =
        about(&store, &["/wal/"]).iter().map(|key| key.last_segment()[22..].into()).collect();
    assert_eq!(left, ["07", "08"], "WAL from the floor on stays");
    assert_eq!(swept.bytes(), swept.garbage.iter().map(|object| object.size).sum::<u64>());
}

/// Sweeps a vault with these objects once for every two operations that may fail, which is once in each of a sweep's two
/// looks; no object about `needed` may go. Returns what a sweep came to that no fault met.
async fn survives_any_two_errors(objects: &Objects, cx: impl Fn() -> Cx, needed: &[&str]) -> Swept {
    let keep = about(&SimStore::holding(objects.clone()), needed);
    assert!(!keep.is_empty());
    for first in 0.. {
        for second in first + 1.. {
            let store = Arc::new(SimStore::holding(objects.clone()));
            let vault = open(&store).await;
            store.fail(vec![(first, Fault::Before), (second, Fault::Before)]);
            let swept = sweep(&cx(), &vault, false).await;
            assert_eq!(about(&store, needed), keep, "operations {first} and {second} failed: {swept:?}");
            match store.met() {
                0 => return swept.unwrap(),
                1 => break,
                _ => {}
            }
        }
    }
    unreachable!("a sweep ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_beside_a_writer_cost_its_parent_nothing() {
    let cx = surroundings(4);
    let (_, store, writer, points) = a_writer_and_its_expired_parent(&cx).await;
    let needed = [writer.to_string(), points[2].point.to_string()];
    let swept =
        survives_any_two_errors(&store.objects(), || world_at(5, 60), &needed.each_ref().map(String::as_str))
            .await;
    assert_eq!(swept.spared, [writer]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_parent_another_sweep_has_taken_holds_no_sweep_up() {
    let cx = surroundings(14);
    let (vault, store, writer, points) = a_writer_and_its_expired_parent(&cx).await;
    // It began when the parent had expired, and does without it; the other sweep had not seen it yet.
    let manifest = Key::new(format!("sources/toy/points/{}/manifest", points[2].point)).unwrap();
    store.delete(&manifest).await.unwrap();
    let swept = sweep(&cx, &vault, false).await.unwrap();
    assert_eq!((swept.spared, swept.revoked), (vec![writer], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_does_not_read_stops_sweeps_until_its_writer_is_taken_for_dead() {
    let cx = surroundings(15);
    let (vault, store, writer, _) = a_writer_and_its_expired_parent(&cx).await;
    let intent = Key::new(format!("sources/toy/points/{writer}/intent")).unwrap();
    store.tamper(&intent, Bytes::from_static(b"rot"));
    let objects = store.objects();
    let swept = sweep(&cx, &vault, false).await;
    assert!(matches!(swept, Err(VaultError::SweepStopped { .. })), "{swept:?}");
    assert_eq!(store.objects(), objects);
    let swept = sweep(&world_at(16, 2 * HOUR), &vault, false).await.unwrap();
    assert_eq!((swept.spared, swept.revoked), (vec![], vec![writer]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lies_costs_a_writer_and_its_parent_nothing() {
    let cx = surroundings(12);
    let (_, store, writer, points) = a_writer_and_its_expired_parent(&cx).await;
    let (objects, needed) = (store.objects(), [writer.to_string(), points[2].point.to_string()]);
    let needed = needed.each_ref().map(String::as_str);
    let keep = about(&store, &needed);
    let honest = open(&Arc::new(SimStore::holding(objects.clone()))).await;
    let seen = sweep(&world_at(13, 60), &honest, false).await.unwrap().seen;
    let faults = [Fault::ListEmpty, Fault::ListCut, Fault::ListRepeated];
    // A listing is cut between two pages: strangers' objects move the cut to every place, also right before the writer's.
    for (strangers, fault) in (0..3).flat_map(|strangers| faults.map(|fault| (strangers, fault))) {
        for at in 0.. {
            let store = Arc::new(SimStore::holding(objects.clone()));
            for stranger in 0..strangers {
                let key = format!("sources/toy/points/{}/stranger{stranger}", points[0].point);
                store.tamper(&Key::new(key).unwrap(), Bytes::new());
            }
            let vault = open(&store).await;
            store.fail_at(at, fault);
            let swept = sweep(&world_at(13, 60), &vault, false).await;
            assert_eq!(about(&store, &needed), keep, "{fault:?} at {at}: {swept:?}");
            assert!(swept.is_err() || swept.unwrap().seen == seen, "{fault:?} at {at}: it looked away");
            if store.operations() <= at {
                break;
            }
        }
    }
}

/// An empty replica.
async fn replica(cx: &Cx, from: &Vault) -> (Arc<Vault>, Arc<SimStore>) {
    let store = Arc::new(SimStore::default());
    from.replicate(cx, store.clone() as Arc<dyn Store>, &[], "test").await.unwrap();
    (open(&store).await, store)
}

/// A copy of this point alone.
fn only(point: &Summary) -> CopyRequest {
    let options = CopyOptions { in_flight: 1, read_back: false, limit: None };
    CopyRequest { source: None, choice: Choice::Point(point.point.clone()), options }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_stopped_is_never_taken_for_dead_and_keeps_what_it_counts_on() {
    let cx = surroundings(6);
    let (from, _, points) = chain(&cx, 2).await;
    let (to, target) = replica(&cx, &from).await;
    copy(&cx, &from, &to, &only(&points[0])).await.unwrap();
    // It dies when its manifest is there and none of its packs: those of the first point it counts on.
    let rehearse = async |to: Arc<Vault>| drop(copy(&cx, &from, &to, &only(&points[1])).await.unwrap());
    let put = format!(" Write sources/toy/points/{}/manifest", points[1].point);
    let manifest = last(target.objects(), &put, rehearse).await;
    // Or even before that: it counts on nothing yet, and no sweep waits for it.
    for died_at in [manifest, manifest + 1] {
        target.fail_at(died_at, Fault::Dead);
        let died = copy(&cx, &from, &to, &only(&points[1])).await;
        assert!(!died.is_ok_and(|copied| copied.is_complete()));
        target.heal();
        let swept = sweep(&cx, &to, false).await.unwrap();
        assert_eq!((swept.spared, swept.garbage), (vec![points[1].point.clone()], vec![]));
    }
    let_go(&cx, &to, &points[0].point).await;

    let reached = from.open_point(&source(), &points[1].point).await.unwrap();
    let name = |pack: &PackRef| format!("{}/packs/{:06}", pack.owner, pack.number);
    let reached: Vec<String> = reached.packs().all().iter().map(name).collect();
    let reached: Vec<&str> = reached.iter().map(String::as_str).collect();
    let years_later = || world_at(7, 3 * 365 * 24 * HOUR);
    let swept = survives_any_two_errors(&target.objects(), years_later, &reached).await;
    assert_eq!((swept.spared, swept.revoked), (vec![points[1].point.clone()], vec![]));
    sweep(&years_later(), &to, false).await.unwrap();
    assert!(copy(&cx, &from, &to, &only(&points[1])).await.unwrap().is_complete());
    assert_eq!(restore(&cx, &to, &points[1]).await.unwrap(), engine(4).expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_brought_of_points_that_were_never_here_goes_with_the_copy() {
    let cx = surroundings(10);
    let (from, _, points) = chain(&cx, 2).await;
    let (to, target) = replica(&cx, &from).await;
    copy(&cx, &from, &to, &only(&points[1])).await.unwrap();
    let brought = about(&target, &[&format!("{}/packs/", points[0].point)]);
    assert!(!brought.is_empty(), "the second point refers to packs of the first");
    assert_eq!(sweep(&cx, &to, false).await.unwrap().garbage, []);
    let_go(&cx, &to, &points[1].point).await;
    let swept = sweep(&cx, &to, false).await.unwrap();
    for object in swept.garbage.iter().filter(|object| brought.contains(&object.key)) {
        assert_eq!(object.why, "a copy brought it, and no point refers to it");
    }
    assert_eq!(about(&target, &["/packs/", "/manifest"]), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_read_what_a_dead_sweep_was_about_to_delete_does_not_go_on() {
    let cx = surroundings(11);
    let (from, _, points) = chain(&cx, 2).await;
    let (to, target) = replica(&cx, &from).await;
    copy(&cx, &from, &to, &only(&points[0])).await.unwrap();
    let_go(&cx, &to, &points[0].point).await;
    let rehearse = async |to| drop(sweep(&cx, &to, false).await.unwrap());
    let deletion = last(target.objects(), " Delete ", rehearse).await;
    target.fail_at(deletion, Fault::Dead);
    sweep(&cx, &to, false).await.unwrap_err();
    target.heal();
    let prepared = target.objects();
    for at in 0.. {
        let store = Arc::new(SimStore::holding(prepared.clone()));
        let vault = open(&store).await;
        store.fail_at(at, Fault::Before);
        let copied = copy(&cx, &from, &vault, &only(&points[1])).await;
        assert!(!copied.as_ref().is_ok_and(|copied| copied.is_complete()), "operation {at}: {copied:?}");
        if store.met() == 0 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_with_fewer_points_of_any_kind_than_an_earlier_sweep_saw_stops_a_sweep() {
    let cx = surroundings(8);
    let (vault, store, points) = chain(&cx, 3).await;
    keep_one(&cx, &vault).await;
    // Held and let go at the same time: its tombstone counts, and it stays as it is.
    let why = HoldRequest { reason: "sim".into(), owner: "sim".into(), until: None };
    place(&cx, &vault, &points[2].point, &why).await.unwrap();
    let_go(&cx, &vault, &points[2].point).await;
    sweep(&cx, &vault, false).await.unwrap();
    let objects = store.objects();
    for (part, point) in [("intent", &points[0]), ("decision", &points[0]), ("expired", &points[2])] {
        let key = Key::new(format!("sources/toy/points/{}/{part}", point.point)).unwrap();
        store.delete(&key).await.unwrap();
        let swept = sweep(&cx, &vault, false).await;
        let Err(VaultError::SweepStopped { why, .. }) = &swept else { panic!("{part}: {swept:?}") };
        assert!(why.contains("saw more points"), "{part}: {why}");
        store.tamper(&key, objects[&key].clone());
    }
    let last = sweep(&cx, &vault, false).await.unwrap().sweep;
    let records = about(&store, &["/sweeps/"]);
    assert!(records.len() == 2 && records == about(&store, &[&last]), "the last sweep's records alone stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_died_is_told_of_until_it_is_forgotten_by_its_name() {
    let cx = surroundings(9);
    let (vault, store, _) = chain(&cx, 3).await;
    keep_one(&cx, &vault).await;
    let rehearse = async |vault| drop(sweep(&cx, &vault, false).await.unwrap());
    let deletion = last(store.objects(), " Delete ", rehearse).await;
    store.fail_at(deletion, Fault::Dead);
    sweep(&cx, &vault, false).await.unwrap_err();
    store.heal();
    let unfinished = sweep(&cx, &vault, false).await.unwrap().unfinished;
    let [id] = &unfinished[..] else { panic!("{unfinished:?}") };
    assert!(!vault.forget_sweep(&cx, &source(), "another").await.unwrap());
    assert_eq!(sweep(&cx, &vault, false).await.unwrap().unfinished, unfinished);
    assert!(vault.forget_sweep(&cx, &source(), id).await.unwrap());
    assert!(!vault.forget_sweep(&cx, &source(), id).await.unwrap(), "it has ended");
    let swept = sweep(&cx, &vault, false).await.unwrap();
    assert!(swept.unfinished.is_empty() && swept.seen.decisions == 3, "{swept:?}");
}
