//! `strongroom status`: one line per source: how old is the last point, how far does the journal reach, what is wrong.

use serde::Serialize;
use strongroom_model::drill::{Drill, DrillOutcome};
use strongroom_model::point::{PointState, Summary};
use strongroom_model::{Cx, Lsn, PointId, SourceName, SystemId, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::drills::DrillEvidence;

use crate::error::OpsError;
use crate::list::{SourceListing, list};
use crate::wal_status::wal_status;

/// Sizes that are told, the newest: as many as make a trend, and one.
const TREND: usize = 15;

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
    /// How far WAL is in the vault, if none is missing behind the newest point.
    pub journal_end: Option<JournalEnd>,
    /// The segment that is missing behind the newest point.
    pub gap: Option<String>,
    /// What its points hold and cost.
    #[serde(flatten)]
    pub figures: Figures,
    /// Holds that have an end.
    pub holds: Vec<HoldEnd>,
    /// The last drill whose record counts; `None` if there never was one, or who asks may not check the records.
    pub drill: Option<LastDrill>,
    /// What a person should look at.
    pub problems: Vec<String>,
}

/// What points hold, cost and took.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Bytes of the source in its newest restorable points, oldest first.
    pub sizes: Vec<u64>,
    /// Bytes that its restorable points added to the vault.
    pub stored_bytes: u64,
    /// Bytes that the newest of them added.
    pub last_point_stored_bytes: Option<u64>,
    /// How long the newest of them took, from its start to its commit.
    pub last_point_seconds: Option<u64>,
}

impl Figures {
    fn of(restorable: &mut [&Summary]) -> Figures {
        restorable.sort_by_key(|summary| summary.stopped_at);
        let newest = restorable.last();
        Figures {
            sizes: restorable.iter().rev().take(TREND).rev().map(|summary| summary.bytes).collect(),
            stored_bytes: restorable.iter().map(|summary| summary.stored).sum(),
            last_point_stored_bytes: newest.map(|newest| newest.stored),
            last_point_seconds: newest.map(|newest| newest.committed_at.since(newest.started_at).as_secs()),
        }
    }
}

/// The end of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JournalEnd {
    /// Whose positions these are: the newest lineage's.
    pub lineage: SystemId,
    /// The highest that is there (exclusive).
    pub end: Lsn,
}

/// The end of a hold that was not released.
#[derive(Debug, Serialize)]
pub struct HoldEnd {
    /// What is held.
    pub point: PointId,
    /// Until when.
    pub until: Timestamp,
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
        let (journal_age_s, journal_end) = of_journal(cx, vault, &listing.source, &mut problems).await?;
        let mut by_age: Vec<&Summary> = listing.points.iter().filter_map(PointRow::restorable).collect();
        let dumped = of_files == 0 && !dumps.is_empty();
        if journal_age_s.is_none() && !dumped {
            problems.push("no WAL was ever shipped".to_owned());
        }
        let has_gap = listing.windows.last().is_some_and(|window| window.gap.is_some());
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
            journal_end: journal_end.filter(|_| !has_gap),
            gap: listing.windows.last().and_then(|window| window.gap.clone()),
            figures: Figures::of(&mut by_age),
            holds: ending_holds(vault, &listing).await?,
            drill: last_drill(vault, &listing.source).await?,
            source: listing.source,
            problems,
        });
    }
    Ok(all)
}

/// How long ago WAL was last shipped, and how far it is there; adds what is wrong with it.
async fn of_journal(
    cx: &Cx,
    vault: &Vault,
    source: &SourceName,
    problems: &mut Vec<String>,
) -> Result<(Option<u64>, Option<JournalEnd>), OpsError> {
    let journal = match wal_status(cx, vault, source).await {
        Ok(journal) => journal,
        Err(OpsError::UnknownSource(_) | OpsError::Dumped { .. }) => return Ok((None, None)),
        Err(error) => return Err(error),
    };
    let missing = journal.lineages.iter().flat_map(|lineage| &lineage.missing_histories);
    problems.extend(missing.map(|id| format!("the history of timeline {id} was never shipped")));
    let Some(newest) = journal.lineages.last() else { return Ok((None, None)) };
    let age = newest.windows.iter().map(|window| window.age_s).min();
    let end = newest.windows.iter().map(|window| window.window.end).max();
    Ok((age, end.map(|end| JournalEnd { lineage: newest.lineage.system_id, end })))
}

async fn ending_holds(vault: &Vault, listing: &SourceListing) -> Result<Vec<HoldEnd>, OpsError> {
    if !listing.points.iter().any(|row| row.held) {
        return Ok(Vec::new());
    }
    let holds = vault.holds(&listing.source).await?;
    let ending = holds.into_iter().filter(|hold| hold.released.is_none());
    Ok(ending.filter_map(|hold| Some(HoldEnd { point: hold.point, until: hold.placed.until? })).collect())
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
