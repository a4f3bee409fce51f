//! Every verb, with every one of its store operations failing in every way.
//!
//! A run takes a prepared vault, lets one verb meet one fault (`STRONGROOM_PAIRS` says how many pairs of them besides), heals the store and
//! opens the vault anew, as the next process would. Then the oracle:
//!
//! - what was reported successful is listed, and everything that is listed as restorable restores byte for byte (I1, I2, I5);
//! - the next backup succeeds, and so do two sweeps, which leave no garbage and take nothing that is needed (I4, I6, I10);
//! - a fault that the store admits to is bridged by asking again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test is told how long to go on, and says how far it came"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use strongroom_model::retention::Retention;
use strongroom_model::{Cx, PointId};
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place, release};
use strongroom_ops::verify::verify;
use strongroom_sim::engine::Files;
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::retry::{Retry, RetryPolicy};
use strongroom_store::{Key, Store};
use strongroom_vault::expire::LetGo;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Vault};
use world::{Keys, expect_no_garbage, keys, request, restore, ship, source, take, toy, verification};

/// What is done while a fault is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Backup,
    BackupAfresh,
    BackupSent,
    Ship,
    Restore,
    Verify,
    Expire,
    Hold,
    Sweep,
    SweepOfTheDead,
}

const VERBS: [Verb; 10] = [
    Verb::Backup,
    Verb::BackupAfresh,
    Verb::BackupSent,
    Verb::Ship,
    Verb::Restore,
    Verb::Verify,
    Verb::Expire,
    Verb::Hold,
    Verb::Sweep,
    Verb::SweepOfTheDead,
];

/// A vault as it was before a run.
struct Prepared {
    name: &'static str,
    objects: BTreeMap<Key, Bytes>,
    /// What each restorable point must restore to.
    truth: BTreeMap<PointId, Files>,
}

/// One run.
#[derive(Clone, Debug)]
struct Run {
    verb: Verb,
    faults: Vec<(usize, Fault)>,
    asks_again: bool,
}

static KEEP_ONE: LazyLock<Retention> = LazyLock::new(|| Retention { keep_last: 1, ..Retention::default() });

/// Seconds.
const DAY: u64 = 24 * 3600;

fn now_dead() -> SweepOptions {
    sweeping(Duration::ZERO)
}

fn sweeping(stale_after: Duration) -> SweepOptions {
    SweepOptions { stale_after, dry_run: false, host: "sim".into(), tool: "test".into() }
}

/// The toy with its `n`th content.
fn engine(n: u8) -> ToyEngine {
    let mut engine = toy();
    let page = usize::from(n) % 40 * 8192;
    engine.files.get_mut("big").unwrap()[page..page + 100].fill(n);
    engine.files.insert(format!("small{:02}", n % 20), vec![n; 300]);
    engine
}

async fn open(store: &Arc<SimStore>, keys: &Keys, asks_again: bool) -> Arc<Vault> {
    let policy = RetryPolicy {
        tries: 4,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        total: Duration::from_secs(60),
    };
    let store: Arc<dyn Store> = match asks_again {
        true => Arc::new(Retry::with_policy(store.clone(), policy)),
        false => store.clone(),
    };
    Arc::new(Vault::open(store, &keys.unlock).await.unwrap())
}

/// Nothing but a vault; one point; a chain with an expired point, one given up and a dead writer's.
async fn prepare(keys: &Keys, suite: Suite) -> Vec<Prepared> {
    let cx = surroundings(1 << 40);
    let store = Arc::new(SimStore::default());
    Vault::create(&cx, store.clone(), suite, std::slice::from_ref(&keys.recipient), "test").await.unwrap();
    let vault = open(&store, keys, false).await;
    let (mut prepared, mut truth) = (Vec::new(), BTreeMap::new());
    let mut keep = |name, truth: &BTreeMap<PointId, Files>| {
        prepared.push(Prepared { name, objects: store.objects(), truth: truth.clone() });
    };
    keep("an empty vault", &truth);
    let first = take(&cx, &vault, &engine(1)).await.unwrap();
    truth.insert(first.point.clone(), engine(1).expected());
    keep("one point", &truth);
    for n in 2..5 {
        let point = take(&cx, &vault, &engine(n)).await.unwrap();
        truth.insert(point.point.clone(), engine(n).expected());
    }
    // Its writer gave it up: no journal of that lineage arrives.
    let mut other = engine(9);
    other.lineage.0 += 1;
    let accepting = BackupRequest { new_lineage: strongroom_ops::lineage::NewLineage::Accept, ..request() };
    backup(&cx, &vault, &other, &accepting).await.unwrap_err();
    ship(&cx, &vault, &engine(1)).await.unwrap();
    // Its writer died between its packs and its decision, which is the last write.
    let rehearsal = Arc::new(SimStore::holding(store.objects()));
    let rehearsed = open(&rehearsal, keys, false).await;
    rehearsal.heal();
    take(&cx, &rehearsed, &engine(7)).await.unwrap();
    let last_write = rehearsal.log().iter().rposition(|line| line.contains(" Write ")).unwrap();
    store.fail_at(last_write, Fault::Dead);
    take(&cx, &vault, &engine(7)).await.unwrap_err();
    store.heal();
    for expired in [0, 2] {
        let point = truth.keys().nth(expired - expired / 2).unwrap().clone();
        let word = LetGo { why: "sim".into(), at: cx.now(), host: "sim".into(), tool: "test".into() };
        assert!(vault.expire(&cx, &source(), &point, &word).await.unwrap());
        truth.remove(&point);
    }
    keep("a chain", &truth);
    prepared
}

/// Does what the run says; `Some(point)` if a point was reported committed.
async fn act(
    cx: &Cx,
    vault: &Arc<Vault>,
    verb: Verb,
    prepared: &Prepared,
) -> Result<Option<PointId>, OpsError> {
    match verb {
        Verb::Backup => take(cx, vault, &engine(20)).await.map(|point| Some(point.point)),
        Verb::BackupAfresh => {
            ship(cx, vault, &engine(20)).await?;
            let request = BackupRequest { afresh: true, ..request() };
            backup(cx, vault, &engine(20), &request).await.map(|point| Some(point.point))
        }
        Verb::BackupSent => {
            let sending = ToyEngine { sends: Some(10_000), ..engine(20) };
            take(cx, vault, &sending).await.map(|point| Some(point.point))
        }
        Verb::Ship => ship(cx, vault, &toy()).await.map(|()| None),
        Verb::Restore => {
            for row in vault.points(&source()).await? {
                let Some(summary) = row.restorable() else { continue };
                // Byte-identical, or an error: never anything else.
                assert_eq!(restore(cx, vault, summary).await?, prepared.truth[&row.point]);
            }
            Ok(None)
        }
        Verb::Verify => {
            let request = verification(None, Depth::Data);
            verify(cx, vault, &request).await.map(|_| None)
        }
        Verb::Expire => {
            if vault.sources().await?.is_empty() {
                return Ok(None);
            }
            let hand = Hand { host: "sim".into(), tool: "test".into() };
            let plan = plan(vault, &source(), &KEEP_ONE, cx.now()).await?;
            expire(cx, vault, &source(), (&plan, &KEEP_ONE, &hand)).await.map(|_| None)
        }
        Verb::Hold => {
            let Some(point) = prepared.truth.keys().next() else { return Ok(None) };
            let why = HoldRequest { reason: "sim".into(), owner: "sim".into(), until: None };
            place(cx, vault, point, &why).await?;
            release(cx, vault, point, &why).await.map(|_| None)
        }
        Verb::Sweep => {
            Ok(vault.sweep(cx, &source(), &sweeping(Duration::from_secs(1 << 30))).await.map(|_| None)?)
        }
        Verb::SweepOfTheDead => Ok(vault.sweep(cx, &source(), &now_dead()).await.map(|_| None)?),
    }
}

/// Carries out a run; returns how many operations it took and how many faults met one they concern.
async fn carry_out(keys: &Keys, prepared: &Prepared, run: &Run, seed: u64) -> (usize, usize) {
    // Half of the runs have a clock that was set back to before the vault was made.
    let cx = world_at(seed, if run.asks_again { 0 } else { DAY });
    let store = Arc::new(SimStore::holding(prepared.objects.clone()));
    let vault = open(&store, keys, run.asks_again).await;
    store.fail(run.faults.clone());
    let outcome = act(&cx, &vault, run.verb, prepared).await;
    let (operations, met, log) = (store.operations(), store.met(), store.log());
    store.heal();
    let context = format!("{} of {}: {run:?}: {outcome:?}\n{}", met, prepared.name, log.join("\n"));
    assert!(!format!("{outcome:?}").contains("panicked"), "{context}");
    let told = run.faults.iter().all(|(_, fault)| fault.is_told());
    assert!(!(met == 0 || run.asks_again && told) || outcome.is_ok(), "{context}");

    // What changed nothing needs no more looking at.
    if store.objects() == prepared.objects && seed > 0 {
        return (operations, met);
    }
    let cx = world_at(seed + 7, 2 * DAY);
    let vault = open(&store, keys, false).await;
    let mut truth = prepared.truth.clone();
    let rows = vault.points(&source()).await.unwrap_or_else(|error| panic!("{error}\n{context}"));
    let listed: BTreeSet<&PointId> =
        rows.iter().filter(|row| row.restorable().is_some()).map(|row| &row.point).collect();
    // What retention may let go is everything but the newest; it may not have come to that.
    if run.verb == Verb::Expire {
        let newest = truth.keys().next_back().cloned();
        truth.retain(|point, _| listed.contains(point) || newest.as_ref() == Some(point));
    }
    assert!(truth.keys().all(|point| listed.contains(point)), "a point is no longer listed: {context}");
    if let Ok(Some(point)) = &outcome {
        assert!(listed.contains(point), "success was reported and is not listed: {context}");
    }
    for point in listed {
        truth.entry(point.clone()).or_insert_with(|| engine(20).expected());
    }
    let next =
        take(&cx, &vault, &engine(30)).await.unwrap_or_else(|error| panic!("next: {error}\n{context}"));
    truth.insert(next.point, engine(30).expected());
    for _ in 0..2 {
        let swept = vault.sweep(&cx, &source(), &now_dead()).await;
        swept.unwrap_or_else(|error| panic!("sweep: {error}\n{context}"));
    }
    expect_no_garbage(&store, &vault, &truth, &context).await;
    for row in vault.points(&source()).await.unwrap() {
        let Some(summary) = row.restorable() else { continue };
        let restored = restore(&cx, &vault, summary).await;
        let restored = restored.unwrap_or_else(|error| panic!("{}: {error}\n{context}", row.point));
        assert!(restored == truth[&row.point], "{} restores to other bytes: {context}", row.point);
    }
    (operations, met)
}

/// Every operation index × every fault of one verb on one vault; returns how many runs met their fault.
async fn every_fault(keys: &Keys, prepared: &Prepared, verb: Verb, asks_again: bool) -> usize {
    let mut runs = 0;
    for fault in Fault::ALL {
        for at in 0.. {
            let run = Run { verb, faults: vec![(at, fault)], asks_again };
            let (operations, met) = carry_out(keys, prepared, &run, (at * 16) as u64).await;
            runs += met.min(1);
            if operations <= at {
                break;
            }
        }
    }
    runs + pairs_of_faults(keys, prepared, verb, asks_again).await
}

/// Two faults at once, so many pairs of them as `STRONGROOM_PAIRS` says, drawn by number.
async fn pairs_of_faults(keys: &Keys, prepared: &Prepared, verb: Verb, asks_again: bool) -> usize {
    let pairs: u64 = std::env::var("STRONGROOM_PAIRS").map_or(0, |pairs| pairs.parse().unwrap());
    let quiet = Run { verb, faults: vec![], asks_again };
    let (operations, _) = carry_out(keys, prepared, &quiet, 1).await;
    let mut runs = 0;
    for number in 0..pairs {
        let draw = surroundings(number).random::<4>().map(usize::from);
        let at = |draw: usize| draw * operations.max(1) / 256;
        let fault = |draw: usize| Fault::ALL[draw % Fault::ALL.len()];
        let faults = vec![(at(draw[0]), fault(draw[1])), (at(draw[2]), fault(draw[3]))];
        let (_, met) = carry_out(keys, prepared, &Run { verb, faults, asks_again }, number * 16).await;
        runs += met.min(1);
    }
    runs
}

#[test]
fn every_verb_survives_every_fault_at_every_operation() {
    let keys = keys();
    let total = AtomicUsize::new(0);
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let prepared: Vec<Prepared> = [Suite::Aes256GcmX25519, Suite::Plain]
        .into_iter()
        .flat_map(|suite| runtime().block_on(prepare(&keys, suite)))
        .collect();
    let jobs: Vec<(&Prepared, Verb, bool)> = prepared
        .iter()
        .flat_map(|prepared| {
            VERBS.iter().flat_map(move |verb| [false, true].map(|again| (prepared, *verb, again)))
        })
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = runtime();
                while let Some((prepared, verb, again)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runs = runtime.block_on(every_fault(&keys, prepared, *verb, *again));
                    println!(
                        "{verb:?} on {}, {}: {runs} faults met",
                        prepared.name,
                        if *again { "asking again" } else { "once" }
                    );
                    total.fetch_add(runs, Ordering::Relaxed);
                }
            });
        }
    });
    let total = total.into_inner();
    println!("{total} runs met their fault");
    assert!(total > 15_000, "only {total} runs met their fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_made_whole_or_not_at_all() {
    let keys = keys();
    for fault in [Fault::Before, Fault::ReplyLost, Fault::Dead] {
        for at in 0.. {
            let cx = surroundings(at as u64);
            let store = Arc::new(SimStore::default());
            store.fail_at(at, fault);
            let outcome = world::create(&cx, &store, &keys).await;
            let reached = store.operations() > at;
            store.heal();
            // Made, or made without our knowing, or not made: whichever it was, the next step works.
            if outcome.is_err() && world::open(&store, &keys).await.is_err() {
                world::create(&cx, &store, &keys).await.unwrap();
            }
            let vault = world::open(&store, &keys).await.unwrap();
            let point = take(&cx, &vault, &toy()).await.unwrap();
            assert_eq!(restore(&cx, &vault, &point).await.unwrap(), toy().expected());
            if !reached {
                break;
            }
        }
    }
}
