//! `strongroom verify`: read what is there and say what is wrong, by object, file and page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strongroom_model::point::PointState;
use strongroom_model::restore_plan::pitr_windows;
use strongroom_model::{Cx, PointId, SourceName, Timestamp, WalFile};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::evidence::Verification;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::verify::{Budget, Damage, Depth, PackName, PointVerdict, SourceVerdict, VerifyOptions};
use strongroom_vault::{Vault, VaultError};
use tokio::runtime::Handle;

use crate::error::OpsError;
use crate::hand::Hand;
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
    /// When to stop.
    pub budget: Budget,
    /// Who keeps a record of it in the vault; no record if `None`.
    pub hand: Option<Hand>,
}

/// What verifying came to.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Each committed point.
    pub points: Vec<PointVerdict>,
    /// Each source's journal.
    pub journals: Vec<JournalVerdict>,
    /// Tombstones, floors, holds and evidence that do not read.
    pub records: Vec<Damage>,
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Bytes read from packs.
    pub bytes: u64,
    /// Packs that were not reached within the budget.
    pub left: u64,
    /// The records that were kept of it, by name.
    pub evidence: Vec<String>,
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
    if request.depth > Depth::Structure {
        vault.check_may_read()?;
    }
    let sources = match &request.source {
        Some(source) => vec![source.clone()],
        None => vault.sources().await?,
    };
    let mut verdict = Verdict {
        points: Vec::new(),
        journals: Vec::new(),
        records: Vec::new(),
        sound: true,
        bytes: 0,
        left: 0,
        evidence: Vec::new(),
    };
    for source in sources {
        let rows = vault.points(&source).await?;
        let wanted = |row: &&PointRow| request.point.as_ref().is_none_or(|only| *only == row.point);
        verdict.points.extend(rows.iter().filter(wanted).filter_map(unreadable));
        let restorable = rows.iter().filter(wanted).filter(|row| row.restorable().is_some());
        let points: Vec<PointId> = restorable.map(|row| row.point.clone()).collect();
        let began_at = cx.now();
        let found = verify_points(cx, vault, (&source, points), request).await?;
        verdict.bytes += found.bytes;
        verdict.left += found.left;
        // A run that was cut short by its budget leaves the journal to one that is not.
        let journal = verify_journal(cx, vault, (&source, &rows), request).await?;
        if let Some(hand) = request.hand.as_ref().filter(|_| request.depth > Depth::Structure) {
            let run = (request.depth, hand, began_at);
            verdict.evidence.extend(keep(cx, vault, &source, (&found, &journal), run).await);
        }
        verdict.points.extend(found.points);
        verdict.journals.push(journal);
        verdict.records.extend(vault.damaged_records(&source).await?);
    }
    if let Some(point) = request.point.as_ref().filter(|_| verdict.points.is_empty()) {
        return Err(VaultError::NotCommitted {
            point: point.clone(),
            state: "not among the committed points",
        }
        .into());
    }
    verdict.judge();
    Ok(verdict)
}

impl Verdict {
    /// Says whether nothing is wrong.
    pub(crate) fn judge(&mut self) {
        let whole = |journal: &JournalVerdict| journal.damage.is_empty() && journal.inconsistent.is_empty();
        self.sound = self.records.is_empty()
            && self.points.iter().all(|point| point.damage.is_empty())
            && self.journals.iter().all(whole);
    }
}

/// A point whose record does not read is damage of its own.
fn unreadable(row: &PointRow) -> Option<PointVerdict> {
    let PointState::Unreadable { object, why } = &row.state else { return None };
    let damage = Damage::of(object.as_str(), why.as_str());
    let point = row.point.clone();
    Some(PointVerdict { point, entries: 0, packs: 0, left: 0, damage: vec![damage] })
}

/// Verifies these points of a source.
pub(crate) async fn verify_points(
    cx: &Cx,
    vault: &Arc<Vault>,
    (source, points): (&SourceName, Vec<PointId>),
    request: &VerifyRequest,
) -> Result<SourceVerdict, OpsError> {
    let last = match request.budget {
        Budget { bytes: None, time: None } => BTreeMap::new(),
        _ => last_verified(vault, source).await?,
    };
    let (cx, vault, source) = (cx.clone(), Arc::clone(vault), source.clone());
    let options = VerifyOptions { depth: request.depth, workers: request.workers, budget: request.budget };
    let runtime = Handle::current();
    let work = move || vault.verify_points(&cx, &runtime, (&source, &points), (&options, &last));
    Ok(tokio::task::spawn_blocking(work).await.map_err(|why| OpsError::Worker(why.to_string()))??)
}

/// When each pack of the source was last found good, by the vault's own evidence. An unsigned record in a vault that
/// signs counts for nothing.
async fn last_verified(
    vault: &Vault,
    source: &SourceName,
) -> Result<BTreeMap<PackName, Timestamp>, OpsError> {
    let mut last = BTreeMap::new();
    for record in vault.evidence().await? {
        let counts = record.signed || record.signature.is_empty() && !vault.signs();
        if record.verification.source != *source || !counts {
            continue;
        }
        for (owner, ranges) in &record.verification.good {
            for number in ranges.iter().flat_map(|(from, to)| *from..*to) {
                last.insert((owner.clone(), number), record.verification.ended_at);
            }
        }
    }
    Ok(last)
}

/// Keeps a record of a run. Who may not write still gets the answer.
async fn keep(
    cx: &Cx,
    vault: &Vault,
    source: &SourceName,
    (found, journal): (&SourceVerdict, &JournalVerdict),
    (depth, hand, began_at): (Depth, &Hand, Timestamp),
) -> Option<String> {
    let mut good = BTreeMap::<PointId, Vec<(u32, u32)>>::new();
    for (owner, number) in &found.good {
        let ranges = good.entry(owner.clone()).or_default();
        match ranges.last_mut() {
            Some((_, to)) if *to == *number => *to += 1,
            _ => ranges.push((*number, *number + 1)),
        }
    }
    let damage = found.points.iter().flat_map(|point| &point.damage).chain(&journal.damage);
    let sound = found.points.iter().filter(|point| point.damage.is_empty());
    let verification = Verification {
        vault: vault.id().to_string(),
        source: source.clone(),
        depth,
        began_at,
        ended_at: cx.now(),
        host: hand.host.clone(),
        tool: hand.tool.clone(),
        bytes: found.bytes,
        points: sound.map(|point| point.point.clone()).collect(),
        good,
        left: found.left,
        damage: damage.map(|damage| damage.object.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    match vault.keep_evidence(cx, &verification).await {
        Ok(id) => Some(id),
        Err(error) => {
            tracing::warn!("no record was kept of this verification: {error}");
            None
        }
    }
}

/// Reads every WAL file's facts, with `Data` also its content, and asks whether every point has the WAL it needs.
async fn verify_journal(
    cx: &Cx,
    vault: &Arc<Vault>,
    (source, rows): (&SourceName, &[PointRow]),
    request: &VerifyRequest,
) -> Result<JournalVerdict, OpsError> {
    let mut verdict =
        JournalVerdict { source: source.clone(), files: 0, damage: Vec::new(), inconsistent: Vec::new() };
    let lineages = match vault.lineages(source).await {
        Err(VaultError::Damaged { key, why, .. }) => {
            verdict.damage.push(Damage::of(key, why));
            return Ok(verdict);
        }
        lineages => lineages?,
    };
    for lineage in lineages {
        let files = vault.journal_files(source, lineage.system_id).await?;
        cx.progress.begin("verifying WAL", files.len() as u64 * lineage.segment_size.bytes());
        verdict.files += files.len() as u64;
        let reads = files.iter().map(|file| read_file(cx, vault, (source, &lineage), (*file, request.depth)));
        let reads: Vec<_> = reads.collect();
        let found = futures::stream::iter(reads).buffered(request.workers.max(1));
        verdict.damage.extend(found.try_collect::<Vec<_>>().await?.into_iter().flatten());
        // A damaged history cannot be read into a journal; it was named above.
        if verdict.damage.is_empty() {
            verdict.inconsistent.extend(lacking(vault, (source, &lineage), rows).await?);
        }
    }
    Ok(verdict)
}

/// The points of a lineage that lack WAL they need.
pub(crate) async fn lacking(
    vault: &Vault,
    (source, lineage): (&SourceName, &Lineage),
    rows: &[PointRow],
) -> Result<Vec<PointId>, OpsError> {
    let journal = journal::load(vault, source, lineage).await?;
    let candidates = journal::candidates(rows, &journal);
    let windows = pitr_windows(&candidates, &|_| None);
    let points = candidates.iter().map(|candidate| &candidate.summary.point);
    Ok(points.filter(|point| !windows.iter().any(|window| window.point == **point)).cloned().collect())
}

/// What is wrong with one WAL file: at the depth of data it is opened and read to its end.
async fn read_file(
    cx: &Cx,
    vault: &Arc<Vault>,
    (source, lineage): (&SourceName, &Lineage),
    (file, depth): (WalFile, Depth),
) -> Result<Option<Damage>, OpsError> {
    cx.check()?;
    let (reader, of, id) = (Arc::clone(vault), source.clone(), lineage.system_id);
    // On a thread of its own: opening and decompressing is work.
    let read = tokio::spawn(async move {
        match depth {
            Depth::Structure => reader.journal_facts(&of, id, file).await.map(|_| ()),
            Depth::Data | Depth::Pages => reader.fetch(&of, id, file).await.map(|_| ()),
        }
    });
    let read = read.await.map_err(|why| OpsError::Worker(why.to_string()))?;
    cx.progress.advance(lineage.segment_size.bytes());
    match read {
        Ok(()) => Ok(None),
        // Its segment has become whole, and a sweep was here.
        Err(VaultError::Store(error)) if error.is_not_found() && matches!(file, WalFile::Part(..)) => {
            Ok(None)
        }
        Err(VaultError::Damaged { key, why, .. }) => Ok(Some(Damage::of(key, why))),
        Err(error) => Err(error.into()),
    }
}
