//! Everyone at once, in an order that a seed decides: two writers, two sweepers (one of which takes live writers for
//! dead), retention, a restore, a verifier, and an attacker who can do all that a writer can.
//!
//! Afterwards every committed, unexpired point restores byte for byte, what was reported successful is there, and two
//! sweeps leave nothing that no point needs. `STRONGROOM_SEEDS` says how many seeds are tried.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test is told how long to go on, and says how far it came"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom_codec::header::Kind;
use strongroom_codec::keys::VaultKey;
use strongroom_codec::stream::{StreamScope, write_record};
use strongroom_model::point::{Decision, Intent, PointState};
use strongroom_model::{Cx, PointId};
use strongroom_ops::OpsError;
use strongroom_ops::verify::verify;
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, ToyEngine, Turns, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault, VaultError};
use world::{expect_no_garbage, restore, source, take, toy, verification};

/// Seeds that once failed, tried before all others.
const KEPT: [u64; 1] = [1427];

const DAY: u64 = 24 * 3600;
const ROUNDS: u8 = 2;

fn engine(n: u8) -> ToyEngine {
    let mut engine = toy();
    engine.files.get_mut("big").unwrap()[usize::from(n) % 40 * 8192..][..100].fill(n);
    engine
}

/// The vault every run begins with: three points, each with what it must restore to.
struct Beginning {
    objects: BTreeMap<Key, Bytes>,
    truth: BTreeMap<PointId, Files>,
}

async fn begin() -> Beginning {
    let cx = world_at(1 << 40, 0);
    let store = Arc::new(SimStore::default());
    let vault = Arc::new(Vault::create(&cx, store.clone(), Suite::Plain, &[], "test").await.unwrap());
    let mut truth = BTreeMap::new();
    for n in 1..4 {
        truth.insert(take(&cx, &vault, &engine(n)).await.unwrap().point, engine(n).expected());
    }
    Beginning { objects: store.objects(), truth }
}

/// What the actors share and report.
struct Stage {
    cx: Cx,
    store: Arc<SimStore>,
    truth: Mutex<BTreeMap<PointId, Files>>,
    reported: Mutex<BTreeSet<PointId>>,
}

impl Stage {
    /// Takes points; being revoked by a sweep that takes it for dead is the only way it may fail.
    async fn writer(&self, vault: Arc<Vault>, number: u8) {
        for round in 0..ROUNDS {
            let engine = engine(10 + number * ROUNDS + round);
            match take(&self.cx, &vault, &engine).await {
                Ok(point) => {
                    self.truth.lock().unwrap().insert(point.point.clone(), engine.expected());
                    self.reported.lock().unwrap().insert(point.point);
                }
                Err(OpsError::Vault(VaultError::LostDecision { .. })) => {}
                Err(error) => panic!("a writer failed: {error}"),
            }
        }
    }

    async fn sweeper(&self, vault: Arc<Vault>, stale_after: Duration) {
        let options = SweepOptions { stale_after, dry_run: false, host: "sim".into(), tool: "test".into() };
        for _ in 0..2 {
            match vault.sweep(&self.cx, &source(), &options).await {
                // What cannot be known for certain stops a sweep, and that is right.
                Ok(_) | Err(VaultError::SweepStopped { .. }) => {}
                Err(error) => panic!("a sweep failed: {error}"),
            }
        }
    }

    /// Lets points go, but never the newest.
    async fn retention(&self, vault: Arc<Vault>, store: Arc<dyn Store>) {
        for draw in self.cx.random::<2>() {
            let points = vault.points(&source()).await.unwrap();
            let alive: Vec<_> = points.iter().filter_map(|row| row.restorable()).collect();
            if let [older @ .., _] = &alive[..]
                && !older.is_empty()
            {
                let point = &older[usize::from(draw) % older.len()].point;
                let key = Key::new(format!("sources/toy/points/{point}/expired")).unwrap();
                let _ = store.put_new(&key, b"gone".to_vec().into()).await;
            }
        }
    }

    /// A restore gives the right bytes or an error, and an error only of a point that expired meanwhile.
    async fn reader(&self, vault: Arc<Vault>) {
        for row in vault.points(&source()).await.unwrap() {
            let Some(summary) = row.restorable() else { continue };
            match restore(&self.cx, &vault, summary).await {
                Ok(files) => {
                    if let Some(expected) = self.truth.lock().unwrap().get(&row.point) {
                        assert!(files == *expected, "{} restored to other bytes", row.point);
                    }
                }
                Err(error) => assert!(self.has_expired(&row.point), "{} did not restore: {error}", row.point),
            }
        }
    }

    async fn verifier(&self, vault: Arc<Vault>) {
        let request = verification(Some(source()), Depth::Data);
        for verdict in verify(&self.cx, &vault, &request).await.unwrap().points {
            let sound = verdict.damage.is_empty();
            let may_be = self.has_expired(&verdict.point) || self.is_rubbish(&verdict.point);
            assert!(sound || may_be, "{:?}", verdict.damage);
        }
    }

    fn has_expired(&self, point: &PointId) -> bool {
        let key = Key::new(format!("sources/toy/points/{point}/expired")).unwrap();
        self.store.objects().contains_key(&key)
    }

    /// Whether the attacker made it: that it is named is right.
    fn is_rubbish(&self, point: &PointId) -> bool {
        let key = Key::new(format!("sources/toy/points/{point}/intent")).unwrap();
        self.store.objects().get(&key).is_some_and(|object| object == &b"evil"[..])
    }

    /// Holds a writer's key and its right to put, and no right to delete.
    async fn attacker(&self, vault: Arc<Vault>, store: Arc<dyn Store>) {
        let points = vault.points(&source()).await.unwrap();
        let intent = |parent: Option<PointId>| Intent {
            point: PointId::new(self.cx.now(), self.cx.random()),
            source: source(),
            engine: "toy".into(),
            parent,
            began_at: self.cx.now(),
            host: "evil".into(),
            tool: "evil".into(),
            copied_at: None,
        };
        // A point that refers to a stranger's packs, and one with no parent that exists.
        let nowhere: PointId = "20200101T000000Z-00000000".parse().unwrap();
        for parent in [points.first().map(|row| row.point.clone()), Some(nowhere), None] {
            let intent = intent(parent);
            let point = intent.point.clone();
            if let Ok(upload) = vault.begin(&self.cx, intent, UploadOptions::default(), &[]).await {
                drop(upload);
            }
            // A pack that is none, of a point of its own, and of one of the victim's.
            for owner in [Some(&point), points.last().map(|row| &row.point)].into_iter().flatten() {
                let key = format!("sources/toy/points/{owner}/packs/000099-{}", "ab".repeat(16));
                let _ = store.put_new(&Key::new(key).unwrap(), b"evil".to_vec().into()).await;
            }
        }
        // A point whose record is rubbish: it is listed as such, and hides no other.
        let rubbish = format!("sources/toy/points/{}/intent", PointId::new(self.cx.now(), self.cx.random()));
        let _ = store.put_new(&Key::new(rubbish).unwrap(), b"evil".to_vec().into()).await;
        // Gives up points that others are writing: they lose them and say so.
        for row in vault.points(&source()).await.unwrap() {
            let PointState::Undecided { intent } = row.state else { continue };
            if intent.host == "sim" && self.cx.random::<1>()[0] < 64 {
                let key = Key::new(format!("sources/toy/points/{}/decision", row.point)).unwrap();
                let decision = serde_json::to_vec(&Decision::Abandoned { why: "evil".into() }).unwrap();
                let scope = StreamScope {
                    suite: Suite::Plain,
                    key: &VaultKey::public(),
                    vault: vault.id(),
                    path: key.as_str(),
                };
                let nonce = self.cx.random();
                let record = write_record(scope, Kind::Decision, nonce, &decision);
                let _ = store.put_new(&key, record.into()).await;
            }
        }
    }
}

/// Leaves also when its actor panics: the others would wait for it, and the test for them.
struct Leaves(Arc<Turns>, usize);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

async fn play(beginning: &Beginning, seed: u64) {
    let store = Arc::new(SimStore::holding(beginning.objects.clone()));
    let cx = world_at(seed, DAY);
    let turns = Turns::new(8, world_at(!seed, 0).entropy);
    let stage = Arc::new(Stage {
        cx,
        store: store.clone(),
        truth: Mutex::new(beginning.truth.clone()),
        reported: Mutex::default(),
    });
    let mut tasks = Vec::new();
    for actor in 0..8 {
        let (stage, turns) = (Arc::clone(&stage), Arc::clone(&turns));
        let seen = turns.of(actor, store.clone());
        tasks.push(tokio::spawn(async move {
            let _leaves = Leaves(Arc::clone(&turns), actor);
            let vault = Arc::new(Vault::open(seen.clone(), &Unlock::default()).await.unwrap());
            match actor {
                0 | 1 => stage.writer(vault, actor as u8).await,
                2 => stage.sweeper(vault, Duration::from_secs(DAY * 365)).await,
                3 => stage.sweeper(vault, Duration::ZERO).await,
                4 => stage.retention(vault, seen).await,
                5 => stage.reader(vault).await,
                6 => stage.verifier(vault).await,
                _ => stage.attacker(vault, seen).await,
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    check(&stage).await;
}

async fn check(stage: &Stage) {
    let vault = Arc::new(Vault::open(stage.store.clone(), &Unlock::default()).await.unwrap());
    let mut alive = stage.truth.lock().unwrap().clone();
    alive.retain(|point, _| !stage.has_expired(point));
    for sweeps in 0..3 {
        let rows = vault.points(&source()).await.unwrap();
        let listed: Vec<_> = rows.iter().filter_map(|row| row.restorable()).collect();
        for point in stage.reported.lock().unwrap().iter().filter(|point| alive.contains_key(point)) {
            assert!(listed.iter().any(|row| row.point == *point), "{point} was reported and is not listed");
        }
        for summary in listed {
            let restored = restore(&stage.cx, &vault, summary).await;
            let restored =
                restored.unwrap_or_else(|error| panic!("{} after {sweeps} sweeps: {error}", summary.point));
            assert!(
                restored == alive[&summary.point],
                "{} after {sweeps} sweeps: other bytes",
                summary.point
            );
        }
        let options = SweepOptions {
            stale_after: Duration::ZERO,
            dry_run: false,
            host: "sim".into(),
            tool: "test".into(),
        };
        vault.sweep(&stage.cx, &source(), &options).await.unwrap();
    }
    expect_no_garbage(&stage.store, &vault, &alive, "after three sweeps").await;
}

#[test]
fn everyone_at_once_loses_nothing() {
    let seeds = std::env::var("STRONGROOM_SEEDS").map_or(2000, |seeds| seeds.parse().unwrap());
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let beginning = runtime().block_on(begin());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let kept = KEPT.len() as u64;
                    let seed = if number < kept { KEPT[number as usize] } else { number - kept };
                    if seed >= seeds && number >= kept {
                        return;
                    }
                    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&beginning, seed))));
                    assert!(played.is_ok(), "seed {seed} failed: add it to KEPT when it is mended");
                }
            });
        }
    });
    println!("{seeds} seeds");
}
