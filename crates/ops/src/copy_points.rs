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
use strongroom_vault::copy::{Brought, CopyOptions, Copying, Floors};
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
            of.left_out.is_empty() && of.journal.differing.is_empty() && of.objects.differing.is_empty()
        };
        self.sources.iter().all(whole)
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
        let there = async |plan: &SourcePlan| to.decision(&plan.source, point).await;
        let mut known = false;
        for plan in &plans {
            known |= mentions(plan) || told(plan) || there(plan).await?.is_some();
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
    let newest = here.iter().filter_map(PointRow::restorable).map(|summary| &summary.point).max();
    for row in here {
        let chosen = match choice {
            Choice::All => true,
            Choice::Latest => Some(&row.point) == newest,
            Choice::Point(only) => row.point == *only,
        };
        let other = theirs.get(&row.point);
        let leave = |why: String| LeftOut { point: row.point.clone(), why };
        match (row.restorable(), other.map(|other| &other.state)) {
            // Retention let it go there, or it is there.
            (Some(_), _) if other.is_some_and(|other| other.expired) => {}
            (Some(_), Some(PointState::Committed { .. })) => {}
            (Some(_), _) if !chosen => {}
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
            (None, Some(PointState::Undecided { .. })) => match &row.state {
                PointState::Undecided { .. } => {}
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

/// A point whose first WAL the target's retention let go could not be restored from there.
fn needs_gone_wal(summary: &Summary, floors: &Floors) -> Option<String> {
    let (first, _) = summary.journal.segments();
    let floor = floors.get(&(summary.journal.lineage, first.timeline)).filter(|floor| first < **floor)?;
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
