//! `strongroom thaw`: make what lies in an archive class readable for a while.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strongroom_model::tier::{StorageClass, ThawSpeed};
use strongroom_model::{Cx, PointId, SourceName};
use strongroom_store::Key;
use strongroom_store::custody::{Custody, Thaw};
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;
use crate::keeping::{AT_ONCE, ask_each};

/// Between two looks at whether all is thawed: it takes hours.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What thawing a point takes.
#[derive(Clone, Debug, Serialize)]
pub struct ThawPlan {
    /// The point.
    pub point: PointId,
    /// Objects that it needs.
    pub objects: u64,
    /// Those to be asked for.
    #[serde(skip)]
    pub frozen: Vec<Key>,
    /// How many these are.
    pub to_thaw: u64,
    /// Those that were asked for before and are not there yet.
    pub thawing: u64,
    /// Bytes of what is to be asked for.
    pub bytes: u64,
    /// The longest it usually takes, in hours.
    pub hours: f64,
    /// What asking costs, in US dollars by the list prices of us-east-1; without keeping the thawed copy.
    pub dollars: f64,
}

impl ThawPlan {
    /// Whether everything can be read now.
    pub fn is_thawed(&self) -> bool {
        self.to_thaw == 0 && self.thawing == 0
    }
}

/// Looks at every object of a point.
pub async fn plan(
    cx: &Cx,
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    (source, point): (&SourceName, &PointId),
    speed: ThawSpeed,
) -> Result<ThawPlan, OpsError> {
    let objects = vault.objects_of(source, point).await?;
    let mut plan = ThawPlan {
        point: point.clone(),
        objects: objects.len() as u64,
        frozen: Vec::new(),
        to_thaw: 0,
        thawing: 0,
        bytes: 0,
        hours: 0.0,
        dollars: 0.0,
    };
    ask_each(cx, custody, objects, |keeping, object| {
        plan.thawing += u64::from(keeping.thaw == Thaw::Thawing);
        if keeping.thaw != Thaw::Frozen {
            return;
        }
        plan.frozen.push(object);
        plan.to_thaw += 1;
        plan.bytes += keeping.size;
        let class: Option<StorageClass> = keeping.class.parse().ok();
        if let Some(cost) = class.and_then(|class| class.thaw(speed)) {
            plan.hours = plan.hours.max(cost.hours);
            let gib = keeping.size as f64 / f64::from(1 << 30);
            plan.dollars += gib * cost.per_gib + cost.per_thousand / 1000.0;
        }
    })
    .await?;
    Ok(plan)
}

/// Asks for everything that is frozen.
pub async fn thaw(
    cx: &Cx,
    custody: &dyn Custody,
    plan: &ThawPlan,
    (days, speed): (u32, ThawSpeed),
) -> Result<(), OpsError> {
    cx.progress.begin("asking for what is frozen", 0);
    let asked = plan.frozen.iter().map(|object| async move { custody.thaw(object, days, speed).await });
    let asked: Vec<_> = asked.collect();
    let mut asked = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
    while asked.try_next().await.map_err(VaultError::from)?.is_some() {
        cx.check()?;
    }
    Ok(())
}

/// Waits until every object of the point can be read.
#[allow(clippy::disallowed_methods, reason = "the store tells nobody when it is done: one has to look")]
pub async fn wait(
    cx: &Cx,
    vault: &Arc<Vault>,
    custody: &dyn Custody,
    of: (&SourceName, &PointId),
) -> Result<(), OpsError> {
    cx.progress.begin("thawing", 0);
    while !plan(cx, vault, custody, of, ThawSpeed::Standard).await?.is_thawed() {
        let next = tokio::time::Instant::now() + LOOK_AGAIN;
        while tokio::time::Instant::now() < next {
            cx.check()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
