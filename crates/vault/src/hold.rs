//! Holds: points that must not expire until released. Append-only: a hold's beginning and its end are two objects.
//!
//! A hold and a tombstone may meet. Whoever holds puts the hold, then looks for the tombstone; a sweep looks for tombstones
//! first and for holds after. So either the one who holds learns that the point has expired, and the hold is taken back,
//! or every sweep that sees the tombstone sees the hold as well, and spares the point. Until it is released a held point
//! counts as not expired, tombstone or not: no clock has a say in that. A hold past its end is released by retention.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_codec::manifest::to_hex;
use strongroom_model::point::Decision;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_store::Key;

use crate::error::{VaultError, written};
use crate::layout::{self, HOLD_PLACED, HOLD_RELEASED, PointPart};
use crate::open::Vault;

/// Why a point is held, or why no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// For people: a case number, an audit.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When this was written, by the writer's clock.
    pub at: Timestamp,
    /// When it ends by itself; never if `None`. Only in a hold's beginning.
    pub until: Option<Timestamp>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// What is held.
    pub point: PointId,
    /// Its name.
    pub id: String,
    /// Its beginning.
    pub placed: HoldRecord,
    /// Its end, if it was released.
    pub released: Option<HoldRecord>,
}

impl Hold {
    /// Whether it keeps its point from expiring at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.released.is_none() && !self.is_past_its_end(now)
    }

    /// Whether it has an end, and that has come.
    pub fn is_past_its_end(&self, now: Timestamp) -> bool {
        self.placed.until.is_some_and(|until| until <= now)
    }
}

impl Vault {
    /// Holds a committed point that has not expired.
    pub async fn place_hold(
        &self,
        cx: &Cx,
        source: &SourceName,
        point: &PointId,
        placed: HoldRecord,
    ) -> Result<Hold, VaultError> {
        let not_committed = |state| VaultError::NotCommitted { point: point.clone(), state };
        match self.decision(source, point).await? {
            Some(Decision::Commit { .. }) => {}
            Some(Decision::Abandoned { .. }) => return Err(not_committed("abandoned")),
            Some(Decision::Revoked { .. }) => return Err(not_committed("revoked")),
            None => {
                return Err(VaultError::NoSuchPoint { source_name: source.clone(), point: point.clone() });
            }
        }
        let held_before = self.held(source).await?.contains(point);
        if !held_before && self.has_tombstone(source, point).await? {
            return Err(not_committed("expired"));
        }
        let id = to_hex(&cx.random::<4>());
        let key = layout::hold_part(source, point, &id, HOLD_PLACED);
        written(self.put_record(cx, &key, Kind::Hold, &placed).await)?;
        let hold = Hold { point: point.clone(), id, placed, released: None };
        // Both may have come at once.
        if !held_before && self.has_tombstone(source, point).await? {
            let reason = "the point had expired".to_owned();
            let end = HoldRecord { reason, owner: hold.placed.owner.clone(), at: cx.now(), until: None };
            self.release_hold(cx, source, &hold, &end).await?;
            return Err(not_committed("expired"));
        }
        Ok(hold)
    }

    /// Ends a hold. That it was ended already is fine.
    pub async fn release_hold(
        &self,
        cx: &Cx,
        source: &SourceName,
        hold: &Hold,
        end: &HoldRecord,
    ) -> Result<(), VaultError> {
        let key = layout::hold_part(source, &hold.point, &hold.id, HOLD_RELEASED);
        match self.put_proven(cx, &key, Kind::Hold, end).await {
            Err(VaultError::Taken { .. }) => Ok(()),
            result => result,
        }
    }

    /// Every hold of the source there ever was, by point.
    pub async fn holds(&self, source: &SourceName) -> Result<Vec<Hold>, VaultError> {
        let mut holds = Vec::new();
        let (names, ended) = self.hold_names(source).await?;
        for (point, id) in names {
            let is_released = ended.contains(&(point.clone(), id.clone()));
            let placed = layout::hold_part(source, &point, &id, HOLD_PLACED);
            let released = layout::hold_part(source, &point, &id, HOLD_RELEASED);
            let Some(placed) = self.get_record(&placed, Kind::Hold).await? else {
                return Err(VaultError::Missing { key: placed.to_string(), place: self.place() });
            };
            let released = if is_released { self.get_record(&released, Kind::Hold).await? } else { None };
            holds.push(Hold { point, id, placed, released });
        }
        Ok(holds)
    }

    /// Points that are held, until whenever.
    pub(crate) async fn held(&self, source: &SourceName) -> Result<BTreeSet<PointId>, VaultError> {
        let (placed, released) = self.hold_names(source).await?;
        Ok(placed.difference(&released).map(|(point, _)| point.clone()).collect())
    }

    /// Which holds were placed, and which released.
    async fn hold_names(&self, source: &SourceName) -> Result<(Names, Names), VaultError> {
        let (mut placed, mut released) = (BTreeSet::new(), BTreeSet::new());
        let folder = layout::holds(source);
        for object in self.list(&folder).await? {
            match parse(&folder, &object.key) {
                Some((name, HOLD_PLACED)) => placed.insert(name),
                Some((name, HOLD_RELEASED)) if self.is_proven(&object.key, Kind::Hold).await? => {
                    released.insert(name)
                }
                _ => continue,
            };
        }
        Ok((placed, released))
    }

    /// Whether retention wrote the point off.
    pub(crate) async fn has_tombstone(
        &self,
        source: &SourceName,
        point: &PointId,
    ) -> Result<bool, VaultError> {
        match self.store.head(&layout::point_part(source, point, PointPart::Expired)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Holds by point and id.
type Names = BTreeSet<(PointId, String)>;

fn parse<'a>(folder: &str, key: &'a Key) -> Option<((PointId, String), &'a str)> {
    let mut parts = key.as_str().strip_prefix(folder)?.strip_prefix('/')?.split('/');
    let (point, id, part) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| ((point, id.to_owned()), part))
}
