//! What restores took, kept in the vault, and what the next one will take by that.
//!
//! **Invariant**: neither keeps a restore waiting for long, nor makes one fail: a vault that takes no record, or shows none, costs
//! an estimate.

use std::time::Duration;

use strongroom_model::estimate::{Estimate, Measure, Stretch, Wanted, estimate};
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::{Cx, Timestamp};
use strongroom_postgres::launch::Launched;
use strongroom_vault::evidence::RestoreMeasure;
use strongroom_vault::{Vault, VaultError};

use crate::hand::Hand;
use crate::restore::Restored;

/// Measures that are looked at: the newest. Disks, networks and databases change.
const NEWEST: usize = 16;

/// How long the vault may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the plan will take on this host, over files that are `compared` or into an empty folder. `None` if what was
/// measured cannot be read now.
pub async fn expected(vault: &Vault, plan: &RestorePlan, host: &str, compared: bool) -> Option<Estimate> {
    let records =
        in_time(vault.measures(&plan.point.source, NEWEST), "how long restores took is not known").await?;
    let measures: Vec<Measure> = records.into_iter().map(|record| record.measure).collect();
    let wanted = Wanted { host, compared, pages: plan.point.bytes, replay: plan.replays() };
    Some(estimate(&measures, &wanted))
}

/// What of a restore tells how long another will take.
#[derive(Clone, Copy, Debug)]
pub struct Took<'a> {
    /// The restore.
    pub restored: &'a Restored,
    /// It was over files that were there.
    pub compared: bool,
    /// It was to go slowly.
    pub held_up: bool,
    /// The replay behind it.
    pub replay: Option<Stretch>,
}

/// The journal that recovery replayed, and how long that took; `None` where it ended before it began.
pub fn replayed(plan: &RestorePlan, launched: &Launched) -> Option<Stretch> {
    let end = launched.ended.as_ref().map_or(launched.checkpoint, |ended| ended.at);
    let bytes = end.0.checked_sub(plan.range.start.0)?;
    Some(Stretch { bytes, seconds: launched.seconds })
}

/// Keeps what a restore took; the record's name. Who may not write has restored all the same.
pub async fn keep(
    cx: &Cx,
    vault: &Vault,
    plan: &RestorePlan,
    took: Took<'_>,
    (hand, began_at): (&Hand, Timestamp),
) -> Option<String> {
    let Took { restored, compared, held_up, replay } = took;
    let is_whole = restored.left_out.is_empty() && restored.lost.is_empty();
    let pages = Stretch { bytes: restored.bytes, seconds: restored.seconds };
    let pages = Some(pages).filter(|_| is_whole && !held_up);
    if pages.is_none() && replay.is_none() {
        return None;
    }
    let record = RestoreMeasure {
        vault: vault.id().to_string(),
        source: plan.point.source.clone(),
        point: plan.point.point.clone(),
        began_at,
        tool: hand.tool.clone(),
        measure: Measure { host: hand.host.clone(), compared, pages, replay },
    };
    in_time(vault.keep_measure(cx, &record), "how long this restore took is not kept").await
}

async fn in_time<T>(work: impl Future<Output = Result<T, VaultError>>, otherwise: &str) -> Option<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(why)) => {
            tracing::info!("{otherwise}: {why}");
            None
        }
        Err(_) => {
            tracing::info!("{otherwise}: the vault does not answer in time");
            None
        }
    }
}
