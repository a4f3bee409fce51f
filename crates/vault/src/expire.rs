//! Letting go: tombstones on points, floors under journals. Nothing is deleted here; a sweep does that.
//!
//! Both are written once and stay. A tombstone needs no right but to write; nothing refers to its point any more from then
//! on, and what it holds goes when no other point needs it. A floor says below which segment a timeline's WAL may go,
//! but for what points that are still there need to become consistent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_model::{Cx, PointId, SourceName, SystemId, Timeline, Timestamp, WalSegment};

use crate::error::VaultError;
use crate::layout::{self, PointPart};
use crate::open::Vault;

/// Why, when and by whom something was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// The rule.
    pub why: String,
    /// By the writer's clock.
    pub at: Timestamp,
    /// On which host.
    pub host: String,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
}

/// Below which segments a vault's retention let WAL go, per timeline.
pub type Floors = BTreeMap<(SystemId, Timeline), WalSegment>;

impl Vault {
    /// Lets a committed point go; `false` if it had been let go before. Whoever held it meanwhile keeps it: see
    /// [`crate::hold`].
    pub async fn expire(
        &self,
        cx: &Cx,
        source: &SourceName,
        point: &PointId,
        why: &LetGo,
    ) -> Result<bool, VaultError> {
        let key = layout::point_part(source, point, PointPart::Expired);
        match self.put_proven(cx, &key, Kind::Tombstone, why).await {
            Ok(()) => Ok(true),
            Err(VaultError::Taken { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Why a point was let go; `None` if it was not, or that does not read.
    pub async fn let_go(&self, source: &SourceName, point: &PointId) -> Result<Option<LetGo>, VaultError> {
        let key = layout::point_part(source, point, PointPart::Expired);
        match self.get_record(&key, Kind::Tombstone).await {
            Err(VaultError::Damaged { .. }) => Ok(None),
            result => result,
        }
    }

    /// Lets the WAL of a timeline go below `segment`.
    pub async fn set_floor(
        &self,
        cx: &Cx,
        source: &SourceName,
        (lineage, segment): (SystemId, WalSegment),
        why: &LetGo,
    ) -> Result<(), VaultError> {
        match self.put_proven(cx, &layout::floor(source, lineage, segment), Kind::Floor, why).await {
            Err(VaultError::Taken { .. }) => Ok(()),
            result => result,
        }
    }

    /// How far this vault's retention let a lineage's WAL go.
    pub async fn floors(&self, source: &SourceName, lineage: SystemId) -> Result<Floors, VaultError> {
        let mut floors = Floors::new();
        // Names of one timeline sort by segment: from the end, the first that is proven is the highest.
        for object in self.list(&layout::floors(source, lineage)).await?.iter().rev() {
            let Some(segment) = WalSegment::parse(object.key.last_segment()) else { continue };
            let timeline = (lineage, segment.timeline);
            if !floors.contains_key(&timeline) && self.is_proven(&object.key, Kind::Floor).await? {
                floors.insert(timeline, segment);
            }
        }
        Ok(floors)
    }
}
