//! Relations that change as PostgreSQL changes them, between points and while they are copied, under options that change
//! from point to point: every point restores to what was read for it.
//!
//! The files lie in a real folder and are read by the reader that backups of PostgreSQL use. They are extended, truncated,
//! truncated and grown again, dropped, and dropped with their name used again; pages get hints without a new LSN, become
//! zeros, move to other places, and come back as they were. During a copy all this goes on, and pages are read half
//! written: such a page is stored as it was read, for WAL has it whole, or reported as damaged where its LSN is too old
//! for that.
//!
//! The model is what the reader gave, page by page, kept aside; and for points that nothing disturbed, the files themselves.
//! Beside new points old ones expire, and sweeps run. A run is its seed; `STRONGROOM_SEEDS` says how many are tried, one
//! for twenty-five of the interleavings'.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the source's files are real ones; a test is told how long to go on, and says how far it came"
)]

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom_engine::{
    self as engine, BackupSession, Engine, EngineError, Inspection, LateFile, PageRead, PageSource, Reader,
    StartOptions, Started, Stopped,
};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Cx, Lsn, PointId, SegmentSize, SystemId, Timeline};
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::list::show;
use strongroom_ops::verify::verify;
use strongroom_postgres::page::checksum;
use strongroom_postgres::read::{Checksums, FolderReader};
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_store::Store;
use strongroom_vault::expire::LetGo;
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault};
use world::{request, restore, ship, source, toy, verification};

/// Seeds that once failed, tried before all others.
const KEPT: [u64; 0] = [];

const POINTS: usize = 9;

/// Files that are checked page by page, and one that is not and need not end with a page.
const RELATIONS: [&str; 5] =
    ["base/5/16384", "base/5/16384_fsm", "base/5/16385", "base/5/16390_vm", "global/1260"];
const PLAIN: &str = "pg_xact/0000";

/// No file grows beyond so many pages: two reads.
const LONGEST: usize = 160;

type Page = [u8; PAGE_SIZE];

/// A cluster's files: on disk, and as they should be.
struct Cluster {
    root: tempfile::TempDir,
    files: Files,
    /// Pages as they were, to come back.
    former: Vec<Vec<u8>>,
    lsn: u64,
    chance: Cx,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let root = tempfile::tempdir().unwrap();
        for folder in ["base/5", "global", "pg_xact"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        // In the segment that is shipped.
        let lsn = (1 << 24) + 1000;
        let mut cluster =
            Cluster { root, files: Files::new(), former: Vec::new(), lsn, chance: surroundings(seed) };
        for path in RELATIONS {
            cluster.reuse(path);
        }
        cluster.grow("base/5/16384", 130);
        cluster.append();
        cluster
    }

    fn below(&self, limit: usize) -> usize {
        u64::from_le_bytes(self.chance.random()) as usize % limit.max(1)
    }

    /// Changes one file in one way, on disk and in the model.
    fn change(&mut self) {
        let path = RELATIONS[self.below(RELATIONS.len())];
        let pages = self.files.get(path).map_or(0, |content| content.len() / PAGE_SIZE);
        match self.below(12) {
            0 | 1 if pages > 0 => self.update(path),
            2 | 3 if pages > 0 => self.hint(path),
            4 => self.grow(path, 1 + self.below(20)),
            5 => self.truncate(path, self.below(pages + 1)),
            6 => {
                self.truncate(path, self.below(pages + 1));
                self.grow(path, 1 + self.below(12));
            }
            7 => self.reuse(path),
            8 if self.files.remove(path).is_some() => fs::remove_file(self.root.path().join(path)).unwrap(),
            9 if pages > 0 => self.move_page(path),
            10 if pages > 0 => {
                let block = self.below(pages);
                self.write(path, (block, &[0; PAGE_SIZE]));
            }
            _ => self.append(),
        }
    }

    /// A page of block `block`, changed by the next WAL record.
    fn page(&mut self, block: usize) -> Page {
        self.lsn += 64;
        let mut page = [0; PAGE_SIZE];
        let run = 1 + self.below(2000);
        let fill: [u8; 32] = self.chance.random();
        page.iter_mut().enumerate().for_each(|(at, byte)| *byte = fill[(at / run) % 32]);
        page[..4].fill(0);
        page[4..8].copy_from_slice(&(self.lsn as u32).to_le_bytes());
        signed(page, block)
    }

    fn update(&mut self, path: &str) {
        let block = self.below(self.files[path].len() / PAGE_SIZE);
        let former = self.files[path][block * PAGE_SIZE..][..PAGE_SIZE].to_vec();
        self.former.push(former);
        let page = self.page(block);
        self.write(path, (block, &page));
    }

    /// A hint bit: another byte, another checksum, the same LSN.
    fn hint(&mut self, path: &str) {
        let block = self.below(self.files[path].len() / PAGE_SIZE);
        let mut page: Page = self.files[path][block * PAGE_SIZE..][..PAGE_SIZE].try_into().unwrap();
        page[100 + self.below(8000)] ^= 1 << self.below(8);
        self.write(path, (block, &signed(page, block)));
    }

    /// A page as it once was, here or elsewhere; or as another is now. Its checksum is its new place's.
    fn move_page(&mut self, path: &str) {
        let pages = self.files[path].len() / PAGE_SIZE;
        let (from, to) = (self.below(pages), self.below(pages));
        let page = match self.former.len() {
            formers if formers > 0 && self.below(2) == 0 => self.former[self.below(formers)].clone(),
            _ => self.files[path][from * PAGE_SIZE..][..PAGE_SIZE].to_vec(),
        };
        self.write(path, (to, &signed(page.try_into().unwrap(), to)));
    }

    /// Adds pages, some of them zeros: allocated and not used yet.
    fn grow(&mut self, path: &str, pages: usize) {
        let end = self.files.get(path).map_or(0, |content| content.len() / PAGE_SIZE);
        for block in end..(end + pages).min(LONGEST) {
            let page = if self.below(5) == 0 { [0; PAGE_SIZE] } else { self.page(block) };
            self.write(path, (block, &page));
        }
    }

    fn truncate(&mut self, path: &str, pages: usize) {
        let Some(content) = self.files.get_mut(path) else { return };
        content.truncate(pages * PAGE_SIZE);
        let file = fs::OpenOptions::new().write(true).open(self.root.path().join(path)).unwrap();
        file.set_len(content.len() as u64).unwrap();
    }

    /// Another relation under the name: a file of its own.
    fn reuse(&mut self, path: &str) {
        if self.files.remove(path).is_some() {
            fs::remove_file(self.root.path().join(path)).unwrap();
        }
        self.grow(path, 1 + self.below(40));
    }

    /// What is no relation: it grows by bytes.
    fn append(&mut self) {
        let more: Vec<u8> = (0..self.below(5000)).map(|at| at as u8 | 1).collect();
        let content = self.files.entry(PLAIN.to_owned()).or_default();
        content.extend(more);
        fs::write(self.root.path().join(PLAIN), content).unwrap();
    }

    fn write(&mut self, path: &str, (block, page): (usize, &Page)) {
        let content = self.files.entry(path.to_owned()).or_default();
        content.resize(content.len().max((block + 1) * PAGE_SIZE), 0);
        content[block * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(page);
        self.write_to_disk(path, (block, page));
    }

    fn write_to_disk(&self, path: &str, (block, page): (usize, &Page)) {
        let path = self.root.path().join(path);
        let file = fs::OpenOptions::new().create(true).write(true).truncate(false).open(path).unwrap();
        file.write_all_at(page, (block * PAGE_SIZE) as u64).unwrap();
    }

    /// Leaves a page half written on disk; what it will be is in the model already.
    fn tear(&mut self, path: &str) -> Option<usize> {
        let blocks = self.files.get(path).map_or(0, |content| content.len() / PAGE_SIZE);
        if blocks == 0 || path == PLAIN {
            return None;
        }
        let block = self.below(blocks);
        let mut torn: Page = self.files[path][block * PAGE_SIZE..][..PAGE_SIZE].try_into().unwrap();
        let page = self.page(block);
        // Mostly the front comes first, with the LSN; a page without it is read again and again, which takes its time.
        match self.below(6) {
            0 => torn[PAGE_SIZE / 2..].copy_from_slice(&page[PAGE_SIZE / 2..]),
            _ => torn[..PAGE_SIZE / 2].copy_from_slice(&page[..PAGE_SIZE / 2]),
        }
        self.write(path, (block, &page));
        self.write_to_disk(path, (block, &torn));
        Some(block)
    }

    fn mend(&self, path: &str, block: usize) {
        let page = self.files[path][block * PAGE_SIZE..][..PAGE_SIZE].try_into().unwrap();
        self.write_to_disk(path, (block, &page));
    }
}

fn signed(mut page: Page, block: usize) -> Page {
    if page.iter().any(|byte| *byte != 0) {
        let sum = checksum(&page, block as u32);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
    }
    page
}

/// What was read of a file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    content: Vec<u8>,
    damaged: Vec<u32>,
}

/// What was read of all files; without those that were gone.
type Sight = BTreeMap<String, Seen>;

/// The cluster as an engine; `disturbed`: it goes on changing while it is copied.
struct Server {
    cluster: Arc<Mutex<Cluster>>,
    seen: Arc<Mutex<Sight>>,
    disturbed: bool,
}

#[async_trait::async_trait]
impl Engine for Server {
    fn name(&self) -> &'static str {
        "toy"
    }

    async fn inspect(&self, _cx: &Cx) -> Result<Inspection, EngineError> {
        Ok(Inspection {
            product: "Toy 1".into(),
            lineage: SystemId(42),
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            time_zone: "UTC".into(),
            facts: serde_json::Value::Null,
        })
    }

    async fn start(&self, cx: &Cx, _options: &StartOptions) -> Result<engine::Session, EngineError> {
        let cluster = self.cluster.lock().unwrap();
        let started =
            Started { lineage: SystemId(42), timeline: Timeline::FIRST, lsn: Lsn(cluster.lsn), at: cx.now() };
        let entries = cluster.files.iter().map(|(path, content)| entry(path, content.len())).collect();
        // Of a file that is listed as empty nothing is read.
        let listed = cluster.files.keys().map(|path| (path.clone(), Seen::default())).collect();
        *self.seen.lock().unwrap() = listed;
        let (cluster, seen) = (Arc::clone(&self.cluster), Arc::clone(&self.seen));
        let disturbed = self.disturbed;
        Ok(engine::Session::Files(Box::new(Session { cluster, seen, disturbed, started, entries })))
    }
}

fn entry(path: &str, size: usize) -> Entry {
    let kind = EntryKind::File(size as u64);
    Entry { path: EntryPath::new(path).unwrap(), kind, mode: 0o600, owner: Owner::default(), modified: 0 }
}

#[derive(Clone)]
struct Session {
    cluster: Arc<Mutex<Cluster>>,
    seen: Arc<Mutex<Sight>>,
    disturbed: bool,
    started: Started,
    entries: Vec<Entry>,
}

#[async_trait::async_trait]
impl BackupSession for Session {
    fn started(&self) -> &Started {
        &self.started
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn reader(&self) -> Arc<dyn Reader> {
        let checksums = Checksums { start: self.started.lsn, blocks_per_file: 131_072 };
        let root = self.cluster.lock().unwrap().root.path().to_owned();
        let inner = FolderReader::new(root, self.entries.clone().into(), Some(checksums));
        Arc::new(Watched { inner: Arc::new(inner), session: self.clone(), entry: 0 })
    }

    async fn check(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Stopped, EngineError> {
        let lsn = Lsn(self.cluster.lock().unwrap().lsn + 100);
        let content = Bytes::from(lsn.to_string());
        let seen = Seen { content: content.to_vec(), damaged: Vec::new() };
        self.seen.lock().unwrap().insert("label".into(), seen);
        let late = vec![LateFile { entry: entry("label", content.len()), content }];
        Ok(Stopped { lsn, timeline: Timeline::FIRST, at: cx.now(), late, facts: serde_json::Value::Null })
    }
}

/// The real reader, with somebody who changes the files under it and keeps what it gave.
struct Watched<Inner: ?Sized> {
    session: Session,
    entry: usize,
    inner: Inner,
}

impl Session {
    /// With some probability, a few changes.
    fn disturb(&self) {
        let mut cluster = self.cluster.lock().unwrap();
        let changes = if self.disturbed { cluster.below(3) } else { 0 };
        (0..changes).for_each(|_| cluster.change());
    }

    fn see(&self, entry: usize, what: impl FnOnce(&mut Sight, String)) {
        what(&mut self.seen.lock().unwrap(), self.entries[entry].path.to_string());
    }
}

impl Reader for Watched<Arc<FolderReader>> {
    fn open(&self, entry: usize) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        self.session.disturb();
        let session = self.session.clone();
        match self.inner.open(entry)? {
            Some(inner) => Ok(Some(Box::new(Watched { session, entry, inner }))),
            None => {
                session.see(entry, |seen, path| drop(seen.remove(&path)));
                Ok(None)
            }
        }
    }
}

impl PageSource for Watched<Box<dyn PageSource>> {
    fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<PageRead, EngineError> {
        self.session.disturb();
        let path = self.session.entries[self.entry].path.to_string();
        // Nobody else changes anything while a page is half written.
        let mut cluster = self.session.cluster.lock().unwrap();
        let torn = if self.session.disturbed && cluster.below(2) == 0 { cluster.tear(&path) } else { None };
        let read = self.inner.read(first, buf)?;
        if let Some(block) = torn {
            cluster.mend(&path, block);
        }
        drop(cluster);
        self.session.see(self.entry, |seen, path| {
            let file = seen.get_mut(&path).unwrap();
            assert_eq!(file.content.len(), first as usize * PAGE_SIZE, "{path} is read in order");
            file.content.extend_from_slice(&buf[..read.bytes]);
            file.damaged.extend(&read.damaged);
        });
        Ok(read)
    }
}

/// What happened in all runs, so that none of it is missed unnoticed.
#[derive(Default)]
struct Happened {
    points: AtomicUsize,
    damaged: AtomicUsize,
    vanished: AtomicUsize,
    inherited: AtomicUsize,
    swept: AtomicUsize,
}

struct Run<'a> {
    cx: Cx,
    vault: Arc<Vault>,
    server: Server,
    truth: BTreeMap<PointId, Sight>,
    happened: &'a Happened,
}

impl Run<'_> {
    fn below(&self, limit: usize) -> usize {
        self.server.cluster.lock().unwrap().below(limit)
    }

    async fn take(&mut self) {
        let compression = ["zstd:1", "zstd:9", "lz4", "none"][self.below(4)].parse().unwrap();
        // A clock of this world is a second further at each look: the second is a few points.
        let rebase_after = [Duration::ZERO, Duration::from_secs(120), Duration::from_secs(1 << 30)];
        let rebase_after = rebase_after[2 - self.below(8).min(2)];
        let upload =
            UploadOptions { compression, uploads: 1 + self.below(3), rebase_after, rate_limit: None };
        self.server.disturbed = self.below(2) == 0;
        // Several would draw what disturbs them in an order that is the threads' doing.
        let workers = if self.server.disturbed { 1 } else { 1 + self.below(3) };
        let afresh = self.below(8) == 0;
        let request = BackupRequest { upload, workers, afresh, ..request() };
        let listed = self.server.cluster.lock().unwrap().files.clone();
        let point = backup(&self.cx, &self.vault, &self.server, &request).await.unwrap();
        let mut seen = std::mem::take(&mut *self.server.seen.lock().unwrap());
        let count = |counter: &AtomicUsize, more: usize| counter.fetch_add(more, Ordering::Relaxed);
        count(&self.happened.points, 1);
        count(&self.happened.damaged, seen.values().map(|file| file.damaged.len()).sum());
        count(&self.happened.vanished, listed.len() + 1 - seen.len());
        count(&self.happened.inherited, usize::from(point.parent.is_some()));
        if !self.server.disturbed {
            let read = seen.iter().filter(|(path, _)| *path != "label");
            let read: Files = read.map(|(path, file)| (path.clone(), file.content.clone())).collect();
            assert!(read == listed, "what nothing disturbed was read as it is");
            assert!(seen.values().all(|file| file.damaged.is_empty()), "nothing was damaged");
        }
        seen.values_mut().for_each(|file| file.damaged.sort_unstable());
        self.truth.insert(point.point, seen);
    }

    /// Lets some point go, whichever, and sweeps.
    async fn let_go(&mut self) {
        let points: Vec<PointId> = self.truth.keys().cloned().collect();
        let point = &points[self.below(points.len())];
        let (why, host, tool) = ("drawn".into(), "sim".into(), "test".into());
        let let_go = LetGo { why, at: self.cx.now(), host, tool };
        assert!(self.vault.expire(&self.cx, &source(), point, &let_go).await.unwrap());
        self.truth.remove(point);
        let options = SweepOptions {
            stale_after: Duration::from_secs(1 << 30),
            dry_run: false,
            host: "sim".into(),
            tool: "test".into(),
        };
        let swept = self.vault.sweep(&self.cx, &source(), &options).await.unwrap();
        self.happened.swept.fetch_add(swept.garbage.len(), Ordering::Relaxed);
    }

    async fn check(&self, when: &str) {
        let rows = self.vault.points(&source()).await.unwrap();
        let listed: Vec<_> = rows.iter().filter_map(|row| row.restorable()).collect();
        assert_eq!(listed.len(), self.truth.len(), "{when}");
        for summary in listed {
            let truth = &self.truth[&summary.point];
            let restored = restore(&self.cx, &self.vault, summary).await.unwrap();
            let paths: Vec<_> = restored.keys().collect();
            assert_eq!(paths, truth.keys().collect::<Vec<_>>(), "files of {} {when}", summary.point);
            for (path, file) in truth {
                assert!(restored[path] == file.content, "{path} of {} {when}", summary.point);
            }
            let mut damaged = show(&self.vault, &summary.point).await.unwrap().damaged;
            damaged.sort();
            let told = truth.iter().filter(|(_, file)| !file.damaged.is_empty());
            let told: Vec<_> = told.map(|(path, file)| (path.clone(), file.damaged.clone())).collect();
            assert_eq!(damaged, told, "damage of {} {when}", summary.point);
        }
    }
}

async fn play(seed: u64, happened: &Happened) {
    let (cx, store) = (surroundings(seed), Arc::new(SimStore::default()));
    let suite = if seed.is_multiple_of(4) { Suite::Plain } else { Suite::Aes256GcmX25519 };
    let keys = world::keys();
    let recipients = std::slice::from_ref(&keys.recipient);
    Vault::create(&cx, store.clone(), suite, recipients, "test").await.unwrap();
    let unlock: &Unlock = &keys.unlock;
    let vault = Arc::new(Vault::open(store as Arc<dyn Store>, unlock).await.unwrap());
    ship(&cx, &vault, &toy()).await.unwrap();
    let cluster = Arc::new(Mutex::new(Cluster::new(!seed)));
    let server = Server { cluster, seen: Arc::default(), disturbed: false };
    let mut run = Run { cx, vault, server, truth: BTreeMap::new(), happened };
    for number in 0..POINTS {
        run.take().await;
        let changes = run.below(12);
        (0..changes).for_each(|_| run.server.cluster.lock().unwrap().change());
        if number > 1 && run.below(3) == 0 {
            run.let_go().await;
        }
    }
    run.check("after all of them").await;
    while run.truth.len() > 3 {
        run.let_go().await;
    }
    run.check("after most were let go").await;
    run.take().await;
    run.check("after one more").await;
    let verdict = verify(&run.cx, &run.vault, &verification(None, Depth::Data)).await.unwrap();
    assert!(verdict.sound, "{verdict:?}");
}

#[test]
fn every_point_of_a_chain_restores_to_what_was_read_for_it() {
    let seeds = std::env::var("STRONGROOM_SEEDS").map_or(80, |seeds| seeds.parse::<u64>().unwrap() / 25 + 1);
    let seeds: Vec<u64> = KEPT.into_iter().chain(0..seeds).collect();
    let (next, happened) = (AtomicU64::new(0), Happened::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let runtime = runtime.unwrap();
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(*seed, &happened))));
                    assert!(played.is_ok(), "seed {seed} failed: add it to KEPT when it is mended");
                }
            });
        }
    });
    let Happened { points, damaged, vanished, inherited, swept } = happened;
    let [points, damaged, vanished, inherited, swept] =
        [points, damaged, vanished, inherited, swept].map(AtomicUsize::into_inner);
    println!(
        "{} seeds: {points} points, {inherited} of them with a parent, {vanished} files vanished, {damaged} pages damaged, {swept} objects swept",
        seeds.len()
    );
    assert!(inherited > 0 && (seeds.len() < 80 || damaged.min(vanished).min(swept) > 10));
}
