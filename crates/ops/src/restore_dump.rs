//! `strongroom restore` of a dump: plan it, then do exactly that.
//!
//! ```text
//! manifest rows ▶ the first parts, one after the other ▶ the rest, many at a time ▶ finish: built, compared, in its place
//! each part:      fetch, open, check ▶ queue ▶ write
//! ```
//!
//! Memory: for each worker what reading a stream takes (28 MiB), a queue of 1 MiB, and one row.
//!
//! A part that the point lacks, or that no vault has whole, ends the restore with its name. What the target makes of a restore
//! that failed is its own promise: nothing of it stands under the name that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as threads};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use serde::Serialize;
use strongroom_engine::{DumpTarget, Dumped};
use strongroom_model::entry::{EntryKind, EntryPath};
use strongroom_model::point::{FileRow, Summary};
use strongroom_model::restore_plan::plan_dump;
use strongroom_model::target::RecoveryTarget;
use strongroom_model::{Cancelled, Cx, PointId, SourceName};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::point::Point;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::dump::{PIECE, QUEUE};
use crate::error::OpsError;
use crate::restore::{off_the_runtime, open_point};
use crate::threads::{join_all, outcome_of_both};

/// What will be done.
#[derive(Debug, Serialize)]
pub struct LoadingPlan {
    /// The dump.
    pub point: Summary,
    /// Parts that are written first, in this order.
    pub first: Vec<String>,
    /// How many are written then.
    pub rest: usize,
    /// Bytes of all these.
    pub bytes: u64,
    /// What will be done, line by line, for people.
    pub steps: Vec<String>,
    /// The parts.
    #[serde(skip)]
    parts: (Vec<EntryPath>, BTreeSet<EntryPath>),
}

/// A restore of a dump that was done.
#[derive(Debug, Serialize)]
pub struct RestoredDump {
    /// From which point.
    pub point: PointId,
    /// Parts that were written.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes fetched from vaults.
    pub fetched: u64,
    /// Packs that replicas had to help out with, by their place.
    pub from_replicas: BTreeMap<String, usize>,
    /// What was compared with the dump's facts, in the engine's own shape.
    pub report: serde_json::Value,
    /// The same, line by line, for people.
    pub lines: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadingOptions {
    /// Parts written at a time.
    pub workers: usize,
    /// Bytes a second to fetch at most.
    pub rate_limit: Option<u64>,
}

/// Chooses the dump: the newest that shows the target's time or an earlier one, or `only`. Touches nothing.
pub async fn choose(
    vault: &Vault,
    source: &SourceName,
    target: &RecoveryTarget,
    only: Option<&PointId>,
) -> Result<Summary, OpsError> {
    vault.check_may_read()?;
    let points = vault.points(source).await?;
    if points.is_empty() {
        return Err(OpsError::UnknownSource(source.clone()));
    }
    Ok(plan_dump(points.iter().filter_map(PointRow::restorable), target, only)?.clone())
}

/// Asks the target what it wants of the dump, and looks whether the dump has it. Writes nothing. Reads the first of `vaults`;
/// the others are its replicas.
pub async fn plan(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    point: &Summary,
    target: &dyn DumpTarget,
) -> Result<LoadingPlan, OpsError> {
    let open = open_point(vaults, point).await?;
    let dumped = Dumped { at: point.stopped_at, facts: open.facts().engine_facts.clone() };
    let wanted = target.plan(cx, &dumped).await?;
    let mut missing: BTreeSet<&EntryPath> = wanted.first.iter().chain(&wanted.rest).collect();
    let mut bytes = 0;
    open.rows(|row| {
        if matches!(row.entry.kind, EntryKind::Stream { .. }) && missing.remove(&row.entry.path) {
            bytes += row.entry.size();
        }
        Ok::<(), OpsError>(())
    })?;
    if let Some(part) = missing.first() {
        return Err(OpsError::PartMissing { point: point.point.clone(), part: (*part).clone() });
    }
    let rest: BTreeSet<EntryPath> =
        wanted.rest.into_iter().filter(|part| !wanted.first.contains(part)).collect();
    Ok(LoadingPlan {
        point: point.clone(),
        first: wanted.first.iter().map(ToString::to_string).collect(),
        rest: rest.len(),
        bytes,
        steps: wanted.steps,
        parts: (wanted.first, rest),
    })
}

/// Restores the plan's dump into the target that was planned for. Reads the first of `vaults`; the others are its replicas,
/// which help out with packs that turn out missing or damaged there.
#[allow(clippy::disallowed_methods, reason = "measures the restore for its report; nothing is decided by it")]
pub async fn restore_dump(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    plan: LoadingPlan,
    target: &dyn DumpTarget,
    options: LoadingOptions,
) -> Result<RestoredDump, OpsError> {
    let began = tokio::time::Instant::now();
    vaults.iter().try_for_each(|vault| vault.check_may_read())?;
    let point = Arc::new(open_point(vaults, &plan.point).await?.limited_to(options.rate_limit));
    cx.progress.begin("loading", plan.bytes);
    let (first, rest) = plan.parts;
    let written = AtomicU64::new(0);
    let of_plan = (first.len() + rest.len()) as u64;
    let rows = first_rows(&point, &first)?;
    let loading = Loading { cx, point: &point, target, written: &written };
    loading.load(1, move |_, sender| send_all(rows, &sender)).await?;
    loading.load(options.workers, move |point, sender| send_rest(point, &rest, &sender)).await?;
    let parts = written.into_inner();
    assert!(parts == of_plan, "{parts} parts were written of {of_plan} in the plan");
    cx.progress.begin("finishing", 0);
    let loaded = target.finish(cx).await?;
    Ok(RestoredDump {
        point: plan.point.point,
        parts,
        bytes: plan.bytes,
        fetched: point.packs().fetched(),
        from_replicas: point.packs().lent(),
        report: loaded.report,
        lines: loaded.lines,
        seconds: Duration::as_secs_f64(&began.elapsed()),
    })
}

/// The rows of these parts, in their order.
fn first_rows(point: &Point, first: &[EntryPath]) -> Result<Vec<FileRow>, OpsError> {
    let mut found = BTreeMap::new();
    point.rows(|row| {
        if first.contains(&row.entry.path) {
            found.insert(row.entry.path.clone(), row);
        }
        Ok::<(), OpsError>(())
    })?;
    let row = |path: &EntryPath| {
        let missing = || OpsError::PartMissing { point: point.summary().point.clone(), part: path.clone() };
        found.remove(path).ok_or_else(missing)
    };
    first.iter().map(row).collect()
}

fn send_all(rows: Vec<FileRow>, sender: &threads::SyncSender<FileRow>) -> Result<(), OpsError> {
    // The readers live as long as they take rows.
    rows.into_iter().for_each(|row| drop(sender.send(row)));
    Ok(())
}

/// Sends the rows of these parts in the manifest's order, which is that of the dump: what takes longest first.
fn send_rest(
    point: &Point,
    rest: &BTreeSet<EntryPath>,
    sender: &threads::SyncSender<FileRow>,
) -> Result<(), OpsError> {
    point.rows(|row| {
        if rest.contains(&row.entry.path) {
            // Nobody takes it any more: whoever failed has the reason.
            sender.send(row).map_err(|_| Cancelled)?;
        }
        Ok::<(), OpsError>(())
    })
}

/// What a writer gets: a part's path, its bytes, its end.
enum Fed {
    Begin(EntryPath),
    Piece(Bytes),
    End,
}

struct Loading<'a> {
    cx: &'a Cx,
    point: &'a Arc<Point>,
    target: &'a dyn DumpTarget,
    /// Parts that were written to their end.
    written: &'a AtomicU64,
}

impl Loading<'_> {
    /// Writes the parts whose rows `send` sends, as many at a time as there are workers.
    async fn load(
        &self,
        workers: usize,
        send: impl FnOnce(&Point, threads::SyncSender<FileRow>) -> Result<(), OpsError> + Send + 'static,
    ) -> Result<(), OpsError> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers.max(1)).map(|_| mpsc::channel(QUEUE)).unzip();
        let (cx, runtime, point) = (self.cx.clone(), Handle::current(), Arc::clone(self.point));
        let reading = off_the_runtime(move || {
            let (rows, receiver) = threads::sync_channel(1);
            let receiver = Arc::new(Mutex::new(receiver));
            let reader = Reader { cx: &cx, runtime: &runtime, point: &point };
            std::thread::scope(|scope| {
                let work = |fed| {
                    let receiver = Arc::clone(&receiver);
                    scope.spawn(move || reader.read(&receiver, &fed))
                };
                let threads = senders.into_iter().map(work).collect();
                // Theirs are the only ones left: when all have stopped, sending fails instead of waiting.
                drop(receiver);
                let sent = send(&point, rows);
                join_all(threads).and(sent)
            })
        });
        let written = try_join_all(receivers.into_iter().map(|fed| self.write(fed)));
        let (read, written) = tokio::join!(reading, written);
        outcome_of_both(written.map(drop), read)
    }

    /// Writes the parts that come, one after the other.
    async fn write(&self, mut fed: mpsc::Receiver<Fed>) -> Result<(), OpsError> {
        let cx = self.cx;
        while let Some(next) = fed.recv().await {
            let Fed::Begin(path) = next else { unreachable!("a part was read that was not begun") };
            let mut part = self.target.open(cx, &path).await?;
            loop {
                cx.check()?;
                match fed.recv().await {
                    Some(Fed::Piece(bytes)) => {
                        let count = bytes.len() as u64;
                        part.write(cx, bytes).await?;
                        cx.progress.advance(count);
                    }
                    Some(Fed::End) => break,
                    // Whoever read it failed, and has the reason.
                    None => return Err(Cancelled.into()),
                    Some(Fed::Begin(_)) => unreachable!("part {path} was not ended"),
                }
            }
            part.close(cx).await?;
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Reads parts on a thread of its own.
#[derive(Clone, Copy)]
struct Reader<'a> {
    cx: &'a Cx,
    runtime: &'a Handle,
    point: &'a Point,
}

impl Reader<'_> {
    fn read(
        &self,
        rows: &Mutex<threads::Receiver<FileRow>>,
        sender: &mpsc::Sender<Fed>,
    ) -> Result<(), OpsError> {
        // Nobody writes any more: whoever failed has the reason.
        let send = |fed| sender.blocking_send(fed).map_err(|_| OpsError::from(Cancelled));
        loop {
            let row = rows.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(row) = row else { return Ok(()) };
            send(Fed::Begin(row.entry.path.clone()))?;
            let mut gathered = Vec::with_capacity(PIECE);
            self.point.read_stream::<OpsError>((self.cx, self.runtime), &row, &mut |page| {
                gathered.extend_from_slice(page);
                if gathered.len() < PIECE {
                    return Ok(());
                }
                send(Fed::Piece(std::mem::replace(&mut gathered, Vec::with_capacity(PIECE)).into()))
            })?;
            send(Fed::Piece(gathered.into()))?;
            send(Fed::End)?;
        }
    }
}
