//! `strongroom restore`: plan it, then do exactly that.
//!
//! ```text
//! manifest rows ▶ prepare every folder, link and file ▶ batches of stretches ▶ workers: (compare,) fetch, open, check, write
//!                                                       ▶ finish: durable, pg_control last (▶ read ahead of replay)
//! ```
//!
//! Where the target has files from before, they are compared page by page, and only what differs is fetched and written. A
//! restore that was killed is gone on with in the same way: what it had written is found to be right.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde::Serialize;
use strongroom_engine::{EngineError, PageSink, Target};
use strongroom_model::entry::{EntryKind, EntryPath};
use strongroom_model::page::{PAGE_SIZE, Place, Run, complete_map, page_count, runs_within};
use strongroom_model::point::FileRow;
use strongroom_model::point::{PointState, Summary};
use strongroom_model::restore_plan::{Candidate, PlanError, RestorePlan, plan_restore};
use strongroom_model::target::RestoreRequest;
use strongroom_model::{Cx, PointId, SourceName, SystemId};
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::selection::Selection;
use strongroom_postgres::version::Major;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::delta::Differing;
use strongroom_vault::point::{Point, stored_bytes};
use strongroom_vault::verify::LostPages;
use strongroom_vault::{Vault, VaultError};
use tokio::runtime::Handle;

use crate::error::OpsError;
use crate::journal;
use crate::threads::join_all;

/// Bytes of stored pages in a batch: enough to read packs in long ranges, small enough to share among workers.
const BATCH: u64 = 64 << 20;

/// Pages of a file that one worker writes, so that all have work until the last file's end.
const STRETCH: u32 = (BATCH / PAGE_SIZE as u64) as u32;

/// The share of the files' size from which on the journal to be replayed changes so many of their pages that reading all of
/// them first takes less time.
const READ_AHEAD: u64 = 10;

/// Files a worker holds open at most: eight workers keep to half of the 1024 that a process usually may open.
const OPEN_FILES: usize = 32;

/// A restore that was done.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// From which point.
    pub point: PointId,
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes of them that were in the folder already, as they should be.
    pub unchanged: u64,
    /// Bytes fetched from vaults.
    pub fetched: u64,
    /// Databases that were left out: their files are zeros.
    pub left_out: Vec<String>,
    /// Packs that replicas had to help out with, by their place.
    pub from_replicas: BTreeMap<String, usize>,
    /// Pages that no vault has whole. They are zeros in what was restored.
    pub lost: Vec<LostPages>,
    /// How long it took, in seconds: until it is durable on disk, and read into memory for a long replay.
    pub seconds: f64,
}

/// How to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Threads that fetch, check and write.
    pub workers: usize,
    /// Whether to go on without pages that no vault has whole, which become zeros and are named.
    pub accept_loss: bool,
    /// Whose files stay zeros.
    pub selection: Selection,
    /// Bytes a second to fetch at most.
    pub rate_limit: Option<u64>,
}

/// What a restore with losses leaves beside the files, in JSON: the lost pages.
pub const LOST_PAGES: &str = "strongroom_lost_pages.json";

/// Chooses the point and checks that the journal leads to the target. Touches nothing.
pub async fn plan(
    vault: &Vault,
    source: &SourceName,
    request: &RestoreRequest,
    only: Option<&PointId>,
) -> Result<RestorePlan, OpsError> {
    vault.check_may_read()?;
    let points = vault.points(source).await?;
    let journals = journal::load_all(vault, source).await?;
    if points.is_empty() && journals.is_empty() {
        return Err(OpsError::UnknownSource(source.clone()));
    }
    expect_files(&points, only)?;
    let mut candidates = Vec::new();
    for summary in points.iter().filter_map(PointRow::restorable) {
        let mut journals = journals.iter().map(|(journal, _)| journal);
        candidates.extend(journals.find_map(|journal| Candidate::new(summary, journal)));
    }
    let last_transaction = |lineage: SystemId, reach: &_| {
        let (_, transactions) = journals.iter().find(|(journal, _)| journal.lineage == lineage)?;
        transactions.before(reach)
    };
    let plan = plan_restore(&candidates, request, only, &last_transaction);
    for row in points.iter().filter(|row| only.is_none_or(|only| *only == row.point)) {
        let PointState::Unreadable { why, .. } = &row.state else { continue };
        if plan.is_err() {
            // It may be the very one: what is wrong with it is the answer, not that there is none.
            vault.decision(source, &row.point).await?;
        }
        tracing::warn!("{} is left out: {why}", row.point);
    }
    Ok(plan?)
}

/// Refuses where there is nothing to choose from but dumps.
fn expect_files(points: &[PointRow], only: Option<&PointId>) -> Result<(), PlanError> {
    let restorable = points.iter().filter_map(PointRow::restorable);
    let named: Vec<_> = restorable.filter(|summary| only.is_none_or(|only| summary.point == *only)).collect();
    match named.last() {
        Some(dump) if named.iter().all(|summary| summary.journal.is_none()) => {
            Err(PlanError::Dump(dump.point.clone()))
        }
        _ => Ok(()),
    }
}

/// Restores the plan's point into `target`, durably. Reads the first of `vaults`; the others are its replicas, which help
/// out with packs that turn out missing or damaged there.
#[allow(clippy::disallowed_methods, reason = "measures the restore for its report; nothing is decided by it")]
pub async fn restore(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    plan: &RestorePlan,
    target: Arc<dyn Target>,
    options: RestoreOptions,
) -> Result<Restored, OpsError> {
    let began = tokio::time::Instant::now();
    let restored = write_point(cx, vaults, plan, target.clone(), options).await?;
    make_durable(cx, plan, target, &restored).await?;
    Ok(Restored { seconds: Duration::as_secs_f64(&began.elapsed()), ..restored })
}

/// Makes durable what was written, with word of what was lost, and has it read into memory for a long replay.
pub(crate) async fn make_durable(
    cx: &Cx,
    plan: &RestorePlan,
    target: Arc<dyn Target>,
    restored: &Restored,
) -> Result<(), OpsError> {
    let (lost, bytes, replays, cx) = (restored.lost.clone(), restored.bytes, plan.replays(), cx.clone());
    let work = move || {
        cx.progress.begin("making durable", 0);
        if !lost.is_empty() {
            // Plain structs with string keys, which JSON cannot refuse.
            let text = serde_json::to_string_pretty(&lost)
                .unwrap_or_else(|why| unreachable!("lost pages are not JSON: {why}"));
            target.leave(LOST_PAGES, &text)?;
        }
        target.finish()?;
        if replays >= bytes / READ_AHEAD {
            cx.progress.begin("reading ahead of replay", 0);
            target.read_ahead(&cx, bytes);
        }
        Ok(())
    };
    off_the_runtime(work).await
}

/// Writes the plan's point into `target`, which is not finished: more may be put there. The seconds are left at zero.
pub(crate) async fn write_point(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    plan: &RestorePlan,
    target: Arc<dyn Target>,
    options: RestoreOptions,
) -> Result<Restored, OpsError> {
    vaults.iter().try_for_each(|vault| vault.check_may_read())?;
    let point = open_point(vaults, &plan.point).await?.limited_to(options.rate_limit);
    let (cx, runtime) = (cx.clone(), Handle::current());
    let work = move || {
        cx.progress.begin("preparing", 0);
        let mut entries = 0;
        point.rows(|row| {
            entries += 1;
            cx.check()?;
            target.prepare(&row.entry).map_err(OpsError::from)
        })?;
        let summary = point.summary();
        cx.progress.begin("writing", summary.bytes);
        let writing = Writing {
            cx: &cx,
            runtime: &runtime,
            point: &point,
            target: &*target,
            selection: &options.selection,
            losses: options.accept_loss.then(Losses::default),
            unchanged: AtomicU64::new(0),
        };
        write_pages(&writing, options.workers)?;
        cx.check()?;
        Ok(Restored {
            point: summary.point.clone(),
            entries,
            bytes: summary.bytes,
            unchanged: writing.unchanged.into_inner(),
            fetched: point.packs().fetched(),
            left_out: options.selection.left_out().values().cloned().collect(),
            from_replicas: point.packs().lent(),
            lost: writing.losses.map(Losses::into_named).unwrap_or_default(),
            seconds: 0.0,
        })
    };
    off_the_runtime(work).await
}

/// Does what waits for disks where no other task is kept waiting.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpsError> + Send + 'static,
) -> Result<T, OpsError> {
    tokio::task::spawn_blocking(work).await.map_err(|why| OpsError::Worker(why.to_string()))?
}

/// Pages that were given up, by file; and why, each reason said once.
#[derive(Default)]
struct Losses(Mutex<BTreeMap<String, Vec<Range<u32>>>>, Mutex<BTreeSet<String>>);

impl Losses {
    fn add(&self, path: &EntryPath, pages: Range<u32>, why: &VaultError) {
        let why = why.to_string();
        if self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone()) {
            tracing::warn!("going on without pages: {why}");
        }
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.entry(path.to_string()).or_default().push(pages);
    }

    /// In order, neighbours joined.
    fn into_named(self) -> Vec<LostPages> {
        let files = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let named = files.into_iter().map(|(path, mut ranges)| {
            ranges.sort_unstable_by_key(|range| range.start);
            let mut pages = Vec::<Range<u32>>::new();
            for range in ranges {
                match pages.last_mut() {
                    Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                    _ => pages.push(range),
                }
            }
            LostPages { path, pages }
        });
        named.collect()
    }
}

/// What the workers share.
struct Writing<'a> {
    cx: &'a Cx,
    runtime: &'a Handle,
    point: &'a Point,
    target: &'a dyn Target,
    selection: &'a Selection,
    /// Where losses are noted; `None` if none is accepted.
    losses: Option<Losses>,
    /// Bytes that were there already.
    unchanged: AtomicU64,
}

/// The point in the first vault that has its manifest whole; the others stand by. The first error is the answer.
pub async fn open_point(vaults: &[Arc<Vault>], point: &Summary) -> Result<Point, OpsError> {
    let Summary { source, point: id, .. } = point;
    let mut first = None;
    for (at, vault) in vaults.iter().enumerate() {
        match vault.open_point(source, id).await {
            Ok(point) => {
                let others = vaults.iter().enumerate().filter(|(other, _)| *other != at);
                return Ok(point.with_replicas(others.map(|(_, vault)| Arc::clone(vault)).collect()));
            }
            Err(error) if error.is_of_this_place() || at > 0 => {
                tracing::warn!("{id} cannot be read from {}: {error}", vault.place());
                first.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let error =
        first.unwrap_or_else(|| VaultError::NoSuchPoint { source_name: source.clone(), point: id.clone() });
    Err(error.into())
}

/// What PostgreSQL's part of a point says.
pub fn facts_of(point: &Point) -> Result<PostgresFacts, OpsError> {
    let unread = |why: serde_json::Error| unread_facts(&point.summary().point, &why.to_string());
    serde_json::from_value(point.facts().engine_facts.clone()).map_err(unread)
}

/// The version of the server that the point is of.
pub fn major_of(point: &PointId, facts: &PostgresFacts) -> Result<Major, OpsError> {
    let major = u16::try_from(facts.version_num / 10_000).ok().and_then(Major::new);
    major.ok_or_else(|| unread_facts(point, &format!("the server is of version {}", facts.version_num)))
}

fn unread_facts(point: &PointId, why: &str) -> OpsError {
    OpsError::Facts { point: point.clone(), why: why.to_owned() }
}

/// Pages of a file that one worker writes. The row's map is of these pages only.
struct Stretch {
    row: FileRow,
    pages: Range<u32>,
}

impl Stretch {
    /// A file, cut.
    fn all_of(row: FileRow) -> impl Iterator<Item = Stretch> {
        // The manifest was read, so the size is one that can be counted in pages.
        let pages = page_count(row.entry.size()).unwrap_or_default();
        // One that its owner may not write is opened by changing its mode, which one worker must not do under another.
        let length = if row.entry.mode & 0o200 == 0 { u32::MAX } else { STRETCH };
        (0..pages).step_by(length as usize).map(move |first| {
            let pages = first..pages.min(first.saturating_add(length));
            let map = runs_within(&row.map, pages.clone()).collect();
            Stretch { row: FileRow { entry: row.entry.clone(), map, damaged: Vec::new() }, pages }
        })
    }

    /// Bytes of these pages.
    fn bytes(&self) -> u64 {
        let at = |page: u32| self.row.entry.size().min(u64::from(page) * PAGE_SIZE as u64);
        at(self.pages.end) - at(self.pages.start)
    }
}

/// Hands batches of stretches to workers, in the manifest's order; memory is a few batches' page maps.
fn write_pages(writing: &Writing<'_>, workers: usize) -> Result<(), OpsError> {
    let (sender, receiver) = mpsc::sync_channel::<Vec<Stretch>>(workers.max(1));
    let (receiver, failed) = (Mutex::new(receiver), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = || loop {
            let batch = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = batch else { return Ok(()) };
            if failed.load(Ordering::Relaxed) {
                // Keep taking batches, so that the sender is not left waiting; another worker has the reason.
                continue;
            }
            if let Err(error) = write_batch(writing, batch) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        };
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(worker)).collect();
        let sent = send_batches(writing, sender, &failed);
        join_all(threads).and(sent)
    })
}

fn send_batches(
    writing: &Writing<'_>,
    sender: mpsc::SyncSender<Vec<Stretch>>,
    failed: &AtomicBool,
) -> Result<(), OpsError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    writing.point.rows(|mut row| {
        writing.cx.check()?;
        if !matches!(row.entry.kind, EntryKind::File(_)) {
            return Ok(());
        }
        if writing.selection.leaves_out(&row.entry.path) {
            row.map = complete_map(Vec::new(), page_count(row.entry.size()).unwrap_or_default());
        }
        for stretch in Stretch::all_of(row) {
            bytes += stored_bytes(&stretch.row);
            batch.push(stretch);
            if bytes >= BATCH && !failed.load(Ordering::Relaxed) {
                bytes = 0;
                // The receivers live as long as the workers do, and those outlive us.
                let _ = sender.send(std::mem::take(&mut batch));
            }
        }
        Ok::<(), OpsError>(())
    })?;
    if !batch.is_empty() {
        let _ = sender.send(batch);
    }
    Ok(())
}

fn write_batch(writing: &Writing<'_>, mut batch: Vec<Stretch>) -> Result<(), OpsError> {
    let cx = writing.cx;
    for stretch in &mut batch {
        compare(writing, stretch)?;
    }
    let batch: Vec<FileRow> = batch.into_iter().map(|stretch| stretch.row).collect();
    let batch = batch.as_slice();
    let (mut files, mut lost) =
        (OpenFiles { target: writing.target, batch, open: BTreeMap::new() }, Vec::new());
    let mut write = |row, first, bytes: &[u8]| {
        cx.progress.advance(bytes.len() as u64);
        Ok(files.get(row)?.write(first, bytes)?)
    };
    let mut lose = |row: usize, pages: Range<u32>, why: &VaultError| {
        cx.progress.advance(pages.len() as u64 * PAGE_SIZE as u64);
        lost.push((row, pages.clone()));
        writing.losses.as_ref().map(|losses| losses.add(&batch[row].entry.path, pages, why)).is_some()
    };
    writing.point.read_pages::<OpsError>((cx, writing.runtime), batch, &mut write, &mut lose)?;
    for (row, pages) in lost {
        // Zeros in a new file anyway; in one from before, whatever was there.
        files.get(row)?.clear(pages)?;
    }
    files.close()?;
    let zeros = |run: &&Run| matches!(run.place, Place::Zero);
    let skipped: u64 =
        batch.iter().flat_map(|row| row.map.iter().filter(zeros)).map(|run| u64::from(run.count)).sum();
    cx.progress.advance(skipped * PAGE_SIZE as u64);
    Ok(())
}

/// Compares pages of a file that was there before, makes zeros of what is to be zeros, and leaves in the map only what is to
/// be fetched.
fn compare(writing: &Writing<'_>, stretch: &mut Stretch) -> Result<(), OpsError> {
    let Some(mut present) = writing.target.present(&stretch.row.entry)? else { return Ok(()) };
    let of = (&stretch.row, stretch.pages.clone());
    let mut read = |first, buffer: &mut [u8]| Ok(present.read(first, buffer)?.bytes);
    let Differing { stored, zeros } =
        writing.point.differing::<OpsError>((writing.cx, writing.runtime), of, &mut read)?;
    if !zeros.is_empty() {
        let mut file = writing.target.open(&stretch.row.entry)?;
        zeros.iter().try_for_each(|pages| file.clear(pages.clone()))?;
        file.close()?;
    }
    let bytes = |pages: u64| pages * PAGE_SIZE as u64;
    let to_write: u64 = stored.iter().map(|run| u64::from(run.count)).sum();
    let cleared: u64 = zeros.iter().map(|pages| pages.len() as u64).sum();
    let unchanged = stretch.bytes().saturating_sub(bytes(to_write + cleared));
    writing.unchanged.fetch_add(unchanged, Ordering::Relaxed);
    writing.cx.progress.advance(unchanged + bytes(cleared));
    stretch.row.map = stored;
    Ok(())
}

/// The files a worker holds open. A batch of small files may have more than a process may open: then all are closed,
/// and those that have pages still to come are opened again.
struct OpenFiles<'a> {
    target: &'a dyn Target,
    batch: &'a [FileRow],
    open: BTreeMap<usize, Box<dyn PageSink>>,
}

impl OpenFiles<'_> {
    /// The file of the batch's row `row`.
    fn get(&mut self, row: usize) -> Result<&mut dyn PageSink, EngineError> {
        if self.open.len() >= OPEN_FILES && !self.open.contains_key(&row) {
            self.close()?;
        }
        Ok(match self.open.entry(row) {
            Entry::Occupied(open) => open.into_mut().as_mut(),
            Entry::Vacant(place) => place.insert(self.target.open(&self.batch[row].entry)?).as_mut(),
        })
    }

    fn close(&mut self) -> Result<(), EngineError> {
        std::mem::take(&mut self.open).into_values().try_for_each(|file| file.close())
    }
}
