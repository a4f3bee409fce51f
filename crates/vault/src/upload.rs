//! Making a recovery point: intent, packs, manifest, decision.
//!
//! ```text
//! worker thread ── Packer ─┐                          ┌─▶ put_new pack      at most `uploads` at a time
//! worker thread ── Packer ─┴─▶ full pack, wait for ───┴─▶ put_new pack
//!                                                        commit: all packs there ▶ manifest ▶ decision
//! ```
//!
//! Memory: (workers + uploads) × pack size, see [`memory_ceiling`]. A worker that has a full pack waits for an upload
//! to end before it goes on.
//!
//! A point with a parent refers to the parent's packs for pages that did not change. The parent is looked at **after** the
//! intent is written: a sweep that lists tombstones before intents either sees this intent, and spares what the parent
//! reaches, or regards the parent as unexpired, which spares it as well.
//!
//! **Followers** are replicas that get each pack as it is stored. Their intents are a copy's, written before their packs;
//! what they are owed at the end, manifest, other packs and decision, `copy` brings. One that fails is left alone from
//! there on and fails nothing here.
//!
//! On a crash at any place the point is undecided: invisible, its packs garbage for a later sweep. `Drop` publishes
//! nothing (incident 3).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use strongroom_codec::compress::Compression;
use strongroom_codec::digest::object_hash;
use strongroom_codec::header::Kind;
use strongroom_codec::keys::PointKey;
use strongroom_codec::manifest::{ManifestWriter, to_hex};
use strongroom_codec::pack::{PackScope, PackWriter, pack_header};
use strongroom_model::entry::EntryPath;
use strongroom_model::page::{PAGE_SIZE, Run, push_run};
use strongroom_model::point::{Decision, FileRow, Intent, PackRef, PointFacts, Reading, Summary};
use strongroom_model::{Cx, PointId};
use strongroom_store::{Body, Head, Key, PutError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::error::{VaultError, damaged, written};
use crate::layout::{self, PointPart};
use crate::open::Vault;
use crate::pace::Pace;
use crate::parent::{Compared, EarlierFile, Inherited, Parent, compact};
use crate::point::Point;

pub mod stream;

/// A pack is closed once it is this long, in bytes (docs/decisions/0001).
pub const PACK_TARGET: usize = 32 << 20;

/// Or once it has this many pages: those of streams compress well, and whoever reads a pack has its footer in memory, 32 bytes
/// for each of them.
const PACK_PAGES: u32 = 1 << 16;

/// Room for what a pack grows beyond its target: the last frame and the footer.
const PACK_SLACK: usize = 1 << 20;

/// Bytes of packs in memory at most.
pub fn memory_ceiling(workers: usize, uploads: usize) -> u64 {
    ((workers + uploads) * (PACK_TARGET + PACK_SLACK)) as u64
}

/// An intent as stored: with the point's own key.
#[derive(Serialize, Deserialize)]
pub(crate) struct IntentRecord {
    #[serde(flatten)]
    pub(crate) intent: Intent,
    pub(crate) point_key: String,
    /// The point's content key, encapsulated, where the suite has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_key: Option<String>,
}

/// How to store a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// Compression of pages.
    pub compression: Compression,
    /// Packs under way to the store at a time.
    pub uploads: usize,
    /// How old a pack may grow that new points still refer to.
    pub rebase_after: Duration,
    /// Bytes of pages a second to take at most, all packers together.
    pub rate_limit: Option<u64>,
}

/// A pack that is referred to for longer than this is stored afresh, unless the user says otherwise.
pub const REBASE_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

impl Default for UploadOptions {
    fn default() -> Self {
        UploadOptions {
            compression: Compression::default(),
            uploads: 4,
            rebase_after: REBASE_AFTER,
            rate_limit: None,
        }
    }
}

/// A recovery point being written. Dropped without [`Upload::commit`] it stays undecided.
#[must_use = "an upload that is not committed is no recovery point"]
pub struct Upload {
    shared: Arc<Shared>,
}

struct Shared {
    vault: Arc<Vault>,
    followers: Vec<Follower>,
    cx: Cx,
    intent: Intent,
    key: PointKey,
    parent: Option<Parent>,
    options: UploadOptions,
    permits: Arc<Semaphore>,
    pace: Option<Pace>,
    next: AtomicU32,
    stored: AtomicU64,
    outcome: Mutex<Outcome>,
    spare: Arc<Spare>,
}

/// Memory of packs that were stored, for those to come: the system hands out fresh memory page by page, each cleared.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_else(|| Vec::with_capacity(PACK_TARGET + PACK_SLACK))
    }
}

/// A pack being stored. Its memory is spare once the last store has let go of it.
struct Stored(Vec<u8>, Arc<Spare>);

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.1.lock().push(std::mem::take(&mut self.0));
    }
}

/// A replica that gets the packs as well, until it fails.
struct Follower {
    vault: Arc<Vault>,
    lost: AtomicBool,
}

impl Follower {
    /// Takes note of what became of something it was given.
    fn settle(&self, result: Result<(), VaultError>) {
        if let Err(error) = result
            && !self.lost.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{} gets no more of this point for now: {error}", self.vault.place());
        }
    }
}

/// What became of the packs so far.
#[derive(Default)]
struct Outcome {
    packs: Vec<Option<PackRef>>,
    failed: Option<VaultError>,
}

impl Shared {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parent's packs: they come first in this point's table until the commit drops those nothing refers to.
    fn inherited(&self) -> &[PackRef] {
        self.parent.as_ref().map(|parent| parent.point().packs().all()).unwrap_or_default()
    }
}

impl Vault {
    /// Begins a recovery point: writes its intent, then opens the parent it names. A parent that has expired meanwhile, or
    /// whose manifest is damaged, is done without: everything is stored afresh.
    pub async fn begin(
        self: &Arc<Self>,
        cx: &Cx,
        intent: Intent,
        options: UploadOptions,
        followers: &[Arc<Vault>],
    ) -> Result<Upload, VaultError> {
        let key = PointKey::new(cx.random(), self.keys.new_content_key(cx.random()));
        let record = IntentRecord {
            intent: intent.clone(),
            point_key: to_hex(key.expose()),
            content_key: key.content().map(|content| to_hex(content.encapsulated())),
        };
        let path = layout::point_part(&intent.source, &intent.point, PointPart::Intent);
        written(self.put_record(cx, &path, Kind::Intent, &record).await)?;
        let parent = match self.open_parent(&intent, options.rebase_after).await {
            Err(error @ (VaultError::Damaged { .. } | VaultError::Missing { .. })) => {
                tracing::warn!("everything is stored afresh because the parent cannot be used: {error}");
                None
            }
            opened => opened?,
        };
        let followers = follow(cx, followers, &record).await;
        let shared = Shared {
            vault: Arc::clone(self),
            followers,
            cx: cx.clone(),
            intent,
            key,
            parent,
            options,
            permits: Arc::new(Semaphore::new(options.uploads.max(1))),
            pace: options.rate_limit.map(Pace::new),
            next: AtomicU32::new(0),
            stored: AtomicU64::new(0),
            outcome: Mutex::default(),
            spare: Arc::default(),
        };
        Ok(Upload { shared: Arc::new(shared) })
    }

    async fn open_parent(
        self: &Arc<Self>,
        intent: &Intent,
        rebase_after: Duration,
    ) -> Result<Option<Parent>, VaultError> {
        let Some(parent) = &intent.parent else { return Ok(None) };
        if self.has_tombstone(&intent.source, parent).await? {
            tracing::warn!("everything is stored afresh because {parent} expired as this point began");
            return Ok(None);
        }
        let point = self.open_point(&intent.source, parent).await?;
        Parent::new(point, intent.began_at, rebase_after).map(Some)
    }
}

/// Begins the point in every follower, as a copy: no sweep there revokes it.
async fn follow(cx: &Cx, vaults: &[Arc<Vault>], record: &IntentRecord) -> Vec<Follower> {
    let Intent { source, point, .. } = &record.intent;
    let path = layout::point_part(source, point, PointPart::Intent);
    let intent = Intent { copied_at: Some(cx.now()), ..record.intent.clone() };
    let (point_key, content_key) = (record.point_key.clone(), record.content_key.clone());
    let copied = IntentRecord { intent, point_key, content_key };
    let mut followers = Vec::new();
    for vault in vaults {
        let follower = Follower { vault: Arc::clone(vault), lost: AtomicBool::new(false) };
        follower.settle(written(vault.put_record(cx, &path, Kind::Intent, &copied).await));
        followers.push(follower);
    }
    followers
}

impl Upload {
    /// The intent it began with.
    pub fn intent(&self) -> &Intent {
        &self.shared.intent
    }

    /// The point whose packs this one refers to, if any.
    pub fn parent(&self) -> Option<&PointId> {
        self.parent_point().map(|parent| &parent.summary().point)
    }

    /// The same, open for reading.
    pub fn parent_point(&self) -> Option<&Point> {
        self.shared.parent.as_ref().map(Parent::point)
    }

    /// What the parent knows of a file, if it has it.
    pub fn earlier(&self, path: &EntryPath) -> Option<EarlierFile> {
        self.shared.parent.as_ref().and_then(|parent| parent.file(path))
    }

    /// Makes ready for [`Packer::adopt`]: looks which of the parent's packs are still there. Pages that lie in another are
    /// not adopted, and so stored again.
    pub async fn prepare_adoption(&self) -> Result<(), VaultError> {
        let Some(parent) = &self.shared.parent else { return Ok(()) };
        let packs = parent.point().packs().all();
        let there = self.list_packs(packs).await?;
        let is_there = |pack: &PackRef| self.find_pack(&there, pack).is_ok_and(|found| found == pack.size);
        parent.note_packs(packs.iter().map(is_there).collect());
        Ok(())
    }

    /// A packer for one worker thread. Its methods block: never call them on an async thread.
    pub fn packer(&self, runtime: Handle) -> Packer {
        Packer { shared: Arc::clone(&self.shared), runtime, pack: None, inherited: Inherited::default() }
    }

    /// Waits for all packs, writes the manifest and the decision. All packers must have finished.
    pub async fn commit(
        self,
        facts: PointFacts,
        mut rows: Vec<FileRow>,
        reading: Option<Reading>,
    ) -> Result<Summary, VaultError> {
        let Shared { vault, cx, intent, .. } = &*self.shared;
        let own = self.settle().await?;
        let mut maps: Vec<_> = rows.iter_mut().map(|row| &mut row.map).collect();
        let packs = compact(self.shared.inherited(), &own, &mut maps);
        self.check_packs(&packs).await?;
        let manifest = self.write_manifest(&facts, &packs, &rows)?;
        let (manifest_hash, manifest_size) =
            (to_hex(&object_hash(self.shared.vault.suite, &manifest)), manifest.len() as u64);
        let path = layout::point_part(&intent.source, &intent.point, PointPart::Manifest);
        written(vault.store.put_new(&path, manifest.into()).await)?;
        self.check_object(&path, manifest_size).await?;
        cx.check()?;
        let summary = Summary {
            point: facts.point,
            source: facts.source,
            engine: facts.engine,
            product: facts.product,
            parent: facts.parent,
            started_at: facts.started_at,
            stopped_at: facts.stopped_at,
            committed_at: cx.now(),
            journal: facts.journal,
            entries: rows.len() as u64,
            bytes: rows.iter().map(|row| row.entry.size()).sum(),
            stored: self.shared.stored.load(Ordering::Relaxed) + manifest_size,
            packs: own.len() as u32,
            damaged_pages: rows.iter().map(|row| row.damaged.len() as u64).sum(),
            from_standby: facts.from_standby,
            reading,
        };
        let decision = Decision::Commit { manifest_hash, manifest_size, summary: Box::new(summary.clone()) };
        self.decide(decision.clone()).await?;
        // Success is what the store gives back, not what it acknowledged (I2).
        match vault.decision(&intent.source, &intent.point).await? {
            Some(there) if there == decision => Ok(summary),
            _ => {
                let key = layout::point_part(&intent.source, &intent.point, PointPart::Decision);
                Err(VaultError::Missing { key: key.to_string(), place: vault.place() })
            }
        }
    }

    async fn check_object(&self, key: &Key, size: u64) -> Result<(), VaultError> {
        let vault = &self.shared.vault;
        match vault.store.head(key).await {
            Ok(head) if head.size == size => Ok(()),
            Ok(head) => Err(damaged(
                key,
                vault.place(),
                format!("{size} bytes were written and {} are there", head.size),
            )),
            Err(error) if error.is_not_found() => {
                Err(VaultError::Missing { key: key.to_string(), place: vault.place() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives up: says so in the vault, so that nobody waits for this point.
    pub async fn abandon(self, why: &str) -> Result<(), VaultError> {
        let all = self.shared.options.uploads.max(1) as u32;
        // The semaphore is never closed; when all permits are ours no upload is under way.
        let _all = self.shared.permits.acquire_many(all).await;
        let Shared { cx, intent, followers, .. } = &*self.shared;
        let decision = Decision::Abandoned { why: why.to_owned() };
        let path = layout::point_part(&intent.source, &intent.point, PointPart::Decision);
        for follower in followers.iter().filter(|follower| !follower.lost.load(Ordering::Relaxed)) {
            follower.settle(written(follower.vault.put_record(cx, &path, Kind::Decision, &decision).await));
        }
        self.decide(decision).await
    }

    async fn decide(&self, decision: Decision) -> Result<(), VaultError> {
        let Shared { vault, cx, intent, .. } = &*self.shared;
        let path = layout::point_part(&intent.source, &intent.point, PointPart::Decision);
        match vault.put_record(cx, &path, Kind::Decision, &decision).await {
            Ok(()) => Ok(()),
            Err(PutError::Store(error)) => Err(error.into()),
            Err(PutError::Exists { key, place }) => {
                let what = match vault.decision(&intent.source, &intent.point).await? {
                    Some(Decision::Revoked { by }) => format!("revoked by {by}"),
                    Some(Decision::Abandoned { why }) => format!("abandoned ({why})"),
                    Some(Decision::Commit { .. }) | None => return Err(VaultError::Taken { key, place }),
                };
                Err(VaultError::LostDecision { point: intent.point.clone(), what })
            }
        }
    }

    /// Waits until no upload is under way; the packs in order of number, or the first upload's error.
    async fn settle(&self) -> Result<Vec<PackRef>, VaultError> {
        let all = self.shared.options.uploads.max(1) as u32;
        let _all = self.shared.permits.acquire_many(all).await;
        let mut outcome = self.shared.outcome();
        if let Some(error) = outcome.failed.take() {
            return Err(error);
        }
        let packs: Option<Vec<PackRef>> = outcome.packs.drain(..).collect();
        let packs = packs.filter(|packs| packs.len() == self.shared.next.load(Ordering::Relaxed) as usize);
        // A packer dropped without `finish` would leave a number without a pack: our own mistake, not the user's.
        packs.ok_or_else(|| {
            unreachable!("a packer of {} was not finished before commit", self.shared.intent.point)
        })
    }

    /// Reads back that every pack is there in its full size (I1): a store that lost one is found out before commit.
    async fn check_packs(&self, packs: &[PackRef]) -> Result<(), VaultError> {
        let there = self.list_packs(packs).await?;
        for pack in packs {
            let found = self.find_pack(&there, pack)?;
            if found != pack.size {
                let why = format!("{} bytes were written and {found} are there", pack.size);
                let key = layout::pack(&self.shared.intent.source, pack);
                return Err(damaged(key, self.shared.vault.place(), why));
            }
        }
        Ok(())
    }

    /// What lies in the folders of these packs' owners, in order of key.
    async fn list_packs(&self, packs: &[PackRef]) -> Result<Vec<Head>, VaultError> {
        let Shared { vault, intent, .. } = &*self.shared;
        let mut there = Vec::new();
        let owners: BTreeSet<&PointId> = packs.iter().map(|pack| &pack.owner).collect();
        for owner in owners {
            there.extend(vault.list(&layout::packs(&intent.source, owner)).await?);
        }
        Ok(there)
    }

    /// The size in which a pack is there.
    fn find_pack(&self, there: &[Head], pack: &PackRef) -> Result<u64, VaultError> {
        let Shared { vault, intent, .. } = &*self.shared;
        let key = layout::pack(&intent.source, pack);
        let found = there.binary_search_by(|head| head.key.cmp(&key)).ok().and_then(|at| there.get(at));
        let missing = || VaultError::Missing { key: key.to_string(), place: vault.place() };
        found.map(|head| head.size).ok_or_else(missing)
    }

    fn write_manifest(
        &self,
        facts: &PointFacts,
        packs: &[PackRef],
        rows: &[FileRow],
    ) -> Result<Vec<u8>, VaultError> {
        let Shared { vault, cx, intent, key, .. } = &*self.shared;
        let path = layout::point_part(&intent.source, &intent.point, PointPart::Manifest);
        let mut owners = vec![(intent.point.clone(), key.clone())];
        let theirs = self.shared.parent.iter().flat_map(|parent| parent.point().packs().keys());
        owners.extend(theirs.filter(|(owner, _)| packs.iter().any(|pack| pack.owner == *owner)).cloned());
        let too_large = |why: &dyn std::fmt::Display| {
            VaultError::TooLarge(format!("write the manifest of {}: {why}", intent.point))
        };
        let mut writer = ManifestWriter::new(vault.scope(&path), cx.random(), facts, &owners)
            .map_err(|why| too_large(&why))?;
        for pack in packs {
            writer.pack(pack).map_err(|why| too_large(&why))?;
        }
        for row in rows {
            writer.row(row).map_err(|why| too_large(&why))?;
        }
        Ok(writer.finish())
    }
}

/// Packs pages for one worker thread.
pub struct Packer {
    shared: Arc<Shared>,
    runtime: Handle,
    pack: Option<(PackWriter, PackRef)>,
    inherited: Inherited,
}

impl Packer {
    /// Says which pages of which file come next: those that the parent has as well will not be packed again. Blocks.
    pub fn expect(&mut self, path: &EntryPath, pages: Range<u32>) -> Result<(), VaultError> {
        if let Some(parent) = &self.shared.parent {
            self.inherited = parent.inherit(&self.runtime, path, pages)?;
        }
        Ok(())
    }

    /// Where the parent has these pages of the file, which are not read: to be asked for a stretch as [`Packer::expect`] is
    /// told of them, all of whose pages the source proves unchanged. `None` if they must be read.
    pub fn adopt(&self, path: &EntryPath, pages: Range<u32>) -> Option<Vec<Run>> {
        self.shared.parent.as_ref().and_then(|parent| parent.adopt(path, pages))
    }

    /// Appends to `map` where the parent has these of the expected pages, which are not read. `false`, and nothing appended,
    /// if they must be.
    pub fn adopt_some(&self, pages: Range<u32>, map: &mut Vec<Run>) -> bool {
        self.inherited.adopt(pages, map)
    }

    /// Adds pages of manifest row `file` from page `first` on, and appends to `map` where they are or will be. Returns
    /// those that the parent has otherwise. Blocks while the store is busy with earlier packs, and until it is these pages'
    /// turn where a rate is kept. Fails as soon as any upload failed.
    pub fn add(
        &mut self,
        file: u32,
        first: u32,
        pages: &[u8],
        map: &mut Vec<Run>,
    ) -> Result<Vec<u32>, VaultError> {
        if let Some(pace) = &self.shared.pace {
            self.runtime.block_on(pace.turn_of(&self.shared.cx, pages.len() as u64))?;
        }
        let (mut packed, mut changed) = (0, Vec::new());
        for (slot, page) in pages.chunks(PAGE_SIZE).enumerate() {
            let at = first + slot as u32;
            match self.inherited.compare(at, page, &self.shared.vault.fingerprints) {
                Compared::Same(place) => {
                    let start = slot * PAGE_SIZE;
                    self.pack(file, first + (packed / PAGE_SIZE) as u32, &pages[packed..start], map)?;
                    push_run(map, Run { first: at, count: 1, place });
                    packed = start + page.len();
                }
                Compared::New(true) => changed.push(at),
                Compared::New(false) => {}
            }
        }
        self.pack(file, first + (packed / PAGE_SIZE) as u32, &pages[packed..], map)?;
        Ok(changed)
    }

    fn pack(&mut self, file: u32, first: u32, pages: &[u8], map: &mut Vec<Run>) -> Result<(), VaultError> {
        if pages.is_empty() {
            return Ok(());
        }
        self.write(|writer| writer.add(file, first, pages, map))
    }

    /// Writes to the pack that is open, or to a new one, and hands it over if it is full then.
    fn write(&mut self, add: impl FnOnce(&mut PackWriter)) -> Result<(), VaultError> {
        let shared = Arc::clone(&self.shared);
        let (writer, _) = self.pack.get_or_insert_with(|| open_pack(&shared));
        add(writer);
        let is_full = writer.len() >= PACK_TARGET || writer.pages() >= PACK_PAGES;
        if is_full { self.hand_over() } else { Ok(()) }
    }

    /// Hands over the last pack. To be called once, after the last page.
    pub fn finish(mut self) -> Result<(), VaultError> {
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), VaultError> {
        let Some((writer, pack)) = self.pack.take() else { return Ok(()) };
        self.shared.cx.check()?;
        if let Some(error) = self.shared.outcome().failed.take() {
            return Err(error);
        }
        // The semaphore is never closed.
        let permit = self.runtime.block_on(Arc::clone(&self.shared.permits).acquire_owned()).ok();
        let (object, digest) = writer.finish();
        let pack = PackRef { size: digest.size, hash: digest.hash, ..pack };
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let key = layout::pack(&shared.intent.source, &pack);
            let body = Body::from(Bytes::from_owner(Stored(object, Arc::clone(&shared.spare))));
            let follow = shared.followers.iter().map(|follower| shared.give(follower, &key, &body));
            let (result, _) = tokio::join!(shared.vault.store.put_new(&key, body.clone()), join_all(follow));
            shared.settle_one(pack, written(result));
            drop(permit);
        });
        Ok(())
    }
}

fn open_pack(shared: &Shared) -> (PackWriter, PackRef) {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let pack = PackRef {
        owner: shared.intent.point.clone(),
        number,
        nonce: shared.cx.random(),
        size: 0,
        hash: [0; 16],
    };
    let path = layout::pack(&shared.intent.source, &pack);
    let scope = PackScope {
        key: &shared.key,
        fingerprints: &shared.vault.fingerprints,
        vault: &shared.vault.id,
        path: path.as_str(),
    };
    let header = pack_header(shared.vault.suite, pack.nonce);
    let number = shared.inherited().len() as u32 + number;
    let writer = PackWriter::new(scope, header, shared.options.compression, number, shared.spare.take());
    (writer, pack)
}

impl Shared {
    async fn give(&self, follower: &Follower, key: &Key, body: &Body) {
        if !follower.lost.load(Ordering::Relaxed) {
            follower.settle(written(follower.vault.store.put_new(key, body.clone()).await));
        }
    }

    fn settle_one(&self, pack: PackRef, result: Result<(), VaultError>) {
        let mut outcome = self.outcome();
        match result {
            Ok(()) => {
                self.stored.fetch_add(pack.size, Ordering::Relaxed);
                self.cx.progress.store(pack.size);
                let number = pack.number as usize;
                if outcome.packs.len() <= number {
                    outcome.packs.resize(number + 1, None);
                }
                outcome.packs[number] = Some(pack);
            }
            Err(error) => {
                outcome.failed.get_or_insert(error);
            }
        }
    }
}
