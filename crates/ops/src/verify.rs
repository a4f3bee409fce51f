//! `strongroom verify`: read what is there and say what is wrong, by object, file and page.

use std::sync::Arc;

use serde::Serialize;
use strongroom_model::point::PointState;
use strongroom_model::restore_plan::pitr_windows;
use strongroom_model::{Cx, PointId, SourceName};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::verify::{Damage, Depth, PointVerdict};
use strongroom_vault::{Vault, VaultError};
use tokio::runtime::Handle;

use crate::error::OpsError;
use crate::journal;

/// What to verify, and how much of it to read.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// One source, or all.
    pub source: Option<SourceName>,
    /// One point of it, or all.
    pub point: Option<PointId>,
    /// How much to read.
    pub depth: Depth,
    /// Threads that read.
    pub workers: usize,
}

/// What verifying came to.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Each committed point.
    pub points: Vec<PointVerdict>,
    /// Each source's journal.
    pub journals: Vec<JournalVerdict>,
    /// Whether anything is wrong.
    pub sound: bool,
}

/// A journal, verified.
#[derive(Debug, Serialize)]
pub struct JournalVerdict {
    /// The source.
    pub source: SourceName,
    /// WAL files looked at.
    pub files: u64,
    /// What is wrong with them.
    pub damage: Vec<Damage>,
    /// Points that lack WAL they need.
    pub inconsistent: Vec<PointId>,
}

/// Verifies. Damage is an answer; an error means that the vault could not be asked.
pub async fn verify(cx: &Cx, vault: &Arc<Vault>, request: &VerifyRequest) -> Result<Verdict, OpsError> {
    let sources = match &request.source {
        Some(source) => vec![source.clone()],
        None => vault.sources().await?,
    };
    let mut verdict = Verdict { points: Vec::new(), journals: Vec::new(), sound: true };
    for source in sources {
        let rows = vault.points(&source).await?;
        let wanted = |row: &&PointRow| request.point.as_ref().is_none_or(|only| *only == row.point);
        verdict.points.extend(rows.iter().filter(wanted).filter_map(|row| unreadable(row, request.depth)));
        let restorable = rows.iter().filter(wanted).filter(|row| row.restorable().is_some());
        for row in restorable {
            verdict.points.push(verify_point(cx, vault, (&source, &row.point), request).await?);
        }
        verdict.journals.push(verify_journal(cx, vault, &source, &rows, request.depth).await?);
    }
    if let Some(point) = request.point.as_ref().filter(|_| verdict.points.is_empty()) {
        return Err(VaultError::NotCommitted {
            point: point.clone(),
            state: "not among the committed points",
        }
        .into());
    }
    verdict.sound = verdict.points.iter().all(|point| point.damage.is_empty())
        && verdict
            .journals
            .iter()
            .all(|journal| journal.damage.is_empty() && journal.inconsistent.is_empty());
    Ok(verdict)
}

/// A point whose record does not read is damage of its own.
fn unreadable(row: &PointRow, depth: Depth) -> Option<PointVerdict> {
    let PointState::Unreadable { why } = &row.state else { return None };
    let damage = Damage { object: row.point.to_string(), why: why.clone(), lost: Vec::new() };
    let point = row.point.clone();
    Some(PointVerdict { point, depth, entries: 0, packs: 0, bytes: 0, damage: vec![damage] })
}

async fn verify_point(
    cx: &Cx,
    vault: &Arc<Vault>,
    (source, point): (&SourceName, &PointId),
    request: &VerifyRequest,
) -> Result<PointVerdict, OpsError> {
    let (cx, vault, source, point) = (cx.clone(), Arc::clone(vault), source.clone(), point.clone());
    let (runtime, depth, workers) = (Handle::current(), request.depth, request.workers);
    let work = move || vault.verify_point(&cx, &runtime, (&source, &point), (depth, workers));
    Ok(tokio::task::spawn_blocking(work).await.map_err(|why| OpsError::Worker(why.to_string()))??)
}

/// Reads every WAL file's facts, with `Data` also its content, and asks whether every point has the WAL it needs.
async fn verify_journal(
    cx: &Cx,
    vault: &Vault,
    source: &SourceName,
    rows: &[PointRow],
    depth: Depth,
) -> Result<JournalVerdict, OpsError> {
    let mut verdict =
        JournalVerdict { source: source.clone(), files: 0, damage: Vec::new(), inconsistent: Vec::new() };
    for lineage in vault.lineages(source).await? {
        let files = vault.journal_files(source, lineage.system_id).await?;
        cx.progress.begin("verifying WAL", files.len() as u64 * lineage.segment_size.bytes());
        for file in &files {
            cx.check()?;
            verdict.files += 1;
            let read = match depth {
                Depth::Structure => vault.journal_facts(source, lineage.system_id, *file).await.map(|_| ()),
                Depth::Data => vault.fetch(source, lineage.system_id, *file).await.map(|_| ()),
            };
            match read {
                Ok(()) => {}
                Err(VaultError::Damaged { key, why, .. }) => {
                    verdict.damage.push(Damage { object: key, why, lost: Vec::new() });
                }
                Err(error) => return Err(error.into()),
            }
            cx.progress.advance(lineage.segment_size.bytes());
        }
        // A damaged history cannot be read into a journal; it was named above.
        if verdict.damage.is_empty() {
            let journal = journal::load(vault, source, &lineage).await?;
            let candidates = journal::candidates(rows, &journal);
            let windows = pitr_windows(&candidates, &|_| None);
            let lacking = candidates.iter().map(|candidate| &candidate.summary.point);
            let lacking = lacking.filter(|point| !windows.iter().any(|window| window.point == **point));
            verdict.inconsistent.extend(lacking.cloned());
        }
    }
    Ok(verdict)
}
