//! Which cluster a source is: registered by the first backup or push, changed only by an explicit word.

use strongroom_engine::Inspection;
use strongroom_model::point::PointState;
use strongroom_model::{Cx, SourceName, SystemId};
use strongroom_vault::lineage::Lineage;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;

/// A lineage as the server describes it.
pub fn of_inspection(cx: &Cx, inspection: &Inspection) -> Lineage {
    Lineage {
        system_id: inspection.lineage,
        segment_size: inspection.segment_size,
        product: inspection.product.clone(),
        registered_at: cx.now(),
    }
}

/// What to do about a cluster that the source has not been so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewLineage {
    /// Refuse: two clusters may have been given one name.
    Refuse,
    /// The user says that the source is this cluster from now on (after `pg_upgrade` or a new `initdb`).
    Accept,
}

/// Makes sure that `found` is the source's present lineage. The first one ever registers itself; of two that race for
/// that the loser is refused.
pub async fn settle(
    cx: &Cx,
    vault: &Vault,
    source: &SourceName,
    found: &Lineage,
    new: NewLineage,
) -> Result<(), OpsError> {
    loop {
        let lineages = vault.lineages(source).await?;
        match lineages.last() {
            Some(last) if last.system_id == found.system_id => return Ok(()),
            // An older lineage's last files may still arrive after an upgrade: they are at home in their own place.
            Some(_) if new == NewLineage::Refuse && is_known(&lineages, found.system_id) => return Ok(()),
            Some(last) if new == NewLineage::Refuse => {
                return Err(OpsError::OtherLineage {
                    source_name: source.clone(),
                    registered: last.system_id,
                    found: found.system_id,
                });
            }
            None if is_dumped(vault, source).await? => {
                return Err(OpsError::Dumped { source_name: source.clone() });
            }
            _ => {}
        }
        // Lost the race for this number? Then look again: who won may be us under another process, or another cluster.
        let next = lineages.len() as u32 + 1;
        if vault.register_lineage(cx, source, next, found).await? {
            return Ok(());
        }
    }
}

/// Whether the source was dumped so far: then it has no WAL, and gets none.
pub async fn is_dumped(vault: &Vault, source: &SourceName) -> Result<bool, VaultError> {
    let points = vault.points(source).await?;
    Ok(points.iter().any(|row| match &row.state {
        PointState::Committed { summary } => summary.journal.is_none(),
        _ => false,
    }))
}

fn is_known(lineages: &[Lineage], id: SystemId) -> bool {
    lineages.iter().any(|lineage| lineage.system_id == id)
}
