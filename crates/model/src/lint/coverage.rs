//! P0: who is covered by which plan, and whether there are the vaults they name.

use std::collections::BTreeMap;

use super::cadence::dues;
use super::{Finding, Situation};
use crate::name::{PlanName, SourceName};
use crate::plan::{Plan, Rule, Timetable, Work, kept_by, promised_by};
use crate::retention::Retention;
use crate::source::{Objectives, Protected};
use crate::time::Timestamp;

/// Sources that the same plans cover.
pub struct Group<'a> {
    /// The plans.
    pub plans: Vec<(&'a PlanName, &'a Plan)>,
    /// The sources.
    pub sources: Vec<&'a Protected>,
    /// When they are backed up, by which plans.
    pub backups: Vec<(&'a PlanName, Timetable<'a>)>,
    /// The next times that any of these is due, and which. Reckoned once, for it is most of the work.
    pub dues: Vec<(Timestamp, usize)>,
}

impl<'a> Group<'a> {
    fn new(plans: Vec<(&'a PlanName, &'a Plan)>, now: Timestamp) -> Group<'a> {
        let of_plan = |(name, plan): &(&'a PlanName, &'a Plan)| {
            let (name, tables) = (*name, plan.timetables());
            tables.filter(|table| table.work == Work::Backup).map(move |table| (name, table))
        };
        let backups: Vec<(&PlanName, Timetable<'a>)> = plans.iter().flat_map(of_plan).collect();
        let tables: Vec<Timetable<'a>> = backups.iter().map(|(_, table)| *table).collect();
        Group { plans, sources: Vec::new(), backups, dues: dues(&tables, now) }
    }

    /// Every rule that backs its sources up.
    pub fn rules(&self) -> impl Iterator<Item = (&'a PlanName, &'a Rule)> + '_ {
        self.plans.iter().flat_map(|(name, plan)| plan.rules.iter().map(move |rule| (*name, rule)))
    }

    /// What is promised for one of its sources.
    pub fn objectives(&self, source: &Protected) -> Objectives {
        source.objectives.or(promised_by(self.plans.iter().map(|(_, plan)| *plan)))
    }

    /// What its plans keep.
    pub fn retention(&self) -> Option<Retention> {
        kept_by(self.plans.iter().map(|(_, plan)| *plan))
    }
}

/// Every source, with those that the same plans cover.
pub fn groups<'a>(situation: &Situation<'a>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<Vec<&PlanName>, Group<'a>> = BTreeMap::new();
    for source in situation.sources {
        let plans: Vec<_> = situation.plans.iter().filter(|(_, plan)| plan.covers(source)).collect();
        let names = plans.iter().map(|(name, _)| *name).collect();
        let group = groups.entry(names).or_insert_with(|| Group::new(plans, situation.now));
        group.sources.push(source);
    }
    groups.into_values().collect()
}

/// Names of sources.
pub fn names<'a>(sources: &[&'a Protected]) -> impl Iterator<Item = &'a SourceName> {
    sources.iter().map(|source| &source.name)
}

/// What is wrong with who is covered.
pub fn findings(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found: Vec<Finding> = in_no_plan(situation, groups).into_iter().collect();
    for (name, plan) in situation.plans {
        if !situation.sources.iter().any(|source| plan.covers(source)) {
            found.push(selects_nothing(situation, name, plan));
        }
        let copies = plan.rules.iter().flat_map(|rule| rule.copies.iter().map(move |to| (rule, to)));
        found.extend(copies.filter_map(|(rule, to)| wrong_copy(situation, (name, rule), to)));
        if plan.disaster_recovery && plan.rules.iter().all(|rule| rule.copies.is_empty()) {
            let what = format!(
                "plan {name} is for disaster recovery, and none of its rules names a vault that must have copies"
            );
            let instead = match situation.vaults.get(1) {
                Some(other) => format!("say copies = [\"{}\"] in one of them", other.name),
                None => {
                    "name a second vault in [[also]], and say copies = [\"NAME\"] in one of them".to_owned()
                }
            };
            found.push(Finding::refuse("P004", what, instead).of_plan(name));
        }
        found.extend(exclusions(situation, name, plan));
        found.extend(strangers(situation, name, plan));
    }
    found
}

fn in_no_plan(situation: &Situation<'_>, groups: &[Group<'_>]) -> Option<Finding> {
    let uncovered = groups.iter().find(|group| group.plans.is_empty())?;
    let excluded = |source: &&&Protected| {
        situation.plans.values().any(|plan| plan.select.holds(source) && plan.exclusion(source).is_some())
    };
    let left: Vec<&Protected> =
        uncovered.sources.iter().filter(|source| !excluded(source)).copied().collect();
    let what = match &left[..] {
        [] => return None,
        [only] => format!("source {} is in no plan: nothing backs it up by itself", only.name),
        _ => format!("{} sources are in no plan: nothing backs them up by itself", left.len()),
    };
    let instead = "name it in the select of a plan, or exclude it there with reason, owner and review";
    Some(Finding::warn("P002", what, instead).of_sources(names(&left)))
}

fn selects_nothing(situation: &Situation<'_>, name: &PlanName, plan: &Plan) -> Finding {
    let chosen = situation.sources.iter().any(|source| plan.select.holds(source));
    let what = match chosen {
        true => format!("plan {name} excludes every source that it selects"),
        false => format!("plan {name} selects no source that is configured"),
    };
    let instead = match situation.sources.is_empty() {
        true => "configure one: [source.NAME]".to_owned(),
        false => "compare its select with names, kinds and tags of [source.…]".to_owned(),
    };
    Finding::refuse("P001", what, instead).of_plan(name)
}

fn wrong_copy(situation: &Situation<'_>, (name, rule): (&PlanName, &Rule), to: &str) -> Option<Finding> {
    let place = situation.vaults.iter().position(|vault| vault.name == to);
    let further: Vec<&str> = situation.vaults.iter().skip(1).map(|vault| vault.name.as_str()).collect();
    let instead = match further.is_empty() {
        true => "name another vault: [[also]] with name and url".to_owned(),
        false => format!("there are {}", further.join(", ")),
    };
    let finding = match place {
        None => Finding::refuse(
            "P003",
            format!("rule {} of plan {name} copies to {to}, and no vault is called so", rule.name),
            instead,
        ),
        Some(0) => {
            let what =
                format!("rule {} of plan {name} copies to {to}, where its points are already", rule.name);
            Finding::refuse("P007", what, instead)
        }
        Some(_) => return None,
    };
    Some(finding.of_plan(name))
}

fn exclusions(situation: &Situation<'_>, name: &PlanName, plan: &Plan) -> Vec<Finding> {
    let today = situation.now.0.to_zoned(plan.timezone.rules().clone()).date();
    let due = plan.exclusions.iter().filter(|exclusion| exclusion.review < today);
    let late = due.map(|exclusion| {
        let what = format!(
            "{} is left out of plan {name} ({}), and {} was to look again by {}",
            exclusion.source, exclusion.reason, exclusion.owner, exclusion.review
        );
        Finding::warn(
            "P005",
            what,
            "is the reason still right? Set a later review, or take the exclusion out",
        )
        .of_plan(name)
    });
    late.collect()
}

/// Patterns that fit nothing: a slip of the pen, or a source that is gone.
fn strangers(situation: &Situation<'_>, name: &PlanName, plan: &Plan) -> Vec<Finding> {
    let selected = plan.select.sources.iter().map(|pattern| (pattern, "select"));
    let excluded = plan.exclusions.iter().map(|exclusion| (&exclusion.source, "exclude"));
    let unknown = selected
        .chain(excluded)
        .filter(|(pattern, _)| !situation.sources.iter().any(|source| pattern.fits(source.name.as_str())));
    let finding = |(pattern, of)| {
        let what = format!("{of} of plan {name} names {pattern}, and no source is called so");
        Finding::warn("P006", what, "is it misspelt, or gone?").of_plan(name)
    };
    unknown.map(finding).collect()
}
