//! Dumps, with every one of their store operations failing in every way; and everyone at once, in an order that a seed decides.
//!
//! The oracle is that of `faults.rs` and `interleavings.rs`: what was reported is listed, what is listed restores byte for
//! byte, the next dump and two sweeps succeed, and nothing lies there that no dump needs. A verb that met `Dead` is a process
//! that was killed at that operation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test is told how long to go on, and says how far it came"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom_model::{Cx, PointId};
use strongroom_ops::OpsError;
use strongroom_ops::dump::DumpRequest;
use strongroom_ops::verify::verify;
use strongroom_sim::engine::Files;
use strongroom_sim::{Fault, SimStore, Turns, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::expire::LetGo;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault, VaultError};
use world::dumps::{dump, dump_with, dumping, load, small};
use world::{Keys, expect_no_garbage, keys, source, verification};

const DAY: u64 = 24 * 3600;

/// What is done while a fault is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Dump,
    DumpAfresh,
    Load,
    Verify,
    Sweep,
}

const VERBS: [Verb; 5] = [Verb::Dump, Verb::DumpAfresh, Verb::Load, Verb::Verify, Verb::Sweep];

/// A vault as it was before a run.
struct Prepared {
    name: &'static str,
    objects: BTreeMap<Key, Bytes>,
    /// What each dump must restore to that has not expired.
    truth: BTreeMap<PointId, Files>,
    /// The same of all: a listing that is cut short may hide that one expired.
    ever: BTreeMap<PointId, Files>,
}

fn now_dead() -> SweepOptions {
    SweepOptions { stale_after: Duration::ZERO, dry_run: false, host: "sim".into(), tool: "test".into() }
}

async fn open(store: Arc<dyn Store>, keys: &Keys) -> Arc<Vault> {
    Arc::new(Vault::open(store, &keys.unlock).await.unwrap())
}

async fn let_go(cx: &Cx, vault: &Vault, point: &PointId) -> bool {
    let word = LetGo { why: "sim".into(), at: cx.now(), host: "sim".into(), tool: "test".into() };
    vault.expire(cx, &source(), point, &word).await.unwrap()
}

/// Nothing but a vault; and a chain whose first dump expired.
async fn prepare(keys: &Keys, suite: Suite) -> Vec<Prepared> {
    let cx = world_at(1 << 40, 0);
    let store = Arc::new(SimStore::default());
    Vault::create(&cx, store.clone(), suite, std::slice::from_ref(&keys.recipient), "test").await.unwrap();
    let vault = open(store.clone(), keys).await;
    let mut truth = BTreeMap::new();
    let (ever, objects) = (truth.clone(), store.objects());
    let empty = Prepared { name: "an empty vault", objects, truth: truth.clone(), ever };
    for n in 1..4 {
        truth.insert(dump(&cx, &vault, &small(n)).await.unwrap().point, small(n).parts);
    }
    let first = truth.keys().next().unwrap().clone();
    assert!(let_go(&cx, &vault, &first).await);
    let ever = truth.clone();
    truth.remove(&first);
    vec![empty, Prepared { name: "a chain", objects: store.objects(), truth, ever }]
}

async fn act(
    cx: &Cx,
    vault: &Arc<Vault>,
    verb: Verb,
    prepared: &Prepared,
) -> Result<Option<PointId>, OpsError> {
    match verb {
        Verb::Dump => dump(cx, vault, &small(20)).await.map(|point| Some(point.point)),
        Verb::DumpAfresh => {
            let request = DumpRequest { afresh: true, ..dumping() };
            dump_with(cx, vault, &small(20), &request).await.map(|point| Some(point.point))
        }
        Verb::Load => {
            for row in vault.points(&source()).await? {
                let Some(summary) = row.restorable() else { continue };
                // Byte-identical, or an error: never anything else.
                assert_eq!(load(cx, vault, summary).await?, prepared.ever[&row.point]);
            }
            Ok(None)
        }
        Verb::Verify => verify(cx, vault, &verification(None, Depth::Pages)).await.map(|_| None),
        Verb::Sweep => Ok(vault.sweep(cx, &source(), &now_dead()).await.map(|_| None)?),
    }
}

/// Carries out a run; returns how many operations it took, and whether the fault met one that it concerns.
async fn carry_out(
    keys: &Keys,
    prepared: &Prepared,
    verb: Verb,
    (at, fault): (usize, Fault),
) -> (usize, bool) {
    let cx = world_at((at * 16) as u64, DAY);
    let store = Arc::new(SimStore::holding(prepared.objects.clone()));
    let vault = open(store.clone(), keys).await;
    store.fail_at(at, fault);
    let outcome = act(&cx, &vault, verb, prepared).await;
    let (operations, met, log) = (store.operations(), store.met() > 0, store.log());
    store.heal();
    let context =
        format!("{verb:?} of {}, {fault:?} at {at}: {outcome:?}\n{}", prepared.name, log.join("\n"));
    assert!(!format!("{outcome:?}").contains("panicked"), "{context}");
    assert!(met || outcome.is_ok(), "{context}");
    // What changed nothing needs no more looking at.
    if store.objects() == prepared.objects && at > 0 {
        return (operations, met);
    }
    let cx = world_at((at * 16 + 7) as u64, 2 * DAY);
    let vault = open(store.clone(), keys).await;
    let mut truth = prepared.truth.clone();
    let rows = vault.points(&source()).await.unwrap_or_else(|error| panic!("{error}\n{context}"));
    let listed: BTreeSet<&PointId> =
        rows.iter().filter(|row| row.restorable().is_some()).map(|row| &row.point).collect();
    assert!(truth.keys().all(|point| listed.contains(point)), "a dump is no longer listed: {context}");
    if let Ok(Some(point)) = &outcome {
        assert!(listed.contains(point), "success was reported and is not listed: {context}");
    }
    for point in listed {
        truth.entry(point.clone()).or_insert_with(|| small(20).parts);
    }
    let next = dump(&cx, &vault, &small(30)).await.unwrap_or_else(|error| panic!("next: {error}\n{context}"));
    truth.insert(next.point, small(30).parts);
    for _ in 0..2 {
        let swept = vault.sweep(&cx, &source(), &now_dead()).await;
        swept.unwrap_or_else(|error| panic!("sweep: {error}\n{context}"));
    }
    expect_no_garbage(&store, &vault, &truth, &context).await;
    expect_restorable(&cx, &vault, &truth, &context).await;
    (operations, met)
}

async fn expect_restorable(cx: &Cx, vault: &Arc<Vault>, truth: &BTreeMap<PointId, Files>, context: &str) {
    for row in vault.points(&source()).await.unwrap() {
        let Some(summary) = row.restorable() else { continue };
        let restored = load(cx, vault, summary).await;
        let restored = restored.unwrap_or_else(|error| panic!("{}: {error}\n{context}", row.point));
        assert!(restored == truth[&row.point], "{} restores to other bytes: {context}", row.point);
    }
}

#[test]
fn dumps_survive_every_fault_at_every_operation() {
    let keys = keys();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let suites = [Suite::Aes256GcmX25519, Suite::Plain];
    let prepared: Vec<Prepared> =
        suites.into_iter().flat_map(|suite| runtime().block_on(prepare(&keys, suite))).collect();
    let jobs: Vec<(&Prepared, Verb, Fault)> = prepared
        .iter()
        .flat_map(|prepared| {
            VERBS.into_iter().flat_map(move |verb| Fault::ALL.map(|fault| (prepared, verb, fault)))
        })
        .collect();
    let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = runtime();
                while let Some((prepared, verb, fault)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for at in 0.. {
                        let run = carry_out(&keys, prepared, *verb, (at, *fault));
                        let (operations, met) = runtime.block_on(run);
                        total.fetch_add(usize::from(met), Ordering::Relaxed);
                        if operations <= at {
                            break;
                        }
                    }
                }
            });
        }
    });
    let total = total.into_inner();
    println!("{total} runs met their fault");
    assert!(total > 1500, "only {total} runs met their fault");
}

/// What the actors share and report.
struct Stage {
    cx: Cx,
    store: Arc<SimStore>,
    truth: Mutex<BTreeMap<PointId, Files>>,
    reported: Mutex<BTreeSet<PointId>>,
}

impl Stage {
    /// Takes dumps; being revoked by a sweep that takes it for dead is the only way it may fail.
    async fn writer(&self, vault: Arc<Vault>, number: u64) {
        for round in 0..2 {
            let engine = small(10 + number * 2 + round);
            match dump(&self.cx, &vault, &engine).await {
                Ok(point) => {
                    self.truth.lock().unwrap().insert(point.point.clone(), engine.parts);
                    self.reported.lock().unwrap().insert(point.point);
                }
                Err(OpsError::Vault(VaultError::LostDecision { .. })) => {}
                Err(error) => panic!("a writer failed: {error}"),
            }
        }
    }

    async fn sweeper(&self, vault: Arc<Vault>, stale_after: Duration) {
        for _ in 0..2 {
            match vault.sweep(&self.cx, &source(), &SweepOptions { stale_after, ..now_dead() }).await {
                Ok(_) | Err(VaultError::SweepStopped { .. }) => {}
                Err(error) => panic!("a sweep failed: {error}"),
            }
        }
    }

    /// Lets dumps go, the parents of those being written among them, but never the newest.
    async fn retention(&self, vault: Arc<Vault>) {
        for draw in self.cx.random::<2>() {
            let points = vault.points(&source()).await.unwrap();
            let alive: Vec<_> = points.iter().filter_map(|row| row.restorable()).collect();
            if let [older @ .., _] = &alive[..]
                && !older.is_empty()
            {
                let_go(&self.cx, &vault, &older[usize::from(draw) % older.len()].point).await;
            }
        }
    }

    /// A restore gives the right bytes or an error, and an error only of a dump that expired meanwhile.
    async fn reader(&self, vault: Arc<Vault>) {
        for row in vault.points(&source()).await.unwrap() {
            let Some(summary) = row.restorable() else { continue };
            match load(&self.cx, &vault, summary).await {
                Ok(parts) => {
                    if let Some(expected) = self.truth.lock().unwrap().get(&row.point) {
                        assert!(parts == *expected, "{} restored to other bytes", row.point);
                    }
                }
                Err(error) => assert!(self.has_expired(&row.point), "{} did not restore: {error}", row.point),
            }
        }
    }

    fn has_expired(&self, point: &PointId) -> bool {
        let key = Key::new(format!("sources/toy/points/{point}/expired")).unwrap();
        self.store.objects().contains_key(&key)
    }
}

/// Leaves also when its actor panics: the others would wait for it, and the test for them.
struct Leaves(Arc<Turns>, usize);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

async fn play(beginning: &Prepared, seed: u64) {
    let store = Arc::new(SimStore::holding(beginning.objects.clone()));
    let turns = Turns::new(6, world_at(!seed, 0).entropy);
    let stage = Arc::new(Stage {
        cx: world_at(seed, DAY),
        store: store.clone(),
        truth: Mutex::new(beginning.truth.clone()),
        reported: Mutex::default(),
    });
    let mut tasks = Vec::new();
    for actor in 0..6 {
        let (stage, turns) = (Arc::clone(&stage), Arc::clone(&turns));
        let seen = turns.of(actor, store.clone());
        tasks.push(tokio::spawn(async move {
            let _leaves = Leaves(Arc::clone(&turns), actor);
            let vault = Arc::new(Vault::open(seen, &Unlock::default()).await.unwrap());
            match actor {
                0 | 1 => stage.writer(vault, actor as u64).await,
                2 => stage.sweeper(vault, Duration::from_secs(DAY * 365)).await,
                3 => stage.sweeper(vault, Duration::ZERO).await,
                4 => stage.retention(vault).await,
                _ => stage.reader(vault).await,
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let vault = Arc::new(Vault::open(store.clone(), &Unlock::default()).await.unwrap());
    let mut alive = stage.truth.lock().unwrap().clone();
    alive.retain(|point, _| !stage.has_expired(point));
    for sweeps in 0..3 {
        let rows = vault.points(&source()).await.unwrap();
        for point in stage.reported.lock().unwrap().iter().filter(|point| alive.contains_key(point)) {
            let listed = rows.iter().any(|row| row.restorable().is_some() && row.point == *point);
            assert!(listed, "{point} was reported and is not listed");
        }
        expect_restorable(&stage.cx, &vault, &alive, &format!("after {sweeps} sweeps")).await;
        vault.sweep(&stage.cx, &source(), &now_dead()).await.unwrap();
    }
    expect_no_garbage(&store, &vault, &alive, "after three sweeps").await;
}

/// `STRONGROOM_SEEDS` says how many seeds are tried.
#[test]
fn everyone_at_once_loses_no_dump() {
    let seeds = std::env::var("STRONGROOM_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let beginning = runtime().block_on(prepare(&keys(), Suite::Plain)).remove(1);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&beginning, seed))));
                    assert!(played.is_ok(), "seed {seed} failed");
                }
            });
        }
    });
    println!("{seeds} seeds");
}
