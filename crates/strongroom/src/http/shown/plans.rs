//! Plans: what they order, for which sources, and what the linter finds.

use serde::Serialize;
use strongroom_model::forecast::covered;
use strongroom_model::plan::{Plan, Timetable};
use strongroom_model::source::Protected;
use strongroom_model::{SourceName, Timestamp};

use super::Sight;
use super::listing::{FindingSaid, Linted};
use super::source::{Knowledge, Told};

/// A rule of a plan, or one of its chores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleLine {
    /// What it is called.
    pub rule: String,
    /// What is done.
    pub work: String,
    /// When, as the plan has it.
    pub schedule: String,
    /// By whose clock.
    pub zone: String,
    /// The next time.
    pub next: Option<Timestamp>,
    /// The same as that clock shows it.
    pub next_local: Option<String>,
    /// Vaults that points are copied to.
    pub copies: Vec<String>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// Its name.
    pub plan: String,
    /// Whom it is for.
    pub sources: Vec<SourceName>,
    /// What may be lost, as the plan has it.
    pub rpo: Option<String>,
    /// How long a restore may take, as the plan has it.
    pub rto: Option<String>,
    /// What it orders.
    pub rules: Vec<RuleLine>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingLine {
    /// The linter's rule: `P201`.
    pub number: String,
    /// Whether the plan does not do what it says.
    pub refuses: bool,
    /// Of which plan.
    pub plan: Option<String>,
    /// Of which sources.
    pub sources: Vec<SourceName>,
    /// What is wrong.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}

/// All plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plans {
    /// When this was made.
    pub at: Timestamp,
    /// By name.
    pub plans: Vec<PlanLine>,
    /// Sources that no plan covers.
    pub uncovered: Vec<SourceName>,
    /// How findings are known.
    pub linted: Knowledge,
    /// The gravest first.
    pub findings: Vec<FindingLine>,
    /// Why nothing that was measured is reckoned with, if so.
    pub not_measured: Option<String>,
}

/// All plans, with sources that `may_see` lets be seen.
pub fn plans(sight: Sight<'_>, linted: &Told<Linted>, may_see: impl Fn(&SourceName) -> bool) -> Plans {
    let mut sources = sight.settings.protected();
    sources.retain(|source| may_see(&source.name));
    let rules = |plan: &Plan| {
        let line = |table: Timetable<'_>| {
            let next = table.next_after(sight.now);
            RuleLine {
                rule: table.rule.to_owned(),
                work: table.work.as_str().to_owned(),
                schedule: table.schedule.to_string(),
                zone: table.zone.to_string(),
                next,
                next_local: next.map(|next| table.zone.shown(next)),
                copies: table.copies.to_vec(),
            }
        };
        plan.timetables().map(line).collect()
    };
    let plans = sight.settings.plans.iter().map(|(name, plan)| PlanLine {
        plan: name.to_string(),
        sources: covered(plan, &sources).into_iter().cloned().collect(),
        rpo: plan.rpo.map(|span| span.to_string()),
        rto: plan.rto.map(|span| span.to_string()),
        rules: rules(plan),
    });
    let is_uncovered = |source: &&Protected| !sight.settings.plans.values().any(|plan| plan.covers(source));
    let said = linted.said();
    let findings = said.into_iter().flat_map(|said| &said.findings);
    let concerns =
        |finding: &&FindingSaid| finding.sources.is_empty() || finding.sources.iter().any(&may_see);
    Plans {
        at: sight.now,
        plans: plans.collect(),
        uncovered: sources.iter().filter(is_uncovered).map(|source| source.name.clone()).collect(),
        linted: linted.knowledge(),
        findings: findings.filter(concerns).map(finding_line).collect(),
        not_measured: said.and_then(|said| said.not_measured.clone()),
    }
}

fn finding_line(said: &FindingSaid) -> FindingLine {
    FindingLine {
        number: said.number.clone(),
        refuses: said.severity == "refuse",
        plan: said.plan.clone(),
        sources: said.sources.clone(),
        what: said.what.clone(),
        instead: said.instead.clone(),
    }
}
