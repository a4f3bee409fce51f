//! `strongroom backup`: take a recovery point.

use std::sync::Arc;
use std::time::Duration;

use strongroom_engine::{
    BackupSession, Changes, Engine, Inspection, Session, StartOptions, Started, Stopped, StreamSession,
};
use strongroom_model::point::{FileRow, Intent, JournalRange, PointFacts, Reading, Summary};
use strongroom_model::{Cx, PointId, SourceName, SystemId, WalFile, WalSegment};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::upload::{Upload, UploadOptions};

use crate::copy::{Record, copy, copy_late};
use crate::copy_stream::copy_stream;
use crate::error::OpsError;
use crate::lineage::{self, NewLineage};

/// Whether a source is believed that says which pages changed since the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is; each stretch of a file is read all the same once in this time.
    ProvenWithin(Duration),
    /// It is asked and held against what is read, which is every page.
    Checked,
    /// It is not asked. Every page is read.
    Nothing,
}

/// A backup as the user asked for it.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// What to back up.
    pub source: SourceName,
    /// Threads that read, compress and seal.
    pub workers: usize,
    /// How to store.
    pub upload: UploadOptions,
    /// Store every page, even those the newest point has.
    pub afresh: bool,
    /// Whether what the source says did not change is taken over unread.
    pub trust: Trust,
    /// Checkpoint now instead of waiting for the next one.
    pub fast: bool,
    /// How long to wait for the last WAL to arrive in the vault.
    pub journal_timeout: Duration,
    /// What to do about a cluster that the source has not been so far.
    pub new_lineage: NewLineage,
    /// Replicas that get each pack while it is at hand. The rest of the point is brought by `copy`, afterwards.
    pub followers: Vec<Arc<Vault>>,
    /// This host's name.
    pub host: String,
    /// This build: `strongroom 0.1.0`.
    pub tool: String,
}

/// Takes a recovery point: the source's first stores every page, later ones what changed since the newest. When this returns `Ok`, the point and all WAL it needs are durably in the vault.
pub async fn backup(
    cx: &Cx,
    vault: &Arc<Vault>,
    engine: &dyn Engine,
    request: &BackupRequest,
) -> Result<Summary, OpsError> {
    let inspection = engine.inspect(cx).await?;
    let lineage = lineage::of_inspection(cx, &inspection);
    lineage::settle(cx, vault, &request.source, &lineage, request.new_lineage).await?;
    let point = PointId::new(cx.now(), cx.random());
    cx.progress.begin("starting", 0);
    let session = engine.start(cx, &StartOptions { label: point.to_string(), fast: request.fast }).await?;
    let parent = match request.afresh {
        true => None,
        false => parent(vault, &request.source, engine.name(), lineage.system_id).await?,
    };
    let intent = Intent {
        point,
        source: request.source.clone(),
        engine: engine.name().to_owned(),
        parent,
        began_at: cx.now(),
        host: request.host.clone(),
        tool: request.tool.clone(),
        copied_at: None,
    };
    let upload = vault.begin(cx, intent, request.upload, &request.followers).await?;
    let taken = take(cx, vault, (engine, session), &upload, (request, &inspection)).await;
    decide(cx, upload, taken.map(|(facts, rows, reading)| (facts, rows, Some(reading)))).await
}

/// Commits what was taken, or gives it up.
pub(crate) async fn decide(
    cx: &Cx,
    upload: Upload,
    taken: Result<(PointFacts, Vec<FileRow>, Option<Reading>), OpsError>,
) -> Result<Summary, OpsError> {
    match taken {
        Ok((facts, rows, reading)) => {
            cx.progress.begin("committing", 0);
            Ok(upload.commit(facts, rows, reading).await?)
        }
        Err(error) => {
            // Best effort: undecided is as invisible as abandoned, only less telling. The first error is the answer.
            if let Err(second) = upload.abandon(&error.to_string()).await {
                tracing::warn!("the unfinished recovery point could not be marked as abandoned: {second}");
            }
            Err(error)
        }
    }
}

/// The newest point of the same engine and lineage, whose pages are likely the same.
async fn parent(
    vault: &Vault,
    source: &SourceName,
    engine: &str,
    lineage: SystemId,
) -> Result<Option<PointId>, OpsError> {
    let points = vault.points(source).await?;
    let is_of = |range: JournalRange| range.lineage == lineage;
    let fits = |point: &&Summary| point.engine == engine && point.journal.is_some_and(is_of);
    // By the time it was committed: of two that were begun in one second, chance orders the ids.
    let newest =
        points.iter().filter_map(PointRow::restorable).filter(fits).max_by_key(|point| point.committed_at);
    Ok(newest.map(|point| point.point.clone()))
}

/// Everything between the intent and the commit.
async fn take(
    cx: &Cx,
    vault: &Arc<Vault>,
    (engine, session): (&dyn Engine, Session),
    upload: &Upload,
    (request, inspection): (&BackupRequest, &Inspection),
) -> Result<(PointFacts, Vec<FileRow>, Reading), OpsError> {
    let started = session.started().clone();
    expect_above_floor(vault, request, (&started, inspection)).await?;
    let from_standby = session.is_of_standby();
    let (rows, reading, stopped) = match session {
        Session::Files(session) => read(cx, session, upload, request).await?,
        Session::Stream(session) => receive(cx, session, upload, request).await?,
    };
    let journal = JournalRange {
        lineage: started.lineage,
        timeline: started.timeline,
        segment_size: inspection.segment_size,
        start: started.lsn,
        stop: stopped.lsn,
    };
    await_journal(cx, vault, engine, request, &journal).await?;
    let intent = upload.intent();
    let facts = PointFacts {
        point: intent.point.clone(),
        source: request.source.clone(),
        engine: intent.engine.clone(),
        product: inspection.product.clone(),
        parent: upload.parent().cloned(),
        started_at: started.at,
        stopped_at: stopped.at,
        journal: Some(journal),
        from_standby,
        engine_facts: stopped.facts,
    };
    Ok((facts, rows, reading))
}

/// Reads a source's files, with the help of its record of what changed.
async fn read(
    cx: &Cx,
    mut session: Box<dyn BackupSession>,
    upload: &Upload,
    request: &BackupRequest,
) -> Result<(Vec<FileRow>, Reading, Stopped), OpsError> {
    let listed = session.entries().len();
    let (record, no_record) = match record(cx, &mut *session, upload, request.trust).await? {
        Ok(record) => (Some(record), None),
        Err(why) => {
            tracing::info!("every page is read: {why}");
            (None, Some(why))
        }
    };
    let (mut rows, reading) = copy(cx, &mut *session, (upload, record), request.workers).await?;
    cx.progress.begin("stopping", 0);
    let mut stopped = session.stop(cx).await?;
    rows.extend(copy_late(upload, listed, std::mem::take(&mut stopped.late)).await?);
    Ok((rows, Reading { no_record, ..reading }, stopped))
}

/// Takes what a source sends, which is everything.
async fn receive(
    cx: &Cx,
    mut session: Box<dyn StreamSession>,
    upload: &Upload,
    request: &BackupRequest,
) -> Result<(Vec<FileRow>, Reading, Stopped), OpsError> {
    tracing::info!("every page is sent: {}", session.reason());
    let mut rows = copy_stream(cx, &mut *session, upload, request.workers).await?;
    let reading = Reading {
        read: rows.iter().map(|row| row.entry.size()).sum(),
        no_record: Some("a source that sends its pages sends all of them".to_owned()),
        streamed: Some(session.reason().to_owned()),
        ..Reading::default()
    };
    cx.progress.begin("stopping", 0);
    let damaged_pages = rows.iter().map(|row| row.damaged.len() as u64).sum();
    let mut stopped = session.stop(cx, damaged_pages).await?;
    rows.extend(copy_late(upload, rows.len(), std::mem::take(&mut stopped.late)).await?);
    Ok((rows, reading, stopped))
}

/// The source's record of what changed since the parent, or why every page is read without one.
async fn record(
    cx: &Cx,
    session: &mut dyn BackupSession,
    upload: &Upload,
    trust: Trust,
) -> Result<Result<Record, String>, OpsError> {
    let Some(parent) = upload.parent_point() else {
        return Ok(Err("there is no earlier point to compare with".to_owned()));
    };
    let prove_within = match trust {
        Trust::Nothing => return Ok(Err("records of changes are not to be used".to_owned())),
        Trust::Checked => Duration::ZERO,
        Trust::ProvenWithin(period) => period,
    };
    let summary = parent.summary();
    // One that was wrong is not believed by halves: what it was wrong about may be older than the parent.
    if summary.reading.as_ref().is_some_and(|reading| reading.contradicted > 0) {
        return Ok(Err(format!("the record of changes was found wrong when {} was taken", summary.point)));
    }
    let times = (summary.started_at, session.started().at);
    Ok(match session.changes_since(cx, parent.facts()).await? {
        Changes::Recorded(changed) => Ok(Record { changed, prove_within, times }),
        Changes::Unrecorded(why) => Err(why),
    })
}

/// The intent is written: a sweep that goes by a floor we do not see here sees the intent, and takes no WAL.
async fn expect_above_floor(
    vault: &Vault,
    request: &BackupRequest,
    (started, inspection): (&Started, &Inspection),
) -> Result<(), OpsError> {
    let first = WalSegment::holding(started.timeline, started.lsn, inspection.segment_size);
    let floors = vault.floors(&request.source, started.lineage).await?;
    match floors.get(&(started.lineage, started.timeline)) {
        Some(floor) if first < *floor => {
            Err(OpsError::BelowFloor { source_name: request.source.clone(), first, floor: *floor })
        }
        _ => Ok(()),
    }
}

/// Waits until every segment the copy needs is in the vault: without this stretch it is not consistent. The server's
/// own word that it archived is not enough; the vault is asked.
#[allow(
    clippy::disallowed_methods,
    reason = "the archiver announces nothing: the vault is asked until a time limit"
)]
async fn await_journal(
    cx: &Cx,
    vault: &Vault,
    engine: &dyn Engine,
    request: &BackupRequest,
    range: &JournalRange,
) -> Result<(), OpsError> {
    let (first, last) = range.segments();
    let number = |segment: WalSegment| segment.number(range.segment_size).unwrap_or_default();
    let began = tokio::time::Instant::now();
    let mut nudged = false;
    for next in number(first)..=number(last) {
        let segment = WalSegment::numbered(range.timeline, next, range.segment_size);
        cx.progress.begin(&format!("waiting for WAL segment {segment}"), 0);
        while !vault.has_journal(&request.source, range.lineage, WalFile::Segment(segment)).await? {
            cx.check()?;
            let waited = began.elapsed();
            if waited > request.journal_timeout {
                let trouble = engine.journal_trouble(cx).await;
                return Err(OpsError::JournalMissing {
                    source_name: request.source.clone(),
                    missing: segment,
                    waited_s: waited.as_secs(),
                    trouble: trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default(),
                });
            }
            // An idle server may keep its last segment open for hours (PostgreSQL 17 no longer switches then).
            if !nudged && waited > Duration::from_secs(2) {
                engine.nudge_journal(cx).await?;
                nudged = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
