//! `strongroom drill`: a state restored for real, looked at from all sides, timed, and gone again; and the evidence of it.
//!
//! ```text
//! what dead drills left goes ▶ choose ▶ plan ▶ a folder of its own ▶ restore, recover, check (files or dump) ▶ gone
//! ▶ judged ▶ statement, signed, in the vault
//! ```
//!
//! **Invariants**
//! - From the choice of the point on, whatever comes of it is kept as evidence: passed, failed or interrupted.
//! - Nothing of it is left on this host but what was asked to be kept; what a crash leaves the next drill removes.
//! - Two at once have a folder, a server and a socket each, and know nothing of each other.

#![allow(
    clippy::disallowed_methods,
    reason = "a drill measures how long things take: that is what it is for"
)]

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::drill::{self, Answer, Choice, Chosen, Drill, DrillOutcome, RTO, SHAPE};
use strongroom_model::point::Summary;
use strongroom_model::restore_plan::{RestorePlan, plan_dump};
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_model::time::human_duration;
use strongroom_model::{Cx, Timestamp};
use strongroom_postgres::drill::place::{DrillPlace, remove_leftovers};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use tokio::time::Instant;

use crate::drill_course::UnderWay;
use crate::drill_dump::drill_dump;
use crate::drill_files::drill_files;
use crate::error::{OpsError, with_causes};
use crate::list::list;
use crate::restore::{self, off_the_runtime};

pub use crate::drill_course::DrillRequest;

/// A drill that was carried out, however it came out.
#[derive(Debug, Serialize)]
pub struct Drilled {
    /// What it says of itself.
    pub drill: Drill,
    /// The record's name; `None` if it could not be kept.
    pub evidence: Option<String>,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// Folders of dead drills that were removed.
    pub removed: Vec<PathBuf>,
    /// How to connect to the server that was left running, and how to get rid of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_running: Vec<String>,
    /// What ended it before its end.
    #[serde(skip)]
    pub error: Option<OpsError>,
}

/// What is restored.
enum Proven {
    Files(Box<RestorePlan>),
    Dump(Box<Summary>),
    /// Nothing: no plan leads there.
    Nothing(Box<Summary>, RecoveryTarget),
}

impl Proven {
    fn point(&self) -> &Summary {
        match self {
            Proven::Files(plan) => &plan.point,
            Proven::Dump(point) | Proven::Nothing(point, _) => point,
        }
    }

    fn target(&self) -> RecoveryTarget {
        match self {
            Proven::Files(plan) => plan.request.target.clone(),
            Proven::Dump(_) => RecoveryTarget::Immediate,
            Proven::Nothing(_, target) => target.clone(),
        }
    }
}

/// Carries out a drill. Reads the first of `vaults`, which gets the evidence; the others are its replicas. An error means that there
/// was nothing to begin with; what goes wrong from then on is in the answer.
pub async fn drill(cx: &Cx, vaults: &[Arc<Vault>], request: &DrillRequest) -> Result<Drilled, OpsError> {
    let (began_at, began) = (cx.now(), Instant::now());
    vaults.iter().try_for_each(|vault| vault.check_may_read())?;
    let scratch = request.scratch.clone();
    let removed = off_the_runtime(move || Ok(remove_leftovers(&scratch))).await?;
    let mut under_way = UnderWay::default();
    let planning = Instant::now();
    let chosen = choose(&vaults[0], request).await;
    under_way.took("plan", planning.elapsed(), true);
    let (proven, done) = match chosen {
        Ok(proven) => {
            let done = work(cx, vaults, request, &proven, &mut under_way).await;
            (proven, done)
        }
        Err(error) => match unplanned(&vaults[0], request, &error).await {
            Some(proven) => (proven, Err(error)),
            None => return Err(error),
        },
    };
    let waited_for: f64 = under_way.phases.iter().map(|phase| phase.seconds).sum();
    let checking = began.elapsed().as_secs_f64() - waited_for;
    under_way.took("checks", std::time::Duration::from_secs_f64(checking.max(0.0)), false);
    judge_time(request, &mut under_way);
    let left_running = std::mem::take(&mut under_way.kept);
    let (drill, error) = told((&vaults[0], request, &proven), (cx, began_at), under_way, done);
    let (evidence, not_kept) = match vaults[0].keep_drill(cx, &drill).await {
        Ok(id) => (Some(id), None),
        Err(error) => (None, Some(with_causes(&error))),
    };
    Ok(Drilled { drill, evidence, not_kept, removed, left_running, error })
}

/// Chooses point and target, and plans. Touches nothing.
async fn choose(vault: &Vault, request: &DrillRequest) -> Result<Proven, OpsError> {
    let source = &request.source;
    let (rows, windows) = match request.choice {
        Choice::RandomTime(_) => {
            let listing = list(vault, Some(source)).await?.into_iter().next();
            let listing = listing.ok_or_else(|| OpsError::UnknownSource(source.clone()))?;
            (listing.points, listing.windows)
        }
        _ => (vault.points(source).await?, Vec::new()),
    };
    let points: Vec<&Summary> = rows.iter().filter_map(PointRow::restorable).collect();
    let Chosen { point, target } = drill::choose(&request.choice, source, &points, &windows)?;
    // A source has dumps or files and WAL, never both.
    if !points.is_empty() && points.iter().all(|summary| summary.journal.is_none()) {
        let dump = plan_dump(points.iter().copied(), &target, point.as_ref())?;
        return Ok(Proven::Dump(Box::new(dump.clone())));
    }
    let wanted = RestoreRequest {
        target,
        inclusive: true,
        timeline: TimelineChoice::Latest,
        action: TargetAction::Promote,
    };
    let plan = restore::plan(vault, source, &wanted, point.as_ref()).await?;
    Ok(Proven::Files(Box::new(plan)))
}

/// The newest point, where there is one and the vault itself leaves no way to what it should be able to restore: that is a finding, and
/// not a mistake of whoever named a point or a time.
async fn unplanned(vault: &Vault, request: &DrillRequest, error: &OpsError) -> Option<Proven> {
    let is_named = matches!(request.choice, Choice::Point(_) | Choice::Time(_));
    if is_named || matches!(error, OpsError::Choice(_) | OpsError::Cancelled(_)) {
        return None;
    }
    let rows = vault.points(&request.source).await.ok()?;
    let newest = rows.iter().filter_map(PointRow::restorable).max_by_key(|summary| summary.stopped_at)?;
    Some(Proven::Nothing(Box::new(newest.clone()), RecoveryTarget::Latest))
}

/// Does it, in a folder that is gone afterwards unless the server in it was left running.
async fn work(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    request: &DrillRequest,
    proven: &Proven,
    under_way: &mut UnderWay,
) -> Result<(), OpsError> {
    let (inner, scratch, source) = (cx.clone(), request.scratch.clone(), request.source.clone());
    let place = off_the_runtime(move || Ok(DrillPlace::make(&inner, &scratch, &source)?)).await?;
    let here = (request, &place);
    let done = match proven {
        Proven::Files(plan) => drill_files(cx, vaults, here, plan, under_way).await,
        Proven::Dump(point) => drill_dump(cx, vaults, here, point, under_way).await,
        Proven::Nothing(..) => Ok(()),
    };
    let is_kept = !under_way.kept.is_empty();
    let cleared = off_the_runtime(move || match is_kept {
        true => Ok(place.keep().map(drop)?),
        false => Ok(place.remove()?),
    });
    match (done, cleared.await) {
        (Ok(()), cleared) => cleared,
        (Err(error), Err(left)) => {
            tracing::warn!("the drill's folder is left: {}", with_causes(&left));
            Err(error)
        }
        (Err(error), Ok(())) => Err(error),
    }
}

/// Compares the time with what it may be.
fn judge_time(request: &DrillRequest, under_way: &mut UnderWay) {
    let (Some(limit), Some(seconds)) = (request.rto, under_way.rto_seconds) else { return };
    let took = std::time::Duration::from_secs_f64(seconds);
    let text = format!("{} of {}", human_duration(took), human_duration(limit));
    let answer = if took <= limit { Answer::passed(text) } else { Answer::failed(text) };
    under_way.note(RTO, std::time::Duration::ZERO, answer);
}

/// The statement, and what ended the drill early.
fn told(
    (vault, request, proven): (&Vault, &DrillRequest, &Proven),
    (cx, began_at): (&Cx, Timestamp),
    under_way: UnderWay,
    done: Result<(), OpsError>,
) -> (Drill, Option<OpsError>) {
    let mut drill = Drill {
        drill: SHAPE,
        vault: vault.id().to_string(),
        source: request.source.clone(),
        point: proven.point().point.clone(),
        product: proven.point().product.clone(),
        chosen: request.choice.clone(),
        target: proven.target(),
        reached: under_way.reached,
        began_at,
        ended_at: cx.now(),
        host: request.hand.host.clone(),
        tool: request.hand.tool.clone(),
        server: under_way.server,
        phases: under_way.phases,
        rto_seconds: under_way.rto_seconds,
        objective_seconds: request.rto.map(drill::seconds_of),
        checks: under_way.checks,
        outcome: DrillOutcome::Passed,
        why: done.as_ref().err().map(|error| with_causes(error)),
    };
    drill.outcome = match &done {
        Err(OpsError::Cancelled(_)) => DrillOutcome::Interrupted,
        Err(_) => DrillOutcome::Failed,
        Ok(()) if drill.failed().next().is_some() => DrillOutcome::Failed,
        Ok(()) => DrillOutcome::Passed,
    };
    (drill, done.err())
}
