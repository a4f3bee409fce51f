//! `strongroom hold`: points that must not expire until released.

use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::hold::{Hold, HoldRecord};

use crate::error::OpsError;
use crate::list::source_of;

/// Why and by whom.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// For people: a case number, an audit.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl HoldRequest {
    fn record(&self, cx: &Cx) -> HoldRecord {
        HoldRecord { reason: self.reason.clone(), owner: self.owner.clone(), at: cx.now(), until: self.until }
    }
}

/// Holds a point.
pub async fn place(cx: &Cx, vault: &Vault, point: &PointId, why: &HoldRequest) -> Result<Hold, OpsError> {
    let source = source_of(vault, point).await?;
    Ok(vault.place_hold(cx, &source, point, why.record(cx)).await?)
}

/// Ends every hold of a point that is open; how many there were.
pub async fn release(cx: &Cx, vault: &Vault, point: &PointId, why: &HoldRequest) -> Result<usize, OpsError> {
    let source = source_of(vault, point).await?;
    let holds = vault.holds(&source).await?;
    let open: Vec<&Hold> =
        holds.iter().filter(|hold| hold.point == *point && hold.released.is_none()).collect();
    for hold in &open {
        vault.release_hold(cx, &source, hold, &why.record(cx)).await?;
    }
    Ok(open.len())
}

/// Every hold there is or was, by source.
pub async fn holds(
    vault: &Vault,
    source: Option<&SourceName>,
) -> Result<Vec<(SourceName, Vec<Hold>)>, OpsError> {
    let known = vault.sources().await?;
    let wanted = match source {
        Some(source) if known.contains(source) => vec![source.clone()],
        Some(source) => return Err(OpsError::UnknownSource(source.clone())),
        None => known,
    };
    let mut all = Vec::new();
    for source in wanted {
        let holds = vault.holds(&source).await?;
        all.push((source, holds));
    }
    Ok(all)
}
