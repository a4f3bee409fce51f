//! `strongroom export`: a recovery point as `pg_basebackup` would have left it, so that recovery never depends on us.
//!
//! ```text
//! plan ▶ pages, as a restore writes them, every one checked ▶ WAL the point needs, into pg_wal ▶ manifest, durable
//! ```
//!
//! Pages that no vault has whole are all named, and fail the export: nobody would find a file named as lost beside a
//! manifest that `pg_verifybackup` accepts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use strongroom_model::point::{JournalRange, Summary};
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_model::{Cx, PointId, SourceName, SystemId, WalFile, WalSegment};
use strongroom_postgres::backup_manifest::BackedUp;
use strongroom_postgres::export::ExportTarget;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;
use crate::restore::{self, RestoreOptions, off_the_runtime, write_point};

/// What will be written.
#[derive(Debug, Serialize)]
pub struct ExportPlan {
    /// The point.
    pub point: Summary,
    /// The first segment that goes into `pg_wal`.
    pub first_segment: WalSegment,
    /// The last one.
    pub last_segment: WalSegment,
    /// How many these are.
    pub segments: u64,
    /// Bytes of the point's files and of its WAL together.
    pub bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The way to the point's own end.
    #[serde(skip)]
    pub restore: RestorePlan,
}

/// An export that was done.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// Which point.
    pub point: PointId,
    /// Files, folders and links of the point.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// WAL files beside them, by name.
    pub wal: Vec<String>,
    /// Packs that replicas had to help out with, by their place.
    pub from_replicas: BTreeMap<String, usize>,
    /// How long it took, in seconds; durable on disk at the end.
    pub seconds: f64,
}

/// Chooses the point (the newest whose WAL is whole, or `only`). Touches nothing.
pub async fn plan(
    vault: &Vault,
    source: &SourceName,
    only: Option<&PointId>,
) -> Result<ExportPlan, OpsError> {
    // To the point's own end and no further: that is what a base backup holds.
    let request = RestoreRequest {
        target: RecoveryTarget::Immediate,
        inclusive: true,
        timeline: TimelineChoice::Current,
        action: TargetAction::Promote,
    };
    let restore = restore::plan(vault, source, &request, only).await?;
    let journal = restore.range;
    let (first_segment, last_segment) = journal.segments();
    let segments = numbers(&journal).count() as u64;
    Ok(ExportPlan {
        point: restore.point.clone(),
        first_segment,
        last_segment,
        segments,
        bytes: restore.point.bytes + segments * journal.segment_size.bytes(),
        notes: restore.notes.clone(),
        restore,
    })
}

/// Writes the plan's point into `target`, durably. Reads the first of `vaults`; the others are its replicas.
#[allow(clippy::disallowed_methods, reason = "measures the export for its report; nothing is decided by it")]
pub async fn export(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    plan: &ExportPlan,
    target: Arc<ExportTarget>,
    workers: usize,
) -> Result<Exported, OpsError> {
    let began = tokio::time::Instant::now();
    // Losses are gathered so that all of them can be named.
    let options = RestoreOptions { workers, accept_loss: true, ..RestoreOptions::default() };
    let written = write_point(cx, vaults, &plan.restore, target.clone(), options).await?;
    if !written.lost.is_empty() {
        return Err(OpsError::LostPages { point: written.point, lost: written.lost });
    }
    let wal = write_wal(cx, vaults, plan, &target).await?;
    cx.progress.begin("making durable", 0);
    let journal = plan.restore.range;
    let backed_up = BackedUp {
        system_id: journal.lineage,
        timeline: journal.timeline,
        start: journal.start,
        stop: journal.stop,
    };
    off_the_runtime(move || Ok(target.finish_as(&backed_up)?)).await?;
    Ok(Exported {
        point: written.point,
        entries: written.entries,
        bytes: written.bytes,
        wal,
        from_replicas: written.from_replicas,
        seconds: Duration::as_secs_f64(&began.elapsed()),
    })
}

/// Brings what the point needs of its journal, and the history of its timeline, into `pg_wal`; one file in memory at a time.
async fn write_wal(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    plan: &ExportPlan,
    target: &Arc<ExportTarget>,
) -> Result<Vec<String>, OpsError> {
    let (journal, source, stopped_at) = (&plan.restore.range, &plan.point.source, plan.point.stopped_at);
    let segment = |number| WalSegment::numbered(journal.timeline, number, journal.segment_size);
    let needed = numbers(journal).map(|number| WalFile::Segment(segment(number)));
    cx.progress.begin("bringing WAL", needed.clone().count() as u64 * journal.segment_size.bytes());
    let mut written = Vec::new();
    for file in std::iter::once(WalFile::History(journal.timeline)).chain(needed) {
        cx.check()?;
        let content = match (fetch(vaults, (source, journal.lineage), file).await?, file) {
            (Some(content), _) => content,
            // The first timeline has none, and a cluster that changed to this one before it shipped may have kept its own.
            (None, WalFile::History(_)) => continue,
            (None, _) => {
                let place = vaults.first().map(|vault| vault.place()).unwrap_or_default();
                return Err(VaultError::Missing { key: file.to_string(), place }.into());
            }
        };
        let (bytes, at, target) = (content.len() as u64, stopped_at, target.clone());
        off_the_runtime(move || Ok(target.add_wal(file, &content, at)?)).await?;
        cx.progress.advance(bytes);
        written.push(file.to_string());
    }
    Ok(written)
}

/// The numbers of the segments that a point needs.
fn numbers(journal: &JournalRange) -> impl Iterator<Item = u64> + Clone + use<> {
    let (first, last) = journal.segments();
    let number = |segment: WalSegment| segment.number(journal.segment_size).unwrap_or_default();
    number(first)..=number(last)
}

/// A WAL file from the first vault that has it whole; the first error if none has and one could not say.
async fn fetch(
    vaults: &[Arc<Vault>],
    (source, lineage): (&SourceName, SystemId),
    file: WalFile,
) -> Result<Option<Vec<u8>>, VaultError> {
    let mut first = None;
    for vault in vaults {
        match vault.fetch(source, lineage, file).await {
            Ok(Some((_, content))) => return Ok(Some(content)),
            Ok(None) => {}
            Err(error) if error.is_of_this_place() => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    first.map_or(Ok(None), Err)
}
