//! `strongroom copy`: bring a replica up to what another one has.
//!
//! ```text
//! plan: which points ▶ lineages and holds ▶ WAL ▶ points, oldest first ▶ evidence
//! ```
//!
//! WAL goes before the points that need it: a point is listed in the target only when it can be restored from there.
//! Tombstones and floors do not travel: what a vault lets go is its own business, and stays gone there.
//!
//! One point that cannot be copied keeps nothing from the others; a store that is down ends the run. The next run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::point::{PointState, Summary};
use strongroom_model::{Cx, PointId, SourceName};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::copy::{Brought, CopyOptions, Copying};
use strongroom_vault::expire::Floors;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;

/// Which points to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All that the target lacks, oldest first.
    All,
    /// Of each source the newest, if the target lacks it.
    Latest,
    /// This one.
    Point(PointId),
}

/// A copy as the user asked for it.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// One source, or all.
    pub source: Option<SourceName>,
    /// Which of its points.
    pub choice: Choice,
    /// How to copy.
    pub options: CopyOptions,
}

/// A point that was not copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Which.
    pub point: PointId,
    /// Why.
    pub why: String,
}

/// What to do for one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourcePlan {
    /// The source.
    pub source: SourceName,
    /// What to copy, in order.
    pub points: Vec<Summary>,
    /// What to leave out, though the target lacks it.
    pub left_out: Vec<LeftOut>,
    /// Copies once begun that can never be whole, and why.
    pub given_up: Vec<LeftOut>,
}

/// What copying one source came to.
#[derive(Clone, Debug, Serialize)]
pub struct SourceCopied {
    /// The source.
    pub source: SourceName,
    /// The points that the target has now.
    pub points: Vec<PointId>,
    /// The points it still lacks.
    pub left_out: Vec<LeftOut>,
    /// WAL.
    pub journal: Brought,
    /// Everything else: packs, lineages, holds.
    pub objects: Brought,
}

/// What a copy came to.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// By source.
    pub sources: Vec<SourceCopied>,
    /// Evidence.
    pub evidence: Brought,
}

impl Copied {
    /// Whether nothing was left out and nothing differs.
    pub fn is_complete(&self) -> bool {
        let whole = |of: &SourceCopied| {
            of.left_out.is_empty() && of.journal.is_complete() && of.objects.is_complete()
        };
        self.evidence.is_complete() && self.sources.iter().all(whole)
    }
}

/// What copying would do. Writes nothing.
pub async fn plan(
    from: &Arc<Vault>,
    to: &Arc<Vault>,
    request: &CopyRequest,
) -> Result<Vec<SourcePlan>, OpsError> {
    to.check_replica(from)?;
    let known = from.sources().await?;
    let sources = match &request.source {
        Some(source) if known.contains(source) => vec![source.clone()],
        Some(source) => return Err(OpsError::UnknownSource(source.clone())),
        None => known,
    };
    let mut plans = Vec::new();
    for source in sources {
        let (here, there) = (from.points(&source).await?, to.points(&source).await?);
        let mut floors = Floors::new();
        for lineage in from.lineages(&source).await? {
            floors.extend(to.floors(&source, lineage.system_id).await?);
        }
        plans.push(plan_source(source, &here, &there, (&floors, &request.choice)));
    }
    if let Choice::Point(point) = &request.choice {
        let mentions = |plan: &SourcePlan| plan.points.iter().any(|summary| summary.point == *point);
        let told = |plan: &SourcePlan| plan.left_out.iter().any(|left| left.point == *point);
        let mut known = false;
        for plan in &plans {
            known |= mentions(plan) || told(plan) || to.decision(&plan.source, point).await?.is_some();
        }
        if !known {
            let state = "not among the committed points";
            return Err(VaultError::NotCommitted { point: point.clone(), state }.into());
        }
    }
    Ok(plans)
}

/// Decides for one source, by what both vaults list.
fn plan_source(
    source: SourceName,
    here: &[PointRow],
    there: &[PointRow],
    (floors, choice): (&Floors, &Choice),
) -> SourcePlan {
    let theirs: BTreeMap<&PointId, &PointRow> = there.iter().map(|row| (&row.point, row)).collect();
    let mut plan = SourcePlan { source, points: Vec::new(), left_out: Vec::new(), given_up: Vec::new() };
    let newest = here.iter().filter_map(PointRow::restorable).max_by_key(|summary| summary.stopped_at);
    let newest = newest.map(|summary| &summary.point);
    for row in here {
        let chosen = match choice {
            Choice::All => true,
            Choice::Latest => newest == Some(&row.point),
            Choice::Point(only) => row.point == *only,
        };
        let other = theirs.get(&row.point);
        let leave = |why: String| LeftOut { point: row.point.clone(), why };
        match (row.restorable(), other.map(|other| &other.state)) {
            // Retention let it go there, or it is there.
            (Some(_), _) if other.is_some_and(|other| other.expired) => {}
            (Some(_), Some(PointState::Committed { .. })) => {}
            (Some(_), _) if !chosen => {}
            (Some(_), Some(PointState::Unreadable { why, .. })) => {
                plan.left_out.push(leave(format!("what the target has of it does not read: {why}")));
            }
            (Some(_), Some(PointState::Abandoned { why })) => {
                plan.left_out.push(leave(format!("its copy there was abandoned: {why}")));
            }
            (Some(_), Some(PointState::Revoked { by })) => {
                plan.left_out.push(leave(format!("its copy there was revoked by {by}")));
            }
            (Some(summary), Some(PointState::Undecided { .. }) | None) => {
                match needs_gone_wal(summary, floors) {
                    Some(why) => plan.left_out.push(leave(why)),
                    None => plan.points.push(summary.clone()),
                }
            }
            // It may be a committed one. Where the target has it whole, or let it go, nothing is owed.
            (None, there) if matches!(row.state, PointState::Unreadable { .. }) => {
                let PointState::Unreadable { why, .. } = &row.state else { continue };
                let settled = matches!(there, Some(PointState::Committed { .. }))
                    || row.expired
                    || other.is_some_and(|other| other.expired);
                if chosen && !settled {
                    plan.left_out.push(leave(why.clone()));
                }
            }
            (None, Some(PointState::Undecided { .. })) => match &row.state {
                PointState::Undecided { .. } | PointState::Unreadable { .. } => {}
                PointState::Committed { .. } => {
                    plan.given_up.push(leave("it expired before its copy was whole".into()))
                }
                PointState::Abandoned { why } => plan.given_up.push(leave(why.clone())),
                PointState::Revoked { by } => plan.given_up.push(leave(format!("revoked by {by}"))),
            },
            (None, _) => {}
        }
    }
    plan
}

/// A point whose first WAL the target's retention let go could not be restored from there. A dump needs none.
fn needs_gone_wal(summary: &Summary, floors: &Floors) -> Option<String> {
    let journal = summary.journal.as_ref()?;
    let (first, _) = journal.segments();
    let floor = floors.get(&(journal.lineage, first.timeline)).filter(|floor| first < **floor)?;
    Some(format!("it needs WAL from {first} on, and retention there keeps none before {floor}"))
}

/// Copies what [`plan`] finds. An error means that a vault could not be asked; a point that cannot be copied is told of.
pub async fn copy(
    cx: &Cx,
    from: &Arc<Vault>,
    to: &Arc<Vault>,
    request: &CopyRequest,
) -> Result<Copied, OpsError> {
    let plans = plan(from, to, request).await?;
    let copying = Copying::new(Arc::clone(from), Arc::clone(to), request.options)?;
    let mut copied =
        Copied { from: from.place(), to: to.place(), sources: Vec::new(), evidence: Brought::default() };
    for plan in plans {
        copied.sources.push(copy_source(cx, from, &copying, plan).await?);
    }
    copied.evidence = copying.evidence(cx).await?;
    Ok(copied)
}

async fn copy_source(
    cx: &Cx,
    from: &Vault,
    copying: &Copying,
    plan: SourcePlan,
) -> Result<SourceCopied, OpsError> {
    let source = plan.source;
    for point in &plan.given_up {
        copying.give_up(cx, &source, &point.point, &point.why).await?;
    }
    let mut copied = SourceCopied {
        objects: copying.registers(cx, &source).await?,
        points: Vec::new(),
        left_out: plan.left_out,
        journal: Brought::default(),
        source,
    };
    for lineage in from.lineages(&copied.source).await? {
        let brought = copying.journal(cx, &copied.source, lineage.system_id).await?;
        copied.journal = copied.journal.and(brought);
    }
    for summary in plan.points {
        match copying.point(cx, &copied.source, &summary.point).await {
            Ok(brought) => {
                copied.objects = copied.objects.and(brought);
                copied.points.push(summary.point);
            }
            // Of this point only: the others may be copied all the same.
            Err(
                error @ (VaultError::Damaged { .. }
                | VaultError::Missing { .. }
                | VaultError::Taken { .. }
                | VaultError::LostDecision { .. }
                | VaultError::Condemned { .. }),
            ) => {
                tracing::warn!("{} is not copied: {error}", summary.point);
                let why = match &error {
                    VaultError::Condemned { .. } => format!("{error}; run the copy again when it has ended"),
                    _ => error.to_string(),
                };
                copied.left_out.push(LeftOut { point: summary.point, why });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_model::point::{Intent, JournalRange};
    use strongroom_model::{Lsn, SegmentSize, SystemId, Timeline, Timestamp, WalSegment};

    const LINEAGE: SystemId = SystemId(1);

    fn at(day: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_176_000 + day * 86_400).unwrap()
    }

    fn summary(day: i64) -> Summary {
        let lsn = Lsn(day as u64 * SegmentSize::DEFAULT.bytes() + 8);
        let journal = JournalRange {
            lineage: LINEAGE,
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            start: lsn,
            stop: Lsn(lsn.0 + 8),
        };
        Summary {
            point: PointId::new(at(day), [0; 4]),
            source: "a".parse().unwrap(),
            engine: "toy".into(),
            product: "Toy 1".into(),
            parent: None,
            started_at: at(day),
            stopped_at: at(day),
            committed_at: at(day),
            journal: Some(journal),
            entries: 0,
            bytes: 0,
            stored: 0,
            packs: 0,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        }
    }

    /// One letter per day: `c`ommitted, `x` expired, `u`ndecided, `a`bandoned, `r`evoked, `?` unreadable, `.` nothing.
    fn rows(picture: &str) -> Vec<PointRow> {
        let row = |(day, letter): (usize, char)| {
            let summary = summary(day as i64);
            let intent = Intent {
                point: summary.point.clone(),
                source: summary.source.clone(),
                engine: "toy".into(),
                parent: None,
                began_at: at(0),
                host: String::new(),
                tool: String::new(),
                copied_at: None,
            };
            let point = summary.point.clone();
            let state = match letter {
                'c' | 'x' => PointState::Committed { summary: Box::new(summary) },
                'u' => PointState::Undecided { intent },
                'a' => PointState::Abandoned { why: "full".into() },
                'r' => PointState::Revoked { by: "sweep".into() },
                '?' => PointState::Unreadable { object: "decision".into(), why: "a flipped bit".into() },
                _ => return None,
            };
            Some(PointRow { point, state, expired: letter == 'x', held: false })
        };
        picture.chars().enumerate().filter_map(row).collect()
    }

    /// The plan as a picture: `+` copied, `-` left out, `!` given up, `.` nothing to do.
    fn check(here: &str, there: &str, choice: Choice, floor: Option<u64>, expected: &str) {
        let floor = floor.map(|n| WalSegment::numbered(Timeline::FIRST, n, SegmentSize::DEFAULT));
        let floors = floor.into_iter().map(|floor| ((LINEAGE, Timeline::FIRST), floor)).collect();
        let plan = plan_source("a".parse().unwrap(), &rows(here), &rows(there), (&floors, &choice));
        let mark = |day: usize| {
            let point = summary(day as i64).point;
            let among = |left: &[LeftOut]| left.iter().any(|left| left.point == point);
            match (plan.points.iter().any(|copied| copied.point == point), among(&plan.left_out)) {
                (true, _) => '+',
                (_, true) => '-',
                _ if among(&plan.given_up) => '!',
                _ => '.',
            }
        };
        let picture: String = (0..here.len()).map(mark).collect();
        assert_eq!(picture, expected, "{here} into {there}");
    }

    #[test]
    fn what_is_copied_and_what_is_not() {
        check("ccc", "...", Choice::All, None, "+++");
        check("ccc", "c.c", Choice::All, None, ".+.");
        // Let go there: not again. Let go here: not at all.
        check("ccx", "x..", Choice::All, None, ".+.");
        // Begun there: gone on with.
        check("cc", "u.", Choice::All, None, "++");
        // Not decided here, given up here.
        check("uar", "...", Choice::All, None, "...");
        // Begun there and given up here, or expired here: never to be whole.
        check("uarx", "uuuu", Choice::All, None, ".!!!");
        // Not known: told of, unless the target owes nothing.
        check("????c", ".ucx?", Choice::All, None, "--..-");
        // Decided there in another way.
        check("ccc", "ar.", Choice::All, None, "--+");
    }

    #[test]
    fn some_of_them_only() {
        check("ccc", "...", Choice::Latest, None, "..+");
        check("ccx", "...", Choice::Latest, None, ".+.");
        check("ccc", "..c", Choice::Latest, None, "...");
        check("ccc", "...", Choice::Point(summary(1).point), None, ".+.");
    }

    #[test]
    fn a_point_whose_wal_the_target_let_go_is_left_out() {
        check("ccc", "...", Choice::All, Some(1), "-++");
        check("ccc", "...", Choice::All, Some(0), "+++");
    }
}
