//! `strongroom lifecycle`: what a bucket is to do with objects as they age, beside what it does.

use serde::Serialize;
use strongroom_model::lifecycle::{Gravity, Lifecycle, Objection, Surroundings};
use strongroom_store::custody::Custody;
use strongroom_store::lifecycle::{Rule, put_together, rules, take_apart};
use strongroom_vault::VaultError;

use crate::error::OpsError;

/// What there is, and what is wanted.
#[derive(Clone, Debug, Serialize)]
pub struct LifecyclePlan {
    /// Rules that the settings mean, in words.
    pub wanted: Vec<Rule>,
    /// Rules of this vault that the bucket has.
    pub there: Vec<Rule>,
    /// How many rules of others it has, which stay.
    pub others: usize,
    /// What is wrong with the settings.
    pub objections: Vec<Objection>,
    /// Whether the bucket does what is wanted.
    pub same: bool,
    /// The whole configuration as it is to be; empty if none is needed.
    pub configuration: String,
}

impl LifecyclePlan {
    /// Whether it must not be applied.
    pub fn is_wrong(&self) -> bool {
        self.objections.iter().any(|objection| objection.gravity == Gravity::Wrong)
    }
}

/// Compares what a bucket does below `prefix` with what is wanted. Changes nothing.
pub async fn plan(
    custody: &dyn Custody,
    prefix: &str,
    (lifecycle, surroundings): (&Lifecycle, &Surroundings),
) -> Result<LifecyclePlan, OpsError> {
    let there = custody.lifecycle().await.map_err(VaultError::from)?;
    let there = take_apart(there.as_deref(), prefix);
    let wanted = rules(lifecycle, prefix);
    let configuration = match wanted.is_empty() && there.others.is_empty() {
        true => String::new(),
        false => put_together(&there.others, &wanted),
    };
    Ok(LifecyclePlan {
        same: wanted == there.ours,
        wanted,
        there: there.ours,
        others: there.others.len(),
        objections: lifecycle.objections(surroundings),
        configuration,
    })
}

/// Has the bucket do what is wanted. What others changed since the plan was made would be lost: plan and apply in one go.
pub async fn apply(custody: &dyn Custody, plan: &LifecyclePlan) -> Result<(), OpsError> {
    Ok(custody.set_lifecycle(&plan.configuration).await.map_err(VaultError::from)?)
}
