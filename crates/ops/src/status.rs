//! `strongroom status`: one line per source: how old is the last point, how far does the journal reach, what is wrong.

use serde::Serialize;
use strongroom_model::drill::{Drill, DrillOutcome};
use strongroom_model::point::PointState;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::drills::DrillEvidence;

use crate::error::OpsError;
use crate::list::list;
use crate::wal_status::wal_status;

/// A source's state in a few figures.
#[derive(Debug, Serialize)]
pub struct SourceStatus {
    /// The source.
    pub source: SourceName,
    /// Points that can be restored.
    pub points: usize,
    /// The newest of them.
    pub last_point: Option<PointId>,
    /// When it became consistent.
    pub last_point_at: Option<Timestamp>,
    /// Whether its points are dumps: then it has no WAL, and `recoverable_to` is the moment that the newest shows.
    pub dumped: bool,
    /// The last transaction that can be restored.
    pub recoverable_to: Option<Timestamp>,
    /// Seconds since WAL was last shipped.
    pub journal_age_s: Option<u64>,
    /// The last drill whose record counts; `None` if there never was one, or who asks may not check the records.
    pub drill: Option<LastDrill>,
    /// What a person should look at.
    pub problems: Vec<String>,
}

/// A drill in a few figures.
#[derive(Debug, Serialize)]
pub struct LastDrill {
    /// Its record.
    pub evidence: String,
    /// When it ended.
    pub at: Timestamp,
    /// What it came to.
    pub outcome: DrillOutcome,
    /// Seconds until the data could be used; `None` if it did not get there.
    pub rto_seconds: Option<f64>,
}

/// Reads every source's state from the vault alone.
pub async fn status(
    cx: &Cx,
    vault: &Vault,
    source: Option<&SourceName>,
) -> Result<Vec<SourceStatus>, OpsError> {
    let mut all = Vec::new();
    for listing in list(vault, source).await? {
        let last =
            listing.points.iter().filter_map(PointRow::restorable).max_by_key(|summary| summary.stopped_at);
        let mut problems = Vec::new();
        let restorable = listing.points.iter().filter(|row| row.restorable().is_some()).count();
        let dumps: Vec<_> = listing.points.iter().filter_map(PointRow::restorable).collect();
        let dumps: Vec<_> = dumps.into_iter().filter(|summary| summary.journal.is_none()).collect();
        let of_files = restorable - dumps.len();
        if restorable == 0 {
            problems.push("there is no recovery point".to_owned());
        } else if listing.windows.len() < of_files {
            let count = of_files - listing.windows.len();
            problems.push(format!("{count} recovery points lack WAL they need to become consistent"));
        }
        problems.extend(listing.windows.iter().filter_map(|window| {
            let gap = window.gap.as_ref()?;
            Some(format!(
                "WAL segment {gap} is missing: nothing behind it can be restored from {}",
                window.point
            ))
        }));
        problems.extend(last.filter(|last| last.damaged_pages > 0).map(|last| {
            format!("{} pages of {} were already damaged on the source", last.damaged_pages, last.point)
        }));
        problems.extend(unfinished(cx, &listing.points));
        problems.extend(listing.points.iter().filter_map(|row| match &row.state {
            PointState::Unreadable { why, .. } => Some(why.clone()),
            _ => None,
        }));
        let journal_age_s = match wal_status(cx, vault, &listing.source).await {
            Ok(journal) => {
                let missing = journal.lineages.iter().flat_map(|lineage| &lineage.missing_histories);
                problems.extend(missing.map(|id| format!("the history of timeline {id} was never shipped")));
                let newest = journal.lineages.last();
                newest.and_then(|lineage| lineage.windows.iter().map(|window| window.age_s).min())
            }
            Err(OpsError::UnknownSource(_) | OpsError::Dumped { .. }) => None,
            Err(error) => return Err(error),
        };
        let dumped = of_files == 0 && !dumps.is_empty();
        if journal_age_s.is_none() && !dumped {
            problems.push("no WAL was ever shipped".to_owned());
        }
        all.push(SourceStatus {
            points: restorable,
            last_point: last.map(|last| last.point.clone()),
            last_point_at: last.map(|last| last.stopped_at),
            dumped,
            recoverable_to: {
                let moments = dumps.iter().map(|summary| summary.stopped_at);
                listing.windows.iter().filter_map(|window| window.to).chain(moments).max()
            },
            journal_age_s,
            drill: last_drill(vault, &listing.source).await?,
            source: listing.source,
            problems,
        });
    }
    Ok(all)
}

async fn last_drill(vault: &Vault, source: &SourceName) -> Result<Option<LastDrill>, OpsError> {
    if !vault.may_read() {
        return Ok(None);
    }
    let records = vault.drills(source, 1).await?;
    Ok(records.into_iter().rev().find_map(|DrillEvidence { id, drill, .. }| {
        let Drill { ended_at: at, outcome, rto_seconds, .. } = drill?;
        Some(LastDrill { evidence: id, at, outcome, rto_seconds })
    }))
}

/// Points begun long ago and never decided: their writers died.
fn unfinished(cx: &Cx, points: &[PointRow]) -> Option<String> {
    let day = std::time::Duration::from_secs(86_400);
    let stale = points.iter().filter(|row| match &row.state {
        PointState::Undecided { intent } => cx.now().since(intent.began_at) > day,
        _ => false,
    });
    let count = stale.count();
    (count > 0).then(|| format!("{count} backups were begun more than a day ago and never finished"))
}
