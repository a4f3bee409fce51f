//! A segment is received in parts, becomes whole, is swept and is read meanwhile, in an order that a seed decides: a reader
//! never sees less than what was acknowledged when it began.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom_model::tail::{Parts, Stretch};
use strongroom_model::{Cx, SegmentSize, SystemId, Timeline, WalFile, WalSegment};
use strongroom_sim::{SimStore, Turns, world_at};
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::tail::Held;
use strongroom_vault::{Suite, Unlock, Vault};
use world::{ship_content, ship_part, source, toy};

const SEEDS: u64 = 100;

/// Parts of the segment; enough for some to be merged.
const PARTS: usize = 40;
const STEP: usize = 5;

fn lineage() -> SystemId {
    toy().lineage
}

fn segment() -> WalSegment {
    WalSegment::numbered(Timeline::FIRST, toy().segment, SegmentSize::DEFAULT)
}

fn truth() -> Vec<u8> {
    (0..PARTS * STEP).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// Ships what was received up to `end` and is not yet in `parts`.
async fn ship_up_to(cx: &Cx, vault: &Vault, parts: &mut Parts, end: usize) {
    let part = parts.next(end as u32).unwrap();
    ship_part(cx, vault, (toy().segment, part), &truth()[part.start() as usize..part.end() as usize]).await;
    parts.stored(part);
}

async fn sweep(cx: &Cx, vault: &Arc<Vault>) {
    let stale_after = Duration::from_secs(3600);
    let options = SweepOptions { stale_after, dry_run: false, host: "sim".into(), tool: "test".into() };
    vault.sweep(cx, &source(), &options).await.unwrap();
}

async fn open(store: Arc<dyn Store>) -> Arc<Vault> {
    Arc::new(Vault::open(store, &Unlock::default()).await.unwrap())
}

/// A vault that knows the toy cluster.
async fn begin(cx: &Cx) -> Arc<SimStore> {
    let store = Arc::new(SimStore::default());
    Vault::create(cx, store.clone(), Suite::Plain, &[], "test").await.unwrap();
    let mut before = toy();
    before.segment -= 1;
    ship_content(cx, &*open(store.clone()).await, &before, vec![1]).await.unwrap();
    store
}

fn is_part(key: &Key) -> bool {
    matches!(WalFile::parse_kept(key.last_segment()), Ok(WalFile::Part(..)))
}

fn parts_in(store: &SimStore) -> usize {
    store.objects().keys().filter(|key| is_part(key)).count()
}

async fn held(vault: &Vault) -> Option<Held> {
    vault.fetch_segment(&source(), lineage(), segment()).await.unwrap()
}

#[tokio::test]
async fn a_tail_is_read_to_its_end_and_goes_when_its_segment_is_whole() {
    let cx = world_at(1 << 40, 1);
    let store = begin(&cx).await;
    let vault = open(store.clone()).await;
    assert_eq!(held(&vault).await, None);
    let mut parts = Parts::default();
    for n in 1..PARTS {
        ship_up_to(&cx, &vault, &mut parts, n * STEP).await;
        assert_eq!(held(&vault).await, Some(Held::Tail(truth()[..n * STEP].to_vec())));
    }
    sweep(&cx, &vault).await;
    assert!(parts_in(&store) < 20, "what another part covers goes: {}", parts_in(&store));
    // A receiver that begins anew stores the segment from its beginning, and only that is left.
    ship_up_to(&cx, &vault, &mut Parts::default(), PARTS * STEP).await;
    sweep(&cx, &vault).await;
    assert_eq!((parts_in(&store), held(&vault).await), (1, Some(Held::Tail(truth()))));
    ship_content(&cx, &vault, &toy(), truth()).await.unwrap();
    sweep(&cx, &vault).await;
    assert_eq!((parts_in(&store), held(&vault).await), (0, Some(Held::Whole(truth()))));
}

#[tokio::test]
async fn parts_that_contradict_each_other_are_not_pieced_together() {
    let cx = world_at(1 << 40, 1);
    let vault = open(begin(&cx).await).await;
    let ship = async |start: u32, end: u32, content: Vec<u8>| {
        ship_part(&cx, &vault, (toy().segment, Stretch::new(start, end).unwrap()), &content).await;
    };
    ship(0, 4, vec![1, 2, 3, 4]).await;
    ship(2, 6, vec![3, 4, 5, 6]).await;
    assert_eq!(held(&vault).await, Some(Held::Tail(vec![1, 2, 3, 4, 5, 6])));
    ship(5, 8, vec![0, 7, 8]).await;
    let error = vault.fetch_segment(&source(), lineage(), segment()).await.unwrap_err().to_string();
    assert!(error.contains("another part of its segment has other bytes"), "{error}");
}

/// A store where the segment becomes whole and a sweep takes the parts, just before the reader lists them, or reads one.
#[derive(Debug)]
struct Meanwhile {
    store: Arc<SimStore>,
    before_list: bool,
    vault: Mutex<Option<Arc<Vault>>>,
}

impl Meanwhile {
    async fn happen(&self) {
        let vault = self.vault.lock().unwrap().take();
        if let Some(vault) = vault {
            let cx = world_at(1 << 41, 2);
            ship_content(&cx, &vault, &toy(), truth()).await.unwrap();
            sweep(&cx, &vault).await;
        }
    }
}

#[async_trait::async_trait]
impl Store for Meanwhile {
    fn place(&self) -> String {
        self.store.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        self.store.put_new(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        if !self.before_list && is_part(key) {
            self.happen().await;
        }
        self.store.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        if self.before_list {
            self.happen().await;
        }
        self.store.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

#[tokio::test]
async fn a_segment_that_becomes_whole_while_its_tail_is_looked_for_is_read_whole() {
    for before_list in [true, false] {
        let cx = world_at(1 << 40, 1);
        let store = begin(&cx).await;
        let writer = open(store.clone()).await;
        ship_up_to(&cx, &writer, &mut Parts::default(), STEP).await;
        let meanwhile = Arc::new(Meanwhile { store: store.clone(), before_list, vault: Mutex::default() });
        let reader = open(meanwhile.clone()).await;
        *meanwhile.vault.lock().unwrap() = Some(writer);
        assert_eq!((held(&reader).await, parts_in(&store)), (Some(Held::Whole(truth())), 0));
    }
}

/// Receives the segment, part by part, then ships it whole.
async fn receive(cx: Cx, vault: Arc<Vault>, durable: Arc<AtomicUsize>) {
    let mut parts = Parts::default();
    for n in 1..=PARTS {
        ship_up_to(&cx, &vault, &mut parts, n * STEP).await;
        durable.store(n * STEP, Ordering::SeqCst);
    }
    ship_content(&cx, &vault, &toy(), truth()).await.unwrap();
}

async fn read(vault: Arc<Vault>, durable: Arc<AtomicUsize>, seed: u64) {
    loop {
        let acknowledged = durable.load(Ordering::SeqCst);
        let (content, is_whole) = match held(&vault).await {
            Some(Held::Whole(content)) => (content, true),
            Some(Held::Tail(content)) => (content, false),
            None => (Vec::new(), false),
        };
        assert!(content.len() >= acknowledged, "seed {seed}: {} of {acknowledged}", content.len());
        assert_eq!(content, truth()[..content.len()], "seed {seed}");
        if is_whole {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_sees_less_than_what_was_acknowledged() {
    for seed in 0..SEEDS {
        let store = begin(&world_at(1 << 40, seed)).await;
        let turns = Turns::new(3, world_at(1 << 40, seed).entropy);
        let durable = Arc::new(AtomicUsize::new(0));
        let mut actors = tokio::task::JoinSet::new();
        for actor in 0..3 {
            let (turns, store, durable) = (turns.clone(), store.clone(), durable.clone());
            let cx = world_at(1 << 40, 100 * seed + actor as u64);
            actors.spawn(async move {
                let vault = open(turns.of(actor, store)).await;
                match actor {
                    0 => receive(cx, vault, durable).await,
                    1 => {
                        for _ in 0..10 {
                            sweep(&cx, &vault).await;
                        }
                    }
                    _ => read(vault, durable, seed).await,
                }
                turns.leave(actor);
            });
        }
        actors.join_all().await;
        sweep(&world_at(1 << 40, SEEDS + seed), &open(store.clone()).await).await;
        assert_eq!(parts_in(&store), 0, "seed {seed}");
    }
}
