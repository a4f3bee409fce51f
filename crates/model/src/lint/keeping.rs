//! P3: what is kept, for how long, and in which storage class.

use std::collections::BTreeSet;

use super::cadence::{cadence, dues};
use super::coverage::{Group, names};
use super::{Finding, Severity, Situation};
use crate::lifecycle::{Gravity, Surroundings, longest_life};
use crate::name::PlanName;
use crate::plan::{Rule, Timetable};
use crate::retention::Retention;
use crate::source::Protected;
use crate::time::human_duration;

/// AWS Backup: what went to cold storage stays there for 90 days at least.
const COLD_DAYS: u32 = 90;

/// What is wrong with keeping.
pub fn findings(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, plan) in situation.plans {
        for (rule, table) in plan.rules.iter().zip(plan.timetables()) {
            found.extend(too_short_in_the_cold(situation, (name, rule)));
            found.extend(never_cold(situation, (name, rule)));
            found.extend(shorter_than_its_rhythm(situation, (name, rule), &table));
        }
    }
    for group in groups {
        found.extend(kept_for_ever(situation, group));
        found.extend(calendars(group));
        found.extend(no_journal(group));
        found.extend(outweighed(situation, group));
    }
    found.extend(lifecycles(situation, groups));
    found
}

/// A cold class is paid for so many days, however soon what is in it goes.
fn too_short_in_the_cold(situation: &Situation<'_>, (name, rule): (&PlanName, &Rule)) -> Option<Finding> {
    let (cold, retention) = (rule.cold_after_days?, rule.retention.as_ref()?);
    let life = longest_life(std::slice::from_ref(retention))?;
    let vault = situation.vaults.first();
    let step = vault.and_then(|vault| vault.lifecycle.packs.iter().find(|step| step.days == cold));
    let minimum = step.map_or(COLD_DAYS, |step| step.class.minimum_days().max(COLD_DAYS));
    if life >= cold + minimum {
        return None;
    }
    let what = format!(
        "rule {} of plan {name} moves points to the cold after {cold} days and keeps them for {life}: what is cold is paid for {minimum} days",
        rule.name
    );
    let instead = format!("keep them for {} days or more, or leave cold_after_days out", cold + minimum);
    Some(Finding::refuse("P301", what, instead).of_plan(name))
}

/// Packs move by the vault's lifecycle, which goes by their age: a rule can only count on it.
fn never_cold(situation: &Situation<'_>, (name, rule): (&PlanName, &Rule)) -> Option<Finding> {
    let cold = rule.cold_after_days?;
    let vault = situation.vaults.first()?;
    if vault.lifecycle.packs.iter().any(|step| step.days == cold) {
        return None;
    }
    let what = format!(
        "rule {} of plan {name} says cold_after_days = {cold}, and the lifecycle of {} moves no packs on that day",
        rule.name, vault.name
    );
    let instead =
        format!("say it there: [vault.lifecycle] packs = [{{ days = {cold}, class = \"GLACIER_IR\" }}]");
    Some(Finding::refuse("P302", what, instead).of_plan(name))
}

/// Days for which a rule of days keeps a point; `None` if something else keeps it, too.
fn days_only(retention: &Retention) -> Option<u32> {
    let Retention { keep_last, keep_days, daily, weekly, monthly, yearly, pitr_days, .. } = retention;
    let days = (*keep_days).max(*pitr_days);
    let others = [keep_last, daily, weekly, monthly, yearly];
    (days > 0 && others.into_iter().all(|other| *other == 0)).then_some(days)
}

fn shorter_than_its_rhythm(
    situation: &Situation<'_>,
    (name, rule): (&PlanName, &Rule),
    table: &Timetable<'_>,
) -> Option<Finding> {
    let days = days_only(rule.retention.as_ref()?)?;
    let longest = cadence(&dues(&[*table], situation.now))?.longest;
    if longest.as_secs() <= u64::from(days) * 86_400 {
        return None;
    }
    let what = format!(
        "rule {} of plan {name} keeps points for {days} days, and there are up to {} between two of them: at times one is left",
        rule.name,
        human_duration(longest)
    );
    let instead = "keep them longer than the time between two, or say keep_last as well";
    Some(Finding::warn("P304", what, instead).of_plan(name))
}

fn kept_for_ever(situation: &Situation<'_>, group: &Group<'_>) -> Option<Finding> {
    let (name, _) = group.plans.first()?;
    let of_vault = situation.vaults.first().is_some_and(|vault| vault.retention.is_some());
    if of_vault || situation.retention.is_some() || group.retention().is_some() {
        return None;
    }
    let sources: Vec<&Protected> =
        group.sources.iter().filter(|source| source.retention.is_none()).copied().collect();
    let first = sources.first()?;
    let what = match sources.len() {
        1 => format!("nothing says how long points of source {} are kept: they stay for ever", first.name),
        count => format!("nothing says how long points of {count} sources are kept: they stay for ever"),
    };
    let instead = format!("say retention in a rule of plan {name}, or in [retention]");
    Some(Finding::warn("P305", what, instead).of_plan(name).of_sources(names(&sources)))
}

fn calendars(group: &Group<'_>) -> Option<Finding> {
    let zone = |rule: &Rule| rule.retention.as_ref().map(|retention| retention.timezone.clone());
    let zones: BTreeSet<String> =
        group.rules().filter_map(|(_, rule)| zone(rule)).filter(|zone| !zone.is_empty()).collect();
    let (first, second) = (zones.first()?, zones.iter().nth(1)?);
    let what = format!(
        "rules for the same sources keep days of {first} and of {second}: only one calendar is followed"
    );
    let finding = Finding::warn("P306", what, "say the same timezone in the retention of each");
    Some(finding.of_sources(names(&group.sources)))
}

fn no_journal(group: &Group<'_>) -> Option<Finding> {
    let (name, rule) =
        group.rules().find(|(_, rule)| rule.retention.as_ref().is_some_and(|kept| kept.pitr_days > 0))?;
    let dumped: Vec<&Protected> =
        group.sources.iter().filter(|source| !source.kind.has_journal()).copied().collect();
    dumped.first()?;
    let what = format!(
        "rule {} of plan {name} promises pitr_days, and dumps have no WAL: it keeps none of them",
        rule.name
    );
    let instead = "say keep_days or daily for sources that are dumped, in a plan of their own";
    Some(Finding::warn("P307", what, instead).of_plan(name).of_sources(names(&dumped)))
}

fn outweighed(situation: &Situation<'_>, group: &Group<'_>) -> Option<Finding> {
    let (name, rule) = group.rules().find(|(_, rule)| rule.retention.is_some())?;
    let vault = situation.vaults.first().filter(|vault| vault.retention.is_some());
    let sources: Vec<&Protected> = match vault {
        Some(_) => group.sources.clone(),
        None => group.sources.iter().filter(|source| source.retention.is_some()).copied().collect(),
    };
    let first = sources.first()?;
    let by = match vault {
        Some(vault) => format!("vault {}", vault.name),
        None => format!("source {}", first.name),
    };
    let what = format!(
        "{by} has a retention of its own: what rule {} of plan {name} keeps does not count",
        rule.name
    );
    let instead = "say it in one place only";
    Some(Finding::warn("P308", what, instead).of_plan(name).of_sources(names(&sources)))
}

/// What [`crate::lifecycle::Lifecycle::objections`] says of each vault.
fn lifecycles(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    let of_sources = kept(situation, groups);
    for vault in situation.vaults {
        let retentions = vault.retention.clone().map_or_else(|| of_sources.clone(), |only| vec![only]);
        let surroundings = Surroundings {
            rebase_days: situation.rebase_days,
            retentions,
            lock_days: vault.lock_days,
            packs: vault.packs,
        };
        found.extend(vault.lifecycle.objections(&surroundings).into_iter().map(|objection| {
            let severity = match objection.gravity {
                Gravity::Warning => Severity::Warn,
                Gravity::Wrong => Severity::Refuse,
            };
            let what = format!("lifecycle of {} ({}): {}", vault.name, objection.rule, objection.what);
            Finding::new("P303", severity, what, objection.instead)
        }));
    }
    found
}

/// What is kept of any source, each once.
fn kept(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Retention> {
    let mut found: Vec<Retention> = Vec::new();
    for group in groups {
        let planned = group.retention().or_else(|| situation.retention.cloned());
        let of_source = |source: &&Protected| source.retention.clone().or_else(|| planned.clone());
        for retention in group.sources.iter().filter_map(of_source) {
            if !found.contains(&retention) {
                found.push(retention);
            }
        }
    }
    found
}
