//! Lineages: which clusters a source has been. Registered one by one, so that two clusters that were given the same
//! source name by mistake can never mix their journals.

use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_model::{Cx, SegmentSize, SourceName, SystemId, Timestamp};
use strongroom_store::PutError;

use crate::error::VaultError;
use crate::layout;
use crate::open::Vault;

/// A cluster that a source is, or was before a `pg_upgrade`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Its system identifier.
    pub system_id: SystemId,
    /// The size of its WAL segments, in bytes.
    pub segment_size: SegmentSize,
    /// For people: `PostgreSQL 17`.
    pub product: String,
    /// When it was registered, by the writer's clock.
    pub registered_at: Timestamp,
}

impl Vault {
    /// The source's lineages, oldest first.
    pub async fn lineages(&self, source: &SourceName) -> Result<Vec<Lineage>, VaultError> {
        let mut lineages = Vec::new();
        for object in self.list(&layout::lineages(source)).await? {
            let lineage = self.get_record(&object.key, Kind::Lineage).await?;
            let gone = || VaultError::Missing { key: object.key.to_string(), place: self.place() };
            lineages.push(lineage.ok_or_else(gone)?);
        }
        Ok(lineages)
    }

    /// Registers `lineage` as the source's `n`th (from 1). `false` if another writer took that number first.
    pub async fn register_lineage(
        &self,
        cx: &Cx,
        source: &SourceName,
        n: u32,
        lineage: &Lineage,
    ) -> Result<bool, VaultError> {
        match self.put_record(cx, &layout::lineage(source, n), Kind::Lineage, lineage).await {
            Ok(()) => Ok(true),
            Err(PutError::Exists { .. }) => Ok(false),
            Err(PutError::Store(error)) => Err(error.into()),
        }
    }
}
