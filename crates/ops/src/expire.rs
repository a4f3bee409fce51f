//! `strongroom expire`: let go what retention no longer keeps. Marks points and journals; deletes nothing.

use std::sync::Arc;

use serde::Serialize;
use strongroom_model::expiry_plan::{ExpiryPlan, Shelved, plan_expiry};
use strongroom_model::retention::Retention;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_vault::expire::LetGo;
use strongroom_vault::hold::{Hold, HoldRecord};
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;
use crate::hand::Hand;
use crate::journal;

/// How the reason of a point that was let go by name begins.
pub const BY_NAME: &str = "let go by name: ";

/// What was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// Points, oldest first.
    pub points: Vec<PointId>,
    /// Timelines whose WAL got a higher floor.
    pub floors: usize,
}

/// Plans what may go of a source at `now`, by what the vault holds.
pub async fn plan(
    vault: &Vault,
    source: &SourceName,
    retention: &Retention,
    now: Timestamp,
) -> Result<ExpiryPlan, OpsError> {
    if !vault.sources().await?.contains(source) {
        return Err(OpsError::UnknownSource(source.clone()));
    }
    let rows = vault.points(source).await?;
    let holds = vault.holds(source).await?;
    let held = |point: &PointId| {
        let hold = holds.iter().find(|hold| hold.point == *point && hold.is_in_force(now))?;
        Some(format!("{} ({})", hold.placed.reason, hold.placed.owner))
    };
    let shelved: Vec<Shelved<'_>> = rows
        .iter()
        .map(|row| Shelved {
            point: &row.point,
            state: &row.state,
            expired: row.expired,
            held: held(&row.point),
        })
        .collect();
    let mut journals = Vec::new();
    for lineage in vault.lineages(source).await? {
        journals.push(journal::load(vault, source, &lineage).await?);
    }
    Ok(plan_expiry(&shelved, &journals, retention, now)?)
}

/// Carries out exactly `plan`. The vault is read once more first: if it would be planned otherwise now, nothing is done.
pub async fn expire(
    cx: &Cx,
    vault: &Arc<Vault>,
    source: &SourceName,
    (plan, retention, hand): (&ExpiryPlan, &Retention, &Hand),
) -> Result<Expired, OpsError> {
    if self::plan(vault, source, retention, plan.now).await? != *plan {
        return Err(OpsError::PlanChanged { source_name: source.clone() });
    }
    let let_go = |why: String| LetGo { why, at: cx.now(), host: hand.host.clone(), tool: hand.tool.clone() };
    let holds = vault.holds(source).await?;
    let mut points = Vec::new();
    for line in plan.expiring() {
        cx.check()?;
        release_ended(cx, vault, (source, &line.point), (&holds, plan.now)).await?;
        vault.expire(cx, source, &line.point, &let_go(line.why.join("; "))).await?;
        points.push(line.point.clone());
    }
    for floor in &plan.floors {
        let why = format!("{} segments before it", floor.below);
        vault.set_floor(cx, source, (floor.lineage, floor.segment), &let_go(why)).await?;
    }
    Ok(Expired { points, floors: plan.floors.len() })
}

/// Why a point cannot be restored from this vault. Only such a point is let go by name: as long as its record or manifest does
/// not read, no sweep knows what it needs, and none deletes anything.
pub async fn why_lost(
    vault: &Arc<Vault>,
    source: &SourceName,
    point: &PointId,
) -> Result<VaultError, OpsError> {
    let refused = |why| Err(OpsError::NotToLetGo { point: point.clone(), why });
    let rows = vault.points(source).await?;
    let Some(row) = rows.iter().find(|row| row.point == *point) else {
        return Err(VaultError::NoSuchPoint { source_name: source.clone(), point: point.clone() }.into());
    };
    if row.held {
        return refused("it is held");
    }
    match vault.open_point(source, point).await {
        Ok(_) => refused("it can be restored"),
        Err(error @ (VaultError::Damaged { .. } | VaultError::Missing { .. })) => Ok(error),
        Err(error) => Err(error.into()),
    }
}

/// Lets go of one point that cannot be restored, and says why it cannot. Its packs stay as long as another point needs them.
pub async fn let_go_lost(
    cx: &Cx,
    vault: &Arc<Vault>,
    (source, point): (&SourceName, &PointId),
    hand: &Hand,
) -> Result<VaultError, OpsError> {
    let lost = why_lost(vault, source, point).await?;
    let why = format!("{BY_NAME}{lost}");
    let let_go = LetGo { why, at: cx.now(), host: hand.host.clone(), tool: hand.tool.clone() };
    vault.expire(cx, source, point, &let_go).await?;
    Ok(lost)
}

/// A hold past its end is ended in writing: what is still open counts as in force, for no sweep asks a clock.
async fn release_ended(
    cx: &Cx,
    vault: &Vault,
    (source, point): (&SourceName, &PointId),
    (holds, now): (&[Hold], Timestamp),
) -> Result<(), OpsError> {
    let of_point = holds.iter().filter(|hold| hold.point == *point && hold.released.is_none());
    for hold in of_point.filter(|hold| hold.is_past_its_end(now)) {
        let reason = "its end had come".to_owned();
        let end = HoldRecord { reason, owner: hold.placed.owner.clone(), at: cx.now(), until: None };
        vault.release_hold(cx, source, hold, &end).await?;
    }
    Ok(())
}
