//! Every bit of a small vault, flipped: each flip is reported or harmless, and none gives other bytes.
//!
//! The vault has one of everything: a held point, one that has expired and was not swept yet, the last one, WAL, a floor,
//! holds that are open and released, the records of a sweep and a verification. With each bit flipped by itself
//! the vault is listed, verified, restored from, asked for WAL, and asked what retention and a sweep would let go. Then:
//!
//! - whatever is restored or fetched has the right bytes, always;
//! - retention and the sweep let nothing go that they would not let go of the sound vault;
//! - if any answer differs from the sound vault's, an error or the verification says so;
//! - it ends: a vault that keeps its reader busy for more than a few times the sound vault's operations is dead to it.
//!
//! `STRONGROOM_BITS` says how many bits of each byte are flipped: 8 are all. Fewer are other ones from byte to byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test is told how long to go on, and says how far it came"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strongroom_model::retention::Retention;
use strongroom_model::tail::Stretch;
use strongroom_model::{PointId, WalFile};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place, release};
use strongroom_ops::verify::{VerifyRequest, verify};
use strongroom_ops::wal_fetch::{Fetched, wal_fetch};
use strongroom_sim::engine::Files;
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::{Key, Store};
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault};
use world::{Keys, keys, restore, ship, ship_part, source, take, verification};

/// Seconds.
const DAY: u64 = 24 * 3600;

/// What a sound vault holds, and every point it ever had.
struct Sound {
    objects: BTreeMap<Key, Bytes>,
    truth: BTreeMap<PointId, Files>,
    sight: Sight,
    operations: usize,
}

/// What there is to be learnt of a vault.
#[derive(Debug, Default, PartialEq)]
struct Sight {
    listed: BTreeSet<PointId>,
    restored: BTreeSet<PointId>,
    fetched: usize,
    expiring: BTreeSet<PointId>,
    garbage: BTreeSet<Key>,
    /// An error, or a verification that found something.
    alarms: Vec<String>,
}

/// What was received of an open segment.
const TAIL: [u8; 90] = [9; 90];

fn keep_one() -> Retention {
    Retention { keep_last: 1, ..Retention::default() }
}

fn sweeping(dry_run: bool) -> SweepOptions {
    SweepOptions { stale_after: Duration::from_secs(1 << 30), dry_run, host: "sim".into(), tool: "t".into() }
}

fn engine(n: u8) -> ToyEngine {
    let mut files = Files::from([
        ("same".to_owned(), vec![3; 200]),
        ("zeros".to_owned(), vec![0; 8192 + 9]),
        ("changing".to_owned(), vec![n; 2 * 8192 + 40]),
    ]);
    files.get_mut("changing").unwrap()[8192..][..100].fill(1);
    let mut engine = ToyEngine::new(42, files);
    engine.segment = u64::from(n);
    engine
}

/// A vault of this suite with one of everything, and what each point must restore to.
async fn sound(suite: Suite, keys: &Keys) -> Sound {
    let (cx, store) = (surroundings(1), Arc::new(SimStore::default()));
    Vault::create(&cx, store.clone(), suite, std::slice::from_ref(&keys.recipient), "t").await.unwrap();
    let vault = Arc::new(Vault::open(store.clone(), &keys.unlock).await.unwrap());
    let (mut truth, mut points) = (BTreeMap::new(), Vec::new());
    let hand = Hand { host: "sim".into(), tool: "t".into() };
    let why = HoldRequest { reason: "r".into(), owner: "o".into(), until: None };
    ship(&cx, &vault, &engine(0)).await.unwrap();
    for n in 1..=3 {
        let point = take(&cx, &vault, &engine(n)).await.unwrap();
        assert_eq!(point.parent.is_some(), n > 1);
        truth.insert(point.point.clone(), engine(n).expected());
        points.push(point.point);
        if n < 3 {
            place(&cx, &vault, &points[usize::from(n) - 1], &why).await.unwrap();
        }
    }
    ship_part(&cx, &vault, (5, Stretch::new(0, TAIL.len() as u32).unwrap()), &TAIL).await;
    verify(&cx, &vault, &verification(None, Depth::Data)).await.unwrap();
    vault.sweep(&cx, &source(), &sweeping(false)).await.unwrap();
    release(&cx, &vault, &points[1], &why).await.unwrap();
    let plan = plan(&vault, &source(), &keep_one(), cx.now()).await.unwrap();
    expire(&cx, &vault, &source(), (&plan, &keep_one(), &hand)).await.unwrap();
    store.heal();
    let sight = look(&store, &vault, &truth).await;
    let (listed, restored) = (&sight.listed, &sight.restored);
    let alive = BTreeSet::from([points[0].clone(), points[2].clone()]);
    assert!(
        *listed == alive && *restored == alive && sight.fetched == 2 && sight.alarms.is_empty(),
        "{sight:?}"
    );
    assert!(!sight.garbage.is_empty(), "what expired was not swept yet");
    Sound { objects: store.objects(), truth, sight, operations: store.operations() }
}

/// Asks a vault everything. Other bytes than the truth's are never an answer.
async fn look(store: &SimStore, vault: &Arc<Vault>, truth: &BTreeMap<PointId, Files>) -> Sight {
    let (cx, mut sight) = (world_at(7, DAY), Sight::default());
    let alarm = |sight: &mut Sight, error: &dyn std::fmt::Display| sight.alarms.push(error.to_string());
    match vault.points(&source()).await {
        Err(error) => alarm(&mut sight, &error),
        Ok(rows) => {
            for summary in rows.iter().filter_map(|row| row.restorable()) {
                sight.listed.insert(summary.point.clone());
                match restore(&cx, vault, summary).await {
                    Err(error) => alarm(&mut sight, &error),
                    Ok(files) => {
                        assert!(files == truth[&summary.point], "{} restored to other bytes", summary.point);
                        sight.restored.insert(summary.point.clone());
                    }
                }
            }
        }
    }
    match verify(&cx, vault, &VerifyRequest { hand: None, workers: 1, ..verification(None, Depth::Data) })
        .await
    {
        Err(error) => alarm(&mut sight, &error),
        Ok(verdict) if !verdict.sound => alarm(&mut sight, &"the verification found damage"),
        Ok(_) => {}
    }
    for (name, whole) in [("000000010000000000000003", true), ("000000010000000000000005", false)] {
        match wal_fetch(vault, &source(), None, WalFile::parse(name).unwrap()).await {
            Err(error) => alarm(&mut sight, &error),
            Ok(Fetched::Absent) => {}
            Ok(Fetched::File { content, .. }) => {
                assert!(whole && content == vec![7; 1 << 16], "other bytes of WAL");
                sight.fetched += 1;
            }
            Ok(Fetched::Tail { content, received, .. }) => {
                assert!(!whole && content[..received] == TAIL, "other bytes of a tail");
                sight.fetched += 1;
            }
        }
    }
    match plan(vault, &source(), &keep_one(), cx.now()).await {
        Err(error) => alarm(&mut sight, &error),
        Ok(plan) => sight.expiring.extend(plan.expiring().map(|line| line.point.clone())),
    }
    match vault.sweep(&cx, &source(), &sweeping(true)).await {
        Err(error) => alarm(&mut sight, &error),
        Ok(swept) => sight.garbage.extend(swept.garbage.into_iter().map(|object| object.key)),
    }
    assert_eq!(store.met(), 0, "it went on and on");
    sight
}

/// Whether the flip of one bit was reported.
async fn flip(
    sound: &Sound,
    (store, vault, unlock): (&Arc<SimStore>, &Arc<Vault>, &Unlock),
    key: &Key,
    bit: usize,
) -> bool {
    let mut damaged = sound.objects[key].to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    store.tamper(key, damaged.into());
    store.fail_at(sound.operations * 4, Fault::Dead);
    // Only these are read to open a vault.
    let vault = match key.as_str() == "vault.json" || key.as_str().starts_with("keys/") {
        false => Arc::clone(vault),
        true => match Vault::open(store.clone() as Arc<dyn Store>, unlock).await {
            Ok(vault) => Arc::new(vault),
            Err(_) => return true,
        },
    };
    let sight = look(store, &vault, &sound.truth).await;
    store.tamper(key, sound.objects[key].clone());
    let place = format!("bit {bit} of {key}: {sight:?}");
    assert!(sight.garbage.is_subset(&sound.sight.garbage), "a sweep would delete more: {place}");
    // What was let go may be let go again: a tombstone that does not open does not count.
    let may_go =
        |point: &PointId| sound.sight.expiring.contains(point) || !sound.sight.listed.contains(point);
    assert!(sight.expiring.iter().all(may_go), "retention would let more go: {place}");
    assert!(!sight.alarms.is_empty() || sight == sound.sight, "nobody was told: {place}");
    !sight.alarms.is_empty()
}

/// The bits of an object that are flipped.
fn bits(object: &Bytes) -> impl Iterator<Item = usize> {
    let of_a_byte: usize = std::env::var("STRONGROOM_BITS").map_or(2, |bits| bits.parse().unwrap());
    let of_byte = move |at: usize| (0..of_a_byte).map(move |n| at * 8 + (at * 3 + n * 8 / of_a_byte) % 8);
    (0..object.len()).flat_map(of_byte)
}

/// Flips the share of the bits that falls to `thread` of `threads`; how many were flipped and reported, by kind of object.
async fn flip_share(
    sound: &Sound,
    keys: &Keys,
    (thread, threads): (usize, usize),
) -> BTreeMap<&'static str, (usize, usize)> {
    let store = Arc::new(SimStore::holding(sound.objects.clone()));
    let vault = Arc::new(Vault::open(store.clone() as Arc<dyn Store>, &keys.unlock).await.unwrap());
    let mut counts = BTreeMap::<&str, (usize, usize)>::new();
    for (key, object) in &sound.objects {
        let kind = kind(sound, key);
        for bit in bits(object).skip(thread).step_by(threads) {
            let reported = flip(sound, (&store, &vault, &keys.unlock), key, bit).await;
            let (flips, reports) = counts.entry(kind).or_default();
            (*flips, *reports) = (*flips + 1, *reports + usize::from(reported));
        }
    }
    counts
}

/// What an object is, and whether anybody reads it: what belonged to a point that was let go, nobody does, nor the list of
/// a sweep that ended.
fn kind(sound: &Sound, key: &Key) -> &'static str {
    let parts: Vec<&str> = key.as_str().split('/').collect();
    match parts[..] {
        ["vault.json"] => "vault.json",
        ["keys", ..] => "keys",
        ["holds", ..] => "holds",
        ["evidence", ..] => "evidence",
        ["sources", _, "points", _, "expired"] => "tombstones",
        ["sources", _, "points", point, ..]
            if !sound.sight.listed.iter().any(|id| id.to_string() == point) =>
        {
            match parts[4] {
                "decision" => "decisions",
                _ => "of a point that was let go",
            }
        }
        ["sources", _, "points", _, "intent"] => "intents",
        ["sources", _, "points", _, "packs", _] => "packs",
        ["sources", _, "points", _, "manifest"] => "manifests",
        ["sources", _, "points", _, "decision"] => "decisions",
        ["sources", _, "wal", ..] => "WAL",
        ["sources", _, "floors", ..] => "floors",
        ["sources", _, "lineages", _] => "lineages",
        ["sources", _, "sweeps", name] if name.ends_with(".done") => "ends of sweeps",
        ["sources", _, "sweeps", _] => "lists of ended sweeps",
        _ => panic!("{key} is nothing of format 1"),
    }
}

/// What may change unnoticed: plain text for people (a date, a tool's name, whom a key copy is for), and what nobody reads.
const MAY_CHANGE: [&str; 4] = ["vault.json", "keys", "of a point that was let go", "lists of ended sweeps"];

fn every_bit(suite: Suite) {
    let keys = keys();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sound = runtime().block_on(sound(suite, &keys));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut counts = BTreeMap::<&str, (usize, usize)>::new();
    std::thread::scope(|scope| {
        let (sound, keys) = (&sound, &keys);
        let shares: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || runtime().block_on(flip_share(sound, keys, (thread, threads)))))
            .collect();
        for (kind, (flips, reports)) in shares.into_iter().flat_map(|share| share.join().unwrap()) {
            let count = counts.entry(kind).or_default();
            *count = (count.0 + flips, count.1 + reports);
        }
    });
    println!("{suite:?}: {} objects; flipped and reported: {counts:?}", sound.objects.len());
    assert_eq!(counts.len(), 15, "the vault has one of everything");
    for (kind, (flips, reports)) in &counts {
        assert!(flips == reports || MAY_CHANGE.contains(kind), "{kind}: {flips} flips, {reports} reports");
    }
}

#[test]
fn every_flipped_bit_of_an_encrypted_vault_is_reported_or_harmless() {
    every_bit(Suite::Aes256GcmX25519);
}

#[test]
fn every_flipped_bit_of_a_plain_vault_is_reported_or_harmless() {
    every_bit(Suite::Plain);
}
