//! No (key, nonce) pair seals two blocks, over a long history of a vault and its replica.
//!
//! AES-GCM loses everything when a pair repeats. Whatever was ever handed to a store counts, also what was refused, lost
//! on the way, written again, or deleted since: somebody may have seen it. So both stores keep every put, and this test
//! reads the clear parts of each object as docs/format.md §3 to §5 describe them:
//!
//! ```text
//! key     what it is derived from: of the append key, or a point's or its content's, by the object's own 128 random bits
//! nonce   the block's type and index, counted within the object
//! ```
//!
//! Point and content keys are taken for one and the same here, which only makes the test harder to pass. The same bytes put again are
//! no second block. A history whose source of chance begins again from the front must be found out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_macros, reason = "a test says how far it came")]

mod world;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom_codec::compress::Compression;
use strongroom_codec::header::{HEADER_SIZE, Kind};
use strongroom_codec::pack::{FRAME_HEADER_SIZE, TRAILER_SIZE, Trailer};
use strongroom_model::Cx;
use strongroom_model::retention::Retention;
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place, release};
use strongroom_ops::verify::verify;
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings};
use strongroom_store::retry::{Retry, RetryPolicy};
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Recipient, Suite, Vault};
use world::{Keys, keys, request, ship_content, source, toy, verification};

const ROUNDS: u8 = 120;

/// A store that keeps what it was ever given.
#[derive(Debug, Default)]
struct Witness {
    store: Arc<SimStore>,
    puts: Mutex<Vec<(Key, Bytes)>>,
}

#[async_trait::async_trait]
impl Store for Witness {
    fn place(&self) -> String {
        self.store.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        self.puts.lock().unwrap().push((key.clone(), body.parts().concat().into()));
        self.store.put_new(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.store.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        self.store.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

/// What a block was sealed with: by which kind of key, the object's random bits, the block's nonce.
type Pair = (Root, [u8; 16], [u8; 12]);

/// What keys are derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Root {
    Vault,
    Point,
    Passphrase,
}

/// Every pair that was ever used, with where and for what.
#[derive(Default)]
struct Pairs {
    used: HashMap<Pair, (Key, Vec<u8>)>,
    repeated: Vec<(Pair, Key, Key)>,
    kinds: BTreeSet<u8>,
}

impl Pairs {
    fn of(witnesses: &[&Witness]) -> Pairs {
        let mut pairs = Pairs::default();
        for witness in witnesses {
            for (key, object) in &*witness.puts.lock().unwrap() {
                pairs.read(key, object);
            }
        }
        pairs
    }

    fn read(&mut self, key: &Key, object: &[u8]) {
        match key.as_str().split('/').next() {
            Some("vault.json") => {}
            Some("keys") => self.read_wrapped(key, object),
            _ if object[10] == Kind::Pack as u8 => self.read_pack(key, object),
            _ => self.read_stream(key, (Root::Vault, object)),
        }
    }

    /// A passphrase's copy holds a record, sealed with a key that a salt of its own makes; age seals its own way.
    fn read_wrapped(&mut self, key: &Key, object: &[u8]) {
        let json: serde_json::Value = serde_json::from_slice(object).unwrap();
        let Some(text) = json["wrapped"].as_str().filter(|_| json["kind"] == "passphrase") else { return };
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let record: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
        self.read_stream(key, (Root::Passphrase, &record));
    }

    fn read_stream(&mut self, key: &Key, (root, object): (Root, &[u8])) {
        let salt = self.read_header(object);
        let (mut at, mut index) = (HEADER_SIZE, 0);
        loop {
            let stored = number(object, at) as usize;
            let is_last = object[at + 9] == 1;
            let block = &object[at + 10..at + 10 + stored];
            self.note(key, (root, salt, nonce(if is_last { 4 } else { 3 }, index)), block);
            (at, index) = (at + 10 + stored, index + 1);
            if is_last {
                return assert_eq!(at, object.len(), "{key} goes on after its last chunk");
            }
        }
    }

    fn read_pack(&mut self, key: &Key, object: &[u8]) {
        let salt = self.read_header(object);
        let trailer = &object[object.len() - TRAILER_SIZE..];
        let footer = Trailer::read(trailer, object.len() as u64).unwrap().footer();
        let mut at = HEADER_SIZE;
        while at < footer.start as usize {
            assert_eq!(&object[at..at + 4], b"FRAM", "{key} at {at}");
            let (index, stored) = (number(object, at + 4), number(object, at + 8) as usize);
            at += FRAME_HEADER_SIZE;
            self.note(key, (Root::Point, salt, nonce(1, index)), &object[at..at + stored]);
            at += stored;
        }
        let footer = &object[footer.start as usize..footer.end as usize];
        self.note(key, (Root::Point, salt, nonce(2, 0)), footer);
    }

    fn read_header(&mut self, object: &[u8]) -> [u8; 16] {
        self.kinds.insert(object[10]);
        assert_eq!(&object[..8], b"STRGROOM");
        assert_ne!(object[11], Suite::Plain as u8, "there is something to lose only where it is encrypted");
        object[16..HEADER_SIZE].try_into().unwrap()
    }

    fn note(&mut self, key: &Key, pair: Pair, block: &[u8]) {
        match self.used.get(&pair) {
            None => drop(self.used.insert(pair, (key.clone(), block.to_vec()))),
            Some((_, other)) if other == block => {}
            Some((other, _)) => self.repeated.push((pair, other.clone(), key.clone())),
        }
    }
}

fn number(object: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(object[at..at + 4].try_into().unwrap())
}

fn nonce(block_type: u8, index: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[0] = block_type;
    nonce[8..].copy_from_slice(&index.to_le_bytes());
    nonce
}

/// A vault and its replica.
#[derive(Default)]
struct Places {
    first: Arc<Witness>,
    second: Arc<Witness>,
}

impl Places {
    async fn create(&self, cx: &Cx, keys: &Keys) {
        let recipients = [keys.recipient_again(), Recipient::Passphrase("correct horse".to_owned().into())];
        let vault =
            Vault::create(cx, self.first.clone(), Suite::Aes256GcmX25519, &recipients, "test").await.unwrap();
        vault.replicate(cx, self.second.clone(), &recipients, "test").await.unwrap();
    }

    /// Both, asking again where the store says that something went wrong, or not.
    async fn open(&self, keys: &Keys, asks_again: bool) -> (Arc<Vault>, Arc<Vault>) {
        let (tries, first_wait, total) = (4, Duration::ZERO, Duration::from_secs(60));
        let policy = RetryPolicy { tries, first_wait, longest_wait: first_wait, total };
        let mut opened = Vec::new();
        for place in [&self.first, &self.second] {
            let store: Arc<dyn Store> = match asks_again {
                true => Arc::new(Retry::with_policy(place.clone(), policy)),
                false => place.clone(),
            };
            opened.push(Arc::new(Vault::open(store, &keys.unlock).await.unwrap()));
        }
        (opened.remove(0), opened.remove(0))
    }

    fn pairs(&self) -> Pairs {
        Pairs::of(&[&self.first, &self.second])
    }
}

fn engine(n: u8) -> ToyEngine {
    let mut engine = toy();
    engine.segment = 1 + u64::from(n);
    engine.files.get_mut("big").unwrap()[usize::from(n) % 40 * 8192..][..100].fill(n);
    engine.files.insert(format!("small{:02}", n % 20), vec![n; 300]);
    // Several frames a point, and pages that compress badly.
    engine
        .files
        .insert("noise".into(), (0..100 * 8192u32).map(|at| (at.wrapping_mul(at) >> 9) as u8 ^ n).collect());
    engine
}

/// Everything that writes, once; errors are what the faults are for. How many verbs succeeded.
async fn round(cx: &Cx, (first, second): (&Arc<Vault>, &Arc<Vault>), n: u8) -> usize {
    let engine = engine(n);
    let draw = cx.random::<4>();
    let compression: Compression = ["zstd:3", "lz4", "none"][usize::from(draw[0]) % 3].parse().unwrap();
    let rebase_after = Duration::from_secs(if draw[1] < 64 { 0 } else { 1 << 30 });
    let followers = if draw[2] < 128 { vec![Arc::clone(second)] } else { Vec::new() };
    let upload = UploadOptions { compression, uploads: 2, rebase_after, rate_limit: None };
    let request = BackupRequest { upload, followers, afresh: draw[3] < 32, workers: 2, ..request() };
    let hand = Hand { host: "sim".into(), tool: "test".into() };
    let why = HoldRequest { reason: "sim".into(), owner: "sim".into(), until: None };
    let sweeping =
        SweepOptions { stale_after: Duration::ZERO, dry_run: false, host: "sim".into(), tool: "test".into() };
    let keep = Retention { keep_last: 3, ..Retention::default() };
    let mut outcomes: Vec<Result<(), OpsError>> = Vec::new();
    // Several chunks, sealed by threads; and again: the second put is refused, and was sealed nevertheless.
    let content: Vec<u8> = (0..(3u32 << 20) + 5).map(|at| (at / 5) as u8).collect();
    for _ in 0..2 {
        outcomes.push(ship_content(cx, first, &engine, content.clone()).await);
    }
    let taken = backup(cx, first, &engine, &request).await;
    if let Ok(point) = &taken {
        outcomes.push(place(cx, first, &point.point, &why).await.map(drop));
        outcomes.push(release(cx, first, &point.point, &why).await.map(drop));
    }
    outcomes.push(taken.map(drop));
    outcomes.push(verify(cx, first, &verification(None, Depth::Data)).await.map(drop));
    let options = CopyOptions { in_flight: 2, read_back: false, limit: None };
    let everything = CopyRequest { source: None, choice: Choice::All, options };
    outcomes.push(copy(cx, first, second, &everything).await.map(drop));
    for vault in [first, second] {
        let planned = plan(vault, &source(), &keep, cx.now()).await;
        outcomes.push(match planned {
            Ok(plan) => expire(cx, vault, &source(), (&plan, &keep, &hand)).await.map(drop),
            Err(error) => Err(error),
        });
        outcomes.push(vault.sweep(cx, &source(), &sweeping).await.map(drop).map_err(OpsError::from));
    }
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

/// A history of many rounds, of which two in three meet faults.
async fn live(cx: &Cx, places: &Places, keys: &Keys) -> usize {
    let mut done = 0;
    for n in 0..ROUNDS {
        let asks_again = n % 3 == 0;
        let (first, second) = places.open(keys, asks_again).await;
        for place in [&places.first, &places.second] {
            let told = [Fault::Before, Fault::ReplyLost];
            let draws = cx.random::<8>().map(usize::from);
            place.store.fail(match n % 3 {
                0 => draws.iter().map(|draw| (*draw, told[draw % 2])).collect(),
                1 => vec![(draws[0], Fault::ALL[draws[1] % Fault::ALL.len()]), (draws[2], Fault::ReplyLost)],
                _ => Vec::new(),
            });
        }
        done += round(cx, (&first, &second), n).await;
        for place in [&places.first, &places.second] {
            place.store.heal();
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_nonce_repeat_in_a_long_history() {
    let (cx, keys, places) = (surroundings(1), keys(), Places::default());
    places.create(&cx, &keys).await;
    let done = live(&cx, &places, &keys).await;
    let pairs = places.pairs();
    let puts = places.first.puts.lock().unwrap().len() + places.second.puts.lock().unwrap().len();
    println!("{done} verbs succeeded, {puts} puts, {} pairs", pairs.used.len());
    assert!(pairs.repeated.is_empty(), "{:?}", pairs.repeated);
    let kinds: Vec<u8> = (Kind::Intent as u8..=Kind::Sweep as u8).collect();
    assert!(
        kinds.iter().all(|kind| pairs.kinds.contains(kind)),
        "not all kinds of objects: {:?}",
        pairs.kinds
    );
    assert!(done > 800 && pairs.used.len() > 3500, "{done} verbs, {} pairs", pairs.used.len());
}

/// The test above can fail: a host whose chance begins again (a virtual machine that was set back) is found out.
#[tokio::test(flavor = "multi_thread")]
async fn chance_that_repeats_itself_is_noticed() {
    let (keys, places) = (keys(), Places::default());
    places.create(&surroundings(1), &keys).await;
    let (first, second) = places.open(&keys, false).await;
    // The first registers the lineage; from the second on each draws as the one before did.
    for n in 0..4 {
        round(&surroundings(2), (&first, &second), n).await;
    }
    let repeated = places.pairs().repeated;
    for root in [Root::Vault, Root::Point] {
        let found = repeated.iter().any(|(pair, ..)| pair.0 == root);
        assert!(found, "two objects were sealed with one key of a {root:?}, and nobody noticed");
    }
}
