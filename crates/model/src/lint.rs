//! What is wrong with plans, by arithmetic, before the first run.
//!
//! ```text
//! plans + sources + vaults + what was measured ──▶ findings: number, severity, what is wrong, what to do instead
//! ```
//!
//! Numbers are stable: scripts and suppressions go by them, and a number that is no longer needed is not used again.
//! P0 is about who is covered, P1 about times, P2 about what is promised, P3 about what is kept.
//!
//! **Invariant**: no figure is invented. Where nothing was measured, the finding says that nothing was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::lifecycle::Lifecycle;
use crate::name::{PlanName, SourceName};
use crate::plan::Plan;
use crate::retention::Retention;
use crate::source::Protected;
use crate::tier::StorageClass;
use crate::time::Timestamp;

mod cadence;
mod coverage;
mod times;
mod promises;
mod keeping;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should know, and may have meant it.
    Warn,
    /// It does not do what it says.
    Refuse,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule of the linter: `P201`.
    pub number: &'static str,
    /// How grave.
    pub severity: Severity,
    /// Of which plan, if it is about one.
    pub plan: Option<PlanName>,
    /// Of which sources, if it is about some.
    pub sources: Vec<SourceName>,
    /// What is wrong.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}

/// A vault, as plans see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultPolicy {
    /// What settings call it.
    pub name: String,
    /// What it keeps, whatever sources and plans say.
    pub retention: Option<Retention>,
    /// What its bucket does with objects as they age.
    pub lifecycle: Lifecycle,
    /// Days for which objects are locked.
    pub lock_days: Option<u32>,
    /// The class that packs are put into at once.
    pub packs: Option<StorageClass>,
}

/// What was measured of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// The longest of its last backups, from its start to its commit.
    pub backup: Option<Duration>,
    /// Until a restore of its newest point is in production, by the restores that were measured.
    pub restore: Option<Duration>,
    /// Bytes of its files, in the newest point.
    pub bytes: u64,
    /// Bytes that its first point, or one that refers to no other, added to the vault.
    pub full: Option<u64>,
    /// Bytes that points added in a day, beside the first one.
    pub change_a_day: Option<u64>,
    /// Bytes of WAL in a day.
    pub wal_a_day: Option<u64>,
}

/// Everything that plans are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The plans.
    pub plans: &'a BTreeMap<PlanName, Plan>,
    /// What there is to protect.
    pub sources: &'a [Protected],
    /// The vaults, the first one first.
    pub vaults: &'a [VaultPolicy],
    /// What is kept of sources of which nothing else says it.
    pub retention: Option<&'a Retention>,
    /// Days for which later points refer to a pack.
    pub rebase_days: u32,
    /// What was measured, as far as it was.
    pub measured: &'a BTreeMap<SourceName, Measured>,
    /// As of when.
    pub now: Timestamp,
}

/// Everything that is wrong, the gravest first, and then by number.
pub fn lint(situation: &Situation<'_>) -> Vec<Finding> {
    let groups = coverage::groups(situation);
    let mut findings = coverage::findings(situation, &groups);
    findings.extend(times::findings(situation, &groups));
    findings.extend(promises::findings(situation, &groups));
    findings.extend(keeping::findings(situation, &groups));
    findings.sort_by(|one, other| {
        let key = |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.number);
        key(one).cmp(&key(other))
    });
    findings
}

impl Finding {
    fn new(number: &'static str, severity: Severity, what: String, instead: impl Into<String>) -> Finding {
        Finding { number, severity, plan: None, sources: Vec::new(), what, instead: instead.into() }
    }

    fn refuse(number: &'static str, what: String, instead: impl Into<String>) -> Finding {
        Finding::new(number, Severity::Refuse, what, instead)
    }

    fn warn(number: &'static str, what: String, instead: impl Into<String>) -> Finding {
        Finding::new(number, Severity::Warn, what, instead)
    }

    fn of_plan(self, plan: &PlanName) -> Finding {
        Finding { plan: Some(plan.clone()), ..self }
    }

    fn of_sources<'a>(self, sources: impl IntoIterator<Item = &'a SourceName>) -> Finding {
        Finding { sources: sources.into_iter().cloned().collect(), ..self }
    }
}

impl Situation<'_> {
    /// What was measured of a source.
    fn measured(&self, source: &Protected) -> Measured {
        self.measured.get(&source.name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
