//! How a store keeps a recovery point by itself: locks read back, its own legal holds, classes, and thawing what is frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strongroom_model::tier::StorageClass;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_store::custody::{Custody, Keeping, Thaw};
use strongroom_store::{Key, StoreError};
use strongroom_vault::{Vault, VaultError, layout};

use crate::error::OpsError;

/// Objects asked about at a time.
pub(crate) const AT_ONCE: usize = 32;

/// How a store keeps all objects of a point, read back from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Objects that the point needs.
    pub objects: u64,
    /// Those that nobody may delete before a time.
    pub locked: u64,
    /// The earliest of these times, by the store; `None` if no object is locked.
    pub locked_until: Option<Timestamp>,
    /// Those of them that a privileged user may delete all the same.
    pub governed: u64,
    /// Those that the store itself holds.
    pub held: u64,
    /// How many there are of each storage class.
    pub classes: BTreeMap<String, u64>,
    /// Those that must be thawed before they can be read.
    pub frozen: u64,
    /// Those that are being thawed.
    pub thawing: u64,
    /// When the first thawed copy goes; `None` if nothing was thawed.
    pub thawed_until: Option<Timestamp>,
    /// Bytes of what is frozen or being thawed.
    pub cold_bytes: u64,
}

impl Kept {
    fn add(&mut self, keeping: &Keeping) {
        let earlier =
            |known: Option<Timestamp>, new| Some(known.map_or(new, |known: Timestamp| known.min(new)));
        self.objects += 1;
        if let Some((mode, until)) = keeping.lock {
            self.locked += 1;
            self.governed += u64::from(mode == strongroom_store::LockMode::Governance);
            self.locked_until = earlier(self.locked_until, Timestamp(until));
        }
        self.held += u64::from(keeping.legal_hold);
        *self.classes.entry(keeping.class.clone()).or_default() += 1;
        match keeping.thaw {
            Thaw::Ready => {}
            Thaw::Frozen => self.frozen += 1,
            Thaw::Thawing => self.thawing += 1,
            Thaw::Until(until) => {
                self.thawed_until =
                    until.map_or(self.thawed_until, |until| earlier(self.thawed_until, Timestamp(until)));
            }
        }
        if matches!(keeping.thaw, Thaw::Frozen | Thaw::Thawing) {
            self.cold_bytes += keeping.size;
        }
    }

    /// Whether every object can be read now.
    pub fn is_readable(&self) -> bool {
        self.frozen == 0 && self.thawing == 0
    }
}

/// The archive class that a point's oldest pack lies in: what a listing can afford to ask. `None` if that pack can be read.
pub async fn frozen_in(
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    (source, point): (&SourceName, &PointId),
) -> Result<Option<StorageClass>, OpsError> {
    let open = vault.open_point(source, point).await?;
    let oldest = open.packs().all().iter().min_by_key(|pack| (&pack.owner, pack.number));
    let Some(oldest) = oldest else { return Ok(None) };
    let keeping = custody.keeping(&layout::pack(source, oldest)).await.map_err(VaultError::from)?;
    let class = keeping.class.parse().ok();
    Ok(class.filter(|_| matches!(keeping.thaw, Thaw::Frozen | Thaw::Thawing)))
}

/// Asks the store about every object of a point.
pub async fn kept(
    cx: &Cx,
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    (source, point): (&SourceName, &PointId),
) -> Result<Kept, OpsError> {
    let objects = vault.objects_of(source, point).await?;
    cx.progress.begin("asking how it is kept", 0);
    let mut kept = Kept::default();
    ask_each(cx, custody, objects, |keeping, _| kept.add(keeping)).await?;
    Ok(kept)
}

/// Asks the store about each of `objects`; `hear` gets the answers in the same order.
pub(crate) async fn ask_each(
    cx: &Cx,
    custody: &dyn Custody,
    objects: Vec<Key>,
    mut hear: impl FnMut(&Keeping, Key),
) -> Result<(), OpsError> {
    let mut answers = futures::stream::iter(objects)
        .map(|object| async move { Ok::<_, VaultError>((custody.keeping(&object).await?, object)) })
        .buffered(AT_ONCE);
    while let Some((keeping, object)) = answers.try_next().await? {
        cx.check()?;
        hear(&keeping, object);
    }
    Ok(())
}

/// Has the store hold every object of a point; how many there are.
pub async fn hold_in_store(
    cx: &Cx,
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    (source, point): (&SourceName, &PointId),
) -> Result<u64, OpsError> {
    let objects = vault.objects_of(source, point).await?;
    set_holds(cx, custody, objects.into_iter().collect(), true).await
}

/// Ends the store's hold of a point's objects, but for those that another held point needs; how many were let go.
pub async fn release_in_store(
    cx: &Cx,
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    (source, point): (&SourceName, &PointId),
) -> Result<u64, OpsError> {
    let mut objects: BTreeSet<Key> = vault.objects_of(source, point).await?.into_iter().collect();
    for row in vault.points(source).await? {
        if row.held && row.point != *point {
            for needed in vault.objects_of(source, &row.point).await? {
                objects.remove(&needed);
            }
        }
    }
    set_holds(cx, custody, objects, false).await
}

async fn set_holds(
    cx: &Cx,
    custody: &dyn Custody,
    objects: BTreeSet<Key>,
    on: bool,
) -> Result<u64, OpsError> {
    let count = objects.len() as u64;
    cx.progress.begin("setting the store's holds", 0);
    let set =
        futures::stream::iter(objects).map(|object| async move { custody.set_legal_hold(&object, on).await });
    let mut set = set.buffer_unordered(AT_ONCE);
    while set.try_next().await.map_err(VaultError::from)?.is_some() {
        cx.check()?;
    }
    Ok(count)
}

/// Whether an error says that the store cannot hold objects at all, or may not for us.
pub fn cannot_hold(error: &OpsError) -> bool {
    matches!(error, OpsError::Vault(VaultError::Store(StoreError::Denied { .. } | StoreError::Broken { .. })))
}
