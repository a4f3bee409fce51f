//! Choosing what to restore from: a pure decision, printed before anything is touched.

use serde::Serialize;

use crate::history::TimelineHistory;
use crate::journal::{Journal, Reach};
use crate::name::PointId;
use crate::point::{JournalRange, Summary};
use crate::position::{Lsn, SystemId, Timeline};
use crate::segment::WalSegment;
use crate::target::{RecoveryTarget, RestoreRequest, TimelineChoice};
use crate::time::Timestamp;

/// A point with its lineage's journal: what it can be restored to.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The point.
    pub summary: &'a Summary,
    /// What it needs of the journal.
    pub range: JournalRange,
    /// Its lineage's journal.
    pub journal: &'a Journal,
}

impl<'a> Candidate<'a> {
    /// The point with this journal. `None` if it is another lineage's, and for a dump, which has none.
    pub fn new(summary: &'a Summary, journal: &'a Journal) -> Option<Candidate<'a>> {
        let range = summary.journal.filter(|range| range.lineage == journal.lineage)?;
        Some(Candidate { summary, range, journal })
    }
}

/// How far one point can be restored, on one timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PitrWindow {
    /// From this point on.
    pub point: PointId,
    /// The timeline followed.
    pub timeline: Timeline,
    /// The earliest time.
    pub from: Timestamp,
    /// The position at which the copy becomes consistent.
    pub from_lsn: Lsn,
    /// The end of the journal that is there.
    pub to_lsn: Lsn,
    /// The last transaction in it (or the point's own end, if that is later), if known.
    pub to: Option<Timestamp>,
    /// Journal behind the end that cannot be reached, for this segment is missing.
    pub gap: Option<String>,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// What was asked for.
    pub request: RestoreRequest,
    /// The point to restore.
    pub point: Summary,
    /// What it needs of the journal.
    #[serde(skip)]
    pub range: JournalRange,
    /// The timeline recovery will follow, resolved.
    pub timeline: Timeline,
    /// How far the journal reaches.
    pub reach: Reach,
    /// What the user should know before saying yes.
    pub notes: Vec<String>,
}

impl RestorePlan {
    /// Bytes of journal that recovery replays, at most: where a time, transaction or name lies is not known before.
    pub fn replays(&self) -> u64 {
        let end = match self.request.target {
            RecoveryTarget::Immediate => self.range.stop,
            RecoveryTarget::Lsn(lsn) => lsn.min(self.reach.end),
            _ => self.reach.end,
        };
        end.0.saturating_sub(self.range.start.0)
    }
}

/// Why nothing can be restored as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No committed point at all.
    #[error("there is no recovery point to restore from")]
    NoPoint,
    /// The point, or every point there is, is a dump.
    #[error(
        "recovery point {0} is a dump, not the files of a server: it restores into a database, and no folder can be made of it"
    )]
    Dump(PointId),
    /// Journal was asked for, and dumps have none.
    #[error(
        "{target} cannot be reached: a dump has no WAL, and restores to the one moment its snapshot shows"
    )]
    NoJournal {
        /// The target.
        target: String,
    },
    /// The named point is not a dump.
    #[error("recovery point {0} is a copy of a server's files, not a dump: it restores into a folder")]
    NotADump(PointId),
    /// The named point is not among those that can be restored.
    #[error("recovery point {0} cannot be restored: it is not committed, or it expired")]
    NotRestorable(PointId),
    /// Every point began after the target.
    #[error("{target} lies before every recovery point that could lead to it")]
    TooEarly {
        /// The target.
        target: String,
    },
    /// The journal ends, or breaks, before the target.
    #[error("{target} lies behind the end of the journal that can be replayed: {end}")]
    TooLate {
        /// The target.
        target: String,
        /// What ends there.
        end: String,
    },
    /// The journal a point needs to become consistent is not whole.
    #[error("recovery point {point} needs WAL segment {segment}, which the vault does not have")]
    Inconsistent {
        /// The point.
        point: PointId,
        /// The first missing segment.
        segment: WalSegment,
    },
    /// The timeline asked for has no history here, or does not come from the point's.
    #[error("timeline {timeline} cannot be followed from recovery point {point}: {why}")]
    Timeline {
        /// The timeline.
        timeline: Timeline,
        /// The point.
        point: PointId,
        /// Why.
        why: &'static str,
    },
}

/// Chooses the point to restore (the newest that leads to the target, or `only`) and checks that the journal gets
/// there. `last_transaction` tells when the last transaction before the end of a lineage's reach ended, where known: of two
/// lineages, segments may have the same names.
pub fn plan_restore(
    candidates: &[Candidate<'_>],
    request: &RestoreRequest,
    only: Option<&PointId>,
    last_transaction: &dyn Fn(SystemId, &Reach) -> Option<Timestamp>,
) -> Result<RestorePlan, PlanError> {
    let mut usable: Vec<&Candidate<'_>> = candidates
        .iter()
        .filter(|candidate| only.is_none_or(|only| candidate.summary.point == *only))
        .collect();
    match (usable.is_empty(), only) {
        (true, Some(only)) => return Err(PlanError::NotRestorable(only.clone())),
        (true, None) => return Err(PlanError::NoPoint),
        _ => {}
    }
    // Newest first: the shorter the replay the better. By time, never by timeline or position (incident 15).
    usable.sort_by_key(|candidate| {
        std::cmp::Reverse((candidate.summary.stopped_at, candidate.summary.point.clone()))
    });
    let mut first_error = None;
    for candidate in usable {
        if !precedes(candidate, &request.target) {
            continue;
        }
        match plan_from(candidate, request, last_transaction) {
            Ok(plan) => return Ok(plan),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| PlanError::TooEarly { target: request.target.to_string() }))
}

/// Whether a point became consistent before the target, as far as can be told without reading WAL.
fn precedes(candidate: &Candidate<'_>, target: &RecoveryTarget) -> bool {
    match target {
        RecoveryTarget::Time(time) => candidate.summary.stopped_at <= *time,
        RecoveryTarget::Lsn(lsn) => candidate.range.stop <= *lsn,
        RecoveryTarget::Latest
        | RecoveryTarget::Immediate
        | RecoveryTarget::Xid(_)
        | RecoveryTarget::Name(_) => true,
    }
}

fn plan_from(
    candidate: &Candidate<'_>,
    request: &RestoreRequest,
    last_transaction: &dyn Fn(SystemId, &Reach) -> Option<Timestamp>,
) -> Result<RestorePlan, PlanError> {
    let Candidate { summary, range, journal } = *candidate;
    let history = resolve_timeline(candidate, request)?;
    let reach = journal.reach(range.start, &history);
    if reach.end < range.stop {
        let segment = WalSegment::holding(history.timeline_at(reach.end), reach.end, journal.segment_size);
        return Err(PlanError::Inconsistent { point: summary.point.clone(), segment });
    }
    let target = request.target.to_string();
    match &request.target {
        RecoveryTarget::Lsn(lsn) if *lsn > reach.end => {
            return Err(PlanError::TooLate { target, end: format!("it ends at {}", reach.end) });
        }
        RecoveryTarget::Time(time) => {
            // A point's own end is always reachable, so a target before the last known transaction is, too.
            if let Some(last) = last_transaction(journal.lineage, &reach).filter(|last| time > last) {
                return Err(PlanError::TooLate {
                    target,
                    end: format!("its last transaction ended at {last}"),
                });
            }
        }
        _ => {}
    }
    let notes = notes(summary, journal, request, &reach);
    Ok(RestorePlan {
        request: request.clone(),
        point: summary.clone(),
        range,
        timeline: history.timeline,
        reach,
        notes,
    })
}

fn notes(summary: &Summary, journal: &Journal, request: &RestoreRequest, reach: &Reach) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(gap) = reach.gap {
        notes.push(format!("the journal has a gap: {gap} is missing, and nothing behind it can be replayed"));
    }
    if summary.damaged_pages > 0 {
        notes.push(format!(
            "{} pages were already damaged on the source when this point was taken",
            summary.damaged_pages
        ));
    }
    if matches!(request.target, RecoveryTarget::Xid(_) | RecoveryTarget::Name(_)) {
        notes.push("the server refuses to start if the target is not found after this point; choose an earlier one with --point then".into());
    }
    let missing = journal.missing_histories();
    if request.timeline == TimelineChoice::Latest && !missing.is_empty() {
        let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
        notes.push(format!(
            "the histories of timelines {} were never shipped: nothing can lead there",
            list.join(", ")
        ));
    }
    notes
}

fn resolve_timeline(
    candidate: &Candidate<'_>,
    request: &RestoreRequest,
) -> Result<TimelineHistory, PlanError> {
    let (journal, from) = (candidate.journal, candidate.range.timeline);
    let timeline = match request.timeline {
        TimelineChoice::Current => from,
        TimelineChoice::Latest => journal.newest_timeline(from),
        TimelineChoice::Id(id) => id,
    };
    let refuse = |why| PlanError::Timeline { timeline, point: candidate.summary.point.clone(), why };
    let history = match journal.history(timeline) {
        Some(history) => history,
        None if timeline == from => TimelineHistory { timeline, ancestors: Vec::new() },
        None => return Err(refuse("the vault has no history of it")),
    };
    if !history.passes(from) {
        return Err(refuse("it does not descend from the point's timeline"));
    }
    match history.left_at(from) {
        Some(left_at) if left_at < candidate.range.stop => {
            Err(refuse("it branched off before the point became consistent"))
        }
        _ => Ok(history),
    }
}

/// Chooses the dump to restore: the newest that shows the target's time or an earlier one, or `only`. `points` are those that
/// can be restored, of either kind, in any order.
pub fn plan_dump<'a>(
    points: impl IntoIterator<Item = &'a Summary>,
    target: &RecoveryTarget,
    only: Option<&PointId>,
) -> Result<&'a Summary, PlanError> {
    let limit = match target {
        RecoveryTarget::Latest | RecoveryTarget::Immediate => None,
        RecoveryTarget::Time(time) => Some(*time),
        RecoveryTarget::Lsn(_) | RecoveryTarget::Xid(_) | RecoveryTarget::Name(_) => {
            return Err(PlanError::NoJournal { target: target.to_string() });
        }
    };
    let named: Vec<&Summary> =
        points.into_iter().filter(|summary| only.is_none_or(|only| summary.point == *only)).collect();
    let dumps = named.iter().filter(|summary| summary.journal.is_none());
    let newest = |dumps: &mut dyn Iterator<Item = &&'a Summary>| {
        dumps.max_by_key(|summary| (summary.stopped_at, summary.point.clone())).copied()
    };
    let in_time = |summary: &&&Summary| limit.is_none_or(|limit| summary.stopped_at <= limit);
    match (newest(&mut dumps.clone().filter(in_time)), newest(&mut dumps.clone()), only) {
        (Some(dump), ..) => Ok(dump),
        (None, Some(_), _) => Err(PlanError::TooEarly { target: target.to_string() }),
        (None, None, Some(only)) if named.is_empty() => Err(PlanError::NotRestorable(only.clone())),
        (None, None, Some(only)) => Err(PlanError::NotADump(only.clone())),
        (None, None, None) => named
            .first()
            .map_or(Err(PlanError::NoPoint), |summary| Err(PlanError::NotADump(summary.point.clone()))),
    }
}

/// What each point can be restored to on the newest timeline that leads from it.
pub fn pitr_windows(
    candidates: &[Candidate<'_>],
    last_transaction: &dyn Fn(&Reach) -> Option<Timestamp>,
) -> Vec<PitrWindow> {
    let window = |candidate: &Candidate<'_>| {
        let Candidate { summary, range, journal } = *candidate;
        let request = |timeline| RestoreRequest {
            target: RecoveryTarget::Latest,
            inclusive: true,
            timeline,
            action: crate::target::TargetAction::Promote,
        };
        let history = resolve_timeline(candidate, &request(TimelineChoice::Latest))
            .or_else(|_| resolve_timeline(candidate, &request(TimelineChoice::Current)))
            .ok()?;
        let reach = journal.reach(range.start, &history);
        (reach.end >= range.stop).then(|| PitrWindow {
            point: summary.point.clone(),
            timeline: history.timeline,
            from: summary.stopped_at,
            from_lsn: range.stop,
            to_lsn: reach.end,
            // A quiet server's last transaction may be older than the point, which restores to its own end anyway.
            to: last_transaction(&reach).map(|last| last.max(summary.stopped_at)),
            gap: reach.gap.map(|gap| gap.to_string()),
        })
    };
    candidates.iter().filter_map(window).collect()
}

#[cfg(test)]
mod tests;
